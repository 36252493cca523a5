"""The compiled loops against `AffineRequantizer` in Python floats and integers, one element after another."""

import gc
import math
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.engine.requantize.affine import CEIL, FLOOR, RINT, AffineRequantizer
from intsim.engine.requantize.kernels import Combination, prepared, requantize_dense

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once

KINDS = {RINT: round, FLOOR: math.floor, CEIL: math.ceil}
TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64)


def said(rounder, acc):
    """Codes of accumulators (outer, cells, inner)."""
    out = np.empty(acc.shape, np.int64)
    tables = rounder.table.tolist()
    for index, v in np.ndenumerate(acc):
        c, v = index[1], int(v)
        scale, offset = float(rounder.scale[c]), float(rounder.offset[c])
        g = KINDS[rounder.kind](min(max(scale * float(v) + offset, -1e9), 1e9))
        g = min(max(g, rounder.low), rounder.high)
        if tables[c]:
            u = -v if scale < 0 else v
            if g > rounder.low and u < tables[c][g - rounder.low - 1]:
                g -= 1
            if g < rounder.high and u >= tables[c][g - rounder.low]:
                g += 1
        out[index] = g
    return out


def codes_of(acc, rule):
    return requantize_dense(acc, rule, np.empty(acc.shape, np.int64))


def made(rng, cells, low, high, kind=RINT, table=None, reach=(-9000, 9000)):
    """Codes over about half of the reach. `table`: its steps less the formula's, in accumulators, between two."""
    scale = rng.choice([-1, 1], cells) * 2 * (high - low + 1) / (reach[1] - reach[0]) * rng.uniform(0.7, 1.5, cells)
    offset = (low + high) / 2 + rng.uniform(-3, 3, cells)
    if table is None:
        steps = np.zeros((cells, 0), np.int64)
    else:
        edge = np.arange(low + 1, high + 1) - {RINT: 0.5, FLOOR: 0, CEIL: 1}[kind]
        exact = (edge - offset[:, None]) / np.abs(scale)[:, None]
        steps = np.ceil(exact).astype(np.int64) + rng.integers(table[0], table[1] + 1, exact.shape)
        ends = np.where(scale[:, None] < 0, [-reach[1], -reach[0]], reach)
        steps = np.clip(np.maximum.accumulate(steps, axis=1), ends[:, :1], ends[:, 1:] + 1)
    return AffineRequantizer(scale, offset, kind, low, high, steps, reach)


@pytest.mark.parametrize("kind", [RINT, FLOOR, CEIL])
@pytest.mark.parametrize("lane", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(2, 3, 300), (5, 4, 1), (1, 1, 129), (3, 2, 5)])
@pytest.mark.parametrize("table", [None, (0, 0), (0, 1), (-1, 0), (-20, 20), (0, 20), (-20, 0)])
def test_codes(kind, lane, shape, table):
    rng = np.random.default_rng(shape[2])
    for low, high in ((0, 255), (-128, 127), (-3, 0), (0, 1), (-1000, 3000)):
        rounder = made(rng, shape[1], low, high, kind, table)
        acc = rng.integers(-9000, 9001, shape).astype(lane)
        expected = said(rounder, acc)
        for kind_ in TYPES:
            if np.iinfo(kind_).min <= low and high <= np.iinfo(kind_).max:
                out = np.full(shape, 77, kind_)
                assert requantize_dense(acc, rounder, out) is out
                np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("table", [None, (-3, 3), (-(1 << 23), 1 << 23)])
def test_the_ends_of_32_bits(table):
    rng = np.random.default_rng(0)
    for reach in (
        (-(1 << 31), (1 << 31) - 1),
        (-(1 << 31), 0),
        (1 - (1 << 31), (1 << 31) - 2),
        (2 - (1 << 31), (1 << 31) - 2),
        (0, (1 << 31) - 1),
    ):
        rounder = made(rng, 6, 0, 255, RINT, table, reach)
        acc = np.array([[[*reach, reach[0] + 1, reach[1] - 1, *rng.integers(*reach, 300)]] * 6]).astype(np.int32)
        np.testing.assert_array_equal(codes_of(acc, rounder), said(rounder, acc))


def test_ties_go_to_even_codes():
    rounder = AffineRequantizer(np.array([0.5]), np.array([0.0]), RINT, -8, 7, np.zeros((1, 0), np.int64), (-99, 99))
    acc = np.arange(-19, 19, dtype=np.int32).reshape(1, 1, -1)
    np.testing.assert_array_equal(codes_of(acc, rounder)[0, 0], np.clip(np.rint(acc[0, 0] / 2), -8, 7))


def test_product_and_sum_are_rounded_each():
    """2^27 + 1 squared needs 55 bits: fused with the sum its last bit would survive."""
    a = (1 << 27) + 1
    rounder = AffineRequantizer(
        np.array([float(a)]), np.array([-float(1 << 54)]), RINT, 0, 1 << 30, np.zeros((1, 0), np.int64), (a, a)
    )
    acc = np.full((1, 1, 40), a)
    assert set(codes_of(acc, rounder).reshape(-1).tolist()) == {1 << 28}


@given(st.data())
def test_drawn_tables(data):
    """Tables within half a code of the formula, which is when blocks are skipped, and beyond."""
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    low = draw(st.integers(-200, 100))
    reach = -draw(st.integers(300, 1 << 20)), draw(st.integers(300, 1 << 20))
    rounder = made(
        rng, 2, low, low + draw(st.integers(1, 200)), RINT, (-draw(st.integers(0, 40)), draw(st.integers(0, 40))), reach
    )
    ends = np.where(rounder.scale[:, None] < 0, -1, 1)
    near = np.clip((ends * rounder.table)[:, :, None] + np.arange(-1, 2), *reach).reshape(1, 2, -1)
    acc = np.concatenate([near, rng.integers(reach[0], reach[1] + 1, (1, 2, 400))], axis=2)
    np.testing.assert_array_equal(codes_of(acc, rounder), said(rounder, acc))
    np.testing.assert_array_equal(codes_of(acc.astype(np.int32), rounder), said(rounder, acc))


def test_what_is_prepared_is_kept_as_long_as_its_rounder():
    rng = np.random.default_rng(0)
    first, second = made(rng, 2, 0, 15, RINT, (0, 0)), made(rng, 2, 0, 15, RINT, (-4000, 4000))
    lane = np.dtype(np.int64)
    assert prepared(first, lane)[0] is prepared(first, lane)[0]
    assert prepared(first, lane)[1] > 0.4 > prepared(second, lane)[1]
    assert prepared(first, np.dtype(np.int32))[0].dtype == np.int32
    steps = weakref.ref(prepared(first, lane)[0])
    del first
    gc.collect()
    assert steps() is None


@pytest.mark.parametrize("table", [None, (-2, 2)])
@pytest.mark.parametrize("types", [(np.uint8, np.uint8), (np.int8, np.uint8), (np.int16, np.int16), (np.int8,) * 3])
def test_sums(types, table):
    rng = np.random.default_rng(len(types))
    for largest in (50, 1 << 40, 1 << 46):
        factors = rng.integers(-largest, largest, (len(types), 3))
        arrays = [rng.integers(np.iinfo(t).min, np.iinfo(t).max + 1, (2, 3, 200)).astype(t) for t in types]
        total = sum(a.astype(np.int64) * f[:, None] for a, f in zip(arrays, factors, strict=True))
        reach = int(total.min()), int(total.max())
        rounder = made(rng, 3, -128, 127, RINT, table, reach)
        for kind in (np.int8, np.int64):
            out = np.empty(total.shape, kind)
            assert Combination(factors, rounder).run(arrays, out) is out
            np.testing.assert_array_equal(out, said(rounder, total))


def test_sums_of_products_beyond_binary64():
    """x * (2^55 + 1) - x * 2^55 is x."""
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, -1)
    rounder = AffineRequantizer(np.array([1.0]), np.array([0.0]), RINT, 0, 255, np.zeros((1, 0), np.int64), (0, 255))
    factors = np.array([[(1 << 55) + 1], [-(1 << 55)]])
    np.testing.assert_array_equal(Combination(factors, rounder).run([x, x], np.empty_like(x)), x)
