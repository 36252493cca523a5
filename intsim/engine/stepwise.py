"""The fast stepwise accumulator: a matrix product through the registers of a target, with overflow counts.

The same numbers as `arithmetic.accumulate`, which is the definition, for one million times more products. Output pixels
are the inner loop, so every step of a register is a handful of SIMD instructions on a block of pixels that stays in the
first-level cache; the steps of `arithmetic.schedule` are the outer loop and never change their order.

Registers live in int64 lanes, or in int32 lanes when no true sum can leave int32. Registers of 63 and 64 bits, whose
sums can leave int64, take a third path that reads the overflow from the signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry, check_stages
from intsim.arithmetic.integers import as_integers
from intsim.arithmetic.schedule import Schedule, schedule
from intsim.engine import kernels
from intsim.errors import IntsimError

BLOCK = 512  # pixels; a few registers and one row of activations of a block stay in 32 KiB
INT64_MAX = (1 << 63) - 1


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
        stages: 1 or more; see `arithmetic.accumulate.check_stages`.
        start: (N,) bias preloaded into the last register, or None.
        bias: (N,) bias added into the last register after everything else, or None.

    Returns:
        Stepwise. Exactly what `arithmetic.accumulate.accumulate_telemetry` says for the products a[m, k] * w[n, k].

    Raises:
        IntsimError: shapes that do not match, non-integers, no stages, or products beyond int64.
    """
    stages = check_stages(stages)
    if not stages:
        raise IntsimError("stepwise_matmul takes one stage or more, got none")
    activation, weight, constants, largest = checked_operands(a, w, start, bias)
    given = (start is not None, bias is not None)
    if activation.size == 0:
        return without_products(activation.shape[0], constants, given, stages)
    lane, narrow = choose_lane(stages, largest)
    plan = schedule(activation.shape[1], stages)
    out, telemetry = np.zeros((weight.shape[0], activation.shape[0]), np.int64), no_telemetry(weight.shape[0], stages)
    kernels.accumulate(
        blocks_of_pixels(activation, lane),
        np.array(weight, dtype=lane, order="C"),
        steps(plan),
        limits(stages),
        narrow,
        constants.astype(lane),
        given,
        out,
        *telemetry,
    )
    return Stepwise(out.T, *telemetry)


def checked_operands(
    a: Any, w: Any, start: Any, bias: Any
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64], int]:
    """Activations (M, K), weights (N, K), constants (2, N) and the largest magnitude a register adds; or IntsimError.

    Operands keep their dtype: a panel of uint8 is read eight times faster than one of int64.
    """
    activation, weight = _integers(a, "activations"), _integers(w, "weights")
    if activation.ndim != 2 or weight.ndim != 2 or activation.shape[1] != weight.shape[1]:
        raise IntsimError(f"activations {activation.shape} and weights {weight.shape} must be (M, K) and (N, K)")
    channels = weight.shape[0]
    constants = np.stack([_per_channel(start, channels, "start"), _per_channel(bias, channels, "bias")])
    largest_activation, largest_weight = largest_magnitude(activation), largest_magnitude(weight)
    product = largest_activation * largest_weight
    if product > INT64_MAX:
        raise IntsimError(f"products up to {product} do not fit int64")
    # operands count: they are cast to the lane as well
    return activation, weight, constants, max(product, largest_magnitude(constants), largest_activation, largest_weight)


def without_products(
    pixels: int, constants: NDArray[np.int64], given: tuple[bool, bool], stages: Sequence[Stage]
) -> Stepwise:
    """No pixels, or registers that see no product: nothing to do fast."""
    nothing = np.zeros((constants.shape[1], 0), np.int64)
    empty = accumulate_telemetry(nothing, stages, constants[0], constants[1] if given[1] else None)
    out = np.broadcast_to(empty.result, (pixels, constants.shape[1])).copy()
    factors = (pixels, pixels > 0, pixels > 0)
    return Stepwise(out, *(t * factor for t, factor in zip(empty[1:], factors, strict=True)))


def no_telemetry(channels: int, stages: Sequence[Stage]) -> tuple[NDArray[np.int64], ...]:
    """Events, low and high before the first addition."""
    return tuple(np.zeros((channels, len(stages)), np.int64) for _ in range(3))


def steps(plan: Schedule) -> tuple[NDArray[np.int32], ...]:
    """Stage, register and source of every addition, as kernels take them."""
    return plan.stage, plan.register, plan.source


def limits(stages: Sequence[Stage]) -> NDArray[np.int64]:
    """(stages, 3): ends of the register, and whether it saturates."""
    return np.array([[stage.min, stage.max, stage.overflow == "saturate"] for stage in stages], np.int64)


def _integers(x: Any, what: str) -> NDArray[Any]:
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


def largest_magnitude(array: NDArray[Any]) -> int:
    """Of no elements 0."""
    return max(abs(int(array.min())), abs(int(array.max()))) if array.size else 0


def choose_lane(stages: Sequence[Stage], largest: int) -> tuple[type, bool]:
    """Choose lanes wide enough for every true sum, a register plus one arriving value; False if none is."""
    # A value handed on is within the register it comes from.
    arriving = max(largest, *(-stage.min for stage in stages[:-1])) if len(stages) > 1 else largest
    reach = max(-stage.min for stage in stages) + arriving
    return (np.int32 if reach < 1 << 31 else np.int64), reach < 1 << 63


def blocks_of_pixels(activation: NDArray[Any], lane: type) -> NDArray[Any]:
    """(M, K) as (blocks, K, BLOCK): the pixels of a block side by side, the blocks apart to spare the cache."""
    pixels, depth = activation.shape
    panel = np.zeros((-(-pixels // BLOCK), depth, BLOCK), lane)
    full = pixels // BLOCK
    panel[:full] = activation[: full * BLOCK].reshape(full, BLOCK, depth).transpose(0, 2, 1)
    if full < len(panel):
        panel[full, :, : pixels - full * BLOCK] = activation[full * BLOCK :].T
    return panel
