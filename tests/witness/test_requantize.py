"""The requantizers' own instructions: SQRDMULH and SRSHL of NEON, cvtdq2ps, mulps, cvtps2dq of SSE."""

from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.requantizers.fixed_point import (
    multiply_high_double_rounding,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from intsim.arithmetic.requantizers.float32 import float32_requantize, float32_scale
from intsim.arithmetic.rounding import round_divide

from .programs import WITNESSES, build, call, missing

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
# (M, left, right): the ends of a normalised multiplier, ties, an ordinary one, left shifts that wrap, the flushed end.
MULTIPLIERS = [
    (1 << 30, 0, 0),
    (INT32_MAX, 0, 0),
    (1 << 30, 0, 3),
    (1932201031, 0, 11),
    (-1932201031, 0, 7),
    (1717986918, 4, 0),
    ((1 << 30) + 1, 20, 0),
    (1 << 30, 31, 0),
    (1 << 30, 0, 31),
    (INT32_MIN, 0, 1),
]


def command_of(name, folder):
    if reason := missing(WITNESSES[name]):
        pytest.skip(f"{name}: {reason}")
    return build(WITNESSES[name], folder)


def accumulators(count, rng, shift=0):
    """(count,) int32: +-2^k +- 0, 1, 2; ties of a right shift and their neighbours; any, of all magnitudes."""
    near = [s * (1 << k) + d for k in range(32) for s in (-1, 1) for d in range(-2, 3)]
    half = (1 << shift) >> 1
    ties = rng.integers(-1000, 1000, count // 3) * (1 << shift) + half + rng.integers(-1, 2, count // 3)
    wide = rng.integers(INT32_MIN, INT32_MAX + 1, count) >> rng.integers(0, 32, count)
    values = np.concatenate([near, ties, wide])[:count]
    return np.clip(values, INT32_MIN, INT32_MAX).astype(np.int32)


@pytest.mark.parametrize("multiplier", MULTIPLIERS, ids=str)
def test_neon_is_gemmlowp(multiplier, tmp_path):
    """SQRDMULH is the high multiplication. SRSHL alone sends ties up; with the correction they go away from zero."""
    command = command_of("sqrdmulh-srshl", tmp_path)
    factor, left, right = multiplier
    x = accumulators(1 << 17, np.random.default_rng(5), right)
    answer = call(command, np.array([len(x), factor, left, right], "<i4").tobytes() + x.tobytes())
    high, shifted, corrected, chain = np.frombuffer(answer, "<i4").reshape(4, -1)
    wide = x.astype(np.int64)
    np.testing.assert_array_equal(high, saturating_rounding_doubling_high_mul(wide, factor))
    np.testing.assert_array_equal(shifted, round_divide(wide, 1 << right, "half_up"))
    np.testing.assert_array_equal(corrected, rounding_divide_by_pot(wide, right))
    ties = (wide < 0) & (wide % (1 << right) == (1 << right) >> 1) & (right > 0)
    np.testing.assert_array_equal(shifted != corrected, ties)
    if factor > INT32_MIN:
        np.testing.assert_array_equal(chain, multiply_high_double_rounding(wide, factor, 31 + right - left))


def test_neon_on_quantized_scales(tmp_path):
    """The whole chain for scales as files have them: 32 of float32, from 2^-16 to 2^4."""
    command = command_of("sqrdmulh-srshl", tmp_path)
    rng = np.random.default_rng(6)
    x = accumulators(1 << 14, rng)
    for scale in np.float32(2.0) ** rng.uniform(-16, 4, 32).astype(np.float32):
        factor, shift = quantize_multiplier(Fraction(float(scale)))
        left, right = max(0, 31 - shift), max(0, shift - 31)
        answer = call(command, np.array([len(x), factor, left, right], "<i4").tobytes() + x.tobytes())
        chain = np.frombuffer(answer, "<i4").reshape(4, -1)[3]
        np.testing.assert_array_equal(chain, multiply_high_double_rounding(x, factor, shift), str(scale))


@pytest.mark.parametrize("zero_point", [-128, 0, 1, 127, 255])
@pytest.mark.parametrize("scale", ["1/2", "1/256", "3/1000", "1/1000000", "7"])
def test_sse_is_the_float32_scheme(scale, zero_point, tmp_path):
    """Conversion of accumulators beyond 2^24 rounds, the product rounds, the conversion back rounds: all to even."""
    command = command_of("cvtps2dq", tmp_path)
    low, high = (0, 255) if zero_point >= 0 else (-128, 127)
    exact = Fraction(scale)
    factor = float32_scale(exact)
    x = accumulators(1 << 17, np.random.default_rng(7), max(0, round(-np.log2(float(exact)))))
    header = np.uint32(len(x)).tobytes() + factor.tobytes() + np.array([zero_point, low, high], "<i4").tobytes()
    answer = np.frombuffer(call(command, header + x.tobytes()), "<i4")
    np.testing.assert_array_equal(answer, float32_requantize(x, factor, zero_point, low, high))
