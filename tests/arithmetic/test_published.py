"""Numbers that others published with their code: each list names its file, and none was produced by ours."""

import math
from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.accumulate import Stage, accumulate
from intsim.arithmetic.requantizers.fixed_point import (
    multiply_high_double_rounding,
    multiply_single_rounding,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from intsim.arithmetic.requantizers.thresholds import Staircase
from intsim.arithmetic.rounding import round_divide, round_fraction
from intsim.errors import IntsimError
from intsim.frontend.qonnx import ROUNDING
from intsim.targets import Target

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def tflite(scale):
    """(multiplier, exponent) as TFLite writes them: scale = multiplier * 2^(exponent - 31)."""
    multiplier, shift = quantize_multiplier(Fraction(scale))
    return multiplier, 31 - shift if multiplier else 0


def double_rounding(x, multiplier, exponent):
    return multiply_high_double_rounding(x, multiplier, 31 - exponent)


def single_rounding(x, multiplier, exponent):
    return multiply_single_rounding(x, multiplier, 31 - exponent, "half_up")


def numbers(text):
    return np.array(text.split(), np.int64)


BOTH = pytest.mark.parametrize("multiply", [double_rounding, single_rounding])

# tensorflow/tensorflow, tensorflow/lite/kernels/internal/quantization_util_test.cc
QUANTIZED = [
    # QuantizeMultiplierSmallerThanOneExp
    (0.25, 1073741824, -1),
    (0.50 - 5e-9, 2147483627, -1),
    (0.50 - 1e-10, 1073741824, 0),
    (0.50, 1073741824, 0),
    (0.75, 1610612736, 0),
    (1 - 1e-9, 2147483646, 0),
    # QuantizeMultiplierGreaterThanOne
    (1 + 1e-11, 1073741824, 1),
    (1.25, 1342177280, 1),
    (1.50, 1610612736, 1),
    (1.75, 1879048192, 1),
    (2 - 1e-9, 2147483647, 1),
    (2 - 1e-11, 1073741824, 2),
    (2.0, 1073741824, 2),
    # QuantizeMultiplierUnderflow; its 0.99f is a float32
    (math.ldexp(1.0, -31), 1073741824, -30),
    (math.ldexp(1.0, -32), 1073741824, -31),
    (math.ldexp(float(np.float32(0.99)), -32), 0, 0),
    (math.ldexp(1.0, -33), 0, 0),
    # QuantizeMultiplierArray
    *[(s * 2.0**e, s * 1073741824, e + 1) for e in (2, 1, 0, -1, -2, -3) for s in (-1, 1)],
    (0.0, 0, 0),
]


def written(scale):
    """The scale as the file writes it, where that is not a float of Python's."""
    return "0.99 * 2^-32" if 0.98 < scale * 2.0**32 < 1 else str(scale)


@pytest.mark.parametrize(("scale", "multiplier", "exponent"), [pytest.param(*q, id=written(q[0])) for q in QUANTIZED])
def test_tflite_quantize_multiplier(scale, multiplier, exponent):
    assert tflite(scale) == (multiplier, exponent)


# The same file, MultiplyByQuantizedMultiplierInt32; negative multipliers only with two roundings.
MULTIPLIED = [
    (0, 0.1, 0),
    (1, 0.0, 0),
    (10000, 0.00097656, 10),
    (-10000, 0.00097656, -10),
    (INT32_MIN, 0.00001, -21475),
    (INT32_MAX, 0.00001, 21475),
]
NEGATIVE = [
    (10000, -0.00097656, -10),
    (-10000, -0.00097656, 10),
    (INT32_MIN, -0.00001, 21475),
    (INT32_MAX, -0.00001, -21475),
]


@BOTH
def test_tflite_multiply(multiply):
    for x, scale, expected in MULTIPLIED + (NEGATIVE if multiply is double_rounding else []):
        assert multiply(x, *tflite(scale)) == expected
    # the largest x and multiplier, shifted right by 3: round(x * multiplier / 2^34)
    expected = round(Fraction(INT32_MAX) * INT32_MAX / (1 << 34))
    assert multiply(INT32_MAX, INT32_MAX, -3) == expected
    assert multiply(-INT32_MAX, INT32_MAX, -3) == -expected


def test_tflite_multiply_int64():
    """The same file, MultiplyByQuantizedMultiplierInt64: it first rounds the multiplier to 16 bits, then once."""
    wide = (1 << 47) - 1

    def multiply(x, multiplier, exponent):
        reduced = 0x7FFF if multiplier >= 0x7FFF0000 else (multiplier + (1 << 15)) >> 16
        return multiply_single_rounding(x, reduced, 15 - exponent, "half_up")

    for x, scale, expected in [
        (0, 0.1, 0),
        (1, 0.0, 0),
        (10000, 0.00097656, 10),
        (-10000, 0.00097656, -10),
        (-(1 << 47), 0.00001, -1407385600),
        (wide, 0.00001, 1407385600),
    ]:
        assert multiply(x, *tflite(scale)) == expected
    assert multiply(wide, INT32_MAX, -31) == 65534
    assert multiply(-wide, INT32_MAX, -31) == -65534


# google/ruy, ruy/apply_multiplier_test.cc: (x, multiplier, exponent, expected)
RUY_HIGH = [
    (1000, INT32_MAX, 0, 1000),
    (1000, 1 << 30, 0, 500),
    (1000, 1 << 29, 0, 250),
    (1000, (1 << 30) + (1 << 29), 0, 750),
    (1000, (1 << 30) + (1 << 28), 0, 625),
    (1000, (1 << 30) + (1 << 27), 0, 563),  # 562.5
    (1000, (1 << 30) + (1 << 26), 0, 531),
    (-1000, INT32_MAX, 0, -1000),
    (-1000, 1 << 30, 0, -500),
    (-1000, 1 << 29, 0, -250),
    (-1000, (1 << 30) + (1 << 29), 0, -750),
    (-1000, (1 << 30) + (1 << 28), 0, -625),
    (-1000, (1 << 30) + (1 << 27), 0, -562),  # -562.5: ties go up
    (-1000, (1 << 30) + (1 << 26), 0, -531),
    (1000, INT32_MAX, 1, 2000),
    (1000, INT32_MAX, 2, 4000),
    (1000, INT32_MAX, 3, 8000),
    (-1000, INT32_MAX, 1, -2000),
    (-1000, INT32_MAX, 2, -4000),
    (-1000, INT32_MAX, 3, -8000),
    (1000, 1 << 30, -1, 250),
    (1000, 1 << 25, 3, 125),
]
RUY_SHIFT = [
    (1000, INT32_MAX, -1, 500),
    (1000, INT32_MAX, -2, 250),
    (1000, INT32_MAX, -3, 125),
    (1000, INT32_MAX, -4, 62),  # 63 in the versions that rounded twice
    (1000, INT32_MAX, -5, 31),
    (1000, INT32_MAX, -6, 16),
    (-1000, INT32_MAX, -1, -500),
    (-1000, INT32_MAX, -2, -250),
    (-1000, INT32_MAX, -3, -125),
    (-1000, INT32_MAX, -4, -62),
    (-1000, INT32_MAX, -5, -31),
    (-1000, INT32_MAX, -6, -16),
]


@BOTH
@pytest.mark.parametrize(("x", "multiplier", "exponent", "expected"), RUY_HIGH)
def test_ruy_multiply(multiply, x, multiplier, exponent, expected):
    assert multiply(x, multiplier, exponent) == expected


def test_ruy_rounding_right_shift():
    """One rounding: the present ruy. Two, both with ties up (SQRDMULH, SRSHL): its versions before; 63 and -62.

    gemmlowp's two roundings send -62.5 away from zero.
    """
    for x, multiplier, exponent, expected in RUY_SHIFT:
        assert single_rounding(x, multiplier, exponent) == expected
        twice = saturating_rounding_doubling_high_mul(x, multiplier)
        assert round_divide(twice, 1 << -exponent, "half_up") == (63 if expected == 62 else expected)
    differ = [(*case[:3], double_rounding(*case[:3])) for case in RUY_SHIFT if double_rounding(*case[:3]) != case[3]]
    assert differ == [(1000, INT32_MAX, -4, 63), (-1000, INT32_MAX, -4, -63)]


def test_gemmlowp_rounding_divide_by_pot():
    """google/gemmlowp, test/test_fixedpoint.cc: shifts 0..31 against round() of doubles on its list of values."""
    values = [s * (1 << i) + d for i in range(31) for s in (-1, 1) for d in range(-2, 3)]
    values += [INT32_MIN, INT32_MIN + 1, INT32_MIN + 2, INT32_MAX - 2, INT32_MAX - 1, INT32_MAX]
    values = [v for v in values if INT32_MIN <= v <= INT32_MAX]
    for exponent in range(32):
        ours = rounding_divide_by_pot(np.array(values), exponent)
        # a double holds x / 2^n exactly; C's round sends halves away from zero
        expected = [int(math.copysign(math.floor(abs(v) / 2**exponent + 0.5), v)) for v in values]
        np.testing.assert_array_equal(ours, expected)


def test_gemmlowp_high_mul():
    """google/gemmlowp, fixedpoint/fixedpoint.h: the one pair that saturates, and what its comments promise."""
    assert saturating_rounding_doubling_high_mul(INT32_MIN, INT32_MIN) == INT32_MAX
    assert saturating_rounding_doubling_high_mul(INT32_MIN, INT32_MAX) == -INT32_MAX
    assert saturating_rounding_doubling_high_mul(INT32_MAX, INT32_MAX) == INT32_MAX - 1
    assert saturating_rounding_doubling_high_mul(1 << 30, 1 << 30) == 1 << 29  # 0.5 * 0.5 = 0.25


# fastmachinelearning/qonnx, tests/custom_op/test_runding_mode.py
ROUNDED = [5.5, 2.5, 1.6, 1.1, 1.0, -1.0, -1.1, -1.6, -2.5, -5.5]
QONNX_MODES = {
    "ROUND": [6, 2, 2, 1, 1, -1, -1, -2, -2, -6],
    "CEIL": [6, 3, 2, 2, 1, -1, -1, -1, -2, -5],
    "FLOOR": [5, 2, 1, 1, 1, -1, -2, -2, -3, -6],
    "UP": [6, 3, 2, 2, 1, -1, -2, -2, -3, -6],
    "DOWN": [5, 2, 1, 1, 1, -1, -1, -1, -2, -5],
    "HALF_UP": [6, 3, 2, 1, 1, -1, -1, -2, -3, -6],
    "HALF_DOWN": [5, 2, 2, 1, 1, -1, -1, -2, -2, -5],
}


@pytest.mark.parametrize("mode", QONNX_MODES)
def test_qonnx_rounding_modes(mode):
    assert [round_fraction(Fraction(x), ROUNDING[mode]) for x in ROUNDED] == QONNX_MODES[mode]


def test_qonnx_multithreshold():
    """fastmachinelearning/qonnx, tests/custom_op/test_multithreshold.py: its decimals, in tenths, are integers."""
    data = numbers(
        """48 32 12 49 78 24 31 47 62 51 49 22 62 0 8 47 2 56 89 92 91 40 33 49 23 17 13 22 46 34 37 98 47 49 28 27 83
        67 42 71 28 31 8 6 44 27 63 61 14 53 23 19 47 81 93 37 27 51 42 18 41 73 71 4 2 13 43 89 14 16 83 94"""
    ).reshape(6, 3, 4)
    thresholds = numbers("8 14 17 35 52 68 82 2 22 35 45 66 86 92 13 41 45 65 78 81 89").reshape(3, 7)
    counted = numbers(
        """4 3 1 4 5 2 2 4 3 3 3 1 5 0 1 4 1 4 6 7 7 1 1 3 3 3 1 3 4 2 3 7 3 3 1 1 7 5 4 6 2 2 1 1 2 1 3 3 2 5 3 3 4 5 7
        3 1 3 2 1 4 6 6 0 1 1 3 6 1 1 6 7"""
    ).reshape(6, 3, 4)
    for channel in range(3):
        stairs = Staircase(0, thresholds[channel], np.ones(7, np.int64))
        np.testing.assert_array_equal(stairs.count(data[:, channel]), counted[:, channel])


def test_onednn_vpmaddubsw():
    """oneapi-src/oneDNN, doc/advanced/int8_computations.md: 255 * 127 + 255 * 127 gives 32767 and not 64770."""
    products = np.array([[255 * 127, 255 * 127]])
    for name, expected in (("x86-avx2", 32767), ("x86-avx512", 32767), ("x86-vnni", 64770), ("fbgemm-acc16", 32767)):
        assert accumulate(products, Target.load(name).stages)[0].tolist() == [expected], name
    # s8 x s8 through an offset of 128, compensated by 128 times the sum of weights: 255 instead of 32258
    shifted = accumulate(np.array([[(127 + 128) * 127] * 2]), Target.load("x86-avx2").stages)[0]
    assert (shifted - 128 * (127 + 127)).tolist() == [255]


def test_cmsis_nn_convolution():
    """ARM-software/CMSIS-NN, Tests/UnitTest/TestCases/TestData/conv_2: input, weights, multipliers, 72 results.

    Its int8 inner loop is the target cortex-m-smlad; the requantizer is the one with two roundings.
    """
    x = numbers(
        """49 -29 25 -87 101 108 68 -24 -98 11 92 120 -26 -114 23 40 -35 -18 13 -13 70 27 95 -74 80 106 117 -63 -95
        -71 -20 47 32 62 10 -96"""
    ).reshape(3, 6, 2)
    w = numbers(
        """-66 -78 89 -81 21 71 -14 65 -9 46 19 -17 14 -38 119 127 -71 -42 56 96 -70 127 -33 -25 42 30 -62 -38 -46
        -13 79 -13 -96 -101 79 19 88 83 -24 -104 -114 -30 -13 -12 -106 126 109 47 89 -89 53 119 5 127 -100 62 51 19
        57 -108 54 37 -127 -25 77 -27 7 -106 30 -114 -65 -31"""
    ).reshape(4, 3, 3, 2)
    bias = [24931, 18147, -29535, -17417]
    multiplier, exponent = [1442928706, 1328410523, 1431476897, 1362765952], -9
    input_offset, output_offset, low, high = 128, -9, -101, 127
    expected = numbers(
        """25 -9 7 -65 68 -21 46 -56 46 -15 32 -95 52 9 0 -87 67 -6 64 -57 87 -24 -11 -83 87 -41 -8 -67 83 -22 -12
        -100 37 52 -9 -46 38 17 72 -91 68 -3 -8 -101 37 39 -86 -43 70 -46 -33 -54 43 22 -101 -51 10 43 -30 -16 42 1
        -34 -37 43 15 -55 -18 25 37 -42 -31"""
    ).reshape(3, 6, 4)
    padded = np.pad(x + input_offset, ((1, 1), (1, 1), (0, 0)))
    patches = np.array([[padded[i : i + 3, j : j + 3] for j in range(6)] for i in range(3)])
    products = (patches[:, :, None] * w).reshape(3, 6, 4, 18)
    stages = Target.load("cortex-m-smlad").stages
    sums, events = accumulate(products, stages, start=np.array(bias))
    assert not events.any()
    for channel in range(4):
        result = double_rounding(sums[..., channel], multiplier[channel], exponent) + output_offset
        np.testing.assert_array_equal(np.clip(result, low, high), expected[..., channel])


def test_cmsis_nn_basic():
    """The same, TestData/basic: one channel, 4 x 2 kernel, results mostly clipped."""
    x = numbers(
        """-9 -38 76 -40 99 60 64 52 47 -43 72 28 -82 61 -63 48 -21 -47 74 29 -28 8 -38 13 33 -45 59 -25 -8 -50 107
        81 -77 43 -82 125 83 23 17 15"""
    ).reshape(8, 5)
    w = np.array([69, -84, -127, -24, 28, 45, 51, -53]).reshape(4, 2)
    expected = [127, -128, 63, -128, -128, 127, 127, 127, -41, 127, -17, 127, 127, 127, -128, 127, 127, 127, 127, 127]
    products = np.array([[((x + 128)[i : i + 4, j : j + 2] * w).reshape(8) for j in range(4)] for i in range(5)])
    for name, multiply in (("cortex-m-smlad", double_rounding), ("cortex-m-smlad-single", single_rounding)):
        sums, _ = accumulate(products, Target.load(name).stages, start=14820)
        assert np.clip(multiply(sums, 1877929154, -5) + 127, -128, 127).reshape(-1).tolist() == expected


def test_three_products_into_16_bits():
    """Three times 127 * 127 into 16 bits: wrap and saturate, the case that apytypes 0.5.1 gets wrong with 48387."""
    for overflow, expected in (("wrap", -17149), ("saturate", 32767)):
        assert accumulate([127 * 127] * 3, [Stage(None, 16, overflow)])[0] == expected


def test_scale_too_large_for_tflite_is_refused():
    with pytest.raises(IntsimError, match="2\\^30"):
        quantize_multiplier(Fraction(1 << 30))
