"""IEEE 754 binary32 as kernels of runtimes use it: one rounding an operation, to the nearest, ties to even.

Arrays are float32; numpy computes an operation on float32 with one rounding. `fma` is the operation it lacks.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.errors import IntsimError

Floats = NDArray[np.float32]
SMALLEST = -149
"""Exponent of the smallest subnormal number."""


def nearest(value: Fraction) -> np.float32:
    """The binary32 number nearest to a rational, subnormal ones included.

    Raises:
        IntsimError: it is infinite.
    """
    value = Fraction(value)
    if value == 0:
        return np.float32(0)
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    unit = max(exponent - 23, SMALLEST)
    significand = round_fraction(magnitude / Fraction(2) ** unit, Rounding.HALF_EVEN)
    if significand * Fraction(2) ** unit >= Fraction(2) ** 128:
        raise IntsimError(f"{float(value):g} is beyond the range of float32")
    return np.float32(np.ldexp(np.float64(significand), unit) * (1 if value > 0 else -1))


def int32(values: Any) -> NDArray[np.int64]:
    """To the nearest integer, ties to even, as cvtps2dq: what int32 doesn't hold, and NaN, becomes -2^31."""
    values = np.asarray(values, np.float32)
    inside = np.abs(values) < np.float32(1 << 31)
    return np.where(inside, np.rint(np.where(inside, values, 0)).astype(np.int64), -(1 << 31))


def product(*factors: Any) -> np.float32:
    """Factors multiplied from the left, rounded after each; Fractions are rounded first."""
    total = as_float32(factors[0])
    for factor in factors[1:]:
        with np.errstate(over="ignore"):
            total = np.float32(total * as_float32(factor))
    return total


def quotient(a: Any, b: Any) -> np.float32:
    """a / b, both rounded first."""
    with np.errstate(over="ignore", divide="ignore"):
        return np.float32(as_float32(a) / as_float32(b))


def ratio(a: Any, b: Any) -> Fraction:
    """a / b as `quotient` makes it. Raises IntsimError where it is infinite."""
    found = quotient(a, b)
    if not np.isfinite(found):
        raise IntsimError(f"its scales {float(a):g} and {float(b):g} have a ratio beyond the range of float32")
    return Fraction(float(found))


def as_float32(value: Any) -> np.float32:
    """A Fraction rounded, a float32 as it is."""
    return nearest(Fraction(value)) if isinstance(value, (Fraction, int)) else np.float32(value)


def fma(a: Any, b: Any, c: Any) -> Floats:
    """a * b + c with one rounding; float32 arrays that broadcast.

    The product of two binary32 numbers is a binary64 number. The sum of that and c is rounded to binary64 so that its
    last bit says whether anything was lost (to odd); rounding that to binary32 is rounding the exact sum, as binary64
    has more than two bits to spare (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    x = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32).astype(np.float64)
    y = np.broadcast_to(np.asarray(c, np.float32).astype(np.float64), np.broadcast(x, c).shape)
    x = np.broadcast_to(x, y.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        total = x + y
        virtual = total - x
        lost = (x - (total - virtual)) + (y - virtual)
    even = (total.view(np.int64) & 1 == 0) & np.isfinite(total) & (lost != 0) if total.ndim else None
    if even is None:
        return fma(np.atleast_1d(np.asarray(a, np.float32)), b, c)[0]
    toward = np.where(lost > 0, np.inf, -np.inf)
    odd = np.where(even, np.nextafter(total, toward), total)
    with np.errstate(over="ignore"):
        return np.asarray(odd.astype(np.float32))
