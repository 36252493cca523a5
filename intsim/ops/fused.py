"""An operator and the requantizer behind it as one kernel of a target, which reads what the operator reads.

Front ends never make it: it takes the place of a requantizer in a graph as a target runs it (`intsim.dispatch`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.rounding import round_fraction
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape
from intsim.ops.pieces import cell_views
from intsim.ops.pool import SumPool

Element = tuple[IntArray, NDArray[np.bool_] | None]
"""Codes of one element of every window, reduction or row, and where they are no padding; None: nowhere."""


class Fused(Op):
    """Attributes: `requantizer`, a scheme; `source`, the operator's node, None where the codes of inputs are read;
    `formulas` and `sites`, one a cell; `cells`, their shape; `output`, that of the result. They can't be stored.

    What reads elements has one cell.
    """

    name = "fused"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """That of the result."""
        return tuple(node.attributes["output"])

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """What the kernel computes."""
        at = node.attributes
        source, shape = at["source"], tuple(at["output"])
        if source is None:
            out = np.empty(shape, np.int64)
            views: list[Any] = [...]
            if len(at["sites"]) > 1:
                views = list(cell_views(tuple(at["cells"]), len(shape)))
            for view, formula, site in zip(views, at["formulas"], at["sites"], strict=True):
                parts = [np.broadcast_to(a, shape)[view] for a in arrays]
                out[view] = clipped(at["requantizer"].of_codes(parts, site), formula)
            return out
        codes = at["requantizer"].of_elements(list(elements(source, arrays[0])), at["sites"][0])
        if source.op == "softmax":
            codes = np.moveaxis(codes, 0, source.attributes["axes"][0])
        return clipped(codes, at["formulas"][0]).reshape(shape)

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """The clip."""
        each = [ends(f) for f in node.attributes["formulas"]]
        return min(a for a, _ in each), max(b for _, b in each)


def elements(node: Node, x: IntArray) -> Iterator[Element]:
    """What a window, a reduction or a row holds, one element after another, the last axis fastest."""
    at = node.attributes
    if node.op == "sum_pool":
        pool = SumPool()
        view = pool.windows(node, x, 0)
        inside = pool.windows(node, np.ones((1, 1, *x.shape[2:]), np.int64), 0) > 0
        for tap in np.ndindex(*at["kernel"]):
            mask = inside[(..., *tap)]
            yield view[(..., *tap)], None if mask.all() else np.broadcast_to(mask, view[(..., *tap)].shape)
        return
    axes = list(at["axes"])
    moved = np.moveaxis(x, axes, list(range(len(axes))))
    for one in moved.reshape(-1, *moved.shape[len(axes) :]):
        yield one, None


def clipped(codes: IntArray, formula: Formula) -> IntArray:
    """Codes within the formula's ends."""
    return np.clip(codes, *ends(formula))


def ends(formula: Formula) -> Range:
    """Least and greatest code, those of constant pieces among them: a Relu or a Clip in front of the quantizer."""
    assert formula.low is not None
    assert formula.high is not None
    low, high = formula.low, formula.high
    bent = [i for i, (_, scale, _) in enumerate(formula.pieces) if scale]
    for i, (_, scale, offset) in enumerate(formula.pieces):
        code = round_fraction(offset, formula.rounding) + formula.zero
        if not scale and (not bent or i < bent[0]):
            low = min(max(low, code), high)
        if not scale and (not bent or i > bent[-1]):
            high = max(min(high, code), low)
    return low, high
