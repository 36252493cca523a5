"""Requantizers of many codes: float64 decides where it is sure, the definition near the edges between codes.

A formula that is proven at each step (`fit.py`) takes as long to make as there are steps, in each cell. With 16-bit
codes these are more than the numbers that are ever requantized. Here nothing is proven beforehand but a bound on what
rounding to float64 can do; of a number that comes that near to an edge the definition makes the code.
"""

from __future__ import annotations

import numpy as np

from intsim.arithmetic.requantizers.requantizer import Requantizer
from intsim.arithmetic.rounding import Rounding
from intsim.engine.requantize.affine import FilteredRequantizer
from intsim.engine.requantize.steps import nearby
from intsim.graph import Node
from intsim.ops.requantize import formulas

MANY = 1 << 10
"""Codes from which on a proof of all steps isn't worth its time."""
MOST_CODE, MOST_ACCUMULATOR = 1 << 30, 1 << 53
NEAREST = {Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_TOWARD_ZERO, Rounding.HALF_UP}
SHIFTS = {**dict.fromkeys(NEAREST, 0.0), Rounding.FLOOR: -0.5, Rounding.CEIL: 0.5}
"""What is added to a number so that the nearest integer is its code, but for the edges."""


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
