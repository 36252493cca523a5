"""Large arrays to codes: the compiled loop and what it leaves to rationals, against rationals alone."""

from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.frontend import codes
from intsim.frontend.codes import quantize_constant
from intsim.frontend.context import Quantizer
from intsim.frontend.nearest import BLOCK
from intsim.graph import rationals

MODES = [str(m) for m in Rounding]
FLOAT = Fraction(float(np.float32(1 / 255)))
SCALES = [Fraction(1, 8), Fraction(3, 64), Fraction(4), FLOAT, Fraction(1, 3), Fraction(float(np.float32(0.0173))) * 7]


def twin(x, scale, before, after, mode, low, high):
    known = {}
    for v in np.unique(x):
        y = round_fraction(Fraction(float(v)) / scale + before, mode) + after
        known[v] = min(max(y, low), high)
    return np.array([known[v] for v in x.reshape(-1)], np.int64).reshape(x.shape)


def near_ties(scale, before, low, high, dtype):
    """Values next to every tie and integer of the codes and of the clip, and far beyond; a few thousand."""
    halves = [(Fraction(n, 2) - before) * scale for n in range(2 * low - 5, 2 * high + 6)]
    at = np.array([float(h) for h in halves]).astype(dtype)
    far = np.array(
        [0.0, -0.0, 1e30, -1e30, 1e-30, np.finfo(dtype).max, np.finfo(dtype).min, np.finfo(dtype).tiny], dtype
    )
    around = [np.nextafter(at, dtype(np.inf)), np.nextafter(at, dtype(-np.inf)), at * dtype(1 + 1e-7), far]
    x = np.concatenate([at, *around])
    return np.resize(x, codes.SMALL + x.size)


@pytest.mark.parametrize(
    ("dtype", "mode"),
    [
        # each mode every day, by turns of either width; all pairs in the long suite
        pytest.param(dtype, mode, marks=[pytest.mark.slow] * (j % 2 != i))
        for i, dtype in enumerate([np.float64, np.float32])
        for j, mode in enumerate(MODES)
    ],
)
def test_next_to_ties(mode, dtype):
    for scale in SCALES:
        for before, after, low, high in (
            (Fraction(0), 0, 0, 255),
            (Fraction(1, 3), -7, -128, 127),
            (Fraction(5), 3, -2, 1),
        ):
            x = near_ties(scale, before, low - after, high - after, dtype)
            found = quantize_constant(x, Quantizer(rationals(scale), rationals(before), after, mode, (low, high)))
            assert found.dtype == np.int64
            np.testing.assert_array_equal(found, twin(x, scale, before, after, mode, low, high))


SHAPES = [(2, 3, 70, 65), (3, 2, 4500), (1, 1, 5000), (5000, 3), (9000,)]
SHAPED = [
    # each mode and each shape every day, all pairs in the long suite
    pytest.param(shape, mode, id=f"shape{i}-{mode}", marks=[pytest.mark.slow] * (j % len(SHAPES) != i))
    for i, shape in enumerate(SHAPES)
    for j, mode in enumerate(MODES)
]


@pytest.mark.parametrize(("shape", "mode"), SHAPED)
def test_shapes(mode, shape):
    """Cells on any axis, and arrays that aren't contiguous."""
    rng = np.random.default_rng(len(shape))
    channels = shape[1] if len(shape) > 1 else 1
    cells = (channels, *(1,) * (len(shape) - 2)) if len(shape) > 1 else (1,)
    scale = rationals(rng.choice([0.5, 0.0173, 1 / 3], channels)).reshape(cells)
    before = rationals(rng.choice([0.0, 0.5, 7.25], channels)).reshape(cells)
    x = rng.normal(0, 2, shape).astype(np.float32)
    x.reshape(-1)[::7] = np.round(x.reshape(-1)[::7] * 4) / 4
    for array in (x, np.asfortranarray(x), x.astype(np.float64), np.round(x * 40).astype(np.int32)):
        found = quantize_constant(array, Quantizer(scale, before, 2, mode, (-8, 7)))
        assert found.shape == shape
        full = np.broadcast_to(scale, shape), np.broadcast_to(before, shape)
        for c in range(channels):
            at = (slice(None), c) if len(shape) > 1 else slice(None)
            s, b = full[0][at].reshape(-1)[0], full[1][at].reshape(-1)[0]
            np.testing.assert_array_equal(found[at], twin(array[at], s, b, 2, mode, -8, 7))


def test_parameters_that_go_the_long_way():
    x = np.linspace(-3, 3, 5000)
    for scale, before, low, high in (
        (Fraction(1, 1 << 600), Fraction(0), 0, 255),
        (Fraction(1, 3), Fraction(1 << 30), (1 << 30) - 5, (1 << 30) + 5),
        (Fraction(1, 1 << 20), Fraction(0), -(1 << 22), 1 << 22),
    ):
        found = quantize_constant(x, Quantizer(rationals(scale), rationals(before), 0, "half_even", (low, high)))
        np.testing.assert_array_equal(found, twin(x, scale, before, 0, "half_even", low, high))


@pytest.mark.parametrize("mode", ["half_even", "floor", "half_up"])
def test_one_number_next_to_a_tie_in_a_block(mode):
    """Where all others of its block are clear; float32 alone takes some of them to the wrong side."""
    for scale, before, after, low, high in (
        (FLOAT, Fraction(0), 0, 0, 255),
        (SCALES[-1], Fraction(1, 3), -7, -128, 127),
        (Fraction(1, 3), Fraction(5), 0, -1000, 1000),
    ):
        ties = np.array(
            [float((Fraction(n, 2) - before) * scale) for n in range(2 * low - 5, 2 * high + 6)], np.float32
        )
        x = np.concatenate([ties, *(np.nextafter(ties, np.float32(end)) for end in (-np.inf, np.inf))])
        blocks = np.full((x.size, BLOCK), float((Fraction(1, 4) - before) * scale), np.float32)
        blocks[np.arange(x.size), np.arange(x.size) % BLOCK] = x
        quantizer = Quantizer(rationals(scale), rationals(before), after, mode, (low, high))
        found = quantize_constant(blocks, quantizer)
        np.testing.assert_array_equal(found, twin(blocks, scale, before, after, mode, low, high))
