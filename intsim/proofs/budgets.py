"""What published budgets of weight norms grant: the accumulator widths of A2Q and A2Q+, from operand types alone.

    A2Q    l1 <= (2^(P-1) - 1) * 2^(s - N)     N-bit inputs, s = 1 if signed, P-bit accumulator
    A2Q+   l1 <= (2^P - 2) / (2^N - 1)         weights whose positive and negative parts have equal norms

Where the parts differ (weights centred before they are rounded, or not at all) twice the larger one stands for l1: each
part alone must fit half the range, which is how AXE (arXiv 2409.17092) writes the same budget.

A2Q: arXiv 2308.13504, and Brevitas, `get_upper_bound_on_l1_norm`. A2Q+: arXiv 2401.10432. `l1` is the sum of the
magnitudes of a channel's integer weights as the multiplier sees them. Both bound every partial sum of the products in
every order; a bias is not part of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from intsim.arithmetic.integers import IntegerType, bits_for
from intsim.errors import IntsimError
from intsim.graph import Tensor
from intsim.mac.any_order import Addends


@dataclass(frozen=True)
class Budget:
    """One layer with constant weights, a value a channel; of batched weights the worst matrix counts."""

    input_bits: int
    input_signed: bool
    l1: list[int] = field(default_factory=list)
    a2q_bits: list[int] = field(default_factory=list)
    a2q_plus_bits: list[int] = field(default_factory=list)


def a2q_budget(bits: int, input_bits: int, signed: bool) -> Fraction:
    """Largest l1 norm that A2Q allows for a `bits`-bit accumulator, exact."""
    _check(bits, input_bits)
    return Fraction(2 ** (bits - 1) - 1) * Fraction(2) ** (int(signed) - input_bits)


def a2q_plus_budget(bits: int, input_bits: int) -> Fraction:
    """Largest l1 norm that A2Q+ allows for weights whose parts have equal norms, exact."""
    _check(bits, input_bits)
    return Fraction(2**bits - 2, 2**input_bits - 1)


def a2q_bits(l1: int, input_bits: int, signed: bool) -> int:
    """Smallest accumulator width to which A2Q grants this norm: the smallest P with 2^(P-1) - 1 >= l1 * 2^(N-s)."""
    _check(1, input_bits)
    return (l1 << (input_bits - int(signed))).bit_length() + 1


def a2q_plus_bits(l1: int, input_bits: int) -> int:
    """Smallest accumulator width to which A2Q+ grants this norm: the smallest P with 2^P - 2 >= l1 * (2^N - 1)."""
    _check(1, input_bits)
    return (l1 * (2**input_bits - 1) + 1).bit_length()


def declared(kind: IntegerType | None, low: int, high: int) -> tuple[int, int]:
    """Ends of the declared type, of the values low..high where none is declared."""
    return (low, high) if kind is None else (kind.min, kind.max)


def budget(adds: Addends, activation: Tensor, pads: bool) -> Budget | None:
    """The budgets of a layer with constant weights, None for a product of two tensors.

    `activation` describes the layer's input; its declared type counts, not what is known of its values. `adds` says
    what the multiplier sees of it.
    """
    if len(adds.w) > 1:
        return None
    ends = declared(activation.type, activation.low, activation.high)
    low, high = (end + adds.operands.x_shift for end in ends)
    if pads:
        low, high = min(low, adds.operands.pad), max(high, adds.operands.pad)
    signed = low < 0
    bits = bits_for(low, high) if signed else max(high.bit_length(), 1)
    rows = adds.w[0]
    norms = abs(rows).sum(axis=1).reshape(-1, adds.channels)
    sums = rows.sum(axis=1).reshape(-1, adds.channels)
    l1 = [int(v) for v in norms.max(axis=0)]
    twice = [int(v) for v in (norms + abs(sums)).max(axis=0)]  # twice the larger of the two parts
    granted = [a2q_bits(v, bits, signed) for v in l1], [a2q_plus_bits(v, bits) for v in twice]
    return Budget(bits, signed, l1, *granted)


def _check(bits: int, input_bits: int) -> None:
    if bits < 1 or input_bits < 1:
        raise IntsimError(f"an accumulator of {bits} bits, inputs of {input_bits} bits; both must be 1 or more")
