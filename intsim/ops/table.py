"""Any function of one integer tensor: an entry of a constant table for each code."""

from __future__ import annotations

import math

import numpy as np

from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape

MOST_CODES = 1 << 16
"""Most entries of one cell's table: inputs of 16 bits."""


class Table(Op):
    """`y = table[cell][x - low]`.

    Attribute `low` is the code of the first entry, `cells` the shape of an array of tables that broadcasts against x;
    array `table` has shape (number of cells, entries), cells in row-major order. Nothing is assumed of the entries'
    order. A code outside of the table, which can arrive only behind a register that overflowed, reads its nearest end.
    """

    name = "table"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """The common broadcast shape of input and cells."""
        return np.broadcast_shapes(shapes[0], tuple(node.attributes["cells"]))

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        table = node.arrays["table"]
        position = np.clip(arrays[0] - node.attributes["low"], 0, table.shape[1] - 1)
        return table.reshape(-1)[position + cell_starts(node)]

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """That of the reachable entries; raises IntsimError if a reachable code has none."""
        table, low, x = node.arrays["table"], int(node.attributes["low"]), tensors[0]
        if table.ndim != 2 or len(table) != math.prod(node.attributes["cells"]) or not 0 < table.shape[1] <= MOST_CODES:
            raise IntsimError(f"node {node.name}: a table of shape {table.shape} doesn't fit its cells or 16 bits")
        if x.low < low or x.high >= low + table.shape[1]:
            raise IntsimError(
                f"node {node.name}: codes reach {x.low}..{x.high}, the table {low}..{low + table.shape[1] - 1}"
            )
        reachable = table[:, x.low - low : x.high - low + 1]
        return int(reachable.min()), int(reachable.max())


def cell_starts(node: Node) -> IntArray:
    """Of each cell, in the shape of the cells, where its table begins in the flat array."""
    table, cells = node.arrays["table"], tuple(node.attributes["cells"])
    return (np.arange(len(table), dtype=np.int64) * table.shape[1]).reshape(cells)
