"""What no output needs is not read: whatever operators, constants and quantizers stand there."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import intsim
from frontend.build import Net, check, halves
from intsim.inspect import inspect
from intsim.verification.reference import Reference

RNG = np.random.default_rng(8)


def dead_cumsum(net, x):
    net.quant(net.node("CumSum", x, np.int64(1)))


def dead_foreign(net, x):
    net.quant(net.node("Relu", net.node("Frobnicate", x, domain="my.ops")))


def dead_unknown(net, x):
    net.node("Frobnicate", x)


def dead_quantizer(net, x):
    net.node("Quant", x, np.float32(-1), np.float32(0), np.float32(99), domain="qonnx.custom_op.general")


def dead_head(net, x):
    """It reads the float input before any quantizer."""
    net.node("FloatQuant", "x", np.ones((4, 3), np.float32), domain="qonnx.custom_op.general")


def dead_layer(net, x):
    """A layer as any other, which is no layer of this network."""
    net.quant(net.node("MatMul", x, net.quant(np.ones((4, 4), np.float32))))


def dead_control(net, x):
    empty = helper.make_graph([], "g", [], [])
    net.node("If", x, then_branch=empty, else_branch=empty)


def dead_attribute(net, x):
    net.node("Relu", x)
    net.nodes[-1].attribute.append(onnx.AttributeProto(name="nothing"))


BRANCHES = [dead_cumsum, dead_foreign, dead_unknown, dead_quantizer, dead_head, dead_layer, dead_control]
BRANCHES.append(dead_attribute)


def network(branch):
    net = Net()
    x = net.quant(net.input(2, 4))
    if branch is not None:
        branch(net, x)
    w = net.quant(np.float32(RNG.integers(-3, 4, (4, 3))) * 0.25, 0.25, 0, 4)
    y = net.quant(net.node("MatMul", x, w), 0.5, 0, 5)
    return net.model(y), y


LONG = (dead_cumsum, dead_unknown, dead_head, dead_control)
"""Branches beside which others of their kind are tried every day."""


@pytest.mark.parametrize("branch", [pytest.param(b, marks=[pytest.mark.slow] * (b in LONG)) for b in BRANCHES])
def test_a_branch_that_nothing_reads(branch):
    model, _ = network(branch)
    x = {"x": halves(RNG, (2, 4))}
    if branch is not dead_attribute:  # the reference alone reads every node's attributes
        Reference(model)
    loaded = intsim.load(model)
    assert [n.op for n in loaded.graph.nodes] == ["matmul", "requantize"]
    assert len(inspect(loaded)["layers"]) == 2
    verdict = intsim.verify(model, inputs=x)
    assert verdict.verdict == "exact"
    assert [line.name for line in verdict.layers] == [line["name"] for line in inspect(loaded)["layers"]]
    for executor in verdict.references.values():
        assert executor.judged, executor.reason
        assert not executor.mismatches


@pytest.mark.parametrize("branch", [None, dead_cumsum, dead_foreign, dead_layer])
def test_the_reference_agrees(branch):
    model, _ = network(branch)
    check(model, {"x": halves(RNG, (2, 4))}, 2)


@pytest.mark.parametrize("value", [np.float32(np.nan), np.float32([np.inf, 1]), np.array([b"text"], object)])
def test_constants_that_only_such_a_branch_reads(value):
    model, _ = network(None)
    if value.dtype == object:
        model.graph.initializer.append(helper.make_tensor("bad", TensorProto.STRING, [1], [b"text"]))
    else:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), "bad"))
    intsim.load(model)
    model.graph.node.append(helper.make_node("Foo", ["bad"], ["dead"], domain="my.ops"))
    intsim.load(model)
    assert intsim.verify(model, inputs={"x": halves(RNG, (2, 4))}, references=False).verdict == "exact"


def test_one_output_of_a_node_is_enough():
    """A Split of which one half is read."""
    net = Net()
    a, _ = net.node("Split", net.quant(net.input(2, 4)), np.int64([2, 2]), outputs=2, axis=1)
    check(net.model(net.quant(a, 0.5)), {"x": halves(RNG, (2, 4))}, 2)


def test_a_tensor_made_twice_is_refused_in_a_dead_branch_too():
    """Which of the two is meant, nobody knows."""
    model, y = network(None)
    model.graph.node.append(helper.make_node("Relu", ["x"], [y], name="again"))
    with pytest.raises(intsim.IntsimError, match=r"node again: .* is made twice"):
        intsim.load(model)


def test_what_an_output_needs_is_refused_as_ever():
    net = Net()
    x = net.quant(net.input(2, 4))
    y = net.node("CumSum", x, np.int64(1))
    with pytest.raises(intsim.IntsimError, match="CumSum is not supported between quantizers"):
        intsim.load(net.model(net.quant(y)))
