"""The requantizer: the one node that hardware may approximate. This is its exact definition."""

from __future__ import annotations

import numpy as np

from intsim.arithmetic.requantize import exact_requantize
from intsim.arithmetic.rounding import round_fraction
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape
from intsim.ops.pieces import apply, combine, combined_range, node_pieces, piecewise_range


class Requantize(Op):
    """`y = clip(round(S_j * acc + B_j) + z, low, high)`, docs/ir.md section Requantize."""

    name = "requantize"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """The common broadcast shape of inputs and cells."""
        return np.broadcast_shapes(*shapes, tuple(node.attributes["cells"]))

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact rational rounding."""
        mode = node.attributes["rounding"]
        y = apply(node, combine(node, *arrays), lambda acc, s, b: exact_requantize(acc, s, b, mode))
        return clip(node, y + node.attributes["zero"])

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """The clip bounds, narrowed to what the accumulator's range can reach; attained, as rounding keeps order."""
        acc_low, acc_high = combined_range(node, *tensors)
        extremes = [piecewise_range(pieces, acc_low, acc_high) for pieces in node_pieces(node)]
        zero, low, high = (node.attributes[k] for k in ("zero", "low", "high"))
        reach_low = round_fraction(min(e[0] for e in extremes), node.attributes["rounding"]) + zero
        reach_high = round_fraction(max(e[1] for e in extremes), node.attributes["rounding"]) + zero
        if low is not None:
            reach_low, reach_high = max(reach_low, low), max(reach_high, low)
        if high is not None:
            reach_low, reach_high = min(reach_low, high), min(reach_high, high)
        return reach_low, reach_high


def clip(node: Node, y: IntArray) -> IntArray:
    """Clip to the node's bounds; a bound of None doesn't clip."""
    low, high = node.attributes["low"], node.attributes["high"]
    return y if low is None and high is None else np.clip(y, low, high)
