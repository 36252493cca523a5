"""Large constants worked out once for each distinct number: the same as one by one, in rationals."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.frontend import weights
from intsim.frontend.codes import constant_codes, quantize_constant
from intsim.frontend.context import Quantizer
from intsim.frontend.distinct import of_distinct
from intsim.frontend.expression import Fixed, common_grid, compress
from intsim.graph import MANY, rationals

MODES = st.sampled_from([str(m) for m in Rounding])
SHAPES = st.sampled_from([(), (1,), (3,), (2, 1), (2, 3), (4, 2, 3)])
STEPS = st.one_of(st.sampled_from([Fraction(1), Fraction(1, 4), Fraction(1, 3), Fraction(float(np.float32(0.1)))]),
                  st.fractions(Fraction(1, 50), 50))  # fmt: skip
SHIFTS = st.one_of(st.just(Fraction(0)), st.sampled_from([Fraction(1, 2), Fraction(-1, 3)]), st.fractions(-3, 3))


def drawn(data, shape, numbers):
    flat = data.draw(st.lists(numbers, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    out = np.empty(len(flat), object)
    out[:] = flat
    return out.reshape(shape)


@given(st.data(), SHAPES, st.lists(SHAPES, min_size=1, max_size=3))
def test_of_distinct(data, shape, shapes):
    try:
        whole = np.broadcast_shapes(shape, *shapes)
    except ValueError:
        return
    values = drawn(data, shape, st.integers(-2, 2)).astype(np.int64)
    parameters = tuple(drawn(data, s, STEPS) for s in shapes)
    found = of_distinct(values, parameters, lambda v, *p: (type(v), v, *p))
    assert found.shape == whole
    for at in np.ndindex(*whole):
        arrays = [np.broadcast_to(a, whole)[at] for a in (values, *parameters)]
        assert found[at] == (int, *arrays)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint64, np.int64, np.bool_])
@pytest.mark.parametrize("same", [(), (0,), (1,), (0, 1)])
def test_rationals_of_many_numbers(dtype, same):
    drawn = np.random.default_rng(1).integers(0, 90, (MANY, 3))
    values = (drawn > 45 if dtype is np.bool_ else drawn if np.dtype(dtype).kind in "iu" else drawn / 7 - 5).astype(
        dtype
    )
    values[0] = values[:, 0] = values[1, 1]
    values[0, :2] = (1, 0) if dtype is np.bool_ else (3, -0.0)
    values[1, 0] = values[0, 1]
    if dtype in (np.int8, np.int64, np.uint64):
        values[0, 2] = np.iinfo(dtype).max
    for axis in same:
        values = np.broadcast_to(values.take([0], axis=axis), values.shape)
    found = rationals(values)
    assert found.shape == values.shape
    assert found.ravel().tolist() == [Fraction(v.item()) for v in values.ravel()]
    assert {type(v.numerator) for v in found.flat} == {int}
    assert compress(found).shape == tuple(1 if a in same else s for a, s in enumerate(values.shape))


def test_rationals_of_what_is_no_number():
    for count in (1, MANY):
        for value in (np.nan, np.inf, -np.inf):
            with pytest.raises(IntsimError, match="NaN or infinity"):
                rationals(np.full(count, value))


def on_grid(array):
    """The definition: the first exponent at which all are whole, if 16 bits hold them there."""
    for exponent in range(25):
        codes = [Fraction(float(v)) * 2**exponent for v in array.flat]
        if max(map(abs, codes)) > 2**15:
            return None
        if all(c.denominator == 1 for c in codes):
            return [int(c) for c in codes], Fraction(1, 2**exponent)
    return None


EXPONENTS = st.one_of(st.sampled_from([0, 9, 10, 23, 24, 25]), st.integers(0, 60))
TOPS = st.one_of(st.sampled_from([0, 2**15 - 1, 2**15, -(2**15), 2**15 + 1]), st.integers(-70000, 70000))


@given(st.lists(TOPS, min_size=1, max_size=4), EXPONENTS)
def test_constants_on_a_power_of_two_grid(numerators, exponent):
    array = np.array(numerators) / 2.0**exponent
    found, wanted = weights.on_power_of_two_grid(array), on_grid(array)
    assert (found is None) == (wanted is None)
    if found is not None:
        assert (found.codes.tolist(), found.scale.item()) == wanted
        assert found.type.bits == max(max(abs(c) for c in wanted[0]).bit_length() + 1, 2)


def test_what_lies_on_no_grid():
    for value in (np.nan, np.inf, -np.inf, 0.1, 2.0**-25, 2.0**16, 5e-324):
        assert weights.on_power_of_two_grid(np.array([1.0, value])) is None
    late = np.zeros(3 * weights.FIRST)
    late[-1] = 0.3
    assert weights.on_power_of_two_grid(late) is None


@given(st.data(), st.integers(0, 1), st.sampled_from([1, 3, 2**40, 2**80, 3**60]))
def test_weights_whose_scale_changes_inside_a_channel(data, axis, below):
    codes = drawn(data, (3, 2), st.integers(-9, 9)).astype(np.int64)
    scale, offset = (drawn(data, s, n) / below for s, n in (((1, 2), STEPS), ((3, 1), SHIFTS)))
    value = Fixed(codes, scale, offset)
    real = np.moveaxis(codes.astype(object) * scale + offset, axis, 0)
    grids = [common_grid(list(row)) for row in real]
    wanted = [[int(v / g) for v in row] for row, g in zip(real, grids, strict=True)]
    if max(abs(c) for row in wanted for c in row) >= 1 << 31:
        with pytest.raises(IntsimError, match="common grid"):
            weights._regrid(value, axis)
        return
    found = weights._regrid(value, axis)
    assert found.scale.tolist() == grids
    assert np.moveaxis(found.codes, axis, 0).tolist() == wanted


@given(st.data(), MODES, st.sampled_from([(1, 1), (3, 1), (1, 4), (3, 4)]), st.integers(-2, 2))
def test_codes_of_integers_and_of_floats(data, mode, shape, after):
    codes = drawn(data, (3, 4), st.integers(-9, 9)).astype(np.int64)
    steps, shifts = drawn(data, shape, STEPS), drawn(data, (3, 1), SHIFTS)
    q = Quantizer(steps, shifts, after, mode, (-6, 5))
    wide = [np.broadcast_to(p, (3, 4)) for p in (steps, shifts)]
    own = rationals(2), rationals(Fraction(1, 2))
    reals = codes.astype(object) * 2 + Fraction(1, 2)
    wanted = [q.code(r / s + b) for r, s, b in zip(reals.flat, *(w.flat for w in wide), strict=True)]
    assert constant_codes(Fixed(codes, *own), q).ravel().tolist() == wanted
    assert quantize_constant(reals.astype(np.float64), q).ravel().tolist() == wanted


@given(st.data(), SHIFTS, st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e-40, -1e300]))
def test_signs(data, before, edge):
    """At zero, on both sides of it, and where a quotient is too small for float64."""
    x = np.array([*data.draw(st.lists(st.floats(-3, 3), max_size=5)), edge])
    q = Quantizer(rationals(Fraction(10**20)), rationals(before), 0, "half_even", (-1, 1), None, bipolar=True)
    assert quantize_constant(x, q).tolist() == [q.code(Fraction(v) / 10**20 + before) for v in x.tolist()]
