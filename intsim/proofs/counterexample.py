"""Counterexamples: inputs of a layer for which a target's integers are wrong, with the wrong integer predicted.

Wrong sums come from `wrong_sums`; here one is chosen that shows behind the requantizer. A requantizer goes wrong on
certain accumulators: activations are sought whose sum is one of them. Expected and got are computed in Python integers
and from the definitions, not by the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import gcd

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.requantizers.requantizer import Requantizer
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.ops import OPS
from intsim.ops.pieces import cell_views, combine
from intsim.ops.requantize import EXACT, formulas
from intsim.proofs.certificate import CellClaim, Codes, Counterexample
from intsim.proofs.mac_layer import MacLayer, Taps
from intsim.proofs.requantizers import on_hardware
from intsim.proofs.subset_sum import subset_sum
from intsim.proofs.wrong_sums import WrongSum

MOST_CHANNELS = 8
"""Channels among which a wrong sum is sought that the requantizer behind doesn't mask."""
MOST_GOALS = 48
"""Accumulators of one requantizer that a layer input is sought for."""
MOST_INTERVALS = 4096
"""Intervals of wrong codes among which these accumulators are chosen."""


def behind(graph: IntegerGraph, node: Node) -> Node | None:
    """The requantizer that reads a node's output, and nothing else."""
    return next((n for n in graph.nodes if n.op == "requantize" and n.inputs == (node.output,)), None)


Function = Callable[[int], int]


@dataclass(frozen=True)
class RequantizeNode:
    """A requantize node with one input, element by element: the exact code and the target's."""

    graph: IntegerGraph
    node: Node
    requantizer: Requantizer
    stages: tuple[Stage, ...]
    runs: Node

    def cells(self) -> list[tuple[slice, ...]]:
        """Index of each cell in the input, which must have the output's shape."""
        return list(cell_views(tuple(self.node.attributes["cells"]), len(self.graph.tensors[self.node.output].shape)))

    @property
    def elementwise(self) -> bool:
        """Whether the output has the input's shape."""
        return self.graph.tensors[self.node.inputs[0]].shape == self.graph.tensors[self.node.output].shape

    def cell_at(self, position: Sequence[int]) -> int:
        """The cell that holds an element."""
        for i, view in enumerate(self.cells()):
            if all(s == slice(None) or s.start == p for s, p in zip(view, position, strict=True)):
                return i
        raise AssertionError("cells cover the tensor")

    def functions(self, cell: int) -> tuple[Function, Function]:
        """Exact code and target's code of an accumulator."""
        formula = formulas(self.node)[cell]
        return (lambda acc: int(EXACT.codes(formula, np.array([acc], np.int64))[0])), self._target(cell)

    def _target(self, cell: int) -> Function:
        runs = self.runs
        if runs.op == "requantize":
            own = formulas(runs)[cell]
            return lambda acc: int(self.requantizer.codes(own, np.array([acc], np.int64), self.stages)[0])
        if runs.op == "table":
            row, low = runs.arrays["table"][cell], int(runs.attributes["low"])
            return lambda acc: int(row[min(max(acc - low, 0), row.size - 1)])
        if runs.attributes["source"] is not None:
            raise IntsimError(f"node {self.node.shown}: runs in one piece with what is in front")
        single = replace(runs, attributes={**runs.attributes, "output": [1]})
        return lambda acc: int(OPS["fused"].evaluate(single, np.array([acc], np.int64))[0])


def sum_counterexample(mac: MacLayer, wrong: dict[int, WrongSum], after: RequantizeNode | None) -> Counterexample:
    """The worst wrong sum, or the first of the next worst whose wrong code shows behind the requantizer."""
    order = sorted(wrong.values(), key=lambda f: (-abs(f.exact - f.got), f.channel))[:MOST_CHANNELS]
    first = _stated(mac, order[0], after)
    if after is None or first.codes is None or not first.masked:
        return first
    for found in order:
        stated = _stated(mac, found, after)
        if not stated.masked:
            return stated
        for moved in _moved(mac, found, after):
            stated = _stated(mac, moved, after)
            if not stated.masked:
                return stated
    return first


def _stated(mac: MacLayer, found: WrongSum, after: RequantizeNode | None) -> Counterexample:
    position = mac.position(found.taps.row, found.channel)
    inputs = mac.stated(mac.codes(found.taps, found.x, None if found.taps.w_at is None else found.w))
    codes = _codes(after, position, found.exact, found.got)
    masked = codes is not None and codes[0] == codes[1]
    return Counterexample(
        "layer", [mac.node.name], mac.node.output, list(position), found.exact, found.got, None, codes, masked, inputs
    )


def _codes(after: RequantizeNode | None, position: Sequence[int], exact: int, got: int) -> list[int] | None:
    if after is None or not after.elementwise:
        return None
    right, target = after.functions(after.cell_at(position))
    try:
        return [right(exact), target(got)]
    except IntsimError:  # the target's scheme has no code for the wrong sum
        return None


def _moved(mac: MacLayer, found: WrongSum, after: RequantizeNode) -> Iterator[WrongSum]:
    """The same push, with the other products set so that the sum lies where the requantizer tells right from wrong."""
    if found.taps.w_at is not None:
        return
    right, target = after.functions(after.cell_at(mac.position(found.taps.row, found.channel)))
    e, zero, constant = mac.linear(found.w, found.channel)
    low, high = mac.ranges(found.taps)
    held = np.where(found.pushed, found.x, low), np.where(found.pushed, found.x, high)
    a, b = ([k * (v - zero) for k, v in zip(e, side.tolist(), strict=True)] for side in held)
    least, most = (constant + sum(f(p, q) for p, q in zip(a, b, strict=True)) for f in (min, max))
    gap = found.got - found.exact
    goals = {least + (most - least) * i // 64 for i in range(65)}
    try:
        for code in (right, lambda g: target(g + gap)):
            goals |= set(_change(code, least, most))
        seen = [(abs(target(g + gap) - right(g)), g) for g in sorted(goals)]
    except IntsimError:  # among these are sums that the target's scheme refuses
        return
    shows = sorted((s for s in seen if s[0]), key=lambda s: (-s[0], s[1]))[:4]
    for _, goal in shows:
        values = subset_sum(
            e, [v - zero for v in held[0].tolist()], [v - zero for v in held[1].tolist()], goal - constant
        )
        if values is None:
            continue
        x = np.array([v + zero for v in values], np.int64)
        exact, got = mac.sums(found.w[None], [found.channel], x[None])
        if exact[0] != got[0]:
            yield WrongSum(found.taps, found.channel, x, found.w, found.pushed, int(exact[0]), int(got[0]))


def _change(code: Function, low: int, high: int) -> tuple[int, ...]:
    """Two neighbouring accumulators of low..high with different codes, if those of the ends differ."""
    first = code(low)
    if first == code(high):
        return ()
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if code(middle) == first else (low, middle)
    return low, high


def code_counterexample(
    differing: Sequence[CellClaim], requantizer: RequantizeNode, mac: MacLayer | None
) -> Counterexample | None:
    """A wrong code of a requantizer: from an input of the layer before it where one is found, else from accumulators.

    `differing` are cells with wrong codes; `mac` is the multiply-accumulate that feeds it alone, or None.
    """
    if len(requantizer.node.inputs) > 1:
        return _combination(differing[0], requantizer)
    if mac is not None and requantizer.elementwise and mac.registers.packing is None:
        found = _from_layer(mac, requantizer, differing)
        if found is not None:
            return found
    pairs = ((cell, min(max(0, a), b)) for cell, a, b in islice(_in_turn(differing), MOST_GOALS))
    return next((c for c in (_from_accumulator(requantizer, *pair) for pair in pairs) if c), None)


def _in_turn(differing: Sequence[CellClaim]) -> Iterator[tuple[int, int, int]]:
    """Cell, first and last accumulator of wrong intervals: cells in turn, in each those nearest to 0 first."""
    cells = {c.cell: sorted(c.intervals, key=lambda ends: abs(min(max(0, ends[0]), ends[1]))) for c in differing}
    for i in range(max(map(len, cells.values()), default=0)):
        yield from ((cell, *intervals[i]) for cell, intervals in cells.items() if i < len(intervals))


@dataclass(frozen=True)
class Row:
    """A row of one channel: its exact accumulator is `sum e_k v_k + constant`, v_k = x_k - zero in low_k..high_k."""

    taps: Taps
    channel: int
    w: IntArray
    e: list[int]
    zero: int
    constant: int
    low: list[int]
    high: list[int]

    def goal(self, first: int, last: int) -> int | None:
        """An accumulator of first..last, the one nearest to 0, that could be a sum; None if there is none."""
        ends = [sorted((e * a, e * b)) for e, a, b in zip(self.e, self.low, self.high, strict=True)]
        first = max(first, self.constant + sum(a for a, _ in ends))
        last = min(last, self.constant + sum(b for _, b in ends))
        # sums lie on a grid of the weights' common divisor
        step = gcd(*self.e)
        base = self.constant + sum(e * a for e, a in zip(self.e, self.low, strict=True))
        if first > last:
            return None
        near = min(max(0, first), last)
        above = near + (base - near) % step if step else base
        found = [g for g in (above, above - step) if first <= g <= last]
        return min(found, key=abs) if found else None


def _from_layer(mac: MacLayer, requantizer: RequantizeNode, differing: Sequence[CellClaim]) -> Counterexample | None:
    """Activations whose exact sum is an accumulator that gives a wrong code, if they show it."""
    rows: dict[int, list[Row]] = {}
    tries = 0
    for cell, first, last in islice(_in_turn(differing), MOST_INTERVALS):
        if cell not in rows:
            rows[cell] = _rows(mac, requantizer, cell)
        for row in rows[cell]:
            goal = row.goal(first, last)
            if goal is None:
                continue
            found = _hit(mac, requantizer, cell, row, goal)
            tries += 1
            if found is not None or tries >= MOST_GOALS:
                return found
    return None


def _rows(mac: MacLayer, requantizer: RequantizeNode, cell: int) -> list[Row]:
    """Rows to try of a cell, of at most `MOST_CHANNELS` channels."""
    inside = mac.output_numbers[requantizer.cells()[cell]].reshape(-1)
    channels = np.unique(inside % mac.channels)
    found = []
    for channel in channels[:: max(1, -(-len(channels) // MOST_CHANNELS))].tolist():
        taps = _taps_within(mac, channel, inside)
        w = _weights_of(mac, taps, channel)
        e, zero, constant = mac.linear(w, channel)
        low, high = ((side - zero).tolist() for side in mac.ranges(taps))
        found.append(Row(taps, channel, w, e, zero, constant, low, high))
    return found


def _hit(mac: MacLayer, requantizer: RequantizeNode, cell: int, row: Row, goal: int) -> Counterexample | None:
    values = subset_sum(row.e, row.low, row.high, goal - row.constant)
    if values is None:
        return None
    taps, channel, w = row.taps, row.channel, row.w
    x = np.array(values, np.int64) + row.zero
    exact, got = (int(v[0]) for v in mac.sums(w[None], [channel], x[None]))
    right, target = (f(acc) for f, acc in zip(requantizer.functions(cell), (exact, got), strict=True))
    if exact != goal or right == target:
        return None
    inputs = mac.stated(mac.codes(taps, x, None if taps.w_at is None else w))
    through, position = [mac.node.name, requantizer.node.name], mac.position(taps.row, channel)
    return Counterexample(
        "layer", through, requantizer.node.output, list(position), right, target, [exact, got], inputs=inputs
    )


def _taps_within(mac: MacLayer, channel: int, inside: IntArray) -> Taps:
    """A row of `channel` among the given places: the one with the fewest padding, if it is there."""
    for taps in mac.blocks:
        if channel in taps.channels and (inside == taps.row * mac.channels + channel).any():
            return taps
    return mac.taps(int(inside[inside % mac.channels == channel][0]) // mac.channels, channel)


def _weights_of(mac: MacLayer, taps: Taps, channel: int) -> IntArray:
    """(K,) as multiplied; of a second tensor, ones and its largest value in turn, so that sums can be set finely."""
    if taps.w_at is None:
        return taps.w[taps.channels.index(channel)]
    second, shift = mac.tensors[1], int(np.max(mac.plan.operands.w_shift))
    zero = int(mac.zeros[channel])
    one = min(max(zero + 1, second.low + shift), second.high + shift)
    return np.where(np.arange(taps.at.size) % 2 == 0, one, second.high + shift)


def _from_accumulator(requantizer: RequantizeNode, cell: int, goal: int) -> Counterexample | None:
    """The accumulator itself, given to the requantizer."""
    name = requantizer.node.inputs[0]
    tensor = requantizer.graph.tensors[name]
    position = [0 if s == slice(None) else s.start for s in requantizer.cells()[cell]]
    right, target = (f(goal) for f in requantizer.functions(cell))
    if right == target:
        return None
    fill = min(max(0, tensor.low), tensor.high)
    array = np.full(tensor.shape, fill, np.int64)
    array[_broadcast(position, tensor.shape)] = goal
    node = requantizer.node
    inputs = {name: Codes.of(array, fill)}
    return Counterexample("accumulator", [node.name], node.output, position, right, target, [goal, goal], inputs=inputs)


def _broadcast(position: Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Index of the element that an element of a broadcast tensor comes from."""
    return tuple(p if s > 1 else 0 for p, s in zip(position[len(position) - len(shape) :], shape, strict=True))


def _combination(differing: CellClaim, requantizer: RequantizeNode) -> Counterexample | None:
    """Codes of several inputs, the first of all combinations that give a wrong code in the cell's first interval."""
    node, graph = requantizer.node, requantizer.graph
    cell, (low, high) = differing.cell, differing.intervals[0]
    names = list(dict.fromkeys(node.inputs))
    grids = np.meshgrid(*(np.arange(graph.tensors[n].low, graph.tensors[n].high + 1) for n in names), indexing="ij")
    arrays = [grids[names.index(n)].reshape(-1) for n in node.inputs]
    column = np.broadcast_to(node.arrays["coefficients"], (len(arrays), *node.attributes["cells"]))
    column = column.reshape(len(arrays), -1)[:, cell : cell + 1]
    attributes = {**node.attributes, "cells": [1], "pieces": [node.attributes["pieces"][cell]]}
    single = replace(node, attributes=attributes, arrays={"coefficients": column})
    exact = OPS["requantize"].evaluate(single, *arrays)
    tensors = [graph.tensors[n] for n in node.inputs]
    own = requantizer.requantizer, requantizer.stages
    got = on_hardware(single, requantizer.runs, arrays, tensors, *own)
    sums = combine(single, *arrays)
    at = np.flatnonzero((exact != got) & (sums >= low) & (sums <= high))
    if not at.size:
        return None
    first = int(at[0])
    position = [0 if s == slice(None) else s.start for s in requantizer.cells()[cell]]
    inputs = {}
    for name, values in zip(node.inputs, arrays, strict=True):
        tensor = graph.tensors[name]
        fill = min(max(0, tensor.low), tensor.high)
        array = np.full(tensor.shape, fill, np.int64)
        array[_broadcast(position, tensor.shape)] = values[first]
        inputs[name] = Codes.of(array, fill)
    right, target = int(exact[first]), int(got[first])
    return Counterexample("accumulator", [node.name], node.output, position, right, target, inputs=inputs)
