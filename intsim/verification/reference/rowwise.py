"""Softmax and normalisations as functions of real numbers, and the square root.

Their values are irrational but for a few, and these few are recognised: a softmax of equal numbers is 1 / N, a square
root of a rational square is rational. By Lindemann and Weierstrass no other softmax of rational numbers is rational.
Where float64 and its error bound leave a rounding open, any other element is worked out to as many digits as it takes.
"""

import decimal
import math
from fractions import Fraction
from typing import Any

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.arithmetic import add, divide, multiply, subtract
from intsim.verification.reference.call import Call, row_axes
from intsim.verification.reference.contraction import reduce_sum
from intsim.verification.reference.functions import exact_root
from intsim.verification.reference.reals import Ends, Number, Real
from intsim.verification.reference.tensor import ROUNDOFF, Tensor, constant, inexact, move

# numpy's exp in float64 is off by less than this share of its result
_EXP = 2.0**-49
# e^-700 is below _TINY
_FARTHEST = 700.0
# what is lost where an exponential leaves float64's normal range
_TINY = 1e-290
# a decimal below ten to the minus this is not made a rational
_DEEPEST = 20_000


def softmax(call: Call) -> Tensor:
    """exp(x_i) / sum of exp(x_j) over a row, within a bound."""
    x = call.tensor(0)
    axes = row_axes(call, len(x.shape))
    count = math.prod(x.shape[a] for a in axes)
    v, e = x.bounded()
    hidden = np.isneginf(v)
    if hidden.all(axis=axes).any():
        raise IntsimError("the Softmax of a row of minus infinity alone is no number")
    with np.errstate(under="ignore", over="ignore", invalid="ignore"):
        top = v.max(axis=axes, keepdims=True)
        z = v - top
        moved = ROUNDOFF * np.abs(z) + e
        # one that is below the row's largest by this much, whatever their errors, has less than _TINY of the sum
        far = hidden | (z + moved + np.where(v == top, e, 0.0).max(axis=axes, keepdims=True) < -_FARTHEST)
        moved = np.where(far, 0.0, moved)
        w = np.where(far, 0.0, np.exp(z))
        p = w / w.sum(axis=axes, keepdims=True)
        # exp(d) - 1 < 1.01 d up to 0.01; the total moves by no more than its farthest moved term
        share = 1.01 * (moved + moved.max(axis=axes, keepdims=True)) + 3 * _EXP + 2 * count * ROUNDOFF
        error = np.where(share < 0.01, p * share * 1.02 + _TINY, math.inf)
        error = np.where(hidden, 0.0, error)
    rows = np.arange(x.size).reshape(x.shape)
    known: dict[int, list[Fraction | None]] = {}

    def element(i: int) -> Any:
        if hidden.flat[i]:
            return Fraction(0)
        first = np.unravel_index(i, x.shape)
        row = rows[tuple(slice(None) if a in axes else int(f) for a, f in enumerate(first))].reshape(-1).tolist()
        if row[0] not in known:
            known[row[0]] = [None if hidden.flat[j] else _rational(x.fraction(j)) for j in row]
        here = [(j, v) for j, v in zip(row, known[row[0]], strict=True) if v is not None]
        return _share([v for _, v in here], [j for j, _ in here].index(i))

    return inexact(p, error, element)


def _rational(x: Number) -> Fraction:
    if isinstance(x, Real):
        raise IntsimError("a function of rows of irrational numbers is not evaluated; put a quantizer in front")
    return x


def _share(row: list[Fraction], i: int) -> Number:
    """Softmax of one element of a row: 1 / N where all are equal."""
    top = max(row)
    if min(row) == top:
        return Fraction(1, len(row))
    times = {x: row.count(x) for x in set(row)}

    def at(digits: int) -> Ends:
        # each exponential is off by some 10^-prec times its argument, at most; what is left out is far below
        size = math.ceil(top - min(row)) + len(row)
        with decimal.localcontext(decimal.Context(prec=digits + len(str(size)) + 5, Emin=-(10**9), Emax=10**9)):
            powers = {x: (decimal.Decimal((x - top).numerator) / (x - top).denominator).exp() for x in times}
            total = sum((powers[x] * n for x, n in times.items()), decimal.Decimal(0))
            exact = powers[row[i]] / total
        room = Fraction(1, 10**digits)
        if exact.adjusted() < -_DEEPEST:  # its digits as a rational would fill the memory
            return Fraction(0), room
        share = Fraction(exact)
        return share * (1 - room), share * (1 + room) or room  # not 0, however small

    return Real(at)


def root(x: Tensor) -> Tensor:
    """The square root; no number may be below zero. Where float64 can't tell, its element does."""
    v, e = x.bounded()
    if (v + e < 0).any():
        raise IntsimError("the square root of a negative number")
    r, floor = np.sqrt(np.maximum(v, _TINY)), np.sqrt(np.maximum(v - e, 0.0))
    error = np.where(v - e > _TINY, ROUNDOFF * r, math.inf) + e / (r + floor) * (1 + 1e-6)

    def element(i: int) -> Any:
        radicand = _rational(x.fraction(i))
        if radicand < 0:
            raise IntsimError("the square root of a negative number")
        return exact_root(radicand)

    return inexact(r, error, element)


def normalized(x: Tensor, axes: tuple[int, ...], epsilon: Fraction) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) over rows along `axes`."""
    share = constant(Fraction(1, math.prod(x.shape[a] for a in axes)))
    apart = subtract(x, multiply(reduce_sum(x, axes), share))
    return over_root(apart, apart, axes, epsilon)


def over_root(x: Tensor, of: Tensor, axes: tuple[int, ...], epsilon: Fraction) -> Tensor:
    """x / sqrt(mean of squares of another tensor + epsilon) over rows along `axes`."""
    share = constant(Fraction(1, math.prod(x.shape[a] for a in axes)))
    mean = multiply(reduce_sum(multiply(of, of, factor=False), axes), share)
    return divide(x, root(add(mean, constant(epsilon))))


def layer_normalization(call: Call) -> Tensor:
    """LayerNormalization and RMSNormalization over the axes from `axis` on, with scale and bias."""
    if call.outputs > 1:
        raise IntsimError("the outputs Mean and InvStdDev are not evaluated")
    x, rank = call.tensor(0), len(call.tensor(0).shape)
    axis = int(call.attr("axis", -1))
    if not -rank <= axis < rank:
        raise IntsimError(f"axis {axis} is outside of {rank} axes")
    axes, epsilon = tuple(range(axis % rank, rank)), call.real("epsilon", 1e-5)
    out = normalized(x, axes, epsilon) if call.op == "LayerNormalization" else over_root(x, x, axes, epsilon)
    scale, bias = call.optional(1), call.optional(2)
    for factor, f in ((scale, multiply), (bias, add)):
        if factor is None:
            continue
        if np.broadcast_shapes(factor.shape, x.shape) != x.shape:
            raise IntsimError(f"scale or bias of shape {factor.shape} doesn't fit {x.shape}")
        out = f(out, factor)
    return out


def group_normalization(call: Call) -> Tensor:
    """GroupNormalization and InstanceNormalization of (N, C, positions): groups of channels, each normalised alone."""
    x = call.tensor(0)
    batch, channels, *positions = x.shape
    groups = channels if call.op == "InstanceNormalization" else int(call.attr("num_groups", 0))
    if groups < 1 or channels % groups:
        raise IntsimError(f"{channels} channels are no {groups} groups")
    apart = move([x], lambda a: a.reshape(batch, groups, channels // groups, *positions))
    made = normalized(apart, tuple(range(2, len(apart.shape))), call.real("epsilon", 1e-5))
    wide = len(made.shape) - 3
    old = call.op == "GroupNormalization" and call.opset < 21
    for i, f in ((1, multiply), (2, add)):
        given = call.tensor(i)
        if given.shape != (groups if old else channels,):
            raise IntsimError(f"input {i} of shape {given.shape} doesn't fit {channels} channels")
        laid = (groups, 1) if old else (groups, channels // groups)
        made = f(made, move([given], lambda a, laid=laid: a.reshape(*laid, *(1,) * wide)))
    return move([made], lambda a: a.reshape(x.shape))
