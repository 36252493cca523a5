"""Which taps of a kernel can meet padding together: the distinct masks over all output positions of a layer.

A bound that treats padding as one more value of the range is not attained where no position has all its taps inside
the input: a transposed convolution (most taps fall between the samples), a kernel as large as its input, or padding
with a value that is outside the range. A bound for each mask is.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intsim.graph import IntArray, Node
from intsim.ops.conv import Conv
from intsim.ops.mac import Mac
from intsim.ops.op import Shape

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PaddingPatterns:
    """`masks` (P, K): True where product k of the arrival order reads the input, False where it reads padding.

    `rows` (P,): for each pattern the first output position that has it, as a row of the (outputs, channels) form.
    """

    masks: Mask
    rows: IntArray


def padding_patterns(
    node: Node, op: Mac, shapes: list[Shape], depth: int, order: tuple[str, ...], dominated: bool
) -> PaddingPatterns:
    """The patterns of a layer with input `shapes` and `depth` products.

    `dominated`: padding holds a value of the input's range, so a pattern with fewer inputs than another can't reach
    further and is left out; what remains is one pattern for most convolutions.
    """
    if not isinstance(op, Conv) or not op.pads(node):
        return PaddingPatterns(np.ones((1, depth), bool), np.zeros(1, np.int64))
    weight = node.arrays["weight"]
    kernel, at, sizes = weight.shape[2:], node.attributes, op.spatial(node, shapes[0][2:])
    rank = len(kernel)
    real = op.padded(node, np.ones((1, 1, *shapes[0][2:]), np.int64), 0)[0, 0]
    lines = []
    for axis in range(rank):
        # whether a sample is padding is decided axis by axis: it is inside if all its coordinates are
        line = real.any(axis=tuple(a for a in range(rank) if a != axis))
        taps = np.arange(sizes[axis])[:, None] * at["strides"][axis] + np.arange(kernel[axis]) * at["dilations"][axis]
        masks, first = np.unique(line[taps], axis=0, return_index=True)
        keep = _maximal(masks) if dominated else np.ones(len(masks), bool)
        lines.append((masks[keep], first[keep]))
    combined, rows = [], []
    for chosen in itertools.product(*(range(len(first)) for _, first in lines)):
        mask = np.ones(kernel, bool)
        for axis, pick in enumerate(chosen):
            mask &= lines[axis][0][pick].reshape([-1 if a == axis else 1 for a in range(rank)])
        combined.append(op.weight_rows(node, np.broadcast_to(mask, (1, *weight.shape[1:])), order)[0])
        rows.append(np.ravel_multi_index([lines[a][1][p] for a, p in enumerate(chosen)], sizes))
    return PaddingPatterns(np.array(combined), np.array(rows, np.int64))


def _maximal(masks: Mask) -> Mask:
    """Those of distinct masks (P, taps) that no other contains."""
    inside = (masks[:, None] <= masks[None]).all(axis=2)  # [i, j]: i is part of j
    return np.asarray(inside.sum(axis=1) == 1)
