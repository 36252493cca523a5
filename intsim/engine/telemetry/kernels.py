"""The compiled loops of one-pass telemetry: lives of registers over blocks of output pixels, counted by their bits."""

from __future__ import annotations

import numpy as np

from intsim.engine.registers.packed import BLOCK
from intsim.jit.compile import compiled

EIGHT = 8
"""Products of a register that are added between its loading and its storing."""


@compiled
def _add(total, low, high, value, factor):  # type: ignore[no-untyped-def]
    """One addition of factor * value into a block of registers; `low`, `high` follow its sums."""
    lane = total.dtype.type
    for p in range(total.size):
        here = lane(total[p] + lane(factor * value[p]))
        total[p] = here
        low[p] = min(low[p], here)
        high[p] = max(high[p], here)


@compiled
def _add_eight(total, low, high, values, at, factors, first):  # type: ignore[no-untyped-def]
    """Eight additions in a row into a block of registers, of products that lie one after another.

    `values` is a block of the panel as (K * BLOCK,): row k begins at k * BLOCK, a constant distance. Between the eight
    a sum and its extremes stay in the processor's registers.
    """
    lane = total.dtype.type
    f0, f1, f2, f3 = factors[first], factors[first + 1], factors[first + 2], factors[first + 3]
    f4, f5, f6, f7 = factors[first + 4], factors[first + 5], factors[first + 6], factors[first + 7]
    rows = values[at : at + EIGHT * BLOCK]
    for p in range(total.size):
        here, least, most = total[p], low[p], high[p]
        here = lane(here + lane(f0 * rows[p]))
        least, most = min(least, here), max(most, here)
        here = lane(here + lane(f1 * rows[p + BLOCK]))
        least, most = min(least, here), max(most, here)
        here = lane(here + lane(f2 * rows[p + 2 * BLOCK]))
        least, most = min(least, here), max(most, here)
        here = lane(here + lane(f3 * rows[p + 3 * BLOCK]))
        least, most = min(least, here), max(most, here)
        here = lane(here + lane(f4 * rows[p + 4 * BLOCK]))
        least, most = min(least, here), max(most, here)
        here = lane(here + lane(f5 * rows[p + 5 * BLOCK]))
        least, most = min(least, here), max(most, here)
        here = lane(here + lane(f6 * rows[p + 6 * BLOCK]))
        least, most = min(least, here), max(most, here)
        here = lane(here + lane(f7 * rows[p + 7 * BLOCK]))
        least, most = min(least, here), max(most, here)
        total[p], low[p], high[p] = here, least, most


@compiled
def _in_a_row(order):  # type: ignore[no-untyped-def]
    """Steps that begin eight additions of products that lie one after another, into one register."""
    steps = order.shape[1]
    begins = np.zeros(steps, np.bool_)
    for step in range(steps - EIGHT + 1):
        begins[step] = order[2, step] >= 0
        for k in range(1, EIGHT):
            same = order[1, step + k] == order[1, step] and order[2, step + k] == order[2, step] + k
            begins[step] = begins[step] and same
    return begins


@compiled
def _close(total, low, high, floats, words, partial, final):  # type: ignore[no-untyped-def]
    """End the lives of a block of registers: count their bits, return their extremes, empty them.

    A signed register of b + 1 bits holds v if v >= 0, or ~v if v < 0, has b bits, which the exponent of a float says.
    `words` are the floats' own bits. Without the bit below its highest a number is not rounded up to the next power.
    """
    lane, size = total.dtype.type, total.size
    shift, bias = lane(23 if total.itemsize == 4 else 52), lane(125 if total.itemsize == 4 else 1021)
    least, most = lane(0), lane(0)
    for p in range(size):
        widest = max(high[p], lane(~low[p]))
        floats[0, p] = lane(widest & ~lane(widest >> lane(1)))
        ended = max(total[p], lane(~total[p]))
        floats[1, p] = lane(ended & ~lane(ended >> lane(1)))
        least, most = min(least, low[p]), max(most, high[p])
        total[p] = low[p] = high[p] = lane(0)
    for p in range(size):
        words[0, p] = max(lane(lane(words[0, p] >> shift) - bias), lane(1))
        words[1, p] = max(lane(lane(words[1, p] >> shift) - bias), lane(1))
    for p in range(size):
        partial[words[0, p]] += 1
        final[words[1, p]] += 1
    return least, most


@compiled
def register_lives(panel, weight, order, registers, start, late, floats, pixels, low, high, partial, final):  # type: ignore[no-untyped-def]
    """All channels of all blocks; panel (blocks, K, BLOCK), weight (N, K), order (3, steps), late (N, 0, 1 or M)."""
    one = panel.dtype.type(1)
    total = np.zeros((registers, BLOCK), panel.dtype)
    least, most = np.zeros_like(total), np.zeros_like(total)
    constant = np.zeros(BLOCK, panel.dtype)
    words = floats.view(panel.dtype)
    last, steps = registers - 1, order.shape[1]
    begins = _in_a_row(order)
    for block in range(panel.shape[0]):
        begin = block * BLOCK
        size = min(BLOCK, pixels - begin)
        rows = panel[block].reshape(-1)
        for channel in range(weight.shape[0]):
            # Step -1 is the preloaded bias, step `steps` what is added last, and one more ends the last register.
            done = -1
            for step in range(-1 if start.size else 0, steps + 2):
                if 0 <= step < done:
                    continue
                if 0 <= step < steps and begins[step]:
                    register, source = order[1, step], order[2, step]
                    _add_eight(
                        total[register, :size],
                        least[register, :size],
                        most[register, :size],
                        rows,
                        source * BLOCK,
                        weight[channel],
                        source,
                    )
                    done = step + EIGHT
                    continue
                register, factor, value, giver, stage = last, one, constant[:size], -1, low.shape[1] - 1
                if step < 0:
                    constant[:] = start[channel]
                elif step < steps:
                    register, source = order[1, step], order[2, step]
                    if source >= 0:
                        factor, value = weight[channel, source], panel[block, source, :size]
                    else:
                        giver, stage, value = ~source, order[0, step] - 1, total[~source, :size]
                elif step > steps:
                    giver = last
                elif late.shape[1] == 1:
                    constant[:] = late[channel, 0]
                elif late.shape[1] > 1:
                    constant[:size] = late[channel, begin : begin + size]
                else:
                    continue
                if step <= steps:
                    _add(total[register, :size], least[register, :size], most[register, :size], value, factor)
                if giver >= 0:
                    ends = _close(
                        total[giver, :size],
                        least[giver, :size],
                        most[giver, :size],
                        floats,
                        words,
                        partial[channel, stage],
                        final[channel, stage],
                    )
                    low[channel, stage] = min(low[channel, stage], ends[0])
                    high[channel, stage] = max(high[channel, stage], ends[1])
