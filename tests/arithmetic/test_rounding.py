import decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qonnx.custom_op.general.quant import resolve_rounding_mode

from intsim.arithmetic.rounding import Rounding, round_divide, round_fraction, rounding
from intsim.errors import IntsimError
from tests import twins

MODES = [mode.value for mode in Rounding]
# half_up (toward +infinity at ties) is neither decimal's nor QONNX's.
DECIMAL = {
    "half_even": decimal.ROUND_HALF_EVEN,
    "half_away": decimal.ROUND_HALF_UP,
    "half_toward_zero": decimal.ROUND_HALF_DOWN,
    "floor": decimal.ROUND_FLOOR,
    "ceil": decimal.ROUND_CEILING,
    "away": decimal.ROUND_UP,
    "toward_zero": decimal.ROUND_DOWN,
}
QONNX = {
    "half_even": "ROUND",
    "half_away": "HALF_UP",
    "half_toward_zero": "HALF_DOWN",
    "floor": "FLOOR",
    "ceil": "CEIL",
    "away": "UP",
    "toward_zero": "DOWN",
}
EDGE = st.builds(
    lambda k, s, d: min(max(s * (1 << k) + d, -(1 << 63)), (1 << 63) - 1),
    st.integers(0, 63),
    st.sampled_from([-1, 1]),
    st.integers(-2, 2),
)
INT64 = st.one_of(EDGE, st.integers(-(1 << 63), (1 << 63) - 1))
POSITIVE = INT64.map(abs).map(lambda d: min(max(d, 1), (1 << 63) - 1))


def test_mode_names():
    assert set(MODES) == {*DECIMAL, "half_up"}
    assert rounding("floor") is Rounding.FLOOR
    with pytest.raises(IntsimError, match="unknown rounding mode 'nearest'; allowed: half_even, half_away"):
        rounding("nearest")


@pytest.mark.parametrize("mode", MODES)
def test_exhaustively(mode):
    numerators = np.arange(-1000, 1001)
    denominators = np.arange(1, 41)
    expected = [[twins.round_divide(n, d, mode) for d in range(1, 41)] for n in range(-1000, 1001)]
    assert np.array_equal(round_divide(numerators[:, None], denominators, mode), expected)
    for d in range(1, 41):
        column = [row[d - 1] for row in expected]
        assert round_divide(numerators, d, mode).tolist() == column
        assert round_divide(numerators.astype(object), d, mode).tolist() == column
        assert [round_divide(n, d, mode) for n in range(-1000, 1001)] == column


@pytest.mark.parametrize("mode", DECIMAL)
def test_against_decimal_and_qonnx(mode):
    function = resolve_rounding_mode(QONNX[mode])
    for d in (1, 2, 4, 5, 8, 10, 20):  # finite decimals; and 2, 4, 8 are exact in float64
        for n in range(-200, 201):
            ours = round_divide(n, d, mode)
            assert ours == int((decimal.Decimal(n) / d).to_integral_value(DECIMAL[mode])), (n, d)
            if d in (1, 2, 4, 8):
                assert ours == function(np.float64(n / d)), (n, d)


def test_half_up_is_the_hardware_shift():
    x = np.arange(-5000, 5000)
    for n in range(1, 10):
        assert np.array_equal(round_divide(x, 1 << n, "half_up"), (x + (1 << (n - 1))) >> n)


@pytest.mark.parametrize("mode", MODES)
@given(n=INT64, d=POSITIVE)
def test_all_of_int64_without_overflow(mode, n, d):
    expected = twins.round_divide(n, d, mode)
    assert round_divide(n, d, mode) == expected
    assert round_divide(np.array([n]), d, mode).tolist() == [expected]
    assert round_divide(np.array([n, n]), np.array([d, 1]), mode).tolist() == [expected, n]


@pytest.mark.parametrize("mode", MODES)
@given(q=st.integers(-(1 << 40), 1 << 40), d=st.integers(1, 1 << 21), step=st.sampled_from([-1, 0, 1]))
def test_at_ties(mode, q, d, step):
    n = (2 * q + 1) * d + step  # n / (2 d) is a tie, or next to one
    assert round_divide(np.array([n]), 2 * d, mode).tolist() == [twins.round_divide(n, 2 * d, mode)]


@pytest.mark.parametrize("mode", MODES)
@given(st.fractions())
def test_fractions_and_big_integers(mode, x):
    expected = twins.round_fraction(x, mode)
    assert round_fraction(x, mode) == expected
    big = round_divide(np.array([x.numerator << 100], dtype=object), x.denominator << 100, mode)
    assert big.tolist() == [expected]
    assert abs(Fraction(expected) - x) < 1


def test_big_denominators():
    for d in ((1 << 63) - 1, 1 << 63, (1 << 63) + 1, 1 << 64, 1 << 100):
        for mode in MODES:
            n = [-(1 << 63), -(1 << 62), -1, 0, 1, 1 << 62, (1 << 63) - 1]
            expected = [twins.round_divide(x, d, mode) for x in n]
            assert round_divide(np.array(n), d, mode).tolist() == expected


def test_shapes_and_scalars():
    assert round_divide(np.int64(7), 2, "half_even") == 4
    assert round_divide(np.zeros((2, 0, 3), np.int8), 3, "floor").shape == (2, 0, 3)
    assert round_divide(np.array([[5], [7]]), np.array([2, 4]), "half_away").tolist() == [[3, 1], [4, 2]]
    assert round_divide(np.array(5), np.array([2]), "half_away").tolist() == [3]


@pytest.mark.parametrize("d", [0, -1, np.array([1, 0]), np.array([-3])])
def test_bad_denominator(d):
    with pytest.raises(IntsimError, match="not positive"):
        round_divide(1 if isinstance(d, int) else np.array([1, 1]), d, "floor")


def test_not_integers():
    with pytest.raises(IntsimError, match="numerator"):
        round_divide(np.array([0.5]), 2, "floor")
