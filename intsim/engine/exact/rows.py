"""Compiled operators on rows of arrays: softmax, normalisation, products of two tensors."""

from __future__ import annotations

import numpy as np

from intsim.engine.exact.kernels import multiply
from intsim.jit.compile import compiled

MAGIC = 1.5 * 2.0**52
"""Added to a number below 2^51 and taken away again, it leaves the nearest integer, ties to even."""


@compiled
def softmax_rows(x, out, table, shift, first, last):  # type: ignore[no-untyped-def]
    """`ops.softmax` of the rows first..last-1: floor(((e << shift) + s) / (2 s)), e = table[max(x) - x], s = sum e.

    Args:
        x, out: (rows, n) int32, C-contiguous.
        table: int64; beyond its end its last entry is read. e << shift and 2 s are below 2^63, quotients up to 2^25.
    """
    end = np.int64(table.size - 1)
    e = np.empty(x.shape[1], np.int64)
    for row in range(first, last):
        line, made = x[row], out[row]
        top = np.int64(line[0])
        for i in range(line.size):
            top = max(top, np.int64(line[i]))
        total = np.int64(0)
        for i in range(line.size):
            e[i] = table[min(top - np.int64(line[i]), end)]
            total += e[i]
        divisor = 2 * total
        inverse = 1.0 / np.float64(divisor)
        for i in range(line.size):
            # the product is off by less than four units of 2^-53 of 2^25: its floor by one at most
            above = (e[i] << shift) + total
            y = np.int64(np.float64(above) * inverse)
            rest = above - y * divisor
            made[i] = y + np.int64(rest >= divisor) - np.int64(rest < 0)


@compiled
def norm_rows(x, out, doubtful, power, epsilon, first, last):  # type: ignore[no-untyped-def]
    """`ops.layer_norm` of the rows first..last-1, where float64 decides.

    Args:
        x, out: (rows, n) int32, C-contiguous. n times a row's spread, squared, is below 2^62; results below 2^30.
        doubtful: bool, (rows,): set where a result lies within 2^-19 of half-way between integers.
        power: 2 to the power of the bits of fraction.
        epsilon: nearest to the attribute times n^2.
    """
    count = np.int64(x.shape[1])
    for row in range(first, last):
        line, made = x[row], out[row]
        least = np.int64(line[0])
        for i in range(line.size):
            least = min(least, np.int64(line[i]))
        total, squares = np.int64(0), np.int64(0)
        for i in range(line.size):
            v = np.int64(line[i]) - least
            total += v
            squares += v * v
        q = count * squares - total * total
        doubtful[row] = False
        if q == 0:
            made[:] = 0
            continue
        # q, epsilon, their sum, the root, the quotient and the product are off by 2^-53 of themselves each at most;
        # those of the root's operand count half
        factor = power / np.sqrt(np.float64(q) + epsilon)
        close = np.int64(0)
        for i in range(line.size):
            y = np.float64(count * (np.int64(line[i]) - least) - total) * factor
            nearest = (y + MAGIC) - MAGIC
            made[i] = np.int32(nearest)
            close += np.int64(abs(y - nearest) > 0.5 - 2.0**-19)
        doubtful[row] = close > 0


@compiled
def multiply_pairs(a, b, out, zeros, tile, first, last):  # type: ignore[no-untyped-def]
    """out[i] = (a[i] + za) @ (b[i] + zb) for the pairs first..last-1, sums modulo 2^32.

    Args:
        a: (pairs, M, K) uint8.
        b: (pairs, K, N) int8.
        out: (pairs, M, N) int32.
        zeros: (za, zb) int64.
        tile: `microkernels.Tile`.
    """
    za, zb = zeros
    _, rows, depth = a.shape
    columns = b.shape[2]
    words = (depth + 3) // 4
    block = tile.lanes * tile.vectors
    blocks = (columns + block - 1) // block
    x = np.zeros(rows * words, np.uint32)
    weights = np.zeros(blocks * words * tile.vectors * tile.parts * tile.lanes, np.int32)
    bias, sums = np.zeros(blocks * block, np.int32), np.zeros(columns, np.int64)
    bytes_ = x.view(np.uint8)
    for pair in range(first, last):
        for m in range(rows):
            bytes_[4 * words * m : 4 * words * m + depth] = a[pair, m]
        _lay(b[pair], weights, tile)
        sums[:] = depth * zb
        for k in range(depth):
            line = b[pair, k]
            for c in range(columns):
                sums[c] += np.int64(line[c])
        for c in range(columns):
            bias[c] = np.int32(za * sums[c])
        made = out[pair]
        multiply((x, words), (0, rows), weights, bias, made, tile)
        if zb != 0:
            for m in range(rows):
                total = np.int64(0)
                for k in range(depth):
                    total += np.int64(a[pair, m, k])
                for c in range(columns):
                    made[m, c] = np.int32(made[m, c] + np.int32(zb * total))


@compiled
def _lay(b, weights, tile):  # type: ignore[no-untyped-def]
    """Bytes (K, N) as `multiply` takes them: (column blocks, words, vectors, parts, lanes), see `isa.Dot.parts`."""
    depth, columns = b.shape
    words, lanes, parts, wide = (depth + 3) // 4, tile.lanes, tile.parts, tile.vectors
    block = lanes * wide
    for start in range(0, columns, lanes):
        index, vector = start // block, start % block // lanes
        count = min(lanes, columns - start)
        for k in range(words):
            at = ((index * words + k) * wide + vector) * parts * lanes
            weights[at : at + parts * lanes] = 0
            for i in range(min(4, depth - 4 * k)):
                line = b[4 * k + i, start : start + count]
                if parts == 1:
                    for c in range(count):
                        weights[at + c] |= np.int32(np.uint32(np.uint8(line[c])) << np.uint32(8 * i))
                elif parts == 2:
                    to = at + (i & 1) * lanes
                    for c in range(count):
                        weights[to + c] |= np.int32(np.uint32(np.uint16(np.int16(line[c]))) << np.uint32(16 * (i >> 1)))
                else:
                    for c in range(count):
                        weights[at + i * lanes + c] = np.int32(line[c])
