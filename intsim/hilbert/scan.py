"""Definition of integer decoding: every segment of the polygon looked at, with or without a guide.

Lengths are in codes, or in whatever unit the coordinates are integers of. A point is given by its *place*, its
coordinates counted from vertex 0; a lattice edge is S long; a *position* is a length along the curve, 0..segments * S.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from intsim.hilbert.curve import Curve

Ints = NDArray[np.int64]


def segment_table(curve: Curve) -> list[tuple[list[int], int, int]]:
    """For each segment its first vertex in lattice units, the axis it runs along, and its direction, 1 or -1."""
    segments = []
    for start, end in pairwise(curve.vertices.tolist()):
        axis = next(a for a in range(curve.dimensions) if start[a] != end[a])
        segments.append((start, axis, end[axis] - start[axis]))
    return segments


def scan(
    places: Ints, curve: Curve, spacing: int, low: Ints, high: Ints, aim: Ints, shift: int | None
) -> tuple[Ints, Ints]:
    """Best of the segments' feet: (position, squared distance), int64 (n,).

    The foot of a segment is the point of it, of its part with low <= position <= high, that is closest to the place;
    segments without such a part have none. The best foot has the least

        squared distance + ((position - aim)**2 >> shift)

    and of equals the lowest position. Without a shift it is the squared distance alone.

    Args:
        places: int64 (d, n), anywhere.
        curve: gives vertices; its inset is not used.
        spacing: S.
        low: int64 (n,), 0 <= low <= high.
        high: int64 (n,), at most segments * S.
        aim: int64 (n,); read if there is a shift.
        shift: >= 0 or None.
    """
    size = places.shape[1]
    best, position, nearest = np.full(size, np.iinfo(np.int64).max), np.zeros(size, np.int64), np.zeros(size, np.int64)
    for s, (start, axis, sign) in enumerate(segment_table(curve)):
        offsets = places - spacing * np.array(start)[:, None]
        first, last = np.maximum(low - s * spacing, 0), np.minimum(high - s * spacing, spacing)
        along = np.minimum(np.maximum(sign * offsets[axis], first), last)
        offsets[axis] -= sign * along
        squared = (offsets * offsets).sum(axis=0)
        along += s * spacing
        cost = squared if shift is None else squared + ((along - aim) ** 2 >> shift)
        better = (cost < best) & (first <= last)
        best[better], position[better], nearest[better] = cost[better], along[better], squared[better]
    return position, nearest
