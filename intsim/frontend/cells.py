"""A function of one integer whose parameters differ from cell to cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from intsim.frontend.context import Quantizer, Refused
from intsim.frontend.expression import Applied
from intsim.graph import IntArray
from intsim.reals import enclosure
from intsim.reals.formula import Formula, Term
from intsim.reals.interval import FUNCTIONS, Interval, Unsettled, exactly
from intsim.reals.runs import BITS

MOST_BITS = BITS[-1]
MOST_AT_ONCE = 1 << 18
"""Entries that are enclosed at a time."""
Key = tuple[Fraction | None, ...]


class Cells:
    """A function with its parameters laid out cell by cell.

    `cells` is the shape of the cells, `row` numbers each cell's distinct parameter set, row-major, `distinct` a cell of
    each.
    """

    def __init__(self, root: Applied) -> None:
        """Of the last function of a graph."""
        self.order: list[Applied] = []
        self._visit(root, set())
        parameters = [p for f in self.order for p in f.parameters if p is not None]
        self.cells = np.broadcast_shapes(*(p.shape for p in parameters))
        count = math.prod(self.cells)
        self.index = {id(f): i for i, f in enumerate(self.order)}
        self.parameters: list[list[Key]] = []
        self.keys: list[list[int]] = []
        for f in self.order:
            flat = [None if p is None else np.broadcast_to(p, self.cells).reshape(-1) for p in f.parameters]
            numbers: dict[tuple[Key, tuple[int, ...]], int] = {}
            values: list[Key] = []
            keys = []
            arguments = [self.keys[self.index[id(a)]] for a in f.arguments]
            for c in range(count):
                own: Key = tuple(None if p is None else p[c] for p in flat)
                values.append(own)
                keys.append(numbers.setdefault((own, tuple(a[c] for a in arguments)), len(numbers)))
            self.parameters.append(values)
            self.keys.append(keys)
        last = self.keys[-1]
        self.row = np.array(last, np.int64)
        self.distinct = [last.index(k) for k in range(max(last) + 1)]
        self.memo: dict[tuple[int, int, int], Interval] = {}

    def seen(self, codes: range, quantizer: Quantizer) -> tuple[IntArray, NDArray[np.bool_]]:
        """Entries (distinct cells, codes), and which of them float64 enclosures decide; others are not set."""
        shape = len(self.distinct), len(codes)
        rows, known = np.zeros(shape, np.int64), np.zeros(shape, bool)
        if not all(f.name in enclosure.FUNCTIONS or f.name == "source" for f in self.order):
            return rows, known
        size = max(MOST_AT_ONCE // len(codes), 1)
        x = np.arange(codes.start, codes.stop, dtype=np.float64)[None]
        for first in range(0, shape[0], size):
            part = slice(first, first + size)
            with np.errstate(all="ignore"):
                value = self._enclosed(x, self.distinct[part])
                made, sure = _codes_of(value, quantizer)
            rows[part], known[part] = np.where(sure, made, 0).astype(np.int64), sure
        return rows, known

    def _enclosed(self, x: enclosure.Floats, cells: Sequence[int]) -> enclosure.Ends:
        """Ends of the function's values at x (1, codes) in some cells, (cells, codes) or broadcasting to it."""
        made: list[enclosure.Ends] = []
        for f, parameters in zip(self.order, self.parameters, strict=True):
            if f.name == "source":
                made.append((x, x))
                continue
            columns = zip(*(parameters[c] for c in cells), strict=True)
            given = [None if c[0] is None else enclosure.of_fractions(c) for c in columns]
            made.append(enclosure.FUNCTIONS[f.name]([made[self.index[id(a)]] for a in f.arguments], given))
        return made[-1]

    def _visit(self, f: Applied, seen: set[int]) -> None:
        if id(f) in seen:
            return
        seen.add(id(f))
        for argument in f.arguments:
            self._visit(argument, seen)
        self.order.append(f)

    def formula(self, cell: int) -> Formula:
        """The function of one cell."""
        terms = [
            Term(f.name, tuple(self.index[id(a)] for a in f.arguments), tuple(own[cell]))
            for f, own in zip(self.order, self.parameters, strict=True)
        ]
        return Formula(terms)

    def decided(self, cell: int, x: int, code: Callable[[Fraction], int]) -> int:
        """The code of x in a cell."""
        for bits in BITS:
            try:
                bounds = self.value(len(self.order) - 1, cell, x, bits)
            except Unsettled:
                continue
            least, most = code(bounds.low), code(bounds.high)
            if least == most:
                return least
        raise Refused(
            f"its value at code {x} lies within 2^-{MOST_BITS} of where rounding changes, and is not known to be "
            "rational; it can't be decided"
        )

    def value(self, position: int, cell: int, x: int, bits: int) -> Interval:
        """The value of one function of the graph at x; what cells share is worked out once at the first precision."""
        f = self.order[position]
        if f.name == "source":
            return exactly(Fraction(x))
        key = (position, self.keys[position][cell], x)
        if bits == BITS[0] and key in self.memo:
            return self.memo[key]
        arguments = [self.value(self.index[id(a)], cell, x, bits) for a in f.arguments]
        try:
            interval = FUNCTIONS[f.name](bits, arguments, self.parameters[position][cell]).trimmed(bits)
        except Unsettled:
            raise
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            where = f"{f.node}: " if f.node else ""
            at = float(arguments[-1].low) if arguments else 0.0
            raise Refused(
                f"{where}at code {x}, where it reads {at:.6g}: {error}; keep that code out of reach"
            ) from None
        if bits == BITS[0] and len(self.distinct) > 1:
            self.memo[key] = interval
        return interval


def _codes_of(value: enclosure.Ends, q: Quantizer) -> tuple[enclosure.Floats, NDArray[np.bool_]]:
    """The codes of every number between ends, and where that is one; see `Quantizer.code`."""
    if q.bipolar:
        return np.where(value[0] >= 0, 1.0, -1.0), (value[0] >= 0) | (value[1] < 0)
    low, high = (-np.inf, np.inf) if q.bounds is None else (b - q.after for b in q.bounds)
    # rounding keeps order: what lies beyond the clip by 1 may as well lie there
    made, sure = enclosure.rounds_to(
        (np.clip(value[0], low - 1, high + 1), np.clip(value[1], low - 1, high + 1)), q.rounding
    )
    return np.clip(made, low, high) + q.after, sure
