"""Requantizers of many codes: float64 decides where it is sure, the definition near the edges between codes.

A formula that is proven at each step (`fit.py`) takes as long to make as there are steps, in each cell. With 16-bit
codes these are more than the numbers that are ever requantized. Here nothing is proven beforehand but a bound on what
rounding to float64 can do; of a number that comes that near to an edge the definition makes the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.requantizers.exact import exact_requantize
from intsim.arithmetic.requantizers.requantizer import Requantizer
from intsim.arithmetic.rounding import Rounding
from intsim.engine.requantize.kernels import CARRIERS
from intsim.engine.requantize.steps import nearby
from intsim.graph import Node
from intsim.jit.compile import compiled
from intsim.ops.requantize import formulas

MANY = 1 << 10
"""Codes from which on a proof of all steps isn't worth its time."""
MOST_CODE, MOST_ACCUMULATOR = 1 << 30, 1 << 53
NEAREST = {Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_TOWARD_ZERO, Rounding.HALF_UP}
SHIFTS = {**dict.fromkeys(NEAREST, 0.0), Rounding.FLOOR: -0.5, Rounding.CEIL: 0.5}
"""What is added to a number so that the nearest integer is its code, but for the edges."""


@compiled
def _codes(acc, out, scale, offset, low, high, sure):  # type: ignore[no-untyped-def]
    """Codes of (outer, cells, inner) accumulators; how many of them lie `sure` (a cell) or more from theirs."""
    outer, cells, inner = acc.shape
    doubtful = np.int64(0)
    for o in range(outer):
        if inner == 1:
            line, codes = acc[o, :, 0], out[o, :, 0]
            for c in range(cells):
                y = scale[c] * np.float64(line[c]) + offset[c]
                y = low if y < low else y
                y = high if y > high else y
                code = np.rint(y)
                codes[c] = np.int32(code)
                doubtful += np.int64(abs(y - code) >= sure[c])
            continue
        for c in range(cells):
            line, codes, s, b, edge = acc[o, c], out[o, c], scale[c], offset[c], sure[c]
            for i in range(inner):
                y = s * np.float64(line[i]) + b
                y = low if y < low else y
                y = high if y > high else y
                code = np.rint(y)
                codes[i] = np.int32(code)
                doubtful += np.int64(abs(y - code) >= edge)
    return doubtful


@dataclass(frozen=True, eq=False)
class FilteredRequantizer:
    """A requantize node of one piece a cell. Arrays have one entry a cell, cells in row-major order."""

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]  # zero point included
    low: int
    high: int
    sure: NDArray[np.float64]  # a number this far from an integer, or further, may have another code
    cells: Sequence[Formula]

    def run(self, acc: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """Codes of accumulators (outer, cells, inner), int32 or int64, C-contiguous, into `out` of that shape."""
        stored = out.view(CARRIERS[out.dtype.itemsize])
        if _codes(acc, stored, self.scale, self.offset, float(self.low), float(self.high), self.sure):
            self._decide(acc, out)
        return out

    def _decide(self, acc: NDArray[Any], out: NDArray[Any]) -> None:
        """Codes near an edge, by the definition."""
        for c, formula in enumerate(self.cells):
            numbers = acc[:, c].astype(np.int64)
            y = np.clip(self.scale[c] * numbers + self.offset[c], self.low, self.high)
            near = np.abs(y - np.rint(y)) >= self.sure[c] - 2.0**-40
            if near.any():
                ((_, scale, offset),) = formula.pieces
                exact = exact_requantize(numbers[near], scale, offset, formula.rounding)
                out[:, c][near] = formula.clip(exact + formula.zero)


def filtered(node: Node, requantizer: Requantizer, reach: tuple[int, int]) -> FilteredRequantizer | None:
    """The requantizer of many codes that is exact, for accumulators within reach; None for others.

    With u = 2^-53 float64 is off by less than 4u (|S acc| + |B|), B with the zero point; the bound is twice that.
    """
    low, high, farthest = node.attributes["low"], node.attributes["high"], max(abs(reach[0]), abs(reach[1]))
    if low is None or high is None or high - low < MANY or max(-low, high) >= MOST_CODE:
        return None
    cells = formulas(node)
    if not requantizer.exact or farthest >= MOST_ACCUMULATOR or any(len(f.pieces) > 1 for f in cells):
        return None
    if any(f.rounding not in SHIFTS for f in cells):
        return None
    scale = np.array([nearby(f.pieces[0][1]) for f in cells])
    offset = np.array([nearby(f.pieces[0][2] + f.zero) for f in cells])
    bound = 2.0**-50 * (np.abs(scale) * farthest + np.abs(offset) + 1)
    if (bound > 2.0**-10).any():
        return None
    shifts = np.array([SHIFTS[f.rounding] for f in cells])
    return FilteredRequantizer(scale, offset + shifts, low, high, 0.5 - bound, cells)
