"""Irrational functions of one tensor before a quantizer: float64 within a bound, every element a real number.

Each function is written once, on numbers that are exact rationals where the function is rational and `Real` elsewhere.
The bound of an element is the function of both ends of its argument, to 30 digits; equal arguments are worked out once.
Where there are many, exp and what is made of it have numpy's floats with a generous bound instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import cast

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference import transcendental
from intsim.verification.reference.call import Call
from intsim.verification.reference.reals import DIGITS, Ends, Number, Real, Unclear, ends_of
from intsim.verification.reference.tensor import Tensor, inexact

_ZERO, _ONE, _TWO = Fraction(0), Fraction(1), Fraction(2)
#: Most different arguments that are worked out beforehand; of a tensor with more only those that a rounding asks for.
_MOST = 1 << 17
# Most of them that are worked out to 30 digits where floats have a bound as well.
_MOST_CLOSE = 1 << 12
# Share of a result that numpy's exp and tanh are off by at most: 64 times the error that its makers measured.
_FLOAT_SHARE = 2.0**-46
# Results below this are kept as zero with a bound, so that products of them stay normal numbers.
_TINY = 2.0**-300


def _real(ends: Callable[[Fraction, int], Ends], falls: bool = False) -> Callable[[Number], Number]:
    """A function that never falls, or one of a slope of at most 1; of a rational point where it is rational, that."""

    def function(x: Number) -> Number:
        if not isinstance(x, Real):
            first = ends(x, DIGITS[0])
            return first[0] if first[0] == first[1] else Real(lambda digits: ends(x, digits))

        def at(digits: int) -> Ends:
            low, high = x.at(digits)
            least, most = ends(low, digits)
            return (least - (high - low), most + (high - low)) if falls else (least, ends(high, digits)[1])

        return Real(at)

    return function


_exp, _sigmoid, _tanh = (_real(f) for f in (transcendental.exp, transcendental.sigmoid, transcendental.tanh))
_erf, _softplus, _log = (_real(f) for f in (transcendental.erf, transcendental.softplus, transcendental.log))
_sine, _cosine = _real(transcendental.sine, falls=True), _real(transcendental.cosine, falls=True)
exact_root = _real(transcendental.sqrt)
_PI = Real(transcendental.pi)
_ROOT_2 = exact_root(_TWO)


def _gelu(call: Call, x: Number) -> Number:
    if call.attr("approximate", "none") == "tanh":
        inner = exact_root(_TWO / _PI) * (x + Fraction(44715, 1000000) * x * x * x)
        return x * (_tanh(inner) + _ONE) / _TWO
    return x * (_erf(x / _ROOT_2) + _ONE) / _TWO


def _elu(call: Call, x: Number) -> Number:
    alpha = call.real("alpha", 1.67326319217681884765625 if call.op == "Selu" else 1.0)
    gamma = call.real("gamma", 1.05070102214813232421875) if call.op == "Selu" else _ONE
    if x >= 0:
        return gamma * x
    return gamma * alpha * (_exp(x / alpha if call.op == "Celu" else x) - _ONE)


def power_of(x: Number, exponent: Fraction) -> Number:
    """x to a constant exponent; square roots and whole powers exactly where rational."""
    if exponent.denominator == 1:
        if exponent < 0 and x == 0:
            raise IntsimError("division by zero")
        out: Number = _ONE
        for _ in range(abs(int(exponent))):
            out = out * x
        return _ONE / out if exponent < 0 else out
    if x < 0:
        raise IntsimError(f"a negative number to the power {float(exponent):.6g} is no real number")
    if exponent < 0:
        if x == 0:
            raise IntsimError("division by zero")
        return _ONE / power_of(x, -exponent)
    if not isinstance(x, Real) and x in (_ZERO, _ONE):
        return x
    root, steps = x, exponent.denominator
    while steps % 2 == 0 and not isinstance(root, Real) and steps > 1:
        root, steps = exact_root(root), steps // 2
    if steps == 1 and not isinstance(root, Real) and exponent.numerator < 100:
        return power_of(root, Fraction(exponent.numerator))
    return _exp(_log(x) * exponent)


FUNCTIONS: dict[str, Callable[[Call, Number], Number]] = {
    "Exp": lambda call, x: _exp(x),
    "Log": lambda call, x: _log(x),
    "Sqrt": lambda call, x: exact_root(x),
    "Sin": lambda call, x: _sine(x),
    "Cos": lambda call, x: _cosine(x),
    "Erf": lambda call, x: _erf(x),
    "Tanh": lambda call, x: _tanh(x),
    "Sigmoid": lambda call, x: _sigmoid(x),
    "Softplus": lambda call, x: _softplus(x),
    "Softsign": lambda call, x: x / (x + _ONE) if x >= 0 else x / (_ONE - x),
    "Mish": lambda call, x: x * _tanh(_softplus(x)),
    "Gelu": _gelu,
    "Elu": _elu,
    "Selu": _elu,
    "Celu": _elu,
    "ThresholdedRelu": lambda call, x: x if x > call.real("alpha", 1.0) else _ZERO,
    "Floor": lambda call, x: Fraction(math.floor(x)),
    "Ceil": lambda call, x: Fraction(math.ceil(x)),
    "Round": lambda call, x: Fraction(round(x)),
    "Sign": lambda call, x: _ZERO if x == 0 else _ONE if x > 0 else -_ONE,
}
"""ONNX operator to function of its node and a number; IntsimError where that has no real value."""


def _sigmoid_floats(v: np.ndarray, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    t = np.exp(-np.abs(v))
    return np.where(v < 0, t, 1.0) / (1.0 + t), e / 4


def _exp_floats(v: np.ndarray, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = np.exp(v)
    return y, np.where(e < 2.0**-10, y * e * 1.001, math.inf)


_FLOATS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "Exp": _exp_floats,
    "Sigmoid": _sigmoid_floats,
    "Tanh": lambda v, e: (np.tanh(v), e),
}
"""Values in float64, and how far an argument within e of v may move them; their own rounding comes on top."""


def _in_floats(op: str, v: np.ndarray, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and bounds of many elements."""
    with np.errstate(all="ignore"):
        values, moved = _FLOATS[op](v, e)
        bounds = (moved + np.abs(values) * _FLOAT_SHARE) * (1 + 2.0**-40) + _TINY
    known = np.isfinite(values) & np.isfinite(bounds)
    return np.where(known & (np.abs(values) >= _TINY), values, 0.0), np.where(known, bounds, math.inf)


def evaluated(call: Call, function: Callable[[Call, Number], Number]) -> Tensor:
    """The function of the node's first input."""
    x = call.tensor(0)
    v, e = x.bounded()
    errors = np.broadcast_to(e, v.shape)
    pairs, inverse = np.unique(np.stack([v.reshape(-1), errors.reshape(-1)]), axis=1, return_inverse=True)
    if pairs.shape[1] > _MOST_CLOSE and call.op in _FLOATS:
        values, bounds = _in_floats(call.op, v.reshape(-1), errors.reshape(-1))
    elif pairs.shape[1] > _MOST:
        values, bounds = np.zeros(v.size), np.full(v.size, math.inf)
    else:
        bounded = np.array([_bounded(call, function, *pair) for pair in pairs.T.tolist()], np.float64).reshape(-1, 2)
        values, bounds = bounded[np.ravel(inverse)].T
    known: dict[Fraction, Number] = {}

    def element(i: int) -> Fraction:
        argument = x.fraction(i)
        if isinstance(argument, Real):
            return cast(Fraction, function(call, argument))
        if argument not in known:
            known[argument] = function(call, argument)
        return cast(Fraction, known[argument])  # a `Real` answers what a Fraction would

    return inexact(values.reshape(v.shape), bounds.reshape(v.shape), element)


def _bounded(call: Call, function: Callable[[Call, Number], Number], v: float, e: float) -> tuple[float, float]:
    """A float64 and how far from it the function of any number within e of v may be."""
    point = Fraction(v)
    if e == 0:
        low, high = ends_of(function(call, point), DIGITS[0])
    elif not math.isfinite(e):
        return 0.0, math.inf
    else:
        reach = point - Fraction(e), point + Fraction(e)
        try:
            low, high = ends_of(function(call, Real(lambda digits: reach)), DIGITS[0])
        except (IntsimError, Unclear):
            return 0.0, math.inf  # a step, or the edge of where there is a value, lies within reach
    value = float((low + high) / 2)
    value = 0.0 if abs(value) < _TINY else value
    gap = max(high - Fraction(value), Fraction(value) - low)
    return value, max(float(gap) * (1 + 2.0**-40), _TINY) if gap else 0.0
