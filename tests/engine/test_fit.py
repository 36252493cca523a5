"""Fitted formulas against the definition at every accumulator of small reaches, and next to steps of large ones."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.fixed_point import FixedPoint
from intsim.arithmetic.requantizers.float32 import Float32
from intsim.arithmetic.requantizers.ruy import Ruy
from intsim.arithmetic.requantizers.shift import Shift
from intsim.arithmetic.requantizers.thresholds import Thresholds
from intsim.arithmetic.requantizers.tosa import Tosa
from intsim.arithmetic.rounding import Rounding
from intsim.engine.requantize.affine import RINT
from intsim.engine.requantize.fit import fit, fit_two_formulas
from intsim.engine.requantize.kernels import requantize_dense
from intsim.errors import IntsimError
from intsim.graph import Node, Tensor, rationals
from intsim.ops.pieces import pieces_json
from intsim.ops.requantize import requantize

FORMS = [
    *(("exact", Exact(), mode) for mode in Rounding),
    *(("thresholds", Thresholds(), mode) for mode in Rounding),
    *(("shift", Shift(None, mode), Rounding.FLOOR) for mode in Rounding),
    *(("fixed 32", FixedPoint(32, mode), Rounding.CEIL) for mode in Rounding),
    *(("fixed 9", FixedPoint(9, mode), Rounding.AWAY) for mode in Rounding),
    *(("double", FixedPoint(bits, None, True), Rounding.HALF_EVEN) for bits in (32, 16, 8)),
    ("tosa", Tosa(32), Rounding.HALF_EVEN),
    ("tosa double", Tosa(32, None, True), Rounding.HALF_EVEN),
    ("tosa 16", Tosa(16), Rounding.HALF_EVEN),
    *(("float32", Float32(), mode) for mode in (Rounding.HALF_EVEN, Rounding.FLOOR)),
    ("ruy", Ruy(), Rounding.HALF_EVEN),
]
REGISTERS = [(), (Stage(None, 32, "wrap"),), (Stage(None, 11, "saturate"),), (Stage(None, 10, "wrap"),)]


def made(cells, zero=0, low=-128, high=127, rounding="half_even", arrays=None, inputs=("x",)):
    at = {"cells": [len(cells), 1], "pieces": pieces_json(cells), "rounding": str(rounding)}
    return Node("requantize", "n", inputs, "y", {**at, "zero": zero, "low": low, "high": high}, arrays or {})


def tensor(low, high, name="x"):
    return Tensor(name, (1, 1, 1), low, high, rationals(1), rationals(0))


def said(rounder, acc):
    """What the contract of `AffineRequantizer` says, one element after another; acc (cells, n)."""
    out = np.empty(acc.shape, np.int64)
    tables = rounder.table.tolist()
    assert rounder.kind == RINT
    for (c, i), v in np.ndenumerate(acc):
        scale, offset, v = float(rounder.scale[c]), float(rounder.offset[c]), int(v)
        g = int(min(max(round(scale * float(v) + offset), rounder.low), rounder.high))
        if rounder.table.size:
            u, table = -v if scale < 0 else v, tables[c]
            if g > rounder.low and u < table[g - rounder.low - 1]:
                g -= 1
            if g < rounder.high and u >= table[g - rounder.low]:
                g += 1
        out[c, i] = g
    return out


def codes_of(acc, rule):
    return requantize_dense(acc, rule, np.empty(acc.shape, np.int64))


def compare(node, form, stages, reach, acc, dumb=True):
    """The definition, the contract and the compiled loops agree on accumulators (cells, n). False without a formula."""
    rounder = fit(node, [tensor(*reach)] * len(node.inputs), form, stages, reach)
    if rounder is None:
        return False
    assert rounder.reach == reach
    assert node.attributes["low"] <= rounder.low <= rounder.high <= node.attributes["high"]
    expected = requantize(node, [acc[None]], [tensor(*reach)], form, stages)[0]
    np.testing.assert_array_equal(codes_of(acc[None], rounder)[0], expected)
    if -(1 << 31) <= reach[0] <= reach[1] < 1 << 31:
        np.testing.assert_array_equal(codes_of(acc[None].astype(np.int32), rounder)[0], expected)
    if dumb:
        np.testing.assert_array_equal(said(rounder, acc), expected)
    return True


def drawn_scale(rng, form):
    power = Fraction(1, 1 << int(rng.integers(0, 8)))
    if form.scheme == "shift" or rng.random() < 0.4:
        return power * (1 if form.scheme == "shift" or rng.random() < 0.7 else 3)
    kinds = (Fraction(int(rng.integers(1, 99)), 99), Fraction(float(np.float32(rng.random()))) + Fraction(1, 1 << 20))
    return kinds[rng.integers(0, 2)] * (2 if rng.random() < 0.1 else 1)


def drawn_offset(rng, scale):
    kinds = [
        Fraction(0),
        Fraction(int(rng.integers(-40, 40)), 2),
        scale * int(rng.integers(-90, 90)),
        Fraction(int(rng.integers(-900, 900)), 77),
    ]
    return kinds[rng.integers(0, 4)]


def drawn_cell(rng, form, kind):
    """Pieces as networks have them: a line, a Relu, a LeakyRelu, a clip at both sides, a dead channel."""
    scale = drawn_scale(rng, form)
    scale = -scale if form.scheme != "tosa" and rng.random() < 0.3 else scale
    offset = drawn_offset(rng, scale)
    line = (scale, offset)
    zero = -offset / scale
    if kind == "line":
        return [(None, *line)]
    if kind == "jump":
        other = drawn_scale(rng, form)
        return [(None, *line), (int(rng.integers(-300, 300)), other, drawn_offset(rng, other))]
    if kind == "dead":
        return [(None, Fraction(0), Fraction(int(rng.integers(-30, 30)), 4))]
    if kind == "relu":
        start = zero.__ceil__()
        flat = (Fraction(0), Fraction(0))
        return [(None, *flat), (start, *line)] if scale > 0 else [(None, *line), (start, *flat)]
    if kind == "clip":
        ends = sorted(((6 - offset) / scale, zero))
        levels = (Fraction(0), Fraction(6)) if scale > 0 else (Fraction(6), Fraction(0))
        first, last = ends[0].__ceil__(), ends[1].__ceil__()
        return [(None, Fraction(0), levels[0]), (first, *line), (max(last, first + 1), Fraction(0), levels[1])]
    slope = scale / 8 if rng.random() < 0.8 or form.scheme == "tosa" else -scale
    return [(None, slope, offset - slope * zero + scale * zero), (zero.__ceil__(), *line)]


def drawn_node(rng, form, mode):
    bits, signed = int(rng.integers(1, 10)), bool(rng.integers(0, 2))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    kinds = rng.choice(["line", "dead", "relu", "clip", "leaky"], int(rng.integers(1, 4)), p=[0.4, 0.1, 0.3, 0.1, 0.1])
    zero = int(rng.integers(-3, 4))
    return made([drawn_cell(rng, form, k) for k in kinds], zero, low, high, mode), kinds


@pytest.mark.parametrize(
    "index", range(len(FORMS)), ids=lambda i: f"{FORMS[i][0]}-{FORMS[i][1].rounding or FORMS[i][2]}"
)
def test_every_accumulator(index):
    """Random cells with ties, every accumulator; most of them have a formula, or the test would be idle."""
    _, form, mode = FORMS[index]
    rng = np.random.default_rng(index)
    fitted = drawn = 0
    for _ in range(24):
        node, kinds = drawn_node(rng, form, mode)
        reach = int(rng.integers(-400, 0)), int(rng.integers(0, 400))
        stages = REGISTERS[rng.choice(4, p=[0.3, 0.4, 0.2, 0.1])]
        acc = np.broadcast_to(np.arange(reach[0], reach[1] + 1), (len(kinds), reach[1] - reach[0] + 1))
        has_formula = compare(node, form, stages, reach, np.ascontiguousarray(acc))
        if set(kinds) <= {"line", "relu", "dead"}:
            drawn, fitted = drawn + 1, fitted + has_formula
    assert fitted >= drawn * 0.5


@pytest.mark.parametrize(
    "index", range(len(FORMS)), ids=lambda i: f"{FORMS[i][0]}-{FORMS[i][1].rounding or FORMS[i][2]}"
)
@pytest.mark.parametrize("bits", [20, 31, 45])
def test_next_to_the_steps_of_large_reaches(index, bits):
    """Accumulators within two of every step, of both ends and of 0, and anywhere."""
    _, form, mode = FORMS[index]
    rng = np.random.default_rng(1000 * bits + index)
    wide = form.scheme in ("tosa", "ruy") or form.double_rounding
    bits = min(bits, 31 if wide else bits)
    stages = (Stage(None, 32, "saturate"),) if bits <= 31 else ()
    fitted = 0
    for _ in range(3):
        scale = (
            Fraction(1, 1 << bits - 9)
            if form.scheme == "shift"
            else Fraction(float(rng.uniform(1, 4))) / (1 << bits - 8)
        )
        cells = [[(None, scale * (1 if form.scheme == "tosa" else s), drawn_offset(rng, scale) * 3)] for s in (1, -1)]
        node = made(cells, int(rng.integers(-3, 4)), rounding=mode)
        reach = -(1 << bits - 1) + int(rng.integers(0, 1000)), (1 << bits - 1) - int(rng.integers(1, 1000))
        steps = [(Fraction(2 * k + 1, 4) - b) / s for c in cells for _, s, b in c for k in range(-300, 300)]
        near = np.array([round(v) for v in steps] + [*reach, 0])
        acc = np.concatenate([(near[:, None] + np.arange(-2, 3)).reshape(-1), rng.integers(*reach, 2000)])
        acc = acc[(acc >= reach[0]) & (acc <= reach[1])]
        fitted += compare(node, form, stages, reach, np.ascontiguousarray(np.broadcast_to(acc, (2, acc.size))), False)
    assert fitted == 3 or form.scheme == "tosa"


@given(st.data())
def test_drawn(data):
    """One cell, everything about it drawn."""
    draw = data.draw
    _, form, mode = draw(st.sampled_from(FORMS))
    powers = st.sampled_from([Fraction(s * f, 1 << k) for k in range(12) for s in (1, -1) for f in (1, 3)])
    shifts = st.sampled_from([Fraction(s, 1 << k) for k in range(12) for s in (1, -1)])
    scales = shifts if form.scheme == "shift" else st.one_of(powers, st.fractions(-2, 2, max_denominator=1 << 20))
    offsets = st.one_of(
        st.integers(-300, 300).map(lambda n: Fraction(n, 2)), st.fractions(-99, 99, max_denominator=999)
    )
    starts = [None, *sorted(draw(st.sets(st.integers(-300, 300), max_size=2)))]
    low = draw(st.integers(-130, 5))
    node = made(
        [[(start, draw(scales), draw(offsets)) for start in starts]],
        draw(st.integers(-5, 5)),
        low,
        low + draw(st.integers(0, 300)),
        mode,
    )
    reach = draw(st.integers(-600, 0)), draw(st.integers(0, 600))
    stages = draw(st.sampled_from(REGISTERS))
    compare(node, form, stages, reach, np.arange(reach[0], reach[1] + 1)[None])


@pytest.mark.parametrize(
    "index", range(len(FORMS)), ids=lambda i: f"{FORMS[i][0]}-{FORMS[i][1].rounding or FORMS[i][2]}"
)
def test_two_formulas(index):
    """LeakyRelu and PRelu, their starts in and out of reach, and cells without; every accumulator."""
    _, form, mode = FORMS[index]
    rng = np.random.default_rng(index)
    fitted = 0
    for _ in range(20):
        kinds = rng.choice(["line", "dead", "relu", "leaky", "jump"], 3)
        zero, low = int(rng.integers(-3, 4)), int(rng.integers(-128, 1))
        node = made([drawn_cell(rng, form, k) for k in kinds], zero, low, int(rng.integers(10, 128)), mode)
        reach = int(rng.integers(-400, 0)), int(rng.integers(0, 400))
        stages = REGISTERS[rng.choice(4)]
        acc = np.ascontiguousarray(np.broadcast_to(np.arange(reach[0], reach[1] + 1), (1, 3, reach[1] - reach[0] + 1)))
        bent = fit_two_formulas(node, [tensor(*reach)], form, stages, reach)
        if bent is not None:
            fitted += 1
            expected = requantize(node, [acc], [tensor(*reach)], form, stages)
            np.testing.assert_array_equal(codes_of(acc, bent), expected)
            np.testing.assert_array_equal(codes_of(acc.astype(np.int32), bent), expected)
            for part in (bent.below, bent.above):
                assert (part.low, part.high, part.table.size) == (low, node.attributes["high"], 0)
    # away from zero and towards it, steps lie one way above zero and the other way below, which takes a table
    last = str(form.rounding or mode)
    assert fitted > 3 or "zero" in last or "away" in last or form.double_rounding


EXACT = Exact()


def test_two_formulas_and_no_more():
    lines = [(None, Fraction(1, 30), Fraction(0)), (0, Fraction(1, 3), Fraction(0)), (30, Fraction(0), Fraction(10))]
    x = [tensor(-300, 300)]
    assert fit_two_formulas(made([lines[:2]]), x, EXACT, (), (-300, 300)) is not None
    assert fit_two_formulas(made([lines]), x, EXACT, (), (-300, 300)) is None
    assert fit_two_formulas(made([lines[:2]], low=None), x, EXACT, (), (-300, 300)) is None
    assert fit_two_formulas(made([lines[:2]]), x, EXACT, (), (-300, (1 << 53) + 1)) is None
    assert fit_two_formulas(made([lines[:2]]), x, Shift(None, Rounding.FLOOR), (), (-300, 300)) is None


def test_ties_to_even_need_no_table_and_other_ties_do():
    for mode, table in [
        ("half_even", False),
        ("half_up", False),
        ("floor", False),
        ("half_away", True),
        ("away", True),
    ]:
        node = made([[(None, Fraction(1, 4), Fraction(0))]], rounding=mode)
        rounder = fit(node, [tensor(-999, 999)], EXACT, (), (-999, 999))
        assert bool(rounder.table.size) == table, mode
    # of one sign only, they go one way
    node = made([[(None, Fraction(1, 4), Fraction(0))]], rounding="half_away")
    assert not fit(node, [tensor(0, 999)], EXACT, (), (0, 999)).table.size


def test_a_relu_of_signed_codes_and_a_sign_have_formulas():
    relu = made([[(None, Fraction(0), Fraction(0)), (3, Fraction(1, 7), Fraction(-3, 7))]])
    rounder = fit(relu, [tensor(-500, 500)], EXACT, (), (-500, 500))
    assert (rounder.low, rounder.high) == (0, 71)
    sign = made([[(None, Fraction(0), Fraction(-1)), (0, Fraction(0), Fraction(1))]], low=-1, high=1)
    assert compare(sign, EXACT, (), (-99, 99), np.arange(-99, 100)[None])
    assert fit(sign, [tensor(-99, 99)], EXACT, (), (-99, 99), codes=(-4, 4)) is None
    assert fit(relu, [tensor(-500, 500)], EXACT, (), (-500, 500), codes=(0, 255)).high == 255
    assert fit(relu, [tensor(-500, 500)], EXACT, (), (-500, 500), codes=(0, 70)) is None


def test_bounds_that_are_missing():
    """The codes within reach serve as clip, if they are few."""
    node = made([[(None, Fraction(1, 3), Fraction(1))]], low=None, high=None)
    rounder = fit(node, [tensor(-300, 300)], EXACT, (), (-300, 300))
    assert (rounder.low, rounder.high) == (-99, 101)
    assert fit(node, [tensor(-300, 300)], EXACT, (), (-(1 << 20), 1 << 20)) is None
    assert fit(node, [tensor(-300, 300)], EXACT, (), (-(1 << 62), 1 << 62)) is None


def test_codes_of_sixteen_bits_and_their_limit():
    node = made([[(None, Fraction(3, 1 << 10), Fraction(1, 3))]], low=-(1 << 15), high=(1 << 15) - 1)
    reach = -(1 << 25), 1 << 25
    rng = np.random.default_rng(0)
    acc = np.concatenate([rng.integers(*reach, 5000), np.arange(-9999, 9999)])[None]
    for form in (EXACT, Float32(), FixedPoint(32, Rounding.HALF_UP)):
        assert compare(node, form, (), reach, acc, False)
    many = made([[(None, Fraction(3, 1 << 10), Fraction(1, 3))]] * 70, low=-(1 << 15), high=(1 << 15) - 1)
    assert fit(many, [tensor(*reach)], EXACT, (), reach) is not None
    assert fit(many, [tensor(*reach)], Float32(), (), reach) is None
    wider = made([[(None, Fraction(3, 1 << 8), Fraction(1, 3))]], low=-(1 << 17), high=1 << 17)
    assert fit(wider, [tensor(*reach)], EXACT, (), reach) is None


def test_what_may_not_be_monotone_or_is_refused_has_no_formula():
    x, acc = [tensor(-3000, 3000)], np.arange(-3000, 3001)
    line = made([[(None, Fraction(1, 9), Fraction(20))]])
    up = FixedPoint(32, Rounding.HALF_UP)
    assert fit(line, x, up, (Stage(None, 12, "wrap"),), (-3000, 3000)) is None
    assert fit(line, x, up, (Stage(None, 12, "saturate"),), (-3000, 3000)) is not None
    for reach, exists in (
        ((-2228, 0), True),
        ((-2229, 0), False),
        ((0, 1867), True),
        ((0, 1868), False),
        ((0, 4200), False),
        ((-4300, 0), False),
    ):
        assert (fit(line, x, up, (Stage(None, 12, "wrap"),), reach) is not None) == exists  # the bias is 180
    codes = requantize(line, [acc], x, up, (Stage(None, 12, "wrap"),))
    assert (np.diff(codes) < 0).any()
    steep = made([[(None, Fraction(1 << 20), Fraction(0))]])
    double = FixedPoint(32, None, True)
    assert fit(steep, x, double, (), (-3000, 3000)) is None
    assert (np.diff(requantize(steep, [acc], x, double, ())) < 0).any()
    assert fit(steep, x, double, (), (-1024, 1023)) is not None
    assert fit(made([[(None, Fraction(-1, 9), Fraction(0))]]), x, Tosa(32), (), (-9, 9)) is None
    assert fit(line, x, Shift(None, Rounding.FLOOR), (), (-9, 9)) is None
    bent = made([[(None, Fraction(-1, 9), Fraction(0)), (0, Fraction(1, 9), Fraction(0))]])
    assert fit(bent, x, EXACT, (), (-3000, 3000)) is None
    assert fit(bent, x, EXACT, (), (0, 3000)) is not None
    assert fit(bent, x, EXACT, (), (-3000, 0)) is not None


@pytest.mark.parametrize("form", [EXACT, Thresholds(), Shift(None, Rounding.HALF_UP)])
def test_a_sum_of_tensors(form):
    """The formula is of the combined accumulator; schemes that rescale each operand have none."""
    cells = [[(None, Fraction(1, 32), Fraction(1, 3))], [(None, Fraction(-1, 64), Fraction(1, 2))]]
    arrays = {"coefficients": np.array([[3], [-5]])}
    node = made(cells, arrays=arrays, inputs=("a", "b"))
    tensors = [tensor(-128, 127, "a"), tensor(0, 255, "b")]
    reach = -3 * 128 - 5 * 255, 3 * 127
    rounder = fit(node, tensors, form, (Stage(None, 12, "wrap"),), reach)
    a, b = (v.reshape(1, 1, -1).repeat(2, 1) for v in np.meshgrid(np.arange(-128, 128), np.arange(256)))
    expected = requantize(node, [a, b], tensors, form, (Stage(None, 12, "wrap"),))
    np.testing.assert_array_equal(codes_of(3 * a - 5 * b, rounder), expected)
    assert fit(node, tensors, Float32(), (), reach) is None


def test_scales_beyond_binary64():
    for scale in (Fraction(10) ** 400, Fraction(1, 10**400)):
        node = made([[(None, scale, Fraction(1, 2) - scale)]])
        acc = np.arange(-3, 4)[None]
        compare(node, EXACT, (), (-3, 3), acc)
    with pytest.raises(IntsimError):
        requantize(node, [acc], [tensor(-3, 3)], Float32(), ())
    assert fit(node, [tensor(-3, 3)], Float32(), (), (-3, 3)) is None
