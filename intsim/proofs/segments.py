"""Intervals of accumulators on which a requantizer is monotone, and where its steps are to be expected on them.

A requantizer says itself where its function of one piece may not be monotone (`Requantizer.segments`). Of the built-in
schemes that is believed, as it is tested; of others every accumulator is tried. The zero point and the clip are
monotone; between pieces the function may jump either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.pieces import Formula, spans
from intsim.arithmetic.requantizers import is_built_in
from intsim.arithmetic.requantizers.requantizer import Requantizer, Segment
from intsim.errors import IntsimError
from intsim.graph import IntArray
from intsim.proofs.steps import MOST_STEPS, StepLimitError

MOST_TRIED, BLOCK = 1 << 24, 1 << 16
"""Accumulators of one cell on which a scheme that isn't built in is tried, and how many of them at once."""


def segments(formula: Formula, low: int, high: int, requantizer: Requantizer, stages: Sequence[Stage]) -> list[Segment]:
    """The accumulators low..high of one cell, cut where its function may not be monotone; ascending, without gaps.

    Raises:
        IntsimError: a scale that the requantizer refuses, or a scheme that isn't what it says.
        StepLimitError: too many cuts, or too many accumulators to try.
    """
    parts = [
        segment
        for first, last, (_, scale, offset) in spans(formula.pieces, low, high)
        for segment in requantizer.segments(first, last, scale, offset, stages)
    ]
    if not is_built_in(requantizer):
        _try(formula, parts, requantizer, stages)
    return parts


def _try(formula: Formula, parts: list[Segment], requantizer: Requantizer, stages: Sequence[Stage]) -> None:
    """Hold a scheme to what it says of itself: monotone on every accumulator, no result at the ends of the others."""
    if sum(s.high - s.low + 1 for s in parts if s.valid) > MOST_TRIED:
        raise StepLimitError(f"too many accumulators to try scheme {requantizer.scheme} on")
    for s in parts:
        directions = set()
        for first in range(s.low, s.high + 1, BLOCK) if s.valid else ():
            block = np.arange(first, min(first + BLOCK, s.high) + 1)  # the last one is the next block's first
            directions |= set(np.sign(np.diff(requantizer.codes(formula, block, stages))).tolist()) - {0}
        if len(directions) > 1:
            raise IntsimError(f"scheme {requantizer.scheme} is not monotone on {s.low}..{s.high}, as its channel says")
        for end in () if s.valid else (s.low, s.high):
            try:
                requantizer.codes(formula, np.array([end]), stages)
            except IntsimError:
                continue
            raise IntsimError(f"scheme {requantizer.scheme} has a result at {end}, beyond the limits of its channel")


def intervals(cut: list[Segment], codes: tuple[int, int], directed: bool) -> tuple[IntArray, IntArray]:
    """The valid segments, cut further near the places where steps are expected, if those are not too many.

    Args:
        cut: segments of one cell.
        codes: least and greatest result before the zero point is added.
        directed: whether steps are expected at integers as well as halfway between them.

    Returns:
        starts and ends, int64, ascending.
    """
    valid = [s for s in cut if s.valid]
    guessed = len(valid) * (codes[1] - codes[0]) <= MOST_STEPS >> 2
    edges = np.arange(2 * codes[0] - 1, 2 * codes[1] + 3, 1 if directed else 2) / 2 if guessed else np.zeros(0)
    lows, highs = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for segment in valid:
        starts = np.array([segment.low], np.int64)
        if segment.high - segment.low < edges.size:
            starts = np.arange(segment.low, segment.high + 1)  # steps are about as many as integers
        elif guessed:
            starts = _expected(segment, edges)
        lows.append(starts)
        highs.append(np.append(starts[1:] - 1, np.int64(segment.high)))
    return np.concatenate(lows), np.concatenate(highs)


def _expected(segment: Segment, edges: np.ndarray) -> IntArray:
    """Starts of intervals that have a step of the segment's lines at their ends, most likely."""
    with np.errstate(all="ignore"):  # a slope of next to nothing: its steps are nowhere near
        places = np.concatenate([(edges - _float(b)) / _float(a) for a, b in segment.lines])
    near = places[(places >= segment.low - 4.0) & (places <= segment.high + 4.0)]
    places = np.clip(np.ceil(near), -(2.0**62), 2.0**62).astype(np.int64)
    cuts = np.concatenate([places, places + 1])  # a tie decides whether the step is here or one later
    inside = cuts[(cuts > segment.low) & (cuts <= segment.high)]
    return distinct(np.append(inside, np.int64(segment.low)))


def _float(x: Fraction) -> np.float64:
    """Close to x; a float64 has an end where rationals have none."""
    return np.float64(min(max(x, Fraction(-(1 << 1000))), Fraction(1 << 1000)))


def distinct(values: IntArray) -> IntArray:
    """Ascending, each once; by sorting, which is quicker here than the hashing of np.unique."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if ordered.size else ordered
