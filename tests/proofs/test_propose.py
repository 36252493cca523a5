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


def test_no_width_is_enough():
    with pytest.raises(IntsimError, match="can overflow on dsp48e2-int4-raw whatever the widths of its registers"):
        intsim.propose(intsim.load(packed()), "dsp48e2-int4-raw")
