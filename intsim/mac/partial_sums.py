"""Ranges of every partial sum of a MAC layer in a target's registers: what the planner proves before it runs.

Products may take their extremes independently (each activation is any value of its range), so the extremes of a
prefix are prefix sums of the products' extremes; that bound is attained (A2Q, arXiv 2308.13504, states the same for
prefixes in every order).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage, check_stages
from intsim.arithmetic.packing import Packing
from intsim.graph import IntArray

Flags = NDArray[np.bool_]
SHORT = 16
"""Addends of a register up to which all registers take one at a time: an axis so short is slow to add up along."""


@dataclass(frozen=True)
class PartialSums:
    """Per stage and channel: least and greatest true sum in the register, and what is proven of it.

    `safe`: no addition overflows. `exact`: every value handed on, or the result, is the true sum of what arrived, even
    though additions may overflow on the way: wrapping is modular, so a register whose total fits has wrapped back.

    Behind a register that isn't exact, the next stage's bounds hold for what that register then hands on. The bounds
    of an overflowing register itself are those of the sum it was to hold, so that they say how wide it should be.

    Of a packed first stage the bounds are those of the true sums in a field; it is safe and exact where every value
    read is the true sum.

    Where products lose bits (`drop` of the first stage) the bounds are those of rounded ones, in LSBs of the registers.
    `whole` are the channels in which no product and nothing that is added has such bits; in others no sum is proven
    exact, whether or not a register overflows.
    """

    low: list[IntArray]
    high: list[IntArray]
    safe: list[Flags]
    exact: list[Flags]
    whole: Flags

    @property
    def none_overflows(self) -> Flags:
        """Channels in which no stage can overflow."""
        return np.logical_and.reduce(self.safe)

    @property
    def all_safe(self) -> Flags:
        """Of these, those in which nothing is rounded off: every register holds true sums."""
        return self.none_overflows & self.whole

    @property
    def all_exact(self) -> Flags:
        """Channels whose accumulator is the sum of products and bias, whatever overflows on the way."""
        return np.logical_and.reduce(self.exact) & self.whole


class Reach(NamedTuple):
    """What a stage's registers are to hold, whatever their width: by channel, and of each register what it ends with.

    `low`, `high` (N,) are the least and greatest sum on the way, `final_low`, `final_high` (N, registers) those at the
    end.
    """

    low: IntArray
    high: IntArray
    final_low: IntArray
    final_high: IntArray


class Reached(NamedTuple):
    """`before`: what is proven of all stages but the last; `last`: what arrives there. None of it depends on the width
    or the overflow rule of the last register, unless it is packed."""

    before: PartialSums
    last: Reach


def partial_sums(
    rows: IntArray,
    x_range: tuple[int, int],
    stages: Sequence[Stage],
    start: IntArray | None = None,
    after: tuple[IntArray, IntArray] | None = None,
    packing: Packing | None = None,
    panel: int | None = None,
) -> PartialSums:
    """Bounds for weights `rows` (N, K) in arrival order and activations within `x_range`.

    `start` (N,) is preloaded into the last register; `after` = (least, greatest) value added to it at the end. With
    `packing`, channels share multipliers with their neighbours in each panel of `panel` rows (None: all rows). Arrays
    are int64 where that holds every sum, else Python integers.
    """
    if not stages:
        return PartialSums([], [], [], [], np.ones(len(rows), bool))
    return decided(reached(rows, x_range, stages, start, after, packing, panel), stages, packing, panel)


def reached(
    rows: IntArray,
    x_range: tuple[int, int],
    stages: Sequence[Stage],
    start: IntArray | None = None,
    after: tuple[IntArray, IntArray] | None = None,
    packing: Packing | None = None,
    panel: int | None = None,
) -> Reached:
    """The part of `partial_sums` that takes long; arguments as there, one stage or more."""
    stages = check_stages(stages)
    peak = max(abs(x_range[0]), abs(x_range[1]), 1)
    largest = float(np.abs(rows.astype(np.float64)).sum(axis=1).max(initial=0)) * peak
    extra = [a for a in (start, *(after or ())) if a is not None]
    largest += sum(float(np.abs(a.astype(np.float64)).max(initial=0)) for a in extra)
    if packing is not None:
        largest += rows.shape[1] * 2.0 ** stages[0].bits  # a field that is disturbed may read as anything
    carrier = np.int64 if largest < 2**62 else object
    if rows.shape[1] == 0:
        rows = np.zeros((rows.shape[0], 1), np.int64)
    rows = rows.astype(carrier, copy=False)
    sums = PartialSums([], [], [], [], np.ones(len(rows), bool))
    if x_range[0] <= 0 <= x_range[1] and packing is None and len(stages) == 1 and stages[0] == _one_register(stages[0]):
        # no product is above 0 on the way down, none below 0 on the way up: a prefix reaches no further than the whole
        falling = np.minimum(rows, 0).sum(axis=1)
        rising = rows.sum(axis=1) - falling
        low, high = ((rising * a + falling * b)[:, None, None] for a, b in (x_range, x_range[::-1]))
        return Reached(sums, _stage_reach(low, high, start, after))
    corners = [rows * edge for edge in x_range]
    low, high = np.minimum(*corners), np.maximum(*corners)
    if drop := stages[0].drop:
        kept = (1 << drop) - 1  # rounding is monotone, so extremes of rounded values are rounded extremes
        sums = replace(sums, whole=_multiples(rows, start, after, kept))
        low, high = stages[0].cast(low), stages[0].cast(high)
        start = None if start is None else stages[0].cast(start)
        after = None if after is None else (stages[0].cast(after[0]), stages[0].cast(after[1]))
    for i, stage in enumerate(stages[:-1]):
        low, high = _registers(low, stage), _registers(high, stage)
        reach = _stage_reach(low, high, None, None)
        safe, exact, final_low, final_high = _handed_on(reach, stage, packing if i == 0 else None, panel or len(rows))
        if stage.overflow == "saturate" and not (packing is not None and i == 0) and not safe.all():
            final_low[~safe] = _saturated(low[~safe], stage)
            final_high[~safe] = _saturated(high[~safe], stage)
        _append(sums, reach, safe, exact)
        low, high = final_low, final_high
    low, high = _registers(low, stages[-1]), _registers(high, stages[-1])
    return Reached(sums, _stage_reach(low, high, start, after))


def _one_register(stage: Stage) -> Stage:
    """A plain register of this width, in which all products of a sum are added up."""
    return Stage(None, stage.bits, stage.overflow)


def decided(
    made: Reached, stages: Sequence[Stage], packing: Packing | None = None, panel: int | None = None
) -> PartialSums:
    """What is proven where the last of `stages` holds what was reached."""
    before, last = made
    sums = replace(before, low=[*before.low], high=[*before.high], safe=[*before.safe], exact=[*before.exact])
    packed = packing if len(stages) == 1 else None
    safe, exact, _, _ = _handed_on(last, stages[-1], packed, panel or len(last.low))
    _append(sums, last, safe, exact)
    return sums


def _append(sums: PartialSums, reach: Reach, safe: Flags, exact: Flags) -> None:
    sums.low.append(reach.low)
    sums.high.append(reach.high)
    sums.safe.append(safe)
    sums.exact.append(exact)


def _stage_reach(
    low: IntArray, high: IntArray, start: IntArray | None, after: tuple[IntArray, IntArray] | None
) -> Reach:
    """Of a stage's addends (N, registers, size), what it starts with and what is added last."""
    (least, ends_low), (most, ends_high) = _prefixes(low, np.minimum), _prefixes(high, np.maximum)
    begin = start[:, None] if start is not None else np.zeros((1, 1), np.int64)
    final_low, final_high = ends_low + begin, ends_high + begin
    # the register holds 0, then `begin`, before the first product arrives
    reach_low = np.minimum(np.minimum(least + begin, begin).min(axis=1), 0)
    reach_high = np.maximum(np.maximum(most + begin, begin).max(axis=1), 0)
    if after is not None:
        final_low, final_high = final_low + after[0][:, None], final_high + after[1][:, None]
        reach_low = np.minimum(reach_low, final_low.min(axis=1))
        reach_high = np.maximum(reach_high, final_high.max(axis=1))
    return Reach(reach_low, reach_high, final_low, final_high)


def _prefixes(values: IntArray, extreme: np.ufunc) -> tuple[IntArray, IntArray]:
    """Of addends (N, registers, size) the least or the greatest sum of the first 1, 2, ..., and that of all."""
    if values.shape[2] > SHORT:
        sums = values.cumsum(axis=2)
        return extreme.reduce(sums, axis=2), sums[:, :, -1]
    total = furthest = values[:, :, 0]
    for k in range(1, values.shape[2]):
        total = total + values[:, :, k]
        furthest = extreme(furthest, total)
    return furthest, total


def _handed_on(
    reach: Reach, stage: Stage, packing: Packing | None, panel: int
) -> tuple[Flags, Flags, IntArray, IntArray]:
    """Channels that are safe, those that are exact, least and greatest value that each register hands on.

    Of a saturating register that isn't safe the last two are the sum's.
    """
    _, _, final_low, final_high = reach
    safe = np.asarray((reach.low >= stage.min) & (reach.high <= stage.max), bool)
    if packing is not None:
        final_low, final_high, true = _read_bounds(final_low, final_high, stage, packing, panel)
        safe = exact = np.asarray(true.all(axis=1))
    elif stage.overflow == "wrap":
        fits = np.asarray((final_low >= stage.min) & (final_high <= stage.max), bool)
        exact = np.asarray(fits.all(axis=1))
        final_low, final_high = np.where(fits, final_low, stage.min), np.where(fits, final_high, stage.max)
    else:
        exact = safe
    return safe, exact, final_low, final_high


def _multiples(rows: IntArray, start: IntArray | None, after: tuple[IntArray, IntArray] | None, mask: int) -> Flags:
    """Channels whose products are multiples of mask + 1 whatever the activations, and so is what is added."""
    whole = (rows & mask == 0).all(axis=1)
    if start is not None:
        whole &= start & mask == 0
    if after is not None:
        whole &= (after[0] == after[1]) & (after[0] & mask == 0)
    return np.asarray(whole, bool)


def _saturated(values: IntArray, stage: Stage) -> IntArray:
    """(N, registers, size) added one by one into saturating registers, which grow with every addend."""
    register = np.zeros_like(values[:, :, 0])
    for k in range(values.shape[2]):
        register = np.clip(register + values[:, :, k], stage.min, stage.max)
    return register


def _registers(values: IntArray, stage: Stage) -> IntArray:
    """(N, K) to (N, registers, size): what each register adds up, in the order in which registers hand on.

    Groups that aren't full hold zeros, which add nothing; registers that nothing arrives at are left out.
    """
    count, lanes = values.shape[1], stage.lanes
    if isinstance(stage.restart, int) and stage.restart < count:
        blocks = [values[:, at : at + stage.restart] for at in range(0, count, stage.restart)]
        parts = [_registers(b, replace(stage, restart=None)) for b in blocks]
        size = max(p.shape[2] for p in parts)
        return np.concatenate([np.pad(p, ((0, 0), (0, 0), (0, size - p.shape[2]))) for p in parts], axis=1)
    size = min(stage.sum or count, -(-count // lanes))
    groups, rest = divmod(count, lanes * size)
    out = values
    if rest:
        out = np.zeros((values.shape[0], (groups + 1) * lanes * size), values.dtype)
        out[:, :count] = values
    turns = out.reshape(values.shape[0], -1, size, lanes).swapaxes(2, 3).reshape(values.shape[0], -1, size)
    return turns[:, : groups * lanes + min(rest, lanes)]


def _read_bounds(
    low: IntArray, high: IntArray, stage: Stage, packing: Packing, panel: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Least and greatest value read from fields, and whether it is always the true sum, each (N, groups).

    `low`, `high` (N, groups) are the extremes of a group's true sum in each channel, for every pixel; `panel` divides
    N: channels share a multiplier with their neighbours in a panel of so many.

    Below a field lie L, the sums of the lower fields at their offsets. The field holds its own sum plus
    floor(L / 2^offset), modulo its width. The bit just below it is 1 exactly where L < 0, if L is within half of
    2^offset. Fields are bounded independently of each other.
    """
    channels = len(packing.channels)
    low, high = _sets(low, channels, panel), _sets(high, channels, panel)
    width = dict(zip(packing.offsets, packing.widths, strict=True))
    fields = sorted((a + b, c, p) for c, a in enumerate(packing.channels) for p, b in enumerate(packing.pixels))
    read_low, read_high, exact = low.copy(), high.copy(), np.ones(low.shape, bool)
    for rank, (offset, c, p) in enumerate(fields):
        least = most = np.zeros_like(low[:, 0])
        inside = np.ones(least.shape, bool)
        for start, other, pixel in fields[:rank]:
            a, b = low[:, other], high[:, other]
            if pixel > p:  # after the last pixel there is none, and its field holds 0
                a, b = np.minimum(a, 0), np.maximum(b, 0)
            limit = 1 << (width[start] - 1)
            inside &= np.asarray((a >= -limit) & (b < limit), bool)
            least = least + np.clip(a, -limit, limit) * (1 << start)
            most = most + np.clip(b, -limit, limit) * (1 << start)
        first, last = low[:, c] + (least >> offset), high[:, c] + (most >> offset)
        fits = inside & np.asarray((first >= stage.min) & (last <= stage.max), bool)
        repaid = int(packing.correction == "borrow" and offset > 0)
        reach = (1 << offset) >> repaid  # L from -reach (a borrow, where it is repaid) to reach - 1 does no harm
        true = fits & np.asarray((least >= -reach * repaid) & (most < reach), bool)
        first = np.where(true, low[:, c], np.where(fits, first, stage.min))
        last = np.where(true, high[:, c], np.where(fits, last + repaid, stage.max + repaid))
        exact[:, c] &= true
        read_low[:, c] = first if p == 0 else np.minimum(read_low[:, c], first)
        read_high[:, c] = last if p == 0 else np.maximum(read_high[:, c], last)
    return _apart(read_low, panel), _apart(read_high, panel), np.asarray(_apart(exact, panel), bool)


def _sets(values: IntArray, together: int, panel: int) -> IntArray:
    """(N, groups) to (sets, together, groups), each panel's last set filled with zeros."""
    groups, sets = values.shape[1], -(-panel // together)
    out = np.zeros((values.shape[0] // panel, sets * together, groups), values.dtype)
    out[:, :panel] = values.reshape(-1, panel, groups)
    return out.reshape(-1, together, groups)


def _apart(values: IntArray, panel: int) -> IntArray:
    """Back to (N, groups), without what was filled."""
    together, groups = values.shape[1:]
    return values.reshape(-1, -(-panel // together) * together, groups)[:, :panel].reshape(-1, groups)
