"""Rounding decided exactly: from a tensor to the integer codes of a quantizer.

The real number y = x / scale + shift is rounded by one of QONNX's modes and clamped to [low, high]. On a grid with
a power-of-two ratio y is exact in floating point. Otherwise y carries an error bound: where both ends of its interval
round to the same code that code is proven (every mode is monotone); the other elements are worked out as exact
fractions, once per distinct value where the tensor knows its elements, element by element where it does not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.rational import each, floats, full_rank, is_dyadic
from intsim.verification.reference.tensor import EXACT, ROUNDOFF, Tensor, grid, inexact, move, position


@dataclass(frozen=True)
class Rounding:
    """One mode: on float arrays (exactly, without adding a half) and on a fraction."""

    floats: Callable[[np.ndarray], np.ndarray]
    exact: Callable[[Fraction], int]


def _toward(x: np.ndarray, half: bool) -> np.ndarray:
    """To nearest, ties away from zero (`half`) or towards zero; x - trunc(x) is exact, x + 0.5 would not be."""
    whole = np.trunc(x)
    rest = np.abs(x - whole)
    return whole + np.sign(x) * (rest >= 0.5 if half else rest > 0.5)


def _away(x: Fraction) -> int:
    return math.ceil(x) if x > 0 else math.floor(x)


def _half(x: Fraction, up: bool) -> int:
    size = math.floor(abs(x) + Fraction(1, 2)) if up else math.ceil(abs(x) - Fraction(1, 2))
    return size if x > 0 else -size


_MODES = {
    "HALF_EVEN": Rounding(np.rint, round),
    "ROUND": Rounding(np.rint, round),
    "CEIL": Rounding(np.ceil, math.ceil),
    "FLOOR": Rounding(np.floor, math.floor),
    "UP": Rounding(lambda x: np.sign(x) * np.ceil(np.abs(x)), _away),
    "DOWN": Rounding(np.trunc, math.trunc),
    "HALF_UP": Rounding(lambda x: _toward(x, True), lambda x: _half(x, True)),
    "HALF_DOWN": Rounding(lambda x: _toward(x, False), lambda x: _half(x, False)),
    # 1-bit signed Quant and BipolarQuant: +1 from zero on, -1 below
    "BIPOLAR": Rounding(lambda x: np.where(x >= 0, x.dtype.type(1), x.dtype.type(-1)), lambda x: 1 if x >= 0 else -1),
}


def rounding(mode: str) -> Rounding:
    """The mode of that name as QONNX spells it (case doesn't matter)."""
    if mode.upper() not in _MODES:
        raise IntsimError(f"rounding mode {mode!r} is not one of {', '.join(sorted(_MODES)[1:])}")
    return _MODES[mode.upper()]


@dataclass
class Quantized:
    """What one quantizer node produced.

    `codes` int64-valued floats; `scale`, `zero_point` object arrays of Fraction that broadcast against them; `tensor`
    what flows on; `undecided` elements needed more than floating point, `fractions` of them one fraction each;
    `low`, `high` the limits of the codes; `unrounded(i)` the exact number before clamping and rounding.
    `integer` is True where the node's output holds the codes themselves (QuantizeLinear) and not their real values,
    `bipolar` where the codes are -1 and +1 only.
    """

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    tensor: Tensor
    low: np.ndarray
    high: np.ndarray
    unrounded: Callable[[int], Fraction]
    undecided: int = 0
    fractions: int = 0
    integer: bool = False
    bipolar: bool = False


def on_codes(codes: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> Tensor:
    """The real values (codes - zero_point) * scale as a tensor: on its grid where 53 bits hold that, else bounded."""
    if not any(zero_point.flat):
        return grid(codes, scale)
    common = math.lcm(*(z.denominator for z in zero_point.flat))
    shift = each(lambda z: int(z * common), zero_point)
    wide = codes.astype(np.float64)
    reach = int(np.abs(wide).max(initial=0)) * common + max(map(abs, shift.flat))
    if reach <= EXACT:
        n = wide * common - full_rank(shift.astype(np.float64), codes.ndim)
        return grid(n, each(lambda s: s / common, scale))
    # a zero point of 2^-126 and a code don't fit one float: a fraction an element, and what float64 makes of it
    zeros, steps = (full_rank(a, codes.ndim) for a in (zero_point, scale))
    offset, step = floats(zeros), floats(steps)
    error = 2 * ROUNDOFF * (np.abs(wide) + np.abs(offset)) * step

    def element(i: int) -> Fraction:
        return (int(wide.flat[i]) - element_of(zeros, i, codes.shape)) * element_of(steps, i, codes.shape)

    return inexact((wide - offset) * step, error, element)


def element_of(parameter: np.ndarray, i: int, shape: tuple[int, ...]) -> Fraction:
    """Of a parameter that broadcasts to a shape, at a flat index."""
    return Fraction(np.broadcast_to(parameter, shape)[np.unravel_index(i, shape)])


def positive(scale: np.ndarray) -> None:
    """Raise IntsimError where a scale is not."""
    if any(s <= 0 for s in scale.flat):
        raise IntsimError("the scale has to be positive")


@dataclass(frozen=True)
class _Rule:
    """Codes of round(clamp(x / scale + shift, low, high)), all of one rank."""

    scale: np.ndarray
    shift: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mode: Rounding

    def codes(self, y: np.ndarray) -> np.ndarray:
        """Of x / scale + shift. Limits are integers, so clamping after rounding equals clamping before."""
        codes = np.asarray(self.mode.floats(y))
        if self.mode is _MODES["BIPOLAR"]:
            return codes
        return np.clip(codes, self.low.astype(codes.dtype), self.high.astype(codes.dtype))

    def code(self, value: Fraction, at: tuple[int, ...]) -> int:
        """Of one exact number, by the parameters at an index."""
        whole = self.mode.exact(value / self.scale[at] + self.shift[at])
        return whole if self.mode is _MODES["BIPOLAR"] else min(max(whole, int(self.low[at])), int(self.high[at]))


def quantize(
    x: Tensor, scale: np.ndarray, shift: np.ndarray, low: np.ndarray, high: np.ndarray, mode: Rounding
) -> tuple[np.ndarray, int, int, Tensor]:
    """Codes of round(clamp(x / scale + shift, low, high)).

    Args:
        x: the tensor; broadcast against the other arguments where these are larger.
        scale: positive Fractions, broadcastable.
        shift: Fractions added before rounding, broadcastable.
        low: integer-valued float64 limits, broadcastable.
        high: the same.
        mode: the rounding mode.

    Returns:
        Integer-valued float codes, how many elements floating point left undecided, how many of these were worked
        out one by one, and x as broadcast.
    """
    positive(scale)
    if (
        max(float(high.max()), -float(low.min())) > EXACT
        and x.size
        and float(np.abs(x.approx()[0]).max()) > 2.0**50 * min(floats(scale).flat)
    ):
        raise IntsimError("codes beyond 2^50 are not evaluated")
    if x.v is not None and np.isneginf(x.v).any():
        x = _saturating(x)
    shape = np.broadcast_shapes(x.shape, scale.shape, shift.shape, low.shape)
    if shape != x.shape:
        x = move([x], lambda a: np.broadcast_to(a, shape))
    if not shape:
        codes, undecided, single, _ = quantize(move([x], lambda a: a.reshape(1)), scale, shift, low, high, mode)
        return codes.reshape(()), undecided, single, x
    rank = len(shape)
    scale, shift, low, high = (full_rank(a, rank) for a in (scale, shift, low, high))
    rule = _Rule(scale, shift, low, high, mode)
    if x.on_grid:
        n, s = x.integers()
        ratio = each(lambda a, b: a / b, s, scale)
        widest = max((abs(z) for z in shift.flat), default=Fraction(0))
        top = float(max((abs(r.numerator) * max(x.bound, 1.0) + widest * r.denominator for r in ratio.flat), default=0))
        if max((r.denominator for r in ratio.flat), default=1) > 2**60:
            top = max(top, 2.0**53)  # float32 would leave its normal range
        dyadic = all(is_dyadic(r) for r in ratio.flat) and all(z.denominator == 1 for z in shift.flat)
        if dyadic and top <= EXACT:
            held = x.held(top)
            y = held * floats(ratio).astype(held.dtype)
            if any(shift.flat):
                y = y + floats(shift).astype(held.dtype)
            return rule.codes(y), 0, 0, x
        y = np.asarray(n.astype(np.float64) * floats(ratio))
        # beyond 2^53 the integer itself is rounded as well
        e = np.abs(y) * ((1.01 if x.bound <= EXACT else 2.01) * ROUNDOFF)
    else:
        v, error = x.approx()
        divisor = floats(scale)
        y = v / divisor
        e = np.abs(y) * (1.01 * ROUNDOFF)
        if error is not None:
            e = e + error / divisor * 1.001
    if any(shift.flat):
        offset = floats(shift)
        told = full_rank(each(lambda z, f: Fraction(float(f)) == z, shift, offset), rank).astype(bool)
        e = np.where((e == 0) & (y == 0) & told, 0.0, e + 3 * ROUNDOFF * (np.abs(y) + np.abs(offset)))
        y = y + offset
    # the rounding of y - e and y + e themselves
    e = e * 1.001 + np.where(e > 0, ROUNDOFF * np.abs(y), 0.0)
    codes = rule.codes(y - e)
    doubt = np.nonzero(~(codes == rule.codes(y + e)))
    return codes, len(doubt[0]), _resolve(x, codes, doubt, rule), x


def _saturating(x: Tensor) -> Tensor:
    """Minus infinity as a number that every quantizer clamps."""
    v, e = x.bounded()
    hidden = np.isneginf(v)
    far = Fraction(-(2**290))
    return inexact(
        np.where(hidden, float(far), v),
        np.where(hidden, 0.0, e),
        lambda i: far if hidden.flat[i] else x.fraction(i),
        x.kind,
    )


def _resolve(x: Tensor, codes: np.ndarray, doubt: tuple[np.ndarray, ...], rule: _Rule) -> int:
    """Work out the undecided elements exactly, in place; return how many had to be done one by one."""
    if not len(doubt[0]):
        return 0
    grid_scale = rule.scale if x.s is None else x.s
    arrays = np.broadcast_arrays(rule.scale, rule.shift, rule.low, rule.high, grid_scale)
    scale, shift, low, high, grid_scale = arrays
    rule, params = _Rule(scale, shift, low, high, rule.mode), scale.shape
    channel = np.broadcast_to(np.arange(scale.size).reshape(params), x.shape)[doubt]
    if x.on_grid:
        values = x.integers()[0][doubt]
        known = np.full(len(values), x.bound <= EXACT)
    else:
        v, e = x.approx()
        values = v[doubt]
        known = np.ones(len(values), bool) if e is None else e[doubt] == 0
    worked = np.empty(len(values), codes.dtype)
    pairs = np.stack([values[known].astype(np.float64), channel[known]])
    distinct, back = np.unique(pairs, axis=1, return_inverse=True)
    answers = []
    for number, cell in distinct.T:
        at = position(int(cell), params)
        exact = int(number) * grid_scale[at] if x.s is not None else Fraction(float(number))
        answers.append(rule.code(exact, at))
    worked[known] = np.array(answers, codes.dtype)[np.ravel(back)] if answers else worked[known]
    for k in np.nonzero(~known)[0]:
        exact = x.at(tuple(int(d[k]) for d in doubt))
        worked[k] = rule.code(exact, position(int(channel[k]), params))
    codes[doubt] = worked
    return int((~known).sum())
