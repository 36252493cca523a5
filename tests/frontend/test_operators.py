"""The table of operators, and that no node gets round it: foreign domains and other opsets wherever a node stands."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference.ops import load_op

import intsim
from frontend.build import CHANNELS_LAST, QONNX, Net
from intsim.frontend import lower, operators
from intsim.frontend.reader import parameter_inputs
from intsim.frontend.registry import CURVES, HANDLERS, MACS, MOVERS, QUANTIZERS

DOMAINS = [
    "my.ops",
    "ai.onnx.ml",
    "ai.onnx.training",
    "com.microsoft",
    QONNX,
    CHANNELS_LAST,
    "my_channels_last",
    "onnx",
]


def message(model: onnx.ModelProto) -> str:
    """Why a model is refused: one line."""
    with pytest.raises(intsim.IntsimError) as error:
        intsim.load(model)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_everything_in_the_registry_is_in_the_table():
    assert lower.OPERATORS
    for names in (HANDLERS, CURVES, MACS, MOVERS, QUANTIZERS):
        assert set(names) <= operators.LOWERED | {"Sum"}
    assert set(HANDLERS) <= operators.LOWERED


def test_what_the_host_may_run_has_a_reference_implementation():
    newest = onnx.defs.onnx_opset_version()
    for (domain, name), row in operators.ROWS.items():
        if row.host and domain == "" and name != "HardTanh":  # of older opsets; host_operators has it
            schema = onnx.defs.get_schema(name, newest, "")
            if schema.deprecated:
                schema = onnx.defs.get_schema(name, schema.since_version - 1, "")
            body = schema.has_function or schema.has_context_dependent_function
            assert body or load_op("", name, schema.since_version), name
            assert not any(a.type == onnx.defs.OpSchema.AttrType.GRAPH for a in schema.attributes.values()), name


def before(net, domain):
    return net.quant(net.node("Relu", net.input(1, 4), domain=domain))


def between(net, domain):
    return net.quant(net.node("Relu", net.quant(net.input(1, 4)), domain=domain))


def behind(net, domain):
    return net.node("Relu", net.quant(net.input(1, 4)), domain=domain)


def far_behind(net, domain):
    return net.node("Exp", net.node("Relu", net.node("LogSoftmax", net.quant(net.input(1, 4))), domain=domain))


def makes_a_weight(net, domain):
    w = net.node("Relu", np.float32(np.ones((4, 2))), domain=domain)
    return net.quant(net.node("MatMul", net.quant(net.input(1, 4)), net.quant(w)))


def makes_a_shape(net, domain):
    shape = net.node("Relu", np.int64([4, 1]), domain=domain)
    return net.quant(net.node("Reshape", net.quant(net.input(1, 4)), shape))


def makes_a_scale(net, domain):
    scale = net.node("Relu", np.float32(0.5), domain=domain)
    return net.node("Quant", net.input(1, 4), scale, np.float32(0), np.float32(4), domain=QONNX)


def is_measured(net, domain):
    shape = net.node("Shape", net.node("Relu", net.quant(net.input(1, 4)), domain=domain))
    return net.node("Reshape", net.quant("x"), shape)


PLACES = [before, between, behind, far_behind, makes_a_weight, makes_a_shape, makes_a_scale, is_measured]


@pytest.mark.parametrize("place", PLACES)
def test_a_foreign_operator_is_refused_wherever_it_stands(place):
    for domain in DOMAINS:
        net = Net()
        text = message(net.model(place(net, domain)))
        assert f"{domain}.Relu is not supported" in text, (domain, text)
        assert "node Relu_" in text, text
    net = Net()
    model = net.model(place(net, ""))
    next(n for n in model.graph.node if n.op_type == "Relu").domain = "ai.onnx"
    intsim.load(model)


QUANTIZER_DOMAINS = ["my.ops", "com.microsoft.nchwc", "ai.onnx.ml", QONNX]


@pytest.mark.parametrize("domain", QUANTIZER_DOMAINS)
@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
def test_foreign_quantizers(domain, op):
    net = Net()
    parts = {"QuantizeLinear": "", "DequantizeLinear": "", op: domain}
    q = net.node("QuantizeLinear", net.input(1, 4), np.float32(0.5), np.int8(0), domain=parts["QuantizeLinear"])
    y = net.node("DequantizeLinear", q, np.float32(0.5), np.int8(0), domain=parts["DequantizeLinear"])
    assert f"{domain}.{op} is not supported" in message(net.model(y))


def test_quantizers_of_onnx_runtime_mean_the_standard_ones():
    net = Net()
    q = net.node("QuantizeLinear", net.input(1, 4), np.float32(0.5), np.int16(3), domain="com.microsoft")
    y = net.node("DequantizeLinear", q, np.float32(0.5), np.int16(3), domain="com.microsoft")
    out = intsim.run(net.model(y), inputs={"x": np.float32([[0.25, 0.75, -3, 1e6]])}).outputs[y]
    np.testing.assert_array_equal(out, np.float32([[0, 1, -3, 16382]]))


@pytest.mark.parametrize("op", ["Quant", "BipolarQuant", "Trunc"])
@pytest.mark.parametrize("domain", ["", "my.ops", "qonnx.custom_op.general2", CHANNELS_LAST])
def test_qonnx_operators_have_qonnx_domains(op, domain):
    net = Net()
    values = [np.float32(v) for v in (1, 0, 4, 4)][: {"BipolarQuant": 1}.get(op, 4)]
    text = message(net.model(net.node(op, net.quant(net.input(1, 4)), *values, domain=domain)))
    assert ("no operator of ONNX" if domain == "" else f"{domain}.{op} is not supported") in text


def test_a_foreign_clip_is_no_part_of_a_quantizer():
    """A Clip that alone reads a QuantizeLinear becomes one requantizer with it; a foreign one doesn't."""
    net = Net()
    q = net.node("QuantizeLinear", net.input(1, 4), np.float32(0.5), np.int8(0))
    c = net.node("Clip", q, np.int8(0), np.int8(3), domain="my.ops")
    text = message(net.model(net.node("DequantizeLinear", c, np.float32(0.5), np.int8(0))))
    assert "my.ops.Clip is not supported" in text


def test_layer_normalisation_with_a_foreign_part_is_none():
    net = Net()
    x = net.quant(net.input(1, 4))
    d = net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
    v = net.node("ReduceMean", net.node("Mul", d, d, domain="my.ops"), axes=[-1])
    y = net.node("Div", d, net.node("Sqrt", net.node("Add", v, np.float32(1e-5))))
    assert "my.ops.Mul is not supported" in message(net.model(net.quant(y)))


def test_parameters_are_those_of_known_operators():
    """Inputs that are scales of foreign nodes are inputs."""
    for domain, found in ((QONNX, {"s"}), ("my.ops", set()), ("", set())):
        net = Net()
        y = net.node("Quant", net.input(1, 4), net.input(name="s"), np.float32(0), np.float32(4), domain=domain)
        assert parameter_inputs(net.model(y)) == found


OPSETS = {
    "not yet there": (17, lambda n, x: n.node("Gelu", x), "Gelu is there from opset 20 on, the file imports opset 17"),
    "no longer there": (
        11, lambda n, x: n.node("Upsample", x, np.float32([1, 2])), "Upsample was taken out of ONNX with opset 10"
    ),
    "never there": (17, lambda n, x: n.node("Softplus2", x), "Softplus2 is no operator of ONNX"),
    "another form": (
        6,
        lambda n, x: n.node("PRelu", x, np.float32([1, 2, 3, 4])),
        "PRelu as opset 6 has it is not supported; convert the file to opset 7",
    ),
    "dropout that drops": (6, lambda n, x: n.node("Dropout", x), "Dropout as opset 6 has it"),
    "random": (17, lambda n, x: n.node("RandomNormalLike", x), "RandomNormalLike is not supported; its"),
    "control flow": (
        17,
        lambda n, x: n.node("If", np.array(True), then_branch=EMPTY, else_branch=EMPTY),
        "If is not supported; it holds graphs of its own",
    ),
    "strings": (20, lambda n, x: n.node("StringConcat", x, x), "StringConcat is not supported"),
    "training": (
        17,
        lambda n, x: n.node("BatchNormalization", x, *[np.float32(np.ones(4))] * 4, training_mode=1),
        "it is in training mode; export the model for inference",
    ),
    "two dropouts": (17, lambda n, x: n.node("Dropout", x, np.float32(0.5), np.array(True)), "training mode"),
}  # fmt: skip
EMPTY = helper.make_graph([], "g", [], [])


@pytest.mark.parametrize("case", OPSETS)
def test_opsets_and_modes(case):
    """Between quantizers and behind the last one."""
    opset, make, text = OPSETS[case]
    for wrap in (lambda n, y: n.quant(y), lambda n, y: y):
        net = Net(opset)
        assert text in message(net.model(wrap(net, make(net, net.quant(net.input(1, 4))))))


def test_an_old_form_that_means_something_else_would_have_been_wrong():
    """Opset 6 adds along axis 1 here, not along the last: as a numpy broadcast it would load and give other numbers."""
    net = Net(6)
    x = net.quant(net.input(1, 3, 3))
    y = net.node("Add", x, np.float32([1, 2, 3]), broadcast=1, axis=1)
    assert "opset 6" in message(net.model(y))


def test_two_opsets_of_one_domain_are_refused():
    net = Net()
    model = net.model(net.quant(net.input(1, 4)))
    model.opset_import.append(helper.make_opsetid("ai.onnx", 9))
    assert "imports two opsets of ai.onnx" in message(model)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_rows_before_opset_13_on_the_host(op):
    """From the axis on everything is one row."""
    net = Net(11)
    y = net.node(op, net.quant(net.input(1, 2, 3), 1.0, 0, 6), axis=1)
    x = np.float32([[[1, 5, 2], [3, 4, 0]]])
    row = x.reshape(-1).astype(np.float64)
    share = np.exp(row) / np.exp(row).sum()
    right = {"Softmax": share, "LogSoftmax": np.log(share), "Hardmax": np.float64(row == 5)}[op]
    out = intsim.run(net.model(y), inputs={"x": x}).outputs[y]
    np.testing.assert_allclose(out.reshape(-1), right, rtol=1e-6)


def test_what_only_onnx_runtimes_optimizer_writes_says_what_to_do():
    net = Net()
    q = net.node("QuantizeLinear", net.input(1, 4), np.float32(0.5), np.uint8(3))
    c = net.node("QLinearConv", q, np.float32(0.5), np.uint8(3), domain="com.microsoft")
    for end in (c, net.node("DequantizeLinear", c, np.float32(1), np.uint8(0))):
        text = message(net.model(end))
        assert "com.microsoft.QLinearConv is not supported; give the file as its quantizer wrote it" in text


def test_operators_of_onnx_runtime_are_none_of_onnx():
    """A QLinearAdd without its domain, or of another one."""
    for domain, wanted in (("", "QLinearAdd is no operator of ONNX"), ("my.ops", "my.ops.QLinearAdd is not supported")):
        net = Net()
        s, z = np.float32(0.5), np.uint8(3)
        q = net.node("QuantizeLinear", net.input(1, 4), s, z)
        assert wanted in message(net.model(net.node("QLinearAdd", q, s, z, q, s, z, s, z, domain=domain)))


def test_an_integer_input_type_is_unchanged_by_the_table():
    """A file of integers alone still loads."""
    net = Net()
    x = net.input(2, 3, name="codes", kind=TensorProto.INT8)
    y = net.node("MatMulInteger", x, np.int8(np.ones((3, 2))))
    assert intsim.run(net.model(y), inputs={"codes": np.int8([[1, 2, 3], [4, 5, 6]])}).outputs[y].tolist() == [
        [6, 6],
        [15, 15],
    ]
