"""Machines of the space: the specification makes its vectors, mistakes make what a file or a target with them makes."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import intsim
from intsim.arithmetic.accumulate import Stage, accumulate
from intsim.arithmetic.requantizers.fixed_point import FixedPoint, quantize_multiplier
from intsim.arithmetic.rounding import Rounding
from intsim.diagnosis import faults
from intsim.diagnosis.faults import Chain
from intsim.diagnosis.kernels import Chains, sums
from intsim.diagnosis.machine import Stand
from intsim.errors import IntsimError
from intsim.golden.manifest import Manifest

from . import cases

TWO = '{ sum = 3, bits = 18, overflow = "saturate", lanes = 2 }, { sum = "rest", bits = 20, overflow = "wrap" }'
TARGETS = {
    "raw": cases.target(),
    "corrected": cases.target(operands=False),
    "late": cases.target(bias="after"),
    "lanes": cases.target(TWO, bias="after"),
    "skipped": cases.target(more='padding = "skipped"'),
    "taps": cases.target('{ sum = 2, bits = 16, overflow = "saturate", restart = "tap" }, ' + cases.STAGES),
    "order": cases.target('{ sum = "rest", bits = 18, overflow = "saturate" }', order="cin kh kw"),
    "twice": cases.target(requantize='scheme = "fixed-point"\nmultiplier_bits = 16\ndouble_rounding = true'),
    "float": cases.target(requantize='scheme = "float32"'),
    "behind": cases.target(requantize='scheme = "exact"', bias="requantizer"),
    "lsb": cases.target(
        '{ sum = 1, bits = 22, overflow = "wrap", lsb = -14, rounding = "floor" }, '
        '{ sum = "rest", bits = 24, overflow = "saturate" }',
        requantize='scheme = "exact"',
        operands=False,
    ),
}


def results(folder, made=None):
    """What a machine makes of the operands of a folder's layer, in the order of its result."""
    space = cases.space(folder)
    codes = cases.tensor(folder, "operand")
    stand = Stand(space, codes, np.arange(space.layer.extent[0]))
    got = stand.results(made(space) if made else space.specification).reshape(len(codes), -1)
    out = np.empty_like(got)
    out[:, space.layer.outputs.reshape(-1)] = got
    return out.reshape(len(codes), *space.layer.result_shape)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("model", [cases.conv(), cases.conv(channels=4, group=2, relu=False), cases.dense()])
def test_the_specification_makes_its_vectors(tmp_path, name, model):
    on = TARGETS[name]
    try:
        folder = cases.vectors(tmp_path / "v", model, on, 2)
    except IntsimError as error:
        pytest.skip(str(error))
    np.testing.assert_array_equal(results(folder), cases.tensor(folder))


def changed(**what):
    """A machine of other choices on some axes."""
    return lambda space: replace(space.specification, **what)


@pytest.mark.parametrize(
    ("words", "other"),
    [
        ("the kernel is turned by 180 degrees", {"w": lambda w: w[:, :, ::-1, ::-1]}),
        ("the kernel's rows and columns are swapped", {"w": lambda w: w.swapaxes(2, 3)}),
        ("input channels of the weights are in reverse order", {"w": lambda w: w[:, ::-1]}),
        ("output channels of the weights are in reverse order", {"w": lambda w: w[::-1]}),
        ("weights stored as O I H W are read as O H W I", {"w": lambda w: np.moveaxis(w.reshape(4, 3, 3, 3), -1, 1)}),
        ("windows begin one row early", {"pads": (2, 1, 0, 1)}),
        ("windows begin one column late", {"pads": (1, 0, 1, 2)}),
        ("the activation's zero point is not taken off", {"zero": 0, "pads": (1, 1, 1, 1)}),
        ("padding is the code 0, not the zero point", None),
    ],
)
@pytest.mark.parametrize("operands", [True, False])
def test_mistakes_of_operands_are_those_of_another_file(tmp_path, words, other, operands):
    """The other file is run on the same codes: real inputs that its own quantizer makes them of."""
    on = cases.target(operands=operands)
    folder = cases.vectors(tmp_path / "v", cases.conv(), on)
    codes = cases.tensor(folder, "operand")[0]
    if other is None:  # codes 0 around the image, and no padding
        model = cases.conv(pads=(0, 0, 0, 0), size=(8, 7))
        codes = np.pad(codes, [(0, 0), (0, 0), (1, 1), (1, 1)])
    elif "zero" in other:  # stored padding holds the zero point's code
        model = cases.conv(zero=0, pads=(0, 0, 0, 0), size=(8, 7))
        codes = np.pad(codes, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=7)
    else:
        model = cases.conv(**other)
    intsim.vectors(model, on, out=tmp_path / "w", layer=["conv"], formats=["npy"], operands=codes[None])
    got = results(folder, changed(operand=words))
    np.testing.assert_array_equal(got, cases.tensor(tmp_path / "w"))
    assert (got != cases.tensor(folder)).any()


@pytest.mark.parametrize(
    ("words", "other"),
    [
        ("the bias is left out", lambda b: 0 * b),
        ("the bias is added twice", lambda b: 2 * b),
        ("the bias is subtracted", lambda b: -b),
        ("the bias is that of the channel before", lambda b: np.roll(b, 1)),
        ("biases are in reverse order", lambda b: b[::-1]),
        ("the bias wraps to 8 bits", lambda b: b.astype(np.int8).astype(np.int32)),
    ],
)
def test_mistakes_of_the_bias_are_those_of_another_file(tmp_path, words, other):
    folder = cases.vectors(tmp_path / "v", cases.conv(), cases.target())
    wrong = cases.vectors(tmp_path / "w", cases.conv(b=other), cases.target())
    np.testing.assert_array_equal(results(folder, changed(bias=words)), cases.tensor(wrong))


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ({"place": "after"}, {"bias": "after"}),
        ({"order": "products arrive cin kh kw"}, {"order": "cin kh kw"}),
        ("the accumulator saturates at 17 bits", {"stages": '{ sum = "rest", bits = 17, overflow = "saturate" }'}),
        (
            "2 products at a time add up in 14 bits that saturate first",
            {"stages": '{ sum = 2, bits = 14, overflow = "saturate" }, ' + cases.STAGES},
        ),
        (
            "4 lanes of 15 bits that saturate first",
            {"stages": '{ sum = "rest", bits = 15, overflow = "saturate", lanes = 4 }, ' + cases.STAGES},
        ),
        ("a multiplier of 7 bits", {"requantize": cases.REQUANTIZE.replace("32", "7")}),
        ("a multiplier that rounds floor", {"requantize": cases.REQUANTIZE.replace("half_up", "floor")}),
        ("multiplies in binary32", {"requantize": 'scheme = "float32"'}),
    ],
)
def test_mistakes_of_a_machine_are_those_of_another_target(tmp_path, what, other):
    narrow = '{ sum = "rest", bits = 17, overflow = "saturate" }'
    base = {"stages": narrow} if isinstance(what, dict) else {}
    folder = cases.vectors(tmp_path / "v", cases.conv(), cases.target(**base))
    wrong = cases.vectors(tmp_path / "w", cases.conv(), cases.target(**{**base, **other}))

    def made(space):
        if isinstance(what, dict):
            return changed(**what)(space)
        chain = next((c for c in space.chains if c.words == what), space.chains[0])
        rounder = next((r for r in space.rounders if r.words == what), space.rounders[0])
        assert chain.words or rounder.words
        return changed(chain=chain, rounder=rounder)(space)

    np.testing.assert_array_equal(results(folder, made), cases.tensor(wrong))


STAGE = st.builds(
    Stage,
    st.one_of(st.none(), st.integers(1, 5)),
    st.integers(3, 12),
    st.sampled_from(["wrap", "saturate"]),
    st.integers(1, 3),
)
LAST = st.builds(Stage, st.none(), st.integers(3, 14), st.sampled_from(["wrap", "saturate"]))


@settings(deadline=None)
@given(st.lists(STAGE, max_size=2), LAST, st.integers(1, 12), st.integers(0, 1 << 30), st.data())
def test_compiled_chains_are_the_definition(before, last, depth, seed, data):
    """Any chain: lanes, restarts, dropped bits."""
    taken = []
    for stage in before:
        taken.append(stage)
        if stage.sum is None:
            break
    if taken and taken[0].sum is not None and data.draw(st.booleans()):
        taken[0] = Stage(taken[0].sum, taken[0].bits, taken[0].overflow, taken[0].lanes, data.draw(st.integers(1, 5)))
    if not taken and data.draw(st.booleans()):
        mode = data.draw(st.sampled_from(list(Rounding)))
        taken = [Stage(1, 12, "wrap", 1, None, None, data.draw(st.integers(1, 4)), str(mode))]
    if any(s.sum is None and s.lanes > 1 for s in taken[:-1]):
        return
    stages = (*taken, last)
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-40, 40, (3, depth)), rng.integers(-40, 40, (2, depth))
    first, late = rng.integers(-300, 300, 2), rng.integers(-300, 300, (3, 2))
    chains, out = Chains.of([stages]), np.zeros((3, 2), np.int64)
    sums(x, w, chains.stages[0], chains.counts[0], first, late, out)
    right = accumulate(x[:, None] * w, stages, first, late)[0]
    np.testing.assert_array_equal(out, right)


@pytest.mark.parametrize("bits", [5, 9, 14])
def test_a_register_that_saturates_symmetrically(bits):
    rng = np.random.default_rng(bits)
    x, w = rng.integers(-40, 40, (20, 12)), rng.integers(-40, 40, (3, 12))
    chains, out = Chains.of([(faults.Symmetric(None, bits, "saturate"),)]), np.zeros((20, 3), np.int64)
    sums(x, w, chains.stages[0], chains.counts[0], np.zeros(3, np.int64), np.zeros((20, 3), np.int64), out)
    most = 2 ** (bits - 1) - 1
    for (p, c), got in np.ndenumerate(out):
        register = 0
        for product in (x[p] * w[c]).tolist():
            register = min(max(register + product, -most), most)
        assert got == register
    assert (np.abs(out) <= most).all()
    assert (out == -most).any() == (bits < 14)


@pytest.mark.parametrize("quarters", [0, 1, 2, 4])
def test_wrong_rounding_constants(quarters):
    """floor(x + quarters / 4), once, or of the high product of two roundings."""
    acc, scale, bits = np.arange(-40_000, 40_000, 77), Fraction(93, 65536), 8
    multiplier, shift = quantize_multiplier(scale, bits)
    once = faults.Constants(bits, Rounding.HALF_UP, False, quarters).multiply(acc, scale)
    twice = faults.Constants(bits, None, True, quarters, Rounding.HALF_UP).multiply(acc, scale)
    for a, one, two in zip(acc.tolist(), once.tolist(), twice.tolist(), strict=True):
        add = Fraction(quarters, 4)
        assert one == math.floor(Fraction(a * multiplier, 1 << shift) + add)
        high = math.floor(Fraction(a * multiplier, 1 << (bits - 1)) + add)
        assert two == math.floor(Fraction(high, 1 << (shift - bits + 1)) + Fraction(1, 2))
    if quarters == 2:
        np.testing.assert_array_equal(once, FixedPoint(bits, Rounding.HALF_UP).multiply(acc, scale))


def test_readings_are_what_they_say():
    shape = (1, 2, 3, 4)
    codes = np.arange(24).reshape(1, *shape)
    made = {words: reading(codes) for words, reading in faults.readings(shape, True).items()}
    assert made["output channels are in reverse order"][0, 0, 0, 0, 0] == 12
    assert made["codes are written channels last"].reshape(-1)[:4].tolist() == [0, 12, 1, 13]
    assert made["output rows are in reverse order"][0, 0, 0, 0, 0] == 8
    assert made["output columns are in reverse order"][0, 0, 0, 0, 0] == 3
    assert made["output rows and columns are swapped"].reshape(-1)[:3].tolist() == [0, 4, 8]


def test_the_space_has_no_machine_twice(tmp_path):
    space = cases.space(cases.vectors(tmp_path / "v", cases.conv(), cases.target()))
    singles = [h.changes for h in space.singles([""])]
    assert len(set(singles)) == len(singles) > 900
    assert all(len(c) == 1 for c in singles)
    assert isinstance(space.chains[0], Chain)
    assert not space.chains[0].words


def test_manifest_has_the_formula(tmp_path):
    folder = cases.vectors(tmp_path / "v", cases.conv(), cases.target())
    layer = Manifest.read(folder).layers[0]
    assert len(layer["requantizer"]["pieces"]) == 4
