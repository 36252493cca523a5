"""Requantizers of one cell a column, or one in all, of rows of integers: sums of a matrix product, or bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.requantize.affine import RINT, AffineRequantizer, TwoFormulas
from intsim.engine.threads import share_out
from intsim.jit.compile import compiled

GRAIN = 1 << 14
"""Least elements of one thread's share."""
MAGICS = {np.float64: 1.5 * 2.0**52, np.float32: 1.5 * 2.0**23}
"""Added to a number below a third of it and taken away again, it leaves the nearest integer, ties to even."""
Lane = type[np.float64] | type[np.float32]


@compiled
def requantize_columns(acc, out, scale, offset, low, high, magic, first, last):  # type: ignore[no-untyped-def]
    """`requantize.AffineRequantizer` without a table, to the nearest: one cell a column, rows first..last-1.

    acc (rows, columns) of integers, out of bytes, the lowest bits of the codes, both C-contiguous. All numbers are of
    the type of `scale`, float64 or float32, in which scale * acc + offset may be anything.
    """
    lane = scale.dtype.type
    for row in range(first, last):
        line, made = acc[row], out[row]
        for c in range(line.size):
            y = scale[c] * lane(line[c]) + offset[c]
            y = low if y < low else y
            y = high if y > high else y
            made[c] = np.int32((y + magic) - magic)


def by_columns(rule: AffineRequantizer | TwoFormulas) -> bool:
    """Whether `Columns` takes a requantizer: one formula without a table, to the nearest, to codes of 16 bits."""
    plain = isinstance(rule, AffineRequantizer) and not rule.table.size and rule.kind == RINT
    return plain and rule.low >= -(1 << 15) and rule.high < 1 << 16  # type: ignore[union-attr]


class Columns:
    """A requantizer for rows of `columns` integers, of one cell a column or one for all, in float64 or float32."""

    def __init__(self, rule: AffineRequantizer, columns: int, lane: Lane = np.float64) -> None:
        """Spread its cells."""
        spread = (np.broadcast_to(v.astype(lane), columns) for v in (rule.scale, rule.offset))
        self.scale, self.offset = map(np.ascontiguousarray, spread)
        self.ends = lane(rule.low), lane(rule.high), lane(MAGICS[lane])

    def run(self, x: NDArray[Any], kind: type[np.integer[Any]]) -> NDArray[Any]:
        """Codes (rows, columns) of x, C-contiguous, in a type of 8 bits."""
        out = np.empty(x.shape, np.uint8)
        grain = max(1, GRAIN // max(1, x.shape[1]))
        share_out(lambda p: requantize_columns(x, out, self.scale, self.offset, *self.ends, *p), len(x), grain)
        return out.view(kind)
