"""TOSA's scaling against the specification's pseudocode, written again in Python integers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.requantizers.fixed_point import multiply_high_double_rounding, multiply_single_rounding
from intsim.arithmetic.requantizers.tosa import apply_scale_16, apply_scale_32, tosa_multiplier, value_limits
from intsim.errors import IntsimError

INT32 = st.one_of(
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.builds(
        lambda k, s, d: min(max(s * 2**k + d, -(1 << 31)), (1 << 31) - 1),
        st.integers(0, 31),
        st.sampled_from([1, -1]),
        st.integers(-1, 1),
    ),
)
MULTIPLIERS = st.one_of(st.integers(0, (1 << 31) - 1), st.integers(0, 30).map(lambda k: 1 << k))


def twin(value, multiplier, shift, double_round=False, bits=32):
    """The result, or None where the specification requires something that doesn't hold."""
    width = 32 if bits == 32 else 48
    if multiplier < 0 or not 2 <= shift <= 62 or not -(2 ** (width - 1)) <= value < 2 ** (width - 1):
        return None
    if bits == 32 and not -(2 ** (shift - 1)) <= value < 2 ** (shift - 1):
        return None
    constant = 2 ** (shift - 1)
    if double_round and shift > 31:
        constant += 2**30 if value >= 0 else -(2**30)
    result = (value * multiplier + constant) // 2**shift
    return result if -(2**31) <= result < 2**31 else None


@given(INT32, MULTIPLIERS, st.integers(2, 62), st.booleans())
def test_apply_scale_32(value, multiplier, shift, double_round):
    expected = twin(value, multiplier, shift, double_round)
    if expected is None:
        with pytest.raises(IntsimError, match=rf"TOSA apply_scale_32: value {value} .* value < 2\^\(shift-1\)"):
            apply_scale_32(value, multiplier, shift, double_round)
        return
    assert apply_scale_32(value, multiplier, shift, double_round) == expected
    assert apply_scale_32(np.array([[value]]), multiplier, shift, double_round).tolist() == [[expected]]


@given(st.integers(-(1 << 48), 1 << 48), st.integers(0, (1 << 15) - 1), st.integers(2, 62))
def test_apply_scale_16(value, multiplier, shift):
    expected = twin(value, multiplier, shift, bits=16)
    if expected is None:
        with pytest.raises(IntsimError, match=rf"TOSA apply_scale_16: value {value} .*(int48|result is int32)"):
            apply_scale_16(value, multiplier, shift)
    else:
        assert apply_scale_16(value, multiplier, shift) == expected
        assert apply_scale_16(np.array([value]), multiplier, shift).tolist() == [expected]


@pytest.mark.parametrize("double_round", [False, True])
@pytest.mark.parametrize(
    ("multiplier", "shift"),
    [
        (1 << 30, 30),
        (1 << 30, 33),
        ((1 << 31) - 1, 40),
        (1 << 30, 45),
        (1518500250, 32),
        (1, 17),
        (0, 20),
        (1 << 30, 62),
    ],
)
def test_every_16_bit_value(multiplier, shift, double_round):
    values = np.arange(-(1 << 15), 1 << 15)
    expected = [twin(v, multiplier, shift, double_round) for v in values.tolist()]
    np.testing.assert_array_equal(apply_scale_32(values, multiplier, shift, double_round), expected)


def test_what_the_specification_says_of_one():
    """Scaling by 1.0 is multiplier 2^30 with shift 30, or 2^14 with shift 14: the value is its own result."""
    assert tosa_multiplier(Fraction(1)) == (1 << 30, 30)
    assert tosa_multiplier(Fraction(1), 16) == (1 << 14, 14)
    values = np.array([-(1 << 29), -3, -1, 0, 1, 2, (1 << 29) - 1])
    np.testing.assert_array_equal(apply_scale_32(values, 1 << 30, 30), values)
    values = np.array([-(1 << 31), -1, 0, 1, (1 << 31) - 1])
    np.testing.assert_array_equal(apply_scale_16(values, 1 << 14, 14), values)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 9, 49, 64, 1000])
def test_averages_by_reciprocal_scale(count):
    """The specification's AVG_POOL2D: `reciprocal_scale` and `apply_scale_32` divide sums, ties away from zero.

    Its multiplier for 4, (2^30 + 1) with shift 32, is also that of the reference model's own unit test.
    """
    k = (count - 1).bit_length()
    multiplier, shift = (((1 << 30) + 1) << k) // count, 30 + k
    if count == 4:
        assert (multiplier, shift) == ((1 << 30) + 1, 32)
    sums = np.arange(-128 * count, 127 * count + 1)
    nearest = (2 * np.abs(sums) + count) // (2 * count)
    np.testing.assert_array_equal(apply_scale_32(sums, multiplier, shift), np.sign(sums) * nearest)


@given(st.one_of(st.floats(2.0**-140, 2.0**28, allow_nan=False), st.integers(-110, 28).map(lambda k: 2.0**k)))
def test_the_multiplier_is_mlirs(scale):
    """computeMultiplierAndShift of QuantUtils.cpp, for float scales, which are what it takes."""
    for bits in (32, 16):
        mantissa, exponent = math.frexp(scale)
        fixed = math.floor(Fraction(mantissa) * 2 ** (bits - 1) + Fraction(1, 2))
        if fixed == 2 ** (bits - 1):
            fixed, exponent = fixed // 2, exponent + 1
        shift = bits - 1 - exponent
        if shift > 62:
            fixed, shift = fixed >> min(31, shift - 62), 62
        if shift < 2:
            with pytest.raises(IntsimError, match="2 <= shift <= 62"):
                tosa_multiplier(Fraction(scale), bits)
        else:
            assert tosa_multiplier(Fraction(scale), bits) == (fixed, shift)


@given(MULTIPLIERS, st.integers(2, 62))
def test_limits_are_where_the_rules_end(multiplier, shift):
    for bits, given_ in ((32, multiplier), (16, multiplier >> 16)):
        low, high = value_limits(given_, shift, bits)
        assert twin(low, given_, shift, bits=bits) is not None
        assert twin(high, given_, shift, bits=bits) is not None
        assert twin(low - 1, given_, shift, bits=bits) is None
        assert twin(high + 1, given_, shift, bits=bits) is None


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((1, -5, 30), r"apply_scale_32: multiplier -5; the rule is 0 <= multiplier < 2\^31"),
        ((1, 1 << 31, 30), "multiplier 2147483648; the rule is"),
        ((1, 1 << 30, 1), "shift 1; the rule is 2 <= shift <= 62"),
        ((1, 1 << 30, 63), "shift 63; the rule is 2 <= shift <= 62"),
        ((70000, 1 << 30, 17), r"value 70000 .*: -2\^\(shift-1\) <= value < 2\^\(shift-1\) with shift 17"),
        ((1 << 31, 1 << 30, 40), "value 2147483648 .*: the value is int32"),
        ((np.array([3, -(1 << 40)]), 1 << 30, 62), "value -1099511627776 .*: the value is int32"),
    ],
)
def test_preconditions_are_named(arguments, rule):
    with pytest.raises(IntsimError, match=rule) as caught:
        apply_scale_32(*arguments)
    assert "\n" not in str(caught.value)


def test_scales_without_a_multiplier():
    for scale in (Fraction(-1, 3), Fraction(0)):
        with pytest.raises(IntsimError, match=r"multiplier below 0; the rule is multiplier >= 0"):
            tosa_multiplier(scale)
    with pytest.raises(IntsimError, match="16 and 32 bits, not 8"):
        tosa_multiplier(Fraction(1, 3), 8)
    with pytest.raises(IntsimError, match=r"scale below 2\^29"):
        tosa_multiplier(Fraction(1 << 29) - Fraction(1, 1 << 10))  # rounds up to 2^29
    assert tosa_multiplier(Fraction(1, 10**80)) == (0, 62)
    assert apply_scale_32(np.zeros((0, 3), np.int64), 1 << 30, 30).shape == (0, 3)


@given(INT32, st.integers(0, (1 << 31) - 1), st.integers(2, 62))
def test_where_tosa_allows_a_value_it_is_tflite(value, multiplier, shift):
    """DOUBLE_ROUND is gemmlowp's double rounding, SINGLE_ROUND a single one half up, for values that TOSA takes."""
    low, high = value_limits(multiplier, shift)
    value = max(min(value, high), low)
    double, single = (apply_scale_32(value, multiplier, shift, d) for d in (True, False))
    assert double == multiply_high_double_rounding(value, multiplier, shift)
    assert single == multiply_single_rounding(value, multiplier, shift, "half_up")
