"""Which accumulators can arrive at each cell of a requantize node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from intsim.arithmetic.accumulate import Stage, handed_on
from intsim.arithmetic.registers import BiasPlace
from intsim.graph import IntegerGraph, Node, Tensor
from intsim.ops import OPS, Mac
from intsim.ops.movement import axis_behind

Range = tuple[int, int]


@dataclass(frozen=True)
class Channels:
    """A range for each position along `axis` (0 or more) of a tensor."""

    axis: int
    ranges: list[Range]


Machine = Callable[[Node], tuple[Sequence[Stage], BiasPlace]]
"""Of a multiply-accumulate its registers, and where its bias goes."""


def cell_ranges(graph: IntegerGraph, node: Node, machine: Machine) -> list[Range]:
    """Per cell of a requantize node with one input, row-major, the least and the greatest accumulator.

    The range of a multiply-accumulate layer's output channel, followed through data movement that keeps channels
    apart; where the channel isn't certain, the tensor's range. Every accumulator of an exact layer lies inside. Where
    such a range doesn't fit the last register, the register's range: that is all it can hand on. A bias that the
    machine adds behind its registers (`bias` "requantizer") moves it. So it is where registers round products.
    """
    tensor, cells = graph.tensors[node.inputs[0]], tuple(node.attributes["cells"])
    rank = max(len(tensor.shape), len(cells))
    cells = (1,) * (rank - len(cells)) + cells
    channels = channel_ranges(graph, node.inputs[0], machine)
    if channels is None:
        return [(tensor.low, tensor.high)] * math.prod(cells)
    axis, ranges = channels.axis + rank - len(tensor.shape), channels.ranges
    if cells[axis] == 1:
        return [_union(ranges)] * math.prod(cells)
    if len(ranges) == 1:
        ranges = ranges * cells[axis]
    return [ranges[i[axis]] for i in np.ndindex(*cells)]


def _union(ranges: Sequence[Range]) -> Range:
    """The least that holds them all."""
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def channel_ranges(graph: IntegerGraph, name: str, machine: Machine) -> Channels | None:
    """The ranges of a tensor's channels; None where they aren't certain."""
    node = graph.producer(name)
    if node is None:
        return None
    op, tensors = OPS[node.op], [graph.tensors[i] for i in node.inputs]
    if isinstance(op, Mac):
        axis = 1 if node.op.startswith("conv") else len(graph.tensors[name].shape) - 1
        return Channels(axis, _accumulated(node, op, tensors, *machine(node)))
    if node.op not in ("concat", "reshape", "transpose", "gather", "pad", "max_pool"):
        return None
    inputs = [channel_ranges(graph, i, machine) for i in node.inputs]
    if node.op == "concat":
        return _concatenated(node, tensors, inputs)
    return None if inputs[0] is None else _moved(inputs[0], node, tensors[0].shape)


def _accumulated(node: Node, op: Mac, tensors: list[Tensor], stages: Sequence[Stage], bias: BiasPlace) -> list[Range]:
    low, high = op.channel_ranges(node, *tensors)
    if stages:
        (least, most), stored = handed_on(stages), node.arrays.get("bias")
        behind = [0] * len(low) if stored is None or bias != "requantizer" else stored.tolist()
        for c, b in enumerate(behind):
            if stages[0].drop or low[c] - b < least or high[c] - b > most:
                low[c], high[c] = least + b, most + b
    return list(zip(low, high, strict=True))


def _concatenated(node: Node, tensors: list[Tensor], inputs: Sequence[Channels | None]) -> Channels | None:
    """One after another along the channels; elsewhere the union."""
    axes = {c.axis for c in inputs if c is not None}
    if len(axes) != 1:
        return None
    (axis,) = axes
    parts = [[(t.low, t.high)] * t.shape[axis] if c is None else c.ranges for c, t in zip(inputs, tensors, strict=True)]
    if node.attributes["axis"] == axis:
        return Channels(axis, list(chain(*parts)))
    return Channels(axis, [_union(column) for column in zip(*parts, strict=True)])


def _moved(channels: Channels, node: Node, before: tuple[int, ...]) -> Channels | None:
    """The same ranges behind a node that moves data; None where channels no longer lie along one axis."""
    axis, ranges = channels.axis, channels.ranges
    if node.op in ("transpose", "reshape"):
        moved = axis_behind(node, axis, before)
        return None if moved is None else replace(channels, axis=moved)
    if node.op == "gather" and node.attributes["axis"] == axis:
        return Channels(axis, [ranges[i] for i in node.arrays["index"].reshape(-1).tolist()])
    if node.op == "pad":
        value, (begin, end) = node.attributes["value"], node.attributes["pads"][axis]
        if any(b or e for i, (b, e) in enumerate(node.attributes["pads"]) if i != axis):
            ranges = [(min(low, value), max(high, value)) for low, high in ranges]
        return Channels(axis, [(value, value)] * begin + ranges + [(value, value)] * end)
    return channels  # max_pool and gather along another axis: values of the same channel
