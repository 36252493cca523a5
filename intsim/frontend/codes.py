"""From real values to integer codes: constants exactly, host values at a boundary, expressions by a requantizer."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.rounding import round_fraction
from intsim.frontend.context import Boundary, Context, spread
from intsim.frontend.expression import Const, Expr, Fixed, Host, Value, compress
from intsim.frontend.parameters import as_array, check_fit
from intsim.frontend.reader import Operation
from intsim.graph import Rationals


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
    assert isinstance(value, Expr)
    return context.quantize(value, scale, before, after, rounding, low, high, kind, output, meaning)


def quantize_constant(
    array: np.ndarray, scale: Rationals, before: Rationals, after: int, rounding: str, low: int, high: int
) -> np.ndarray:
    """Exact codes of a float array: float64 decides far from ties and integers, rationals decide near them.

    x / scale in float64 carries a relative error of at most 2**-53, the sum with the zero point another; anything
    further than 2**-48 * (|x / scale| + |zero| + 1) from a multiple of 1/2 rounds the same in every mode.
    """
    x = np.asarray(array, np.float64)
    ratio = x / np.asarray(scale, np.float64)
    shifted = np.asarray(ratio + np.asarray(before, np.float64))
    cells = 2 * shifted
    nearest = np.rint(cells)
    doubtful = np.abs(cells - nearest) <= 2.0**-46 * (np.abs(ratio) + np.abs(np.asarray(before, np.float64)) + 1)
    if rounding.startswith("half"):
        doubtful &= nearest % 2 != 0
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
    return np.array(flat, np.int64).reshape(shifted.shape)
