"""Exact integer linear combination with a piecewise linear function: activations and sums that nobody quantized."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from intsim.arithmetic.pieces import piecewise_range
from intsim.graph import LIMIT, IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape
from intsim.ops.pieces import apply, combine, combined_range, node_pieces


def _line(acc: IntArray, s: Fraction, b: Fraction) -> IntArray:
    """`s * acc + b`, which int64 holds though it may not hold s, where acc is 0, or b."""
    if max(abs(s), abs(b)) <= LIMIT:
        return acc * int(s) + int(b)
    return np.asarray(acc.astype(object) * int(s) + int(b), dtype=object).astype(np.int64)


class Affine(Op):
    """`y = S_j * acc + B_j`, `S_j` and `B_j` integers: nothing is rounded."""

    name = "affine"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """The common broadcast shape of inputs and cells."""
        return np.broadcast_shapes(*shapes, tuple(node.attributes["cells"]))

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        return apply(node, combine(node, *arrays), _line)

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Extremes over the accumulator's range."""
        low, high = combined_range(node, *tensors)
        extremes = [piecewise_range(pieces, low, high) for pieces in node_pieces(node)]
        return int(min(e[0] for e in extremes)), int(max(e[1] for e in extremes))
