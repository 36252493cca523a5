"""A known answer before an instruction is trusted."""

from __future__ import annotations

from functools import cache

import numpy as np

from intsim.engine.exact import isa
from intsim.engine.exact.conv import NO_WORDS, Window, WordConv
from intsim.engine.exact.isa import Dot
from intsim.engine.exact.layout import Layout, TensorView, pack
from intsim.engine.exact.maps import look_up_words
from intsim.engine.exact.matmul import FEWEST, WordMatmul
from intsim.errors import IntsimError


@cache
def dot() -> Dot:
    """The quickest way to add four products that gives the known answer here; see `isa.candidates`.

    Raises IntsimError if none does, or for a name in INTSIM_ISA that isn't one or isn't available.
    """
    for name in isa.candidates():
        if adds_exactly(isa.DOTS[name]):
            return isa.DOTS[name]
    raise IntsimError("no way of adding four products gives right sums on this processor; please report it")


@cache
def looks_up() -> bool:
    """Whether there are `isa.shuffles`, and they find each of 256 entries in each place of a register."""
    if not isa.shuffles():
        return False
    table = (np.arange(256) * 37 % 256).astype(np.uint8)  # every byte once, in no order
    places = [
        (np.arange(64)[None] + np.arange(256)[:, None]).astype(np.uint8).reshape(-1),
        np.arange(67, dtype=np.uint8),
    ]
    given = np.concatenate([*places, np.zeros(1, np.uint8)]).view(np.uint32)
    out = np.zeros(given.size + 1, np.uint32)
    maps = ((np.append(words, np.zeros(16, np.uint32)), 0, 0, 0, 0) for words in (given, out))
    x, y = maps
    look_up_words(x, y, (1, 1, given.size), table[None], 0, 1)
    made = y[0].view(np.uint8)[: 4 * given.size]
    return bool(np.array_equal(made, table[given.view(np.uint8)]) and not y[0][given.size :].any())


def adds_exactly(way: Dot) -> bool:
    """Whether a known answer comes out: extremes of both operands, side by side and mixed, in every lane of a vector.

    Products saturate wherever two of them meet in 16 bits.
    """
    depth, columns = 24, 2 * way.lanes + 1
    k, n = np.arange(depth)[:, None], np.arange(columns)
    weight = np.where((k // (1 + n % 5)) % 2 == 0, 127, -128) - (k * n) % 3 * np.where(k % 7 == 3, 1, 0)
    weight = np.clip(weight, -128, 127).astype(np.int64)
    weight[:, 0], weight[:, 1] = 127, -128
    x = np.stack([np.full(depth, 255), 255 - np.arange(depth), np.arange(depth) % 2 * 255]).astype(np.int64)
    expected = [[sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) for column in weight.T] for row in x]
    sums = WordMatmul(weight, np.zeros(columns, np.int64), way).run(x, 0)
    return bool(np.array_equal(sums, np.array(expected))) and (not way.tiles or _adds_in_tiles(way))


def _adds_in_tiles(way: Dot) -> bool:
    """The same of tile registers: sums of 130 products, of which no register is full, at 49 positions or of 49 rows."""
    channels, depth, positions = 40, 130, 49
    o, k, p = np.arange(channels)[:, None], np.arange(depth), np.arange(positions)
    weight = np.where((k // (1 + o % 5)) % 2 == 0, 127, -128) - (k * o) % 3 * np.where(k % 7 == 3, 1, 0)
    weight = np.clip(weight, -128, 127).astype(np.int64)
    weight[0], weight[1] = 127, -128
    x = np.where(p % 3 == 0, 255, np.where(p % 3 == 1, 255 - k[:, None], (k[:, None] + p) % 2 * 255)).astype(np.int64)
    plain = Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, (7, 7), (7, 7))
    conv = WordConv(weight.reshape(channels, depth, 1, 1), np.zeros(channels, np.int64), plain, 0, 0, way)
    layout = Layout(1, depth, 7, 7)
    view, words, sums = TensorView(0, layout, 0, depth), np.zeros(layout.size, np.uint32), np.empty(40 * 49, np.int32)
    pack(x.reshape(1, depth, 7, 7), words, view)
    for bound in conv.bind(view, None, (1, channels, 7, 7)):
        bound.run(words, NO_WORDS, sums)
    right, product = weight @ x, WordMatmul(weight.T, np.zeros(channels, np.int64), way).run(x.T, 0)
    tiled = conv.blocks[0].depth > 0 and positions >= FEWEST
    return tiled and np.array_equal(sums.reshape(channels, positions), right) and np.array_equal(product.T, right)
