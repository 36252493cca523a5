"""The fast accumulator of packed multipliers: a matrix product whose first sums share one wide register.

The same numbers as `arithmetic.packing.accumulate_packed`, which is the definition. A wide register that is added up
modulo a power of two depends on the sums in its fields alone, so the kernel adds up each field by itself, as true sums,
puts a group's sums together at its end, and reads them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.packing import Packing, check_group_sums, check_packing
from intsim.arithmetic.schedule import schedule
from intsim.engine.registers.matmul import RegisterSums, checked_operands, without_products
from intsim.engine.registers.plan import largest_magnitude
from intsim.jit.compile import compiled

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
BLOCK = 512  # pixels; a few registers and one row of activations of a block stay in 32 KiB


class _Fields(NamedTuple):
    """How the fields of a multiplier are read."""

    offsets: NDArray[np.int64]  # (channels, pixels) of a set
    bits: int
    repaid: bool  # borrows


def packed_matmul(
    a: Any, w: Any, stages: Sequence[Stage], packing: Packing, start: Any = None, bias: Any = None
) -> RegisterSums:
    """Return a @ w.T, `len(packing.channels)` rows of w and `len(packing.pixels)` rows of a to a multiplication.

    Rows 0.. of w are the first set, the next ones the second; so are rows of a. The last set may be incomplete: what is
    not there is 0, and is neither counted nor returned.

    Args:
        a, w, start, bias: as `register_matmul` takes them.
        stages: see `arithmetic.packing.check_packing`.
        packing: where the fields are, and how they are read.

    Returns:
        RegisterSums. Exactly what `arithmetic.packing.accumulate_packed` says for the products a[m, k] * w[n, k].

    Raises:
        IntsimError: shapes that do not match, non-integers, impossible stages, or sums of a group beyond int64.
    """
    stages = check_packing(packing, stages)
    activation, weight, constants, largest = checked_operands(a, w, start, bias)
    given = (start is not None, bias is not None)
    (pixels, depth), channels = activation.shape, weight.shape[0]
    if activation.size == 0 or weight.size == 0:
        return without_products(pixels, constants, given, stages)
    size = depth if stages[0].sum is None else min(stages[0].sum, depth)
    product = largest_magnitude(activation) * largest_magnitude(weight)
    check_group_sums(product, size)

    lane, narrow = _choose_lane(stages, max(largest, product * size))
    inside = _limits(stages)
    inside[0] = np.iinfo(lane).min, np.iinfo(lane).max, 0  # a field's true sums never leave the lane
    panels = np.stack([blocks_of_pixels(part, lane) for part in _sets(activation, len(packing.pixels))])
    weights = np.ascontiguousarray(_sets(weight.astype(lane), len(packing.channels)))
    offsets = np.array([[c + p for p in packing.pixels] for c in packing.channels], np.int64)
    out = np.zeros((channels, len(packing.pixels), -(-pixels // len(packing.pixels))), np.int64)
    telemetry = tuple(np.zeros((channels, len(stages)), np.int64) for _ in range(3))  # events, low and high
    _accumulate(
        panels,
        weights,
        schedule(depth, stages)[:3],
        inside,
        narrow,
        _Fields(offsets, stages[0].bits, packing.correction == "borrow"),
        constants.astype(lane),
        given,
        pixels,
        out,
        telemetry,
    )
    return RegisterSums(out.transpose(2, 1, 0).reshape(-1, channels)[:pixels], *telemetry)


def _sets(rows: NDArray[Any], together: int) -> NDArray[Any]:
    """(M, K) as (together, sets, K), the last set filled with zeros."""
    count = -(-rows.shape[0] // together)
    out = np.zeros((count * together, rows.shape[1]), rows.dtype)
    out[: rows.shape[0]] = rows
    return out.reshape(count, together, rows.shape[1]).transpose(1, 0, 2)


def _limits(stages: Sequence[Stage]) -> NDArray[np.int64]:
    """(stages, 3): ends of the register, and whether it saturates."""
    return np.array([[stage.min, stage.max, stage.overflow == "saturate"] for stage in stages], np.int64)


def _choose_lane(stages: Sequence[Stage], largest: int) -> tuple[type, bool]:
    """Choose lanes wide enough for every true sum, a register plus one arriving value; False if none is."""
    # A value handed on is within the register it comes from.
    arriving = max(largest, *(-stage.min for stage in stages[:-1])) if len(stages) > 1 else largest
    reach = max(-stage.min for stage in stages) + arriving
    return (np.int32 if reach < 1 << 31 else np.int64), reach < 1 << 63


def blocks_of_pixels(activation: NDArray[Any], lane: type) -> NDArray[Any]:
    """(M, K) as (blocks, K, BLOCK): the pixels of a block side by side, the blocks apart to spare the cache."""
    pixels, depth = activation.shape
    panel = np.zeros((-(-pixels // BLOCK), depth, BLOCK), lane)
    for block, rows in enumerate(panel):
        part = activation[block * BLOCK : (block + 1) * BLOCK]
        rows[:, : len(part)] = part.T
    return panel


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
def _accumulate(panels, weights, steps, limits, narrow, fields, constants, given, pixels, out, telemetry):  # type: ignore[no-untyped-def]
    """All channels of all blocks of pixels through the steps of `arithmetic.schedule`, one after another.

    The first stage is several fields in one register; output pixels come in sets of neighbours. steps: stage, register
    and source of each addition; constants (2, N): the preloaded bias and the late one, `given` tells which are added.
    panels (pixels of a set, blocks, K, sets of a block), weights (channels of a set, sets, K), limits of the first
    stage those of the lane, `pixels` M, out (N, pixels of a set, sets); telemetry: events, least and greatest sums
    (N, stages).
    """
    stages, registers, sources = steps
    events, low, high = telemetry
    block_size, sets = panels.shape[3], out.shape[2]
    last, accumulator, channels = limits.shape[0] - 1, registers.max(), out.shape[0]
    together, beside = weights.shape[0], panels.shape[0]
    one = panels.dtype.type(1)
    held = np.zeros((together, beside, accumulator + 1, block_size), panels.dtype)
    read = np.zeros((together, beside, block_size), panels.dtype)
    constant = np.zeros(block_size, panels.dtype)
    for block in range(panels.shape[1]):
        begin = block * block_size
        for index in range(weights.shape[1]):
            held[:] = 0
            for step in range(-1 if given[0] else 0, sources.size + 1 if given[1] else sources.size):
                stage, register, source = last, accumulator, 0
                constants_step = step < 0 or step == sources.size
                if not constants_step:
                    stage, register, source = stages[step], registers[step], sources[step]
                    if source < 0 and stage == 1:
                        _read_fields(held, fields, read)
                for c in range(min(together, channels - index * together)):
                    channel = index * together + c
                    for p in range(beside):
                        size = max(0, min(block_size, (pixels - p + beside - 1) // beside - begin))
                        factor, value = one, constant[:size]
                        if constants_step:
                            constant[:] = constants[0 if step < 0 else 1, channel]
                        elif source >= 0:
                            factor, value = weights[c, index, source], panels[p, block, source, :size]
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
            for c in range(min(together, channels - index * together)):
                size = min(block_size, sets - begin)
                out[index * together + c, :, begin : begin + size] = held[c, :, accumulator, :size]


@compiled
def _read_fields(held, fields, read):  # type: ignore[no-untyped-def]
    """Sums of the products of all fields, held[:, :, 0], as they are read from one register modulo 2^64."""
    offsets, bits, repaid = fields
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
