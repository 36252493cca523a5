"""Piecewise linear functions of an integer accumulator, and the exact formula of one cell of a requantizer.

Pieces are `(start, S, B)`: from the integer `start` on (None, for the first: from minus infinity) the function is
`S * acc + B`. Starts ascend and are integers, so choosing a piece is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.rounding import Rounding

Integers = NDArray[np.int64]
Piece = tuple[int | None, Fraction, Fraction]
Transform = Callable[[Integers, Fraction, Fraction], Integers]
"""`(acc, S, B)` to integers of acc's shape."""


@dataclass(frozen=True)
class Formula:
    """`clip(round(S_j * acc + B_j) + zero, low, high)`, j the piece that holds acc: docs/ir.md, Requantize.

    `low` and `high` are the least and the greatest code; None doesn't clip.
    """

    pieces: Sequence[Piece]
    rounding: Rounding
    zero: int = 0
    low: int | None = None
    high: int | None = None

    def clip(self, codes: Integers) -> Integers:
        """Codes within low..high."""
        return codes if self.low is None and self.high is None else np.clip(codes, self.low, self.high)


def spans(pieces: Sequence[Piece], low: int, high: int) -> Iterator[tuple[int, int, Piece]]:
    """The pieces that hold accumulators of low..high, each with its first and its last one."""
    for index, piece in enumerate(pieces):
        after = pieces[index + 1][0] if index + 1 < len(pieces) else None
        first = low if piece[0] is None else max(low, piece[0])
        last = high if after is None else min(high, after - 1)
        if first <= last:
            yield first, last, piece


def apply_pieces(pieces: Sequence[Piece], acc: Integers, transform: Transform) -> Integers:
    """Piecewise `transform(acc, S, B)`, any shape, int64."""
    if len(pieces) == 1:
        return transform(acc, *pieces[0][1:])
    which = np.zeros(acc.shape, np.int32)
    for start, _, _ in pieces[1:]:
        assert start is not None
        which += acc >= start
    out = np.empty(acc.shape, np.int64)
    for index, (_, scale, offset) in enumerate(pieces):
        # a piece sees its own accumulators only: a requantizer may refuse those of another
        chosen = which == index
        if chosen.any():
            out[chosen] = transform(acc[chosen], scale, offset)
    return out


def piecewise_range(pieces: Sequence[Piece], low: int, high: int) -> tuple[Fraction, Fraction]:
    """Extremes of a piecewise function over the integers low..high."""
    values = [s * end + b for first, last, (_, s, b) in spans(pieces, low, high) for end in (first, last)]
    return min(values), max(values)


def range_of_all(cells: Sequence[Sequence[Piece]], low: int, high: int) -> tuple[Fraction, Fraction]:
    """Extremes of several piecewise functions over the integers low..high.

    In float64 each value is known to within 2^-50 of what is added; only those that may be the least or the greatest
    are worked out as rationals.
    """
    ends = [
        (s, b, end) for pieces in cells for first, last, (_, s, b) in spans(pieces, low, high) for end in (first, last)
    ]
    candidates = [ends, ends]
    try:
        scale, offset, at = (np.array([float(v[i]) for v in ends]) for i in range(3))
        with np.errstate(all="ignore"):
            terms = scale * at
            value, room = terms + offset, 2.0**-50 * (np.abs(terms) + np.abs(offset)) + 2.0**-900
            # what isn't a number is never ruled out
            kept = ~(value - room > np.nanmin(value + room)), ~(value + room < np.nanmax(value - room))
        candidates = [[ends[i] for i in np.flatnonzero(k).tolist()] for k in kept]
    except OverflowError:  # a rational beyond float64
        pass
    least, most = ([s * end + b for s, b, end in chosen] for chosen in candidates)
    return min(least), max(most)
