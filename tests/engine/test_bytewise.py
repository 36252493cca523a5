"""Compiled operators on maps of words against Python's numbers: every small window, every pair of bytes, every code.

Nothing is written beside a map.
"""

import itertools

import numpy as np
import pytest

from intsim.engine.exact.isa import DOTS, untried
from intsim.engine.exact.layout import Layout, TensorView, pack, unpack, walk
from intsim.engine.exact.maps import (
    look_up_bytes,
    look_up_words,
    max_words,
    mean_codes,
    multiply_words,
    multiply_words32,
)
from intsim.engine.exact.microkernels import Tile
from intsim.engine.exact.selftest import looks_up
from intsim.engine.program.maps import holds_in_float32
from intsim.engine.requantize.affine import RINT, AffineRequantizer

pytestmark = pytest.mark.xdist_group("engine")
OTHERS = [name for name in ("generic", "vnni256", "vnni512") if DOTS[name].lanes != untried().lanes]
"""One name for each other width of vectors, all of which LLVM has code for."""
WIDTHS = [untried().name, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


class Map:
    """A map of random bytes with a border of other bytes, in a buffer of words."""

    def __init__(self, shape, seed=0, border=(1, 2, 0, 1)):
        self.codes = np.random.default_rng(seed).integers(0, 255, shape, endpoint=True)
        images, channels, height, width = shape
        layout = Layout(images, channels, height, width, 0, *border)
        self.view = TensorView(0, layout, 0, channels)
        self.words = np.full(layout.size, 0xA5C3F00F, np.uint32)
        pack(self.codes, self.words, self.view)
        self.before = self.words.copy()

    @property
    def walked(self):
        """As the kernels take it."""
        return (self.words, *walk(self.view))

    def read(self):
        """What it holds; the words around it hold what they did."""
        out = np.empty(self.codes.shape, np.int64)
        unpack(self.words, self.view, out)
        kept = self.before.copy()
        pack(out, kept, self.view)
        np.testing.assert_array_equal(self.words, kept)
        return out.tolist()


def greatest(plane, taps, strides, apart, before, size):
    """Greatest of each window of a list of lists."""
    height, width = len(plane), len(plane[0])
    rows, columns = (
        [range(o * s - b, o * s - b + k * a, a) for o in range(n)]
        for k, s, a, b, n in zip(taps, strides, apart, before, size, strict=True)
    )
    return [
        [max(plane[y][x] for y in ys for x in xs if 0 <= y < height and 0 <= x < width) for xs in columns]
        for ys in rows
    ]


@pytest.mark.parametrize("name", WIDTHS)
def test_every_small_window(name):
    """Along each axis taps of 1 to 3, strides of 1 to 3, distances of 1 and 2, padding of 0 to 2."""
    dot, seen = DOTS[name], 0
    for (height, width), seed in zip([(1, 1), (4, 5), (3, 17), (2, 35)], range(4), strict=True):
        x = Map((1, 4, height, width), seed)
        planes = x.codes[0].tolist()
        for taps, stride, apart, before in itertools.product((1, 2, 3), (1, 2, 3), (1, 2), (0, 1, 2)):
            down = taps, stride, apart, before
            right = (3 - seed % 2, *down[1:]) if seed % 2 else down
            window = [(down[i], right[i]) for i in range(4)]
            size = [
                max(0, (n + 2 * b - (k - 1) * a - 1) // s + 1)
                for n, (k, s, a, b) in zip((height, width), (down, right), strict=True)
            ]
            at = [
                [any(0 <= o * s - b + i * a < n for i in range(k)) for o in range(c)]
                for n, c, (k, s, a, b) in zip((height, width), size, (down, right), strict=True)
            ]
            if 0 in size or not all(map(all, at)):
                continue
            seen += 1
            out = Map((1, 4, *size), 9)
            geometry = (1, height, width, *size), tuple(v for pair in window for v in pair)
            max_words(x.walked, out.walked, *geometry, Tile(dot.lanes, dot.parts), 0, 1)
            assert out.read() == [[greatest(p, *window, size) for p in planes]]
    assert seen > 80


@pytest.mark.skipif(not looks_up(), reason="no AVX512 VBMI")
@pytest.mark.parametrize("width", [1, 5, 16, 37])
def test_every_byte_is_looked_up(width):
    table = np.random.default_rng(width).permutation(256).astype(np.uint8)
    x, out = (Map((2, 8, -(-256 // width), width), seed) for seed in range(2))
    x.codes[:] = (np.arange(x.codes[0, 0].size) % 256).reshape(x.codes[0, 0].shape)
    pack(x.codes, x.words, x.view)
    look_up_words(x.walked, out.walked, (2, -(-256 // width), width), table[None], 1, 4)
    made, wanted = (
        out.read(),
        [[[int(table[v]) for v in row] for row in plane] for plane in x.codes[0, 0][None].tolist()],
    )
    assert made[0][4:] == wanted * 4
    assert made[1] == wanted * 8
    assert made[0][:4] == out.codes[0, :4].tolist()  # plane 0 was another share's


@pytest.mark.skipif(not looks_up(), reason="no AVX512 VBMI")
@pytest.mark.parametrize("size", [1, 63, 64, 65, 300])
def test_every_byte_of_an_array_is_looked_up(size):
    """Shares of any length; what is in front of one and behind it stays."""
    table = np.random.default_rng(size).permutation(256).astype(np.uint8)
    x = (np.arange(size + 9) % 256).astype(np.uint8)
    out = np.full(size + 9, 7, np.uint8)
    look_up_bytes(x, out, table, 4, 4 + size)
    assert out.tolist() == [7] * 4 + [int(table[v % 256]) for v in range(4, size + 4)] + [7] * 5


def rounded(scale, offset, low, high, product):
    """The code of a product, in Python's floats."""
    return round(min(max(scale * product + offset, low), high))


PAIRS = [
    (1 / 700.0, 3.0, 0, 255, (0, 0), True),
    (-1 / 810.7, 0.25, -128, 127, (128, 31), True),
    (1 / 256, 0.0, 0, 255, (0, 0), True),  # many ties
    (1 / 256 + 2.0**-40, 0.0, 0, 255, (0, 0), False),  # whose tie float32 alone takes to even
    (0.5, 2.0**-30, -128, 127, (128, 128), False),
]


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("pair", PAIRS)
def test_every_pair_of_bytes(pair, name):
    """Products in float32 where that is proven; where it isn't, some code would be another one."""
    scale, offset, low, high, zeros, short = pair
    tile, shift = Tile(DOTS[name].lanes, DOTS[name].parts), -low
    x, y, out = Map((1, 4, 256, 256), 0), Map((1, 4, 256, 256), 1), Map((1, 4, 256, 256), 2)
    x.codes[:], y.codes[:] = np.arange(256)[:, None], np.arange(256)
    for one in (x, y):
        pack(one.codes, one.words, one.view)
    table = np.repeat(np.array([[-zeros[0]], [-zeros[1]], [scale], [offset]]), 4, axis=1)
    limits, size = np.array([low, high, shift], np.int32), (1, 256, 256, 0)
    column = [
        [rounded(scale, offset, low, high, (a - zeros[0]) * (b - zeros[1])) + shift for b in range(256)]
        for a in range(256)
    ]
    multiply_words(x.walked, y.walked, size, table, limits, out.walked, 0, 1)
    assert out.read() == [[column] * 4]
    rule = AffineRequantizer(
        np.array([scale]), np.array([offset]), RINT, low, high, np.zeros((1, 0), np.int64), (-65536, 65536)
    )
    held = [((-z, 255 - z), 0) for z in zeros]
    assert holds_in_float32(table[:, :1], rule, *held) == short
    multiply_words32(x.walked, y.walked, size, table.astype(np.float32), limits, out.walked, tile, 0, 1)
    assert (out.read() == [[column] * 4]) == short
    if short:
        multiply_words32(x.walked, y.walked, (1, 256, 256, 1), table.astype(np.float32), limits, out.walked, tile, 0, 1)
        assert out.read() == [[[[row[0]] * 256 for row in column]] * 4]  # all by y[0, 0]


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (2, 16), (1, 33)])
def test_means_of_bytes(size, name):
    x, out = Map((2, 6, *size)), np.zeros((4, 4), np.uint8)
    x.codes[0, 0], x.codes[1, 3] = 255, 0
    pack(x.codes, x.words, x.view)
    count, channels = size[0] * size[1], np.arange(8)
    factors = np.stack([-7.0 * channels, 1 / (count + channels), 0.5 + 0 * channels])
    tile, limits = Tile(DOTS[name].lanes, DOTS[name].parts), np.array([-100, 120, 128], np.int32)
    mean_codes(x.walked, (2, *size), factors, limits, out, tile, 0, 4)
    for image in range(2):
        for c in range(6):
            total = sum(map(sum, x.codes[image, c].tolist()))
            wanted = rounded(float(factors[1, c]), 0.5, -100, 120, total - 7 * c) + 128
            assert out[2 * image + c // 4, c % 4] == wanted
