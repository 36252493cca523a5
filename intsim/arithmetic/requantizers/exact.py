"""The exact requantizer, round(acc * scale + offset) with rational scale and offset, vectorised.

Three ways, chosen by size; each returns exactly what rational arithmetic does:

1. the whole numerator fits int64: one integer division;
2. the denominator D fits 61 bits: a float64 estimate k of the quotient, then the remainder N - k*D modulo 2^64.
   The remainder is below 2^63 in magnitude, so it is known exactly although N is not;
3. otherwise: a float64 estimate with a proven error bound decides all elements but those within the bound of a
   decision point (a tie or an integer), and Python ints decide those, once per distinct accumulator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import as_integers
from intsim.arithmetic.pieces import Formula, Integers
from intsim.arithmetic.requantizers.requantizer import LARGEST, Channel, Requantizer, Segment
from intsim.arithmetic.rounding import Rounding, round_divide, rounding, steps_up


def exact_requantize(
    acc: Any, scale: Fraction | int, offset: Fraction | int = 0, mode: str | Rounding = Rounding.HALF_EVEN
) -> Any:
    """Return round(acc * scale + offset), exactly.

    Args:
        acc: Python int, integer array (as int64) of any shape, or object array of Python ints.
        scale: exact rational, any sign.
        offset: exact rational, in units of the output.
        mode: rounding mode.

    Returns:
        Same shape, int64 (a Python int for a Python int), saturated to +-2^62; that changes nothing after a clip to
        62 bits or fewer. Zero point and clip are the caller's.

    Raises:
        IntsimError: non-integers or an unknown mode.
    """
    mode = rounding(mode)
    scale, offset = Fraction(scale), Fraction(offset)
    # acc * scale + offset = (acc * factor + constant) / bottom
    bottom = scale.denominator * offset.denominator
    factor, constant = scale.numerator * offset.denominator, offset.numerator * scale.denominator
    if isinstance(acc, int):
        return _limit(int(round_divide(acc * factor + constant, bottom, mode)))
    values = as_integers(acc, "accumulator")
    if values.size == 0:
        return np.zeros(values.shape, np.int64)
    common = gcd(bottom, factor, constant)
    bottom, factor, constant = bottom // common, factor // common, constant // common
    low, high = int(values.min()), int(values.max())
    largest = max(abs(low), abs(high))
    factor = factor if largest else 0  # all zeros: an unused factor may be beyond any machine number
    top = largest * abs(factor) + abs(constant)  # >= |N| for every element
    flat = values.reshape(-1)
    if values.dtype == object or largest >= 1 << 53 or top >= bottom << 50:
        result = _by_python(flat, factor, constant, bottom, mode)
    elif top < 1 << 63 and bottom < 1 << 63:
        result = np.clip(round_divide(flat * factor + constant, bottom, mode), -LARGEST, LARGEST)
    else:
        # Here |acc| < 2^53 is exact in float64 and |quotient| < 2^50. With u = 2^-53 and s, b rounded once, the
        # estimate acc*s + b is off by less than (|acc*s| * 3u + |b| * 2u)(1 + tiny) <= 4u * top / bottom, plus
        # underflow; the bound is twice that.
        bound = 2.0**-50 * float(Fraction(top, bottom)) + 2.0**-1000
        estimate = flat * _to_float(Fraction(factor, bottom)) + _to_float(Fraction(constant, bottom))
        if bottom < 1 << 61:
            result = _by_remainder(flat, estimate, factor, constant, bottom, mode)
        else:
            result = _by_estimate(flat, estimate, bound, factor, constant, bottom, mode)
    return result.reshape(values.shape)


def _limit(result: int) -> int:
    return min(max(result, -LARGEST), LARGEST)


def _to_float(x: Fraction) -> float:
    """The nearest float64; subnormals and zero are covered by the absolute part of the bound."""
    return x.numerator / x.denominator


def _by_python(flat: NDArray[Any], factor: int, constant: int, bottom: int, mode: Rounding) -> Integers:
    """The definition, in Python ints, once per distinct accumulator."""
    distinct, inverse = np.unique(flat, return_inverse=True)
    results = [_limit(int(round_divide(int(v) * factor + constant, bottom, mode))) for v in distinct]
    return np.array(results, dtype=np.int64)[inverse.reshape(-1)]


def _by_remainder(
    flat: Integers, estimate: NDArray[np.float64], factor: int, constant: int, bottom: int, mode: Rounding
) -> Integers:
    """Exact remainder of a floored estimate, modulo 2^64; |quotient| < 2^50, bottom < 2^61."""
    quotient = np.floor(estimate).astype(np.int64)
    # The estimate is off by less than 1, so floor is off by at most 1: -bottom <= N - quotient*bottom < 2*bottom.
    remainder = flat * _signed64(factor) + _signed64(constant) - quotient * bottom
    below, beyond = remainder < 0, remainder >= bottom
    quotient += beyond
    quotient -= below
    remainder += bottom * below.astype(np.int64)
    remainder -= bottom * beyond.astype(np.int64)
    rest = bottom - remainder
    return np.asarray(quotient + steps_up(quotient, remainder > rest, remainder == rest, remainder > 0, mode))


def _signed64(x: int) -> np.int64:
    """The residue of x modulo 2^64 as an int64."""
    return np.int64(((x + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63))


def _by_estimate(
    flat: Integers,
    estimate: NDArray[np.float64],
    bound: float,
    factor: int,
    constant: int,
    bottom: int,
    mode: Rounding,
) -> Integers:
    """Round the estimate where the bound allows it, ask Python ints where it does not."""
    floor = np.floor(estimate)
    fraction = estimate - floor
    nearest = mode.startswith("half")
    # Distance to the decision points: 1/2 for the nearest modes, the integers for the directed ones.
    distance = np.abs(fraction - 0.5) if nearest else np.minimum(fraction, 1.0 - fraction)
    quotient = floor.astype(np.int64)
    above = fraction > 0.5
    never = np.zeros(flat.shape, bool)
    result = np.asarray(quotient + steps_up(quotient, above, never, ~never, mode))
    # Doubled: fraction and distance are themselves rounded, by at most 2^-53 of values below 1.
    undecided = np.flatnonzero(distance <= 2 * bound + 2.0**-50)
    if undecided.size:
        result[undecided] = _by_python(flat[undecided], factor, constant, bottom, mode)
    return result


@dataclass(frozen=True)
class Exact(Requantizer):
    """`round(S * acc + B)` in rational arithmetic, rounded as the model says: what others are compared with.

    Monotone on a piece: every rounding mode sends larger numbers to larger or equal integers.
    """

    scheme: ClassVar[str] = "exact"
    exact: ClassVar[bool] = True
    takes_bias: ClassVar[bool] = True
    adds_exactly: ClassVar[bool] = True

    def words(self) -> str:
        """The formula."""
        return "exact: round(acc * scale + offset) in rational arithmetic, rounded as the model says"

    def channel(self, scale: Fraction) -> Channel:
        """The scale itself."""
        return Channel(scale)

    def apply(
        self, acc: Integers, scale: Fraction, offset: Fraction, rounding: Rounding, stages: Sequence[Stage] = ()
    ) -> Integers:
        """The definition; no register takes a bias."""
        return np.asarray(exact_requantize(acc, scale, offset, rounding))

    def constants(self, formula: Formula, stages: Sequence[Stage], low: int, high: int) -> dict[str, list[Any]]:
        """`start` of each piece, and `scale` and `offset` as rationals: of `S * acc + B`."""
        starts = [low if start is None else start for start, _, _ in formula.pieces]
        scales, offsets = [list(column) for column in zip(*(p[1:] for p in formula.pieces), strict=True)]
        return {"start": starts, "scale": scales, "offset": offsets}

    def segments(
        self, first: int, last: int, scale: Fraction, offset: Fraction, stages: Sequence[Stage]
    ) -> Iterator[Segment]:
        """One."""
        yield Segment(first, last, True, ((scale, offset),))
