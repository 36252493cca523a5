"""The requantize node, the one that hardware may approximate: its exact definition, and on a machine's requantizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.pieces import Formula, piecewise_range, range_of_all
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.requantizer import Requantizer
from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape
from intsim.ops.pieces import apply_cells, cell_views, combine, combined_range, node_pieces

EXACT = Exact()
"""The requantizer that others are compared with."""


class Requantize(Op):
    """`y = clip(round(S_j * acc + B_j) + z, low, high)`, docs/ir.md section Requantize."""

    name = "requantize"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """The common broadcast shape of inputs and cells."""
        return np.broadcast_shapes(*shapes, tuple(node.attributes["cells"]))

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact rational rounding."""
        return requantize(node, list(arrays), [], EXACT, ())

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """The clip bounds, narrowed to what the accumulator's range can reach; attained, as rounding keeps order."""
        acc_low, acc_high = combined_range(node, *tensors)
        zero, low, high = (node.attributes[k] for k in ("zero", "low", "high"))
        cells = node_pieces(node)
        least, most = piecewise_range(cells[0], acc_low, acc_high)
        if low is None or high is None or least > low - zero or most < high - zero:
            least, most = range_of_all(cells, acc_low, acc_high)
        # else both ends are clipped, whatever the other cells reach
        reach_low = round_fraction(least, node.attributes["rounding"]) + zero
        reach_high = round_fraction(most, node.attributes["rounding"]) + zero
        if low is not None:
            reach_low, reach_high = max(reach_low, low), max(reach_high, low)
        if high is not None:
            reach_low, reach_high = min(reach_low, high), min(reach_high, high)
        return reach_low, reach_high


def formulas(node: Node) -> list[Formula]:
    """The exact formula of each cell, cells in row-major order.

    Attribute `roundings`, one a cell, is that of machines whose kernels round channels in different ways; no file has
    it.
    """
    at = node.attributes
    rest = at["zero"], at["low"], at["high"]
    cells = node_pieces(node)
    roundings = at.get("roundings") or [at["rounding"]] * len(cells)
    modes = {r: Rounding(r) for r in set(roundings)}
    return [Formula(tuple(p), modes[r], *rest) for p, r in zip(cells, roundings, strict=True)]


def requantize(
    node: Node, arrays: list[IntArray], tensors: list[Tensor], requantizer: Requantizer, stages: Sequence[Stage]
) -> IntArray:
    """Codes out of a requantize node on a machine.

    Args:
        node: a requantize node.
        arrays: its inputs, int64.
        tensors: their descriptions, whose ranges choose the left shift of a sum of tensors.
        requantizer: the machine's.
        stages: the accumulator's registers, into the last of which the bias is added; empty for unbounded.

    Returns:
        int64, the broadcast shape of inputs and cells.

    Raises:
        IntsimError: a scale or an accumulator that the requantizer doesn't take; names neither node nor target.
    """
    acc, cells = accumulator(node, arrays, tensors, requantizer)
    return apply_cells(node, acc, cells, lambda block, formula: requantizer.codes(formula, block, stages))


def unclipped(
    node: Node, arrays: list[IntArray], tensors: list[Tensor], requantizer: Requantizer, stages: Sequence[Stage]
) -> IntArray:
    """What `requantize` computes before the clip, zero point included; of a scheme without one, the formula."""
    acc, cells = accumulator(node, arrays, tensors, requantizer)
    return apply_cells(node, acc, cells, lambda block, formula: requantizer.unclipped(formula, block, stages))


def accumulator(
    node: Node, arrays: list[IntArray], tensors: list[Tensor], requantizer: Requantizer
) -> tuple[IntArray, list[Formula]]:
    """The single accumulator that a requantizer works on, and the formulas of the cells of it.

    Several inputs are added exactly, or brought to one scale first; pieces are then rescaled to the sum's unit.
    """
    own = formulas(node)
    if len(arrays) == 1 or requantizer.adds_exactly:
        return combine(node, *arrays), own
    coefficients, cells = node.arrays["coefficients"], tuple(node.attributes["cells"])
    widest = max(max(abs(t.low), abs(t.high)) for t in tensors)
    shape = np.broadcast_shapes(*(a.shape for a in arrays), coefficients.shape[1:])
    total = np.zeros(shape, np.int64)
    units = np.empty(coefficients.shape[1:], object)
    for view, index in zip(cell_views(units.shape, total.ndim), np.ndindex(*units.shape), strict=True):
        parts = [np.broadcast_to(x, shape)[view] for x in arrays]
        total[view], units[index] = requantizer.added(parts, [int(a[index]) for a in coefficients], widest)
    return total, [
        replace(f, pieces=tuple((None if at is None else (at / u).__ceil__(), s * u, b) for at, s, b in f.pieces))
        for f, u in zip(own, np.broadcast_to(units, cells).reshape(-1), strict=True)
    ]
