"""One node on a target, on int64 arrays: the way that looks at the data.

Of a multiply-accumulate, channels that provably can't overflow go the exact way, others through the registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.dispatch import machine
from intsim.engine.registers.matmul import register_matmul
from intsim.engine.registers.packed import packed_matmul
from intsim.engine.requantize.node import run_requantize
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node, Tensor
from intsim.mac.operands import channel_zeros
from intsim.mac.plan import plan
from intsim.ops import OPS, Mac
from intsim.ops.exact import exact_matmul
from intsim.ops.mac import Panel
from intsim.targets import Target


def run_node(
    graph: IntegerGraph, node: Node, arrays: list[IntArray], target: Target
) -> tuple[IntArray, IntArray | None]:
    """One node on a target: its output, and overflow events if it accumulates.

    Raises:
        IntsimError: the target refuses the node, or computes it from what the operator in front reads.
    """
    runs = machine(graph, target)
    mine = runs.node(node)
    if mine.inputs != node.inputs:
        raise IntsimError(f"node {node.shown}: target {target.name} computes it in one piece with what is in front")
    return run_alone(runs.graph, mine, arrays, runs.arithmetic(node))


def run_among(
    graph: IntegerGraph, node: Node, values: Mapping[str, IntArray], target: Target
) -> tuple[IntArray, IntArray | None]:
    """`run_node` on tensors by name: what the operator in front reads is among them.

    Raises:
        IntsimError: the target refuses the node, or needs a tensor that isn't there.
    """
    runs = machine(graph, target)
    mine = runs.node(node)
    missing = [n for n in mine.inputs if n not in values]
    if missing:
        raise IntsimError(
            f"node {node.shown}: target {target.name} computes it from {missing[0]}, which is not at hand"
        )
    return run_alone(runs.graph, mine, [values[i] for i in mine.inputs], runs.arithmetic(node))


def run_alone(
    graph: IntegerGraph, node: Node, arrays: list[IntArray], target: Target
) -> tuple[IntArray, IntArray | None]:
    """`run_node` of a node of a machine's graph, on its own arithmetic."""
    op = OPS[node.op]
    tensors = [graph.tensors[i] for i in node.inputs]
    if isinstance(op, Mac):
        result = run_mac(node, op, arrays, tensors, target)
        return result.out, result.events
    if node.op == "requantize":
        return run_requantize(node, arrays, tensors, target), None
    return op.evaluate(node, *arrays), None


@dataclass(frozen=True)
class MacResult:
    """Accumulators, and overflow events by channel and stage."""

    out: IntArray
    events: IntArray


def run_mac(node: Node, op: Mac, arrays: list[IntArray], tensors: list[Tensor], target: Target) -> MacResult:
    """Run one MAC node on a target."""
    planned = plan(node, op, tensors, target.registers)
    x, w = op.operands(node, *arrays)
    shapes = [a.shape for a in arrays]
    extent = op.extent(node, *shapes)
    if not target.stages:
        return MacResult(op.evaluate(node, *arrays), np.zeros((extent[1], 0), np.int64))
    assert planned.sums is not None
    safe = np.asarray(planned.sums.all_safe.reshape(-1, extent[1]).all(axis=0))
    if not all(_within(a, t) for a, t in zip(arrays, tensors, strict=True)):
        safe = np.zeros_like(safe)  # a layer before overflowed: the proof speaks of other inputs
    x, w = planned.operands.shifted(x, w)
    out = np.empty(extent, np.int64)
    events = np.zeros((extent[1], len(target.stages)), np.int64)
    zeros = channel_zeros(planned.operands.w_zero, extent[1])
    packing = target.registers.packing
    order = target.accumulate.order
    panels = op.panels(node, x, w, planned.operands.pad, order)
    owed = planned.operands.owed and op.pads(node)
    masks = op.panels(node, np.ones_like(x), w, 0, order) if owed else repeat(None)
    for panel, mask in zip(panels if packing is None else whole_sets(panels, len(packing.pixels)), masks, strict=False):
        chosen, zero = safe[panel.channels], zeros[panel.channels]
        preload = None if planned.preload is None else planned.preload[panel.channels]
        after = planned.late(panel.w, panel.channels)
        term = -panel.a.sum(axis=1)[:, None] * zero if planned.operands.depends_on_data() else None
        block = np.empty((panel.a.shape[0], panel.w.shape[0]), np.int64)
        if chosen.any():
            exact = exact_matmul(panel.a, panel.w[chosen])
            for extra in (preload, after):
                exact += 0 if extra is None else extra[chosen]
            block[:, chosen] = exact if term is None else exact + term[:, chosen]
        if not chosen.all():
            picked = np.flatnonzero(~chosen if packing is None else with_partners(~chosen, len(packing.channels)))
            first, late = (None if v is None else v[picked] for v in (preload, after))
            columns, last = panel.w[picked], late if term is None else None
            if packing is None:
                result = register_matmul(panel.a, columns, target.stages, first, last, "counted")
            else:
                result = packed_matmul(panel.a, columns, target.stages, packing, first, last)
            block[:, picked] = result.out
            events[panel.channels][picked] += result.events
            if term is not None:
                added = term[:, picked] if late is None else term[:, picked] + late
                block[:, picked], past = add_to_register(block[:, picked], added, target.stages)
                events[panel.channels][picked, -1] += past
        if mask is not None:  # what was taken off for padding, which made no products
            block += planned.operands.x_zero * exact_matmul(1 - mask.a, panel.w - zero[:, None])
        out[panel.rows, panel.channels] = block if planned.behind is None else block + planned.behind[panel.channels]
    return MacResult(op.fold(node, out, *shapes), events)


def _within(array: IntArray, tensor: Tensor) -> bool:
    return array.size == 0 or bool(array.min() >= tensor.low and array.max() <= tensor.high)


def with_partners(chosen: np.ndarray, together: int) -> np.ndarray:
    """Which channels share a multiplier with a chosen one; neighbours from the first one of the panel on do."""
    sets = np.arange(chosen.size) // together
    return np.isin(sets, sets[chosen])


def whole_sets(panels: Iterator[Panel], together: int) -> Iterator[Panel]:
    """The same panels, cut so that each but the last of its weights has a multiple of `together` rows.

    Neighbouring outputs share a multiplier although a panel, or an image of the batch, ends between them.
    """
    kept: Panel | None = None
    for panel in panels:
        if kept is not None and kept.w is panel.w:
            rows = slice(kept.rows.start, panel.rows.stop)
            panel = Panel(rows, panel.channels, np.concatenate([kept.a, panel.a]), panel.w)
        elif kept is not None:
            yield kept
        whole = panel.a.shape[0] // together * together
        middle = panel.rows.start + whole
        if whole:
            yield Panel(slice(panel.rows.start, middle), panel.channels, panel.a[:whole], panel.w)
        rest = slice(middle, panel.rows.stop)
        kept = Panel(rest, panel.channels, panel.a[whole:], panel.w) if rest.start < rest.stop else None
    if kept is not None:
        yield kept


def add_to_register(register: IntArray, value: IntArray, stages: Sequence[Stage]) -> tuple[IntArray, IntArray]:
    """One more addition into the last register, (M, N): bias and compensation with `-zw sum x`; events by channel.

    Both are in LSBs of the layer.
    """
    first = stages[0]
    terms = register >> first.drop, first.cast(value)
    both = accumulate_telemetry(np.stack(np.broadcast_arrays(*terms), axis=-1), stages[-1:])
    return both.result << first.drop, both.events[..., 0].sum(axis=0)
