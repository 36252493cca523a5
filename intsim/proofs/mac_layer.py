"""One multiply-accumulate node as a target runs it: which codes meet which weights, and what each sum becomes.

Here the sums are computed in Python integers by `proofs.definition`, so that what the engine does can be predicted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from intsim.arithmetic.registers import Registers
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node, Tensor
from intsim.mac.operands import channel_zeros, multiplier_operands
from intsim.mac.padding import padding_patterns
from intsim.mac.plan import Plan, bias_terms, plan
from intsim.ops import OPS, Mac, Panel
from intsim.proofs.certificate import Codes
from intsim.proofs.definition import accumulator, fits_int64, packed_accumulator

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
    """A node and the target's registers."""

    def __init__(self, graph: IntegerGraph, node: Node, registers: Registers) -> None:
        """Raises IntsimError when a tensor doesn't fit the target's multiplier."""
        op = OPS[node.op]
        assert isinstance(op, Mac)
        self.graph, self.node, self.op, self.registers = graph, node, op, registers
        self.tensors: list[Tensor] = [graph.tensors[i] for i in node.inputs]
        skipped = registers.padding == "skipped"
        self.operands = multiplier_operands(node, op, self.tensors, registers.activation, registers.weight, skipped)
        if self.operands.owed and op.pads(node):
            raise IntsimError(
                f"node {node.shown}: padding that makes no products beside a zero point is run and bounded, but not "
                "certified yet; choose a target that feeds padding to its multiplier"
            )
        self.preload, self.after, self.behind = bias_terms(node, registers)
        self.shapes = [t.shape for t in self.tensors]
        self.rows, self.channels = op.extent(node, *self.shapes)
        self.zeros = channel_zeros(self.operands.w_zero, self.channels)
        self._known: dict[int, Taps] = {}

    @cached_property
    def plan(self) -> Plan:
        """The proof about its registers."""
        return plan(self.node, self.op, self.tensors, self.registers)

    @property
    def squares(self) -> bool:
        """Whether a tensor is multiplied with itself, so that neither operand can be chosen without the other."""
        return len(set(self.node.inputs)) < len(self.node.inputs)

    @property
    def depth(self) -> int:
        """Products of one output element."""
        if len(self.tensors) > 1:
            return self.shapes[1][-2]
        return self.op.weight_rows(self.node, self.node.arrays["weight"]).shape[1]

    @property
    def x_range(self) -> tuple[int, int]:
        """Range of an activation as the multiplier sees it."""
        x = self.tensors[0]
        return x.low + self.operands.x_shift, x.high + self.operands.x_shift

    @cached_property
    def output_numbers(self) -> IntArray:
        """Output tensor's shape: `row * channels + channel` of each element."""
        flat = np.arange(self.rows * self.channels, dtype=np.int64).reshape(self.rows, self.channels)
        return self.op.fold(self.node, flat, *self.shapes)

    def position(self, row: int, channel: int) -> tuple[int, ...]:
        """Index of an output element."""
        flat = int(np.flatnonzero(self.output_numbers.reshape(-1) == row * self.channels + channel)[0])
        return tuple(int(i) for i in np.unravel_index(flat, self.output_numbers.shape))

    def row_and_channel(self, position: tuple[int, ...]) -> tuple[int, int]:
        """Of an output element."""
        return divmod(int(self.output_numbers[position]), self.channels)

    def _panels(self) -> Iterator[Panel]:
        """Panels of positions instead of codes; of a second tensor, its positions as well."""
        x, *rest = (np.arange(math.prod(shape), dtype=np.int64).reshape(shape) for shape in self.shapes)
        w = rest[0] if rest else self.node.arrays["weight"] + self.operands.w_shift
        return self.op.panels(self.node, x, w, OUTSIDE, self.registers.order)

    def _taps(self, panel: Panel, row: int) -> Taps:
        channels = tuple(range(self.channels)[panel.channels])
        at = panel.a[row - panel.rows.start].copy()
        if len(self.tensors) > 1:
            return Taps(row, channels, at, np.zeros(panel.w.shape, np.int64), panel.w)
        return Taps(row, channels, at, panel.w)

    def taps(self, row: int, channel: int) -> Taps:
        """The row's taps in the block of channels that holds `channel`."""
        if row in self._known and channel in self._known[row].channels:
            return self._known[row]
        for panel in self._panels():
            if panel.rows.start <= row < panel.rows.stop and channel in range(self.channels)[panel.channels]:
                self._known[row] = self._taps(panel, row)
                return self._known[row]
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
            dominated = low <= self.operands.pad <= high  # padding is then one more value of the range
            patterns = padding_patterns(self.node, self.op, self.shapes, self.depth, self.registers.order, dominated)
            wanted = set(patterns.rows.tolist())
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
        outside, pad = taps.at == OUTSIDE, self.operands.pad
        return np.where(outside, pad, low), np.where(outside, pad, high)

    def sums(self, w: IntArray, channels: Sequence[int], x: IntArray) -> tuple[IntArray, IntArray]:
        """Exact accumulators and those in the target's registers, (N,) Python integers, of rows `x` (N, K) and `w`.

        `x`, `w` are what the multiplier sees. Not for packed multipliers, where an output has neighbours.
        """
        start, after = self._added(w, channels, x)
        carrier = self._carrier(x, w, start, after)
        start, after = (None if v is None else v.astype(carrier) for v in (start, after))
        products: Any = np.ascontiguousarray((x.astype(carrier) * w.astype(carrier)).T)
        exact = products.sum(axis=0) + (0 if start is None else start) + (0 if after is None else after)
        got = accumulator(list(products), self.registers.stages, start, after) if len(products) else exact
        behind = 0 if self.behind is None else self.behind[list(channels)].astype(object)
        return exact.astype(object) + behind, got.astype(object) + behind

    def _carrier(self, x: IntArray, w: IntArray, *added: IntArray | None) -> type:
        """int64 where that holds all sums and all registers, else Python integers."""
        if not x.size:
            return object
        most = x.shape[1] * max(abs(int(x.min())), abs(int(x.max()))) * max(abs(int(w.min())), abs(int(w.max())))
        most += sum(max(map(abs, v.tolist()), default=0) for v in added if v is not None)
        return np.int64 if fits_int64(most, self.registers.stages) else object

    def sum(self, w: IntArray, channel: int, x: IntArray) -> tuple[int, int]:
        """`sums` of one row, `x` and `w` (K,)."""
        exact, got = self.sums(w[None], [channel], x[None])
        return int(exact[0]), int(got[0])

    def _added(self, w: IntArray, channels: Sequence[int], x: IntArray) -> tuple[IntArray | None, IntArray | None]:
        """What is preloaded and what is added at the end: bias, compensation of zero points; (N,) Python integers."""
        operands, picked = self.operands, list(channels)
        start, after = (None if v is None else v[picked].astype(object) for v in (self.preload, self.after))
        if operands.corrected:
            return start, after
        # sum (x - zx)(w - zw) - sum x w
        zeros = self.zeros[picked].astype(object)
        extra = -operands.x_zero * _row_sums(w) - zeros * _row_sums(x)
        extra = extra + w.shape[1] * operands.x_zero * zeros
        return start, extra if after is None else after + extra

    def addends(self, arrays: Sequence[IntArray], row: int, channel: int) -> tuple[list[int], int | None, int | None]:
        """Of an output element, from whole inputs (codes): products in order of arrival; what comes first, and last."""
        taps, operands = self.taps(row, channel), self.operands
        x = np.where(taps.at == OUTSIDE, operands.pad, arrays[0].reshape(-1)[taps.at] + operands.x_shift)
        n = taps.channels.index(channel)
        w = taps.w[n] if taps.w_at is None else arrays[1].reshape(-1)[taps.w_at[n]] + int(np.max(operands.w_shift))
        start, after = (None if v is None else int(v[0]) for v in self._added(w[None], [channel], x[None]))
        return [a * b for a, b in zip(x.tolist(), w.tolist(), strict=True)], start, after

    def predict(self, arrays: Sequence[IntArray], row: int, channel: int) -> tuple[int, int]:
        """Exact accumulator of one output element, and the target's, from whole inputs (codes)."""
        stages, packing = self.registers.stages, self.registers.packing
        products, start, after = self.addends(arrays, row, channel)
        exact = sum(products) + (start or 0) + (after or 0)
        got = exact
        if packing is not None:
            sharing = self.neighbours(row, channel)
            fields = {field: self.addends(arrays, *output)[0] for field, output in sharing.items()}
            mine = next(field for field, output in sharing.items() if output == (row, channel))
            got = packed_accumulator(fields, mine, stages, packing, start, after)
        elif products:
            got = int(accumulator(products, stages, start, after))
        behind = 0 if self.behind is None else int(self.behind[channel])
        return exact + behind, got + behind

    def neighbours(self, row: int, channel: int) -> dict[tuple[int, int], tuple[int, int]]:
        """By field of a packed multiplier (channel, pixel), the row and the channel of what shares a register.

        Channels are counted from the start of a group, rows from the start of a matrix product. Without packing an
        output is alone, as (0, 0).
        """
        packing = self.registers.packing
        if packing is None:
            return {(0, 0): (row, channel)}
        group, inside = self.taps(row, channel).channels, row % self._together
        first = channel - group.index(channel) % len(packing.channels)
        top, end = row - inside % len(packing.pixels), row - inside + self._together
        return {
            (i, j): (top + j, first + i)
            for i in range(len(packing.channels))
            for j in range(len(packing.pixels))
            if first + i in group and top + j < end
        }

    @property
    def _together(self) -> int:
        """Rows that meet the same weights."""
        second = self.shapes[1] if len(self.shapes) > 1 else self.node.arrays["weight"].shape
        return self.output_numbers.shape[-2] if self.node.op == "matmul" and len(second) > 2 else self.rows

    def linear(self, w: IntArray, channel: int) -> tuple[list[int], int, int]:
        """The exact accumulator of weights `w` (K,) as `sum e_k (x_k - zero) + constant`: e, zero, constant."""
        zero = int(self.zeros[channel])
        bias = self.node.arrays.get("bias")
        e = [int(v) - zero for v in w.tolist()]
        return e, self.operands.x_zero, 0 if bias is None else int(bias[channel])

    def codes(self, taps: Taps, x: IntArray, w: IntArray) -> list[IntArray]:
        """Whole inputs (codes) that hold `x` (K,) at the row's taps; elsewhere the code nearest to the zero point.

        Of a second tensor they hold `w`, (K,) for all channels or (N, K).
        """
        arrays = [np.full(tensor.shape, self.fill(i), np.int64) for i, tensor in enumerate(self.tensors)]
        inside = taps.at != OUTSIDE
        arrays[0].reshape(-1)[taps.at[inside]] = x[inside] - self.operands.x_shift
        if taps.w_at is not None:
            arrays[1].reshape(-1)[taps.w_at] = w - self.operands.w_shift
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


def _row_sums(values: IntArray) -> IntArray:
    """(N, K) to (N,) Python integers, added up in int64 where no sum leaves it."""
    most = max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
    carrier = np.int64 if most * values.shape[1] < 1 << 62 else object
    return np.asarray(values.astype(carrier, copy=False).sum(axis=1)).astype(object)
