"""Integer types and what a register does with a value that does not fit: wrap or saturate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError

MAX_BITS = 64


def as_integers(x: Any, what: str = "value") -> NDArray[Any]:
    """Return `x` as an int64 array, or as an object array of Python ints if it is one or is an int beyond int64.

    Args:
        x: Python int, integer array of up to 64 bits, or object array of Python ints; any shape.
        what: name used in the error.

    Raises:
        IntsimError: not integers (floats, bools, strings), or uint64 values that do not fit int64.
    """
    if isinstance(x, int) and not -(1 << 63) <= x < 1 << 63:
        return np.array(x, dtype=object)
    array = np.asarray(x)
    if array.dtype == np.int64 or array.dtype.kind == "i":
        return array.astype(np.int64, copy=False)
    if array.dtype.kind == "u":
        if array.dtype.itemsize == 8 and array.size and int(array.max()) >= 1 << 63:
            raise IntsimError(f"{what}: uint64 value {int(array.max())} does not fit int64; pass an object array")
        return array.astype(np.int64)
    if array.dtype == object:
        if all(isinstance(item, (int, np.integer)) and not isinstance(item, bool) for item in array.flat):
            return array
        raise IntsimError(f"{what}: an object array may hold Python ints only")
    if array.size == 0:
        return array.astype(np.int64)
    raise IntsimError(f"{what}: expected integers, got {array.dtype}")


def check_bits(bits: int, what: str = "bits") -> int:
    """Return `bits` if it is an int in 1..64, else raise IntsimError."""
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not 1 <= bits <= MAX_BITS:
        raise IntsimError(f"{what} is {bits!r}; allowed: an integer 1..{MAX_BITS}")
    return int(bits)


@dataclass(frozen=True, slots=True)
class IntegerType:
    """An integer type of 1..64 bits.

    `narrow` drops one value as QONNX's `Quant` does: the most negative one of a signed type (INT8: -127..127),
    the largest one of an unsigned type (UINT8: 0..254). Source: QONNX custom operator `Quant`, min_int/max_int.
    """

    bits: int
    signed: bool
    narrow: bool = False

    def __post_init__(self) -> None:
        """Refuse a width outside 1..64."""
        check_bits(self.bits)

    @property
    def min(self) -> int:
        """Smallest value of the type."""
        return -(1 << (self.bits - 1)) + self.narrow if self.signed else 0

    @property
    def max(self) -> int:
        """Largest value of the type."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1 - self.narrow

    @property
    def name(self) -> str:
        """`INT8`, `UINT4`, ...; a narrow type has the name of its container."""
        return f"{'INT' if self.signed else 'UINT'}{self.bits}"

    def contains(self, low: int, high: int) -> bool:
        """Whether every integer in low..high is a value of the type."""
        return self.min <= low and high <= self.max

    def __str__(self) -> str:
        """The name, with a note if narrow."""
        return f"{self.name} narrow" if self.narrow else self.name


def wrap(x: Any, bits: int, signed: bool = True) -> Any:
    """Keep the lowest `bits` bits of `x` and read them as two's complement (signed) or as unsigned.

    Args:
        x: Python int (any size), integer array, or object array of Python ints.
        bits: 1..64.
        signed: False reads the bits as unsigned; then an int64 array takes at most 63 bits.

    Returns:
        Python int for a Python int, else an array of the same shape (int64, or object for object).
    """
    check_bits(bits)
    if isinstance(x, int) and not isinstance(x, bool):
        residue = x & ((1 << bits) - 1)
        return residue - (1 << bits) if signed and residue >> (bits - 1) else residue
    array = as_integers(x)
    if array.dtype == object:
        low = array & ((1 << bits) - 1)
        return low - (low >> (bits - 1)) * (1 << bits) if signed else low
    if signed:
        return (array << (MAX_BITS - bits)) >> (MAX_BITS - bits)
    if bits == MAX_BITS:
        raise IntsimError("wrap to 64 unsigned bits does not fit an int64 array; pass Python ints or an object array")
    return array & ((1 << bits) - 1)


def saturate(x: Any, bits: int, signed: bool = True) -> Any:
    """Clip `x` to the range of a `bits`-bit integer.

    Takes and returns what `wrap` does; an int64 array with bits=64, signed=False is only clipped below, at 0.
    """
    kind = IntegerType(check_bits(bits), signed)
    if isinstance(x, int) and not isinstance(x, bool):
        return min(max(x, kind.min), kind.max)
    array = as_integers(x)
    if array.dtype == object:
        return np.minimum(np.maximum(array, kind.min), kind.max)
    return np.clip(array, kind.min, min(kind.max, (1 << 63) - 1))


def bits_for(low: int, high: int) -> int:
    """Bits of the smallest two's complement type that holds every integer in low..high (not limited to 64)."""
    if low > high:
        raise IntsimError(f"empty range {low}..{high}")
    # -v - 1 = ~v: the magnitude bits of a negative number, e.g. -128 -> 127 -> 7 bits + sign.
    return 1 + max((v if v >= 0 else ~v).bit_length() for v in (int(low), int(high)))
