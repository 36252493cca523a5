"""The compiled loops of one-pass telemetry: lives of registers over blocks of output pixels, counted by their bits."""

from __future__ import annotations

import numpy as np

from intsim.engine.registers.packed import BLOCK
from intsim.jit.compile import compiled


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
    for block in range(panel.shape[0]):
        begin = block * BLOCK
        size = min(BLOCK, pixels - begin)
        for channel in range(weight.shape[0]):
            # Step -1 is the preloaded bias, step `steps` what is added last, and one more ends the last register.
            for step in range(-1 if start.size else 0, steps + 2):
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
