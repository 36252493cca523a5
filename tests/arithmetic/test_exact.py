from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.requantizers import exact
from intsim.arithmetic.requantizers.exact import exact_requantize
from intsim.arithmetic.requantizers.requantizer import LARGEST
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from tests import twins

MODES = [mode.value for mode in Rounding]
ALL16 = np.arange(-(1 << 15), 1 << 15)
FLOAT32 = st.floats(width=32, min_value=2.0**-40, max_value=2.0**10).map(Fraction)
SCALES = st.one_of(
    st.builds(lambda i, w, o: i * w / o, FLOAT32, FLOAT32, FLOAT32),
    st.fractions(Fraction(-100), Fraction(100)),
    st.builds(lambda n, k: Fraction(n, 1 << k), st.integers(-1000, 1000), st.integers(0, 40)),
)
OFFSETS = st.one_of(
    st.just(Fraction(0)),
    st.builds(lambda n, k: Fraction(n, 1 << k), st.integers(-(1 << 20), 1 << 20), st.integers(0, 30)),
    st.builds(lambda b, o: b / o, FLOAT32, FLOAT32),
)


def expected(acc, scale, offset, mode):
    scale, offset = Fraction(scale), Fraction(offset)
    a, b, d = scale.numerator * offset.denominator, offset.numerator * scale.denominator, scale.denominator
    exactly = [twins.round_divide(int(x) * a + b, d * offset.denominator, mode) for x in acc]
    return [min(max(y, -LARGEST), LARGEST) for y in exactly]


def f32(x):
    return Fraction(float(np.float32(x)))


# Scale and offset that send 16-bit accumulators through each of the four ways.
WAYS = {
    "round_divide": [(Fraction(3, 1 << 10), Fraction(1, 2)), (Fraction(-7, 9), Fraction(5, 3)), (Fraction(1, 2), 0)],
    "_by_remainder": [
        (Fraction((1 << 55) + 1, 1 << 60), 0),
        (Fraction((1 << 57) - 1, 1 << 58), Fraction(1, 1 << 60)),
        (-Fraction((1 << 60) // 3 + 1, (1 << 60) - 1), Fraction(1, 3)),
    ],
    "_by_estimate": [
        (f32(0.003) * f32(0.0071) / f32(0.011), Fraction(1, 1 << 50)),
        (Fraction(1, 4), Fraction(1, 2) - Fraction(1, 1 << 90)),  # a quarter of all are a hair below a tie
        (Fraction(1, 4), Fraction(1, 1 << 90)),  # a quarter of all are a hair above an integer
    ],
    "_by_python": [(Fraction(1 << 70, 3), 0), (Fraction(1, 2), Fraction(1 << 52))],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("way", "number"),
    [
        pytest.param(way, i, marks=[pytest.mark.slow] * (i > 0))
        for way, cases in WAYS.items()
        for i in range(len(cases))
    ],
)
def test_every_16_bit_accumulator_each_way(monkeypatch, way, number, mode):
    scale, offset = WAYS[way][number]
    taken = set()

    def spy(name, function):
        return lambda *arguments: (taken.add(name), function(*arguments))[1]

    for name in WAYS:
        monkeypatch.setattr(exact, name, spy(name, getattr(exact, name)))
    ours = exact_requantize(ALL16, scale, offset, mode)
    assert way in taken
    assert taken <= {way, "_by_python", "round_divide"}  # Python ints decide what the estimate leaves open
    assert ours.dtype == np.int64
    np.testing.assert_array_equal(ours, expected(ALL16, scale, offset, mode))


def test_ways_at_python_rounding():
    """Python's own round of a Fraction, half to even, on a few thousand accumulators of each way."""
    few = ALL16[::37]
    for scale, offset in [case for cases in WAYS.values() for case in cases]:
        theirs = [min(max(round(int(a) * scale + offset), -LARGEST), LARGEST) for a in few]
        np.testing.assert_array_equal(exact_requantize(few, scale, offset), theirs)


@given(
    st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=1, max_size=8), SCALES, OFFSETS, st.sampled_from(MODES)
)
def test_is_rational_arithmetic(acc, scale, offset, mode):
    twin = expected(acc, scale, offset, mode)
    assert exact_requantize(np.array(acc), scale, offset, mode).tolist() == twin
    assert [exact_requantize(a, scale, offset, mode) for a in acc] == twin
    assert exact_requantize(np.array(acc, dtype=object), scale, offset, mode).tolist() == twin


@given(
    st.integers(-(1 << 40), 1 << 40),
    SCALES.filter(bool),
    st.integers(-300, 300),
    st.integers(0, 120),
    st.sampled_from([-1, 0, 1]),
    st.sampled_from(MODES),
)
def test_at_ties_and_next_to_them(acc, scale, quotient, closeness, side, mode):
    """An offset that puts acc on a tie or an integer, or 2^-closeness beside it."""
    for decision in (Fraction(quotient), quotient + Fraction(1, 2)):
        offset = decision + Fraction(side, 1 << closeness) - acc * scale
        values = [acc, acc + 1, acc - 1, 0]
        twin = expected(values, scale, offset, mode)
        assert exact_requantize(np.array(values), scale, offset, mode).tolist() == twin


@given(st.integers(-(1 << 63), (1 << 63) - 1), SCALES, OFFSETS, st.sampled_from(MODES))
def test_any_int64_accumulator(acc, scale, offset, mode):
    twin = min(max(twins.round_fraction(acc * scale + offset, mode), -LARGEST), LARGEST)
    assert exact_requantize(np.array([acc]), scale, offset, mode).tolist() == [twin]


def test_saturates_far_out():
    for scale in (Fraction(10) ** 400, Fraction(1 << 62), Fraction((1 << 90) + 1, 3)):
        assert exact_requantize(np.array([1, 0, -1]), scale).tolist()[1] == 0
        assert exact_requantize(np.array([9, -9]), scale).tolist() == [LARGEST, -LARGEST]
        assert exact_requantize(9, scale) == LARGEST
        assert exact_requantize(np.array([0, 0]), scale).tolist() == [0, 0]
        assert exact_requantize(np.array([0, 0]), scale, scale).tolist() == [LARGEST, LARGEST]


def test_tiny_scales():
    for scale in (Fraction(1, 10**400), Fraction(-1, 10**400)):
        acc = np.array([-1, 0, 1])
        for mode in MODES:
            assert exact_requantize(acc, scale, 0, mode).tolist() == expected(acc, scale, 0, mode)


def test_shapes():
    assert exact_requantize(np.zeros((2, 0), np.int32), Fraction(1, 3)).shape == (2, 0)
    assert exact_requantize(np.full((2, 3), 5, np.int8), Fraction(1, 2)).tolist() == [[2] * 3] * 2
    assert exact_requantize(np.array(7), Fraction(1, 2), mode="half_up") == 4
    for scale, offset in [case for cases in WAYS.values() for case in cases]:
        square = ALL16[:4096].reshape(64, 64)
        assert np.array_equal(
            exact_requantize(square.T, scale, offset),
            exact_requantize(square.reshape(-1), scale, offset).reshape(64, 64).T,
        )


def test_does_not_change_its_input():
    acc = ALL16[::64].copy()
    for scale, offset in [case for cases in WAYS.values() for case in cases]:
        exact_requantize(acc, scale, offset)
    assert np.array_equal(acc, ALL16[::64])


def test_not_integers():
    with pytest.raises(IntsimError, match="accumulator"):
        exact_requantize(np.array([0.5]), Fraction(1, 2))
    with pytest.raises(IntsimError, match="unknown rounding mode"):
        exact_requantize(np.array([1]), Fraction(1, 2), 0, "nearest")
