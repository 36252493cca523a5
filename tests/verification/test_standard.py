"""QONNX files as standard operators: ONNX Runtime runs the expansion, the exact reference says what it should give."""

import numpy as np
import pytest
from frontend.build import CHANNELS_LAST, QONNX, Net, halves

from intsim.verification.executors import by_onnxruntime
from intsim.verification.reference import Reference
from intsim.verification.standard import CUSTOM_DOMAINS, standard_model

MODES = ["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN", "half_even"]
X = halves(np.random.default_rng(2), (2, 3, 4, 4))


def agrees(net: Net, *outputs: str, x: np.ndarray = X) -> None:
    """No custom operator is left, and ONNX Runtime gives what the reference gives (power-of-two scales: exactly)."""
    model = net.model(*outputs)
    standard = standard_model(model)
    assert not {n.domain for n in standard.graph.node} & set(CUSTOM_DOMAINS)
    found = Reference(model).run({"x": x})
    got = by_onnxruntime(model, {"x": x}, list(outputs))
    for name in outputs:
        np.testing.assert_array_equal(got[name], found.value(name), err_msg=name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("opset", [10, 17])
def test_rounding_modes(mode, opset):
    net = Net(opset)
    x = net.input(2, 3, 4, 4)
    a = net.quant(x, 0.25, 0, 4, rounding_mode=mode)
    b = net.quant(x, 0.5, 2, 3, signed=0, narrow=1, rounding_mode=mode)
    c = net.quant(x, 0.5, -0.5, 5, narrow=1, rounding_mode=mode)
    agrees(net, a, b, c)


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "brevitas"])
def test_domains(domain):
    net = Net()
    x = net.input(2, 3, 4, 4)
    a = net.quant(x, np.float32([0.25, 0.5, 1]).reshape(1, 3, 1, 1), 0, 4, domain=domain)
    b = net.node("BipolarQuant", x, np.float32(0.5), domain=domain)
    agrees(net, a, b, net.quant(x, 0.5, 0, 1, domain=domain))


@pytest.mark.parametrize("mode", MODES)
def test_truncation(mode):
    net = Net()
    x = net.quant(net.input(2, 3, 4, 4), 0.25, 0, 6)
    f = [np.float32(v) for v in (0.25, 0, 6, 4, 1)]
    one = net.node("Trunc", x, f[0], f[1], f[2], f[3], domain=QONNX, rounding_mode=mode)
    two = net.node("Trunc", x, f[0], f[1], f[2], f[4], f[3], domain=QONNX, rounding_mode=mode, signed=1, narrow=0)
    agrees(net, one, two)


def test_channels_last():
    net = Net()
    x = net.quant(net.input(2, 5, 6, 3), 0.25, 0, 4)
    w = net.quant(halves(np.random.default_rng(3), (2, 3, 2, 3)), 0.25, 0, 4)
    y = net.node("Conv", x, w, domain=CHANNELS_LAST, kernel_shape=[3, 2], strides=[1, 2])
    z = net.node("MaxPool", x, domain=CHANNELS_LAST, kernel_shape=[2, 2])
    agrees(net, x, y, z, x=halves(np.random.default_rng(4), (2, 5, 6, 3)))


def test_the_model_is_left_alone_and_standard_ones_pass():
    net = Net()
    model = net.model(net.quant(net.input(2, 3, 4, 4)))
    before = model.SerializeToString()
    standard_model(model)
    assert model.SerializeToString() == before
    net = Net()
    y = net.qdq(net.input(2, 3, 4, 4), 0.25, np.int8(3))
    assert [n.op_type for n in standard_model(net.model(y)).graph.node] == ["QuantizeLinear", "DequantizeLinear"]
    agrees(net, y)


def test_what_has_no_expansion_is_named():
    net = Net()
    y = net.node("Frobnicate", net.input(2, 3, 4, 4), domain=QONNX)
    with pytest.raises(ValueError, match="Frobnicate"):
        standard_model(net.model(y))
    net = Net()
    x = net.input(2, 3, 4, 4)
    bits = net.node("ReduceMax", x)
    y = net.node(
        "Quant", x, np.float32(1), np.float32(0), bits, domain=QONNX, signed=1, narrow=0, rounding_mode="ROUND"
    )
    with pytest.raises(ValueError, match="not a constant"):
        standard_model(net.model(y))


def test_names_of_the_file_are_not_taken():
    """The file's tensor of a made-up name is made before the quantizer and read afterwards."""
    for name in ("{}~0", "{}~1", "{}~c0", "{}~c1"):
        net = Net()
        n = net.node("Neg", net.input(2, 3, 4, 4))
        q = net.quant("x", 0.25, 0, 4, rounding_mode="HALF_UP")
        y = net.quant(net.node("Add", q, n), 0.5, 0, 5)
        for node in net.nodes:
            node.input[:] = [name.format(q) if t == n else t for t in node.input]
            node.output[:] = [name.format(q) if t == n else t for t in node.output]
        agrees(net, q, y)


@pytest.mark.parametrize("op", ["Relu", "Quant", "Constant", "Clip"])
def test_foreign_operators_are_not_expanded_nor_passed_on(op):
    net = Net()
    model = net.model(net.node(op, net.quant(net.input(2, 3)), domain="my.ops"))
    with pytest.raises(ValueError, match=f"my.ops.{op} has no expansion"):
        standard_model(model)


def test_an_own_expansion_of_what_is_no_quantizer():
    net = Net()
    model = net.model(net.node("Relu", net.quant(net.input(2, 3)), domain=QONNX))
    with pytest.raises(ValueError, match="operator Relu has no expansion"):
        standard_model(model)
