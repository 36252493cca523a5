"""The machines of the space that make a dump, the nearest to the specification first.

A machine is accumulators and what is made of them. Whatever the requantizer is, it gives no smaller code to a larger
accumulator, and is not far from the scales of the file: on some dozen outputs that leaves few of all chains, biases and
operands (`kernels.may_make`), before any requantizer is computed. The rest is computed on more outputs, then on all.
Machines with n changes are looked at before those with n + 1, and none with two more than the best.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.diagnosis import faults
from intsim.diagnosis.faults import Hypothesis
from intsim.diagnosis.kernels import NEAR, ROUNDED, WIDEST, Backs, Chains, may_make, same_sums
from intsim.diagnosis.machine import RoughBacks, Space, Stand, codes_of, rough_backs
from intsim.errors import IntsimError
from intsim.graph import IntArray

MOST_CHANGES = 3
"""Between a machine and the specification."""
CHANNELS, EACH = 8, 8
"""Of the first outputs that are looked at: channels, and outputs of each."""
ROWS = 96
"""Rows that are looked at next."""
MOST_KEPT = 4096
"""Machines that are kept of those that make a dump, the nearest ones."""
MOST_ADDITIONS = 20_000_000_000
"""Additions for which machines are computed on all outputs of a dump."""
Report = Callable[[str], None]


class Outputs(NamedTuple):
    """Some outputs, those of a channel together: sample, row, channel, and what a dump holds there."""

    samples: IntArray
    rows: IntArray
    channels: IntArray
    wanted: IntArray


class Gathered(NamedTuple):
    """Of some outputs what is multiplied, in order of arrival, and what is added behind the products."""

    x: IntArray  # (N, K)
    w: IntArray
    late: IntArray  # (N,)
    behind: IntArray
    largest: int  # no partial sum of the products and of what is added is beyond it, the bias left out


class Candidate(NamedTuple):
    """A machine without what makes codes, and the backs that may have made them, a bit each of a Python integer."""

    made: Hypothesis
    backs: int


@dataclass
class Search:
    """A dump of a layer, (samples, *result shape) by reading, and the operands it was made of."""

    space: Space
    codes: IntArray
    wanted: dict[str, IntArray]  # (samples, rows, channels)
    progress: Report | None = None
    truncated: bool = False
    additions: int = 0
    _pairs: dict[object, list[tuple[int, IntArray, IntArray]] | None] = field(default_factory=dict)
    _fits: dict[object, list[faults.Rounder]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose the outputs that are looked at first and next."""
        layer = self.space.layer
        self.rough: RoughBacks | None = None if layer.back is None else rough_backs(self.space)
        self.first = {r: _informative(layer.back, w) for r, w in self.wanted.items()}
        self.stands = {r: Stand(self.space, self.codes, np.unique(o.rows)) for r, o in self.first.items()}
        count = layer.extent[0]
        rows = np.unique(np.linspace(0, count - 1, min(ROWS, count)).astype(np.int64))
        corners = edges(self.space)
        self.next = Stand(self.space, self.codes, np.unique(np.concatenate([rows, corners])))
        self.whole = Stand(self.space, self.codes, np.arange(count))
        self._gathered: dict[tuple[str, str, str], Gathered] = {}

    def run(self) -> list[Hypothesis]:
        """Machines that make the whole dump, the nearest first."""
        found: list[Hypothesis] = []
        before: list[list[Candidate]] = []
        for changes in range(MOST_CHANGES + 1):
            if found and changes > len(found[0].changes) + 1:
                break
            if self.progress is not None:
                self.progress(f"machines with {changes} changes")
            before.append(list(self._candidates(changes)))
            for level, candidates in enumerate(before):
                found += self._verified(self._kept(candidates, changes - level))
            found = sorted(found, key=lambda h: (len(h.changes), h.cost))[:MOST_KEPT]
        return found

    # In front of the requantizer

    def _candidates(self, level: int) -> Iterator[Candidate]:
        """With so many changes in front of the requantizer."""
        space, spec = self.space, self.space.specification
        places = faults.places(space.layer)
        alive = self._alive(MOST_CHANGES - level)
        everything = (list(self.wanted), list(space.feeds), list(space.biases), places, list(space.orders))
        chains = space.chains
        others = _Chains.of(chains[1:])
        for reading, operand, bias, place, order in product(*everything):
            count = bool(reading) + bool(operand) + bool(bias) + (place != places[0]) + bool(order)
            if count not in (level, level - 1):
                continue
            made = replace(spec, reading=reading, operand=operand, bias=bias, order=order, place=place)
            made = replace(made, specified_place=place == places[0])
            tried = _Chains.of(chains[:1]) if count == level else others
            for i, backs in self._screened(made, tried, alive):
                yield Candidate(replace(made, chain=tried.chains[i]), backs)

    def _alive(self, behind: int) -> int:
        """The backs with so many changes."""
        if self.rough is None:
            return 1
        return sum(1 << i for i, (s, c) in enumerate(self.rough.names) if bool(s) + bool(c) <= behind)

    def _screened(self, made: Hypothesis, tried: _Chains, alive: int) -> Iterator[tuple[int, int]]:
        """Of chains those that may have made the first outputs, with the backs that may have."""
        outputs, bias = self.first[made.reading], self.space.biases[made.bias]
        got = self._gather(made, outputs)
        own = bias[outputs.channels]
        none = np.zeros(len(own), np.int64)
        first = own if made.place == "preload" else none
        late = got.late + own if made.place == "after" else got.late
        behind = got.behind + own if made.place == "requantizer" else got.behind
        largest = got.largest + int(np.abs(own).max(initial=0))
        if self.rough is not None:  # the register may hold an offset of the requantizer, too
            largest += int(np.abs(self.rough.arrays.added).max(initial=0))
        needed = min(largest.bit_length() + 1, WIDEST)
        narrow = np.flatnonzero(tried.bits < needed)
        wide = np.flatnonzero(tried.bits >= needed)
        picked = np.concatenate([narrow, wide[:1]])  # wide ones are all the same here
        chains = Chains(tried.arrays.stages[picked], tried.arrays.counts[picked])
        possible = [0] * len(picked)
        if self.rough is None:
            same = np.zeros(len(picked), bool)
            same_sums(got.x, got.w, chains, first, late, behind, outputs.wanted, same)
            possible = same.astype(int).tolist()
        for at, part in enumerate(self.rough.arrays.parts() if self.rough else ()):
            left: NDArray[np.uint64] = np.full(len(picked), alive >> 64 * at & (1 << 64) - 1, np.uint64)
            if left.any():
                may_make(got.x, got.w, chains, first, late, behind, outputs.channels, outputs.wanted, part, left)
            possible = [p | int(new) << 64 * at for p, new in zip(possible, left, strict=True)]
        for i, backs in zip(narrow, possible, strict=False):
            if backs:
                yield int(i), backs
        if wide.size and possible[-1]:
            for i in wide:
                yield int(i), possible[-1]

    def _drops(self) -> bool:
        """Whether bits of products are dropped, so that it matters where the bias goes."""
        own = self.space.layer.stages
        return bool(own and own[0].drop)

    def _gather(self, made: Hypothesis, outputs: Outputs) -> Gathered:
        key = made.reading, made.operand, made.order
        if key not in self._gathered:
            stand = self.stands[made.reading]
            count = len(outputs.rows)
            x, w = (np.zeros((count, self.space.layer.depth), np.int64) for _ in range(2))
            late, behind = np.zeros(count, np.int64), np.zeros(count, np.int64)
            at = np.searchsorted(stand.rows, outputs.rows)
            for block in stand.operands(made.operand, made.order):
                channels = block.taps.channels
                places = {int(r): i for i, r in enumerate(block.taps.rows)}
                for n in range(count):
                    c, r = outputs.channels[n], places.get(int(at[n]))
                    s, own = outputs.samples[n] - block.samples.start, c - channels.start
                    if r is not None and 0 <= own < len(block.w) and 0 <= s < len(block.x):
                        x[n], w[n] = block.x[s, r], block.w[own]
                        late[n], behind[n] = block.late[s, r, own], block.behind[s, r, own]
            largest = int(((np.abs(x) * np.abs(w)).sum(axis=1) + np.abs(late)).max(initial=0))
            self._gathered[key] = Gathered(x, w, late, behind, largest)
        return self._gathered[key]

    # Behind it

    def _kept(self, candidates: Sequence[Candidate], behind: int) -> list[Hypothesis]:
        """Those of candidates with so many changes behind the registers that make the next outputs."""
        sums: dict[object, IntArray] = {}
        out = []
        rows = self.next.rows
        possible = self._alive(behind)
        for made, backs in candidates:
            if not backs & possible:
                continue
            key = self._key(self.next, made)
            if key not in sums:
                if len(sums) > 64:
                    sums.clear()
                sums[key] = self.next.accumulators(made)
            wanted = self.wanted[made.reading][:, rows]
            for scale, code, rounder in self._behind(made, sums[key], wanted, backs, behind):
                out.append(replace(made, scale=scale, code=code, rounder=rounder))
        return out

    def _key(self, stand: Stand, made: Hypothesis) -> object:
        """What accumulators depend on: not on registers that are wide enough, nor on what only they depend on."""
        front = made.reading, made.operand, made.bias
        largest = _largest(stand, made.operand) + int(np.abs(self.space.biases[made.bias]).max(initial=0))
        if all(s.bits >= min(largest.bit_length() + 1, WIDEST) for s in made.chain.stages):
            return front, made.place == "requantizer" and self._drops()
        return front, made.place, made.order, made.chain.stages

    def _behind(
        self, made: Hypothesis, acc: IntArray, wanted: IntArray, backs: int, changes: int
    ) -> list[tuple[str, str, faults.Rounder]]:
        """What makes these codes of these accumulators, with so many changes."""
        if self.rough is None:
            fits = changes == 0 and bool(np.array_equal(acc, wanted))
            return [("", "", self.space.rounders[0])] if fits else []
        digest = hashlib.blake2b(acc.tobytes() + made.reading.encode()).digest()
        key = digest, made.chain.stages[-1:]
        if key not in self._pairs:
            channels = range(acc.shape[-1])
            pairs = [_distinct(acc[..., c], wanted[..., c]) for c in channels]
            several = [p for p in pairs if p is None]  # one accumulator with two codes
            self._pairs[key] = None if several else [(c, *p) for c, p in zip(channels, pairs, strict=True) if p]
        own = self._pairs[key]
        out = []
        for i, (scale, code) in enumerate(self.rough.names if own is not None else ()):
            rest = changes - bool(scale) - bool(code)
            if backs >> i & 1 and rest in (0, 1):
                if (fitting := self._fits.get((key, i, rest))) is None:
                    whole = replace(made, scale=scale, code=code)
                    error = _error(self.rough.arrays, i, own or (), made.chain.stages)
                    tried = self.space.rounders[1:] if rest else self.space.rounders[:1]
                    near = [r for r in tried if _largest_error(r) >= error]
                    fitting = [r for r in near if self._makes(replace(whole, rounder=r), own or ())]
                    self._fits[key, i, rest] = fitting
                out += [(scale, code, rounder) for rounder in fitting]
        return out

    def _verified(self, machines: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Those that make all outputs."""
        if len(self.next.rows) == len(self.whole.rows):
            return list(machines)
        layer = self.space.layer
        each = len(self.codes) * layer.extent[0] * layer.node.arrays["weight"].size
        groups: dict[object, list[Hypothesis]] = {}
        for made in sorted(machines, key=lambda h: (len(h.changes), h.cost)):
            groups.setdefault(self._key(self.whole, made), []).append(made)
        out = []
        for members in groups.values():
            self.additions += each
            if self.additions > MOST_ADDITIONS:
                self.truncated = True
                break
            acc = self.whole.accumulators(members[0])
            wanted = self.wanted[members[0].reading]
            pairs = [_distinct(acc[..., c], wanted[..., c]) for c in range(acc.shape[-1])]
            if layer.back is None:
                out += members if np.array_equal(acc, wanted) else []
            elif not any(p is None for p in pairs):
                own = [(c, *p) for c, p in enumerate(pairs) if p is not None]
                out += [m for m in members if self._makes(m, own)]
        return out

    def _makes(self, made: Hypothesis, pairs: Sequence[tuple[int, IntArray, IntArray]]) -> bool:
        """Whether each channel's accumulators become its codes; not where the requantizer doesn't take them."""
        try:
            return all(np.array_equal(codes_of(self.space, made, c, acc), codes) for c, acc, codes in pairs)
        except IntsimError:
            return False


def _error(backs: Backs, back: int, pairs: Sequence[tuple[int, IntArray, IntArray]], stages: Sequence[Stage]) -> float:
    """The least relative error of a multiplier with which accumulators of channels become these codes, about; 0 where
    an offset doesn't fit the register in which it is added."""
    error = 0.0
    low, high, width = backs.low[back], backs.high[back], backs.width[back]
    for channel, acc, codes in pairs:
        piece = np.searchsorted(backs.starts[channel, 1:], acc, side="right")
        added = backs.added[back, channel][piece]
        total = acc + added
        if stages and ((added != 0) & ((total < stages[-1].min) | (total > stages[-1].max))).any():
            return 0.0
        slope = backs.slopes[back, channel][piece]
        step, wanted = slope * acc, codes - backs.after[back]
        if width and np.isfinite(low):
            wanted = low + (wanted - low) % width
        offset = backs.offsets[back, channel][piece]
        gap = step + offset - wanted
        if width and not np.isfinite(low):
            gap -= width * np.rint(gap / width)
        gap = np.where(wanted >= high, np.maximum(-gap, 0), np.where(wanted <= low, np.maximum(gap, 0), np.abs(gap)))
        constant = (slope == 0) & (np.abs(offset - np.rint(offset)) < NEAR)
        beyond = gap - np.where(constant, 0.01, ROUNDED + np.abs(slope))
        if (beyond > 0).any():
            multiplied = np.abs(slope) * np.maximum(np.abs(acc), np.abs(total))
            error = max(error, float((beyond / np.maximum(multiplied, 1e-9)).max()))
    return error


def _largest_error(rounder: faults.Rounder) -> float:
    """Of its multiplier, relative."""
    told = rounder.requantizer.multiplies
    return 2.0 ** (1 - (told.bits if told is not None and told.bits > 2 else 23))


class _Chains(NamedTuple):
    chains: list[faults.Chain]
    arrays: Chains
    bits: IntArray  # (chains,) of the narrowest register

    @classmethod
    def of(cls, chains: list[faults.Chain]) -> _Chains:
        bits = [min((s.bits for s in c.stages), default=WIDEST) for c in chains]
        return cls(chains, Chains.of([c.stages for c in chains]), np.array(bits, np.int64))


def _largest(stand: Stand, operand: str) -> int:
    """No partial sum of products and of what is added behind them is beyond it, the bias left out."""
    known: dict[str, int] = stand.__dict__.setdefault("_largest", {})
    if operand not in known:
        peak = 0
        for block in stand.operands(operand, ""):
            sums = np.abs(block.x).reshape(-1, block.x.shape[2]) @ np.abs(block.w).T
            peak = max(peak, int(sums.max(initial=0)) + int(np.abs(block.late).max(initial=0)))
        known[operand] = peak
    return known[operand]


def _distinct(acc: IntArray, codes: IntArray) -> tuple[IntArray, IntArray] | None:
    """Accumulators, each once, and their codes; None where one has two."""
    values, index, back = np.unique(acc.reshape(-1), return_index=True, return_inverse=True)
    flat = codes.reshape(-1)
    own = flat[index]
    return (values, own) if np.array_equal(own[back.reshape(-1)], flat) else None


def _informative(back: faults.Back | None, wanted: IntArray) -> Outputs:
    """Outputs that say most: of the channels with most codes some that differ."""
    samples, rows, channels = wanted.shape
    flat = wanted.reshape(-1, channels)
    inside = np.ones_like(flat, bool)
    if back is not None:
        low, high = back.element.ends
        inside = (flat > low) & (flat < high)
        if back.formulas[0].low is not None:
            inside &= flat > back.formulas[0].low
        if back.formulas[0].high is not None:
            inside &= flat < back.formulas[0].high
    kinds = np.array([len(np.unique(flat[inside[:, c], c])) for c in range(channels)])
    most = CHANNELS if samples * rows >= EACH else CHANNELS * EACH // max(1, samples * rows)
    picked: list[tuple[int, int]] = []
    for c in np.argsort(-kinds, kind="stable")[: max(most, 1)]:
        open_ = np.flatnonzero(inside[:, c])
        pool = open_ if open_.size >= max(1, min(EACH, len(flat)) // 2) else np.arange(len(flat))
        ordered = pool[np.argsort(flat[pool, c], kind="stable")]
        for n in np.unique(np.linspace(0, len(ordered) - 1, EACH).astype(int)):
            picked.append((int(c), int(ordered[n])))
    cs, places = (np.array(v, np.int64) for v in zip(*picked, strict=True))
    return Outputs(places // rows, places % rows, cs, flat[places, cs])


def edges(space: Space) -> IntArray:
    """Rows at corners and in the middle of edges, of the first image."""
    shape = space.layer.result_shape
    if space.layer.node.op == "matmul":
        return np.zeros(0, np.int64)
    spatial = shape[2:]
    ends = [sorted({0, 1, size // 2, size - 2, size - 1} & set(range(size))) for size in spatial]
    return np.array([np.ravel_multi_index(p, spatial) for p in product(*ends)], np.int64)
