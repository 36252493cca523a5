"""Exact convolutions of byte operands over words, prepared once and run many times.

`sum (x - zx) (w - zw) + bias` is computed as `sum bytes * weights + constant`: bytes are codes plus a shift, weights
have their zero point taken off, and the constant holds the rest. The 32-bit sum may wrap on the way, which changes
nothing: the finished accumulator fits, and wrapping is addition modulo 2^32.

A convolution is one grid of outputs, or for a transposed one as many as its stride has phases: each is a plain
convolution of the input, whose outputs lie `step` apart. Of each block of output channels it is known which words it
reads, its taps, and the weights it meets there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact.isa import Dot
from intsim.engine.exact.kernels import convolve
from intsim.engine.exact.layout import Buffer, Layout, Pads, Shape, TensorView, maps, phases, split
from intsim.engine.exact.microkernels import Tile, conv_shapes
from intsim.engine.exact.tiles import entries_of, tile_bias, tile_blocks, tile_entries, tile_work, words_seen
from intsim.engine.requantize.affine import RINT, AffineRequantizer
from intsim.engine.requantize.single import LARGEST, single
from intsim.engine.threads import each, shares, threads
from intsim.graph import IntArray, Node
from intsim.jit.chain import Call

Part = tuple[int, int, int, int]
"""First image and one past the last, first row and one past the last."""
R = TypeVar("R")
Weights = NDArray[np.signedinteger[Any]]
"""Integers of any size, their zero point taken off."""
HIGH = {"amx": 8, "vnni512": 8, "vnni256": 8, "avx512": 8, "avx2": 4, "sse2": 4, "generic": 4}
"""Output channels of a tile: with them accumulators, activations and a weight just fill the vector registers."""
WIDE = {32: {64: 1, 32: 2, 16: 1, 8: 2, 4: 4, 1: 8}, 16: {4: 2, 1: 4}}
"""Vectors of a tile for its height, where there are so many vector registers. A height of 16 is for the smallest maps,
those above for tile registers."""
STRIP_BYTES = 256 << 10
"""Input of a strip of rows, which stays in the second-level cache while all output channels read it."""
HALF = 128
"""Codes in float32 are made about 0, where its numbers lie closest, and this makes bytes of them."""
NO_WORDS, NO_SUMS = np.zeros(0, np.uint32), np.zeros(0, np.int32)


@dataclass(frozen=True)
class Window:
    """The spatial part of a convolution of rank 2 between maps of `size` and `out`; a rank of 1 has one row."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: Pads
    insert: tuple[int, int]
    groups: int
    size: tuple[int, int]
    out: tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """Outputs (rows, width) of a convolution that read taps at these distances from their own position in the input.

    Tap t, of kernel position `at[t]`, is at row `down[t]`, column `right[t]`. Output (r, c) is stored at row
    origin[0] + r * step[0], column origin[1] + c * step[1].
    """

    at: tuple[tuple[int, int], ...]
    down: tuple[int, ...]
    right: tuple[int, ...]
    rows: int
    width: int
    origin: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (1, 1)


def window(node: Node, x: Shape, y: Shape) -> Window | None:
    """The spatial part of a conv or conv_transpose node from a shape to another; None for a rank above 2."""
    at, kernel = node.attributes, node.arrays["weight"].shape[2:]
    rank = len(kernel)
    if rank not in (1, 2):
        return None
    pair = lambda values: (1, *values) if rank == 1 else tuple(values)  # noqa: E731
    p = at["pads"]
    pads = (0, p[0], 0, p[1]) if rank == 1 else tuple(p)
    insert = pair(at["insert"]) if node.op == "conv_transpose" else (1, 1)
    strides, dilations = pair(at["strides"]), pair(at["dilations"])
    # one beyond the padded input reaches no second position, and would have phases without any
    down, right = (
        max(1, min(s, (n - 1) * i + 1 + before + behind))
        for s, n, i, before, behind in zip(strides, maps(x)[2:], insert, pads[:2], pads[2:], strict=True)
    )
    return Window(pair(kernel), (down, right), dilations, pads, insert, at["groups"], maps(x)[2:], maps(y)[2:])


def grids(w: Window) -> list[Grid]:
    """The grids of a convolution with strides of 1. Others: `WordConv`."""
    made, out = [], w.out
    for ry in range(min(w.insert[0], out[0])):
        for rx in range(min(w.insert[1], out[1])):
            ys, xs = _reached(w, 0, ry), _reached(w, 1, rx)
            pairs = [(i, j, y, x) for i, y in ys for j, x in xs]
            rows, width = -(-(out[0] - ry) // w.insert[0]), -(-(out[1] - rx) // w.insert[1])
            at = tuple((i, j) for i, j, _, _ in pairs)
            down, right = tuple(y for *_, y, _ in pairs), tuple(x for *_, x in pairs)
            made.append(Grid(at, down, right, rows, width, (ry, rx), w.insert))
    return made


def _reached(w: Window, axis: int, phase: int) -> list[tuple[int, int]]:
    """Kernel positions along an axis that meet an input sample, not one inserted, and how far that is."""
    steps = ((i, phase + i * w.dilations[axis] - w.pads[axis]) for i in range(w.kernel[axis]))
    return [(i, s // w.insert[axis]) for i, s in steps if s % w.insert[axis] == 0]


def border(parts: list[Grid], size: tuple[int, int]) -> Pads:
    """Rows and columns of padding that the grids read around an input of this size."""
    down = [(min(g.down), max(g.down) + g.rows - size[0]) for g in parts if g.down]
    right = [(min(g.right), max(g.right) + g.width - size[1]) for g in parts if g.right]
    top, bottom = max([0, *(-a for a, _ in down)]), max([0, *(b for _, b in down)])
    left = max([0, *(-a for a, _ in right)])
    # rows of outputs must not be longer than rows of words
    beyond = max([0, *(b for _, b in right), *(g.width - size[1] - left for g in parts)])
    return top, left, bottom, beyond


@dataclass(frozen=True)
class Blocks:
    """Weights of one grid in blocks of `high` output channels; what `kernels.convolve` takes."""

    planes: NDArray[np.int64]  # of each tap, its plane
    taps: NDArray[np.int64]  # and its index in the grid
    firsts: NDArray[np.int64]  # first tap of each block, and one past the last
    weights: NDArray[np.int32]
    high: int
    depth: int = 0  # planes of an entry in tile registers, side by side; 0 where there are none


def blocks(
    weight: Weights, w: Window, grid: Grid, dot: Dot, pitch: int, planes_apart: int = 1, tiled: bool = False
) -> Blocks:
    """Blocks of the weights (O, C / groups, kh, kw), see `byte_parts`; taps without weights are left out.

    Rows of the input are at least `pitch` words apart, which says how many tiles a map has. `planes_apart`: planes of
    the input from one group of four channels to the next; taps' own planes are added by the caller (`split`). With
    `tiled`, tile registers may be used.
    """
    positions, wide = max(1, (grid.rows - 1) * pitch + grid.width), WIDE[dot.registers]
    heights = [1] if len(weight) == 1 else sorted({4, HIGH[dot.name]}, reverse=True)
    if dot.registers == 32 and positions <= dot.lanes and len(weight) >= 16:
        heights = [16, *heights]
    values, count = picked(weight, grid), max(len(grid.at), 1)

    def times(high: int) -> int:
        """Tiles of positions."""
        return -(-positions // (dot.lanes * wide[high]))

    def work(high: int, entries: int) -> int:
        """Vectors of products."""
        return high * entries * wide[high] * times(high)

    if w.groups > 1:
        made = [(high, *_grouped_blocks(values, w.groups, high)) for high in heights]
        high, planes, taps, firsts, words = min(made, key=lambda one: work(one[0], int(one[3][-1])))
        return Blocks(planes * planes_apart, taps % count, firsts, weight_words(words, dot), high)
    seen = words_seen(values)
    costs = [(work(high, entries_of(seen, high)), high) for high in heights]
    least, high = min(costs, key=lambda one: one[0])
    if tiled:
        in_tiles = [(tile_work(tile_entries(seen, h), times(h)), h) for h in (64, 32)]
        cost, tall = min(in_tiles, key=lambda one: one[0])
        if cost < least:
            best = tile_blocks(values, tall)
            return Blocks(best.planes * planes_apart, best.taps % count, best.firsts, best.weights, tall, best.depth)
    planes, taps, firsts, words = _whole_blocks(values, high)
    return Blocks(planes * planes_apart, taps % count, firsts, weight_words(words, dot), high)


def _grouped_blocks(
    values: NDArray[np.int8], groups: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Plane and tap of each entry, entries of each block, and weights (entries, high, 4), of weights (O, taps, C)."""
    channels, count, inside = values.shape
    per_group = channels // groups
    parts: list[tuple[Any, Any, Any]] = []
    for begin in range(0, channels, high):
        rows = range(begin, min(begin + high, channels))
        first, last = (c // per_group * inside for c in (rows[0], rows[-1]))
        low, top = first // 4, -(-(last + inside) // 4)
        table = np.zeros((high, count, 4 * (top - low)), np.int8)
        for r in rows:
            at = r // per_group * inside - 4 * low
            table[r - begin, :, at : at + inside] = values[r]
        met = table.reshape(high, count, top - low, 4).transpose(2, 1, 0, 3).reshape(-1, high, 4)
        kept = np.flatnonzero(met.any(axis=(1, 2)))
        parts.append((low + kept // max(count, 1), kept % max(count, 1), met[kept]))
    firsts = np.cumsum([0, *(len(p[0]) for p in parts)]).astype(np.int64)
    planes, taps, words = (np.concatenate([p[i] for p in parts]) for i in range(3))
    return planes.astype(np.int64), taps.astype(np.int64), firsts, words


def picked(weight: Weights, grid: Grid) -> NDArray[np.int8]:
    """Weights (O, taps, C / groups) of a grid; all taps once for each of their parts."""
    parts = byte_parts(weight)
    out = np.empty((weight.shape[0], len(parts) * len(grid.at), weight.shape[1]), np.int8)
    for t, (part, (i, j)) in enumerate(product(parts, grid.at)):
        out[:, t] = part[:, :, i, j]
    return out


def byte_parts(weight: Weights) -> list[NDArray[np.int8]]:
    """Arrays of int8 that add up to the weights: one where int8 holds them, up to three for those within -255..255.

    Unsigned weights without their zero point are of the second kind, but few of them are beyond int8.
    """
    parts: list[NDArray[np.int8]] = []
    rest = weight
    while not parts or rest.any():
        parts.append(np.clip(rest, -128, 127).astype(np.int8))
        rest = rest - parts[-1]
    return parts


def _whole_blocks(
    values: NDArray[np.int8], high: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """`_grouped_blocks` of one group."""
    channels, count, inside = values.shape
    size, groups = -(-channels // high), -(-inside // 4)
    table = np.zeros((size * high, count, 4 * groups), np.int8)
    table[:channels, :, :inside] = values
    words = table.reshape(size, high, count, groups, 4).transpose(0, 3, 2, 1, 4)
    kept = np.asarray(words.any(axis=(3, 4)))
    _, planes, taps = np.nonzero(kept)
    firsts = np.cumsum([0, *kept.sum(axis=(1, 2)).tolist()]).astype(np.int64)
    return planes.astype(np.int64), taps.astype(np.int64), firsts, words[kept]


def weight_words(values: NDArray[np.int8], dot: Dot) -> NDArray[np.int32]:
    """(..., 4) int8 as 32-bit words for the instruction: see `isa.Dot.parts`. Flat, words of a group side by side."""
    if dot.parts == 1:
        return np.ascontiguousarray(values).view(np.int32).reshape(-1)
    if dot.parts == 2:
        wide = values.astype(np.int16)
        return (
            np.ascontiguousarray(np.stack([wide[..., [0, 2]], wide[..., [1, 3]]], axis=-2)).view(np.int32).reshape(-1)
        )
    return values.astype(np.int32).reshape(-1)


class Codes(NamedTuple):
    """A requantizer for the channels of a convolution, as the kernel takes it; arrays are long enough for whole tiles.

    Four channels for which `single` isn't 0 go by their formula in float32, which is proven for them
    (`requantize.single`).
    """

    lines: NDArray[np.float64]  # (2, channels): scale and offset
    kind: int
    table: NDArray[np.int64]  # (channels, high - low), or (channels, 0)
    lines32: NDArray[np.float32]
    single: NDArray[np.uint8]  # (channels / 4,)
    ends: NDArray[np.int32]  # of `byte_ends`


def byte_ends(low: int, high: int, shift: int) -> NDArray[np.int32]:
    """What compiled loops know of codes low to high, which are bytes when `shift` is added.

    Least and greatest byte, four times each; what makes bytes of the codes, twice, and of those in float32; low, high
    and shift as they are.
    """
    words = [(low + shift) * 0x01010101, (high + shift) * 0x01010101, shift * 0x00010001, HALF * 0x00010001]
    return np.concatenate([np.array(words, np.uint32).view(np.int32), np.array([low, high, shift], np.int32)])


def fits(requantizer: AffineRequantizer) -> bool:
    """Whether the kernels can take a requantizer: what it rounds stays well within 32 bits."""
    farthest = max(abs(requantizer.reach[0]), abs(requantizer.reach[1]))
    return bool((np.abs(requantizer.scale) * farthest + np.abs(requantizer.offset) < LARGEST).all())


class SpreadCodes(NamedTuple):
    """A requantizer for a convolution, and what the sums start at besides for it, (channels,) int32."""

    codes: Codes
    added: NDArray[np.int32]


def spread_codes(requantizer: AffineRequantizer, channels: int, shift: int) -> SpreadCodes:
    """Spread a requantizer of 1 or `channels` cells, whose codes plus `shift` are bytes, over channels."""

    def spread(values: NDArray[Any]) -> NDArray[Any]:
        out = np.zeros((channels + 16, *values.shape[1:]), values.dtype)
        out[:channels] = values
        return out

    rule, ends = requantizer, byte_ends(requantizer.low, requantizer.high, shift)
    short = single(rule, HALF - shift)
    proven = np.ones(-(-channels // 4) * 4 + 16, bool)
    proven[:channels] = short.proven
    groups: NDArray[np.bool_] = np.all(proven.reshape(-1, 4), axis=1)
    added = np.where(np.repeat(groups, 4)[:channels], short.added, 0)
    lines, lines32 = (np.stack([spread(r.scale), spread(r.offset)]) for r in (rule, short))
    codes = Codes(lines, rule.kind, spread(rule.table), lines32, groups.astype(np.uint8), ends)
    return SpreadCodes(codes, spread(added.astype(np.int32)))


NO_CODES = spread_codes(
    AffineRequantizer(np.zeros(1), np.zeros(1), RINT, 0, 0, np.zeros((1, 0), np.int64), (0, 0)), 0, 0
)


def modulo32(values: IntArray, size: int) -> NDArray[np.int32]:
    """Integers modulo 2^32, followed by zeros."""
    out = np.zeros(size, np.int32)
    out[: values.size] = (values & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return out


class WordConv:
    """A convolution of words with byte weights.

    Args:
        weight: (O, C / groups, kh, kw), zero point taken off, within -255..255.
        bias: (O,) what each accumulator starts at.
        window: its spatial part.
        pad: the byte that padding holds.
        zero: the byte that stands for zero.
        tiled: whether tile registers may be used, if the instruction has some.
    """

    def __init__(
        self,
        weight: Weights,
        bias: IntArray,
        window: Window,
        pad: int,
        zero: int,
        dot: Dot,
        tiled: bool = True,
    ) -> None:
        """Lay the weights out."""
        self.window, self.pad, self.dot = window, pad, dot
        self.channels, self.strided = weight.shape[0], window.strides != (1, 1)
        self.grids = [self._strided_grid()] if self.strided else grids(window)
        self.border: Pads = window.pads if self.strided else border(self.grids, window.size)
        apart = window.strides[0] * window.strides[1] if self.strided else 1
        _, left, _, right = self.border
        pitch = window.out[1] if self.strided else left + window.size[1] + right
        self.blocks = [blocks(weight, window, g, dot, pitch, apart, tiled and dot.tiles) for g in self.grids]
        self.phases = np.full(window.strides[0] * window.strides[1], not self.strided)
        if self.strided:
            self.phases[self._phases_of_taps()] = True
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
        return Grid(at, down, right, *w.out)

    def _phases_of_taps(self) -> NDArray[np.int64]:
        """Of each tap of a strided convolution, which phase of the input it reads."""
        w = self.window
        pairs = [(i * w.dilations[0] % w.strides[0], j * w.dilations[1] % w.strides[1]) for i, j in self.grids[0].at]
        return np.array([i * w.strides[1] + j for i, j in pairs], np.int64)

    def direct(self, view: TensorView) -> bool:
        """Whether it reads this tensor as it is; else `scratch` is filled first."""
        lay, needs = view.layout, any(self.border)
        enough = all(have >= want for have, want in zip(lay.border, self.border, strict=True))
        widest = max(g.width for g in self.grids)
        return not self.strided and enough and (not needs or lay.pad == self.pad) and lay.pitch >= widest

    def scratch(self, view: TensorView) -> Layout:
        """The layout in which it reads an input that isn't laid out for it."""
        return phases(view, self.border, self.window.strides, self.pad)

    def bind(
        self, view: TensorView, scratch: Layout | None, to: TensorView | tuple[int, ...], codes: SpreadCodes = NO_CODES
    ) -> list[Bound]:
        """What is known of a run before it: for each grid the kernel's arguments but the buffers.

        Args:
            view: where the input is.
            scratch: `scratch(view)` if that is needed.
            to: where codes go, or the shape (images, O, height, width) of an int32 array for accumulators.
            codes: how sums become codes.
        """
        layout = view.layout if scratch is None else scratch
        first = view.first
        if scratch is not None:
            first = 0 if self.strided else self.border[0] * layout.pitch + self.border[1]
        w, dot, bounds = self.window, self.dot, []
        apart = w.strides[0] * w.strides[1] if self.strided else 1
        for grid, made, bias in zip(self.grids, self.blocks, self.biases, strict=True):
            if min(grid.rows, grid.width) <= 0:
                continue
            distance = np.array(grid.down, np.int64) * layout.pitch + np.array(grid.right, np.int64)
            planes = made.planes
            if self.strided:
                planes = planes + self._phases_of_taps()[made.taps]
            offsets = planes * layout.plane + (distance[made.taps] if made.taps.size else made.taps)
            if isinstance(to, TensorView):
                lay = to.layout
                begin, stride, plane, pitch = to.first, lay.stride, lay.plane, lay.pitch
            else:
                begin, stride, plane, pitch = 0, 0, to[2] * to[3], to[3]
            begin += grid.origin[0] * pitch + grid.origin[1]
            wide = WIDE[dot.registers][made.high]
            start = bias + codes.added if isinstance(to, TensorView) else bias
            if made.depth:
                start = tile_bias(start[: self.channels], made.high)
            bound = Bound(
                (first, layout.pitch, grid.width),
                (layout.images, layout.stride, stride),
                (grid.rows, max(1, STRIP_BYTES // (4 * layout.groups * layout.pitch))),
                (
                    offsets,
                    made.firsts,
                    made.weights,
                    start,
                    self.channels,
                    apart * layout.plane,
                    conv_shapes(made.depth),
                ),
                codes.codes,
                (begin, plane, pitch, *grid.step),
                Tile(dot.lanes, dot.parts, made.high, wide, made.depth > 0),
                -(-dot.lanes * wide // layout.pitch),
            )
            bounds.append(bound)
        return bounds

    def split(self, words: Buffer, view: TensorView, scratch: Buffer, layout: Layout) -> Call:
        """What fills the scratch."""
        return split(words, view, self.border, self.window.strides, scratch, layout, self.phases)


@dataclass(frozen=True)
class Bound:
    """Arguments of `kernels.convolve` for one grid between two tensors."""

    source: tuple[int, int, int]
    images: tuple[int, int, int]
    rows: tuple[int, int]
    layer: tuple[Any, ...]
    rounding: Codes
    out: tuple[int, ...]
    tile: Tile
    grain: int  # rows of a whole tile

    def run(self, source: Buffer, words: Buffer, raw: NDArray[np.int32]) -> None:
        """Codes into `words`, or where that is empty accumulators into `raw` (flat)."""
        x, out = (source, *self.source), (words, raw, *self.out)

        def part(share: Part) -> None:
            images, span = (*share[:2], *self.images[1:]), (*share[2:], self.rows[1])
            convolve(x, images, span, self.layer, self.rounding, out, self.tile)

        self.each(part)

    def alone(self, source: Buffer, words: Buffer) -> tuple[Any, ...]:
        """Arguments of `kernels.convolve` for all images and rows, codes into `words`."""
        x, out = (source, *self.source), (words, NO_SUMS, *self.out)
        return x, (0, *self.images), (0, *self.rows), self.layer, self.rounding, out, self.tile

    def each(self, part: Callable[[Part], R]) -> list[R]:
        """`part` of all images and rows, shared out to threads."""
        images, rows = self.images[0], self.rows[0]
        if images >= threads():
            return each(part, [(a, b, 0, rows) for a, b in shares(images)])
        spans = shares(rows, self.grain)
        return each(part, [(i, i + 1, a, b) for i in range(images) for a, b in spans])
