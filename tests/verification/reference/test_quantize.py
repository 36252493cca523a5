from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.verification.reference.quantize import on_codes, quantize, rounding
from intsim.verification.reference.tensor import Tensor, from_array, grid

from .twins import (
    check,
    codes,
    draw_values,
    dress,
    exactly,
    forms,
    modes,
    repeatable,
    scales,
    seeds,
    twin_quant,
    twin_round,
)


def box(*values):
    return np.asarray(values[0], object) if len(values) == 1 else np.asarray(values, object)


def limits(low, high):
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


ALL_MODES = ["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]


@pytest.mark.parametrize("mode", ALL_MODES)
def test_rounding_of_floats_and_of_fractions_agree_on_every_eighth_and_beside_every_tie(mode):
    chosen = rounding(mode)
    eighths = np.arange(-80, 81) / 8
    points = np.concatenate([eighths, np.nextafter(eighths, np.inf), np.nextafter(eighths, -np.inf)])
    for dtype in (np.float64, np.float32):
        found = chosen.floats(points.astype(dtype))
        for x, y in zip(points.astype(dtype), found, strict=True):
            want = twin_round(Fraction(float(x)), mode)
            assert int(y) == want == chosen.exact(Fraction(float(x)))


def test_the_largest_number_below_one_half_does_not_round_up():
    # adding a half and flooring, as float executors do, gives 1
    x = np.array([0.49999999999999994])
    assert np.floor(x + 0.5) == 1
    assert rounding("HALF_UP").floats(x) == 0


def test_an_unknown_mode_is_named():
    with pytest.raises(IntsimError, match="NEAREST"):
        rounding("NEAREST")


@repeatable(400)
@given(st.lists(codes, min_size=1, max_size=12), scales, scales, st.integers(-5, 5), modes, forms, seeds)
def test_codes_are_those_of_the_formula_in_every_form(numbers, own, scale, zero, mode, form, seed):
    rng = np.random.default_rng(seed)
    values = exactly(np.array(numbers)) * own / int(rng.integers(1, 5))
    x = dress(values, form, rng)
    found, undecided, single, _ = quantize(x, box(scale), box(Fraction(zero)), *limits(-128, 127), rounding(mode))
    assert found.astype(int).tolist() == twin_quant(values, scale, Fraction(zero), 8, mode=mode).tolist()
    assert single <= undecided <= len(numbers)


@repeatable(150)
@given(seeds, modes, forms, st.booleans())
def test_scales_zero_points_and_limits_per_channel(seed, mode, form, broadcast):
    rng = np.random.default_rng(seed)
    own = draw_values(rng, (1, 3), Fraction(1, 7), 1, 9)
    scale = draw_values(rng, (1, 3), Fraction(1, 14), 1, 9)
    zero = draw_values(rng, (1, 3), Fraction(1, int(rng.integers(1, 3))))
    values = draw_values(rng, (4, 1 if broadcast else 3), Fraction(1)) * (own if not broadcast else own[:, :1])
    found, *_ = quantize(dress(values, form, rng), scale, zero, *limits(-8, 7), rounding(mode))
    assert found.shape == (4, 3)
    assert found.astype(int).tolist() == twin_quant(values, scale, zero, 4, mode=mode).tolist()


@repeatable(100)
@given(st.lists(codes, min_size=1, max_size=9), scales, scales, st.sampled_from([-1, 0, 1]), forms, seeds)
def test_bipolar_decides_the_sign_exactly(numbers, own, scale, zero, form, seed):
    values = exactly(np.array(numbers)) * own
    x = dress(values, form, np.random.default_rng(seed))
    found, *_ = quantize(x, box(scale), box(Fraction(zero)), *limits(-1, 1), rounding("BIPOLAR"))
    assert found.astype(int).tolist() == twin_quant(values, scale, Fraction(zero), 1).tolist()


def test_ties_on_a_grid_with_a_non_dyadic_ratio_are_decided_once_per_value():
    # 3 n s / (2 s): every odd n ties, in float64 and in float32 alike a ratio that is not a power of two
    s = Fraction(float(np.float32(0.1)))
    x = grid(np.tile(np.arange(-9.0, 10.0), 1000), s * Fraction(3, 2))
    found, undecided, single, _ = quantize(x, box(s), box(Fraction(0)), *limits(-128, 127), rounding("ROUND"))
    assert found.astype(int).tolist() == [round(Fraction(3 * n, 2)) for n in range(-9, 10)] * 1000
    assert undecided == 0
    assert single == 0
    third = grid(np.tile(np.arange(-9.0, 10.0), 1000), s * Fraction(3, 2))
    found, undecided, single, _ = quantize(third, box(s * 3), box(Fraction(0)), *limits(-128, 127), rounding("ROUND"))
    assert found.astype(int).tolist() == [round(Fraction(n, 2)) for n in range(-9, 10)] * 1000
    sixth = grid(np.tile(np.arange(-9.0, 10.0), 1000), s / 6)
    found, undecided, single, _ = quantize(sixth, box(s), box(Fraction(0)), *limits(-128, 127), rounding("ROUND"))
    assert found.astype(int).tolist() == [round(Fraction(n, 6)) for n in range(-9, 10)] * 1000
    assert undecided == 4000
    assert single == 0


def test_only_elements_with_a_bound_are_worked_out_one_by_one():
    v = np.array([0.5, 0.5, 0.25])
    x = Tensor(v.shape, "f", v=v, e=np.array([0.0, 1e-9, 1e-9]), element=lambda i: [None, Fraction(1, 2), None][i])
    found, undecided, single, _ = quantize(x, box(Fraction(1)), box(Fraction(0)), *limits(0, 1), rounding("HALF_UP"))
    assert found.tolist() == [1, 1, 0]
    assert single == 1
    assert undecided <= 2


def test_float32_rounds_a_tie_the_wrong_way_and_the_reference_does_not():
    # 0.15f / 0.1f is above 3 / 2 as a rational; the float32 quotient is 1.5 and rounds to even from there
    x, s = np.float32(0.25), np.float32(0.1)
    assert Fraction(float(x)) / Fraction(float(s)) < Fraction(5, 2)
    assert np.float32(x / s) == 2.5
    found, *_ = quantize(
        from_array(np.array([x]), "x"), box(Fraction(float(s))), box(Fraction(0)), *limits(-8, 7), rounding("HALF_UP")
    )
    assert found.tolist() == [2]
    assert np.floor(np.float32(x / s) + np.float32(0.5)) == 3


@repeatable(80)
@given(
    st.lists(codes, min_size=1, max_size=6),
    scales,
    st.sampled_from([Fraction(0), Fraction(3), Fraction(1, 2), Fraction(-7, 4)]),
)
def test_on_codes_gives_back_the_real_values(numbers, scale, zero):
    check(on_codes(np.array(numbers, float), box(scale), box(zero)), (exactly(np.array(numbers)) - zero) * scale)


def test_wide_codes_and_ranks():
    x = from_array(np.array(2.0**31 + 0.5), "x")
    found, *_ = quantize(x, box(Fraction(1)), box(Fraction(0)), *limits(-(2.0**31), 2.0**31 - 1), rounding("ROUND"))
    assert found.shape == ()
    assert found == 2.0**31 - 1
    with pytest.raises(IntsimError, match="2\\^50"):
        quantize(x, box(Fraction(1, 2**40)), box(Fraction(0)), *limits(-(2.0**61), 2.0**61), rounding("ROUND"))
    with pytest.raises(IntsimError, match="positive"):
        quantize(x, box(Fraction(0)), box(Fraction(0)), *limits(0, 1), rounding("ROUND"))


@repeatable(60)
@given(seeds)
def test_near_ties_at_every_distance_from_float64_resolution(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(-100, 100))
    for distance in range(40, 120, 7):
        for sign in (-1, 0, 1):
            value = (k + Fraction(1, 2) + sign * Fraction(1, 2**distance)) * Fraction(1, 3)
            x = dress([value], "bound", rng)
            found, *_ = quantize(x, box(Fraction(1, 3)), box(Fraction(0)), *limits(-128, 127), rounding("ROUND"))
            assert found.astype(int).tolist() == [round(value * 3)]


@pytest.mark.parametrize("power", [-200, -130, 130, 200])
def test_power_of_two_ratios_beyond_float32(power):
    s = box(Fraction(2) ** power)
    for mode in ALL_MODES:
        x = grid(np.array([-1.0, 0.0, 1.0], np.float32), s)
        found, *_ = quantize(x, box(Fraction(1)), box(Fraction(0)), *limits(-8, 7), rounding(mode))
        assert found.astype(int).tolist() == twin_quant(x.fractions(), Fraction(1), Fraction(0), 4, mode=mode).tolist()
        silent = grid(np.zeros(2, np.float32), s)
        found, *_ = quantize(silent, box(Fraction(1)), box(Fraction(0)), *limits(-8, 7), rounding(mode))
        assert found.tolist() == [0, 0]
