"""Requantize nodes as a float64 formula, proven equal to the scheme's definition: docs/requantizers.md.

A requantizer of few codes has few steps. Three things prove that a formula has the same ones:

1. The definition is monotone over the accumulators that can arrive. Within a piece the requantizer says so. Between
   pieces, and over all, the codes at the ends of pieces say so.
2. For each code k, T_k is the least accumulator that reaches it. Exact rounding solves an inequality; other schemes
   are evaluated next to where a line through them would have it, further away until the code is crossed.
3. The formula is monotone too: product, sum and rounding of binary64 are. So it is the definition everywhere if it is
   so at T_k - 1 and T_k of each k and at both ends. Where it is off by at most one code there, it is off by at
   most one everywhere, and a table of the T_k corrects it.

Rounding to the nearest is enough for every mode: the offset is chosen midway between the least and the greatest that
have all steps in place. There is none if ties go up at some codes and down at others; then the offset as it is written
leaves ties to binary64, which sends them to even codes, and what that doesn't settle is left to the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.pieces import Piece
from intsim.arithmetic.requantizers.requantizer import Requantizer, StepLimitError
from intsim.engine.requantize.affine import RINT, AffineRequantizer, TwoFormulas
from intsim.engine.requantize.steps import Cell, Definition, column, monotone_cell, nearby, steps
from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.pieces import node_pieces, pieces_json
from intsim.ops.requantize import formulas

MOST_CODES = 1 << 16
MOST_SOLVED, MOST_SOUGHT = 1 << 24, 1 << 22
"""Most steps of all cells together, where they are solved for and where the definition is evaluated for them."""
MOST_TABLE = 1 << 21
"""Most entries of a table, 16 MiB."""
FARTHEST, EXACT = 1 << 62, 1 << 53
"""Accumulators that are computed with, and those that are binary64 numbers."""
BLOCK = 1 << 18
Floats = NDArray[np.float64]


def fit(
    node: Node,
    tensors: Sequence[Tensor],
    requantizer: Requantizer,
    stages: Sequence[Stage],
    reach: tuple[int, int],
    codes: tuple[int, int] | None = None,
) -> AffineRequantizer | None:
    """The formula of a requantize node on a target's scheme, or None where none is proven.

    Args:
        node: a requantize node.
        tensors: its inputs.
        requantizer: the target's.
        stages: the accumulator's registers, into the last of which a bias is added; empty for unbounded.
        reach: least and greatest accumulator that can arrive, inclusive; with several inputs, of their integer
            combination, which only requantizers that add exactly see.
        codes: clip of the formula; must hold every code within reach. By default the codes within reach.

    Returns:
        None also where the definition would raise an error, and where a proof would be long: more than 2^16 codes,
        or more steps in all cells together than `MOST_SOLVED`, `MOST_SOUGHT`.
    """
    several = len(tensors) > 1 and not requantizer.adds_exactly
    if several or not -FARTHEST < reach[0] <= reach[1] < FARTHEST:
        return None
    definition = Definition(requantizer, stages)
    try:
        cells: list[Cell] = []
        for formula in formulas(node):
            cell = monotone_cell(formula, definition, reach)
            if cell is None:
                return None
            cells.append(cell)
        return _fitted(cells, reach, codes, definition) if cells else None
    except (IntsimError, StepLimitError):
        return None  # the definition says what is wrong, if an accumulator gets there


def fit_two_formulas(
    node: Node, tensors: Sequence[Tensor], requantizer: Requantizer, stages: Sequence[Stage], reach: tuple[int, int]
) -> TwoFormulas | None:
    """Two formulas for a node whose cells have up to two pieces each, such as a LeakyRelu or PRelu.

    Each is `fit` of all cells with one piece alone, over the whole reach, which is more than it is used for. None if
    one isn't found or needs a table, or the node has no bounds. Arguments as of `fit`.
    """
    low, high = node.attributes["low"], node.attributes["high"]
    cells = node_pieces(node)
    if low is None or high is None or max(map(len, cells)) > 2 or max(-reach[0], reach[1]) > EXACT:
        return None
    parts = []
    for side in (0, -1):
        lines: list[list[Piece]] = [[(None, *cell[side][1:])] for cell in cells]
        one = replace(node, attributes={**node.attributes, "pieces": pieces_json(lines)})
        part = fit(one, tensors, requantizer, stages, reach, (low, high))
        if part is None or part.table.size:
            return None
        parts.append(part)
    # a cell of one piece may change anywhere; starts beyond the reach are brought to its end
    starts = [reach[0] if cell[-1][0] is None else min(max(cell[-1][0], reach[0]), reach[1] + 1) for cell in cells]
    return TwoFormulas(np.array(starts, np.int64), *parts)


def _fitted(
    cells: list[Cell], reach: tuple[int, int], codes: tuple[int, int] | None, definition: Definition
) -> AffineRequantizer | None:
    """Thresholds and formula of all cells, a block of them at a time."""
    least, most = min(c.base for c in cells), max(c.top for c in cells)
    low, high = codes or (least, most)
    count = sum(c.top - c.base for c in cells)
    if low > least or high < most or high - low > MOST_CODES:
        return None
    if count > (MOST_SOLVED if definition.requantizer.exact else MOST_SOUGHT):
        return None
    scale, offset = np.zeros(len(cells)), np.array([float(c.base) for c in cells])
    table: list[IntArray] | None = [] if len(cells) * (high - low) <= MOST_TABLE else None
    corrected = False
    size = max(1, BLOCK // max(1, high - low))
    for start in range(0, len(cells), size):
        block = cells[start : start + size]
        places = steps(block, low, high, definition)
        line = _formula(block, places, low, high)
        if line is None or (table is None and not line[2]):
            return None
        scale[start : start + size], offset[start : start + size], alone = line
        corrected = corrected or not alone
        if table is not None:
            table.append(places)
    full = np.concatenate(table) if corrected and table else np.zeros((len(cells), 0), np.int64)
    return AffineRequantizer(scale, offset, RINT, low, high, full, reach)


def _formula(cells: list[Cell], places: IntArray, low: int, high: int) -> tuple[Floats, Floats, bool] | None:
    """Scale and offset of each cell, and whether they need no table; None where they are off by more than a code."""
    codes = np.arange(low + 1, high + 1)
    base, top = column([c.base for c in cells]), column([c.top for c in cells])
    first, last = column([c.stretches[0].first for c in cells]), column([c.stretches[-1].last for c in cells])
    climbs = (top > base)[:, 0]
    slope = np.array([[c.slope if up else 0.0] for c, up in zip(cells, climbs, strict=True)])
    offsets = [nearby(c.main.offset + c.formula.zero) for c in cells]
    written = np.where(climbs[:, None], np.array(offsets)[:, None], base)
    active = (codes > base) & (codes <= top)
    # offsets o that have floor(slope * u + o) reach k at T_k and not before, and not leave the codes at the ends
    most = np.where(active, codes - slope * (places - 1), np.inf).min(axis=1, initial=np.inf, keepdims=True)
    least = np.where(active, codes - slope * places, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    most = np.where(top < high, np.minimum(most, top + 1 - slope * last), most)
    least = np.where(base > low, np.maximum(least, base - slope * first), least)
    middle = np.where(climbs[:, None], (least + most) / 2 - 0.5, base) if codes.size else base.astype(np.float64)
    best, off = middle, np.full(len(cells), 2)
    for offset in (middle, written):
        worst = np.zeros(len(cells), np.int64)
        # several steps may be at one place: a value is measured against its own step's code on either side
        for u, code, sign in ((places, codes, 1), (places - 1, codes - 1, -1)):
            value = np.clip(np.rint(slope * u + offset), low, high)
            beyond = np.where(active, sign * (code - value), 0)
            worst = np.maximum(worst, beyond.max(axis=1, initial=0).astype(np.int64))
        for u, code in ((first, base), (last, top)):
            value = np.clip(np.rint(slope * u + offset), low, high)
            worst = np.maximum(worst, np.abs(value - code)[:, 0].astype(np.int64))
        best = np.where((worst < off)[:, None], offset, best)
        off = np.minimum(off, worst)
    if not (np.isfinite(slope).all() and np.isfinite(best).all()) or off.max() > 1:
        return None
    signs = np.array([c.sign for c in cells], np.float64)
    return signs * slope[:, 0], best[:, 0], bool(off.max() == 0)
