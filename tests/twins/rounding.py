"""Rounding of quotients, and to float32."""

import struct


def round_divide(n, d, mode):
    """n / d by textbook formulas, d > 0: add a half and floor, by the sign where the mode is symmetric."""
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
    """A Fraction to an integer."""
    return round_divide(x.numerator, x.denominator, mode)


def float32(x):
    """A float64 rounded to float32."""
    return struct.unpack("<f", struct.pack("<f", x))[0]
