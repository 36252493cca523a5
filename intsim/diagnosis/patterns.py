"""Operands of a layer that bring out mistakes: uniform ones, and such as drive a register or a code to an edge.

Windows of a convolution that don't overlap are set one by one: each to codes that bring some of its products, those
that a register may add up first, just past an edge, or the whole sum to an accumulator at which requantizers differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from intsim.diagnosis.faults import SIZES
from intsim.diagnosis.machine import Space, Stand, Taps
from intsim.graph import IntArray
from intsim.proofs.subset_sum import subset_sum

MOST_WINDOWS = 64
"""That are set in one sample."""
SEARCHED_ROWS = 512
MOST_PARTS = 256
"""Groups of a size that are looked at."""


class Aim(NamedTuple):
    """What a window is set to: products `part` (in the specified order of arrival) sum up to `goal`, all to `total`.

    Sums without the bias and what is added for zero points; None: whatever comes.
    """

    channel: int
    part: IntArray
    goal: int | None
    total: int | None


class Pattern(NamedTuple):
    """One sample of operand codes and what it is made for."""

    kind: str
    codes: IntArray


@dataclass
class Windows:
    """Windows that don't overlap, without padding, and what is in them."""

    space: Space
    rng: np.random.Generator

    def __post_init__(self) -> None:
        """Find them."""
        layer = self.space.layer
        count = layer.extent[0]
        rows = (
            np.arange(count)
            if count <= SEARCHED_ROWS
            else np.unique(np.concatenate([np.arange(64), self.rng.choice(count, SEARCHED_ROWS - 64, replace=False)]))
        )
        stand = Stand(self.space, np.zeros((1, *layer.shape), np.int64), rows)
        taken: set[int] = set()
        self.windows: list[tuple[int, Taps]] = []  # a row of some taps
        self.rows: list[int] = []
        for taps in stand.taps(self.space.feeds[""], ""):
            for i, row in enumerate(taps.rows):
                x = taps.x[i]
                own = set(x.tolist())
                if len(self.windows) >= MOST_WINDOWS or -1 in own or len(own) < len(x) or own & taken:
                    continue
                taken |= own
                self.windows.append((i, taps))
                self.rows.append(int(rows[row]))

    def sample(self, aims: Sequence[Aim]) -> tuple[IntArray, int]:
        """Codes of one sample with as many aims as there are windows for, and how many of them were taken up."""
        layer = self.space.layer
        low, high = layer.element.ends
        codes = self.rng.integers(low, high, size=layer.shape, endpoint=True, dtype=np.int64)
        flat, free, used = codes.reshape(-1), list(range(len(self.windows))), 0
        for aim in aims:
            at = next((n for n in free if _has(self.windows[n][1], aim.channel)), None)
            if at is None:
                if not free:
                    break
                used += 1
                continue
            used += 1
            i, taps = self.windows[at]
            values = self._values(aim, taps)
            if values is not None:
                flat[taps.x[i]] = values
                free.remove(at)
        return codes, used

    def _values(self, aim: Aim, taps: Taps) -> IntArray | None:
        """Codes of a window's products in the specified order."""
        layer, feed = self.space.layer, self.space.feeds[""]
        w = feed.w.reshape(-1)[taps.w[aim.channel - taps.channels.start]]
        low, high = layer.element.ends
        low, high = low + layer.operands.x_shift, high + layer.operands.x_shift
        seen = self.rng.integers(low, high, size=len(w), endpoint=True, dtype=np.int64)
        inside = np.zeros(len(w), bool)
        inside[aim.part[aim.part < len(w)]] = True
        seed = int(self.rng.integers(1 << 30))
        if aim.goal is not None and inside.any():
            own = subset_sum(w[inside].tolist(), [low] * int(inside.sum()), [high] * int(inside.sum()), aim.goal, seed)
            if own is None:
                return None
            seen[inside] = own
        if aim.total is not None:
            rest = ~inside if aim.goal is not None else np.ones(len(w), bool)
            goal = aim.total - (int((seen * w)[~rest].sum()))
            own = subset_sum(w[rest].tolist(), [low] * int(rest.sum()), [high] * int(rest.sum()), goal, seed)
            if own is None and aim.goal is None:
                return None
            if own is not None:
                seen[rest] = own
            else:  # as near as may be
                seen[rest] = np.where((w[rest] > 0) == (goal > 0), high, low)
        return seen - layer.operands.x_shift


def _has(taps: Taps, channel: int) -> bool:
    return taps.channels.start <= channel < taps.channels.stop


def middle(space: Space, channel: int) -> int:
    """An accumulator whose code is in the middle of its type, bias and what is added for zero points taken off."""
    layer = space.layer
    own = added(space, channel)
    if layer.back is None:
        return -own
    formula = layer.back.formula(channel)
    low, high = layer.back.element.ends
    _, scale, offset = (
        next(p for p in reversed(formula.pieces) if p[1]) if any(p[1] for p in formula.pieces) else (0, 1, 0)
    )
    return int(((low + high) // 2 + high // 4 - formula.zero - offset) / scale) - own


def added(space: Space, channel: int) -> int:
    """What is added to a channel's products: the bias, and what is due to zero points that don't depend on data."""
    layer, feed = space.layer, space.feeds[""]
    w = layer.op.weight_rows(feed.node, feed.w, layer.order)[channel]
    zero = int(feed.w_zero[channel])
    return int(layer.bias[channel]) - feed.x_zero * int(w.sum()) + len(w) * feed.x_zero * zero


def register_aims(space: Space, rng: np.random.Generator) -> list[Aim]:
    """For the parts of the products that some register may add up, and each width: just past its edge, where a channel
    can get there."""
    layer, feed = space.layer, space.feeds[""]
    rows = layer.op.weight_rows(feed.node, feed.w, layer.order)[: layer.extent[1]]
    depth = rows.shape[1]
    low, high = (e + layer.operands.x_shift for e in layer.element.ends)
    up, down = np.maximum(rows * low, rows * high), np.minimum(rows * low, rows * high)
    codes = np.array([_scale(space, c) for c in range(len(rows))])  # per LSB
    aims = []
    for kind in _parts(depth):
        most = np.stack([up[:, p].sum(axis=1) for p in kind])
        least = np.stack([down[:, p].sum(axis=1) for p in kind])
        whole = len(kind[0]) == depth
        for bits in range(4, max(int(most.max()), int(-least.min())).bit_length() + 2):
            for edge, ends, sign in ((1 << (bits - 1), most, 1), (-(1 << (bits - 1)) - 1, least, -1)):
                beyond = (ends - edge) * sign
                if not (beyond >= 0).any():
                    continue
                part, channel = np.unravel_index(int(np.argmax(beyond * codes)), beyond.shape)
                far = edge + sign * min(int(beyond[part, channel]), math.ceil(2 / max(codes[channel], 1e-9)))
                total = None if whole else middle(space, int(channel))
                aims.append(Aim(int(channel), kind[part], far, total))
                part, channel = rng.permutation(np.argwhere(beyond >= 0))[0]
                total = None if whole else middle(space, int(channel))
                aims.append(Aim(int(channel), kind[part], edge, total))
    return aims


def _scale(space: Space, channel: int) -> float:
    """Codes that an LSB of a channel's accumulator is worth."""
    back = space.layer.back
    return 1.0 if back is None else max((abs(float(s)) for _, s, _ in back.formula(channel).pieces), default=0.0)


def _parts(depth: int) -> Iterator[list[IntArray]]:
    """Products that a register may add up, by their numbers: beginnings, groups and lanes of a size."""
    for share in (1, 2, 3, 4):
        yield [np.arange(max(1, depth * share // 4))]
    for size in SIZES:
        if size <= depth:
            yield [np.arange(at, at + size) for at in range(0, depth - size + 1, size)][:MOST_PARTS]
            yield [np.arange(lane, depth, size) for lane in range(size)]


def code_aims(space: Space, wanted: Sequence[tuple[int, int]]) -> list[Aim]:
    """Accumulators of channels to be hit."""
    return [Aim(c, np.zeros(0, np.int64), None, acc - added(space, c)) for c, acc in wanted]


def samples(windows: Windows, kind: str, aims: Sequence[Aim], most: int) -> list[Pattern]:
    """Samples that take up all aims, one after another."""
    out: list[Pattern] = []
    left = list(aims)
    while left and len(out) < most and windows.windows:
        codes, used = windows.sample(left)
        out.append(Pattern(kind, codes))
        left = left[max(used, 1) :]
    return out


def pool(
    space: Space, targets: Sequence[tuple[int, int]] = (), seed: int = 0, most: int = 48
) -> tuple[list[Pattern], list[int]]:
    """Samples to choose from, and the rows whose windows were set: uniform samples, constant and sparse ones, and such
    as aim at registers and at `targets` (channel, accumulator)."""
    rng = np.random.default_rng(seed)
    layer = space.layer
    low, high = layer.element.ends
    out = [Pattern("uniform", rng.integers(low, high, layer.shape, np.int64, True)) for _ in range(6)]
    ends = rng.integers(0, 2, (2, *layer.shape), np.int64)
    out += [Pattern("ends of the type", low + e * (high - low)) for e in ends]
    zero = min(max(layer.zero, low), high)
    sparse = np.where(rng.random(layer.shape) < 0.2, rng.integers(low, high, layer.shape, np.int64, True), zero)
    out += [Pattern("sparse", sparse)]
    windows = Windows(space, rng)
    hardest = sorted(register_aims(space, rng), key=lambda a: -abs(a.goal or 0))
    out += samples(windows, "edges of registers", hardest, most * 2 // 3)
    out += samples(windows, "edges of codes", code_aims(space, targets), most // 3)
    return out, windows.rows
