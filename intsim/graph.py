"""The integer graph: tensors, nodes, exact scales. The contract is docs/ir.md."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.integers import IntegerType
from intsim.budget import contents
from intsim.errors import IntsimError

IntArray = NDArray[np.int64]
Rationals = NDArray[np.object_]
"""Array of `fractions.Fraction` that broadcasts against a tensor."""

LIMIT = 2**63 - 1
MANY = 64
"""Numbers from which on equal ones share one rational."""
MOST_ELEMENTS = 1 << 28
"""Most elements of one tensor (2 GiB as int64): a small file must not ask for more memory than a machine has."""
MOST_AXES = 32
"""Most axes of one tensor: as many as numpy broadcasts."""


def rationals(values: Any) -> Rationals:
    """Array of exact `Fraction` from floats, integers, Fractions or arrays of them; a bare value gets one axis.

    (numpy turns results without axes into bare Fractions, so arrays of parameters always have an axis.)
    """
    array = np.atleast_1d(np.asarray(values))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise IntsimError("a constant of it holds NaN or infinity; only a mask may, minus infinity")
    if array.size >= MANY and array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        return _shared(array)
    out = np.empty(array.shape, dtype=object)
    flat = out.reshape(-1)
    for i, value in enumerate(array.reshape(-1)):
        flat[i] = value if isinstance(value, Fraction) else Fraction(value.item() if hasattr(value, "item") else value)
    return out.reshape(array.shape)


def _shared(array: NDArray[Any]) -> Rationals:
    """`rationals` of plain numbers, one object for equal ones; axes along which nothing changes aren't stored.

    Such an array can't be written to.
    """
    stored = array
    for axis, size in enumerate(array.shape):
        if size > 1 and (stored == (first := stored.take([0], axis=axis))).all():
            stored = first
    numbers, which = np.unique(stored, return_inverse=True)
    made = np.empty(numbers.size, object)
    made[:] = [Fraction(n) for n in numbers.tolist()]
    return np.broadcast_to(made[which.reshape(stored.shape)], array.shape)


def check_size(shape: Sequence[int]) -> None:
    """Raise IntsimError for a shape of more than `MOST_ELEMENTS` elements, or `MOST_AXES`, or with a negative axis."""
    if len(shape) > MOST_AXES:
        raise IntsimError(f"it has {len(shape)} axes, more than the {MOST_AXES} of one tensor")
    if min(shape, default=1) < 0 or math.prod(shape) > MOST_ELEMENTS:
        size = f"{math.prod(shape)} elements"
        raise IntsimError(f"its result of shape {tuple(shape)} has {size}, more than the {MOST_ELEMENTS} of one tensor")


@dataclass(frozen=True)
class Tensor:
    """Description of an integer tensor; the real number meant is `scale * integer + offset`."""

    name: str
    shape: tuple[int, ...]
    low: int
    high: int
    scale: Rationals
    offset: Rationals
    type: IntegerType | None = None
    onnx: str | None = None

    def __post_init__(self) -> None:
        """Refuse ranges that the int64 carrier can't hold, and shapes that memory can't."""
        check_size(self.shape)
        if self.low < -LIMIT or self.high > LIMIT:
            bits = max(self.low.bit_length(), self.high.bit_length()) + 1
            raise IntsimError(f"tensor {self.name}: needs {bits} bits, more than the 64 that intsim carries")

    def __eq__(self, other: object) -> bool:
        """Every field equal; arrays by shape and value."""
        return isinstance(other, Tensor) and tensor_json(self) == tensor_json(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Node:
    """One integer operation; `attributes` are JSON-able, `arrays` are int64 constants.

    `source` and `source_op` are the file's node and its operator, `module` the path of the module it was exported from,
    where the file says so; `label` is that path, with the node behind it where the module has several.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, IntArray] = field(default_factory=dict)
    source: str = ""
    source_op: str = ""
    module: str | None = None
    label: str = ""

    @property
    def shown(self) -> str:
        """What a reader calls it: its module where the file names one (`Node.label`), else the file's node."""
        return self.label or self.source or self.name

    @property
    def kind(self) -> str:
        """The file's operator, or its own where none stands behind it."""
        return self.source_op or self.op

    @property
    def origin(self) -> dict[str, str | None]:
        """`node`, the file's node, and `module`; both None where the file names no module."""
        return {"node": self.source if self.module else None, "module": self.module}

    def __eq__(self, other: object) -> bool:
        """Every field equal; arrays by shape and value."""
        if not isinstance(other, Node):
            return NotImplemented
        mine, theirs = node_json(self), node_json(other)
        return (
            mine == theirs
            and self.arrays.keys() == other.arrays.keys()
            and all(np.array_equal(a, other.arrays[k]) for k, a in self.arrays.items())
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass
class IntegerGraph:
    """Integer-only graph: nodes in topological order, descriptions of all tensors, graph inputs and outputs.

    `executed_by`: the runtime whose own graph of a file it is, and its version; None: it is the file's.
    """

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    executed_by: str | None = None

    def add(self, node: Node, tensor: Tensor) -> str:
        """Append `node`, which makes `tensor`; returns the tensor's name. Names must be new."""
        if tensor.name in self.tensors:
            raise IntsimError(f"tensor {tensor.name}: made twice; every tensor of a graph needs a name of its own")
        self.tensors[tensor.name] = tensor
        self.nodes.append(node)
        return tensor.name

    def producer(self, tensor: str) -> Node | None:
        """The node that makes `tensor`, None for a graph input."""
        return next((n for n in self.nodes if n.output == tensor), None)

    def consumers(self) -> dict[str, list[Node]]:
        """Tensor name to the nodes that read it."""
        out: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                out[name].append(node)
        return out

    def save(self, path: str | Path) -> tuple[Path, Path]:
        """Write `path.json` and `path.npz`; returns both paths."""
        path = Path(path)
        document = {
            "format": "intsim-graph-1",
            "name": self.name,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "tensors": [tensor_json(t) for t in self.tensors.values()],
            "nodes": [{**node_json(n), "arrays": sorted(n.arrays)} for n in self.nodes],
        }
        json_path, npz_path = path.with_name(path.name + ".json"), path.with_name(path.name + ".npz")
        json_path.write_text(json.dumps(document, indent=1) + "\n")
        arrays = {f"{i}:{k}": a for i, n in enumerate(self.nodes) for k, a in n.arrays.items()}
        np.savez_compressed(npz_path, allow_pickle=False, **arrays)
        return json_path, npz_path

    @classmethod
    def load(cls, path: str | Path) -> IntegerGraph:
        """Read what `save` wrote. Raises IntsimError if a file is missing or not of this form."""
        path = Path(path)
        json_path = path.with_name(path.name + ".json")
        try:
            document = json.loads(contents(json_path))
            with np.load(path.with_name(path.name + ".npz"), allow_pickle=False) as npz:
                arrays = {key: npz[key] for key in npz.files}
            if document["format"] != "intsim-graph-1":
                raise IntsimError(f"{json_path}: format {document['format']!r} is not intsim-graph-1")
            tensors = {t["name"]: _tensor_from(t) for t in document["tensors"]}
            nodes = [_node_from(i, n, arrays) for i, n in enumerate(document["nodes"])]
            graph = cls(document["name"], tensors, nodes, document["inputs"], document["outputs"])
            graph.check()
            return graph
        except Exception as error:  # json, zipfile, zlib and numpy raise a dozen kinds on damaged bytes
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            text = f"{json_path}: not an integer graph that intsim wrote, or damaged: {reason}"
            raise IntsimError(text.removesuffix(":")) from error

    def check(self) -> None:
        """Raise IntsimError unless every name is a described tensor, made once and before it is read."""
        known = list(self.inputs)
        for node in self.nodes:
            missing = [n for n in node.inputs if n not in known]
            if missing or node.output in known:
                what = f"reads {missing[0]} before it is made" if missing else f"makes {node.output} again"
                raise IntsimError(f"node {node.name}: {what}")
            known.append(node.output)
        wrong = [n for n in (*known, *self.outputs) if n not in self.tensors or n not in known]
        if wrong:
            raise IntsimError(f"tensor {wrong[0]}: is not described, or made by no node")


def rational_text(value: Fraction) -> str:
    """`n/d`, the file form of a rational."""
    return f"{value.numerator}/{value.denominator}"


def _rationals_json(values: Rationals) -> dict[str, Any]:
    return {"shape": list(values.shape), "values": [rational_text(v) for v in values.reshape(-1)]}


def _rationals_from(document: dict[str, Any]) -> Rationals:
    return rationals([Fraction(v) for v in document["values"]]).reshape(document["shape"])


def tensor_json(tensor: Tensor) -> dict[str, Any]:
    """JSON form of a tensor description."""
    kind = tensor.type
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "low": tensor.low,
        "high": tensor.high,
        "scale": _rationals_json(tensor.scale),
        "offset": _rationals_json(tensor.offset),
        "type": None if kind is None else {"bits": kind.bits, "signed": kind.signed, "narrow": kind.narrow},
        "onnx": tensor.onnx,
    }


def _tensor_from(document: dict[str, Any]) -> Tensor:
    kind, shape = document["type"], document["shape"]
    if not all(type(v) is int for v in (*shape, document["low"], document["high"])):
        raise IntsimError(f"tensor {document['name']}: shape and range must be integers")
    return Tensor(
        document["name"],
        tuple(shape),
        document["low"],
        document["high"],
        _rationals_from(document["scale"]),
        _rationals_from(document["offset"]),
        None if kind is None else IntegerType(**kind),
        document["onnx"],
    )


def node_json(node: Node) -> dict[str, Any]:
    """JSON form of a node without its arrays."""
    return {
        "op": node.op,
        "name": node.name,
        "inputs": list(node.inputs),
        "output": node.output,
        "attributes": node.attributes,
        "source": node.source,
        "source_op": node.source_op,
        **({"module": node.module, "label": node.label} if node.module else {}),
    }


def _node_from(position: int, document: dict[str, Any], arrays: dict[str, IntArray]) -> Node:
    fields = {k: v for k, v in document.items() if k != "arrays"}
    mine = {k: arrays[f"{position}:{k}"] for k in document["arrays"]}
    if any(a.dtype != np.int64 for a in mine.values()) or not isinstance(fields["attributes"], dict):
        raise IntsimError(f"node {fields['name']}: its arrays must be int64, its attributes a table")
    return Node(**{**fields, "inputs": tuple(fields["inputs"])}, arrays=mine)


def without_module(layer: dict[str, Any]) -> dict[str, Any]:
    """JSON of a layer without the keys of `Node.origin` that are None: the file names no module."""
    return {k: v for k, v in layer.items() if v is not None or k not in ("node", "module", "source")}
