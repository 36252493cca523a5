"""What a machine of the space makes: accumulators and codes of some outputs, for given operands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.requantizers.requantizer import WIDE, bias_in_accumulator
from intsim.diagnosis import faults
from intsim.diagnosis.faults import Feed, Hypothesis, Rounder
from intsim.diagnosis.kernels import Backs, Chains, sums
from intsim.diagnosis.layer import Back, Layer
from intsim.errors import IntsimError
from intsim.graph import IntArray

MOST_KEPT = 1 << 22
"""Operands that are in memory at once, of one mistake."""


class Taps(NamedTuple):
    """Outputs of some rows and channels: which codes meet which weights."""

    rows: IntArray  # (R,) places among the rows that were asked for
    channels: slice
    x: IntArray  # (R, K) into a sample's codes; -1: padding
    w: IntArray  # (c, K) into the weights


class Operands(NamedTuple):
    """Outputs of some samples and rows: what the multiplier sees, and what is added behind the products,
    (samples, R, c)."""

    samples: slice
    taps: Taps
    x: IntArray  # (samples, R, K)
    w: IntArray  # (c, K)
    late: IntArray
    behind: IntArray


@dataclass(frozen=True)
class Space:
    """The choices of each axis for a layer."""

    layer: Layer

    @cached_property
    def feeds(self) -> dict[str, Feed]:
        """By name."""
        return faults.feeds(self.layer)

    @cached_property
    def biases(self) -> dict[str, IntArray]:
        """By name."""
        return faults.biases(self.layer)

    @cached_property
    def orders(self) -> dict[str, faults.Order]:
        """By name."""
        return faults.orders(self.layer)

    @cached_property
    def chains(self) -> list[faults.Chain]:
        """As specified first."""
        return faults.chains(self.layer)

    @cached_property
    def rounders(self) -> list[Rounder]:
        """As specified first."""
        return faults.rounders(self.layer)

    @cached_property
    def scales(self) -> dict[str, Back]:
        """By name."""
        return faults.scales(self.layer)

    @cached_property
    def code_faults(self) -> list[str]:
        """As specified first."""
        return faults.code_faults(self.layer)

    @cached_property
    def specification(self) -> Hypothesis:
        """The first choice of every axis."""
        return Hypothesis("", "", "", self.layer.place, "", self.chains[0], self.rounders[0], "", "")

    def singles(self, readings: Sequence[str]) -> Iterator[Hypothesis]:
        """The specification with one change."""
        own = self.specification
        yield from (replace(own, reading=r) for r in readings[1:])
        yield from (replace(own, operand=f) for f in list(self.feeds)[1:])
        yield from (replace(own, bias=b) for b in list(self.biases)[1:])
        yield from (replace(own, place=p, specified_place=False) for p in faults.places(self.layer)[1:])
        yield from (replace(own, order=o) for o in list(self.orders)[1:])
        yield from (replace(own, chain=c) for c in self.chains[1:])
        yield from (replace(own, rounder=r) for r in self.rounders[1:])
        yield from (replace(own, scale=s) for s in list(self.scales)[1:])
        yield from (replace(own, code=c) for c in self.code_faults[1:])


@dataclass
class Stand:
    """A layer with samples of operand codes, (samples, *shape), and the rows of outputs that are looked at."""

    space: Space
    codes: IntArray
    rows: IntArray

    def __post_init__(self) -> None:
        """Nothing is gathered yet."""
        self._taps: dict[Any, list[Taps]] = {}
        self._operands: dict[tuple[str, str], list[Operands]] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(samples, rows, channels)."""
        return len(self.codes), len(self.rows), self.space.layer.extent[1]

    def taps(self, feed: Feed, order: str) -> Iterable[Taps]:
        """Of all blocks; kept where they are few."""
        at = feed.node.attributes
        key = tuple(at.get("pads", ())), feed.edge, order
        if not self._small:
            return self._gathered(feed, order)
        if key not in self._taps:
            self._taps[key] = list(self._gathered(feed, order))
        return self._taps[key]

    @cached_property
    def _small(self) -> bool:
        """Whether what the multiplier sees may stay in memory, for some mistakes at once."""
        weight = self.space.layer.node.arrays["weight"]
        return len(self.codes) * len(self.rows) * (weight.size // max(1, self.space.layer.extent[1])) <= MOST_KEPT

    def _gathered(self, feed: Feed, order: str) -> Iterator[Taps]:
        layer, node = self.space.layer, feed.node
        numbers = np.arange(int(np.prod(layer.shape)), dtype=np.int64).reshape(layer.shape)
        if feed.edge != "constant":
            pads, rank = node.attributes["pads"], len(layer.shape) - 2
            grown = [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))]
            numbers = np.pad(numbers, grown, mode=feed.edge)
            node = replace(node, attributes={**node.attributes, "pads": [0] * len(pads)})
        axes, turn = self.space.orders[order]
        weights = np.arange(node.arrays["weight"].size, dtype=np.int64).reshape(node.arrays["weight"].shape)
        for panel in layer.op.panels(node, numbers, weights, -1, axes):
            inside = np.flatnonzero((self.rows >= panel.rows.start) & (self.rows < panel.rows.stop))
            if inside.size:
                x = panel.a[self.rows[inside] - panel.rows.start]
                yield Taps(inside, panel.channels, x[:, turn], panel.w[:, turn])

    def operands(self, operand: str, order: str) -> Iterable[Operands]:
        """What the multiplier sees, under a mistake of what it is fed."""
        if not self._small:
            return self._seen(operand, order)
        key = operand, order
        if key not in self._operands:
            if len(self._operands) > 16:
                self._operands.clear()
            self._operands[key] = list(self._seen(operand, order))
        return self._operands[key]

    def _seen(self, operand: str, order: str) -> Iterator[Operands]:
        feed = self.space.feeds[operand]
        flat = feed.w.reshape(-1)
        for taps in self.taps(feed, order):
            together = max(1, MOST_KEPT // max(1, taps.x.size))
            for at in range(0, len(self.codes), together):
                part = slice(at, min(at + together, len(self.codes)))
                seen = feed.seen(feed.move(self.codes[part])).reshape(part.stop - at, -1)
                seen = np.concatenate([seen, np.full((len(seen), 1), feed.pad)], axis=1)
                yield _operands(part, taps, seen[:, taps.x], flat[taps.w], feed)

    def accumulators(self, made: Hypothesis) -> IntArray:
        """(samples, rows, channels)."""
        bias = self.space.biases[made.bias]
        chain = Chains.of([made.chain.stages])
        out = np.zeros(self.shape, np.int64)
        for block in self.operands(made.operand, made.order):
            first, late, behind = placed(block, bias[block.taps.channels], made.place)
            samples, rows, depth = block.x.shape
            flat = np.empty((samples * rows, len(block.w)), np.int64)
            both = block.x.reshape(-1, depth), block.w
            sums(*both, chain.stages[0], chain.counts[0], first, late.reshape(flat.shape), flat)
            out[block.samples, block.taps.rows, block.taps.channels] = flat.reshape(late.shape) + behind
        return out

    def results(self, made: Hypothesis, accumulators: IntArray | None = None) -> IntArray:
        """(samples, rows, channels) codes, or accumulators where nothing requantizes them; the reading left out.

        Raises:
            IntsimError: a requantizer that doesn't take a scale or an accumulator.
        """
        acc = self.accumulators(made) if accumulators is None else accumulators
        if self.space.layer.back is None:
            return acc
        out = np.empty_like(acc)
        for channel in range(acc.shape[-1]):
            out[..., channel] = codes_of(self.space, made, channel, acc[..., channel])
        return out


def _operands(samples: slice, taps: Taps, x: IntArray, w: IntArray, feed: Feed) -> Operands:
    zero = feed.w_zero[taps.channels]
    shape = (*x.shape[:2], len(w))
    late, behind = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    if feed.x_zero:
        late += -feed.x_zero * w.sum(axis=1) + w.shape[1] * feed.x_zero * zero
    if zero.any():
        late -= x.sum(axis=2)[..., None] * zero
    if feed.owed:
        behind += feed.x_zero * ((taps.x < 0).astype(np.int64) @ (w - zero[:, None]).T)
    return Operands(samples, taps, np.ascontiguousarray(x), np.ascontiguousarray(w), late, behind)


def placed(block: Operands, bias: IntArray, place: str) -> tuple[IntArray, IntArray, IntArray]:
    """What is preloaded (c,), added at the end, and added behind the registers, (samples, R, c)."""
    first = bias if place == "preload" else np.zeros_like(bias)
    late = block.late + bias if place == "after" else block.late
    return np.ascontiguousarray(first), late, block.behind + bias if place == "requantizer" else block.behind


def codes_of(space: Space, made: Hypothesis, channel: int, acc: IntArray) -> IntArray:
    """Codes of one channel's accumulators, any shape."""
    back = space.scales[made.scale]
    formula = back.formula(channel)
    if made.code == faults.UNBENT:
        formula = faults.unbent(formula)
    change = faults.CODES.get(made.code, faults.CODES[faults.SPECIFIED])
    raw = replace(formula, zero=0, low=None, high=None, rounding=made.rounder.rounding or formula.rounding)
    return change(made.rounder.requantizer.unclipped(raw, acc, made.chain.stages), formula, back)


class RoughBacks(NamedTuple):
    """What roughly becomes of accumulators under each mistake behind them: names of scale and code, and arrays."""

    names: list[tuple[str, str]]
    arrays: Backs


def rough_backs(space: Space) -> RoughBacks:
    """Of every choice of scales and of what is done with codes; single mistakes in front."""
    pairs = [(s, c) for s in space.scales for c in space.code_faults]
    names = sorted(pairs, key=lambda n: bool(n[0]) + bool(n[1]))
    channels = space.layer.extent[1]
    pieces = max(len(f.pieces) for b in space.scales.values() for f in b.formulas)
    starts = np.zeros((channels, pieces), np.int64)
    slopes, offsets = np.zeros((len(names), channels, pieces)), np.zeros((len(names), channels, pieces))
    added = np.zeros((len(names), channels, pieces), np.int64)
    low, high, after, width = (np.zeros(len(names)) for _ in range(4))
    for b, (scale, code) in enumerate(names):
        back = space.scales[scale]
        for c in range(channels):
            formula = back.formula(c)
            own = list((faults.unbent(formula) if code == faults.UNBENT else formula).pieces)
            own = own[:1] * (pieces - len(own)) + own  # the first again: the last that is reached holds
            for i, (start, slope, offset) in enumerate(own):
                if b == 0:
                    starts[c, i] = -(1 << 62) if start is None else start
                slopes[b, c, i] = slope
                offsets[b, c, i] = offset + formula.zero * ZEROS.get(code, 1)
                if slope and offset:
                    added[b, c, i] = min(max(bias_in_accumulator(slope, offset), -WIDE), WIDE)
        first = back.formulas[0]
        change = faults.CODES.get(code, faults.CODES[faults.SPECIFIED])
        low[b], high[b] = -np.inf, np.inf
        if code == faults.LATE:
            low[b], high[b] = first.clip(np.array([-FAR, FAR]))
            after[b] = first.zero
        elif code != faults.WRAPS:
            low[b], high[b] = change(np.array([-FAR, FAR]), first, back)
        width[b] = float(1 << back.element.bits) if code in (faults.LATE, faults.WRAPS) else 0
    return RoughBacks(names, Backs(starts, slopes, offsets, added, low, high, after, width, SLACK))


ZEROS = {faults.UNZEROED: 0, faults.TWICE: 2, faults.TAKEN_OFF: -1, faults.LATE: 0}
"""How many times the zero point is added before the clip, where not once."""
FAR = 1 << 40
"""Beyond every code."""
SLACK = 0.112
"""Relative error of a multiplier of 4 bits."""


def defined(space: Space, made: Hypothesis) -> bool:
    """Whether the requantizer takes the layer's scales."""
    try:
        for channel in range(space.layer.extent[1] if space.layer.back and space.layer.back.per_channel else 1):
            codes_of(space, made, channel, np.zeros(1, np.int64))
    except IntsimError:
        return False
    return True
