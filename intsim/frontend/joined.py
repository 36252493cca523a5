"""Concat of tensors and constants: a constant's cells are those of a tensor times zero, plus the constant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intsim.frontend.context import Context
from intsim.frontend.expression import ONE, ZERO, Const, Expr, Fixed, compress, spread
from intsim.graph import Rationals, rationals


def cells(value: Const) -> Fixed:
    """A constant of integers or floats, each cell an exact number of its own."""
    return Fixed(np.zeros(value.shape, np.int64), ONE, rationals(value.array))


def with_constants(context: Context, tensors: Expr, parts: Sequence[Fixed | Expr], axis: int) -> Expr:
    """`parts` side by side along `axis`, of which `tensors` has those that are no constants, in their order.

    Every constant's position along the axis is taken from the first of the tensors and multiplied by zero: then no code
    leaves the tensors' range, and the requantizer behind has the constant in that cell.
    """
    rank, index, at = len(tensors.shape), [], 0
    factors, offsets = [], []
    for part in parts:
        size = part.shape[axis]
        constant = isinstance(part, Fixed)
        index += [0] * size if constant else list(range(at, at + size))
        at += 0 if constant else size
        real = spread(part.real(), rank) if isinstance(part, Fixed) else spread(ZERO, rank)
        factors.append(_along(spread(ZERO if constant else ONE, rank), axis, size))
        offsets.append(_along(real, axis, size))
    moved = context.move(tensors, "gather", {"axis": axis}, {"index": np.array(index, np.int64)})
    return moved.affine(_joined(factors, axis), _joined(offsets, axis), moved.shape)


def _along(parameter: Rationals, axis: int, size: int) -> Rationals:
    """With its full size along an axis."""
    return np.broadcast_to(parameter, [size if a == axis else n for a, n in enumerate(parameter.shape)])


def _joined(parameters: list[Rationals], axis: int) -> Rationals:
    """Side by side along an axis; the others grow to the largest of each."""
    full = [max(sizes) for sizes in zip(*(p.shape for p in parameters), strict=True)]
    grown = [np.broadcast_to(p, [p.shape[axis] if a == axis else n for a, n in enumerate(full)]) for p in parameters]
    return compress(np.concatenate(grown, axis=axis))
