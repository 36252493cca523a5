"""The compiled loop of a quantizer in float64, which says which of its codes a rational has to decide."""

from __future__ import annotations

import numpy as np

from intsim.jit.compile import compiled

MAGIC = 1.5 * 2.0**52
"""Added to a number below 2^51 and taken away again, it leaves the nearest integer, ties to even."""
BLOCK = 1 << 10


@compiled
def _block(x, out, factor, shift, bottom, top, sure, after):  # type: ignore[no-untyped-def]
    """Codes of x; how many lie `sure` or more from theirs, or are no numbers."""
    doubtful = np.int64(0)
    for i in range(x.size):
        w = np.float64(x[i]) * factor + shift
        w = bottom if w < bottom else w
        w = top if w > top else w
        nearest = (w + MAGIC) - MAGIC
        out[i] = np.int64(np.int32(nearest)) + after
        doubtful += np.int64(0) if abs(w - nearest) < sure else np.int64(1)
    return doubtful


@compiled
def nearest_codes(x, out, doubtful, factor, shift, bottom, top, sure, after):  # type: ignore[no-untyped-def]
    """out = nearest(clip(x * factor + shift, bottom, top)) + after, one pass.

    Args:
        x: float32 or float64, (n,), C-contiguous.
        out: integers that hold the codes, (n,); |bottom| and |top| are below 2^31.
        doubtful: bool, (blocks,): set where a block of `BLOCK` values has one that lies `sure` or more from its code.
        factor, shift, bottom, top, sure: float64.
        after: int64.
    """
    for number in range(doubtful.size):
        start = number * BLOCK
        end = min(start + BLOCK, x.size)
        doubtful[number] = _block(x[start:end], out[start:end], factor, shift, bottom, top, sure, after) > 0
