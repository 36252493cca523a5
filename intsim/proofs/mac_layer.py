"""One multiply-accumulate node as a target runs it: which codes meet which weights, and what each sum becomes.

Here the sums are computed in Python integers by `proofs.definition`, so that what the engine does can be predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from intsim.arithmetic.registers import Registers
from intsim.graph import IntArray, IntegerGraph, Node, Tensor
from intsim.mac.operands import channel_zeros
from intsim.mac.padding import padding_patterns
from intsim.mac.plan import Plan, plan
from intsim.ops import OPS, Mac, Panel
from intsim.proofs.certificate import Codes
from intsim.proofs.definition import accumulator, packed_accumulator

OUTSIDE = -1
"""Where a product's activation is padding, not an element of the input."""


@dataclass(frozen=True)
class Taps:
    """One row of output elements: `at` (K,) flat positions in the input, in order of arrival; `w` (N, K) as multiplied.

    `channels` are the N channels that share the row, `w_at` (N, K) the weights' flat positions in a second tensor.
    """

    row: int
    channels: tuple[int, ...]
    at: IntArray
    w: IntArray
    w_at: IntArray | None = None


class MacLayer:
    """A node, the target's registers and the proof about them (`plan`)."""

    def __init__(self, graph: IntegerGraph, node: Node, registers: Registers) -> None:
        """Raises IntsimError when a tensor doesn't fit the target's multiplier."""
        op = OPS[node.op]
        assert isinstance(op, Mac)
        self.graph, self.node, self.op, self.registers = graph, node, op, registers
        self.tensors: list[Tensor] = [graph.tensors[i] for i in node.inputs]
        self.plan: Plan = plan(node, op, self.tensors, registers)
        self.shapes = [t.shape for t in self.tensors]
        self.rows, self.channels = op.extent(node, *self.shapes)
        self.zeros = channel_zeros(self.plan.operands.w_zero, self.channels)

    @property
    def depth(self) -> int:
        """Products of one output element."""
        if len(self.tensors) > 1:
            return self.shapes[1][-2]
        return self.op.weight_rows(self.node, self.node.arrays["weight"]).shape[1]

    @property
    def x_range(self) -> tuple[int, int]:
        """Range of an activation as the multiplier sees it."""
        return self.tensors[0].low + self.plan.operands.x_shift, self.tensors[0].high + self.plan.operands.x_shift

    @cached_property
    def output_numbers(self) -> IntArray:
        """Output tensor's shape: `row * channels + channel` of each element."""
        flat = np.arange(self.rows * self.channels, dtype=np.int64).reshape(self.rows, self.channels)
        return self.op.fold(self.node, flat, *self.shapes)

    def position(self, row: int, channel: int) -> tuple[int, ...]:
        """Index of an output element."""
        flat = int(np.flatnonzero(self.output_numbers.reshape(-1) == row * self.channels + channel)[0])
        return tuple(int(i) for i in np.unravel_index(flat, self.output_numbers.shape))

    def _panels(self) -> Iterator[Panel]:
        """Panels of positions instead of codes; of a second tensor, its positions as well."""
        x = np.arange(int(np.prod(self.shapes[0])), dtype=np.int64).reshape(self.shapes[0])
        if len(self.tensors) > 1:
            w = np.arange(int(np.prod(self.shapes[1])), dtype=np.int64).reshape(self.shapes[1])
        else:
            w = self.node.arrays["weight"] + self.plan.operands.w_shift
        return self.op.panels(self.node, x, w, OUTSIDE, self.registers.order)

    def _taps(self, panel: Panel, row: int) -> Taps:
        channels = tuple(range(self.channels)[panel.channels])
        at = panel.a[row - panel.rows.start].copy()
        if len(self.tensors) > 1:
            return Taps(row, channels, at, np.zeros(panel.w.shape, np.int64), panel.w)
        return Taps(row, channels, at, panel.w)

    def taps(self, row: int, channel: int) -> Taps:
        """The row's taps in the block of channels that holds `channel`."""
        for panel in self._panels():
            if panel.rows.start <= row < panel.rows.stop and channel in range(self.channels)[panel.channels]:
                return self._taps(panel, row)
        raise AssertionError(f"{self.node.name} has no output in row {row}, channel {channel}")

    @cached_property
    def blocks(self) -> list[Taps]:
        """For every block of channels, rows that together allow all that any row allows; least padding first.

        Rows differ in the taps that meet padding, and, where weights come in a batch, in the weights. Of two tensors
        every row has the same ranges.
        """
        if len(self.tensors) > 1:
            wanted = {0}
        elif self.node.op == "matmul":
            wanted = set(range(0, self.rows, self._together))
        else:
            low, high = self.x_range
            dominated = low <= self.plan.operands.pad <= high  # padding is then one more value of the range
            order = self.registers.order
            found = padding_patterns(self.node, self.op, self.shapes, self.depth, order, dominated)
            wanted = set(found.rows.tolist())
        blocks = [
            self._taps(panel, row)
            for panel in self._panels()
            for row in sorted(wanted)
            if panel.rows.start <= row < panel.rows.stop
        ]
        return sorted(blocks, key=lambda taps: int((taps.at == OUTSIDE).sum()))

    def ranges(self, taps: Taps) -> tuple[IntArray, IntArray]:
        """(K,) least and greatest activation of each product as the multiplier sees it; padding has one value."""
        low, high = self.x_range
        outside, pad = taps.at == OUTSIDE, self.plan.operands.pad
        return np.where(outside, pad, low), np.where(outside, pad, high)

    def sums(self, w: IntArray, channels: Sequence[int], x: IntArray) -> tuple[IntArray, IntArray]:
        """Exact accumulators and those in the target's registers, (N,) Python integers, of rows `x` (N, K) and `w`.

        `x`, `w` are what the multiplier sees. Not for packed multipliers, where an output has neighbours.
        """
        start, after = self._added(w, channels, x)
        products = (x.astype(object) * w.astype(object)).T
        exact = products.sum(axis=0) if len(products) else np.zeros(len(w), object)
        for extra in (start, after):
            exact = exact if extra is None else exact + extra
        if not len(products):
            products = np.zeros((0, len(w)), object)
        got = accumulator(list(products), self.registers.stages, start, after) if len(products) else exact
        behind = 0 if self.plan.behind is None else self.plan.behind[list(channels)].astype(object)
        return np.asarray(exact + behind, object), np.asarray(got + behind, object)

    def _added(self, w: IntArray, channels: Sequence[int], x: IntArray) -> tuple[IntArray | None, IntArray | None]:
        """What is preloaded and what is added at the end: bias, compensation of zero points; (N,) Python integers."""
        picked = list(channels)
        zeros = self.zeros[picked].astype(object)
        start = None if self.plan.preload is None else self.plan.preload[picked].astype(object)
        after = None if self.plan.after is None else self.plan.after[picked].astype(object)
        operands = self.plan.operands
        extra = None
        if not operands.corrected:
            # sum (x - zx)(w - zw) - sum x w
            extra = -operands.x_zero * w.astype(object).sum(axis=1) - zeros * x.astype(object).sum(axis=1)
            extra = extra + w.shape[1] * operands.x_zero * zeros
        return start, after if extra is None else extra if after is None else after + extra

    def predict(self, arrays: list[IntArray], row: int, channel: int) -> tuple[int, int]:
        """Exact accumulator of one output element, and the target's, from whole inputs (codes)."""
        if self.registers.packing is not None:
            return self._predict_packed(arrays, row, channel)
        taps = self.taps(row, channel)
        x, w = self._seen(arrays, taps)
        mine = taps.channels.index(channel)
        exact, got = self.sums(w[mine : mine + 1], [channel], x[None])
        return int(exact[0]), int(got[0])

    def _seen(self, arrays: list[IntArray], taps: Taps) -> tuple[IntArray, IntArray]:
        """Activations (K,) and weights (N, K) of a row as the multiplier sees them."""
        operands = self.plan.operands
        x = np.where(taps.at == OUTSIDE, operands.pad, arrays[0].reshape(-1)[taps.at] + operands.x_shift)
        w = taps.w if taps.w_at is None else arrays[1].reshape(-1)[taps.w_at] + operands.w_shift
        return x, w

    def neighbours(self, row: int, channel: int) -> dict[tuple[int, int], tuple[Taps, int]]:
        """By field of a packed multiplier (channel, pixel), the row and the place in its block that share a register.

        Channels are counted from the start of a group, rows from the start of a matrix product. Without packing an
        output is alone, as (0, 0).
        """
        packing, taps = self.registers.packing, self.taps(row, channel)
        n = taps.channels.index(channel)
        if packing is None:
            return {(0, 0): (taps, n)}
        channels, pixels = len(packing.channels), len(packing.pixels)
        m = row % self._together
        end = row - m + self._together
        first, top = n - n % channels, row - m % pixels
        rows = {j: self.taps(top + j, channel) for j in range(pixels) if top + j < end}
        return {
            (i, j): (found, first + i)
            for j, found in rows.items()
            for i in range(channels)
            if first + i < len(found.channels)
        }

    @property
    def _together(self) -> int:
        """Rows that meet the same weights."""
        second = self.shapes[1] if len(self.shapes) > 1 else self.node.arrays["weight"].shape
        return self.output_numbers.shape[-2] if self.node.op == "matmul" and len(second) > 2 else self.rows

    def _predict_packed(self, arrays: list[IntArray], row: int, channel: int) -> tuple[int, int]:
        packing = self.registers.packing
        assert packing is not None
        products: dict[tuple[int, int], Sequence[int]] = {}
        fields = self.neighbours(row, channel)
        for field, (taps, n) in fields.items():
            x, w = self._seen(arrays, taps)
            products[field] = [a * b for a, b in zip(x.tolist(), w[n].tolist(), strict=True)]
        mine = next(f for f, (taps, n) in fields.items() if taps.row == row and taps.channels[n] == channel)
        taps, n = fields[mine]
        x, w = self._seen(arrays, taps)
        start, after = (None if v is None else int(v[0]) for v in self._added(w[n : n + 1], [channel], x[None]))
        behind = 0 if self.plan.behind is None else int(self.plan.behind[channel])
        exact = sum(products[mine]) + (start or 0) + (after or 0)
        return exact + behind, packed_accumulator(products, mine, self.registers.stages, packing, start, after) + behind

    def linear(self, w: IntArray, channel: int) -> tuple[list[int], int, int]:
        """The exact accumulator of weights `w` (K,) as `sum e_k (x_k - zero) + constant`: e, zero, constant."""
        zero = int(self.zeros[channel])
        bias = self.node.arrays.get("bias")
        e = [int(v) - zero for v in w.tolist()]
        return e, self.plan.operands.x_zero, 0 if bias is None else int(bias[channel])

    def codes(self, taps: Taps, x: IntArray, w: IntArray | None = None) -> list[IntArray]:
        """Whole inputs (codes) that hold `x` (K,) at the row's taps; elsewhere the code nearest to the zero point."""
        operands, tensor = self.plan.operands, self.tensors[0]
        arrays = [np.full(tensor.shape, self.fill(0), np.int64)]
        inside = taps.at != OUTSIDE
        arrays[0].reshape(-1)[taps.at[inside]] = x[inside] - operands.x_shift
        if taps.w_at is not None and w is not None:
            arrays.append(np.full(self.tensors[1].shape, self.fill(1), np.int64))
            arrays[1].reshape(-1)[taps.w_at] = w - operands.w_shift
        return arrays

    def stated(self, arrays: list[IntArray]) -> dict[str, Codes]:
        """Whole inputs by name, as counterexamples hold them."""
        pairs = zip(self.node.inputs, arrays, strict=True)
        return {name: Codes.of(array, self.fill(i)) for i, (name, array) in enumerate(pairs)}

    def fill(self, which: int) -> int:
        """The code of an input that stands where nothing else is wanted: the one nearest to its zero point."""
        zx, zw = self.op.zero_points(self.node)
        tensor = self.tensors[which]
        zero = zx if which == 0 else int(np.asarray(zw).reshape(-1)[0])
        return min(max(zero, tensor.low), tensor.high)
