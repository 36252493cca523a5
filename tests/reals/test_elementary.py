"""Bounds of elementary functions against decimal arithmetic, their width, and where they are exact."""

from decimal import localcontext
from fractions import Fraction

import pytest
from functions import CONTEXT, erf, number, sine, softplus, tanh
from hypothesis import given
from hypothesis import strategies as st

from intsim.reals import elementary, interval
from intsim.reals.interval import Interval, Unsettled, exactly

TWINS = {
    "exp": lambda x: x.exp(),
    "log": lambda x: x.ln(),
    "sqrt": lambda x: x.sqrt(),
    "erf": erf,
    "tanh": tanh,
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "log1p_exp": softplus,
    "sin": sine,
    "cos": lambda x: 1 - 2 * sine(x / 2) ** 2,
}
POINTS = st.one_of(
    st.fractions(-11, 11),
    st.builds(lambda n, k: Fraction(n, 1 << k), st.integers(-11, 11), st.integers(0, 60)),
    st.floats(-11, 11, width=32).map(Fraction),
)
SLACK = Fraction(1, 10**60)


@pytest.mark.parametrize("name", TWINS)
@given(x=POINTS, bits=st.sampled_from([8, 53, 64, 150]))
def test_bounds_enclose_and_are_close(name, x, bits):
    x = abs(x) + Fraction(1, 1 << 40) if name in ("log", "sqrt") else x
    low, high = getattr(elementary, f"{name}_bounds")(x, bits)
    with localcontext(CONTEXT):
        value = Fraction(TWINS[name](number(x)))
    assert low - SLACK <= value <= high + SLACK
    assert high - low <= Fraction(1, 1 << bits) * max(1, abs(value))
    if name in ("exp", "sigmoid"):
        assert low > 0
        assert high - low <= Fraction(1, 1 << bits) * value * (1 + SLACK)


@given(POINTS, st.integers(-96, 96).map(lambda n: Fraction(n, 32)), st.sampled_from([16, 64]))
def test_powers(x, exponent, bits):
    x = abs(x) + Fraction(1, 1 << 20)
    low, high = elementary.power_bounds(x, exponent, bits)
    with localcontext(CONTEXT):
        value = Fraction((number(x).ln() * number(exponent)).exp())
    assert low - SLACK * value <= value * (1 + SLACK)
    assert value <= high + SLACK * value
    assert high - low <= Fraction(1, 1 << bits - 4) * max(1, value)


def test_rational_values_are_exact():
    def exact(ends):
        assert ends[0] == ends[1]
        return ends[0]

    for n in range(1, 40):
        square = Fraction(n * n, 49)
        assert exact(elementary.sqrt_bounds(square, 8)) == Fraction(n, 7)
        assert exact(elementary.root_bounds(square**4, 8, 8)) == Fraction(n, 7)
        assert exact(elementary.power_bounds(square, Fraction(-3, 2), 8)) == Fraction(7, n) ** 3
        assert exact(elementary.power_bounds(-square, Fraction(3), 8)) == -(square**3)
        low, high = elementary.sqrt_bounds(square + Fraction(1, 10**30), 8)
        assert low < high
    zero = [getattr(elementary, f"{f}_bounds")(Fraction(0), 8) for f in ("exp", "tanh", "erf", "sigmoid", "sin", "cos")]
    assert [exact(z) for z in zero] == [1, 0, 0, Fraction(1, 2), 0, 1]
    assert exact(elementary.log_bounds(Fraction(1), 8)) == 0


def test_far_out():
    """Strictly between their limits, however far."""
    assert 0 < elementary.exp_bounds(Fraction(-60000), 64)[0] < Fraction(1, 1 << 80000)
    for x in (9, 40, 200):
        low, high = elementary.erf_bounds(Fraction(x), 64)
        assert 1 - Fraction(1, 1 << 64) <= low <= high < 1
        assert elementary.erf_bounds(Fraction(-x), 64) == (-high, -low)
    assert elementary.log1p_exp_bounds(Fraction(-500), 64)[0] > 0
    with pytest.raises(OverflowError):
        elementary.exp_bounds(Fraction(70000), 64)


@given(POINTS, st.fractions(0, 2), POINTS, st.sampled_from(sorted(TWINS)))
def test_intervals_enclose_what_lies_inside(x, width, inside, name):
    """A function of an interval holds the function of a point in it."""
    function = {"log1p_exp": "softplus"}.get(name, name)
    at = x + width * (abs(inside) / 11)
    if name in ("log", "sqrt"):
        x, at = abs(x) + Fraction(1, 9), abs(x) + Fraction(1, 9) + width * (abs(inside) / 11)
    low, high = interval.FUNCTIONS[function](40, [Interval(x, x + width)], [])
    point = interval.FUNCTIONS[function](80, [exactly(at)], [])
    assert low <= point.high
    assert point.low <= high


def test_what_an_interval_can_not_tell_asks_for_more():
    wide = Interval(Fraction(-1), Fraction(1))
    for name, parameters in (("log", []), ("sqrt", []), ("power", [Fraction(1, 3)]), ("power", [Fraction(-1)])):
        with pytest.raises(Unsettled):
            interval.FUNCTIONS[name](40, [wide], parameters)
    with pytest.raises(Unsettled):
        interval.FUNCTIONS["divide"](40, [exactly(Fraction(1)), wide], [])
    with pytest.raises(ZeroDivisionError):
        interval.FUNCTIONS["divide"](40, [wide, exactly(Fraction(0))], [])
    assert interval.FUNCTIONS["square"](40, [wide], []) == (0, 1)
    assert interval.FUNCTIONS["absolute"](40, [wide], []) == (0, 1)
    assert interval.FUNCTIONS["power"](40, [wide], [Fraction(3)]) == (-1, 1)
    third = Interval(Fraction(1, 3), Fraction(2, 3)).trimmed(8)
    assert third.low <= Fraction(1, 3) <= third.low + Fraction(1, 1 << 38)
    assert third.high >= Fraction(2, 3) >= third.high - Fraction(1, 1 << 38)
