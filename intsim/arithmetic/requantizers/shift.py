"""Shifted by a power of two, rounded once."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Self

from intsim.arithmetic.pieces import Integers
from intsim.arithmetic.requantizers.fixed_point import multiply_single_rounding
from intsim.arithmetic.requantizers.requantizer import Channel, Multiplies, Requantizer, in_int64
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError


def power_of_two_shift(scale: Fraction) -> int:
    """Return shift with scale == 2^-shift exactly, or raise IntsimError naming the scale."""
    scale = Fraction(scale)
    top, bottom = scale.numerator, scale.denominator
    if top < 1 or top & (top - 1) or bottom & (bottom - 1):
        raise IntsimError(
            f"scale {scale} is not a power of two, which a shift requantizer needs; "
            "train with power-of-two scales or use scheme fixed-point"
        )
    return bottom.bit_length() - top.bit_length()


def shift_requantize(acc: Any, shift: int, mode: str | Rounding) -> Any:
    """Return acc * 2^-shift rounded once: an arithmetic shift with rounding; negative shifts go left.

    Use `power_of_two_shift` to get the shift of an exact scale.
    """
    return multiply_single_rounding(acc, 1, shift, mode)


@dataclass(frozen=True)
class Shift(Requantizer):
    """`(acc + b) * 2^-n`, rounded once as `rounding` says; a negative scale negates before the shift.

    Monotone everywhere. Integers on a power-of-two grid need no multiplier, so inputs of a sum are added exactly.
    """

    scheme: ClassVar[str] = "shift"
    takes: ClassVar[tuple[str, ...]] = ("rounding",)
    adds_exactly: ClassVar[bool] = True
    powers_of_two: ClassVar[bool] = True

    def check(self) -> None:
        """It has a mode."""
        self.need("rounding")

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """Every mode."""
        return tuple(cls(rounding=mode) for mode in Rounding)

    @property
    def multiplies(self) -> Multiplies | None:
        """In one piece."""
        assert self.rounding is not None
        return Multiplies(2, False, self.rounding)

    def words(self) -> str:
        """The mode."""
        return f"shift: acc >> n, rounded {self.rounding}; scales must be powers of two"

    def channel(self, scale: Fraction) -> Channel:
        """The shift."""
        return Channel(scale, told={"shift": power_of_two_shift(abs(scale))})

    def told(self, scale: Fraction) -> dict[str, Any]:
        """The shift, and the sign by which accumulators are multiplied before it."""
        return {"sign": 1 if scale > 0 else -1, **self.channel(scale).told}

    def multiply(self, values: Integers, scale: Fraction) -> Integers:
        """The definition."""
        assert self.rounding is not None
        signed = values if scale > 0 else -values
        return in_int64(shift_requantize(signed, **self.channel(scale).told, mode=self.rounding))
