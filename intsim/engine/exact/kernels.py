"""Exact sums of u8 x s8 products, four bytes at a time: convolutions over words, matrix products, additions of maps.

The innermost loops are emitted as LLVM code (`microkernels.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact.microkernels import (
    RUN,
    begin_tiles,
    bounded,
    codes,
    conv_tile,
    copy,
    end_tiles,
    place,
    product_tile,
    product_tiles,
    row_codes,
    sum_codes,
)
from intsim.jit.compile import compiled


@compiled
def _correct(sums, row, size, scale, ends, table, packed):  # type: ignore[no-untyped-def]
    """One row's codes in `packed`, raised or lowered by one where the table says so."""
    lane, begin = np.uint32(8 * (row & 3)), row * size
    low, high, shift = np.int64(ends[4]), np.int64(ends[5]), np.int64(ends[6])
    for p in range(size):
        seen = np.int64(sums[begin + p])
        seen = -seen if scale < 0 else seen
        code = np.int64((packed[p] >> lane) & np.uint32(255)) - shift
        if code > low and seen < table[code - low - 1]:
            packed[p] -= np.uint32(1) << lane
        elif code < high and seen >= table[code - low]:
            packed[p] += np.uint32(1) << lane


@compiled
def _places(span, source, out, tile):  # type: ignore[no-untyped-def]
    """Where vectors of positions of rows span[0] to span[1] go, those between rows left out.

    Returns:
        (vectors, 1 + 2 * runs) int64, whole tiles of vectors of 16 lanes at most. Of each vector how many of its runs
        are not empty, but at least one; then of each run the element where the vector's first lane would be, and as
        bits the lanes that are stored.
    """
    pitch, width = source
    line, down = out
    first, size = span[0] * pitch, (span[1] - 1 - span[0]) * pitch + width
    lanes, block = tile.lanes, tile.lanes * tile.vectors
    solid = width == pitch and line * down == pitch  # one row goes right behind another
    runs = 1 if solid else (lanes + pitch - 2) // pitch + 1
    count = max(0, size + block - 1) // block * tile.vectors
    places = np.zeros((count, 1 + 2 * runs), np.int64)
    for v in range(count):
        begin, end = v * lanes, min(v * lanes + lanes, size)
        places[v, 0] = 1
        if solid:
            places[v, 1] = first + begin
            places[v, 2] = (1 << max(end - begin, 0)) - 1
            continue
        at, r = begin, 0
        while at < end:
            row, column = at // pitch, at % pitch
            here = min(end, row * pitch + width) - at
            if here > 0:
                places[v, 1 + 2 * r] = (span[0] + row) * down * line + column - (at - begin)
                places[v, 2 + 2 * r] = ((1 << here) - 1) << (at - begin)
                r += 1
                places[v, 0] = r
            at = (row + 1) * pitch
    return places


@compiled
def _scatter(out, first, line, down, right, source, begin, grid):  # type: ignore[no-untyped-def]
    """Positions of a tile, source[begin:], to where they belong: those between rows are left out.

    grid: (row and column of the first position, valid positions of a row, positions of a row, positions of the tile).
    """
    row, column, width, pitch, valid = grid
    q = 0
    while q < valid:
        run = min(valid - q, max(width - column, 0))
        to = first + row * down * line + column * right
        if right == 1:
            copy(out, to, source, begin + q, run)
        else:
            for i in range(run):
                out[to + i * right] = source[begin + q + i]
        q += pitch - column
        row, column = row + 1, 0


@compiled
def convolve(source, images, span, layer, rounding, out, tile):  # type: ignore[no-untyped-def]
    """Output rows span[0] to span[1], all channels, of some images, into words of codes or into raw sums.

    Args:
        source: (x, start, pitch, width): position p of the output reads from the words x[start + p] on, rows are
            `pitch` words apart and have `width` valid positions.
        images: (first, one past the last, words of an image in x, and in the output words).
        span: (first row, one past the last row, rows of a strip that stay in the cache together).
        layer: (offset of each tap; first tap of each channel block and one past the last; int32 weights (taps, rows,
            parts) flat; int32 bias, one a channel of all blocks; channels in all; and of tile registers the words
            between their rows and their shapes).
        rounding: `conv.Codes` for the channels of all blocks.
        out: (uint32 words that receive codes, or empty; int32 array that receives sums, one plane a channel, or empty;
            first element, elements of a plane, elements of a row, step down, step right).
        tile: `microkernels.Tile`.
    """
    x, start, pitch, width = source
    offsets, firsts, weights, bias, ends, apart, shapes = layer
    words, raw, first, plane, line, down, right = out
    high, block = tile.rows, tile.lanes * tile.vectors
    table = rounding.table
    # whole lines of the cache
    sums, packed = np.zeros(max(high, 4) * block + 2 * RUN, np.int32), np.empty(block + 2 * RUN, np.uint32)
    sums, packed = sums[(-sums.ctypes.data & 63) >> 2 :], packed[(-packed.ctypes.data & 63) >> 2 :]
    begin_tiles(shapes, tile)
    placed, strip = raw.size == 0 and right == 1, min(span[0] + span[2], span[1])
    places = _places((span[0], strip if placed else span[0]), (pitch, width), (line, down), tile)
    for image in range(images[0], images[1]):
        for begin in range(span[0], span[1], span[2]):
            end = min(begin + span[2], span[1])
            last = (end - 1) * pitch + width
            if placed and span[1] > strip:  # several strips
                places = _places((begin, end), (pitch, width), (line, down), tile)
            for index in range(firsts.size - 1):
                channel, tap = index * high, firsts[index]
                count, many = firsts[index + 1] - tap, min(high, ends - index * high)
                position, column, vector = begin, -block, -tile.vectors
                for p in range(begin * pitch, last, block):
                    at = start + image * images[2] + p
                    conv_tile(x, at, offsets, tap, count, weights, tap, bias, channel, sums, apart, tile)
                    column, vector = column + block, vector + tile.vectors
                    while not placed and column >= pitch:
                        position, column = position + 1, column - pitch
                    valid = min(block, last - p)
                    grid = position, column, width, pitch, valid
                    if raw.size:
                        for r in range(many):
                            start_of_plane = first + (image * ends + channel + r) * plane
                            _scatter(raw, start_of_plane, line, down, right, sums, r * block, grid)
                        continue
                    for group in range(0, many, 4):
                        codes(sums, group, rounding, channel + group, packed, tile)
                        if table.shape[1] > 0 and rounding.single[(channel + group) // 4] == 0:
                            for r in range(group, min(group + 4, many)):
                                c = channel + r
                                _correct(sums, r, block, rounding.lines[0, c], rounding.ends, table[c], packed)
                        start_of_plane = first + image * images[3] + ((channel + group) // 4) * plane
                        if placed:
                            place(packed, words, start_of_plane, places, vector, tile)
                        else:
                            _scatter(words, start_of_plane, line, down, right, packed, 0, grid)
    end_tiles(tile)


@compiled
def convolve_checked(source, images, span, layer, limits, out, failed, tile):  # type: ignore[no-untyped-def]
    """As `convolve` into raw sums, of channels whose sums' positive and negative parts are accumulated apart.

    Every partial sum of a channel, in any order, lies between its negative and its positive part. Blocks of channels in
    which a part leaves its limits are marked in `failed` and left; blocks marked before are not begun.

    Args:
        layer: as in `convolve`, two rows a channel: weights above 0 and weights below 0; channels in all of the pairs.
        limits: (3, channels) int32: least negative part, greatest positive part, what the sums start at.
        out: (int32 array of sums; first element, elements of a plane, elements of a row, step down, step right).
        failed: bool, one a block.
    """
    x, start, pitch, width = source
    offsets, firsts, weights, bias, ends = layer
    raw, first, plane, line, down, right = out
    pairs, block = tile.rows // 2, tile.lanes * tile.vectors
    parts, sums, edges = np.zeros(2 * pairs * block, np.int32), np.empty(block + RUN, np.int32), np.zeros(2, np.int32)
    for image in range(images[0], images[1]):
        for begin in range(span[0], span[1], span[2]):
            last = (min(begin + span[2], span[1]) - 1) * pitch + width
            for index in range(firsts.size - 1):
                channel, tap = index * pairs, firsts[index]
                count, many = firsts[index + 1] - tap, min(pairs, ends - index * pairs)
                position, column = begin, -block
                for p in range(begin * pitch, last, block):
                    if failed[index]:
                        break
                    column += block
                    while column >= pitch:
                        position, column = position + 1, column - pitch
                    at = start + image * images[2] + p
                    conv_tile(x, at, offsets, tap, count, weights, tap, bias, 0, parts, 0, tile)
                    valid = min(block, last - p)
                    grid = position, column, width, pitch, valid
                    for r in range(many):
                        c = channel + r
                        bounded(parts, 2 * r, valid, limits[2, c], sums, edges, tile)
                        if edges[0] < limits[0, c] or edges[1] > limits[1, c]:
                            failed[index] = True
                        to = first + (image * ends + c) * plane
                        _scatter(raw, to, line, down, right, sums, 0, grid)


@compiled
def multiply(source, span, weights, bias, out, tile):  # type: ignore[no-untyped-def]
    """Rows span[0] to span[1] of a matrix product: out[m, n] = bias[n] + sum_k x[m, k] w[k, n].

    Args:
        source: (x, step): row m of words from x[m * step] on, `step` words.
        weights: flat int32, (column blocks, words of a row, vectors, parts, lanes).
        bias: int32, one a column of all blocks.
        out: (M, columns) int32.
        tile: `microkernels.Tile`.
    """
    x, step = source
    depth, columns = step, out.shape[1]
    high, block = tile.rows, tile.lanes * tile.vectors
    sums, at = np.empty(high * block, np.int32), np.empty(high, np.int64)
    for index in range((columns + block - 1) // block):
        many = min(block, columns - index * block)
        for m in range(span[0], span[1], high):
            for r in range(high):
                at[r] = min(m + r, span[1] - 1) * step
            product_tile(x, at, depth, weights, index * depth, bias, index * block, sums, tile)
            for r in range(min(high, span[1] - m)):
                for c in range(many):
                    out[m + r, index * block + c] = sums[r * block + c]


@compiled
def multiply_rows(source, span, layer, rounding, out, tile):  # type: ignore[no-untyped-def]
    """Rows span[0] to span[1] of a product with a constant matrix, as sums or requantized.

    Args:
        source: (x, step, rows): row m of words from x[m * step] on, `step` words; rows in all.
        span: begins at a multiple of the rows of a tile.
        layer: (first words of chunks, words of a chunk, weights, bias, shapes) in tile registers: `product_tiles`. Else
            weights and bias as of `multiply`.
        rounding: (scale, offset, ends) of all columns, as of `row_codes`.
        out: (M, columns) int32 sums, or uint8 codes.
        tile: `microkernels.Tile`.
    """
    x, step, rows = source
    starts, depth, weights, bias, shapes = layer
    scale, offset, ends = rounding
    columns, high, block = out.shape[1], tile.rows, tile.lanes * tile.vectors
    sums, packed = np.empty((high + 1) * block + RUN, np.int32), np.empty(block + 2 * RUN, np.uint32)
    sums = sums[(-sums.ctypes.data & 63) >> 2 :]
    flat, octets, at = out.reshape(-1), packed.view(np.uint8), np.empty(high, np.int64)
    begin_tiles(shapes, tile)
    for index in range((columns + block - 1) // block):
        column = index * block
        many = min(block, columns - column)
        for m in range(span[0], span[1], high):
            # the last tile may begin early
            first = max(0, min(m, rows - high)) if tile.tiled else m
            if tile.tiled:
                product_tiles(x, first * step, step, starts, depth, weights, bias, column, sums, tile)
            else:
                for r in range(high):
                    at[r] = min(m + r, span[1] - 1) * step
                product_tile(x, at, step, weights, index * step, bias, column, sums, tile)
            for r in range(min(high, span[1] - first)):
                to = (first + r) * columns + column
                if ends.size and many == block:
                    row_codes(sums, r, scale, offset, column, ends, flat, to, tile)
                elif ends.size:
                    row_codes(sums, r, scale, offset, column, ends, octets, 0, tile)
                    for c in range(many):
                        flat[to + c] = octets[c]
                else:
                    made = flat[to : to + many]
                    for c in range(many):
                        made[c] = sums[r * block + c]
    end_tiles(tile)


class SumCodes(NamedTuple):
    """A requantizer of sums of two bytes, for channels a multiple of 4.

    scale * (a * x + b * y + c) + offset is rounded as `kind` says; a, b, c and all sums are integers below 2^53. Four
    channels for which `single` isn't 0 go by (a' * x + b' * y) + offset' in float32, which is proven for them.
    """

    factors: NDArray[np.float64]  # (5, channels): a, b, c, scale, offset
    kind: int
    factors32: NDArray[np.float32]  # (3, channels): a', b', offset'
    single: NDArray[np.uint8]  # (channels / 4,)
    ends: NDArray[np.int32]  # as of `conv.Codes`


@compiled
def add_words(x, y, shape, rounding, out, tile):  # type: ignore[no-untyped-def]
    """Codes of weighted sums of two maps, or of one; see `SumCodes`.

    Args:
        x, y, out: (words, from image to image, plane to plane, row to row, first word).
        shape: (images, groups, height, width).
        rounding: `SumCodes`.
        tile: of one vector, and as many rows as there are maps; of one map y is not read.
    """
    images, groups, height, width = shape
    block = tile.lanes
    packed = np.empty(block + RUN, np.uint32)
    for image in range(images):
        for group in range(groups):
            for row in range(height):
                a = x[4] + image * x[1] + group * x[2] + row * x[3]
                b = y[4] + image * y[1] + group * y[2] + row * y[3]
                to = out[4] + image * out[1] + group * out[2] + row * out[3]
                for p in range(0, width, block):
                    sum_codes(x[0], a + p, y[0], b + p, rounding, 4 * group, packed, tile)
                    copy(out[0], to + p, packed, 0, min(block, width - p))
