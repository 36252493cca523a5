"""Functions of accumulators: every element against Python's decimals, by the fast way and by the exact one."""

import decimal
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.ops import OPS
from intsim.ops import function as room
from intsim.ops.deviation import deviation
from intsim.ops.function import terms_json
from intsim.reals.formula import SOURCE, Term

from .nodes import node, tensor
from .test_grid import graph_of, grid

X = Term(SOURCE)
TERMS = {
    "sigmoid": [X, Term("sigmoid", (0,))],
    "silu": [X, Term("sigmoid", (0,)), Term("multiply", (0, 1))],
    "tanh": [X, Term("affine", (0,), (Fraction(2), Fraction(-1))), Term("tanh", (1,))],
    "hard_swish": [X, Term("hard_swish", (0,))],
    "elu": [X, Term("elu", (0,), (Fraction(1), Fraction(7, 10), Fraction(1)))],
}
decimal.getcontext().prec = 60


def real(name, u):
    """The function of a rational, in decimals of 60 digits."""
    v = decimal.Decimal(u.numerator) / decimal.Decimal(u.denominator)
    if name == "sigmoid":
        return 1 / (1 + (-v).exp())
    if name == "silu":
        return v / (1 + (-v).exp())
    if name == "tanh":
        return 1 - 2 / ((2 * (2 * v - 1)).exp() + 1)
    if name == "hard_swish":
        return v * min(max(v / 6 + decimal.Decimal("0.5"), 0), 1)
    return v if v >= 0 else decimal.Decimal("0.7") * (v.exp() - 1)


def function(name, lines, cells, step):
    text = [[str(a), str(b)] for a, b in lines]
    attributes = {"cells": list(cells), "lines": text, "terms": terms_json(TERMS[name]), "step": str(step)}
    return node("function", attributes | {"off": "1/2"})


@given(st.sampled_from(sorted(TERMS)), st.integers(0, 31), st.integers(0, 1 << 30))
def test_every_number_is_the_nearest(name, bits, seed):
    rng = np.random.default_rng(seed)
    lines = [(Fraction(float(rng.normal(0, 0.01))), Fraction(float(rng.normal(0, 2)))) for _ in range(3)]
    n = function(name, lines, (3, 1), Fraction(1, 1 << bits))
    x = rng.integers(-3000, 3000, (2, 3, 4))
    x[0, :, 0] = 0
    got = OPS["function"].evaluate(n, x)
    assert got.dtype == np.int64
    for index in np.ndindex(*x.shape):
        a, b = lines[index[1]]
        wanted = real(name, a * int(x[index]) + b) * (1 << bits)
        assert abs(wanted - int(got[index])) <= decimal.Decimal("0.5") + decimal.Decimal(10) ** -40
    low, high = OPS["function"].value_range(n, tensor(x.shape, -3000, 2999))
    assert low <= got.min()
    assert got.max() <= high


@pytest.mark.parametrize("name", sorted(TERMS))
def test_rationals_decide_as_floats_do(name, monkeypatch):
    """The exact way alone makes what both make together."""
    lines = [(Fraction(1, 97), Fraction(1, 3)), (Fraction(-1, 31), Fraction(-2))]
    x = np.random.default_rng(1).integers(-999, 999, (2, 20))
    n = function(name, lines, (2, 1), Fraction(1, 1 << 20))
    both = OPS["function"].evaluate(n, x)
    monkeypatch.setattr(room, "EXACT", 0)
    np.testing.assert_array_equal(OPS["function"].evaluate(n, x), both)


def test_ties_go_to_the_even_integer():
    n = function("hard_swish", [(Fraction(1), Fraction(0))], (1,), Fraction(2))
    np.testing.assert_array_equal(OPS["function"].evaluate(n, np.array([3, 5, 7, 9, 11])), [2, 2, 4, 4, 6])


def test_numbers_beyond_float64():
    n = function("sigmoid", [(Fraction(1, 1 << 60), Fraction(0))], (1,), Fraction(1, 1 << 30))
    x = np.array([(1 << 60) + 1, 1 << 59, -(1 << 62)])
    for got, v in zip(OPS["function"].evaluate(n, x).tolist(), x.tolist(), strict=True):
        assert abs(real("sigmoid", Fraction(v, 1 << 60)) * (1 << 30) - got) <= decimal.Decimal("0.5000001")


def test_no_value_is_said():
    at = {"cells": [1], "lines": [["1", "0"]], "terms": terms_json([X, Term("sqrt", (0,))]), "step": "1", "off": "1/2"}
    n = node("function", at)
    with pytest.raises(IntsimError, match="negative"):
        OPS["function"].value_range(n, tensor((2,), -4, 4))
    with pytest.raises(IntsimError, match="at -4"):
        OPS["function"].evaluate(n, np.array([4, -4]))
    assert OPS["function"].evaluate(n, np.array([4, 9])).tolist() == [2, 3]


def test_a_value_of_more_than_64_bits():
    at = {"cells": [1], "lines": [["1", "0"]], "terms": terms_json([X, Term("exp", (0,))]), "step": "1", "off": "1/2"}
    n = node("function", at)
    assert OPS["function"].evaluate(n, np.array([0, 40])).tolist() == [1, 235385266837019985]
    with pytest.raises(IntsimError, match="at 80: its value has more than 64 bits"):
        OPS["function"].evaluate(n, np.array([0, 80]))


def test_lines_that_do_not_fit_are_refused():
    n = function("silu", [(Fraction(1), Fraction(0))] * 2, (3, 1), Fraction(1))
    with pytest.raises(IntsimError, match="2 lines don't fit its cells"):
        OPS["function"].evaluate(n, np.zeros((3, 1), np.int64))


def test_it_reads_exact_integers_alone():
    n = function("silu", [(Fraction(1), Fraction(0))], (1,), Fraction(1, 1 << 20))
    first = grid([[(None, Fraction(1), Fraction(0))]], 0, off="1/4")
    graph = graph_of(first, x=(-9, 9))
    assert deviation(graph, n, {}) == Fraction(1, 2)
    with pytest.raises(IntsimError, match="which are no codes"):
        deviation(graph, replace(n, inputs=("y",)), {"y": Fraction(1)})
