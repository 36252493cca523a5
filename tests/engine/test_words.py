"""Words against plain arrays: packing, borders, phases, picking, and moving channels by less than a word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.engine.exact import layout as words
from intsim.engine.exact.layout import Layout, TensorView

sides = st.integers(0, 3)


@st.composite
def places(draw):
    """A place in a buffer of more channels, with a border on any side."""
    images, channels = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    groups = before + -(-channels // 4) + after
    shift = draw(st.sampled_from([0, 128]))
    border = [draw(sides) for _ in range(4)]
    size = draw(st.integers(1, 6)), draw(st.integers(1, 19))
    layout = Layout(images, 4 * groups, *size, shift, *border, draw(st.integers(0, 255)))
    return TensorView(0, layout, before, channels)


def codes_for(place, seed):
    lay = place.layout
    values = np.random.default_rng(seed).integers(0, 256, (lay.images, place.channels, lay.height, lay.width))
    return values - lay.shift


def garbage(layout, seed=1):
    return np.random.default_rng(seed).integers(0, 1 << 32, layout.size, dtype=np.uint32)


def seen(buffer, place):
    """Bytes of a place without its border, one by one."""
    lay = place.layout
    cube = buffer[: lay.images * lay.stride].view(np.uint8).reshape(lay.images, lay.groups, -1, lay.pitch, 4)
    inner = cube[:, place.group :, lay.top : lay.top + lay.height, lay.left : lay.left + lay.width]
    planes = inner.transpose(0, 1, 4, 2, 3).reshape(lay.images, -1, lay.height, lay.width)
    return planes[:, : place.channels].astype(np.int64)


@given(places(), st.sampled_from([np.int64, np.int32, np.int16]), st.integers(0, 9))
def test_packed_and_unpacked(place, kind, seed):
    codes, buffer = codes_for(place, seed), garbage(place.layout)
    before = buffer.copy()
    words.pack(codes.astype(kind), buffer, place)
    np.testing.assert_array_equal(seen(buffer, place), codes + place.layout.shift)
    out = np.empty(codes.shape, kind)
    words.unpack(buffer, place, out)
    np.testing.assert_array_equal(out, codes)
    # nothing but the place's own words is written
    everything = TensorView(0, place.layout, place.group, 4 * -(-place.channels // 4))
    words.pack(np.zeros((*codes.shape[:1], everything.channels, *codes.shape[2:]), kind), buffer, everything)
    words.pack(np.zeros((*codes.shape[:1], everything.channels, *codes.shape[2:]), kind), before, everything)
    np.testing.assert_array_equal(buffer, before)


@given(places())
def test_the_border_is_padding_and_nothing_else_is(place):
    lay = place.layout
    buffer = garbage(lay)
    codes = codes_for(place, 3)
    words.pack(codes, buffer, place)
    words.fill_border(buffer, lay)
    np.testing.assert_array_equal(seen(buffer, place), codes + lay.shift)
    cube = buffer[: lay.images * lay.stride].view(np.uint8).reshape(lay.images, lay.groups, -1, lay.pitch, 4).copy()
    cube[:, :, lay.top : lay.top + lay.height, lay.left : lay.left + lay.width] = lay.pad
    assert (cube == lay.pad).all()


@given(places(), st.tuples(*[st.integers(-1, 3)] * 4), st.tuples(*[st.integers(1, 3)] * 2), st.integers(0, 255))
def test_phases(place, pads, strides, pad):
    """Plane (group, i, j) holds the padded positions i, j modulo the strides."""
    lay = place.layout
    if lay.height + pads[0] + pads[2] < 1 or lay.width + pads[1] + pads[3] < 1:
        return
    buffer = garbage(lay)
    words.pack(codes_for(place, 5), buffer, place)
    layout = words.phases(place, pads, strides, pad)
    out = garbage(layout, 2)
    words.split(buffer, place, pads, strides, out, layout)
    rows, columns = layout.height * strides[0], layout.width * strides[1]
    bytes_ = seen(buffer, TensorView(0, lay, place.group, 4 * -(-place.channels // 4)))
    padded = np.full((*bytes_.shape[:2], rows, columns), pad, np.int64)
    for y in range(lay.height):
        for x in range(lay.width):
            to = y + pads[0], x + pads[1]
            if 0 <= to[0] < rows and 0 <= to[1] < columns:
                padded[:, :, to[0], to[1]] = bytes_[:, :, y, x]
    found = seen(out, TensorView(0, layout, 0, layout.channels))
    down, right = strides
    for group in range(-(-place.channels // 4)):
        for i in range(down):
            for j in range(right):
                plane = 4 * ((group * down + i) * right + j)
                np.testing.assert_array_equal(
                    found[:, plane : plane + 4], padded[:, 4 * group : 4 * group + 4, i::down, j::right]
                )


@given(places(), st.data())
def test_picked_positions(place, data):
    lay = place.layout
    rows = data.draw(st.lists(st.integers(0, lay.height - 1), min_size=1, max_size=7))
    columns = data.draw(st.lists(st.integers(0, lay.width - 1), min_size=1, max_size=7))
    layout = Layout(lay.images, place.channels, len(rows), len(columns), lay.shift, 1, 2, 0, 1, 9)
    to = TensorView(0, layout, 0, place.channels)
    buffer, out = garbage(lay), garbage(layout)
    codes = codes_for(place, 7)
    words.pack(codes, buffer, place)
    words.resize(buffer, place, np.array(rows), np.array(columns), out, to)
    np.testing.assert_array_equal(seen(out, to), codes[:, :, rows][:, :, :, columns] + lay.shift)


@given(places(), st.integers(0, 9))
def test_channels_moved_by_less_than_a_word(place, channel):
    lay = place.layout
    layout = Layout(lay.images, channel + place.channels + 3, lay.height, lay.width, lay.shift, 0, 1, 2, 0)
    to = TensorView(0, layout, 0, layout.channels)
    buffer, out = garbage(lay), np.zeros(layout.size, np.uint32)
    codes = codes_for(place, 8)
    words.pack(codes, buffer, place)
    other = np.random.default_rng(0).integers(0, 256, (lay.images, layout.channels, lay.height, lay.width))
    words.pack(other - lay.shift, out, to)
    words.shift_channels(buffer, place, out, to, channel)
    other[:, channel : channel + place.channels] = codes + lay.shift
    np.testing.assert_array_equal(seen(out, to), other)


@pytest.mark.parametrize("pad", [-1, 300])
def test_padding_beyond_a_byte_is_a_byte(pad):
    """Convolutions whose zero isn't a byte have no padding that counts; what the border holds doesn't matter."""
    layout = Layout(1, 4, 2, 2, 0, 1, 1, 1, 1, pad)
    words.fill_border(garbage(layout), layout)
