"""Ranges of every partial sum of a MAC layer in a target's registers: what the planner proves before it runs.

Products may take their extremes independently (each activation is any value of its range), so the extremes of a
prefix are prefix sums of the products' extremes; that bound is attained (A2Q, arXiv 2308.13504, states the same for
prefixes in every order).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.graph import IntArray


@dataclass(frozen=True)
class PartialSums:
    """Per stage and channel: least and greatest true sum in the register; whether it stays inside.

    Behind a register that may overflow, the next stage's bounds hold for what that register then hands on. The bounds
    of the overflowing register itself are those of the sum it was to hold, so that they say how wide it should be.
    """

    low: list[IntArray]
    high: list[IntArray]
    safe: list[IntArray]

    @property
    def all_safe(self) -> IntArray:
        """Channels in which no stage can overflow."""
        return np.logical_and.reduce(self.safe)


def partial_sums(
    rows: IntArray,
    x_range: tuple[int, int],
    stages: Sequence[Stage],
    start: IntArray | None = None,
    after: tuple[IntArray, IntArray] | None = None,
) -> PartialSums:
    """Bounds for weights `rows` (N, K) in arrival order and activations within `x_range`.

    `start` (N,) is preloaded into the last register; `after` = (least, greatest) value added to it at the end. Arrays
    are int64 where that holds every sum, else Python integers.
    """
    peak = max(abs(x_range[0]), abs(x_range[1]), 1)
    largest = float(np.abs(rows.astype(np.float64)).sum(axis=1).max(initial=0)) * peak
    extra = [a for a in (start, *(after or ())) if a is not None]
    largest += sum(float(np.abs(a.astype(np.float64)).max(initial=0)) for a in extra)
    carrier = np.int64 if largest < 2**62 else object
    corners = [rows.astype(carrier) * edge for edge in x_range]
    low, high = np.minimum(*corners), np.maximum(*corners)
    lows, highs, safes = [], [], []
    for i, stage in enumerate(stages):
        size = max(low.shape[1], 1) if stage.sum is None else stage.sum
        low, high = _grouped(low, size), _grouped(high, size)
        least, most = (
            np.minimum.accumulate(low.cumsum(axis=2), axis=2),
            np.maximum.accumulate(high.cumsum(axis=2), axis=2),
        )
        last = i == len(stages) - 1
        begin = start[:, None] if last and start is not None else np.zeros((1, 1), np.int64)
        final_low, final_high = low.sum(axis=2) + begin, high.sum(axis=2) + begin
        # the register holds `begin` before the first product arrives
        reach_low = np.minimum(least[:, :, -1] + begin, begin).min(axis=1)
        reach_high = np.maximum(most[:, :, -1] + begin, begin).max(axis=1)
        if last and after is not None:
            reach_low = np.minimum(reach_low, final_low.min(axis=1) + after[0])
            reach_high = np.maximum(reach_high, final_high.max(axis=1) + after[1])
        safe = (reach_low >= stage.min) & (reach_high <= stage.max)
        lows.append(reach_low)
        highs.append(reach_high)
        safes.append(np.asarray(safe, bool))
        unsafe = ~np.asarray(safe, bool)
        if unsafe.any() and stage.overflow == "wrap":
            final_low[unsafe], final_high[unsafe] = stage.min, stage.max
        elif unsafe.any():
            final_low[unsafe] = _saturated(low[unsafe], begin, unsafe, stage)
            final_high[unsafe] = _saturated(high[unsafe], begin, unsafe, stage)
        low, high = final_low, final_high
    return PartialSums(lows, highs, safes)


def _saturated(values: IntArray, begin: IntArray, channels: IntArray, stage: Stage) -> IntArray:
    """(N, groups, size) added one by one into a saturating register, which grows with every addend."""
    register = np.clip(np.broadcast_to(begin, (len(channels), 1))[channels], stage.min, stage.max)
    register = np.broadcast_to(register, values.shape[:2])
    for k in range(values.shape[2]):
        register = np.clip(register + values[:, :, k], stage.min, stage.max)
    return register


def _grouped(values: IntArray, size: int) -> IntArray:
    """(N, K) to (N, groups, size), the last group filled with zeros, which add nothing."""
    count = -(-values.shape[1] // size)
    out = np.zeros((values.shape[0], count * size), values.dtype)
    out[:, : values.shape[1]] = values
    return out.reshape(values.shape[0], count, size)
