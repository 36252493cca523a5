"""Exact products with a constant matrix of bytes, prepared once and run many times; see `conv` for the sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact.conv import byte_parts, modulo32, weight_words
from intsim.engine.exact.isa import Dot
from intsim.engine.exact.kernels import multiply
from intsim.engine.exact.microkernels import Tile
from intsim.engine.threads import share_out
from intsim.graph import IntArray


class WordMatmul:
    """A product with a constant matrix (K, N) of weights within -255..255, zero point taken off.

    `constant` (N,) is added modulo 2^32. Words of x that meet weights beyond int8 are read again for what is left of
    these (`conv.byte_parts`).
    """

    def __init__(self, weight: IntArray, constant: IntArray, dot: Dot) -> None:
        """Lay the weights out."""
        depth, self.columns = weight.shape
        given, wide = -(-depth // 4), 4 if dot.registers == 32 else 2
        self.one, self.four = (Tile(dot.lanes, dot.parts, rows, wide) for rows in (1, 4))
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
        self.bias = modulo32(constant, count * block)

    def run(self, codes: NDArray[Any], shift: int) -> NDArray[np.int32]:
        """(M, K) codes, of which each plus `shift` is a byte, to accumulators (M, N)."""
        rows, depth = codes.shape
        x = as_bytes(codes, shift)
        if depth % 4 or self.again.size:
            wide = np.zeros((rows, 4 * self.depth), np.uint8)
            wide[:, :depth] = x
            words = wide.view(np.uint32)
            words[:, self.given :] = words[:, self.again]
            x = wide
        out = np.empty((rows, self.columns), np.int32)
        words, tile = x.reshape(-1).view(np.uint32), self.one if rows == 1 else self.four

        def part(span: tuple[int, int]) -> None:
            multiply((words, self.depth), span, self.weights, self.bias, out, tile)

        share_out(part, rows, 4)
        return out


def as_bytes(codes: NDArray[Any], shift: int) -> NDArray[np.uint8]:
    """Codes plus a shift, which makes bytes of them, C-contiguous: where they are bytes already, the array itself."""
    narrow = codes.view(np.uint8) if codes.dtype.itemsize == 1 else codes.astype(np.uint8)  # modulo 256
    return np.ascontiguousarray(narrow + np.uint8(shift) if shift else narrow)
