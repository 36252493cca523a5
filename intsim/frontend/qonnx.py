"""QONNX quantizers: Quant, BipolarQuant, Trunc (qonnx.custom_op.general)."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.frontend.codes import quantized
from intsim.frontend.context import ZERO, Boundary, Context, Refused
from intsim.frontend.expression import Const, Curve, Expr, Fixed, Host, Value, spread
from intsim.frontend.parameters import as_array, bit_width, check_fit, constant, positive_scale
from intsim.frontend.reader import Operation
from intsim.frontend.registry import QUANTIZERS, lowers
from intsim.frontend.tables import tabulate
from intsim.graph import Rationals, rationals

ROUNDING = {
    "ROUND": "half_even",
    "HALF_EVEN": "half_even",
    "CEIL": "ceil",
    "FLOOR": "floor",
    "UP": "away",
    "DOWN": "toward_zero",
    "HALF_UP": "half_away",
    "HALF_DOWN": "half_toward_zero",
}
"""QONNX rounding_mode to rounding name; qonnx.custom_op.general.intquant, resolve_rounding_mode."""


@lowers("Quant", "IntQuant", kind=QUANTIZERS)
def quant(context: Context, node: Operation) -> Value:
    """QONNX Quant: y = round(clip(x / scale + zero_point)); the value is (y - zero_point) * scale."""
    scale = positive_scale(constant(context, node, 1, "scale"))
    zero = rationals(constant(context, node, 2, "zero point"))
    bits = bit_width(constant(context, node, 3, "bit width"))
    signed, narrow = bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 0))
    mode = str(node.attributes.get("rounding_mode", "ROUND")).upper()
    if mode not in ROUNDING:
        raise Refused(f"rounding mode {mode} is unknown; known are {', '.join(ROUNDING)}")
    if bits == 1 and signed:
        return _bipolar(context, node, scale, zero)
    kind = IntegerType(bits, signed, narrow)
    return quantized(context, node, scale, zero, 0, ROUNDING[mode], kind)


@lowers("BipolarQuant", kind=QUANTIZERS)
def bipolar_quant(context: Context, node: Operation) -> Value:
    """QONNX BipolarQuant: +scale where x >= 0, else -scale."""
    return _bipolar(context, node, positive_scale(constant(context, node, 1, "scale")), rationals(0))


def _bipolar(context: Context, node: Operation, scale: Rationals, zero: Rationals) -> Value:
    """+1 where x / scale + zero >= 0 else -1; the value is (y - zero) * scale."""
    value, kind, output = context.value(node.inputs[0]), IntegerType(2, True, True), node.outputs[0]
    check_fit(context, value, scale, zero)
    meaning = (scale, -zero * scale)
    if isinstance(value, Host):
        boundary = Boundary(output, value.name, scale, zero, 0, "half_even", -1, 1, bipolar=True)
        return context.host_input(boundary, context.host_shape(value.name), kind, meaning)
    if isinstance(value, Const | Fixed):
        real = value.real() if isinstance(value, Fixed) else rationals(value.array)
        codes = np.where(real / scale + zero >= 0, 1, -1).astype(np.int64)
        return Fixed(codes, spread(scale, codes.ndim) if scale.size > 1 else scale, as_array(meaning[1]), kind)
    if isinstance(value, Curve):
        return tabulate(context, value, scale, zero, 0, "half_even", -1, 1, kind, output, meaning, bipolar=True)
    assert isinstance(value, Expr)
    return context.quantize(value, scale, zero, 0, "half_even", -1, 1, kind, output, meaning, bipolar=True)


@lowers("Trunc", kind=QUANTIZERS)
def trunc(context: Context, node: Operation) -> Value:
    """QONNX Trunc, versions 1 (five inputs) and 2 (six): integers, divided by a power of two and rounded again.

    Version 1 keeps scale and zero point; version 2 has an output scale, clips before rounding and divides the zero
    point as well (qonnx.custom_op.general.trunc).
    """
    scale = positive_scale(constant(context, node, 1, "scale"))
    zero = rationals(constant(context, node, 2, "zero point"))
    bits_in = bit_width(constant(context, node, 3, "input bit width"))
    mode = str(node.attributes.get("rounding_mode", "FLOOR")).upper()
    if mode not in ROUNDING:
        raise Refused(f"rounding mode {mode} is unknown; known are {', '.join(ROUNDING)}")
    value = context.value(node.inputs[0])
    if not isinstance(value, Expr):
        raise Refused("its input is not a quantized activation")
    check_fit(context, value, scale, zero)
    if len(node.inputs) > 5:
        new_scale = positive_scale(constant(context, node, 4, "output scale"))
        bits = bit_width(constant(context, node, 5, "output bit width"))
        exponents = {round(math.log2(float(n) / float(s))) for n, s in np.broadcast(new_scale, scale)}
        if len(exponents) > 1:
            raise Refused("its output scales are different powers of two away from its input scales")
        exponent = exponents.pop()
        kind = IntegerType(bits, bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 0)))
        low, high = kind.min, kind.max
        meaning = (new_scale, -zero / Fraction(2) ** exponent * new_scale)
    else:
        bits = bit_width(constant(context, node, 4, "output bit width"))
        exponent, kind, low, high = bits_in - bits, None, None, None
        meaning = (scale, -zero * scale)
    inner = (
        context.quantize(value, scale, zero, 0, "half_even", None, None, None, None, (scale * 0 + 1, zero * 0), False)
        if not _on_grid(value, scale, zero)
        else value.affine(
            spread(rationals([1 / s for s in scale.reshape(-1)]).reshape(scale.shape), len(value.shape)),
            spread(zero, len(value.shape)),
            value.shape,
        )
    )
    divisor = rationals(Fraction(2) ** exponent)
    exact_meaning = (as_array(meaning[0]), as_array(meaning[1]))
    return context.quantize(
        inner,
        divisor,
        ZERO,
        0,
        ROUNDING[mode],
        low,
        high,
        kind,
        node.outputs[0],
        exact_meaning,
    )


def _on_grid(value: Expr, scale: Rationals, zero: Rationals) -> bool:
    """Whether value / scale + zero is an integer for every integer input, so that its first rounding does nothing."""
    if value.steps or len(value.terms) != 1:
        return False
    ratios = [*np.atleast_1d(value.terms[0][1] / scale).reshape(-1)]
    ratios += [*np.atleast_1d(value.offset / scale + zero).reshape(-1)]
    return all(r.denominator == 1 for r in ratios)
