"""What registers would have to hold: one-pass telemetry, its definition and the same numbers fast.

Products go through a target's chain of registers as if no register overflowed: sums are exact integers. A register
*lives* from its first addition until it hands on its value; the last one lives until the accumulator is finished. Each
life needs as many bits as its widest partial sum, and its final sum may need fewer. Counted by bits, this answers for
every width N at once how many lives overflow, and of these how many hold a final sum that does not fit (persistent)
or that fits again (transient; PQS, arXiv 2504.09064, draws this distinction).

`register_demand` is the definition; `panel_demand` gives the same numbers with output pixels as the inner loop, in
blocks whose registers and extremes stay in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import bits_for, saturate
from intsim.arithmetic.schedule import schedule
from intsim.engine.registers.packed import BLOCK, blocks_of_pixels
from intsim.engine.registers.plan import largest_magnitude
from intsim.engine.registers.rounded import rounded_products, undropped
from intsim.engine.telemetry.kernels import register_lives
from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.mac.operands import channel_zeros
from intsim.mac.plan import plan
from intsim.ops.mac import Mac
from intsim.ops.requantize import unclipped
from intsim.targets import Target

WIDEST = 64
BINS = WIDEST + 2
"""Entries of a histogram: 1..64 bits, and at 65 what needs more; entry 0 is always 0."""
ROUNDED = 1 << 20
"""Most products that are rounded at a time."""
ROUGH = 1 << 22
"""Sums of magnitudes that fit the narrower lane beside activations of a byte, so that none need be known better."""
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
    """The definition, in Python integers of any size; in LSBs of the registers where they drop bits of products.

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
    demand = nothing(channels, len(stages))
    values = stages[0].cast(values)
    start, late = (None if v is None else stages[0].cast(np.asarray(v).astype(object)) for v in (start, late))
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
            demand.low[n, stage] = min(int(demand.low[n, stage]), *(saturate(int(v), WIDEST) for v in low[:, n]), 0)
            demand.high[n, stage] = max(int(demand.high[n, stage]), *(saturate(int(v), WIDEST) for v in high[:, n]), 0)
            for m in range(pixels):
                demand.partial[n, stage, min(bits_for(low[m, n], high[m, n]), BINS - 1)] += 1
                demand.final[n, stage, min(bits_for(total[m, n], total[m, n]), BINS - 1)] += 1

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
    return demand


def mac_demand(node: Node, op: Mac, arrays: list[IntArray], tensors: list[Tensor], target: Target) -> Demand:
    """What the registers of `target` would have to hold in one multiply-accumulate node.

    Operands, order, zero-point compensation and where the bias is added are the target's own, widths are not. Products
    that share a multiplier (packing) are treated as if each field were a register. Raises IntsimError when a tensor
    doesn't fit the target's multiplier.
    """
    planned = plan(node, op, tensors, replace(target.registers, stages=()))
    x, w = op.operands(node, *arrays)
    channels = op.extent(node, *(a.shape for a in arrays))[1]
    zeros = channel_zeros(planned.operands.w_zero, channels)
    demand = nothing(channels, max(len(target.stages), 1))
    x, w = planned.operands.shifted(x, w)
    for panel in op.panels(node, x, w, planned.operands.pad, target.accumulate.order):
        late = [a for a in (planned.late(panel.w, panel.channels),) if a is not None]
        if planned.operands.depends_on_data():
            late.append(-panel.a.sum(axis=1)[:, None] * zeros[panel.channels])
        start = None if planned.preload is None else planned.preload[panel.channels]
        demand.merge(panel.channels, panel_demand(panel.a, panel.w, target.stages, start, sum(late) if late else None))
    return demand


def panel_demand(a: Any, w: Any, stages: Sequence[Stage], start: Any = None, late: Any = None) -> Demand:
    """`register_demand` of the products a[m, k] * w[n, k], fast.

    Args:
        a: (M, K) integers, K in order of arrival.
        w: (N, K) integers.
        stages: of a target, or empty.
        start: (N,) or None.
        late: (N,) or (M, N), or None.
    """
    a, w = np.asarray(a, np.int64), np.asarray(w, np.int64)
    stages = tuple(stages) or UNBOUNDED
    if a.shape[0] == 0:
        return nothing(w.shape[0], len(stages))
    reach = largest_magnitude(a) * _sum_of_magnitudes(w)
    reach += sum(largest_magnitude(np.asarray(v)) for v in (start, late) if v is not None)
    if reach >= 1 << 63 or a.shape[1] == 0:
        return register_demand(a.astype(object)[:, None] * w.astype(object), stages, start, late)
    if stages[0].drop:
        return _rounded_demand(a, w, stages, start, late)
    lane = np.int32 if reach < 1 << 31 else np.int64
    order = schedule(a.shape[1], stages)
    demand = nothing(w.shape[0], len(stages))
    before = np.zeros(0, lane) if start is None else np.asarray(start).astype(lane)
    after = np.zeros((w.shape[0], 0), lane)
    if late is not None:
        after = np.ascontiguousarray(np.atleast_2d(late).T.astype(lane))
    register_lives(
        blocks_of_pixels(a, lane),
        w.astype(lane, order="C"),
        np.array(order[:3], np.int64, order="C"),
        order.registers,
        before,
        after,
        np.empty((2, BLOCK), np.float32 if lane is np.int32 else np.float64),
        a.shape[0],
        *demand,
    )
    return demand


def _rounded_demand(a: IntArray, w: IntArray, stages: tuple[Stage, ...], start: Any, late: Any) -> Demand:
    """Channel by channel: the rounded products are what a chain that drops nothing adds up."""
    demand, plain, one = nothing(w.shape[0], len(stages)), undropped(stages), np.ones((1, a.shape[1]), np.int64)
    first = None if start is None else stages[0].cast(np.asarray(start, np.int64))
    after = None if late is None else np.atleast_2d(stages[0].cast(np.asarray(late, np.int64)))
    size = max(ROUNDED // max(a.shape[1], 1), 1)
    for n in range(w.shape[0]):
        begin = None if first is None else first[n : n + 1]
        for top in range(0, a.shape[0], size):
            rows = slice(top, top + size)
            added = None if after is None else after[rows if len(after) > 1 else slice(None), n : n + 1]
            values = rounded_products(a[rows], w[n : n + 1], stages[0])
            demand.merge(slice(n, n + 1), panel_demand(values, one, plain, begin, added))
    return demand


def clipped(
    node: Node, arrays: list[IntArray], tensors: list[Tensor], target: Target, axis: int
) -> tuple[IntArray, IntArray]:
    """How many values of a requantize node the clip raised to its low end and lowered to its high end, by channel.

    Channels are the positions along `axis`. Thresholds, which have no clip, count what the formula would clip.
    """
    low, high = node.attributes["low"], node.attributes["high"]
    try:
        values = unclipped(node, arrays, tensors, target.requantize, target.stages)
    except IntsimError as error:
        raise IntsimError(f"node {node.shown}: target {target.name}: {error}") from None
    values = np.moveaxis(np.atleast_1d(values), axis, 0)
    values = values.reshape(values.shape[0], -1)
    below = np.zeros(len(values), np.int64) if low is None else (values < low).sum(axis=1)
    past = np.zeros(len(values), np.int64) if high is None else (values > high).sum(axis=1)
    return below, past


def _sum_of_magnitudes(w: IntArray) -> int:
    """An upper bound of the largest sum of |w| over a row, as a Python integer."""
    rough = largest_magnitude(w) * w.shape[1]
    if rough < ROUGH:
        return rough
    return int(np.abs(w.astype(np.float64)).sum(axis=1).max(initial=0) * (1 + 2**-40)) + 1
