"""Numbers as the nearest of a grid: what stands in for integers that 64 bits don't hold."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from intsim.arithmetic.pieces import piecewise_range
from intsim.graph import LIMIT, IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape
from intsim.ops.pieces import apply, combine, combined_range, node_pieces

LIMB = 26
"""Low bits of an accumulator that are multiplied by themselves where int64 doesn't hold the whole product."""
MOST_SLOPE = 1 << 34
"""Largest `|S_j|` of such a product."""


class Grid(Op):
    """`y = floor((S_j * acc + B_j) / 2^shift)`, `S_j` and `B_j` integers.

    What is shifted has at most 61 bits, or, with `|S_j| <= 2^34`, as many as LIMB or `shift`, the less, allows more.
    Attribute `off`, a rational: how many steps an output lies at most from the number that it stands for, where the
    inputs are exact.
    """

    name = "grid"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """The common broadcast shape of inputs and cells."""
        return np.broadcast_shapes(*shapes, tuple(node.attributes["cells"]))

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """The definition."""
        shift = int(node.attributes["shift"])

        def nearest(acc: IntArray, s: Fraction, b: Fraction) -> IntArray:
            return _shifted(acc, int(s), int(b), shift)

        return apply(node, combine(node, *arrays), nearest)

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Extremes over the accumulator's range."""
        low, high = combined_range(node, *tensors)
        extremes = [piecewise_range(pieces, low, high) for pieces in node_pieces(node)]
        shift = int(node.attributes["shift"])
        return int(min(e[0] for e in extremes)) >> shift, int(max(e[1] for e in extremes)) >> shift


def limb_of(slopes: Iterable[int], summands: Iterable[int], most: int, shift: int) -> int | None:
    """Bits of the lower limb with which int64 holds all on the way, for sums up to `most`; None where no limb does."""
    s, b = max(map(abs, slopes)), max(map(abs, summands))
    if max(most, 1) * s + b <= LIMIT:
        return 0
    limb = min(LIMB, shift)
    fits = s <= MOST_SLOPE and ((most >> limb) + 1) * s + (b >> limb) + (1 << 36) <= LIMIT
    return limb if fits else None


def _shifted(acc: IntArray, s: int, b: int, shift: int) -> IntArray:
    """`floor((s * acc + b) / 2^shift)`."""
    limb = limb_of([s], [b], max(abs(int(acc.min(initial=0))), abs(int(acc.max(initial=0)))), shift)
    if limb is not None:
        low = (1 << limb) - 1
        carried = ((acc & low) * s + (b & low)) >> limb
        return ((acc >> limb) * s + (b >> limb) + carried) >> (shift - limb)
    # only behind a register that overflowed; of what 64 bits don't hold the low ones remain
    wide = (acc.astype(object) * s + b) >> shift
    return np.asarray((wide + LIMIT + 1) % (2 * LIMIT + 2) - LIMIT - 1, dtype=object).astype(np.int64)
