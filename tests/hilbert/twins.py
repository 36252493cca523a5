"""Dumb twins of the Hilbert codec, sharing no code with intsim: turtle-drawn curves, full scans in exact integers."""

from fractions import Fraction
from functools import cache

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


def solid_turtle(order):
    """Vertices of the 3-D Hilbert curve, index by index, from Hamilton's entry points and directions; (x, y, z)."""

    def turned(bits, by):
        by %= 3
        return ((bits << by) | (bits >> (3 - by))) & 7

    def trailing_ones(value):
        return 0 if not value & 1 else 1 + trailing_ones(value >> 1)

    vertices = []
    for index in range(8**order):
        entry, direction, corner = 0, 0, [0, 0, 0]
        for level in reversed(range(order)):
            w = (index >> (3 * level)) & 7
            octant = turned(w ^ (w >> 1), direction + 1) ^ entry
            corner = [2 * c + ((octant >> bit) & 1) for bit, c in zip((0, 2, 1), corner, strict=True)]
            even = 2 * ((w - 1) // 2) if w else 0
            entry ^= turned(even ^ (even >> 1), direction + 1)
            direction = (direction + (0 if w == 0 else trailing_ones(w if w & 1 else w - 1)) + 1) % 3
        vertices.append(tuple(corner))
    return vertices


@cache
def polygon(order, dimensions):
    """Vertices of the curve by the twins above."""
    return tuple(turtle(order) if dimensions == 2 else solid_turtle(order))


class PointScan:
    """Decoding points of signed or unsigned codes, with or without a guide, segment by segment in Python integers."""

    def __init__(self, order, dimensions, spacing, code_bits=8, signed=True):
        middle = 0 if signed else 2 ** (code_bits - 1)
        first = middle - (2**order - 1) * spacing // 2
        assert 2 * (middle - first) == (2**order - 1) * spacing
        self.vertices = [tuple(first + spacing * c for c in vertex) for vertex in polygon(order, dimensions)]
        self.spacing, self.code_bits, self.lowest = spacing, code_bits, middle - 2 ** (code_bits - 1)
        self.length = (len(self.vertices) - 1) * spacing

    def aim(self, guide):
        return half_up((guide - self.lowest) * self.length, 2**self.code_bits)

    def feet(self, point, guide=None, window=None, weight_shift=None):
        """(cost, position, squared distance) of the closest point of each segment's part within the window."""
        low, high = 0, self.length
        aim = None if guide is None else self.aim(guide)
        if window is not None:
            low, high = max(aim - window, 0), min(aim + window, self.length)
        for s in range(len(self.vertices) - 1):
            start, end = self.vertices[s], self.vertices[s + 1]
            along = sum((c - u) * (v - u) for c, u, v in zip(point, start, end, strict=True)) // self.spacing
            position = min(max(s * self.spacing + along, s * self.spacing, low), (s + 1) * self.spacing, high)
            if not max(low, s * self.spacing) <= position:
                continue
            along = position - s * self.spacing
            foot = [u + (v - u) // self.spacing * along for u, v in zip(start, end, strict=True)]
            squared = sum((c - f) ** 2 for c, f in zip(point, foot, strict=True))
            weight = 0 if weight_shift is None else (position - aim) ** 2 // 2**weight_shift
            yield squared + weight, position, squared

    def one(self, point, **guided):
        """(position, squared distance) of one point."""
        return min(self.feet(point, **guided))[1:]

    def tied(self, point):
        feet = list(self.feet(point))
        return len({position for cost, position, _ in feet if cost == min(feet)[0]}) > 1
