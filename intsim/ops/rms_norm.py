"""Rows of integers over the root of their mean square, rounded correctly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.layer_norm import HEADROOM, LayerNorm, nearest, signed_nearest, squares_of
from intsim.ops.op import Range


class RmsNorm(LayerNorm):
    """Of each row of N, with `X_i = x_i - zero_point`, `D_i = N * X_i`, `Q = N * sum(X^2)`, F the attribute `fraction`:

    `y_i` is the integer nearest to `2^F * D_i / sqrt(Q + N^2 * epsilon)`, a tie away from zero.

    `epsilon` is a rational as text, in squares of input steps. A row of zeros gives zeros, whatever `epsilon`.
    """

    name = "rms_norm"

    def spread(self, node: Node, x: IntArray) -> int:
        """The largest magnitude."""
        zero = int(node.attributes["zero_point"])
        return max(abs(int(x.min()) - zero), abs(int(x.max()) - zero))

    def parts(self, node: Node, x: IntArray, spread: int) -> tuple[IntArray, list[int]]:
        """D of each element, Q of each row."""
        count = x.shape[1]
        x = x - int(node.attributes["zero_point"])
        return count * x, [count * s for s in squares_of(np.abs(x), spread)]

    def row(self, node: Node, row: list[int], epsilon: Fraction) -> list[int]:
        """The definition in Python integers, of any size."""
        count, zero = len(row), int(node.attributes["zero_point"])
        q = count * sum((v - zero) ** 2 for v in row)
        return signed_nearest([count * (v - zero) for v in row], q, int(node.attributes["fraction"]), epsilon)

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Attained by a row with one element at an end of the input's range and the others nearest to zero, or, where
        no element can be on both sides of zero, by one nearest to zero and the others at the far end."""
        count, zero = self.length(node, tensors[0].shape), int(node.attributes["zero_point"])
        low, high = tensors[0].low - zero, tensors[0].high - zero
        if max(abs(low), abs(high)) * count >= HEADROOM:
            raise IntsimError(
                f"node {node.name}: {count} times its input's range {low}..{high} needs more than 61 bits; quantize "
                "its input"
            )
        epsilon = Fraction(node.attributes["epsilon"]) * count**2

        def value(one: int, others: int) -> int:
            q = count * (one**2 + (count - 1) * others**2)
            y = nearest(count * abs(one), q, int(node.attributes["fraction"]), epsilon) if one else 0
            return y if one > 0 else -y

        inner = min(max(0, low), high)
        return value(low, high if low > 0 else inner), value(high, low if high < 0 else inner)
