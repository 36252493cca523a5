"""Elementwise product of two tensors."""

from __future__ import annotations

import numpy as np

from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape


class Mul(Op):
    """`(x - zx) * (y - zy)` with broadcasting; attribute `zero_points`."""

    name = "mul"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """Broadcast shape."""
        return np.broadcast_shapes(*shapes)

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        zx, zy = node.attributes["zero_points"]
        return (arrays[0] - zx) * (arrays[1] - zy)

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Over the four corners."""
        x, y = tensors
        zx, zy = node.attributes["zero_points"]
        corners = [(a - zx) * (b - zy) for a in (x.low, x.high) for b in (y.low, y.high)]
        return min(corners), max(corners)
