"""Compiled decoding: the definition of `scan.py`, point by point, looking only at segments that can win.

A piece of the curve is a box without volume: along each axis an interval, of which all but one are single numbers. The
closest point of it is the point clipped to the box, and its position is `base` plus or minus the sum of its
coordinates. Points of the plane get a third coordinate 0.

Arguments of the kernels:
    codes: uint64 (n, d), from 0. Indices are unsigned: Numba does not ask whether they are negative.
    place: int64 (codes,): coordinate of each code, from vertex 0.
    line: uint64 (codes,): the cell each code is in or next to, along one axis, 0..cells - 1.
    pieces: int64 (cells**d, 2**d, 8): boxes of `near_items`: low x, y, z, high x, y, z, base, sign.
    cells: uint64, 2**p - 1.
    position, squared: int64 (n,), results, below 2**25 and 2**36.
"""

from __future__ import annotations

import numpy as np

from intsim.jit.compile import compiled

FAR = np.int64(1) << np.int64(62)
POSITION_BITS = np.int64(25)
"""A squared distance and a position are compared as one number, squared * 2**25 + position."""
LOW_BITS = (np.int64(1) << POSITION_BITS) - np.int64(1)


@compiled
def _foot(x, y, z, boxes, k):  # type: ignore[no-untyped-def]
    """(squared distance, position) of the closest point of box k."""
    fx = min(max(x, boxes[k, 0]), boxes[k, 3])
    fy = min(max(y, boxes[k, 1]), boxes[k, 4])
    fz = min(max(z, boxes[k, 2]), boxes[k, 5])
    squared = (x - fx) * (x - fx) + (y - fy) * (y - fy) + (z - fz) * (z - fz)
    return squared, boxes[k, 6] + boxes[k, 7] * (fx + fy + fz)


@compiled
def nearest_in_plane(codes, place, line, pieces, cells, position, squared):  # type: ignore[no-untyped-def]
    """Closest point of the whole curve, d = 2."""
    for i in range(np.uint64(codes.shape[0])):
        x, y = place[codes[i, 0]], place[codes[i, 1]]
        cell = line[codes[i, 0]] * cells + line[codes[i, 1]]
        best = FAR
        for k in range(np.uint64(4)):
            fx = min(max(x, pieces[cell, k, 0]), pieces[cell, k, 3])
            fy = min(max(y, pieces[cell, k, 1]), pieces[cell, k, 4])
            far = (x - fx) * (x - fx) + (y - fy) * (y - fy)
            best = min(best, (far << POSITION_BITS) + pieces[cell, k, 6] + pieces[cell, k, 7] * (fx + fy))
        squared[i], position[i] = best >> POSITION_BITS, best & LOW_BITS


@compiled
def nearest_in_space(codes, place, line, pieces, cells, position, squared):  # type: ignore[no-untyped-def]
    """Closest point of the whole curve, d = 3."""
    for i in range(np.uint64(codes.shape[0])):
        x, y, z = place[codes[i, 0]], place[codes[i, 1]], place[codes[i, 2]]
        cell = (line[codes[i, 0]] * cells + line[codes[i, 1]]) * cells + line[codes[i, 2]]
        best = FAR
        for k in range(np.uint64(8)):
            fx = min(max(x, pieces[cell, k, 0]), pieces[cell, k, 3])
            fy = min(max(y, pieces[cell, k, 1]), pieces[cell, k, 4])
            fz = min(max(z, pieces[cell, k, 2]), pieces[cell, k, 5])
            far = (x - fx) * (x - fx) + (y - fy) * (y - fy) + (z - fz) * (z - fz)
            best = min(best, (far << POSITION_BITS) + pieces[cell, k, 6] + pieces[cell, k, 7] * (fx + fy + fz))
        squared[i], position[i] = best >> POSITION_BITS, best & LOW_BITS


@compiled
def _part(x, y, z, boxes, s, base, spacing, low, high):  # type: ignore[no-untyped-def]
    """`_foot` of the part of a segment with low <= position <= high, which has one point at least."""
    squared, position = _foot(x, y, z, boxes, s)
    first, last = max(base, low), min(base + spacing, high)
    if first <= position <= last:
        return squared, position
    # The foot moves along the segment to the end of the part: only the coordinate along it changes.
    for a in range(3):
        if boxes[s, a] != boxes[s, 3 + a]:
            at = x if a == 0 else y if a == 1 else z
            off = at - min(max(at, boxes[s, a]), boxes[s, 3 + a])
            to = first if position < first else last
            foot = (boxes[s, a] if boxes[s, 7] > 0 else boxes[s, 3 + a]) + boxes[s, 7] * (to - base)
            squared += (at - foot) * (at - foot) - off * off
            position = to
            break
    return squared, position


@compiled
def guided(codes, place, segments, spacing, aim, window, shift, position, squared):  # type: ignore[no-untyped-def]
    """Best foot within a window, with a weight; `position` and `squared` come with those of the whole curve.

    Args:
        codes, place, position, squared: see above.
        segments: int64 (segments, 8): all segments as boxes.
        spacing: int64, S.
        aim: int64 (n,): G.
        window: int64, w >= 0; the length of the curve where there is none.
        shift: int64, k >= 0, or -1 where there is no weight.
    """
    count = segments.shape[0]
    for i in range(np.uint64(codes.shape[0])):
        near, where = squared[i], position[i]
        at = aim[i]
        low, high = max(at - window, np.int64(0)), min(at + window, count * spacing)
        inside = low <= where <= high
        best = FAR
        if inside:
            best = near
            if shift < 0:  # nothing is closer, and equals further along don't matter
                continue
            best += (where - at) ** 2 >> shift
        x, y, z = place[codes[i, 0]], place[codes[i, 1]], np.int64(0)
        if codes.shape[1] == 3:
            z = place[codes[i, 2]]
        # Outwards from the aim, up and then down, until the weight alone costs more than the best foot.
        middle = min(at // spacing, count - 1)
        for way in (1, -1):
            s = middle if way == 1 else middle - 1
            while 0 <= s < count:
                base = s * spacing
                if base > high or base + spacing < low:
                    break
                if shift >= 0:
                    gap = max(base - at if way == 1 else at - base - spacing, np.int64(0))
                    if gap * gap >> shift > best:
                        break
                total, foot = _part(x, y, z, segments, np.uint64(s), base, spacing, low, high)
                cost = total
                if shift >= 0:
                    cost += (foot - at) ** 2 >> shift
                if cost < best or (cost == best and foot < where):
                    best, where, near = cost, foot, total
                s += way
        squared[i], position[i] = near, where
