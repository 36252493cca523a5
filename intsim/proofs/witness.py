"""Inputs that attain the bounds: for a layer, channel and side, codes and an order of arrival that reach it exactly.

A witness is constructed from the proof (`mac/any_order.py`) and then replayed without it: the layer's own panels give
the products, `accumulate_telemetry` adds them up in the witness's order, and what it saw is the witness's value. A
bound that a witness's value equals can't be made smaller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate as running
from typing import Literal

import numpy as np

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.arithmetic.registers import Registers
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node, Tensor
from intsim.mac.any_order import Addends, Reach, addends
from intsim.mac.plan import bias_terms
from intsim.ops import OPS, Mac

Side = Literal["low", "high"]
Order = Literal["any", "own", "final"]
SIDES: tuple[Side, ...] = ("low", "high")
ORDERS: tuple[Order, ...] = ("any", "own", "final")
WIDE = (Stage(None, 64, "wrap"),)
"""One register in which no sum of a layer overflows."""


@dataclass(frozen=True)
class Witness:
    """Codes for a layer's inputs, and the order of arrival in which one output element reaches a bound.

    Attributes:
        order: "any", "own" (the target's order) or "final" (the finished accumulator, in the target's order).
        side: "low" or "high".
        inputs: int64 codes of each input tensor, within its range.
        position: index of the output element, channel included.
        channel: its channel.
        permutation: (addends,) numbers of the addends in order of arrival: 0..K-1 are the products in the target's
            order; then come a preloaded bias and the late addend (bias and compensation), where there are such.
        step: additions after which the value stands in the register; 0 is the register's start.
        bound: what the proof says.
        value: what the replay saw.
    """

    order: Order
    side: Side
    inputs: tuple[IntArray, ...]
    position: tuple[int, ...]
    channel: int
    permutation: IntArray
    step: int
    bound: int
    value: int

    @property
    def attained(self) -> bool:
        """Whether the bound is exact."""
        return self.value == self.bound


def witness(
    graph: IntegerGraph, node: Node, registers: Registers, channel: int, side: Side, order: Order = "any"
) -> Witness:
    """The witness of one bound of a multiply-accumulate node.

    Raises IntsimError for another node, a channel that there is not, or a tensor that doesn't fit the multiplier.
    """
    (found,) = witnesses(graph, node, registers, [channel], (side,), (order,))
    return found


def witnesses(
    graph: IntegerGraph,
    node: Node,
    registers: Registers,
    channels: Sequence[int] | None = None,
    sides: Sequence[Side] = SIDES,
    orders: Sequence[Order] = ("any",),
) -> Iterator[Witness]:
    """A witness for every channel, side and order asked for; `channels` None: for each bound its worst channel."""
    op = OPS[node.op]
    if not isinstance(op, Mac):
        raise IntsimError(f"node {node.shown}: {node.op} accumulates no products; it has no bound")
    tensors = [graph.tensors[i] for i in node.inputs]
    adds = addends(node, op, tensors, registers)
    wrong = [c for c in channels or () if not 0 <= c < adds.channels]
    if wrong:
        raise IntsimError(f"node {node.shown}: has no channel {wrong[0]}; it has 0..{adds.channels - 1}")
    reach = adds.reach()
    layer = _Layer(node, op, tensors, registers, adds)
    for order in orders:
        for side in sides:
            bound = reach[order].low if side == "low" else reach[order].high
            worst = int(bound.argmin() if side == "low" else bound.argmax())
            for channel in [worst] if channels is None else channels:
                yield layer.witness(reach[order], channel, side, order)


class _Layer:
    """What the witnesses of a layer share: which input elements its products read."""

    def __init__(self, node: Node, op: Mac, tensors: list[Tensor], registers: Registers, adds: Addends) -> None:
        """Number the elements of each input from 1: in the panels, 0 is padding."""
        self.node, self.op, self.tensors, self.registers, self.adds = node, op, tensors, registers, adds
        self.shapes = [t.shape for t in tensors]
        self.numbered = [np.arange(1, np.prod(s, dtype=int) + 1).reshape(s) for s in self.shapes]
        self.read: dict[int, tuple[slice, IntArray, IntArray]] = {}

    def witness(self, reach: Reach, channel: int, side: Side, order: Order) -> Witness:
        """Choose corners and an order, write them into the inputs, replay."""
        low = side == "low"
        row = int((reach.low_row if low else reach.high_row)[channel])
        pattern = int((reach.low_pattern if low else reach.high_pattern)[channel])
        bound = int((reach.low if low else reach.high)[channel])
        choice = _choose(self.adds, row, pattern, order, -1 if low else 1)
        at = self._row(row, pattern)
        inputs = self._inputs(at, channel, choice)
        terms = self._addends(inputs, at, channel)
        value, step = _replay([terms[i] for i in choice.permutation], side, order)
        return Witness(
            order, side, inputs, self._position(at, channel), channel, choice.permutation, step, bound, value
        )

    def _row(self, row: int, pattern: int) -> int:
        """The first output row with this weight matrix and this pattern of padding."""
        weight = self.node.arrays.get("weight")
        if self.node.op != "matmul" or weight is None:
            return int(self.adds.patterns.rows[pattern])
        batch = self.op.shape(self.node, *self.shapes)[:-1]
        matrix = np.unravel_index(row // self.adds.channels, weight.shape[:-2]) if weight.ndim > 2 else ()
        index = [0] * (len(batch) - 1 - len(matrix)) + [int(i) for i in matrix] + [0]
        return int(np.ravel_multi_index(index, batch))

    def _position(self, at: int, channel: int) -> tuple[int, ...]:
        """Index of an output element; channels are last in a matrix product, second in a convolution."""
        shape = self.op.shape(self.node, *self.shapes)
        axis = len(shape) - 1 if self.node.op == "matmul" else 1
        index = [int(i) for i in np.unravel_index(at, shape[:axis] + shape[axis + 1 :])]
        return (*index[:axis], channel, *index[axis:])

    def _inputs(self, at: int, channel: int, choice: _Choice) -> tuple[IntArray, ...]:
        """Full tensors; what the output doesn't read holds an end of the range, which is a code of every type."""
        read = self.read.get(at)
        if read is None or not read[0].start <= channel < read[0].stop:
            read = self.read[at] = _panel(self.node, self.op, self.numbered, self.registers, 0, at, channel)
        names, how = self.node.inputs, self.adds.operands
        arrays = {n: np.full(t.shape, t.low, np.int64) for n, t in zip(names, self.tensors, strict=True)}
        real = read[1] > 0
        arrays[names[0]].reshape(-1)[read[1][real] - 1] = choice.x[real] - how.x_shift
        if len(names) > 1:
            # a tensor multiplied with itself may be asked for two values at one place; the replay then tells
            arrays[names[1]].reshape(-1)[read[2][channel - read[0].start] - 1] = choice.w - int(np.max(how.w_shift))
        return tuple(arrays[n] for n in names)

    def _addends(self, inputs: tuple[IntArray, ...], at: int, channel: int) -> list[int]:
        """Products in the target's order, preloaded bias, late addend: read off the layer's panels."""
        how = self.adds.operands
        preload, after, _ = bias_terms(self.node, self.registers)
        x, w = self.op.operands(self.node, *inputs)
        shifted = [x + how.x_shift, w + how.w_shift]
        channels, a, block = _panel(self.node, self.op, shifted, self.registers, how.pad, at, channel)
        a, b, zero = a.astype(object), block[channel - channels.start].astype(object), int(self.adds.zero[channel])
        terms = list(a * b)
        if preload is not None:
            terms.append(int(preload[channel]))
        if self.adds.late:
            late = -how.x_zero * b.sum() + len(b) * how.x_zero * zero - zero * a.sum()
            terms.append(late + (0 if after is None else int(after[channel])))
        return [int(t) for t in terms]


def _panel(
    node: Node, op: Mac, arrays: list[IntArray], registers: Registers, pad: int, at: int, channel: int
) -> tuple[slice, IntArray, IntArray]:
    """Of the panel that holds an output element: its channels, the element's activations (K,), the weights (n, K)."""
    x, w = op.operands(node, *arrays)
    for panel in op.panels(node, x, w, pad, registers.order):
        if panel.rows.start <= at < panel.rows.stop and panel.channels.start <= channel < panel.channels.stop:
            return panel.channels, panel.a[at - panel.rows.start], panel.w
    raise AssertionError(f"node {node.name}: no panel holds row {at}, channel {channel}")


@dataclass(frozen=True)
class _Choice:
    """What each product is given, as the multiplier sees it, and the order of the addends; all (K,) or (addends,)."""

    x: IntArray
    w: IntArray
    permutation: IntArray


def _choose(adds: Addends, row: int, pattern: int, order: Order, sign: int) -> _Choice:
    """The corners and the order that make `sign` times a sum greatest."""
    terms, mask = adds.terms(slice(row, row + 1)), adds.patterns.masks[pattern]
    product = sign * np.where(mask, terms.product[:, 0], terms.pad_product[:1, 0])
    share = sign * np.where(mask, terms.share[:, 0], terms.pad_share[:1, 0])
    start, bias = (0 if v is None else sign * int(v[row]) for v in (adds.start, adds.bias))
    positive = np.maximum(product, 0)
    if order == "any":
        with_late = adds.late and bias + (share + positive).max(axis=0).sum() > positive.max(axis=0).sum()
        weighed = share + positive if with_late else product
    else:
        prefix = product.max(axis=0).cumsum().max(initial=0)
        with_late = order == "final" or bias + (product + share).max(axis=0).sum() > prefix
        weighed = product + share if with_late else product
    corner, depth = weighed.argmax(axis=0), product.shape[1]
    x = np.array(adds.x, object)[corner // len(adds.w)]
    w = np.choose(corner % len(adds.w), [v[row] for v in adds.w])
    first = [depth] if adds.start is not None else []
    late = [depth + len(first)] if adds.late else []
    if order != "any":
        return _Choice(x, w, np.array([*first, *range(depth), *late], np.int64))
    taken = np.take_along_axis(product, corner[None], axis=0)[0] > 0
    ahead = [*(first if start > 0 else []), *np.flatnonzero(taken), *(late if with_late else [])]
    behind = [*np.flatnonzero(~taken), *(first if start <= 0 else []), *([] if with_late else late)]
    return _Choice(x, w, np.array([*ahead, *behind], np.int64))


def _replay(arriving: list[int], side: Side, order: Order) -> tuple[int, int]:
    """Value that one wide register sees on a side, or ends with, and the number of additions until then."""
    sums = [0, *running(arriving)]
    step = len(arriving) if order == "final" else sums.index((min if side == "low" else max)(sums))
    if max(map(abs, sums)) >= 1 << 62:
        return sums[step], step  # beyond the definition's int64
    seen = accumulate_telemetry(np.array(arriving, np.int64), WIDE)
    value = seen.result if order == "final" else (seen.low if side == "low" else seen.high)[0]
    return int(value), step
