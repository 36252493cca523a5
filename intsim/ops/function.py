"""Any function of an accumulator that a number on a grid needs: each element decided by itself, correctly rounded.

A table lists the entries of all integers; of an accumulator there are millions, of which few arrive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.rounding import round_fraction
from intsim.errors import IntsimError
from intsim.graph import LIMIT, IntArray, Node, Tensor
from intsim.ops.op import Op, Range, Shape
from intsim.reals import enclosure
from intsim.reals.enclosure import Ends
from intsim.reals.formula import SOURCE, Formula, Term
from intsim.reals.interval import Interval, Unsettled
from intsim.reals.runs import NO_VALUE, Undecided, decided

AT_ONCE = 1 << 16
"""Elements that are enclosed at a time."""
EXACT = 1 << 53
"""float64 holds all integers up to here."""


class Function(Op):
    """`y = round(f(slope[cell] * x + summand[cell]) / step)`, a tie to the even integer.

    Attributes: `cells`, the shape of an array of lines that broadcasts against x, `lines`, their slopes and summands as
    rationals, cells in row-major order; `terms` of the formula f, each a name of `intsim.reals.interval.FUNCTIONS`, the
    positions of its arguments and its parameters; `step`, and `off`, which is 1/2.
    """

    name = "function"

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """The common broadcast shape of input and cells."""
        return np.broadcast_shapes(shapes[0], tuple(node.attributes["cells"]))

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """By float64's enclosure where it rounds to one integer, else by rationals.

        Raises IntsimError where the function has no value, which only a register that overflowed can bring.
        """
        return Prepared(node).nearest(arrays[0])

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """An enclosure of the function on what all lines can make; raises IntsimError where it may have no value."""
        _, lines, formula = _parts(node)
        ends = [s * v + b for s, b in lines for v in (tensors[0].low, tensors[0].high)]
        try:
            values = _range(formula, Interval(min(ends), max(ends)))
        except (*NO_VALUE, Unsettled) as error:
            raise IntsimError(f"node {node.name}: {error or 'it is not known to have a value everywhere'}") from None
        return round_fraction(values.low, "floor"), round_fraction(values.high, "ceil")


class Prepared:
    """A node's lines and parameters as floats, for many runs."""

    def __init__(self, node: Node) -> None:
        """Raises IntsimError for lines that don't fit the cells."""
        self.node = node
        self.cells, self.lines, self.formula = _parts(node)
        self.slopes, self.summands = (_column(side) for side in zip(*self.lines, strict=True))
        self.given = [[None if p is None else _column([p]) for p in t.parameters] for t in self.formula.terms]

    def nearest(self, x: IntArray) -> IntArray:
        """The definition."""
        shape = np.broadcast_shapes(x.shape, self.cells)
        cell = np.broadcast_to(np.arange(len(self.lines)).reshape(self.cells), shape).reshape(-1)
        x = np.broadcast_to(x, shape).reshape(-1)
        out, sure = np.zeros(x.size, np.int64), np.zeros(x.size, bool)
        for first in range(0, x.size, AT_ONCE):
            part = slice(first, first + AT_ONCE)
            with np.errstate(all="ignore"):
                made, told = enclosure.rounds_to(self._enclosed(x[part].astype(np.float64), cell[part]), "half_even")
            told &= np.abs(x[part]) < EXACT
            out[part], sure[part] = np.where(told, made, 0).astype(np.int64), told
        known: dict[tuple[int, int], int] = {}
        for i in np.flatnonzero(~sure).tolist():
            key = int(cell[i]), int(x[i])
            if key not in known:
                known[key] = self._decided(*key)
            out[i] = known[key]
        return out.reshape(shape)

    def _enclosed(self, x: NDArray[np.float64], cell: IntArray) -> Ends:
        """Ends of the formula's values at integers of some cells."""
        slope, summand = ((side[0][cell], side[1][cell]) for side in (self.slopes, self.summands))
        made: list[Ends] = []
        for term, given in zip(self.formula.terms, self.given, strict=True):
            if term.name == SOURCE:
                made.append(enclosure.add(enclosure.multiply((x, x), slope), summand))
            else:
                made.append(enclosure.FUNCTIONS[term.name]([made[i] for i in term.arguments], given))
        return made[-1]

    def _decided(self, cell: int, x: int) -> int:
        slope, summand = self.lines[cell]
        try:
            made = decided(self.formula, slope * x + summand, lambda v: round_fraction(v, "half_even"))
            if abs(made) > LIMIT:
                raise OverflowError("its value has more than 64 bits")
            return made
        except (*NO_VALUE, Undecided, Unsettled) as error:
            text = f"at {x}: {error or 'its value is too close to a tie'}"
            raise IntsimError(f"node {self.node.shown}: {text}") from None


def _column(values: Sequence[Fraction]) -> Ends:
    low, high = enclosure.of_fractions(values)
    return low[:, 0], high[:, 0]


def terms_json(terms: Sequence[Term]) -> list[list[Any]]:
    """File form: rationals as text."""
    return [[t.name, list(t.arguments), [None if p is None else str(p) for p in t.parameters]] for t in terms]


def _parts(node: Node) -> tuple[Shape, list[tuple[Fraction, Fraction]], Formula]:
    """Shape of the cells, their lines, and the formula in output steps."""
    cells = tuple(node.attributes["cells"])
    lines = [(Fraction(s), Fraction(b)) for s, b in node.attributes["lines"]]
    if len(lines) != math.prod(cells):
        raise IntsimError(f"node {node.name}: {len(lines)} lines don't fit its cells {cells}")
    terms = [
        Term(name, tuple(arguments), tuple(None if p is None else Fraction(p) for p in parameters))
        for name, arguments, parameters in node.attributes["terms"]
    ]
    step = Term("affine", (len(terms) - 1,), (1 / Fraction(node.attributes["step"]), Fraction(0)))
    return cells, lines, Formula([*terms, step])


def _range(formula: Formula, x: Interval, depth: int = 12) -> Interval:
    """What contains the values; an interval too wide for that is halved."""
    try:
        return formula.value(x, 64)
    except Unsettled:
        if not depth:
            raise
    middle = (x.low + x.high) / 2
    below, above = (_range(formula, Interval(*ends), depth - 1) for ends in ((x.low, middle), (middle, x.high)))
    return Interval(min(below.low, above.low), max(below.high, above.high))
