"""Constant operands as integer weights with a scale and zero point for each output channel."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.frontend.context import Refused
from intsim.frontend.expression import ONE, ZERO, Const, Fixed, Value, compress, spread
from intsim.frontend.parameters import element_type
from intsim.graph import IntArray, Rationals, rationals

MOST_FRACTION = 24
"""Bits behind the point that a constant may have."""
FIRST = 1 << 12
"""Elements that are looked at before all others: drawn floats are no integers from the first one on."""


@dataclass(frozen=True)
class Weights:
    """Integer weights: `scale[channel] * (codes - zero)`; `scale` and `zero` have one axis, the output channels."""

    codes: IntArray
    scale: Rationals
    zero: IntArray
    type: IntegerType


def on_power_of_two_grid(array: np.ndarray) -> Fixed | None:
    """A float constant as integers of at most 16 bits times a power of two, None if it isn't."""
    x = np.asarray(array, np.float64)
    peak = float(np.abs(x).max()) if x.size else 0.0
    # whole numbers at one exponent are whole at every larger one: the largest that 16 bits hold decides
    finest = next((e for e in range(MOST_FRACTION, -1, -1) if peak * 2.0**e <= 2**15), None)
    if finest is None or not all(_whole(part * 2.0**finest) for part in (x.reshape(-1)[:FIRST], x)):
        return None
    codes = (x * 2.0**finest).astype(np.int64)
    used = int(np.bitwise_or.reduce(np.ravel(codes)))  # the lowest bit of any code is the lowest of these
    spare = min((used & -used).bit_length() - 1, finest) if used else finest
    codes = codes >> spare
    bits = max(int(np.abs(codes).max(initial=0)).bit_length() + 1, 2)
    return Fixed(codes, rationals(Fraction(1, 2 ** (finest - spare))), ZERO, IntegerType(bits, True))


def _whole(x: np.ndarray) -> bool:
    return bool((x == np.rint(x)).all())


def weights(value: Value, channel_axis: int) -> Weights:
    """A constant operand as integer weights with at most one scale and zero point for each output channel."""
    if isinstance(value, Const):
        kind = element_type(value.array)
        fixed = on_power_of_two_grid(value.array)
        if kind is not None:
            fixed = Fixed(value.array.astype(np.int64), ONE, ZERO, kind)
        if fixed is None:
            raise Refused("its weights are floats that no quantizer made integers")
        value = fixed
    if not isinstance(value, Fixed):
        raise Refused("its weights are computed at run time; only constant weights are supported")
    rank, channels = value.codes.ndim, value.codes.shape[channel_axis]
    scale, offset = (spread(compress(spread(v, rank)), rank) for v in (value.scale, value.offset))
    others = [a for a in range(rank) if a != channel_axis]
    regular = all(v.shape[a] == 1 for v in (scale, offset) for a in others) and all(scale.flat)
    ratio = np.asarray(-offset / scale) if regular else None
    if ratio is None or any(r.denominator != 1 for r in ratio.flat):
        return _regrid(value, channel_axis)
    zero = np.array([int(r) for r in ratio.flat], np.int64)
    kind = value.type or _type_of(value.codes)
    return Weights(value.codes, scale.reshape(-1), np.broadcast_to(zero, (channels,)) if zero.size > 1 else zero, kind)


def _regrid(value: Fixed, channel_axis: int) -> Weights:
    """Weights whose scale changes inside a channel: integers on the finest common grid of the channel."""
    rank = value.codes.ndim
    scale, offset = (spread(compress(spread(v, rank)), rank) for v in (value.scale, value.offset))
    exact: list[list[Fraction]] = [p.ravel().tolist() for p in (scale, offset)]
    below = lcm(*(v.denominator for p in exact for v in p))
    factors, summands = ([int(v * below) for v in p] for p in exact)
    largest = max(abs(int(value.codes.max())), abs(int(value.codes.min())))
    carrier: Any = np.int64 if largest * max(map(abs, factors)) + max(map(abs, summands)) < 1 << 62 else object
    factor, summand = np.array(factors, carrier).reshape(scale.shape), np.array(summands, carrier).reshape(offset.shape)
    real: Any = value.codes.astype(carrier) * factor + summand  # in units of 1 / below
    wide = np.moveaxis(np.broadcast_to(real, value.codes.shape), channel_axis, 0)
    shape = wide.shape
    wide = wide.reshape(shape[0], -1)
    common = np.gcd.reduce(wide, axis=1)
    wide = wide // np.where(common == 0, 1, common)[:, None]
    if int(np.abs(wide).max()) >= 1 << 31:
        raise Refused("its weights have no common grid of 32 bits in a channel; quantize them with one scale a channel")
    moved = np.ascontiguousarray(np.moveaxis(wide.astype(np.int64).reshape(shape), 0, channel_axis))
    scales = [Fraction(c, below) if c else Fraction(1) for c in common.tolist()]  # zeros lie on any grid
    return Weights(moved, rationals(scales), np.zeros(1, np.int64), _type_of(moved))


def _type_of(codes: IntArray) -> IntegerType:
    low, high = (int(codes.min()), int(codes.max())) if codes.size else (0, 0)
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1
    return IntegerType(max(bits, 2), True)


def type_json(kind: IntegerType) -> dict[str, Any]:
    """JSON form of an integer type."""
    return {"bits": kind.bits, "signed": kind.signed, "narrow": kind.narrow}
