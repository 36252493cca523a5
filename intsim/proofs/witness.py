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
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.mac.any_order import Addends, Reach, addends
from intsim.ops import OPS, Mac
from intsim.proofs.mac_layer import OUTSIDE, MacLayer

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
    (only,) = witnesses(graph, node, registers, [channel], (side,), (order,))
    return only


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
    mac = MacLayer(graph, node, registers)
    adds = addends(node, op, mac.tensors, registers)
    wrong = [c for c in channels or () if not 0 <= c < adds.channels]
    if wrong:
        raise IntsimError(f"node {node.shown}: has no channel {wrong[0]}; it has 0..{adds.channels - 1}")
    reach = adds.reach()
    for order in orders:
        for side in sides:
            worst = int(reach[order].low.argmin() if side == "low" else reach[order].high.argmax())
            for channel in [worst] if channels is None else channels:
                yield _witness(mac, adds, reach[order], channel, side, order)


def _witness(mac: MacLayer, adds: Addends, reach: Reach, channel: int, side: Side, order: Order) -> Witness:
    """Choose corners and an order, write them into the inputs, replay."""
    sign = -1 if side == "low" else 1
    bound, row, pattern = (int(ends[channel]) for ends in reach[side == "high" :: 2])
    choice = _choose(adds, row, pattern, order, sign)
    at = _output_row(mac, adds, row, pattern)
    inputs = _inputs(mac, at, channel, choice)
    products, start, after = mac.addends(inputs, at, channel)
    late = [after] if adds.late else []
    terms = [v for v in (*products, start, *late) if v is not None]
    value, step = _replay([terms[i] for i in choice.permutation], side, order)
    return Witness(order, side, inputs, mac.position(at, channel), channel, choice.permutation, step, bound, value)


def _output_row(mac: MacLayer, adds: Addends, row: int, pattern: int) -> int:
    """The first output row with this weight matrix and this pattern of padding."""
    weight = mac.node.arrays.get("weight")
    if mac.node.op != "matmul" or weight is None:
        return int(adds.patterns.rows[pattern])
    matrix = np.unravel_index(row // adds.channels, weight.shape[:-2])
    return int(np.ravel_multi_index((*matrix, 0), mac.output_numbers.shape[-len(matrix) - 2 : -1]))


def _inputs(mac: MacLayer, at: int, channel: int, choice: _Choice) -> tuple[IntArray, ...]:
    """Full tensors; what the output doesn't read holds an end of the range, which is a code of every type."""
    taps, names, operands = mac.taps(at, channel), mac.node.inputs, mac.operands
    arrays = {n: np.full(t.shape, t.low, np.int64) for n, t in zip(names, mac.tensors, strict=True)}
    real = taps.at != OUTSIDE
    arrays[names[0]].reshape(-1)[taps.at[real]] = choice.x[real] - operands.x_shift
    if taps.w_at is not None:
        # a tensor multiplied with itself may be asked for two values at one place; the replay then tells
        w_at = taps.w_at[taps.channels.index(channel)]
        arrays[names[1]].reshape(-1)[w_at] = choice.w - int(np.max(operands.w_shift))
    return tuple(arrays[n] for n in names)


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
