"""Words against plain arrays: packing, borders, phases, picking, and moving channels by less than a word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.engine.exact.layout import (
    Layout,
    TensorView,
    fill_border,
    pack,
    phases,
    resize,
    shift_channels,
    split,
    unpack,
)

sides = st.integers(0, 3)


@st.composite
def views(draw):
    """A tensor in a buffer of more channels, with a border on any side."""
    images, channels = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    groups = before + -(-channels // 4) + after
    shift = draw(st.sampled_from([0, 128]))
    border = [draw(sides) for _ in range(4)]
    size = draw(st.integers(1, 6)), draw(st.integers(1, 19))
    layout = Layout(images, 4 * groups, *size, shift, *border, draw(st.integers(0, 255)))
    return TensorView(0, layout, before, channels)


def codes_for(view, seed):
    lay = view.layout
    values = np.random.default_rng(seed).integers(0, 256, (lay.images, view.channels, lay.height, lay.width))
    return values - lay.shift


def garbage(layout, seed=1):
    return np.random.default_rng(seed).integers(0, 1 << 32, layout.size, dtype=np.uint32)


def seen(buffer, view):
    """Bytes of a tensor without its border, one by one."""
    lay = view.layout
    cube = buffer[: lay.images * lay.stride].view(np.uint8).reshape(lay.images, lay.groups, -1, lay.pitch, 4)
    inner = cube[:, view.group :, lay.top : lay.top + lay.height, lay.left : lay.left + lay.width]
    planes = inner.transpose(0, 1, 4, 2, 3).reshape(lay.images, -1, lay.height, lay.width)
    return planes[:, : view.channels].astype(np.int64)


@given(views(), st.sampled_from([np.int64, np.int32, np.int16]), st.integers(0, 9))
def test_packed_and_unpacked(view, kind, seed):
    codes, buffer = codes_for(view, seed), garbage(view.layout)
    before = buffer.copy()
    pack(codes.astype(kind), buffer, view)
    np.testing.assert_array_equal(seen(buffer, view), codes + view.layout.shift)
    out = np.empty(codes.shape, kind)
    unpack(buffer, view, out)
    np.testing.assert_array_equal(out, codes)
    # nothing but the tensor's own words is written
    everything = TensorView(0, view.layout, view.group, 4 * -(-view.channels // 4))
    pack(np.zeros((*codes.shape[:1], everything.channels, *codes.shape[2:]), kind), buffer, everything)
    pack(np.zeros((*codes.shape[:1], everything.channels, *codes.shape[2:]), kind), before, everything)
    np.testing.assert_array_equal(buffer, before)


@given(views())
def test_the_border_is_padding_and_nothing_else_is(view):
    lay = view.layout
    buffer = garbage(lay)
    codes = codes_for(view, 3)
    pack(codes, buffer, view)
    fill_border(buffer, lay).run()
    np.testing.assert_array_equal(seen(buffer, view), codes + lay.shift)
    cube = buffer[: lay.images * lay.stride].view(np.uint8).reshape(lay.images, lay.groups, -1, lay.pitch, 4).copy()
    cube[:, :, lay.top : lay.top + lay.height, lay.left : lay.left + lay.width] = lay.pad
    assert (cube == lay.pad).all()


@given(views(), st.tuples(*[st.integers(-1, 3)] * 4), st.tuples(*[st.integers(1, 3)] * 2), st.integers(0, 255))
def test_phases(view, pads, strides, pad):
    """Plane (group, i, j) holds the padded positions i, j modulo the strides."""
    lay = view.layout
    if lay.height + pads[0] + pads[2] < 1 or lay.width + pads[1] + pads[3] < 1:
        return
    buffer = garbage(lay)
    pack(codes_for(view, 5), buffer, view)
    layout = phases(view, pads, strides, pad)
    out = garbage(layout, 2)
    split(buffer, view, pads, strides, out, layout).run()
    rows, columns = layout.height * strides[0], layout.width * strides[1]
    bytes_ = seen(buffer, TensorView(0, lay, view.group, 4 * -(-view.channels // 4)))
    padded = np.full((*bytes_.shape[:2], rows, columns), pad, np.int64)
    for y in range(lay.height):
        for x in range(lay.width):
            to = y + pads[0], x + pads[1]
            if 0 <= to[0] < rows and 0 <= to[1] < columns:
                padded[:, :, to[0], to[1]] = bytes_[:, :, y, x]
    maps = seen(out, TensorView(0, layout, 0, layout.channels))
    down, right = strides
    for group in range(-(-view.channels // 4)):
        for i in range(down):
            for j in range(right):
                plane = 4 * ((group * down + i) * right + j)
                np.testing.assert_array_equal(
                    maps[:, plane : plane + 4], padded[:, 4 * group : 4 * group + 4, i::down, j::right]
                )


@given(views(), st.data())
def test_picked_positions(view, data):
    lay = view.layout
    rows = data.draw(st.lists(st.integers(0, lay.height - 1), min_size=1, max_size=7))
    columns = data.draw(st.lists(st.integers(0, lay.width - 1), min_size=1, max_size=7))
    layout = Layout(lay.images, view.channels, len(rows), len(columns), lay.shift, 1, 2, 0, 1, 9)
    to = TensorView(0, layout, 0, view.channels)
    buffer, out = garbage(lay), garbage(layout)
    codes = codes_for(view, 7)
    pack(codes, buffer, view)
    resize(buffer, view, np.array(rows), np.array(columns), out, to).run()
    np.testing.assert_array_equal(seen(out, to), codes[:, :, rows][:, :, :, columns] + lay.shift)


@given(views(), st.integers(0, 9))
def test_channels_moved_by_less_than_a_word(view, channel):
    lay = view.layout
    layout = Layout(lay.images, channel + view.channels + 3, lay.height, lay.width, lay.shift, 0, 1, 2, 0)
    to = TensorView(0, layout, 0, layout.channels)
    buffer, out = garbage(lay), np.zeros(layout.size, np.uint32)
    codes = codes_for(view, 8)
    pack(codes, buffer, view)
    other = np.random.default_rng(0).integers(0, 256, (lay.images, layout.channels, lay.height, lay.width))
    pack(other - lay.shift, out, to)
    shift_channels(buffer, view, out, to, channel).run()
    other[:, channel : channel + view.channels] = codes + lay.shift
    np.testing.assert_array_equal(seen(out, to), other)


@pytest.mark.parametrize("pad", [-1, 300])
def test_padding_beyond_a_byte_is_a_byte(pad):
    """Convolutions whose zero isn't a byte have no padding that counts; what the border holds doesn't matter."""
    layout = Layout(1, 4, 2, 2, 0, 1, 1, 1, 1, pad)
    fill_border(garbage(layout), layout).run()
