"""Gather: fixed positions of a tensor, or a constant table read at integer positions."""

from __future__ import annotations

import numpy as np

from intsim.frontend.context import Context, Refused
from intsim.frontend.expression import Const, Curve, Expr, Fixed, Value, is_codes, spread
from intsim.frontend.movement import axis_of, integer_constant, pick, reshape_to
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MOVERS, lowers
from intsim.frontend.weights import on_power_of_two_grid
from intsim.graph import Rationals


@lowers("Gather", kind=MOVERS, curves=True)
def gather(context: Context, node: Operation) -> Value:
    """Fixed positions of a tensor, or a constant table read at integer positions."""
    table, index = context.value(node.inputs[0]), context.value(node.inputs[1])
    axis = int(node.attributes.get("axis", 0))
    if isinstance(index, Const) and isinstance(table, Expr | Fixed | Curve):
        axis = axis_of(axis, len(table.shape))
        positions = index.array.astype(np.int64)
        if positions.size == 0 or positions.min() < -table.shape[axis] or positions.max() >= table.shape[axis]:
            raise Refused(f"its positions leave the {table.shape[axis]} entries of axis {axis}")
        moved = pick(context, table, axis, positions % table.shape[axis])
        return reshape_to(context, moved, [*table.shape[:axis], *positions.shape, *table.shape[axis + 1 :]])
    if not isinstance(index, Expr) or not isinstance(table, Const | Fixed):
        raise Refused("it reads positions that are not constant from a table that is not; only one of them may change")
    if not is_codes(index):
        raise Refused("its positions are not integers")
    fixed = _table(table)
    axis = axis_of(axis, len(fixed.shape))
    attributes, arrays = {"axis": axis}, {"table": fixed.codes}
    rank = len(index.shape) + len(fixed.shape) - 1

    def placed(parameter: Rationals) -> Rationals:
        p = spread(parameter, len(fixed.shape))
        if p.shape[axis] != 1:
            raise Refused("its table has a scale for each entry; use one scale, or one for each column")
        new = p.reshape(*p.shape[:axis], *[1] * len(index.shape), *p.shape[axis + 1 :])
        return spread(new, rank)

    scale, offset = placed(fixed.scale), placed(fixed.offset)
    return context.emit("lookup", [index.tensor], scale, offset, attributes, arrays, fixed.type)


def _table(table: Const | Fixed) -> Fixed:
    if isinstance(table, Fixed):
        return table
    if table.array.dtype.kind in "iub":
        return integer_constant(table)
    fixed = on_power_of_two_grid(table.array)
    if fixed is None:
        raise Refused("its table holds floats that no quantizer made integers")
    return fixed
