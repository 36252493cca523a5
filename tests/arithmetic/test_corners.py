"""Corners that only a deliberate test visits: types of results, sums one past int64, estimates on the wrong side."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate
from intsim.arithmetic.integers import IntegerType, as_integers, saturate
from intsim.arithmetic.packing import Packing, accumulate_packed, check_group_sums
from intsim.arithmetic.requantizers import exact
from intsim.arithmetic.requantizers.exact import exact_requantize
from intsim.arithmetic.requantizers.fixed_point import multiply_high_double_rounding, multiply_single_rounding
from intsim.arithmetic.requantizers.float32 import float32_requantize, float32_scale
from intsim.arithmetic.requantizers.shift import shift_requantize
from intsim.arithmetic.requantizers.tosa import apply_scale_16, apply_scale_32, tosa_multiplier, value_limits
from intsim.arithmetic.rounding import Rounding, round_divide
from intsim.arithmetic.schedule import schedule
from intsim.errors import IntsimError
from tests import twins

MODES = [mode.value for mode in Rounding]
FAR = 3**30  # odd, 2^47.5


def expected(acc, scale, offset, mode):
    return [twins.round_fraction(int(a) * Fraction(scale) + Fraction(offset), mode) for a in acc]


def test_types_of_integers():
    for value in (5, -5, -(1 << 63), (1 << 63) - 1):
        assert as_integers(value).dtype == np.int64
    for value in (1 << 63, -(1 << 63) - 1):
        assert as_integers(value).dtype == object
    assert as_integers([]).dtype == np.int64
    assert as_integers(np.zeros((2, 0))).dtype == np.int64
    same = np.arange(3)
    assert as_integers(same) is same
    assert str(IntegerType(8, True)) == "INT8"
    assert str(IntegerType(8, False, True)) == "UINT8 narrow"


def test_64_unsigned_bits_are_only_clipped_below():
    values = np.array([-(1 << 63), -1, 0, 5, (1 << 63) - 1])
    clipped = saturate(values, 64, False)
    assert clipped.dtype == np.int64
    assert clipped.tolist() == [0, 0, 0, 5, (1 << 63) - 1]


@pytest.mark.parametrize("mode", MODES)
def test_quotients_of_one_element_keep_their_shape(mode):
    for kind in (object, np.int64):
        for shape in ((), (1,), (1, 1)):
            result = round_divide(np.full(shape, 7, kind), 2, mode)
            assert result.shape == shape
            assert result.dtype == kind
            assert result.reshape(-1)[0] == twins.round_divide(7, 2, mode)


def test_no_accumulators_are_integers_too():
    empty = exact_requantize(np.zeros((0, 3), np.int64), Fraction(1, 3))
    assert empty.dtype == np.int64
    assert empty.shape == (0, 3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("acc", "scale"),
    [
        ([1 << 40, -(1 << 40), 5], Fraction(1 << 23, 3**9)),  # a numerator of exactly 2^63
        ([(1 << 40) + 1, -(1 << 40) - 1, 5], Fraction((1 << 23) + 1, 3**9)),  # a little more
        ([3 << 39, -(3 << 39), 5], Fraction((1 << 23) + 1, 3**10)),  # between 2^63 and 2^64
    ],
)
def test_numerators_just_past_int64(acc, scale, mode):
    np.testing.assert_array_equal(exact_requantize(np.array(acc), scale, 0, mode), expected(acc, scale, 0, mode))


@pytest.mark.parametrize("mode", MODES)
def test_integers_and_ties_by_remainder(monkeypatch, mode):
    """Quotients that are whole, or a half off, whose float64 estimates lie on either side."""
    taken = []
    real = exact._by_remainder
    monkeypatch.setattr(exact, "_by_remainder", lambda *given: taken.append(1) or real(*given))
    for factor in range((1 << 40) + 1, (1 << 40) + 41, 2):
        for scale in (Fraction(factor, FAR), Fraction(factor, 2 * FAR), Fraction(-factor, 2 * FAR)):
            acc = FAR * np.arange(-39, 40)
            ours = exact_requantize(acc, scale, 0, mode)
            np.testing.assert_array_equal(ours, expected(acc, scale, 0, mode))
    assert len(taken) == 60


@pytest.mark.parametrize("mode", MODES)
def test_integers_and_ties_by_estimate(monkeypatch, mode):
    """Whole and half quotients over a denominator beyond 2^61, whose estimates lie on either side."""
    taken = []
    real = exact._by_estimate
    monkeypatch.setattr(exact, "_by_estimate", lambda *given: taken.append(1) or real(*given))
    rng = np.random.default_rng(1)
    bottom = 3**40
    for _ in range(60):
        factor, at = int(rng.integers(1 << 55, 1 << 60)), int(rng.integers(1, 1 << 30))
        for half in (0, 1):
            scale, offset = Fraction(factor, bottom), Fraction(-at * factor % bottom, bottom) + Fraction(half, 2)
            assert (2 * (at * scale + offset)).denominator == 1
            acc = np.array([at - 1, at, at + 1])
            np.testing.assert_array_equal(
                exact_requantize(acc, scale, offset, mode), expected(acc, scale, offset, mode)
            )
    assert len(taken) > 100  # gcd makes a few denominators smaller


@pytest.mark.parametrize("mode", MODES)
def test_python_integers_decide_next_to_nothing(monkeypatch, mode):
    """Where the estimate is far from a decision it must be trusted: Python integers are a thousand times slower."""
    asked = []
    real = exact._by_python
    monkeypatch.setattr(exact, "_by_python", lambda flat, *given: asked.append(flat.size) or real(flat, *given))
    acc = np.arange(-(1 << 14), 1 << 14)
    scale = (
        Fraction(float(np.float32(0.0031))) * Fraction(float(np.float32(0.0071))) / Fraction(float(np.float32(0.011)))
    )
    exact_requantize(acc, scale, Fraction(1, 1 << 50), mode)
    assert sum(asked) <= 10


def test_types_of_products():
    assert type(multiply_high_double_rounding(5, 1 << 30, 31)) is int
    assert multiply_high_double_rounding(np.array([5]), 1 << 30, 31).dtype == np.int64
    assert multiply_single_rounding([1 << 31], 1 << 30, -2, "half_up").tolist() == [1 << 63]
    for shift in (62, 63, 64, 65):
        small = multiply_single_rounding([5, -5], 1 << 30, shift, "floor")
        assert small.dtype == np.int64
        assert small.tolist() == [0, -1]
    assert multiply_single_rounding(np.array([5], object), 1 << 30, 31, "floor").dtype == object
    for acc, kind in (([-1], np.int64), ([1], object), ([1, -1], object), ([-2], object), ([-2, 1], object)):
        wide = shift_requantize(acc, -63, "floor")
        assert wide.dtype == kind
        assert wide.tolist() == [a << 63 for a in acc]
    assert shift_requantize([0, 0], -70, "floor").tolist() == [0, 0]
    assert shift_requantize(np.zeros((0, 2), np.int64), -70, "floor").shape == (0, 2)


def test_float32_beyond_its_range_is_clipped_silently():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = float32_requantize([(1 << 31) - 1, -(1 << 31)], np.finfo(np.float32).max, 3, -128, 127)
    assert codes.dtype == np.int64
    assert codes.tolist() == [127, -128]


@given(st.fractions(Fraction(1, 1 << 100), Fraction(1 << 100)), st.sampled_from([1, -1]))
def test_float32_scale_is_the_nearest(scale, sign):
    nearest = float32_scale(sign * scale)
    assert nearest.dtype == np.float32
    near = Fraction(float(nearest))
    for towards in (np.float32("inf"), np.float32("-inf")):
        other = Fraction(float(np.nextafter(nearest, towards)))
        assert abs(near - sign * scale) <= abs(other - sign * scale)


def test_float32_scale_rounds_once():
    """Next to the middle of two float32 by less than float64 shows; and in the middle, to the even one."""
    below, above = 1 + Fraction(1, 1 << 23), 1 + Fraction(1, 1 << 22)
    middle = (below + above) / 2
    hair = Fraction(1, 3**60)
    for unit in (1, Fraction(1, 1 << 20), 1 << 20):
        assert Fraction(float(float32_scale((middle - hair) * unit))) == below * unit
        assert Fraction(float(float32_scale((middle + hair) * unit))) == above * unit
    assert Fraction(float(float32_scale(middle))) == above
    assert Fraction(float(float32_scale(Fraction(3, 7)))) == Fraction(float(np.float32(3) / np.float32(7)))


def test_an_unbounded_sum_without_a_bias():
    assert accumulate([1, 2, 3], [])[0] == 6
    assert accumulate([1, 2, 3], [])[0].shape == ()
    assert accumulate([1, 2, 3], [], bias=4)[0] == 10


def test_types_of_a_schedule():
    plan = schedule(5, (Stage(2, 8, "wrap", 2), Stage(None, 8, "wrap")))
    assert {column.dtype for column in plan[:3]} == {np.dtype(np.int32)}


def test_packed_sums_are_exact_integers_and_silent():
    packing = Packing((0, 40), (0,), 64, "borrow")
    stages = (Stage(2, 24, "wrap"), Stage(None, 64, "wrap"))
    products = np.array([[[(1 << 53) + 1, 2]], [[(1 << 22) + 1, (1 << 22) + 1]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the wide register wraps without a word
        found = accumulate_packed(products, stages, packing)
    assert {part.dtype for part in found} == {np.dtype(np.int64)}
    assert found.high[..., 0].tolist() == [[(1 << 53) + 3], [(1 << 23) + 2]]
    assert found.events[..., 0].tolist() == [[1], [1]]
    nothing = accumulate_packed(np.zeros((2, 1, 0), np.int64), stages, packing, start=7)
    assert nothing.result.tolist() == [[7], [7]]
    assert {part.dtype for part in nothing} == {np.dtype(np.int64)}


def test_group_sums_up_to_int64():
    check_group_sums((1 << 62) - 1, 2)
    with pytest.raises(IntsimError, match="sums of 2 packed products up to 4611686018427387904 do not fit int64"):
        check_group_sums(1 << 62, 2)


@given(st.integers(1, (1 << 15) - 1), st.integers(2, 62))
def test_limits_of_16_bit_multipliers_are_exact(multiplier, shift):
    low, high = value_limits(multiplier, shift, 16)
    assert type(low) is type(high) is int

    def inside(value):
        result = (value * multiplier + (1 << (shift - 1))) >> shift
        return -(1 << 47) <= value < 1 << 47 and -(1 << 31) <= result < 1 << 31

    assert inside(low)
    assert inside(high)
    assert not inside(low - 1)
    assert not inside(high + 1)


@pytest.mark.parametrize("bits", [16, 32])
def test_multipliers_of_small_scales(bits):
    """Normalised; beyond a shift of 62 bits of it are dropped, one by one."""
    for exponent in [*range(-10, 70), 92, 93, 94, 200, 300]:
        for significand in (Fraction(1), Fraction(4, 3), Fraction(255, 128)):
            scale = significand / (1 << exponent) if exponent >= 0 else significand * (1 << -exponent)
            shift = bits - 2 + exponent
            multiplier = twins.round_fraction(significand * (1 << (bits - 2)), "half_away")
            wanted = (multiplier >> min(max(shift - 62, 0), 99), min(shift, 62))
            assert tosa_multiplier(scale, bits) == (wanted if wanted[0] else (0, 62)), (scale, bits)


def test_tosa_nudges_from_a_shift_of_32_on():
    for value in (3, -3, 0, 1, -1):
        for shift, more in ((31, 0), (32, 1 << 30), (33, 1 << 30)):
            for multiplier in ((1 << 30) + 12345, (1 << 31) - 1):
                nudge = (1 << (shift - 1)) + (more if value >= 0 else -more)
                assert apply_scale_32(value, multiplier, shift, True) == (value * multiplier + nudge) >> shift
    for value in (5 << 20, -(5 << 20), 77777, -77777):
        for shift in (20, 31, 32, 35, 40):
            for multiplier in ((1 << 14) + 1, (1 << 15) - 1):
                # 16-bit multipliers have no double rounding
                assert apply_scale_16(value, multiplier, shift) == (value * multiplier + (1 << (shift - 1))) >> shift
    assert type(apply_scale_32(5, 1 << 30, 30)) is int
    assert type(apply_scale_16(5, 1 << 14, 30)) is int
