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
from intsim.engine.registers.vectors import Mode
from intsim.engine.threads import each, shares
from intsim.graph import IntArray


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

    def fill(
        self, codes: NDArray[Any], kind: Any, begins: tuple[int, int] = (0, 0), pad: int = 0, shift: Any = 0
    ) -> NDArray[Any]:
        """(images, channels, height, width) as planes of `kind`: codes + shift, `begins` rows and columns of padding in
        front of them and the rest of it behind."""
        (down, right), (top, left), size = self.strides, begins, len(codes) * self.image
        data = np.full(size + SLACK, pad, kind) if pad else np.zeros(size + SLACK, kind)
        view = data[:size].reshape(len(codes), self.channels, down, right, self.rows, self.columns)
        for i in range(down):
            for j in range(right):
                first, second = (i - top) % down, (j - left) % right
                part = codes[:, :, first::down, second::right]
                row, column = (first + top) // down, (second + left) // right
                place = view[:, :, i, j, row : row + part.shape[2], column : column + part.shape[3]]
                place[...] = part
                if shift:
                    place += shift
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
        self.seen = np.zeros(self.channels, bool)  # channels that had an event in the run before

    def _plan(self, mode: Mode) -> RegisterPlan:
        if mode not in self.plans:
            self.plans[mode] = register_plan(*self.arguments, mode, self.bases)
        return self.plans[mode]

    @property
    def dtype(self) -> type:
        """Of the accumulators."""
        return self._plan("touched").dtype

    def run(
        self,
        data: NDArray[Any],
        images: int,
        counts: bool,
        out: NDArray[Any],
        wanted: NDArray[np.bool_] | None = None,
    ) -> IntArray:
        """Accumulators of planes into `out` (images, N, positions); returns events (N, stages): counts, or 1 for any.

        Events are looked for first, and counted only in the blocks of channels that have some, or had some in the run
        before. Of channels that aren't `wanted` (N,) nothing need be written; their events say nothing.
        """
        needed = np.ones(self.channels, bool) if wanted is None else wanted
        often = self._neighbours(needed & self.seen) if counts else np.zeros(self.channels, bool)
        events = np.minimum(self._blocks("touched", data, images, out, needed & ~often), 1)
        if counts:
            found = often | events.any(axis=1)
            events = self._blocks("counted", data, images, out, found)
            self.seen = np.where(needed, events.any(axis=1), self.seen)
        return events

    def _neighbours(self, channels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """All channels of the blocks that hold one of these."""
        size = self._plan("counted").shape.channels
        held = np.logical_or.reduceat(channels, np.arange(0, self.channels, size))
        return np.asarray(np.repeat(held, size)[: self.channels])

    def _blocks(self, mode: Mode, data: NDArray[Any], images: int, out: NDArray[Any], wanted: Any) -> IntArray:
        """The blocks that hold a wanted channel; events of all images and rows."""
        plan = self._plan(mode)
        held = np.logical_or.reduceat(np.asarray(wanted, bool), np.arange(0, self.channels, plan.shape.channels))
        blocks = np.flatnonzero(held)
        if not blocks.size:
            return np.zeros((self.channels, len(plan.stages)), np.int64)
        return self._all(plan, data, images, out, blocks)

    def _all(
        self, plan: RegisterPlan, data: NDArray[Any], images: int, out: NDArray[Any], blocks: NDArray[np.int64]
    ) -> IntArray:
        """All images and rows; events of all of them together."""
        height, width = self.out

        def part(share: tuple[int, int, int]) -> IntArray:
            image, first, last = share
            begin = image * self.planes.image + first * self.pitch
            area = (last - first, width, self.pitch)
            return plan.run(data[begin:], area, out[image], first * width, blocks)[0]

        rows = shares(height, max(1, 256 // self.pitch))
        parts = each(part, [(image, *span) for image in range(images) for span in rows])
        return np.asarray(sum(parts, np.zeros((self.channels, len(plan.stages)), np.int64)))
