"""Normalisation of rows of integers to mean 0 and variance 1, rounded correctly."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.graph import LIMIT, IntArray, Node, Tensor
from intsim.ops.op import Range, Shape
from intsim.ops.rows import FRACTION_BITS, RowFunction

HEADROOM = 1 << 61
"""Least number that N times a row's spread must not reach: all of `LayerNorm.rows` then stays within 63 bits."""


class LayerNorm(RowFunction):
    """Of each row of N, with `D_i = N * x_i - sum(x)`, `Q = N * sum(x^2) - sum(x)^2`, F the attribute `fraction`:

    `y_i` is the integer nearest to `2^F * D_i / sqrt(Q + N^2 * epsilon)`, a tie away from zero.

    `epsilon` is a rational as text, in squares of input steps. A row without variance gives zeros, whatever `epsilon`.
    """

    name = "layer_norm"

    def rows(self, node: Node, x: IntArray, seen: NDArray[np.bool_] | None = None) -> IntArray:
        """A reciprocal root per row, as an integer; where its last digit matters the definition itself."""
        count, fraction = x.shape[1], int(node.attributes["fraction"])
        epsilon = Fraction(node.attributes["epsilon"]) * count**2
        low, high = x.min(axis=1), x.max(axis=1)
        spread = high.astype(np.uint64) - low.astype(np.uint64)
        if int(spread.max()) * count >= HEADROOM:  # behind a register that overflowed
            return np.array([_row(r, fraction, epsilon) for r in x.tolist()], np.int64).reshape(x.shape)
        x = x - low[:, None]
        total = x.sum(axis=1)
        d = count * x - total[:, None]
        q = _spreads(x, total, int(spread.max()))
        guard = 61 - (count.bit_length() + 1) // 2  # |d| * root < 2^61, as |d| <= sqrt((N - 1) * q)
        roots = [_floor_root(1 << (2 * guard), v, epsilon) if v else 0 for v in q]
        root = np.array(roots, np.int64)[:, None]
        size, half, drop = np.abs(d), 1 << (guard - fraction - 1), guard - fraction
        below = size * root + half
        y = below >> drop
        doubtful = y != (below + size) >> drop  # the true root lies between `root` and `root + 1`
        for i, j in zip(*np.nonzero(doubtful), strict=True):
            y[i, j] = _nearest(int(size[i, j]), q[i], fraction, epsilon)
        return np.asarray(np.where(d < 0, -y, y), np.int64)

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Attained by a row with one element at an end of the input's range and the others at the other end."""
        count, spread = self.length(node, tensors[0].shape), tensors[0].high - tensors[0].low
        if spread * count >= HEADROOM:
            raise IntsimError(
                f"node {node.name}: {count} times its input's range {tensors[0].low}..{tensors[0].high} needs more "
                "than 61 bits; quantize its input"
            )
        epsilon = Fraction(node.attributes["epsilon"]) * count**2
        q = (count - 1) * spread**2
        most = _nearest((count - 1) * spread, q, int(node.attributes["fraction"]), epsilon) if q else 0
        return -most, most

    def error(self, node: Node, shape: Shape) -> Fraction:
        """The rounding's 1/2."""
        return Fraction(1, 2)


def fraction_bits(length: int) -> int:
    """The most bits of fraction, up to `FRACTION_BITS`, with which outputs of rows of `length` fit int32."""
    return min(FRACTION_BITS, 30 - (length.bit_length() + 1) // 2)


def _spreads(x: IntArray, total: IntArray, spread: int) -> list[int]:
    """Q of each row of non-negative integers, as Python integers."""
    count = x.shape[1]
    if (count * spread) ** 2 <= LIMIT:
        return (count * (x * x).sum(axis=1) - total * total).tolist()
    return [count * sum(v * v for v in row) - sum(row) ** 2 for row in x.tolist()]


def _floor_root(factor: int, q: int, epsilon: Fraction) -> int:
    """floor(sqrt(factor / (q + epsilon)))."""
    return math.isqrt(factor * epsilon.denominator // (q * epsilon.denominator + epsilon.numerator))


def _nearest(size: int, q: int, fraction: int, epsilon: Fraction) -> int:
    """The integer nearest to `2^fraction * size / sqrt(q + epsilon)`, a tie up: half of the floor of its double."""
    return (_floor_root(size * size << (2 * fraction + 2), q, epsilon) + 1) // 2


def _row(row: list[int], fraction: int, epsilon: Fraction) -> list[int]:
    """The definition in Python integers, of any size."""
    count, total = len(row), sum(row)
    q = count * sum(v * v for v in row) - total**2
    out = []
    for d in (count * v - total for v in row):
        y = _nearest(abs(d), q, fraction, epsilon) if d else 0
        out.append(y if d > 0 else -y)
    return out
