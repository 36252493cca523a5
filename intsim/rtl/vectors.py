"""Values worth trying, the same in every run: ends of ranges, powers of two and their neighbours, and drawn ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def corners(low: int, high: int) -> Integers:
    """Within low..high: both ends and the integers next to them, -1, 0, 1, and +-2^k with their neighbours."""
    powers = [s * (1 << k) + d for k in range(62) for s in (-1, 1) for d in (-1, 0, 1)]
    values = {low, low + 1, high - 1, high, -1, 0, 1, *powers}
    return np.array(sorted(v for v in values if low <= v <= high), np.int64)


def drawn(generator: np.random.Generator, low: int, high: int, count: int) -> Integers:
    """`count` integers of low..high, half of them of all magnitudes alike, half with corners among them."""
    spread = generator.integers(low, high, count, endpoint=True)
    small = spread >> generator.integers(0, max(high.bit_length(), (-low).bit_length()) + 1, count)
    edge = generator.choice(corners(low, high), count)
    picked = generator.integers(0, 4, count)
    return np.select([picked < 2, picked == 2], [spread, np.clip(small, low, high)], edge)


def packed(values: Integers, bits: int) -> NDArray[np.object_]:
    """Rows (n, count) of integers as one word each, (n,) Python integers, the first in the lowest bits."""
    mask = (1 << bits) - 1
    return np.array([sum((v & mask) << (bits * i) for i, v in enumerate(row)) for row in values.tolist()], object)
