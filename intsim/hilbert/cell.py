"""The closest curve point found inside one lattice cell: four candidates, integers only, no branches.

Lengths are in *sub-units*: one lattice edge is S of them. A point is given by its cell (i, j), whose lower-left corner
is the lattice vertex (i, j), and by its offset (a, b) from that corner, 0 <= a, b < S.

Why one cell is enough. Every lattice point is a vertex of the curve, so a point of the cell is at most S / sqrt(2) from
the curve. An edge that does not touch the cell is at least S away. An edge that touches it in a corner only has that
corner as its closest point, because it leads away from the cell. So every closest point lies on a side of the cell that
is an edge of the curve, or is a corner of the cell.

Why four candidates are enough. The candidate of a side is the foot of the perpendicular if the curve runs along that
side, else the corner the side starts from, going round counter-clockwise. A corner left out that way begins a side
which the curve runs along, and the foot on that side is closer, or is that corner.

Why points outside the lattice may be clamped onto it. Left of the lattice the squared distance to a curve point in
column 0 is (distance to the column)**2 + (difference of rows)**2, and any curve point right of column 0 has a vertex of
column 0 in its row, or is a whole edge further right than the closest vertex of column 0, which is at most S / 2 off in
rows. So the closest points are those in column 0 with the smallest difference of rows, and they are the same for the
clamped point. The other three sides and the corners go alike.

Why cells beyond the last column or row need no care. Right of the last column a = 0, and the two missing corners are
read from column 0 instead. Whatever indices they show: the candidate of the bottom side is its left corner; that of the
top side is its left corner, or is S away; that of the right side is S away; the left side has both its corners. So each
true candidate is there, at most S / 2 away, and what is false is S away. Above the last row it goes alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SIGN = 63  # an arithmetic right shift by this leaves only the sign of a 64-bit value


def below(left: Any, right: Any) -> Any:
    """-1 (all ones) where left < right, else 0; for integer-likes whose difference fits in 64 bits."""
    return (left - right) >> SIGN


def nonzero(value: Any) -> Any:
    """-1 (all ones) where value is not 0, else 0; for integer-likes of at most 63 bits and sign."""
    return (value | -value) >> SIGN


def choose(mask: Any, left: Any, right: Any) -> Any:
    """Left where mask is -1, right where mask is 0: a multiplexer."""
    return right ^ ((left ^ right) & mask)


def square_by_shifts(value: Any, bits: int) -> Any:
    """value * value for 0 <= value < 2**bits, bits >= 1, by adding ``bits`` shifted and gated copies of it."""
    total = value & -(value & 1)
    for bit in range(1, bits):
        total = total + ((value << bit) & -((value >> bit) & 1))
    return total


def candidates(
    i: Any,
    j: Any,
    a: Any,
    b: Any,
    spacing: int,
    vertex: Callable[[Any, Any], Any],
    square: Callable[[Any], Any],
    times_spacing: Callable[[Any], Any],
) -> list[tuple[Any, Any]]:
    """The four candidates for the closest curve point; every closest point of the curve is among them.

    Args:
        i: column of the cell, 0..2**p - 1; integer-like or integer array, like j, a and b.
        j: row of the cell, 0..2**p - 1.
        a: offset from the column, 0 <= a < spacing.
        b: offset from the row, 0 <= b < spacing.
        spacing: S, sub-units an edge.
        vertex: gives the index along the curve of a lattice vertex; reads its two arguments modulo 2**p.
        square: squares a value in 0..spacing - 1.
        times_spacing: multiplies by S.

    Returns:
        Four pairs (squared distance, position along the curve), in squared sub-units and sub-units.
    """
    a_left = spacing - a
    b_left = spacing - b
    aa, bb = square(a), square(b)
    # (S - a)**2 = a**2 + S * (S - 2a) saves two squares.
    aa_left = aa + times_spacing(a_left - a)
    bb_left = bb + times_spacing(b_left - b)
    corners = [vertex(i, j), vertex(i + 1, j), vertex(i + 1, j + 1), vertex(i, j + 1)]
    sides = [(bb, aa, a), (aa_left, bb, b), (bb_left, aa_left, a_left), (aa, bb_left, b_left)]
    options = []
    for (across, along, offset), start, end in zip(sides, corners, corners[1:] + corners[:1], strict=True):
        step = end - start
        not_forward, not_backward = nonzero(step - 1), nonzero(step + 1)
        squared = across + (along & not_forward & not_backward)
        # Forward: start + offset, backward: start - offset, neither: the corner itself.
        position = times_spacing(start) + (offset & ~not_forward) - (offset & ~not_backward)
        options.append((squared, position))
    return options


def closest(options: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """The candidate (squared distance, position) at the smallest distance; of several the lowest position."""
    best_squared, best = options[0]
    for squared, position in options[1:]:
        equal = ~nonzero(squared - best_squared)
        take = below(squared, best_squared) | (equal & below(position, best))
        best_squared = choose(take, squared, best_squared)
        best = choose(take, position, best)
    return best_squared, best
