"""A network with fewer bits: its own codes without their least significant bits, as a file of the same dialect.

Nothing is trained again. Of a quantizer of b bits that gets n, with d = b - n:

    scale' = 2^d scale (exact)      zero' = round_half_even(zero / 2^d)      its rounding stays (but of weights)
    weights  q' = clip(round_half_even((q - zero) / 2^d) + zero')            of the codes q that the file has

The result is a file that any executor of the dialect can run. Scales of layers follow from those of their operands,
biases keep their value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from intsim.arithmetic.integers import IntegerType, bits_for
from intsim.errors import IntsimError
from intsim.frontend.expression import Const, Fixed
from intsim.frontend.lower import Lowering
from intsim.frontend.names import Fresh
from intsim.frontend.parameters import ONNX_INTEGERS, element_type
from intsim.frontend.qcdq import following_clip
from intsim.frontend.reader import Operation
from intsim.frontend.registry import QUANTIZERS
from intsim.model import Model, load
from intsim.ops import OPS, Mac
from intsim.targets import Target
from intsim.verification.exact_file import needed_of
from intsim.verification.executed import opened
from intsim.verification.standard import refill

Widths = int | Mapping[str, int]
"""Bits for all, or by name or pattern (`head_*`); what none names stays as it is."""
MOST_BITS = 32
"""That may be asked for, as QONNX allows them."""
MOST_BYTES = (1 << 31) - 1
"""Of a protobuf message."""
QUANT = ("Quant", "IntQuant")
DIRECTED = (b"CEIL", b"FLOOR", b"UP", b"DOWN")
"""Rounding modes that a number a little off its code is rounded away from it by."""
WEIGHT = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}
"""Operands that may be weights."""
MOVES = (
    *("DepthToSpace", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "SpaceToDepth", "Split"),
    *("Squeeze", "Transpose", "Unsqueeze"),
)
"""Operators that hand on codes of their first input, whatever these stand for."""


@dataclass(frozen=True)
class CodeSource:
    """What makes codes of a network: a quantizer of activations, or the weights of layers.

    Attributes:
        kind: "weights" or "activations".
        names: of the layers that read the weights; of a quantizer, its module and node, and the tensor that it makes.
        bits: of its codes as they are; weights may need fewer than their type has.
        type: of the codes, as wide as `bits`, narrow where the file's is.
        quantizer: the node that has scale and zero point: a quantizer, or the DequantizeLinear of integer weights.
        readers: of codes, the nodes DequantizeLinear that read them.
        codes: what holds the codes of QuantizeLinear, behind a Clip of its own; "" of others.
        low, high: what a QuantizeLinear is clipped to.
    """

    kind: Literal["weights", "activations"]
    names: tuple[str, ...]
    bits: int
    type: IntegerType
    quantizer: Operation
    readers: tuple[Operation, ...] = ()
    codes: str = ""
    low: int = 0
    high: int = 0

    def wanted(self, widths: Widths) -> int | None:
        """The bits that it is to have; None where that is what it has, or nothing is asked of it."""
        if isinstance(widths, int):
            asked: int | None = widths
        else:
            asked = next((b for p, b in widths.items() if any(n == p or fnmatchcase(n, p) for n in self.names)), None)
        return asked if asked is not None and asked < self.bits else None


class Narrowing:
    """The codes of a file, and the same file with narrower ones."""

    def __init__(self, model: str | Path | onnx.ModelProto | Model) -> None:
        """Read what the quantizers of a model's file are. Raises IntsimError for a file that can't be lowered."""
        loaded = model if isinstance(model, Model) else load(model)
        # of the graph that a runtime makes of a file it is the file
        own, file = loaded.lowered.source, loaded.file
        self.source = own if file is None else load(file, ranges=own.ranges).lowered.source
        self.path = loaded.path
        lowering = Lowering(self.source)
        graph = lowering.lowered().graph
        self.context, self.values, self.types = lowering.context, lowering.values, lowering.types
        self.names: dict[str, tuple[str, ...]] = {}
        self.layers = {n.source for n in graph.nodes if isinstance(OPS[n.op], Mac)}
        for node in graph.nodes:
            self.names.setdefault(node.source, ())
            self.names[node.source] = tuple(dict.fromkeys((*self.names[node.source], node.shown, node.source)))

    def weights(self) -> list[CodeSource]:
        """Weights of all layers. Raises IntsimError for a layer whose weights no quantizer of its own made."""
        layers: dict[str, list[Operation]] = {}
        quantizers: dict[str, Operation] = {}
        for op in self.source.operations:
            if op.name not in self.layers:
                continue
            constants = [n for n in op.inputs[:2] if isinstance(self.values.get(n), Const | Fixed)]
            if op.op not in WEIGHT:
                raise self.refused(op, f"{op.op} holds its scales itself; only QONNX and QCDQ files can be narrowed")
            for name in constants:
                maker = self._quantizer(op, name)
                layers.setdefault(maker.outputs[0], []).append(op)
                quantizers[maker.outputs[0]] = maker
        return [self._weights(quantizers[output], readers) for output, readers in layers.items()]

    def _quantizer(self, layer: Operation, name: str) -> Operation:
        """What made a layer's weights, behind what only moves them."""
        maker = self.source.makers.get(name)
        while maker is not None and maker.op in MOVES:
            maker = self.source.makers.get(maker.inputs[0])
        if maker is not None and maker.op == "BipolarQuant":
            raise self.refused(layer, "its weights have one bit, and can't be narrowed")
        if maker is None or maker.op not in (*QUANT, "DequantizeLinear"):
            raise self.refused(layer, "its weights have no quantizer of their own, and can't be narrowed")
        return maker

    def _weights(self, quantizer: Operation, readers: Sequence[Operation]) -> CodeSource:
        fixed = self.values[quantizer.outputs[0]]
        assert isinstance(fixed, Fixed)
        assert fixed.type is not None
        low, high = int(fixed.codes.min(initial=0)), int(fixed.codes.max(initial=0))
        least = (b for b in range(1, fixed.type.bits) if IntegerType(b, fixed.type.signed).contains(low, high))
        bits = next(least, fixed.type.bits)
        names = tuple(dict.fromkeys(n for r in readers for n in self.names.get(r.name, (r.name,))))
        kind = IntegerType(bits, fixed.type.signed, fixed.type.narrow)
        return CodeSource("weights", names, bits, kind, quantizer)

    def activations(self) -> list[CodeSource]:
        """Every quantizer of activations but those of one bit. Raises IntsimError for one that can't be narrowed."""
        made = []
        for op in self.source.operations:
            if op.op not in QUANTIZERS or op.op == "BipolarQuant":
                continue
            if op.op not in (*QUANT, "QuantizeLinear"):
                raise self.refused(op, f"{op.op} holds its scales itself; only QONNX and QCDQ files can be narrowed")
            if not isinstance(self.values.get(op.outputs[0]), Const | Fixed):
                made.append(self._quant(op) if op.op in QUANT else self._quantize_linear(op))
        return [m for m in made if m is not None]

    def _names_of(self, op: Operation, output: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.names.get(op.name, ()), op.name, output)))

    def _quant(self, op: Operation) -> CodeSource | None:
        bits = int(self.constant(op.inputs[3]).reshape(-1)[0])
        kind = IntegerType(bits, bool(op.attributes.get("signed", 1)), bool(op.attributes.get("narrow", 0)))
        if bits == 1 and kind.signed:
            return None
        return CodeSource("activations", self._names_of(op, op.outputs[0]), bits, kind, op)

    def _quantize_linear(self, op: Operation) -> CodeSource:
        declared = element_type(self.constant(op.inputs[2])) if op.optional(2) else None
        kind = declared or IntegerType(*ONNX_INTEGERS[self.types[op.outputs[0]]])
        (low, high), codes = following_clip(self.context, op, kind)
        bits = bits_for(low, high) if kind.signed else max(1, high.bit_length())
        readers = tuple(self._readers(op, codes))
        names = self._names_of(op, codes)
        return CodeSource("activations", names, bits, IntegerType(bits, kind.signed), op, readers, codes, low, high)

    def _readers(self, op: Operation, codes: str) -> Iterator[Operation]:
        """The nodes DequantizeLinear that read a quantizer's codes, behind what only moves them."""
        if codes in self.source.outputs:
            raise self.refused(op, "its codes are an output of the file, and can't be narrowed")
        for reader in self.source.readers.get(codes, ()):
            if reader.op == "DequantizeLinear" and reader.inputs[0] == codes:
                yield reader
            elif reader.op in MOVES and reader.inputs[0] == codes:
                yield from chain.from_iterable(self._readers(op, output) for output in reader.outputs)
            else:
                raise self.refused(op, f"its codes are read by {reader.label}, and can't be narrowed")

    def refused(self, op: Operation, reason: str) -> IntsimError:
        """An error that names a node."""
        return IntsimError(f"{self.source.path}: {op.label}: {reason}")

    def constant(self, name: str) -> NDArray[Any]:
        """A constant tensor of the file; floats that nodes computed are float64."""
        value = self.values[name]
        assert isinstance(value, Const)
        return value.array

    def narrowed(self, weights: Widths | None = None, activations: Widths | None = None) -> onnx.ModelProto:
        """The file with these widths; see `narrow`."""
        file = _File(self)
        for widths, sources, what in ((weights, self.weights, "layer"), (activations, self.activations, "quantizer")):
            if widths is None:
                continue
            made = sources()
            _check(self.source.path, widths, made, what)
            for one in made:
                bits = one.wanted(widths)
                if bits is not None:
                    self._least(one, bits)
                    file.narrow(one, bits)
        return file.finished()

    def opened(self, target: Target, weights: Widths | None = None, activations: Widths | None = None) -> Model:
        """The network of that file as a target runs it, by the model's own name."""
        made = opened(self.narrowed(weights, activations), target=target, ranges=self.source.ranges)
        made.lowered.source.path = self.path
        return made

    def changes(self, weights: Widths | None = None, activations: Widths | None = None) -> list[tuple[CodeSource, int]]:
        """All codes of the kinds that are asked for, and the bits that they have then."""
        asked = ((weights, self.weights), (activations, self.activations))
        return [(s, s.wanted(w) or s.bits) for w, sources in asked if w is not None for s in sources()]

    def _least(self, one: CodeSource, bits: int) -> None:
        if bits < 1 + one.type.signed:
            raise self.refused(one.quantizer, f"its codes are signed, which needs 2 bits at least, not {bits}")


def _check(path: str, widths: Widths, sources: Sequence[CodeSource], what: str) -> None:
    """Refuse widths that are none, and names that nothing has."""
    for bits in [widths] if isinstance(widths, int) else widths.values():
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= MOST_BITS:
            raise IntsimError(f"{path}: a width of {bits!r} bits; allowed: 1..{MOST_BITS}")
    if not isinstance(widths, int):
        for pattern in widths:
            if not any(n == pattern or fnmatchcase(n, pattern) for s in sources for n in s.names):
                known = ", ".join([s.names[0] for s in sources[:8]] + ["..."] * (len(sources) > 8))
                raise IntsimError(f"{path}: no {what} named {pattern}; there are {known}")


class _File:
    """A copy of a file that gets other constants."""

    def __init__(self, own: Narrowing) -> None:
        self.own = own
        self.proto = needed_of(own.source)
        self.nodes = {output: node for node in self.proto.graph.node for output in node.output if output}
        self.fresh = Fresh(own.source.names)

    def narrow(self, one: CodeSource, bits: int) -> None:
        """Change a quantizer to codes of `bits`."""
        drop = one.bits - bits
        node = self.nodes[one.quantizer.outputs[0]]
        if one.kind == "weights":
            self._weights(one, node, drop, IntegerType(bits, one.type.signed, one.type.narrow))
        elif one.codes:
            self._clip(one, node, drop)
        self._scale(one.quantizer, node, drop)
        if one.quantizer.op in QUANT:
            width = np.full_like(self.own.constant(one.quantizer.inputs[3]), bits)
            node.input[3] = self._stored(f"{one.quantizer.outputs[0]}_bits", width)
        for reader in one.readers:
            self._scale(reader, self.nodes[reader.outputs[0]], drop)

    def _scale(self, op: Operation, node: onnx.NodeProto, drop: int) -> None:
        """2^drop times the scale of a node, and its zero point divided by it."""
        held = self.own.constant(op.inputs[1])
        scale = held.astype(onnx.helper.tensor_dtype_to_np_dtype(self.own.types[op.inputs[1]]))
        wide = scale.astype(np.float64) * 2.0**drop
        with np.errstate(over="ignore"):
            kept = wide.astype(scale.dtype)
        if not (held * 2.0**drop == wide).all() or not (kept.astype(np.float64) == wide).all():
            raise self.own.refused(op, "its scale is computed by other nodes, or too large, and can't be changed")
        node.input[1] = self._stored(f"{op.outputs[0]}_scale", kept)
        if op.optional(2):
            zero = self.own.constant(op.inputs[2])
            node.input[2] = self._stored(f"{op.outputs[0]}_zero_point", _rounded_zero(zero, drop))

    def _weights(self, one: CodeSource, node: onnx.NodeProto, drop: int, kind: IntegerType) -> None:
        op, fixed = one.quantizer, self.own.values[one.quantizer.outputs[0]]
        assert isinstance(fixed, Fixed)
        zero = np.asarray(-fixed.offset / fixed.scale)
        if all(z.denominator == 1 for z in zero.reshape(-1)):
            zero = zero.astype(np.int64)
        new = _halved(zero, drop)
        codes = np.clip(_halved(fixed.codes - zero, drop) + new, kind.min, kind.max)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.own.types[op.inputs[0]])
        held = codes.astype(dtype)
        if op.op in QUANT:  # of numbers that are those codes, the quantizer makes them again
            scale = self.own.constant(op.inputs[1]).astype(np.float64) * 2.0**drop
            with np.errstate(over="ignore", invalid="ignore"):
                held = ((codes - new) * scale).astype(dtype)
                again = np.rint(held.astype(np.float64) / scale) + new
            if not (again == codes).all():
                raise self.own.refused(op, f"its codes times their scale don't fit {held.dtype}")
            _to_nearest(node)
        node.input[0] = self._stored(f"{op.outputs[0]}_weights", held)

    def _clip(self, one: CodeSource, node: onnx.NodeProto, drop: int) -> None:
        """Behind a QuantizeLinear, in the place of its own Clip if it has one."""
        if self.own.source.opset < 12:
            raise self.own.refused(one.quantizer, f"opset {self.own.source.opset} clips no integers; convert to 13")
        element = self.own.types[one.quantizer.outputs[0]]
        if ONNX_INTEGERS[element][0] < 8:
            raise self.own.refused(one.quantizer, "ONNX clips no codes of less than 8 bits; quantize to int8")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(element)
        high = one.high >> drop
        edges = {"low": min(-(-one.low >> drop), high), "high": high}
        stored = [self._stored(f"{one.codes}_{end}", np.asarray(v, dtype)) for end, v in edges.items()]
        if one.codes != one.quantizer.outputs[0]:
            clip = self.nodes[one.codes]
            del clip.input[1:]
            clip.input.extend(stored)
            return
        wide = self.fresh(f"{one.codes}_wide")
        node.output[0] = wide
        clip = onnx.helper.make_node("Clip", [wide, *stored], [one.codes], self.fresh(f"{one.codes}_clip"))
        self.proto.graph.node.insert(list(self.proto.graph.node).index(node) + 1, clip)

    def _stored(self, stem: str, array: NDArray[Any]) -> str:
        name = self.fresh(stem)
        self.proto.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def finished(self) -> onnx.ModelProto:
        """With all that its nodes read, and no constants that nothing reads."""
        graph, constants = self.proto.graph, self.own.source.constants
        read = {n for node in graph.node for n in node.input} | {o.name for o in graph.output}
        kept = [i for i in graph.initializer if i.name in read]
        for initializer in kept:
            if initializer.data_location == onnx.TensorProto.EXTERNAL:
                initializer.CopyFrom(numpy_helper.from_array(constants[initializer.name], initializer.name))
        inputs = {i.name for i in graph.input} - {i.name for i in kept}
        kept += [numpy_helper.from_array(a, n) for n, a in constants.items() if n in inputs]
        refill(graph.initializer, kept)
        if self.proto.ByteSize() > MOST_BYTES:
            raise IntsimError(f"{self.own.source.path}: too large for one ONNX file")
        self.proto.ir_version = max(self.proto.ir_version, 4)  # before it every constant was an input too
        return self.proto


def _to_nearest(node: onnx.NodeProto) -> None:
    """Let a QONNX quantizer round what lies on its grid, up to float32, to the code that it is: others may miss it."""
    for attribute in node.attribute:
        if attribute.name == "rounding_mode" and attribute.s.upper() in DIRECTED:
            attribute.s = b"ROUND"


def _halved(values: NDArray[Any], drop: int) -> NDArray[np.int64]:
    """round_half_even(values / 2^drop), of integers or Fractions."""
    if values.dtype == object:
        return np.array([round(v / (1 << drop)) for v in values.reshape(-1)], np.int64).reshape(values.shape)
    if not drop:
        return values
    low = values >> drop
    rest, half = values - (low << drop), 1 << (drop - 1)
    return low + ((rest > half) | ((rest == half) & (low % 2 != 0)))


def _rounded_zero(zero: NDArray[Any], drop: int) -> NDArray[Any]:
    """A zero point in its type; QONNX's are floats."""
    if zero.dtype.kind == "f":
        return np.rint(zero / 2.0**drop).astype(zero.dtype)
    return _halved(zero.astype(np.int64), drop).astype(zero.dtype)


def narrow(
    model: str | Path | onnx.ModelProto | Model, weights: Widths | None = None, activations: Widths | None = None
) -> onnx.ModelProto:
    """A network with fewer bits of weights and activations, as a file of the same dialect.

    Args:
        model: path, ModelProto or what `load` returned; QONNX or QCDQ.
        weights, activations: bits 1..32 for all, or by name or pattern: of layers, and of quantizers (their module,
            node or tensor). What has no more bits than that stays, and so do codes of one bit.

    Raises:
        IntsimError: a file that can't be lowered; operators that hold their scales themselves (QLinearConv and the
            like); weights without a quantizer; codes that something else than DequantizeLinear reads; a width or
            name that can't be.
    """
    return Narrowing(model).narrowed(weights, activations)
