"""Offsets in whole LSBs, and sums of wide tensors: where a requantizer's scheme has no room for the exact number."""

from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.fixed_point import FixedPoint
from intsim.arithmetic.requantizers.float32 import Float32
from intsim.arithmetic.requantizers.requantizer import bias_in_accumulator
from intsim.arithmetic.requantizers.shift import Shift
from intsim.arithmetic.requantizers.tosa import Tosa
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.graph import Node, Tensor, rationals
from intsim.ops.pieces import pieces_json
from intsim.ops.requantize import requantize, unclipped
from tests import twins

FIXED = FixedPoint(32, Rounding.HALF_UP)
SHIFT = Shift(rounding=Rounding.FLOOR)
FLOAT = Float32()
TOSA = Tosa(32)
TWICE = FixedPoint(32, None, True)


def made(pieces, coefficients=None, zero=0, low=None, high=None, rounding="half_even"):
    at = {"cells": [1], "pieces": pieces_json([pieces]), "rounding": rounding, "zero": zero, "low": low, "high": high}
    names, arrays = ("x",), {}
    if coefficients is not None:
        names = tuple(f"x{i}" for i in range(len(coefficients)))
        arrays = {"coefficients": np.array(coefficients).reshape(-1, 1)}
    return Node("requantize", "n", names, "y", at, arrays)


def tensor(low, high, shape=(1,)):
    return Tensor("x", shape, low, high, rationals(1), rationals(0))


def run(node, values, form, stages=(), limits=None):
    acc = np.asarray(values, np.int64)
    return unclipped(node, [acc], [tensor(*(limits or (int(acc.min()), int(acc.max()))))], form, stages).tolist()


@pytest.mark.parametrize(
    ("halves", "expected"), [(-7, -4), (-5, -2), (-3, -2), (-1, 0), (1, 0), (3, 2), (5, 2), (7, 4), (9, 4)]
)
@pytest.mark.parametrize("scale", [Fraction(1, 16), Fraction(-1, 16), Fraction(3, 7), Fraction(0.1)])
def test_half_an_lsb_goes_to_even(halves, expected, scale):
    """A kernel stores its bias rounded to the nearest; a tie is neither up nor away from zero, whatever the sign."""
    assert bias_in_accumulator(scale, scale * Fraction(halves, 2)) == expected


@pytest.mark.parametrize("above", [-1, 1])
def test_next_to_half_an_lsb_goes_to_the_nearest(above):
    near = Fraction(5, 2) + above * Fraction(1, 10**12)
    assert bias_in_accumulator(Fraction(2, 3), Fraction(2, 3) * near) == (3 if above > 0 else 2)


@pytest.mark.parametrize(
    ("form", "scale"), [(SHIFT, Fraction(1)), (FIXED, Fraction(1)), (FLOAT, Fraction(1)), (TWICE, Fraction(1))]
)
def test_a_rest_alone_vanishes(form, scale):
    """|rest| <= 1/2 LSB is nothing, at both ends; what is more is one LSB."""
    for offset, shift in (
        (Fraction(1, 2), 0),
        (Fraction(-1, 2), 0),
        (Fraction(501, 1000), 1),
        (Fraction(-501, 1000), -1),
    ):
        assert run(made([(None, scale, offset)]), [-3, 0, 4], form) == [-3 + shift, shift, 4 + shift]


@pytest.mark.parametrize("form", [SHIFT, FIXED, FLOAT, TWICE, TOSA])
@pytest.mark.parametrize(("overflow", "expected"), [("wrap", -126), ("saturate", 127)])
def test_an_offset_goes_back_into_the_last_register(form, overflow, expected):
    node = made([(None, Fraction(1), Fraction(3))])
    stages = (Stage(4, 40, "wrap"), Stage(None, 8, overflow))
    assert run(node, [127, 124, -128], form, stages) == [expected, 127, -125]
    assert run(node, [127], form) == [130]


def test_no_offset_leaves_a_wide_accumulator_alone():
    """Nothing is added, so nothing goes back into a register; every piece has an offset of its own."""
    stages = (Stage(None, 8, "saturate"),)
    node = made([(None, Fraction(1), Fraction(0)), (0, Fraction(1), Fraction(5))])
    assert run(node, [-300, -1, 0, 126], SHIFT, stages) == [-300, -1, 5, 127]


@pytest.mark.parametrize(
    ("form", "mode"), [(FIXED, "half_up"), (SHIFT, "floor"), (FLOAT, "ceil"), (TWICE, "ceil"), (TOSA, "ceil")]
)
def test_a_scale_of_zero_is_the_rounded_offset(form, mode):
    """By the form's own rounding where it has one, else by the file's; it meets no register."""
    expected = {"half_up": 3, "floor": 2, "ceil": 3}[mode]
    node = made([(None, Fraction(0), Fraction(5, 2))], rounding="ceil")
    assert run(node, [-5, 9], form, (Stage(None, 2, "wrap"),)) == [expected] * 2
    assert run(made([(None, Fraction(0), Fraction(9, 4))], rounding="ceil"), [1], form) == [2 if mode != "ceil" else 3]


def test_the_zero_point_comes_after_the_rounding():
    node = made([(None, Fraction(1, 2), Fraction(0))], zero=3)
    assert run(node, [1, 3, -1], Exact()) == [3, 5, 3]
    assert run(node, [1, 3, -1], SHIFT) == [3, 4, 2]


# Sums of tensors: TFLite's Add. The sum has units of 2 max a / 2^left, so a requantizer with this scale shows it whole


def twin(values, factors, left):
    """Each operand times factor / (2 max) after a left shift, rounded half up with a 32-bit multiplier."""
    twice = 2 * max(abs(f) for f in factors)
    total = 0
    for v, f in zip(values, factors, strict=True):
        m, n = twins.quantize_multiplier(Fraction(f, twice), 32)
        total += twins.round_divide((v << left) * m, 2**n, "half_up")
    return total


@pytest.mark.parametrize(
    ("widest", "count", "left"),
    [
        (255, 2, 20),
        (511, 2, 20),
        (512, 2, 19),
        (1023, 2, 19),
        (1024, 2, 18),
        (4095, 2, 17),
        (1 << 15, 2, 13),
        (127, 3, 20),
        (511, 3, 19),
        (4095, 3, 16),
        (4095, 4, 16),
        (4095, 5, 15),
        ((1 << 29) - 1, 2, 0),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_how_far_operands_are_shifted_left(widest, count, left, sign):
    """By 20 bits, or as many as leave the sum of all operands 31 bits with its sign."""
    factors = [sign * f for f in (7, -5, 3, 2, -6)][:count]
    unit = Fraction(14, 1 << left)
    node = made([(None, 1 / unit, Fraction(0))], factors)
    rng = np.random.default_rng(widest)
    values = np.concatenate([rng.integers(-widest, widest + 1, (count, 50)), np.full((count, 1), widest)], axis=1)
    tensors = [tensor(-widest, widest)] * count
    found = unclipped(node, list(values), tensors, FIXED, ())
    # the sum times unit / unit: a multiplier of exactly one
    np.testing.assert_array_equal(found, [twin(v, factors, left) for v in values.T.tolist()])


@pytest.mark.parametrize(("low", "high"), [(-4096, 0), (0, 4096), (-5, 4096), (-4096, 5)])
def test_the_widest_operand_counts_from_either_end(low, high):
    """4096 needs 13 bits, whichever tensor and end it comes from."""
    rng = np.random.default_rng(high - low)
    for turn in range(3):
        factors = np.roll([7, -5, 3], turn).tolist()
        limits = [(low, high), (-2, 2), (-2, 2)]
        limits = limits[turn:] + limits[:turn]
        values = np.array([rng.integers(a, b + 1, 60) for a, b in limits])
        node = made([(None, Fraction(1 << 15, 14), Fraction(0))], factors)
        found = unclipped(node, list(values), [tensor(a, b) for a, b in limits], FIXED, ())
        assert found.tolist() == [twin(v, factors, 15) for v in values.T.tolist()]


@pytest.mark.parametrize("factors", [[7, -5], [-7, 5], [3, 7]])
def test_float32_operands_are_rounded_to_the_nearest(factors):
    node = made([(None, Fraction(1 << 20, 14), Fraction(0))], factors)
    values = np.stack(np.meshgrid(np.arange(-9, 10), np.arange(-9, 10))).reshape(2, -1)
    found = unclipped(node, list(values), [tensor(-9, 9)] * 2, FLOAT, ())
    parts = [np.rint((v << 20).astype(np.float32) * np.float32(f / 14)) for v, f in zip(values, factors, strict=True)]
    np.testing.assert_array_equal(found, sum(parts))


def test_sums_too_wide_for_32_bits_are_refused():
    node = made([(None, Fraction(1), Fraction(0))], [1, 1])
    wide = [np.array([1 << 29]), np.array([1])]
    with pytest.raises(IntsimError, match="adds tensors of 31 bits; its rescaling takes 32-bit values"):
        unclipped(node, wide, [tensor(0, 1 << 29), tensor(0, 1)], FIXED, ())
    assert unclipped(node, wide, [tensor(0, 1 << 29), tensor(0, 1)], SHIFT, ()).tolist() == [(1 << 29) + 1]


def test_pieces_of_a_sum_begin_where_its_own_units_do():
    """A Relu behind a sum of tensors: the first piece ends below the start, in whole numbers of the common grid."""
    pieces = [(None, Fraction(0), Fraction(0)), (3, Fraction(1), Fraction(0))]
    node = made(pieces, [2, 1])
    a, b = np.array([0, 1, 1, 1, 2, -4]), np.array([2, 0, 1, 2, 1, 11])
    for form in (FIXED, TWICE, TOSA, FLOAT):
        found = requantize(node, [a, b], [tensor(-8, 8), tensor(-16, 16)], form, (Stage(None, 32, "wrap"),))
        assert found.tolist() == [0, 0, 3, 4, 5, 3]


def test_a_sum_of_tensors_has_its_cells():
    """Factors by channel: the shift is of all tensors, units and pieces are of each cell."""
    coefficients = np.array([[[3], [7]], [[5], [-2]]])
    at = {
        "cells": [2, 1],
        "pieces": pieces_json([[(None, Fraction(1, 8), Fraction(0))], [(None, Fraction(1, 4), Fraction(1))]]),
        "rounding": "half_even",
        "zero": 0,
        "low": None,
        "high": None,
    }
    node = Node("requantize", "n", ("a", "b"), "y", at, {"coefficients": coefficients})
    a, b = np.arange(-4, 4).reshape(1, 8) * np.ones((2, 1), np.int64), np.full((2, 8), 3)
    tensors = [tensor(-4, 4, (2, 8)), tensor(0, 3, (2, 8))]
    exact = np.stack([(3 * a[0] + 15) / 8, (7 * a[1] - 6) / 4 + 1])
    for form in (FIXED, TWICE, FLOAT):
        found = unclipped(node, [a, b], tensors, form, ())
        assert (np.abs(found - exact) <= 0.5 + 1e-5).all()


@pytest.mark.parametrize("lsbs", [7 << 60, -(7 << 60), 3 << 60, 1 << 70])
def test_an_offset_beyond_64_bits_is_carried(lsbs):
    """The sum with a wide accumulator leaves int64; it is carried in Python integers and saturates to 62 bits."""
    node = made([(None, Fraction(1), Fraction(lsbs))])
    wide = [(1 << 61) - 1, -(1 << 61) + 1, 0]
    sums = [lsbs + v for v in wide]
    assert run(node, wide, SHIFT) == [min(max(v, -(1 << 62)), 1 << 62) for v in sums]
    assert run(node, wide, SHIFT, (Stage(None, 9, "saturate"),)) == [min(max(v, -256), 255) for v in sums]
    assert run(node, wide, SHIFT, (Stage(None, 9, "wrap"),)) == [(v + 256) % 512 - 256 for v in sums]


@pytest.mark.parametrize(("start", "expected"), [(1, [0, 5, 5]), (2, [0, 0, 5])])
def test_a_piece_of_a_sum_begins_at_the_first_whole_unit(start, expected):
    """The unit is 6 / 2^20: 1 is 174 762.67 of them, held as 174 763; 2 is 349 525.33, held as 349 525, just below."""
    node = made([(None, Fraction(0), Fraction(0)), (start, Fraction(0), Fraction(5))], [3, 1])
    found = unclipped(node, [np.zeros(3, np.int64), np.array([0, start, start + 1])], [tensor(-8, 8)] * 2, FIXED, ())
    assert found.tolist() == expected


def test_float32_codes_have_24_bits():
    """Up to 2^24 binary32 holds every integer; what lies beyond is clipped there, on either side."""
    node = made([(None, Fraction(1), Fraction(0))])
    edge = 1 << 24
    found = run(node, [3 << 22, -(3 << 22), edge - 1, edge, 5 << 22, -(5 << 22)], FLOAT)
    assert found == [3 << 22, -(3 << 22), edge - 1, edge, edge, -edge]
