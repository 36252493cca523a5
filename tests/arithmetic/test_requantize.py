import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.requantizers.fixed_point import (
    multiply_high_double_rounding,
    multiply_single_rounding,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from intsim.arithmetic.requantizers.float32 import float32_requantize, float32_scale
from intsim.arithmetic.requantizers.shift import power_of_two_shift, shift_requantize
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from tests import twins

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
ALL16 = np.arange(-(1 << 15), 1 << 15)
MODES = [mode.value for mode in Rounding]
# (M, TFLite exponent): the ends of the normalised range, exact halves (ties), a typical scale, a left shift.
MULTIPLIERS = [
    (1 << 30, 0),
    ((1 << 31) - 1, 0),
    (1 << 30, -3),
    (1932201031, -11),
    (-1932201031, -7),
    (1717986918, 4),
    ((1 << 30) + 1, 20),
    (1 << 30, 30),
    (1 << 30, -31),
]
INT32 = st.one_of(
    st.integers(INT32_MIN, INT32_MAX),
    st.builds(
        lambda k, s, d: min(max(s * (1 << k) + d, INT32_MIN), INT32_MAX),
        st.integers(0, 31),
        st.sampled_from([-1, 1]),
        st.integers(-1, 1),
    ),
)
FLOAT32 = st.floats(width=32, min_value=2.0**-60, max_value=2.0**29)


def rounds_to(multiplier, shift, scale, bits):
    """The definition: the nearest normalised multiplier, ties away from zero."""
    error = abs(scale) * Fraction(2) ** shift - multiplier
    return 1 << (bits - 2) <= multiplier < 1 << (bits - 1) and -Fraction(1, 2) < -error <= Fraction(1, 2)


@pytest.mark.parametrize("bits", [4, 5, 8, 16, 31, 32])
@given(scale=st.one_of(FLOAT32.map(Fraction), st.fractions(Fraction(1, 1 << 30), 1 << 28)))
def test_quantize_multiplier_is_its_definition(bits, scale):
    multiplier, shift = quantize_multiplier(scale, bits)
    if (multiplier, shift) == (0, 0):
        assert scale < Fraction(1, 1 << 32)
        return
    # After a carry the nearest multiplier of the smaller exponent is 2^(bits-1), one shift up.
    carried = multiplier == 1 << (bits - 2) and scale < Fraction(multiplier) / Fraction(2) ** shift
    assert rounds_to(multiplier, shift, scale, bits) or (
        carried and 0 <= (1 << (bits - 1)) - scale * Fraction(2) ** (shift + 1) <= Fraction(1, 2)
    )
    assert quantize_multiplier(-scale, bits) == (-multiplier, shift)


@given(FLOAT32)
def test_quantize_multiplier_is_tflite(scale):
    """QuantizeMultiplier of quantization_util.cc: frexp, round half away, carry, flush."""
    q, exponent = math.frexp(scale)
    fixed = math.floor(Fraction(q) * (1 << 31) + Fraction(1, 2))
    if fixed == 1 << 31:
        fixed, exponent = fixed // 2, exponent + 1
    expected = (0, 0) if exponent < -31 else (fixed, 31 - exponent)
    assert quantize_multiplier(Fraction(scale)) == expected


def test_quantize_multiplier_edges():
    assert quantize_multiplier(Fraction(0)) == (0, 0)
    assert quantize_multiplier(Fraction(1)) == (1 << 30, 30)
    assert quantize_multiplier(Fraction(1, 2)) == (1 << 30, 31)
    assert quantize_multiplier(1 - Fraction(1, 1 << 33)) == (1 << 30, 30)  # rounds up into the next exponent
    assert quantize_multiplier(Fraction(1, 1 << 32)) == (1 << 30, 62)
    assert quantize_multiplier(Fraction(1, 1 << 32) * Fraction(99, 100)) == (0, 0)
    assert quantize_multiplier(Fraction(17, 32), 5) == (9, 4)  # 8.5 ties away from zero
    assert quantize_multiplier(Fraction((1 << 30) - 1)) == (((1 << 30) - 1) * 2, 1)
    for too_large in (Fraction(1 << 30), Fraction((1 << 40) - 1, 1 << 10), Fraction(-(1 << 31))):
        with pytest.raises(IntsimError, match=r"too large for a fixed-point multiplier; it must be below 2\^30"):
            quantize_multiplier(too_large)
    for bits in (3, 33, True, 8.0):
        with pytest.raises(IntsimError, match=r"multiplier_bits is .*; allowed: an integer 4\.\.32"):
            quantize_multiplier(Fraction(1, 3), bits)


def test_gemmlowp_known_vectors():
    high = saturating_rounding_doubling_high_mul
    assert high(INT32_MIN, INT32_MIN) == INT32_MAX
    assert high(np.array([INT32_MIN]), INT32_MIN).tolist() == [INT32_MAX]
    assert high(INT32_MIN, INT32_MAX) == -INT32_MAX
    # Exact ties of the high multiplication go toward +infinity.
    assert [high(x, 1 << 30) for x in (1, -1, 3, -3)] == [1, 0, 2, -1]
    # Ties of the division go away from zero.
    assert [rounding_divide_by_pot(x, 1) for x in (1, -1, 3, -3, 5, -5)] == [1, -1, 2, -2, 3, -3]
    assert [rounding_divide_by_pot(x, 4) for x in (7, 8, -7, -8, -9, 24, -24)] == [0, 1, 0, -1, -1, 2, -2]
    assert rounding_divide_by_pot(INT32_MIN, 31) == -1
    assert rounding_divide_by_pot(INT32_MAX, 31) == 1
    with pytest.raises(IntsimError, match="negative"):
        rounding_divide_by_pot(1, -1)


@given(INT32, INT32, st.integers(0, 31))
def test_gemmlowp_primitives(a, b, exponent):
    assert saturating_rounding_doubling_high_mul(a, b) == twins.high_mul(a, b)
    assert saturating_rounding_doubling_high_mul(np.array([a]), np.array([b])).tolist() == [twins.high_mul(a, b)]
    assert rounding_divide_by_pot(a, exponent) == twins.divide_by_pot(a, exponent)
    assert rounding_divide_by_pot(np.array([a]), exponent).tolist() == [twins.divide_by_pot(a, exponent)]


@pytest.mark.parametrize(("multiplier", "exponent"), MULTIPLIERS)
def test_double_rounding_over_every_16_bit_accumulator(multiplier, exponent):
    ours = multiply_high_double_rounding(ALL16, multiplier, 31 - exponent)
    np.testing.assert_array_equal(ours, [twins.tflite(acc, multiplier, exponent) for acc in ALL16.tolist()])


@given(INT32, st.integers(1 << 30, INT32_MAX), st.sampled_from([-1, 1]), st.integers(-31, 30))
def test_double_rounding(acc, magnitude, sign, exponent):
    expected = twins.tflite(acc, sign * magnitude, exponent)
    assert multiply_high_double_rounding(np.array([acc]), sign * magnitude, 31 - exponent).tolist() == [expected]
    assert multiply_high_double_rounding(acc, sign * magnitude, 31 - exponent) == expected


@given(INT32, st.integers(4, 31), st.data())
def test_double_rounding_with_a_narrower_multiplier(acc, bits, data):
    multiplier = data.draw(st.integers(1 << (bits - 2), (1 << (bits - 1)) - 1))
    right = data.draw(st.integers(0, 31))
    high = twins.round_divide(acc * multiplier, 1 << (bits - 1), "half_up")
    ours = multiply_high_double_rounding(np.array([acc]), multiplier, bits - 1 + right, bits)
    assert ours.tolist() == [twins.divide_by_pot(high, right)]


def test_double_rounding_is_not_single_rounding():
    # 3/8: the high product 1.5 becomes 2, then 2/4 is a tie, then 1.
    assert multiply_high_double_rounding(np.array([3]), 1 << 30, 33).tolist() == [1]
    assert multiply_single_rounding(np.array([3]), 1 << 30, 33, "half_up").tolist() == [0]
    # -3/8: -1.5 becomes -1 and then 0; the two roundings are not symmetric.
    assert multiply_high_double_rounding(np.array([-3]), 1 << 30, 33).tolist() == [0]


def test_double_rounding_refuses_wide_accumulators():
    for bad in (np.array([INT32_MAX + 1]), np.array([0, INT32_MIN - 1])):
        with pytest.raises(IntsimError, match="double rounding takes 32-bit accumulators"):
            multiply_high_double_rounding(bad, 1 << 30, 31)
    with pytest.raises(IntsimError, match="does not fit 8 signed bits"):
        multiply_high_double_rounding(np.array([1]), 200, 7, bits=8)


@pytest.mark.parametrize("mode", MODES)
def test_single_rounding_over_every_16_bit_accumulator(mode):
    for multiplier, shift in ((1 << 30, 31), (1 << 30, 34), (1932201031, 42), (-5, 3), (9, 4), (0, 0), (3, -2)):
        ours = multiply_single_rounding(ALL16, multiplier, shift, mode)
        top, bottom = multiplier << max(-shift, 0), 1 << max(shift, 0)
        assert ours.dtype == np.int64
        np.testing.assert_array_equal(ours, [twins.round_divide(acc * top, bottom, mode) for acc in ALL16.tolist()])


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-INT32_MAX, INT32_MAX), st.integers(-4, 70))
def test_single_rounding_of_wide_accumulators(acc, multiplier, shift):
    top, bottom = multiplier << max(-shift, 0), 1 << max(shift, 0)
    for mode in MODES:
        expected = twins.round_divide(acc * top, bottom, mode)
        assert multiply_single_rounding(np.array([acc, 0]), multiplier, shift, mode).tolist() == [expected, 0]
        assert multiply_single_rounding(acc, multiplier, shift, mode) == expected


def test_single_rounding_where_products_leave_int64():
    multiplier = (1 << 31) - 1
    last = ((1 << 63) - 1) // multiplier  # the last accumulator whose product fits
    for acc in (last - 1, last, last + 1, last + 2, (1 << 32) - 1, 1 << 32, (1 << 33) - 1, 1 << 33, 1 << 47):
        for sign in (-1, 1):
            expected = twins.round_divide(sign * acc * multiplier, 1 << 40, "half_up")
            assert multiply_single_rounding(np.array([sign * acc]), multiplier, 40, "half_up").tolist() == [expected]


def test_single_rounding_of_nothing():
    assert multiply_single_rounding(np.zeros((0, 2), np.int64), 1 << 30, 31, "floor").shape == (0, 2)
    assert multiply_single_rounding(np.zeros(2, np.int64), 1 << 30, -60, "floor").tolist() == [0, 0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shift", [0, 1, 2, 7, 15, 16, 20, -3])
def test_shift_over_every_16_bit_accumulator(mode, shift):
    top, bottom = 1 << max(-shift, 0), 1 << max(shift, 0)
    expected = [twins.round_divide(acc * top, bottom, mode) for acc in ALL16.tolist()]
    np.testing.assert_array_equal(shift_requantize(ALL16, shift, mode), expected)


def test_power_of_two_shift():
    for shift in range(-70, 71):
        assert power_of_two_shift(Fraction(2) ** -shift) == shift
    for scale in (Fraction(3, 4), Fraction(1, 3), Fraction(0), Fraction(-1, 2), Fraction(1 << 40, 3)):
        with pytest.raises(IntsimError, match="is not a power of two"):
            power_of_two_shift(scale)


@given(
    st.one_of(st.floats(width=64, min_value=2.0**-100, max_value=2.0**100), st.integers(1, (1 << 60))), st.booleans()
)
def test_float32_scale_rounds_once(x, negative):
    x = -x if negative else x
    assert float32_scale(Fraction(x)) == twins.float32(float(x)) if isinstance(x, float) else True
    ours, exact = Fraction(float(float32_scale(Fraction(x)))), Fraction(x)
    for neighbour in (np.nextafter(np.float32(ours), np.float32(s * np.inf)) for s in (-1, 1)):
        other = abs(Fraction(float(neighbour)) - exact)
        assert abs(ours - exact) < other or (
            abs(ours - exact) == other and int(np.float32(ours).view(np.int32)) % 2 == 0
        )


def test_float32_scale_edges():
    assert float32_scale(Fraction(0)) == 0
    # Two roundings, through float64, would give 1 + 2^-22 here.
    assert float32_scale(1 + Fraction(1, 1 << 24) + Fraction(1, 1 << 80)) == np.float32(1 + 2.0**-23)
    assert float32_scale(1 + Fraction(1, 1 << 24)) == np.float32(1)
    assert float32_scale(Fraction(2) ** -126) == np.float32(2.0**-126)
    for scale in (Fraction(2) ** 128, Fraction(2) ** -127, Fraction(2) ** 128 - 1, Fraction(10) ** 300):
        with pytest.raises(IntsimError, match="outside the normal range of float32"):
            float32_scale(scale)


@pytest.mark.parametrize("scale", [0.5, 0.25, 2.0**-8, 0.0123, 1 / 3, 1.0, 700.0, -0.0078125])
@pytest.mark.parametrize(("zero_point", "low", "high"), [(0, -128, 127), (128, 0, 255), (-3, -8, 7)])
def test_float32_over_every_16_bit_accumulator(scale, zero_point, low, high):
    scale = np.float32(scale)
    ours = float32_requantize(ALL16, scale, zero_point, low, high)
    twin = [twins.onnxruntime(acc, float(scale), zero_point, low, high) for acc in ALL16.tolist()]
    np.testing.assert_array_equal(ours, twin)


@given(INT32, st.floats(width=32, min_value=2.0**-80, max_value=2.0**100), st.integers(-128, 127))
def test_float32(acc, scale, zero_point):
    for low, high in ((-128, 127), (-32768, 32767)):
        ours = float32_requantize(np.array([acc]), np.float32(scale), zero_point, low, high)
        expected = twins.onnxruntime(acc, scale, zero_point, low, high) if abs(acc * scale) < 2.0**120 else None
        if expected is None:
            expected = high if acc > 0 else low
        assert ours.tolist() == [expected]


def test_float32_rounds_the_accumulator_first():
    # 2^24 + 1 is not a float32: it becomes 2^24, and the product a tie that goes to even.
    assert float32_requantize(np.array([(1 << 24) + 1]), np.float32(2.0**-20), 0, -128, 127).tolist() == [16]
    assert float32_requantize(np.array([(1 << 24) + 1]), np.float32(2.5 * 2.0**-24), 0, -128, 127).tolist() == [2]
    # The exact product is above the tie.
    assert multiply_single_rounding(np.array([(1 << 24) + 1]), 5, 25, "half_even").tolist() == [3]


def test_float32_overflow_and_channels():
    ours = float32_requantize(np.array([[1 << 30], [-5]]), np.array([3e38, 1.0], np.float32), 0, -128, 127)
    assert ours.tolist() == [[127, 127], [-128, -5]]


@pytest.mark.parametrize("scale", [0.5, np.float64(0.5), np.float32(np.inf), np.float32(np.nan)])
def test_float32_refuses_other_scales(scale):
    with pytest.raises(IntsimError, match="finite float32"):
        float32_requantize(np.array([1]), scale, 0, -128, 127)


def test_float32_refuses_wide_accumulators():
    with pytest.raises(IntsimError, match="takes 32-bit accumulators"):
        float32_requantize(np.array([INT32_MAX + 1]), np.float32(1), 0, -128, 127)
