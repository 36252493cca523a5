"""A machine's multiply-accumulate path as one value: operands, packing, order, registers, place of the bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.packing import Packing

BiasPlace = Literal["after", "preload", "requantizer"]
"""Added into the last register after all products; the value that register starts at; behind all registers."""


PaddingRule = Literal["fed", "skipped"]
"""Padding goes through the multiplier as the zero point, or makes no products; what that changes is then added
exactly."""


@dataclass(frozen=True)
class Registers:
    """`stages` empty: unbounded. `bias`: where a layer's bias is added. Operand types None: any width.

    With `packing` the first stage adds up its group in fields of one wide register and reads `bits` bits of each.
    """

    stages: tuple[Stage, ...]
    order: tuple[str, ...]
    bias: BiasPlace
    activation: IntegerType | None
    weight: IntegerType | None
    packing: Packing | None = None
    padding: PaddingRule = "fed"
