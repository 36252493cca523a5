"""The fast packed accumulator against its definition, and one network layer against loops in Python integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.packing import Packing, accumulate_packed
from intsim.engine.registers.matmul import register_matmul
from intsim.engine.registers.packed import BLOCK, packed_matmul
from intsim.errors import IntsimError

pytestmark = pytest.mark.xdist_group("registers")  # kernels that its tests share are compiled once

REST = Stage(None, 32, "wrap")
INT4 = {c: Packing((0, 11), (0, 22), 48, c) for c in ("none", "borrow")}
INT8 = {c: Packing((0, 18), (0,), 48, c) for c in ("none", "borrow")}
SHAPES = {
    "int8": ([Stage(7, 18, "wrap"), REST], INT8["borrow"]),
    "int8 raw": ([Stage(7, 18, "wrap"), REST], INT8["none"]),
    "int8 eight": ([Stage(8, 18, "wrap"), REST], INT8["borrow"]),
    "int4": ([Stage(1, 11, "wrap"), REST], INT4["none"]),
    "two pixels": ([Stage(7, 18, "wrap"), REST], Packing((0,), (0, 18), 48, "borrow")),
    "pixels below": ([Stage(3, 12, "wrap"), Stage(None, 24, "saturate")], Packing((0, 24), (0, 12), 48, "none")),
    "lanes": ([Stage(2, 17, "wrap"), Stage(2, 19, "saturate", 3), Stage(None, 20, "wrap", 2), Stage(None, 21, "wrap")],
              INT8["none"]),
    "wide": ([Stage(None, 20, "wrap"), Stage(None, 64, "saturate")], Packing((0, 20, 40), (0,), 60, "borrow")),
}  # fmt: skip


def check(a, w, stages, packing, start=None, bias=None):
    """Out and telemetry of the definition: sets of rows of a and w, filled with zeros, laid out by loops."""
    ours = packed_matmul(a, w, stages, packing, start, bias)
    together, beside = len(packing.channels), len(packing.pixels)
    (pixels, depth), channels = a.shape, w.shape[0]
    zeros = np.zeros(len(stages), np.int64)
    events, low, high = (np.tile(zeros, (channels, 1)) for _ in range(3))
    for c in range(0, channels, together):
        mine = [n for n in range(c, c + together) if n < channels]
        sets = range(0, pixels, beside)
        products = np.zeros((len(sets), together, beside, depth), np.int64)
        for m in range(pixels):
            products[m // beside, : len(mine), m % beside] = a[m].astype(np.int64) * w[mine].astype(np.int64)
        first, late = (
            None if v is None else np.pad(v[mine], (0, together - len(mine)))[:, None] for v in (start, bias)
        )
        wanted = accumulate_packed(products, stages, packing, 0 if first is None else first, late)
        for i, n in enumerate(mine):
            of = [t[:, i].reshape(-1, *t.shape[3:])[:pixels] for t in wanted]
            np.testing.assert_array_equal(ours.out[:, n], of[0])
            events[n] += of[1].sum(0)
            low[n], high[n] = of[2].min(0, initial=0), of[3].max(0, initial=0)
    np.testing.assert_array_equal(ours.events, events)
    np.testing.assert_array_equal(ours.low, low)
    np.testing.assert_array_equal(ours.high, high)
    return ours


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pixels", [1, 3, BLOCK - 1, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 3])
def test_blocks_of_pixels(shape, pixels):
    stages, packing = SHAPES[shape]
    rng = np.random.default_rng(pixels)
    a = rng.integers(-128, 128, (pixels, 22), dtype=np.int8)
    w = rng.integers(-128, 128, (3, 22), dtype=np.int8)
    a[0], w[:2] = -128, -128  # eight of their products leave 18 bits
    if shape == "int4":
        a, w = a & 15 | 1, w >> 4
    ours = check(a, w, stages, packing, bias=np.array([5, -5, 1 << 14]))
    assert ours.events.any() or pixels == 1 or shape in ("int8", "two pixels", "wide")


@given(
    st.sampled_from(list(SHAPES)), st.integers(0, 5), st.integers(0, 5), st.integers(0, 9), st.booleans(),
    st.sampled_from([2, 8, 16, 30, 31]), st.integers(0, 1 << 30), st.integers(0, 3),
)  # fmt: skip
def test_packed_is_the_definition(shape, pixels, channels, depth, corners, bits, seed, given_):
    stages, packing = SHAPES[shape]
    rng = np.random.default_rng(seed)
    ends = [-(1 << bits - 1), (1 << bits - 1) - 1, -1, 0, 1]
    a, w = (
        rng.choice(ends, (n, depth)) if corners else rng.integers(ends[0], ends[1] + 1, (n, depth))
        for n in (pixels, channels)
    )
    start, bias = (
        rng.choice([*ends, (1 << 63) - 1, 1 - (1 << 63)], channels) if given_ & bit else None for bit in (1, 2)
    )
    if depth and min(stages[0].sum or depth, depth) * (1 << 2 * bits - 2) >= 1 << 63:
        with pytest.raises(IntsimError, match="do not fit int64"):
            packed_matmul(np.full((1, depth), ends[0]), np.full((1, depth), ends[0]), stages, packing)
        a = a // 16
    check(a, w, stages, packing, start, bias)


def test_neighbours_matter_only_without_correction():
    """With borrows repaid and groups that fit, channels and pixels are as if alone; without, they are not."""
    rng = np.random.default_rng(0)
    a, w = rng.integers(0, 16, (9, 40)), rng.integers(-8, 8, (5, 40))
    alone = register_matmul(a, w, [REST]).out
    stages = [Stage(8, 11, "wrap"), REST]
    np.testing.assert_array_equal(packed_matmul(a, w, stages, INT4["borrow"]).out, alone)
    raw = packed_matmul(a, w, stages, INT4["none"])
    assert ((raw.out - alone >= -5) & (raw.out - alone <= 0)).all()  # at most one a group
    assert (raw.out != alone).any()
    assert raw.events[:, 0].sum() == (alone - raw.out).sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3), int), np.ones((2, 4), int)), r"\(2, 3\) and weights \(2, 4\)"),
        ((np.ones((2, 3)), np.ones((2, 3), int)), "activations: expected integers"),
        ((np.full((2, 3), 1 << 31), np.full((2, 3), 1 << 31)), "sums of 3 packed products up to 4611686018427387904"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(IntsimError, match=message):
        packed_matmul(*arguments, *SHAPES["int8"])
    with pytest.raises(IntsimError, match="packing needs a stage"):
        packed_matmul(np.ones((2, 3), int), np.ones((2, 3), int), [REST], INT8["none"])
