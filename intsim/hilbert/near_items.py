"""What can be closest to a point of one lattice cell: few pieces of the curve, the same for every spacing.

The argument of `cell.py` holds in any number d of dimensions up to three: a point of a cell is at most
S sqrt(d) / 2 < S from a corner, which is a vertex of the curve; an edge that does not touch the cell is S away; one
that touches it in a corner only leads away from it. So every closest point lies on an edge of the cell that the curve
runs along, or is a corner.

A point outside the lattice may be moved to the lattice's border, axis by axis. With x below 0 the closest points have
x = 0: a point further right either has a vertex with x = 0 in its row, or is S further right than some vertex with
x = 0 that is at most S / 2 further off along each other axis, and S**2 > 2 (S / 2)**2.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from intsim.hilbert.curve import Curve
from intsim.hilbert.scan import segment_table


@cache
def near_items(order: int, dimensions: int) -> NDArray[np.int64]:
    """Pieces of the curve that hold every closest point, for each lattice cell.

    A piece is an edge of the cell that the curve runs along, or a corner of it that no such edge ends in. There are
    2**d of them at most, as each but one of a run of edges adds a corner; shorter lists repeat their last piece.

    Args:
        order: p.
        dimensions: d.

    Returns:
        int64 ((2**p - 1)**d, 2**d, d + 3), read-only. Cells are numbered with the last axis fastest. A piece is the
        vertex it starts from (d numbers, lattice units), its axis, its direction (1, -1, or 0 for a corner), and the
        index of the vertex.
    """
    curve = Curve(order, 0, dimensions)
    vertices, segments = curve.vertices.tolist(), segment_table(curve)
    index = {tuple(vertex): vertex_number for vertex_number, vertex in enumerate(vertices)}
    corners = list(product((0, 1), repeat=dimensions))
    table = np.empty(((curve.side - 1) ** dimensions, len(corners), dimensions + 3), np.int64)
    for number, cell in enumerate(product(range(curve.side - 1), repeat=dimensions)):
        inside = {index[tuple(c + o for c, o in zip(cell, corner, strict=True))] for corner in corners}
        items = []
        for vertex_number in sorted(inside):
            start = vertices[vertex_number]
            if vertex_number + 1 in inside:
                items.append([*start, *segments[vertex_number][1:], vertex_number])
            elif vertex_number - 1 not in inside:
                items.append([*start, 0, 0, vertex_number])
        table[number, : len(items)] = items
        table[number, len(items) :] = items[-1]
    table.setflags(write=False)
    return table


def boxes(items: NDArray[np.int64], spacing: int) -> NDArray[np.int64]:
    """Pieces as boxes: their interval along each axis, and the position as a function of the coordinates.

    Args:
        items: int64 (..., d + 3), as `near_items` makes them.
        spacing: S.

    Returns:
        int64 (..., 8): low x, y, z, high x, y, z, base and sign. The point of the piece with the coordinates x, y, z
        has the position base + sign * (x + y + z). In the plane z is 0.
    """
    d = items.shape[-1] - 3
    start = np.zeros((*items.shape[:-1], 3), np.int64)
    start[..., :d] = items[..., :d] * spacing
    end = start + spacing * items[..., d + 1, None] * (np.arange(3) == items[..., d, None])
    base = items[..., d + 2] * spacing - items[..., d + 1] * start.sum(axis=-1)
    ends = [np.minimum(start, end), np.maximum(start, end), base[..., None], items[..., d + 1, None]]
    return np.ascontiguousarray(np.concatenate(ends, axis=-1))
