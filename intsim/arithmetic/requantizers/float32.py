"""Times a binary32 number, in IEEE 754 binary32."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.binary32 import nearest, ratio
from intsim.arithmetic.integers import as_integers
from intsim.arithmetic.pieces import Formula, Integers
from intsim.arithmetic.requantizers.fixed_point import power_of_two
from intsim.arithmetic.requantizers.requantizer import Channel, RoundedScale, Site, with_factor
from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.errors import IntsimError


def float32_scale(scale: Fraction) -> np.float32:
    """Return the float32 nearest to an exact scale (ties to even), rounded once.

    Raises:
        IntsimError: outside the normal range of float32.
    """
    scale = Fraction(scale)
    if scale == 0:
        return np.float32(0)
    magnitude = abs(scale)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < power_of_two(exponent):
        exponent -= 1
    significand = round_fraction(magnitude * power_of_two(23 - exponent), Rounding.HALF_EVEN)
    if exponent < -126 or significand * power_of_two(exponent - 23) >= power_of_two(128):
        raise IntsimError(f"scale {float(scale):g} is outside the normal range of float32")
    nearest = np.float32(np.ldexp(np.float64(significand), exponent - 23))
    return nearest if scale > 0 else -nearest


def float32_requantize(acc: Any, scale: Any, zero_point: int, low: int, high: int) -> NDArray[np.int64]:
    """Return what ONNX Runtime's x86 `MlasRequantizeOutput` stores, in IEEE 754 binary32.

    float32(acc) * scale, clipped to low - zero_point .. high - zero_point, rounded half to even, plus zero_point.

    Args:
        acc: int32 values, in any integer array.
        scale: float32, scalar or an array that broadcasts with acc.
        zero_point: output zero point, low <= zero_point <= high.
        low: smallest output, e.g. 0 or -128.
        high: largest output, e.g. 255 or 127.

    Raises:
        IntsimError: an accumulator outside int32, or a scale that is not float32 or not finite.

    Source: microsoft/onnxruntime, onnxruntime/core/mlas/lib/quantize.cpp (SSE2/AVX path).
    """
    values = as_integers(acc, "accumulator")
    factor = np.asarray(scale)
    if factor.dtype != np.float32 or not np.isfinite(factor).all():
        raise IntsimError("float32 requantizer: the scale must be a finite float32; see float32_scale")
    if values.size and (values.min() < -(1 << 31) or values.max() >= 1 << 31):
        raise IntsimError(f"float32 requantizer takes 32-bit accumulators, got {values.min()}..{values.max()}")
    with np.errstate(over="ignore"):
        product = values.astype(np.int32).astype(np.float32) * factor
    clipped = np.clip(product, np.float32(low - zero_point), np.float32(high - zero_point))
    return np.asarray(np.rint(clipped).astype(np.int64) + zero_point)


@dataclass(frozen=True)
class Float32(RoundedScale):
    """`float32(acc + b) * float32(S)`, clipped, to the nearest, ties to even.

    Monotone everywhere: to binary32, times the scale, clip, to an integer: each is IEEE 754's nearest, ties to even, of
    a monotone function; overflow gives infinities, which the clip takes.

    `scale_roundings` 2: the scale is `float32(float32(sx * sw) / sy)`, rounded twice, as ONNX Runtime, FBGEMM and
    XNNPACK make it of their three scales; 1: the float32 nearest to `sx * sw / sy`.
    """

    scheme: ClassVar[str] = "float32"

    def words(self) -> str:
        """The formula."""
        scale = "scale" if self.scale_roundings == 1 else "float32(sx sw) / sy"
        return f"float32: float32(acc) * float32({scale}), clipped, rounded half to even"

    def converted(self, formula: Formula, site: Site) -> Formula:
        """The factor rounded twice, the zero point apart; refuses what stands between accumulator and codes
        otherwise."""
        return with_factor(formula, site, ratio(nearest(site.unit), site.step))

    def channel(self, scale: Fraction) -> Channel:
        """The binary32 factor."""
        factor = float32_scale(scale)
        return Channel(Fraction(float(factor)), told={"factor": factor})

    def multiply(self, values: Integers, scale: Fraction) -> Integers:
        """The definition. The bounds before the rounding are exact in binary32 and beyond any code of 24 bits."""
        return np.rint(np.clip(self._product(values, scale), np.float32(-(2**24)), np.float32(2**24))).astype(np.int64)

    def operand(self, values: Integers, scale: Fraction) -> Integers:
        """Of a sum; not clipped."""
        return np.rint(self._product(values, scale)).astype(np.int64)

    def _product(self, values: Integers, scale: Fraction) -> NDArray[np.float32]:
        if values.dtype == object:
            values = np.clip(values, -(1 << 128), 1 << 128)  # infinities of binary32 already
        with np.errstate(over="ignore"):
            return np.asarray(values.astype(np.float32) * float32_scale(scale))
