"""Compiled tables: one entry for each integer, on arrays and on words of four channels; staircases, grids on arrays."""

from __future__ import annotations

import numpy as np

from intsim.jit.compile import compiled


@compiled
def table_dense(x, out, table, low, first, last):  # type: ignore[no-untyped-def]
    """out[o, c, i] = table[c, x[o, c, i] - low] for the lines first..last-1 of (outer, cells).

    x, out: (outer, cells, inner) integers; table: (cells, entries), of out's type. Positions aren't checked.
    """
    cells, inner = x.shape[1], x.shape[2]
    for line in range(first, last):
        o, c = line // cells, line % cells
        codes, made, entries = x[o, c], out[o, c], table[c]
        for i in range(inner):
            made[i] = entries[np.int64(codes[i]) - low]


@compiled
def staircase_dense(x, out, starts, codes, first, last):  # type: ignore[no-untyped-def]
    """out[o, c, i] = codes[c, how many of starts[c] are <= x[o, c, i]] for the lines first..last-1 of (outer, cells).

    x, out: (outer, cells, inner) integers; starts: (cells, steps) int64, each row ascending; codes: (cells, steps + 1),
    of out's type.
    """
    cells, inner, steps = x.shape[1], x.shape[2], starts.shape[1]
    for line in range(first, last):
        o, c = line // cells, line % cells
        sums, made, own, entries = x[o, c], out[o, c], starts[c], codes[c]
        for i in range(inner):
            value = np.int64(sums[i])
            low, count = 0, steps
            while count > 0:
                half = count // 2
                if own[low + half] <= value:
                    low += half + 1
                    count -= half + 1
                else:
                    count = half
            made[i] = entries[low]


@compiled
def grid_dense(x, out, starts, slopes, high, low, bits, first, last):  # type: ignore[no-untyped-def]
    """out[o, c, i] = floor((slope * x[o, c, i] + summand) / 2^shift) for the lines first..last-1 of (outer, cells).

    x, out: (outer, cells, inner) integers; starts: (cells, pieces - 1) int64, ascending; slopes, high, low: (cells,
    pieces) int64, the summands' bits from bits[0] on and those below; bits: of the lower limb, and what is left of the
    shift.
    """
    cells, inner, count = x.shape[1], x.shape[2], starts.shape[1]
    limb, left = bits[0], bits[1]
    mask = (np.int64(1) << limb) - 1
    for line in range(first, last):
        o, c = line // cells, line % cells
        sums, made = x[o, c], out[o, c]
        for i in range(inner):
            value, piece = np.int64(sums[i]), 0
            while piece < count and starts[c, piece] <= value:
                piece += 1
            slope = slopes[c, piece]
            carried = ((value & mask) * slope + low[c, piece]) >> limb
            made[i] = ((value >> limb) * slope + high[c, piece] + carried) >> left


@compiled
def table_words(x, out, size, tables, first, last):  # type: ignore[no-untyped-def]
    """Bytes of one map to bytes of another, for the planes first..last-1 of (images, groups).

    Args:
        x, out: (words, from image to image, plane to plane, row to row, first word).
        size: (groups, height, width).
        tables: (groups or 1, 4, 256) uint32, the entry of each byte at the place of its channel in the word.
        first, last: planes.
    """
    groups, height, width = size
    byte = np.uint32(255)
    for plane in range(first, last):
        image, group = plane // groups, plane % groups
        own = tables[group if len(tables) > 1 else 0]
        a, b, c, d = own[0], own[1], own[2], own[3]
        for row in range(height):
            start = x[4] + image * x[1] + group * x[2] + row * x[3]
            to = out[4] + image * out[1] + group * out[2] + row * out[3]
            source, made = x[0][start : start + width], out[0][to : to + width]
            for p in range(width):
                w = source[p]
                low = a[w & byte] | b[(w >> np.uint32(8)) & byte]
                made[p] = low | c[(w >> np.uint32(16)) & byte] | d[w >> np.uint32(24)]
