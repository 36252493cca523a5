"""Requantizer schemes, cell by cell: published routines and a twin in Python integers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.fixed_point import (
    FixedPoint,
    multiply_high_double_rounding,
    multiply_single_rounding,
    quantize_multiplier,
)
from intsim.arithmetic.requantizers.float32 import Float32, float32_requantize, float32_scale
from intsim.arithmetic.requantizers.shift import Shift
from intsim.arithmetic.requantizers.thresholds import Thresholds, staircase
from intsim.arithmetic.requantizers.tosa import Tosa
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.graph import Node, Tensor, rationals
from intsim.ops import OPS
from intsim.ops.pieces import node_pieces, pieces_json
from intsim.ops.requantize import formulas, requantize, unclipped
from tests import twins
from tests.twins import wrap

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
ALL16 = np.arange(-(1 << 15), 1 << 15)
INT32 = st.one_of(
    st.integers(INT32_MIN, INT32_MAX),
    st.builds(
        lambda k, s, d: min(max(s * 2**k + d, INT32_MIN), INT32_MAX),
        st.integers(0, 31),
        st.sampled_from([1, -1]),
        st.integers(-1, 1),
    ),
)
EXACT = Exact()


def made(pieces, cells=(1,), zero=0, low=-128, high=127, rounding="half_even", arrays=None, inputs=("x",)):
    at = {"cells": list(cells), "pieces": pieces_json(pieces), "rounding": str(rounding)}
    return Node("requantize", "n", inputs, "y", {**at, "zero": zero, "low": low, "high": high}, arrays or {})


def line(scale, offset=0, **more):
    return made([[(None, Fraction(scale), Fraction(offset))]], **more)


def tensor(array, name="x"):
    return Tensor(name, array.shape, int(array.min()), int(array.max()), rationals(1), rationals(0))


def run(node, acc, form, stages=()):
    return requantize(node, [acc], [tensor(acc)], form, stages)


# Published routines


def cmsis_requantize(val, multiplier, shift, single):
    """`arm_nn_requantize` of CMSIS-NN, Include/arm_nnsupportfunctions.h, in Python integers; `shift` is TFLite's."""
    if single:  # CMSIS_NN_USE_SINGLE_ROUNDING
        total_shift = 31 - shift
        result = wrap((val * multiplier) >> (total_shift - 1), 32)
        return wrap(result + 1, 32) >> 1
    product = wrap(val * (1 << max(shift, 0)), 32) * multiplier
    high = (product + (1 << 30)) >> 31  # arm_nn_doubling_high_mult_no_sat
    exponent = max(-shift, 0)  # arm_nn_divide_by_power_of_two
    mask = (1 << exponent) - 1
    remainder, result = high & mask, high >> exponent
    return result + (remainder > (mask >> 1) + (result < 0))


@given(INT32, st.integers(1 << 30, INT32_MAX), st.sampled_from([1, -1]), st.integers(-31, 30))
def test_cmsis_nn_by_default_rounds_twice(acc, magnitude, sign, shift):
    """For a left shift too: both wrap in int32."""
    ours = multiply_high_double_rounding(acc, sign * magnitude, 31 - shift)
    assert ours == cmsis_requantize(acc, sign * magnitude, shift, single=False)


@given(INT32, st.integers(1 << 30, INT32_MAX), st.sampled_from([1, -1]), st.integers(-31, 29))
def test_cmsis_nn_single_rounding_is_one_half_up(acc, magnitude, sign, shift):
    """It shifts by total_shift - 1, adds 1, shifts by 1, in int32: the same where twice the result fits int32."""
    multiplier, total_shift = sign * magnitude, 31 - shift
    before = (acc * multiplier) >> (total_shift - 1)
    ours = multiply_single_rounding(acc, multiplier, total_shift, "half_up")
    found = cmsis_requantize(acc, multiplier, shift, single=True)
    if INT32_MIN <= before < INT32_MAX:
        assert ours == found
    else:
        assert shift > -1, "a scale below 1/2 always fits"
        assert ours != found


@pytest.mark.parametrize("shift", [-31, -12, -8, -1, 0, 3])
def test_cmsis_nn_over_every_16_bit_accumulator(shift):
    for multiplier in (1 << 30, 1518500250, INT32_MAX):
        for single in (False, True):
            form = FixedPoint(32, Rounding.HALF_UP) if single else FixedPoint(32, None, True)
            scale = Fraction(multiplier) / Fraction(2) ** (31 - shift)
            found = run(line(scale, low=None, high=None), ALL16, form)
            expected = [cmsis_requantize(a, multiplier, shift, single) for a in ALL16.tolist()]
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("zero", "low", "high"), [(0, -128, 127), (-5, -128, 127), (128, 0, 255)])
@pytest.mark.parametrize("scale", [Fraction(1, 3), Fraction(1, 64), Fraction(0.0078431377)])
def test_float32_is_onnx_runtime(scale, zero, low, high):
    node = line(scale, zero=zero, low=low, high=high)
    expected = float32_requantize(ALL16, float32_scale(scale), zero, low, high)
    np.testing.assert_array_equal(run(node, ALL16, Float32()), expected)


@pytest.mark.parametrize("bits", range(4, 33))
def test_every_multiplier_width(bits):
    rng = np.random.default_rng(bits)
    acc = rng.integers(INT32_MIN, INT32_MAX, 40)
    for mode in Rounding:
        scale = Fraction(float(rng.uniform(-1, 1)))
        multiplier, shift = quantize_multiplier(scale, bits)
        found = run(line(scale, low=None, high=None), acc, FixedPoint(bits, mode))
        assert found.tolist() == [
            twins.round_fraction(Fraction(a * multiplier, 1 << shift), mode) for a in acc.tolist()
        ]


@pytest.mark.parametrize("mode", list(Rounding))
@pytest.mark.parametrize("scale", [Fraction(1, 16), Fraction(-1, 16), Fraction(2), Fraction(-1)])
def test_shift_in_every_mode(mode, scale):
    """An offset of whole accumulator LSBs is exact, whatever the scale's sign."""
    acc = np.arange(-300, 300)
    found = run(line(scale, 6, low=None, high=None), acc, Shift(rounding=mode))
    np.testing.assert_array_equal(found, [twins.round_fraction(scale * a + 6, mode) for a in acc.tolist()])


# Thresholds


def codes(node, acc):
    """The formula, one accumulator at a time."""
    at, pieces = node.attributes, node_pieces(node)[0]
    out = []
    for a in acc.tolist():
        _, scale, offset = [p for p in pieces if p[0] is None or a >= p[0]][-1]
        y = twins.round_fraction(scale * a + offset, at["rounding"]) + at["zero"]
        y = y if at["low"] is None else max(y, at["low"])
        out.append(y if at["high"] is None else min(y, at["high"]))
    return out


SCALES = st.one_of(
    st.fractions(-3, 3, max_denominator=1 << 12),
    st.sampled_from([Fraction(s, 1 << k) for k in range(9) for s in (1, -1, 3, -3)] + [Fraction(0)]),
)
OFFSETS = st.one_of(st.fractions(-90, 90, max_denominator=64), st.integers(-90, 90).map(lambda n: Fraction(n, 2)))


@given(
    st.lists(st.tuples(SCALES, OFFSETS), min_size=1, max_size=4),
    st.lists(st.integers(-150, 150), min_size=3, max_size=3, unique=True),
    st.sampled_from(list(Rounding)),
    st.integers(-6, 6),
    st.sampled_from([(-128, 127), (0, 15), (-1, 0), (None, None), (0, None)]),
)
def test_thresholds_are_the_formula(lines, starts, mode, zero, bounds):
    """Rising, falling and jumping pieces; each threshold is where the code changes."""
    pieces = [(s, *p) for s, p in zip([None, *sorted(starts)], lines, strict=False)]
    node = made([pieces], rounding=mode, zero=zero, low=bounds[0], high=bounds[1])
    acc = np.arange(-200, 201)
    expected = np.array(codes(node, acc))
    np.testing.assert_array_equal(run(node, acc, Thresholds()), expected)
    stairs = staircase(formulas(node)[0], -200, 200)
    assert (np.diff(stairs.thresholds) >= 0).all()
    assert set(stairs.thresholds.tolist()) == set(acc[1:][np.diff(expected) != 0].tolist())
    assert stairs.thresholds.size == np.abs(np.diff(expected)).sum()


def test_thresholds_of_a_relu_are_finns():
    """A 4-bit unsigned code has 15 thresholds, at the lower ends of its steps; the code counts them."""
    node = made([[(None, Fraction(0), Fraction(0)), (0, Fraction(1, 10), Fraction(0))]], low=0, high=15)
    stairs = staircase(formulas(node)[0], -(1 << 31), 1 << 31)
    # half_even: 5 / 10 stays 0, 15 / 10 becomes 2
    assert stairs.thresholds.tolist() == [6, 15, 26, 35, 46, 55, 66, 75, 86, 95, 106, 115, 126, 135, 146]
    assert (stairs.base, stairs.steps.tolist()) == (0, [1] * 15)
    assert stairs.count(np.array([-7, 5, 6, 14, 15, 146, 1 << 30])).tolist() == [0, 0, 1, 1, 2, 15, 15]


def test_thresholds_far_beyond_int64_products():
    node = line(Fraction(10**30 + 1, 10**33), Fraction(1, 10**40), rounding="half_away")
    np.testing.assert_array_equal(run(node, ALL16, Thresholds()), codes(node, ALL16))
    with pytest.raises(IntsimError, match=r"more than 2\^22 thresholds; .*use fewer bits"):
        run(line(1, low=None, high=None), np.array([0, 1 << 40]), Thresholds())
    none = np.zeros((0, 2), np.int64)
    assert requantize(line(1), [none], [tensor(ALL16)], Thresholds(), ()).shape == (0, 2)


# Nodes and cells

FORMS = [
    EXACT,
    Thresholds(),
    Float32(),
    FixedPoint(32, None, True),
    FixedPoint(9, Rounding.HALF_UP),
    Tosa(32, None, True),
    Tosa(16),
]


@pytest.mark.parametrize("form", FORMS)
def test_cells_are_the_node(form):
    pieces = [[(None, Fraction(c + 1, 97), Fraction(c, 3)), (40, Fraction(1, 8), Fraction(9 - c))] for c in range(3)]
    node = made(pieces, cells=(3, 1), zero=3)
    acc = np.random.default_rng(1).integers(-3000, 3000, (2, 3, 50))
    stages = (Stage(None, 32, "wrap"),)
    whole = run(node, acc, form, stages)
    free = unclipped(node, [acc], [tensor(acc)], form, stages)
    np.testing.assert_array_equal(np.clip(free, -128, 127), whole)
    assert free.max() > 127
    for c, cell in enumerate(formulas(node)):
        np.testing.assert_array_equal(form.codes(cell, acc[:, c], stages), whole[:, c])
        prepared = form.prepared(cell, stages, -3000, 3000)
        np.testing.assert_array_equal(prepared(acc[:, c]), whole[:, c])
        exact = OPS["requantize"].evaluate(node, acc)[:, c]
        np.testing.assert_array_equal(EXACT.codes(cell, acc[:, c]), exact)


def test_a_piece_sees_its_own_accumulators_only():
    """TOSA would refuse 2^20 for the piece of small accumulators, and a shift the scale of one that isn't reached."""
    steep, flat = (None, Fraction(1 << 12), Fraction(0)), (100, Fraction(1, 4096), Fraction(0))
    acc = np.array([-3, 0, 99, 100, 1 << 20])
    found = run(made([[steep, flat]]), acc, Tosa(32))
    assert found.tolist() == [-128, 0, 127, 0, 127]
    node = made([[(None, *flat[1:]), (1 << 70, Fraction(1, 3), Fraction(0))]])
    assert run(node, acc, Shift(rounding=Rounding.FLOOR)).tolist() == [-1, 0, 0, 0, 127]


def test_tosa_on_nodes():
    form, stages = Tosa(32), (Stage(None, 32, "wrap"),)
    acc = np.arange(-2000, 2000)
    with pytest.raises(IntsimError, match="multiplier below 0; the rule is multiplier >= 0"):
        run(line(Fraction(-1, 3)), acc, form)
    with pytest.raises(IntsimError, match=r"value -?\d+ is refused; the rule is: -2\^\(shift-1\) <= value"):
        run(line(1 << 26), acc, form)
    half_up = FixedPoint(32, Rounding.HALF_UP)
    node = line(Fraction(1, 37), Fraction(7, 3), zero=-4)
    np.testing.assert_array_equal(run(node, acc, form, stages), run(node, acc, half_up, stages))


@pytest.mark.parametrize("form", [f for f in FORMS if f.multiplier_bits != 9 and f.scheme != "tosa"])
@pytest.mark.parametrize("factors", [(3, 5), (7, -2)])
def test_sums_of_two_tensors(form, factors):
    """Close to exact, and exact where the scheme adds exactly."""
    a, b = np.arange(-128, 128).reshape(-1, 1), np.arange(-128, 128).reshape(1, -1)
    coefficients = np.array(factors).reshape(2, 1)
    node = made([[(None, Fraction(1, 11), Fraction(0))]], arrays={"coefficients": coefficients}, inputs=("a", "b"))
    found = requantize(node, [a, b], [tensor(a, "a"), tensor(b, "b")], form, (Stage(None, 32, "wrap"),))
    exact = OPS["requantize"].evaluate(node, a, b)
    assert np.abs(found - exact).max() <= (0 if form.scheme in ("exact", "thresholds") else 1)


@pytest.mark.parametrize("double", [False, True])
def test_tosa_subtracts_what_has_a_negative_scale(double):
    """TOSA has SUB beside ADD; its RESCALE of an operand takes 32 bits, with a scale above 0."""
    a, b = np.arange(-8, 8).reshape(-1, 1), np.arange(-8, 8).reshape(1, -1)
    arrays = {"coefficients": np.array([[1], [-2]])}
    node = made([[(None, Fraction(1, 4), Fraction(0))]], arrays=arrays, inputs=("a", "b"))
    found = requantize(node, [a, b], [tensor(a, "a"), tensor(b, "b")], Tosa(32, None, double), ())
    # operands times 2^20 / 4 and 2^20 / 2; the sum times 2^-20
    first, second = (a << 20) // 4, (b << 20) // 2
    expected = (first - second + (1 << 19)) >> 20
    assert (np.abs(found - expected) <= double).all()
    assert double or (found == expected).all()


def test_results_beyond_int64_are_saturated():
    wide = np.array([-(1 << 61), 0, 1 << 61])
    node = line(1 << 20, low=None, high=None)
    for form in (FixedPoint(32, Rounding.FLOOR), Shift(rounding=Rounding.FLOOR)):
        assert run(node, wide, form).tolist() == [-(1 << 62), 0, 1 << 62]
    biased = line(1, 1 << 61, low=None, high=None)
    assert run(biased, np.array([(1 << 63) - 1]), Shift(rounding=Rounding.FLOOR)).tolist() == [1 << 62]
    dead = line(Fraction(1, 1 << 120), Fraction(1 << 40))
    assert run(dead, ALL16, Float32()).tolist() == [127] * ALL16.size
