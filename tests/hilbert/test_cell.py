import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.hilbert.cell import below, candidates, choose, closest, nonzero, square_by_shifts
from intsim.hilbert.curve import Curve

from .twins import repeatable

words = st.integers(-(2**61), 2**61) | st.sampled_from([-1, 0, 1, 2**61, -(2**61)])


@repeatable()
@given(words, words)
def test_masks(left, right):
    for kind in (int, np.int64):
        assert below(kind(left), kind(right)) == -(left < right)
        assert nonzero(kind(left)) == -(left != 0)
        assert choose(kind(-1), kind(left), kind(right)) == left
        assert choose(kind(0), kind(left), kind(right)) == right


@pytest.mark.parametrize("bits", range(1, 16))
def test_square_by_shifts_exhaustively(bits):
    values = np.arange(2**bits)
    assert (square_by_shifts(values, bits) == values * values).all()


def test_closest_takes_the_lowest_position_of_a_tie():
    assert closest([(5, 9), (4, 8), (4, 3), (4, 7)]) == (4, 3)
    assert closest([(4, 1), (4, 8), (4, 3), (9, 0)]) == (4, 1)
    assert closest([(5, 9), (6, 8), (7, 3), (3, 70)]) == (3, 70)


@pytest.mark.parametrize("order", range(1, 5))
def test_what_lies_beyond_the_last_column_and_row_does_not_matter(order):
    curve, spacing, random = Curve(order), 16, np.random.default_rng(order)
    last = curve.side - 1
    honest = np.full((curve.side + 1, curve.side + 1), 10**6)
    honest[: curve.side, : curve.side] = curve.index_table
    i, j, a, b = np.meshgrid(np.arange(curve.side), np.arange(curve.side), np.arange(spacing), np.arange(spacing))
    inside = ((i < last) | (a == 0)) & ((j < last) | (b == 0))
    i, j, a, b = i[inside], j[inside], a[inside], b[inside]

    def run(table):
        options = candidates(i, j, a, b, spacing, lambda x, y: table[x, y], lambda v: v * v, lambda v: v * spacing)
        return closest(options)

    squared, position = run(honest)
    assert squared.max() <= spacing**2 // 2
    for _ in range(20):
        junk = honest.copy()
        # Any index, weighted to the neighbours of true ones: those could be taken for edges of the curve.
        junk[-1, :] = np.roll(junk[-2, :], random.integers(3)) + random.integers(-1, 2, curve.side + 1)
        junk[:, -1] = np.roll(junk[:, -2], random.integers(3)) + random.integers(-1, 2, curve.side + 1)
        other_squared, other = run(junk)
        assert (other_squared == squared).all()
        assert (other == position).all()
