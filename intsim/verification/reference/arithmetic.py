"""Element by element: add, multiply, divide, maximum, Relu and its kin, on either form of a tensor.

Each function first tries exact integers on a common rational grid (no rounding at all) and otherwise works in
float64 with a rigorous bound; the exact element stays available either way.
"""

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.rational import SMALL, common_divisor, each, full_rank, multiples
from intsim.verification.reference.tensor import EXACT, ROUNDOFF, Tensor, constant, grid, inexact, position

# Constants up to this size are multiplied into the scale, not into the integers, which leaves these more headroom.
_FACTOR = 4096
# Covers the rounding of the error bounds themselves.
_SLACK = 1.0 + 1e-6


def kind_of(a: Tensor, b: Tensor) -> str:
    """The kind of what is made of both."""
    return "i" if a.kind == b.kind == "i" else "f"


def _element(a: Tensor, b: Tensor, shape: tuple[int, ...], f: Callable[..., Fraction]) -> Callable[[int], Fraction]:
    def element(i: int) -> Fraction:
        where = position(i, shape)
        return f(a.at(where), b.at(where))

    return element


def _scales(a: Tensor, b: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of two grids, both of the same rank."""
    rank = max(len(a.shape), len(b.shape))
    return full_rank(a.integers()[1], rank), full_rank(b.integers()[1], rank)


def multiplied_scales(a: Tensor, b: Tensor) -> np.ndarray | None:
    """The scales of products of two grids, broadcast; None where these are too many."""
    sa, sb = _scales(a, b)
    few = math.prod(np.broadcast_shapes(sa.shape, sb.shape)) <= SMALL
    return each(operator.mul, sa, sb) if few else None


def on_common_grid(a: Tensor, b: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float] | None:
    """Integers of both on one scale: (n_a, n_b, scale, bound_a, bound_b); None where 53 bits don't hold them."""
    if not (a.on_grid and b.on_grid):
        return None
    sa, sb = _scales(a, b)
    if sa.size == sb.size == 1 and sa.item() == sb.item():
        top = max(a.bound, b.bound) * 2
        return (a.held(top), b.held(top), sa, a.bound, b.bound) if top <= EXACT else None
    if math.prod(np.broadcast_shapes(sa.shape, sb.shape)) > SMALL:
        return None
    s = common_divisor(sa, sb)
    fa, fb = multiples(sa, s), multiples(sb, s)
    # at least the factor itself, so that it fits the float type even where all integers are 0
    ba, bb = (max(t.bound, 1.0) * float(max(f.flat, default=0)) for t, f in ((a, fa), (b, fb)))
    if not ba + bb <= EXACT:
        return None
    na, nb = a.held(ba + bb), b.held(ba + bb)
    return na * fa.astype(na.dtype), nb * fb.astype(nb.dtype), s, ba, bb


def add(a: Tensor, b: Tensor) -> Tensor:
    """a + b, broadcast."""
    both = on_common_grid(a, b)
    if both:
        na, nb, s, ba, bb = both
        return grid(na + nb, s, ba + bb, kind_of(a, b))
    (va, ea), (vb, eb) = a.bounded(), b.bounded()
    v = np.asarray(va + vb)
    e = (ea + eb) * _SLACK + ROUNDOFF * np.abs(v)
    return inexact(v, e, _element(a, b, v.shape, operator.add), kind_of(a, b))


def _sign_changed(a: Tensor, f: Callable[..., Any]) -> Tensor:
    """f is `neg` or `abs`, which rounds nothing."""
    if a.on_grid:
        n, s = a.integers()
        return grid(f(n), s, a.bound, a.kind)
    v, e = a.approx()
    return inexact(f(v), e, lambda i: f(a.fraction(i)), a.kind)


def negative(a: Tensor) -> Tensor:
    """-a."""
    return _sign_changed(a, operator.neg)


def subtract(a: Tensor, b: Tensor) -> Tensor:
    """a - b, broadcast."""
    return add(a, negative(b))


def absolute(a: Tensor) -> Tensor:
    """|a|."""
    return _sign_changed(a, abs)


def _as_factor(t: Tensor) -> Tensor:
    """A small exact tensor with its magnitudes moved into the scale."""
    return constant(t.fractions(), t.kind) if t.exact and 0 < t.size <= _FACTOR and t.bound != 1.0 else t


def multiply(a: Tensor, b: Tensor, factor: bool = True) -> Tensor:
    """a * b, broadcast; with `factor`, a small constant goes into the scale."""
    if a.size < b.size:
        a, b = b, a
    if factor:
        b = _as_factor(b)
    bound = a.bound * b.bound
    if a.on_grid and b.on_grid and bound <= EXACT and (s := multiplied_scales(a, b)) is not None:
        return grid(a.held(bound) * b.held(bound), s, bound, kind_of(a, b))
    (va, ea), (vb, eb) = a.approx(), b.approx()
    v = np.asarray(va * vb)
    e = ROUNDOFF * np.abs(v)
    if ea is not None:
        e = e + ea * (np.abs(vb) + (0.0 if eb is None else eb)) * _SLACK
    if eb is not None:
        e = e + np.abs(va) * eb * _SLACK
    return inexact(v, e, _element(a, b, v.shape, operator.mul), kind_of(a, b))


def divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b, broadcast, of real numbers (`integers.py` divides integers)."""
    if b.exact and b.size <= _FACTOR:
        divisors = b.fractions()
        if any(f == 0 for f in divisors.flat):
            raise IntsimError("division by zero")
        return multiply(a, constant(each(lambda f: 1 / f, divisors)))
    (va, ea), (vb, eb) = a.bounded(), b.bounded()
    room = np.abs(vb) - eb
    if (vb == 0).any():
        raise IntsimError("division by zero")
    v = np.asarray(va / vb)
    with np.errstate(divide="ignore", invalid="ignore"):
        e = np.where(room > 0, (ea + np.abs(v) * eb) / room, math.inf) * _SLACK + ROUNDOFF * np.abs(v)

    def ratio(x: Fraction, y: Fraction) -> Fraction:
        if y == 0:
            raise IntsimError("division by zero")
        return x / y

    return inexact(v, e, _element(a, b, v.shape, ratio))


def maximum(a: Tensor, b: Tensor) -> Tensor:
    """The larger of both, broadcast."""
    both = on_common_grid(a, b)
    if both:
        na, nb, s, ba, bb = both
        return grid(np.maximum(na, nb), s, max(ba, bb), kind_of(a, b))
    (va, ea), (vb, eb) = a.bounded(), b.bounded()
    v = np.maximum(va, vb)
    # where one side is larger beyond doubt only its own error counts
    e = np.where(va - ea >= vb + eb, ea, np.where(vb - eb >= va + ea, eb, np.maximum(ea, eb)))
    return inexact(v, e, _element(a, b, v.shape, max), kind_of(a, b))


def minimum(a: Tensor, b: Tensor) -> Tensor:
    """The smaller of both, broadcast."""
    return negative(maximum(negative(a), negative(b)))


def leaky(a: Tensor, slope: Tensor) -> Tensor:
    """Where a >= 0: a, elsewhere a * slope (broadcast to a): Relu with slope 0, LeakyRelu, PRelu."""
    if np.broadcast_shapes(a.shape, slope.shape) != a.shape:
        raise IntsimError(f"slope of shape {slope.shape} does not broadcast to {a.shape}")
    if not slope.exact or slope.size > SMALL:
        raise IntsimError("the slope has to be a constant")
    slopes = slope.fractions()
    if a.on_grid:
        n, s = a.integers()
        common = math.lcm(*(f.denominator for f in slopes.flat))
        bound = max(a.bound, 1.0) * max(common, *(abs(f.numerator) * (common // f.denominator) for f in slopes.flat))
        if bound <= EXACT:
            n = a.held(bound)
            if not any(slopes.flat):
                return grid(np.maximum(n, n.dtype.type(0)), s, a.bound, a.kind)
            down = each(lambda f: f * common, slopes).astype(n.dtype)
            scaled = np.where(n >= 0, n.dtype.type(common), down) * n
            return grid(scaled, each(lambda x: x / common, s), bound, a.kind)
    v, e = a.bounded()
    alpha, steep = (each(f, slopes).astype(np.float64) for f in (float, lambda x: max(1.0, abs(float(x)))))
    below = v + e < 0
    value = np.where(v >= 0, v, v * alpha)
    error = np.where(v - e > 0, e, np.where(below, e * np.abs(alpha), e * steep)) * _SLACK
    error = error + np.where(v < 0, ROUNDOFF * 2 * np.abs(value), 0.0)
    shape = value.shape

    def element(i: int) -> Fraction:
        x = a.fraction(i)
        return x if x >= 0 else x * slope.at(position(i, shape))

    return inexact(value, error, element)
