"""A convolution through a target's registers, addition by addition, prepared once and run many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.engine.exact.conv import Window
from intsim.engine.registers.plan import SLACK, RegisterPlan, register_plan
from intsim.engine.threads import each, shares
from intsim.graph import IntArray

OFTEN = 0.4
"""Share of blocks with an overflow from which on all are counted at once, without looking for those first."""


@dataclass(frozen=True)
class Planes:
    """Where padded activations lie: images x channels x phases of the strides x rows x columns, flat."""

    channels: int
    strides: tuple[int, int]
    rows: int  # of a phase
    columns: int

    @property
    def image(self) -> int:
        """Elements of an image."""
        return self.channels * self.strides[0] * self.strides[1] * self.rows * self.columns

    def fill(self, padded: NDArray[Any]) -> NDArray[Any]:
        """(images, channels, height, width), padding included, as planes."""
        down, right = self.strides
        data = np.zeros(len(padded) * self.image + SLACK, padded.dtype)
        view = data[: len(padded) * self.image].reshape(
            len(padded), self.channels, down, right, self.rows, self.columns
        )
        for i in range(down):
            for j in range(right):
                part = padded[:, :, i::down, j::right]
                view[:, :, i, j, : part.shape[2], : part.shape[3]] = part
        return data


class RegisterConv:
    """A convolution through registers.

    Args:
        rows: (N, K) weights as the multiplier sees them, K in order of arrival.
        axes: the order of arrival as a permutation of (channel, row, column) of the kernel.
        window: its spatial part; groups read their own channels. Of a transposed one the input is stuffed already.
        padded: (channels, height, width) of the padded input.
        span: least and largest activation at the multiplier.
        stages, start, late: as `register_plan` takes them.
    """

    def __init__(
        self,
        rows: IntArray,
        axes: tuple[int, ...],
        window: Window,
        padded: tuple[int, int, int],
        span: tuple[int, int],
        stages: Sequence[Stage],
        start: IntArray | None,
        late: IntArray | None,
    ) -> None:
        """Know from where each product reads."""
        (down, right), (kh, kw) = window.strides, window.kernel
        self.planes = p = Planes(padded[0], window.strides, -(-padded[1] // down), -(-padded[2] // right))
        self.out, self.channels, self.pitch = window.out, rows.shape[0], p.columns
        plane, inside = p.rows * p.columns, padded[0] // window.groups
        i, j = (np.arange(k) * d for k, d in zip((kh, kw), window.dilations, strict=True))
        at = ((i % down) * right)[:, None] * plane + (i // down)[:, None] * p.columns
        at = at + ((j % right) * plane + j // right)[None, :]
        offsets = np.arange(inside)[:, None, None] * (down * right * plane) + at
        self.arguments = (offsets.transpose(axes).reshape(-1), rows, stages, span, start, late)
        group = np.arange(self.channels) // (self.channels // window.groups)
        self.bases = group * (inside * down * right * plane)
        self.plans: dict[str, RegisterPlan] = {}
        self.often = False

    def _plan(self, mode: Any) -> RegisterPlan:
        if mode not in self.plans:
            self.plans[mode] = register_plan(*self.arguments, mode, self.bases)
        return self.plans[mode]

    @property
    def dtype(self) -> type:
        """Of the accumulators."""
        return self._plan("touched").dtype

    def run(
        self, padded: NDArray[Any], counts: bool, out: NDArray[Any], wanted: NDArray[np.bool_] | None = None
    ) -> IntArray:
        """Accumulators into `out` (images, N, positions); returns events (N, stages): counts, or 1 where there is any.

        Events are looked for first, and counted only in the blocks of channels that have some. Of channels that aren't
        `wanted` (N,) nothing need be written; their events say nothing.
        """
        data = self.planes.fill(padded)
        needed = np.ones(self.channels, bool) if wanted is None else wanted
        if counts and self.often:
            plan = self._plan("counted")
            events = self._blocks(plan, data, out, needed)
        else:
            events = np.minimum(self._blocks(self._plan("touched"), data, out, needed), 1)
            if counts and events.any():
                plan = self._plan("counted")
                events = self._blocks(plan, data, out, events.any(axis=1))
        if counts and events.any():
            self.often = bool(_by_block(plan, events.any(axis=1)).mean() > OFTEN)
        return events

    def _blocks(self, plan: RegisterPlan, data: NDArray[Any], out: NDArray[Any], wanted: Any) -> IntArray:
        """The blocks that hold a wanted channel, neighbours together; events of all images and rows."""
        events = np.zeros((self.channels, len(plan.stages)), np.int64)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], _by_block(plan, wanted), [0]]).astype(np.int8)))
        for first, last in edges.reshape(-1, 2).tolist():
            events += self._all(plan, data, out, slice(first, last))
        return events

    def _all(self, plan: RegisterPlan, data: NDArray[Any], out: NDArray[Any], blocks: slice) -> IntArray:
        """All images and rows; events of all of them together."""
        height, width = self.out

        def part(share: tuple[int, int, int]) -> IntArray:
            image, first, last = share
            begin = image * self.planes.image + first * self.pitch
            area = (last - first, width, self.pitch)
            return plan.run(data[begin:], area, out[image], first * width, blocks)[0]

        rows = shares(height, max(1, 256 // self.pitch))
        parts = each(part, [(image, *span) for image in range(len(out)) for span in rows])
        return np.asarray(sum(parts, np.zeros((self.channels, len(plan.stages)), np.int64)))


def _by_block(plan: RegisterPlan, channels: Any) -> NDArray[np.bool_]:
    """Which blocks of a plan hold one of the channels."""
    return np.logical_or.reduceat(np.asarray(channels, bool), np.arange(0, len(channels), plan.shape.channels))
