"""Several products in one multiplier: operands packed side by side, sums read back from fields of one wide register."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from intsim.errors import IntsimError

Correction = Literal["none", "borrow"]


@dataclass(frozen=True, slots=True)
class Packing:
    """How a wide multiplier computes several products at once.

    Weights of `len(channels)` neighbouring output channels are packed at the bit offsets `channels`, activations of
    `len(pixels)` neighbouring output positions at the offsets `pixels`; one multiplication then yields all their
    products, that of channel c and pixel p at bit `channels[c] + pixels[p]` of a `bits` wide register, where the
    products of a group are added up. A negative lower field borrows 1 from the field above it.

    Attributes:
        channels: ascending, the first 0.
        pixels: ascending, the first 0.
        bits: width of the wide register, 2..64; it wraps.
        correction: "none" reads a field as it stands; "borrow" adds the bit just below it, which repays the borrow.
    """

    channels: tuple[int, ...]
    pixels: tuple[int, ...]
    bits: int
    correction: Correction

    @property
    def offsets(self) -> tuple[int, ...]:
        """Offset of each field, ascending."""
        return tuple(sorted(c + p for c in self.channels for p in self.pixels))

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each field, up to the next one or the end of the register."""
        ends = (*self.offsets[1:], self.bits)
        return tuple(end - start for start, end in zip(self.offsets, ends, strict=True))

    def __post_init__(self) -> None:
        """Refuse fields that lie on each other."""
        for name, values in (("channels", self.channels), ("pixels", self.pixels)):
            if not values or values[0] != 0 or list(values) != sorted(set(values)):
                raise IntsimError(f"packing {name} are {list(values)}; allowed: ascending bit offsets, the first 0")
        if not 2 <= self.bits <= 64:
            raise IntsimError(f"packing bits is {self.bits}; allowed: 2..64")
        if min(self.widths) < 2:
            raise IntsimError(f"packing fields of widths {list(self.widths)} bits; each needs 2 or more")
        if self.correction not in ("none", "borrow"):
            raise IntsimError(f'packing correction is {self.correction!r}; allowed: "none", "borrow"')
