"""Proposed widths: proven, the least ones, and what runs on them is what runs on registers without end."""

import numpy as np
import pytest
from frontend.build import Net
from golden.networks import mixed, packed
from hypothesis import given, settings
from hypothesis import strategies as st

import intsim
from intsim.errors import IntsimError
from intsim.targets import Target

MODEL = intsim.load(mixed())
TARGETS = ["exact", "wrap-16", "saturate-12", "x86-avx2", "arm-neon-int8", "hifi-56", "finn-mvau"]


def narrower(target: Target):
    """The target with one bit less in one register of one rule, for each."""
    for number, rule in enumerate(target.when):
        for at, stage in enumerate(rule.accumulate.stages if rule.accumulate else ()):
            if stage.bits == 1:
                continue
            content = target.model_dump(mode="json", exclude_none=True, exclude={"name"})
            content["when"][number]["accumulate"]["stages"][at]["bits"] -= 1
            yield Target.from_content(content, "narrower", "narrower"), number, at


@pytest.mark.parametrize("name", TARGETS)
def test_every_width_is_proven_and_none_could_be_less(name):
    made = intsim.propose(MODEL, name)
    target = made.load()
    proven = intsim.bounds(MODEL, target)
    assert proven.safe
    assert [[s.bits for s in x.stages] for x in proven.layers] == [x.bits for x in made.layers]
    count = 0
    for less, number, at in narrower(target):
        layer = intsim.bounds(MODEL, less).layers[number]
        assert not layer.safe, (layer.name, at)
        assert layer.stages[at].unsafe_channels or any(s.unsafe_channels for s in layer.stages)
        count += 1
    assert count == sum(len(x.bits) for x in made.layers)


@pytest.mark.parametrize("name", TARGETS)
def test_results_are_those_of_wide_registers(name):
    target = intsim.propose(MODEL, name).load()
    wide = Target.load(name).changed(
        lambda t: t.model_copy(update={"accumulate": t.accumulate.model_copy(update={"stages": ()})})
    )
    one, other = (intsim.run(MODEL, t, samples=3, seed=5) for t in (target, wide))
    assert all(np.array_equal(one.codes[k], other.codes[k]) for k in other.codes)


def test_the_sum_of_bits_is_less_than_of_one_width_for_all():
    made = intsim.propose(MODEL, "wrap-16")
    assert made.uniform_bits == [max(x.bits[0] for x in made.layers)]
    assert made.register_bits == sum(x.channels * x.bits[0] for x in made.layers)
    assert made.uniform_register_bits == made.uniform_bits[0] * sum(x.channels for x in made.layers)
    assert made.register_bits < made.uniform_register_bits


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from(["exact", "x86-avx2"]))
def test_layers_of_any_size(channels, depth, seed, name):
    rng, net = np.random.default_rng(seed), Net(opset=17)
    x = net.qdq(net.input(1, depth), 2.0**-4, np.uint8(rng.integers(0, 256)))
    codes = rng.integers(-127, 128, (depth, channels)).astype(np.int8)
    w = net.node("DequantizeLinear", net.const(codes), net.const(np.float32(2.0**-7)), net.const(np.int8(0)))
    model = intsim.load(net.model(net.qdq(net.node("MatMul", x, w), 0.5, np.int8(0))))
    target = intsim.propose(model, name).load()
    assert intsim.bounds(model, target).safe
    assert all(not intsim.bounds(model, less).safe for less, *_ in narrower(target))


def test_names_that_are_patterns_are_taken_literally():
    net = Net(opset=17)
    x = net.qdq(net.input(1, 4), 0.5, np.uint8(0))
    for bits, name in ((3, "layer[0]*"), (100, "layer0")):
        w = net.node(
            "DequantizeLinear",
            net.const(np.full((4, 4), bits, np.int8)),
            net.const(np.float32(1)),
            net.const(np.int8(0)),
        )
        x = net.node("MatMul", x, w)
        net.nodes[-1].name = name
        x = net.qdq(x, 64.0, np.uint8(0))
    model = intsim.load(net.model(x))
    made = intsim.propose(model, "wrap-32")
    found = intsim.bounds(model, made.load())
    assert found.safe
    assert [x.stages[0].bits for x in found.layers] == [made.layers[0].bits[0], made.layers[1].bits[0]] == [13, 15]


def shifted(seed=0):
    """A dense layer whose quantizer adds far more, either way, than its sums hold."""
    rng, net = np.random.default_rng(seed), Net(opset=17)
    x = net.qdq(net.input(1, 6), 0.5, np.int8(0))
    codes = rng.integers(-127, 128, (6, 4)).astype(np.int8)
    w = net.node("DequantizeLinear", net.const(codes), net.const(np.float32(0.5)), net.const(np.int8(0)))
    y = net.node("Mul", net.node("MatMul", x, w), net.const(np.float32([[0.3, 0.7, 1.1, 0.9]])))
    y = net.node("Add", y, net.const(np.float32([[60000.4, -70000.3, 31.7, -90.2]])))
    return net.model(net.qdq(y, 900.0, np.int8(0)))


OFFSETS = """
title = "registers in which the requantizer adds its offset"
source = ["test"]
[accumulate]
stages = [{ sum = "rest", bits = 32, overflow = "RULE" }]
[requantize]
scheme = "fixed-point"
multiplier_bits = 24
rounding = "half_up"
"""


@pytest.mark.parametrize("rule", ["wrap", "saturate"])
def test_registers_hold_what_the_requantizer_adds_in_them(rule):
    model, target = intsim.load(shifted()), Target.from_toml(OFFSETS.replace("RULE", rule))
    made = intsim.propose(model, target)
    needs = intsim.bounds(model, target).layers[0].stages[0].required_bits
    assert made.layers[0].bits[0] > needs  # what the sums alone need is not enough
    data = [np.full((1, 6), v, np.float32) for v in (-64, 63.5, 0)]
    data += [np.random.default_rng(i).uniform(-64, 64, (1, 6)).astype(np.float32) for i in range(20)]
    for x in data:
        one, other = (intsim.run(model, t, x).codes for t in (made.load(), target))
        assert all(np.array_equal(one[k], other[k]) for k in other)
    less = next(narrower(made.load()))[0]
    assert any(
        not np.array_equal(a, b)
        for x in data
        for a, b in zip(
            intsim.run(model, less, x).codes.values(), intsim.run(model, target, x).codes.values(), strict=True
        )
    )


def test_an_offset_meets_the_sums_of_its_own_channel():
    """Sums of -1016..1016 without an offset, and of -8..8 with one of 1000: 11 bits, not the 12 of both at once."""
    net = Net(opset=17)
    x = net.qdq(net.input(1, 1), 1.0, np.int8(0), clip=(np.int8(-8), np.int8(8)))
    w = net.node("DequantizeLinear", net.const(np.int8([[127, 1]])), net.const(np.float32(1)), net.const(np.int8(0)))
    y = net.node("Mul", net.node("MatMul", x, w), net.const(np.float32(1.5)))
    y = net.node("Add", y, net.const(np.float32([[0, 1500.4]])))
    model = intsim.load(net.model(net.qdq(y, 9.0, np.int8(0))))
    target = Target.from_toml(OFFSETS.replace("RULE", "wrap"))
    made = intsim.propose(model, target)
    assert made.layers[0].bits == [11]
    assert intsim.certify(model, made.load()).requantizers == intsim.certify(model, target).requantizers


def test_a_requantizer_that_is_called_like_another_layer():
    """It goes by the rule of that layer, in whose registers its offset doesn't fit."""
    net = Net(opset=17)
    x = net.qdq(net.input(1, 2), 1.0, np.int8(0))
    for bits, add in ((1, 0), (127, 20000.25)):
        codes = np.full((2, 2), bits, np.int8)
        w = net.node("DequantizeLinear", net.const(codes), net.const(np.float32(1)), net.const(np.int8(0)))
        x = net.node("MatMul", x, w)
        net.nodes[-1].name = "one" if bits == 1 else "two"
        x = net.node("Mul", x, net.const(np.float32(1.5)))
        x = net.qdq(net.node("Add", x, net.const(np.float32(add))) if add else x, 3.0, np.int8(0))
    net.nodes[-2].name = "one"
    with pytest.raises(IntsimError, match="one shares a name with"):
        intsim.propose(intsim.load(net.model(x)), Target.from_toml(OFFSETS.replace("RULE", "wrap")))


def test_registers_with_an_lsb_of_their_own():
    """Products of 2^-11 in registers of 2^-6."""
    text = (
        OFFSETS[: OFFSETS.index("[accumulate]")]
        + """
[accumulate]
stages = [
  { sum = 1, bits = 30, overflow = "wrap", lsb = -6, rounding = "floor" },
  { sum = "rest", bits = 32, overflow = "saturate" },
]
[requantize]
scheme = "exact"
"""
    )
    net = Net(opset=17)
    x = net.qdq(net.input(1, 5), 2.0**-4, np.int8(0))
    codes = np.random.default_rng(2).integers(-127, 128, (5, 3)).astype(np.int8)
    w = net.node("DequantizeLinear", net.const(codes), net.const(np.float32(2.0**-7)), net.const(np.int8(0)))
    model = intsim.load(net.model(net.qdq(net.node("MatMul", x, w), 0.5, np.int8(0))))
    made = intsim.propose(model, Target.from_toml(text))
    assert intsim.bounds(model, made.load()).safe
    assert all(not intsim.bounds(model, less).safe for less, *_ in narrower(made.load()))
    one, other = (intsim.run(model, t, samples=4).codes for t in (made.load(), Target.from_toml(text)))
    assert all(np.array_equal(one[k], other[k]) for k in other)


RULED = """
title = "a kernel of its own for depthwise layers"
source = ["test"]
[accumulate]
stages = [{ sum = "rest", bits = 32, overflow = "wrap" }]
[requantize]
scheme = "exact"
[[when]]
op = "depthwise"
[when.accumulate]
stages = [{ sum = 2, bits = 16, overflow = "saturate" }, { sum = "rest", bits = 32, overflow = "wrap" }]
"""


def test_rules_stay_what_they_are():
    target = Target.from_toml(RULED)
    made = intsim.propose(MODEL, target)
    assert [len(x.bits) for x in made.layers] == [1, 2, 1]
    one, other = (intsim.run(MODEL, t, samples=2).codes for t in (made.load(), "exact"))
    assert all(np.array_equal(one[k], other[k]) for k in other)


def test_layers_of_one_name_with_several_arithmetics_are_refused():
    file = mixed()
    for node in file.graph.node:
        node.name = "same" if node.op_type == "Conv" else node.name
    with pytest.raises(IntsimError, match="same shares a name with a layer that has another arithmetic"):
        intsim.propose(intsim.load(file), Target.from_toml(RULED))
    made = intsim.propose(intsim.load(file), "wrap-32")
    assert (
        made.layers[0].bits
        == made.layers[1].bits
        == [max(x.bits[0] for x in intsim.propose(MODEL, "wrap-32").layers[:2])]
    )


def test_a_network_that_adds_up_nothing():
    net = Net(opset=17)
    x = net.qdq(net.input(1, 4), 0.5, np.uint8(0))
    with pytest.raises(IntsimError, match="no layer adds up products"):
        intsim.propose(intsim.load(net.model(net.qdq(net.node("Relu", x), 0.25, np.uint8(0)))))


def test_no_width_is_enough():
    with pytest.raises(IntsimError, match="can overflow on dsp48e2-int4-raw whatever the widths of its registers"):
        intsim.propose(intsim.load(packed()), "dsp48e2-int4-raw")
