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

LIMB = 21
"""Bits of a part of an integer; sums of 2^21 products of two fit 63 bits, three parts hold 63 bits."""
WIDE = 1 << 34
"""From here on float64 tells more results apart than the integer root."""
CLEAR = 2.0**-18
"""Distance from a tie within which float64 doesn't decide."""
ROOT_BITS = 200
"""Bits of fraction of an epsilon's root."""
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
        spread = self.spread(node, x)
        if spread * count >= HEADROOM:  # behind a register that overflowed
            return np.array([self.row(node, r, epsilon) for r in x.tolist()], np.int64).reshape(x.shape)
        d, q = self.parts(node, x, spread)
        if int(np.abs(d).max()) >= WIDE:
            return self.wide(d, q, fraction, epsilon)
        guard = 61 - (count.bit_length() + 1) // 2  # |d| * root < 2^61, as |d| <= sqrt(N * q)
        roots = [_floor_root(1 << (2 * guard), v, epsilon) if v else 0 for v in q]
        root = np.array(roots, np.int64)[:, None]
        size, half, drop = np.abs(d), 1 << (guard - fraction - 1), guard - fraction
        below = size * root + half
        y = below >> drop
        doubtful = y != (below + size) >> drop  # the true root lies between `root` and `root + 1`
        for i, j in zip(*np.nonzero(doubtful), strict=True):
            y[i, j] = nearest(int(size[i, j]), q[i], fraction, epsilon)
        return np.asarray(np.where(d < 0, -y, y), np.int64)

    def wide(self, d: IntArray, q: list[int], fraction: int, epsilon: Fraction) -> IntArray:
        """The same for D of more bits than an integer root leaves room for: float64 where it is clear of ties.

        D, the factor and their product have a relative error below 2^-53 each, and |y| < 2^31: together below 2^-20.
        """
        factors = np.array([_factor(v, fraction, epsilon) if v else 0.0 for v in q])[:, None]
        size = np.abs(d)
        y = size.astype(np.float64) * factors + 0.5
        out = np.floor(y).astype(np.int64)
        for i, j in zip(*np.nonzero(np.abs(y - np.rint(y)) < CLEAR), strict=True):
            out[i, j] = nearest(int(size[i, j]), q[i], fraction, epsilon)
        return np.asarray(np.where(d < 0, -out, out), np.int64)

    def spread(self, node: Node, x: IntArray) -> int:
        """The most that two elements of a row differ."""
        low, high = x.min(axis=1), x.max(axis=1)
        return int((high.astype(np.uint64) - low.astype(np.uint64)).max())

    def parts(self, node: Node, x: IntArray, spread: int) -> tuple[IntArray, list[int]]:
        """D of each element, Q of each row."""
        count = x.shape[1]
        x = x - x.min(axis=1)[:, None]
        total = x.sum(axis=1)
        squares = zip(squares_of(x, spread), total.tolist(), strict=True)
        return count * x - total[:, None], [count * s - t * t for s, t in squares]

    def row(self, node: Node, row: list[int], epsilon: Fraction) -> list[int]:
        """The definition in Python integers, of any size."""
        count, total = len(row), sum(row)
        q = count * sum(v * v for v in row) - total**2
        return signed_nearest([count * v - total for v in row], q, int(node.attributes["fraction"]), epsilon)

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
        most = nearest((count - 1) * spread, q, int(node.attributes["fraction"]), epsilon) if q else 0
        return -most, most

    def error(self, node: Node, shape: Shape) -> Fraction:
        """The rounding's 1/2; and what comes of an input that is itself `off` by that many steps (docs/ir.md)."""
        off = Fraction(node.attributes.get("off", 0))
        if not off:
            return Fraction(1, 2)
        root = Fraction(math.isqrt(int(Fraction(node.attributes["epsilon"]) * 4**ROOT_BITS)), 2**ROOT_BITS)
        width = 3 + math.isqrt(self.length(node, shape))
        return Fraction(1, 2) + 2 ** int(node.attributes["fraction"]) * width * off / root


def fraction_bits(length: int) -> int:
    """The most bits of fraction, up to `FRACTION_BITS`, with which outputs of rows of `length` fit int32."""
    return min(FRACTION_BITS, 30 - (length.bit_length() + 1) // 2)


def squares_of(x: IntArray, most: int) -> list[int]:
    """Sum of the squares of each row of non-negative integers up to `most`, as Python integers."""
    if x.shape[1] * most**2 <= LIMIT:
        return (x * x).sum(axis=1).tolist()
    if x.shape[1] > 1 << LIMB:
        return [sum(v * v for v in row) for row in x.tolist()]
    limbs = [(x >> (LIMB * i)) & ((1 << LIMB) - 1) for i in range(3)]
    totals = [0] * len(x)
    for i, a in enumerate(limbs):
        for j, b in enumerate(limbs[: i + 1]):
            shift = LIMB * (i + j) + (i != j)
            totals = [t + (s << shift) for t, s in zip(totals, (a * b).sum(axis=1).tolist(), strict=True)]
    return totals


def _floor_root(factor: int, q: int, epsilon: Fraction) -> int:
    """floor(sqrt(factor / (q + epsilon)))."""
    return math.isqrt(factor * epsilon.denominator // (q * epsilon.denominator + epsilon.numerator))


def _factor(q: int, fraction: int, epsilon: Fraction) -> float:
    """`2^fraction / sqrt(q + epsilon)`: an integer of 64 bits or more, which is rounded once."""
    more = 64 + (int(q + epsilon).bit_length() + 1) // 2
    return math.ldexp(_floor_root(1 << (2 * (fraction + more)), q, epsilon), -more)


def nearest(size: int, q: int, fraction: int, epsilon: Fraction) -> int:
    """The integer nearest to `2^fraction * size / sqrt(q + epsilon)`, a tie up: half of the floor of its double."""
    return (_floor_root(size * size << (2 * fraction + 2), q, epsilon) + 1) // 2


def signed_nearest(d: list[int], q: int, fraction: int, epsilon: Fraction) -> list[int]:
    """The same of each D, with its sign."""
    out = []
    for v in d:
        y = nearest(abs(v), q, fraction, epsilon) if v else 0
        out.append(y if v > 0 else -y)
    return out
