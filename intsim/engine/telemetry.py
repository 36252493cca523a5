"""One-pass telemetry of a node: what every register width would have seen, and what the output clip cut off.

`engine/demand.py` is the definition of the sums' part; the kernel here gives the same numbers. Output pixels are the
inner loop, in blocks whose registers and extremes stay in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.form import RequantizerForm
from intsim.arithmetic.schedule import schedule
from intsim.compiling import compiled
from intsim.engine.demand import UNBOUNDED, Demand, nothing, register_demand
from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.mac import Mac
from intsim.ops.operands import channel_zeros
from intsim.ops.plan import plan
from intsim.ops.schemes import unclipped
from intsim.targets import Target

BLOCK = 512  # pixels
EXACT = RequantizerForm("exact")


def mac_demand(node: Node, op: Mac, arrays: list[IntArray], tensors: list[Tensor], target: Target) -> Demand:
    """What the registers of `target` would have to hold in one multiply-accumulate node.

    Operands, order, zero-point compensation and the place of the bias are the target's own, widths are not. Products
    that share a multiplier (packing) are treated as if each field were a register. Raises IntsimError when a tensor
    doesn't fit the target's multiplier.
    """
    how = plan(node, op, tensors, replace(target.registers, stages=()))
    x, w = op.operands(node, *arrays)
    channels = op.extent(node, *(a.shape for a in arrays))[1]
    zeros = channel_zeros(how.operands.w_zero, channels)
    found = nothing(channels, max(len(target.stages), 1))
    x, w = x + how.operands.x_shift, w + how.operands.w_shift
    for panel in op.panels(node, x, w, how.operands.pad, target.accumulate.order):
        zero = zeros[panel.channels]
        late = [a for a in (how.operands.compensation(panel.w, zero),) if a is not None]
        late += [] if how.after is None else [how.after[panel.channels]]
        if how.operands.depends_on_data():
            late.append(-panel.a.sum(axis=1)[:, None] * zero)
        start = None if how.preload is None else how.preload[panel.channels]
        found.merge(panel.channels, panel_demand(panel.a, panel.w, target.stages, start, sum(late) if late else None))
    return found


def panel_demand(a: Any, w: Any, stages: Sequence[Stage], start: Any = None, late: Any = None) -> Demand:
    """`demand.register_demand` of the products a[m, k] * w[n, k], fast.

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
    reach = _largest(a) * _sum_of_magnitudes(w) + sum(_largest(v) for v in (start, late) if v is not None)
    if reach >= 1 << 63 or a.shape[1] == 0:
        return register_demand(a.astype(object)[:, None] * w.astype(object), stages, start, late)
    lane = np.int32 if reach < 1 << 31 else np.int64
    order = schedule(a.shape[1], stages)
    found = nothing(w.shape[0], len(stages))
    before = np.zeros(0, lane) if start is None else np.asarray(start).astype(lane)
    after = np.zeros((w.shape[0], 0), lane)
    if late is not None:
        after = np.ascontiguousarray(np.atleast_2d(late).T.astype(lane))
    _demand(
        _panel(a, lane),
        w.astype(lane, order="C"),
        np.array(order[:3], np.int64, order="C"),
        order.registers,
        before,
        after,
        np.empty((2, BLOCK), np.float32 if lane is np.int32 else np.float64),
        a.shape[0],
        *found,
    )
    return found


def clipped(
    node: Node, arrays: list[IntArray], tensors: list[Tensor], target: Target, axis: int
) -> tuple[IntArray, IntArray]:
    """How many values of a requantize node the clip raised to its low end and lowered to its high end, by channel.

    Channels are the positions along `axis`. Thresholds, which have no clip, count what the formula would clip.
    """
    low, high = node.attributes["low"], node.attributes["high"]
    form = EXACT if target.form.scheme == "thresholds" else target.form
    try:
        values = np.moveaxis(unclipped(node, arrays, tensors, form, target.stages), axis, 0)
    except IntsimError as error:
        raise IntsimError(f"node {node.source or node.name}: target {target.name}: {error}") from None
    values = values.reshape(values.shape[0], -1)
    below = np.zeros(len(values), np.int64) if low is None else (values < low).sum(axis=1)
    past = np.zeros(len(values), np.int64) if high is None else (values > high).sum(axis=1)
    return below, past


def _largest(array: Any) -> int:
    array = np.asarray(array)
    return max(abs(int(array.min())), abs(int(array.max()))) if array.size else 0


def _sum_of_magnitudes(w: IntArray) -> int:
    """An upper bound of the largest sum of |w| over a row, as a Python integer."""
    return int(np.abs(w.astype(np.float64)).sum(axis=1).max(initial=0) * (1 + 2**-40)) + 1


def _panel(a: IntArray, lane: type) -> NDArray[Any]:
    """(M, K) as (blocks, K, BLOCK): the pixels of a block side by side."""
    pixels, depth = a.shape
    panel = np.zeros((-(-pixels // BLOCK), depth, BLOCK), lane)
    for block, rows in enumerate(panel):
        part = a[block * BLOCK : (block + 1) * BLOCK]
        rows[:, : len(part)] = part.T
    return panel


@compiled
def _add(total, low, high, value, factor):  # type: ignore[no-untyped-def]
    """One addition of factor * value into a block of registers; `low`, `high` follow its sums."""
    lane = total.dtype.type
    for p in range(total.size):
        here = lane(total[p] + lane(factor * value[p]))
        total[p] = here
        low[p] = min(low[p], here)
        high[p] = max(high[p], here)


@compiled
def _close(total, low, high, floats, words, partial, final):  # type: ignore[no-untyped-def]
    """End the lives of a block of registers: count their bits, return their extremes, empty them.

    A signed register of b + 1 bits holds v if v >= 0, or ~v if v < 0, has b bits, which the exponent of a float says.
    `words` are the floats' own bits. Without the bit below its highest a number is not rounded up to the next power.
    """
    lane, size = total.dtype.type, total.size
    shift, bias = lane(23 if total.itemsize == 4 else 52), lane(125 if total.itemsize == 4 else 1021)
    least, most = lane(0), lane(0)
    for p in range(size):
        widest = max(high[p], lane(~low[p]))
        floats[0, p] = lane(widest & ~lane(widest >> lane(1)))
        ended = max(total[p], lane(~total[p]))
        floats[1, p] = lane(ended & ~lane(ended >> lane(1)))
        least, most = min(least, low[p]), max(most, high[p])
        total[p] = low[p] = high[p] = lane(0)
    for p in range(size):
        words[0, p] = max(lane(lane(words[0, p] >> shift) - bias), lane(1))
        words[1, p] = max(lane(lane(words[1, p] >> shift) - bias), lane(1))
    for p in range(size):
        partial[words[0, p]] += 1
        final[words[1, p]] += 1
    return least, most


@compiled
def _demand(panel, weight, order, registers, start, late, floats, pixels, low, high, partial, final):  # type: ignore[no-untyped-def]
    """All channels of all blocks; panel (blocks, K, BLOCK), weight (N, K), order (3, steps), late (N, 0, 1 or M)."""
    one = panel.dtype.type(1)
    total = np.zeros((registers, BLOCK), panel.dtype)
    least, most = np.zeros_like(total), np.zeros_like(total)
    constant = np.zeros(BLOCK, panel.dtype)
    words = floats.view(panel.dtype)
    last, steps = registers - 1, order.shape[1]
    for block in range(panel.shape[0]):
        begin = block * BLOCK
        size = min(BLOCK, pixels - begin)
        for channel in range(weight.shape[0]):
            # Step -1 is the preloaded bias, step `steps` what is added last, and one more ends the last register.
            for step in range(-1 if start.size else 0, steps + 2):
                register, factor, value, giver, stage = last, one, constant[:size], -1, low.shape[1] - 1
                if step < 0:
                    constant[:] = start[channel]
                elif step < steps:
                    register, source = order[1, step], order[2, step]
                    if source >= 0:
                        factor, value = weight[channel, source], panel[block, source, :size]
                    else:
                        giver, stage, value = ~source, order[0, step] - 1, total[~source, :size]
                elif step > steps:
                    giver = last
                elif late.shape[1] == 1:
                    constant[:] = late[channel, 0]
                elif late.shape[1] > 1:
                    constant[:size] = late[channel, begin : begin + size]
                else:
                    continue
                if step <= steps:
                    _add(total[register, :size], least[register, :size], most[register, :size], value, factor)
                if giver >= 0:
                    ends = _close(
                        total[giver, :size],
                        least[giver, :size],
                        most[giver, :size],
                        floats,
                        words,
                        partial[channel, stage],
                        final[channel, stage],
                    )
                    low[channel, stage] = min(low[channel, stage], ends[0])
                    high[channel, stage] = max(high[channel, stage], ends[1])
