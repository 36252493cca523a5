"""From real values to integer codes: constants exactly, host values at a boundary, expressions by a requantizer."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.rounding import round_fraction
from intsim.frontend.context import Boundary, Context
from intsim.frontend.expression import Const, Curve, Expr, Fixed, Host, Value, compress, spread
from intsim.frontend.parameters import as_array, check_fit
from intsim.frontend.reader import Operation
from intsim.frontend.tables import tabulate
from intsim.graph import Rationals, rationals

SMALL = 1 << 12
"""Elements of a cell below which numpy is as quick as a compiled loop."""
SHIFTS = {"floor": -0.5, "ceil": 0.5} | dict.fromkeys(("half_even", "half_away", "half_toward_zero", "half_up"), 0.0)
"""Added before rounding to the nearest, what makes it each mode away from its decision points."""


def quantized(
    context: Context,
    node: Operation,
    scale: Rationals,
    before: Rationals,
    after: int,
    rounding: str,
    kind: IntegerType,
    bounds: tuple[int, int] | None = None,
    output: str | None = None,
) -> Value:
    """Quantize the node's first input; the value is `(y - before - after) * scale`."""
    value, output = context.value(node.inputs[0]), output or node.outputs[0]
    check_fit(context, value, scale, before)
    low, high = bounds or (kind.min, kind.max)
    meaning = (scale, as_array(-(before + after) * scale))
    if isinstance(value, Host):
        boundary = Boundary(output, value.name, scale, before, after, rounding, low, high)
        return context.host_input(boundary, context.host_shape(value.name), kind, meaning)
    if isinstance(value, Const):
        codes = quantize_constant(value.array, scale, before, after, rounding, low, high)
        return Fixed(
            codes, compress(spread(scale, codes.ndim)), compress(spread(as_array(meaning[1]), codes.ndim)), kind
        )
    if isinstance(value, Fixed):
        codes = quantize_rationals(value.real(), scale, before, after, rounding, low, high)
        return Fixed(
            codes, compress(spread(scale, codes.ndim)), compress(spread(as_array(meaning[1]), codes.ndim)), kind
        )
    if isinstance(value, Curve):
        return tabulate(context, value, scale, before, after, rounding, low, high, kind, output, meaning)
    assert isinstance(value, Expr)
    return context.quantize(value, scale, before, after, rounding, low, high, kind, output, meaning)


def quantize_constant(
    array: np.ndarray,
    scale: Rationals,
    before: Rationals,
    after: int,
    rounding: str,
    low: int,
    high: int,
    kind: type[np.integer[Any]] = np.int64,
) -> np.ndarray:
    """Exact codes of a float array, `clip(round(array / scale + before) + after, low, high)`; `kind` must hold them.

    float64 decides far from ties and integers, rationals decide near them.
    """
    x = np.asarray(array)
    rows = (
        _rows(x, scale, before) if rounding in SHIFTS and max(abs(low - after), abs(high - after)) < 1 << 20 else None
    )
    if rows is None:
        codes = _quantize_any(x, scale, before, after, rounding, low, high).astype(kind)
        return codes.reshape(x.shape) if codes.size == x.size else codes  # parameters without axes have one here
    out = np.empty(rows[0].shape, kind)
    for index in np.ndindex(*out.shape[:2]):
        parameters = rows[1][index[1]], rows[2][index[1]], after, rounding, low, high
        _quantize_row(rows[0][index], out[index], *parameters)
    return out.reshape(x.shape)


def warm() -> None:
    """Run the compiled quantizer once for every type of input and of codes that a host boundary has."""
    for given in (np.float32, np.float64):
        x = np.linspace(-9, 9, SMALL, dtype=given)
        for kind in (np.uint8, np.int8, np.int64):
            quantize_constant(x, rationals(0.1), rationals(0), 0, "half_even", 0, 100, kind)


def _rows(
    x: np.ndarray, scale: Rationals, before: Rationals
) -> tuple[np.ndarray, list[Fraction], list[Fraction]] | None:
    """A large array as (outer, cells, inner), and each cell's parameters; None if cells aren't one axis, or small."""
    shape = np.broadcast_shapes(scale.shape, before.shape)
    full = (1,) * (x.ndim - len(shape)) + shape
    wide = [axis for axis, size in enumerate(full) if size > 1]
    if x.size < SMALL or len(full) != x.ndim or len(wide) > 1:
        return None
    axis = wide[0] if wide else 0
    cells = full[axis]
    inner = prod(x.shape[axis + 1 :]) if wide else x.size
    if cells != (x.shape[axis] if wide else 1) or inner < SMALL:
        return None
    scales, zeros = (np.broadcast_to(v, shape).reshape(-1).tolist() for v in (scale, before))
    plain = all(2.0**-500 < s < 2.0**500 and abs(b) < 1 << 20 for s, b in zip(scales, zeros, strict=True))
    if not plain or x.dtype.kind not in "fiu":
        return None
    x = np.ascontiguousarray(x, x.dtype if x.dtype in (np.float32, np.float64) else np.float64)
    return x.reshape(-1, cells, inner), scales, zeros


def _quantize_row(
    row: np.ndarray,
    out: np.ndarray,
    scale: Fraction,
    before: Fraction,
    after: int,
    rounding: str,
    low: int,
    high: int,
) -> None:
    """Codes of one cell's values.

    `w = x / scale + before`, moved by half where the rounding isn't to the nearest, is off by less than 2^-48 times
    its largest part. Further than that from a tie, its nearest integer is the code. What the clip takes is no tie
    there, and the true value is on the same side of it.
    """
    from intsim.frontend.nearest import BLOCK, nearest_codes  # here: most users of this room need no compiler

    sure = 0.5 - 2.0**-46 * float(max(abs(low - after), abs(high - after)) + 2 * abs(before) + 2)
    if rounding == "half_even" and not before and scale.numerator.bit_count() == scale.denominator.bit_count() == 1:
        sure = 1.0  # w is exact, ties as well
    factor, shift = 1 / float(scale), float(before) + SHIFTS[rounding]
    doubtful = np.empty(-(-row.size // BLOCK), np.bool_)
    nearest_codes(row, out, doubtful, factor, shift, low - after - 0.25, high - after + 0.25, sure, after)
    left = [np.zeros(0, np.int64)]
    for start in np.flatnonzero(doubtful) * BLOCK:
        with np.errstate(over="ignore"):
            w = row[start : start + BLOCK].astype(np.float64) * factor + shift
        w = np.clip(w, low - after - 0.25, high - after + 0.25)
        left.append(start + np.flatnonzero(~(np.abs(w - np.rint(w)) < sure)))
    index = np.concatenate(left)
    if not index.size:
        return
    values, inverse = np.unique(row[index], return_inverse=True)
    out[index] = _quantize_any(values, rationals(scale), rationals(before), after, rounding, low, high)[inverse]


def _quantize_any(
    array: np.ndarray, scale: Rationals, before: Rationals, after: int, rounding: str, low: int, high: int
) -> np.ndarray:
    """Any array and parameters that broadcast with it.

    x / scale in float64 carries a relative error of at most 2**-53, the sum with the zero point another; anything
    further than 2**-48 * (|x / scale| + |zero| + 1) from a multiple of 1/2 rounds the same in every mode.
    """
    x = np.asarray(array, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are clear of ties
        ratio = x / np.asarray(scale, np.float64)
        shifted = np.asarray(ratio + np.asarray(before, np.float64))
        cells = 2 * shifted
        nearest = np.rint(cells)
        doubtful = np.abs(cells - nearest) <= 2.0**-46 * (np.abs(ratio) + np.abs(np.asarray(before, np.float64)) + 1)
    if rounding.startswith("half"):
        doubtful &= nearest % 2 != 0
    with np.errstate(invalid="ignore"):  # where a host function has no value there is no code; its caller looks
        codes = np.asarray(_round_clear(np.clip(shifted, low - after - 1, high - after + 1), rounding))
    if doubtful.any():
        index = np.nonzero(np.broadcast_to(doubtful, codes.shape))
        parameters = [np.broadcast_to(v, codes.shape)[index] for v in (x, scale, before)]
        known: dict[tuple[float, Fraction, Fraction], int] = {}
        exact = np.empty(len(index[0]) if index else 1, np.int64)
        for i, key in enumerate(zip(*parameters, strict=True)):
            if key not in known:
                y = round_fraction(Fraction(float(key[0])) / key[1] + key[2], rounding)
                known[key] = max(min(y, high - after), low - after)
            exact[i] = known[key]
        codes[index] = exact
    return np.clip(codes + after, low, high)


def _round_clear(v: np.ndarray, rounding: str) -> np.ndarray:
    """Rounding of values known to be away from ties and integers."""
    if rounding in ("half_even", "half_away", "half_toward_zero", "half_up"):
        return np.rint(v).astype(np.int64)
    rule: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "toward_zero": np.trunc,
        "away": lambda x: np.copysign(np.ceil(np.abs(x)), x),
    }
    return rule[rounding](v).astype(np.int64)


def quantize_rationals(
    real: Rationals, scale: Rationals, before: Rationals, after: int, rounding: str, low: int, high: int
) -> np.ndarray:
    """Exact codes of an array of rationals."""
    shifted = np.asarray(real / scale + before)
    flat = [max(min(round_fraction(v, rounding) + after, high), low) for v in shifted.reshape(-1)]
    return np.array(flat, np.int64).reshape(real.shape if shifted.size == real.size else shifted.shape)
