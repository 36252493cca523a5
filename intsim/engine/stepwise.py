"""The fast stepwise accumulator: a matrix product through the registers of a target, with overflow counts.

The same numbers as `arithmetic.accumulate`, which is the definition, for one million times more products. Output pixels
are the inner loop, so every step of a register is a handful of SIMD instructions on a block of pixels that stays in the
first-level cache; the order of arrival is the outer loop and is never changed.

Registers live in int64 lanes, or in int32 lanes when no true sum can leave int32. Registers of 63 and 64 bits, whose
sums can leave int64, take a third path that reads the overflow from the signs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry, check_stages
from intsim.arithmetic.integers import as_integers
from intsim.errors import IntsimError

MAX_STAGES = 4
BLOCK = 512  # pixels; registers and one row of activations of a block stay in 32 KiB
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


class Stepwise(NamedTuple):
    """Result and telemetry of `stepwise_matmul`, telemetry summed up over the M rows."""

    out: NDArray[np.int64]  # (M, N) value of the last register
    events: NDArray[np.int64]  # (N, stages) additions whose true sum left the register
    low: NDArray[np.int64]  # (N, stages) smallest true sum, never above 0; saturated to int64
    high: NDArray[np.int64]  # (N, stages) largest true sum, never below 0; saturated to int64


def stepwise_matmul(a: Any, w: Any, stages: Sequence[Stage], start: Any = None, bias: Any = None) -> Stepwise:
    """Return a @ w.T accumulated step by step through the registers.

    Args:
        a: (M, K) integers, e.g. the im2col of the activations; K in order of arrival.
        w: (N, K) integers, one row an output channel, K in the same order.
        stages: 1 to 4 registers; see `arithmetic.accumulate.check_stages`.
        start: (N,) bias preloaded into the last register, or None.
        bias: (N,) bias added into the last register after everything else, or None.

    Returns:
        Stepwise. Exactly what `arithmetic.accumulate.accumulate_telemetry` says for the products a[m, k] * w[n, k].

    Raises:
        IntsimError: shapes that do not match, non-integers, no or more than 4 stages, or products beyond int64.
    """
    stages = check_stages(stages)
    if not 1 <= len(stages) <= MAX_STAGES:
        raise IntsimError(f"stepwise_matmul takes 1..{MAX_STAGES} stages, got {len(stages)}")
    activation, weight = _integers(a, "activations"), _integers(w, "weights")
    if activation.ndim != 2 or weight.ndim != 2 or activation.shape[1] != weight.shape[1]:
        raise IntsimError(f"activations {activation.shape} and weights {weight.shape} must be (M, K) and (N, K)")
    channels = weight.shape[0]
    before, after = _per_channel(start, channels, "start"), _per_channel(bias, channels, "bias")
    largest_activation, largest_weight = _largest(activation), _largest(weight)
    product = largest_activation * largest_weight
    if product > INT64_MAX:
        raise IntsimError(f"products up to {product} do not fit int64")

    largest = max(product, _largest(before), _largest(after), max(largest_activation, largest_weight))
    if activation.size == 0:
        # Nothing to do fast: no pixels, or registers that see no product.
        empty = accumulate_telemetry(np.zeros((channels, 0), np.int64), stages, before, None if bias is None else after)
        pixels = activation.shape[0]
        out = np.broadcast_to(empty.result, (pixels, channels)).copy()
        return Stepwise(
            out, *(t * factor for t, factor in zip(empty[1:], (pixels, pixels > 0, pixels > 0), strict=True))
        )
    lane, narrow = _lane(stages, largest)
    limits = np.array([[stage.min, stage.max, stage.overflow == "saturate"] for stage in stages], np.int64)
    # "The rest" is a group that never fills before the last product does.
    sums = np.array([INT64_MAX if stage.sum is None else stage.sum for stage in stages], np.int64)
    out = np.zeros((channels, activation.shape[0]), np.int64)
    events, low, high = (np.zeros((channels, len(stages)), np.int64) for _ in range(3))
    _accumulate(
        _panel(activation, lane),
        np.array(weight, dtype=lane, order="C"),
        sums,
        limits,
        narrow,
        before.astype(lane),
        after.astype(lane),
        start is not None,
        bias is not None,
        out,
        events,
        low,
        high,
    )
    return Stepwise(out.T, events, low, high)


def _integers(x: Any, what: str) -> NDArray[Any]:
    """Check without converting: a panel of uint8 is read eight times faster than one of int64."""
    array = np.asarray(x)
    if array.dtype.kind not in "iu" or array.dtype == np.uint64:
        array = as_integers(array, what)
    if array.dtype == object:
        raise IntsimError(f"{what}: stepwise_matmul takes integer arrays, not object arrays")
    return array


def _per_channel(values: Any, channels: int, what: str) -> NDArray[np.int64]:
    array = np.zeros(channels, np.int64) if values is None else _integers(values, what)
    if array.shape != (channels,):
        raise IntsimError(f"{what} has shape {array.shape}; it must be ({channels},), one value a channel")
    return array


def _largest(array: NDArray[Any]) -> int:
    return max(abs(int(array.min())), abs(int(array.max()))) if array.size else 0


def _lane(stages: Sequence[Stage], largest: int) -> tuple[type, bool]:
    """Choose lanes wide enough for every true sum, a register plus one arriving value; False if none is."""
    # A value handed on is within the register it comes from.
    arriving = max(largest, *(-stage.min for stage in stages[:-1])) if len(stages) > 1 else largest
    reach = max(-stage.min for stage in stages) + arriving
    return (np.int32 if reach < 1 << 31 else np.int64), reach < 1 << 63


def _panel(activation: NDArray[Any], lane: type) -> NDArray[Any]:
    """(M, K) as (blocks, K, BLOCK): the pixels of a block side by side, the blocks apart to spare the cache."""
    pixels, depth = activation.shape
    panel = np.zeros((-(-pixels // BLOCK), depth, BLOCK), lane)
    full = pixels // BLOCK
    panel[:full] = activation[: full * BLOCK].reshape(full, BLOCK, depth).transpose(0, 2, 1)
    if full < len(panel):
        panel[full, :, : pixels - full * BLOCK] = activation[full * BLOCK :].T
    return panel


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with the on-disk cache, or without it where no cache directory can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


@_compiled
def _add(register, value, factor, limit, narrow):  # type: ignore[no-untyped-def]
    """One addition of factor * value into a block of registers; returns its events and extremes.

    Every sub-expression is cast back to the lane: Numba widens int32 arithmetic to int64, which halves the SIMD width.
    """
    lane = register.dtype.type
    low, high = lane(limit[0]), lane(limit[1])
    mask = lane(high - low)
    events = lane(0)  # at most 2 * BLOCK
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


@_compiled
def _accumulate(panel, weight, sums, limits, narrow, start, bias, preload, late, out, events, low, high):  # type: ignore[no-untyped-def]
    """All channels of all blocks of pixels; panel (blocks, K, BLOCK) with K >= 1, weight (N, K), out (N, M)."""
    depth, pixels = panel.shape[1], out.shape[1]
    last = sums.size - 1
    one = panel.dtype.type(1)
    registers = np.zeros((sums.size, BLOCK), panel.dtype)
    constant = np.zeros(BLOCK, panel.dtype)
    arrived = np.zeros(sums.size, np.int64)
    for block in range(panel.shape[0]):
        size = min(BLOCK, pixels - block * BLOCK)
        for channel in range(weight.shape[0]):
            registers[:] = 0
            arrived[:] = 0
            # Arrival -1 is the preloaded bias, arrival `depth` the late one; one call of _add serves all, because it
            # is most of the compile time.
            for k in range(-1 if preload else 0, depth + 1 if late else depth):
                stage, factor, source = 0, one, constant[:size]
                if k < 0 or k == depth:
                    stage = last
                    constant[:] = start[channel] if k < 0 else bias[channel]
                else:
                    factor, source = weight[channel, k], panel[block, k, :size]
                while True:
                    count, least, most = _add(registers[stage, :size], source, factor, limits[stage], narrow)
                    events[channel, stage] += count
                    low[channel, stage] = min(low[channel, stage], np.int64(least))
                    high[channel, stage] = max(high[channel, stage], np.int64(most))
                    if stage > 0 and k >= 0 and k < depth:
                        registers[stage - 1, :size] = 0  # it has handed on its value
                        arrived[stage - 1] = 0
                    arrived[stage] += 1
                    # Full groups hand on their value; after the last product all do.
                    if stage == last or (arrived[stage] < sums[stage] and k < depth - 1):
                        break
                    factor, source = one, registers[stage, :size]
                    stage += 1
            out[channel, block * BLOCK : block * BLOCK + size] = registers[last, :size]
