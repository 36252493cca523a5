"""A requantizer's certificate says of every accumulator what trying each of them says, for registers up to 20 bits."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage
from intsim.graph import IntegerGraph, Node, Tensor, rationals
from intsim.ops.pieces import pieces_json
from intsim.ops.requantize import formulas
from intsim.proofs.requantizers import certify_requantizer
from intsim.testing import integer_types, requantizers, scales

SCHEMES = ("exact", "thresholds", "fixed-point", "float32", "shift")
# TOSA's refusals are values too; tests/proofs/test_requantizers.py tries them


def graph_of(scale, offset, kind, mode, bits):
    attributes = {"cells": [1], "pieces": pieces_json([[(None, scale, offset)]]), "rounding": mode}
    attributes |= {"zero": 0, "low": kind.min, "high": kind.max}
    node = Node("requantize", "n", ("x",), "y", attributes, {})
    graph = IntegerGraph("g", inputs=["x"])
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    graph.tensors["x"] = Tensor("x", (1,), low, high, rationals(1), rationals(0))
    graph.add(node, Tensor("y", (1,), kind.min, kind.max, rationals(1), rationals(0)))
    return graph, node


def rounded(top, bottom, mode):
    """Quotients of int64 arrays, rounded by the textbook: the nearest with ties by name, or a direction."""
    floor, rest = top // bottom, top % bottom
    up = {
        "half_even": (2 * rest > bottom) | ((2 * rest == bottom) & (floor % 2 == 1)),
        "half_away": (2 * rest > bottom) | ((2 * rest == bottom) & (top > 0)),
        "half_up": 2 * rest >= bottom,
        "half_toward_zero": (2 * rest > bottom) | ((2 * rest == bottom) & (top < 0)),
        "floor": rest < 0,
        "ceil": rest > 0,
        "away": (rest > 0) & (top > 0),
        "toward_zero": (rest > 0) & (top < 0),
    }[mode]
    return floor + up


def check(form, scale, offset, kind, mode, bits):
    if form.scheme == "shift":
        scale = Fraction(1, 1 << max(0, scale.denominator.bit_length() - 1))
    graph, node = graph_of(scale, offset, kind, mode, bits)
    stages = (Stage(None, bits, "wrap"),)
    every = np.arange(-(1 << bits - 1), 1 << bits - 1)
    bottom = scale.denominator * offset.denominator
    top = every * (scale.numerator * offset.denominator) + offset.numerator * scale.denominator
    exact = np.clip(rounded(top, bottom, mode), kind.min, kind.max)
    hardware = form.codes(formulas(node)[0], every, stages)
    certificate = certify_requantizer(graph, node, form, stages)
    if certificate.verdict == "refused":
        assert certificate.reason
        return
    (cell,) = certificate.cells
    wrong = np.flatnonzero(hardware != exact)
    claimed = np.concatenate([np.arange(d.low, d.high + 1) for d in cell.differences] or [np.zeros(0, int)])
    np.testing.assert_array_equal(every[wrong], claimed)
    assert cell.count == len(wrong)
    assert (certificate.verdict == "equal") == (len(wrong) == 0)
    for d in cell.differences:
        by = (hardware - exact)[d.low + (1 << bits - 1) : d.high + (1 << bits - 1) + 1]
        assert (d.least, d.most) == (by.min(), by.max())


CASES = {
    "form": requantizers(SCHEMES),
    "scale": scales(Fraction(1, 1 << 16), Fraction(2)).filter(
        lambda s: s.denominator < 1 << 30 and s.numerator < 1 << 30
    ),
    "offset": st.builds(Fraction, st.integers(-200, 200), st.sampled_from([1, 2, 3, 8])),
    "kind": integer_types(1, 10),
    "mode": st.sampled_from(
        ["half_even", "half_away", "half_up", "half_toward_zero", "floor", "ceil", "away", "toward_zero"]
    ),
}


@given(bits=st.integers(2, 14), **CASES)
def test_a_certificate_is_what_every_accumulator_says(form, scale, offset, kind, mode, bits):
    check(form, scale, offset, kind, mode, bits)


@pytest.mark.slow
@given(bits=st.integers(15, 20), **CASES)
@settings(max_examples=200)
def test_a_certificate_is_what_every_accumulator_of_20_bits_says(form, scale, offset, kind, mode, bits):
    check(form, scale, offset, kind, mode, bits)
