"""Sum over whole axes, kept as axes of size one."""

from __future__ import annotations

import math

import numpy as np

from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape


class ReduceSum(Op):
    """Attribute `axes`; summed axes stay with size one."""

    name = "reduce_sum"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """Summed axes become one."""
        return tuple(1 if i in node.attributes["axes"] else s for i, s in enumerate(shapes[0]))

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """int64 sum."""
        return arrays[0].sum(axis=tuple(node.attributes["axes"]), keepdims=True, dtype=np.int64)

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Every element at its extreme."""
        count = math.prod(tensors[0].shape[a] for a in node.attributes["axes"])
        return tensors[0].low * count, tensors[0].high * count
