"""From real values to integer codes: constants exactly, host values at a boundary, expressions by a requantizer."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any, NamedTuple

import numpy as np

from intsim.frontend.context import Context, Meaning, Quantizer
from intsim.frontend.distinct import cell_numbers, of_distinct, of_pairs
from intsim.frontend.expression import (
    ZERO,
    Const,
    Curve,
    Expr,
    Fixed,
    Host,
    Masked,
    Value,
    Waiting,
    compress,
    spread,
)
from intsim.frontend.masks import saturating
from intsim.frontend.parameters import check_fit
from intsim.frontend.reader import Operation
from intsim.frontend.single import before, remember
from intsim.frontend.tables import tabulate
from intsim.frontend.waiting import rounded
from intsim.graph import rationals

SMALL = 1 << 12
"""Elements of a cell below which numpy is as quick as a compiled loop."""
SHIFTS = {"floor": -0.5, "ceil": 0.5} | dict.fromkeys(("half_even", "half_away", "half_toward_zero", "half_up"), 0.0)
"""Added before rounding to the nearest, what makes it each mode away from its decision points."""


def quantized(context: Context, node: Operation, quantizer: Quantizer, output: str | None = None) -> Value:
    """The codes of the node's first input, as `output` or its first output."""
    value, output = context.value(node.inputs[0]), output or node.outputs[0]
    check_fit(context, value, quantizer.scale, quantizer.before)
    if isinstance(value, Host):
        return context.host_input(value.name, quantizer, output)
    if isinstance(value, Const | Fixed):
        quantizer = replace(quantizer, scale=compress(quantizer.scale), before=compress(quantizer.before))
        codes = constant_codes(value, quantizer)
        scale, offset = (compress(spread(m, codes.ndim)) for m in quantizer.meaning)
        return Fixed(codes, scale, offset, quantizer.kind)
    if isinstance(value, Masked):
        return context.quantize(saturating(value, quantizer), quantizer, output)
    assert isinstance(value, Expr | Curve | Waiting)
    made = requantized(context, value, quantizer, output)
    remember(context, made, quantizer, before(context, node))
    return made


def requantized(
    context: Context,
    value: Expr | Curve | Waiting,
    quantizer: Quantizer,
    onnx: str | None,
    meaning: Meaning | None = None,
) -> Expr:
    """Codes of integers: a requantizer, or a table of a function, of each part of those that were moved before.

    Arguments as of `Context.quantize`.
    """
    if isinstance(value, Waiting):
        return rounded(
            context, value, quantizer, onnx, meaning, lambda part, q, m: requantized(context, part, q, None, m)
        )
    if isinstance(value, Curve):
        made = tabulate(context, value, quantizer, onnx, meaning)
        context.stated.add(made.tensor)
        return made
    return context.quantize(value, quantizer, onnx, meaning)


def constant_codes(value: Const | Fixed, quantizer: Quantizer) -> np.ndarray:
    """Exact codes of a constant."""
    if isinstance(value, Const):
        return quantize_constant(value.array, quantizer)
    parameters = (value.scale, value.offset, quantizer.scale, quantizer.before)

    def code(number: int, scale: Fraction, offset: Fraction, step: Fraction, before: Fraction) -> int:
        return quantizer.code((number * scale + offset) / step + before)

    given = np.atleast_1d(value.codes)
    codes = of_distinct(given, tuple(np.asarray(p, dtype=object) for p in parameters), code).astype(np.int64)
    shape = np.broadcast_shapes(given.shape, *(np.shape(p) for p in parameters[:2]))
    return codes.reshape(shape) if codes.size == prod(shape) else codes


def quantize_constant(array: np.ndarray, q: Quantizer, kind: type[np.integer[Any]] = np.int64) -> np.ndarray:
    """Exact codes of a float array; `kind` must hold them, and the quantizer have bounds.

    float64 decides far from ties and integers, rationals decide near them.
    """
    if q.thresholds is not None:
        return _reached(np.asarray(array), q.thresholds).astype(kind)
    if q.bipolar:
        if q.bounds == (-1, 1) and q.after == 0 and not any(q.before.flat):
            return np.where(np.asarray(array) >= 0, 1, -1).astype(kind)  # scales are above zero
        # 0 from zero on, else -1: twice that and one
        return 2 * quantize_constant(array, replace(q, rounding="floor", bounds=(-1, 0), bipolar=False), kind) + 1
    x = np.asarray(array)
    rows = _rows(x, q)
    if rows is None:
        codes = _quantize_any(x, q).astype(kind)
        return codes.reshape(x.shape) if codes.size == x.size else codes  # parameters without axes have one here
    out = np.empty(rows[0].shape, kind)
    for index in np.ndindex(*out.shape[:2]):
        cell = rows[1][index[1]]
        _quantize_row(rows[0][index], out[index], cell, _loop(cell))
    return out.reshape(x.shape)


def quantize_input(array: np.ndarray, q: Quantizer, kind: type[np.integer[Any]]) -> np.ndarray:
    """As `quantize_constant`, by the compiled loop also where an array is small: whoever runs a model has a compiler.

    What the loop takes of a quantizer is kept with it.
    """
    if "loop" not in vars(q):
        vars(q)["loop"] = _loop(q) if _is_plain(q) else None
    loop: _Loop | None = vars(q)["loop"]
    x = np.asarray(array)
    if loop is None or x.dtype not in (np.float32, np.float64):
        return quantize_constant(array, q, kind)
    row = np.ascontiguousarray(x).reshape(-1)
    out = np.empty(row.size, kind)
    _quantize_row(row, out, q, loop)
    return out.reshape(x.shape)


def _is_plain(q: Quantizer) -> bool:
    """Whether the compiled loop takes a quantizer, of one cell."""
    if (
        q.bipolar
        or q.thresholds is not None
        or q.rounding not in SHIFTS
        or max(map(abs, _around(q))) >= 1 << 20
        or q.scale.size * q.before.size > 1
    ):
        return False
    return bool(2.0**-500 < q.scale.item() < 2.0**500 and abs(q.before.item()) < 1 << 20)


def _reached(x: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many thresholds (cells..., T) each number reaches: comparisons of floats, which are exact."""
    cells = thresholds.shape[:-1]
    if prod(cells) == 1:
        return np.searchsorted(thresholds.reshape(-1), x, side="right")
    axis = next(a for a, size in enumerate(cells) if size > 1)
    rows = np.moveaxis(x, axis, 0)
    counted = [
        np.searchsorted(t, row, side="right") for t, row in zip(thresholds.reshape(len(rows), -1), rows, strict=True)
    ]
    return np.moveaxis(np.stack(counted), 0, axis)


def warm() -> None:
    """Run the compiled quantizer once for every type of input and of codes that a host boundary has."""
    for given in (np.float32, np.float64):
        x = np.linspace(-9, 9, SMALL, dtype=given)
        for kind in (np.uint8, np.int8, np.int64):
            quantize_constant(x, Quantizer(rationals(0.1), ZERO, 0, "half_even", (0, 100)), kind)


def _around(q: Quantizer) -> tuple[int, int]:
    """The least and the greatest code, before `after` is added."""
    assert q.bounds is not None
    return q.bounds[0] - q.after, q.bounds[1] - q.after


def _rows(x: np.ndarray, q: Quantizer) -> tuple[np.ndarray, list[Quantizer]] | None:
    """A large array as (outer, cells, inner), and each cell's quantizer; None if cells aren't one axis, or small.

    None, too, for roundings and codes that the compiled loop doesn't take.
    """
    if q.rounding not in SHIFTS or max(map(abs, _around(q))) >= 1 << 20:
        return None
    shape = np.broadcast_shapes(q.scale.shape, q.before.shape)
    full = (1,) * (x.ndim - len(shape)) + shape
    wide = [axis for axis, size in enumerate(full) if size > 1]
    if x.size < SMALL or len(full) != x.ndim or len(wide) > 1:
        return None
    axis = wide[0] if wide else 0
    cells = full[axis]
    inner = prod(x.shape[axis + 1 :]) if wide else x.size
    if cells != (x.shape[axis] if wide else 1) or inner < SMALL:
        return None
    scales, zeros = (np.broadcast_to(v, shape).reshape(-1).tolist() for v in (q.scale, q.before))
    plain = all(2.0**-500 < s < 2.0**500 and abs(b) < 1 << 20 for s, b in zip(scales, zeros, strict=True))
    if not plain or x.dtype.kind not in "fiu":
        return None
    x = np.ascontiguousarray(x, x.dtype if x.dtype in (np.float32, np.float64) else np.float64)
    own = [replace(q, scale=rationals(s), before=rationals(b)) for s, b in zip(scales, zeros, strict=True)]
    return x.reshape(-1, cells, inner), own


class _Loop(NamedTuple):
    """What the compiled loop takes: `frontend.nearest`."""

    factor: float
    shift: float
    bottom: float
    top: float
    sure: float
    after: int
    short: tuple[np.float32, ...]


def _loop(q: Quantizer) -> _Loop:
    """The loop of a quantizer of one cell.

    `w = x / scale + before`, moved by half where the rounding isn't to the nearest, is off by less than 2^-48 times
    its largest part. Further than that from a tie, its nearest integer is the code. What the clip takes is no tie
    there, and the true value is on the same side of it.
    """
    (low, high), scale, before = _around(q), q.scale.item(), q.before.item()
    sure = 0.5 - 2.0**-46 * float(max(abs(low), abs(high)) + 2 * abs(before) + 2)
    if q.rounding == "half_even" and not before and scale.numerator.bit_count() == scale.denominator.bit_count() == 1:
        sure = 1.0  # w is exact, ties as well
    factor, shift, bottom, top = 1 / float(scale), float(before) + SHIFTS[q.rounding], low - 0.25, high + 0.25
    return _Loop(factor, shift, bottom, top, sure, q.after, _short(q, factor, shift, bottom, top))


def _short(q: Quantizer, factor: float, shift: float, bottom: float, top: float) -> tuple[np.float32, ...]:
    """The same in float32, where that decides most codes.

    Factor and shift are off by 2^-24 of themselves, as are product and sum: w by less than 2^-22 (|w| + |shift|). That
    is half of what `sure` leaves, at most, within the clip; beyond, it doesn't bring w back.
    """
    sure = 0.5 - 2.0**-21 * (max(abs(bottom), abs(top)) + abs(shift) + 1)
    usable = sure > 0.4 and 2.0**-60 < factor < 2.0**60 and abs(q.after) < 1 << 30
    return tuple(map(np.float32, (factor, shift, bottom, top, sure if usable else 0.0)))


def _quantize_row(row: np.ndarray, out: np.ndarray, q: Quantizer, loop: _Loop) -> None:
    """Codes of one cell's values."""
    from intsim.frontend.nearest import BLOCK, nearest_codes  # here: most users of this room need no compiler

    doubtful = np.empty(-(-row.size // BLOCK), np.bool_)
    short = loop.short if row.dtype == np.float32 else (*loop.short[:4], np.float32(0))
    nearest_codes(row, out, doubtful, short, *loop[:-1])
    if not doubtful.any():
        return
    left = [np.zeros(0, np.int64)]
    for start in np.flatnonzero(doubtful) * BLOCK:
        with np.errstate(over="ignore"):
            w = row[start : start + BLOCK].astype(np.float64) * loop.factor + loop.shift
        w = np.clip(w, loop.bottom, loop.top)
        left.append(start + np.flatnonzero(~(np.abs(w - np.rint(w)) < loop.sure)))
    index = np.concatenate(left)
    if not index.size:
        return
    values, inverse = np.unique(row[index], return_inverse=True)
    out[index] = _quantize_any(values, q).reshape(-1)[inverse]


def _quantize_any(array: np.ndarray, q: Quantizer) -> np.ndarray:
    """Any array and parameters that broadcast with it.

    x / scale in float64 carries a relative error of at most 2**-53, the sum with the zero point another; anything
    further than 2**-48 * (|x / scale| + |zero| + 1) from a multiple of 1/2 rounds the same in every mode.
    """
    x, before = np.asarray(array, np.float64), np.asarray(q.before, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are clear of ties
        ratio = x / np.asarray(q.scale, np.float64)
        shifted = np.asarray(ratio + before)
        cells = 2 * shifted
        nearest = np.rint(cells)
        doubtful = np.abs(cells - nearest) <= 2.0**-46 * (np.abs(ratio) + np.abs(before) + 1)
    if q.rounding.startswith("half"):
        doubtful &= nearest % 2 != 0
    low, high = _around(q)
    with np.errstate(invalid="ignore"):  # where a host function has no value there is no code; its caller looks
        codes = np.clip(_round_clear(np.clip(shifted, low - 1, high + 1), q.rounding), low, high) + q.after
    if doubtful.any():
        index = np.nonzero(np.broadcast_to(doubtful, codes.shape))
        cells = cell_numbers(np.broadcast_shapes(q.scale.shape, q.before.shape), codes.shape)[index]
        values = np.broadcast_to(x, codes.shape)[index]
        codes[index] = of_pairs(values, cells, (q.scale, q.before), lambda v, s, b: q.code(Fraction(v) / s + b))
    return codes


def _round_clear(v: np.ndarray, rounding: str) -> np.ndarray:
    """Rounding of values known to be away from ties and integers."""
    if rounding == "away":
        return np.copysign(np.ceil(np.abs(v)), v).astype(np.int64)
    rule = {"floor": np.floor, "ceil": np.ceil, "toward_zero": np.trunc}.get(rounding, np.rint)
    return np.asarray(rule(v)).astype(np.int64)
