"""Requantizers of bytes to bytes in float32, where every code that can arrive is tried."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.requantize.affine import RINT, AffineRequantizer, TwoFormulas
from intsim.engine.requantize.kernels import requantize_dense
from intsim.engine.threads import share_out
from intsim.jit.compile import compiled

GRAIN = 1 << 14
"""Least elements of one thread's share."""
MOST_TRIED = 1 << 22
"""Codes of all cells together that are tried."""
MAGIC = 1.5 * 2.0**23
"""Added to a float32 below 2^22 and taken away again, it leaves the nearest integer, ties to even."""


@compiled
def rescale_columns(x, out, scale, offset, low, high, first, last):  # type: ignore[no-untyped-def]
    """out[r, c] = nearest(clip(scale[c] * x[r, c] + offset[c], low, high)) in float32, for rows first..last-1.

    x (rows, columns) uint8 or int8, out (rows, columns) uint8, the lowest bits of the codes, both C-contiguous.
    """
    magic = np.float32(MAGIC)
    for row in range(first, last):
        line, made = x[row], out[row]
        for c in range(line.size):
            y = scale[c] * np.float32(line[c]) + offset[c]
            y = low if y < low else y
            y = high if y > high else y
            made[c] = np.int32((y + magic) - magic)


class Rescaling:
    """A requantizer of bytes, of one cell a column or one for all."""

    def __init__(self, rule: AffineRequantizer, columns: int) -> None:
        """Spread its cells."""
        spread = (np.broadcast_to(v.astype(np.float32), columns) for v in (rule.scale, rule.offset))
        self.scale, self.offset = map(np.ascontiguousarray, spread)
        self.ends = np.float32(rule.low), np.float32(rule.high)

    def run(self, x: NDArray[Any], kind: type[np.integer[Any]]) -> NDArray[Any]:
        """Codes of x (rows, columns), C-contiguous, in a type of 8 bits."""
        out = np.empty(x.shape, np.uint8)
        grain = max(1, GRAIN // max(1, x.shape[1]))
        share_out(lambda p: rescale_columns(x, out, self.scale, self.offset, *self.ends, *p), len(x), grain)
        return out.view(kind)


def rescaling(rule: AffineRequantizer | TwoFormulas | None, held: tuple[int, int], columns: int) -> Rescaling | None:
    """A requantizer of one cell or `columns` in float32; None where that has another code for a code held.

    `held`: the least and the greatest that can arrive, bytes both.
    """
    if not isinstance(rule, AffineRequantizer) or rule.kind != RINT or len(rule.scale) not in (1, columns):
        return None
    count = held[1] - held[0] + 1
    if len(rule.scale) * count > MOST_TRIED or max(abs(rule.low), abs(rule.high)) > 255:
        return None
    every = np.arange(held[0], held[1] + 1)
    sums = np.ascontiguousarray(np.broadcast_to(every, (1, len(rule.scale), count)))
    right = requantize_dense(sums, rule, np.empty(sums.shape, np.int64))[0]
    scale, offset = (v.astype(np.float32)[:, None] for v in (rule.scale, rule.offset))
    with np.errstate(all="ignore"):
        y = np.clip(scale * every.astype(np.float32) + offset, np.float32(rule.low), np.float32(rule.high))
    return Rescaling(rule, columns) if np.array_equal(np.rint(y), right) else None
