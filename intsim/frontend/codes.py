"""From real values to integer codes: constants exactly, host values at a boundary, expressions by a requantizer."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from intsim.frontend.context import Context, Meaning, Quantizer
from intsim.frontend.expression import ZERO, Const, Curve, Expr, Fixed, Host, Value, compress, spread
from intsim.frontend.parameters import check_fit
from intsim.frontend.reader import Operation
from intsim.frontend.single import before, remember
from intsim.frontend.tables import tabulate
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
        codes = constant_codes(value, quantizer)
        scale, offset = (compress(spread(m, codes.ndim)) for m in quantizer.meaning)
        return Fixed(codes, scale, offset, quantizer.kind)
    assert isinstance(value, Expr | Curve)
    made = requantized(context, value, quantizer, output)
    remember(context, made, quantizer, before(context, node))
    return made


def requantized(
    context: Context, value: Expr | Curve, quantizer: Quantizer, onnx: str | None, meaning: Meaning | None = None
) -> Expr:
    """Codes of integers: a requantizer, or a table of a function; arguments as of `Context.quantize`."""
    if isinstance(value, Curve):
        made = tabulate(context, value, quantizer, onnx, meaning)
        context.stated.add(made.tensor)
        return made
    return context.quantize(value, quantizer, onnx, meaning)


def constant_codes(value: Const | Fixed, quantizer: Quantizer) -> np.ndarray:
    """Exact codes of a constant."""
    if isinstance(value, Const):
        return quantize_constant(value.array, quantizer)
    real = value.real()
    shifted = np.asarray(real / quantizer.scale + quantizer.before)
    codes = np.array([quantizer.code(v) for v in shifted.reshape(-1)], np.int64)
    return codes.reshape(real.shape if shifted.size == real.size else shifted.shape)


def quantize_constant(array: np.ndarray, q: Quantizer, kind: type[np.integer[Any]] = np.int64) -> np.ndarray:
    """Exact codes of a float array; `kind` must hold them, and the quantizer have bounds.

    float64 decides far from ties and integers, rationals decide near them.
    """
    if q.thresholds is not None:
        return _reached(np.asarray(array), q.thresholds).astype(kind)
    if q.bipolar:  # 0 from zero on, else -1: twice that and one
        return 2 * quantize_constant(array, replace(q, rounding="floor", bounds=(-1, 0), bipolar=False), kind) + 1
    x = np.asarray(array)
    rows = _rows(x, q)
    if rows is None:
        codes = _quantize_any(x, q).astype(kind)
        return codes.reshape(x.shape) if codes.size == x.size else codes  # parameters without axes have one here
    out = np.empty(rows[0].shape, kind)
    for index in np.ndindex(*out.shape[:2]):
        _quantize_row(rows[0][index], out[index], rows[1][index[1]])
    return out.reshape(x.shape)


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


def _quantize_row(row: np.ndarray, out: np.ndarray, q: Quantizer) -> None:
    """Codes of one cell's values.

    `w = x / scale + before`, moved by half where the rounding isn't to the nearest, is off by less than 2^-48 times
    its largest part. Further than that from a tie, its nearest integer is the code. What the clip takes is no tie
    there, and the true value is on the same side of it.
    """
    from intsim.frontend.nearest import BLOCK, nearest_codes  # here: most users of this room need no compiler

    (low, high), scale, before = _around(q), q.scale.item(), q.before.item()
    sure = 0.5 - 2.0**-46 * float(max(abs(low), abs(high)) + 2 * abs(before) + 2)
    if q.rounding == "half_even" and not before and scale.numerator.bit_count() == scale.denominator.bit_count() == 1:
        sure = 1.0  # w is exact, ties as well
    factor, shift = 1 / float(scale), float(before) + SHIFTS[q.rounding]
    doubtful = np.empty(-(-row.size // BLOCK), np.bool_)
    nearest_codes(row, out, doubtful, factor, shift, low - 0.25, high + 0.25, sure, q.after)
    left = [np.zeros(0, np.int64)]
    for start in np.flatnonzero(doubtful) * BLOCK:
        with np.errstate(over="ignore"):
            w = row[start : start + BLOCK].astype(np.float64) * factor + shift
        w = np.clip(w, low - 0.25, high + 0.25)
        left.append(start + np.flatnonzero(~(np.abs(w - np.rint(w)) < sure)))
    index = np.concatenate(left)
    if not index.size:
        return
    values, inverse = np.unique(row[index], return_inverse=True)
    out[index] = _quantize_any(values, q)[inverse]


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
        known: dict[tuple[float, Fraction, Fraction], int] = {}
        exact = np.empty(len(index[0]), np.int64)
        for i, key in enumerate(
            zip(*(np.broadcast_to(v, codes.shape)[index] for v in (x, q.scale, q.before)), strict=True)
        ):
            if key not in known:
                known[key] = q.code(Fraction(float(key[0])) / key[1] + key[2])
            exact[i] = known[key]
        codes[index] = exact
    return codes


def _round_clear(v: np.ndarray, rounding: str) -> np.ndarray:
    """Rounding of values known to be away from ties and integers."""
    if rounding == "away":
        return np.copysign(np.ceil(np.abs(v)), v).astype(np.int64)
    rule = {"floor": np.floor, "ceil": np.ceil, "toward_zero": np.trunc}.get(rounding, np.rint)
    return np.asarray(rule(v)).astype(np.int64)
