"""Bounds of what is read from the fields of a packed multiplier's wide register, given bounds of the sums in them."""

from __future__ import annotations

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.packing import Packing
from intsim.graph import IntArray


def read_bounds(
    low: IntArray, high: IntArray, stage: Stage, packing: Packing, panel: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Least and greatest value read, and whether it is always the true sum, each (N, groups).

    `low`, `high` (N, groups) are the extremes of a group's true sum in each channel, for every pixel; `panel` divides
    N: channels share a multiplier with their neighbours in a panel of so many.

    Below a field lie L, the sums of the lower fields at their offsets. The field holds its own sum plus
    floor(L / 2^offset), modulo its width. The bit just below it is 1 exactly where L < 0, if L is within half of
    2^offset. Fields are bounded independently of each other.
    """
    channels = len(packing.channels)
    low, high = _sets(low, channels, panel), _sets(high, channels, panel)
    width = dict(zip(packing.offsets, packing.widths, strict=True))
    fields = sorted((a + b, c, p) for c, a in enumerate(packing.channels) for p, b in enumerate(packing.pixels))
    read_low, read_high, exact = low.copy(), high.copy(), np.ones(low.shape, bool)
    for place, (offset, c, p) in enumerate(fields):
        least = most = np.zeros_like(low[:, 0])
        inside = np.ones(least.shape, bool)
        for start, other, pixel in fields[:place]:
            a, b = low[:, other], high[:, other]
            if pixel > p:  # after the last pixel there is none, and its field holds 0
                a, b = np.minimum(a, 0), np.maximum(b, 0)
            limit = 1 << (width[start] - 1)
            inside &= np.asarray((a >= -limit) & (b < limit), bool)
            least = least + np.clip(a, -limit, limit) * (1 << start)
            most = most + np.clip(b, -limit, limit) * (1 << start)
        first, last = low[:, c] + (least >> offset), high[:, c] + (most >> offset)
        fits = inside & np.asarray((first >= stage.min) & (last <= stage.max), bool)
        repaid = int(packing.correction == "borrow" and offset > 0)
        reach = (1 << offset) >> repaid  # L from -reach (a borrow, where it is repaid) to reach - 1 does no harm
        true = fits & np.asarray((least >= -reach * repaid) & (most < reach), bool)
        first = np.where(true, low[:, c], np.where(fits, first, stage.min))
        last = np.where(true, high[:, c], np.where(fits, last + repaid, stage.max + repaid))
        exact[:, c] &= true
        read_low[:, c] = first if p == 0 else np.minimum(read_low[:, c], first)
        read_high[:, c] = last if p == 0 else np.maximum(read_high[:, c], last)
    return _apart(read_low, panel), _apart(read_high, panel), np.asarray(_apart(exact, panel), bool)


def _sets(values: IntArray, together: int, panel: int) -> IntArray:
    """(N, groups) to (sets, together, groups), each panel's last set filled with zeros."""
    groups, sets = values.shape[1], -(-panel // together)
    out = np.zeros((values.shape[0] // panel, sets * together, groups), values.dtype)
    out[:, :panel] = values.reshape(-1, panel, groups)
    return out.reshape(-1, together, groups)


def _apart(values: IntArray, panel: int) -> IntArray:
    """Back to (N, groups), without what was filled."""
    together, groups = values.shape[1:]
    return values.reshape(-1, -(-panel // together) * together, groups)[:, :panel].reshape(-1, groups)
