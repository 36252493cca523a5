"""What a requantize node does to accumulators, as numbers that a compiled loop can use: made and proven by `fit`.

For channel c and accumulator v, with u = v, or -v where scale[c] < 0:

    g = clip(kind(scale[c] * v + offset[c]), low, high)         IEEE 754 binary64, product and sum each rounded
    g = g - 1 if g > low and u < table[c, g - low - 1]           only where there is a table
    g = g + 1 if g < high and u >= table[c, g - low]

`table[c, i]` is the least u whose code is low + i + 1 or more. The function is proven equal to the requantizer's
definition for every accumulator within `reach`; outside it says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.pieces import Formula

RINT, FLOOR, CEIL = 0, 1, 2
"""Values of `kind`: to the nearest, ties to even; down; up."""


@dataclass(frozen=True, eq=False)
class AffineRequantizer:
    """A requantize node's function. Arrays have one entry a cell of the node, cells in row-major order."""

    scale: NDArray[np.float64]  # (cells,)
    offset: NDArray[np.float64]  # (cells,), zero point included
    kind: int
    low: int  # clip of the codes, inclusive, zero point included
    high: int
    table: NDArray[np.int64]  # (cells, high - low), or (cells, 0) where the formula alone is proven
    reach: tuple[int, int]  # accumulators for which it is proven, inclusive


@dataclass(frozen=True)
class TwoFormulas:
    """Two formulas without tables, of one clip: `below` for accumulators less than the cell's start, else `above`."""

    starts: NDArray[np.int64]  # (cells,)
    below: AffineRequantizer
    above: AffineRequantizer


@dataclass(frozen=True, eq=False)
class FilteredRequantizer:
    """A requantize node of one piece a cell, its formula as of `AffineRequantizer` but for numbers near an edge.

    A number before rounding that is `sure` or more from an integer may have another code than that integer: of these
    the definition, a `Formula` a cell, makes the codes. `filtered.py` says when that is right.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]  # zero point included
    low: int
    high: int
    sure: NDArray[np.float64]
    cells: Sequence[Formula]


Rule = AffineRequantizer | TwoFormulas | FilteredRequantizer
