"""The compiled loop of a quantizer in float64, which says which of its codes a rational has to decide."""

from __future__ import annotations

import numpy as np

from intsim.jit.compile import compiled

MAGIC = 1.5 * 2.0**52
"""Added to a number below 2^51 and taken away again, it leaves the nearest integer, ties to even."""
MAGIC32 = 1.5 * 2.0**23
"""The same in float32, for numbers below 2^22."""
BLOCK = 1 << 8


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
def _block32(x, out, factor, shift, bottom, top, sure, after):  # type: ignore[no-untyped-def]
    """The same in float32."""
    doubtful, magic = np.int32(0), np.float32(MAGIC32)
    for i in range(x.size):
        w = np.float32(x[i]) * factor + shift
        w = bottom if w < bottom else w
        w = top if w > top else w
        nearest = (w + magic) - magic
        out[i] = np.int32(nearest) + after
        doubtful = np.int32(doubtful + (np.int32(0) if abs(w - nearest) < sure else np.int32(1)))
    return doubtful


@compiled
def nearest_codes(x, out, doubtful, short, factor, shift, bottom, top, sure, after):  # type: ignore[no-untyped-def]
    """out = nearest(clip(x * factor + shift, bottom, top)) + after, one pass.

    A block whose codes are all sure in float32 is left at that.

    Args:
        x: float32 or float64, (n,), C-contiguous.
        out: integers that hold the codes, (n,); |bottom| and |top| are below 2^31.
        doubtful: bool, (blocks,): set where a block of `BLOCK` values has one that lies `sure` or more from its code.
        short: factor, shift, bottom, top, sure in float32; sure is 0 where float32 won't do.
        factor, shift, bottom, top, sure: float64.
        after: int64; below 2^31 where float32 will do.
    """
    for number in range(doubtful.size):
        start = number * BLOCK
        end = min(start + BLOCK, x.size)
        if short[4] > 0 and _block32(x[start:end], out[start:end], *short, np.int32(after)) == 0:
            doubtful[number] = False
            continue
        doubtful[number] = _block(x[start:end], out[start:end], factor, shift, bottom, top, sure, after) > 0
