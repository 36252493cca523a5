"""A machine's requantizer as one value: which scheme, how wide its multiplier, how it rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from intsim.arithmetic.rounding import Rounding

Scheme = Literal["exact", "thresholds", "fixed-point", "shift", "float32", "tosa"]


@dataclass(frozen=True)
class RequantizerForm:
    """`docs/targets.md`, section Requantizers; fields that a scheme doesn't use are None or False."""

    scheme: Scheme
    multiplier_bits: int | None = None
    rounding: Rounding | None = None
    double_rounding: bool = False
