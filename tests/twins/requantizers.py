"""Requantizers, one accumulator at a time: published routines line by line, and every scheme."""

from fractions import Fraction

from .registers import wrap
from .rounding import float32, round_divide, round_fraction


def high_mul(a, b):
    """gemmlowp SaturatingRoundingDoublingHighMul, line by line: the nudge, then C's truncating division."""
    if a == b == -(2**31):
        return 2**31 - 1
    product = a * b
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    return nudged // 2**31 if nudged >= 0 else -(-nudged // 2**31)


def divide_by_pot(x, exponent):
    """gemmlowp RoundingDivideByPOT, line by line."""
    mask = 2**exponent - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def tflite(acc, multiplier, exponent):
    """TFLite MultiplyByQuantizedMultiplier with two roundings; scale = multiplier * 2^(exponent - 31)."""
    left, right = max(exponent, 0), max(-exponent, 0)
    return divide_by_pot(high_mul(wrap(acc << left, 32), multiplier), right)


def gemmlowp(acc, multiplier, n, bits):
    """The same for multipliers of any width: high product with ties up, right shift with ties away from zero.

    scale = multiplier / 2^n.
    """
    left, right = max(bits - 1 - n, 0), max(n - bits + 1, 0)
    high = round_divide(wrap(acc * 2**left, 32) * multiplier, 2 ** (bits - 1), "half_up")
    return round_divide(high, 2**right, "half_away")


def apply_scale(acc, multiplier, n, twice):
    """TOSA."""
    nudge = 2 ** (n - 1)
    if twice and n > 31:
        nudge += 2**30 if acc >= 0 else -(2**30)
    return (acc * multiplier + nudge) // 2**n


def onnxruntime(acc, scale, zero_point, low, high):
    """The x86 requantizer; int32 and the product of two float32 are exact in float64, so each step rounds once."""
    value = float32(float32(float(acc)) * scale)
    value = min(max(value, float(low - zero_point)), float(high - zero_point))
    return round(value) + zero_point  # Python rounds floats half to even


def quantize_multiplier(scale, bits):
    """(M, n) with scale ~= M / 2^n, M of `bits` bits with its sign, ties away from zero; below 2^-32 it is (0, 0)."""
    if abs(scale) < Fraction(1, 2**33):
        return 0, 0
    n = 0
    while abs(scale) * 2**n < 2 ** (bits - 2):
        n += 1
    while abs(scale) * Fraction(2) ** n >= 2 ** (bits - 1):
        n -= 1
    m = round_fraction(abs(scale) * Fraction(2) ** n, "half_away")
    if m == 2 ** (bits - 1):
        m, n = m // 2, n - 1
    if n > bits + 30:
        return 0, 0
    return (m if scale > 0 else -m), n


def requantized(form, acc, scale, mode):
    """`acc * scale` in a scheme, before zero point and clip; scale is a Fraction, `mode` what the model says.

    `form` has `scheme`, `multiplier_bits`, `rounding` and `double_rounding`.
    """
    if form.scheme in ("exact", "thresholds"):
        return round_fraction(acc * scale, mode)
    if form.scheme == "shift":
        return round_fraction(acc * scale, form.rounding)
    if form.scheme == "float32":
        # a product of two float32 is exact in float64, so each step rounds once
        return round(float32(float32(float(acc)) * float32(scale.numerator / scale.denominator)))
    m, n = quantize_multiplier(scale, form.multiplier_bits)
    if form.scheme == "tosa":
        return apply_scale(acc, m, n, form.double_rounding)
    if form.double_rounding:
        return gemmlowp(acc, m, n, form.multiplier_bits)
    return round_fraction(acc * m / Fraction(2) ** n, form.rounding)
