"""What registers would have to hold: the definition of one-pass telemetry.

Products go through a target's chain of registers as if no register overflowed: sums are exact integers. A register
*lives* from its first addition until it hands on its value; the last one lives until the accumulator is finished. Each
life needs as many bits as its widest partial sum, and its final sum may need fewer. Counted by bits, this answers for
every width N at once how many lives overflow, and of these how many hold a final sum that does not fit (persistent)
or that fits again (transient; PQS, arXiv 2504.09064, draws this distinction).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import bits_for, saturate
from intsim.arithmetic.schedule import schedule
from intsim.graph import IntArray

WIDEST = 64
BINS = WIDEST + 2
"""Entries of a histogram: 1..64 bits, and at 65 what needs more; entry 0 is always 0."""
UNBOUNDED = (Stage(None, WIDEST, "wrap"),)
"""The schedule of a plain sum: one register for all."""


class Demand(NamedTuple):
    """By channel and stage, over all outputs. Groups are the lives of registers."""

    low: IntArray  # (N, stages) smallest partial sum, never above 0; saturated to int64
    high: IntArray  # (N, stages) largest partial sum, never below 0; saturated to int64
    partial: IntArray  # (N, stages, BINS) groups whose partial sums, the empty register's 0 among them, need b bits
    final: IntArray  # (N, stages, BINS) groups whose final sum needs b bits

    def merge(self, channels: slice, other: Demand) -> None:
        """Add what was seen in some of the channels."""
        np.minimum(self.low[channels], other.low, out=self.low[channels])
        np.maximum(self.high[channels], other.high, out=self.high[channels])
        self.partial[channels] += other.partial
        self.final[channels] += other.final


def nothing(channels: int, stages: int) -> Demand:
    """A demand of no outputs."""
    low, high = (np.zeros((channels, stages), np.int64) for _ in range(2))
    return Demand(low, high, *(np.zeros((channels, stages, BINS), np.int64) for _ in range(2)))


def above(histogram: IntArray, bits: int) -> IntArray:
    """Groups that need more than `bits` bits; the last axis of `histogram` is summed."""
    return np.asarray(histogram[..., bits + 1 :].sum(axis=-1))


def register_demand(products: Any, stages: Sequence[Stage], start: Any = None, late: Any = None) -> Demand:
    """The definition, in Python integers of any size.

    Args:
        products: (M, N, K) integers, K in order of arrival.
        stages: of a target; widths and overflow rules don't matter here. Empty: one register that takes all.
        start: (N,) preloaded into the last register, or None.
        late: broadcasts to (M, N), added into the last register after everything else, or None.
    """
    values = np.asarray(products).astype(object)
    pixels, channels, depth = values.shape
    stages = tuple(stages) or UNBOUNDED
    order = schedule(depth, stages)
    found = nothing(channels, len(stages))
    zero = np.zeros((pixels, channels), object)
    live: dict[int, tuple[Any, Any, Any]] = {}  # of each register its sum, smallest and largest so far
    last = order.registers - 1

    def add(register: int, value: Any) -> None:
        total, low, high = live.get(register, (zero, zero, zero))
        total = total + value
        live[register] = total, np.minimum(low, total), np.maximum(high, total)

    def close(stage: int, register: int) -> None:
        total, low, high = live.pop(register, (zero, zero, zero))
        for n in range(channels):
            found.low[n, stage] = min(int(found.low[n, stage]), *(saturate(int(v), WIDEST) for v in low[:, n]), 0)
            found.high[n, stage] = max(int(found.high[n, stage]), *(saturate(int(v), WIDEST) for v in high[:, n]), 0)
            for m in range(pixels):
                found.partial[n, stage, min(bits_for(low[m, n], high[m, n]), BINS - 1)] += 1
                found.final[n, stage, min(bits_for(total[m, n], total[m, n]), BINS - 1)] += 1

    if start is not None:
        add(last, np.asarray(start, object))
    for stage, register, source in zip(*(column.tolist() for column in order[:3]), strict=True):
        if source >= 0:
            add(register, values[:, :, source])
        else:
            add(register, live[~source][0])
            close(stage - 1, ~source)
    if late is not None:
        add(last, np.asarray(late, object))
    close(len(stages) - 1, last)
    return found
