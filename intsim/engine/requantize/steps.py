"""Where a requantizer's codes change: per cell the stretches on which it is monotone, and the place of each step.

Within a piece the requantizer itself says whether it is monotone and takes every accumulator (`segments`). Codes of
neighbouring pieces' ends then say whether the whole rises or falls. A cell that falls is turned: u = -accumulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.pieces import Formula, Piece, spans
from intsim.arithmetic.requantizers.requantizer import Requantizer
from intsim.arithmetic.requantizers.thresholds import first_reaching
from intsim.arithmetic.rounding import Rounding, round_divide
from intsim.graph import IntArray

LARGEST_CODE = 1 << 31


@dataclass(frozen=True)
class Definition:
    """A requantizer and the registers in front of it."""

    requantizer: Requantizer
    stages: Sequence[Stage]

    def codes(self, formula: Formula, piece: Piece, acc: IntArray) -> IntArray:
        """Codes of accumulators within one piece."""
        made = self.requantizer.apply(acc, piece[1], piece[2], formula.rounding, self.stages)
        return formula.clip(made + formula.zero)

    def ends(self, formula: Formula, piece: Piece, first: int, last: int) -> tuple[int, int]:
        """Codes at both ends of a piece."""
        if not self.requantizer.exact:
            begin, end = self.codes(formula, piece, np.array([first, last])).tolist()
            return begin, end
        # (n acc + m) / d, as integers: fractions in lowest terms would take most of the time
        (n, d), (m, e) = piece[1].as_integer_ratio(), piece[2].as_integer_ratio()
        codes = [round_divide(n * e * acc + m * d, d * e, formula.rounding) + formula.zero for acc in (first, last)]
        codes = codes if formula.low is None else [max(code, formula.low) for code in codes]
        codes = codes if formula.high is None else [min(code, formula.high) for code in codes]
        return codes[0], codes[1]


@dataclass(frozen=True)
class Stretch:
    """A piece within reach, over u = sign * accumulator, so that it rises: codes `begin` at `first` to `end` at `last`.

    `scale * u + offset` is what the definition rounds for the exact schemes, and close to it for others.
    """

    first: int
    last: int
    begin: int
    end: int
    scale: Fraction
    offset: Fraction
    piece: Piece


@dataclass(frozen=True)
class Cell:
    """A cell's stretches, ascending in u."""

    sign: int
    stretches: list[Stretch]
    formula: Formula

    @property
    def base(self) -> int:
        """Least code."""
        return self.stretches[0].begin

    @property
    def top(self) -> int:
        """Greatest code."""
        return self.stretches[-1].end

    @cached_property
    def main(self) -> Stretch:
        """The stretch with most steps."""
        return max(self.stretches, key=lambda s: s.end - s.begin)

    @property
    def slope(self) -> float:
        """Codes an accumulator; where all steps are jumps between pieces, steep enough for one jump."""
        return nearby(self.main.scale) if self.main.end > self.main.begin else float(self.top - self.base)


def nearby(x: Fraction) -> float:
    """The nearest float64; 2^1000 or -2^1000 for what is beyond."""
    try:
        return min(max(x.numerator / x.denominator, -(2.0**1000)), 2.0**1000)
    except OverflowError:
        return 2.0**1000 if x > 0 else -(2.0**1000)


def monotone_cell(formula: Formula, definition: Definition, reach: tuple[int, int]) -> Cell | None:
    """One cell's stretches; None if it isn't monotone, or refuses an accumulator within reach."""
    stretches: list[Stretch] = []
    for first, last, piece in spans(formula.pieces, *reach):
        parts = definition.requantizer.segments(first, last, piece[1], piece[2], definition.stages)
        segment, *more = islice(parts, 2)
        if more or not segment.valid:
            return None
        begin, end = definition.ends(formula, piece, first, last)
        stretches.append(Stretch(first, last, begin, end, *segment.lines[-1], piece))
    levels = [code for s in stretches for code in (s.begin, s.end)]
    steps = [b - a for a, b in pairwise(levels)]
    if not stretches or max(map(abs, levels)) >= LARGEST_CODE:
        return None
    if min(steps) >= 0:
        return Cell(1, stretches, formula)
    if max(steps) > 0:
        return None
    turned = [Stretch(-s.last, -s.first, s.end, s.begin, -s.scale, s.offset, s.piece) for s in stretches[::-1]]
    return Cell(-1, turned, formula)


def column(values: list[int]) -> IntArray:
    """int64 (len(values), 1)."""
    return np.array(values, np.int64)[:, None]


def _outline(cells: list[Cell], codes: IntArray) -> IntArray:
    """int64 (cells, codes): T_k where a jump between pieces or an end of the reach says it."""
    base = column([c.base for c in cells])
    first, last = column([c.stretches[0].first for c in cells]), column([c.stretches[-1].last for c in cells])
    places = np.where(codes <= base, first, last + 1)
    for row, cell in zip(places, cells, strict=True):
        level = cell.base
        for stretch in cell.stretches[1:]:
            if stretch.begin > level:
                row[level + 1 - codes[0] : stretch.begin + 1 - codes[0]] = stretch.first
            level = stretch.end
    return places


def steps(cells: list[Cell], low: int, high: int, definition: Definition) -> IntArray:
    """T_k of each code, int64 (cells, high - low)."""
    codes = np.arange(low + 1, high + 1)
    places = _outline(cells, codes)
    climbing = [(row, s) for row, cell in enumerate(cells) for s in cell.stretches if s.end > s.begin]
    if definition.requantizer.exact:
        _solve(places, climbing, cells, low + 1)
        return places
    for row, s in climbing:
        part = slice(s.begin - low, s.end - low)
        places[row, part] = _sought(codes[part], cells[row], s, definition)
    return places


def _solve(places: IntArray, climbing: list[tuple[int, Stretch]], cells: list[Cell], first_code: int) -> None:
    """Of a requantizer that is exact, for each code the least u that reaches it: where the rounding has its steps.

    In float64 `x = (edge - B) / S`, of relative error below 2^-50 of what was added, and T_k is x rounded up unless an
    integer is that near; then integers decide. All steps of all stretches lie side by side in flat arrays.
    """
    if not climbing:
        return
    formulas = [cells[row].formula for row, _ in climbing]
    counts = np.array([s.end - s.begin for _, s in climbing])
    ends = np.cumsum(counts)

    def spread(values: Sequence[float]) -> NDArray[Any]:
        return np.repeat(np.array(values), counts)

    within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    codes = spread([s.begin + 1 for _, s in climbing]) + within
    unshifted = codes - spread([f.zero for f in formulas])
    edges = np.empty(codes.shape)
    modes = [f.rounding for f in formulas]
    for mode in set(modes):
        chosen = spread([m is mode for m in modes])
        edges[chosen] = _edges(unshifted[chosen], mode)
    scale = spread([nearby(s.scale) for _, s in climbing])
    offset = spread([nearby(s.offset) for _, s in climbing])
    with np.errstate(all="ignore"):  # next to no slope: nothing is clear
        x = (edges - offset) / scale
        above = np.ceil(x)
        error = 2.0**-50 * (np.abs(edges) + np.abs(offset)) / scale + 2.0**-50
        clear = (above - x > error) & (x - above > error - 1) & (scale > 2.0**-900) & (scale < 2.0**900)
    firsts = np.where(clear, above, 0).astype(np.int64)
    jobs = np.repeat(np.arange(counts.size), counts)
    for job in np.unique(jobs[~clear]).tolist():
        part = slice(ends[job] - counts[job], ends[job])
        open_ = ~clear[part]
        _, s = climbing[job]
        firsts[part][open_] = first_reaching(unshifted[part][open_], s.scale, s.offset, modes[job])
    places[spread([row for row, _ in climbing]), codes - first_code] = firsts


def _edges(codes: IntArray, mode: Rounding) -> NDArray[np.float64]:
    """The number about which the rounding becomes each code."""
    exact = codes.astype(np.float64)
    if mode in (Rounding.AWAY, Rounding.TOWARD_ZERO):
        return np.where((codes > 0) == (mode is Rounding.AWAY), exact - 1, exact)
    return exact - {Rounding.FLOOR: 0.0, Rounding.CEIL: 1.0}.get(mode, 0.5)


def _sought(codes: IntArray, cell: Cell, s: Stretch, definition: Definition) -> IntArray:
    """For each code the least u that reaches it, by the definition; F(first) is below every code and F(last) is not."""

    def reached(u: IntArray, wanted: IntArray) -> NDArray[np.bool_]:
        return np.asarray(definition.codes(cell.formula, s.piece, cell.sign * u) >= wanted)

    below, above = np.full(codes.shape, s.first), np.full(codes.shape, s.last)
    with np.errstate(all="ignore"):
        guess = (codes - (0.5 + cell.formula.zero + nearby(s.offset))) / nearby(s.scale)
    around = np.nan_to_num(np.clip(np.ceil(guess), s.first, s.last)).astype(np.int64)
    window = np.clip(around[:, None] + np.arange(-2, 3), s.first, s.last)
    passed = reached(window.reshape(-1), np.repeat(codes, 5)).reshape(window.shape)
    for column in range(5):  # rows of `passed` rise
        here = window[:, column]
        above = np.where(passed[:, column], np.minimum(above, here), above)
        below = np.where(passed[:, column], below, np.maximum(below, here))
    while (wide := np.flatnonzero(above - below > 1)).size:
        middle = below[wide] + (above[wide] - below[wide]) // 2
        up = reached(middle, codes[wide])
        above[wide] = np.where(up, middle, above[wide])
        below[wide] = np.where(up, below[wide], middle)
    return above
