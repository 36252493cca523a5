"""Shifted planes through the registers of every target, against the definition and loops in Python integers."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.arithmetic.schedule import schedule
from intsim.engine.registers.lanes import choose_lanes, grouped
from intsim.engine.registers.matmul import register_matmul
from intsim.engine.registers.plan import SLACK, register_plan
from intsim.targets import Target

pytestmark = pytest.mark.xdist_group("registers")  # kernels that its tests share are compiled once

REST = {bits: Stage(None, bits, "saturate") for bits in (8, 12, 16, 18, 31, 32, 40)}


def chains():
    """Registers of every target that has some, and of each family at its ends and middle."""
    names = list(Target.names())
    for family in Target.families():
        names += [family.member(n) for n in (family.low, (family.low + family.high) // 2, family.high)]
    targets = {name: Target.load(name) for name in names}
    return {n: t for n, t in targets.items() if t.stages and t.registers.packing is None}


def planes(rng, grid, depth, values, dtype):
    """Data with `depth` products at every position, at offsets in no order, and the activations (positions, K)."""
    rows, width, pitch = grid
    size = rows * pitch
    data = rng.choice(values, 3 * size + SLACK).astype(dtype)
    offsets = rng.integers(0, 2 * size, depth)
    positions = (np.arange(rows)[:, None] * pitch + np.arange(width)).reshape(-1)
    return data, offsets, data[offsets[None] + positions[:, None]]


def check(data, offsets, a, w, grid, stages, start=None, late=None):
    products = a.astype(np.int64)[None] * w.astype(np.int64)[:, None]
    columns = (None if v is None else np.asarray(v)[:, None] for v in (start, late))
    first, last = columns
    defined = accumulate_telemetry(products, stages, 0 if first is None else first, last)
    events = defined.events.sum(1)
    info = np.iinfo(data.dtype)
    span = (info.min, info.max) if data.dtype.itemsize == 1 else (int(data.min()), int(data.max()))
    for mode in ("counted", "touched"):
        out, seen = accumulated(register_plan(offsets, w, stages, span, start, late, mode), data, grid)
        np.testing.assert_array_equal(out, defined.result)
        np.testing.assert_array_equal(seen, events if mode == "counted" else events > 0)
        assert out.dtype == (np.int32 if stages[-1].bits <= 32 else np.int64)
    return events


def accumulated(plan, data, grid):
    """Accumulators and events, all of them at once."""
    out = np.zeros((plan.channels, grid[0] * grid[1]), plan.dtype)
    return out, plan.run(data, grid, out)[0]


CHAINS = chains()


@pytest.mark.parametrize("name", CHAINS)
def test_every_target(name):
    target = CHAINS[name]
    rng = np.random.default_rng(len(name))
    span = target.registers.activation
    low, high = (0, 255) if span is None else (span.min, span.max)
    values = [low, high, high, high - 1, low + 1, 0, 1, high // 2]
    grid = (3, 30, 37)
    data, offsets, a = planes(rng, grid, 150, values, np.uint8 if low == 0 and high <= 255 else np.int16)
    w = rng.choice([-128, -127, 127, 127, 126, 0, 3, -5], (5, 150)).astype(np.int8)
    w[1] = np.abs(w[1].astype(int)).clip(0, 127)  # overflows soon
    start, late = rng.integers(-(1 << 20), 1 << 20, (2, 5))
    check(data, offsets, a, w, grid, target.stages, start, late)


LANES = {
    "exact16": ([Stage(2, 16, "wrap"), Stage(None, 18, "saturate")], 100, "exact", 16),
    "wrap16": ([Stage(None, 12, "wrap")], 255, "wrap", 16),
    "full16": ([Stage(None, 16, "wrap")], 255, "full", 16),
    "narrow16": ([Stage(None, 16, "saturate")], 255, "narrow", 16),
    "scaled16": ([Stage(None, 9, "saturate")], 1, "narrow", 16),
    "scaled16-tile": ([Stage(8, 10, "saturate"), Stage(None, 12, "saturate")], 3, "narrow", 16),
    "both16": ([Stage(None, 12, "saturate")], 255, "both", 16),
    "both16-pairs": ([Stage(2, 12, "saturate"), Stage(None, 32, "wrap")], 255, "both", 16),
    "exact32": ([Stage(4, 32, "wrap"), Stage(None, 17, "saturate")], 255, "exact", 32),
    "wrap32": ([Stage(None, 17, "wrap")], 255, "wrap", 32),
    "clip32": ([Stage(None, 17, "saturate")], 255, "clip", 32),
    "clip32-tile": ([Stage(7, 17, "saturate"), Stage(None, 18, "wrap")], 255, "clip", 32),
    "full32": ([Stage(None, 32, "wrap")], 1 << 23, "full", 32),
    "clip32-wide": ([Stage(None, 24, "saturate")], 1 << 20, "clip", 32),
    "clip64": ([Stage(None, 40, "saturate")], 1 << 31, "clip", 64),
    "saturate32": ([Stage(None, 32, "saturate")], 1 << 24, "clip", 64),
    "any64": ([Stage(None, 40, "wrap"), Stage(None, 24, "saturate")], 1 << 31, "any", 64),
    "chain32": ([Stage(2, 16, "saturate"), Stage(8, 16, "saturate"), Stage(None, 20, "wrap")], 255, "narrow", 16),
    "chain64": ([Stage(3, 17, "saturate"), Stage(5, 33, "wrap"), Stage(None, 17, "saturate")], 255, "clip", 32),
    "lanes": (
        [Stage(2, 16, "saturate", 8), Stage(2, 17, "wrap"), Stage(None, 18, "wrap", 4), REST[18]],
        255,
        "narrow",
        16,
    ),
}


LONG = {"scaled16", "scaled16-tile", "both16-pairs", "clip32-tile", "clip32-wide", "saturate32", "chain32", "chain64"}
"""Lanes of a kind that another of `LANES` has too: left to the long suite."""


@pytest.mark.parametrize(
    "grid",
    [
        *(pytest.param(g, marks=pytest.mark.slow) for g in ((1, 200, 200), (2, 64, 64))),
        (1, 1, 1),
        (9, 7, 9),
        (3, 31, 300),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in LANES])
def test_each_lane_on_grids(name, grid):
    stages, largest, kind, bits = LANES[name]
    rng = np.random.default_rng(sum(grid))
    dtype = next(t for t in (np.uint8, np.int16, np.int32, np.int64) if largest <= np.iinfo(t).max)
    data, offsets, a = planes(rng, grid, 45, [largest, largest, largest - 1, 1, 0, largest // 3], dtype)
    w = rng.choice([-128, 127, 127, 126, 1], (5, 45)).astype(np.int8)
    w[3], w[4] = 1, 0  # one channel with few events, one without
    shape = choose_lanes(tuple(stages), w, (0, max(largest, int(data.max()))), 0, "counted").shape
    assert (shape.kind, shape.bits) == (kind, bits)
    start, late = np.array([0, 5, -300, 1, 0]), np.array([-5, 1 << 40, 300, 0, 0])
    assert check(data, offsets, a, w, grid, stages).sum() or "exact" in name or largest < 4
    check(data, offsets, a, w, grid, stages, start, late)
    check(data, offsets, a[:, :], w[:1], grid, stages, start[:1], None)


def test_every_kind_of_lane_is_tried_every_day():
    assert {v[2:] for n, v in LANES.items() if n not in LONG} == {v[2:] for v in LANES.values()}


SMALL = st.builds(
    Stage, st.sampled_from([1, 2, 3, 4, 7]), st.sampled_from([9, 12, 15, 16]), st.sampled_from(["wrap", "saturate"]),
    st.sampled_from([1, 1, 2, 3]),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(SMALL, max_size=2), st.sampled_from([12, 18, 40]), st.integers(1, 40), st.integers(1, 9), st.data())
def test_drawn_chains(groups_, last, depth, channels, data):
    stages = [*groups_, REST[last]]
    seed = data.draw(st.integers(0, 1 << 32))
    rng = np.random.default_rng(seed)
    grid = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 40)), 40)
    near = [0, 1, 127, 128, 129, 254, 255]
    planar, offsets, a = planes(rng, grid, depth, near, np.uint8)
    w = rng.choice([-128, -127, -1, 0, 1, 64, 127], (channels, depth)).astype(np.int8)
    top = 1 << (stages[-1].bits - 1)
    terms = rng.choice([0, 1, -1, top, top - 1, -top, -top - 1, 2 * top, 5 * top + 3, -7 * top], (2, channels))
    start, late = (t if data.draw(st.booleans()) else None for t in terms)
    check(planar, offsets, a, w, grid, stages, start, late)


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("bits", [2, 3, 8, 9])
def test_every_pair_of_three_products(bits, overflow):
    """All x0, x1 out of 16 and weights -8..7: every register state a small accumulator can reach, and its edges."""
    x = np.arange(16)
    a = np.stack(np.meshgrid(x, x, [0, 7, 15], indexing="ij"), axis=-1).reshape(-1, 3)
    w = np.stack(np.meshgrid(range(-8, 8), [-8, -1, 7], [-8, 7], indexing="ij"), axis=-1).reshape(-1, 3)
    data = np.zeros((3, len(a)), np.uint8)
    data[:] = a.T
    flat = np.concatenate([data.reshape(-1), np.zeros(SLACK, np.uint8)])
    events = check(flat, np.arange(3) * len(a), a, w, (1, len(a), len(a)), [Stage(None, bits, overflow)])
    assert events.any()


def test_parts_are_the_whole():
    """Rows and blocks of channels by themselves, as threads take them."""
    rng = np.random.default_rng(0)
    grid = (6, 50, 53)
    data, offsets, _ = planes(rng, grid, 40, [0, 255, 254, 1], np.uint8)
    w = rng.integers(-128, 128, (11, 40))
    for stages in ([REST[16]], [Stage(2, 16, "saturate"), Stage(None, 18, "wrap")]):
        plan = register_plan(offsets, w, stages, (0, 255), np.arange(11), np.arange(11) - 5)
        whole, events = accumulated(plan, data, grid)
        out, total = np.zeros_like(whole), np.zeros_like(events)
        for begin, end in pairwise([0, 1, 4, 6]):
            for blocks in (np.arange(1), np.arange(1, -(-len(w) // plan.shape.channels))):
                total += plan.run(data[begin * 53 :], (end - begin, 50, 53), out, begin * 50, blocks)[0]
        np.testing.assert_array_equal(out, whole)
        np.testing.assert_array_equal(total, events)


def test_channels_with_planes_of_their_own():
    """As depthwise convolutions have them."""
    rng = np.random.default_rng(1)
    data = rng.integers(0, 256, 7 * 100 + SLACK).astype(np.uint8)
    offsets, bases, w = np.array([0, 1, 9]), np.arange(7) * 100, rng.integers(-128, 128, (7, 3))
    plan = register_plan(offsets, w, [REST[16]], (0, 255), bases=bases)
    out, events = accumulated(plan, data, (4, 8, 10))
    for n in range(7):
        alone = register_plan(offsets, w[n : n + 1], [REST[16]], (0, 255))
        own, seen = accumulated(alone, data[bases[n] :], (4, 8, 10))
        np.testing.assert_array_equal(out[n], own[0])
        np.testing.assert_array_equal(events[n], seen[0])


@pytest.mark.parametrize(
    "pixels", [1, pytest.param(3, marks=pytest.mark.slow), pytest.param(16, marks=pytest.mark.slow), 40]
)
@pytest.mark.parametrize("name", ["narrow16", "clip32", "chain64", "lanes"])
def test_few_rows_and_many_channels(name, pixels):
    """Channels in the lanes: events stay theirs."""
    stages, largest, _, _ = LANES[name]
    rng = np.random.default_rng(pixels)
    a, w = rng.integers(0, largest + 1, (pixels, 33)), rng.integers(-128, 128, (70, 33))
    w[::3] = 127
    start, late = rng.integers(-(1 << 17), 1 << 17, (2, 70))
    products = a[:, None].astype(np.int64) * w[None]
    for first, last in ((None, None), (start, None), (None, late), (start, late)):
        defined = accumulate_telemetry(products, stages, 0 if first is None else first, last)
        for mode in ("counted", "touched", "extremes"):
            ours = register_matmul(a, w, stages, first, last, mode)
            np.testing.assert_array_equal(ours.out, defined.result)
            events = defined.events.sum(0)
            np.testing.assert_array_equal(ours.events, events > 0 if mode == "touched" else events)


def test_groups_are_those_of_the_schedule():
    """Each register's groups in the order in which they are taken, read back from the schedule."""
    stages = (Stage(2, 16, "wrap", 3), Stage(3, 16, "wrap", 2), Stage(None, 32, "wrap"))
    for depth in range(1, 40):
        plan, groups = schedule(depth, stages), grouped(depth, stages)
        assert sorted(groups.order.tolist()) == list(range(depth))
        assert [int(sizes.sum()) for sizes in groups.sizes] == [int((plan.stage == s).sum()) for s in range(3)]
        assert groups.ends().sum() == groups.sizes[0].size + groups.sizes[1].size
    six = grouped(7, (Stage(2, 16, "wrap", 2), Stage(None, 16, "wrap")))
    assert six.order.tolist() == [0, 2, 1, 3, 4, 6, 5]
    assert six.sizes[0].tolist() == [2, 2, 2, 1]


def test_events_that_a_lane_cannot_count():
    """More additions than 16 bits count: wider lanes are chosen."""
    depth = (1 << 16) + 10
    a, w = np.full((70, depth), 255, np.uint8), np.full((1, depth), 127, np.int8)
    ours = register_matmul(a, w, [REST[16]], mode="counted")
    assert ours.events.tolist() == [[70 * (depth - 1)]]
    assert choose_lanes((REST[16],), w, (0, 255), 0, "counted").shape.bits == 32
