"""The compiled inner loops of packed multipliers: blocks of output pixels side by side.

Every addition into a register goes through `_add`. Its callers are in the same file, because Numba's cache on disk
notices changes of the file a function is in, not of what it calls in others.
"""

from __future__ import annotations

import numpy as np

from intsim.jit.compile import compiled

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


@compiled
def _add(register, value, factor, limit, narrow):  # type: ignore[no-untyped-def]
    """One addition of factor * value into a block of registers; returns its events and extremes.

    Every sub-expression is cast back to the lane: Numba widens int32 arithmetic to int64, which halves the SIMD width.
    """
    lane = register.dtype.type
    low, high = lane(limit[0]), lane(limit[1])
    mask = lane(high - low)
    events = lane(0)  # at most twice the block
    least, most = lane(0), lane(0)
    if narrow and limit[2]:
        for p in range(register.size):
            total = lane(register[p] + lane(factor * value[p]))
            kept = min(max(total, low), high)
            events = lane(events + lane(kept != total))
            least, most = min(least, total), max(most, total)
            register[p] = kept
    elif narrow:
        for p in range(register.size):
            total = lane(register[p] + lane(factor * value[p]))
            kept = lane(lane(lane(total - low) & mask) + low)
            events = lane(events + lane(kept != total))
            least, most = min(least, total), max(most, total)
            register[p] = kept
    else:
        for p in range(register.size):
            term = lane(factor * value[p])
            total = lane(register[p] + term)
            # The sum wrapped in its lane if it has the sign of neither term; then the true sum is past the lane's end.
            clipped = total
            if ((register[p] ^ total) & (term ^ total)) < 0:
                clipped = lane(INT64_MIN) if term < 0 else lane(INT64_MAX)
                events = lane(events + lane(low <= total <= high))
            events = lane(events + lane(total < low or total > high))
            least, most = min(least, clipped), max(most, clipped)
            register[p] = min(max(clipped, low), high) if limit[2] else lane(lane(lane(total - low) & mask) + low)
    return events, least, most


@compiled
def accumulate_packed(panels, weights, steps, limits, narrow, fields, constants, given, pixels, out, events, low, high):  # type: ignore[no-untyped-def]
    """All channels of all blocks of pixels through the steps of `arithmetic.schedule`, one after another.

    The first stage is several fields in one register; output pixels come in sets of neighbours. steps: stage, register
    and source of each addition; constants (2, N): the preloaded bias and the late one, `given` tells which are added.
    panels (pixels of a set, blocks, K, sets of a block), weights (channels of a set, sets, K), limits of the first
    stage those of the lane, `pixels` M, out (N, pixels of a set, sets); fields: offset of (channel, pixel), bits that
    are read, whether borrows are repaid.
    """
    stages, registers, sources = steps
    offsets, bits, repaid = fields
    block_size, sets = panels.shape[3], out.shape[2]
    last, accumulator, channels = limits.shape[0] - 1, registers.max(), out.shape[0]
    together, beside = weights.shape[0], panels.shape[0]
    one = panels.dtype.type(1)
    held = np.zeros((together, beside, accumulator + 1, block_size), panels.dtype)
    read = np.zeros((together, beside, block_size), panels.dtype)
    constant = np.zeros(block_size, panels.dtype)
    for block in range(panels.shape[1]):
        begin = block * block_size
        for place in range(weights.shape[1]):
            held[:] = 0
            for step in range(-1 if given[0] else 0, sources.size + 1 if given[1] else sources.size):
                stage, register, source = last, accumulator, 0
                constants_step = step < 0 or step == sources.size
                if not constants_step:
                    stage, register, source = stages[step], registers[step], sources[step]
                    if source < 0 and stage == 1:
                        _read_fields(held, offsets, bits, repaid, read)
                for c in range(min(together, channels - place * together)):
                    channel = place * together + c
                    for p in range(beside):
                        size = max(0, min(block_size, (pixels - p + beside - 1) // beside - begin))
                        factor, value = one, constant[:size]
                        if constants_step:
                            constant[:] = constants[0 if step < 0 else 1, channel]
                        elif source >= 0:
                            factor, value = weights[c, place, source], panels[p, block, source, :size]
                        elif stage == 1:
                            value = read[c, p, :size]
                            events[channel, 0] += np.sum(value != held[c, p, 0, :size])
                        else:
                            value = held[c, p, ~source, :size]
                        count, least, most = _add(held[c, p, register, :size], value, factor, limits[stage], narrow)
                        events[channel, stage] += count
                        low[channel, stage] = min(low[channel, stage], np.int64(least))
                        high[channel, stage] = max(high[channel, stage], np.int64(most))
                        if source < 0:
                            held[c, p, ~source, :size] = 0
            for c in range(min(together, channels - place * together)):
                size = min(block_size, sets - begin)
                out[place * together + c, :, begin : begin + size] = held[c, :, accumulator, :size]


@compiled
def _read_fields(held, offsets, bits, repaid, read):  # type: ignore[no-untyped-def]
    """Sums of the products of all fields, held[:, :, 0], as they are read from one register modulo 2^64."""
    wide = np.zeros(held.shape[3], np.int64)
    for c in range(held.shape[0]):
        for p in range(held.shape[1]):
            for q in range(wide.size):
                wide[q] += np.int64(held[c, p, 0, q]) << offsets[c, p]
    for c in range(held.shape[0]):
        for p in range(held.shape[1]):
            offset, below = offsets[c, p], max(offsets[c, p] - 1, 0)
            borrow = np.int64(repaid and offset > 0)
            for q in range(wide.size):
                field = ((wide[q] >> offset) << (64 - bits)) >> (64 - bits)
                read[c, p, q] = field + ((wide[q] >> below) & borrow)
