"""What a MAC node is in a machine's registers, and the proof of which channels can't overflow there."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import handed_on
from intsim.arithmetic.registers import Registers
from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.mac.operands import Operands, channel_zeros, multiplier_operands
from intsim.mac.partial_sums import PartialSums, Reached, decided, reached
from intsim.ops.mac import Mac

WIDEST = 1 << 63
"""Integers are carried in 64 bits."""
RANGES = 8
"""Ranges of a node's tensors, and registers, of which it is kept what reaches the last one."""
MOST_KEPT = 1 << 16
"""Last registers of all channels up to which that is kept."""


@dataclass(frozen=True)
class Plan:
    """What a node runs on: operands, proof, and the bias of each channel where the machine adds it; None elsewhere.

    `preload` starts the last register, `after` is added into it at the end, `behind` is added exactly to what the
    registers hand on, and so is what padding that made no products is owed: of each channel `owed` has the least and
    the greatest there can be. `sums` are those of the registers.
    """

    operands: Operands
    sums: PartialSums | None
    preload: IntArray | None
    after: IntArray | None
    behind: IntArray | None
    owed: tuple[IntArray, IntArray] | None = None

    @property
    def added(self) -> tuple[IntArray, IntArray]:
        """Least and greatest of what is added to what the registers hand on, (channels,) or (1,)."""
        behind = np.zeros(1, np.int64) if self.behind is None else self.behind
        least, most = (0, 0) if self.owed is None else self.owed
        return behind + least, behind + most

    def late(self, rows: IntArray, channels: slice = slice(None)) -> IntArray | None:
        """What is added to some channels' sums after the products, whatever the data; `rows` (N, K) are their weights.

        It is the bias, if that is added then, and the compensation of zero points.
        """
        zero = self.operands.w_zero.reshape(-1)
        zeros = np.broadcast_to(zero if zero.size == 1 else zero[channels], len(rows))
        after, compensation = self.after, self.operands.compensation(rows, zeros)
        if after is None or compensation is None:
            return compensation if after is None else after[channels]
        return after[channels] + compensation


class Multiplied(NamedTuple):
    """What a layer multiplies: R rows of K products, a row a channel and weight matrix."""

    operands: Operands
    x: tuple[int, int]  # ends of the activation's range
    w: list[IntArray]  # (R, K) constant weights in order of arrival; of a second tensor both ends of its range
    zero: IntArray  # (R,) zero points of the weights
    channels: int

    def by_row(self, values: IntArray) -> IntArray:
        """Values of the channels, (R,)."""
        return np.tile(values, len(self.zero) // self.channels)


def _operands(node: Node, op: Mac, tensors: list[Tensor], registers: Registers) -> Operands:
    """What a machine's multiplier sees."""
    skipped = registers.padding == "skipped"
    return multiplier_operands(node, op, tensors, registers.activation, registers.weight, skipped)


def multiplied(node: Node, op: Mac, tensors: list[Tensor], registers: Registers) -> Multiplied:
    """What `node` multiplies on a machine. Raises IntsimError when a tensor doesn't fit the machine's multiplier."""
    operands = _operands(node, op, tensors, registers)
    shapes = [t.shape for t in tensors]
    channels = op.extent(node, *shapes)[1]
    x = (tensors[0].low + operands.x_shift, tensors[0].high + operands.x_shift)
    if len(tensors) == 1:
        w = [op.weight_rows(node, node.arrays["weight"] + operands.w_shift, registers.order)]
    else:
        shift = int(np.max(operands.w_shift))
        w = [np.full((channels, shapes[1][-2]), e + shift, np.int64) for e in (tensors[1].low, tensors[1].high)]
    zero = np.tile(channel_zeros(operands.w_zero, channels), len(w[0]) // channels)
    return Multiplied(operands, x, w, zero, channels)


def bias_terms(node: Node, registers: Registers) -> tuple[IntArray | None, IntArray | None, IntArray | None]:
    """A node's bias (channels,) where it is added: preloaded, added after the products, or behind the registers."""
    bias = node.arrays.get("bias")
    preload, after, behind = (bias if registers.bias == p else None for p in ("preload", "after", "requantizer"))
    return preload, after, behind


def plan(node: Node, op: Mac, tensors: list[Tensor], registers: Registers) -> Plan:
    """Prove, per channel, that no partial sum leaves its register, for every input within the tensors' ranges.

    The proof holds in the target's own order, with its lanes and packed multipliers. Raises IntsimError when a tensor
    doesn't fit the target's multiplier, or what is added behind its registers may leave 64 bits.
    """
    terms = bias_terms(node, registers)
    if not registers.stages:
        return Plan(_operands(node, op, tensors, registers), None, *terms)
    stages, packing = registers.stages, registers.packing
    kept = _kept_of(node)
    key = _wherever_it_ends(registers), tuple((t.shape, t.low, t.high, t.type) for t in tensors)
    made = kept.get(key)
    if made is None:
        made = _reached(node, op, tensors, registers)
        if made.reached.last.final_low.size <= MOST_KEPT:
            kept[key] = made
    else:
        kept.move_to_end(key)
    while len(kept) > RANGES:
        kept.popitem(last=False)
    planned = Plan(made.operands, decided(made.reached, stages, packing, made.panel), *terms, made.owed)
    (least, most), (low, high) = handed_on(stages), planned.added
    if least + int(low.min()) < -WIDEST or most + int(high.max()) >= WIDEST:
        raise IntsimError(
            f"node {node.shown}: what is added behind its register of {stages[-1].bits} bits leaves 64 bits; "
            "give the target narrower registers"
        )
    return planned


class _Made(NamedTuple):
    """What a plan takes long to find out, whatever the width of the last register."""

    operands: Operands
    reached: Reached
    owed: tuple[IntArray, IntArray] | None
    panel: int


_Kept = OrderedDict[tuple[Any, ...], _Made]
_known: dict[int, tuple[weakref.ref[Node], _Kept]] = {}


def _kept_of(node: Node) -> _Kept:
    """What is known of a node, for as long as it lives."""
    number = id(node)
    if number not in _known or _known[number][0]() is not node:
        _known[number] = weakref.ref(node, lambda _: _known.pop(number, None)), OrderedDict()
    return _known[number][1]


def _wherever_it_ends(registers: Registers) -> Registers:
    """The same for all that differ in the last register's width and overflow rule, on which nothing in `Reached` rests.

    A packed register's width does.
    """
    stages = registers.stages
    if len(stages) == 1 and registers.packing is not None:
        return registers
    return replace(registers, stages=(*stages[:-1], replace(stages[-1], bits=1, overflow="wrap")))


def _reached(node: Node, op: Mac, tensors: list[Tensor], registers: Registers) -> _Made:
    """What reaches the last register."""
    layer = multiplied(node, op, tensors, registers)
    operands, x_range, w, zero, channels = layer
    preload, after, _ = bias_terms(node, registers)
    if op.pads(node):
        x_range = (min(x_range[0], operands.pad), max(x_range[1], operands.pad))
    added = [np.zeros(len(v), np.int64) if (c := operands.compensation(v, zero)) is None else c for v in w]
    least, most = np.minimum.reduce(added), np.maximum.reduce(added)
    if operands.depends_on_data():
        swings = [-zero * w[0].shape[1] * v for v in x_range]
        least, most = least + np.minimum(*swings), most + np.maximum(*swings)
    if after is not None:
        least, most = least + layer.by_row(after), most + layer.by_row(after)
    rows = w[0]
    if len(tensors) > 1:
        # every product of two tensors takes any value between the corners
        shift = int(np.max(operands.w_shift))
        corners = [x * (v + shift) for x in x_range for v in (tensors[1].low, tensors[1].high)]
        rows, x_range = np.ones_like(rows), (min(corners), max(corners))
    start = None if preload is None else layer.by_row(preload)
    late = None if after is None and not least.any() and not most.any() else (least, most)
    panel = channels // node.attributes.get("groups", 1)
    found = reached(rows, x_range, registers.stages, start, late, registers.packing, panel)
    owed = None
    if operands.owed and op.pads(node):
        shares = operands.x_zero * (w[0] - zero[:, None])
        owed = np.minimum(shares, 0).sum(axis=1), np.maximum(shares, 0).sum(axis=1)
    return _Made(operands, found, owed, panel)
