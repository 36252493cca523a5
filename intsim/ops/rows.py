"""What functions of whole rows have in common: a row is all elements that differ in the function's axes alone."""

from __future__ import annotations

import math
from abc import abstractmethod
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from intsim.graph import IntArray, Node
from intsim.ops.op import Op, Shape

BLOCK_ELEMENTS = 1 << 18
"""Elements worked on at a time, so that intermediate results stay small whatever the tensor's size."""
FRACTION_BITS = 24
"""An output step is 2^-24 where that fits int32: as fine as float32 just below one."""


class RowFunction(Op):
    """A function of rows along attribute `axes` that keeps the shape; a step of its output is 2^-`fraction`.

    It stands for a real function that no integers give exactly. The integers are defined all the same, and `error`
    says how far from the real function they can be.
    """

    name: ClassVar[str]

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """That of the input."""
        return shapes[0]

    def length(self, node: Node, shape: Shape) -> int:
        """Elements of a row, N."""
        return math.prod(shape[a] for a in node.attributes["axes"])

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact, some rows at a time."""
        x, axes = arrays[0], list(node.attributes["axes"])
        if 0 in x.shape:
            return np.zeros(x.shape, np.int64)
        last = list(range(x.ndim - len(axes), x.ndim))
        moved = np.moveaxis(x, axes, last)
        rows = np.ascontiguousarray(moved.reshape(-1, self.length(node, x.shape)), np.int64)
        mask, seen = node.arrays.get("mask"), None
        if mask is not None:
            seen = np.moveaxis(np.broadcast_to(mask != 0, x.shape), axes, last).reshape(rows.shape)
        out = np.empty_like(rows)
        step = max(1, BLOCK_ELEMENTS // rows.shape[1])
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            out[part] = self.rows(node, rows[part], None if seen is None else seen[part])
        return np.ascontiguousarray(np.moveaxis(out.reshape(moved.shape), last, axes))

    @abstractmethod
    def rows(self, node: Node, x: IntArray, seen: NDArray[np.bool_] | None = None) -> IntArray:
        """The function of rows (M, N), int64 to int64; `seen` of the same shape where the node has a `mask`."""

    @abstractmethod
    def error(self, node: Node, shape: Shape) -> Fraction:
        """Largest distance of an output from the real function, in output steps, of inputs within their range."""
