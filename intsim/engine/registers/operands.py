"""Weights, preloaded and late terms as the compiled loops of `kernel` take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Accumulation, Stage, accumulate_telemetry
from intsim.engine.registers.widths import Lanes


def padded(lanes: Lanes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Products by place, -1 for none, each group filled up to a multiple of `unroll`; and where groups begin."""
    sizes, order = lanes.groups.sizes[0], lanes.groups.order
    rounds = -(-sizes // lanes.unroll)
    lives = np.concatenate([[0], np.cumsum(rounds)])
    places = np.full(int(lives[-1]) * lanes.unroll, -1, np.int64)
    begins = np.repeat(lives[:-1] * lanes.unroll - (np.cumsum(sizes) - sizes), sizes)
    places[begins + np.arange(order.size)] = order
    return places, lives


def packed(weights: NDArray[Any], places: NDArray[np.int64], lanes: Lanes, block: int) -> NDArray[Any]:
    """(blocks, places, block) as the kernel reads them."""
    blocks = -(-weights.shape[0] // block)
    full = np.zeros((blocks * block, places.size), np.int64)
    full[: weights.shape[0]] = np.where(places < 0, 0, weights[:, places])
    if lanes.bits == 16:
        full = ((full << lanes.shift) & 0xFFFF) * 0x10001
    elif lanes.bits == 32 and lanes.narrow:
        full &= 0xFFFF
    packed = full.reshape(blocks, block, places.size).transpose(0, 2, 1)
    return np.ascontiguousarray(packed if lanes.bits == 64 else packed.astype(np.uint32).view(np.int32))


def within(start: Any, stage: Stage) -> Accumulation | None:
    """What is preloaded after the register's rule, with its events; or None."""
    if start is None:
        return None
    return accumulate_telemetry(np.asarray(start, np.int64)[:, None], [stage])


def registered(values: NDArray[np.int64], lanes: Lanes, stages: Sequence[Stage]) -> NDArray[np.int64]:
    """Preloaded values as the first register holds them, if it is the last one too."""
    if lanes.tail == "none" and lanes.kind == "wrap":
        return values + (1 << (stages[-1].bits - 1))
    return values << lanes.shift if lanes.tail == "none" else values


def folded(late: Any, stage: Stage) -> NDArray[np.int64] | None:
    """Terms with the same effect on the register, as small as can be: twice the register's range always leaves it."""
    if late is None:
        return None
    values = np.asarray(late, np.int64)
    if stage.bits > 60:
        return values
    far = 1 << stage.bits
    if stage.overflow == "saturate":
        return np.clip(values, -far, far)
    past = np.where(values < 0, -far, far) + np.fmod(values, far)
    return np.where((values >= far) | (values <= -far), past, values)


def terms(
    values: NDArray[np.int64] | None, channels: int, block: int, tile: int, by_position: bool
) -> NDArray[np.int64]:
    """First or late terms, with room for whole blocks of channels or tiles of positions."""
    if values is None:
        return np.zeros(max(block * (channels + 1), tile), np.int64)
    return np.concatenate([values, np.zeros(tile if by_position else block, np.int64)])
