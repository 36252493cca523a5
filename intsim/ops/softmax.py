"""Softmax of integers with one scale, by a table of exponentials and one division."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from intsim.graph import LIMIT, IntArray, Node, Tensor
from intsim.ops.op import Range, Shape
from intsim.ops.rows import FRACTION_BITS, RowFunction


class Softmax(RowFunction):
    """Of each row, with `d_i = max(x) - x_i`, `e_i = table[d_i]`, `s = sum of e`, F the attribute `fraction`:

    `y_i = floor((2^(F+1) * e_i + s) / (2 * s))`, the integer nearest to `2^F * e_i / s`, a tie up.

    `table[d]` is `2^bits * exp(-scale * d)` rounded to the nearest integer, without an end before it is 0 or `d` is
    beyond what the input's range allows; whatever lies beyond its end reads its last entry.
    """

    name = "softmax"

    def rows(self, node: Node, x: IntArray) -> IntArray:
        """The definition."""
        table, fraction = node.arrays["table"], int(node.attributes["fraction"])
        top, last = x.max(axis=1, keepdims=True), len(table) - 1
        least = np.maximum(top, -LIMIT - 1 + last) - last  # below it all read the last entry; int64 holds it
        e = table[top - np.maximum(x, least)]
        s = e.sum(axis=1, keepdims=True)
        e <<= fraction + 1
        e += s
        return np.asarray(e // (2 * s), np.int64)

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Attained: by one element of the row at an end of the input's range and the others at the other end."""
        table, fraction = node.arrays["table"], int(node.attributes["fraction"])
        others = self.length(node, tensors[0].shape) - 1
        if not others:
            return 1 << fraction, 1 << fraction
        most = int(table[0])
        least = int(table[min(tensors[0].high - tensors[0].low, len(table) - 1)])

        def share(mine: int, other: int) -> int:
            total = mine + others * other
            return ((mine << (fraction + 1)) + total) // (2 * total)

        return share(least, most), share(most, least)

    def error(self, node: Node, shape: Shape) -> Fraction:
        """1/2 for the division and (N - 1) / 2^(bits - fraction + 1) for the table (docs/ir.md)."""
        bits, fraction = int(node.attributes["bits"]), int(node.attributes["fraction"])
        return Fraction(1, 2) + (self.length(node, shape) - 1) * Fraction(2) ** (fraction - bits - 1)


def table_bits(length: int) -> int:
    """The most bits of a table with which no number of a row of `length` elements leaves 63 bits."""
    return 63 - (2 ** (FRACTION_BITS + 1) + 2 * length).bit_length()
