"""Compiled operators on planes of arrays: sums and maxima of windows, interpolation along an axis.

Numbers are int32 or int64, whichever holds what comes out; sums may wrap on the way.
"""

from __future__ import annotations

import numpy as np

from intsim.jit.compile import compiled


@compiled
def sum_windows(window, zero, weight, x, out, first, last):  # type: ignore[no-untyped-def]
    """Sums of `x - zero` over windows, times the position's weight; padding is worth nothing. Planes first..last-1.

    Args:
        window: (taps down and right, strides, distances of taps, padding above and to the left).
        zero, weight: a number and (rows, columns), of x's type.
        x: (planes, height, width).
        out: (planes, rows, columns), of the same type.
    """
    down, right, step_down, step_right, apart_down, apart_right, top, left = window
    _, height, width = x.shape
    rows, columns = out.shape[1:]
    lane = x.dtype.type
    line = np.empty(width, x.dtype)
    for plane in range(first, last):
        for row in range(rows):
            line[:] = 0
            for i in range(down):
                y = row * step_down + i * apart_down - top
                if 0 <= y < height:
                    seen = x[plane, y]
                    for p in range(width):
                        line[p] = lane(line[p] + lane(seen[p] - zero))
            made = out[plane, row]
            made[:] = 0
            for j in range(right):
                begin = j * apart_right - left
                # columns whose tap is inside
                start = max(0, (step_right - 1 - begin) // step_right)
                stop = min(columns, (width - 1 - begin) // step_right + 1)
                for c in range(start, stop):
                    made[c] = lane(made[c] + line[begin + c * step_right])
            for c in range(columns):
                made[c] = lane(made[c] * weight[row, c])


@compiled
def max_windows(window, x, out, first, last):  # type: ignore[no-untyped-def]
    """Maxima over windows, each of which has a tap within the input. Arguments as of `sum_windows`."""
    down, right, step_down, step_right, apart_down, apart_right, top, left = window
    _, height, width = x.shape
    rows, columns = out.shape[1:]
    least = np.iinfo(x.dtype).min
    line = np.empty(width, x.dtype)
    for plane in range(first, last):
        for row in range(rows):
            line[:] = least
            for i in range(down):
                y = row * step_down + i * apart_down - top
                if 0 <= y < height:
                    seen = x[plane, y]
                    for p in range(width):
                        line[p] = max(line[p], seen[p])
            made = out[plane, row]
            made[:] = least
            for j in range(right):
                begin = j * apart_right - left
                start = max(0, (step_right - 1 - begin) // step_right)
                stop = min(columns, (width - 1 - begin) // step_right + 1)
                for c in range(start, stop):
                    made[c] = max(made[c], line[begin + c * step_right])


@compiled
def interpolated(index, weight, x, out, first, last):  # type: ignore[no-untyped-def]
    """out[o, j] = sum_t weight[t, j] * x[o, index[t, j]], for o in first..last-1.

    Args:
        index: (T, J) uint32.
        weight: (T, J) of x's type.
        x: (outer, positions, inner).
        out: (outer, J, inner), of the same type.
    """
    lane = x.dtype.type
    taps, count = index.shape
    for o in range(first, last):
        for j in range(count):
            row = out[o, j]
            row[:] = 0
            for t in range(taps):
                factor, seen = weight[t, j], x[o, index[t, j]]
                for p in range(row.size):
                    row[p] = lane(row[p] + lane(factor * seen[p]))


@compiled
def interpolated_rows(index, weight, x, out, first, last):  # type: ignore[no-untyped-def]
    """`interpolated` along the last axis: x (outer, positions), out (outer, J).

    An index without sign isn't counted from the end, so that it can be gathered.
    """
    lane = x.dtype.type
    for o in range(first, last):
        line, made = x[o], out[o]
        made[:] = 0
        for t in range(index.shape[0]):
            factors, places = weight[t], index[t]
            for j in range(made.size):
                made[j] = lane(made[j] + lane(factors[j] * line[places[j]]))
