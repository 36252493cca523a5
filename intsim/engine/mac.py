"""A MAC node on a target: channels that provably can't overflow go the exact way, others step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import saturate, wrap
from intsim.engine.stepwise import stepwise_matmul
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.exact import exact_matmul
from intsim.ops.mac import Mac
from intsim.ops.operands import channel_zeros
from intsim.ops.plan import plan
from intsim.targets import Target


@dataclass(frozen=True)
class MacResult:
    """Accumulators, and overflow events by channel and stage."""

    out: IntArray
    events: IntArray


def run_mac(node: Node, op: Mac, arrays: list[IntArray], tensors: list[Tensor], target: Target) -> MacResult:
    """Run one MAC node on a target."""
    how = plan(node, op, tensors, target.registers)
    x, w = op.operands(node, *arrays)
    shapes = [a.shape for a in arrays]
    extent = op.extent(node, *shapes)
    if not target.stages:
        return MacResult(op.evaluate(node, *arrays), np.zeros((extent[1], 0), np.int64))
    assert how.sums is not None
    safe = np.asarray(how.sums.all_safe.reshape(-1, extent[1]).all(axis=0))
    x, w = x + how.operands.x_shift, w + how.operands.w_shift
    out = np.empty(extent, np.int64)
    events = np.zeros((extent[1], len(target.stages)), np.int64)
    zeros = channel_zeros(how.operands.w_zero, extent[1])
    for panel in op.panels(node, x, w, how.operands.pad, target.accumulate.order):
        chosen, zero = safe[panel.channels], zeros[panel.channels]
        preload = None if how.preload is None else how.preload[panel.channels]
        after = _sum(None if how.after is None else how.after[panel.channels], how.operands.compensation(panel.w, zero))
        term = -panel.a.sum(axis=1)[:, None] * zero if how.operands.depends_on_data() else None
        block = np.empty((panel.a.shape[0], panel.w.shape[0]), np.int64)
        if chosen.any():
            exact = exact_matmul(panel.a, panel.w[chosen])
            for extra in (preload, after):
                exact += 0 if extra is None else extra[chosen]
            block[:, chosen] = exact if term is None else exact + term[:, chosen]
        if not chosen.all():
            picked = np.flatnonzero(~chosen)
            first, late = (None if v is None else v[picked] for v in (preload, after))
            result = stepwise_matmul(panel.a, panel.w[picked], target.stages, first, late if term is None else None)
            block[:, picked] = result.out
            events[panel.channels][picked] += result.events
            if term is not None:
                added = term[:, picked] if late is None else term[:, picked] + late
                block[:, picked], past = _add(block[:, picked], added, target.stages[-1])
                events[panel.channels][picked, -1] += past
        out[panel.rows, panel.channels] = block
    return MacResult(op.fold(node, out, *shapes), events)


def _sum(a: IntArray | None, b: IntArray | None) -> IntArray | None:
    """Sum of what there is."""
    return b if a is None else a if b is None else a + b


def _add(register: IntArray, value: IntArray, stage: Stage) -> tuple[IntArray, IntArray]:
    """One more addition into the last register, (M, N): bias and compensation with `-zw sum x`; events by channel."""
    total = register + value
    past = ((total < stage.min) | (total > stage.max)).sum(axis=0)
    rule = wrap if stage.overflow == "wrap" else saturate
    return rule(total, stage.bits), past
