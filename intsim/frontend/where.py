"""Where with a constant condition: c x + (1 - c) y, each factor 0 or 1, a sum of two tensors for the requantizer."""

from __future__ import annotations

import numpy as np

from intsim.frontend.context import Context, Refused
from intsim.frontend.elementwise import expression, sum_of
from intsim.frontend.expression import ZERO, Const, Expr, Fixed, Value, compress, spread
from intsim.frontend.reader import Operation
from intsim.frontend.registry import lowers
from intsim.graph import Rationals, rationals


@lowers("Where")
def where(context: Context, node: Operation) -> Expr:
    """Of two tensors, or a tensor and a constant (a mask)."""
    values = [context.value(n) for n in node.inputs[1:]]
    sides = [v if isinstance(v, Const | Fixed) else expression(context, node, i) for i, v in enumerate(values, 1)]
    return chosen(context, node, sides)


def chosen(context: Context, node: Operation, sides: list[Const | Fixed | Expr]) -> Expr:
    """What the node's first input, a constant condition, takes of both."""
    condition = context.value(node.inputs[0])
    if not isinstance(condition, Const):
        raise Refused("its condition is not a constant")
    if not any(isinstance(v, Expr) for v in sides):
        raise Refused("both of its tensors are constants")
    shape = np.broadcast_shapes(condition.shape, *(v.shape for v in sides))
    taken = rationals((condition.array != 0).astype(np.int64))
    x, y = (_share(node, v, f, shape) for v, f in zip(sides, (taken, 1 - taken), strict=True))
    return sum_of(context, x, y, 1)


def _share(node: Operation, value: Value, factor: Rationals, shape: tuple[int, ...]) -> Expr:
    """A tensor or a constant times 0 or 1."""
    factor = compress(spread(np.asarray(factor, object), len(shape)))
    if isinstance(value, Const | Fixed):
        return Expr(shape, (), compress(np.asarray(spread(value.real(), len(shape)) * factor, object)))
    assert isinstance(value, Expr)
    return value.stepped(shape, node).affine(factor, spread(ZERO, len(shape)), shape)
