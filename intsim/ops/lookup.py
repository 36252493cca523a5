"""A constant table read at integer positions."""

from __future__ import annotations

import numpy as np

from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape


class Lookup(Op):
    """`table` is read along attribute `axis` at the positions in `x` (ONNX Gather); negative ones from the end."""

    name = "lookup"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """The axis is replaced by the positions' axes."""
        table, axis = node.arrays["table"].shape, node.attributes["axis"]
        return (*table[:axis], *shapes[0], *table[axis + 1 :])

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        return np.take(node.arrays["table"], arrays[0], axis=node.attributes["axis"])

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """That of the reachable table; raises IntsimError if a reachable position lies outside it."""
        table, axis = node.arrays["table"], node.attributes["axis"]
        size, x = table.shape[axis], tensors[0]
        if x.low < -size or x.high >= size:
            raise IntsimError(
                f"node {node.name}: positions reach {x.low}..{x.high}, the table has {size} entries; "
                "positions that can leave the table are not supported"
            )
        reachable = np.take(table, np.arange(x.low, x.high + 1), axis=axis)
        return int(reachable.min()), int(reachable.max())
