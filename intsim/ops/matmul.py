"""Matrix product with a constant matrix or a second tensor, batched as numpy's matmul."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.mac import PANEL_ELEMENTS, Mac, Panel
from intsim.ops.op import Shape


class Matmul(Mac):
    """`x` (..., M, K) times `weight` (..., K, N); channels are the N columns."""

    name = "matmul"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """(..., M, N) with broadcast batch axes."""
        x, w = shapes[0], self._weight_shape(node, *shapes)
        if x[-1] != w[-2]:
            raise IntsimError(f"node {node.name}: inner sizes {x[-1]} and {w[-2]} differ")
        return (*np.broadcast_shapes(x[:-2], w[:-2]), x[-2], w[-1])

    def extent(self, node: Node, *shapes: Shape) -> tuple[int, int]:
        """(batch * M, N)."""
        shape = self.shape(node, *shapes)
        return math.prod(shape[:-1]), shape[-1]

    def fold(self, node: Node, out: IntArray, *shapes: Shape) -> IntArray:
        """Back to (..., M, N)."""
        return out.reshape(self.shape(node, *shapes))

    def weight_rows(self, node: Node, w: IntArray, order: tuple[str, ...] = ()) -> IntArray:
        """(N, K); batched weights are laid side by side along K only for bounds of each batch: (batch * N, K)."""
        return np.ascontiguousarray(np.swapaxes(w, -1, -2).reshape(-1, w.shape[-2]))

    def panels(self, node: Node, x: IntArray, w: IntArray, pad: int, order: tuple[str, ...] = ()) -> Iterator[Panel]:
        """One panel a batch entry (one in all when the weights aren't batched) and a run of rows."""
        depth = x.shape[-1]
        step = max(1, PANEL_ELEMENTS // max(1, depth))
        if w.ndim == 2:
            batches = [(x.reshape(-1, depth), w)]
        else:
            batch = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
            xs = np.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(-1, *x.shape[-2:])
            ws = np.broadcast_to(w, (*batch, *w.shape[-2:])).reshape(-1, *w.shape[-2:])
            batches = list(zip(xs, ws, strict=True))
        start = 0
        for a, b in batches:
            columns = np.ascontiguousarray(b.T)
            for r in range(0, a.shape[0], step):
                block = a[r : r + step]
                yield Panel(slice(start + r, start + r + block.shape[0]), slice(0, b.shape[1]), block, columns)
            start += a.shape[0]

    def channel_ranges(self, node: Node, *tensors: Tensor) -> tuple[list[int], list[int]]:
        """Per output column, over all batches of the weights."""
        low, high = super().channel_ranges(node, *tensors)
        columns = self._weight_shape(node, *(t.shape for t in tensors))[-1]
        return [min(low[c::columns]) for c in range(columns)], [max(high[c::columns]) for c in range(columns)]

    def _weight_shape(self, node: Node, *shapes: Shape) -> Shape:
        return shapes[1] if len(shapes) > 1 else node.arrays["weight"].shape
