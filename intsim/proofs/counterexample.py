"""Counterexamples: inputs of a layer for which a target's integers are wrong, with the wrong integer predicted.

Wrong sums come from `wrong_sums`; here one is chosen that shows behind the requantizer. A requantizer goes wrong on
certain accumulators: activations are sought whose sum is one of them. Expected and got are computed in Python integers
and from the definitions, not by the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from math import gcd

import numpy as np

from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.proofs.certificate import CellClaim, Codes, Counterexample
from intsim.proofs.mac_layer import MacLayer, Taps
from intsim.proofs.requantizers import RequantizeNode
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


def sum_counterexample(mac: MacLayer, wrong: dict[int, WrongSum], after: RequantizeNode | None) -> Counterexample:
    """The worst wrong sum, or the first of the next worst whose wrong code shows behind the requantizer."""
    order = sorted(wrong.values(), key=lambda f: (-abs(f.exact - f.got), f.channel))[:MOST_CHANNELS]
    first = _stated(mac, order[0], after)
    if after is None or first.codes is None or not first.masked:
        return first
    tried = chain.from_iterable(chain([sum_], _moved(mac, sum_, after)) for sum_ in order)
    stated = (_stated(mac, sum_, after) for sum_ in tried)
    return next((c for c in stated if not c.masked), first)


def _stated(mac: MacLayer, wrong: WrongSum, after: RequantizeNode | None) -> Counterexample:
    position = mac.position(wrong.taps.row, wrong.channel)
    inputs = mac.stated(mac.codes(wrong.taps, wrong.x, wrong.w))
    codes = _codes(after, position, wrong.exact, wrong.got)
    masked = codes is not None and codes[0] == codes[1]
    return Counterexample(
        "layer", [mac.node.name], mac.node.output, list(position), wrong.exact, wrong.got, None, codes, masked, inputs
    )


def _codes(after: RequantizeNode | None, position: Sequence[int], exact: int, got: int) -> list[int] | None:
    if after is None or not after.elementwise:
        return None
    right, target = after.functions(after.cell_at(position))
    try:
        return [right(exact), target(got)]
    except IntsimError:  # the target's scheme has no code for the wrong sum
        return None


def _moved(mac: MacLayer, wrong: WrongSum, after: RequantizeNode) -> Iterator[WrongSum]:
    """The same push, with the other products set so that the sum lies where the requantizer tells right from wrong."""
    if wrong.taps.w_at is not None:
        return
    right, target = after.functions(after.cell_at(mac.position(wrong.taps.row, wrong.channel)))
    low, high = (np.where(wrong.pushed, wrong.x, side) for side in mac.ranges(wrong.taps))
    row = Row.of(mac, wrong.taps, wrong.channel, wrong.w, low, high)
    least, most = row.ends
    gap = wrong.got - wrong.exact
    goals = {least + (most - least) * i // 64 for i in range(65)}
    try:
        for code in (right, lambda g: target(g + gap)):
            goals |= set(_change(code, least, most))
        seen = [(abs(target(g + gap) - right(g)), g) for g in sorted(goals)]
    except IntsimError:  # among these are sums that the target's scheme refuses
        return
    shows = sorted((s for s in seen if s[0]), key=lambda s: (-s[0], s[1]))[:4]
    for _, goal in shows:
        x = row.hit(goal)
        if x is None:
            continue
        exact, got = mac.sum(wrong.w, wrong.channel, x)
        if exact != got:
            yield replace(wrong, x=x, exact=exact, got=got)


def _change(code: Callable[[int], int], low: int, high: int) -> tuple[int, ...]:
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
    if mac is not None and requantizer.elementwise and mac.registers.packing is None and not mac.squares:
        layer = _from_layer(mac, requantizer, differing)
        if layer is not None:
            return layer
    for cell, first, last in islice(_in_turn(differing), MOST_GOALS):
        goal = min(max(0, first), last)
        right, target = (code(goal) for code in requantizer.functions(cell))
        if right != target:
            return _given(requantizer, cell, [goal], right, target)
    return None


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

    @classmethod
    def of(cls, mac: MacLayer, taps: Taps, channel: int, w: IntArray, low: IntArray, high: IntArray) -> Row:
        """With activations low..high."""
        e, zero, constant = mac.linear(w, channel)
        return cls(taps, channel, w, e, zero, constant, (low - zero).tolist(), (high - zero).tolist())

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the greatest accumulator."""
        products = [sorted((e * a, e * b)) for e, a, b in zip(self.e, self.low, self.high, strict=True)]
        return self.constant + sum(a for a, _ in products), self.constant + sum(b for _, b in products)

    def goal(self, first: int, last: int) -> int | None:
        """An accumulator of first..last, the one nearest to 0, that could be a sum; None if there is none."""
        least, most = self.ends
        first, last = max(first, least), min(last, most)
        if first > last:
            return None
        # sums lie on a grid of the weights' common divisor
        step = gcd(*self.e)
        near = min(max(0, first), last)
        above = near + (least - near) % step if step else least
        return min((g for g in (above, above - step) if first <= g <= last), key=abs, default=None)

    def hit(self, goal: int) -> IntArray | None:
        """Activations (K,) whose exact accumulator is `goal`, if they are found."""
        values = subset_sum(self.e, self.low, self.high, goal - self.constant)
        return None if values is None else np.array(values, np.int64) + self.zero


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
            stated = _hit(mac, requantizer, cell, row, goal)
            tries += 1
            if stated is not None or tries >= MOST_GOALS:
                return stated
    return None


def _rows(mac: MacLayer, requantizer: RequantizeNode, cell: int) -> list[Row]:
    """Rows to try of a cell, of at most `MOST_CHANNELS` channels."""
    inside = mac.output_numbers[requantizer.cells()[cell]].reshape(-1)
    channels = np.unique(inside % mac.channels)
    rows = []
    for channel in channels[:: max(1, -(-len(channels) // MOST_CHANNELS))].tolist():
        taps = _taps_within(mac, channel, inside)
        rows.append(Row.of(mac, taps, channel, _weights_of(mac, taps, channel), *mac.ranges(taps)))
    return rows


def _hit(mac: MacLayer, requantizer: RequantizeNode, cell: int, row: Row, goal: int) -> Counterexample | None:
    x = row.hit(goal)
    if x is None:
        return None
    sums = mac.sum(row.w, row.channel, x)
    right, target = (f(acc) for f, acc in zip(requantizer.functions(cell), sums, strict=True))
    if sums[0] != goal or right == target:
        return None
    inputs = mac.stated(mac.codes(row.taps, x, row.w))
    through, position = [mac.node.name, requantizer.node.name], mac.position(row.taps.row, row.channel)
    return Counterexample(
        "layer", through, requantizer.node.output, list(position), right, target, list(sums), inputs=inputs
    )


def _taps_within(mac: MacLayer, channel: int, inside: IntArray) -> Taps:
    """A row of `channel` among the given places: the one with the fewest padding, if it is there."""
    rows = inside[inside % mac.channels == channel] // mac.channels
    near = (taps for taps in mac.blocks if channel in taps.channels and (rows == taps.row).any())
    return next(near, None) or mac.taps(int(rows[0]), channel)


def _weights_of(mac: MacLayer, taps: Taps, channel: int) -> IntArray:
    """(K,) as multiplied; of a second tensor, ones and its largest value in turn, so that sums can be set finely."""
    if taps.w_at is None:
        return taps.w[taps.channels.index(channel)]
    second, shift = mac.tensors[1], int(np.max(mac.operands.w_shift))
    zero = int(mac.zeros[channel])
    one = min(max(zero + 1, second.low + shift), second.high + shift)
    return np.where(np.arange(taps.at.size) % 2 == 0, one, second.high + shift)


def _combination(differing: CellClaim, requantizer: RequantizeNode) -> Counterexample | None:
    """Codes of several inputs, the first of all combinations that give a wrong code in the cell's first interval."""
    cell, (low, high) = differing.cell, differing.intervals[0]
    arrays = requantizer.combinations()
    if arrays is None:
        return None
    sums, right, target = requantizer.compared(cell, arrays)
    at = np.flatnonzero((right != target) & (sums >= low) & (sums <= high))
    if not at.size:
        return None
    first = np.unravel_index(int(at[0]), sums.shape)
    values = [int(np.broadcast_to(a, sums.shape)[first]) for a in arrays]
    return _given(requantizer, cell, values, int(right[first]), int(target[first]))


def _given(requantizer: RequantizeNode, cell: int, values: list[int], right: int, target: int) -> Counterexample:
    """The first element of a cell reads `values`, one an input; everything else is as near to 0 as it can be."""
    node = requantizer.node
    position = [0 if s == slice(None) else s.start for s in requantizer.cells()[cell]]
    inputs = {}
    for tensor, value in zip(requantizer.tensors, values, strict=True):
        fill = min(max(0, tensor.low), tensor.high)
        array = np.full(tensor.shape, fill, np.int64)
        inner = position[len(position) - len(tensor.shape) :]
        array[tuple(p if s > 1 else 0 for p, s in zip(inner, tensor.shape, strict=True))] = value  # may be broadcast
        inputs[tensor.name] = Codes.of(array, fill)
    accumulators = values * 2 if len(values) == 1 else None
    return Counterexample("accumulator", [node.name], node.output, position, right, target, accumulators, inputs=inputs)
