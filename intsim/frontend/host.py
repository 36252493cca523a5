"""Work on the host: ONNX nodes before the first quantizer and after the last accumulator, and float islands between.

Floats are float64, of a model with islands the file's own types; integers are numpy's of the file's type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from intsim.errors import IntsimError
from intsim.frontend.expression import Const, Fixed, Value
from intsim.frontend.host_operators import OPERATORS, check_node
from intsim.frontend.names import Fresh
from intsim.frontend.operators import on_host
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.frontend.reader import Operation, SourceModel
from intsim.frontend.shaped import shaped_by_data
from intsim.graph import check_size

MOST_INFERRED = 1 << 27
"""Bytes of constants (128 MiB) up to which shapes are inferred first: a file that large means what it says."""
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def as_float64(array: np.ndarray) -> np.ndarray:
    """Floats widened to float64; other types as they are."""
    return array.astype(np.float64) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else array


def as_typed(array: np.ndarray, element: int | None) -> np.ndarray:
    """An array as the host sees a tensor of that element type: numpy's integers, or float64."""
    if element in ONNX_INTEGERS:
        return np.asarray(array).astype(helper.tensor_dtype_to_np_dtype(element), copy=False)
    return np.asarray(array, np.float64) if element is not None else as_float64(np.asarray(array))


def as_file(array: np.ndarray, element: int | None) -> np.ndarray:
    """An array in an element type of the file, float32 where that is not known."""
    return np.asarray(array).astype(helper.tensor_dtype_to_np_dtype(element or TensorProto.FLOAT), copy=False)


def constant_array(value: Const | Fixed, element: int | None = None) -> np.ndarray:
    """A constant of that element type as the host sees it."""
    if isinstance(value, Const):
        return as_float64(value.array)
    if element in ONNX_INTEGERS and value.scale.size == 1 and value.scale.item() == 1 and not any(value.offset.flat):
        return as_typed(value.codes, element)
    return value.codes * np.asarray(value.scale, np.float64) + np.asarray(value.offset, np.float64)


@dataclass
class HostProgram:
    """Some nodes of the file as an ONNX model of their own, all floats float64, integers as the file types them.

    `inputs` maps tensor names to shapes, `types` to ONNX element types; `run` returns the wanted tensors. The operators
    are ONNX's own reference implementations but for those of `host_operators.py`. `as_written`: floats are of the
    file's types, too.

    Raises IntsimError for a node of which ONNX doesn't say what integers it makes.
    """

    path: str
    opset: int
    inputs: dict[str, tuple[int, ...]]
    constants: dict[str, np.ndarray]
    operations: list[Operation]
    wanted: list[str]
    types: Mapping[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    as_written: bool = False

    def __post_init__(self) -> None:
        """Names for reports; refuse what ONNX leaves open."""
        self.names = [f"{op.name} ({op.op})" for op in self.operations]
        for op in self.operations:
            try:
                check_node(op, self.types, self.opset)
            except IntsimError as error:
                raise IntsimError(f"{self.path}: {op.label}: {error}") from None

    @cached_property
    def _evaluator(self) -> ReferenceEvaluator:
        self._inferred  # noqa: B018 - refuses what is too large before it is computed
        return ReferenceEvaluator(self.model(), new_ops=OPERATORS)

    @cached_property
    def _inferred(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors that ONNX shape inference knows; raises IntsimError for one that is too large."""
        if sum(a.nbytes for a in self.constants.values()) > MOST_INFERRED:
            return {}
        for strict in (True, False):  # types that strict inference refuses in float64 still run
            try:
                graph = onnx.shape_inference.infer_shapes(self.model(), strict_mode=strict, data_prop=True).graph
                break
            except onnx.shape_inference.InferenceError:
                continue
        else:
            return {}
        shapes = {}
        makers = {o: op.name for op in self.operations for o in op.outputs}
        for info in [*graph.value_info, *graph.output]:
            dims = info.type.tensor_type.shape.dim
            if info.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
                shape = tuple(d.dim_value for d in dims)
                try:
                    check_size(shape)
                except IntsimError as error:
                    raise IntsimError(f"{self.path}: node {makers.get(info.name, info.name)}: {error}") from None
                shapes[info.name] = shape
        return shapes

    def elements(self) -> int | None:
        """How many numbers the wanted tensors hold; None where ONNX shape inference doesn't know."""
        shapes = [self._inferred.get(n) for n in self.wanted]
        return sum(math.prod(s) for s in shapes if s is not None) if None not in shapes else None

    def model(self) -> onnx.ModelProto:
        """The program as an ONNX model."""
        named = {n for op in self.operations for n in (*op.inputs, *op.outputs)}
        fresh = Fresh({*named, *self.inputs, *self.constants, *self.wanted})
        nodes = [n for op in self.operations for n in _portable(op, self.opset, fresh, self.as_written)]
        # scales of a resize are float32 by its definition, whatever the type of its data
        single = {n for op in self.operations if op.op in ("Resize", "Upsample") for n in op.inputs[1:3]}
        constants = {n: a.astype(np.float32) if n in single else a for n, a in self.constants.items()}
        if self.as_written:
            constants = {n: as_file(a, self.types.get(n)) for n, a in constants.items()}
        graph = helper.make_graph(
            nodes,
            "host",
            [helper.make_tensor_value_info(n, self._type(n), s) for n, s in self.inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in self.wanted],
            [numpy_helper.from_array(a, n) for n, a in constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", max(self.opset, 7))], ir_version=10)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of all its tensors that ONNX shape inference knows."""
        return {n: s for n, s in self._inferred.items() if all(d > 0 for d in s)}

    def check(self) -> None:
        """Raise IntsimError, with a node's name, where ONNX's reference implementation can't run the program."""
        if not self.operations:
            return
        try:
            self._evaluator  # noqa: B018
        except IntsimError:
            raise
        except Exception as error:  # many kinds, none of them public
            lacking = next((o for o in self.operations if f"'{o.op}'" in str(error)), self.operations[0])
            raise IntsimError(
                f"{self.path}: node {lacking.name}: {lacking.op} is not supported on the host (onnx.reference has no "
                f"implementation of it for opset {self.opset})"
            ) from error

    def _type(self, name: str) -> int:
        """Element type of an input: the file's integers, else DOUBLE, or as the file has it."""
        if self.as_written:
            return self.types.get(name, int(TensorProto.FLOAT))
        element = self.types.get(name, TensorProto.DOUBLE)
        return element if element in ONNX_INTEGERS else int(TensorProto.DOUBLE)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The wanted tensors for these inputs."""
        typed = as_file if self.as_written else as_typed
        known = {n: typed(np.asarray(inputs[n]), self._type(n)) for n in self.inputs}
        if not self.operations:
            return {n: known[n] for n in self.wanted}
        try:
            with np.errstate(over="ignore"):  # integers wrap
                results = self._evaluator.run(self.wanted, known)
        except IntsimError as error:
            raise IntsimError(f"{self.path}: {str(error).removeprefix(f'{self.path}: ')}") from None
        except Exception as error:  # whatever the reference implementation of an operator raises
            reason = " ".join(str(error).split())[:300]
            raise IntsimError(f"{self.path}: host nodes {', '.join(self.names)}: can't be run: {reason}") from error
        return dict(zip(self.wanted, results, strict=True))

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape of a wanted tensor, by ONNX shape inference, else by running on zeros.

        Raises IntsimError for one that numbers of the inputs decide.
        """
        if tensor in self.inputs:
            return self.inputs[tensor]
        inferred = self._inferred.get(tensor)
        if inferred is not None and all(d > 0 for d in inferred):
            return inferred
        decided = shaped_by_data(self.operations, self.inputs, tensor)
        if decided is not None:
            raise IntsimError(
                f"{self.path}: the shape of {tensor} is known at run time only, as numbers decide what {decided.label} "
                "makes; fix them (--constants, or constants in the file)"
            )
        try:
            return tuple(self.run({n: np.zeros(s) for n, s in self.inputs.items()})[tensor].shape)
        except IntsimError:  # a zero may be a divisor
            return tuple(self.run({n: np.ones(s) for n, s in self.inputs.items()})[tensor].shape)


def _portable(op: Operation, opset: int, fresh: Fresh, as_written: bool = False) -> list[onnx.NodeProto]:
    """A node in float64 (or `as_written`), channels first, and with the meaning it has in its own opset."""
    node = onnx.NodeProto()
    node.CopyFrom(op.proto)
    node.domain, node.name = "", op.name
    if op.op == "Cast" and not as_written:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i in FLOATS:
                attribute.i = TensorProto.DOUBLE
    if op.op in ("Softmax", "LogSoftmax", "Hardmax") and opset < 13:
        return _old_softmax(op, fresh)
    if not op.channels_last:
        return [node]
    rank = 2 + len(op.attributes.get("kernel_shape", [0, 0]))
    first, last = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
    inner = [fresh(f"{op.name}~{i}") for i in range(3)]
    out = [helper.make_node("Transpose", [node.input[0]], [inner[0]], perm=first)]
    moved = [inner[0], *node.input[1:]]
    if op.op == "Conv":
        out.append(helper.make_node("Transpose", [node.input[1]], [inner[1]], perm=first))
        moved[1] = inner[1]
    final = node.output[0]
    del node.input[:]
    node.input.extend(moved)
    node.output[0] = inner[2]
    return [*out, node, helper.make_node("Transpose", [inner[2]], [final], perm=last)]


def _old_softmax(op: Operation, fresh: Fresh) -> list[onnx.NodeProto]:
    """Softmax before opset 13: everything from `axis` on is one row. ONNX's reference implements the later meaning."""
    shape, rows, done = (fresh(f"{op.name}~{what}") for what in ("shape", "rows", "done"))
    return [
        helper.make_node("Shape", [op.inputs[0]], [shape]),
        helper.make_node("Flatten", [op.inputs[0]], [rows], axis=op.attributes.get("axis", 1)),
        helper.make_node(op.op, [rows], [done], axis=1),
        helper.make_node("Reshape", [done, shape], [op.outputs[0]]),
    ]


def host_program(
    model: SourceModel,
    values: Mapping[str, Value],
    sources: Mapping[str, tuple[int, ...]],
    wanted: list[str],
    types: Mapping[str, int],
    as_written: bool = False,
) -> HostProgram:
    """The nodes that lead from `sources` (tensor name to shape) and constants to `wanted`; `types` of all tensors."""
    needed: set[Operation] = set()
    constants: dict[str, np.ndarray] = {}
    inputs: dict[str, tuple[int, ...]] = {}
    waiting = list(wanted)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        value = values.get(name)
        if name in sources:
            inputs[name] = tuple(sources[name])
        elif isinstance(value, Const | Fixed):
            constants[name] = constant_array(value, types.get(name))
        else:
            needed.add(model.makers[name])
            waiting += model.makers[name].inputs
    operations = [op for op in model.operations if op in needed]
    for op in operations:
        if not on_host(op.op, op.domain):
            raise IntsimError(f"{model.path}: node {op.name}: {op.op} is not supported on the host")
    return HostProgram(model.path, model.opset, inputs, constants, operations, wanted, types, as_written=as_written)


def fold(
    model: SourceModel,
    op: Operation,
    values: Mapping[str, Value],
    types: Mapping[str, int],
    take: Callable[[int, int], None] = lambda held, made: None,
) -> list[Const]:
    """Value of a node whose inputs are all constant; floats in float64, integers in their type.

    `take` is asked for the bytes of the result and those that it has more than its operands, before it is made where
    ONNX says how large it is. Raises IntsimError if the operator has no reference implementation or its inputs don't
    fit it.
    """
    constants = {n: constant_array(values[n], types.get(n)) for n in op.inputs if n}  # type: ignore[arg-type]
    wanted = [o for o in op.outputs if o]
    program = HostProgram(model.path, model.opset, {}, constants, [op], wanted, types)
    count, held = program.elements(), sum(a.size for a in constants.values())
    if count is not None:
        take(8 * count, 8 * max(count - held, 0))
    results = program.run({})
    if count is None:
        count = sum(np.size(r) for r in results.values())
        take(8 * count, 8 * max(count - held, 0))
    return [Const(np.asarray(results[o])) for o in wanted]
