"""Which accumulators can arrive at each cell of a requantize node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.registers import BiasPlace
from intsim.graph import IntegerGraph, Node
from intsim.ops import OPS, Mac
from intsim.ops.movement import axis_behind


@dataclass(frozen=True)
class Channels:
    """A range for each position along `axis` (0 or more) of a tensor."""

    axis: int
    low: list[int]
    high: list[int]


Machine = Callable[[Node], tuple[Sequence[Stage], BiasPlace]]
"""Of a multiply-accumulate its registers, and where its bias goes."""


def cell_ranges(graph: IntegerGraph, node: Node, machine: Machine) -> list[tuple[int, int]]:
    """Per cell of a requantize node with one input, row-major, the least and the greatest accumulator.

    The range of a multiply-accumulate layer's output channel, followed through data movement that keeps channels
    apart; where the channel isn't certain, the tensor's range. Every accumulator of an exact layer lies inside. Where
    such a range doesn't fit the last register, the register's range: that is all it can hand on. A bias that the
    machine adds behind its registers (`bias` "requantizer") moves it.
    """
    tensor = graph.tensors[node.inputs[0]]
    shape = np.broadcast_shapes(tensor.shape, tuple(node.attributes["cells"]))
    cells = (1,) * (len(shape) - len(node.attributes["cells"])) + tuple(node.attributes["cells"])
    whole = tensor.low, tensor.high
    channels = channel_ranges(graph, node.inputs[0], machine)
    if channels is None:
        return [whole] * math.prod(cells)
    axis = channels.axis + len(shape) - len(tensor.shape)
    union = min(channels.low), max(channels.high)
    if cells[axis] == 1:
        return [union] * math.prod(cells)
    if len(channels.low) == 1:
        channels = Channels(channels.axis, channels.low * cells[axis], channels.high * cells[axis])
    return [(channels.low[i[axis]], channels.high[i[axis]]) for i in np.ndindex(*cells)]


def channel_ranges(graph: IntegerGraph, name: str, machine: Machine) -> Channels | None:
    """The ranges of a tensor's channels; None where they aren't certain."""
    node = graph.producer(name)
    if node is None:
        return None
    op, shape = OPS[node.op], graph.tensors[name].shape
    if isinstance(op, Mac):
        return _accumulated(graph, node, op, 1 if node.op.startswith("conv") else len(shape) - 1, *machine(node))
    if node.op == "concat":
        return _concatenated(graph, node, machine)
    if node.op not in ("reshape", "transpose", "gather", "pad", "max_pool"):
        return None
    found = channel_ranges(graph, node.inputs[0], machine)
    return None if found is None else _moved(found, node, graph.tensors[node.inputs[0]].shape)


def _accumulated(
    graph: IntegerGraph, node: Node, op: Mac, axis: int, stages: Sequence[Stage], bias: BiasPlace
) -> Channels | None:
    tensors = [graph.tensors[i] for i in node.inputs]
    low, high = op.channel_ranges(node, *tensors)
    count = graph.tensors[node.output].shape[axis]
    if len(low) % count:
        return None
    # weights of a batch come batch after batch, with the channels fastest
    low, high = [min(low[c::count]) for c in range(count)], [max(high[c::count]) for c in range(count)]
    if stages:
        last, stored = stages[-1], node.arrays.get("bias")
        behind = [0] * count if stored is None or bias != "requantizer" else stored.tolist()
        for c, b in enumerate(behind):
            if low[c] - b < last.min or high[c] - b > last.max:
                low[c], high[c] = last.min + b, last.max + b
    return Channels(axis, low, high)


def _concatenated(graph: IntegerGraph, node: Node, machine: Machine) -> Channels | None:
    """One after another along the channels; elsewhere the union."""
    parts = [channel_ranges(graph, i, machine) for i in node.inputs]
    axes = {p.axis for p in parts if p is not None}
    if len(axes) != 1:
        return None
    (axis,) = axes
    tensors = [graph.tensors[i] for i in node.inputs]
    full = [
        p if p is not None else Channels(axis, [t.low] * t.shape[axis], [t.high] * t.shape[axis])
        for p, t in zip(parts, tensors, strict=True)
    ]
    if node.attributes["axis"] == axis:
        return Channels(axis, [v for p in full for v in p.low], [v for p in full for v in p.high])
    return Channels(
        axis,
        [min(v) for v in zip(*(p.low for p in full), strict=True)],
        [max(v) for v in zip(*(p.high for p in full), strict=True)],
    )


def _moved(found: Channels, node: Node, before: tuple[int, ...]) -> Channels | None:
    """The same ranges behind a node that moves data; None where channels no longer lie along one axis."""
    axis = found.axis
    if node.op in ("transpose", "reshape"):
        moved = axis_behind(node, axis, before)
        return None if moved is None else replace(found, axis=moved)
    if node.op == "gather" and node.attributes["axis"] == axis:
        picked = node.arrays["index"].reshape(-1).tolist()
        return Channels(axis, [found.low[i] for i in picked], [found.high[i] for i in picked])
    if node.op == "pad":
        value, (begin, end) = node.attributes["value"], node.attributes["pads"][axis]
        low, high = found.low, found.high
        if any(b or e for i, (b, e) in enumerate(node.attributes["pads"]) if i != axis):
            low, high = [min(v, value) for v in low], [max(v, value) for v in high]
        return Channels(axis, [value] * begin + low + [value] * end, [value] * begin + high + [value] * end)
    return found  # max_pool and gather along another axis: values of the same channel
