"""A function of one integer whose parameters differ from cell to cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from intsim.frontend.context import Refused
from intsim.frontend.expression import Applied
from intsim.reals.formula import Formula, Term
from intsim.reals.interval import FUNCTIONS, Interval, Unsettled, exactly
from intsim.reals.runs import BITS

MOST_BITS = BITS[-1]
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
