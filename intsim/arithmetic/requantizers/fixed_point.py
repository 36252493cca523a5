"""Times a fixed-point multiplier, rounded once from the full product or twice as gemmlowp does.

Functions take accumulators as int64 arrays of any shape (Python ints and object arrays too) and leave the zero point
and the final clip to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Self

import numpy as np

from intsim.arithmetic.integers import as_integers, wrap
from intsim.arithmetic.pieces import Integers
from intsim.arithmetic.requantizers.requantizer import Channel, Multiplies, Requantizer, in_int64
from intsim.arithmetic.rounding import Rounding, round_divide, round_fraction, rounding
from intsim.errors import IntsimError

# TFLite flushes scales below 2^-32 to zero and its left shift must stay inside int32.
SMALLEST_EXPONENT, LARGEST_EXPONENT = -31, 30


def quantize_multiplier(scale: Fraction, bits: int = 32) -> tuple[int, int]:
    """Return (M, shift) with scale ~= M * 2^-shift, as TFLite's `QuantizeMultiplier` does.

    M is a `bits`-bit signed integer with 2^(bits-2) <= |M| < 2^(bits-1) and the sign of the scale, rounded half away
    from zero. With bits = 32 and TFLite's exponent e, shift = 31 - e. TFLite starts from a float64, this from the exact
    rational, so they can differ by one unit of M if that float64 is itself rounded.

    Args:
        scale: exact scale; its magnitude below 2^30.
        bits: 4..32, the width of the multiplier operand.

    Returns:
        (M, shift). (0, 0) for a zero scale and for a magnitude that rounds below 2^-32, which TFLite flushes to zero
        (a right shift by more than 31 after the high multiplication). A negative shift is a left shift.

    Raises:
        IntsimError: scale too large (left shift by more than 30), or bits outside 4..32.

    Source: tensorflow/lite/kernels/internal/quantization_util.cc.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 4 <= bits <= 32:
        raise IntsimError(f"multiplier_bits is {bits!r}; allowed: an integer 4..32")
    scale = Fraction(scale)
    if scale == 0:
        return 0, 0
    magnitude = abs(scale)
    # frexp: magnitude = q * 2^exponent with 1/2 <= q < 1.
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude >= power_of_two(exponent):
        exponent += 1
    multiplier = round_fraction(magnitude * power_of_two(bits - 1 - exponent), Rounding.HALF_AWAY)
    if multiplier == 1 << (bits - 1):
        multiplier >>= 1
        exponent += 1
    if exponent < SMALLEST_EXPONENT:
        return 0, 0
    if exponent > LARGEST_EXPONENT:
        raise IntsimError(f"scale {float(scale):g} is too large for a fixed-point multiplier; it must be below 2^30")
    return (multiplier if scale > 0 else -multiplier), bits - 1 - exponent


def saturating_rounding_doubling_high_mul(a: Any, b: Any, bits: int = 32) -> Any:
    """Return a * b / 2^(bits-1) rounded half up, saturated to `bits` signed bits.

    The only pair that saturates is a = b = -2^(bits-1). With bits = 32 this is gemmlowp's
    `SaturatingRoundingDoublingHighMul` (fixedpoint/fixedpoint.h) and ARM's SQRDMULH: their nudges, 2^30 for a product
    >= 0 and 1 - 2^30 with truncating division below, both send ties toward +infinity.

    Args:
        a: integers of `bits` signed bits; with arrays, bits at most 32.
        b: likewise; broadcasts with a.
        bits: width of both operands and of the result.
    """
    if isinstance(a, int) and isinstance(b, int):
        return min(round_divide(a * b, 1 << (bits - 1), Rounding.HALF_UP), (1 << (bits - 1)) - 1)
    product = as_integers(a) * as_integers(b)
    return np.minimum(round_divide(product, 1 << (bits - 1), Rounding.HALF_UP), (1 << (bits - 1)) - 1)


def rounding_divide_by_pot(x: Any, exponent: int) -> Any:
    """Return x / 2^exponent rounded half away from zero: gemmlowp's `RoundingDivideByPOT` (fixedpoint.h)."""
    if exponent < 0:
        raise IntsimError(f"exponent {exponent} is negative")
    return round_divide(x, 1 << exponent, Rounding.HALF_AWAY)


def multiply_high_double_rounding(acc: Any, multiplier: int, shift: int, bits: int = 32) -> Any:
    """Return acc * multiplier * 2^-shift the way gemmlowp and TFLite do, rounded twice.

    `RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(acc << left, M), right)`, where shift = bits-1 + right or
    bits-1 - left; the left shift wraps in int32 as the C code does on two's complement machines. For bits < 32 the
    high multiplication keeps acc * M >> (bits-1): the same data path with a narrower multiplier operand.

    Args:
        acc: int32 values, in any integer array.
        multiplier: M of `quantize_multiplier`, |M| < 2^(bits-1).
        shift: shift of `quantize_multiplier`.
        bits: width of the multiplier operand, 4..32.

    Returns:
        Same shape, int64, before zero point and clip.

    Raises:
        IntsimError: an accumulator outside int32, which this data path does not take, or |M| too wide.

    Source: gemmlowp fixedpoint/fixedpoint.h; tensorflow/lite/kernels/internal/common.h, MultiplyByQuantizedMultiplier.
    """
    values = as_integers(acc, "accumulator")
    _check_multiplier(multiplier, bits)
    if values.size and (values.min() < -(1 << 31) or values.max() >= 1 << 31):
        raise IntsimError(
            f"double rounding takes 32-bit accumulators, got {values.min()}..{values.max()}; "
            "use single rounding, or a 32-bit last stage"
        )
    left, right = max(0, bits - 1 - shift), max(0, shift - bits + 1)
    if left:
        values = wrap(values << min(left, 32), 32)  # 32 already shifts every bit out
    high = round_divide(values * multiplier, 1 << (bits - 1), Rounding.HALF_UP)
    result = rounding_divide_by_pot(high, right)
    return int(result) if isinstance(acc, int) else result


def multiply_single_rounding(acc: Any, multiplier: int, shift: int, mode: str | Rounding) -> Any:
    """Return acc * multiplier * 2^-shift from the full product, rounded once.

    With mode half_up and a 32-bit multiplier: TFLite built with TFLITE_SINGLE_ROUNDING, and TOSA `apply_scale` without
    double rounding. Takes accumulators of any width; a product that does not fit int64 is computed in Python ints.

    Args:
        acc: integers.
        multiplier: M of `quantize_multiplier`.
        shift: its shift; negative multiplies by 2^-shift.
        mode: rounding mode.

    Returns:
        Same shape; int64, or object if the result does not fit int64 either.
    """
    return _scaled(acc, int(multiplier), int(shift), rounding(mode))


def power_of_two(exponent: int) -> Fraction:
    """2^exponent, exactly."""
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def _check_multiplier(multiplier: int, bits: int) -> None:
    if not 4 <= bits <= 32 or not abs(multiplier) < 1 << (bits - 1):
        raise IntsimError(f"multiplier {multiplier} does not fit {bits} signed bits")


def _scaled(acc: Any, multiplier: int, shift: int, mode: Rounding) -> Any:
    """acc * multiplier * 2^-shift rounded once; in int64 if everything fits, else in Python ints."""
    top, bottom = multiplier << max(0, -shift), 1 << max(0, shift)
    if isinstance(acc, int):
        return round_divide(acc * top, bottom, mode)
    values = as_integers(acc, "accumulator")
    largest = max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
    top = top if largest else 0  # all zeros: an unused factor may be beyond int64
    if values.dtype != object and largest * abs(top) < 1 << 63 and bottom < 1 << 63:
        return round_divide(values * top, bottom, mode)
    result = round_divide(values.astype(object) * top, bottom, mode)  # not empty unless object: largest > 0
    if values.dtype != object and int(result.min()) >= -(1 << 63) and int(result.max()) < 1 << 63:
        return result.astype(np.int64)
    return result


@dataclass(frozen=True)
class FixedPoint(Requantizer):
    """`(acc + b) * M * 2^-n`: the full product rounded once as `rounding` says, or `double_rounding` as gemmlowp.

    Once: monotone everywhere. Twice: the left shift wraps in int32, at every value that reaches `2^(31-left)` modulo
    `2^(32-left)`; the high product and the division round monotonely; values outside int32 are refused.
    """

    scheme: ClassVar[str] = "fixed-point"
    takes: ClassVar[tuple[str, ...]] = ("multiplier_bits", "rounding", "double_rounding")

    def check(self) -> None:
        """One rounding has its mode, two have none."""
        self.need("multiplier_bits")
        if not self.double_rounding:
            self.need("rounding")
        elif self.rounding is not None:
            raise IntsimError("rounding is given, but double_rounding = true fixes it; remove it")

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """All widths, each in every mode and rounded twice."""
        widths = (32, 16, 8, *(n for n in range(4, 32) if n not in (8, 16)))
        return tuple(v for n in widths for v in (cls(n, None, True), *(cls(n, mode) for mode in Rounding)))

    def with_width(self, bits: int) -> Self:
        """The same with another multiplier."""
        return replace(self, multiplier_bits=bits)

    @property
    def summary(self) -> str:
        """How many roundings."""
        return f"fixed-point, {'two roundings' if self.double_rounding else f'rounded once, {self.rounding}'}"

    @property
    def multiplies(self) -> Multiplies | None:
        """In one piece."""
        assert self.multiplier_bits is not None
        return Multiplies(self.multiplier_bits, self.double_rounding, self.rounding or Rounding.HALF_AWAY)

    def words(self) -> str:
        """Width and roundings."""
        twice, once = "high product half_up, then shift half_away (two roundings)", "full product, shifted, rounded"
        rounded = twice if self.double_rounding else f"{once} {self.rounding} once"
        return f"fixed-point: {self.multiplier_bits}-bit multiplier and shift; {rounded}"

    def channel(self, scale: Fraction) -> Channel:
        """Multiplier and shift of `quantize_multiplier`."""
        assert self.multiplier_bits is not None
        multiplier, shift = quantize_multiplier(scale, self.multiplier_bits)
        told = {"multiplier": multiplier, "shift": shift}
        if not self.double_rounding:
            return Channel(multiplier / power_of_two(shift), told=told)
        # nothing comes of a multiplier of 0, however it is shifted
        left = max(0, self.multiplier_bits - 1 - shift) if multiplier else 0
        period = 1 << (32 - left) if left else 0
        return Channel(multiplier / power_of_two(shift), (-(1 << 31), (1 << 31) - 1), period, told)

    def multiply(self, values: Integers, scale: Fraction) -> Integers:
        """The definition."""
        told = self.channel(scale).told
        if self.double_rounding:
            return np.asarray(multiply_high_double_rounding(values, **told, bits=self.multiplier_bits or 32))
        return in_int64(multiply_single_rounding(values, **told, mode=self.rounding or Rounding.HALF_UP))
