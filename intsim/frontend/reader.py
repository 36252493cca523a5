"""Reading an ONNX file: decoded, checked, sorted; every refusal is one line that names file and node."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from intsim.budget import Account
from intsim.errors import IntsimError
from intsim.frontend.decode import decode, needed_nodes
from intsim.frontend.functions import inlined
from intsim.frontend.names import EVEN_ENDS, SOURCE_NODE, SOURCE_OPERATOR, names_of
from intsim.frontend.operators import CHANNELS_LAST, STANDARD, meaning, other_arity, other_mode
from intsim.frontend.recurrent import written_out
from intsim.graph import MOST_AXES, MOST_ELEMENTS

NOT_NUMBERS = {"UNDEFINED", "STRING", "COMPLEX64", "COMPLEX128"}
MASKING = frozenset(
    [
        "Add",
        "Cast",
        "Concat",
        "Expand",
        "Gather",
        "Identity",
        "Max",
        "Min",
        "Mul",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
    ]
)
"""Operators that minus infinity may reach: those that bring a mask into scores, and those that make masks."""
SCALED = ("QuantizeLinear", "DequantizeLinear")
INFINITE_SCALE = (
    "; it is a scale, as calibration on an infinite mask makes it, and its codes stand for no numbers: leave the "
    "mask's node and its Softmax unquantized (nodes_to_exclude), or mask by a finite number"
)
NAME_SCOPES = "pkg.torch.onnx.name_scopes"
MOST_SCOPES = 1 << 12
"""Characters of a list of names beyond which it is not read."""
NUMBERS = {n for name, n in onnx.TensorProto.DataType.items() if name not in NOT_NUMBERS and "FLOAT8" not in name}
"""Element types a tensor may have; float8 and float4 numbers have no arithmetic here."""


@dataclass(frozen=True, eq=False)
class Operation:
    """An ONNX node with decoded attributes.

    `op` is its operator as `operators.meaning` names it; `unread` says why it is not read, "" where it is; `module` is
    the path of the module it was exported from, None where the file doesn't say; `source_op` is the operator of the
    file where that is no ONNX file, and `even_ends` the ends of its codes where a fused activation's are rounded half
    to even and are others then.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    proto: onnx.NodeProto
    unread: str = ""
    module: str | None = None
    source_op: str = ""
    even_ends: tuple[int, int] | None = None

    @property
    def kind(self) -> str:
        """Its operator in the file."""
        return self.source_op or self.op

    @property
    def shown(self) -> str:
        """Its name in refusals, behind its module where the file names one."""
        return f"{self.module}/{self.name}" if self.module else self.name

    @property
    def label(self) -> str:
        """The node in messages."""
        return f"node {self.name} ({self.kind})"

    def optional(self, position: int) -> str:
        """The input at a position; "" where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else ""

    @property
    def channels_last(self) -> bool:
        """Whether activations are NHWC (QONNX domain channels_last)."""
        return self.domain in CHANNELS_LAST


@dataclass
class SourceModel:
    """A checked ONNX model: inputs and outputs (name to shape, element type), constants, nodes in order.

    Only nodes and constants that an output needs are in it; `names` are those of all tensors and nodes of the file.
    `proto` is the file, its own functions written out. `ranges` are what integer inputs are assumed to hold, where that
    is less than their type does.
    """

    path: str
    proto: onnx.ModelProto
    inputs: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    opsets: dict[str, int] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def opset(self) -> int:
        """Version of the standard operator set."""
        return self.opsets.get("", 9)

    @cached_property
    def makers(self) -> dict[str, Operation]:
        """The node that makes each tensor."""
        return {o: op for op in self.operations for o in op.outputs}

    @cached_property
    def readers(self) -> dict[str, list[Operation]]:
        """The nodes that read each tensor, in their order."""
        readers: dict[str, list[Operation]] = {}
        for op in self.operations:
            for name in dict.fromkeys(op.inputs):
                readers.setdefault(name, []).append(op)
        return readers


def read(
    source: str | Path | onnx.ModelProto,
    constants: Mapping[str, np.ndarray] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> SourceModel:
    """Read a model; `constants` turn graph inputs into initializers, `shapes` fix dynamic inputs.

    Raises IntsimError for whatever can't be read: no file, not ONNX, truncated, undefined tensors, cycles, dynamic
    shapes, constants that are not finite.
    """
    path = "<model>" if isinstance(source, onnx.ModelProto) else str(source)
    written = source if isinstance(source, onnx.ModelProto) else decode(Path(source))
    proto = written_out(path, inlined(path, written), shapes)
    model = SourceModel(path, proto)
    graph = proto.graph
    if not graph.node and not graph.output:
        raise IntsimError(f"{path}: holds no graph; is it an ONNX file?")
    if not graph.output:
        raise IntsimError(f"{path}: the graph has no output")
    nodes = needed_nodes(path, graph)
    model.names = names_of(written.graph) | names_of(graph)
    _read_opsets(model, nodes)
    for what, values in (("initializer", graph.initializer), ("input", graph.input), ("output", graph.output)):
        twice = [n for n, count in Counter(f.name for f in values).items() if count > 1]
        if twice:
            raise IntsimError(f"{path}: {what} {twice[0]}: is there twice")
    scales = {n for node in nodes if node.op_type in SCALED for n in node.input[1:2]}
    finite = {n for node in nodes if node.op_type not in MASKING or node.domain not in STANDARD for n in node.input}
    read_somewhere = {n for node in nodes for n in node.input} | {o.name for o in graph.output}
    account = Account()
    for initializer in graph.initializer:
        if initializer.name in read_somewhere:
            infinite = initializer.name not in finite
            advice = INFINITE_SCALE if initializer.name in scales else ""
            array = _array(path, initializer, Path(path).parent, account, infinite, advice)
            model.constants[initializer.name] = array
    if graph.sparse_initializer:
        raise IntsimError(f"{path}: sparse initializers are not supported; store them dense")
    for given, purpose in ((constants, "hold constant"), (shapes, "give a shape")):
        inputs = [i.name for i in graph.input]
        unknown = next((n for n in given or {} if n not in inputs), None)
        if unknown is not None:
            raise IntsimError(f"{path}: no input named {unknown!r} to {purpose}; inputs are {', '.join(inputs)}")
    model.constants |= {n: np.asarray(a) for n, a in (constants or {}).items()}
    stored = {i.name for i in graph.initializer}
    for value in graph.input:
        if value.name not in model.constants and value.name not in stored:
            model.inputs[value.name] = _input(path, value, (shapes or {}).get(value.name))
    model.outputs = {o.name: o.type.tensor_type.elem_type for o in graph.output}
    for name, element in model.outputs.items():
        if element and element not in NUMBERS:
            raise IntsimError(f"{path}: output {name}: its element type {element} is not numeric")
    model.operations = _sorted(model, [_operation(model, n, i) for i, n in enumerate(nodes)])
    return model


def _read_opsets(model: SourceModel, nodes: list[onnx.NodeProto]) -> None:
    """Standard operators need one version of their set, one that this onnx knows."""
    for imported in model.proto.opset_import:
        domain = "" if imported.domain in STANDARD else imported.domain
        if model.opsets.setdefault(domain, imported.version) != imported.version:
            raise IntsimError(f"{model.path}: imports two opsets of {domain or 'ai.onnx'}")
    standard = next((n for n in nodes if n.domain in STANDARD), None)
    if "" not in model.opsets:
        if standard is not None:
            raise IntsimError(f"{model.path}: imports no opset for its standard operators ({standard.op_type})")
        return
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= model.opset <= newest:
        raise IntsimError(f"{model.path}: standard opset {model.opset} is not one of 1..{newest}")


def _array(
    path: str, tensor: onnx.TensorProto, folder: Path, account: Account, infinite: bool = False, advice: str = ""
) -> np.ndarray:
    """The numbers; `infinite`: minus infinity may be among them; `advice` where others are."""
    try:
        if any(d < 0 for d in tensor.dims):
            raise ValueError(f"negative dimension in {list(tensor.dims)}")
        if len(tensor.dims) > MOST_AXES:
            raise ValueError(f"it has {len(tensor.dims)} axes, more than the {MOST_AXES} of one tensor")
        if tensor.data_type in NUMBERS:
            size = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            account.take(math.prod(tensor.dims) * size, f"{path}: initializer {tensor.name}: takes")
        array = numpy_helper.to_array(tensor, base_dir=str(folder))
    except IntsimError:
        raise
    except Exception as error:  # the decoder raises many kinds; all mean the same to the user
        reason = " ".join(str(error).split())
        raise IntsimError(f"{path}: initializer {tensor.name}: data can't be decoded: {reason}") from error
    if tensor.data_type not in NUMBERS:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        raise IntsimError(f"{path}: initializer {tensor.name}: type {kind} is not numeric")
    if array.dtype.kind == "f" and not (np.isfinite(array) | (infinite & np.isneginf(array))).all():
        raise IntsimError(f"{path}: initializer {tensor.name}: holds NaN or infinity, which are not supported{advice}")
    return array


def _input(path: str, value: onnx.ValueInfoProto, given: tuple[int, ...] | None) -> tuple[tuple[int, ...], int]:
    def refused(reason: str) -> IntsimError:
        return IntsimError(f"{path}: input {value.name}: {reason}")

    kind, dims = value.type.tensor_type, value.type.tensor_type.shape.dim
    if value.type.WhichOneof("value") not in (None, "tensor_type"):
        raise refused("is not a tensor")
    if kind.elem_type and kind.elem_type not in NUMBERS:
        names = {n: name for name, n in onnx.TensorProto.DataType.items()}
        raise refused(f"type {names.get(kind.elem_type, kind.elem_type)} is not numeric")
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        if given is None:
            raise refused(f"has no tensor shape; give one with --shape {value.name}=1,3,..")
    elif given is None:
        if any(not d.HasField("dim_value") or d.dim_value <= 0 for d in dims):
            raise refused(f"dynamic shape {_dims(dims)}; fix it with --shape {value.name}=1,..")
    elif len(given) != len(dims) or any(
        d.HasField("dim_value") and d.dim_value != g for d, g in zip(dims, given, strict=True)
    ):
        raise refused(f"shape {given} doesn't fit the file's {_dims(dims)}")
    shape = tuple(d.dim_value for d in dims) if given is None else tuple(given)
    if any(s <= 0 for s in shape) or len(shape) > MOST_AXES or math.prod(shape) > MOST_ELEMENTS:
        raise refused(f"shape {shape} is not usable")
    return shape, kind.elem_type or onnx.TensorProto.FLOAT


def _dims(dims: Any) -> str:
    return "[" + ", ".join(str(d.dim_value) if d.HasField("dim_value") else (d.dim_param or "?") for d in dims) + "]"


def _operation(model: SourceModel, node: onnx.NodeProto, position: int) -> Operation:
    path = model.path
    # protobuf gives bytes where a name is not UTF-8
    if any(isinstance(t, bytes) for t in (node.name, node.op_type, node.domain, *node.input, *node.output)):
        raise IntsimError(f"{path}: node {position}: holds a name that is not UTF-8 text; the file is damaged")
    held = {p.key: p.value for p in node.metadata_props}
    name = held.get(SOURCE_NODE) or node.name or f"{node.op_type}_{node.output[0] if node.output else position}"
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        try:
            value = onnx.helper.get_attribute_value(attribute)
        except ValueError as error:
            raise IntsimError(f"{path}: node {name}: attribute {attribute.name}: can't be decoded") from error
        if value is None:
            raise IntsimError(f"{path}: node {name}: attribute {attribute.name}: has no value")
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif attribute.type == onnx.AttributeProto.TENSOR:
            masking = node.op_type in ("Constant", "ConstantOfShape")
            value = _array(path, value, Path(path).parent, Account(), masking)
        elif hasattr(value, "__iter__"):
            value = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in value]
        attributes[attribute.name] = value
    op, unread = meaning(node.domain, node.op_type, model.opset)
    return Operation(
        op,
        "" if node.domain in STANDARD else node.domain,
        name,
        tuple(node.input),
        tuple(node.output),
        attributes,
        node,
        unread
        or (other_arity(node.op_type, model.opset, node.input, len(node.output)) if node.domain in STANDARD else "")
        or other_mode(op, attributes, sum(map(bool, node.output)), model.opset),
        _module(node),
        held.get(SOURCE_OPERATOR, ""),
        _ends(held.get(EVEN_ENDS, "")),
    )


def _ends(text: str) -> tuple[int, int] | None:
    """Two codes, as metadata has them; None for anything else."""
    found = re.fullmatch(r"(-?[0-9]{1,3}),(-?[0-9]{1,3})", text, re.ASCII)
    return (int(found[1]), int(found[2])) if found and int(found[1]) <= int(found[2]) else None


def _module(node: onnx.NodeProto) -> str | None:
    """The path of a node's module, as torch's exporter writes it: the text of a list of names, each inside the last.

    Such as "['', 'features', 'features.0', 'conv2d']". Behind the modules stands torch's name of the operation, which
    has no dot, so that a last name with one is a module.
    """
    text = next((p.value for p in node.metadata_props if p.key == NAME_SCOPES), "")
    try:
        scopes = ast.literal_eval(text) if len(text) <= MOST_SCOPES else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(scopes, list) or not all(isinstance(s, str) for s in scopes) or not scopes:
        return None
    modules = scopes if "." in scopes[-1] else scopes[:-1]
    return modules[-1] if modules and modules[-1] else None


def _sorted(model: SourceModel, operations: list[Operation]) -> list[Operation]:
    """Topological order; refuses undefined and doubly defined tensors and cycles."""
    known = set(model.inputs) | set(model.constants) | {""}
    position: dict[str, int] = {}
    for i, op in enumerate(operations):
        for output in filter(None, op.outputs):
            if output in position or output in known:
                raise IntsimError(f"{model.path}: node {op.name}: tensor {output} is made twice")
            position[output] = i
    for op in operations:
        for name in op.inputs:
            if name not in known and name not in position:
                raise IntsimError(
                    f"{model.path}: node {op.name}: input {name} is neither an input, an initializer nor made by a node"
                )
    for name in model.outputs:
        if name not in known and name not in position:
            raise IntsimError(f"{model.path}: graph output {name} is made by no node")
    before = [{position[n] for n in op.inputs if n in position} for op in operations]
    if all(max(b, default=-1) < i for i, b in enumerate(before)):
        return operations  # as the file has them, so that reports follow the file
    sorter: TopologicalSorter[int] = TopologicalSorter({i: () for i in range(len(operations))})
    for i, makers in enumerate(before):
        sorter.add(i, *makers)
    try:
        return [operations[i] for i in sorter.static_order()]
    except CycleError as error:
        stuck = operations[min(error.args[1])]
        raise IntsimError(f"{model.path}: node {stuck.name}: the graph has a cycle through this node") from None


PARAMETER_INPUTS = {
    "BatchNormalization": (1, 2, 3, 4),
    "BipolarQuant": (1,),
    "Conv": (1, 2),
    "ConvInteger": (1, 2, 3),
    "ConvTranspose": (1, 2),
    "DequantizeLinear": (1, 2),
    "Gemm": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMulInteger": (2, 3),
    "QGemm": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearAveragePool": (1, 2, 3, 4),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearGlobalAveragePool": (1, 2, 3, 4),
    "QLinearLeakyRelu": (1, 2, 3, 4),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QLinearMul": (1, 2, 4, 5, 6, 7),
    "QLinearReduceMean": (1, 2, 3, 4),
    "QLinearSigmoid": (1, 2, 3, 4),
    "QLinearSoftmax": (1, 2, 3, 4),
    "QLinearWhere": (0, 2, 3, 5, 6, 7, 8),
    "Quant": (1, 2, 3),
    "QuantizeLinear": (1, 2),
    "Reshape": (1,),
    "Trunc": (1, 2, 3, 4, 5),
}
"""Inputs of an operator that must be known before a graph can be lowered."""


def parameter_inputs(source: str | Path | onnx.ModelProto) -> set[str]:
    """Graph inputs that feed only such places: scales, zero points, weights given as inputs."""
    proto = source if isinstance(source, onnx.ModelProto) else decode(Path(source))
    graph = inlined(str(source) if isinstance(source, str | Path) else "<model>", proto).graph
    opset = max((o.version for o in proto.opset_import if o.domain in STANDARD), default=9)
    names = {i.name for i in graph.input}
    parameters: set[str] = set()
    elsewhere: set[str] = set()
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in names:
                op, _ = meaning(node.domain, node.op_type, opset)
                (parameters if i in PARAMETER_INPUTS.get(op, ()) else elsewhere).add(name)
    return parameters - elsewhere
