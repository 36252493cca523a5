"""What a MAC node is in a machine's registers, and the proof of which channels can't overflow there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intsim.arithmetic.registers import Registers
from intsim.graph import IntArray, Node, Tensor
from intsim.mac.operands import Operands, channel_zeros, multiplier_operands
from intsim.mac.partial_sums import PartialSums, partial_sums
from intsim.ops.mac import Mac


@dataclass(frozen=True)
class Plan:
    """What a node runs on: operands, proof, and the bias of each channel where the machine adds it; None elsewhere.

    `preload` starts the last register, `after` is added into it at the end, `behind` is added exactly to what the
    registers hand on. `sums` are those of the registers.
    """

    operands: Operands
    sums: PartialSums | None
    preload: IntArray | None
    after: IntArray | None
    behind: IntArray | None

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


def bias_terms(node: Node, registers: Registers) -> tuple[IntArray | None, IntArray | None, IntArray | None]:
    """A node's bias (channels,) where it is added: preloaded, added after the products, or behind the registers."""
    bias = node.arrays.get("bias")
    preload, after, behind = (bias if registers.bias == p else None for p in ("preload", "after", "requantizer"))
    return preload, after, behind


def plan(node: Node, op: Mac, tensors: list[Tensor], registers: Registers) -> Plan:
    """Prove, per channel, that no partial sum leaves its register, for every input within the tensors' ranges.

    The proof holds in the target's own order, with its lanes and packed multipliers. Raises IntsimError when a tensor
    doesn't fit the target's multiplier.
    """
    operands = multiplier_operands(node, op, tensors, registers.activation, registers.weight)
    channels = op.extent(node, *(t.shape for t in tensors))[1]
    preload, after, behind = bias_terms(node, registers)
    if not registers.stages:
        return Plan(operands, None, preload, after, behind)
    x_range = (tensors[0].low + operands.x_shift, tensors[0].high + operands.x_shift)
    if op.pads(node):
        x_range = (min(x_range[0], operands.pad), max(x_range[1], operands.pad))
    zeros, x_swing = channel_zeros(operands.w_zero, channels), x_range
    if len(tensors) == 1:
        rows = op.weight_rows(node, node.arrays["weight"] + operands.w_shift, registers.order)
        zeros = np.tile(zeros, rows.shape[0] // channels)  # weights of a batch: (batch * channels, K)
        added = operands.compensation(rows, zeros)
        least = most = np.zeros(rows.shape[0], np.int64) if added is None else added
    else:
        # every product of two tensors takes any value between the corners
        least, most, edges = _dynamic(operands, tensors[1], channels, zeros)
        corners = [x * w for x in x_range for w in edges]
        rows, x_range = np.ones((channels, tensors[1].shape[-2]), np.int64), (min(corners), max(corners))
    if operands.depends_on_data():
        swings = [-zeros * rows.shape[1] * v for v in x_swing]
        least, most = least + np.minimum(*swings), most + np.maximum(*swings)
    repeat = rows.shape[0] // channels
    if after is not None:
        least, most = least + np.tile(after, repeat), most + np.tile(after, repeat)
    start = None if preload is None else np.tile(preload, repeat)
    late = None if after is None and not least.any() and not most.any() else (least, most)
    panel = channels // node.attributes.get("groups", 1)
    sums = partial_sums(rows, x_range, registers.stages, start, late, registers.packing, panel)
    return Plan(operands, sums, preload, after, behind)


def _dynamic(
    operands: Operands, w: Tensor, channels: int, zeros: IntArray
) -> tuple[IntArray, IntArray, tuple[int, int]]:
    """For a second tensor (..., K, N): extremes of its compensation, and its range at the multiplier."""
    depth, shift = w.shape[-2], int(np.max(operands.w_shift))
    edges = (w.low + shift, w.high + shift)
    added = [operands.compensation(np.full((channels, depth), e, np.int64), zeros) for e in edges]
    sides = [np.zeros(channels, np.int64) if a is None else a for a in added]
    return np.minimum(*sides), np.maximum(*sides), edges
