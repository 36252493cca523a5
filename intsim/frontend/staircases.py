"""A function of an accumulator and the quantizer behind it as the places of its steps.

A table has an entry for each integer. An accumulator has millions, the quantizer few codes, so what is looked for are
the real numbers at which the code changes (`intsim.reals.runs`): on each piece on which the function is proven to be
monotone, code by code, as narrow as the integers ask for. Channels with scales and biases of their own read the same
function of a real number and share the search; their steps are the first integers behind these numbers. An integer that
lies where nothing is proven is decided alone, as an entry of a table is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from intsim.frontend.cells import Cells
from intsim.frontend.context import Context, Meaning, Quantizer, Refused
from intsim.frontend.expression import ONE, ZERO, Applied, Curve, Expr, compress, scalar, spread
from intsim.graph import IntArray, Rationals
from intsim.reals.formula import SOURCE, Formula
from intsim.reals.runs import (
    BITS,
    MOST_UNDECIDED,
    NO_VALUE,
    Run,
    TooClose,
    TooMany,
    Undecided,
    decided,
    runs,
    runs_beyond,
)

MOST_STEPS = 1 << 22
"""Most steps of one node's staircases (32 MiB)."""
MOST_ALONE = 1 << 14
"""Most integers of a node that are decided alone."""
MOST_BEYOND = 64
"""Most integers of a cell that are decided alone although none of them can arrive."""
MOST_BEYOND_EVALUATED = 1 << 12
"""Most evaluations of a function on either side of what can arrive."""
LEAST_BITS = 32
"""A staircase reaches at least as far as integers of this many bits do."""


def stairs(
    context: Context, value: Curve, quantizer: Quantizer, onnx: str | None, meaning: Meaning | None = None
) -> Expr:
    """Write the staircase of a quantized function, arguments as of `Context.quantize`.

    Raises Refused for a reachable integer at which the function has no real value, or that 4096 bits don't decide, and
    for a function of too many steps.
    """
    rank = len(value.shape)
    tensor = context.graph.tensors[value.tensor]
    function, (factor, constant) = of_real(value.function, rank)
    own = Cells(Applied("affine", (function,), quantizer.line(rank)))
    cells = np.broadcast_shapes(own.cells, factor.shape, constant.shape)
    rows, factors, constants = (
        np.broadcast_to(a, cells).reshape(-1) for a in (own.row.reshape(own.cells), factor, constant)
    )
    made = _Stairs(tensor.low, tensor.high, _reach(tensor.low, tensor.high), quantizer, [])
    for row, cell in enumerate(own.distinct):
        members = np.flatnonzero(rows == row)
        lines = [_Line(int(m), factors[m], constants[m]) for m in members]
        made.add(own.formula(cell), lines)
    starts, codes = _arrays(made.steps, len(rows))
    scale, offset = (compress(spread(m, rank)) for m in meaning or quantizer.meaning)
    attributes = {"cells": list(cells), "functions": list(dict.fromkeys(value.made_by))}
    names = context.full_size([value.tensor], cells, value.shape)
    arrays = {"starts": starts, "codes": codes}
    return context.emit("staircase", names, scale, offset, attributes, arrays, quantizer.kind, onnx)


def of_real(root: Applied, rank: int) -> tuple[Applied, tuple[Rationals, Rationals]]:
    """A function of integers as one of a real number u, and that number's factor and constant: u = a x + b.

    u is the first line of the integers in the function; other lines of them are lines of it. What is the same for all
    channels in these has no cells then.
    """
    found = {id(f): f for f in _within(root, {}) if f.name == "affine" and f.arguments[0].name == SOURCE}
    if not found:
        return root, (spread(ONE, rank), spread(ZERO, rank))
    a, b = (np.asarray(p, dtype=object) for p in next(iter(found.values())).parameters)
    still = np.asarray(a == 0)
    divisor: Rationals = np.where(still, ONE, a)  # where a channel's factor is zero nothing depends on u
    known: dict[int, Applied] = {}

    def rebased(f: Applied) -> Applied:
        if id(f) in known:
            return known[id(f)]
        if f.name == SOURCE:
            made = _line(f, np.asarray(1 / divisor, dtype=object), np.asarray(-b / divisor, dtype=object))
        elif id(f) in found:
            slope, shift = (np.asarray(p, dtype=object) for p in f.parameters)
            source = Applied(SOURCE)
            share: Rationals = np.asarray(slope / divisor, dtype=object)
            made = _line(source, share, np.where(still, shift, shift - share * b))
        else:
            made = replace(f, arguments=tuple(rebased(x) for x in f.arguments))
        known[id(f)] = made
        return made

    return rebased(root), (a, b)


def _line(source: Applied, slope: Rationals, shift: Rationals) -> Applied:
    slope, shift = compress(slope), compress(shift)
    if scalar(slope) == 1 and scalar(shift) == 0:
        return source
    return Applied("affine", (source,), (slope, shift))


def _within(root: Applied, seen: dict[int, Applied]) -> Iterator[Applied]:
    """Every function of a graph once, arguments first."""
    if id(root) not in seen:
        seen[id(root)] = root
        for argument in root.arguments:
            yield from _within(argument, seen)
        yield root


def _reach(low: int, high: int) -> tuple[int, int]:
    """The least signed type, of `LEAST_BITS` or more, that holds a range."""
    bits = max(LEAST_BITS, low.bit_length() + 1, high.bit_length() + 1)
    return -(1 << bits - 1), (1 << bits - 1) - 1


@dataclass(frozen=True)
class _Line:
    """A cell whose integers x stand for `factor * x + constant`."""

    cell: int
    factor: Fraction
    constant: Fraction

    def ends(self, low: int, high: int) -> tuple[Fraction, Fraction]:
        """The real numbers that low..high lie between."""
        both = self.factor * low + self.constant, self.factor * high + self.constant
        return min(both), max(both)


Steps = tuple[IntArray, IntArray, IntArray]
"""Cells, starts and codes, in no order."""


@dataclass
class _Stairs:
    """Steps of all cells over the integers low..high that can arrive, and over the wider `reach` where they are."""

    low: int
    high: int
    reach: tuple[int, int]
    quantizer: Quantizer
    steps: list[Steps]
    alone: int = 0

    def add(self, formula: Formula, lines: Sequence[_Line]) -> None:
        """The steps of cells that share a function of a real number."""
        moving = [x for x in lines if x.factor]
        for line in lines:
            if not line.factor:
                self._append(line.cell, [self.low], [self._decided(formula, line, self.low)])
        if not moving:
            return
        spacing = min(abs(x.factor) for x in moving)
        low, high = _hull(moving, self.low, self.high)
        try:
            found = runs(formula, self.quantizer.code, self._edge, low, high, spacing)
        except TooMany:
            raise Refused(
                f"its function has too many steps over the integers {self.low}..{self.high} of its input; put a "
                "quantizer of at most 16 bits in front"
            ) from None
        except TooClose:
            raise Refused(
                "its function comes so close to where rounding changes that 4096 bits don't decide it at more than "
                f"{MOST_UNDECIDED} numbers, as at a limit of it; clip its input, or move the quantizer's steps"
            ) from None
        least, most = _hull(moving, *self.reach)
        for first, last in ((least, low), (high, most)):  # nothing there can arrive
            if first < last:
                code, ends, down = self.quantizer.code, (first, last), last == low
                found += runs_beyond(formula, code, self._edge, ends, spacing, MOST_BEYOND_EVALUATED, down)
        self._place(formula, moving, found)

    def _edge(self, code: int) -> Fraction:
        """About where a code begins, on the quantizer's line."""
        q, code = self.quantizer, code - self.quantizer.after
        if q.bipolar:
            return Fraction(0)
        if q.rounding.startswith("half"):
            return Fraction(2 * code - 1, 2)
        down = (
            q.rounding == "floor" or (q.rounding == "away" and code <= 0) or (q.rounding == "toward_zero" and code > 0)
        )
        return Fraction(code if down else code - 1)

    def _place(self, formula: Formula, lines: Sequence[_Line], found: Sequence[Run]) -> None:
        """Runs of a real number as steps of the integers of each cell; integers in no run are decided alone."""
        least, most = self.reach
        codes = np.array([r.code for r in found], np.int64)
        below, above = _on_integers(found, lines, self.reach)
        for line, first, last in zip(lines, below, above, strict=True):
            there = np.flatnonzero(first <= last)
            there = there[np.argsort(first[there], kind="stable")]
            first, last = first[there], last[there]
            self._append(line.cell, first, codes[there])
            begins, ends = np.append(least, last + 1), np.append(first - 1, most)
            for begin, end in zip(begins[begins <= ends].tolist(), ends[begins <= ends].tolist(), strict=True):
                self._between(formula, line, begin, end)

    def _between(self, formula: Formula, line: _Line, begin: int, end: int) -> None:
        """Integers that lie in no run."""
        inner = range(max(begin, self.low), min(end, self.high) + 1)
        self.alone += len(inner)
        if self.alone > MOST_ALONE:
            raise Refused(
                f"its function has no value, or one too close to where rounding changes, at more than {MOST_ALONE} of "
                f"the integers {self.low}..{self.high} of its input; put a quantizer of at most 16 bits in front"
            )
        for x in inner:
            self._append(line.cell, [x], [self._decided(formula, line, x)])
        if end - begin - len(inner) < MOST_BEYOND:
            for x in (*range(begin, min(end + 1, self.low)), *range(max(begin, self.high + 1), end + 1)):
                with suppress(Refused):  # it can't arrive, and has the code of the integer before
                    self._append(line.cell, [x], [self._decided(formula, line, x)])

    def _decided(self, formula: Formula, line: _Line, x: int) -> int:
        real = line.factor * x + line.constant
        try:
            return decided(formula, real, self.quantizer.code)
        except Undecided:
            raise Refused(
                f"its value at {x} lies within 2^-{BITS[-1]} of where rounding changes, and is not known to be "
                "rational; it can't be decided"
            ) from None
        except NO_VALUE as error:
            raise Refused(
                f"at {x}, where it reads {float(real):.6g}: {error}; keep that integer out of reach"
            ) from None

    def _append(self, cell: int, starts: Sequence[int] | IntArray, codes: Sequence[int] | IntArray) -> None:
        made = np.asarray(starts, np.int64), np.asarray(codes, np.int64)
        self.steps.append((np.full(len(made[0]), cell, np.int64), *made))


def _hull(lines: Sequence[_Line], low: int, high: int) -> tuple[Fraction, Fraction]:
    ends = [x.ends(low, high) for x in lines]
    return min(e[0] for e in ends), max(e[1] for e in ends)


def _on_integers(found: Sequence[Run], lines: Sequence[_Line], reach: tuple[int, int]) -> tuple[IntArray, IntArray]:
    """Of each line and run its first and its last integer, (lines, runs); beyond `reach` just one further.

    float64 tells where a quotient isn't close to an integer; there rationals do.
    """
    edges = np.array([[r.low, r.high] for r in found], dtype=object).reshape(-1, 2).T
    factor, constant = (np.array([getattr(x, n) for x in lines], dtype=object) for n in ("factor", "constant"))
    about, a, b = (v.astype(np.float64) for v in (edges, factor[:, None], constant[:, None]))
    ends = []
    for near in (0, 1):  # of a falling line the upper edge comes first
        side = np.where(a > 0, about[near], about[1 - near])
        place = (side - b) / a
        doubt = np.abs(place - np.rint(place)) <= 2.0**-48 * ((np.abs(side) + np.abs(b)) / np.abs(a) + 1)
        doubt |= ~np.isfinite(place) | (np.abs(a) < 2.0**-900)  # float64 has no room for them
        place = np.where(doubt, 0.0, place)
        place = np.clip(np.floor(place) if near else np.ceil(place), reach[0] - 1, reach[1] + 1)
        if max(-reach[0], reach[1]) > 1 << 50:
            doubt[:] = True
        made = place.astype(np.int64)
        for line, run in zip(*np.nonzero(doubt), strict=True):
            edge = edges[near if factor[line] > 0 else 1 - near, run]
            exact = (edge - constant[line]) / factor[line]
            whole = math.floor(exact) if near else math.ceil(exact)
            made[line, run] = min(max(whole, reach[0] - 1), reach[1] + 1)
        ends.append(made)
    return np.maximum(ends[0], reach[0]), np.minimum(ends[1], reach[1])


def _arrays(steps: Sequence[Steps], cells: int) -> tuple[IntArray, IntArray]:
    """`starts` and `codes` of the node."""
    cell, start, code = (np.concatenate(column) for column in zip(*steps, strict=True))
    order = np.lexsort((start, cell))
    cell, start, code = cell[order], start[order], code[order]
    new = np.append(True, (cell[1:] != cell[:-1]) | (code[1:] != code[:-1]))
    cell, start, code = cell[new], start[new], code[new]
    counts = np.bincount(cell, minlength=cells)
    if cells * int(counts.max()) > MOST_STEPS:
        raise Refused(
            f"its function has more than {MOST_STEPS} steps in {cells} sets of constants; quantize before constants "
            "that are as large as the tensor"
        )
    place = np.minimum(np.arange(counts.max()), counts[:, None] - 1) + (np.cumsum(counts) - counts)[:, None]
    return np.ascontiguousarray(start[place][:, 1:]), np.ascontiguousarray(code[place])
