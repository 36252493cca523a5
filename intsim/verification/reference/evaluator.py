"""The reference evaluator: a quantized ONNX graph as it is written, in exact arithmetic.

This is what "exact" means here: every float constant of the file is the rational number that it is, every operator
its formula on real numbers, every quantizer QONNX's or ONNX's formula, and every rounding tie is decided on the exact
value. Nothing is shared with the lowering, the graph of integers or the engine, so that an error in one of these
can't hide in the reference too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from intsim.errors import IntsimError
from intsim.verification.reference.call import FLOATS, Call, attributes, type_name
from intsim.verification.reference.given import snap
from intsim.verification.reference.integers import INTEGERS, typed
from intsim.verification.reference.movement import MOVEMENT
from intsim.verification.reference.operators import EPILOGUE, OPERATORS, key, laid
from intsim.verification.reference.qlinear import QUANTIZERS
from intsim.verification.reference.quantize import Quantized
from intsim.verification.reference.quantizers import clip_integers
from intsim.verification.reference.run import ReferenceRun
from intsim.verification.reference.tensor import Tensor, from_array

#: Operators that know minus infinity, the number of what a mask hides.
MASKING = frozenset(("Add", "Sub", "Mul", "Div", "Where", "Softmax", "Cast", *MOVEMENT)) - {"Pad"}
#: A malformed node shows as one of these from numpy.
_MALFORMED = (ValueError, IndexError, TypeError, KeyError, ArithmeticError, AttributeError, RecursionError, MemoryError)


@dataclass(frozen=True)
class _Step:
    """A node made ready: its key in the operator tables, its attributes, its name in messages."""

    node: onnx.NodeProto
    key: str
    attrs: dict[str, Any]
    label: str
    outputs: int
    constant: bool
    decides: bool = False
    kept: dict[str, Any] = field(default_factory=dict)


class Reference:
    """A quantized ONNX graph, ready to be evaluated exactly.

    Args:
        model: an ONNX model or the path of one; QONNX, QCDQ or QOperator.
        constants: arrays for graph inputs that are parameters and have no initializer.

    Raises:
        IntsimError: one line naming every node that has no exact form, or what is wrong with the file.
    """

    def __init__(
        self, model: onnx.ModelProto | str | PathLike[str], constants: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Read the graph and check what needs no data."""
        if not isinstance(model, onnx.ModelProto):
            try:
                model = onnx.load(str(model))
            except Exception as error:  # protobuf raises several kinds, none of them public
                raise IntsimError(f"{model}: not a readable ONNX file: {_line(error)}") from error
        graph = model.graph
        self._opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=13)
        self._fixed: dict[str, Tensor] = {}
        self._cache: dict[str, Tensor | Quantized] = {}
        if graph.sparse_initializer:
            raise IntsimError("sparse initializers are not evaluated")
        for tensor in graph.initializer:
            with _named(f"initializer {tensor.name!r}"):
                array = numpy_helper.to_array(tensor)
                if (array.dtype.name.startswith("float") and "_" in array.dtype.name) or array.dtype.kind in "OUSc":
                    raise IntsimError(f"type {array.dtype.name} is not evaluated")
                self._fixed[tensor.name] = from_array(array, "it")
        for name, array in (constants or {}).items():
            self._fixed[name] = from_array(np.asarray(array), f"constant {name!r}")
        self._inputs = {i.name: _declared(i) for i in graph.input if i.name not in self._fixed}
        self._types = {i.name: type_name(i.type.tensor_type.elem_type) for i in graph.input}
        self.outputs = [o.name for o in graph.output]
        self._steps = self._read(graph)

    @property
    def inputs(self) -> list[str]:
        """Names of the tensors that `run` has to be given."""
        return list(self._inputs)

    @property
    def quantizers(self) -> list[str]:
        """Outputs of the quantizer nodes, in the order of the file (Clip on integers shows only when run)."""
        return [s.node.output[0] for s in self._steps if s.key in QUANTIZERS]

    def _read(self, graph: onnx.GraphProto) -> list[_Step]:
        """The nodes in order, after the checks that need no data."""
        known = {*self._fixed, *self._inputs, ""}
        fixed = set(self._fixed)
        vague: dict[str, str] = {}
        used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
        refused: list[str] = []
        needed = _needed(graph)
        left_out: set[str] = set()
        steps = []
        for node in graph.node:
            if not node.output:
                raise IntsimError(f"node {node.name!r} ({node.op_type}) has no output")
            name, operator = node.name or node.output[0], key(node.domain, node.op_type)
            label = f"node {name!r} ({node.op_type})"
            idle = needed.isdisjoint(o for o in node.output if o)
            if idle and left_out.intersection(i for i in node.input if i):
                left_out.update(node.output)
                continue
            missing = [i for i in node.input if i not in known]
            if missing:
                raise IntsimError(f"{label}: input {missing[0]!r} is made by no node before it")
            twice = [o for o in node.output if o and o in known]
            if twice:
                raise IntsimError(f"{label}: output {twice[0]!r} is made twice")
            with _named(f"{label}: unreadable attribute"):
                attrs = attributes(node)
            unknown = operator not in OPERATORS and operator not in QUANTIZERS and operator not in INTEGERS
            constant = (bool(node.input) and all(i in fixed or not i for i in node.input)) or operator == "Constant"
            inexact = operator in EPILOGUE and not constant
            sources = {vague[i] for i in node.input if i in vague} | ({label} if inexact else set())
            undefined = operator in QUANTIZERS and sources
            if idle and (unknown or undefined):  # what no output needs may be anything
                left_out.update(node.output)
                continue
            if unknown:
                refused.append(f"{label}: operator {node.domain + '.' if node.domain else ''}{node.op_type} is unknown")
            if undefined:
                refused.append(f"{label}: {', '.join(sorted(sources))} before it has no exact form")
            last = max((k for k, o in enumerate(node.output) if o in used), default=0) + 1
            outputs = len(node.output) if operator == "Split" else last
            steps.append(_Step(node, operator, attrs, label, outputs, constant))
            for out in node.output:
                known.add(out)
                if constant:
                    fixed.add(out)
                if sources:
                    vague[out] = min(sources)
        if refused:
            raise IntsimError("; ".join(refused))
        return _with_readers(steps)

    def run(self, inputs: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray] | None = None) -> ReferenceRun:
        """Evaluate the graph.

        Args:
            inputs: one array per graph input, its numbers taken as exact.
            given: arrays that another executor had. Where one belongs to a quantizer's output it is snapped to codes
                and everything downstream is evaluated from these, while `codes` holds what exact arithmetic makes of
                that quantizer's own inputs. Other tensors in `given` are ignored.

        Raises:
            IntsimError: an input is missing, unknown, misshapen or not finite, or a node can't be evaluated.
        """
        env = dict(self._fixed)
        for name in inputs:
            if name not in self._inputs:
                raise IntsimError(f"{name!r} is not an input; inputs: {', '.join(self._inputs)}")
        for name, dims in self._inputs.items():
            if name not in inputs:
                raise IntsimError(f"input {name!r} is missing")
            array = np.asarray(inputs[name])
            if self._types[name] in FLOATS and array.dtype.kind in "iub":
                array = array.astype(np.float64)
            if dims is not None and (
                len(dims) != array.ndim or any(d not in (0, n) for d, n in zip(dims, array.shape, strict=True))
            ):
                raise IntsimError(f"input {name!r} has shape {array.shape}, the file says {dims} (0: any)")
            env[name] = from_array(array, f"input {name!r}")
            if env[name].kind == "i" and "int" in self._types[name]:
                env[name] = replace(env[name], type=self._types[name])
            _finite(env[name], f"input {name!r}")
        out = ReferenceRun(env)
        touched: set[str] = set()
        for step in self._steps:
            self._evaluate(step, out, given or {}, touched)
        return out

    def _evaluate(self, step: _Step, run: ReferenceRun, given: Mapping[str, np.ndarray], touched: set[str]) -> None:
        """One node, into `run`. `touched`: tensors that `given` has changed, so that no result of them is kept."""
        node, name = step.node, step.node.output[0]
        fresh = step.constant and not touched.intersection(node.input)
        result: Any = self._cache.get(name) if fresh else None
        if result is None:
            tensors = [run.tensors[i] if i else None for i in node.input]
            call = Call(
                node.op_type,
                step.label,
                self._opset,
                step.attrs,
                tensors,
                step.outputs,
                step.constant,
                step.decides,
                step.kept,
            )
            with _named(step.label, "cannot be evaluated: "):
                result = _call(step.key, call)
            if isinstance(result, Quantized) and step.key == "Clip" and node.input[0] in run.quantized:
                before = run.quantized[node.input[0]]
                result = replace(result, scale=before.scale, zero_point=before.zero_point)
            if fresh:
                self._cache[name] = result
        if touched.intersection(node.input):
            touched.update(node.output)
        if not isinstance(result, Quantized):
            made = result if isinstance(result, list) else [result]
            run.tensors.update({o: t for o, t in zip(node.output, made, strict=False) if o})
            return
        run.quantized[name] = result
        run.tensors[name] = result.tensor
        if name in given:
            with _named(step.label):
                run.tensors[name], run.given_codes[name], run.off_grid[name] = snap(np.asarray(given[name]), result)
            touched.add(name)


def _needed(graph: onnx.GraphProto) -> set[str]:
    """Names of the tensors that an output of the graph needs."""
    wanted = {o.name for o in graph.output}
    for node in reversed(graph.node):
        if wanted.intersection(o for o in node.output if o):
            wanted.update(i for i in node.input if i)
    return wanted


def _with_readers(steps: list[_Step]) -> list[_Step]:
    """The same steps, each knowing whether a quantizer depends on it."""
    wanted: set[str] = set()
    out = []
    for step in reversed(steps):
        decides = bool(wanted.intersection(step.node.output))
        if decides or step.key in QUANTIZERS:
            wanted.update(step.node.input)
        out.append(replace(step, decides=decides))
    return out[::-1]


def _call(operator: str, call: Call) -> Tensor | list[Tensor] | Quantized:
    """Evaluate one node; a value without exactness stays one, and never reaches a quantizer."""
    poison = next((t.poison for t in call.inputs if t is not None and t.poison), "")
    quantizes = operator in QUANTIZERS or (operator == "Clip" and call.tensor(0).kind == "i")
    if poison and quantizes:
        raise IntsimError(f"no exact value: {poison}")
    if operator != "Clip":
        for i, t in enumerate(call.inputs):
            if t is not None and not t.poison:
                _finite(t, f"input {i}", masked=operator in MASKING or (operator in QUANTIZERS and i == 0))
    # overflow shows in the bounds; underflow alone would go unseen by them
    with np.errstate(all="ignore", under="ignore" if poison or operator in EPILOGUE else "raise"):
        if operator in QUANTIZERS:
            return QUANTIZERS[operator](call)
        if quantizes:
            return clip_integers(call)
        whole = operator in INTEGERS and all(t is None or t.kind == "i" for t in call.inputs)
        if not whole and operator not in OPERATORS:
            raise IntsimError(f"{operator} is evaluated on integers only")
        if whole and call.opset < 7 and len(call.inputs) == 2:
            call = replace(call, inputs=[call.tensor(0), laid(call)])
        made = INTEGERS[operator](call) if whole and not poison else OPERATORS[operator](call)
        if not poison:
            return [typed(t, call) for t in made] if isinstance(made, list) else typed(made, call)
    values = [(t.approx()[0], t.kind) for t in (made if isinstance(made, list) else [made])]
    return [Tensor(v.shape, kind, v=v, e=np.full(v.shape, np.inf), poison=poison) for v, kind in values]


def _finite(t: Tensor, what: str, masked: bool = False) -> None:
    """Refuse numbers that are not finite; `masked`: but for minus infinity."""
    if t.v is None:
        return
    wrong = ~np.isfinite(t.v) & (True if t.e is None else (t.e == 0) | np.isnan(t.e))
    if (wrong & ~np.isneginf(t.v) if masked else wrong).any():
        raise IntsimError(f"{what} holds numbers that are not finite")


def _declared(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """The shape that the file declares, 0 for what it leaves open; None where it declares none."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


@contextmanager
def _named(what: str, malformed: str = "") -> Iterator[None]:
    """Failures as one line that says of what; those of numpy have `malformed` before them."""
    try:
        yield
    except IntsimError as error:
        raise IntsimError(f"{what}: {error}") from error
    except _MALFORMED as error:
        raise IntsimError(f"{what}: {malformed}{_line(error)}") from error
