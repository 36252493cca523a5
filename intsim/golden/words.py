"""Elements packed into words of a bus, and back: the first element in a word's lowest bits.

A word holds floor(bus / bits) elements, the bits above them 0; an element wider than the bus takes ceil(bits / bus)
words, its lowest bits first. Every row of elements begins a new word.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Patterns = NDArray[np.uint64]
Bits = NDArray[np.uint8]
"""(words, bus) of 0 and 1, the lowest bit first."""
MOST_BUS = 1 << 16
"""Bits of the widest bus."""


def words_of(elements: int, bits: int, bus: int) -> int:
    """How many words a row of elements takes."""
    return -(-elements // (bus // bits)) if bits <= bus else elements * -(-bits // bus)


def packed(patterns: Patterns, bits: int, bus: int) -> Bits:
    """Words of rows of elements, (rows, elements), row after row."""
    rows, count = patterns.shape
    each = (patterns[..., None] >> np.arange(bits, dtype=np.uint64)).astype(np.uint8) & 1
    words = words_of(count, bits, bus)
    if bits > bus:
        wide = np.zeros((rows, count, -(-bits // bus) * bus), np.uint8)
        wide[..., :bits] = each
        return wide.reshape(rows * words, bus)
    per = bus // bits
    full = np.zeros((rows, words * per, bits), np.uint8)
    full[:, :count] = each
    out = np.zeros((rows * words, bus), np.uint8)
    out[:, : per * bits] = full.reshape(rows * words, per * bits)
    return out


def unpacked(words: Bits, elements: int, bits: int, bus: int) -> Patterns:
    """(rows, elements) of whole rows of words, what `packed` made of them."""
    rows = len(words) // words_of(elements, bits, bus)
    if bits > bus:
        each = words.reshape(rows, elements, -1)[..., :bits]
    else:
        per = bus // bits
        each = words[:, : per * bits].reshape(rows, -1, bits)[:, :elements]
    return (each.astype(np.uint64) << np.arange(bits, dtype=np.uint64)).sum(axis=-1, dtype=np.uint64)


def hex_lines(bits: Bits) -> bytes:
    """A line of hexadecimal digits for each row of bits, the lowest bit first in the row, last in the line."""
    count, width = bits.shape
    digits = -(-width // 4)
    full = np.zeros((count, digits * 4), np.uint8)
    full[:, :width] = bits
    nibbles = full.reshape(count, digits, 4) @ np.array([1, 2, 4, 8], np.uint8)
    text = np.full((count, digits + 1), ord("\n"), np.uint8)
    text[:, :digits] = np.frombuffer(b"0123456789abcdef", np.uint8)[nibbles[:, ::-1]]
    return text.tobytes()
