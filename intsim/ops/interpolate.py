"""Linear interpolation along one axis with integer weights."""

from __future__ import annotations

import numpy as np

from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape


class Interpolate(Op):
    """`y[j] = sum_t weight[j, t] * x[index[j, t]]` along attribute `axis`; arrays `index`, `weight` (J, T)."""

    name = "interpolate"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """The axis gets J positions."""
        axis = node.attributes["axis"]
        return (*shapes[0][:axis], node.arrays["index"].shape[0], *shapes[0][axis + 1 :])

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Tap by tap."""
        x = arrays[0]
        axis = node.attributes["axis"]
        broadcast = [1] * x.ndim
        broadcast[axis] = -1
        out = np.zeros(self.shape(node, x.shape), np.int64)
        for index, weight in zip(node.arrays["index"].T, node.arrays["weight"].T, strict=True):
            out += x.take(index, axis=axis) * weight.reshape(broadcast)
        return out

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Every tap at its extreme."""
        low, high = tensors[0].low, tensors[0].high
        up = np.where(node.arrays["weight"] > 0, node.arrays["weight"], 0).sum(axis=1).tolist()
        down = np.where(node.arrays["weight"] < 0, node.arrays["weight"], 0).sum(axis=1).tolist()
        return (
            min(u * low + d * high for u, d in zip(up, down, strict=True)),
            max(u * high + d * low for u, d in zip(up, down, strict=True)),
        )
