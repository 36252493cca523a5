"""Requantizing by counting thresholds: a step function of the accumulator, held as the places of its steps.

A code k is reached where `round(S * acc + B) >= k`, which is one comparison of the integer accumulator with an integer
threshold; the code is the number of thresholds reached (FINN, `MultiThreshold`; Umuroglu et al., arXiv 1612.07119).
FINN's steps all go up. A decreasing piece, or a piece that starts below the end of the one before, has steps down: they
count -1. The thresholds are found by solving the inequality in integers, not by trying accumulators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import as_integers
from intsim.arithmetic.pieces import Formula, Integers, spans
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.requantizer import CellFunction
from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.errors import IntsimError

MOST_THRESHOLDS = 1 << 22
"""A threshold requantizer has one threshold a code; this many are 22-bit codes."""


@dataclass(frozen=True)
class Staircase:
    """`base`, plus the steps at all thresholds that are <= the accumulator.

    `thresholds`: int64 (T,), not decreasing, a place as often as the code steps there. `steps`: int64 (T,), +1 or -1.
    """

    base: int
    thresholds: Integers
    steps: Integers

    def count(self, acc: Any) -> Integers:
        """Codes of accumulators of any shape, int64; valid within the range that the staircase was made for."""
        values = as_integers(acc, "accumulator")
        levels = np.concatenate([[0], np.cumsum(self.steps)]) + self.base
        return np.asarray(levels[np.searchsorted(self.thresholds, values, side="right")], np.int64)


def staircase(formula: Formula, low: int, high: int) -> Staircase:
    """The thresholds of a cell's formula over the accumulators low..high; thresholds elsewhere aren't made.

    Raises:
        IntsimError: more than 2^22 thresholds.
    """
    least, most = (None if b is None else b - formula.zero for b in (formula.low, formula.high))
    thresholds: list[Integers] = []
    steps: list[Integers] = []
    base: int | None = None
    level = 0
    mode = formula.rounding
    for first, last, (_, scale, offset) in spans(formula.pieces, low, high):
        begin, end = (_clip(round_fraction(scale * acc + offset, mode), least, most) for acc in (first, last))
        if base is None:
            base = level = begin
        if abs(begin - level) + abs(end - begin) + sum(map(len, steps)) > MOST_THRESHOLDS:
            raise IntsimError("needs more than 2^22 thresholds; a threshold requantizer has one a code: use fewer bits")
        if begin != level:
            thresholds.append(np.full(abs(begin - level), first, np.int64))
            steps.append(np.full(abs(begin - level), 1 if begin > level else -1, np.int64))
        if end > begin:
            thresholds.append(first_reaching(np.arange(begin + 1, end + 1), scale, offset, mode))
            steps.append(np.ones(end - begin, np.int64))
        elif end < begin:
            # the code falls below k right after the last accumulator that reaches it
            thresholds.append(last_reaching(np.arange(begin, end, -1), scale, offset, mode) + 1)
            steps.append(np.full(begin - end, -1, np.int64))
        level = end
    empty = [np.zeros(0, np.int64)]
    return Staircase(
        (base or 0) + formula.zero, np.concatenate([*empty, *thresholds]), np.concatenate([*empty, *steps])
    )


def _clip(code: int, low: int | None, high: int | None) -> int:
    code = code if low is None else max(code, low)
    return code if high is None else min(code, high)


def first_reaching(codes: Integers, scale: Fraction, offset: Fraction, mode: Rounding) -> Integers:
    """For each code, the least acc with `round(scale * acc + offset) >= code`; scale > 0; results must fit int64."""
    doubled, inclusive = _edges(codes, mode)
    top, bottom = _solved(doubled, scale, offset)
    floor = top // bottom
    # acc >= top / bottom: the ceiling; acc > top / bottom: one more than the floor
    return np.asarray(np.where(inclusive & (floor * bottom == top), floor, floor + 1)).astype(np.int64)


def last_reaching(codes: Integers, scale: Fraction, offset: Fraction, mode: Rounding) -> Integers:
    """For each code, the greatest acc with `round(scale * acc + offset) >= code`; scale < 0."""
    doubled, inclusive = _edges(codes, mode)
    top, bottom = _solved(doubled, scale, offset)
    floor = top // bottom
    return np.asarray(np.where(~inclusive & (floor * bottom == top), floor - 1, floor)).astype(np.int64)


def _solved(doubled: Integers, scale: Fraction, offset: Fraction) -> tuple[NDArray[Any], int]:
    """The accumulator at which `2 * (scale * acc + offset) == doubled`, as a numerator and a denominator > 0."""
    common = scale.denominator * offset.denominator
    factor, constant = scale.numerator * offset.denominator, offset.numerator * scale.denominator
    sign = 1 if factor > 0 else -1
    widest = max(abs(int(doubled[0])), abs(int(doubled[-1]))) * common + 2 * abs(constant)
    if max(widest, common) >= 1 << 62 or abs(factor) >= 1 << 61:
        doubled = doubled.astype(object)
    return sign * (doubled * common - 2 * constant), 2 * abs(factor)


def _edges(codes: Integers, mode: Rounding) -> tuple[Integers, NDArray[np.bool_]]:
    """Twice the number x from which on `round(x) >= code`, and whether x itself is rounded so."""
    positive = codes > 0
    yes = np.ones(codes.shape, bool)
    match mode:
        case Rounding.HALF_EVEN:  # the tie below k goes to the even one of k-1, k
            return 2 * codes - 1, codes & 1 == 0
        case Rounding.HALF_AWAY:
            return 2 * codes - 1, positive
        case Rounding.HALF_TOWARD_ZERO:
            return 2 * codes - 1, ~positive
        case Rounding.HALF_UP:
            return 2 * codes - 1, yes
        case Rounding.FLOOR:
            return 2 * codes, yes
        case Rounding.CEIL:
            return 2 * codes - 2, ~yes
        case Rounding.AWAY:  # a ceiling above zero, a floor below
            return np.where(positive, 2 * codes - 2, 2 * codes), ~positive
        case Rounding.TOWARD_ZERO:
            return np.where(positive, 2 * codes, 2 * codes - 2), positive


@dataclass(frozen=True)
class Thresholds(Exact):
    """The number of thresholds of the exact formula that the accumulator reaches; constant between them.

    There are no thresholds beyond the least and the greatest code, so nothing is clipped; `unclipped` is the formula.
    """

    scheme: ClassVar[str] = "thresholds"

    def words(self) -> str:
        """What is counted."""
        return "thresholds: count the integer thresholds reached; equal to exact"

    def codes(self, formula: Formula, acc: Integers, stages: Sequence[Stage] = ()) -> Integers:
        """The definition."""
        return staircase(formula, int(acc.min()), int(acc.max())).count(acc) if acc.size else acc

    def prepared(self, formula: Formula, stages: Sequence[Stage], low: int, high: int) -> CellFunction:
        """Thresholds made once."""
        return staircase(formula, low, high).count

    def constants(self, formula: Formula, stages: Sequence[Stage], low: int, high: int) -> dict[str, list[Any]]:
        """`threshold`, ascending, the first one `low`, and `code`: that of the last threshold <= the accumulator."""
        made = staircase(formula, low, high)
        codes = np.concatenate([[0], np.cumsum(made.steps)]) + made.base
        return {"threshold": [low, *made.thresholds.tolist()], "code": codes.tolist()}
