"""Transposed convolution: the adjoint of `conv`, as a convolution of the input with zeros between its samples."""

from __future__ import annotations

import numpy as np

from intsim.graph import IntArray, Node
from intsim.ops.conv import Conv, pad_spatial
from intsim.ops.op import Shape


class ConvTranspose(Conv):
    """`weight` is stored as the equivalent forward kernel (O, C / groups, *kernel), taps reversed.

    Attributes: `insert` (the transposed stride: `insert - 1` zero-point codes stand between neighbouring samples),
    `dilations`, `groups`, `pads` of the forward form (negative pads crop), `strides` all one. ONNX operator
    ConvTranspose, section "output_shape", gives the relation of the paddings.
    """

    name = "conv_transpose"

    def pads(self, node: Node) -> bool:
        """Inserted samples count as padding."""
        return True

    def padded(self, node: Node, x: IntArray, pad: int) -> IntArray:
        """Input with inserted and surrounding padding."""
        return pad_spatial(stuff(x, node.attributes["insert"], pad), node.attributes["pads"], pad)

    def spatial(self, node: Node, size: Shape) -> Shape:
        """Spatial output sizes."""
        stuffed = tuple((s - 1) * i + 1 for s, i in zip(size, node.attributes["insert"], strict=True))
        return super().spatial(node, stuffed)


def stuff(x: IntArray, insert: list[int], value: int) -> IntArray:
    """Put `insert - 1` samples of `value` between neighbours along each spatial axis."""
    shape = (*x.shape[:2], *((s - 1) * i + 1 for s, i in zip(x.shape[2:], insert, strict=True)))
    out = np.full(shape, value, x.dtype)
    out[(slice(None), slice(None), *(slice(None, None, i) for i in insert))] = x
    return out
