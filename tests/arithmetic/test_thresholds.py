"""Counting thresholds is the formula: every accumulator of a range, each rounding mode, rising and falling pieces."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.requantizers import thresholds
from intsim.arithmetic.requantizers.thresholds import first_reaching, last_reaching, staircase
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from tests import twins

MODES = list(Rounding)
SLOPES = [Fraction(n, d) * s for n, d in ((1, 2), (1, 4), (3, 8), (1, 3), (5, 7), (2, 1), (7, 2)) for s in (1, -1)]
OFFSETS = [Fraction(0), Fraction(1, 2), Fraction(-1, 4), Fraction(5, 3), Fraction(-7)]
FRACTIONS = st.fractions(Fraction(-4), Fraction(4), max_denominator=64)


def clipped(value, bounds):
    low, high = bounds
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)


def expected(pieces, mode, zero, bounds, acc):
    codes = []
    for a in acc:
        _, scale, offset = [p for p in pieces if p[0] is None or p[0] <= a][-1]
        codes.append(clipped(twins.round_fraction(scale * a + offset, mode) + zero, bounds))
    return codes


def check(pieces, mode, zero, bounds, reach):
    made = staircase(Formula(pieces, mode, zero, *bounds), *reach)
    acc = np.arange(reach[0], reach[1] + 1)
    codes = made.count(acc)
    assert codes.dtype == np.int64
    np.testing.assert_array_equal(codes, np.array(expected(pieces, mode, zero, bounds, acc.tolist()), np.int64))
    assert made.thresholds.dtype == made.steps.dtype == np.int64
    assert (np.diff(made.thresholds) >= 0).all()
    assert set(made.steps.tolist()) <= {1, -1}
    assert made.thresholds.size == 0 or (made.thresholds.min() > reach[0] and made.thresholds.max() <= reach[1])
    return made


@pytest.mark.parametrize("mode", MODES)
def test_one_piece(mode):
    for scale in SLOPES:
        for offset in OFFSETS:
            check([(None, scale, offset)], mode, 0, (None, None), (-40, 40))
            check([(None, scale, offset)], mode, 3, (-5, 6), (-40, 40))


@pytest.mark.parametrize("mode", MODES)
def test_where_each_code_begins(mode):
    codes = np.arange(-9, 10)
    acc = np.arange(-200, 201)
    for scale in SLOPES:
        for offset in OFFSETS:
            rounded = np.array([twins.round_fraction(scale * int(a) + offset, mode) for a in acc])
            if scale > 0:
                wanted = [acc[rounded >= k].min() for k in codes]
                found = first_reaching(codes, scale, offset, mode)
            else:
                wanted = [acc[rounded >= k].max() for k in codes]
                found = last_reaching(codes, scale, offset, mode)
            assert found.dtype == np.int64
            np.testing.assert_array_equal(found, wanted)


@given(
    st.lists(st.tuples(st.integers(-30, 30), FRACTIONS, FRACTIONS), max_size=3, unique_by=lambda p: p[0]),
    st.tuples(FRACTIONS, FRACTIONS),
    st.sampled_from(MODES),
    st.integers(-20, 20),
    st.one_of(st.just((None, None)), st.tuples(st.integers(-30, 0), st.integers(1, 30))),
    st.tuples(st.integers(-40, 40), st.integers(0, 60)),
)
def test_pieces(more, first, mode, zero, bounds, reach):
    check([(None, *first), *sorted(more)], mode, zero, bounds, (reach[0], reach[0] + reach[1]))


def test_only_one_side_is_clipped():
    check([(None, Fraction(1, 3), Fraction(0))], Rounding.FLOOR, 2, (-1, None), (-20, 20))
    check([(None, Fraction(1, 3), Fraction(0))], Rounding.FLOOR, 2, (None, 1), (-20, 20))


def test_a_staircase_by_hand():
    """Codes 0, 1, 2 at 2, 4; then a jump down by 3 at 6, and flat."""
    pieces = [(None, Fraction(1, 2), Fraction(0)), (6, Fraction(0), Fraction(-1))]
    made = staircase(Formula(pieces, Rounding.FLOOR, 5, None, None), 0, 9)
    assert made.base == 5
    assert made.thresholds.tolist() == [2, 4, 6, 6, 6]
    assert made.steps.tolist() == [1, 1, -1, -1, -1]
    assert made.count([[0, 1, 2, 5], [6, 7, 8, 9]]).tolist() == [[5, 5, 6, 7], [4, 4, 4, 4]]


def test_a_jump_up_and_a_falling_piece():
    pieces = [(None, Fraction(0), Fraction(-2)), (3, Fraction(-1), Fraction(6))]
    made = staircase(Formula(pieces, Rounding.HALF_UP, 0, None, 2), 0, 8)
    assert made.base == -2
    assert made.thresholds.tolist() == [3, 3, 3, 3, 5, 6, 7, 8]
    assert made.steps.tolist() == [1, 1, 1, 1, -1, -1, -1, -1]


def test_pieces_out_of_reach_are_left_out():
    pieces = [(None, Fraction(1), Fraction(100)), (10, Fraction(1), Fraction(0)), (20, Fraction(1), Fraction(-100))]
    made = staircase(Formula(pieces, Rounding.FLOOR, 0, None, None), 12, 15)
    assert (made.base, made.thresholds.tolist(), made.steps.tolist()) == (12, [13, 14, 15], [1, 1, 1])
    edge = staircase(Formula(pieces, Rounding.FLOOR, 0, None, None), 19, 20)
    assert (edge.base, edge.thresholds.tolist(), edge.steps.tolist()) == (19, [20] * 99, [-1] * 99)
    nothing = staircase(Formula(pieces, Rounding.FLOOR, 4, None, None), 1, 0)
    assert (nothing.base, nothing.thresholds.size, nothing.steps.size) == (4, 0, 0)
    assert nothing.thresholds.dtype == nothing.steps.dtype == np.int64


@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_beyond_int64(sign):
    """Doubled codes times the denominator need more than 64 bits; so does the factor alone."""
    scales = [Fraction(sign * ((1 << 40) + 1), 3**30), Fraction(sign * ((1 << 61) + 1), 1 << 60)]
    for scale in [*scales, Fraction(sign * ((1 << 61) - 1), 3**38), Fraction(sign, (1 << 59) - 1) * (1 << 55)]:
        for offset in (Fraction(0), Fraction(1, 3), Fraction((1 << 61) + 1, 1 << 58)):
            for mode in MODES:
                check([(None, scale, offset)], mode, 0, (-300, 300), (-50, 50))


def test_most_thresholds(monkeypatch):
    line = [(None, Fraction(1), Fraction(0))]
    steps = [(None, Fraction(1), Fraction(0)), (5, Fraction(0), Fraction(0))]
    fall = [(None, Fraction(-1), Fraction(0))]
    monkeypatch.setattr(thresholds, "MOST_THRESHOLDS", 8)
    message = "needs more than 2^22 thresholds; a threshold requantizer has one a code: use fewer bits"
    for pieces, enough in ((line, 8), (fall, 8), (steps, 5)):
        assert staircase(Formula(pieces, Rounding.FLOOR, 0, None, None), 0, enough).thresholds.size == 8
        with pytest.raises(IntsimError) as refused:
            staircase(Formula(pieces, Rounding.FLOOR, 0, None, None), -1, enough)
        assert str(refused.value) == message


def test_only_integers_are_counted():
    with pytest.raises(IntsimError) as refused:
        staircase(Formula([(None, Fraction(1), Fraction(0))], Rounding.FLOOR, 0, 0, 3), 0, 9).count([0.5])
    assert str(refused.value) == "accumulator: expected integers, got float64"


def test_only_thresholds_count_towards_the_most(monkeypatch):
    monkeypatch.setattr(thresholds, "MOST_THRESHOLDS", 8)
    line = [(None, Fraction(1), Fraction(0))]
    assert staircase(Formula(line, Rounding.FLOOR, 0, None, None), 6, 14).thresholds.tolist() == [*range(7, 15)]


@pytest.mark.parametrize("sign", [1, -1])
def test_offsets_beyond_int64(sign):
    far = sign * (1 << 62)
    check([(None, Fraction(1), Fraction(far))], Rounding.HALF_UP, 0, (None, None), (-far - 20, -far + 20))


def test_the_code_zero_alone_of_a_fine_scale():
    """Nothing is wide but the denominator, by which 0 is multiplied."""
    scale = Fraction(8081108975706579, 1 << 63)
    check([(None, scale, Fraction(0))], Rounding.FLOOR, 0, (-1, 0), (-20, 20))
    assert first_reaching(np.zeros(1, np.int64), scale, Fraction(0), Rounding.FLOOR).tolist() == [0]
