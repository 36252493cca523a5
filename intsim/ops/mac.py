"""Multiply-accumulate operators: how a layer becomes rows of products in a stated order.

A target models the accumulator of one output element: K products arriving one after another. So each MAC operator can
say, for a block of outputs, which activation codes (M, K) meet which weight codes (N, K), with K in arrival order. The
exact definition and the engine's registers read the same panels.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from intsim.graph import IntArray, Node, Tensor
from intsim.ops.exact import absolute_bound, exact_dtype
from intsim.ops.op import Op, Range

PANEL_ELEMENTS = 1 << 23
"""Most activation codes in one panel: bounds memory, not results."""
_sums: dict[int, tuple[weakref.ref[Node], tuple[list[int], list[int]]]] = {}
"""By the number of a node, and the node that it is: `Mac._sums_of_signs`."""


@dataclass(frozen=True)
class Panel:
    """A block of output elements: rows x channels of the output, seen as (outputs, channels).

    `a` (rows, K) codes of the activation, `w` (channels, K) of the weight. Panels with the same weights hold the same
    `w`, the object, and follow each other without a gap.
    """

    rows: slice
    channels: slice
    a: IntArray
    w: IntArray


class Mac(Op):
    """An operator whose output elements are sums of products."""

    def operands(self, node: Node, *arrays: IntArray) -> tuple[IntArray, IntArray]:
        """Raw activation codes and raw weight codes."""
        return arrays[0], (arrays[1] if len(arrays) > 1 else node.arrays["weight"])

    def zero_points(self, node: Node) -> tuple[int, IntArray]:
        """Zero point of the activation, and of the weight as an array that broadcasts against the weight."""
        return int(node.attributes.get("zero_point", 0)), node.arrays.get("weight_zero", np.zeros((), np.int64))

    def panels(self, node: Node, x: IntArray, w: IntArray, pad: int, order: tuple[str, ...] = ()) -> Iterator[Panel]:
        """Panels that cover the output; `pad` is what padding holds, `order` the arrival order of the products."""
        raise NotImplementedError

    def fold(self, node: Node, out: IntArray, *shapes: tuple[int, ...]) -> IntArray:
        """(outputs, channels) back to the operator's output shape."""
        raise NotImplementedError

    def extent(self, node: Node, *shapes: tuple[int, ...]) -> tuple[int, int]:
        """Number of rows and of channels of the (outputs, channels) form."""
        raise NotImplementedError

    def pads(self, node: Node) -> bool:
        """Whether some products are padding."""
        return False

    def weight_rows(self, node: Node, w: IntArray, order: tuple[str, ...] = ()) -> IntArray:
        """Weights as (channels, K) in arrival order."""
        raise NotImplementedError

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """`sum (x - zx) * (w - zw) + bias`, exact."""
        x, w = self.operands(node, *arrays)
        zx, zw = self.zero_points(node)
        shapes = [a.shape for a in arrays]
        out = np.empty(self.extent(node, *shapes), np.int64)
        x, w = x - zx, w - zw
        peak = max(abs(int(x.min())), abs(int(x.max()))) if x.size else 0
        carrier = exact_dtype(absolute_bound(peak, self.weight_rows(node, w)))  # cast once, before windows are copied
        for panel in self.panels(node, x.astype(carrier), w.astype(carrier), 0):
            out[panel.rows, panel.channels] = panel.a @ panel.w.T
        if "bias" in node.arrays:
            out += node.arrays["bias"]
        return self.fold(node, out, *shapes)

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Extremes over all inputs within their ranges, padding included."""
        low, high = self.channel_ranges(node, *tensors)
        return min(low), max(high)

    def channel_ranges(self, node: Node, *tensors: Tensor) -> tuple[list[int], list[int]]:
        """Per output channel, the least and the greatest value of the finished accumulator, bias included."""
        zx, zw = self.zero_points(node)
        x_low, x_high = tensors[0].low - zx, tensors[0].high - zx
        if len(tensors) > 1:
            return self._dynamic_ranges(node, (x_low, x_high), tensors[1], int(zw))
        if self.pads(node):
            x_low, x_high = min(x_low, 0), max(x_high, 0)
        up, down = self._sums_of_signs(node)
        bias = self._bias(node, len(up))
        low = [u * x_low + d * x_high + b for u, d, b in zip(up, down, bias, strict=True)]
        high = [u * x_high + d * x_low + b for u, d, b in zip(up, down, bias, strict=True)]
        return low, high

    def _sums_of_signs(self, node: Node) -> tuple[list[int], list[int]]:
        """Of each row of constant weights, what those above and those below their zero point add up to; kept."""
        number = id(node)
        known = _sums.get(number)
        if known is None or known[0]() is not node:
            rows = self.weight_rows(node, node.arrays["weight"] - self.zero_points(node)[1])
            positive = np.maximum(rows, 0).sum(axis=1)
            both = positive.tolist(), (rows.sum(axis=1) - positive).tolist()
            known = _sums[number] = weakref.ref(node, lambda _: _sums.pop(number, None)), both
        return known[1]

    def _dynamic_ranges(self, node: Node, x: Range, w: Tensor, zw: int) -> tuple[list[int], list[int]]:
        corners = [a * b for a in x for b in (w.low - zw, w.high - zw)]
        depth, channels = w.shape[-2], w.shape[-1]
        bias = self._bias(node, channels)
        return [min(corners) * depth + b for b in bias], [max(corners) * depth + b for b in bias]

    def _bias(self, node: Node, rows: int) -> list[int]:
        """One value a row of weights; matrices of a batch share it."""
        bias = node.arrays.get("bias")
        return [0] * rows if bias is None else bias.tolist() * (rows // len(bias))
