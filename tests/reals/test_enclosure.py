"""Float64 enclosures contain the rational bounds of `interval`, and tell a code only where all numbers have it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.reals import enclosure, interval

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, -1e-300, 5e-324, 2.0**-30, -(2.0**-30), 88.7, -88.7, 699.9, 700.0, -700.0]
# next to where the multiple of ln 2 that is taken off changes
EDGES += [
    s * np.nextafter(n * 0.34657359027997264, side) for n in (1, 3, 2001) for s in (1, -1) for side in (-9e9, 9e9)
]
EDGES += [701.0, -745.2, 1e9, -1e9]
NUMBERS = st.one_of(st.sampled_from(EDGES), st.floats(-30, 30), st.floats(-1e3, 1e3), st.floats(-1e-3, 1e-3))
WIDTHS = st.one_of(st.just(0.0), st.sampled_from([2.0**-52, 1e-12, 1e-3, 0.5]))
PARAMETERS = {"affine": 2, "clamp": 2, "leaky": 1, "constant": 1, "elu": 3}


def column(values):
    return np.array(values, np.float64)[None]


@pytest.mark.parametrize("name", enclosure.FUNCTIONS)
@given(data=st.data())
def test_enclosures_contain(name, data):
    pairs = data.draw(st.lists(st.tuples(NUMBERS, WIDTHS, NUMBERS, WIDTHS), min_size=8, max_size=8))
    parameters = [Fraction(v) for v in data.draw(st.lists(st.floats(-3, 3), min_size=3, max_size=3))]
    parameters = parameters[: PARAMETERS.get(name, 0)]
    if name == "clamp":
        parameters.sort()
    first, second = (
        [(v, v + abs(v) * w) for v, w in side] for side in ([p[:2] for p in pairs], [p[2:] for p in pairs])
    )
    arguments = [tuple(column(end) for end in zip(*side, strict=True)) for side in (first, second)]
    given_ = [enclosure.of_fractions([p]) for p in parameters]
    with np.errstate(all="ignore"):
        low, high = (np.broadcast_to(v, (1, 8))[0] for v in enclosure.FUNCTIONS[name](arguments, given_))
    for a, b, least, most in zip(first, second, low.tolist(), high.tolist(), strict=True):
        exact = [interval.Interval(*map(Fraction, ends)) for ends in (a, b)]
        try:
            wanted = interval.FUNCTIONS[name](80, exact, parameters)
        except interval.Unsettled:
            continue
        except (ArithmeticError, ValueError):
            assert np.isnan(least)
            assert np.isnan(most)
            continue
        if np.isnan(least) or np.isnan(most):
            assert name in ("exp", "elu"), "nothing is told of numbers that are evaluated"
            assert max(abs(v) for v in a) > 200
            continue
        slack = (wanted.high - wanted.low) / 2**20 if wanted.low == 0 else abs(wanted.low) / 2**70
        assert least == -np.inf or Fraction(least) <= wanted.low + slack
        assert most == np.inf or Fraction(most) >= wanted.high - slack


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_exp_is_off_by_less_than_is_said(numbers):
    x = np.clip(numbers, -enclosure.LARGEST, enclosure.LARGEST)
    for at, near in zip(x.tolist(), enclosure._exp_near(x).tolist(), strict=True):
        low, _ = interval.FUNCTIONS["exp"](96, [interval.exactly(Fraction(at))], [])
        assert abs(Fraction(near) - low) < low / 2**49


@given(st.lists(st.integers(-(2**200), 2**200).filter(bool), min_size=1, max_size=5), st.integers(1, 2**90))
def test_fractions_lie_between_their_ends(numerators, denominator):
    values = [Fraction(n, denominator) for n in numerators]
    low, high = enclosure.of_fractions(values)
    for value, a, b in zip(values, low[:, 0].tolist(), high[:, 0].tolist(), strict=True):
        assert Fraction(a) < value < Fraction(b)


@pytest.mark.parametrize("mode", [str(m) for m in Rounding])
@given(halves=st.lists(st.integers(-9, 9), min_size=1), width=st.sampled_from([0, 1, 2**49, 2**52]))
def test_what_is_told_is_what_every_number_rounds_to(mode, halves, width):
    ends = []
    for n in halves:
        for low in (n / 2, np.nextafter(n / 2, -99), np.nextafter(n / 2, 99)):
            ends.append((low, low + width * 2.0**-53))
    low, high = (np.array(v) for v in zip(*ends, strict=True))
    made, sure = enclosure.rounds_to((low, high), mode)
    for a, b, code, told in zip(low.tolist(), high.tolist(), made.tolist(), sure.tolist(), strict=True):
        codes = {round_fraction(Fraction(v), mode) for v in (a, b)}
        assert codes == {int(code)} or not told
        tie = any(2 * v % 2 == 1 for v in (a, b))
        assert told or len(codes) > 1 or (tie and mode.startswith("half"))


def test_ends_at_ties_tell_nothing():
    """Which of its neighbours a tie goes to is the rationals' to say."""
    low, high = np.array([0.5, 0.2, 1.5, 1.5]), np.array([0.6, 0.5, 2.5, 1.6])
    assert enclosure.rounds_to((low, high), "half_toward_zero")[1].tolist() == [False] * 4
