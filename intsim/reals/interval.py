"""Functions of one variable between two rationals: interval arithmetic with rational ends, as narrow as asked for.

`FUNCTIONS` maps a name to a function of `bits`, argument intervals and exact parameters. Each returns an interval that
contains every value of the real function on the arguments; as `bits` grow the result narrows to the value. An interval
whose ends are equal is that number exactly, and stays so through rational functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from intsim.arithmetic.rounding import round_fraction
from intsim.reals import elementary
from intsim.reals.elementary import ONE, ZERO, Bounds

HALF = ONE / 2
GUARD = 32
"""Bits beyond those asked for that ends keep."""


class Interval(NamedTuple):
    """All real numbers from `low` to `high`, both included."""

    low: Fraction
    high: Fraction

    def __neg__(self) -> Interval:
        """Mirrored."""
        return Interval(-self.high, -self.low)

    def trimmed(self, bits: int) -> Interval:
        """A little wider where that makes the ends shorter; a single number stays.

        An interval much narrower than its numbers are large keeps up to four times as many bits: its ends may lie just
        beside a number that a later step asks about, as those of x Phi(x) do beside a large x.
        """
        if self.low == self.high:
            return self
        keep = min(max(bits, _size(max(-self.low, self.high)) - _size(self.high - self.low)), 4 * bits) + GUARD
        return Interval(_down(self.low, keep), -_down(-self.high, keep))


def _size(x: Fraction) -> int:
    """The exponent of the power of two that x is about as large as."""
    return x.numerator.bit_length() - x.denominator.bit_length()


def _down(x: Fraction, bits: int) -> Fraction:
    """The largest number of `bits` significant bits, or a few more, up to x."""
    if x.denominator.bit_length() <= 2 * bits and x.denominator.bit_count() == 1:
        return x
    width = bits + x.denominator.bit_length() - x.numerator.bit_length()
    if width < 0:
        return Fraction((x.numerator // (x.denominator << -width)) << -width)
    return Fraction((x.numerator << width) // x.denominator, 1 << width)


def exactly(x: Fraction) -> Interval:
    """One number."""
    return Interval(x, x)


def add(x: Interval, y: Interval) -> Interval:
    """Sum."""
    return Interval(x.low + y.low, x.high + y.high)


def multiply(x: Interval, y: Interval) -> Interval:
    """Product."""
    if x.low == x.high and y.low == y.high:
        return exactly(x.low * y.low)
    if x.low >= 0 and y.low >= 0:
        return Interval(x.low * y.low, x.high * y.high)
    corners = [a * b for a in set(x) for b in set(y)]
    return Interval(min(corners), max(corners))


def divide(x: Interval, y: Interval) -> Interval:
    """Quotient; ZeroDivisionError where the divisor is zero, `Unsettled` where it may be."""
    if y.low <= 0 <= y.high:
        if y.low == y.high:
            raise ZeroDivisionError("division by zero")
        raise Unsettled
    return multiply(x, Interval(1 / y.high, 1 / y.low))


def _line(x: Interval, slope: Fraction, constant: Fraction) -> Interval:
    """`slope * x + constant`."""
    return add(multiply(x, exactly(slope)), exactly(constant))


class Unsettled(ArithmeticError):  # noqa: N818 - it asks for more bits
    """An interval too wide to go on with: ask for more bits."""


Function = Callable[[int, Sequence[Interval], Sequence[Any]], Interval]


def _rising(bounds: Callable[[Fraction, int], Bounds]) -> Callable[[Interval, int], Interval]:
    """A function that never falls."""

    def apply(x: Interval, bits: int) -> Interval:
        low, high = bounds(x.low, bits)
        return Interval(low, high if x.low == x.high else bounds(x.high, bits)[1])

    return apply


def _gentle(bounds: Callable[[Fraction, int], Bounds]) -> Callable[[Interval, int], Interval]:
    """A function whose slope never exceeds 1."""

    def apply(x: Interval, bits: int) -> Interval:
        low, high = bounds(x.low, bits)
        return Interval(low - (x.high - x.low), high + (x.high - x.low))

    return apply


_exp, _erf, _sigmoid = (_rising(f) for f in (elementary.exp_bounds, elementary.erf_bounds, elementary.sigmoid_bounds))
_tanh, _softplus = _rising(elementary.tanh_bounds), _rising(elementary.log1p_exp_bounds)
_sin, _cos = _gentle(elementary.sin_bounds), _gentle(elementary.cos_bounds)


def _log(x: Interval, bits: int) -> Interval:
    if x.low <= 0 < x.high:
        raise Unsettled
    return _rising(elementary.log_bounds)(x, bits)


def _sqrt(x: Interval, bits: int) -> Interval:
    if x.low < 0 <= x.high:
        raise Unsettled
    return _rising(elementary.sqrt_bounds)(x, bits)


def _magnitude(x: Interval) -> Interval:
    if x.low >= 0:
        return x
    return Interval(ZERO if x.high > 0 else -x.high, max(-x.low, x.high))


def _power(x: Interval, exponent: Fraction, bits: int) -> Interval:
    """x^exponent, on each side of zero apart."""
    if x.low == x.high:
        return Interval(*elementary.power_bounds(x.low, exponent, bits))
    if exponent == 0:
        return exactly(ONE)
    even, whole = exponent.numerator % 2 == 0, exponent.denominator == 1
    if x.low < 0 < x.high or (x.low <= 0 <= x.high and (exponent < 0 or not whole)):
        if not whole or exponent < 0:
            raise Unsettled
        if even:
            return _power(_magnitude(x), exponent, bits)
    ends = [elementary.power_bounds(v, exponent, bits) for v in x]
    return Interval(min(e[0] for e in ends), max(e[1] for e in ends))


def _clamp(x: Interval, low: Fraction | None, high: Fraction | None) -> Interval:
    for edge, f in ((low, max), (high, min)):
        if edge is not None:
            x = Interval(f(x.low, edge), f(x.high, edge))
    return x


def _hull(
    x: Interval, edge: Fraction, below: Callable[[Interval], Interval], above: Callable[[Interval], Interval]
) -> Interval:
    """`below` where x < edge, `above` from it on."""
    if x.low >= edge:
        return above(x)
    if x.high < edge:
        return below(x)
    parts = below(Interval(x.low, edge)), above(Interval(edge, x.high))
    return Interval(min(p.low for p in parts), max(p.high for p in parts))


def _gelu(x: Interval, bits: int) -> Interval:
    root = Interval(*elementary.sqrt_bounds(Fraction(2), bits + 16))
    return multiply(x, _line(_erf(divide(x, root), bits), HALF, HALF))


def _gelu_tanh(x: Interval, bits: int) -> Interval:
    pi = Interval(*elementary.pi_bounds(bits + 16))
    root = _sqrt(divide(exactly(Fraction(2)), pi), bits + 16)
    cube = multiply(exactly(Fraction(44715, 10**6)), _power(x, Fraction(3), bits))
    return multiply(x, _line(_tanh(multiply(root, add(x, cube)), bits), HALF, HALF))


def _elu(x: Interval, slope: Fraction, alpha: Fraction, rate: Fraction, bits: int) -> Interval:
    """slope * x from zero on, alpha * (e^(x * rate) - 1) below."""

    below = lambda v: _line(_exp(multiply(v, exactly(rate)), bits), alpha, -alpha)  # noqa: E731
    return _hull(x, ZERO, below, lambda v: multiply(exactly(slope), v))


def _softsign(x: Interval) -> Interval:
    return Interval(*(v / (1 + abs(v)) for v in x))


def _thresholded(x: Interval, alpha: Fraction) -> Interval:
    if x.low > alpha:
        return x
    return exactly(ZERO) if x.high <= alpha else Interval(min(ZERO, x.low), max(ZERO, x.high))


def _stepped(x: Interval, mode: str) -> Interval:
    return Interval(*(Fraction(round_fraction(v, mode)) for v in x))


def _sign(x: Interval) -> Interval:
    return Interval(*(Fraction((v > 0) - (v < 0)) for v in x))


FUNCTIONS: dict[str, Function] = {
    "affine": lambda bits, x, p: _line(x[0], p[0], p[1]),
    "clamp": lambda bits, x, p: _clamp(x[0], p[0], p[1]),
    "leaky": lambda bits, x, p: _hull(x[0], ZERO, lambda v: multiply(v, exactly(p[0])), lambda v: v),
    "constant": lambda bits, x, p: exactly(p[0]),
    "add": lambda bits, x, p: add(x[0], x[1]),
    "subtract": lambda bits, x, p: add(x[0], -x[1]),
    "multiply": lambda bits, x, p: multiply(x[0], x[1]),
    "square": lambda bits, x, p: _power(x[0], Fraction(2), bits),
    "divide": lambda bits, x, p: divide(x[0], x[1]),
    "maximum": lambda bits, x, p: Interval(max(x[0].low, x[1].low), max(x[0].high, x[1].high)),
    "minimum": lambda bits, x, p: Interval(min(x[0].low, x[1].low), min(x[0].high, x[1].high)),
    "absolute": lambda bits, x, p: _magnitude(x[0]),
    "exp": lambda bits, x, p: _exp(x[0], bits),
    "log": lambda bits, x, p: _log(x[0], bits),
    "sqrt": lambda bits, x, p: _sqrt(x[0], bits),
    "power": lambda bits, x, p: _power(x[0], p[0], bits),
    "sin": lambda bits, x, p: _sin(x[0], bits),
    "cos": lambda bits, x, p: _cos(x[0], bits),
    "erf": lambda bits, x, p: _erf(x[0], bits),
    "tanh": lambda bits, x, p: _tanh(x[0], bits),
    "sigmoid": lambda bits, x, p: _sigmoid(x[0], bits),
    "softplus": lambda bits, x, p: _softplus(x[0], bits),
    "softsign": lambda bits, x, p: _softsign(x[0]),
    "gelu": lambda bits, x, p: _gelu(x[0], bits),
    "gelu_tanh": lambda bits, x, p: _gelu_tanh(x[0], bits),
    "mish": lambda bits, x, p: multiply(x[0], _tanh(_softplus(x[0], bits), bits)),
    "elu": lambda bits, x, p: _elu(x[0], p[0], p[1], p[2], bits),
    "hard_swish": lambda bits, x, p: multiply(x[0], _clamp(_line(x[0], ONE / 6, HALF), ZERO, ONE)),
    "thresholded": lambda bits, x, p: _thresholded(x[0], p[0]),
    "floor": lambda bits, x, p: _stepped(x[0], "floor"),
    "ceil": lambda bits, x, p: _stepped(x[0], "ceil"),
    "round": lambda bits, x, p: _stepped(x[0], "half_even"),
    "sign": lambda bits, x, p: _sign(x[0]),
}
"""Name to function of (bits, arguments, parameters).

`elu` has the slope from zero on, what e^(x rate) - 1 is multiplied by below zero, and the rate. ValueError and
ZeroDivisionError where the function has no real value, OverflowError beyond what is evaluated, `Unsettled` where more
bits are needed to tell.
"""
