"""The fast accumulator of packed multipliers: a matrix product whose first sums share one wide register.

The same numbers as `arithmetic.packing.accumulate_packed`, which is the definition. A wide register that is added up
modulo a power of two depends on the sums in its fields alone, so the kernel adds up each field by itself, as true sums,
puts a group's sums together at its end, and reads them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.packing import Packing, check_group_sums, check_packing
from intsim.arithmetic.schedule import Schedule, schedule
from intsim.engine.registers import packed_kernels
from intsim.engine.registers.plan import Stepwise, checked_operands, largest_magnitude, without_products

BLOCK = 512  # pixels; a few registers and one row of activations of a block stay in 32 KiB


def packed_matmul(
    a: Any, w: Any, stages: Sequence[Stage], packing: Packing, start: Any = None, bias: Any = None
) -> Stepwise:
    """Return a @ w.T, `len(packing.channels)` rows of w and `len(packing.pixels)` rows of a to a multiplication.

    Rows 0.. of w are the first set, the next ones the second; so are rows of a. The last set may be incomplete: what is
    not there is 0, and is neither counted nor returned.

    Args:
        a: (M, K) integers, e.g. the im2col of the activations; K in order of arrival.
        w: (N, K) integers, one row an output channel, K in the same order.
        stages: see `arithmetic.packing.check_packing`.
        packing: where the fields are, and how they are read.
        start: (N,) bias preloaded into the last register, or None.
        bias: (N,) bias added into the last register after everything else, or None.

    Returns:
        Stepwise. Exactly what `arithmetic.packing.accumulate_packed` says for the products a[m, k] * w[n, k].

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
    panels = np.stack([_blocks_of_pixels(part, lane) for part in _sets(activation, len(packing.pixels))])
    weights = np.ascontiguousarray(_sets(weight.astype(lane), len(packing.channels)))
    offsets = np.array([[c + p for p in packing.pixels] for c in packing.channels], np.int64)
    out = np.zeros((channels, len(packing.pixels), -(-pixels // len(packing.pixels))), np.int64)
    telemetry = _no_telemetry(channels, stages)
    packed_kernels.accumulate_packed(
        panels,
        weights,
        _steps(schedule(depth, stages)),
        inside,
        narrow,
        (offsets, stages[0].bits, packing.correction == "borrow"),
        constants.astype(lane),
        given,
        pixels,
        out,
        *telemetry,
    )
    return Stepwise(out.transpose(2, 1, 0).reshape(-1, channels)[:pixels], *telemetry)


def _sets(rows: NDArray[Any], together: int) -> NDArray[Any]:
    """(M, K) as (together, sets, K), the last set filled with zeros."""
    count = -(-rows.shape[0] // together)
    out = np.zeros((count * together, rows.shape[1]), rows.dtype)
    out[: rows.shape[0]] = rows
    return out.reshape(count, together, rows.shape[1]).transpose(1, 0, 2)


def _no_telemetry(channels: int, stages: Sequence[Stage]) -> tuple[NDArray[np.int64], ...]:
    """Events, low and high before the first addition."""
    return tuple(np.zeros((channels, len(stages)), np.int64) for _ in range(3))


def _steps(plan: Schedule) -> tuple[NDArray[np.int32], ...]:
    """Stage, register and source of every addition, as kernels take them."""
    return plan.stage, plan.register, plan.source


def _limits(stages: Sequence[Stage]) -> NDArray[np.int64]:
    """(stages, 3): ends of the register, and whether it saturates."""
    return np.array([[stage.min, stage.max, stage.overflow == "saturate"] for stage in stages], np.int64)


def _choose_lane(stages: Sequence[Stage], largest: int) -> tuple[type, bool]:
    """Choose lanes wide enough for every true sum, a register plus one arriving value; False if none is."""
    # A value handed on is within the register it comes from.
    arriving = max(largest, *(-stage.min for stage in stages[:-1])) if len(stages) > 1 else largest
    reach = max(-stage.min for stage in stages) + arriving
    return (np.int32 if reach < 1 << 31 else np.int64), reach < 1 << 63


def _blocks_of_pixels(activation: NDArray[Any], lane: type) -> NDArray[Any]:
    """(M, K) as (blocks, K, BLOCK): the pixels of a block side by side, the blocks apart to spare the cache."""
    pixels, depth = activation.shape
    panel = np.zeros((-(-pixels // BLOCK), depth, BLOCK), lane)
    full = pixels // BLOCK
    panel[:full] = activation[: full * BLOCK].reshape(full, BLOCK, depth).transpose(0, 2, 1)
    if full < len(panel):
        panel[full, :, : pixels - full * BLOCK] = activation[full * BLOCK :].T
    return panel
