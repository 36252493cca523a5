"""Machines that act alike, and proofs that some do for every input."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage, handed_on
from intsim.arithmetic.pieces import spans
from intsim.arithmetic.requantizers.requantizer import StepLimitError
from intsim.arithmetic.rounding import Rounding
from intsim.diagnosis import faults
from intsim.diagnosis.faults import Hypothesis
from intsim.diagnosis.kernels import WIDEST
from intsim.diagnosis.machine import Space, Stand, codes_of
from intsim.errors import IntsimError
from intsim.graph import IntArray
from intsim.mac.partial_sums import PartialSums, partial_sums

MOST_BITS = 12
"""Of codes whose steps are listed."""
MOST_LISTED = 16
"""Of activations whose codes are."""
MOST_STEPS = 8192
"""Requantizers times channels whose steps are looked for to prove a class."""
MOST_CHANNELS = 32
"""Channels on which machines are held against each other."""


@dataclass(frozen=True)
class Alike:
    """Machines that act alike, the nearest to the specification first.

    `proved`: for every input, not only on those that were tried.
    """

    members: tuple[Hypothesis, ...]
    proved: bool

    @property
    def first(self) -> Hypothesis:
        """The nearest one."""
        return self.members[0]


def signatures(stand: Stand, machines: Sequence[Hypothesis]) -> NDArray[np.object_]:
    """(machines, samples): a digest of the codes that each makes of each sample's rows; None: it refuses one."""
    out = np.empty((len(machines), len(stand.codes)), object)
    channels = np.unique(np.linspace(0, stand.shape[2] - 1, min(MOST_CHANNELS, stand.shape[2])).astype(int))
    known: dict[object, IntArray] = {}
    done: dict[object, list[str | None]] = {}
    for m, made in enumerate(machines):
        front = registers_key(stand.space, made)
        if front not in known:
            if len(known) > 512:
                known.clear()
            known[front] = stand.accumulators(made)[..., channels]
        acc = known[front]
        last = made.chain.stages[-1:]
        key = hashlib.blake2b(acc.tobytes()).digest(), last, made.scale, made.code, made.rounder
        if key not in done:
            done[key] = _digests(stand.space, made, acc, channels)
        out[m] = [None if d is None else made.reading + d for d in done[key]]
    return out


def _digests(space: Space, made: Hypothesis, acc: IntArray, channels: NDArray[np.int64]) -> list[str | None]:
    codes = acc
    if space.layer.back is not None:
        try:
            codes = np.stack([codes_of(space, made, int(c), acc[..., i]) for i, c in enumerate(channels)], axis=-1)
        except IntsimError:
            return [None] * len(acc)
    return [hashlib.blake2b(np.ascontiguousarray(c).tobytes(), digest_size=12).hexdigest() for c in codes]


def alike(stand: Stand, machines: Sequence[Hypothesis]) -> list[Alike]:
    """Classes of machines that act alike on the samples of a stand, in the order of their first members."""
    table = signatures(stand, machines)
    groups: dict[tuple[object, ...], list[Hypothesis]] = {}
    for made, row in zip(machines, table, strict=True):
        groups.setdefault(tuple(row), []).append(made)
    return [Alike(tuple(g), len(g) == 1 or _same(stand.space, g)) for g in groups.values()]


def _same(space: Space, group: Sequence[Hypothesis]) -> bool:
    """Whether it is proved, as far as that is looked for: of many requantizers of many channels it isn't."""
    if len({h.rounder for h in group}) * space.layer.extent[1] > MOST_STEPS:
        return False
    first, *others = (proved_key(space, h) for h in group)
    return first is not None and all(o == first for o in others)


class Reach(NamedTuple):
    """What a feed lets a layer's products and sums be, for any codes."""

    rows: IntArray  # (R, K) weights as the multiplier sees them, a row a channel and weight matrix
    seen: tuple[int, int]  # ends of what it sees of activations, padding and 0 included
    late: tuple[IntArray, IntArray]  # (R,) ends of what is added for zero points behind the products
    low: IntArray  # (channels,) ends of the true sum without the bias
    high: IntArray
    owed: int  # nothing that is paid back for padding is beyond it

    @property
    def largest(self) -> int:
        """No sum of some of the products, and of what is added for zero points, is beyond it."""
        products = np.abs(self.rows).sum(axis=1) * max(self.seen[1], -self.seen[0])
        return int((products + np.maximum(np.abs(self.late[0]), np.abs(self.late[1]))).max(initial=0))


def reach(space: Space, operand: str) -> Reach:
    """Of a feed."""
    known: dict[str, Reach] = space.__dict__.setdefault("_reach", {})
    if operand not in known:
        known[operand] = _reach(space, operand)
    return known[operand]


def _reach(space: Space, operand: str) -> Reach:
    feed, layer = space.feeds[operand], space.layer
    low, high = layer.element.ends
    if layer.element.bits <= MOST_LISTED:
        seen = feed.seen(np.arange(low, high + 1))
        ends = int(seen.min()), int(seen.max())
    else:  # whatever bits are lost or read otherwise
        far = (1 << layer.element.bits) + abs(layer.operands.x_shift) + abs(layer.zero)
        ends = -far, far
    least, most = min(ends[0], feed.pad, 0), max(ends[1], feed.pad, 0)
    rows, channels = layer.op.weight_rows(feed.node, feed.w, layer.order), layer.extent[1]
    depth, zeros = rows.shape[1], np.tile(feed.w_zero, len(rows) // channels)
    fixed = -feed.x_zero * rows.sum(axis=1) + depth * feed.x_zero * zeros
    swings = [-zeros * depth * v for v in (least, most)]
    late = fixed + np.minimum(*swings), fixed + np.maximum(*swings)
    corners = [(rows - zeros[:, None]) * (v - feed.x_zero) for v in (least, most)]
    sums = np.minimum(*corners).sum(axis=1), np.maximum(*corners).sum(axis=1)
    if feed.owed:  # what padding owes is paid back: a part of the products
        sums = np.minimum(np.minimum(*corners), 0).sum(axis=1), np.maximum(np.maximum(*corners), 0).sum(axis=1)
    low, high = (v.reshape(-1, channels) for v in sums)
    owed = abs(feed.x_zero) * int(np.abs(rows - zeros[:, None]).sum(axis=1).max(initial=0)) if feed.owed else 0
    return Reach(rows, (least, most), late, low.min(axis=0), high.max(axis=0), owed)


def registers_key(space: Space, made: Hypothesis) -> object:
    """Equal keys make equal accumulators for every input; of registers that are wide enough at first sight."""
    front = made.reading, made.operand, made.bias
    most = reach(space, made.operand).largest + int(np.abs(space.biases[made.bias]).max(initial=0))
    drop = bool(made.chain.stages and made.chain.stages[0].drop)
    if not drop and all(s.bits >= min(most.bit_length() + 1, WIDEST) for s in made.chain.stages):
        return front
    return *front, made.place, made.order, made.chain.stages


def proved_sums(space: Space, made: Hypothesis) -> object:
    """Equal keys make equal accumulators for every input, by the bounds of all partial sums."""
    known: dict[object, object] = space.__dict__.setdefault("_sums", {})
    key = made.operand, made.bias, made.place, made.order, made.chain.stages
    if key not in known:
        known[key] = _proved_sums(space, made)
    return made.reading, known[key]


def exact_sums(space: Space, made: Hypothesis) -> bool:
    """Whether it is proved that every accumulator is the sum of the products, the bias and what is due to zero points,
    for any codes."""
    return proved_sums(space, made) == (made.reading, (made.operand, made.bias))


def _proved_sums(space: Space, made: Hypothesis) -> object:
    front, stages = (made.operand, made.bias), made.chain.stages
    if len(registers_key(space, made)) == 3 or not stages:  # type: ignore[arg-type]
        return front
    bounds = _bounds(space, made, made.place)
    if bounds.all_exact.all():
        return front
    # registers that can't overflow may have any width; to a last one values and the bias may come in any order
    if not bounds.safe[-1].all() or stages[0].drop:
        return *front, made.place, made.order, stages
    if len(stages) == 2 and stages[0].lanes == 1:
        return *front, _grouped(space, made, stages[0], reach(space, made.operand)), stages[0].min, stages[0].overflow
    shapes = [
        (s.sum, s.lanes, s.restart, None if f.all() else (s.min, s.overflow))
        for s, f in zip(stages, bounds.safe, strict=True)
    ]
    return *front, made.order, tuple(shapes)


def _bounds(space: Space, made: Hypothesis, place: str) -> PartialSums:
    """Of all partial sums, with the bias in the last register where its place is that."""
    own, layer, feed = reach(space, made.operand), space.layer, space.feeds[made.operand]
    axes, turn = space.orders[made.order]
    rows = layer.op.weight_rows(feed.node, feed.w, axes)[:, turn]
    bias = np.tile(space.biases[made.bias], len(rows) // layer.extent[1])
    late = own.late
    if place == "after":
        late = late[0] + bias, late[1] + bias
    start = bias if place == "preload" else None
    return partial_sums(rows, own.seen, made.chain.stages, start, late)


def _last_sums(space: Space, made: Hypothesis) -> tuple[IntArray, IntArray] | None:
    """(channels,) ends of what a last register that can't overflow hands on, without the bias; None of another."""
    known: dict[object, tuple[IntArray, IntArray] | None] = space.__dict__.setdefault("_ends", {})
    stages = made.chain.stages
    key = made.operand, made.bias, made.place, made.order, stages
    if key not in known:
        alone, bounds = _bounds(space, made, "requantizer"), _bounds(space, made, made.place)
        ends = [v[-1].reshape(-1, space.layer.extent[1]) for v in (alone.low, alone.high)]
        safe = not space.feeds[made.operand].owed and not stages[0].drop and bool(bounds.safe[-1].all())
        known[key] = (ends[0].min(axis=0), ends[1].max(axis=0)) if safe else None
    return known[key]


def _grouped(space: Space, made: Hypothesis, stage: Stage, own: Reach) -> object:
    """Which weights the first register adds up before it hands on; in their order where that matters."""
    layer, feed = space.layer, space.feeds[made.operand]
    axes, turn = space.orders[made.order]
    numbers = np.arange(feed.w.size).reshape(feed.w.shape)
    row = layer.op.weight_rows(feed.node, numbers, axes)[0][turn]
    size, block = stage.sum or len(row), stage.restart if isinstance(stage.restart, int) else len(row)
    parts = [
        row[i : min(i + size, at + block)] for at in range(0, len(row), block) for i in range(at, at + block, size)
    ]
    product = int(np.abs(own.rows).max(initial=0)) * max(own.seen[1], -own.seen[0])
    any_order = stage.overflow == "wrap" or (size <= 2 and product <= stage.max)
    return frozenset(tuple(sorted(p.tolist()) if any_order else p.tolist()) for p in parts if len(p))


def hidden(space: Space, made: Hypothesis) -> bool:
    """Whether it is proved that one register's saturation never shows in a code, as the clip hides it.

    Where a sum passes the register's greatest value T at a product k, what is added behind k takes both the register
    and the true sum down by M_k at most. If that leaves every code at the greatest one, nothing is seen; likewise
    below. Then a register that was at one end can't come to the other.
    """
    stages, layer = made.chain.stages, space.layer
    if len(stages) != 1 or stages[0].overflow != "saturate" or stages[0].drop or layer.back is None:
        return False
    if any(steps_of(space, made, c) is None for c in range(layer.extent[1])):
        return False
    own, feed = reach(space, made.operand), space.feeds[made.operand]
    axes, turn = space.orders[made.order]
    rows = layer.op.weight_rows(feed.node, feed.w, axes)[:, turn]
    if len(rows) != layer.extent[1] or made.place == "requantizer" or feed.owed:
        return False
    bias, none = space.biases[made.bias], np.zeros(len(rows), np.int64)
    start, after = (bias, none) if made.place == "preload" else (none, bias)
    corners = [rows * v for v in own.seen]
    low = np.column_stack([start, np.minimum(*corners), own.late[0] + after])
    high = np.column_stack([start, np.maximum(*corners), own.late[1] + after])
    down = np.cumsum(np.minimum(low, 0)[:, ::-1], axis=1)[:, ::-1] - np.minimum(low, 0)
    up = np.cumsum(np.maximum(high, 0)[:, ::-1], axis=1)[:, ::-1] - np.maximum(high, 0)
    most, least = stages[0].max, stages[0].min
    wide = replace(made, chain=replace(made.chain, stages=()))
    for c in range(len(rows)):
        reached = np.array([int(own.low[c] + bias[c]), int(own.high[c] + bias[c])])
        ends = codes_of(space, wide, c, reached)
        inside = max(int(reached[0]), least), min(int(reached[1]), most)
        mine, theirs = (_steps(space, m, c, *inside) for m in (made, wide))
        if ends[0] == ends[1] or mine is None or theirs is None or not np.array_equal(mine, theirs):
            return False
        for over, floor, end in (
            (np.cumsum(high[c]) > most, most + down[c], ends[1]),
            (np.cumsum(low[c]) < least, least + up[c], ends[0]),
        ):
            held = np.array([floor[over].min(), floor[over].max(), floor[-1]]) if over.any() else reached[:0]
            if any((codes_of(space, m, c, held) != end).any() for m in (made, wide)):
                return False
    return True


def proved_key(space: Space, made: Hypothesis) -> object:
    """Equal keys make equal results for every input."""
    front = proved_sums(space, made)
    if not exact_sums(space, made) and hidden(space, made):
        return proved_key(space, replace(made, chain=replace(made.chain, stages=())))
    if space.layer.back is None:
        return front
    steps = [steps_of(space, made, c) for c in range(space.layer.extent[1])]
    if any(s is None for s in steps):
        offsets = any(s and b for f in space.scales[made.scale].formulas for _, s, b in f.pieces)
        register = _register(made) if offsets else ()  # offsets are added in it
        return front, made.scale, made.code, made.rounder, register
    return front, hashlib.blake2b(b"".join(s.tobytes() for s in steps if s is not None)).digest()


def steps_of(space: Space, made: Hypothesis, channel: int) -> IntArray | None:
    """Accumulators at which a channel's code changes, among those that any codes can make: their ends and the codes
    there, and then of each code between these the first accumulator that has it or goes beyond it.

    None where that isn't known: codes that wrap, of many bits, or a requantizer that isn't monotone, as behind a slope
    below 0, or where the scale of a piece is wrong and that of its neighbour isn't.
    """
    back = space.scales[made.scale]
    if made.code in (faults.WRAPS, faults.LATE) or back.element.bits > MOST_BITS:
        return None
    known: dict[object, IntArray | None] = space.__dict__.setdefault("_steps", {})
    ends = _accumulated(space, made, channel)
    key = back.formula(channel), made.code, made.rounder, ends, _register(made)
    if key not in known:
        known[key] = _steps(space, made, channel, *ends)
    return known[key]


def _accumulated(space: Space, made: Hypothesis, channel: int) -> tuple[int, int]:
    """Ends of a channel's accumulators, for any codes."""
    own, bias = reach(space, made.operand), int(space.biases[made.bias][channel])
    if exact_sums(space, made):
        return int(own.low[channel]) + bias, int(own.high[channel]) + bias
    ends = _last_sums(space, made)
    if ends is not None:
        return int(ends[0][channel]) + bias, int(ends[1][channel]) + bias
    least, most = handed_on(made.chain.stages)
    behind = abs(bias) * (made.place == "requantizer")
    return least - behind - own.owed, most + behind + own.owed


def _register(made: Hypothesis) -> object:
    return tuple((s.min, s.overflow) for s in made.chain.stages[-1:])


def _steps(space: Space, made: Hypothesis, channel: int, least: int, most: int) -> IntArray | None:
    formula = space.scales[made.scale].formula(channel)
    formula = faults.unbent(formula) if made.code == faults.UNBENT else formula
    chosen = made.rounder.requantizer
    low, high = least, max(most, least + 1)
    try:
        cuts, corners = 0, []
        for first, last, (_, scale, offset) in spans(formula.pieces, low, high):
            parts = list(chosen.segments(first, last, scale, offset, made.chain.stages))
            cuts += len(parts) - 1 + sum(not p.valid for p in parts)
            corners += [first, last]
        if cuts:
            return None

        def codes(acc: IntArray) -> IntArray:
            return codes_of(space, made, channel, acc)

        turns = np.sign(np.diff(codes(np.array(corners, np.int64))))
        if turns.min() < 0 < turns.max():
            return None  # each piece is monotone, all together aren't
        ends = codes(np.array([low, high], np.int64))
    except Exception as error:  # a requantizer that refuses, or has too many cuts to say where it is monotone
        if not isinstance(error, IntsimError | StepLimitError):
            raise
        return None
    falling = ends[1] < ends[0]
    wanted = np.arange(int(ends.min()) + 1, int(ends.max()) + 1, dtype=np.int64)
    near, width = _guessed(made, formula, wanted)
    below, above = np.full(wanted.shape, low), np.full(wanted.shape, high)
    for _ in range(4):  # nothing is decided by the guess: both ends are looked at
        for sign in (-1, 1):
            side = np.clip(np.rint(near + sign * width), low, high).astype(np.int64)
            beyond = (codes(side) < wanted) == falling if wanted.size else np.zeros(0, bool)
            above = np.where(beyond, np.minimum(above, side), above)
            below = np.where(beyond, below, np.maximum(below, side))
        if (above - below <= 2 * width + 2).all():
            break
        width = width * 64
    while wanted.size and (above - below > 1).any():
        middle = (below + above) // 2
        got = codes(middle)
        beyond = got < wanted if falling else got >= wanted
        above, below = np.where(beyond, middle, above), np.where(beyond, below, middle)
    return np.concatenate([[least, most, int(ends[0]), int(ends[1])], above])


def _guessed(
    made: Hypothesis, formula: faults.Formula, wanted: IntArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """About where a code's step is, and within what."""
    scale, offset = next(((float(s), float(b)) for _, s, b in reversed(formula.pieces) if s), (1.0, 0.0))
    told = made.rounder.requantizer.multiplies
    mode = made.rounder.rounding or (told.rounding if told else formula.rounding)
    value = (wanted - formula.zero).astype(np.float64)
    if mode == Rounding.CEIL:
        value -= 1
    elif mode in (Rounding.AWAY, Rounding.TOWARD_ZERO):
        value -= (value > 0) == (mode == Rounding.AWAY)
    elif mode != Rounding.FLOOR:
        value -= 0.5
    near = (value - offset) / scale
    return near, np.abs(near) * 2.0 ** (2 - (told.bits if told else 23)) + 3
