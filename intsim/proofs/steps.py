"""Where two step functions of an integer differ, decided by their values at the ends of intervals.

Both functions are monotone on each interval, in whatever direction. One that has the same value at both ends is
constant between them; where both are, their difference is known on the whole interval. Other intervals are split in
halves, down to single integers. So the cost follows the number of steps, not of integers, and no integer is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from intsim.arithmetic.requantizers.requantizer import StepLimitError
from intsim.graph import IntArray

MOST_STEPS = 1 << 22
"""Most intervals looked at for one cell."""
STEPS = f"more than {MOST_STEPS} steps to compare"


@dataclass(frozen=True)
class Runs:
    """Maximal runs of neighbouring integers `low`..`high` with a difference in `least`..`most`, never 0; ascending."""

    low: IntArray
    high: IntArray
    least: IntArray
    most: IntArray


def differing(
    first: Callable[[IntArray], IntArray],
    second: Callable[[IntArray], IntArray],
    low: IntArray,
    high: IntArray,
    any_will_do: bool = False,
) -> Runs:
    """All integers of the disjoint intervals low..high where `first - second` isn't 0.

    Args:
        first: int64 array to int64 array; monotone on each interval.
        second: likewise.
        low: starts of the intervals, int64, ascending.
        high: their ends, inclusive.
        any_will_do: stop at the first difference; the runs are then some of all.

    Raises:
        StepLimitError: more than `MOST_STEPS` intervals.
    """
    ends = np.concatenate([low, high])
    f, s = (np.split(g(ends), 2) for g in (first, second))
    looked_at = low.size
    none = np.zeros(0, np.int64)
    decided = [(none, none, none)]
    while True:
        if looked_at > MOST_STEPS:
            raise StepLimitError(STEPS)
        constant = (f[0] == f[1]) & (s[0] == s[1])
        different = constant & (f[0] != s[0])
        if different.any():
            decided.append((low[different], high[different], f[0][different] - s[0][different]))
            if any_will_do:
                break
        open_ = ~constant
        if not open_.any():
            break
        low, high = low[open_], high[open_]
        middle = (low >> 1) + (high >> 1) + (low & high & 1)  # their sum may be beyond int64
        halves = np.concatenate([middle, middle + 1])
        f, s = (
            [np.concatenate([g[0][open_], new[1]]), np.concatenate([new[0], g[1][open_]])]
            for g, new in ((f, np.split(first(halves), 2)), (s, np.split(second(halves), 2)))
        )
        low, high = np.concatenate([low, middle + 1]), np.concatenate([middle, high])
        looked_at += low.size
    return merged(*(np.concatenate(column) for column in zip(*decided, strict=True)))


def merged(low: IntArray, high: IntArray, difference: IntArray) -> Runs:
    """Intervals low..high, each with a difference, as runs; they may come in any order and be the same."""
    if not low.size:
        return Runs(low, high, difference, difference)
    order = np.argsort(low)
    low, high, difference = low[order], high[order], difference[order]
    starts = np.flatnonzero(np.concatenate([[True], low[1:] - 1 > high[:-1]]))
    ends = np.append(starts[1:], low.size) - 1
    return Runs(
        low[starts], high[ends], np.minimum.reduceat(difference, starts), np.maximum.reduceat(difference, starts)
    )
