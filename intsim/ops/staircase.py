"""Any function of one integer tensor that has few steps: where it changes, and what it is from there on."""

from __future__ import annotations

import math

import numpy as np

from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape
from intsim.ops.pieces import apply_cells


class Staircase(Op):
    """`y = codes[cell][j]`, j the number of `starts[cell]` that are <= x.

    Attribute `cells` is the shape of an array of staircases that broadcasts against x; array `starts` has shape (number
    of cells, steps), each row ascending, `codes` one column more, cells in row-major order. A cell of fewer steps
    repeats its last one. Every integer has a code: those before the first start and behind the last one have the outer
    two.
    """

    name = "staircase"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """The common broadcast shape of input and cells."""
        return np.broadcast_shapes(shapes[0], tuple(node.attributes["cells"]))

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact."""
        cells = list(zip(node.arrays["starts"], node.arrays["codes"], strict=True))
        return apply_cells(node, arrays[0], cells, lambda x, f: f[1][np.searchsorted(f[0], x, side="right")])

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """That of the codes that can be reached; raises IntsimError for arrays that make no staircases."""
        starts, codes, x = node.arrays["starts"], node.arrays["codes"], tensors[0]
        count = math.prod(node.attributes["cells"])
        fits = starts.ndim == codes.ndim == 2 and len(starts) == len(codes) == count > 0
        if not fits or codes.shape[1] != starts.shape[1] + 1 or (np.diff(starts) < 0).any():
            raise IntsimError(
                f"node {node.name}: starts of shape {starts.shape} and codes of shape {codes.shape} make no staircase "
                f"for each of {count} cells"
            )
        first, last = ((starts <= end).sum(axis=1)[:, None] for end in (x.low, x.high))
        place = np.arange(codes.shape[1])
        last_there = np.pad(np.diff(starts) > 0, ((0, 0), (1, 1)), constant_values=True)[:, : codes.shape[1]]
        reached = codes[(place == first) | ((place > first) & (place <= last) & last_there)]
        return int(reached.min()), int(reached.max())
