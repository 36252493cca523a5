"""Enclosures of difference quotients hold those of any two points; runs of codes are what their points say."""

import math
import random
from fractions import Fraction
from itertools import pairwise

import pytest

from intsim.arithmetic.rounding import round_fraction
from intsim.reals.formula import Formula, Term
from intsim.reals.interval import FUNCTIONS, Interval, Unsettled
from intsim.reals.runs import FINER, MOST_UNDECIDED, TooClose, TooMany, decided, runs, runs_beyond
from intsim.reals.slopes import ANY, slope

PARAMETERS = {
    "affine": (Fraction(-7, 3), Fraction(2, 5)),
    "clamp": (Fraction(-1), Fraction(5, 4)),
    "leaky": (Fraction(-1, 3),),
    "power": (Fraction(3),),
    "elu": (Fraction(5, 4), Fraction(-2, 3), Fraction(3, 2)),
    "thresholded": (Fraction(-1, 2),),
}
BOTH = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
X = Term("source")


def formula(name):
    """The function itself; of two functions one of x^2 - 2 and a bent line."""
    if name in BOTH:
        bent = Term("leaky", (0,), (Fraction(1, 4),))
        return Formula(
            [X, Term("square", (0,)), Term("affine", (1,), (Fraction(1), Fraction(-2))), bent, Term(name, (2, 3))]
        )
    return Formula([X, Term(name, (0,), PARAMETERS.get(name, ()))])


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"constant"}))
def test_slopes_hold_every_quotient(name):
    rng, made, known = random.Random(name), formula(name), 0
    for _ in range(150):
        a, b = sorted(Fraction(rng.randint(-400, 400), rng.choice([32, 100, 2000])) for _ in "ab")
        if name in ("log", "sqrt"):
            a, b = abs(a) + Fraction(1, 9), abs(a) + abs(b) + Fraction(1, 9)
        if a == b:
            continue
        x, y = sorted(a + (b - a) * Fraction(rng.randint(0, 64), 64) for _ in "xy")
        try:
            low, high = made.slope(Interval(a, b), 64)
            ends = [made.value(Interval(v, v), 160) for v in (x, y)]
        except (ZeroDivisionError, Unsettled):
            continue
        known += (low, high) != ANY
        if x != y:
            assert (ends[1].high - ends[0].low) / (y - x) >= low, (a, b, x, y)
            assert (ends[1].low - ends[0].high) / (y - x) <= high, (a, b, x, y)
    assert known > 50


def test_slopes_are_close_on_short_intervals():
    """Near any point but a kink the sign is told, and the size to some digits."""
    for name in ("gelu", "gelu_tanh", "mish", "hard_swish", "sigmoid", "tanh", "erf", "softplus", "softsign", "square"):
        for at in (Fraction(-2), Fraction(-1, 3), Fraction(5, 7), Fraction(2)):
            low, high = formula(name).slope(Interval(at, at + Fraction(1, 1 << 20)), 64)
            assert high - low < 1e-4, name
            assert low <= high


def test_a_constant_has_no_slope_and_a_jump_any():
    assert slope("exp", 64, [Interval(Fraction(0), Fraction(1))], [(Fraction(0), Fraction(0))], ()) == (0, 0)
    assert formula("sign").slope(Interval(Fraction(-1), Fraction(1)), 64) == (0, math.inf)
    assert formula("log").slope(Interval(Fraction(1), Fraction(2)), 64) != ANY
    made = Formula([X, Term("log", (0,)), Term("multiply", (0, 1))])
    with pytest.raises((ValueError, Unsettled)):
        made.slope(Interval(Fraction(-1), Fraction(1)), 64)


def byte(y):
    return min(max(round_fraction(y, "half_even"), -128), 127)


def edge(code):
    return Fraction(2 * code - 1, 2)


SHAPES = {
    "silu": ([X, Term("sigmoid", (0,)), Term("multiply", (0, 1))], 12),
    "gelu": ([X, Term("gelu", (0,))], 12),
    "hard swish": ([X, Term("hard_swish", (0,))], 12),
    "mish": ([X, Term("mish", (0,))], 12),
    "waves": ([X, Term("sin", (0,))], 7),
    "steps": ([X, Term("floor", (0,))], 5),
    "falling": ([X, Term("affine", (0,), (Fraction(-3), Fraction(1))), Term("tanh", (1,))], 3),
}


@pytest.mark.parametrize("name", SHAPES)
def test_runs_have_one_code(name):
    terms, reach = SHAPES[name]
    terms = [*terms, Term("affine", (len(terms) - 1,), (Fraction(60), Fraction(1, 7)))]
    made, spacing, rng = Formula(terms), Fraction(1, 3000), random.Random(name)
    found = runs(made, byte, edge, Fraction(-reach), Fraction(reach), spacing)
    assert (found[0].low, found[-1].high) == (-reach, reach)
    for run, after in pairwise(found):
        assert run.low <= run.high < after.low <= run.high + spacing / FINER
        assert run.code != after.code
    for run in found:
        inside = [run.low, run.high, *(run.low + (run.high - run.low) * Fraction(rng.random()) for _ in range(2))]
        assert {decided(made, x, byte) for x in inside} == {run.code}
    # as many as the codes on the way, however fine the spacing
    assert len(found) == len(runs(made, byte, edge, Fraction(-reach), Fraction(reach), spacing / 1000))


def test_the_dip_between_equal_codes_is_found():
    """x sigmoid(x) falls to -0.278 and comes back: both ends of -20..0 have the same code."""
    terms = [X, Term("sigmoid", (0,)), Term("multiply", (0, 1)), Term("affine", (2,), (Fraction(10), Fraction(0)))]
    found = runs(Formula(terms), byte, edge, Fraction(-20), Fraction(0), Fraction(1, 100))
    assert [r.code for r in found] == [0, -1, -2, -3, -2, -1, 0]


def test_too_many_steps_end(monkeypatch):
    monkeypatch.setattr("intsim.reals.runs.MOST_EVALUATIONS", 200)
    with pytest.raises(TooMany):
        runs(
            Formula(SHAPES["waves"][0] + [Term("affine", (1,), (Fraction(9), Fraction(0)))]),
            byte,
            edge,
            Fraction(-500),
            Fraction(500),
            Fraction(1),
        )


def test_where_there_is_no_value_there_is_no_run():
    made = Formula([X, Term("log", (0,)), Term("affine", (1,), (Fraction(10), Fraction(0)))])
    found = runs(made, byte, edge, Fraction(-4), Fraction(4), Fraction(1, 8))
    assert 0 < found[0].low < Fraction(1, 8)
    assert found[-1].high == 4


class Counted(Formula):
    """A formula that counts its evaluations."""

    values = 0

    def value(self, x, bits):
        Counted.values += 1
        return super().value(x, bits)


def test_a_function_at_its_limit_ends_the_search():
    """16 sigmoid(x) never reaches 16, and comes closer than any precision tells: its floor is 15 from 2.71 on."""
    made = Counted([X, Term("sigmoid", (0,)), Term("affine", (1,), (Fraction(16), Fraction(0)))])
    floor = lambda y: round_fraction(y, "floor")  # noqa: E731
    at, Counted.values = lambda code: Fraction(code), 0
    with pytest.raises(TooClose):
        runs(made, floor, at, Fraction(0), Fraction(1 << 15), Fraction(1, 8))
    assert Counted.values < 20 * MOST_UNDECIDED
    Counted.values = 0
    (up,) = runs_beyond(made, floor, at, (Fraction(3), Fraction(1 << 31)), Fraction(1, 8), 1 << 12, False)
    assert (up.low, up.code) == (3, 15)
    assert up.high > 300
    ceil = lambda y: round_fraction(y, "ceil")  # noqa: E731
    down = runs_beyond(made, ceil, at, (Fraction(-1 << 31), Fraction(-1)), Fraction(1, 8), 1 << 12, True)
    assert [r.code for r in down] == [1, 2, 3, 4, 5]
    assert (down[0].low < -300, down[-1].high) == (True, -1)
    assert Counted.values < 5000
