"""Proofs that machines act alike, against every input of layers that are small enough."""

import itertools
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import intsim
from intsim.diagnosis import classes, faults
from intsim.diagnosis.classes import alike, proved_key, steps_of
from intsim.diagnosis.machine import Stand, defined

from . import cases

TEXT = """
<ir_version: 8, opset_import: ["": 13, "qonnx.custom_op.general": 1]>
small (float[{shape}] x) => (float[{out}] y)
<float one = {{1.0}}, float zx = {{{zero}.0}}, float zero = {{0.0}}, float two = {{2.0}}, float four = {{4.0}},
 float s = {{{scale}}}, float bits = {{{bits}.0}}, float zy = {{{zero}.0}}>
{{
  xq = qonnx.custom_op.general.Quant <signed = 0, narrow = 0, rounding_mode = "ROUND"> (x, one, zx, two)
  wq = qonnx.custom_op.general.Quant <signed = 1, narrow = 0, rounding_mode = "ROUND"> (w, one, zero, four)
  [layer] c = {op}
  d = {then}
  y = qonnx.custom_op.general.Quant <signed = {signed}, narrow = 0, rounding_mode = "{mode}"> (d, s, zy, bits)
}}
"""


def small(kind, zero, scale, bits, signed=0, seed=0, then="Identity (c)", mode="ROUND"):
    """A layer of u2 codes whose inputs can all be tried: a dense one, or a convolution with padding."""
    rng = np.random.default_rng(seed)
    rest = {"zero": zero, "scale": scale, "bits": bits, "signed": signed, "then": then, "mode": mode}
    if kind == "dense":
        text = TEXT.format(shape="1, 5", out="1, 2", op="MatMul (xq, wq)", **rest)
        w = rng.integers(-8, 8, (5, 2))
    else:
        op = "Conv <kernel_shape = [2, 2], pads = [1, 0, 0, 1]> (xq, wq, b)"
        text = TEXT.format(shape="1, 1, 2, 2", out="1, 2, 2, 2", op=op, **rest)
        w = rng.integers(-8, 8, (2, 1, 2, 2))
    net = onnx.parser.parse_model(text)
    constants = {"w": w} if kind == "dense" else {"w": w, "b": rng.integers(-9, 9, 2)}
    net.graph.initializer.extend(numpy_helper.from_array(np.float32(a), n) for n, a in constants.items())
    return net


def machines(space):
    """The specification, every single change, and some pairs."""
    spec = space.specification
    found = [spec, *space.singles([""])]
    chains = [c for c in space.chains if any(s.bits < 12 for s in c.stages)]
    found += [replace(spec, chain=c, order=o) for c in chains[::5] for o in list(space.orders)[1:]]
    found += [replace(spec, chain=c, bias=b) for c in chains[::7] for b in list(space.biases)[1:3]]
    found += [replace(spec, chain=c, operand=f) for c in chains[::7] for f in list(space.feeds)[1::4]]
    found += [replace(spec, chain=c, rounder=r) for c in chains[::9] for r in space.rounders[1::40]]
    found += [replace(spec, chain=c, code=faults.WRAPS) for c in chains]
    found += [replace(spec, scale=s, code=c) for s in space.scales for c in space.code_faults]
    return [h for h in found if defined(space, h)]


def every_input(space):
    shape = space.layer.shape
    codes = np.array(list(itertools.product(range(4), repeat=int(np.prod(shape)))))
    return Stand(space, codes.reshape(-1, *shape), np.arange(space.layer.extent[0]))


def disagreeing(space):
    """Pairs of machines with one key that make different codes of some input, and how many share a key with others."""
    stand, groups = every_input(space), {}
    for made in machines(space):
        groups.setdefault(proved_key(space, made), []).append(made)
    wrong = []
    for members in groups.values():
        first = stand.results(members[0])
        wrong += [(members[0], m) for m in members[1:] if not np.array_equal(stand.results(m), first)]
    return wrong, sum(len(m) - 1 for m in groups.values())


SIX = '{ sum = "rest", bits = 6, overflow = "saturate" }'
ON = {
    "wide": cases.target(operands=False),
    "narrow": cases.target(SIX, operands=False),
    "groups": cases.target('{ sum = 2, bits = 5, overflow = "saturate" }, ' + cases.STAGES, bias="after"),
    "codes": cases.target(bias="after"),
    "lanes": cases.target(f"{SIX[:-2]}, lanes = 2 }}, {SIX}", bias="after"),
}


LAYERS = (("dense", 0, 0.71, 5, 1), ("dense", 1, 3.3, 3, 0), ("conv", 1, 0.6, 5, 0), ("conv", 2, 2.0, 3, 1))
EVERYDAY = (("wide", 2), ("narrow", 0), ("groups", 2), ("codes", 1), ("lanes", 3))
"""Every target and every layer; the other pairs are left to the long suite."""


@pytest.mark.parametrize(
    ("name", "kind", "zero", "scale", "bits", "signed"),
    [
        pytest.param(name, *layer, marks=[pytest.mark.slow] * ((name, i) not in EVERYDAY))
        for name in ON
        for i, layer in enumerate(LAYERS)
    ],
)
def test_what_is_proved_alike_is_alike_for_every_input(tmp_path, name, kind, zero, scale, bits, signed):
    model = small(kind, zero if not signed else 0, scale, bits, signed)
    intsim.vectors(model, ON[name], out=tmp_path / "v", layer=["layer"], formats=["npy"])
    wrong, shared = disagreeing(cases.space(tmp_path / "v"))
    assert not wrong, [(a.changes, b.changes) for a, b in wrong[:3]]
    assert shared > 100


@pytest.mark.parametrize(
    ("then", "zero", "scale", "mode"),
    [
        ("LeakyRelu <alpha = -0.5> (c)", 1, 0.6, "ROUND"),
        ("Clip (c, zero, eight)", 1, 0.6, "ROUND"),
        ("LeakyRelu <alpha = -0.5> (c)", 3, 4.0, "FLOOR"),
    ],
)
def test_what_is_proved_alike_behind_slopes_and_offsets(tmp_path, then, zero, scale, mode):
    """Codes that fall and rise again, steps between pieces, offsets that are added in the register."""
    model = small("conv", zero, scale, 5, then=then, mode=mode)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(8.1), "eight"))
    intsim.vectors(model, ON["wide"], out=tmp_path / "v", layer=["layer"], formats=["npy"])
    wrong, shared = disagreeing(cases.space(tmp_path / "v"))
    assert not wrong, [(a.changes, b.changes) for a, b in wrong[:3]]
    assert shared > 100


PAIRS = '{ sum = 2, bits = 5, overflow = "saturate" }, { sum = "rest", bits = 7, overflow = "wrap" }'


def with_constants(model, **arrays):
    """The model with other initializers."""
    for name, array in arrays.items():
        old = next(i for i in model.graph.initializer if i.name == name)
        old.CopyFrom(numpy_helper.from_array(np.float32(array), name))
    return model


@pytest.mark.parametrize("place", ["preload", pytest.param("after", marks=pytest.mark.slow)])
def test_a_bias_wraps_a_register_that_the_sums_alone_do_not(tmp_path, place):
    """Pairs add up to -32..30, which 7 bits hold; with the bias sums are 40..70, and those beyond 63 are negative."""
    model = with_constants(small("conv", 0, 3.0, 5), b=[40, 38], w=np.reshape([7, 6, 5, 7, 7, 7, 6, 5], (2, 1, 2, 2)))
    on = cases.target(PAIRS, bias=place, operands=False)
    intsim.vectors(model, on, out=tmp_path / "v", layer=["layer"], formats=["npy"])
    space = cases.space(tmp_path / "v")
    assert every_input(space).accumulators(space.specification).min() < 0
    wrong, shared = disagreeing(space)
    assert not wrong, [(a.changes, b.changes) for a, b in wrong[:3]]
    assert shared > 100


@pytest.mark.parametrize("name", ["narrow", "lanes"])
def test_steps_are_looked_for_among_all_accumulators(tmp_path, name):
    """Of padding that makes no products: between what a register holds and what is paid back at most."""
    stages, raw = ON[name].accumulate.stages, cases.target(more='padding = "skipped"')
    on = raw.model_copy(update={"accumulate": raw.accumulate.model_copy(update={"stages": stages})})
    intsim.vectors(small("conv", 3, 0.6, 5), on, out=tmp_path / "v", layer=["layer"], formats=["npy"])
    space = cases.space(tmp_path / "v")
    stand, feed = every_input(space), space.feeds[""]
    for made in machines(space):
        for c in range(space.layer.extent[1]):
            if (steps := steps_of(space, made, c)) is not None:
                acc = stand.accumulators(made)[..., c]
                assert steps[0] <= acc.min() <= acc.max() <= steps[1], made.changes
    owed = feed.x_zero * np.abs(feed.w).sum(axis=(1, 2, 3)).max()
    for c in range(space.layer.extent[1]):
        low, high = steps_of(space, space.specification, c)[:2]
        assert stages[-1].min - owed <= low < high <= stages[-1].max + owed


@pytest.mark.parametrize("name", ["_proved_sums", "hidden"])
def test_a_proof_that_is_none_is_seen(tmp_path, monkeypatch, name):
    """Planted: every register is called wide enough, or every saturation hidden."""
    intsim.vectors(small("dense", 1, 3.3, 3), ON["wide"], out=tmp_path / "v", layer=["layer"], formats=["npy"])
    monkeypatch.setattr(classes, name, lambda space, made: (made.operand, made.bias))
    assert disagreeing(cases.space(tmp_path / "v"))[0]


def test_classes_are_what_samples_tell_apart(tmp_path):
    intsim.vectors(small("conv", 1, 0.6, 5), ON["wide"], out=tmp_path / "v", layer=["layer"], formats=["npy"])
    space = cases.space(tmp_path / "v")
    stand, found = every_input(space), machines(space)
    own = {}
    for made in found:
        own.setdefault(stand.results(made).tobytes(), []).append(made)
    classes_ = alike(stand, found)
    assert sorted(len(c.members) for c in classes_) == sorted(len(g) for g in own.values())
    assert sum(c.proved for c in classes_) > len(classes_) // 2
