"""gemmlowp's two roundings as ruy's NEON kernels compute them: the second takes ties up, not away from zero.

Source: google/ruy, ruy/kernel_arm64.cc, commit 0fa8594f9b1613a496a579859901c95a8ee96556, Kernel8bitNeon with
RUY_OPT_NATIVE_ROUNDING, which ruy/opt_set.h turns on by default: `sshl` by the exponent where it is positive,
`sqrdmulh` by the multiplier, `srshl` by the exponent where it is negative, which breaks ties upward. Without the option
a fix-up in front of `srshl` makes it gemmlowp's RoundingDivideByPOT. ruy/kernel_arm32.cc has `vshl`, `vqrdmulh`,
`vrshl`. Not modelled: the kernels narrow to int16 before they add the zero point, which shows only in results that are
next to or beyond the ends of int16.

Later commits (0aa3f8b422f80365a5669fd1ce36f4d9d99a6e93, ruy/apply_multiplier.cc) round once: that is scheme
"fixed-point" with 32 bits and `half_up`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from intsim.arithmetic.binary32 import nearest
from intsim.arithmetic.integers import wrap
from intsim.arithmetic.pieces import Formula, Integers
from intsim.arithmetic.requantizers.fixed_point import FixedPoint, saturating_rounding_doubling_high_mul
from intsim.arithmetic.requantizers.requantizer import Channel, Multiplies, RoundedScale, Site, with_factor
from intsim.arithmetic.rounding import Rounding, round_divide
from intsim.errors import IntsimError

GEMMLOWP = FixedPoint(32, None, True)


@dataclass(frozen=True)
class Ruy(RoundedScale):
    """`srshl(sqrdmulh((acc + b) << left, M), -right)` on int32; multiplier and shifts are gemmlowp's.

    Monotone where gemmlowp's is: the left shift wraps in int32, the high product and the rounding shift are monotone.

    `scale_roundings` 2: the multiplier is of `float32(sx sw) / sy`, as fully connected layers of LiteRT have it where
    all weights have one scale; 1: of the exact ratio.
    """

    scheme: ClassVar[str] = "ruy"

    def converted(self, formula: Formula, site: Site) -> Formula:
        """The factor of the rounded product, for weights with one scale."""
        return (
            with_factor(formula, site, Fraction(float(nearest(site.unit))) / site.step) if site.per_tensor else formula
        )

    @property
    def multiplies(self) -> Multiplies | None:
        """In one piece."""
        return Multiplies(32, True, Rounding.HALF_UP)

    def words(self) -> str:
        """Both roundings."""
        of = " and shift" if self.scale_roundings == 1 else " of float32(sx sw) / sy"
        return f"ruy: 32-bit multiplier{of}; high product half_up, then shift half_up (two roundings)"

    def channel(self, scale: Fraction) -> Channel:
        """Multiplier and shift of `quantize_multiplier`."""
        return GEMMLOWP.channel(scale)

    def multiply(self, values: Integers, scale: Fraction) -> Integers:
        """The definition. Raises IntsimError for a value outside int32."""
        low, high = -(1 << 31), (1 << 31) - 1
        if values.size and (values.min() < low or values.max() > high):
            raise IntsimError(
                f"ruy takes 32-bit accumulators, got {values.min()}..{values.max()}; use a 32-bit last stage"
            )
        told = self.channel(scale).told
        left, right = max(0, 31 - told["shift"]), max(0, told["shift"] - 31)
        product = saturating_rounding_doubling_high_mul(wrap(values << left, 32), told["multiplier"])
        return np.asarray(round_divide(product, 1 << right, Rounding.HALF_UP))
