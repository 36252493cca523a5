"""ONNX quantizers: QuantizeLinear, DequantizeLinear, and Clip on their integers."""

from __future__ import annotations

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.frontend.codes import quantize_constant, quantize_rationals, quantized
from intsim.frontend.context import Boundary, Context, Refused
from intsim.frontend.expression import Const, Curve, Expr, Fixed, Host, Value, compress, spread
from intsim.frontend.parameters import (
    ONNX_INTEGERS,
    along_axis,
    as_array,
    constant,
    element_type,
    positive_scale,
    shape_of,
)
from intsim.frontend.reader import Operation
from intsim.frontend.registry import QUANTIZERS, lowers
from intsim.frontend.tables import tabulate
from intsim.frontend.types import type_name
from intsim.graph import Rationals, rationals


@lowers("QuantizeLinear", kind=QUANTIZERS)
def quantize_linear(context: Context, node: Operation) -> Value:
    """ONNX QuantizeLinear: saturate(round_half_even(x / y_scale) + y_zero_point); gives the integer codes."""
    value = context.value(node.inputs[0])
    shape = shape_of(context, value)
    scale = positive_scale(along_axis(constant(context, node, 1, "scale"), shape, node))
    kind: IntegerType | None = IntegerType(8, False)
    zeros = np.zeros((), np.int64)
    if len(node.inputs) > 2 and node.inputs[2]:
        array = constant(context, node, 2, "zero point")
        kind, zeros = element_type(array), along_axis(array.astype(np.int64), shape, node)
        zeros = zeros.reshape(()) if zeros.size == 1 else zeros
    elif node.attributes.get("output_dtype"):
        if node.attributes["output_dtype"] not in ONNX_INTEGERS:
            raise Refused("its output type is not an integer type")
        kind = IntegerType(*ONNX_INTEGERS[node.attributes["output_dtype"]])
    if kind is None:
        raise Refused("its output type is a float type; intsim takes integer types")
    bounds, output = _following_clip(context, node, kind)
    if zeros.size > 1:
        unique = np.unique(zeros)
        if unique.size > 1:
            return _codes(_per_channel_zero(context, node, scale, zeros, kind, bounds, output), kind)
        zeros = unique[0]
    result = quantized(context, node, scale, rationals(0), int(zeros), "half_even", kind, bounds, output)
    return _codes(result, kind)


def _per_channel_zero(
    context: Context,
    node: Operation,
    scale: Rationals,
    zeros: np.ndarray,
    kind: IntegerType,
    bounds: tuple[int, int] | None,
    output: str | None,
) -> Value:
    """QuantizeLinear with several zero points: round first, then add the zero point, then saturate."""
    value = context.value(node.inputs[0])
    low, high = bounds or (kind.min, kind.max)
    real = rationals(zeros)
    if isinstance(value, Const | Fixed):
        limits = scale, rationals(0), 0, "half_even", -(1 << 62), 1 << 62
        if isinstance(value, Fixed):
            codes = quantize_rationals(value.real(), *limits)
        else:
            codes = quantize_constant(value.array, *limits)
        return Fixed(np.clip(codes + zeros, low, high), scale, -real * scale, kind)
    if isinstance(value, Host):
        span = int(np.abs(zeros).max())
        inner = Boundary(
            context.fresh(f"{output or node.outputs[0]}~rounded"),
            value.name,
            scale,
            rationals(0),
            0,
            "half_even",
            low - span,
            high + span,
        )
        shape = context.host_shape(value.name)
        wide_kind = IntegerType(kind.bits + 2, True)
        value = context.host_input(inner, shape, wide_kind, (scale * 0 + 1, scale * 0))
        one = scale * 0 + 1
    else:
        assert isinstance(value, Expr | Curve)
        plain = scale, rationals(0), 0, "half_even", None, None, None, None, (scale * 0 + 1, scale * 0)
        value = tabulate(context, value, *plain) if isinstance(value, Curve) else context.quantize(value, *plain)
        one = scale * 0 + 1
    return context.quantize(
        value, one, real, 0, "half_even", low, high, kind, output or node.outputs[0], (scale, -real * scale)
    )


def _following_clip(context: Context, node: Operation, kind: IntegerType) -> tuple[tuple[int, int] | None, str | None]:
    """Bounds of an integer Clip that alone reads this node, so that both become one requantizer.

    They are what the Clip makes of the type's ends: max(x, lower) first, so that an upper bound below the lower wins.
    """
    output = node.outputs[0]
    readers = [op for op in context.model.operations if output in op.inputs]
    if len(readers) != 1 or readers[0].op != "Clip" or output in context.model.outputs or context.model.opset < 11:
        return None, None
    clip, edges = readers[0], [kind.min, kind.max]
    for i, name in enumerate(clip.inputs[1:3]):
        if name:
            value = context.values.get(name)
            if not isinstance(value, Const) or value.array.size != 1 or element_type(value.array) != kind:
                return None, None
            edges[i] = int(value.array.reshape(-1)[0])
    low, high = (min(max(end, edges[0]), edges[1]) for end in (kind.min, kind.max))
    return (low, high), clip.outputs[0]


def _codes(value: Value, kind: IntegerType) -> Value:
    """The integer codes themselves as the value (scale one, offset zero)."""
    if isinstance(value, Fixed):
        return Fixed(value.codes, rationals(1), rationals(0), kind)
    if isinstance(value, Expr):
        one, zero = rationals(1), rationals(0)
        rank = len(value.shape)
        return Expr(value.shape, ((value.terms[0][0], spread(one, rank)),), spread(zero, rank))
    return value


@lowers("DequantizeLinear")
def dequantize_linear(context: Context, node: Operation) -> Value:
    """ONNX DequantizeLinear: (x - x_zero_point) * x_scale."""
    value = context.value(node.inputs[0])
    if isinstance(value, Const):
        kind = element_type(value.array)
        if kind is None:
            raise Refused("its input is not an integer tensor")
        value = Fixed(value.array.astype(np.int64), rationals(1), rationals(0), kind)
    shape = shape_of(context, value)
    scale = positive_scale(along_axis(constant(context, node, 1, "scale"), shape, node))
    zero = rationals(0)
    if len(node.inputs) > 2 and node.inputs[2]:
        own, theirs = (context.types.get(node.inputs[i]) for i in (0, 2))
        if own is not None and theirs is not None and own != theirs:
            raise Refused(f"its input is {type_name(own)}, its zero point {type_name(theirs)}; ONNX wants one type")
        zero = rationals(along_axis(constant(context, node, 2, "zero point").astype(np.int64), shape, node))
    rank = len(shape)
    scale, offset = spread(scale, rank), spread(as_array(-zero * scale), rank)
    if isinstance(value, Fixed):
        return Fixed(value.codes, compress(value.scale * scale), compress(value.offset * scale + offset), value.type)
    assert isinstance(value, Expr)
    result = value.affine(scale, offset, shape)
    if len(result.terms) == 1 and not result.steps:
        context.describe(result.terms[0][0], result.terms[0][1], result.offset)
    return result
