"""Gather: fixed positions of a tensor, or a constant table read at integer positions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from intsim.frontend.context import Context, Refused
from intsim.frontend.expression import ZERO, Const, Curve, Expr, Fixed, Value, common_grid, is_codes, spread
from intsim.frontend.integers import settled
from intsim.frontend.movement import axis_of, integer_constant, pick, reshape_to
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MOVERS, lowers
from intsim.frontend.types import INTEGERS
from intsim.frontend.weights import on_power_of_two_grid
from intsim.graph import LIMIT, Rationals, rationals


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
    if not is_codes(index) and context.types.get(node.inputs[1]) in INTEGERS:
        index = settled(context, index)
    if not is_codes(index):
        raise Refused("its positions are not integers")
    fixed = _table(table)
    axis = axis_of(axis, len(fixed.shape))
    if any(p.ndim == len(fixed.shape) and p.shape[axis] > 1 for p in (fixed.scale, fixed.offset)):
        fixed = on_one_grid(fixed)
    attributes, arrays = {"axis": axis}, {"table": fixed.codes}
    rank = len(index.shape) + len(fixed.shape) - 1

    def placed(parameter: Rationals) -> Rationals:
        p = spread(parameter, len(fixed.shape))
        new = p.reshape(*p.shape[:axis], *[1] * len(index.shape), *p.shape[axis + 1 :])
        return spread(new, rank)

    _check_positions(context, index, fixed.shape[axis])
    scale, offset = placed(fixed.scale), placed(fixed.offset)
    return context.emit("lookup", [index.tensor], scale, offset, attributes, arrays, fixed.type)


def on_one_grid(fixed: Fixed) -> Fixed:
    """The same numbers as integers of one scale: the largest of which every scale and offset is a multiple."""
    parameters = [*fixed.scale.reshape(-1), *fixed.offset.reshape(-1)]
    step = common_grid(list(dict.fromkeys(parameters)))
    factors, summands = (
        np.array([int(Fraction(v) / step) for v in p.reshape(-1)], dtype=object) for p in (fixed.scale, fixed.offset)
    )
    most = int(np.abs(fixed.codes).max(initial=0)) * max(map(abs, factors)) + max(map(abs, summands))
    if most > LIMIT:
        raise Refused(
            f"its table has a scale for each entry, and in steps of all of them its integers need {most.bit_length()} "
            "bits; use one scale, or one for each column"
        )
    factor, summand = factors.reshape(fixed.scale.shape), summands.reshape(fixed.offset.shape)
    return Fixed(fixed.codes * factor.astype(np.int64) + summand.astype(np.int64), rationals(step), ZERO)


def _check_positions(context: Context, index: Expr, size: int) -> None:
    """Refuse positions that may leave the table, and say what to do about the input that they come from."""
    info = context.graph.tensors[index.tensor]
    if -size <= info.low and info.high < size:
        return
    name, moved = index.tensor, True
    while (maker := context.producer(name)) is not None and len(maker.inputs) == 1:
        name, moved = maker.inputs[0], moved and maker.op in ("gather", "reshape", "transpose")
    ends = f"0:{size - 1}" if moved else "LOW:HIGH"
    said = f"say what the input can hold (--range {name}={ends})" if maker is None else "keep them inside"
    raise Refused(f"its positions reach {info.low}..{info.high}, its table has {size} entries; {said}")


def _table(table: Const | Fixed) -> Fixed:
    if isinstance(table, Fixed):
        return table
    if table.array.dtype.kind in "iub":
        return integer_constant(table)
    fixed = on_power_of_two_grid(table.array)
    if fixed is None:
        raise Refused("its table holds floats that no quantizer made integers")
    return fixed
