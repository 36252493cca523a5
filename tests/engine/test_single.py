"""Codes in float32: what is proven is right at every step, in Python integers and in the compiled loop."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.requantizers.exact import Exact
from intsim.engine.exact import isa
from intsim.engine.exact.conv import NO_SUMS, Window, WordConv, fits, spread_codes
from intsim.engine.exact.kernels import add_words
from intsim.engine.exact.layout import Layout, TensorView, pack, unpack, walk
from intsim.engine.exact.microkernels import Tile
from intsim.engine.program.words import _sum_codes
from intsim.engine.requantize.affine import RINT, AffineRequantizer
from intsim.engine.requantize.fit import fit
from intsim.engine.requantize.single import single
from intsim.graph import Node, Tensor, rationals
from intsim.ops.pieces import pieces_json

pytestmark = pytest.mark.xdist_group("engine")

AVAILABLE = isa.available()
EVERYDAY = [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in (AVAILABLE[0], AVAILABLE[-1]))) for name in AVAILABLE
]


def binary32(x: Fraction) -> Fraction:
    """The nearest number of 24 bits, ties to even."""
    if x == 0:
        return x
    unit = Fraction(2) ** (abs(x.numerator).bit_length() - x.denominator.bit_length() - 25)
    while abs(x) / unit >= 1 << 24:
        unit *= 2
    return round(x / unit) * unit


def in_integers(scale, offset, added, centre, low, high, v):
    """What `single` says its numbers mean."""
    product = binary32(binary32(Fraction(v + added)) * Fraction(scale))
    return min(max(round(binary32(product + Fraction(offset))) + centre, low), high)


def rule_of(scale, offset, low, high, reach, rounding="half_even"):
    """The formula of one cell of the exact scheme, and what it is of."""
    at = {"cells": [1, 1], "pieces": pieces_json([[(None, scale, offset)]]), "rounding": rounding, "zero": 0}
    node = Node("requantize", "n", ("x",), "y", {**at, "low": low, "high": high}, {})
    return fit(node, [Tensor("x", (1, 1, 1), *reach, rationals(1), rationals(0))], Exact(), (), reach)


def step(scale, offset, k, reach):
    """The least u = v, or -v where the scale is negative, that reaches code k, ties to even; in integers."""
    edge = (k - Fraction(1, 2) - offset) / abs(scale)
    u = edge.__ceil__()
    if u == edge and k % 2:
        u += 1  # the tie goes to the code before
    return min(max(u, -reach[1] if scale < 0 else reach[0]), (-reach[0] if scale < 0 else reach[1]) + 1)


def around_steps(scale, offset, low, high, reach):
    """Accumulators at each step and before it, at both ends and about zero, and their codes by the definition."""
    u = {s - d for k in range(low + 1, high + 1) for s in [step(scale, offset, k, reach)] for d in (0, 1)}
    found = {(-a if scale < 0 else a) for a in u} | {*reach, 0, 1, -1}
    acc = sorted(a for a in found if reach[0] <= a <= reach[1])
    return acc, [min(max(round(scale * a + offset), low), high) for a in acc]


@st.composite
def lines(draw):
    """A line whose codes are crossed within its reach, steep or next to flat, rising or falling."""
    signed, bits = draw(st.booleans()), draw(st.sampled_from([2, 4, 8, 8, 8]))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    wide = draw(st.integers(6, 30))
    kinds = st.one_of(
        st.integers(1 << 23, (1 << 24) - 1).map(lambda m: Fraction(m, 1 << 24)),
        st.sampled_from([Fraction(1), Fraction(3, 4), Fraction(2, 3), Fraction(99, 100)]),
    )
    scale = draw(kinds) * Fraction(1 << bits, 1 << wide) * draw(st.sampled_from([1, -1]))
    offset = draw(
        st.one_of(
            st.integers(-300, 300).map(lambda n: Fraction(n, 2)),
            st.fractions(-200, 200, max_denominator=1 << 12),
            st.integers(-(1 << 20), 1 << 20).map(lambda n: n * abs(scale)),
        )
    )
    most = draw(st.sampled_from([1 << wide - 1, min(1 << wide + 6, (1 << 31) - 2)])) - draw(st.integers(0, 5))
    return scale, offset, low, high, (-most, max(most - 3, 0))


@given(lines())
def test_what_is_proven_is_right_at_every_step(line):
    """By rationals alone: numbers of 24 bits, products and sums rounded to them, and the steps of the definition."""
    scale, offset, low, high, reach = line
    rule = rule_of(scale, offset, low, high, reach)
    if rule is None:
        return
    centre = (low + high + 1) // 2
    made = single(rule, centre)
    if not made.proven[0]:
        return
    given_ = made.scale[0].item(), made.offset[0].item(), int(made.added[0]), centre, low, high
    assert max(abs(v + given_[2]) for v in reach) < 1 << 31
    for v, code in zip(*around_steps(scale, offset, low, high, reach), strict=True):
        assert in_integers(*given_, v) == code


def at_all_steps(name, cells, shift):
    """Codes of the kernel: a channel for each accumulator, whose bias it is; which are in float32; how far moved."""
    acc, scales, offsets = (np.concatenate(v) for v in zip(*((a, s, o) for a, s, o, _ in cells), strict=True))
    rule = cells[0][3]
    whole = AffineRequantizer(scales, offsets, RINT, rule.low, rule.high, np.zeros((len(acc), 0), np.int64), rule.reach)
    plain = Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, (1, 3), (1, 3))
    conv = WordConv(np.ones((len(acc), 1, 1, 1), np.int64), acc, plain, 0, 0, isa.DOTS[name])
    source, layout = Layout(1, 1, 1, 3), Layout(1, len(acc), 1, 3, shift)
    view, out = TensorView(0, layout, 0, len(acc)), np.zeros(layout.size, np.uint32)
    codes = spread_codes(whole, len(acc), shift)
    for bound in conv.bind(TensorView(0, source, 0, 1), None, view, codes):
        bound.run(np.zeros(source.size, np.uint32), out, NO_SUMS)
    made = np.empty((1, len(acc), 1, 3), np.int64)
    unpack(out, view, made)
    return made[0, :, 0], np.repeat(codes.codes.single, 4)[: len(acc)], codes.added[: len(acc)]


@pytest.mark.parametrize("name", EVERYDAY)
def test_the_kernel_at_every_step(name):
    """Channels of one cell each time, some of them in float32 and some not, of all slopes up to the widest reach."""
    rng, used, moved = np.random.default_rng(7), [], 0
    for wide in (8, *range(14, 22), 27, 30):
        for sign in (1, -1):
            signed = bool(rng.integers(0, 2))
            low, high, shift = (-128, 127, 128) if signed else (0, 255, 0)
            scale = Fraction(int(rng.integers(1 << 23, 1 << 24)), 1 << 24) * Fraction(256, 1 << wide) * sign
            offset = Fraction(int(rng.integers(-99, 100)), int(rng.choice([1, 2, 7])))
            most = min(1 << wide + int(rng.integers(0, 3)), (1 << 31) - 2)
            rule = rule_of(scale, offset, low, high, (-most, most - 1))
            assert rule is not None
            acc, expected = around_steps(scale, offset, low, high, (-most, most - 1))
            cell = np.array(acc), np.repeat(rule.scale, len(acc)), np.repeat(rule.offset, len(acc)), rule
            made, quick, added = at_all_steps(name, [cell], shift)
            np.testing.assert_array_equal(made, np.repeat(np.array(expected)[:, None], 3, axis=1))
            used.append(bool(quick[0]))
            moved += bool(added.any())
    assert used.count(True) > 3
    assert used.count(False) > 2
    assert moved > 2


def test_a_reach_beyond_32_bits_and_other_roundings_are_left():
    rule = AffineRequantizer(np.full(1, 1e-3), np.zeros(1), RINT, 0, 255, np.zeros((1, 0), np.int64), (-9000, 9000))
    assert single(rule, 128).proven.all()
    for reach, kind, high in (((-(1 << 31), 0), RINT, 255), ((-9, 9), 1, 255), ((-9, 9), RINT, 256)):
        other = AffineRequantizer(rule.scale, rule.offset, kind, 0, high, rule.table, reach)
        assert not single(other, 128).proven.any()


def test_a_formula_that_a_table_corrects_may_have_another_in_float32():
    """Ties away from zero: the table says where the steps are, and some other slope has them there without it."""
    rule = rule_of(Fraction(1, 10), Fraction(0), -128, 127, (-2000, 2000), "half_away")
    assert rule is not None
    assert rule.table.size
    made = single(rule, 0)
    assert made.proven[0]
    given_ = made.scale[0].item(), made.offset[0].item(), int(made.added[0]), 0, -128, 127
    for v in range(-2000, 2001):
        away = (abs(v) + 5) // 10 * (1 if v > 0 else -1)
        assert in_integers(*given_, v) == min(max(away, -128), 127)


def all_pairs(name, cells, inputs, shift):
    """Codes (4, 256, 256) of the kernel, of each pair of bytes or of bytes alone; and whether they are in float32."""
    a, b, c, m, h = (np.array(v) for v in zip(*cells, strict=True))
    table = np.array([a, b if inputs == 2 else 0 * b, c, m / 2**20, h / 2])
    ends = (-128, 127) if shift else (0, 255)
    rule = AffineRequantizer(table[3], table[4], RINT, *ends, np.zeros((4, 0), np.int64), (-(1 << 20), 1 << 20))
    assert fits(rule)
    rounding = _sum_codes(table, 4, rule, shift)
    x, y = (np.ascontiguousarray(np.broadcast_to(v, (1, 4, 256, 256))) for v in
            (np.arange(256)[:, None], np.arange(256)[None]))  # fmt: skip
    layout, to = Layout(1, 4, 256, 256), Layout(1, 4, 256, 256, shift, 0, 1, 0, 2)
    view, target = TensorView(0, layout, 0, 4), TensorView(0, to, 0, 4)
    left, right, out = (np.zeros(lay.size, np.uint32) for lay in (layout, layout, to))
    pack(x, left, view)
    pack(y, right, view)
    size, tile = (1, 1, 256, 256), Tile(isa.DOTS[name].lanes, isa.DOTS[name].parts, inputs)
    add_words((left, *walk(view)), (right, *walk(view)), size, rounding, (out, *walk(target)), tile)
    made = np.empty((1, 4, 256, 256), np.int64)
    unpack(out, target, made)
    assert not out[: to.stride].reshape(256, -1)[:, [0, -1]].any()
    return made[0], bool(rounding.single[0])


@pytest.mark.parametrize("name", EVERYDAY)
def test_sums_of_all_pairs_of_bytes(name):
    """Ties among them; the twin rounds integers. Some cells have a formula in float32, some have none."""
    rng, used = np.random.default_rng(11), []
    x, y = np.arange(256)[:, None], np.arange(256)[None]
    for turn in range(6):
        inputs, shift = 1 + turn % 2, 128 * int(rng.integers(0, 2))
        cell = [int(v) for v in (*rng.integers(-9, 40, 2), *rng.integers(-500, 500, 2), rng.integers(-99, 99))]
        cell[3] = (abs(cell[3]) + 1) * (90 if turn < 4 else 1000)
        made, single_ = all_pairs(name, [cell] * 4, inputs, shift)
        a, b, c, m, h = cell
        value = m * (a * x + (b * y if inputs == 2 else 0 * y) + c) + h * 2**19
        below, rest = value >> 20, value & (2**20 - 1)
        code = below + ((rest > 2**19) | ((rest == 2**19) & (below % 2 == 1)))
        np.testing.assert_array_equal(
            made, np.broadcast_to(np.clip(code, *((-128, 127) if shift else (0, 255))), made.shape)
        )
        used.append(single_)
    assert True in used
