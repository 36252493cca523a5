"""A machine's multiply-accumulate path as one value: operands, order of arrival, registers, place of the bias."""

from __future__ import annotations

from dataclasses import dataclass

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import IntegerType


@dataclass(frozen=True)
class Registers:
    """`stages` empty: unbounded. `preload`: the bias starts the last register. Operand types None: any width."""

    stages: tuple[Stage, ...]
    order: tuple[str, ...]
    preload: bool
    activation: IntegerType | None
    weight: IntegerType | None
