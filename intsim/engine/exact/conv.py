"""Exact convolutions and matrix products of byte operands, prepared once and run many times.

`sum (x - zx) (w - zw) + bias` is computed as `sum bytes * weights + constant`: bytes are codes plus a shift, weights
have their zero point taken off, and the constant holds the rest. The 32-bit sum may wrap on the way, which changes
nothing: the finished accumulator fits, and wrapping is addition modulo 2^32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact import taps as layouts
from intsim.engine.exact.isa import Dot
from intsim.engine.exact.kernels import convolve, multiply
from intsim.engine.exact.layout import Buffer, Layout, TensorView, phases, split
from intsim.engine.exact.taps import Grid, Pads, Window
from intsim.engine.requantize.affine import RINT, AffineRequantizer
from intsim.engine.threads import each, shares
from intsim.graph import IntArray

WIDE = {32: {8: 2, 4: 3, 1: 8}, 16: {4: 2, 1: 4}}
"""Vectors of a tile for its height, where there are so many vector registers."""
STRIP_BYTES = 256 << 10
"""Input of a strip of rows, which stays in the second-level cache while all output channels read it."""
NO_WORDS, NO_SUMS = np.zeros(0, np.uint32), np.zeros(0, np.int32)


@dataclass(frozen=True)
class Codes:
    """A rounder for the channels of a convolution, as the kernel takes it; `limits` = low, high, shift to bytes."""

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    kind: int
    limits: NDArray[np.int32]
    table: NDArray[np.int64]


NO_CODES = Codes(np.zeros(16), np.zeros(16), RINT, np.zeros(3, np.int32), np.zeros((1, 0), np.int64))


def fits(rounder: AffineRequantizer) -> bool:
    """Whether the kernels can take a rounder: what it rounds stays well within 32 bits."""
    farthest = max(abs(rounder.reach[0]), abs(rounder.reach[1]))
    return bool((np.abs(rounder.scale) * farthest + np.abs(rounder.offset) < 2.0**30).all())


def codes(rounder: AffineRequantizer, channels: int, shift: int) -> Codes:
    """Spread a rounder of 1 or `channels` cells over channels; arrays are longer than that, as tiles are whole."""

    def spread(values: NDArray[Any]) -> NDArray[Any]:
        out = np.zeros((channels + 16, *values.shape[1:]), values.dtype)
        out[:channels] = values
        return out

    limits = np.array([rounder.low, rounder.high, shift], np.int32)
    return Codes(spread(rounder.scale), spread(rounder.offset), rounder.kind, limits, spread(rounder.table))


def modulo32(values: IntArray, size: int) -> NDArray[np.int32]:
    """Integers modulo 2^32, followed by zeros."""
    out = np.zeros(size, np.int32)
    out[: values.size] = (values & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return out


class WordConv:
    """A convolution of words with byte weights.

    Args:
        weight: (O, C / groups, kh, kw), zero point taken off, within int8.
        bias: (O,) what each accumulator starts at.
        window: its spatial part.
        size: input height and width.
        out: output height and width.
        pad: the byte that padding holds.
        zero: the byte that stands for zero.
    """

    def __init__(
        self,
        weight: IntArray,
        bias: IntArray,
        window: Window,
        size: tuple[int, int],
        out: tuple[int, int],
        pad: int,
        zero: int,
        dot: Dot,
    ) -> None:
        """Lay the weights out."""
        self.window, self.out, self.pad, self.dot = window, out, pad, dot
        self.channels, self.strided = weight.shape[0], window.strides != (1, 1)
        self.grids = [self._strided_grid()] if self.strided else layouts.grids(window, size, out)
        self.border: Pads = window.pads if self.strided else layouts.border(self.grids, size)
        apart = window.strides[0] * window.strides[1] if self.strided else 1
        self.blocks = [layouts.blocks(weight, window, g, dot, apart) for g in self.grids]
        # inserted samples are zeros that no tap meets, so each grid has a constant of its own
        sums = [
            sum((weight[:, :, i, j].sum(axis=1) for i, j in g.at), np.zeros(self.channels, np.int64))
            for g in self.grids
        ]
        self.biases = [modulo32(bias - zero * total, self.channels + 16) for total in sums]

    def _strided_grid(self) -> Grid:
        w = self.window
        at = tuple((i, j) for i in range(w.kernel[0]) for j in range(w.kernel[1]))
        down, right = (tuple(v[a] * w.dilations[a] // w.strides[a] for v in at) for a in (0, 1))
        return Grid(at, down, right, *self.out)

    def direct(self, place: TensorView) -> bool:
        """Whether it reads this place as it is; else `scratch` is filled first."""
        lay = place.layout
        room = (lay.top, lay.left, lay.bottom, lay.right)
        needs = any(self.border)
        enough = all(have >= want for have, want in zip(room, self.border, strict=True))
        widest = max(g.width for g in self.grids)
        return not self.strided and enough and (not needs or lay.pad == self.pad) and lay.pitch >= widest

    def scratch(self, place: TensorView) -> Layout:
        """The layout in which it reads an input that isn't laid out for it."""
        return phases(place, self.border, self.window.strides, self.pad)

    def bind(
        self, place: TensorView, scratch: Layout | None, to: TensorView | tuple[int, ...], rule: Codes
    ) -> list[Bound]:
        """What is known of a run before it: for each grid the kernel's arguments but the buffers.

        Args:
            place: where the input is.
            scratch: `scratch(place)` if that is needed.
            to: where codes go, or the shape (images, O, height, width) of an int32 array for accumulators.
            rule: of the codes.
        """
        layout = place.layout if scratch is None else scratch
        first = place.first
        if scratch is not None:
            first = 0 if self.strided else self.border[0] * layout.pitch + self.border[1]
        made = zip(self.grids, self.blocks, self.biases, strict=True)
        return [self._bound(layout, first, *one, to, rule) for one in made if min(one[0].rows, one[0].width) > 0]

    def _bound(
        self,
        layout: Layout,
        first: int,
        grid: Grid,
        made: layouts.Blocks,
        bias: NDArray[np.int32],
        to: TensorView | tuple[int, ...],
        rule: Codes,
    ) -> Bound:
        w, (high, dot) = self.window, (made.high, self.dot)
        distance = np.array(grid.down, np.int64) * layout.pitch + np.array(grid.right, np.int64)
        planes = made.planes
        if self.strided:
            own = [
                (i * w.dilations[0] % w.strides[0]) * w.strides[1] + j * w.dilations[1] % w.strides[1]
                for i, j in grid.at
            ]
            planes = planes + np.array(own, np.int64)[made.taps]
        offsets = planes * layout.plane + (distance[made.taps] if made.taps.size else made.taps)
        if isinstance(to, TensorView):
            lay = to.layout
            begin = to.first + grid.origin[0] * lay.pitch + grid.origin[1]
            stride, at = lay.stride, (begin, lay.plane, lay.pitch, *grid.step)
        else:
            height, width = to[2:]
            begin = grid.origin[0] * width + grid.origin[1]
            stride, at = 0, (begin, height * width, width, *grid.step)
        wide = WIDE[dot.registers][high]
        return Bound(
            (first, layout.pitch, grid.width),
            (layout.images, layout.stride, stride),
            (grid.rows, max(1, STRIP_BYTES // (4 * layout.groups * layout.pitch))),
            (offsets, made.firsts, made.weights, bias, self.channels),
            (rule.scale, rule.offset, rule.kind, rule.limits, rule.table),
            at,
            ((0,) * dot.lanes, (0,) * dot.parts, (0,) * high, (0,) * wide),
            -(-dot.lanes * wide // layout.pitch),
        )

    def split(self, words: Buffer, place: TensorView, scratch: Buffer, layout: Layout) -> None:
        """Fill the scratch."""
        split(words, place, self.border, self.window.strides, scratch, layout)


@dataclass(frozen=True)
class Bound:
    """Arguments of `dot_kernels.convolve` for one grid between two places."""

    source: tuple[int, int, int]
    images: tuple[int, int, int]
    rows: tuple[int, int]
    layer: tuple[Any, ...]
    rounding: tuple[Any, ...]
    out: tuple[int, ...]
    tile: tuple[tuple[int, ...], ...]
    grain: int  # rows of a whole tile

    def run(self, source: Buffer, words: Buffer, raw: NDArray[np.int32], workers: int = 1) -> None:
        """Codes into `words`, or where that is empty accumulators into `raw` (flat), by so many threads."""
        x, out = (source, *self.source), (words, raw, *self.out)
        images, *strides = self.images
        rows, strip = self.rows

        def part(share: tuple[int, int, int, int]) -> None:
            begin, end, top, bottom = share
            span = (top, bottom, strip)
            convolve(x, (begin, end, *strides), span, self.layer, self.rounding, out, self.tile)

        if workers == 1:
            part((0, images, 0, rows))
        elif images >= workers:
            each(part, [(a, b, 0, rows) for a, b in shares(images)])
        else:
            spans = shares(rows, self.grain)
            each(part, [(i, i + 1, a, b) for i in range(images) for a, b in spans])


class WordProduct:
    """A product with a constant matrix of byte weights (K, N), zero point taken off; `constant` (N,) modulo 2^32."""

    def __init__(self, weight: IntArray, constant: IntArray, dot: Dot) -> None:
        """Lay the weights out."""
        depth, self.columns = weight.shape
        self.dot, self.depth = dot, -(-depth // 4)
        self.wide = 4 if dot.registers == 32 else 2
        block = dot.lanes * self.wide
        count = -(-self.columns // block)
        table = np.zeros((4 * self.depth, count * block), np.int8)
        table[:depth, : self.columns] = weight
        # (blocks, depth, vectors, lanes, 4)
        by_word = table.reshape(self.depth, 4, count, self.wide, dot.lanes).transpose(2, 0, 3, 4, 1)
        words = layouts.weight_words(np.ascontiguousarray(by_word), dot)
        shape = (count, self.depth, self.wide, dot.lanes, dot.parts)
        self.weights = np.ascontiguousarray(words.reshape(shape).swapaxes(3, 4)).reshape(-1)
        self.bias = modulo32(constant, count * block)

    def run(self, codes: NDArray[Any], shift: int, workers: int = 1) -> NDArray[np.int32]:
        """(M, K) codes, of which each plus `shift` is a byte, to accumulators (M, N)."""
        rows, depth = codes.shape
        x = np.zeros((rows, 4 * self.depth), np.uint8)
        x[:, :depth] = codes.astype(np.uint8)  # modulo 256
        x[:, :depth] += np.uint8(shift)
        out = np.empty((rows, self.columns), np.int32)
        words, dot = x.view(np.uint32).reshape(-1), self.dot
        tile = ((0,) * dot.lanes, (0,) * dot.parts, (0,) * (1 if rows == 1 else 4), (0,) * self.wide)

        def part(span: tuple[int, int]) -> None:
            multiply((words, self.depth), span, self.weights, self.bias, out, tile)

        if workers == 1:
            part((0, rows))
        else:
            each(part, shares(rows, 4))
        return out
