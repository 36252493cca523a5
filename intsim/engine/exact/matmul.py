"""Exact products with a constant matrix of bytes, prepared once and run many times; see `conv` for the sums."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact.conv import HALF, Weights, byte_ends, byte_parts, fits, modulo32, weight_words
from intsim.engine.exact.isa import Dot
from intsim.engine.exact.kernels import multiply_rows
from intsim.engine.exact.microkernels import Tile, product_shapes
from intsim.engine.exact.tiles import DEPTH, LINE, ROWS, aligned
from intsim.engine.requantize.affine import AffineRequantizer
from intsim.engine.threads import share_out
from intsim.graph import IntArray

FEWEST = 8
"""Rows of a product that are worth a tile register."""


class ColumnCodes(NamedTuple):
    """A requantizer of one cell a column, as `kernels.multiply_rows` takes it."""

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    ends: NDArray[np.int32]  # of `byte_ends`, and what makes signed codes of bytes; empty for none


NO_CODES = ColumnCodes(np.zeros(0), np.zeros(0), np.zeros(0, np.int32))


def column_codes(rule: AffineRequantizer, columns: int) -> ColumnCodes | None:
    """A requantizer that `Columns` takes, of 1 or `columns` cells; None where what it rounds may be too large.

    Codes are stored as they are, in 8 bits with or without a sign.
    """
    if not fits(rule) or rule.low < -128 or rule.high > (127 if rule.low < 0 else 255):
        return None
    scale, offset = np.zeros(columns + 64), np.zeros(columns + 64)
    scale[:columns], offset[:columns] = rule.scale, rule.offset
    signed = rule.low < 0
    turned = np.full(1, 0x80808080 if signed else 0, np.uint32).view(np.int32)
    ends = np.concatenate([byte_ends(rule.low, rule.high, HALF if signed else 0), turned])
    return ColumnCodes(scale, offset, ends)


class WordMatmul:
    """A product with a constant matrix (K, N) of weights within -255..255, zero point taken off.

    `constant` (N,) is added modulo 2^32. Words of x that meet weights beyond int8 are read again for what is left of
    these (`conv.byte_parts`).
    """

    def __init__(self, weight: Weights, constant: IntArray, dot: Dot) -> None:
        """Lay the weights out."""
        depth, self.columns = weight.shape
        given, wide = -(-depth // 4), 4 if dot.registers == 32 else 2
        self.one, self.four = (Tile(dot.lanes, dot.parts, rows, wide) for rows in (1, 4))
        self.low, self.square = (Tile(dot.lanes, dot.parts, h * ROWS, 4 // h, True) for h in (1, 2))
        self.tiled = dot.tiles
        self.shapes: dict[int, NDArray[np.uint8]] = {}  # by rows of a register
        block = dot.lanes * wide
        count = -(-self.columns // block)
        tables: list[NDArray[np.int8]] = []
        read: list[NDArray[np.int64]] = []
        for part in byte_parts(weight):
            table = np.zeros((given, 4, count * block), np.int8)
            table.reshape(4 * given, -1)[:depth, : self.columns] = part
            read.append(np.flatnonzero(table.any(axis=(1, 2))) if read else np.arange(given))
            tables.append(table[read[-1]])
        self.given, self.again = given, np.concatenate([read[0][:0], *read[1:]])
        self.depth = given + self.again.size
        table = np.concatenate(tables)
        # (blocks, depth, vectors, lanes, 4)
        by_word = table.reshape(self.depth, 4, count, wide, dot.lanes).transpose(2, 0, 3, 4, 1)
        words = weight_words(np.ascontiguousarray(by_word), dot)
        shape = (count, self.depth, wide, dot.lanes, dot.parts)
        self.weights = np.ascontiguousarray(words.reshape(shape).swapaxes(3, 4)).reshape(-1)
        self.weights, self.bias = aligned(self.weights), modulo32(constant, count * block)
        if self.tiled:
            # chunks of equal depth; what the last one has in common with another meets zeros
            chunks = -(-self.depth // DEPTH)
            deep = -(-self.depth // chunks)
            self.starts = np.minimum(np.arange(chunks) * deep, self.depth - deep)
            rows = self.weights.reshape(count, self.depth, wide, dot.lanes)
            laid = np.zeros((count, wide, chunks, deep, dot.lanes), np.int32)
            for chunk, start in enumerate(self.starts.tolist()):
                own = chunk * deep
                laid[:, :, chunk, own - start :] = rows[:, own : start + deep].swapaxes(1, 2)
            self.deep, self.in_tiles, self.bias = deep, aligned(laid.reshape(-1)), aligned(self.bias)

    def run(self, codes: NDArray[Any], shift: int, rounding: ColumnCodes = NO_CODES) -> NDArray[Any]:
        """(M, K) codes, of which each plus `shift` is a byte, to accumulators (M, N) int32, or bytes by `rounding`."""
        rows, depth = codes.shape
        tiled, kind = self.tiled and rows >= FEWEST, np.uint8 if rounding.ends.size else np.int32
        # the next product may read it as it is
        out = lined((rows, self.columns)) if tiled and kind is np.uint8 else np.empty((rows, self.columns), kind)
        if tiled:
            few, tile = min(rows, ROWS), self.square if rows >= self.square.rows else self.low
            if few not in self.shapes:
                self.shapes[few] = product_shapes(self.deep, few)
            layer = self.starts, self.deep, self.in_tiles, self.bias, self.shapes[few]
            source = *self._lines(codes, shift), rows
        else:
            x = as_bytes(codes, shift)
            if depth % 4 or self.again.size:
                wide = np.zeros((rows, 4 * self.depth), np.uint8)
                wide[:, :depth] = x
                self._read_again(wide.view(np.uint32))
                x = wide
            tile = self.one if rows == 1 else self.four
            layer, source = (
                (_NONE, 0, self.weights, self.bias, _SHAPES),
                (x.reshape(-1).view(np.uint32), self.depth, rows),
            )

        if rows < 2 * tile.rows:  # nothing to share out
            multiply_rows(source, (0, rows), layer, rounding, out, tile)
        else:
            share_out(lambda span: multiply_rows(source, span, layer, rounding, out, tile), rows, tile.rows)
        return out

    def _lines(self, codes: NDArray[Any], shift: int) -> tuple[NDArray[np.uint32], int]:
        """Rows of bytes as words, flat, each of which begins at a line of the cache; and words of a row."""
        rows, depth = codes.shape
        width = -(-4 * self.depth // LINE) * LINE
        if not shift and depth == width and codes.dtype.itemsize == 1 and codes.flags.c_contiguous:
            return codes.reshape(-1).view(np.uint32), width // 4
        x = lined((rows, width))
        narrow = codes.view(np.uint8) if codes.dtype.itemsize == 1 else codes.astype(np.uint8)  # modulo 256
        np.add(narrow, np.uint8(shift), out=x[:, :depth])
        x[:, depth : 4 * self.given] = 0
        self._read_again(x.view(np.uint32))
        return x.reshape(-1).view(np.uint32), width // 4

    def _read_again(self, words: NDArray[np.uint32]) -> None:
        """Write words of rows that meet more than one part of their weights behind the others."""
        if self.again.size:
            words[:, self.given : self.depth] = words[:, self.again]


def lined(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """An array to be filled, which begins at a line of the cache."""
    room = np.empty(shape[0] * shape[1] + LINE, np.uint8)
    begin = -room.ctypes.data % LINE
    return room[begin : begin + shape[0] * shape[1]].reshape(shape)


_NONE, _SHAPES = np.zeros(0, np.int64), np.zeros(64, np.uint8)


def as_bytes(codes: NDArray[Any], shift: int) -> NDArray[np.uint8]:
    """Codes plus a shift, which makes bytes of them, C-contiguous: where they are bytes already, the array itself."""
    narrow = codes.view(np.uint8) if codes.dtype.itemsize == 1 else codes.astype(np.uint8)  # modulo 256
    return np.ascontiguousarray(narrow + np.uint8(shift) if shift else narrow)
