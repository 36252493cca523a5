"""Real numbers that are known to any number of digits: the exact elements of irrational functions.

A `Real` holds a function from a number of decimal digits to two rationals that enclose it. Arithmetic builds further
ones; a comparison or a rounding asks for more digits until both ends agree. exp and log are those of Python's decimal
module, which rounds them correctly; the rest are series and formulas on them with counted errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from intsim.errors import IntsimError

Ends = tuple[Fraction, Fraction]
DIGITS = (30, 90, 300, 1000, 3000)
"""Numbers of digits that are tried, one after another."""
_SHOWN = 120


class Unclear(ArithmeticError):  # noqa: N818 - it asks for more digits
    """Too few digits to go on with."""


class Real:
    """A real number: `at(digits)` encloses it, the closer the more digits."""

    def __init__(self, at: Callable[[int], Ends]) -> None:
        """`at` may raise `Unclear`."""
        self.at = lru_cache(maxsize=len(DIGITS) + 1)(at)

    def settled(self, read: Callable[[Fraction], Any]) -> Any:
        """What a monotone function makes of the number; IntsimError where both ends never agree."""
        for digits in DIGITS:
            try:
                low, high = self.at(digits)
            except Unclear:
                continue
            if read(low) == read(high):
                return read(low)
        raise IntsimError(f"a value is not told from a point of decision by {DIGITS[-1]} digits")

    def __add__(self, other: Number | int) -> Real:
        """Sum."""

        def at(digits: int) -> Ends:
            a, b = self.at(digits), ends_of(other, digits)
            return a[0] + b[0], a[1] + b[1]

        return Real(at)

    def __neg__(self) -> Real:
        """Mirrored."""
        return Real(lambda digits: (-self.at(digits)[1], -self.at(digits)[0]))

    def __sub__(self, other: Number | int) -> Real:
        """Difference."""
        return self + -other

    def __rsub__(self, other: Number | int) -> Real:
        """Difference."""
        return -self + other

    def __mul__(self, other: Number | int) -> Number:
        """Product; with zero, zero."""
        if not isinstance(other, Real) and other == 0:
            return Fraction(0)

        def at(digits: int) -> Ends:
            a, b = self.at(digits), ends_of(other, digits)
            corners = [x * y for x in a for y in b]
            return min(corners), max(corners)

        return Real(at)

    def reciprocal(self) -> Real:
        """1 / x."""

        def at(digits: int) -> Ends:
            low, high = self.at(digits)
            if low <= 0 <= high:
                raise Unclear
            return 1 / high, 1 / low

        return Real(at)

    def __truediv__(self, other: Number | int) -> Number:
        """Quotient."""
        return self * (other.reciprocal() if isinstance(other, Real) else Fraction(1) / other)

    def __rtruediv__(self, other: Number | int) -> Number:
        """Quotient."""
        return self.reciprocal() * other

    __radd__, __rmul__ = __add__, __mul__

    def __abs__(self) -> Real:
        """Magnitude."""
        return self if self >= 0 else -self

    def __ge__(self, other: Number | int) -> bool:
        """x >= y."""
        return bool((self - other).settled(lambda v: v >= 0))

    def __gt__(self, other: Number | int) -> bool:
        """x > y."""
        return bool((self - other).settled(lambda v: v > 0))

    def __le__(self, other: Number | int) -> bool:
        """x <= y."""
        return not self > other

    def __lt__(self, other: Number | int) -> bool:
        """x < y."""
        return not self >= other

    def __eq__(self, other: object) -> bool:
        """False where the digits tell; IntsimError where they don't."""
        if not isinstance(other, Real | Fraction | int):
            return NotImplemented
        self > other  # noqa: B015 - raises unless the two are told apart
        return False

    __hash__ = None  # type: ignore[assignment]

    def __floor__(self) -> int:
        """Largest integer up to x."""
        return int(self.settled(math.floor))

    def __ceil__(self) -> int:
        """Smallest integer from x on."""
        return int(self.settled(math.ceil))

    def __trunc__(self) -> int:
        """Towards zero."""
        return int(self.settled(math.trunc))

    def __round__(self) -> int:
        """Nearest, ties to even."""
        return int(self.settled(round))

    def __float__(self) -> float:
        """Close to the nearest float64."""
        return float(self.shown)

    @cached_property
    def shown(self) -> Fraction:
        """A rational within 10^-`_SHOWN` or so, for reports."""
        low, high = self.at(_SHOWN)
        return (low + high) / 2

    @property
    def numerator(self) -> int:
        """Of `shown`."""
        return self.shown.numerator

    @property
    def denominator(self) -> int:
        """Of `shown`."""
        return self.shown.denominator


Number = Fraction | Real


def ends_of(x: Number | int, digits: int) -> Ends:
    """Two rationals that enclose x."""
    return x.at(digits) if isinstance(x, Real) else (Fraction(x), Fraction(x))
