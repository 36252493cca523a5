"""Requantizers in binary32, which computes twice as many codes at a time: found for a cell and proven, or not used.

    code = clip(rint(binary32(binary32(v + added) * scale) + offset) + centre, low, high)

where v + added is an integer that conversion rounds to binary32, and product and sum are each rounded, never fused.
Conversion, product, sum and rounding are monotone. So this is the `AffineRequantizer` everywhere within its reach if it
is so at T_k - 1 and at T_k of each code k, the least u = v, or -v where scale < 0, that reaches it; and those are
evaluated, as numpy's binary32 is the kernel's.

A product of 24 bits lies next to most steps as it should, but there are some 255. What moves the accumulator by an
integer and the offset to match gives other roundings of the same line, and one of a few dozen mostly has all in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.engine.requantize.affine import RINT, AffineRequantizer
from intsim.graph import IntArray

LARGEST = 2.0**30
"""What is rounded stays below, so that its integer is one of 32 bits."""
MOST_CODES, MOST_SUMS = 255, 8
TRIES = 64
"""Roundings of a cell's line that are tried."""
SUM_TRIES = 9 * 27
GOLDEN = 0.6180339887498949
Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SingleRequantizer:
    """One entry a cell; where `proven` isn't set the others are 0."""

    scale: Singles
    offset: Singles
    added: NDArray[np.int64]
    proven: NDArray[np.bool_]


def single(rule: AffineRequantizer, centre: int) -> SingleRequantizer:
    """The cells of a requantizer that binary32 computes, and how; `centre` is a code about the middle of all."""
    cells = len(rule.scale)
    found = SingleRequantizer(
        np.zeros(cells, np.float32), np.zeros(cells, np.float32), np.zeros(cells, np.int64), np.zeros(cells, np.bool_)
    )
    farthest = max(-rule.reach[0], rule.reach[1])
    if rule.high - rule.low > MOST_CODES or farthest >= 1 << 31 or not (rule.table.size or rule.kind == RINT):
        return found
    steps = _Steps(rule, centre)
    slope, offset = np.abs(rule.scale), rule.offset - centre
    open_ = np.flatnonzero(steps.known)
    for turn in range(TRIES):
        if not open_.size:
            break
        # by turns the nearest slope and its neighbours; the first offset is the line's own
        scale = slope[open_].astype(np.float32)
        if turn % 3:
            scale = np.nextafter(scale, np.float32(np.inf if turn % 3 == 1 else 0))
        aim = offset[open_] if turn < 3 else 8 * (turn * GOLDEN % 1) - 4
        with np.errstate(all="ignore"):
            moved = np.rint((offset[open_] - aim) / slope[open_])
        moved = np.where(np.abs(moved) + farthest < 2.0**31 - 1, moved, 0.0)
        rest = (offset[open_] - slope[open_] * moved).astype(np.float32)
        right = steps.in_place(open_, scale, rest, moved)
        won = open_[right]
        sign = np.where(rule.scale[won] < 0, -1, 1)
        found.scale[won], found.offset[won] = sign * scale[right], rest[right]
        found.added[won], found.proven[won] = sign * moved[right].astype(np.int64), True
        open_ = open_[~right]
    return found


class SingleSum(NamedTuple):
    """For each cell code = clip(rint((x * first + y * second) + offset) + centre), each operation rounded to binary32.

    x and y are bytes. Where `proven` isn't set the others are 0.
    """

    first: Singles
    second: Singles
    offset: Singles
    proven: NDArray[np.bool_]


def single_sum(
    rule: AffineRequantizer, first: IntArray, second: IntArray, constant: IntArray, centre: int
) -> SingleSum:
    """The cells of a requantizer of first * x + second * y + constant that binary32 computes, each tried on all bytes.

    Args:
        rule: without a table, to the nearest; its formula on such a sum is the definition for all bytes that can
            arrive. Others get what the formula says.
        first, second, constant: one a cell of the rule; of at most `MOST_SUMS` cells that differ.
        centre: as of `single`.
    """
    table = np.broadcast_arrays(rule.scale, rule.offset, first, second, constant)
    cells, of_cell = np.unique(np.array(table, np.float64).T, axis=0, return_inverse=True)
    found = np.zeros((3, len(cells)), np.float32)
    proven = np.zeros(len(cells), np.bool_)
    if len(cells) <= MOST_SUMS and not rule.table.size and rule.kind == RINT:
        for i, cell in enumerate(cells.tolist()):
            made = _sum_of_bytes(cell, (rule.low, rule.high), centre)
            if made is not None:
                found[:, i], proven[i] = made, True
    of_cell = of_cell.reshape(-1)
    return SingleSum(found[0, of_cell], found[1, of_cell], found[2, of_cell], proven[of_cell])


def _sum_of_bytes(cell: list[float], ends: tuple[int, int], centre: int) -> tuple[np.float32, ...] | None:
    """First and second factor and offset in binary32 of one cell; None where no rounding of them that is tried does."""
    scale, offset, a, b, c = cell
    x, y = np.arange(256.0)[:, None], np.arange(256.0)[None] if b else np.zeros((1, 1))
    line = scale * (a * x + b * y + c) + offset
    codes = np.rint(np.clip(line, *ends)) - centre
    if np.abs(line).max() >= LARGEST:
        return None
    # few are near enough to a step to be in doubt; the others are looked at in the end
    close = np.abs(line - np.floor(line) - 0.5) < 2.0**-10
    near = np.nonzero(close & (line > ends[0] - 1) & (line < ends[1] + 1))
    left, right = (np.broadcast_to(v, line.shape)[near].astype(np.float32) for v in (x, y))

    def right_everywhere(first: np.float32, second: np.float32, rest: np.float32) -> bool:
        few = np.rint((left * first + right * second) + rest)
        if not np.array_equal(np.clip(few, ends[0] - centre, ends[1] - centre), codes[near]):
            return False
        every = np.rint((x.astype(np.float32) * first + y.astype(np.float32) * second) + rest)
        return np.array_equal(np.clip(every, ends[0] - centre, ends[1] - centre), codes)

    factors, start = (np.float32(scale * a), np.float32(scale * b)), offset - centre + scale * c
    for turn in range(SUM_TRIES):
        moved = [np.nextafter(f, np.float32(side * np.inf)) if side else f
                 for f, side in zip(factors, (turn % 3 - 1, turn // 3 % 3 - 1), strict=True)]  # fmt: skip
        rest = np.float32(start + (turn // 9 - 13) * 2.0**-19)
        if right_everywhere(moved[0], moved[1], rest):
            return moved[0], moved[1], rest
    return None


class _Steps:
    """Where the codes of a requantizer's cells begin, over u, about `centre`."""

    def __init__(self, rule: AffineRequantizer, centre: int) -> None:
        """Find them: the table's, or those of the formula."""
        falls = (rule.scale < 0)[:, None]
        self.first = np.where(falls, -rule.reach[1], rule.reach[0]).astype(np.float64)
        self.last = np.where(falls, -rule.reach[0], rule.reach[1]).astype(np.float64)
        codes = np.arange(rule.low + 1, rule.high + 1)
        self.codes = (codes - centre).astype(np.float64)
        if rule.table.size:
            self.places = np.clip(rule.table.astype(np.float64), self.first, self.last + 1)
            self.known = np.ones(len(rule.scale), bool)
        else:
            self.places, self.known = self._of_formula(np.abs(rule.scale)[:, None], rule.offset[:, None], codes)

    def _of_formula(self, slope: Doubles, offset: Doubles, codes: IntArray) -> tuple[Doubles, NDArray[np.bool_]]:
        """Next to where the line crosses: the formula itself is asked on both sides."""
        with np.errstate(all="ignore"):
            guess = np.ceil((codes - 0.5 - offset) / slope)
        guess = np.clip(np.nan_to_num(guess, posinf=2.0**53, neginf=-(2.0**53)), self.first, self.last + 1)
        for _ in range(3):
            early = (guess > self.first) & (np.rint(slope * (guess - 1) + offset) >= codes)
            late = (guess <= self.last) & (np.rint(slope * guess + offset) < codes)
            guess = guess + late - early
        early = (guess > self.first) & (np.rint(slope * (guess - 1) + offset) >= codes)
        late = (guess <= self.last) & (np.rint(slope * guess + offset) < codes)
        return guess, ~(early | late).any(axis=1)

    def in_place(self, cells: IntArray, scale: Singles, offset: Singles, moved: Doubles) -> NDArray[np.bool_]:
        """Of some cells, whether a formula in binary32 has every step where it is, and is small at both ends."""
        places, first, last = self.places[cells], self.first[cells], self.last[cells]

        def rounded(u: Doubles) -> Singles:
            with np.errstate(all="ignore"):
                made: Singles = np.rint((u + moved[:, None]).astype(np.float32) * scale[:, None] + offset[:, None])
            return made

        right = ((rounded(places) >= self.codes) | (places > last)).all(axis=1)
        right &= ((rounded(places - 1) < self.codes) | (places <= first)).all(axis=1)
        small = (np.abs(rounded(first)) < LARGEST) & (np.abs(rounded(last)) < LARGEST)
        return np.asarray(right & small[:, 0])
