"""Constants on their way to a layer: clipped, cast, masked, summed; each is what ONNX makes of it, or refused."""

import numpy as np
import pytest
from onnx import TensorProto

import intsim
from intsim.errors import IntsimError

from .build import Net, check

CODES = np.int8([[5, 1], [-5, 2]])


def layer(net, weight):
    """A product with a constant, quantized."""
    x = net.qdq(net.input(2, 2), 0.5, np.int8(0))
    return net.model(net.qdq(net.node("MatMul", x, weight), 0.25, np.int8(0)))


def stored(net, scale=1.0):
    return net.node("DequantizeLinear", CODES, np.float32(scale))


INPUTS = {"x": np.float32([[3, 1.5], [-2, 7]])}


def effective(model):
    """The weights as real numbers."""
    graph = intsim.load(model).graph
    (node,) = (n for n in graph.nodes if n.op == "matmul")
    scale = np.asarray(graph.tensors[node.output].scale / graph.tensors[node.inputs[0]].scale, np.float64)
    return (node.arrays["weight"] - node.arrays.get("weight_zero", 0)) * scale.reshape(-1)


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("bounds", [(-2.5, 2.5), (0.0, 3.4e38), (-1.25, 0.75), (1.0, -1.0)])
def test_a_clip_of_real_weights_keeps_its_bounds(scale, bounds):
    net = Net()
    model = layer(net, net.node("Clip", stored(net, scale), *map(np.float32, bounds)))
    wanted = np.minimum(np.maximum(CODES * scale, bounds[0]), bounds[1])
    assert effective(model).tolist() == wanted.tolist()
    check(model, INPUTS, 2)


def test_a_clip_of_integer_weights():
    net = Net()
    model = layer(net, net.node("DequantizeLinear", net.node("Clip", CODES, np.int8(-2), np.int8(1)), np.float32(0.5)))
    assert effective(model).tolist() == [[0.5, 0.5], [-1, 0.5]]
    check(model, INPUTS, 2)


def test_a_mask_by_way_of_bool():
    net = Net()
    mask = net.node("DequantizeLinear", np.int8([[90, 0], [0, 70]]), np.float32(0.5))
    mask = net.node("Cast", net.node("Cast", mask, to=TensorProto.BOOL), to=TensorProto.FLOAT)
    model = layer(net, mask)
    assert effective(model).tolist() == [[1, 0], [0, 1]]
    check(model, INPUTS, 2)


@pytest.mark.parametrize("mask", [[[1, 0], [0, 1]], [[1, 0], [1, 0]], [[0, 0], [0, 0]]])
def test_pruned_weights(mask):
    net = Net()
    model = layer(net, net.node("Mul", stored(net, 0.5), np.float32(mask)))
    assert effective(model).tolist() == (CODES * 0.5 * np.array(mask)).tolist()
    check(model, INPUTS, 2)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_the_larger_of_two_constants(op):
    net = Net()
    model = layer(net, net.node(op, stored(net, 0.5), np.float32([[1, -1], [0, 0.5]])))
    rule = np.maximum if op == "Max" else np.minimum
    assert effective(model).tolist() == rule(CODES * 0.5, np.float32([[1, -1], [0, 0.5]])).tolist()
    check(model, INPUTS, 2)


def test_weights_quantized_again_with_a_zero_point_a_channel():
    net = Net()
    scale, zero = np.float32([0.5, 0.25]), np.int8([3, -4])
    again = net.node("QuantizeLinear", stored(net, 0.3), scale, zero, axis=1)
    model = layer(net, net.node("DequantizeLinear", again, scale, zero, axis=1))
    check(model, INPUTS, 2)


def test_a_sum_uses_no_name_of_the_file():
    """Partial sums are nobody's tensors, whatever the file calls its own."""
    net = Net()
    x = net.qdq(net.input(1, 2), 0.5, np.int8(0))
    s = net.node("Sum", np.float32([1, 2]), x, np.float32([3, 4]), x)
    check(net.model(net.qdq(s, 0.25, np.int8(0))), {"x": np.float32([[1, -3]])}, 2)


@pytest.mark.parametrize("zero", [np.float32(2.7), np.int8(3), np.int32(3)])
def test_a_zero_point_of_another_type_is_refused(zero):
    net = Net()
    q = net.node("QuantizeLinear", net.input(2, 2), np.float32(0.5), np.uint8(3))
    x = net.node("DequantizeLinear", q, np.float32(0.5), zero)
    with pytest.raises(IntsimError, match=r"its input is uint8, its zero point \w+; ONNX wants one type"):
        intsim.load(net.model(net.quant(net.node("MatMul", x, net.quant(np.float32(np.eye(2)))))))
