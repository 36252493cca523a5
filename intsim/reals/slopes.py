"""Difference quotients of functions of one variable: where they have one sign the function is monotone.

For each name of `intsim.reals.interval.FUNCTIONS` there is an interval that contains every (f(y) - f(x)) / (y - x) for
x != y of an interval. Its ends may be infinite (a float): a jump has such quotients. By the mean value theorem what
contains the derivative contains the quotients; at a kink they lie between those of both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from intsim.reals import elementary, interval
from intsim.reals.elementary import ONE, ZERO
from intsim.reals.interval import FUNCTIONS, HALF, Interval, Unsettled, exactly

Slope = tuple[Any, Any]
"""Least and greatest quotient: Fractions, or infinite floats."""
ANY: Slope = (-math.inf, math.inf)
NONE: Slope = (ZERO, ZERO)
SAME: Slope = (ONE, ONE)
RISES: Slope = (ZERO, math.inf)


def _times(a: Any, b: Any) -> Any:
    """A product of ends, of which zero wins over infinity: an interval's quotients are finite numbers."""
    return ZERO if not a or not b else a * b


def _product(x: Sequence[Any], y: Sequence[Any]) -> Slope:
    corners = [_times(a, b) for a in set(x) for b in set(y)]
    return min(corners), max(corners)


def _sum(x: Slope, y: Slope) -> Slope:
    return x[0] + y[0], x[1] + y[1]


def _hull(*parts: Sequence[Any]) -> Slope:
    return min(p[0] for p in parts), max(p[1] for p in parts)


def _negated(x: Sequence[Any]) -> Slope:
    return -x[1], -x[0]


def _bent(x: Interval, edge: Fraction, below: Slope, above: Slope) -> Slope:
    """The slope of a function that has a kink at `edge`."""
    if x.low >= edge:
        return above
    return below if x.high <= edge else _hull(below, above)


def _clamped(x: Interval, low: Fraction | None, high: Fraction | None) -> Slope:
    if (low is not None and x.high <= low) or (high is not None and x.low >= high):
        return NONE
    inside = (low is None or x.low >= low) and (high is None or x.high <= high)
    return SAME if inside else (ZERO, ONE)


def _mirrored(x: Interval, falling: Callable[[Fraction], Interval]) -> Slope:
    """Of a derivative that is even and falls with the distance from zero."""
    far = max(abs(x.low), abs(x.high))
    near = ZERO if x.low <= 0 <= x.high else min(abs(x.low), abs(x.high))
    return falling(far).low, falling(near).high


def _value(name: str, bits: int, x: Interval, *parameters: Any) -> Interval:
    return FUNCTIONS[name](bits, [x], parameters)


def _sigmoid(bits: int, x: Interval) -> Slope:
    def at(v: Fraction) -> Interval:
        return interval.multiply(_value("sigmoid", bits, exactly(v)), _value("sigmoid", bits, exactly(-v)))

    return _mirrored(x, at)


def _tanh(bits: int, x: Interval) -> Slope:
    low, high = _sigmoid(bits, Interval(2 * x.low, 2 * x.high))  # tanh v = 2 sigmoid 2v - 1
    return 4 * low, 4 * high


def _erf(bits: int, x: Interval) -> Slope:
    root = _value("sqrt", bits, Interval(*elementary.pi_bounds(bits)))
    return _mirrored(x, lambda v: interval.divide(_value("exp", bits, exactly(-v * v)), _line(root, HALF)))


def _line(x: Interval, slope: Fraction, constant: Fraction = ZERO) -> Interval:
    return FUNCTIONS["affine"](0, [x], (slope, constant))


def _gelu(bits: int, x: Interval) -> Slope:
    """Phi(x) + x phi(x)."""
    root = _value("sqrt", bits, exactly(Fraction(2)))
    scaled = interval.divide(x, root)
    share = _line(_value("erf", bits, scaled), HALF, HALF)
    density = interval.divide(Interval(*_erf(bits, scaled)), _line(root, Fraction(2)))
    return interval.add(share, interval.multiply(x, density))


def _gelu_tanh(bits: int, x: Interval) -> Slope:
    """With t = tanh u: (1 + t) / 2 + x (1 - t^2) u' / 2."""
    pi = Interval(*elementary.pi_bounds(bits))
    root = _value("sqrt", bits, interval.divide(exactly(Fraction(2)), pi))
    cubic = Fraction(44715, 10**6)
    inner = interval.multiply(root, interval.add(x, _line(_value("power", bits, x, Fraction(3)), cubic)))
    growth = interval.multiply(root, _line(_value("square", bits, x), 3 * cubic, ONE))
    rest = interval.multiply(Interval(*_tanh(bits, inner)), growth)
    return interval.add(_line(_value("tanh", bits, inner), HALF, HALF), _line(interval.multiply(x, rest), HALF))


def _mish(bits: int, x: Interval) -> Slope:
    """tanh s + x tanh'(s) s' with s = softplus x."""
    soft = _value("softplus", bits, x)
    rest = interval.multiply(Interval(*_tanh(bits, soft)), _value("sigmoid", bits, x))
    return interval.add(_value("tanh", bits, soft), interval.multiply(x, rest))


def _elu(bits: int, x: Interval, p: Sequence[Fraction]) -> Slope:
    slope, alpha, rate = p
    above = (slope, slope)
    if x.low >= 0:
        return above
    side = interval.multiply(exactly(rate), Interval(x.low, min(x.high, ZERO)))
    below = interval.multiply(exactly(alpha * rate), _value("exp", bits, Interval(*sorted(side))))
    return _bent(x, ZERO, below, above)


def _hard_swish(x: Interval) -> Slope:
    three = Fraction(3)
    if x.high <= -three:
        return NONE
    if x.low >= three:
        return SAME
    inner = _line(Interval(max(x.low, -three), min(x.high, three)), ONE / 3, HALF)
    return _hull(inner, *([NONE] if x.low < -three else []), *([SAME] if x.high > three else []))


def _thresholded(x: Interval, alpha: Fraction) -> Slope:
    if x.low > alpha:
        return SAME
    if x.high <= alpha:
        return NONE
    return RISES if alpha >= 0 else ANY


def _power(bits: int, x: Interval, exponent: Fraction) -> Slope:
    if exponent in (0, 1):
        return SAME if exponent else NONE
    return _product((exponent, exponent), _value("power", bits, x, exponent - 1))


def _sqrt(bits: int, x: Interval) -> Slope:
    root = _value("sqrt", bits, x)
    return (1 / (2 * root.high) if root.high else ZERO, 1 / (2 * root.low) if root.low > 0 else math.inf)


def _quotient(x: Sequence[Interval], s: Sequence[Slope]) -> Slope:
    """(f(y) - f(x) - f(x) / g(x) (g(y) - g(x))) / (g(y) (y - x))."""
    ratio, inverse = interval.divide(x[0], x[1]), interval.divide(exactly(ONE), x[1])
    return _product(inverse, _sum(s[0], _negated(_product(ratio, s[1]))))


def _chosen(x: Sequence[Interval], s: Sequence[Slope], sign: int) -> Slope:
    """Of the larger (sign 1) or smaller of two."""
    if sign * (x[0].low if sign > 0 else x[0].high) >= sign * (x[1].high if sign > 0 else x[1].low):
        return s[0]
    if sign * (x[1].low if sign > 0 else x[1].high) >= sign * (x[0].high if sign > 0 else x[0].low):
        return s[1]
    return _hull(s[0], s[1])


Outer = Callable[[int, Interval, Sequence[Any]], Sequence[Any]]
OUTER: dict[str, Outer] = {
    "affine": lambda bits, x, p: (p[0], p[0]),
    "clamp": lambda bits, x, p: _clamped(x, p[0], p[1]),
    "leaky": lambda bits, x, p: _bent(x, ZERO, (p[0], p[0]), SAME),
    "square": lambda bits, x, p: (2 * x.low, 2 * x.high),
    "absolute": lambda bits, x, p: _bent(x, ZERO, (-ONE, -ONE), SAME),
    "exp": lambda bits, x, p: _value("exp", bits, x),
    "log": lambda bits, x, p: interval.divide(exactly(ONE), x),
    "sqrt": lambda bits, x, p: _sqrt(bits, x),
    "power": lambda bits, x, p: _power(bits, x, p[0]),
    "sin": lambda bits, x, p: _value("cos", bits, x),
    "cos": lambda bits, x, p: _negated(_value("sin", bits, x)),
    "erf": lambda bits, x, p: _erf(bits, x),
    "tanh": lambda bits, x, p: _tanh(bits, x),
    "sigmoid": lambda bits, x, p: _sigmoid(bits, x),
    "softplus": lambda bits, x, p: _value("sigmoid", bits, x),
    "softsign": lambda bits, x, p: _mirrored(x, lambda v: exactly(1 / (1 + abs(v)) ** 2)),
    "gelu": lambda bits, x, p: _gelu(bits, x),
    "gelu_tanh": lambda bits, x, p: _gelu_tanh(bits, x),
    "mish": lambda bits, x, p: _mish(bits, x),
    "elu": lambda bits, x, p: _elu(bits, x, p),
    "hard_swish": lambda bits, x, p: _hard_swish(x),
    "thresholded": lambda bits, x, p: _thresholded(x, p[0]),
    **{name: lambda bits, x, p: RISES for name in ("floor", "ceil", "round", "sign")},
}
"""Of functions of one argument."""
BOTH: dict[str, Callable[[Sequence[Interval], Sequence[Slope]], Slope]] = {
    "add": lambda x, s: _sum(s[0], s[1]),
    "subtract": lambda x, s: _sum(s[0], _negated(s[1])),
    "multiply": lambda x, s: _sum(_product(x[0], s[1]), _product(x[1], s[0])),
    "divide": _quotient,
    "maximum": lambda x, s: _chosen(x, s, 1),
    "minimum": lambda x, s: _chosen(x, s, -1),
}
"""Of two functions of one variable."""


def slope(name: str, bits: int, x: Sequence[Interval], inner: Sequence[Slope], parameters: Sequence[Any]) -> Slope:
    """The quotients of a function of functions that have the values `x` and the quotients `inner`.

    `ANY` where the function says nothing, or has no value somewhere.
    """
    if all(s == NONE for s in inner):
        return NONE
    try:
        both = BOTH.get(name)
        found = both(x, inner) if both else _product(OUTER[name](bits, x[0], parameters), inner[0])
    except (Unsettled, ValueError, ZeroDivisionError, OverflowError):
        return ANY
    low, high = found
    return ANY if low != low or high != high else (low, high)  # infinity less infinity


def trimmed(found: Slope, bits: int) -> Slope:
    """A little wider where that makes finite ends shorter."""
    if math.inf in found or -math.inf in found or found[0] == found[1]:
        return found
    low, high = Interval(*found).trimmed(bits)
    return low, high
