"""Hitting a sum exactly: values within their ranges whose weighted sum is a given integer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TRIES = 8
MOST_VALUES = 512
"""Values of one range that the last step looks at."""


def subset_sum(
    weights: Sequence[int], low: Sequence[int], high: Sequence[int], goal: int, seed: int = 0
) -> list[int] | None:
    """Values with `sum weights[i] * values[i] == goal` and low[i] <= values[i] <= high[i], or None.

    Large weights are set first, each to a value that leaves the rest within reach: the middle one, in later tries one
    at random. The three smallest are searched. None is no proof that there are none, unless there are three weights
    or fewer with ranges of at most `MOST_VALUES`. The same arguments give the same values.
    """
    order = sorted((i for i, w in enumerate(weights) if w), key=lambda i: -abs(weights[i]))
    least, most = [0], [0]
    for i in reversed(order):
        a, b = sorted((weights[i] * low[i], weights[i] * high[i]))
        least.append(least[-1] + a)
        most.append(most[-1] + b)
    if not least[-1] <= goal <= most[-1]:
        return None
    rng = np.random.default_rng(seed)
    free, last = order[:-3], order[-3:]
    for attempt in range(TRIES if free else 1):
        values, rest = list(low), goal
        for n, i in enumerate(free):
            left = len(order) - n - 1  # weights still to set
            a, b = _within(weights[i], rest - most[left], rest - least[left])
            a, b = max(a, low[i]), min(b, high[i])
            if a > b:
                break
            values[i] = (a + b) // 2 if attempt == 0 else int(rng.integers(a, b, endpoint=True))
            rest -= weights[i] * values[i]
        else:
            smallest = _last([(weights[i], low[i], high[i]) for i in last], rest)
            if smallest is not None:
                for i, x in zip(last, smallest, strict=True):
                    values[i] = x
                return values
    return None


def _within(weight: int, a: int, b: int) -> tuple[int, int]:
    """Least and greatest x with a <= weight * x <= b."""
    if weight < 0:
        weight, a, b = -weight, -b, -a
    return -(-a // weight), b // weight


def _last(parts: list[tuple[int, int, int]], goal: int) -> list[int] | None:
    """Up to three (weight, low, high): the first values, of all tried, that hit the goal."""
    if not parts:
        return None if goal else []
    *outer, (weight, low, high) = [(0, 0, 0)] * (3 - len(parts)) + parts
    grids = [list(range(a, min(b, a + MOST_VALUES - 1) + 1)) for _, a, b in outer]
    size = abs(goal) + sum(abs(w) * max(abs(a), abs(b)) for w, a, b in parts)
    first, second = (
        np.array(grid, np.int64 if size < 1 << 62 else object) * w for grid, (w, _, _) in zip(grids, outer, strict=True)
    )
    rest = goal - first[:, None] - second
    hit = np.asarray((rest % weight == 0) & (rest // weight >= low) & (rest // weight <= high), bool)
    if not hit.any():
        return None
    i, j = divmod(int(hit.argmax()), hit.shape[1])
    picked = [grids[0][i], grids[1][j], int(rest[i, j]) // weight]
    return picked[3 - len(parts) :]
