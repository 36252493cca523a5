"""Dumb twins of intsim.arithmetic in plain Python integers; they share no code with it."""

import struct


def wrap(x, bits, signed=True):
    low = -(2 ** (bits - 1)) if signed else 0
    return (x - low) % 2**bits + low


def saturate(x, bits, signed=True):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return low if x < low else high if x > high else x


def round_divide(n, d, mode):
    """Textbook formulas: add a half and floor, by the sign where the mode is symmetric."""
    sign, m = (-1 if n < 0 else 1), abs(n)
    if mode == "floor":
        return n // d
    if mode == "ceil":
        return -(-n // d)
    if mode == "away":
        return sign * -(-m // d)
    if mode == "toward_zero":
        return sign * (m // d)
    if mode == "half_up":
        return (2 * n + d) // (2 * d)
    if mode == "half_away":
        return sign * ((2 * m + d) // (2 * d))
    if mode == "half_toward_zero":
        return sign * -((d - 2 * m) // (2 * d))
    assert mode == "half_even"
    up = (2 * n + d) // (2 * d)
    tie = (2 * n + d) % (2 * d) == 0
    return up - 1 if tie and up % 2 else up


def round_fraction(x, mode):
    return round_divide(x.numerator, x.denominator, mode)


def accumulate(products, stages, start=0, bias=None):
    """(result, events, low, high) of one output; stages are (sum or None, bits, overflow)."""
    values = list(products)
    events, lows, highs = [], [], []
    for index, (group, bits, overflow) in enumerate(stages):
        last = index == len(stages) - 1
        seen = []  # true sums
        register, arrived, handed_on = 0, 0, []

        def add(register, value, seen=seen, bits=bits, overflow=overflow):
            seen.append(register + value)
            return (wrap if overflow == "wrap" else saturate)(register + value, bits)

        if last:
            register = add(register, start)
        for value in values:
            register = add(register, value)
            arrived += 1
            if arrived == group:
                handed_on.append(register)
                register, arrived = 0, 0
        if last and bias is not None:
            register = add(register, bias)
        if arrived or last:
            handed_on.append(register)
        values = handed_on
        events.append(sum(not -(2 ** (bits - 1)) <= total < 2 ** (bits - 1) for total in seen))
        lows.append(saturate(min([0, *seen]), 64))
        highs.append(saturate(max([0, *seen]), 64))
    if not stages:
        values = [sum(values) + start + (bias or 0)]
    assert len(values) == 1
    return values[0], events, lows, highs


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


def float32(x):
    """A float64 rounded to float32."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def onnxruntime(acc, scale, zero_point, low, high):
    """The x86 requantizer; int32 and the product of two float32 are exact in float64, so each step rounds once."""
    value = float32(float32(float(acc)) * scale)
    value = min(max(value, float(low - zero_point)), float(high - zero_point))
    return round(value) + zero_point  # Python rounds floats half to even
