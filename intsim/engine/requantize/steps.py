"""Where a requantizer's codes change: per cell the stretches on which it is monotone, and the place of each step.

Within a piece a scheme is a chain of monotone functions, except where the register that takes the bias wraps, where a
left shift wraps, and where it refuses values; the ends of a piece show that none of these is within reach. Codes of
neighbouring pieces' ends then say whether the whole rises or falls. A cell that falls is turned: u = -accumulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.form import RequantizerForm
from intsim.arithmetic.requantize import float32_scale, quantize_multiplier
from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.arithmetic.thresholds import first_reaching
from intsim.arithmetic.tosa import tosa_multiplier, value_limits
from intsim.graph import IntArray, Node
from intsim.ops.pieces import Piece, Transform
from intsim.ops.requantize import clip
from intsim.ops.schemes import bias_in_accumulator

LARGEST_CODE = 1 << 31


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

    @property
    def base(self) -> int:
        """Least code."""
        return self.stretches[0].begin

    @property
    def top(self) -> int:
        """Greatest code."""
        return self.stretches[-1].end

    @property
    def main(self) -> Stretch:
        """The stretch with most steps."""
        return max(self.stretches, key=lambda s: s.end - s.begin)

    @property
    def slope(self) -> float:
        """Codes an accumulator; where all steps are jumps between pieces, steep enough for one jump."""
        return nearby(self.main.scale) if self.main.end > self.main.begin else float(self.top - self.base)


def nearby(x: Fraction) -> float:
    """The nearest float64; 2^1000 or -2^1000 for what is beyond."""
    return float(min(max(x, Fraction(-(1 << 1000))), Fraction(1 << 1000)))


def monotone_cell(
    node: Node,
    pieces: list[Piece],
    form: RequantizerForm,
    stages: Sequence[Stage],
    reach: tuple[int, int],
    function: Transform,
) -> Cell | None:
    """One cell's stretches; None if it isn't monotone."""
    found: list[Stretch] = []
    for index, piece in enumerate(pieces):
        first = reach[0] if piece[0] is None else max(reach[0], piece[0])
        after = pieces[index + 1][0] if index + 1 < len(pieces) else None
        last = reach[1] if after is None else min(reach[1], after - 1)
        if first > last:
            continue
        line = _line(first, last, piece, form, stages)
        if line is None:
            return None
        begin, end = _ends(node, first, last, piece, form, function)
        found.append(Stretch(first, last, begin, end, *line, piece))
    levels = [code for s in found for code in (s.begin, s.end)]
    steps = [b - a for a, b in pairwise(levels)]
    if not found or max(map(abs, levels)) >= LARGEST_CODE:
        return None
    if min(steps) >= 0:
        return Cell(1, found)
    if max(steps) > 0:
        return None
    return Cell(-1, [Stretch(-s.last, -s.first, s.end, s.begin, -s.scale, s.offset, s.piece) for s in found[::-1]])


def _ends(
    node: Node, first: int, last: int, piece: Piece, form: RequantizerForm, function: Transform
) -> tuple[int, int]:
    """Codes at both ends of a piece."""
    at = node.attributes
    if form.scheme not in ("exact", "thresholds"):
        codes = _evaluated(node, np.array([first, last]), piece, function)
        return int(codes[0]), int(codes[1])
    _, scale, offset = piece
    mode, low, high = Rounding(at["rounding"]), at["low"], at["high"]
    codes_ = []
    for acc in (first, last):
        code = round_fraction(scale * acc + offset, mode) + at["zero"]
        code = code if low is None else max(code, low)
        codes_.append(code if high is None else min(code, high))
    return codes_[0], codes_[1]


def _evaluated(node: Node, acc: IntArray, piece: Piece, function: Transform) -> IntArray:
    """The definition within one piece."""
    return clip(node, function(acc, piece[1], piece[2]) + node.attributes["zero"])


def _line(
    first: int, last: int, piece: Piece, form: RequantizerForm, stages: Sequence[Stage]
) -> tuple[Fraction, Fraction] | None:
    """A piece's scale and offset as the scheme has them; None where it may not be monotone, or refuses."""
    _, scale, offset = piece
    if scale == 0 or form.scheme in ("exact", "thresholds"):
        return scale, offset
    bias = bias_in_accumulator(scale, offset) if offset else 0
    low, high = first + bias, last + bias
    if offset and stages:
        register = stages[-1]
        if register.overflow == "wrap" and (low < register.min or high > register.max):
            return None
        low, high = (min(max(v, register.min), register.max) for v in (low, high))
    multiplier, limits = _multiplier(scale, form)
    if limits is not None and (low < limits[0] or high > limits[1]):
        return None
    return multiplier, multiplier * bias


def _multiplier(scale: Fraction, form: RequantizerForm) -> tuple[Fraction, tuple[int, int] | None]:
    """What a scheme multiplies by, and the values between which it is monotone; None for all."""
    if form.scheme == "shift":
        return scale, None
    if form.scheme == "float32":
        return Fraction(float(float32_scale(scale))), None
    bits = form.multiplier_bits or 32
    if form.scheme == "tosa":
        multiplier, shift = tosa_multiplier(scale, bits)
        return Fraction(multiplier, 1 << shift), value_limits(multiplier, shift, bits)
    multiplier, shift = quantize_multiplier(scale, bits)
    exact = multiplier / Fraction(2) ** shift
    if not form.double_rounding:
        return exact, None
    # the left shift is of 32 bits; nothing comes of a multiplier of 0
    edge = 1 << 31 - (max(0, bits - 1 - shift) if multiplier else 0)
    return exact, (-edge, edge - 1)


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


def solved(node: Node, cells: list[Cell], low: int, high: int) -> IntArray:
    """T_k of exact rounding, int64 (cells, high - low).

    In float64 `x = (edge - B) / S`, of relative error below 2^-50 of what was added, and T_k is x rounded up unless an
    integer is that near; then integers decide.
    """
    codes = np.arange(low + 1, high + 1)
    mode, zero = Rounding(node.attributes["rounding"]), node.attributes["zero"]
    places = _outline(cells, codes)
    edges = _edges(codes - zero, mode)
    climbing = [(r, s) for r, c in enumerate(cells) for s in c.stretches if s.end > s.begin]
    for row, s in climbing:
        part = slice(s.begin + 1 - codes[0], s.end + 1 - codes[0])
        scale, offset = nearby(s.scale), nearby(s.offset)
        with np.errstate(all="ignore"):  # next to no slope: nothing is clear
            x = (edges[part] - offset) / scale
            above = np.ceil(x)
            error = 2.0**-50 * (np.abs(edges[part]) + abs(offset)) / scale + 2.0**-50
            clear = (above - x > error) & (x - above > error - 1) & (2.0**-900 < scale < 2.0**900)
        target = places[row, part]
        target[:] = np.where(clear, above, 0)
        if not clear.all():
            target[~clear] = first_reaching(codes[part][~clear] - zero, s.scale, s.offset, mode)
    return places


def _edges(codes: IntArray, mode: Rounding) -> NDArray[np.float64]:
    """The number about which the rounding becomes each code."""
    exact = codes.astype(np.float64)
    if mode in (Rounding.AWAY, Rounding.TOWARD_ZERO):
        return np.where((codes > 0) == (mode is Rounding.AWAY), exact - 1, exact)
    return exact - {Rounding.FLOOR: 0.0, Rounding.CEIL: 1.0}.get(mode, 0.5)


def sought(node: Node, cells: list[Cell], low: int, high: int, function: Transform) -> IntArray:
    """T_k by evaluating the definition, int64 (cells, high - low)."""
    codes = np.arange(low + 1, high + 1)
    places = _outline(cells, codes)
    for row, cell in zip(places, cells, strict=True):
        for s in cell.stretches:
            if s.end > s.begin:
                part = slice(s.begin + 1 - codes[0], s.end + 1 - codes[0])
                row[part] = _crossings(node, codes[part], cell.sign, s, function)
    return places


def _crossings(node: Node, codes: IntArray, sign: int, s: Stretch, function: Transform) -> IntArray:
    """For each code the least u of a stretch that reaches it; F(first) is below every one and F(last) is not."""

    def reached(u: IntArray, wanted: IntArray) -> NDArray[np.bool_]:
        return np.asarray(_evaluated(node, sign * u, s.piece, function) >= wanted)

    below, above = np.full(codes.shape, s.first), np.full(codes.shape, s.last)
    with np.errstate(all="ignore"):
        guess = (codes - (0.5 + node.attributes["zero"] + nearby(s.offset))) / nearby(s.scale)
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
