"""Convolution of any rank: groups, stride, dilation, asymmetric padding, zero points."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from intsim.errors import IntsimError
from intsim.graph import IntArray, Node
from intsim.ops.exact import absolute_bound, exact_dtype
from intsim.ops.mac import PANEL_ELEMENTS, Mac, Panel
from intsim.ops.op import Shape

SPATIAL_TOKENS = ("kd", "kh", "kw")


def kernel_axes(order: tuple[str, ...], rank: int) -> tuple[int, ...]:
    """Permutation of the axes (cin, spatial...) that gives the arrival order, outermost first.

    `order` names "kh kw cin" style tokens; tokens of absent axes are ignored, an axis not named comes outermost.
    """
    tokens = ("cin", *SPATIAL_TOKENS[3 - rank :]) if rank <= 3 else ("cin", *(f"k{i}" for i in range(rank)))
    named = [tokens.index(t) for t in order if t in tokens]
    return (*(i for i in range(rank + 1) if i not in named), *named)


class Conv(Mac):
    """`x` (N, C, *spatial), `weight` (O, C / groups, *kernel); attributes strides, dilations, pads, groups."""

    name = "conv"

    def padded(self, node: Node, x: IntArray, pad: int) -> IntArray:
        """The input with its padding in place."""
        return pad_spatial(x, node.attributes["pads"], pad)

    def pads(self, node: Node) -> bool:
        """Whether some products are padding."""
        return any(p > 0 for p in node.attributes["pads"])

    def spatial(self, node: Node, size: Shape) -> Shape:
        """Spatial output sizes."""
        kernel = node.arrays["weight"].shape[2:]
        at = node.attributes
        rank = len(kernel)
        pads = at["pads"]
        out = tuple(
            (size[i] + pads[i] + pads[rank + i] - (at["dilations"][i] * (kernel[i] - 1) + 1)) // at["strides"][i] + 1
            for i in range(rank)
        )
        if min(out) < 1:
            raise IntsimError(f"node {node.name}: kernel {kernel} is larger than the padded input {size}")
        return out

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """(N, O, *spatial)."""
        return (shapes[0][0], node.arrays["weight"].shape[0], *self.spatial(node, shapes[0][2:]))

    def extent(self, node: Node, *shapes: Shape) -> tuple[int, int]:
        """(N * positions, O)."""
        n, channels, *spatial = self.shape(node, *shapes)
        return n * math.prod(spatial), channels

    def fold(self, node: Node, out: IntArray, *shapes: Shape) -> IntArray:
        """(N * positions, O) to (N, O, *spatial)."""
        n, channels, *spatial = self.shape(node, *shapes)
        return np.ascontiguousarray(np.moveaxis(out.reshape(n, *spatial, channels), -1, 1))

    def weight_rows(self, node: Node, w: IntArray, order: tuple[str, ...] = ()) -> IntArray:
        """(O, K), K in arrival order."""
        axes = kernel_axes(order, w.ndim - 2)
        return np.ascontiguousarray(w.transpose(0, *(1 + a for a in axes)).reshape(w.shape[0], -1))

    def windows(self, node: Node, x: IntArray, pad: int) -> IntArray:
        """View (N, C, *positions, *kernel) of the padded input."""
        at = node.attributes
        kernel = node.arrays["weight"].shape[2:]
        rank = len(kernel)
        spread = tuple(d * (k - 1) + 1 for d, k in zip(at["dilations"], kernel, strict=True))
        view = sliding_window_view(self.padded(node, x, pad), spread, axis=tuple(range(2, 2 + rank)))
        steps = [slice(None, None, s) for s in at["strides"]] + [slice(None, None, d) for d in at["dilations"]]
        return view[(slice(None), slice(None), *steps)]

    def panels(self, node: Node, x: IntArray, w: IntArray, pad: int, order: tuple[str, ...] = ()) -> Iterator[Panel]:
        """One panel a group and a run of output rows."""
        groups = node.attributes["groups"]
        rows = self.weight_rows(node, w, order)
        view = self.windows(node, x, pad)
        rank = (view.ndim - 2) // 2
        per_group, depth = rows.shape[0] // groups, rows.shape[1]
        axes = kernel_axes(order, rank)
        inside = math.prod(view.shape[3 : 2 + rank])
        step = max(1, PANEL_ELEMENTS // max(1, inside * depth))
        kernel_at = [rank + a if a else 0 for a in axes]
        for g in range(groups):
            channels = slice(g * per_group, (g + 1) * per_group)
            part = view[:, g * (x.shape[1] // groups) : (g + 1) * (x.shape[1] // groups)]
            columns = rows[channels]
            for n in range(x.shape[0]):
                for r in range(0, view.shape[2], step):
                    block = part[n, :, r : r + step]
                    start = (n * view.shape[2] + r) * inside
                    panel = block.transpose(*range(1, 1 + rank), *kernel_at).reshape(-1, depth)
                    yield Panel(slice(start, start + panel.shape[0]), channels, panel, columns)

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """`sum (x - zx) * (w - zw) + bias`; depthwise kernels add tap by tap, others through a matrix product."""
        x, w = self.operands(node, *arrays)
        if node.attributes["groups"] != x.shape[1]:
            return super().evaluate(node, *arrays)
        zx, zw = self.zero_points(node)
        x, w = x - zx, w - zw
        peak = int(np.abs(x).max()) if x.size else 0
        dtype = exact_dtype(absolute_bound(peak, w.reshape(w.shape[0], -1)))
        view = self.windows(node, x.astype(dtype), 0)
        rank = w.ndim - 2
        weights: np.ndarray = w[:, 0].astype(dtype).reshape(x.shape[1], -1, *w.shape[2:])
        n, channels, *spatial = self.shape(node, x.shape)
        out = np.zeros((n, x.shape[1], weights.shape[1], *spatial), dtype)
        for tap in np.ndindex(*w.shape[2:]):
            taps = weights[(slice(None), slice(None), *tap)].reshape(1, x.shape[1], -1, *[1] * rank)
            out += view[(..., *tap)][:, :, None] * taps
        result = out.reshape(n, channels, *spatial).astype(np.int64)
        if "bias" in node.arrays:
            result += node.arrays["bias"].reshape(-1, *[1] * rank)
        return result


def pad_spatial(x: IntArray, pads: list[int], value: int) -> IntArray:
    """Pad (or, where negative, crop) the axes after the first two; `pads` = begins then ends."""
    rank = x.ndim - 2
    grow = [(0, 0), (0, 0)] + [(max(pads[i], 0), max(pads[rank + i], 0)) for i in range(rank)]
    if any(b or e for b, e in grow):
        x = np.pad(x, grow, constant_values=value)
    crop = tuple(slice(max(-pads[i], 0), x.shape[2 + i] - max(-pads[rank + i], 0)) for i in range(rank))
    return x[(slice(None), slice(None), *crop)]
