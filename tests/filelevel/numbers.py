"""Rounding, registers and number formats, in Python integers and Fractions."""

import struct
from fractions import Fraction
from math import floor


class Refused(Exception):  # noqa: N818
    """A machine that does not take a network."""


def rational(value):
    """The rational that a float (or an integer) of the file is."""
    return Fraction(int(value)) if float(value).is_integer() else Fraction(float(value))


def rounded(x, mode):
    """A rational to an integer."""
    low = floor(x)
    rest = x - low
    if rest == 0:
        return low
    if mode in ("floor", "ceil", "toward_zero", "away"):
        up = {"floor": False, "ceil": True, "toward_zero": x < 0, "away": x > 0}[mode]
    elif rest != Fraction(1, 2):
        up = rest > Fraction(1, 2)
    else:
        up = {"half_even": low % 2 == 1, "half_away": x > 0, "half_toward_zero": x < 0, "half_up": True}[mode]
    return low + 1 if up else low


def ends(bits):
    """Least and greatest value of a two's complement register."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def held(value, bits, overflow):
    """What a register makes of a true sum."""
    low, high = ends(bits)
    if low <= value <= high:
        return value
    if overflow == "saturate":
        return min(max(value, low), high)
    return (value - low) % 2**bits + low


def width(*values):
    """Bits of the least register that holds all values."""
    bits = 1
    while min(values) < ends(bits)[0] or max(values) > ends(bits)[1]:
        bits += 1
    return bits


def power(exponent):
    """2 to an exponent of either sign."""
    return Fraction(2) ** exponent


def float32(x):
    """The float32 nearest to a rational, as a rational; ties to even. Infinities become +-2^200."""
    if x == 0:
        return Fraction(0)
    exponent = abs(x).numerator.bit_length() - abs(x).denominator.bit_length()
    if abs(x) < power(exponent):
        exponent -= 1
    unit = power(max(exponent, -126) - 23)
    nearest = rounded(x / unit, "half_even") * unit
    return nearest if abs(nearest) < power(128) else (power(200) if x > 0 else -power(200))


def is_float32(x):
    """Whether the format has this rational (checks `float32` against the machine's own conversion in a test)."""
    return Fraction(struct.unpack("<f", struct.pack("<f", float(x)))[0]) == x
