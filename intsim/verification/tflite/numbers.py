"""Rounding real numbers to codes, in Python integers, fractions and decimals; each distinct number once."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError

Codes = NDArray[np.int64]
DIGITS = 60
"""Decimal digits of functions that are not rational; a value nearer to a tie than 40 of them is taken for the tie."""
NEAR = Decimal(10) ** -40


def half_even(value: Fraction) -> int:
    """The nearest integer, ties to even."""
    return round(value)


def distinct(arrays: list[Codes], function: Callable[..., Any]) -> NDArray[Any]:
    """`function` of corresponding elements, called once for each combination of them."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    lows = [int(a.min()) for a in arrays]
    sizes = [int(a.max()) - low + 1 for a, low in zip(arrays, lows, strict=True)]
    if math.prod(sizes) >= 1 << 62:
        raise IntsimError(f"combinations of {sizes} numbers are more than 62 bits hold")
    key = np.zeros(shape, np.int64)
    for a, low, size in zip(arrays, lows, sizes, strict=True):
        key = key * size + (a - low)
    keys, inverse = np.unique(key, return_inverse=True)
    made = []
    for k in keys.tolist():
        numbers = []
        for low, size in zip(lows[::-1], sizes[::-1], strict=True):
            k, rest = divmod(k, size)
            numbers.append(rest + low)
        made.append(function(*numbers[::-1]))
    return np.array(made, np.int64)[inverse.reshape(-1)].reshape(shape)


def clipped(code: int, limits: tuple[int, int]) -> int:
    """Saturated."""
    return max(limits[0], min(limits[1], code))


def nearest(value: Decimal) -> int:
    """The integer nearest to a number of `DIGITS` digits, ties to even."""
    floor = int(value.to_integral_value("ROUND_FLOOR"))
    rest = value - floor - Decimal("0.5")
    if abs(rest) < NEAR:
        return floor + floor % 2
    return floor + (rest > 0)


def decimals() -> Any:
    """A context of `DIGITS` digits."""
    return localcontext(Context(prec=DIGITS, Emin=-(10**8), Emax=10**8))


def decimal(value: Fraction) -> Decimal:
    """A fraction to the digits of the context."""
    return Decimal(value.numerator) / Decimal(value.denominator)


def sigmoid(x: Decimal) -> Decimal:
    """1 / (1 + e^-x)."""
    return 1 / (1 + (-x).exp())


def tanh(x: Decimal) -> Decimal:
    """1 - 2 / (1 + e^2x)."""
    return 1 - 2 / (1 + (2 * x).exp())


def fraction(value: Any) -> Fraction:
    """A float, exactly."""
    number = float(value)
    if not np.isfinite(number):
        raise IntsimError(f"{number} is no number")
    return Fraction(number)
