"""QONNX quantizers: Quant, BipolarQuant, Trunc (qonnx.custom_op.general)."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.frontend.codes import quantized
from intsim.frontend.context import Context, Quantizer, Refused
from intsim.frontend.expression import ONE, ZERO, Expr, Value
from intsim.frontend.parameters import bit_width, check_fit, constant, positive_scale
from intsim.frontend.reader import Operation
from intsim.frontend.registry import QUANTIZERS, lowers
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
    width = constant(context, node, 3, "bit width")
    bits = bit_width(width)
    check_fit(context, context.value(node.inputs[0]), width)
    signed, narrow = bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 0))
    rounding = _rounding(node, "ROUND")
    if bits == 1 and signed:
        return _bipolar(context, node, scale, zero)
    kind = IntegerType(bits, signed, narrow)
    return quantized(context, node, Quantizer(scale, zero, 0, rounding, (kind.min, kind.max), kind))


def _rounding(node: Operation, default: str) -> str:
    """The rounding that a node names."""
    mode = str(node.attributes.get("rounding_mode", default)).upper()
    if mode not in ROUNDING:
        raise Refused(f"rounding mode {mode} is unknown; known are {', '.join(ROUNDING)}")
    return ROUNDING[mode]


@lowers("BipolarQuant", kind=QUANTIZERS)
def bipolar_quant(context: Context, node: Operation) -> Value:
    """QONNX BipolarQuant: +scale where x >= 0, else -scale."""
    return _bipolar(context, node, positive_scale(constant(context, node, 1, "scale")), ZERO)


def _bipolar(context: Context, node: Operation, scale: Rationals, zero: Rationals) -> Value:
    """+1 where x / scale + zero >= 0 else -1; the value is (y - zero) * scale."""
    kind = IntegerType(2, True, True)
    return quantized(context, node, Quantizer(scale, zero, 0, "half_even", (-1, 1), kind, bipolar=True))


@lowers("Trunc", kind=QUANTIZERS)
def trunc(context: Context, node: Operation) -> Value:
    """QONNX Trunc, versions 1 (five inputs) and 2 (six): integers, divided by a power of two and rounded again.

    Version 1 keeps scale and zero point; version 2 has an output scale, clips before rounding and divides the zero
    point as well (qonnx.custom_op.general.trunc).
    """
    scale = positive_scale(constant(context, node, 1, "scale"))
    zero = rationals(constant(context, node, 2, "zero point"))
    width_in = constant(context, node, 3, "input bit width")
    bits_in = bit_width(width_in)
    rounding = _rounding(node, "FLOOR")
    value = context.value(node.inputs[0])
    if not isinstance(value, Expr):
        raise Refused("its input is not a quantized activation")
    others = [constant(context, node, i, "output bit width") for i in range(4, len(node.inputs))]
    check_fit(context, value, scale, zero, width_in, *others)
    if len(node.inputs) > 5:
        new_scale = positive_scale(constant(context, node, 4, "output scale"))
        bits = bit_width(constant(context, node, 5, "output bit width"))
        exponents = {round(math.log2(float(n) / float(s))) for n, s in np.broadcast(new_scale, scale)}
        if len(exponents) > 1:
            raise Refused("its output scales are different powers of two away from its input scales")
        exponent = exponents.pop()
        kind = IntegerType(bits, bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 0)))
        divisor = Quantizer(rationals(Fraction(2) ** exponent), ZERO, 0, rounding, (kind.min, kind.max), kind)
        meaning = (new_scale, -zero / Fraction(2) ** exponent * new_scale)
    else:
        bits = bit_width(constant(context, node, 4, "output bit width"))
        divisor = Quantizer(rationals(Fraction(2) ** (bits_in - bits)), ZERO, 0, rounding)
        meaning = (scale, -zero * scale)
    first = Quantizer(scale, zero, 0, "half_even")
    codes = value.affine(*first.line(len(value.shape)), value.shape)
    if not value.linear or any(v.denominator != 1 for p in codes.parameters() for v in p.reshape(-1)):
        codes = context.quantize(value, first, None, (ONE, ZERO))
    return context.quantize(codes, divisor, node.outputs[0], meaning)
