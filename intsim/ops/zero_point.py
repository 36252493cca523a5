"""The zero point that is known at run time only, taken off behind the sums."""

from __future__ import annotations

import numpy as np

from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape


class ZeroPoint(Op):
    """`sums - zero * weights`: sums of codes and the zero point of these codes, which has a value or one a row.

    `weights` (int64, broadcasts against the sums, each axis 1 or full) are the sums of the weights that each element's
    codes met: `sum (x - zero) w = sum x w - zero sum w`.
    """

    name = "zero_point"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """That of the sums."""
        return shapes[0]

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        return arrays[0] - arrays[1] * node.arrays["weights"]

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Sums and zero point are taken to be independent."""
        sums, zero = tensors
        least, most = (int(f(node.arrays["weights"])) for f in (np.min, np.max))
        corners = [z * w for z in (zero.low, zero.high) for w in (least, most)]
        return sums.low - max(corners), sums.high - min(corners)
