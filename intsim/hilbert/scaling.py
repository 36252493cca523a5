"""Multiplication by a constant fraction, rounded half up, as one multiplication and one shift: proven exact.

Let y(v) = floor(v * N / D + 1/2) for 0 <= v <= V, N / D in lowest terms. Take a shift w, m = ceil(2**w * N / D) and
e = m * D - 2**w * N, so 0 <= e < D. Then

    (v * m + 2**(w - 1)) / 2**w = v * N / D + 1/2 + v * e / (D * 2**w).

The exact argument v * N / D + 1/2 is a multiple of 1 / (2 D), so the next integer above it is at least 1 / (2 D) away,
and the floor is unchanged if v * e / (D * 2**w) < 1 / (2 D), that is 2 * v * e < 2**w. With 2 * V * e < 2**w that holds
for all v; it is reached at the latest by 2**w >= 2 * V * D. `MultiplyShift` uses the smallest such w.

The technique is that of T. Granlund and P. L. Montgomery, "Division by invariant integers using multiplication",
PLDI 1994.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_WORD = 62  # products and sums stay below 2**_WORD, inside int64


@dataclass(frozen=True)
class MultiplyShift:
    """y = (v * multiplier + 2**(shift - 1)) >> shift, equal to v * factor rounded half up for all 0 <= v <= limit.

    Args:
        multiplier: m, a constant.
        shift: w >= 1.
        limit: largest v.
        limbs: m in pieces for 64-bit machines, lowest first: (piece, its width in bits); the last takes what is left.
    """

    multiplier: int
    shift: int
    limit: int
    limbs: tuple[tuple[int, int], ...]

    @classmethod
    def exact(cls, factor: Fraction, limit: int) -> MultiplyShift:
        """The smallest shift that is exact for every v in 0..limit.

        Args:
            factor: N / D > 0.
            limit: V >= 1, below 2**42; limit * factor, the largest result, at most 2**24.
        """
        n, d = factor.numerator, factor.denominator
        for shift in range(1, (2 * limit * d).bit_length() + 1):
            multiplier = -((-n << shift) // d)
            if 2 * limit * (multiplier * d - (n << shift)) < 1 << shift:
                break
        limbs, rest, left = [], multiplier, shift
        # Cut low pieces off until the last product fits: limit * rest is about 2**left * limit * factor.
        while limit * rest + (1 << left) >= 1 << _WORD:
            width = min(_WORD - 1 - limit.bit_length(), left - 1)
            limbs.append((rest & ((1 << width) - 1), width))
            rest, left = rest >> width, left - width
        return cls(multiplier, shift, limit, (*limbs, (rest, left)))

    def __call__(self, value: Any) -> Any:
        """Scale integer-likes or int64 arrays in 0..limit.

        floor((H * 2**k + l) / 2**w) = floor((H + floor(l / 2**k)) / 2**(w - k)) lets the pieces go one after another.
        """
        carry = value ^ value
        for piece, width in self.limbs[:-1]:
            carry = (value * piece + carry) >> width
        piece, width = self.limbs[-1]
        return (value * piece + carry + (1 << (width - 1))) >> width
