"""Compiled requantizers: `AffineRequantizer` applied to accumulators, and to sums of two narrow tensors.

The arithmetic is binary64 without contraction, as in numpy. The clip comes before the rounding: its bounds are
integers, so the code is the same, and what is rounded always fits the narrow types.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.requantizers.exact import exact_requantize
from intsim.engine.requantize.affine import AffineRequantizer, FilteredRequantizer, Rule, TwoFormulas
from intsim.jit.compile import compiled

EXACT = 1 << 53
"""Integers up to here are binary64 numbers."""
CARRIERS = {1: np.uint8, 2: np.uint16, 4: np.int32, 8: np.int64}
"""What the loops store, by size: the lowest bits of a code are the same with and without sign."""
Codes = NDArray[Any]


@compiled
def _round(y, kind, low, high):  # type: ignore[no-untyped-def]
    """Clip and round one number, as binary64."""
    y = low if y < low else y
    y = high if y > high else y
    return np.rint(y) if kind == 0 else np.floor(y) if kind == 1 else np.ceil(y)


@compiled
def _requantize(acc, out, scale, offset, kind, low, high):  # type: ignore[no-untyped-def]
    """acc, out: (outer, cells, inner)."""
    outer, cells, inner = acc.shape
    for o in range(outer):
        if inner == 1:
            line, codes = acc[o, :, 0], out[o, :, 0]
            for c in range(cells):
                codes[c] = np.int32(_round(scale[c] * np.float64(line[c]) + offset[c], kind, low, high))
            continue
        for c in range(cells):
            line, codes, s, b = acc[o, c], out[o, c], scale[c], offset[c]
            for i in range(inner):
                codes[i] = np.int32(_round(s * np.float64(line[i]) + b, kind, low, high))


@compiled
def _nearest(line, codes, scale, offset, low, high, sure):  # type: ignore[no-untyped-def]
    """Codes by rounding to the nearest; how many numbers were `sure` or more from theirs."""
    doubtful = np.int32(0)
    for i in range(line.size):
        y = scale * np.float64(line[i]) + offset
        y = low if y < low else y
        y = high if y > high else y
        code = np.rint(y)
        codes[i] = np.int32(code)
        doubtful = np.int32(doubtful + (np.int32(1) if abs(y - code) >= sure else np.int32(0)))
    return doubtful


@compiled
def _requantize_table(acc, out, scale, offset, kind, low, high, steps, sure):  # type: ignore[no-untyped-def]
    """With a table. steps: (cells, codes + 1) of acc's type, its ends beyond any accumulator.

    A number nearer than `sure` to its integer, rounded to the nearest, is right without the table. Blocks of such
    numbers alone are vectors; looking up is not.
    """
    lane = acc.dtype.type
    block = 128
    places = np.empty(block, np.uint32)
    end, least = np.uint64(steps.shape[1] - 1), np.int32(low)
    outer, cells, inner = acc.shape
    for o in range(outer):
        for c in range(cells):
            s, b, falls, row = scale[c], offset[c], scale[c] < 0, steps[c]
            for start in range(0, inner, block):
                line, codes = acc[o, c, start : start + block], out[o, c, start : start + block]
                if _nearest(line, codes, s, b, low, high, sure) == 0:
                    continue
                for i in range(line.size):
                    places[i] = np.uint32(np.int32(_round(s * np.float64(line[i]) + b, kind, low, high) - low))
                for i in range(line.size):
                    at = np.uint64(places[i])  # an index without sign isn't counted from the end
                    if at >= end:
                        break  # never: a loop that may end early stays scalar, which is faster than gathering
                    u = lane(-line[i]) if falls else line[i]
                    step = np.int32(u >= row[at + np.uint64(1)]) - np.int32(u < row[at])
                    codes[i] = np.int32(at) + least + step


@compiled
def _requantize_two_formulas(acc, out, starts, scales, offsets, kind, low, high):  # type: ignore[no-untyped-def]
    """acc, out: (outer, cells, inner); starts: (cells,), binary64; scales, offsets: (2, cells), below and above."""
    outer, cells, inner = acc.shape
    for o in range(outer):
        for c in range(cells):
            line, codes, start = acc[o, c], out[o, c], starts[c]
            s, b, t, d = scales[0, c], offsets[0, c], scales[1, c], offsets[1, c]
            for i in range(inner):
                v = np.float64(line[i])
                below, above = s * v + b, t * v + d
                codes[i] = np.int32(_round(below if v < start else above, kind, low, high))


@compiled
def _combine(first, second, out, factors, scale, offset, kind, low, high):  # type: ignore[no-untyped-def]
    """first, second, out: (outer, cells, inner); factors: (2, cells), binary64, so that both products are exact."""
    outer, cells, inner = first.shape
    for o in range(outer):
        for c in range(cells):
            x, z, codes, s, b = first[o, c], second[o, c], out[o, c], scale[c], offset[c]
            f, g = factors[0, c], factors[1, c]
            for i in range(inner):
                total = f * np.float64(x[i]) + g * np.float64(z[i])
                codes[i] = np.int32(_round(s * total + b, kind, low, high))


@compiled
def _filter(acc, out, scale, offset, low, high, sure):  # type: ignore[no-untyped-def]
    """Codes of (outer, cells, inner) accumulators; how many of them lie `sure` (a cell) or more from theirs."""
    outer, cells, inner = acc.shape
    doubtful = np.int64(0)
    for o in range(outer):
        if inner == 1:
            line, codes = acc[o, :, 0], out[o, :, 0]
            for c in range(cells):
                y = scale[c] * np.float64(line[c]) + offset[c]
                y = low if y < low else y
                y = high if y > high else y
                code = np.rint(y)
                codes[c] = np.int32(code)
                doubtful += np.int64(abs(y - code) >= sure[c])
            continue
        for c in range(cells):
            line, codes, s, b, edge = acc[o, c], out[o, c], scale[c], offset[c], sure[c]
            for i in range(inner):
                y = s * np.float64(line[i]) + b
                y = low if y < low else y
                y = high if y > high else y
                code = np.rint(y)
                codes[i] = np.int32(code)
                doubtful += np.int64(abs(y - code) >= edge)
    return doubtful


def _decide(acc: NDArray[Any], rule: FilteredRequantizer, out: Codes) -> None:
    """Codes near an edge, by the definition."""
    for c, formula in enumerate(rule.cells):
        numbers = acc[:, c].astype(np.int64)
        y = np.clip(rule.scale[c] * numbers + rule.offset[c], rule.low, rule.high)
        near = np.abs(y - np.rint(y)) >= rule.sure[c] - 2.0**-40
        if near.any():
            ((_, scale, offset),) = formula.pieces
            exact = exact_requantize(numbers[near], scale, offset, formula.rounding)
            out[:, c][near] = formula.clip(exact + formula.zero)


def requantize_dense(acc: NDArray[Any], rule: Rule, out: Codes) -> Codes:
    """Codes of accumulators within the rule's reach, which isn't checked; for two formulas they are within 2^53.

    Args:
        acc: int32 or int64, (outer, cells, inner), C-contiguous; one cell takes any (outer, 1, inner).
        rule: cells as in acc.
        out: where the codes go, C-contiguous, of acc's shape; uint8, int8, uint16, int16, int32 or int64.

    Returns:
        `out`.
    """
    stored = out.view(CARRIERS[out.dtype.itemsize])
    if isinstance(rule, FilteredRequantizer):
        if _filter(acc, stored, rule.scale, rule.offset, float(rule.low), float(rule.high), rule.sure):
            _decide(acc, rule, out)
        return out
    if isinstance(rule, TwoFormulas):
        sides, above = (rule.below, rule.above), rule.above
        scales, offsets = np.stack([r.scale for r in sides]), np.stack([r.offset for r in sides])
        starts, ends = rule.starts.astype(np.float64), (float(above.low), float(above.high))
        _requantize_two_formulas(acc, stored, starts, scales, offsets, above.kind, *ends)
        return out
    formula = rule.scale, rule.offset, rule.kind, float(rule.low), float(rule.high)
    if not rule.table.size:
        _requantize(acc, stored, *formula)
        return out
    if acc.dtype == np.int32 and max(-rule.reach[0], rule.reach[1]) >= (1 << 31) - 1:
        acc = acc.astype(np.int64)  # the end of the table would be an accumulator, or its negative
    _requantize_table(acc, stored, *formula, *prepared(rule, acc.dtype))
    return out


class Combination:
    """Codes of `sum_i coefficients[i] * arrays[i]`, a residual addition."""

    def __init__(self, coefficients: NDArray[np.int64], rule: Rule) -> None:
        """`coefficients` (arrays, cells); `rule`: its reach holds every sum; sums and products fit int64."""
        self.coefficients, self.rule = coefficients, rule
        self.factors = np.ascontiguousarray(coefficients, np.float64)
        self.largest = [int(np.abs(k).max(initial=0)) for k in coefficients]
        self.plain = len(coefficients) == 2 and isinstance(rule, AffineRequantizer) and not rule.table.size

    def run(self, arrays: Sequence[NDArray[Any]], out: Codes) -> Codes:
        """`arrays`: integers, each (outer, cells, inner) and C-contiguous; `out` as in `requantize_dense`."""
        rule = self.rule
        exact = all(k * _span(a.dtype) <= EXACT for k, a in zip(self.largest, arrays, strict=True))
        if self.plain and exact and isinstance(rule, AffineRequantizer):
            first, second = arrays
            if first.dtype != second.dtype:
                kind = np.promote_types(first.dtype, second.dtype)
                first, second = (a.astype(kind, copy=False) for a in arrays)
            stored, ends = out.view(CARRIERS[out.dtype.itemsize]), (float(rule.low), float(rule.high))
            _combine(first, second, stored, self.factors, rule.scale, rule.offset, rule.kind, *ends)
            return out
        total = np.zeros(arrays[0].shape, np.int64)
        for array, factor in zip(arrays, self.coefficients, strict=True):
            total += array * factor[:, None]
        return requantize_dense(total, rule, out)


@cache
def _span(dtype: np.dtype[Any]) -> int:
    """No integer of a type is further from zero."""
    return int(np.iinfo(dtype).max) + 1


_prepared: WeakKeyDictionary[AffineRequantizer, dict[str, tuple[NDArray[Any], float]]] = WeakKeyDictionary()


def prepared(rounder: AffineRequantizer, lane: np.dtype[Any]) -> tuple[NDArray[Any], float]:
    """For a rounder with a table: the table between two ends, (cells, codes + 1) of type `lane`; and `sure`.

    Where a number before rounding is nearer than `sure` to its integer, that integer is the code. Kept as long as the
    rounder lives.
    """
    kept = _prepared.setdefault(rounder, {})
    if lane.name not in kept:
        steps = np.empty((len(rounder.scale), rounder.high - rounder.low + 2), lane)
        steps[:, 0], steps[:, -1] = np.iinfo(lane).min, np.iinfo(lane).max
        steps[:, 1:-1] = rounder.table
        kept[lane.name] = steps, _sure(rounder)
    return kept[lane.name]


def _sure(rounder: AffineRequantizer) -> float:
    """Half a code, less the furthest that a step of the table lies from half-way between codes, whatever the kind.

    y rises with u. Let y(T_k) >= k - 1/2 - d where T_k is within reach, and y(T_k - 1) < k - 1/2 + d where that is.
    Then y >= k - 1/2 + d means u >= T_k, and y < k - 1/2 - d means u < T_k. The slack is for rounding here.
    """
    ends = np.where(rounder.scale[:, None] < 0, [-rounder.reach[1], -rounder.reach[0]], rounder.reach)
    first, last = ends[:, :1], ends[:, 1:]
    slope, offset = np.abs(rounder.scale)[:, None], rounder.offset[:, None]
    edge = np.arange(rounder.low + 1, rounder.high + 1) - 0.5
    late = np.where(rounder.table <= last, edge - (slope * rounder.table + offset), -np.inf).max()
    early = np.where(rounder.table > first, (slope * (rounder.table - 1) + offset) - edge, -np.inf).max()
    return float(0.5 - max(late, early, 0.0) - 2.0**-30)
