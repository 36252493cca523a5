"""Vectors against a twin that knows nothing but the manifest and the files."""

import numpy as np
import pytest
from frontend.build import Net

import intsim
from intsim.targets import Target

from . import networks, twin

TABLE = """
title = "t"
source = ["test"]
[operands]
activation = "u8"
weight = "s8"
[accumulate]
stages = [
  {{ sum = 3, bits = 18, overflow = "saturate", lanes = 2 }},
  {{ sum = "rest", bits = {bits}, overflow = "{rule}" }},
]
bias = "{bias}"
[requantize]
{requantize}
"""


def machine(tmp_path, requantize, bits=24, rule="saturate", bias="after"):
    path = tmp_path / "t.toml"
    path.write_text(TABLE.format(requantize=requantize, bits=bits, rule=rule, bias=bias))
    return path


@pytest.mark.parametrize(
    ("target", "at"),
    [
        ("exact", {}),
        ("x86-avx2", {}),
        ("wrap-12", {}),
        ("arm-neon-int8", {"signed": True}),
        ("cmsis-nn", {"signed": True}),
        ("cmsis-nn-single", {"signed": True}),
        ("xnnpack", {"signed": True}),
        ("dsp48e2-int8", {"signed": True}),
        ("finn-mvau", {}),
        ("rtl-shift", {"scale": 2.0, "zero": False}),
        ("fixed-point-16", {}),
        ("tosa", {}),
    ],
)
def test_vectors_are_what_their_manifest_says(tmp_path, target, at):
    model = networks.mixed(**at)
    intsim.vectors(model, target, seed=3, out=tmp_path / "v", formats=["npy"], order="NHWC")
    done = twin.check(tmp_path / "v")
    assert sorted({k for kinds in done.values() for k in kinds} - {"kernel"}), done
    assert "sums" in done["first"]
    assert "sums" in done["each"]
    assert done["most"] == ["max"]
    assert "sums" in done["last"]
    assert all(done.values()), done


@pytest.mark.parametrize("target", ["onnxruntime-avx2", "onnxruntime-vnni"])
def test_the_graph_that_a_runtime_executes(tmp_path, target):
    intsim.vectors(networks.mixed(convolutions=True), target, seed=3, out=tmp_path / "v", formats=["npy"])
    done = twin.check(tmp_path / "v")
    assert ("sums" in done["first"], "sums" in done["each"]) == (True, True)
    assert all(done.values()), done


@pytest.mark.parametrize("target", ["fbgemm-avx2", "fbgemm-vnni"])
def test_a_float_bias(tmp_path, target):
    """What registers hold has no bias: it is a float32 of the requantizer's."""
    intsim.vectors(networks.mixed(convolutions=True), target, out=tmp_path / "v", formats=["npy"])
    assert twin.check(tmp_path / "v") == {"first": ["sums", "kernel"], "each": ["sums", "kernel"]}


@pytest.mark.parametrize("mode", ["half_up", "half_even", "half_away", "half_toward_zero", "floor", "away"])
def test_fixed_point_with_every_rule_for_ties(tmp_path, mode):
    target = machine(tmp_path, f'scheme = "fixed-point"\nmultiplier_bits = 6\nrounding = "{mode}"')
    intsim.vectors(networks.mixed(), target, out=tmp_path / "v", formats=["npy"])
    assert all(twin.check(tmp_path / "v").values())


@pytest.mark.parametrize(
    "requantize",
    [
        'scheme = "fixed-point"\nmultiplier_bits = 9\ndouble_rounding = true',
        'scheme = "ruy"',
        'scheme = "float64"',
        'scheme = "float32"',
        'scheme = "thresholds"',
    ],
)
def test_other_schemes(tmp_path, requantize):
    """Of convolutions, with a register in front that saturates."""
    target = machine(tmp_path, requantize)
    intsim.vectors(networks.mixed(convolutions=True), target, out=tmp_path / "v", formats=["npy"])
    assert twin.check(tmp_path / "v") == {"first": ["sums", "codes"], "each": ["sums", "codes"]}


@pytest.mark.parametrize(("rule", "bias"), [("wrap", "preload"), ("saturate", "preload"), ("wrap", "after")])
def test_narrow_registers_with_a_bias(tmp_path, rule, bias):
    """Registers overflow, and the twin says when; rounded twice as gemmlowp does."""
    target = machine(tmp_path, 'scheme = "fixed-point"\nmultiplier_bits = 32\ndouble_rounding = true', 15, rule, bias)
    intsim.vectors(networks.mixed(), target, out=tmp_path / "v", formats=["npy"])
    assert all(twin.check(tmp_path / "v").values())
    assert any(e.any() for e in intsim.run(networks.mixed(), target).overflows.values())


@pytest.mark.parametrize("target", ["exact", "saturate-14"])
def test_a_function_of_sums(tmp_path, target):
    """SiLU right behind a convolution with a scale and a bias a channel."""
    net, rng = Net(17), np.random.default_rng(9)
    weight = net.quant(rng.normal(0, 0.4, (3, 2, 3, 3)), np.float32([0.02, 0.03, 0.05]).reshape(3, 1, 1, 1), 0, 8)
    y = net.node("Conv", net.quant(net.input(1, 2, 5, 5), 0.03, 0, 8), weight, np.float32([0.1, -0.7, 0.4]))
    silu = net.node("Mul", y, net.node("Sigmoid", y))
    intsim.vectors(net.model(net.quant(silu, 0.02, 0, 8)), target, out=tmp_path / "v", formats=["npy"])
    assert sorted(twin.check(tmp_path / "v").values()) == [["staircase"], ["sums"]]


@pytest.mark.parametrize("target", ["dsp48e2-int4", "dsp48e2-int4-raw"])
def test_packed_multipliers(tmp_path, target):
    intsim.vectors(networks.packed(), target, samples=1, seed=1, out=tmp_path / "v", formats=["npy"])
    assert twin.check(tmp_path / "v") == {"conv": ["sums", "codes"]}


@pytest.mark.parametrize("target", ["exact", "x86-avx2", "wrap-12", "x86-vnni"])
def test_weights_with_a_zero_point(tmp_path, target):
    """Behind a multiplier that sees codes the sum of the activations is taken off again, for each output."""
    made = intsim.vectors(networks.unsigned_weights(), target, out=tmp_path / "v", formats=["npy"])
    assert twin.check(tmp_path / "v") == {"conv": ["sums", "codes"]}
    about = made.manifest["layers"][0]["products"]
    assert about["sum_of_operands"] == target.startswith("x86")
    acc = twin.Folder(tmp_path / "v").tensor(made.manifest["layers"][0], "accumulator")
    assert intsim.trace_output(networks.unsigned_weights(), "conv", (2, 0, 3), target).total == acc[0, 2, 0, 3]


def test_sums_of_wide_codes(tmp_path):
    """Added exactly, on the common grid of two scales that have none: far beyond 32 bits."""
    net = Net()
    parts = [net.quant(net.input(1, 3, 2, 2, name=n), s, 0, 16) for n, s in (("a", 0.1), ("b", 0.3))]
    model = net.model(net.quant(net.node("Add", *parts), 0.7, 0, 8))
    made = intsim.vectors(model, out=tmp_path / "v", formats=["npy"])
    types = {t["role"]: t["type"] for t in made.manifest["layers"][0]["tensors"]}
    assert int(types["accumulator"][1:]) > 33
    assert list(twin.check(tmp_path / "v").values()) == [["add"]]


def test_the_twin_sees_a_changed_constant(tmp_path):
    """One unit of one multiplier, one weight, one accumulator: the twin is no yes-man."""
    target = machine(tmp_path, 'scheme = "fixed-point"\nmultiplier_bits = 8\nrounding = "half_up"')
    made = intsim.vectors(networks.mixed(), target, out=tmp_path / "v", formats=["npy"])
    layer = next(x for x in made.manifest["layers"] if x["name"] == "first")
    files = {t["role"]: tmp_path / "v" / t["files"]["npy"] for t in layer["tensors"]}
    for role, by in (("requantize_multiplier", 8), ("weight", 1), ("accumulator", 1)):
        right = np.load(files[role])
        wrong = right.copy()
        wrong.reshape(-1)[wrong.size // 2] ^= by
        np.save(files[role], wrong)
        with pytest.raises(AssertionError, match="first: "):
            twin.check(tmp_path / "v")
        np.save(files[role], right)
    assert all(twin.check(tmp_path / "v").values())


def test_outputs_are_those_of_a_run(tmp_path):
    model = networks.mixed()
    made = intsim.vectors(model, "x86-avx2", samples=2, seed=4, out=tmp_path / "v", formats=["npy"])
    ran = intsim.run(model, "x86-avx2", samples=2, seed=4)
    last = next(t for t in made.manifest["layers"][-1]["tensors"] if t["role"] == "output")
    assert np.array_equal(np.load(tmp_path / "v" / last["files"]["npy"]), next(iter(ran.codes.values())))
    assert Target.load("x86-avx2").name == made.manifest["target"]["name"]
