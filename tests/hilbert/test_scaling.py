from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.hilbert.scaling import MultiplyShift

from .twins import half_up, repeatable


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 16, 63, 200])
def test_small_fractions_exhaustively(limit):
    values = np.arange(limit + 1)
    for n in range(1, 41):
        for d in range(1, 41):
            scaled = MultiplyShift.exact(Fraction(n, d), limit)(values)
            assert scaled.tolist() == [half_up(v * n, d) for v in range(limit + 1)], (n, d)


@repeatable(500)
@given(st.integers(1, 2**42 - 1), st.integers(1, 2**24), st.data())
def test_large_lengths_are_exact_in_int64(limit, result, data):
    factor = Fraction(result, limit)
    scaling = MultiplyShift.exact(factor, limit)
    near = data.draw(st.integers(0, result))
    values = {0, 1, limit - 1, limit, data.draw(st.integers(0, limit))}
    # Around the places where the rounded result steps: (2 * near + 1) / 2 = v * factor.
    step = (2 * near + 1) * limit // (2 * result)
    values |= {min(max(step + i, 0), limit) for i in (-1, 0, 1)}
    for value in sorted(values):
        expected = half_up(value * factor.numerator, factor.denominator)
        assert int(scaling(np.int64(value))) == expected
        assert scaling(value) == expected
        assert (value * scaling.multiplier + (1 << (scaling.shift - 1))) >> scaling.shift == expected


def test_long_multipliers_come_in_pieces():
    scaling = MultiplyShift.exact(Fraction(2**24 - 1, 2**42 - 3), 2**42 - 3)
    assert len(scaling.limbs) > 1
    total, width_so_far = 0, 0
    for piece, width in scaling.limbs:
        total += piece << width_so_far
        width_so_far += width
    assert total == scaling.multiplier
    assert width_so_far == scaling.shift
    with np.errstate(over="raise"):
        assert scaling(np.int64(2**42 - 3)) == 2**24 - 1


def test_the_shift_is_the_smallest_the_proof_allows():
    scaling = MultiplyShift.exact(Fraction(65535, 63 * 408), 63 * 408)
    factor = Fraction(65535, 63 * 408)
    shorter = scaling.shift - 1
    error = -(-factor.numerator * 2**shorter // factor.denominator) * factor.denominator - factor.numerator * 2**shorter
    assert 2 * 63 * 408 * error >= 2**shorter
