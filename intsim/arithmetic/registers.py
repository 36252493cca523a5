"""A machine's multiply-accumulate path as one value: operands, packing, order, registers, place of the bias."""

from __future__ import annotations

from dataclasses import dataclass

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.packing import Packing


@dataclass(frozen=True)
class Registers:
    """`stages` empty: unbounded. `preload`: the bias starts the last register. Operand types None: any width.

    With `packing` the first stage adds up its group in fields of one wide register and reads `bits` bits of each.
    """

    stages: tuple[Stage, ...]
    order: tuple[str, ...]
    preload: bool
    activation: IntegerType | None
    weight: IntegerType | None
    packing: Packing | None = None
