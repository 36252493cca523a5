"""A requantize node on a target's requantizer scheme: a proven formula where there is one, else the definition."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.requantizers import is_built_in
from intsim.arithmetic.requantizers.requantizer import Requantizer
from intsim.engine.requantize.affine import AffineRequantizer, TwoFormulas
from intsim.engine.requantize.fit import fit, fit_two_formulas
from intsim.engine.requantize.kernels import requantize_dense
from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.pieces import combine, combined_range
from intsim.ops.requantize import requantize
from intsim.targets import Target

MOST_FITS = 512
"""Proven formulas that are kept, the latest ones."""
STEPS_AN_ELEMENT, ALWAYS = 64, 1 << 16
"""A proof of more steps than `ALWAYS` needs this many elements to be worth its time."""
Key = tuple[int, Requantizer, tuple[Stage, ...], tuple[int, int]]

remembered: OrderedDict[Key, tuple[weakref.ref[Node], AffineRequantizer | TwoFormulas | None]] = OrderedDict()
"""The last formulas by `Key`, which begins with the number of a node, and the node that it is."""


def run_requantize(node: Node, arrays: list[IntArray], tensors: list[Tensor], target: Target) -> IntArray:
    """Codes out of a requantize node on `target`, int64. Raises IntsimError when the scheme can't take the scales."""
    fast = _by_formula(node, arrays, tensors, target)
    if fast is not None:
        return fast
    try:
        return requantize(node, arrays, tensors, target.requantize, target.stages)
    except IntsimError as error:
        raise IntsimError(f"node {node.shown}: target {target.name}: {error}") from None


def known_fit(
    node: Node, tensors: Sequence[Tensor], requantizer: Requantizer, stages: Sequence[Stage], reach: tuple[int, int]
) -> AffineRequantizer | TwoFormulas | None:
    """`fit`, else `fit_two_formulas`, remembered for as long as the node lives and is among the last `MOST_FITS`."""
    key = id(node), requantizer, tuple(stages), reach
    entry = remembered.get(key)
    if entry is not None and entry[0]() is node:  # another node may have the number of one that is gone
        remembered.move_to_end(key)
        return entry[1]
    given = node, tensors, requantizer, stages, reach
    # a formula is proven at the steps alone, which needs a function that is monotone where it says so
    rule = (fit(*given) or fit_two_formulas(*given)) if is_built_in(requantizer) else None
    remembered[key] = weakref.ref(node, lambda _: remembered.pop(key, None)), rule
    while len(remembered) > MOST_FITS:
        remembered.popitem(last=False)
    return rule


def cell_layout(shape: Sequence[int], cells: Sequence[int]) -> tuple[int, int, int] | None:
    """(outer, cells, inner) for which a tensor of `shape` is that array, C-contiguous; None where cells aren't a block.

    `shape` is the broadcast one of tensor and cells.
    """
    full = (1,) * (len(shape) - len(cells)) + tuple(cells)
    axes = [axis for axis, size in enumerate(full) if size > 1]
    if not axes:
        return 1, 1, prod(shape)
    first, end = axes[0], axes[-1] + 1
    if full[first:end] != tuple(shape[first:end]):
        return None
    return prod(shape[:first]), prod(shape[first:end]), prod(shape[end:])


def _by_formula(node: Node, arrays: list[IntArray], tensors: list[Tensor], target: Target) -> IntArray | None:
    """Codes by the formula; None where none is known for the accumulators at hand."""
    if len(arrays) > 1 and not target.requantize.adds_exactly:
        return None
    acc = combine(node, *arrays)
    cells = tuple(node.attributes["cells"])
    shape = np.broadcast_shapes(acc.shape, cells)
    layout = cell_layout(shape, cells)
    if layout is None or not acc.size:
        return None
    least, most = int(acc.min()), int(acc.max())
    for reach in _reaches(node, tensors, target):
        if least < reach[0] or most > reach[1] or _long(node, reach, layout):
            continue
        rounder = known_fit(node, tensors, target.requantize, target.stages, reach)
        if rounder is not None:
            dense = np.ascontiguousarray(np.broadcast_to(acc, shape)).reshape(layout)
            return requantize_dense(dense, rounder, np.empty(layout, np.int64)).reshape(shape)
    return None


def _reaches(node: Node, tensors: list[Tensor], target: Target) -> Iterator[tuple[int, int]]:
    """Accumulators to be proven for: the tensor's proven range; then those too that its register can hold instead."""
    try:
        low, high = combined_range(node, *tensors)
    except IntsimError:
        return
    yield low, high
    if len(tensors) == 1 and target.stages:
        register = target.stages[-1]
        yield min(low, register.min), max(high, register.max)


def _long(node: Node, reach: tuple[int, int], layout: tuple[int, int, int]) -> bool:
    """Whether the definition is done with so few elements before a proof would be."""
    low, high = node.attributes["low"], node.attributes["high"]
    codes = reach[1] - reach[0] if low is None or high is None else min(high - low, reach[1] - reach[0])
    return codes * layout[1] > max(ALWAYS, STEPS_AN_ELEMENT * prod(layout))
