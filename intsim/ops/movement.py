"""Operators that move integers without changing them: gather, concat, pad, reshape, transpose."""

from __future__ import annotations

import math

import numpy as np

from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape


def axis_behind(node: Node, axis: int, before: Shape) -> int | None:
    """Where `axis` of a tensor of shape `before` lies behind a reshape or transpose; None where it is torn apart."""
    if node.op == "transpose":
        return list(node.attributes["perm"]).index(axis)
    # row-major order: the same axis if as much lies before it, and it is as long
    after, lead = node.attributes["shape"], math.prod(before[:axis])
    same = [i for i in range(len(after)) if after[i] == before[axis] and math.prod(after[:i]) == lead]
    return same[0] if same else None


class Movement(Op):
    """The range of a moved tensor is the union of the inputs' ranges."""

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Union of the inputs' ranges."""
        return min(t.low for t in tensors), max(t.high for t in tensors)


class Gather(Movement):
    """Array `index` picks positions along attribute `axis`: slice, split, nearest resize, reflect padding."""

    name = "gather"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """The axis gets as many positions as picked."""
        axis = node.attributes["axis"]
        return (*shapes[0][:axis], node.arrays["index"].size, *shapes[0][axis + 1 :])

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        return arrays[0].take(node.arrays["index"], axis=node.attributes["axis"])


class Concat(Movement):
    """Inputs one after another along attribute `axis`."""

    name = "concat"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """Sizes along the axis add."""
        axis = node.attributes["axis"]
        return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        return np.concatenate(arrays, axis=node.attributes["axis"])


class Pad(Movement):
    """Attributes `pads` ([[begin, end], ...], never negative) and `value`, an integer code."""

    name = "pad"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """Grown by the pads."""
        return tuple(s + b + e for s, (b, e) in zip(shapes[0], node.attributes["pads"], strict=True))

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        return np.pad(arrays[0], node.attributes["pads"], constant_values=node.attributes["value"])

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """That of the input and the padding."""
        return min(tensors[0].low, node.attributes["value"]), max(tensors[0].high, node.attributes["value"])


class Reshape(Movement):
    """Attribute `shape`, all sizes given."""

    name = "reshape"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """As given."""
        return tuple(node.attributes["shape"])

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        return arrays[0].reshape(node.attributes["shape"])


class Transpose(Movement):
    """Attribute `perm`."""

    name = "transpose"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """Permuted."""
        return tuple(shapes[0][p] for p in node.attributes["perm"])

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        return np.ascontiguousarray(arrays[0].transpose(node.attributes["perm"]))
