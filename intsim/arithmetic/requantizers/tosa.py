"""TOSA's integer scaling, `apply_scale_32` and `apply_scale_16`, with every precondition of the specification checked.

A graph that breaks one of them is invalid TOSA, and implementations are free to do anything; here each is an error
that names value and rule. Source: TOSA specification 1.0, section "Scaling" (General pseudocode helpers); the choice
of multiplier and shift is that of MLIR, mlir/lib/Dialect/Tosa/Utils/QuantUtils.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Self

import numpy as np

from intsim.arithmetic.integers import as_integers
from intsim.arithmetic.pieces import Integers
from intsim.arithmetic.requantizers.fixed_point import quantize_multiplier
from intsim.arithmetic.requantizers.requantizer import Channel, Multiplies, Requantizer
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError

LEAST_SHIFT, MOST_SHIFT = 2, 62
VALUE_BITS = {32: 32, 16: 48}
"""Width of the value that each multiplier width scales."""


def tosa_multiplier(scale: Fraction, bits: int = 32) -> tuple[int, int]:
    """Return (multiplier, shift) for a scale: multiplier * 2^-shift.

    The multiplier has `bits` bits with its sign and is normalised; where the shift would exceed 62, multiplier bits are
    dropped instead, down to 0.

    Args:
        scale: exact scale, > 0.
        bits: 32 or 16, for `apply_scale_32` or `apply_scale_16`.

    Raises:
        IntsimError: a scale that is not positive, or so large that the shift would be below 2.
    """
    check_width(bits)
    scale = Fraction(scale)
    if scale <= 0:
        raise IntsimError(
            f"TOSA apply_scale_{bits}: scale {float(scale):g} would need a multiplier below 0; the rule is "
            "multiplier >= 0; use scheme fixed-point, which takes negative scales"
        )
    dropped = 0
    while scale < Fraction(1, 1 << 31):  # beyond the exponents of quantize_multiplier
        if dropped > 1 << 7:
            return 0, MOST_SHIFT
        scale, dropped = scale * (1 << 31), dropped + 31
    largest = Fraction(1 << (bits - LEAST_SHIFT - 1))
    if scale >= largest:
        raise IntsimError(_too_large(scale, bits))
    multiplier, shift = quantize_multiplier(scale, bits)
    if shift < LEAST_SHIFT:  # rounded up to the next power of two
        raise IntsimError(_too_large(scale, bits))
    shift += dropped
    if shift > MOST_SHIFT:
        multiplier, shift = multiplier >> min(31, shift - MOST_SHIFT), MOST_SHIFT
    return multiplier, shift


def _too_large(scale: Fraction, bits: int) -> str:
    return (
        f"TOSA apply_scale_{bits}: scale {float(scale):g} would need a shift below {LEAST_SHIFT}; the rule is "
        f"{LEAST_SHIFT} <= shift <= {MOST_SHIFT}, hence a scale below 2^{bits - LEAST_SHIFT - 1}"
    )


def value_limits(multiplier: int, shift: int, bits: int = 32) -> tuple[int, int]:
    """Least and greatest value that `apply_scale_<bits>` takes with this multiplier and shift.

    32: int32 and -2^(shift-1) <= value < 2^(shift-1), which keeps the result within int32 as well.
    16: int48, and the result must be within int32.

    Raises:
        IntsimError: multiplier or shift against their own rules.
    """
    _check(multiplier, shift, bits)
    if bits == 32:
        edge = min(1 << (shift - 1), 1 << 31)
        return -edge, edge - 1
    edge = 1 << (VALUE_BITS[bits] - 1)
    if multiplier == 0:
        return -edge, edge - 1
    # -2^31 <= floor((value * multiplier + half) / 2^shift) <= 2^31 - 1, solved for the value
    half = 1 << (shift - 1)
    high = ((1 << (31 + shift)) - 1 - half) // multiplier
    low = -(((1 << (31 + shift)) + half) // multiplier)
    return max(-edge, low), min(edge - 1, high)


def apply_scale_32(value: Any, multiplier: int, shift: int, double_round: bool = False) -> Any:
    """Return (value * multiplier + round) >> shift, round = 2^(shift-1).

    With `double_round` and a shift above 31, round is 2^30 more for a value >= 0 and 2^30 less below.

    Args:
        value: Python int or integer array of any shape.
        multiplier: 0 <= multiplier < 2^31.
        shift: 2..62.
        double_round: the specification's DOUBLE_ROUND.

    Returns:
        A Python int for one, else int64, same shape, within int32.

    Raises:
        IntsimError: multiplier < 0 or too wide; shift outside 2..62; a value outside int32 or outside
            -2^(shift-1)..2^(shift-1)-1.
    """
    return _scaled(value, multiplier, shift, 32, double_round)


def apply_scale_16(value: Any, multiplier: int, shift: int) -> Any:
    """Return (value * multiplier + 2^(shift-1)) >> shift for values of 48 bits; arguments as in `apply_scale_32`.

    Raises:
        IntsimError: multiplier outside 0..2^15-1; shift outside 2..62; a value outside int48; a result outside int32.
    """
    return _scaled(value, multiplier, shift, 16, False)


def _scaled(value: Any, multiplier: int, shift: int, bits: int, double_round: bool) -> Any:
    low, high = value_limits(multiplier, shift, bits)
    values = as_integers(value)
    if values.size and (values.min() < low or values.max() > high):
        raise IntsimError(_outside(values, low, high, shift, bits))
    values = values.astype(np.int64)
    # at most 32 + 31 or 48 + 15 bits in magnitude, and 2^61 + 2^30 more: within int64
    rounding: Any = 1 << (shift - 1)
    if double_round and shift > 31:
        rounding = rounding + np.where(values >= 0, 1 << 30, -(1 << 30))
    result = (values * multiplier + rounding) >> shift
    return int(result) if isinstance(value, int) else result


def _outside(values: Any, low: int, high: int, shift: int, bits: int) -> str:
    """Which rule the first offending value breaks."""
    worst = int(values.min()) if values.min() < low else int(values.max())
    width = VALUE_BITS[bits]
    if not -(1 << (width - 1)) <= worst < 1 << (width - 1):
        rule = f"the value is int{width}"
    elif bits == 32:
        rule = f"-2^(shift-1) <= value < 2^(shift-1) with shift {shift}"
    else:
        rule = f"the result is int32, hence value in {low}..{high}"
    return f"TOSA apply_scale_{bits}: value {worst} is refused; the rule is: {rule}"


def check_width(bits: int) -> None:
    """Raise IntsimError unless TOSA has a multiplier of this width."""
    if bits not in VALUE_BITS:
        raise IntsimError(f"TOSA has multipliers of 16 and 32 bits, not {bits}; set multiplier_bits to one of them")


def _check(multiplier: int, shift: int, bits: int) -> None:
    check_width(bits)
    if not 0 <= multiplier < 1 << (bits - 1):
        raise IntsimError(
            f"TOSA apply_scale_{bits}: multiplier {multiplier}; the rule is 0 <= multiplier < 2^{bits - 1}"
        )
    if not LEAST_SHIFT <= shift <= MOST_SHIFT:
        raise IntsimError(f"TOSA apply_scale_{bits}: shift {shift}; the rule is {LEAST_SHIFT} <= shift <= {MOST_SHIFT}")


@dataclass(frozen=True)
class Tosa(Requantizer):
    """TOSA's RESCALE with a multiplier of 16 or 32 bits; its preconditions are errors.

    Monotone everywhere: with DOUBLE_ROUND the added constant grows by 2^31 between values -1 and 0, the way the value
    grows, and the multiplier isn't negative. Values against a precondition have no result.
    """

    multiplier_bits: int | None = 32

    scheme: ClassVar[str] = "tosa"
    takes: ClassVar[tuple[str, ...]] = ("multiplier_bits", "double_rounding")

    def check(self) -> None:
        """Two widths; DOUBLE_ROUND with the wider one."""
        if self.multiplier_bits not in VALUE_BITS:
            raise IntsimError(f'multiplier_bits is {self.multiplier_bits}; allowed for scheme "tosa": 16, 32')
        if self.double_rounding and self.multiplier_bits != 32:
            raise IntsimError('double_rounding is true; scheme "tosa" allows it with multiplier_bits = 32 only')

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """All three."""
        return cls(32), cls(16), cls(32, None, True)

    @property
    def multiplies(self) -> Multiplies | None:
        """In one piece."""
        return None if self.double_rounding else Multiplies(self.multiplier_bits or 32, False, Rounding.HALF_UP)

    def words(self) -> str:
        """Width and roundings."""
        bits, once, twice = (
            self.multiplier_bits,
            "rounded half_up once",
            "two roundings where it shifts by more than 31",
        )
        return f"tosa: apply_scale_{bits}, {bits}-bit multiplier and shift; {twice if self.double_rounding else once}"

    def channel(self, scale: Fraction) -> Channel:
        """Multiplier and shift of `tosa_multiplier`, and the values that they take."""
        bits = self.multiplier_bits or 32
        multiplier, shift = tosa_multiplier(scale, bits)
        limits = value_limits(multiplier, shift, bits)
        return Channel(Fraction(multiplier, 1 << shift), limits, told={"multiplier": multiplier, "shift": shift})

    def multiply(self, values: Integers, scale: Fraction) -> Integers:
        """The definition."""
        bits = self.multiplier_bits or 32
        return np.asarray(_scaled(values, *tosa_multiplier(scale, bits), bits, self.double_rounding))

    def operand(self, values: Integers, scale: Fraction) -> Integers:
        """Of a sum: what has a negative scale is subtracted; TOSA has SUB beside ADD."""
        return -self.multiply(values, -scale) if scale < 0 else self.multiply(values, scale)

    def operand_constants(self, scale: Fraction) -> dict[str, Any]:
        """Of the scale without its sign, and `sign`, by which the product is multiplied."""
        return {"sign": 1 if scale > 0 else -1, **self.told(abs(scale))}
