"""Lowering: an ONNX model as written to an integer graph with host work before and after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from intsim.arithmetic.integers import IntegerType, bits_for
from intsim.errors import IntsimError
from intsim.frontend import (
    conv,
    curves,
    einsum,
    elementwise,
    finn,
    gather,
    masks,
    matmul,
    movement,
    norms,
    padding,
    pooling,
    qcdq,
    qlinear,
    qonnx,
    qoperator,
    resize,
    rowwise,
    waiting,
    where,
)
from intsim.frontend.bias import belongs
from intsim.frontend.context import QUANTIZE_INPUTS, Boundary, Context, Quantizer, Refused
from intsim.frontend.decomposed import norms as written_norms
from intsim.frontend.expression import (
    ONE,
    ZERO,
    Broken,
    Const,
    Curve,
    Expr,
    Fixed,
    Host,
    Masked,
    Value,
    Waiting,
    as_codes,
    is_codes,
)
from intsim.frontend.grids import on_grid
from intsim.frontend.host import HostProgram, fold, host_program
from intsim.frontend.integers import SUMS as INTEGER_SUMS
from intsim.frontend.integers import as_integers, handler_of, on_integers, settled
from intsim.frontend.islands import Needs, Part, cut
from intsim.frontend.operators import ISLANDS, STATES, WEIGHTS, on_host
from intsim.frontend.parameters import ONNX_INTEGERS, shape_of
from intsim.frontend.ranges import given_ranges, positions
from intsim.frontend.reader import Operation, SourceModel, read
from intsim.frontend.refusals import summary
from intsim.frontend.registry import CURVES, HANDLERS, MACS, MOVERS, QUANTIZERS, Handler
from intsim.frontend.types import INTEGERS, check_types, element_types, type_name
from intsim.frontend.weights import on_power_of_two_grid
from intsim.graph import IntegerGraph, Tensor
from intsim.ops import OPS, Mac
from intsim.ops.deviation import deviations
from intsim.ops.rows import RowFunction

__all__ = ["LoweredModel", "load"]
OPERATORS = (
    *(conv, curves, einsum, elementwise, finn, gather, matmul, movement, norms, padding, pooling),
    *(qcdq, qlinear, qonnx, qoperator, resize, rowwise, where),
)
"""Importing these registers their handlers."""

MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What numpy and Python raise where a node's inputs and attributes make no sense together."""

Integers = Expr | Curve | Masked | Waiting
"""What integers become on their way to a quantizer."""
MOST_ENTERING = 32
"""Bits of an integer type of the host that may enter the integer graph: float64 carries it."""
SUMS = {"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"}
GRIDDED = SUMS | {
    *("Add", "Max", "Mean", "Min", "Mul", "Sub", "Sum"),
    *("GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMin", "Resize", "Upsample"),
    *("GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"),
}
"""Operators that take numbers on a grid where these have no common integers of 64 bits."""
GRID_BITS = (52, 44, 36, 30)
"""Bits of such numbers, the first that leaves the operator's own result 64 bits."""


@dataclass
class LoweredModel:
    """A model ready to run: the integer graph, and the float host work around it.

    `outputs` maps each ONNX output to what it is: an expression of integer tensors, or a host tensor of the epilogue.
    `rows` says of each Softmax and layer normalisation what ONNX tensor its integers stand for, `codes` which integer
    tensor holds the codes of an ONNX tensor of an integer type.

    `parts` are those of a model with float islands, the last one the epilogue's; none of other models. `prologue` is
    the first part's host work then, and `ends` are also what islands read.
    """

    source: SourceModel
    graph: IntegerGraph
    boundaries: list[Boundary]
    prologue: HostProgram
    epilogue: HostProgram
    outputs: dict[str, Expr | Host]
    ends: dict[str, Expr] = field(default_factory=dict)
    rows: dict[str, Expr] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    @property
    def host(self) -> dict[str, list[str]]:
        """The nodes that run on the host: prologue, epilogue, and of a model with islands those between."""
        work = {"prologue": self.prologue.names, "epilogue": self.epilogue.names}
        return work | ({"islands": [n for p in self.parts[1:-1] for n in p.host.names]} if self.parts else {})

    @property
    def path(self) -> str:
        """Where the model came from."""
        return self.source.path


def load(
    source: str | Path | onnx.ModelProto,
    constants: Mapping[str, np.ndarray] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    ranges: Mapping[str, tuple[int, int]] | None = None,
    islands: bool = False,
) -> LoweredModel:
    """Read and lower a quantized ONNX model (QONNX, QCDQ or QOperator) or TensorFlow Lite file.

    `constants` fixes graph inputs that must be known (a scale given as an input, say), `shapes` fixes dynamic inputs.
    `ranges` says what integer inputs can hold: the least and the greatest integer. Where nothing is said, the positions
    that Gather reads constant tables at are the tables' own, and other inputs hold all of their type.
    `islands`: what can't be integers between integers runs on the host, in the file's float types.
    Raises IntsimError: one line that names the file and every node that can't be integer-only.
    """
    try:
        model = read(source, constants, shapes)
        return Lowering(model, ranges, islands).lowered()
    except IntsimError as error:
        if str(error).isprintable():
            raise
        # names come from the file: they may hold line breaks or terminal control codes
        text = "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))
        raise IntsimError(text) from None


class Lowering:
    """One pass over the nodes in order; refusals are collected and raised together."""

    def __init__(
        self, model: SourceModel, ranges: Mapping[str, tuple[int, int]] | None = None, islands: bool = False
    ) -> None:
        """Start with the file's constants and inputs."""
        self.model = model
        model.ranges = given_ranges(model, model.ranges if ranges is None else ranges)
        self.islands = islands
        self.interrupted = False
        self.entries: dict[str, Expr] = {}
        self.host_shapes: dict[str, tuple[int, ...]] = {}
        self.graph = IntegerGraph(
            Path(model.path).stem if model.path != "<model>" else model.proto.graph.name or "model"
        )
        self.types = element_types(model)
        self.context = Context(model, self.graph, host_shape=self.host_shape, types=self.types, entry=self.entry)
        self.context.to_grid = partial(on_grid, self.context)
        self.values = self.context.values
        self.refusals: list[tuple[str, str, str]] = []
        self.values[""] = Const(np.zeros(0))
        for name, array in model.constants.items():
            self.values[name] = Const(array)
        for name, (shape, element) in model.inputs.items():
            self.values[name] = self.graph_input(name, shape, element)

    def graph_input(self, name: str, shape: tuple[int, ...], element: int) -> Value:
        """Integer inputs are codes already; floats wait for a quantizer."""
        if element not in ONNX_INTEGERS:
            return Host(name)
        bits, signed = ONNX_INTEGERS[element]
        kind = IntegerType(min(bits, 62) if bits == 64 else bits, signed)
        codes = as_codes(name, shape)
        self.graph.tensors[name] = Tensor(name, shape, kind.min, kind.max, codes.scale, codes.offset, kind, name)
        self.graph.inputs.append(name)
        return codes

    def host_shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor of the host, before the first quantizer or behind integers."""
        if not self.islands:
            return self.hosted_nodes([name], behind_integers=True).shape(name)
        if name not in self.host_shapes:
            program = self.hosted_nodes([name], behind_integers=True)
            # all on the way, so that the next island doesn't go back to the file's inputs
            self.host_shapes |= program.shapes | {name: program.shape(name)}
        return self.host_shapes[name]

    def entry(self, name: str) -> Expr | None:
        """Integers of the host, of 32 bits at most, as an input of the integer graph; None without islands."""
        element = self.types.get(name)
        if not self.islands or element not in INTEGERS or ONNX_INTEGERS[element][0] > MOST_ENTERING:
            return None
        if name not in self.entries:
            kind = IntegerType(*ONNX_INTEGERS[element])
            quantizer = Quantizer(ONE, ZERO, 0, "half_even", (kind.min, kind.max), kind)
            tensor = name if name not in self.graph.tensors else self.context.fresh(name)
            made = self.context.host_input(name, quantizer, tensor)
            maker = self.model.makers.get(name)
            if maker is not None:
                boundary = self.context.boundaries[-1]
                self.context.boundaries[-1] = replace(boundary, source=maker.name, module=maker.module)
            self.entries[name] = as_codes(made.tensor, made.shape)
            self.interrupted = True
        return self.entries[name]

    def hosted_nodes(self, wanted: list[str], behind_integers: bool = False) -> HostProgram:
        """The nodes that lead to `wanted` from the file's inputs, and from integers as well if so asked."""
        sources = {n: s for n, (s, _) in self.model.inputs.items()}
        if behind_integers:
            sources |= {n: v.shape for n, v in self.values.items() if isinstance(v, Expr)}
        sources |= self.host_shapes
        return host_program(self.model, self.values, sources, wanted, self.types, self.islands)

    def lowered(self) -> LoweredModel:
        """Lower every node, then collect what runs on the host."""
        allowed = ISLANDS if self.islands else ()
        unread = [(op.shown, op.kind, op.unread) for op in self.model.operations if op.unread and op.op not in allowed]
        if unread:
            raise IntsimError(f"{self.model.path}: {summary(unread)}")
        self.fold_constants()
        self.narrow_inputs()
        live = self.live_nodes()
        rewritten = written_norms(self.model, self.values, live)
        for written in self.model.operations:
            op = rewritten.get(written, written)
            if op is not None and any(o not in self.values for o in op.outputs if o):
                self.lower(op, written in live)
        if self.refusals:
            raise IntsimError(f"{self.model.path}: can't be integer-only: {summary(self.refusals)}")
        return self.finish()

    def fold_constants(self) -> None:
        """Evaluate every node whose inputs are all constant."""
        for op in self.model.operations:
            inputs = [self.values.get(n) for n in op.inputs]
            if all(isinstance(v, Const | Fixed) for v in inputs) if inputs else op.op == "Constant":
                self.attempt(op, partial(self.folded, op, any(isinstance(v, Fixed) for v in inputs)))

    def folded(self, op: Operation, fixed: bool) -> list[Value]:
        """One constant node: quantizers and movement keep integers, the rest is numpy's integers, or float64."""
        self.context.current = op
        check_types(op, self.types)
        arithmetic = op.op not in MOVERS and any(self.types.get(o) in ONNX_INTEGERS for o in op.outputs)
        if op.op in QUANTIZERS or op.op == "DequantizeLinear" or (fixed and not arithmetic):
            handler = HANDLERS.get(op.op)
            if handler is not None and op.op not in MACS:
                try:
                    result = handler(self.context, op)
                    return list(result) if isinstance(result, Sequence) else [result]
                except (Refused, *MALFORMED):
                    if op.op in QUANTIZERS or op.op == "DequantizeLinear":
                        raise
        if op.op == "Constant" and "value" in op.attributes:
            return [Const(np.asarray(op.attributes["value"]))]
        if not on_host(op.op, op.domain):
            raise Refused(f"{op.op} of constants is not supported")
        return list(fold(self.model, op, self.values, self.types, self.context.take_constants))

    def narrow_inputs(self) -> None:
        """What integer inputs are assumed to hold: given, or the positions of tables that they are."""
        for name in self.graph.inputs:
            found = self.model.ranges.get(name) or positions(self.model, self.values, self.types, name)
            if found is not None:
                self.model.ranges[name] = found
                low, high = found
                self.graph.tensors[name] = replace(self.graph.tensors[name], low=low, high=high)

    def live_nodes(self) -> set[Operation]:
        """Nodes at or before which an integer decision lies: quantizers and quantized multiply-accumulates."""
        live: set[Operation] = set()
        for op in reversed(self.model.operations):
            if self.is_anchor(op) or any(r in live for o in op.outputs for r in self.model.readers.get(o, ())):
                live.add(op)
        return live

    def is_anchor(self, op: Operation) -> bool:
        """Whether a node must be integer: a quantizer of activations, or a MAC whose weights are integers."""
        data = [self.values.get(n) for n in (op.inputs if op.op in QUANTIZERS else op.inputs[:2])]
        constants = [v for v in data if isinstance(v, Const | Fixed)]
        if op.op not in QUANTIZERS | MACS or len(constants) == len(data):
            return False
        if op.op in QUANTIZERS or op.op.endswith("Integer") or not constants or isinstance(constants[0], Fixed):
            return True
        return on_power_of_two_grid(constants[0].array) is not None

    def lower(self, op: Operation, live: bool) -> None:
        """One node: shape arithmetic, host, integer, or refused."""
        values = [self.values.get(n, Broken()) for n in op.inputs if n]
        if any(isinstance(v, Broken) for v in values):
            self.store(op, [Broken() for _ in op.outputs])
        else:
            self.context.current = op
            self.attempt(op, partial(self.lowered_outputs, op, values, live))

    def attempt(self, op: Operation, lowered: Callable[[], Sequence[Value]]) -> None:
        """Store a node's outputs; whatever a malformed node raises on the way is a refusal that names the node."""
        try:
            self.store(op, lowered())
        except IntsimError as error:
            self.refuse(op, error)
        except MALFORMED as error:
            self.refuse(op, IntsimError(f"its inputs or attributes don't fit the operator: {error}"))

    def lowered_outputs(self, op: Operation, values: list[Value], live: bool) -> Sequence[Value]:
        """What the node's outputs are, `values` its inputs: constants, tensors of the host, or what its handler makes.

        Floats that no quantizer reads stay on the host, and so does what lies behind the last integer decision, but for
        what integers pass through unchanged.
        """
        check_types(op, self.types)
        if op.op in ("Shape", "Size"):
            return [self.known_shape(op, values[0])]
        if values and all(isinstance(v, Const | Fixed) for v in values):
            return self.folded(op, any(isinstance(v, Fixed) for v in values))
        if self.islands:
            return self.among_islands(op, values, live)
        self.check_mode(op, values, live)
        floats = [v for v in values if isinstance(v, Host)]
        integers = [v for v in values if isinstance(v, Expr | Curve | Masked | Waiting)]
        if floats and op.op not in QUANTIZERS:
            if integers and not any(v.after for v in floats):
                raise Refused("it mixes integers with a float input that no quantizer made an integer")
            return self.hosted(op, any(v.after for v in floats))
        handler = self.handler(op, integers, live)
        if handler is None and live and any(isinstance(v, Masked) for v in integers):
            return self.unmasked(op, live)
        if integers and not live and not (handler and self.stays_integer(op, integers)):
            return self.hosted(op, True)
        try:
            return self.by_handler(op, integers, live)
        except Refused:
            if handler is not None and integers and not live and on_host(op.op, op.domain):
                return self.hosted(op, True)
            raise

    def unmasked(self, op: Operation, live: bool) -> Sequence[Value]:
        """A node that no mask passes: what it makes of the numbers themselves, which must be finite."""
        kept = {n: v for n in op.inputs if isinstance(v := self.values.get(n), Masked)}
        self.values.update({n: masks.written_out(v) for n, v in kept.items()})
        try:
            return self.lowered_outputs(op, [self.values[n] for n in op.inputs if n], live)
        finally:
            self.values.update(kept)

    def among_islands(self, op: Operation, values: list[Value], live: bool) -> Sequence[Value]:
        """The same where float islands are allowed: a node whose result has no integer form runs on the host."""
        if op.op == "Dropout":
            self.check_mode(op, values, live)
        floats = [v for v in values if isinstance(v, Host)]
        integers = [v for v in values if isinstance(v, Integers)]
        host = on_host(op.op, op.domain) and op.op not in QUANTIZERS and op.op not in INTEGER_SUMS[:2]
        if host and (floats or (integers and not live and not self.stays_integer(op, integers))):
            mixed = bool(integers) and any(not v.after for v in floats)
            return self.island(op, bool(integers) or any(v.after for v in floats), live or mixed)
        try:
            return self.by_handler(op, integers, live)
        except Refused:
            if host:
                return self.island(op, True, live)
            if op.op in QUANTIZERS and integers and isinstance(self.values[op.inputs[0]], Expr | Curve):
                return self.quantized_island(op, live)
            raise

    def by_handler(self, op: Operation, integers: Sequence[Integers], live: bool) -> list[Value]:
        """What the node's handler makes, of numbers on a grid where these have no exact integers.

        Raises Refused where it has none, or that refuses.
        """
        before = len(self.graph.nodes)
        try:
            return self.exactly(op, integers, live)
        except IntsimError as refused:
            if not live or op.op not in GRIDDED | QUANTIZERS:
                raise
            for bits in GRID_BITS:
                self.context.forget(before)
                try:
                    with self.on_grids(op, bits):
                        values = [self.values[n] for n in op.inputs if n]
                        return self.exactly(op, [v for v in values if isinstance(v, Integers)], live)
                except IntsimError:
                    continue
            raise refused

    @contextmanager
    def on_grids(self, op: Operation, bits: int) -> Iterator[None]:
        """Meanwhile, integers of more bits are brought to a grid, and so are a node's inputs that have none at all."""
        before = {n: self.values[n] for n in op.inputs if n}
        self.context.bits = bits
        try:
            for name, value in before.items():
                if op.op in QUANTIZERS:
                    continue
                if isinstance(value, Curve | Waiting) or (isinstance(value, Expr) and self.wider(value, bits)):
                    self.values[name] = on_grid(self.context, value, bits)
            yield
        finally:
            self.context.bits = None
            self.values.update(before)

    def wider(self, value: Expr, bits: int) -> bool:
        """Whether an expression is a tensor of integers of more bits."""
        info = self.graph.tensors[value.tensor]
        return value.linear and bits_for(info.low, info.high) > bits

    def exactly(self, op: Operation, integers: Sequence[Integers], live: bool) -> list[Value]:
        """The same without a grid."""
        handler = self.handler(op, integers, live)
        if handler is None:
            raise Refused(self.no_handler(op, integers))
        made = handler(self.context, op)
        return as_integers(self.context, op, made if isinstance(made, Sequence) else [made])

    def island(self, op: Operation, after: bool, live: bool) -> list[Value]:
        """A node of the host; behind integers, where integers depend on it too, it is an island."""
        self.interrupted |= (after and live) or op.op in ISLANDS
        return self.hosted(op, after)

    def quantized_island(self, op: Operation, live: bool) -> Sequence[Value]:
        """A quantizer of integers that it can't be made of: of what they stand for, in the host's floats."""
        name = op.inputs[0]
        value = self.values[name]
        assert isinstance(value, Expr | Curve)
        self.host_shapes[name] = value.shape
        self.values[name] = Host(name, True)
        try:
            return self.by_handler(op, [], live)
        finally:
            self.values[name] = value
            self.interrupted = True

    def known_shape(self, op: Operation, value: Value) -> Const:
        """Shape or Size: a constant, as all shapes are known."""
        shape = np.array(shape_of(self.context, value), np.int64)
        part = slice(op.attributes.get("start"), op.attributes.get("end"))
        return Const(np.array(shape.prod()) if op.op == "Size" else shape[part])

    def check_mode(self, op: Operation, values: list[Value], live: bool) -> None:
        """Refuse a Dropout that drops, and a DequantizeLinear whose input is no integer tensor that this room reads."""
        if op.op == "Dropout" and len(values) > 2 and not (isinstance(values[2], Const) and not values[2].array.any()):
            raise Refused("it is or may be in training mode; export the model for inference")
        if op.op == "DequantizeLinear" and isinstance(values[0], Host):
            integers_of_the_host = values[0].after and self.types.get(op.inputs[0]) in INTEGERS and not live
            if not integers_of_the_host:
                raise Refused(self.no_codes(values[0]))

    def handler(self, op: Operation, integers: Sequence[Integers], live: bool) -> Handler | None:
        """What lowers a node that reads these; None if nothing does."""
        if any(isinstance(v, Masked) for v in integers) and op.op not in QUANTIZERS:
            return masks.handler_of(op, HANDLERS.get(op.op))
        if any(isinstance(v, Waiting) for v in integers) and op.op not in QUANTIZERS:
            return waiting.handler(op, partial(self.handler, live=live))
        if live and (handler := masks.masking(self.context, op)) is not None:
            return handler
        if any(isinstance(v, Curve) for v in integers) and op.op not in QUANTIZERS:
            return CURVES.get(op.op)
        if on_integers(self.context, op):
            return handler_of(op) or HANDLERS.get(op.op)
        return CURVES[op.op] if live and curves.meeting(self.context, op) else HANDLERS.get(op.op)

    def stays_integer(self, op: Operation, integers: Sequence[Integers]) -> bool:
        """Whether a node behind the last integer decision is lowered: it moves or sums integers, or adds a bias."""
        exact = op.op in MOVERS | SUMS | {"DequantizeLinear", "Identity"} or on_integers(self.context, op)
        return not any(isinstance(v, Curve | Masked | Waiting) for v in integers) and (
            exact or belongs(self.context, op)
        )

    def no_handler(self, op: Operation, integers: Sequence[Integers]) -> str:
        """Why nothing lowers a node."""
        if any(isinstance(v, Waiting) for v in integers):
            return waiting.UNROUNDED
        function = next((v for v in integers if isinstance(v, Curve)), None)
        if function is None or op.op in QUANTIZERS:
            advice = f": {STATES}" if op.op in ("GRU", "LSTM", "RNN") else ""
            return f"{op.op} is not supported between quantizers{advice}"
        made_by = "-".join(dict.fromkeys(function.made_by))
        return f"it reads {made_by} of {function.tensor} unrounded; put a quantizer in front"

    def hosted(self, op: Operation, after: bool) -> list[Value]:
        """What a node's outputs are where the host runs it."""
        if not on_host(op.op, op.domain):
            where = "behind the last quantizer" if after else "before the first quantizer"
            raise Refused(f"{op.op} is not supported {where}")
        return [Host(o, after) for o in op.outputs]

    def no_codes(self, value: Host) -> str:
        """Why a host tensor is not what a DequantizeLinear needs; names the node that took the codes, if one did."""
        name = value.name
        while (op := self.model.makers.get(name)) is not None:
            held = next((n for n in op.inputs if isinstance(self.values.get(n), Host)), None)
            if held is None:
                if any(isinstance(self.values.get(n), Expr) for n in op.inputs):
                    return f"{op.label}: {op.op} of integer codes is not supported"
                break
            name = held
        return "its input is not an integer tensor"

    def store(self, op: Operation, results: Sequence[Value]) -> None:
        """Remember what each output is; raises Refused for one that the results leave out."""
        for i, name in enumerate(op.outputs):
            if name and i >= len(results):
                raise Refused(f"its output {name} is not supported")
            if name:
                self.values[name] = results[i]

    def refuse(self, op: Operation, error: IntsimError) -> None:
        """Collect a refusal; readers of the node stay silent."""
        text = str(error).removeprefix(f"{self.model.path}: ").removeprefix(f"node {op.name}: ")
        if text.endswith(QUANTIZE_INPUTS) and (names := self.unrounded(op)):
            text = f"{text.removesuffix(QUANTIZE_INPUTS)}put a quantizer behind {' and '.join(names)}"
        self.refusals.append((op.shown, op.kind, text))
        self.store(op, [Broken() for _ in op.outputs])

    def unrounded(self, op: Operation) -> list[str]:
        """The inputs of a node that are computed, and no codes of a quantizer."""
        values = {n: self.values.get(n) for n in op.inputs}
        computed = {n: v for n, v in values.items() if isinstance(v, Expr | Curve | Waiting)}
        codes = {
            n for n, v in computed.items() if isinstance(v, Expr) and v.linear and self.graph.tensors[v.tensor].type
        }
        return [n for n in computed if n not in codes]

    def finish(self) -> LoweredModel:
        """Outputs, epilogue, prologue; nodes nobody reads are dropped."""
        if not self.graph.inputs:
            raise IntsimError(f"{self.model.path}: {self.nothing_integer()}")
        if self.interrupted:
            return self.finish_parts()
        self.islands, self.host_shapes = False, {}  # there are none: floats are what they are without being asked for
        outputs: dict[str, Expr | Host] = {}
        for name in self.model.outputs:
            value = self.values[name]
            value = Host(name, True) if isinstance(value, Curve | Masked | Waiting) else value
            if not isinstance(value, Expr | Host) or (isinstance(value, Host) and not value.after):
                raise IntsimError(f"{self.model.path}: output {name} doesn't depend on any quantized tensor")
            outputs[name] = value
            self.check_declared(name, self.model.outputs[name])
        epilogue = self.hosted_nodes([n for n, v in outputs.items() if isinstance(v, Host)], behind_integers=True)
        epilogue.check()
        ends: dict[str, Expr] = {}
        for name in [*epilogue.inputs, *(n for n, v in outputs.items() if isinstance(v, Expr))]:
            value = self.values[name]
            if isinstance(value, Expr):
                ends[name] = self.end(name, value)
        outputs |= {n: ends[n] for n in outputs if n in ends and isinstance(outputs[n], Expr)}
        self.graph.outputs = list(dict.fromkeys(t for e in ends.values() for t, _ in e.terms))
        self.prune()
        self.check_codes()
        kept = self.labelled([b for b in self.context.boundaries if b.tensor in self.graph.inputs])
        prologue = self.hosted_nodes(list(dict.fromkeys(b.host for b in kept)))
        prologue.check()
        codes = {
            n: v.terms[0][0] for n, v in [*self.values.items(), *ends.items()] if isinstance(v, Expr) and is_codes(v)
        }
        codes = {n: t for n, t in codes.items() if t in self.graph.tensors}
        return LoweredModel(
            self.model, self.graph, kept, prologue, epilogue, outputs, ends, self.row_functions(), codes
        )

    def check_declared(self, name: str, declared: int) -> None:
        """Raise IntsimError for an output of integers that the file declares as others."""
        made = self.types.get(name)
        if made is not None and declared != made and declared in INTEGERS:
            what = f"is declared {type_name(declared)}, but what makes it makes {type_name(made)}"
            raise IntsimError(f"{self.model.path}: output {name}: {what}")

    def finish_parts(self) -> LoweredModel:
        """The same of a model with float islands."""
        outputs: dict[str, Expr | Host] = {}
        for name, declared in self.model.outputs.items():
            value = self.values[name]
            if isinstance(value, Const | Fixed):
                raise IntsimError(f"{self.model.path}: output {name} doesn't depend on any input")
            outputs[name] = value if isinstance(value, Expr) else Host(name, True)
            self.check_declared(name, declared)
        of = {b.tensor: b for b in self.context.boundaries}
        needs = Needs(self.model, self.values, of, self.context.producer, self.end)
        needs.find(outputs)
        outputs |= {n: needs.ends[n] for n, v in outputs.items() if isinstance(v, Expr)}
        self.graph.outputs = list(dict.fromkeys(t for e in needs.ends.values() for t, _ in e.terms))
        self.prune()
        if not self.graph.inputs:
            raise IntsimError(f"{self.model.path}: {self.nothing_integer()}")
        self.check_codes()
        kept = self.labelled([b for t, b in of.items() if t in self.graph.inputs])
        needs.boundaries, needs.producer = {b.tensor: b for b in kept}, {n.output: n for n in self.graph.nodes}.get
        parts = cut(self.graph, needs, [n for n, v in outputs.items() if isinstance(v, Host)], self.types)
        codes = {n: v.terms[0][0] for n, v in [*self.values.items(), *needs.ends.items()] if is_codes(v)}  # type: ignore[union-attr]
        codes = {n: t for n, t in codes.items() if t in self.graph.tensors}
        first, last = parts[0].host, parts[-1].host
        ends, rows = needs.ends, self.row_functions()
        return LoweredModel(self.model, self.graph, kept, first, last, outputs, ends, rows, codes, parts)

    def labelled(self, boundaries: list[Boundary]) -> list[Boundary]:
        """Label what is of a module: its one multiply-accumulate by the module alone, others with their node behind.

        A module without one, of which a single node is left, has the label of that node. Returns the boundaries.
        """
        macs = {(n.module or "", n.source) for n in self.graph.nodes if isinstance(OPS[n.op], Mac)}
        sources = macs | {(n.module or "", n.source) for n in self.graph.nodes}
        sources |= {(b.module or "", b.source) for b in boundaries}
        in_macs, in_all = (Counter(module for module, _ in pairs) for pairs in (macs, sources))

        def label(module: str | None, source: str) -> str:
            if not module:
                return ""
            alone = in_all[module] == 1 or (in_macs[module] == 1 and (module, source) in macs)
            return module if alone else f"{module}/{source}"

        self.graph.nodes = [replace(n, label=label(n.module, n.source)) for n in self.graph.nodes]
        return [replace(b, label=label(b.module, b.source)) for b in boundaries]

    def nothing_integer(self) -> str:
        """What is missing where no quantizer and no integer input was found."""
        for op in self.model.operations:
            if op.op in MACS and any(isinstance(self.values.get(n), Fixed) for n in op.inputs[:2]):
                return f"{op.label}: {WEIGHTS}; quantize the activations too"
        what = "no quantizer and no integer input found: nothing here is integer"
        return f"{what}; quantize the model first (Brevitas, or any QONNX or QCDQ exporter)"

    def end(self, name: str, value: Expr) -> Expr:
        """What ends the integer part: integers of the file, and codes repeated by broadcasting, as a tensor of them."""
        self.context.current = self.model.makers.get(name)
        if self.context.current is None:
            return value
        if self.types.get(name) in INTEGERS:
            return settled(self.context, value)
        if value.linear:
            return replace(value, terms=((self.context.broadcast(value.tensor, value.shape), value.scale),))
        return value

    def row_functions(self) -> dict[str, Expr]:
        """The first ONNX tensor that each row function's integers stand for."""
        waiting = {n.output for n in self.graph.nodes if isinstance(OPS[n.op], RowFunction)}
        standing: dict[str, Expr] = {}
        for name, value in self.values.items():
            if isinstance(value, Expr) and value.linear and value.tensor in waiting:
                waiting.remove(value.tensor)
                standing[name] = value
        return standing

    def check_codes(self) -> None:
        """Refuse nodes that need codes and read what a Softmax or LayerNormalization makes."""
        try:
            deviations(self.graph)
        except IntsimError as error:
            raise IntsimError(f"{self.model.path}: can't be integer-only: {error}") from None

    def prune(self) -> None:
        """Drop nodes and inputs that no output needs."""
        needed = set(self.graph.outputs)
        kept = []
        for node in reversed(self.graph.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        self.graph.nodes = kept[::-1]
        self.graph.inputs = [i for i in self.graph.inputs if i in needed]
        self.graph.tensors = {n: t for n, t in self.graph.tensors.items() if n in needed}
