"""Compiled operators on maps of bytes in words: maxima of windows, products of maps, tables, means of whole maps.

Maps are (words, from image to image, plane to plane, row to row, first word), see `layout.walk`. A byte of a word is a
channel, so maxima work on bytes side by side. Bytes are codes plus a shift, which keeps their order.
"""

from __future__ import annotations

import numpy as np

from intsim.engine.exact.bytewise import (
    bytes_looked_up,
    channel_sums,
    greatest,
    greatest_of_every_second,
    looked_up,
    products,
)
from intsim.jit.compile import compiled

MAGIC = 1.5 * 2.0**52
"""Added to a number below 2^51 and taken away again, it leaves the nearest integer, ties to even."""
STRIP = 4096
"""Words of a strip of lines, which stays in the first-level cache."""


@compiled
def max_words(x, out, size, window, tile, first, last):  # type: ignore[no-untyped-def]
    """Maxima of windows, for the planes first..last-1 of (images, groups): down the columns, then along the rows.

    Args:
        x, out: maps.
        size: (groups, height, width, rows, columns): planes of an image, of the input and of the output.
        window: (taps down and right, strides, distances of taps, padding above and to the left). Every window has a tap
            within the input.
        tile: whose vectors are used.
    """
    groups, height, width, rows, columns = size
    down, right, step_down, step_right, apart_down, apart_right, top, left = window
    front = max(left, 0)
    shift = front - left  # where the first window begins in a line
    pitch = max(front + width, shift + (columns - 1) * step_right + (right - 1) * apart_right + 1)
    strip = max(1, STRIP // pitch)
    # padding stays 0, which no byte is less than; up to two vectors behind the end are read
    lines, line = np.zeros(min(strip, rows) * pitch + 2 * tile.lanes, np.uint32), np.empty(pitch, np.uint32)
    for plane in range(first, last):
        image, group = plane // groups, plane % groups
        source = x[4] + image * x[1] + group * x[2]
        target = out[4] + image * out[1] + group * out[2]
        for begin in range(0, rows, strip):
            count = min(strip, rows - begin)
            for r in range(count):
                y, to = (begin + r) * step_down - top, r * pitch
                early = 0 if y >= 0 else (apart_down - 1 - y) // apart_down  # taps above the input
                late = min(down, (height - 1 - y) // apart_down + 1)
                at = source + (y + early * apart_down) * x[3]
                greatest(x[0], at, apart_down * x[3], late - early, lines, to + front, width, tile)
            for r in range(count):
                at, to = r * pitch + shift, target + (begin + r) * out[3]
                if step_right == 1:
                    greatest(lines, at, apart_right, right, out[0], to, columns, tile)
                elif step_right == 2:
                    greatest_of_every_second(lines, at, apart_right, right, out[0], to, columns, tile)
                else:
                    greatest(lines, at, apart_right, right, line, 0, (columns - 1) * step_right + 1, tile)
                    for c in range(columns):
                        out[0][to + c] = line[c * step_right]


@compiled
def _code(y, low, high, shift):  # type: ignore[no-untyped-def]
    """The byte of a code: clipped, to the nearest, ties to even."""
    y = low if y < low else y
    y = high if y > high else y
    return np.uint32(np.int32((y + MAGIC) - MAGIC) + shift)


@compiled
def multiply_words(x, y, size, factors, limits, out, first, last):  # type: ignore[no-untyped-def]
    """Bytes of scale * (byte of x + a) * (byte of y + b) + offset, for the planes first..last-1 of (images, groups).

    Args:
        x, y, out: maps; y may have one position, which all of x are multiplied by.
        size: (groups, height, width, whether y has one position).
        factors: (4, channels) float64, channels a multiple of 4: a, b, scale, offset; a and b are integers below 2^20.
        limits: (3,) int32: low, high, and what makes a byte of a code. Ties go to even codes.
    """
    groups, height, width, single = size
    low, high, shift, byte = np.float64(limits[0]), np.float64(limits[1]), limits[2], np.uint32(255)
    same = np.zeros(width, np.uint32)
    for plane in range(first, last):
        image, group = plane // groups, plane % groups
        begin = y[4] + image * y[1] + group * y[2]
        if single:
            same[:] = y[0][begin]
        c = 4 * group
        a0, a1, a2, a3 = factors[0, c], factors[0, c + 1], factors[0, c + 2], factors[0, c + 3]
        b0, b1, b2, b3 = factors[1, c], factors[1, c + 1], factors[1, c + 2], factors[1, c + 3]
        s0, s1, s2, s3 = factors[2, c], factors[2, c + 1], factors[2, c + 2], factors[2, c + 3]
        o0, o1, o2, o3 = factors[3, c], factors[3, c + 1], factors[3, c + 2], factors[3, c + 3]
        for row in range(height):
            start = x[4] + image * x[1] + group * x[2] + row * x[3]
            to = out[4] + image * out[1] + group * out[2] + row * out[3]
            there = begin + row * y[3]
            left, made = x[0][start : start + width], out[0][to : to + width]
            right = same if single else y[0][there : there + width]
            for p in range(width):
                u, v = left[p], right[p]
                f = (np.float64(np.int32(u & byte)) + a0) * (np.float64(np.int32(v & byte)) + b0)
                word = _code(s0 * f + o0, low, high, shift)
                u, v = u >> np.uint32(8), v >> np.uint32(8)
                f = (np.float64(np.int32(u & byte)) + a1) * (np.float64(np.int32(v & byte)) + b1)
                word |= _code(s1 * f + o1, low, high, shift) << np.uint32(8)
                u, v = u >> np.uint32(8), v >> np.uint32(8)
                f = (np.float64(np.int32(u & byte)) + a2) * (np.float64(np.int32(v & byte)) + b2)
                word |= _code(s2 * f + o2, low, high, shift) << np.uint32(16)
                u, v = u >> np.uint32(8), v >> np.uint32(8)
                f = (np.float64(np.int32(u)) + a3) * (np.float64(np.int32(v)) + b3)
                made[p] = word | (_code(s3 * f + o3, low, high, shift) << np.uint32(24))


@compiled
def multiply_words32(x, y, size, factors, limits, out, tile, first, last):  # type: ignore[no-untyped-def]
    """As `multiply_words`, in float32: `factors` are, and the caller has proven it for every pair of bytes."""
    groups, height, width, single = size
    for plane in range(first, last):
        image, group = plane // groups, plane % groups
        there = y[4] + image * y[1] + group * y[2]
        at = x[4] + image * x[1] + group * x[2]
        to = out[4] + image * out[1] + group * out[2]
        for _ in range(height):
            products(x[0], at, y[0], there, single, factors, 4 * group, limits, out[0], to, width, tile)
            at, to = at + x[3], to + out[3]
            there += 0 if single else y[3]


@compiled
def look_up_words(x, out, size, tables, first, last):  # type: ignore[no-untyped-def]
    """Bytes of one map to bytes of another by tables, in registers: `table_words` where there is `isa.shuffles`.

    Args:
        x, out: maps.
        size: (groups, height, width).
        tables: (groups or 1, 256) uint8.
        first, last: planes of (images, groups).
    """
    groups, height, width = size
    for plane in range(first, last):
        image, group = plane // groups, plane % groups
        at = x[4] + image * x[1] + group * x[2]
        to = out[4] + image * out[1] + group * out[2]
        own = tables[group if len(tables) > 1 else 0]
        for _ in range(height):
            looked_up(x[0], at, own, out[0], to, width)
            at, to = at + x[3], to + out[3]


@compiled
def look_up_bytes(x, out, table, first, last):  # type: ignore[no-untyped-def]
    """out[i] = table[x[i]] for the elements first..last-1; x, out and table (256,) uint8. See `look_up_words`."""
    bytes_looked_up(x, table, out, first, last)


@compiled
def mean_codes(x, size, factors, limits, out, tile, first, last):  # type: ignore[no-untyped-def]
    """Bytes of scale * (sum of a channel's map + constant) + offset, into out (planes, 4) uint8, planes first..last-1.

    Args:
        x: a map.
        size: (groups, height, width), of rows below 2^24.
        factors: (3, channels) float64, channels a multiple of 4: constant, scale, offset. Sums are below 2^53.
        limits: (3,) int32: low, high, and what makes a byte of a code. Ties go to even codes.
        tile: whose vectors are used.
    """
    groups, height, width = size
    low, high, shift = np.float64(limits[0]), np.float64(limits[1]), limits[2]
    sums = np.empty(4, np.int64)
    for plane in range(first, last):
        image, group = plane // groups, plane % groups
        sums[:] = 0
        for row in range(height):
            channel_sums(x[0], x[4] + image * x[1] + group * x[2] + row * x[3], width, sums, tile)
        for r in range(4):
            c = 4 * group + r
            y = factors[1, c] * (np.float64(sums[r]) + factors[0, c]) + factors[2, c]
            out[plane, r] = np.uint8(_code(y, low, high, shift))


@compiled
def put(values, out, positions):  # type: ignore[no-untyped-def]
    """out[positions] = values, flat arrays."""
    for index in range(positions.size):
        out[positions[index]] = values[index]
