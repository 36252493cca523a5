"""The type of a tensor's elements in a file: integers of a width, or the bits of binary32 and binary64 numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError

Values = NDArray[Any]
"""int64, uint64 for "u64", float32 for "f32", float64 for "f64"."""
WIDTHS = (8, 16, 32, 64)
"""Of types that NumPy and C have."""


@dataclass(frozen=True)
class Element:
    """`s` two's complement, `u` unsigned, `f` IEEE 754, and how many bits: "s8", "u4", "f32"."""

    kind: str
    bits: int

    @classmethod
    def named(cls, name: str) -> Self:
        """Of its name. Raises IntsimError for a name of none."""
        if not re.fullmatch("[su]([1-9]|[1-5][0-9]|6[0-4])|f32|f64", name):
            raise IntsimError(f'{name!r} is no type of elements; allowed: "s" or "u" and 1..64 bits, "f32", "f64"')
        return cls(name[0], int(name[1:]))

    @classmethod
    def holding(cls, low: int, high: int) -> Self:
        """The narrowest integer type that holds low..high, unsigned where nothing is negative."""
        if low >= 0:
            return cls("u", max(1, high.bit_length()))
        return cls("s", 1 + max(high.bit_length(), (~low).bit_length()))

    @property
    def name(self) -> str:
        """As a manifest writes it."""
        return f"{self.kind}{self.bits}"

    @property
    def width(self) -> int:
        """Bits of the type that NumPy and C have for it."""
        return next(w for w in WIDTHS if w >= self.bits)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an .npy file."""
        return np.dtype(f"<{'i' if self.kind == 's' else self.kind}{self.width // 8}")

    @property
    def c(self) -> str:
        """Of a C header; bits of a float are an unsigned integer."""
        return f"{'' if self.kind == 's' else 'u'}int{self.width}_t"

    @property
    def ends(self) -> tuple[int, int]:
        """Least and greatest integer; of a float's bits."""
        if self.kind == "s":
            return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return 0, (1 << self.bits) - 1

    def holds(self, values: Values) -> bool:
        """Whether it has every one of some integers."""
        low, high = self.ends
        return not values.size or (int(values.min()) >= low and int(values.max()) <= high)

    def patterns(self, values: Values) -> NDArray[np.uint64]:
        """The bits of each value, in an unsigned integer: two's complement, or those of a float."""
        if self.kind == "f":
            return values.astype(self.dtype).view(f"<u{self.width // 8}").astype(np.uint64)
        return values.astype(np.uint64 if values.dtype.kind == "u" else np.int64).view(np.uint64) & self._mask

    def from_patterns(self, patterns: NDArray[np.uint64]) -> Values:
        """The values of bits, as `patterns` makes them; bits above the type's are ignored."""
        if self.kind == "f":
            return patterns.astype(f"<u{self.width // 8}").view(self.dtype)
        kept = patterns & self._mask
        if self.kind == "u":
            return kept if self.bits == 64 else kept.astype(np.int64)
        unused = np.uint64(64 - self.bits)
        return (kept << unused).view(np.int64) >> np.int64(unused)

    @property
    def _mask(self) -> np.uint64:
        return np.uint64((1 << self.bits) - 1)
