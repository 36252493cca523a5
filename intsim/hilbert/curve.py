"""The order-p approximating polygon of the Hilbert curve in 2 or 3 dimensions: vertices, lengths, the vertex index.

Source: arXiv 2405.14024 (ICML 2025), section 2.2 and appendix A; the index algorithm is the classical
quadrant-by-quadrant one (H. S. Warren, "Hacker's Delight", 2nd ed., chapter 16), written without branches. In three
dimensions there are many Hilbert curves; `octants.py` says which one this is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.hilbert.octants import octant_vertices

LOWEST_ORDER = 1
HIGHEST_ORDER = 6
HIGHEST_ORDERS = {2: HIGHEST_ORDER, 3: 4}
"""Highest order by the number of dimensions."""


@dataclass(frozen=True, init=False)
class Curve:
    """The order-p polygon in the unit square, from the lower-left to the lower-right corner of its inset square.

    The 4**p vertices fill a 2**p x 2**p lattice whose outer rows and columns lie exactly on ``inset`` and
    ``1 - inset``; vertex 0 is the lower-left one, vertex 4**p - 1 the lower-right one. The 4**p - 1 edges are parallel
    to an axis and equally long, so q = (arc length) / length puts vertex d at q = d / (4**p - 1).

    With three dimensions it is the polygon in the unit cube: 8**p vertices, from the corner (k, k, k) to (1 - k, k, k).

    Args:
        order: p, 1..6; with three dimensions 1..4.
        inset: k, the free border around the curve, 0 <= k < 0.5 of the unit square. A float stands for the decimal
            fraction it prints as (0.1 is exactly 1/10); a Fraction is taken as it is.
        dimensions: d, 2 or 3.

    Raises:
        IntsimError: dimensions is not 2 or 3, order is not an integer in its range, or inset is not a number in
            [0, 0.5).
    """

    order: int
    inset: float
    exact_inset: Fraction = field(repr=False)
    dimensions: int = 2

    def __init__(self, order: int, inset: float | Fraction = 0.1, dimensions: int = 2) -> None:
        """Check the arguments; keep the exact inset beside the float one."""
        exact = _exact_inset(inset)
        object.__setattr__(self, "dimensions", _checked_dimensions(dimensions))
        object.__setattr__(self, "order", _checked_order(order, HIGHEST_ORDERS[self.dimensions]))
        object.__setattr__(self, "inset", float(exact))
        object.__setattr__(self, "exact_inset", exact)

    @property
    def side(self) -> int:
        """Vertices along one side of the lattice: 2**p."""
        return 1 << self.order

    @property
    def segments(self) -> int:
        """Number of edges: 2**(d p) - 1, so 4**p - 1 in the plane."""
        return (1 << self.dimensions * self.order) - 1

    @property
    def edge_length(self) -> float:
        """Length h of one edge in the unit square, (1 - 2k) / (2**p - 1); also the distance of parallel neighbours."""
        return float((1 - 2 * self.exact_inset) / (self.side - 1))

    @property
    def length(self) -> float:
        """Length L of the whole curve, segments * h: (2**p + 1)(1 - 2k) in the plane."""
        return float((1 - 2 * self.exact_inset) * (self.segments // (self.side - 1)))

    @cached_property
    def vertices(self) -> NDArray[np.int64]:
        """Lattice vertices in the order of the curve: int64 (2**(d p), d), columns in 0..2**p - 1, read-only."""
        if self.dimensions == 3:
            return octant_vertices(self.order)
        vertices = np.zeros((1, 2), np.int64)
        for order in range(1, self.order + 1):
            half = 1 << (order - 1)
            transposed = vertices[:, ::-1]
            upper = vertices + np.array([0, half]), vertices + np.array([half, half])
            vertices = np.concatenate([transposed, *upper, np.array([2 * half - 1, half - 1]) - transposed])
        vertices.setflags(write=False)
        return vertices

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """Vertices in the unit square: float64 (2**(d p), d), each coordinate k + h*i rounded once, read-only."""
        k, h = self.exact_inset, (1 - 2 * self.exact_inset) / (self.side - 1)
        coordinate = np.array([float(k + h * i) for i in range(self.side)])
        points = coordinate[self.vertices]
        points.setflags(write=False)
        return points

    @cached_property
    def index_table(self) -> NDArray[np.int64]:
        """Vertex index by lattice position: int64 (2**p,) * d, entry [ix, iy (, iz)] in 0..segments, read-only."""
        table = np.empty((self.side,) * self.dimensions, np.int64)
        table[tuple(self.vertices.T)] = np.arange(self.segments + 1)
        table.setflags(write=False)
        return table


def vertex_index(ix: Any, iy: Any, order: int) -> Any:
    """Index along the order-p curve of the lattice vertex (ix, iy), from shifts and bit operations alone.

    Args:
        ix: lattice column; any integer-like value or integer array; only its low ``order`` bits are read.
        iy: lattice row, likewise.
        order: p.

    Returns:
        The index, 0..4**p - 1, of the type of the arguments. It inverts `Curve.vertices`.
    """
    index = (ix ^ ix) & 1  # a zero of the right kind and shape
    for bit in reversed(range(order)):
        right, upper = (ix >> bit) & 1, (iy >> bit) & 1
        # Quadrants are visited lower-left, upper-left, upper-right, lower-right: 0, 1, 2, 3.
        index = (index << 2) | (((right << 1) | right) ^ upper)
        # The two lower quadrants hold the transposed curve, the right one of them transposed about the other diagonal.
        flip = -(right & (upper ^ 1))
        ix, iy = ix ^ flip, iy ^ flip
        swap = (ix ^ iy) & ~-upper
        ix, iy = ix ^ swap, iy ^ swap
    return index


def is_integer(value: Any) -> bool:
    """Whether it is a whole number by its type, Python's or numpy's; truth values are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _checked_dimensions(dimensions: Any) -> int:
    if not is_integer(dimensions) or dimensions not in HIGHEST_ORDERS:
        raise IntsimError(f"Hilbert curve of {dimensions!r} dimensions: give 2 or 3")
    return int(dimensions)


def _checked_order(order: Any, highest: int) -> int:
    if not is_integer(order):
        raise IntsimError(f"Hilbert order {order!r} is not an integer: give one of {LOWEST_ORDER}..{highest}")
    if not LOWEST_ORDER <= order <= highest:
        raise IntsimError(f"Hilbert order {order} is out of range: give one of {LOWEST_ORDER}..{highest}")
    return int(order)


def _exact_inset(inset: Any) -> Fraction:
    advice = "give a number k with 0 <= k < 0.5"
    if isinstance(inset, bool | np.bool_) or not isinstance(inset, int | float | np.integer | np.floating | Fraction):
        raise IntsimError(f"Hilbert inset {inset!r} is not a number: {advice}")
    try:
        plain = inset.item() if hasattr(inset, "item") else inset
        exact = plain if isinstance(plain, Fraction) else Fraction(str(plain))
    except ValueError:
        raise IntsimError(f"Hilbert inset {inset!r} is not finite: {advice}") from None
    if not 0 <= exact < Fraction(1, 2):
        raise IntsimError(f"Hilbert inset {inset} is out of range: {advice}")
    return exact
