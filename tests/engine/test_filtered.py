"""Requantizers of many codes against rationals: at edges, next to them, on ties, with every rounding."""

from fractions import Fraction
from math import gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.engine.requantize.filtered import SHIFTS, filtered
from intsim.engine.requantize.kernels import requantize_dense
from intsim.graph import Node

from .test_corners import Build

U16, S16 = IntegerType(16, False), IntegerType(16, True)
REACH = 1 << 36


def node(lines, rounding, low, high, zero):
    pieces = [[[None, str(s), str(b)]] for s, b in lines]
    at = {"cells": [1, len(lines), 1], "pieces": pieces, "rounding": rounding, "zero": zero, "low": low, "high": high}
    return Node("requantize", "n", ("x",), "y", at, {})


@st.composite
def scales(draw):
    """Steep and flat, of both signs; powers of two, whose ties are many, and what is next to them."""
    if draw(st.booleans()):
        found = Fraction(2) ** draw(st.integers(-20, 1))
    else:
        found = Fraction(draw(st.integers(1, 1 << 24)), 1 << draw(st.integers(20, 44)))
    return found * draw(st.sampled_from([1, -1])) * (1 + Fraction(draw(st.sampled_from([0, 0, 1, -1])), 1 << 60))


@settings(deadline=None)
@given(st.data())
def test_codes_are_those_of_rationals(data):
    draw = data.draw
    kind, rounding = draw(st.sampled_from([U16, S16])), draw(st.sampled_from(sorted(SHIFTS)))
    zero = draw(st.sampled_from([0, 0, kind.min, 32768, -7]))
    lines = [
        (draw(scales()), Fraction(draw(st.integers(-(1 << 36), 1 << 36)), 1 << draw(st.sampled_from([0, 1, 21, 36]))))
        for _ in range(draw(st.integers(1, 4)))
    ]
    rule = filtered(node(lines, rounding, kind.min, kind.max, zero), Exact(), (-REACH, REACH))
    assert rule is not None
    accumulators = []
    for scale, offset in lines:
        codes = [draw(st.integers(kind.min - 2, kind.max + 2)) for _ in range(4)]
        edges = [(k - zero + half - offset) / scale for k in codes for half in (Fraction(1, 2), 0, Fraction(-1, 2))]
        near = [e.__floor__() + d for e in edges for d in (-1, 0, 1, 2)]
        accumulators.append([min(max(a, -REACH), REACH) for a in [*near, 0, 1, -1, REACH, -REACH]])
    acc = np.array([accumulators], np.int64)
    made = requantize_dense(acc, rule, np.empty(acc.shape, np.uint16 if kind is U16 else np.int16))
    for c, (scale, offset) in enumerate(lines):
        right = [
            min(max(round_fraction(scale * a + offset, rounding) + zero, kind.min), kind.max) for a in accumulators[c]
        ]
        assert made[0, c].tolist() == right
        alone = requantize_dense(
            np.ascontiguousarray(acc.swapaxes(1, 2)).reshape(-1, len(lines), 1),
            rule,
            np.empty((acc.shape[2], len(lines), 1), made.dtype),
        )
        assert alone[:, c, 0].tolist() == right  # one number a cell is another loop


def test_ties_by_the_thousand():
    """Every second number is one; none may be left to float64, which sends them to even codes."""
    for rounding in (Rounding.HALF_UP, Rounding.HALF_AWAY, Rounding.HALF_TOWARD_ZERO, Rounding.HALF_EVEN):
        rule = filtered(node([(Fraction(1, 2), Fraction(0))], rounding, -32768, 32767, 0), Exact(), (-70000, 70000))
        acc = np.arange(-70000, 70001, dtype=np.int32).reshape(1, 1, -1)
        right = [min(max(round_fraction(Fraction(int(a), 2), rounding), -32768), 32767) for a in acc.reshape(-1)]
        assert requantize_dense(acc, rule, np.empty(acc.shape, np.int16)).reshape(-1).tolist() == right


def test_numbers_nearer_to_an_edge_than_float64_can_tell():
    """Half plus or minus 2^-35 behind a sum of numbers of 2^24, whose rounding alone is up to 2^-30."""
    rng, flips = np.random.default_rng(4), 0
    for _ in range(200):
        q, p = int(rng.integers(1 << 33, 1 << 34)) | 1, int(rng.integers(1 << 20, 1 << 24))
        if gcd(p, q) > 1:
            continue
        for top in (q - 1, q + 1):
            acc = top // 2 * pow(p, -1, q) % q  # p * acc / q is so much and top / 2q
            scale, code = Fraction(p, q), int(rng.integers(0, 65535))
            offset = Fraction(code - p * acc // q)
            rule = filtered(node([(scale, offset)], Rounding.HALF_EVEN, 0, 65535, 0), Exact(), (0, q))
            made = requantize_dense(np.array([[[acc]]]), rule, np.empty((1, 1, 1), np.uint16))
            assert made[0, 0, 0] == round_fraction(scale * acc + offset, Rounding.HALF_EVEN) == code + (top > q)
            flips += int(np.rint(rule.scale[0] * acc + rule.offset[0])) != made[0, 0, 0]
    assert flips > 50  # float64 alone is wrong


@pytest.mark.parametrize("rounding", [Rounding.AWAY, Rounding.TOWARD_ZERO])
def test_roundings_by_sign_have_none(rounding):
    assert filtered(node([(Fraction(1, 3), Fraction(0))], rounding, 0, 65535, 0), Exact(), (0, 99)) is None


def test_sums_of_tensors_and_layers_with_many_codes():
    """In a program: behind a layer, behind an addition, with one scale and with one a channel."""
    net = Build(2, 6, 5, 5, kind=S16)
    y = net.codes(net.conv("x", 600, (1, 1)), "1/2", kind=S16, cells=[f"1/{3 + c}" for c in range(600)], offset="0/1")
    coefficients = np.array([3, -5]).reshape(2, 1, 1, 1, 1)
    at = {"cells": [1, 1, 1, 1], "pieces": [[[None, "1/2", "1/2"]]], "zero": 0, "rounding": "half_up"}
    z = net.add("requantize", [y, y], {**at, "low": 0, "high": 65535}, U16, coefficients=coefficients)
    net.check(z, y)
