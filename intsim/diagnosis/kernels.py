"""Compiled: what chains of registers hand on, and which of many chains can have made some codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.rounding import Rounding
from intsim.graph import IntArray
from intsim.jit.compile import compiled

WIDEST = 62
"""Bits from which on a register can't overflow here."""
ROUNDED = 1.26
"""Within which two roundings in any direction leave a code."""
NEAR = 1e-5
"""Within which an offset is taken for a whole code: scales of files are float32."""
ROUNDINGS = tuple(Rounding)
"""By their numbers in compiled code."""


class Chains(NamedTuple):
    """Several chains of registers as arrays."""

    stages: (
        # (chains, most stages, 7): sum (0: the rest), bits, saturates (0: wraps; 1; 2: one above the least value of its
        # bits), lanes, restart (0: none), drop, mode
        IntArray
    )
    counts: IntArray  # (chains,)

    @classmethod
    def of(cls, chains: Sequence[tuple[Stage, ...]]) -> Chains:
        """Of stages whose `restart` is a number."""
        stages = np.zeros((len(chains), max((len(c) for c in chains), default=0), 7), np.int64)
        for i, chain in enumerate(chains):
            for j, s in enumerate(chain):
                restart = s.restart if isinstance(s.restart, int) else 0
                mode = 0 if s.rounding is None else ROUNDINGS.index(Rounding(s.rounding))
                least = s.min + (1 << (s.bits - 1))
                saturates = 1 + least if s.overflow == "saturate" else 0
                stages[i, j] = s.sum or 0, s.bits, saturates, s.lanes, restart, s.drop, mode
        return cls(stages, np.array([len(c) for c in chains], np.int64))


class Backs(NamedTuple):
    """What roughly becomes of accumulators under each of several mistakes behind them."""

    starts: IntArray  # (channels, pieces) from which accumulator on a piece holds
    slopes: NDArray[np.float64]  # (backs, channels, pieces)
    offsets: NDArray[np.float64]  # likewise, the zero point included that is added before the clip
    added: IntArray  # likewise, offsets in accumulators, without it: most requantizers add them in the last register
    low: NDArray[np.float64]  # (backs,) ends of the clip; infinite where nothing is clipped
    high: NDArray[np.float64]
    after: NDArray[np.float64]  # (backs,) what is added behind the clip
    width: NDArray[np.float64]  # (backs,) codes wrap modulo this; 0: they don't
    slack: float  # relative error that a multiplier may make

    def parts(self) -> list[Backs]:
        """64 mistakes at a time."""
        names = ("slopes", "offsets", "added", "low", "high", "after", "width")
        each = [slice(at, at + 64) for at in range(0, len(self.low), 64)]
        return [self._replace(**{n: getattr(self, n)[part] for n in names}) for part in each]


@compiled
def _fit(value, bits, saturates):  # type: ignore[no-untyped-def]
    if bits >= 62:
        return value
    top = np.int64(1) << np.int64(bits - 1)
    if saturates:
        return min(max(value, saturates - 1 - top), top - 1)
    return ((value + top) & (2 * top - 1)) - top


@compiled
def _cast(value, drop, mode):  # type: ignore[no-untyped-def]
    """Without its `drop` lowest bits; modes as in `ROUNDINGS`."""
    if drop == 0:
        return value
    floor, rest, half = value >> drop, value & ((np.int64(1) << drop) - 1), np.int64(1) << (drop - 1)
    if mode < 4:
        ties = (floor & 1 == 1, floor >= 0, floor < 0, True)[mode]
        return floor + np.int64(rest > half or (rest == half and ties))
    return floor + np.int64(rest > 0 and (False, True, floor >= 0, floor < 0)[mode - 4])


@compiled
def _sum(x, w, stages, count, first, late, before, after, spare):  # type: ignore[no-untyped-def]
    """One output: products of `x` and `w` (K,) through a chain; `before`, `after` and `spare` are room for as many."""
    n = x.shape[0]
    if count == 0:
        total = first + late
        for i in range(n):
            total += x[i] * w[i]
        return total
    drop, mode = stages[0, 5], stages[0, 6]
    for i in range(n):
        before[i] = _cast(x[i] * w[i], drop, mode)
    source, free, other = before, after, spare
    for s in range(count - 1):
        size, bits, saturates, lanes, restart = stages[s, 0], stages[s, 1], stages[s, 2], stages[s, 3], stages[s, 4]
        block = restart if restart > 0 else max(n, 1)
        together = max(1, n if size == 0 else min(lanes * size, n))
        made = 0
        for start in range(0, n, block):
            end = min(start + block, n)
            for begin in range(start, end, together):
                stop = min(begin + together, end)
                for lane in range(min(lanes, end - begin)):
                    register = np.int64(0)
                    for i in range(begin + lane, stop, lanes):
                        register = _fit(register + source[i], bits, saturates)
                    free[made] = register
                    made += 1
        n = made
        source, free, other = free, other, source
    bits, saturates = stages[count - 1, 1], stages[count - 1, 2]
    register = _fit(_cast(first, drop, mode), bits, saturates)
    for i in range(n):
        register = _fit(register + source[i], bits, saturates)
    return _fit(register + _cast(late, drop, mode), bits, saturates) << drop


@compiled
def sums(x, w, stages, count, first, late, out):  # type: ignore[no-untyped-def]
    """Accumulators (P, c) of `x` (P, K) and `w` (c, K); `first` (c,) is preloaded, `late` (P, c) added at the end."""
    depth = x.shape[1]
    before, after, spare = np.empty(depth, np.int64), np.empty(depth, np.int64), np.empty(depth, np.int64)
    for p in range(x.shape[0]):
        for c in range(w.shape[0]):
            out[p, c] = _sum(x[p], w[c], stages, count, first[c], late[p, c], before, after, spare)


@compiled
def same_sums(x, w, chains, first, late, behind, wanted, possible):  # type: ignore[no-untyped-def]
    """Which chains make the accumulators `wanted` (N,) of x and w (N, K); `behind` is added to what they hand on."""
    depth = x.shape[1]
    before, after, spare = np.empty(depth, np.int64), np.empty(depth, np.int64), np.empty(depth, np.int64)
    for m in range(chains.counts.shape[0]):
        possible[m] = True
        for n in range(x.shape[0]):
            made = _sum(x[n], w[n], chains.stages[m], chains.counts[m], first[n], late[n], before, after, spare)
            if made + behind[n] != wanted[n]:
                possible[m] = False
                break


@compiled
def may_make(x, w, chains, first, late, behind, channels, codes, backs, alive):  # type: ignore[no-untyped-def]
    """Of each chain the set of backs, a bit each, that may have made `codes` (N,) of x and w (N, K).

    At most 64 backs. Outputs of a channel stand together. A back that wraps nothing is monotone in
    a piece, whatever it rounds; so is one that adds its offset in a register, but where that wraps.
    """
    depth, count = x.shape[1], codes.shape[0]
    before, after, spare = np.empty(depth, np.int64), np.empty(depth, np.int64), np.empty(depth, np.int64)
    accumulators, where = np.empty(count, np.int64), np.empty(count, np.int64)
    turned = np.empty(count, np.uint64)  # backs whose offset wraps the register
    number, pieces = backs.low.shape[0], backs.starts.shape[1]
    rising = np.uint64(0)  # backs that wrap nothing themselves
    for b in range(number):
        if backs.width[b] == 0:
            rising |= np.uint64(1) << np.uint64(b)
    for m in range(chains.counts.shape[0]):
        left = alive[m]
        begin = 0
        last = chains.counts[m] - 1
        for n in range(count):
            c = channels[n]
            if n > 0 and channels[n - 1] != c:
                begin = n
            acc = _sum(x[n], w[n], chains.stages[m], chains.counts[m], first[n], late[n], before, after, spare)
            acc += behind[n]
            accumulators[n] = acc
            turned[n] = np.uint64(0)
            piece = 0
            while piece + 1 < pieces and acc >= backs.starts[c, piece + 1]:
                piece += 1
            for b in range(number):
                bit = np.uint64(1) << np.uint64(b)
                if left & bit == 0:
                    continue
                slope, added = backs.slopes[b, c, piece], backs.added[b, c, piece]
                value = slope * acc + backs.offsets[b, c, piece]
                other, largest = value, max(abs(acc), abs(acc + added))
                if added != 0 and last >= 0:
                    held = _fit(acc + added, chains.stages[m, last, 1], chains.stages[m, last, 2])
                    if held != acc + added:
                        other = value + slope * (held - acc - added)
                        largest = max(largest, abs(held))
                        if chains.stages[m, last, 2] == 0:
                            turned[n] |= bit
                error = ROUNDED + abs(slope) + backs.slack * abs(slope) * largest
                if slope == 0 and abs(value - np.rint(value)) < NEAR:
                    error = 0.01  # nothing is multiplied
                least = min(max(min(value, other) - error, backs.low[b]), backs.high[b]) - 0.5
                most = min(max(max(value, other) + error, backs.low[b]), backs.high[b]) + 0.5
                above = codes[n] - backs.after[b] - least
                if backs.width[b] > 0:
                    above -= backs.width[b] * np.floor(above / backs.width[b])
                if above < 0 or above > most - least:
                    left &= ~bit
            if left == 0:
                break
            where[n] = piece
            for i in range(begin, n):
                if where[i] != piece:
                    continue  # pieces may meet at a step down: a bias that is in the accumulator, a scale that is wrong
                apart, change = acc - accumulators[i], codes[n] - codes[i]
                up = backs.slopes[0, c, piece] >= 0
                if change != 0 and apart == 0:
                    left = np.uint64(0)
                elif change != 0 and ((change > 0) == (apart > 0)) != up:
                    left &= ~rising | turned[n] | turned[i]
            if left == 0:
                break
        alive[m] = left
