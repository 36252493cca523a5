"""Functions that a file defines itself: written out, they mean what numpy makes of their bodies."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, helper

import intsim
from frontend.build import Net
from intsim.frontend.functions import inlined

RNG = np.random.default_rng(5)
IMPORT = [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]


def referring(op: str, name: str, attribute: str, kind: int, inputs: list[str], outputs: list[str]) -> onnx.NodeProto:
    """A node whose attribute is the function's."""
    node = helper.make_node(op, inputs, outputs)
    node.attribute.append(AttributeProto(name=name, ref_attr_name=attribute, type=kind))
    return node


def function(name, inputs, outputs, nodes, imports=IMPORT, attributes=(), defaults=()):
    return helper.make_function("my.ops", name, inputs, outputs, nodes, imports, list(attributes), list(defaults))


LEAKY = function(
    "Leaky", ["a"], ["b"], [referring("LeakyRelu", "alpha", "slope", AttributeProto.FLOAT, ["a"], ["b"])],
    defaults=[helper.make_attribute("slope", 0.25)],
)  # fmt: skip
TWICE = function(
    "Twice", ["a"], ["b"],
    [helper.make_node("Leaky", ["a"], ["t"], domain="my.ops"), helper.make_node("Add", ["t", "a"], ["b"], name="n")],
)  # fmt: skip
CLAMP = function("Clamp", ["a", "low", "high"], ["b"], [helper.make_node("Clip", ["a", "low", "high"], ["b"])])
SPLIT = function(
    "Split", ["a"], ["same", "t", "u"],
    [helper.make_node("Neg", ["a"], ["t"]), helper.make_node("Abs", ["t"], ["u"], name="n")],
)  # fmt: skip


def build(make, functions):
    """A net whose body, between two quantizers and behind them, `make` writes with calls."""
    net = Net()
    x = net.quant(net.input(2, 6), 0.25, 0, 6)
    between = make(net, x)
    ends = [net.quant(y, 0.5, 0, 5) for y in between]
    model = net.model(*ends, *make(net, ends[0]))
    model.functions.extend(functions)
    return model


def call(name, **attributes):
    return lambda net, x: [net.node(name, x, domain="my.ops", **attributes)]


def split(net, x):
    return list(net.node("Split", x, domain="my.ops", outputs=3))


def leaky(x, slope=0.25):
    return np.where(x < 0, slope * x, x)


def quantized(x, scale, bits):
    """QONNX's Quant, signed, zero point 0."""
    top = 2 ** (bits - 1)
    return np.rint(np.clip(x / scale, -top, top - 1)) * scale


BODIES = {
    "default attribute": (call("Leaky"), [LEAKY], lambda x: [leaky(x)]),
    "given attribute": (call("Leaky", slope=0.5), [LEAKY], lambda x: [leaky(x, 0.5)]),
    "nested, the order of the functions is free": (call("Twice"), [TWICE, LEAKY], lambda x: [leaky(x) + x]),
    "absent input": (
        lambda n, x: [n.node("Clamp", x, None, np.float32(0.5), domain="my.ops")],
        [CLAMP],
        lambda x: [np.minimum(x, 0.5)],
    ),
    "fewer inputs": (
        lambda n, x: [n.node("Clamp", x, np.float32(-0.5), domain="my.ops")],
        [CLAMP],
        lambda x: [np.maximum(x, -0.5)],
    ),
    "an output that nothing makes but an input": (
        split,
        [function("Split", ["a"], ["a", "t", "u"], list(SPLIT.node))],
        lambda x: [x, -x, abs(x)],
    ),
    "an output listed twice": (
        split,
        [function("Split", ["a"], ["u", "t", "u"], list(SPLIT.node))],
        lambda x: [abs(x), -x, abs(x)],
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_written_out_they_mean_the_same(case):
    make, functions, right = BODIES[case]
    model = build(make, functions)
    flat = inlined("f", model)
    assert not flat.functions
    assert not [n for n in flat.graph.node if n.domain == "my.ops"]
    names = [o for n in flat.graph.node for o in n.output]
    assert len(set(names)) == len(names)
    x = np.float32(RNG.integers(-40, 40, (2, 6)) * 0.25)
    ends = [quantized(y, 0.5, 5) for y in right(quantized(x, 0.25, 6))]
    run = intsim.run(model, inputs={"x": x})
    for output, value in zip(model.graph.output, [*ends, *right(ends[0])], strict=True):
        np.testing.assert_array_equal(run.outputs[output.name], np.float32(value), err_msg=output.name)
    assert intsim.verify(model, inputs={"x": x}, references=False).verdict == "exact"


def test_names_of_the_file_are_left_alone():
    """Tensors and nodes of the file that are called as a body's would be."""
    net = Net()
    x = net.quant(net.input(2, 6))
    y = net.node("Twice", x, domain="my.ops")
    model = net.model(net.quant(y, 0.5, 0, 5))
    call_ = next(n for n in model.graph.node if n.op_type == "Twice")
    for taken in (f"{call_.name}.t", f"{call_.name}.t#2", f"{call_.name}.n"):
        model.graph.node.append(helper.make_node("Neg", [y], [taken], name=f"{call_.name}.n"))
        model.graph.output.append(helper.make_tensor_value_info(taken, onnx.TensorProto.FLOAT, [2, 6]))
    model.functions.extend([TWICE, LEAKY])
    flat = inlined("f", model)
    made = [o for n in flat.graph.node for o in n.output]
    assert len(set(made)) == len(made)
    data = {"x": np.float32(RNG.integers(-40, 40, (2, 6)) * 0.25)}
    out = intsim.run(model, inputs=data).outputs
    np.testing.assert_array_equal(out[f"{call_.name}.t"], out[f"{call_.name}.t#2"])


def test_an_opset_that_changes_nothing_is_taken_one_that_does_is_refused():
    relu = function("F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 15)])
    intsim.load(build(call("F"), [relu]))
    soft = function("F", ["a"], ["b"], [helper.make_node("Softmax", ["a"], ["b"])], [helper.make_opsetid("", 12)])
    with pytest.raises(intsim.IntsimError, match=r"function my.ops.F: its Softmax is of opset 12, .* opset 17"):
        intsim.load(build(call("F"), [soft]))


def deep(levels):
    """Each calls the one below twice."""
    made = [function("F0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])])]
    for i in range(1, levels):
        body = [
            helper.make_node(f"F{i - 1}", ["a"], ["t"], domain="my.ops"),
            helper.make_node(f"F{i - 1}", ["t"], ["b"], domain="my.ops"),
        ]
        made.append(function(f"F{i}", ["a"], ["b"], body))
    return made


REFUSED = {
    "itself": (
        call("F"), [function("F", ["a"], ["b"], [helper.make_node("F", ["a"], ["b"], domain="my.ops")])], "calls itself"
    ),
    "bomb": (call("F39"), deep(40), "more than"),
    "twice": (call("Leaky"), [LEAKY, LEAKY], "is there twice"),
    "foreign inside": (
        call("F"),
        [function("F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"], name="n", domain="other")])],
        r"\.n \(other.Relu\) and 1 more: other.Relu is not supported",
    ),
    "name of a standard operator": (
        lambda n, x: [n.node("Relu", x)],
        [helper.make_function("", "Relu", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], IMPORT[:1])],
        "Relu: has the name of an operator",
    ),
    "too many inputs": (lambda n, x: [n.node("Leaky", x, x, domain="my.ops")], [LEAKY], "more inputs or outputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] * (c == "bomb")) for c in REFUSED])
def test_refusals(case):
    make, functions, text = REFUSED[case]
    with pytest.raises(intsim.IntsimError, match=text) as error:
        intsim.load(build(make, functions))
    assert "\n" not in str(error.value)


def test_a_bomb_is_refused_at_the_limit(monkeypatch):
    """As "bomb" above, with a limit that is reached soon: two calls of 2 ** 8 nodes."""
    model = build(call("F8"), deep(9))
    monkeypatch.setattr("intsim.frontend.functions.MOST_NODES", 512)
    assert intsim.load(model).graph.nodes
    monkeypatch.setattr("intsim.frontend.functions.MOST_NODES", 511)
    with pytest.raises(intsim.IntsimError, match="more than 511 nodes") as error:
        intsim.load(model)
    assert "\n" not in str(error.value)


def test_a_call_that_no_output_needs_may_be_anything():
    """It is not written out either."""
    net = Net()
    x = net.quant(net.input(2, 6))
    net.node("F39", x, domain="my.ops")
    model = net.model(net.quant(x, 0.5))
    model.functions.extend(deep(40))
    intsim.load(model)
