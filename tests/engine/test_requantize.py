"""The requantizer schemes on whole nodes against an element by element twin in Python integers."""

import gc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.requantizers.fixed_point import quantize_multiplier
from intsim.arithmetic.rounding import Rounding
from intsim.engine.requantize import node as engine
from intsim.engine.requantize.node import cell_layout, known_fit, run_requantize
from intsim.errors import IntsimError
from intsim.graph import Node, Tensor, rationals
from intsim.ops import OPS
from intsim.ops.pieces import pieces_json
from intsim.ops.requantize import requantize
from intsim.targets import Target
from tests import twins


def target(stage=None, **requantize):
    stages = [] if stage is None else [{"sum": "rest", "bits": stage[0], "overflow": stage[1]}]
    return Target.model_validate(
        {"name": "t", "title": "t", "source": ["s"], "accumulate": {"stages": stages}, "requantize": requantize}
    )


def made(cells, pieces, zero=0, low=-128, high=127, rounding="half_even", arrays=None, inputs=("x",)):
    attributes = {
        "cells": list(cells),
        "pieces": pieces_json(pieces),
        "rounding": rounding,
        "zero": zero,
        "low": low,
        "high": high,
    }
    return Node("requantize", "n", inputs, "y", attributes, arrays or {})


def tensor(array, name="x"):
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    return Tensor(name, array.shape, low, high, rationals(1), rationals(0))


def twin(acc, pieces, chosen, stage, rounding, node_rounding):
    """One element of one cell."""
    form = chosen.requantize
    _, scale, offset = [p for p in pieces if p[0] is None or acc >= p[0]][-1]
    if scale == 0:
        return twins.round_fraction(offset, form.rounding or node_rounding)
    if offset:
        acc += twins.round_fraction(offset / scale, "half_even")
        acc = acc if stage is None else twins.kept(acc, *stage)
    return twins.requantized(form, acc, scale, node_rounding)


STAGES = st.sampled_from([(32, "wrap"), (32, "saturate"), (20, "wrap"), (20, "saturate")])
SCALES = st.one_of(
    st.fractions(-2, 2, max_denominator=1 << 20),
    st.sampled_from([Fraction(1, 1 << k) for k in range(12)] + [Fraction(-1, 16)]),
)


@given(st.data(), STAGES, st.sampled_from(["exact", "thresholds", "fixed", "double", "shift", "float32"]))
def test_schemes(data, stage, scheme):
    draw = data.draw
    mode = draw(st.sampled_from(list(Rounding)))
    forms = {
        "fixed": {"scheme": "fixed-point", "multiplier_bits": draw(st.sampled_from([8, 16, 31, 32])), "rounding": mode},
        "double": {
            "scheme": "fixed-point",
            "multiplier_bits": draw(st.sampled_from([16, 32])),
            "double_rounding": True,
        },
        "shift": {"scheme": "shift", "rounding": mode},
    }
    chosen = target(
        stage, **{k: str(v) if k == "rounding" else v for k, v in forms.get(scheme, {"scheme": scheme}).items()}
    )
    cells = draw(st.sampled_from([(1, 1, 1), (1, 3, 1)]))
    power = st.sampled_from([Fraction(s, 1 << k) for k in range(10) for s in (1, -1)] + [Fraction(0)])
    offsets = st.fractions(-300, 300, max_denominator=64)
    pieces = []
    for _ in range(max(cells)):
        starts = [None, *sorted(draw(st.sets(st.integers(-500, 500), max_size=2)))]
        pieces.append([(s, draw(power if scheme == "shift" else SCALES), draw(offsets)) for s in starts])
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    reach = draw(st.sampled_from([600, 1 << 19]))
    acc = rng.integers(-reach, reach, (2, 3, 5))
    node_mode = draw(st.sampled_from(list(Rounding)))
    node = made(cells, pieces, draw(st.integers(-5, 5)), rounding=str(node_mode))
    codes = run_requantize(node, [acc], [tensor(acc)], chosen)
    if scheme in ("exact", "thresholds"):
        np.testing.assert_array_equal(codes, OPS["requantize"].evaluate(node, acc))
        return
    for index in np.ndindex(*acc.shape):
        y = twin(int(acc[index]), pieces[index[1] if len(pieces) > 1 else 0], chosen, stage, mode, node_mode)
        assert codes[index] == min(max(y + node.attributes["zero"], -128), 127), index


@pytest.mark.parametrize("name", Target.names())
@pytest.mark.parametrize("scale", [Fraction(1, 10**30), Fraction(1, 10**12), Fraction(-1, 10**30)])
@pytest.mark.parametrize("offset", [Fraction(5, 2), Fraction(-300)])
def test_a_dead_channel(name, scale, offset):
    """A BatchNormalization slope of next to nothing: the bias in accumulator LSBs is beyond 64 bits.

    Every target that takes such a scale answers with integers in range; an exact requantizer with the offset alone.
    """
    chosen = Target.load(name)
    acc = np.arange(-3, 4)
    node = made((1,), [[(None, scale, offset)]])
    apart = chosen.requantize.reads != "sum"  # of sums and bias apart, for which this node has no layer
    if apart or chosen.requantize.scheme == "shift" or (chosen.requantize.scheme == "tosa" and scale < 0):
        with pytest.raises(IntsimError, match=f"target {name}: "):
            run_requantize(node, [acc], [tensor(acc)], chosen)
        return
    out = run_requantize(node, [acc], [tensor(acc)], chosen)
    assert out.dtype == np.int64
    assert ((out >= -128) & (out <= 127)).all()
    if chosen.requantize.scheme in ("exact", "thresholds"):
        assert set(out.tolist()) <= ({2, 3} if offset > 0 else {-128})


@pytest.mark.parametrize(
    ("scheme", "code"),
    [
        ({"scheme": "float32"}, 5),
        ({"scheme": "shift", "rounding": "half_up"}, 5),
        # TFLite's QuantizeMultiplier flushes scales below 2^-32 or so to zero
        ({"scheme": "fixed-point", "multiplier_bits": 16, "rounding": "half_up"}, 0),
    ],
)
def test_a_dead_channel_without_registers(scheme, code):
    acc = np.arange(-3, 4)
    out = run_requantize(
        made((1,), [[(None, Fraction(1, 1 << 100), Fraction(5))]]), [acc], [tensor(acc)], target(**scheme)
    )
    assert out.tolist() == [code] * 7


@given(
    st.lists(st.fractions(Fraction(1, 1000), 4, max_denominator=1000), min_size=2, max_size=3), st.integers(0, 1 << 30)
)
def test_a_sum_of_tensors_is_close_to_exact(factors, seed):
    """TFLite's Add: each operand, shifted left, times its multiplier; within one code of the exact sum."""
    rng = np.random.default_rng(seed)
    common = np.lcm.reduce([f.denominator for f in factors])
    coefficients = np.array([[int(f * int(common))] for f in factors])
    arrays = [rng.integers(-128, 128, (4, 6)) for _ in factors]
    names = tuple("abc"[: len(factors)])
    node = made(
        (1,),
        [[(None, Fraction(1, int(common)), Fraction(1, 3))]],
        low=-500,
        high=500,
        arrays={"coefficients": coefficients},
        inputs=names,
    )
    exact = OPS["requantize"].evaluate(node, *arrays)
    for form in (
        {"scheme": "fixed-point", "multiplier_bits": 32, "double_rounding": True},
        {"scheme": "fixed-point", "multiplier_bits": 32, "rounding": "half_up"},
        {"scheme": "float32"},
    ):
        codes = run_requantize(
            node, arrays, [tensor(a, n) for a, n in zip(arrays, names, strict=True)], target((32, "wrap"), **form)
        )
        assert np.abs(codes - exact).max() <= 1


@pytest.mark.parametrize(
    ("name", "bits", "double"), [("tosa", 32, False), ("tosa-double", 32, True), ("tosa-int16", 16, False)]
)
def test_tosa_targets(name, bits, double):
    """RESCALE of the biased accumulator, one element at a time; what it refuses names node, target, value and rule."""
    chosen = Target.load(name)
    acc = np.random.default_rng(bits).integers(-(1 << 20), 1 << 20, 200)
    node = made((1,), [[(None, Fraction(3, 1000), Fraction(5, 2))]], zero=-7)
    multiplier, shift = quantize_multiplier(Fraction(3, 1000), bits)
    values = [int(a) + 833 for a in acc]
    constant = [(1 << shift - 1) + ((1 << 30) * (1 if v >= 0 else -1) if double and shift > 31 else 0) for v in values]
    expected = [((v * multiplier + c) >> shift) - 7 for v, c in zip(values, constant, strict=True)]
    codes = run_requantize(node, [acc], [tensor(acc)], chosen)
    assert codes.tolist() == [min(max(e, -128), 127) for e in expected]
    with pytest.raises(IntsimError, match=rf"node n: target {name}: TOSA apply_scale_{bits}: .*multiplier >= 0"):
        run_requantize(made((1,), [[(None, Fraction(-1, 8), Fraction(0))]]), [acc], [tensor(acc)], chosen)
    steep = made((1,), [[(None, Fraction(1 << 12), Fraction(0))]])
    wide = np.array([-3, 1 << 30])
    with pytest.raises(
        IntsimError, match=rf"node n: target {name}: TOSA apply_scale_{bits}: value 1073741824 .* rule is"
    ):
        run_requantize(steep, [wide], [tensor(wide)], chosen)


def test_scales_a_scheme_cannot_take():
    acc = np.arange(3)
    node = made((1,), [[(None, Fraction(1, 3), Fraction(0))]])
    with pytest.raises(IntsimError, match=r"node n: target t: .*power of two"):
        run_requantize(node, [acc], [tensor(acc)], target(scheme="shift", rounding="floor"))
    wide = np.array([1 << 40])
    with pytest.raises(IntsimError, match=r"node n: target t: .*32-bit"):
        run_requantize(
            node, [wide], [tensor(wide)], target(scheme="fixed-point", multiplier_bits=32, double_rounding=True)
        )
    pair = made(
        (1,), [[(None, Fraction(1), Fraction(0))]], arrays={"coefficients": np.array([[1], [3]])}, inputs=("a", "b")
    )
    with pytest.raises(IntsimError, match="quantize the inputs"):
        run_requantize(pair, [wide, wide], [tensor(wide, "a"), tensor(wide, "b")], target(scheme="float32"))


LINE = [(None, Fraction(3, 100), Fraction(7, 5))]
FLOAT32 = {"scheme": "float32"}


@pytest.mark.parametrize(
    ("shape", "cells", "layout"),
    [
        ((2, 3, 4, 5), (1, 3, 1, 1), (2, 3, 20)),
        ((2, 3, 4, 5), (3, 1, 1), (2, 3, 20)),
        ((2, 3, 4, 5), (1,), (1, 1, 120)),
        ((2, 3, 4, 5), (), (1, 1, 120)),
        ((2, 3, 4, 5), (5,), (24, 5, 1)),
        ((2, 3, 4, 5), (3, 4, 1), (2, 12, 5)),
        ((2, 3, 1, 5), (3, 1, 5), (2, 15, 1)),
        ((2, 3, 4, 5), (3, 1, 5), None),
        ((0, 3), (3,), (0, 3, 1)),
    ],
)
def test_cells_are_a_block_of_axes_or_there_is_no_layout(shape, cells, layout):
    assert cell_layout(shape, cells) == layout


@pytest.mark.parametrize("form", [{"scheme": "exact"}, FLOAT32, {"scheme": "shift", "rounding": "half_up"}])
@pytest.mark.parametrize(
    ("shape", "cells"),
    [((2, 3, 4), (3, 1)), ((2, 3, 4), (3, 4)), ((2, 1, 4), (3, 1)), ((2, 3, 4), (2, 1, 4)), ((4,), (3, 1))],
)
def test_any_place_of_the_cells(form, shape, cells):
    rng = np.random.default_rng(0)
    acc = rng.integers(-3000, 3000, shape)
    pieces = [[(None, Fraction(int(s), 64), Fraction(int(b), 4))] for s, b in rng.choice([-2, -1, 1, 4], (12, 2))]
    node, chosen = made(cells, pieces[: int(np.prod(cells))]), target((32, "wrap"), **form)
    codes = run_requantize(node, [acc], [tensor(acc)], chosen)
    assert codes.dtype == np.int64
    np.testing.assert_array_equal(codes, requantize(node, [acc], [tensor(acc)], chosen.requantize, chosen.stages))


def test_accumulators_that_leave_the_tensors_range(monkeypatch):
    """A register that wrapped holds others: they have a formula of their own, or else the definition."""
    used = []
    monkeypatch.setattr(engine, "requantize", lambda *a: used.append(1) or requantize(*a))
    node, chosen = made((1,), [LINE]), target((12, "wrap"), scheme="exact")
    told = tensor(np.array([-300, 300]))
    for reach, definitions in ((300, 0), (2047, 0), (2048, 0), (2049, 1)):
        acc = np.arange(-reach, min(reach, 2048 - (reach < 2049)))
        codes = run_requantize(node, [acc], [told], chosen)
        np.testing.assert_array_equal(codes, OPS["requantize"].evaluate(node, acc))
        assert len(used) == definitions
    # with a bias the register wraps within its own range, but not within the tensor's
    fixed = target((12, "wrap"), scheme="fixed-point", multiplier_bits=32, rounding="half_up")
    for reach, definitions in ((300, 1), (2047, 2)):
        acc = np.arange(-reach, reach)
        codes = run_requantize(node, [acc], [told], fixed)
        np.testing.assert_array_equal(codes, requantize(node, [acc], [told], fixed.requantize, fixed.stages))
        assert len(used) == definitions


def test_a_proof_longer_than_the_work_is_left():
    node = made((1,), [LINE], low=-(1 << 15), high=(1 << 15) - 1)
    told, chosen = tensor(np.array([-(1 << 30), 1 << 30])), target(scheme="exact")
    few, many = np.arange(-9, 9), np.arange(-9999, 9999)
    for acc in (few, many):
        np.testing.assert_array_equal(
            run_requantize(node, [acc], [told], chosen), OPS["requantize"].evaluate(node, acc)
        )
    wide = made((1, 4), [LINE] * 4, low=-(1 << 15), high=(1 << 15) - 1)
    run_requantize(wide, [few[:, None]], [told], chosen)
    assert not [k for k in engine.remembered if k[0] == id(wide)]
    run_requantize(wide, [many[:, None]], [told], chosen)
    assert [k for k in engine.remembered if k[0] == id(wide)]


def test_formulas_are_remembered_for_the_node_itself(monkeypatch):
    acc = np.arange(-9, 9)
    chosen, told = target(scheme="exact"), [tensor(acc)]
    first, second = made((1,), [LINE]), made((1,), [[(None, Fraction(1), Fraction(0))]])
    reach = (-9, 8)
    one = known_fit(first, told, chosen.requantize, chosen.stages, reach)
    assert known_fit(first, told, chosen.requantize, chosen.stages, reach) is one
    assert known_fit(first, told, chosen.requantize, chosen.stages, (-9, 9)) is not one
    # a node that has the number of one that is gone
    entry = engine.remembered[id(first), chosen.requantize, tuple(chosen.stages), reach]
    engine.remembered[id(second), chosen.requantize, tuple(chosen.stages), reach] = entry
    assert known_fit(second, told, chosen.requantize, chosen.stages, reach).scale[0] == 1
    key = id(first)
    del first
    gc.collect()
    assert not [k for k in engine.remembered if k[0] == key]
    monkeypatch.setattr(engine, "MOST_FITS", 2)
    for end in range(20):
        known_fit(second, told, chosen.requantize, chosen.stages, (-9, end))
    assert len(engine.remembered) == 2


def test_no_elements():
    acc = np.zeros((0, 3), np.int64)
    assert run_requantize(made((3,), [LINE] * 3), [acc], [tensor(acc)], target(scheme="exact")).shape == (0, 3)


@pytest.mark.parametrize("form", [{"scheme": "exact"}, {"scheme": "thresholds"}, FLOAT32])
def test_a_residual_addition(form):
    rng = np.random.default_rng(1)
    a, b = rng.integers(-128, 128, (2, 3, 50)), rng.integers(0, 256, (2, 3, 50))
    coefficients = rng.integers(-99, 99, (2, 3, 1))
    cells = [[(None, Fraction(1, 64), Fraction(k, 3))] for k in range(3)]
    node, chosen = made((3, 1), cells, arrays={"coefficients": coefficients}, inputs=("a", "b")), target(**form)
    told = [tensor(a, "a"), tensor(b, "b")]
    expected = requantize(node, [a, b], told, chosen.requantize, chosen.stages)
    np.testing.assert_array_equal(run_requantize(node, [a, b], told, chosen), expected)
