"""Exact rationals in small object arrays: the scales, zero points and weights of the reference evaluator.

An object array of `fractions.Fraction` is slow (about a microsecond an operation), so only the small arrays are
kept this way: one entry per tensor, per channel or per position, never one per activation.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from intsim.errors import IntsimError

#: Above this many entries an object array is not worth building; the float64 form of the tensor is used instead.
SMALL = 1 << 17
_SMALLEST = 2.0**-900


def each(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Apply `function` to every (broadcast) entry; always an object array, also of rank 0."""
    out = np.frompyfunc(function, len(arrays), 1)(*arrays)
    if isinstance(out, np.ndarray):
        return out
    box = np.empty((), object)
    box[()] = out
    return box


def as_fractions(array: np.ndarray) -> np.ndarray:
    """The exact rationals of a float or integer array, as an object array of the same shape."""
    flat = np.asarray(array)
    flat = flat.astype(object) if flat.dtype.kind in "iub" else flat.astype(np.float64).astype(object)
    return each(Fraction, np.asarray(flat, object))


def floats(array: np.ndarray) -> np.ndarray:
    """Every rational rounded once, to the nearest float64."""
    out = each(float, array).astype(np.float64)
    if any(abs(v) < _SMALLEST and f for v, f in zip(out.flat, array.flat, strict=True)):
        raise IntsimError("a scale below 2^-900 leaves float64's range")
    return out


def _gcd(a: Fraction, b: Fraction) -> Fraction:
    """The largest rational of which both are integer multiples; gcd(a, 0) = |a|."""
    if a == b:
        return abs(a)
    numerator = math.gcd(a.numerator * b.denominator, b.numerator * a.denominator)
    return Fraction(numerator, a.denominator * b.denominator)


def common_divisor(a: np.ndarray, b: np.ndarray | None = None, axes: Sequence[int] = ()) -> np.ndarray:
    """Rational gcd: entry by entry of `a` and `b` (broadcast), or of `a` along `axes`, which are kept with length 1."""
    if b is not None:
        return each(_gcd, a, b)
    for axis in axes:
        lanes = [np.take(a, [k], axis) for k in range(a.shape[axis])]
        while len(lanes) > 1:
            lanes = [each(_gcd, *lanes[k : k + 2]) if k + 1 < len(lanes) else lanes[k] for k in range(0, len(lanes), 2)]
        a = lanes[0]
    return a


def multiples(scale: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """The integers scale / divisor as an object array of int; 0 where both are 0."""
    return each(lambda s, d: int(s / d) if d else 0, scale, divisor)


def is_dyadic(value: Fraction) -> bool:
    """True where the denominator is a power of two, so that the value may be a float64 exactly."""
    return value.denominator & (value.denominator - 1) == 0


def full_rank(array: np.ndarray, rank: int) -> np.ndarray:
    """The array with leading axes of length 1 added up to `rank`."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
