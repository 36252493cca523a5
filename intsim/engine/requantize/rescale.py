"""Requantizers of bytes to bytes in float32, where every code that can arrive is tried."""

from __future__ import annotations

import numpy as np

from intsim.engine.requantize.affine import RINT, AffineRequantizer, TwoFormulas
from intsim.engine.requantize.columns import Columns
from intsim.engine.requantize.kernels import requantize_dense

MOST_TRIED = 1 << 22
"""Codes of all cells together that are tried."""


def rescaling(rule: AffineRequantizer | TwoFormulas | None, held: tuple[int, int], columns: int) -> Columns | None:
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
    return Columns(rule, columns, np.float32) if np.array_equal(np.rint(y), right) else None
