"""Requantizers of one cell a column, or one in all, of rows of 32-bit sums: what a matrix product leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.requantize.affine import RINT, AffineRequantizer, TwoFormulas
from intsim.engine.threads import share_out
from intsim.jit.compile import compiled

GRAIN = 1 << 14
"""Least elements of one thread's share."""
MAGIC = 1.5 * 2.0**52
"""Added to a number below 2^51 and taken away again, it leaves the nearest integer, ties to even."""


@compiled
def requantize_columns(acc, out, scale, offset, low, high, first, last):  # type: ignore[no-untyped-def]
    """`requantize.AffineRequantizer` without a table, to the nearest: one cell a column, rows first..last-1.

    acc (rows, columns) int32, out of bytes, both C-contiguous. scale * acc + offset may be any float64.
    """
    for row in range(first, last):
        line, made = acc[row], out[row]
        for c in range(line.size):
            y = scale[c] * np.float64(line[c]) + offset[c]
            y = low if y < low else y
            y = high if y > high else y
            made[c] = np.int32((y + MAGIC) - MAGIC)


def by_columns(rule: AffineRequantizer | TwoFormulas) -> bool:
    """Whether `Columns` takes a requantizer: one formula without a table, to the nearest, to codes of 16 bits."""
    plain = isinstance(rule, AffineRequantizer) and not rule.table.size and rule.kind == RINT
    return plain and rule.low >= -(1 << 15) and rule.high < 1 << 16  # type: ignore[union-attr]


class Columns:
    """A requantizer for rows of `columns` sums."""

    def __init__(self, rule: AffineRequantizer, columns: int) -> None:
        """Spread its cells."""
        self.scale, self.offset = (np.array(np.broadcast_to(v, columns)) for v in (rule.scale, rule.offset))
        self.ends = float(rule.low), float(rule.high)

    def run(self, sums: NDArray[np.int32], kind: type[np.integer[Any]]) -> NDArray[Any]:
        """Codes (rows, columns) of sums, C-contiguous, in a type of 8 bits."""
        out = np.empty(sums.shape, np.uint8)
        grain = max(1, GRAIN // max(1, sums.shape[1]))
        share_out(lambda p: requantize_columns(sums, out, self.scale, self.offset, *self.ends, *p), len(sums), grain)
        return out.view(kind)
