"""Compiled operators on maps of words against Python integers: every small window, and nothing written beside a map."""

import itertools

import numpy as np
import pytest

from intsim.engine.exact.isa import DOTS, untried
from intsim.engine.exact.layout import Layout, TensorView, pack, unpack, walk
from intsim.engine.exact.maps import max_words
from intsim.engine.exact.microkernels import Tile

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
