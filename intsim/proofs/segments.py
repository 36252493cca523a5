"""Intervals of accumulators on which a requantizer scheme is monotone.

Every scheme is a chain of monotone functions of the accumulator, but for the few places named here:

* The exact formula, on one piece: `S * acc + B` is monotone, every rounding mode sends larger numbers to larger or
  equal integers, and so do the zero point and the clip. Between pieces it may jump either way.
* The bias: `acc + b` in the last register. Saturation is monotone; a register that wraps starts again at its least
  value, at every accumulator where `acc + b` reaches `2^(bits-1)` modulo `2^bits`.
* `fixed-point`, one rounding: the full product, then one rounding.
* `fixed-point`, two roundings: the left shift wraps in int32, at every value that reaches `2^(31-left)` modulo
  `2^(32-left)`; the high product and the division round monotonely, one after the other. Values outside int32 are
  refused.
* `shift`: one rounding; a negative scale negates first.
* `float32`: to binary32, times the scale, clip, to an integer: each is IEEE 754's nearest, ties to even, of a monotone
  function; overflow gives infinities, which the clip takes.
* `tosa`: with DOUBLE_ROUND the added constant grows by 2^31 between values -1 and 0, the way the value grows; the
  multiplier isn't negative. Values against a precondition have no result.
* `thresholds`: constant between thresholds, by counting.
* A scale of 0 is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.form import RequantizerForm
from intsim.arithmetic.integers import saturate, wrap
from intsim.arithmetic.requantize import float32_scale, quantize_multiplier
from intsim.arithmetic.tosa import tosa_multiplier, value_limits
from intsim.graph import IntArray
from intsim.ops.pieces import Piece
from intsim.ops.schemes import bias_in_accumulator
from intsim.proofs.steps import MOST_STEPS, StepLimitError

MOST_BREAKS = 1 << 16
"""Most places of one piece at which a register or a left shift wraps."""
WRAPS = f"a register or a left shift wraps at more than {MOST_BREAKS} accumulators"


@dataclass(frozen=True)
class Segment:
    """Accumulators low..high of one piece: a scheme's function is monotone there, or (`valid` False) has no result.

    `slopes` are the lines `scale * acc + offset` that the exact formula and the scheme follow there, closely enough to
    guess where steps are; nothing is decided by them.
    """

    low: int
    high: int
    valid: bool
    slopes: tuple[tuple[float, float], ...]


def segments(pieces: list[Piece], low: int, high: int, form: RequantizerForm, stages: Sequence[Stage]) -> list[Segment]:
    """The accumulators low..high of one cell, cut where its function may not be monotone; ascending, without gaps.

    Raises:
        IntsimError: a scale that the scheme refuses.
        StepLimitError: too many cuts.
    """
    found: list[Segment] = []
    ends = [*(p[0] for p in pieces[1:]), None]
    for (start, scale, offset), end in zip(pieces, ends, strict=True):
        first = low if start is None else max(low, start)
        last = high if end is None else min(high, end - 1)
        if first <= last:
            found += _piece(first, last, scale, offset, form, stages)
    return found


def _piece(
    first: int, last: int, scale: Fraction, offset: Fraction, form: RequantizerForm, stages: Sequence[Stage]
) -> list[Segment]:
    exact = _float(scale), _float(offset)
    if scale == 0 or form.scheme in ("exact", "thresholds"):
        return [Segment(first, last, True, (exact,) if scale else ())]
    bias = bias_in_accumulator(scale, offset) if offset else 0
    register = _register(bias, stages if offset else ())
    approximate, left, limits = _multiplier(scale, form)
    period = 0 if not offset or not stages or stages[-1].overflow == "saturate" else 1 << stages[-1].bits
    found: list[Segment] = []
    for a, b in _cut(first, last, bias, period):
        # without a wrap between them, register(acc) - acc is one number, but where it saturates
        shift = bias if not period else register(a) - a
        for c, d in _cut(a, b, shift, 1 << (32 - left) if 0 < left < 32 else 0):
            found += _within(c, d, register, limits, (exact, (_float(approximate), _float(approximate * shift))))
        if len(found) > MOST_BREAKS:
            raise StepLimitError(WRAPS)
    return found


def _register(bias: int, stages: Sequence[Stage]) -> Callable[[int], int]:
    """Accumulator to biased accumulator, in the last register."""
    if not stages:
        return lambda acc: acc + bias
    last = stages[-1]
    overflow = wrap if last.overflow == "wrap" else saturate
    return lambda acc: int(overflow(acc + bias, last.bits))


def _float(x: Fraction) -> float:
    """Close to x; a float64 has an end where rationals have none."""
    return float(min(max(x, Fraction(-(1 << 1000))), Fraction(1 << 1000)))


def _multiplier(scale: Fraction, form: RequantizerForm) -> tuple[Fraction, int, tuple[int, int] | None]:
    """What a scheme multiplies by, its left shift before the product, and the values it takes."""
    if form.scheme == "shift":
        return scale, 0, None
    if form.scheme == "float32":
        return Fraction(float(float32_scale(scale))), 0, None
    if form.scheme == "tosa":
        bits = form.multiplier_bits or 32
        multiplier, shift = tosa_multiplier(scale, bits)
        return Fraction(multiplier, 1 << shift), 0, value_limits(multiplier, shift, bits)
    assert form.multiplier_bits is not None
    multiplier, shift = quantize_multiplier(scale, form.multiplier_bits)
    approximate = multiplier / Fraction(2) ** shift
    if not form.double_rounding:
        return approximate, 0, None
    left = max(0, form.multiplier_bits - 1 - shift) if multiplier else 0
    return approximate, left, (-(1 << 31), (1 << 31) - 1)


def _cut(first: int, last: int, shift: int, period: int) -> list[tuple[int, int]]:
    """first..last, cut before each n where `n + shift` is period / 2 modulo period; a period of 0 cuts nothing."""
    if not period:
        return [(first, last)]
    half = period >> 1
    before, after = ((n + shift + half) // period for n in (first, last))
    if after - before > MOST_BREAKS:
        raise StepLimitError(WRAPS)
    starts = [first, *(n * period - half - shift for n in range(before + 1, after + 1))]
    return list(zip(starts, [*(s - 1 for s in starts[1:]), last], strict=True))


def _within(
    first: int,
    last: int,
    register: Callable[[int], int],
    limits: tuple[int, int] | None,
    slopes: tuple[tuple[float, float], ...],
) -> list[Segment]:
    """A monotone interval, cut where the biased accumulator leaves what the scheme takes."""
    if limits is None:
        return [Segment(first, last, True, slopes)]
    begin = _first(first, last, lambda acc: register(acc) >= limits[0])
    end = _first(begin, last, lambda acc: register(acc) > limits[1])
    parts = [(first, begin - 1, False), (begin, end - 1, True), (end, last, False)]
    return [Segment(a, b, valid, slopes) for a, b, valid in parts if a <= b]


def _first(first: int, last: int, holds: Callable[[int], bool]) -> int:
    """The least integer of first..last for which a monotone condition holds; last + 1 if for none."""
    low, high = first, last + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def intervals(found: list[Segment], codes: tuple[int, int], directed: bool) -> tuple[IntArray, IntArray]:
    """The valid segments, cut further near the places where steps are expected, if those are not too many.

    Args:
        found: segments of one cell.
        codes: least and greatest result before the zero point is added.
        directed: whether steps are expected at integers as well as halfway between them.

    Returns:
        starts and ends, int64, ascending.
    """
    valid = [s for s in found if s.valid]
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
        places = np.concatenate([(edges - b) / a for a, b in segment.slopes] or [np.zeros(0)])
    near = places[(places >= segment.low - 4.0) & (places <= segment.high + 4.0)]
    places = np.clip(np.ceil(near), -(2.0**62), 2.0**62).astype(np.int64)
    cuts = np.concatenate([places, places + 1])  # a tie decides whether the step is here or one later
    inside = cuts[(cuts > segment.low) & (cuts <= segment.high)]
    return distinct(np.append(inside, np.int64(segment.low)))


def distinct(values: IntArray) -> IntArray:
    """Ascending, each once; by sorting, which is quicker here than the hashing of np.unique."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if ordered.size else ordered
