"""Constant operands as integer weights with a scale and zero point for each output channel."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.frontend.context import Refused
from intsim.frontend.expression import ONE, ZERO, Const, Fixed, Value, common_grid, compress, spread
from intsim.frontend.parameters import element_type
from intsim.graph import IntArray, Rationals, rationals


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
    for exponent in range(25):
        codes = x * 2.0**exponent
        if peak * 2.0**exponent > 2**15:
            return None
        if (codes == np.rint(codes)).all():
            bits = max(int(np.abs(codes).max(initial=0)).bit_length() + 1, 2)
            return Fixed(codes.astype(np.int64), rationals(Fraction(1, 2**exponent)), ZERO, IntegerType(bits, True))
    return None


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
    real = np.moveaxis(np.broadcast_to(value.real(), value.codes.shape), channel_axis, 0)
    scales = [common_grid(list(channel.reshape(-1))) for channel in real]
    codes = np.stack(
        [
            np.array([int(v / s) for v in channel.reshape(-1)], object).reshape(channel.shape)
            for channel, s in zip(real, scales, strict=True)
        ]
    )
    if max(abs(int(c)) for c in codes.reshape(-1)) >= 1 << 31:
        raise Refused("its weights have no common grid of 32 bits in a channel; quantize them with one scale a channel")
    moved = np.ascontiguousarray(np.moveaxis(codes.astype(np.int64), 0, channel_axis))
    return Weights(moved, rationals(scales), np.zeros(1, np.int64), _type_of(moved))


def _type_of(codes: IntArray) -> IntegerType:
    low, high = (int(codes.min()), int(codes.max())) if codes.size else (0, 0)
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1
    return IntegerType(max(bits, 2), True)


def type_json(kind: IntegerType) -> dict[str, Any]:
    """JSON form of an integer type."""
    return {"bits": kind.bits, "signed": kind.signed, "narrow": kind.narrow}
