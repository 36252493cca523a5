"""What the multiplier sees: zero-point-corrected values, or raw codes shifted into its operand types.

A kernel whose multiplier takes u8 x s8 feeds it the stored codes, not codes minus zero points; the zero points are
compensated after the accumulation (oneDNN developer guide, Nuances of int8 Computations; gemmlowp, low-precision.md):

    sum (x - zx)(w - zw) = sum x w - zx sum w - zw sum x + K zx zw
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.mac import Mac


@dataclass(frozen=True)
class Operands:
    """`shift` is added to codes before the multiplier; `zero` is the zero point of what the multiplier sees."""

    x_shift: int
    w_shift: int | IntArray
    x_zero: int
    w_zero: IntArray
    corrected: bool
    skipped: bool = False

    @property
    def pad(self) -> int:
        """What padding holds at the multiplier; 0 where it makes no products."""
        return 0 if self.skipped else self.x_zero

    @property
    def owed(self) -> bool:
        """Whether padding that makes no products is compensated for as if it made some; that is then paid back."""
        return self.skipped and not self.corrected and self.x_zero != 0

    def shifted(self, x: IntArray, w: IntArray) -> tuple[IntArray, IntArray]:
        """Activations and weights as the multiplier sees them; the arrays themselves where nothing is added."""
        return x + self.x_shift if self.x_shift else x, w + self.w_shift if np.any(self.w_shift) else w

    def compensation(self, w: IntArray, w_zero: IntArray) -> IntArray | None:
        """Per row of `w` (N, K), as the multiplier sees it, `-zx sum w + K zx zw`; None when there is none to add.

        `w_zero` (N,) are the rows' zero points. Each matrix of a batch has a compensation of its own.
        """
        if self.corrected or self.x_zero == 0:
            return None
        return -self.x_zero * w.sum(axis=1) + w.shape[1] * self.x_zero * w_zero

    def depends_on_data(self) -> bool:
        """Whether `-zw sum x` must be added for each output."""
        return not self.corrected and bool(self.w_zero.any())


def channel_zeros(zero: IntArray, channels: int) -> IntArray:
    """Weight zero points as one value a channel."""
    flat = np.asarray(zero, np.int64).reshape(-1)
    return np.broadcast_to(flat, (channels,)) if flat.size == 1 else flat


def multiplier_operands(
    node: Node,
    op: Mac,
    tensors: list[Tensor],
    activation: IntegerType | None,
    weight: IntegerType | None,
    skipped: bool = False,
) -> Operands:
    """What `node` feeds to a multiplier of these operand types (None: corrected values of any width).

    Raises IntsimError when a tensor doesn't fit its operand.
    """
    zx, zw = op.zero_points(node)
    if activation is None or weight is None:
        return Operands(-zx, -zw, 0, np.zeros((), np.int64), True, skipped)
    x_shift = _shift(node, "activation", tensors[0].type, (tensors[0].low, tensors[0].high), activation)
    if len(tensors) > 1:
        kind, limits = tensors[1].type, (tensors[1].low, tensors[1].high)
    else:
        codes = node.arrays["weight"]
        kind = IntegerType(**node.attributes["weight_type"]) if "weight_type" in node.attributes else None
        limits = (int(codes.min()), int(codes.max()))
    w_shift = _shift(node, "weight", kind, limits, weight)
    return Operands(x_shift, w_shift, zx + x_shift, zw + w_shift, False, skipped)


def _shift(node: Node, what: str, kind: IntegerType | None, limits: tuple[int, int], operand: IntegerType) -> int:
    """0 where the type fits, else half the operand's range up or down, as kernels store one sign as the other."""
    low, high = (kind.min, kind.max) if kind is not None else limits
    half = 1 << (operand.bits - 1)
    for shift in (0, half if operand.signed is False else -half):
        if operand.contains(low + shift, high + shift):
            return shift
    name = kind.name if kind is not None else f"range {limits[0]}..{limits[1]}"
    sign = "s" if operand.signed else "u"
    raise IntsimError(
        f"node {node.shown}: its {what} ({name}) doesn't fit the target's {sign}{operand.bits} operand; "
        "quantize it to fewer bits or choose another target"
    )
