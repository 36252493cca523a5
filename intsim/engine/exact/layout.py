"""Activations as words: four channels of one position in 32 bits, positions of a row side by side, rows with a border.

Channel c of position (y, x) of an image is byte c % 4 of the word at plane c // 4, row top + y, column left + x. Bytes
are codes plus `shift` (128 for signed codes), so that they are unsigned. The border holds what padding holds, so that a
convolution needs no im2col: tap (i, j) of an output is a constant distance from tap (0, 0), for all outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact.microkernels import every_second
from intsim.jit.chain import Call
from intsim.jit.compile import compiled

Shape = tuple[int, ...]
Pads = tuple[int, int, int, int]
"""Top, left, bottom, right; negative ones crop."""
SLACK = 256
"""Words after the last plane that kernels may read, as they work on whole blocks of positions."""
Buffer = NDArray[np.uint32]


@dataclass(frozen=True)
class Layout:
    """Words of `images` x `channels` maps of height x width, with a border of `pad` bytes."""

    images: int
    channels: int
    height: int
    width: int
    shift: int = 0
    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0
    pad: int = 0

    @classmethod
    def plain(cls, shape: Shape, shift: int) -> Layout:
        """Of a tensor, without a border."""
        return cls(*maps(shape), shift)

    @cached_property
    def border(self) -> Pads:
        """Rows and columns of it."""
        return self.top, self.left, self.bottom, self.right

    @cached_property
    def groups(self) -> int:
        """Planes of an image."""
        return -(-self.channels // 4)

    @cached_property
    def pitch(self) -> int:
        """Words of a row."""
        return self.left + self.width + self.right

    @cached_property
    def plane(self) -> int:
        """Words of a plane."""
        return (self.top + self.height + self.bottom) * self.pitch

    @cached_property
    def stride(self) -> int:
        """Words of an image."""
        return self.groups * self.plane

    @cached_property
    def size(self) -> int:
        """Words in all, slack included."""
        return self.images * self.stride + SLACK

    @cached_property
    def origin(self) -> int:
        """Word of position (0, 0) within a plane."""
        return self.top * self.pitch + self.left


@dataclass(frozen=True)
class TensorView:
    """Some of the channels of a buffer: a tensor, or one operand of a concatenation."""

    buffer: int  # which of the program's
    layout: Layout  # of the whole buffer
    group: int  # first plane
    channels: int

    @cached_property
    def groups(self) -> int:
        """Its planes of an image."""
        return -(-self.channels // 4)

    @cached_property
    def first(self) -> int:
        """Word of channel 0, position (0, 0), image 0."""
        return self.group * self.layout.plane + self.layout.origin


def pack(codes: NDArray[Any], words: Buffer, view: TensorView) -> None:
    """(images, channels, height, width) integers into words; the border is not touched."""
    lay = view.layout
    flat = np.ascontiguousarray(codes).reshape(lay.images * view.channels * lay.height, lay.width)
    _pack(flat, words, lay.images, view.channels, lay.height, walk(view), lay.shift)


def unpack(words: Buffer, view: TensorView, out: NDArray[Any]) -> None:
    """Words into a contiguous array (images, channels, height, width)."""
    lay = view.layout
    flat = out.reshape(lay.images * view.channels * lay.height, lay.width)
    _unpack(words, flat, lay.images, view.channels, lay.height, walk(view), lay.shift)


def maps(shape: Shape) -> tuple[int, int, int, int]:
    """Images, channels, height and width of a tensor; a rank of 3 has one row."""
    images, channels, *spatial = shape
    *_, height, width = (1, *spatial)
    return images, channels, height, width


def fill_border(words: Buffer, layout: Layout) -> Call:
    """What writes the padding of all planes."""
    planes = layout.images * layout.groups
    return Call(_fill, (words, planes, layout.height, layout.width, layout.border, _padding(layout)))


def phases(view: TensorView, pads: Pads, strides: tuple[int, int], pad: int) -> Layout:
    """The layout of `split`: one plane for each of the sh x sw positions modulo the strides, in that order."""
    lay = view.layout
    rows = -(-(lay.height + pads[0] + pads[2]) // strides[0])
    columns = -(-(lay.width + pads[1] + pads[3]) // strides[1])
    return Layout(lay.images, 4 * view.groups * strides[0] * strides[1], rows, columns, lay.shift, pad=pad)


def split(
    words: Buffer,
    view: TensorView,
    pads: Pads,
    strides: tuple[int, int],
    out: Buffer,
    layout: Layout,
    wanted: NDArray[np.bool_] | None = None,
) -> Call:
    """What puts positions of a padded map apart by what they are modulo the strides.

    Pads (top, left, bottom, right) may crop. Phases that aren't `wanted` are left as they are, or spoiled.
    """
    lay, groups = view.layout, view.groups
    geometry = (*walk(view), lay.height, lay.width)
    target = (layout.stride, layout.plane, layout.height, layout.width)
    chosen = np.ones(strides[0] * strides[1], np.bool_) if wanted is None else wanted
    given = words, geometry, lay.images, groups, pads[0], pads[1], strides, chosen, out, target, _padding(layout)
    return Call(_split, given)


def resize(
    words: Buffer, view: TensorView, rows: NDArray[Any], columns: NDArray[Any], out: Buffer, to: TensorView
) -> Call:
    """What copies positions picked by row and column into another tensor, as nearest resizing does."""
    a = view.layout
    return Call(_resize, (words, walk(view), a.images, view.groups, rows, columns, out, walk(to)))


def shift_channels(words: Buffer, view: TensorView, out: Buffer, to: TensorView, channel: int) -> Call:
    """What copies a tensor into channels `channel` and on of another of the same height and width."""
    a = view.layout
    size = a.images, view.channels, a.height, a.width
    return Call(_shift_channels, (words, walk(view), size, out, walk(to), channel))


def walk(view: TensorView) -> tuple[int, int, int, int]:
    """Words from image to image, plane to plane, row to row, and the first one."""
    return view.layout.stride, view.layout.plane, view.layout.pitch, view.first


def rows_of(*views: TensorView) -> tuple[int, int]:
    """Rows and words of a row of maps of one size. Those without a border between rows are one long row."""
    size = views[0].layout.height, views[0].layout.width
    gapless = all(v.layout.pitch == v.layout.width for v in views)
    return (1, size[0] * size[1]) if gapless else size


def _padding(layout: Layout) -> np.uint32:
    """A word of it."""
    return np.uint32((layout.pad & 255) * 0x01010101)


@compiled
def _pack(codes, words, images, channels, height, steps, shift):  # type: ignore[no-untyped-def]
    stride, plane, pitch, first = steps
    width = codes.shape[1]
    line = np.empty(width, np.uint32)
    for image in range(images):
        for group in range((channels + 3) // 4):
            for y in range(height):
                line[:] = 0
                for lane in range(min(4, channels - 4 * group)):
                    row = codes[(image * channels + 4 * group + lane) * height + y]
                    moved = np.uint32(8 * lane)
                    for x in range(width):
                        line[x] |= (np.uint32(np.int64(row[x]) + shift) & np.uint32(255)) << moved
                begin = first + image * stride + group * plane + y * pitch
                words[begin : begin + width] = line


@compiled
def _unpack(words, out, images, channels, height, steps, shift):  # type: ignore[no-untyped-def]
    stride, plane, pitch, first = steps
    width = out.shape[1]
    for image in range(images):
        for group in range((channels + 3) // 4):
            for y in range(height):
                begin = first + image * stride + group * plane + y * pitch
                line = words[begin : begin + width]
                for lane in range(min(4, channels - 4 * group)):
                    row = out[(image * channels + 4 * group + lane) * height + y]
                    moved = np.uint32(8 * lane)
                    for x in range(width):
                        row[x] = np.int32((line[x] >> moved) & np.uint32(255)) - np.int32(shift)


@compiled
def _fill(words, planes, height, width, border, word):  # type: ignore[no-untyped-def]
    top, left, bottom, right = border
    pitch = left + width + right
    plane = (top + height + bottom) * pitch
    for index in range(planes):
        begin = index * plane
        words[begin : begin + top * pitch + left] = word
        for y in range(top, top + height - 1):
            end = begin + y * pitch + left + width
            words[end : end + right + left] = word
        end = begin + (top + height - 1) * pitch + left + width
        words[end : begin + plane] = word


@compiled
def _split(words, source, images, groups, top, left, strides, wanted, out, target, pad):  # type: ignore[no-untyped-def]
    """Rows are written in the order in which they lie, so that each may be written a little too far."""
    stride, plane, pitch, first, height, width = source
    to_stride, to_plane, rows, columns = target
    down, right = strides
    for image in range(images):
        for group in range(groups):
            begin = first + image * stride + group * plane
            for i in range(down):
                for j in range(right):
                    if not wanted[i * right + j]:
                        continue
                    to = image * to_stride + ((group * down + i) * right + j) * to_plane
                    for r in range(rows):
                        y, line = r * down + i - top, to + r * columns
                        # columns c with 0 <= c * right + j - left < width
                        start = max(0, -((j - left) // right))
                        stop = min(columns, max(start, (width - 1 - j + left) // right + 1))
                        at = begin + y * pitch + j - left
                        inside = 0 <= y < height
                        if inside and right == 2 and at >= 0:
                            every_second(out, line, words, at, start, stop, columns, pad)
                            continue
                        # no slices: each would count a reference
                        for c in range(columns):
                            out[line + c] = words[at + right * c] if inside and start <= c < stop else pad


@compiled
def _resize(words, source, images, groups, rows, columns, out, target):  # type: ignore[no-untyped-def]
    stride, plane, pitch, first = source
    to_stride, to_plane, to_pitch, to_first = target
    for image in range(images):
        for group in range(groups):
            begin, to = first + image * stride + group * plane, to_first + image * to_stride + group * to_plane
            for r in range(rows.size):
                line = out[to + r * to_pitch : to + r * to_pitch + columns.size]
                if r > 0 and rows[r] == rows[r - 1]:
                    line[:] = out[to + (r - 1) * to_pitch : to + (r - 1) * to_pitch + columns.size]
                    continue
                at = begin + rows[r] * pitch
                for c in range(columns.size):
                    line[c] = words[at + columns[c]]


@compiled
def _shift_channels(words, source, shape, out, target, channel):  # type: ignore[no-untyped-def]
    stride, plane, pitch, first = source
    to_stride, to_plane, to_pitch, to_first = target
    images, channels, height, width = shape
    for image in range(images):
        for c in range(channels):
            lane, to_lane = np.uint32(8 * (c & 3)), np.uint32(8 * ((channel + c) & 3))
            keep = np.uint32(~np.uint32(np.uint32(255) << to_lane))
            for y in range(height):
                begin = first + image * stride + (c >> 2) * plane + y * pitch
                to = to_first + image * to_stride + ((channel + c) >> 2) * to_plane + y * to_pitch
                line, row = words[begin : begin + width], out[to : to + width]
                for x in range(width):
                    byte = (line[x] >> lane) & np.uint32(255)
                    row[x] = (row[x] & keep) | np.uint32(byte << to_lane)
