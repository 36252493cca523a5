"""A machine's requantizer as one value: which scheme, how wide its multiplier, how it rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from intsim.arithmetic.rounding import Rounding

Scheme = Literal["exact", "thresholds", "fixed-point", "shift", "float32", "tosa"]


@dataclass(frozen=True)
class RequantizerForm:
    """`docs/requantizers.md`; fields that a scheme doesn't use are None or False.

    `multiplier_bits`: "fixed-point" 4..32; "tosa" 16 or 32, None for 32. `rounding`: "shift", and "fixed-point" rounded
    once. `double_rounding`: "fixed-point" as gemmlowp, "tosa" with 32 bits as DOUBLE_ROUND.
    """

    scheme: Scheme
    multiplier_bits: int | None = None
    rounding: Rounding | None = None
    double_rounding: bool = False
