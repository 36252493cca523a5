"""What the arithmetic refuses, and every word it says about it."""

from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.accumulate import MAX_SUM, Stage, accumulate, check_stages, read_stages
from intsim.arithmetic.integers import IntegerType, as_integers, bits_for, check_bits, saturate, wrap
from intsim.arithmetic.packing import Packing
from intsim.arithmetic.requantizers.exact import exact_requantize
from intsim.arithmetic.requantizers.fixed_point import (
    multiply_high_double_rounding,
    multiply_single_rounding,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from intsim.arithmetic.requantizers.float32 import float32_requantize, float32_scale
from intsim.arithmetic.requantizers.shift import power_of_two_shift, shift_requantize
from intsim.arithmetic.requantizers.tosa import apply_scale_16, apply_scale_32, tosa_multiplier
from intsim.arithmetic.rounding import round_divide, round_fraction, rounding
from intsim.errors import IntsimError

MODES = "half_even, half_away, half_toward_zero, half_up, floor, ceil, away, toward_zero"
HALF = [0.5]
UINT64 = np.array([1 << 63], np.uint64)

INTEGERS = {
    lambda: as_integers(HALF): "value: expected integers, got float64",
    lambda: as_integers("7"): "value: expected integers, got <U1",
    lambda: as_integers(True): "value: expected integers, got bool",
    lambda: as_integers(UINT64, "x"): "x: uint64 value 9223372036854775808 does not fit int64; pass an object array",
    lambda: as_integers(np.array([1, 0.5], object), "x"): "x: an object array may hold Python ints only",
    lambda: as_integers(np.array([True], object), "x"): "x: an object array may hold Python ints only",
    lambda: check_bits(0): "bits is 0; allowed: an integer 1..64",
    lambda: check_bits(65, "width"): "width is 65; allowed: an integer 1..64",
    lambda: check_bits(True): "bits is True; allowed: an integer 1..64",
    lambda: check_bits(8.0): "bits is 8.0; allowed: an integer 1..64",
    lambda: IntegerType(65, True): "bits is 65; allowed: an integer 1..64",
    lambda: wrap(1, 65): "bits is 65; allowed: an integer 1..64",
    lambda: wrap(HALF, 8): "value: expected integers, got float64",
    lambda: wrap([1], 64, False): "wrap to 64 unsigned bits does not fit an int64 array; "
    "pass Python ints or an object array",
    lambda: saturate(1, 0): "bits is 0; allowed: an integer 1..64",
    lambda: saturate(HALF, 8): "value: expected integers, got float64",
    lambda: bits_for(1, 0): "empty range 1..0",
}

ROUNDING = {
    lambda: rounding("up"): f"unknown rounding mode 'up'; allowed: {MODES}",
    lambda: rounding(7): f"unknown rounding mode 7; allowed: {MODES}",
    lambda: round_divide(1, 2, "up"): f"unknown rounding mode 'up'; allowed: {MODES}",
    lambda: round_fraction(Fraction(1, 2), "up"): f"unknown rounding mode 'up'; allowed: {MODES}",
    lambda: round_divide(1, 0, "floor"): "denominator 0 is not positive",
    lambda: round_divide([1], [3, -2], "floor"): "denominator -2 is not positive",
    lambda: round_divide([1], [0], "floor"): "denominator 0 is not positive",
    lambda: round_divide(HALF, [1], "floor"): "numerator: expected integers, got float64",
    lambda: round_divide([1], HALF, "floor"): "denominator: expected integers, got float64",
}

REQUANTIZE = {
    lambda: exact_requantize(HALF, 1): "accumulator: expected integers, got float64",
    lambda: exact_requantize([1], 1, 0, "up"): f"unknown rounding mode 'up'; allowed: {MODES}",
    lambda: quantize_multiplier(Fraction(1), 3): "multiplier_bits is 3; allowed: an integer 4..32",
    lambda: quantize_multiplier(Fraction(1), 33): "multiplier_bits is 33; allowed: an integer 4..32",
    lambda: quantize_multiplier(Fraction(1), True): "multiplier_bits is True; allowed: an integer 4..32",
    lambda: quantize_multiplier(Fraction(1), 8.0): "multiplier_bits is 8.0; allowed: an integer 4..32",
    lambda: quantize_multiplier(Fraction(1 << 30)): "scale 1.07374e+09 is too large for a fixed-point multiplier; "
    "it must be below 2^30",
    lambda: saturating_rounding_doubling_high_mul(HALF, [1]): "value: expected integers, got float64",
    lambda: saturating_rounding_doubling_high_mul([1], HALF): "value: expected integers, got float64",
    lambda: rounding_divide_by_pot(1, -1): "exponent -1 is negative",
    lambda: multiply_high_double_rounding(HALF, 1, 0): "accumulator: expected integers, got float64",
    lambda: multiply_high_double_rounding([0], 1 << 31, 31): "multiplier 2147483648 does not fit 32 signed bits",
    lambda: multiply_high_double_rounding([0], 8, 3, 4): "multiplier 8 does not fit 4 signed bits",
    lambda: multiply_high_double_rounding([0], -8, 3, 4): "multiplier -8 does not fit 4 signed bits",
    lambda: multiply_high_double_rounding([0], 1, 3, 3): "multiplier 1 does not fit 3 signed bits",
    lambda: multiply_high_double_rounding([0], 1, 3, 33): "multiplier 1 does not fit 33 signed bits",
    lambda: multiply_high_double_rounding([5, 1 << 31], 1, 31): "double rounding takes 32-bit accumulators, "
    "got 5..2147483648; use single rounding, or a 32-bit last stage",
    lambda: multiply_high_double_rounding([-(1 << 31) - 1], 1, 31): "double rounding takes 32-bit accumulators, "
    "got -2147483649..-2147483649; use single rounding, or a 32-bit last stage",
    lambda: multiply_single_rounding(HALF, 1, 0, "floor"): "accumulator: expected integers, got float64",
    lambda: multiply_single_rounding([1], 1, 0, "up"): f"unknown rounding mode 'up'; allowed: {MODES}",
    lambda: power_of_two_shift(Fraction(3, 4)): "scale 3/4 is not a power of two, which a shift requantizer needs; "
    "train with power-of-two scales or use scheme fixed-point",
    lambda: power_of_two_shift(Fraction(-1, 4)): "scale -1/4 is not a power of two, which a shift requantizer needs; "
    "train with power-of-two scales or use scheme fixed-point",
    lambda: power_of_two_shift(Fraction(0)): "scale 0 is not a power of two, which a shift requantizer needs; "
    "train with power-of-two scales or use scheme fixed-point",
    lambda: power_of_two_shift(Fraction(1, 3)): "scale 1/3 is not a power of two, which a shift requantizer needs; "
    "train with power-of-two scales or use scheme fixed-point",
    lambda: shift_requantize([1], 1, "up"): f"unknown rounding mode 'up'; allowed: {MODES}",
    lambda: float32_scale(Fraction(1 << 128)): "scale 3.40282e+38 is outside the normal range of float32",
    lambda: float32_scale(Fraction(1, 1 << 127)): "scale 5.87747e-39 is outside the normal range of float32",
    lambda: float32_requantize(HALF, np.float32(1), 0, 0, 1): "accumulator: expected integers, got float64",
    lambda: float32_requantize([1], 1.0, 0, 0, 1): "float32 requantizer: the scale must be a finite float32; "
    "see float32_scale",
    lambda: float32_requantize([1], np.float32("inf"), 0, 0, 1): "float32 requantizer: the scale must be a finite "
    "float32; see float32_scale",
    lambda: float32_requantize([-1, 1 << 31], np.float32(1), 0, 0, 1): "float32 requantizer takes 32-bit "
    "accumulators, got -1..2147483648",
    lambda: float32_requantize([-(1 << 31) - 1], np.float32(1), 0, 0, 1): "float32 requantizer takes 32-bit "
    "accumulators, got -2147483649..-2147483649",
}

STAGES = {
    lambda: Stage(0, 8, "wrap"): f'stage sum is 0; allowed: 1..{MAX_SUM} or "rest"',
    lambda: Stage(MAX_SUM + 1, 8, "wrap"): f'stage sum is {MAX_SUM + 1}; allowed: 1..{MAX_SUM} or "rest"',
    lambda: Stage(True, 8, "wrap"): f'stage sum is True; allowed: 1..{MAX_SUM} or "rest"',
    lambda: Stage(2.0, 8, "wrap"): f'stage sum is 2.0; allowed: 1..{MAX_SUM} or "rest"',
    lambda: Stage(2, 0, "wrap"): "stage bits is 0; allowed: 1..64",
    lambda: Stage(2, 8, "wrap", 0): "stage lanes is 0; allowed: 1..1024",
    lambda: Stage(2, 8, "wrap", 1025): "stage lanes is 1025; allowed: 1..1024",
    lambda: Stage(2, 8, "wrap", True): "stage lanes is True; allowed: 1..1024",
    lambda: Stage(2, 8, "wrap", 2.0): "stage lanes is 2.0; allowed: 1..1024",
    lambda: read_stages([{"sum": None, "bits": 8, "overflow": "wrap"}]): "stages, stage 1: sum is None; "
    f'allowed: 1..{MAX_SUM} or "rest"',
    lambda: Stage(2, 8, "clamp"): 'stage overflow is \'clamp\'; allowed: "wrap", "saturate"',
    lambda: check_stages([Stage(2, 8, "wrap")]): 'stages, stage 1: sum is 2; the last stage must be "rest"',
    lambda: check_stages(
        [Stage(2, 8, "wrap"), Stage(3, 8, "wrap")]
    ): 'stages, stage 2: sum is 3; the last stage must be "rest"',
    lambda: check_stages(
        [Stage(None, 8, "wrap"), Stage(3, 8, "wrap")]
    ): 'stages, stage 2: sum is 3 after a "rest" stage; allowed: "rest"',
    lambda: check_stages([Stage(2, 8, "wrap"), Stage(None, 8, "wrap", 4)]): "stages, stage 2: lanes is 4; "
    "the last stage has one register",
    lambda: check_stages(
        [Stage(2, 8, "wrap"), Stage(2, 8, "wrap"), Stage(None, 8, "wrap", 4)]
    ): "stages, stage 3: lanes is 4; the last stage has one register",
    lambda: accumulate(5, [Stage(None, 8, "wrap")]): "products need at least one axis, the order of arrival",
    lambda: accumulate(HALF, [Stage(None, 8, "wrap")]): "products: expected integers, got float64",
    lambda: accumulate([1], [Stage(None, 8, "wrap")], start=0.5): "start: expected integers, got float64",
    lambda: accumulate([1], [Stage(None, 8, "wrap")], bias=0.5): "bias: expected integers, got float64",
}

LOWER = "TOSA apply_scale_32: value {} is refused; the rule is: -2^(shift-1) <= value < 2^(shift-1) with shift {}"
TOSA = {
    lambda: tosa_multiplier(
        Fraction(1), 8
    ): "TOSA has multipliers of 16 and 32 bits, not 8; set multiplier_bits to one of them",
    lambda: tosa_multiplier(
        Fraction(-1, 2)
    ): "TOSA apply_scale_32: scale -0.5 would need a multiplier below 0; the rule "
    "is multiplier >= 0; use scheme fixed-point, which takes negative scales",
    lambda: tosa_multiplier(
        Fraction(0), 16
    ): "TOSA apply_scale_16: scale 0 would need a multiplier below 0; the rule is "
    "multiplier >= 0; use scheme fixed-point, which takes negative scales",
    lambda: tosa_multiplier(
        Fraction(1 << 29)
    ): "TOSA apply_scale_32: scale 5.36871e+08 would need a shift below 2; the "
    "rule is 2 <= shift <= 62, hence a scale below 2^29",
    lambda: tosa_multiplier(
        Fraction(1 << 30)
    ): "TOSA apply_scale_32: scale 1.07374e+09 would need a shift below 2; the "
    "rule is 2 <= shift <= 62, hence a scale below 2^29",
    lambda: tosa_multiplier(
        Fraction((1 << 40) - 1, 1 << 11)
    ): "TOSA apply_scale_32: scale 5.36871e+08 would need a shift "
    "below 2; the rule is 2 <= shift <= 62, hence a scale below 2^29",
    lambda: tosa_multiplier(
        Fraction(1 << 13), 16
    ): "TOSA apply_scale_16: scale 8192 would need a shift below 2; the rule "
    "is 2 <= shift <= 62, hence a scale below 2^13",
    lambda: apply_scale_32(1, -1, 30): "TOSA apply_scale_32: multiplier -1; the rule is 0 <= multiplier < 2^31",
    lambda: apply_scale_32(
        1, 1 << 31, 30
    ): "TOSA apply_scale_32: multiplier 2147483648; the rule is 0 <= multiplier < 2^31",
    lambda: apply_scale_16(1, 1 << 15, 30): "TOSA apply_scale_16: multiplier 32768; the rule is 0 <= multiplier < 2^15",
    lambda: apply_scale_32(1, 1, 1): "TOSA apply_scale_32: shift 1; the rule is 2 <= shift <= 62",
    lambda: apply_scale_32(1, 1, 63): "TOSA apply_scale_32: shift 63; the rule is 2 <= shift <= 62",
    lambda: apply_scale_32([-8, 8], 1, 4): LOWER.format(8, 4),
    lambda: apply_scale_32([-9, 8], 1, 4): LOWER.format(-9, 4),
    lambda: apply_scale_32([0, 8], 1, 4): LOWER.format(8, 4),
    lambda: apply_scale_32([-(1 << 31) - 1], 1, 62): "TOSA apply_scale_32: value -2147483649 is refused; the rule is: "
    "the value is int32",
    lambda: apply_scale_32([1 << 31], 1, 62): "TOSA apply_scale_32: value 2147483648 is refused; the rule is: "
    "the value is int32",
    lambda: apply_scale_16([1 << 47], 1, 62): "TOSA apply_scale_16: value 140737488355328 is refused; the rule is: "
    "the value is int48",
    lambda: apply_scale_16([1 << 40], 1 << 14, 15): "TOSA apply_scale_16: value 1099511627776 is refused; the rule is: "
    "the result is int32, hence value in -4294967297..4294967294",
    lambda: apply_scale_32(HALF, 1, 30): "value: expected integers, got float64",
}

ASCENDING = "allowed: a list of ascending bit offsets 0..63, the first 0, e.g. [0,"
PACKINGS = {
    lambda: Packing((), (0,), 48, "none"): f"packing channels is []; {ASCENDING} 18]",
    lambda: Packing((1,), (0,), 48, "none"): f"packing channels is [1]; {ASCENDING} 18]",
    lambda: Packing((0, 0), (0,), 48, "none"): f"packing channels is [0, 0]; {ASCENDING} 18]",
    lambda: Packing((0,), (0, 9, 5), 48, "none"): f"packing pixels is [0, 9, 5]; {ASCENDING} 22]",
    lambda: Packing((0,), (0,), 1, "none"): "packing bits is 1; allowed: 2..64",
    lambda: Packing((0,), (0,), 65, "none"): "packing bits is 65; allowed: 2..64",
    lambda: Packing((0, 8), (0, 1), 48, "none"): "packing fields of widths [1, 7, 1, 39] bits; each needs 2 or more",
    lambda: Packing((0,), (0,), 48, "carry"): 'packing correction is \'carry\'; allowed: "none", "borrow"',
}


@pytest.mark.parametrize(
    ("call", "message"),
    [*INTEGERS.items(), *ROUNDING.items(), *REQUANTIZE.items(), *STAGES.items(), *TOSA.items(), *PACKINGS.items()],
)
def test_refused_in_so_many_words(call, message):
    with pytest.raises(IntsimError) as refused:
        call()
    assert str(refused.value) == message


def test_what_is_just_allowed():
    assert Stage(MAX_SUM, 64, "wrap", 1024).lanes == 1024
    assert Stage(1, 1, "saturate") == Stage(1, 1, "saturate", 1)
    assert read_stages([{"sum": "rest", "bits": 1, "overflow": "wrap"}]) == (Stage(None, 1, "wrap"),)
    assert Stage(None, 1, "wrap").keys() == {"sum": "rest", "bits": 1, "overflow": "wrap", "lanes": 1}
    assert quantize_multiplier(Fraction((1 << 30) - 1), 32) == ((1 << 31) - 2, 1)
    assert multiply_high_double_rounding([(1 << 31) - 1, -(1 << 31)], 7, 3, 4).tolist() == [1879048191, -1879048192]
    assert float32_scale(Fraction(1, 1 << 126)) == np.float32(2.0**-126)
    assert Packing((0, 2), (0,), 4, "none").widths == (2, 2)
    assert Packing((0,), (0,), 64, "borrow").offsets == (0,)
    assert Packing((0,), (0,), 2, "borrow").widths == (2,)
