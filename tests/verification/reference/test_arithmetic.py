import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.verification.reference.arithmetic import (
    absolute,
    add,
    divide,
    leaky,
    maximum,
    minimum,
    multiply,
    negative,
    subtract,
)
from intsim.verification.reference.tensor import constant, from_array, grid, inexact

from .twins import check, draw_values, dress, exactly, forms, repeatable, scales, seeds

SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1, 2), (3, 1)), ((), (2, 2)), ((1,), ())]
shapes = st.sampled_from(SHAPES)
BINARY = {
    "add": (add, lambda x, y: x + y),
    "subtract": (subtract, lambda x, y: x - y),
    "multiply": (multiply, lambda x, y: x * y),
    "multiply on integers": (lambda a, b: multiply(a, b, factor=False), lambda x, y: x * y),
    "divide": (divide, lambda x, y: x / y),
    "maximum": (maximum, max),
    "minimum": (minimum, min),
}


@repeatable(250)
@given(st.sampled_from(sorted(BINARY)), shapes, scales, scales, forms, forms, seeds)
def test_two_tensors_in_every_form(name, dims, left, right, form_a, form_b, seed):
    rng = np.random.default_rng(seed)
    f, twin = BINARY[name]
    a, b = draw_values(rng, dims[0], left), draw_values(rng, dims[1], right)
    if name == "divide":
        b = np.asarray(np.where(b == 0, right, b), object)
    want = np.asarray(np.frompyfunc(twin, 2, 1)(a, b), object)
    check(f(dress(a, form_a, rng), dress(b, form_b, rng)), want)


@repeatable(80)
@given(
    scales,
    forms,
    seeds,
    st.sampled_from([Fraction(0), Fraction(1, 4), Fraction(13, 128), Fraction(-2), Fraction(1, 3)]),
)
def test_one_tensor_in_every_form(scale, form, seed, slope):
    rng = np.random.default_rng(seed)
    a = draw_values(rng, (2, 3), scale)
    check(negative(dress(a, form, rng)), -a)
    check(absolute(dress(a, form, rng)), np.abs(a))
    check(leaky(dress(a, form, rng), constant(slope)), np.where(a >= 0, a, a * slope))
    slopes = np.array([slope, Fraction(1, 2), Fraction(1)], object)
    check(leaky(dress(a, form, rng), constant(slopes)), np.where(a >= 0, a, a * slopes))


def test_equal_scales_stay_on_their_grid_and_unequal_ones_find_a_common_one():
    s = Fraction(float(np.float32(0.1)))
    same = add(grid(np.array([1.0, 2.0]), s), grid(np.array([3.0, 5.0]), s))
    assert same.on_grid
    assert same.s.item() == s
    mixed = add(grid(np.array([1.0, 2.0]), s), grid(np.array([3.0, 5.0]), s * Fraction(3, 2)))
    assert mixed.on_grid
    assert mixed.s.item() == s / 2
    check(mixed, np.array([s * Fraction(11, 2), s * Fraction(19, 2)], object))


def test_a_zero_constant_keeps_the_grid_whatever_its_scale():
    x = grid(np.array([1.0, 2.0]), Fraction(1, 3))
    bias = constant(np.array([Fraction(0), Fraction(2, 3)], object))
    out = add(x, bias)
    assert out.on_grid
    check(out, np.array([Fraction(1, 3), Fraction(4, 3)], object))


def test_what_53_bits_do_not_hold_leaves_the_grid_but_stays_exact():
    s = Fraction(float(np.float32(0.1))) * Fraction(float(np.float32(0.0337)))
    b = Fraction(float(np.float32(1.2345)))
    out = add(grid(np.array([32767.0]), s), constant(b))
    assert not out.on_grid
    check(out, np.array([32767 * s + b], object))


def test_division_by_zero_is_refused():
    x = from_array(np.ones(2, np.float32), "x")
    with pytest.raises(IntsimError, match="zero"):
        divide(x, constant(Fraction(0)))
    with pytest.raises(IntsimError, match="zero"):
        divide(x, dress(exactly(np.zeros(2)), "bound", np.random.default_rng(0)))


def test_a_divisor_that_may_be_zero_has_no_bound_but_an_exact_value():
    b = inexact(np.array([1e-9]), np.array([1e-8]), lambda i: Fraction(1, 10**9))
    out = divide(from_array(np.ones(1, np.float32), "x"), b)
    assert out.approx()[1][0] == math.inf
    assert out.fraction(0) == 10**9


def test_a_clipped_element_loses_its_error():
    x = dress(exactly(np.array([1, 5])) * Fraction(1, 3), "bound", np.random.default_rng(3))
    _, e = minimum(x, constant(Fraction(3, 2))).approx()
    assert e[1] == 0
    _, e = leaky(negative(x), constant(Fraction(0))).approx()
    assert e.tolist() == [0, 0]


@pytest.mark.parametrize("slope", [Fraction(0), Fraction(1, 4), Fraction(-3)])
def test_the_bound_of_a_leaky_slope_holds_on_both_sides_of_zero(slope):
    for true, seen in ((1, -1), (-1, 1), (1, 2), (-1, -2)):
        x = Fraction(true, 2**30)
        t = inexact(np.array([seen * 2.0**-30]), np.array([2.0**-29]), lambda i, x=x: x)
        check(leaky(t, constant(slope)), np.array([x if x > 0 else x * slope], object))


def test_tensors_of_zeros_join_scales_of_any_size():
    zeros = from_array(np.zeros(2, np.float32), "z")
    silent = grid(np.zeros(2, np.float32), Fraction(1, 3))
    for tiny in (Fraction(1, 2**200), Fraction(2) ** 200):
        x = grid(np.array([3.0, -5.0]), tiny)
        for nothing in (zeros, silent, constant(np.array([Fraction(0)] * 2, object))):
            check(add(x, nothing), x.fractions())
            check(maximum(nothing, x), np.maximum(x.fractions(), Fraction(0)))
        check(leaky(silent, constant(tiny)), silent.fractions())
    assert add(grid(np.array([3.0, -5.0]), Fraction(1, 2**200)), zeros).on_grid


def test_scales_that_leave_float64_are_refused():
    with pytest.raises(IntsimError, match="2\\^-900"):
        grid(np.ones(1), Fraction(1, 3**700)).approx()
