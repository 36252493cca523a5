"""Times a binary64 number, in IEEE 754 binary64: the reference FULLY_CONNECTED of LiteRT.

Source: LiteRT 2.3.0 (google-ai-edge/LiteRT, commit f67457790c9c), tflite/kernels/internal/reference/integer_ops.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.pieces import Integers
from intsim.arithmetic.requantizers.requantizer import Channel, Requantizer
from intsim.errors import IntsimError

MOST = (1 << 31) - 1


def away(values: NDArray[Any]) -> Integers:
    """Floats to the nearest integer, ties away from zero, as std::round; far beyond any code they are clipped."""
    whole = np.trunc(values)
    out = whole + np.where(np.abs(values - whole) >= 0.5, np.sign(values), 0)
    return np.clip(out, -(2.0**62), 2.0**62).astype(np.int64)


@dataclass(frozen=True)
class Float64(Requantizer):
    """`away(float64(acc + b) * float64(S))`: a float64 product, rounded to the nearest, ties away from zero.

    Monotone: a rounded product with one factor and a rounding are. A result that int32 doesn't hold is undefined in C
    and refused.
    """

    scheme: ClassVar[str] = "float64"

    def words(self) -> str:
        """The formula."""
        return "float64: float64(acc) * float64(scale), rounded half away from zero"

    def channel(self, scale: Fraction) -> Channel:
        """The factor, and the accumulators whose results int32 holds."""
        factor = Fraction(float(scale))
        edge = int(MOST / abs(factor)) if factor else MOST
        return Channel(factor, (-edge, edge), told={"factor": float(scale)})

    def multiply(self, values: Integers, scale: Fraction) -> Integers:
        """The definition. Raises IntsimError for a result that int32 doesn't hold."""
        low, high = self.channel(scale).limits or (0, 0)
        if values.size and not low <= int(values.min()) <= int(values.max()) <= high:
            raise IntsimError(
                f"float64 multiplies {values.min()}..{values.max()} by {float(scale):g}; a result must fit int32, as "
                f"it does within {low}..{high}"
            )
        limited = np.clip(values, -(1 << 62), 1 << 62).astype(np.float64)
        return away(limited * float(scale))
