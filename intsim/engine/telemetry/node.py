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
from intsim.engine.telemetry.demand import UNBOUNDED, Demand, nothing, register_demand
from intsim.engine.telemetry.kernels import BLOCK, register_lives
from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.mac.operands import channel_zeros
from intsim.mac.plan import plan
from intsim.ops.mac import Mac
from intsim.ops.schemes import unclipped
from intsim.targets import Target

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
    register_lives(
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
