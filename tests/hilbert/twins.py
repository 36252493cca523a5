"""Dumb twins of the Hilbert codec, sharing no code with intsim: turtle-drawn curves, full scans in exact integers."""

from fractions import Fraction

import numpy as np
from hypothesis import settings


def repeatable(max_examples=100):
    """Settings of every Hypothesis test here: the same examples on each run, whatever the machine's speed."""
    return settings(max_examples=max_examples, derandomize=True, deadline=None, database=None)


def turtle(order):
    """Vertices of the Hilbert curve by its L-system, A -> +BF-AFA-FB+, B -> -AF+BFB+FA-, as a list of (x, y)."""
    program = "A"
    rules = {"A": "+BF-AFA-FB+", "B": "-AF+BFB+FA-"}
    for _ in range(order):
        program = "".join(rules.get(symbol, symbol) for symbol in program)
    x = y = 0
    dx, dy = 1, 0
    vertices = [(0, 0)]
    for symbol in program:
        if symbol == "+":
            dx, dy = -dy, dx
        elif symbol == "-":
            dx, dy = dy, -dx
        elif symbol == "F":
            x, y = x + dx, y + dy
            vertices.append((x, y))
    return vertices


class Scan:
    """The definition: every segment looked at, in integers that are multiples of one small unit.

    `code_units` are the units a code is wide, `first` the place of lattice line 0 and `edge` the length of an edge.
    """

    def __init__(self, order, code_units, first, edge):
        self.vertices = [(first + edge * x, first + edge * y) for x, y in turtle(order)]
        self.code_units, self.edge = code_units, edge
        self.length = (len(self.vertices) - 1) * edge

    @classmethod
    def inset(cls, order, inset, code_bits):
        """Code c at c / (2**n - 1) of the unit square, all lengths times (2**n - 1) * denominator * (2**p - 1)."""
        k, units, cells = Fraction(inset), 2**code_bits - 1, 2**order - 1
        return cls(
            order,
            k.denominator * cells,
            k.numerator * cells * units,
            (k.denominator - 2 * k.numerator) * units,
        )

    @classmethod
    def lattice_aligned(cls, order, code_bits, log2_spacing):
        """Lattice lines at codes 2**(n-1) - (2**p - 1) * 2**(s-1) + i * 2**s."""
        return cls(order, 1, 2 ** (code_bits - 1) - (2**order - 1) * 2 ** (log2_spacing - 1), 2**log2_spacing)

    def one(self, x, y):
        """(position, tied) of one pair of unsigned codes, in Python integers."""
        px, py = x * self.code_units, y * self.code_units
        best, positions = None, set()
        for s in range(len(self.vertices) - 1):
            (x0, y0), (x1, y1) = self.vertices[s], self.vertices[s + 1]
            fx = min(max(px, min(x0, x1)), max(x0, x1))
            fy = min(max(py, min(y0, y1)), max(y0, y1))
            squared = (px - fx) ** 2 + (py - fy) ** 2
            position = s * self.edge + abs(fx - x0) + abs(fy - y0)
            if best is None or squared < best:
                best, positions = squared, {position}
            elif squared == best:
                positions.add(position)
        return min(positions), len(positions) > 1

    def grid(self, codes):
        """(position, tied, squared distance) of all pairs of the codes: int64 and bool arrays [x, y]."""
        px = codes.astype(np.int64)[:, None] * self.code_units
        py = codes.astype(np.int64)[None, :] * self.code_units
        shape = (codes.size, codes.size)
        best = np.full(shape, 2**62)
        low, high = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for s in range(len(self.vertices) - 1):
            (x0, y0), (x1, y1) = self.vertices[s], self.vertices[s + 1]
            fx = np.minimum(np.maximum(px, min(x0, x1)), max(x0, x1))
            fy = np.minimum(np.maximum(py, min(y0, y1)), max(y0, y1))
            squared = (px - fx) ** 2 + (py - fy) ** 2
            where = np.nonzero(squared <= best)
            position = (s * self.edge + abs(fx - x0) + abs(fy - y0))[where]
            closer = squared[where] < best[where]
            low[where] = np.where(closer, position, np.minimum(low[where], position))
            high[where] = np.where(closer, position, np.maximum(high[where], position))
            best[where] = squared[where]
        return low, high != low, best


def half_up(numerator, denominator):
    """numerator / denominator rounded half up, in Python integers."""
    return (2 * int(numerator) + denominator) // (2 * denominator)
