"""The fast stepwise accumulator: products through the registers of a target, one after another, with overflow counts.

The same numbers as `arithmetic.accumulate`, which is the definition, for a hundred million times more products. Output
positions lie side by side in vector registers, and so do the target's registers of these positions: a product is a
handful of instructions in the narrowest lane that is exact (`widths`), without anything written to memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Accumulation, Stage, accumulate_telemetry, check_stages
from intsim.arithmetic.integers import as_integers
from intsim.engine.registers.kernel import accumulate_lanes
from intsim.engine.registers.operands import folded, packed, padded, registered, terms, within
from intsim.engine.registers.vectors import Mode
from intsim.engine.registers.widths import Lanes, choose_lanes, constants, holds
from intsim.errors import IntsimError

INT64_MAX = (1 << 63) - 1
SLACK = 2048
"""Elements that may be read past the last activation used."""
Grid = tuple[int, int, int]


class Stepwise(NamedTuple):
    """Result and telemetry of `stepwise_matmul`, telemetry summed up over the M rows."""

    out: NDArray[np.int64]  # (M, N) value of the last register
    events: NDArray[np.int64]  # (N, stages) additions whose true sum left the register
    low: NDArray[np.int64]  # (N, stages) smallest true sum, never above 0; saturated to int64
    high: NDArray[np.int64]  # (N, stages) largest true sum, never below 0; saturated to int64


@dataclass(frozen=True)
class StepwisePlan:
    """Channels of weights made ready for `run`: operands and registers are known, activations are not.

    Made by `stepwise_plan`. It holds no buffers: any number of threads may run it at once.
    """

    stages: tuple[Stage, ...]
    lanes: Lanes
    channels: int
    block: int
    bases: NDArray[np.int64]
    offsets: NDArray[np.int64]
    weights: NDArray[Any]
    lives: NDArray[np.int64]
    ends: NDArray[np.int64]
    constants: NDArray[np.int64]
    first: NDArray[np.int64]
    preloaded: Accumulation | None
    late: NDArray[np.int64]
    added_after: NDArray[np.int64] | None
    flags: tuple[bool, bool, bool, bool]  # first, late by position; late is added; events by position

    @property
    def dtype(self) -> type:
        """Of the result: int32 if the last register fits it, else int64."""
        return np.int32 if self.stages[-1].bits <= 32 else np.int64

    def run(
        self,
        data: NDArray[Any],
        grid: Grid,
        out: NDArray[Any] | None = None,
        column: int = 0,
        blocks: slice = slice(None),
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Accumulate at the positions of a grid; see `stepwise_planes`.

        Args:
            data: as `stepwise_planes` takes it.
            grid: rows, width and pitch; a part of a larger grid begins at a later element of `data`.
            out: (N, columns) of `dtype`, C-contiguous: written from `column` on; or None.
            column: see out.
            blocks: which blocks of `block` channels; the other channels are left alone.

        Returns:
            out, and events (N, stages) of these positions and channels alone.
        """
        rows, width, _ = grid
        if out is None:
            out = np.zeros((self.channels, column + rows * width), self.dtype)
        found = self._run(data, grid, out, column, blocks)
        return out, found[0]

    def _run(self, data: NDArray[Any], grid: Grid, out: NDArray[Any], column: int, blocks: slice) -> NDArray[np.int64]:
        """Events and extremes, (1 or 3, N or positions, stages)."""
        lanes, (rows, width, pitch) = self.lanes, grid
        shape = lanes.shape(self.block == 1)
        tile = len(shape[0]) * len(shape[2])
        kinds, registers = (3 if lanes.mode == "extremes" else 1), len(lanes.registers)
        by_position = self.flags[3]
        wide = np.int64 if lanes.out_bits == 64 else np.int32
        cells = self.block * tile
        scratch: tuple[NDArray[Any], ...] = (
            np.empty(cells, self.dtype),
            np.empty((1 + (registers - 1) * (1 + kinds)) * cells, wide),
        )
        begin, end, _ = blocks.indices(self.bases.size)
        found = np.zeros(
            (kinds, registers, rows * width + tile if by_position else self.bases.size * self.block), np.int64
        )
        valid = np.zeros(rows * pitch + tile, bool)
        valid[: rows * pitch].reshape(rows, pitch)[:, :width] = True
        if end > begin:
            settled = np.zeros(self.bases.size, bool)
            accumulate_lanes(
                data, self.bases, self.offsets, self.weights, self.lives, self.ends, self.constants, self.first,
                self.late, self.flags, (rows, width, pitch, column, begin, end), valid, scratch, shape,
                self._watched(), settled, out, found,
            )  # fmt: skip
        places = rows * width if by_position else self.channels
        events = np.zeros((kinds, places, len(self.stages)), np.int64)
        for r, register in enumerate(lanes.registers):
            events[..., register.stage] = found[:, r, :places]
        channels = slice(begin * self.block, end * self.block)
        rows_of_weights = min(channels.stop, self.channels) - channels.start
        self._preload(events, rows_of_weights if by_position else rows * width, channels)
        if self.added_after is not None:
            self._add_after(out[:, column : column + rows * width], events, channels)
        if lanes.mode == "touched":
            events = np.minimum(events, 1)
        return events

    def _watched(self) -> NDArray[np.int64]:
        """Registers in which there may be events, where it is enough to see one; else none."""
        lanes = self.lanes
        if lanes.mode != "touched" or lanes.tail == "chain" or self.flags[3]:
            return np.zeros(0, np.int64)
        last = len(lanes.registers) - 1
        late = self.flags[2]
        return np.array([i for i, r in enumerate(lanes.registers) if r.bound is None or (late and i == last)], np.int64)

    def _preload(self, found: NDArray[np.int64], times: int, channels: slice) -> None:
        if self.preloaded is None:
            return
        where = slice(None) if self.flags[3] else channels
        found[0, where, -1] += self.preloaded.events[where, 0] * times
        if len(found) == 3:
            found[1, where, -1] = np.minimum(found[1, where, -1], self.preloaded.low[where, 0])
            found[2, where, -1] = np.maximum(found[2, where, -1], self.preloaded.high[where, 0])

    def _add_after(self, out: NDArray[Any], found: NDArray[np.int64], channels: slice) -> None:
        """A late term that the lanes can't hold."""
        assert self.added_after is not None
        late = self.added_after[None, :] if self.flags[3] else self.added_after[channels, None]
        values = out if self.flags[3] else out[channels]
        both = np.stack(np.broadcast_arrays(values.astype(np.int64), late), axis=-1)
        added = accumulate_telemetry(both, self.stages[-1:])
        values[...] = added.result
        axis, where = (0, slice(None)) if self.flags[3] else (1, channels)
        found[0, where, -1] += added.events[..., 0].sum(axis=axis)
        if len(found) == 3:
            found[1, where, -1] = np.minimum(found[1, where, -1], added.low[..., 0].min(axis=axis, initial=0))
            found[2, where, -1] = np.maximum(found[2, where, -1], added.high[..., 0].max(axis=axis, initial=0))


def stepwise_plan(
    offsets: NDArray[np.int64],
    weights: NDArray[Any],
    stages: Sequence[Stage],
    span: tuple[int, int],
    start: Any = None,
    late: Any = None,
    mode: Mode = "counted",
    bases: NDArray[np.int64] | None = None,
    by_position: bool = False,
) -> StepwisePlan:
    """Make channels of weights ready to be accumulated.

    Args:
        offsets: (K,) K at least 1; product k at position p reads data[offsets[k] + p].
        weights: (N, K) integers, in order of arrival.
        stages: one or more, see `check_stages`.
        span: least and largest activation. Elements read at positions that aren't returned may be anything.
        start: (N,) preloaded into the last register, or None.
        late: (N,) added into the last register after everything else, or None.
        mode: "counted", or "touched": 1 for any number of events but 0.
        bases: (N,) to be added to the offsets of each channel, or None for 0.
        by_position: start, late and events belong to positions instead of channels: (positions,); grids of one row.

    Raises:
        IntsimError: impossible stages, or products beyond int64.
    """
    stages = check_stages(stages)
    first = within(start, stages[-1])
    lanes = choose_lanes(stages, weights, span, 0 if first is None else largest_magnitude(first.result), mode)
    channels, kept = weights.shape[0], bases if bases is not None else np.zeros(weights.shape[0], np.int64)
    block = len(lanes.shape(False)[1])
    single = channels <= block // 2 or not all(np.ptp(kept[n : n + block]) == 0 for n in range(0, channels, block))
    block = 1 if single else block
    places, lives = padded(lanes)
    tile = len(lanes.shape(single)[0]) * len(lanes.shape(single)[2])
    after = late if mode == "extremes" else folded(late, stages[-1])  # folding changes the extremes
    held = after is not None and holds(lanes, stages, largest_magnitude(after))
    values = np.zeros(channels, np.int64) if first is None else first.result
    return StepwisePlan(
        stages,
        lanes,
        channels,
        block,
        np.ascontiguousarray(kept[::block], np.int64),
        np.where(places < 0, offsets[0], offsets[places]),
        packed(weights, places, lanes, block),
        lives,
        lanes.groups.ends(),
        constants(lanes, stages),
        terms(registered(values, lanes, stages), channels, block, tile, by_position),
        first,
        terms(after if held else None, channels, block, tile, by_position),
        None if held or late is None else np.asarray(late, np.int64),
        (by_position and start is not None, by_position and held, held, by_position),
    )


def stepwise_planes(
    data: NDArray[Any],
    offsets: NDArray[np.int64],
    weights: NDArray[Any],
    grid: Grid,
    stages: Sequence[Stage],
    start: Any = None,
    late: Any = None,
    counts: bool = True,
    out: NDArray[Any] | None = None,
    span: tuple[int, int] | None = None,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Accumulate shifted planes of activations step by step: a convolution without copies of its input.

    Product k of output position p reads data[offsets[k] + p]. Position (r, c) of the grid is r * pitch + c.

    Args:
        data: 1-D contiguous uint8, int8, int16, int32 or int64; up to `SLACK` elements past the last one used are read.
        offsets: (K,) int64, in order of arrival.
        weights: (N, K) integers.
        grid: rows, width, pitch; pitch at least width. What lies between rows is neither returned nor counted.
        stages: one or more, see `check_stages`.
        start: (N,) preloaded into the last register, or None.
        late: (N,) added into the last register after everything else, or None.
        counts: whether events are counted, or only told apart from none.
        out: (N, rows * width) of int32 if the last register fits, else int64, C-contiguous, or None.
        span: least and largest activation if known; else the data is searched where its type says little.

    Returns:
        out, and events (N, stages): additions whose true sum left the register; without counts 1 for any but none.

    Raises:
        IntsimError: impossible stages, or products beyond int64.
    """
    if span is None:
        narrow = data.dtype.itemsize == 1 or data.size == 0
        info = np.iinfo(data.dtype)
        span = (info.min, info.max) if narrow else (int(data.min()), int(data.max()))
    plan = stepwise_plan(offsets, weights, stages, span, start, late, "counted" if counts else "touched")
    return plan.run(data, grid, out)


def stepwise_matmul(
    a: Any, w: Any, stages: Sequence[Stage], start: Any = None, bias: Any = None, mode: Mode = "extremes"
) -> Stepwise:
    """Return a @ w.T accumulated step by step through the registers.

    Args:
        a: (M, K) integers, e.g. the im2col of the activations; K in order of arrival.
        w: (N, K) integers, one row an output channel, K in the same order.
        stages: 1 or more; see `arithmetic.accumulate.check_stages`.
        start: (N,) bias preloaded into the last register, or None.
        bias: (N,) bias added into the last register after everything else, or None.
        mode: "extremes"; or "counted", which is several times as fast: low and high are 0; or "touched": events are 1
            where there is any.

    Returns:
        Stepwise. Exactly what `arithmetic.accumulate.accumulate_telemetry` says for the products a[m, k] * w[n, k].

    Raises:
        IntsimError: shapes that do not match, non-integers, no stages, or products beyond int64.
    """
    stages = check_stages(stages)
    if not stages:
        raise IntsimError("stepwise_matmul takes one stage or more, got none")
    activation, weight, added, _ = checked_operands(a, w, start, bias)
    given = (start is not None, bias is not None)
    if activation.size == 0 or weight.shape[0] == 0:
        found = without_products(activation.shape[0], added, given, stages)
        return found if mode != "touched" else found._replace(events=np.minimum(found.events, 1))
    first, late = (term if there else None for term, there in zip(added, given, strict=True))
    turned = activation.shape[0] < weight.shape[0]  # few positions: channels take their place in the lanes
    fixed, moving = (activation, weight) if turned else (weight, activation)
    data, pitch = _planes(moving, mode)
    span = (int(moving.min()), int(moving.max()))
    offsets = np.arange(fixed.shape[1], dtype=np.int64) * pitch
    plan = stepwise_plan(offsets, fixed, stages, span, first, late, mode, by_position=turned)
    out: NDArray[Any] = np.zeros((fixed.shape[0], moving.shape[0]), plan.dtype)
    told = plan._run(data, (1, moving.shape[0], moving.shape[0]), out, 0, slice(None))
    low, high = told[1:] if mode == "extremes" else (np.zeros_like(told[0]), np.zeros_like(told[0]))
    return Stepwise((out if turned else out.T).astype(np.int64), told[0], low, high)


def _planes(rows: NDArray[Any], mode: Mode) -> tuple[NDArray[Any], int]:
    """(M, K) as K planes of M elements each, in the narrowest type, and how far apart they are."""
    least, most = int(rows.min()), int(rows.max())
    kinds = (np.int64,) if mode == "extremes" else (np.uint8, np.int8, np.int16, np.int32, np.int64)
    kind = next(k for k in kinds if np.iinfo(k).min <= least and most <= np.iinfo(k).max)
    pitch = -(-rows.shape[0] // 64) * 64
    data = np.zeros(rows.shape[1] * pitch + SLACK, kind)
    data[: rows.shape[1] * pitch].reshape(rows.shape[1], pitch)[:, : rows.shape[0]] = rows.T
    return data, pitch


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
