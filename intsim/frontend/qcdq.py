"""ONNX quantizers: QuantizeLinear, DequantizeLinear, and Clip on their integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.frontend.codes import constant_codes, quantized, requantized
from intsim.frontend.context import Context, Quantizer, Refused
from intsim.frontend.expression import (
    ONE,
    ZERO,
    Const,
    Curve,
    Expr,
    Fixed,
    Host,
    Value,
    Waiting,
    as_codes,
    compress,
    spread,
)
from intsim.frontend.parameters import (
    ONNX_INTEGERS,
    along_axis,
    constant,
    element_type,
    positive_scale,
    scale_of,
    shape_of,
)
from intsim.frontend.reader import Operation
from intsim.frontend.registry import QUANTIZERS, lowers
from intsim.frontend.types import type_name
from intsim.graph import rationals


@lowers("QuantizeLinear", kind=QUANTIZERS)
def quantize_linear(context: Context, node: Operation) -> Value:
    """ONNX QuantizeLinear: saturate(round_half_even(x / y_scale) + y_zero_point); gives the integer codes."""
    value = context.value(node.inputs[0])
    shape = shape_of(context, value)
    scale = positive_scale(along_axis(constant(context, node, 1, "scale"), shape, node))
    kind: IntegerType | None = IntegerType(8, False)
    zeros = np.zeros(1, np.int64)
    if node.optional(2):
        array = constant(context, node, 2, "zero point")
        kind, zeros = element_type(array), along_axis(array.astype(np.int64), shape, node)
    elif node.attributes.get("output_dtype"):
        if node.attributes["output_dtype"] not in ONNX_INTEGERS:
            raise Refused("its output type is not an integer type")
        kind = IntegerType(*ONNX_INTEGERS[node.attributes["output_dtype"]])
    if kind is None:
        raise Refused("its output type is a float type; intsim takes integer types")
    bounds, output = following_clip(context, node, kind)
    if (zeros == zeros.flat[0]).all():
        quantizer = Quantizer(scale, ZERO, int(zeros.flat[0]), "half_even", bounds, kind)
        return _codes(quantized(context, node, quantizer, output), kind)
    quantizer = Quantizer(scale, ZERO, 0, "half_even", bounds, kind)
    return _codes(_per_channel_zero(context, node, quantizer, zeros, output), kind)


def _per_channel_zero(context: Context, node: Operation, quantizer: Quantizer, zeros: np.ndarray, output: str) -> Value:
    """QuantizeLinear with several zero points: round first, then add the zero point, then saturate."""
    value, kind = context.value(node.inputs[0]), quantizer.kind
    assert quantizer.bounds is not None
    assert kind is not None
    (low, high), span = quantizer.bounds, int(np.abs(zeros).max())
    rounded = replace(quantizer, bounds=(low - span, high + span), kind=IntegerType(kind.bits + 2, True))
    if isinstance(value, Const | Fixed):
        return Fixed(np.clip(constant_codes(value, rounded) + zeros, low, high), ONE, ZERO, kind)
    if isinstance(value, Host):
        codes = context.host_input(value.name, rounded, context.fresh(f"{output}~rounded"), (ONE, ZERO))
    else:
        assert isinstance(value, Expr | Curve | Waiting)
        # a function of accumulators would have steps beyond all codes
        bounds = None if isinstance(value, Expr) else rounded.bounds
        codes = requantized(context, value, replace(quantizer, bounds=bounds, kind=None), None, (ONE, ZERO))
    shifted = Quantizer(ONE, rationals(zeros), 0, "half_even", quantizer.bounds, kind)
    return context.quantize(codes, shifted, output, (quantizer.scale, -shifted.before * quantizer.scale))


def following_clip(context: Context, node: Operation, kind: IntegerType) -> tuple[tuple[int, int], str]:
    """Bounds and output: the type's and the node's own, or those of an integer Clip that alone reads the node.

    Both become one requantizer then. Its bounds are what the Clip makes of the type's ends: max(x, lower) first, so
    that an upper bound below the lower wins.
    """
    own, output = ((kind.min, kind.max), node.outputs[0]), node.outputs[0]
    readers = context.model.readers.get(output, [])
    if len(readers) != 1 or readers[0].op != "Clip" or output in context.model.outputs or context.model.opset < 11:
        return own
    clip, edges = readers[0], [kind.min, kind.max]
    for i, name in enumerate(clip.inputs[1:3]):
        if name:
            value = context.values.get(name)
            if not isinstance(value, Const) or value.array.size != 1 or element_type(value.array) != kind:
                return own
            edges[i] = int(value.array.reshape(-1)[0])
    low, high = (min(max(end, edges[0]), edges[1]) for end in (kind.min, kind.max))
    return (low, high), clip.outputs[0]


def _codes(value: Value, kind: IntegerType) -> Value:
    """The integer codes themselves as the value (scale one, offset zero)."""
    if isinstance(value, Fixed):
        return Fixed(value.codes, ONE, ZERO, kind)
    return as_codes(value.tensor, value.shape) if isinstance(value, Expr) else value


@lowers("DequantizeLinear")
def dequantize_linear(context: Context, node: Operation) -> Value:
    """ONNX DequantizeLinear: (x - x_zero_point) * x_scale."""
    value = context.value(node.inputs[0])
    if isinstance(value, Const):
        kind = element_type(value.array)
        if kind is None:
            raise Refused("its input is not an integer tensor")
        value = Fixed(value.array.astype(np.int64), ONE, ZERO, kind)
    shape = shape_of(context, value)
    scale = scale_of(along_axis(constant(context, node, 1, "scale"), shape, node), value)
    offset = ZERO
    if node.optional(2):
        own, theirs = (context.types.get(node.inputs[i]) for i in (0, 2))
        if own is not None and theirs is not None and own != theirs:
            raise Refused(f"its input is {type_name(own)}, its zero point {type_name(theirs)}; ONNX wants one type")
        zero = along_axis(constant(context, node, 2, "zero point").astype(np.int64), shape, node)
        if zero.any():
            offset = -rationals(zero) * scale
    rank = len(shape)
    scale, offset = spread(scale, rank), spread(offset, rank)
    if isinstance(value, Fixed):
        if value.scale is ONE and value.offset is ZERO:
            return Fixed(value.codes, compress(scale), compress(offset), value.type)
        return Fixed(value.codes, compress(value.scale * scale), compress(value.offset * scale + offset), value.type)
    assert isinstance(value, Expr)
    return context.dequantized(value, scale, offset)
