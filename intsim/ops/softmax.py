"""Softmax of integers with one scale, by a table of exponentials and one division."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from intsim.graph import LIMIT, IntArray, Node, Tensor
from intsim.ops.op import Range, Shape
from intsim.ops.rows import FRACTION_BITS, RowFunction


class Softmax(RowFunction):
    """Of each row, with `d_i = max(x) - x_i`, `e_i = table[d_i]`, `s = sum of e`, F the attribute `fraction`:

    `y_i = floor((2^(F+1) * e_i + s) / (2 * s))`, the integer nearest to `2^F * e_i / s`, a tie up.

    An array `mask`, of x's rank with axes 1 or full, is 0 where an element isn't seen: its number is minus infinity,
    or so far below its row's largest that its entry is 0 for all integers. Neither the largest nor the sum has it, its
    y is 0, and its own integer doesn't count. Each row sees an element.

    `table[d]` is `2^bits * exp(-scale * d)` rounded to the nearest integer, without an end before it is 0 or `d` is
    beyond what the input's range allows; whatever lies beyond its end reads its last entry.
    """

    name = "softmax"

    def rows(self, node: Node, x: IntArray, seen: NDArray[np.bool_] | None = None) -> IntArray:
        """The definition."""
        table, fraction = node.arrays["table"], int(node.attributes["fraction"])
        x = x if seen is None else np.where(seen, x, -LIMIT - 1)
        top, last = x.max(axis=1, keepdims=True), len(table) - 1
        least = np.maximum(top, -LIMIT - 1 + last) - last  # below it all read the last entry; int64 holds it
        e = table[top - np.maximum(x, least)]
        if seen is not None:
            e[~seen] = 0
        s = e.sum(axis=1, keepdims=True)
        e <<= fraction + 1
        e += s
        return np.asarray(e // (2 * s), np.int64)

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Attained: by one element of the row at an end of the input's range and the others at the other end."""
        table, fraction = node.arrays["table"], int(node.attributes["fraction"])
        length, most = self.length(node, tensors[0].shape), int(table[0])
        least = int(table[min(tensors[0].high - tensors[0].low, len(table) - 1)])

        def share(mine: int, other: int, others: int) -> int:
            total = mine + others * other
            return ((mine << (fraction + 1)) + total) // (2 * total)

        counts = _seen(node, tensors[0].shape)
        low = min(share(least, most, n - 1) if n > 1 else 1 << fraction for n in counts)
        high = max(share(most, least, n - 1) for n in counts)
        return 0 if min(counts) < length else low, high

    def error(self, node: Node, shape: Shape) -> Fraction:
        """1/2 for the division and (N - 1) / 2^(bits - fraction + 1) for the table (docs/ir.md)."""
        bits, fraction = int(node.attributes["bits"]), int(node.attributes["fraction"])
        return Fraction(1, 2) + (self.length(node, shape) - 1) * Fraction(2) ** (fraction - bits - 1)


def _seen(node: Node, shape: Shape) -> list[int]:
    """How many elements of a row are seen: every number that occurs."""
    axes = tuple(node.attributes["axes"])
    mask = node.arrays.get("mask", np.ones((1,) * len(shape), np.int64))
    repeated = math.prod(shape[a] for a in axes if mask.shape[a] == 1)
    return [int(n) * repeated for n in np.unique((mask != 0).sum(axis=axes))]


def table_bits(length: int) -> int:
    """The most bits of a table with which no number of a row of `length` elements leaves 63 bits."""
    return 63 - (2 ** (FRACTION_BITS + 1) + 2 * length).bit_length()
