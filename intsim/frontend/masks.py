"""Masks: a constant of few numbers, minus infinity or far below zero among them, that Add or Where brings into scores.

What stands behind a mask is a `Masked` until a Softmax or a quantizer reads it. An element of a Softmax whose number is
minus infinity has an exponential of 0. So has one that lies so far below the row's largest that its entry in the table
of exponentials is rounded to 0, whatever the integers are: this is proven from their range (`seen_by_rows`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from intsim.frontend.context import Context, Quantizer, Refused
from intsim.frontend.expression import ZERO, Const, Expr, Fixed, Level, Masked, Value, scalar, spread
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MASKED, MOVERS, Handler, of_masked
from intsim.frontend.types import FLOATS
from intsim.graph import IntArray, rationals

MOST_LEVELS = 16
"""Most different numbers of a mask."""
FAR = -16
"""A constant in front of a Softmax that has a number below this may be a mask."""
BETWEEN = (
    *("Add", "Cast", "Div", "Dropout", "Expand", "Flatten", "Identity", "Mul", "Reshape", "Slice", "Split", "Squeeze"),
    *("Sub", "Transpose", "Unsqueeze", "Where"),
)
"""Operators that may stand between a mask and its Softmax."""
LN2 = Fraction(6931471805599454, 10**16)
"""Above the natural logarithm of 2."""


def masking(context: Context, op: Operation) -> Handler | None:
    """What lowers a node that brings a mask into an expression; None if it doesn't."""
    if op.op not in ("Add", "Sub", "Where") or op.domain or context.types.get(op.outputs[0]) not in FLOATS:
        return None
    sides = [context.values.get(n) for n in (op.inputs[1:] if op.op == "Where" else op.inputs)]
    constants = [v for v in sides if isinstance(v, Const | Fixed)]
    if len(sides) != 2 or len(constants) != 1 or not any(isinstance(v, Expr) for v in sides):
        return None
    if op.op == "Where" and not isinstance(context.values.get(op.inputs[0]), Const):
        return None
    if op.op == "Sub" and constants[0] is sides[0]:
        return None
    numbers = levels_of(constants[0], -1 if op.op == "Sub" else 1)
    if numbers is None:
        return None
    low = min((v for v in numbers[1] if v is not None), default=Fraction(0))
    if None not in numbers[1] and (low >= FAR or not _before_softmax(context, op)):
        return None
    return joined


def _before_softmax(context: Context, op: Operation) -> bool:
    """Whether a Softmax reads what a node makes, with nothing between that a mask doesn't pass."""
    waiting, seen = [op], {op}
    for one in waiting:
        for reader in (r for o in one.outputs for r in context.model.readers.get(o, ())):
            if reader.op == "Softmax":
                return True
            if reader.op in BETWEEN and reader not in seen:
                seen.add(reader)
                waiting.append(reader)
    return False


def levels_of(value: Const | Fixed, sign: int = 1) -> tuple[IntArray, list[Fraction | None]] | None:
    """A constant as an index into its distinct numbers, times `sign`, None for minus infinity; None if it has many."""
    if isinstance(value, Fixed):
        scale, offset = scalar(value.scale), scalar(value.offset)
        if scale is None or offset is None:
            return None
        codes, index = np.unique(value.codes, return_inverse=True)
        numbers: list[Fraction | None] = [sign * (int(c) * scale + offset) for c in codes[: MOST_LEVELS + 1]]
    else:
        if value.array.dtype.kind not in "fiu" or np.isnan(value.array.astype(np.float64)).any():
            return None
        found, index = np.unique(value.array, return_inverse=True)
        held = found[: MOST_LEVELS + 1].astype(object) * sign
        if any(v == math.inf for v in held):
            return None
        numbers = [None if v == -math.inf else Fraction(v) for v in held]
    if len(numbers) > MOST_LEVELS:
        return None
    return np.asarray(index, np.int64).reshape(value.shape), numbers


@of_masked("Add", "Sub", "Where")
def joined(context: Context, node: Operation) -> Masked:
    """A mask in front of an expression, or another one behind a mask."""
    values = [context.value(n) for n in node.inputs]
    condition = values.pop(0) if node.op == "Where" else None
    at = next(i for i, v in enumerate(values) if isinstance(v, Expr | Masked))
    x, other = values[at], values[1 - at]
    if not isinstance(other, Const | Fixed) or (node.op == "Sub" and at == 1):
        raise Refused("its mask meets another tensor than a constant; put the mask right in front of the Softmax")
    if not isinstance(x, Masked):
        assert isinstance(x, Expr)
        x = Masked(x, np.zeros((1,) * len(x.shape), np.int64), (Level(True, Fraction(0)),))
    mask = levels_of(other, -1 if node.op == "Sub" else 1)
    if condition is None and mask is None:
        if any(not level.keeps and level.added is not None for level in x.levels):
            raise Refused(f"adds a constant of more than {MOST_LEVELS} numbers behind a mask; add it in front of it")
        real = other.real() * (-1 if node.op == "Sub" else 1)
        shape = np.broadcast_shapes(x.shape, other.shape)
        moved = x.value.stepped(shape, node).affine(rationals(1), spread(real, len(shape)), shape)
        return replace(x, value=moved, index=_ranked(x.index, len(shape)))
    if mask is None:
        raise Refused(f"its mask has more than {MOST_LEVELS} numbers, minus infinity or far from zero among them")
    index, numbers = mask
    if condition is None:
        options = [_raised(level, number) for level in x.levels for number in numbers]
    else:
        if not isinstance(condition, Const):
            raise Refused("its condition is not a constant")
        taken = (condition.array != 0) if at == 0 else (condition.array == 0)
        index = np.where(taken, 0, index + 1)
        options = [o for level in x.levels for o in (level, *(Level(False, number) for number in numbers))]
    count = len(options) // len(x.levels)
    shape = np.broadcast_shapes(x.shape, index.shape)
    pairs = _ranked(x.index, len(shape)) * count + _ranked(index, len(shape))
    return _simplified(x.value.stepped(shape, node), pairs, options)


def _raised(level: Level, number: Fraction | None) -> Level:
    if level.added is None or number is None:
        return Level(False, None)
    return Level(level.keeps, level.added + number)


def _simplified(value: Expr, index: IntArray, options: list[Level]) -> Masked:
    """With the levels that occur, each once."""
    used, back = np.unique(index, return_inverse=True)
    levels = list(dict.fromkeys(options[i] for i in used))
    if len(levels) > MOST_LEVELS:
        raise Refused(f"its masks make more than {MOST_LEVELS} different numbers")
    numbers = np.array([levels.index(options[i]) for i in used], np.int64)
    return Masked(value, numbers[np.ravel(back)].reshape(index.shape), tuple(levels))


def _ranked(index: IntArray, rank: int) -> IntArray:
    return index.reshape((1,) * (rank - index.ndim) + index.shape)


@of_masked("Mul", "Div")
def scaled(context: Context, node: Operation) -> Masked:
    """A mask times one constant above zero."""
    values = [context.value(n) for n in node.inputs]
    at = next(i for i, v in enumerate(values) if isinstance(v, Masked))
    x, other = values[at], values[1 - at]
    assert isinstance(x, Masked)
    factor = scalar(other.real()) if isinstance(other, Const | Fixed) else None
    if factor is None or factor <= 0 or (node.op == "Div" and at == 1):
        raise Refused("it scales a mask by other than one constant above zero; put the mask right in front of Softmax")
    factor = 1 / factor if node.op == "Div" else factor
    rank = len(x.shape)
    value = x.value.affine(spread(rationals(factor), rank), spread(ZERO, rank), x.shape)
    levels = tuple(Level(v.keeps, None if v.added is None else v.added * factor) for v in x.levels)
    return replace(x, value=value, levels=levels)


def moved(context: Context, node: Operation, handler: Handler) -> list[Value]:
    """What an operator that only moves elements makes of a mask: the expression moved, and the index alike."""
    name = next(n for n in node.inputs if isinstance(context.values.get(n), Masked))
    x = context.values[name]
    assert isinstance(x, Masked)
    if sum(isinstance(context.values.get(n), Masked | Expr) for n in node.inputs) > 1:
        raise Refused("it joins a mask with another tensor; put the mask right in front of the Softmax")
    parts: list[list[Value]] = []
    index = Fixed(np.ascontiguousarray(np.broadcast_to(x.index, x.shape)), rationals(1), ZERO)
    for part in (x.value, index):
        context.values[name] = part
        try:
            made = handler(context, node)
        finally:
            context.values[name] = x
        parts.append(list(made) if isinstance(made, list | tuple) else [made])  # type: ignore[list-item]
    out: list[Value] = []
    for value, where in zip(*parts, strict=True):
        assert isinstance(value, Expr)
        assert isinstance(where, Fixed)
        out.append(_simplified(value, where.codes, list(x.levels)))
    return out


def handler_of(op: Operation, usual: Handler | None) -> Handler | None:
    """What lowers a node that reads a mask; None if nothing does."""
    if op.op in MASKED:
        return MASKED[op.op]
    passes = op.op in MOVERS or op.op in ("Identity", "Dropout")
    passes |= op.op == "Cast" and int(op.attributes.get("to", 1)) in FLOATS
    if passes and usual is not None:
        return lambda context, node: moved(context, node, usual)
    return None


def written_out(x: Masked, least: Fraction | None = None) -> Expr:
    """The numbers themselves, `least` in the place of minus infinity.

    Raises Refused for minus infinity where there is no such number.
    """
    if least is None and any(level.added is None for level in x.levels):
        raise Refused("it reads minus infinity of a mask, which only a Softmax or a quantizer behind the mask may")
    rank = len(x.shape)
    factors = [Fraction(level.keeps) for level in x.levels]
    summands = [least if level.added is None else level.added for level in x.levels]
    a, b = (np.array(v, object)[x.index] for v in (factors, summands))
    return x.value.affine(spread(a, rank), spread(b, rank), x.shape)


def saturating(x: Masked, quantizer: Quantizer) -> Expr:
    """The numbers for a quantizer, whose least code minus infinity has."""
    if quantizer.bounds is None and not quantizer.bipolar:
        raise Refused("it quantizes minus infinity, and its zero point changes from channel to channel")
    low = -1 if quantizer.bounds is None else quantizer.bounds[0] - quantizer.after - 1
    below = np.asarray((low - quantizer.before) * quantizer.scale, object)
    return written_out(x, min(below.reshape(-1)))


def reach(x: Expr, context: Context) -> tuple[Fraction, Fraction]:
    """Bounds of every number that an expression can be."""
    low = high = np.asarray(x.offset, object)
    for name, scale in x.terms:
        info = context.graph.tensors[name]
        ends = np.asarray(scale * info.low, object), np.asarray(scale * info.high, object)
        low, high = low + np.minimum(*ends), high + np.maximum(*ends)
    least, most = Fraction(low.min()), Fraction(high.max())
    for step in x.steps:
        values = [None if v is None else (Fraction(v.min()), Fraction(v.max())) for v in step.values]
        first, last = values[0], values[-1]
        if step.kind == "affine":
            assert first is not None
            assert last is not None
            corners = [f * v for f in first for v in (least, most)]
            least, most = min(corners) + last[0], max(corners) + last[1]
        elif step.kind == "leaky":
            assert first is not None
            corners = [v if v >= 0 else v * f for f in first for v in (least, most)]
            corners += [Fraction(0)] if least < 0 < most else []
            least, most = min(corners), max(corners)
        else:
            if first is not None:
                least, most = max(least, first[0]), max(most, first[1])
            if last is not None:
                least, most = min(least, last[0]), min(most, last[1])
    return least, most


def seen_by_rows(
    x: Masked, ends: tuple[Fraction, Fraction], axes: list[int], bits: int
) -> tuple[IntArray, dict[int, list[Level | None]], IntArray]:
    """Which elements a Softmax sees: those whose entry of a table of `bits` bits isn't 0 whatever the integers are.

    Args:
        x: the masked expression.
        ends: bounds of its numbers without the mask.
        axes: of a row.
        bits: 2^bits is the table's first entry.

    Returns:
        the rows' kinds, an index array with axes of one for `axes`; of each kind its levels, None where one isn't seen;
        and 0 or 1 for each element, in the shape of `x.index`. An element that isn't seen lies more than
        (bits + 1) ln 2 below the largest of its row, so that 2^bits times its exponential is below 1/2.

    Raises Refused for a row that sees minus infinity alone.
    """
    present = [(x.index == k).any(axis=tuple(axes), keepdims=True) for k in range(len(x.levels))]
    rows = sum((p.astype(np.int64) << k for k, p in enumerate(present)), np.zeros((), np.int64))
    low, high = ends
    kinds: dict[int, list[Level | None]] = {}
    for kind in np.unique(rows).tolist():
        here = {k: level for k, level in enumerate(x.levels) if kind >> k & 1 and level.added is not None}
        if not here:
            raise Refused(
                "a row of its mask is minus infinity alone, whose Softmax is no number; let it see an element"
            )
        reached: dict[int, tuple[Fraction, Fraction]] = {}
        for k, v in here.items():
            assert v.added is not None
            reached[k] = (low + v.added, high + v.added) if v.keeps else (v.added, v.added)
        edge = max(least for least, _ in reached.values()) - (bits + 1) * LN2
        kinds[kind] = [x.levels[k] if k in here and reached[k][1] > edge else None for k in range(len(x.levels))]
    bitmap = np.array([sum((v is not None) << k for k, v in enumerate(kinds[kind])) for kind in sorted(kinds)])
    place = np.searchsorted(np.array(sorted(kinds)), rows)
    seen = bitmap[place] >> x.index & 1
    return rows, kinds, np.asarray(seen, np.int64)


def of_rows(x: Masked, rows: IntArray, kinds: dict[int, list[Level | None]]) -> Expr:
    """What the elements that are seen have beside the one that all of a row have, which cancels; others as they are."""
    changed: dict[tuple[int, int], tuple[Fraction, Fraction]] = {}
    for kind, levels in kinds.items():
        seen = {k: (v.keeps, v.added) for k, v in enumerate(levels) if v is not None}
        top = max(added for _, added in seen.values() if added is not None)
        for k, (keeps, added) in seen.items():
            if added is not None and (added != top or not keeps):
                changed[kind, k] = Fraction(keeps), added - top
    if not changed:
        return x.value
    factors, summands = (np.full(np.broadcast_shapes(rows.shape, x.index.shape), Fraction(f), object) for f in (1, 0))
    for (kind, k), (factor, summand) in changed.items():
        where = (rows == kind) & (x.index == k)
        factors[where], summands[where] = factor, summand
    rank = len(x.shape)
    return x.value.affine(spread(factors, rank), spread(summands, rank), x.shape)
