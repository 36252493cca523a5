"""ruy's requantizer against the NEON instructions, each written out in Python integers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.requantizers.fixed_point import FixedPoint, quantize_multiplier
from intsim.arithmetic.requantizers.ruy import Ruy
from intsim.errors import IntsimError
from tests import twins

ALL16 = np.arange(-(1 << 15), 1 << 15)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)


def sqrdmulh(a, b):
    """Twice the product plus 2^31, of which the upper 32 of 64 bits are kept; saturated."""
    return twins.saturate((2 * a * b + (1 << 31)) >> 32, 32)


def srshl(x, by):
    """A shift left, or with a negative count right, with half of the last bit shifted out added first."""
    return twins.wrap(x << by, 32) if by >= 0 else (x + (1 << (-by - 1))) >> -by


def kernel(acc, multiplier, exponent):
    """`sshl`, `sqrdmulh`, `srshl` with the exponent's two signs, as the kernels have them."""
    shifted = twins.wrap(acc << max(exponent, 0), 32)
    return srshl(sqrdmulh(shifted, multiplier), min(exponent, 0))


def ours(acc, multiplier, exponent):
    scale = Fraction(multiplier) * Fraction(2) ** (exponent - 31)
    assert quantize_multiplier(scale) == (multiplier, 31 - exponent)
    return Ruy().multiply(np.asarray(acc, np.int64), scale)


@pytest.mark.parametrize("exponent", [-31, -9, -1, 0, 1, 14, 17, 30])
@pytest.mark.parametrize("multiplier", [1 << 30, (1 << 31) - 1, 0x5A827999, -(1 << 30)])
def test_every_16_bit_accumulator(multiplier, exponent):
    wanted = [kernel(a, multiplier, exponent) for a in ALL16.tolist()]
    np.testing.assert_array_equal(ours(ALL16, multiplier, exponent), wanted)


@given(st.lists(INT32, min_size=1, max_size=9), st.integers(1 << 30, (1 << 31) - 1), st.integers(-31, 30))
def test_accumulators_of_32_bits(acc, multiplier, exponent):
    assert ours(acc, multiplier, exponent).tolist() == [kernel(a, multiplier, exponent) for a in acc]


def test_gemmlowp_differs_at_ties_below_zero_only():
    scale, acc = Fraction(1, 8), np.arange(-64, 65)
    gemmlowp = FixedPoint(32, None, True).multiply(acc, scale)
    difference = Ruy().multiply(acc, scale) - gemmlowp
    # sqrdmulh halves; what is left is divided by 4 and is at a tie where it is 2 modulo 4
    assert [a for a, d in zip(acc.tolist(), difference.tolist(), strict=True) if d] == [
        a for a in range(-64, 0) if ((a + 1) >> 1) % 4 == 2
    ]
    assert set(difference.tolist()) == {0, 1}


def test_only_int32_is_taken():
    for value in ((1 << 31), -(1 << 31) - 1):
        with pytest.raises(IntsimError, match="ruy takes 32-bit accumulators"):
            Ruy().multiply(np.array([value]), Fraction(1, 3))
        (segment,) = Ruy().segments(value, value, Fraction(1, 3), Fraction(0), (Stage(None, 40, "wrap"),))
        assert not segment.valid
