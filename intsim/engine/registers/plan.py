"""Channels of weights made ready for their registers: products one after another, with overflow counts.

The same numbers as `arithmetic.accumulate`, which is the definition, for a hundred million times more products. Output
positions lie side by side in vector registers, and so do the target's registers of these positions: a product is a
handful of instructions in the narrowest lane that is exact (`lanes`), without anything written to memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Accumulation, Stage, accumulate_telemetry, check_stages
from intsim.engine.registers.kernel import Events, Flags, Grid, Layer, Scratch, Shape, accumulate
from intsim.engine.registers.lanes import Lanes, Register, choose_lanes, holds, limits
from intsim.engine.registers.vectors import Mode

SLACK = 2048
"""Elements that may be read past the last activation used."""


@dataclass(frozen=True)
class RegisterPlan:
    """Channels of weights made ready for `run`: operands and registers are known, activations are not.

    Made by `register_plan`. It holds no buffers: any number of threads may run it at once.
    """

    stages: tuple[Stage, ...]
    registers: tuple[Register, ...]
    shape: Shape
    channels: int
    layer: Layer
    flags: Flags
    preloaded: Accumulation | None
    added_after: NDArray[np.int64] | None
    lanes: Lanes
    taken: NDArray[np.int64]

    def of(self, weights: NDArray[Any]) -> RegisterPlan:
        """The same plan with other weights (N, K), which must be among those that its lanes were chosen for."""
        packed = _packed(weights, self.taken, self.lanes, self.shape.channels)
        return replace(self, layer=self.layer._replace(weights=packed))

    @property
    def dtype(self) -> type:
        """Of the result: int32 if the last register fits it, else int64."""
        return np.int32 if self.stages[-1].bits <= 32 else np.int64

    def run(
        self,
        data: NDArray[Any],
        area: tuple[int, int, int],
        out: NDArray[Any],
        column: int = 0,
        blocks: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """Accumulate shifted planes of activations: product k of position p reads data[offsets[k] + p].

        Args:
            data: 1-D contiguous uint8, int8, int16, int32 or int64; up to `SLACK` elements past the last one used are
                read.
            area: rows, width and pitch of the positions; position (r, c) is r * pitch + c. What lies between rows is
                neither written nor counted. A part of a larger area begins at a later element of `data`.
            out: (N, columns) of `dtype`, C-contiguous: written from `column` on.
            column: see out.
            blocks: numbers of blocks of `shape.channels` channels, None for all; the other channels are left alone.

        Returns:
            Telemetry of these positions and channels alone, (1 or 3, N or positions, stages): events, that is additions
            whose true sum left the register, or in mode "touched" 1 for any; in mode "extremes" the least and the
            greatest true sum too.
        """
        shape, (rows, width, pitch) = self.shape, area
        kinds, registers = (3 if shape.mode == "extremes" else 1), len(self.registers)
        by_position, count = self.flags.events_by_position, self.layer.bases.size
        blocks = np.arange(count) if blocks is None else blocks
        columns = rows * width + shape.tile if by_position else count * shape.channels
        seen = np.zeros((kinds, registers, columns), np.int64)
        if blocks.size:
            cells = shape.channels * shape.tile
            wide = np.int64 if shape.out_bits == 64 else np.int32
            valid = np.zeros(rows * pitch + shape.tile, bool)
            valid[: rows * pitch].reshape(rows, pitch)[:, :width] = True
            memory = np.empty((1 + (registers - 1) * (1 + kinds)) * cells, wide)
            accumulate(
                data,
                self.layer,
                self.flags,
                Grid(rows, width, pitch, column, blocks),
                Scratch(valid, np.empty(cells, self.dtype), memory),
                Events(self._watched(), np.zeros(count, bool), seen),
                out,
                shape,
            )
        entries = rows * width if by_position else self.channels
        events = np.zeros((kinds, entries, len(self.stages)), np.int64)
        for r, register in enumerate(self.registers):
            events[..., register.stage] = seen[:, r, :entries]
        if self.preloaded is None and self.added_after is None:
            return np.minimum(events, 1) if shape.mode == "touched" else events
        channels = self._channels_of(blocks)
        own = slice(None) if by_position else channels  # whose the events are
        last = events[:, own, -1]
        if self.preloaded is not None:
            times = len(channels) if by_position else rows * width
            first = self.preloaded
            _add(last, first.events[own, 0] * times, first.low[own, 0], first.high[own, 0])
        if self.added_after is not None:
            self._add_after(out, slice(column, column + rows * width), last, channels)
        events[:, own, -1] = last
        return np.minimum(events, 1) if shape.mode == "touched" else events

    def _channels_of(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The channels of some blocks, in their order."""
        channels = (blocks[:, None] * self.shape.channels + np.arange(self.shape.channels)).reshape(-1)
        return channels[channels < self.channels]

    def _watched(self) -> NDArray[np.int64]:
        """Registers in which there may be events, where it is enough to see one; else none."""
        shape, registers = self.shape, self.registers
        if shape.mode != "touched" or shape.tail == "chain" or self.flags.events_by_position:
            return np.zeros(0, np.int64)
        late = registers[-1] if self.flags.late else None
        return np.array([i for i, r in enumerate(registers) if r.bound is None or r is late], np.int64)

    def _add_after(
        self, out: NDArray[Any], columns: slice, events: NDArray[np.int64], channels: NDArray[np.int64]
    ) -> None:
        """A late term that the lanes can't hold; `events` are those of the channels, or of the positions."""
        assert self.added_after is not None
        by_position = self.flags.events_by_position
        late = self.added_after[None, :] if by_position else self.added_after[channels, None]
        values = out[channels, columns]
        both = np.stack(np.broadcast_arrays(values.astype(np.int64), late), axis=-1)
        added = accumulate_telemetry(both, self.stages[-1:])
        out[channels, columns] = added.result
        axis = 0 if by_position else 1
        low, high = added.low[..., 0].min(axis=axis, initial=0), added.high[..., 0].max(axis=axis, initial=0)
        _add(events, added.events[..., 0].sum(axis=axis), low, high)


def _add(seen: NDArray[np.int64], events: Any, low: Any, high: Any) -> None:
    """More events of a register, and in mode "extremes" its sums, to those seen: (1 or 3, N or positions)."""
    seen[0] += events
    if len(seen) == 3:
        seen[1], seen[2] = np.minimum(seen[1], low), np.maximum(seen[2], high)


def register_plan(
    offsets: NDArray[np.int64],
    weights: NDArray[Any],
    stages: Sequence[Stage],
    span: tuple[int, int],
    start: Any = None,
    late: Any = None,
    mode: Mode = "counted",
    bases: NDArray[np.int64] | None = None,
    by_position: bool = False,
    among: NDArray[Any] | None = None,
) -> RegisterPlan:
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
        among: (R, K) in whose range, product by product, all weights lie that lanes are to be exact for; None for
            `weights` alone. `RegisterPlan.of` takes others then.

    Raises:
        IntsimError: impossible stages, or products beyond int64.
    """
    stages = check_stages(stages)
    first = _after_its_rule(start, stages[-1])
    chosen_for = weights if among is None else among
    lanes = choose_lanes(stages, chosen_for, span, 0 if first is None else largest_magnitude(first.result), mode)
    channels, begins = weights.shape[0], bases if bases is not None else np.zeros(weights.shape[0], np.int64)
    shape = lanes.shape
    block = shape.channels
    if channels <= block // 2 or not all(np.ptp(begins[n : n + block]) == 0 for n in range(0, channels, block)):
        shape = replace(shape, channels=1, vectors=4)
    block, tile = shape.channels, shape.tile
    taken, lives = _taken(lanes)
    after = late if mode == "extremes" else _folded(late, stages[-1])  # folding changes the extremes
    held = after is not None and holds(lanes, stages, largest_magnitude(after))
    preloaded = np.zeros(channels, np.int64) if first is None else first.result
    layer = Layer(
        np.ascontiguousarray(begins[::block], np.int64),
        np.where(taken < 0, offsets[0], offsets[taken]),
        _packed(weights, taken, lanes, block),
        lives,
        lanes.groups.ends(),
        limits(lanes, stages),
        _terms(_in_first_register(preloaded, lanes, stages), channels, block, tile, by_position),
        _terms(after if held else None, channels, block, tile, by_position),
    )
    flags = Flags(by_position and start is not None, by_position and held, held, by_position)
    added_after = None if held or late is None else np.asarray(late, np.int64)
    return RegisterPlan(stages, lanes.registers, shape, channels, layer, flags, first, added_after, lanes, taken)


def _taken(lanes: Lanes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Products as they are taken, -1 for none, groups filled up to a multiple of `unroll`; and where groups begin."""
    sizes, order = lanes.groups.sizes[0], lanes.groups.order
    rounds = -(-sizes // lanes.shape.unroll)
    lives = np.concatenate([[0], np.cumsum(rounds)])
    taken = np.full(int(lives[-1]) * lanes.shape.unroll, -1, np.int64)
    begins = np.repeat(lives[:-1] * lanes.shape.unroll - (np.cumsum(sizes) - sizes), sizes)
    taken[begins + np.arange(order.size)] = order
    return taken, lives


def _packed(weights: NDArray[Any], taken: NDArray[np.int64], lanes: Lanes, block: int) -> NDArray[Any]:
    """(blocks, products taken, block) as the kernel reads them."""
    blocks, bits = -(-weights.shape[0] // block), lanes.shape.bits
    carrier = np.int64 if bits == 64 else np.int32
    full = np.zeros((blocks * block, taken.size), carrier)
    full[: weights.shape[0]] = np.where(taken < 0, carrier(0), weights.astype(carrier, copy=False)[:, taken])
    if bits == 16:
        full = ((full << lanes.shift) & 0xFFFF).view(np.uint32)
        full |= full << 16
    elif bits == 32 and lanes.shape.narrow:
        full &= 0xFFFF
    packed = full.view(carrier).reshape(blocks, block, taken.size).transpose(0, 2, 1)
    return np.ascontiguousarray(packed)


def _after_its_rule(start: Any, stage: Stage) -> Accumulation | None:
    """What is preloaded after the register's rule, with its events; or None."""
    if start is None:
        return None
    return accumulate_telemetry(np.asarray(start, np.int64)[:, None], [stage])


def _in_first_register(values: NDArray[np.int64], lanes: Lanes, stages: Sequence[Stage]) -> NDArray[np.int64]:
    """Preloaded values as the first register holds them, if it is the last one too."""
    if lanes.shape.tail == "none" and lanes.shape.kind == "wrap":
        return values + (1 << (stages[-1].bits - 1))
    return values << lanes.shift if lanes.shape.tail == "none" else values


def _folded(late: Any, stage: Stage) -> NDArray[np.int64] | None:
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


def _terms(
    values: NDArray[np.int64] | None, channels: int, block: int, tile: int, by_position: bool
) -> NDArray[np.int64]:
    """First or late terms, with room for whole blocks of channels or tiles of positions."""
    if values is None:
        return np.zeros(max(block * (channels + 1), tile), np.int64)
    return np.concatenate([values, np.zeros(tile if by_position else block, np.int64)])


def largest_magnitude(array: NDArray[Any]) -> int:
    """Of no elements 0."""
    return max(abs(int(array.min())), abs(int(array.max()))) if array.size else 0
