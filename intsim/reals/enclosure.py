"""Functions of `interval` on float64 arrays: intervals that contain theirs, most of which already tell a table's entry.

`FUNCTIONS` has those of `intsim.reals.interval` that are known here, of (arguments, parameters): pairs of arrays, of
the lower and of the upper ends. Every operation is IEEE's own, off by at most 2^-53 of its result (2^-1075 where that
is less), and its ends are moved outwards by more than that. Where the real function has no value, or one beyond what is
evaluated here, the ends are NaN, and they stay so through every other function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import factorial, inf, nan, nextafter

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ends = tuple[Floats, Floats]
Parameter = Ends | None
SHARE, LEAST = 2.0**-51, 2.0**-1000
"""What ends move outwards by: a share of them, and no less than this."""
EXP_SHARE = 2.0**-45
"""The same of `_exp_near`, which is off by less than 2^-49 of its result."""
LARGEST = 700.0
"""exp is evaluated up to here."""
LN2_HIGH, LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
"""Their sum is ln 2 to 2^-85; the last 21 bits of the first are zero, so that multiples up to 2^21 are exact."""
DEGREE = 13


def of_fractions(values: Sequence[Fraction]) -> Ends:
    """(n, 1) ends of exact numbers; NaN where float64 has no room."""
    near = []
    for value in values:
        try:
            near.append(float(value))  # correctly rounded
        except OverflowError:
            near.append(nan)
    ends = [[nextafter(v, side) for v in near] for side in (-inf, inf)]
    low, high = (np.array(side, np.float64)[:, None] for side in ends)
    return low, high


def _outwards(low: Floats, high: Floats, share: float = SHARE) -> Ends:
    return low - (np.abs(low) * share + LEAST), high + (np.abs(high) * share + LEAST)


def add(x: Ends, y: Ends) -> Ends:
    """Sum."""
    return _outwards(x[0] + y[0], x[1] + y[1])


def multiply(x: Ends, y: Ends) -> Ends:
    """Product."""
    corners = [a * b for a in x for b in y]
    return _outwards(np.minimum.reduce(corners), np.maximum.reduce(corners))


def divide(x: Ends, y: Ends) -> Ends:
    """Quotient, NaN where the divisor may be zero."""
    apart = (y[0] > 0) | (y[1] < 0)
    inverse = _outwards(np.where(apart, 1 / y[1], nan), np.where(apart, 1 / y[0], nan))
    return multiply(x, inverse)


def _line(x: Ends, slope: Ends, constant: Ends) -> Ends:
    return add(multiply(x, slope), constant)


def _negative(x: Ends) -> Ends:
    return -x[1], -x[0]


def _magnitude(x: Ends) -> Ends:
    return np.maximum(np.maximum(x[0], -x[1]), 0.0), np.maximum(-x[0], x[1])


def _clamp(x: Ends, low: Parameter, high: Parameter) -> Ends:
    if low is not None:
        x = np.maximum(x[0], low[0]), np.maximum(x[1], low[1])
    if high is not None:
        x = np.minimum(x[0], high[0]), np.minimum(x[1], high[1])
    return x


def _parts(x: Ends) -> tuple[Ends, Ends]:
    """min(x, 0) and max(x, 0), whose sum is x."""
    return (np.minimum(x[0], 0.0), np.minimum(x[1], 0.0)), (np.maximum(x[0], 0.0), np.maximum(x[1], 0.0))


def _exp_near(x: Floats) -> Floats:
    """e^x for -LARGEST <= x <= LARGEST, off by less than 2^-49 of it.

    x = k ln 2 + r, |r| < 0.35, of which r is off by less than 2^-52; the series ends 2^-57 short of e^r, and Horner's
    scheme rounds by less than 2^-50 of a value between 0.7 and 1.42. The power of two is exact.
    """
    k = np.rint(x * (1 / (LN2_HIGH + LN2_LOW)))
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    total = np.full_like(r, 1 / factorial(DEGREE))
    for n in range(DEGREE - 1, -1, -1):
        total = total * r + 1 / factorial(n)
    return np.ldexp(total, np.nan_to_num(k).astype(np.int32))


def exp_enclosed(x: Ends) -> Ends:
    """e^x, NaN from `LARGEST` on."""
    inside = x[1] <= LARGEST
    low, high = (_exp_near(np.where(inside, np.maximum(v, -LARGEST), nan)) for v in x)
    low, high = _outwards(low, high, EXP_SHARE)
    return np.where(x[0] < -LARGEST, 0.0, np.maximum(low, 0.0)) + 0 * low, high


def _end(function: Callable[[Ends, Ends], Ends], x: Floats) -> Ends:
    """Bounds at single points, of |x| and e^-|x|."""
    size = np.abs(x)
    return function((x, x), exp_enclosed((-size, -size)))


def _rising(function: Callable[[Ends, Ends], Ends]) -> Callable[[Ends], Ends]:
    """A function that never falls, from its bounds at points."""
    return lambda x: (_end(function, x[0])[0], _end(function, x[1])[1])


def _sigmoid_at(x: Ends, t: Ends) -> Ends:
    """1 / (1 + t) from zero on, t / (1 + t) below; t = e^-|x|."""
    one = np.ones_like(t[0]), np.ones_like(t[0])
    below, above = (divide(part, add(one, t)) for part in (t, one))
    return np.where(x[0] < 0, below[0], above[0]), np.where(x[0] < 0, below[1], above[1])


def _tanh_at(x: Ends, t: Ends) -> Ends:
    """(1 - t^2) / (1 + t^2), with the sign of x."""
    one = np.ones_like(t[0]), np.ones_like(t[0])
    square = multiply(t, t)
    size = divide(add(one, _negative(square)), add(one, square))
    less = _negative(size)
    return np.where(x[0] < 0, less[0], size[0]), np.where(x[0] < 0, less[1], size[1])


_sigmoid, _tanh = _rising(_sigmoid_at), _rising(_tanh_at)


def _sqrt(x: Ends) -> Ends:
    return _outwards(np.sqrt(x[0]), np.sqrt(x[1]))


def _leaky(x: Ends, slope: Ends) -> Ends:
    below, above = _parts(x)
    return add(multiply(below, slope), above)


def _elu(x: Ends, slope: Ends, alpha: Ends, rate: Ends) -> Ends:
    below, above = _parts(x)
    curve = add(multiply(exp_enclosed(multiply(below, rate)), alpha), _negative(alpha))
    # of x from zero on the curve is 0, which its ends hold as well
    return add(multiply(above, slope), curve)


def _hard_swish(x: Ends) -> Ends:
    sixth, half = of_fractions([Fraction(1, 6)]), of_fractions([Fraction(1, 2)])
    zero, one = of_fractions([Fraction(0)]), of_fractions([Fraction(1)])
    return multiply(x, _clamp(_line(x, sixth, half), zero, one))


def _square(x: Ends) -> Ends:
    size = _magnitude(x)
    return _outwards(size[0] * size[0], size[1] * size[1])


Function = Callable[[Sequence[Ends], Sequence[Parameter]], Ends]
FUNCTIONS: dict[str, Function] = {
    "affine": lambda x, p: _line(x[0], *_given(p)),
    "clamp": lambda x, p: _clamp(x[0], p[0], p[1]),
    "leaky": lambda x, p: _leaky(x[0], *_given(p)),
    "constant": lambda x, p: _given(p)[0],
    "add": lambda x, p: add(x[0], x[1]),
    "subtract": lambda x, p: add(x[0], _negative(x[1])),
    "multiply": lambda x, p: multiply(x[0], x[1]),
    "square": lambda x, p: _square(x[0]),
    "divide": lambda x, p: divide(x[0], x[1]),
    "maximum": lambda x, p: (np.maximum(x[0][0], x[1][0]), np.maximum(x[0][1], x[1][1])),
    "minimum": lambda x, p: (np.minimum(x[0][0], x[1][0]), np.minimum(x[0][1], x[1][1])),
    "absolute": lambda x, p: _magnitude(x[0]),
    "exp": lambda x, p: exp_enclosed(x[0]),
    "sqrt": lambda x, p: _sqrt(x[0]),
    "tanh": lambda x, p: _tanh(x[0]),
    "sigmoid": lambda x, p: _sigmoid(x[0]),
    "elu": lambda x, p: _elu(x[0], *_given(p)),
    "hard_swish": lambda x, p: _hard_swish(x[0]),
}
"""Name to function of (arguments, parameters), both pairs of arrays that broadcast; a parameter may be None."""


def _given(parameters: Sequence[Parameter]) -> list[Ends]:
    return [p for p in parameters if p is not None]


def rounds_to(value: Ends, rounding: str) -> tuple[Floats, NDArray[np.bool_]]:
    """What every number of an interval rounds to, and where that is one integer; ends beyond 2^51 tell nothing."""
    low, high = value
    near = [np.rint(v) for v in value]
    if rounding.startswith("half"):
        # strictly inside, where no rule of ties matters; such differences are exact
        inside = (np.abs(low - near[0]) < 0.5) & (np.abs(high - near[1]) < 0.5)
    else:
        rules: dict[str, Callable[[Floats], Floats]] = {
            "floor": np.floor,
            "ceil": np.ceil,
            "toward_zero": np.trunc,
            "away": _away,
        }
        rule = rules[rounding]
        near, inside = [rule(v) for v in value], np.ones(low.shape, bool)
    return near[0], inside & (near[0] == near[1]) & (np.abs(low) < 2.0**51) & (np.abs(high) < 2.0**51)


def _away(x: Floats) -> Floats:
    return np.copysign(np.ceil(np.abs(x)), x)
