"""Pooling: maximum and sum over windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.conv import pad_spatial
from intsim.ops.op import Op, Range, Shape


class Pool(Op):
    """Windows over the axes after the first two; attributes kernel, strides, dilations, pads (ceil mode included)."""

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """(N, C, *positions)."""
        at, size = node.attributes, shapes[0][2:]
        rank = len(size)
        out = tuple(
            (size[i] + at["pads"][i] + at["pads"][rank + i] - (at["dilations"][i] * (at["kernel"][i] - 1) + 1))
            // at["strides"][i]
            + 1
            for i in range(rank)
        )
        if min(out) < 1:
            raise IntsimError(f"node {node.name}: window {at['kernel']} is larger than the padded input {size}")
        return (*shapes[0][:2], *out)

    def windows(self, node: Node, x: IntArray, pad: int) -> IntArray:
        """View (N, C, *positions, *kernel)."""
        at = node.attributes
        rank = x.ndim - 2
        spread = tuple(d * (k - 1) + 1 for d, k in zip(at["dilations"], at["kernel"], strict=True))
        view = sliding_window_view(pad_spatial(x, at["pads"], pad), spread, axis=tuple(range(2, 2 + rank)))
        steps = [slice(None, None, s) for s in at["strides"]] + [slice(None, None, d) for d in at["dilations"]]
        return view[(slice(None), slice(None), *steps)]


class MaxPool(Pool):
    """Maximum over a window; padding never wins."""

    name = "max_pool"

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Tap by tap maximum."""
        view = self.windows(node, arrays[0], np.iinfo(np.int64).min)
        first: tuple[Any, ...] = (..., *[0] * len(node.attributes["kernel"]))
        out = view[first].copy()
        for tap in np.ndindex(*node.attributes["kernel"]):
            np.maximum(out, view[(..., *tap)], out=out)
        return out

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """That of the input."""
        return tensors[0].low, tensors[0].high


class SumPool(Pool):
    """Sum of `x - zero_point` over a window, padding worth nothing; each position times an integer `weight`.

    `weight` (1, 1, *positions) holds `lcm / count`, so that one scale serves positions with different divisors (ONNX
    AveragePool with `count_include_pad = 0`, or with `ceil_mode`, at the border).
    """

    name = "sum_pool"

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Tap by tap sum."""
        view = self.windows(node, arrays[0] - node.attributes["zero_point"], 0)
        out = np.zeros(view.shape[: arrays[0].ndim], np.int64)
        for tap in np.ndindex(*node.attributes["kernel"]):
            out += view[(..., *tap)]
        return out * node.arrays["weight"]

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Every tap at its extreme, times the largest factor."""
        zero, taps = node.attributes["zero_point"], math.prod(node.attributes["kernel"])
        low, high = tensors[0].low - zero, tensors[0].high - zero
        if any(node.attributes["pads"]):
            low, high = min(low, 0), max(high, 0)
        factors = [int(node.arrays["weight"].min()), int(node.arrays["weight"].max())]
        return min(low * taps * f for f in factors), max(high * taps * f for f in factors)
