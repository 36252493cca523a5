"""Inputs of a multiply-accumulate for which a target's sums are wrong, found channel by channel.

A sum goes wrong when a register is driven over its end: the group that leaves it furthest is pushed there, all other
products contribute as little as they can. What becomes of it is computed in Python integers (`mac_layer`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intsim.graph import IntArray
from intsim.proofs.definition import leaves, peaks
from intsim.proofs.mac_layer import MacLayer, Taps

MOST_TRIED = 4096
"""Most inputs of one sum that are all tried."""
RANDOM_TRIES = (1, 1, 2, 4, 8, 16, 32)
"""Random inputs of one sum, and how many of them are run at once."""


@dataclass(frozen=True)
class WrongSum:
    """One output element: activations `x` (K,) and weights `w` (K,) as multiplied, and what their sum becomes.

    `pushed` (K,) are the products that make it go wrong; the others may be anything small.
    """

    taps: Taps
    channel: int
    x: IntArray
    w: IntArray
    pushed: IntArray
    exact: int
    got: int


@dataclass(frozen=True)
class Verdicts:
    """Of channels whose registers may overflow: those with a wrong sum, and those in which every input was tried."""

    wrong: dict[int, WrongSum]
    tried: set[int]


def wrong_sums(mac: MacLayer, channels: Sequence[int]) -> Verdicts:
    """For each of `channels`, an input whose sum is wrong in the target's registers, if one is found.

    Not for packed multipliers, whose outputs have neighbours, nor for a tensor times itself: there nothing is found.
    """
    wrong: dict[int, WrongSum] = {}
    clean: dict[int, bool] = {}
    chosen = set(channels)
    if mac.registers.packing is not None or not mac.registers.stages or mac.squares:
        return Verdicts(wrong, set())
    for taps, w in _weights(mac):
        picked = [n for n, c in enumerate(taps.channels) if c in chosen and c not in wrong]
        complete: dict[int, bool] = dict.fromkeys((taps.channels[n] for n in picked), False)
        for x, rows, pushed, all_of_them in _candidates(mac, taps, w, picked, wrong):
            if all(c in wrong for c in complete):
                break
            todo = [i for i, n in enumerate(rows) if taps.channels[n] not in wrong]
            if not todo:
                continue
            rows, x, pushed = [rows[i] for i in todo], x[todo], pushed[todo]
            exact, got = mac.sums(w[rows], [taps.channels[n] for n in rows], x)
            for i, n in enumerate(rows):
                if exact[i] != got[i]:
                    channel = taps.channels[n]
                    shown = WrongSum(taps, channel, x[i], w[n], pushed[i], int(exact[i]), int(got[i]))
                    wrong.setdefault(channel, shown)
            for n in rows:
                complete[taps.channels[n]] |= all_of_them
        for channel, done in complete.items():
            clean[channel] = clean.get(channel, True) and done
    one = len(mac.tensors) == 1  # of a second tensor only some values are tried
    tried = {c for c, done in clean.items() if one and done and c not in wrong}
    return Verdicts(wrong, tried)


def _weights(mac: MacLayer) -> Iterator[tuple[Taps, IntArray]]:
    """Blocks with their weights; of a second tensor, its ends everywhere."""
    for taps in mac.blocks:
        if taps.w_at is None:
            yield taps, taps.w
            continue
        second, shift = mac.tensors[1], int(np.max(mac.operands.w_shift))
        for edge in (second.high, second.low):
            yield taps, np.full(taps.w_at.shape, edge + shift, np.int64)


Candidate = tuple[IntArray, list[int], IntArray, bool]
"""Activations (n, K), the n rows of the block, pushed products (n, K), whether these complete all inputs there are."""


def _candidates(mac: MacLayer, taps: Taps, w: IntArray, rows: list[int], wrong: Container[int]) -> Iterator[Candidate]:
    """Inputs that may go wrong, the likeliest first; for channels that are in `wrong` by then nothing more is drawn."""
    if not rows or not w.shape[1]:
        return
    low, high = mac.ranges(taps)
    stages, mine = mac.registers.stages, w[rows]
    start = None if mac.preload is None else mac.preload[[taps.channels[n] for n in rows]]
    rising = (mine >= 0) | (high == low)  # where the greater activation makes the greater product
    rest = np.broadcast_to(np.clip(0, low, high), mine.shape)
    everything = np.ones(mine.shape, bool)
    for upwards in (True, False):
        side = np.where(rising == upwards, high, low)
        for peak in peaks(mine * side, stages, upwards, start):
            out = [i for i in range(len(rows)) if peak.excess[i] > 0]
            if out:
                pushed = np.zeros((len(out), w.shape[1]), bool)
                steps = peak.step[out].tolist()
                held = leaves(w.shape[1], stages, steps)
                for i, step in enumerate(steps):
                    pushed[i, held[step]] = True
                yield np.where(pushed, side[out], rest[out]), [rows[i] for i in out], pushed, False
        yield side, rows, everything, False
    choices = [range(a, b + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    if math.prod(map(len, choices)) <= MOST_TRIED:
        combinations = np.array(list(itertools.product(*choices)), np.int64)
        for n in rows:
            yield combinations, [n] * len(combinations), np.ones(combinations.shape, bool), True
        return
    rng = np.random.default_rng(0)
    for tries in RANDOM_TRIES:
        left = [i for i, n in enumerate(rows) if taps.channels[n] not in wrong]
        sides = [np.broadcast_to(side, (len(left), w.shape[1])) for side in (low, high, rest[:1])]
        x = [np.choose(rng.integers(0, 3, mine.shape)[left], sides) for _ in range(tries)]
        yield np.concatenate(x), [rows[i] for i in left] * tries, np.tile(everything[left], (tries, 1)), False
