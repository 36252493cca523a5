"""Elementwise operators between quantizers, against the reference."""

import numpy as np
import pytest
from onnx import TensorProto

import intsim

from .build import Net, check, halves

RNG = np.random.default_rng(3)
SHAPE = (2, 3, 4, 5)


def start(zero=0.0, scale=0.25, opset=17, shape=SHAPE):
    net = Net(opset)
    return net, net.quant(net.input(*shape), scale, zero, 4, signed=int(zero == 0))


def finish(net, y, *more, least=3, shape=SHAPE):
    """Quantize `y` twice (a tie-rich scale and another) and check everything."""
    ends = [y, net.quant(y, 0.25, 0, 6), net.quant(y, 0.3, 1, 4, signed=0, rounding_mode="FLOOR"), *more]
    return check(net.model(*ends), {"x": halves(RNG, shape)}, least)


CONSTANTS = {
    "scalar": np.float32(0.75),
    "zero axes": np.float32([-0.5]),
    "per channel": np.float32([0.5, -1.25, 3]).reshape(1, 3, 1, 1),
    "no batch axis": np.float32([0.5, -1.25, 3]).reshape(3, 1, 1),
    "last axis": np.float32([1, 2, -3, 4, 0.1]),
    "full": np.float32(RNG.integers(1, 9, SHAPE) / 8),
}


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("first", [False, True])
def test_constants(op, constant, first):
    net, x = start(3.0)
    c = CONSTANTS[constant]
    if op == "Div" and first:
        with pytest.raises(intsim.IntsimError, match=r"node Div.*code 3.*division by zero"):
            finish(net, net.node(op, c, x))
        return
    finish(net, net.node(op, *((c, x) if first else (x, c))))


def test_constant_makes_the_tensor_larger():
    net, x = start(shape=(3, 1))
    y = net.node("Add", x, np.float32([0.5, 1, 2, 3]))
    finish(
        net,
        net.node("Add", x, np.ones(4, np.float32)),
        net.node("Mul", np.ones((2, 3, 1), np.float32), x),
        shape=(3, 1),
    )
    wide = net.node("Sub", x, np.zeros((1, 2, 3, 4), np.float32))
    pools = [net.node("MaxPool", wide, kernel_shape=[2, 2]), wide, net.node("Add", wide, x)]
    finish(net, net.node("GlobalAveragePool", wide), net.node("Mul", wide, wide), *pools, shape=(3, 1))
    z = net.node("Mul", y, np.float32(RNG.integers(1, 5, (2, 1, 4))))
    finish(net, z, net.node("MatMul", z, net.quant(halves(RNG, (4, 3)))), shape=(3, 1))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_quantized_constants(op):
    net, x = start()
    c = net.quant(halves(RNG, (1, 3, 1, 1)), np.float32([0.25, 0.5, 0.3]).reshape(1, 3, 1, 1), 1.0)
    finish(net, net.node(op, x, c), net.node(op, c, x), least=5)


def test_zero_times():
    """A constant of zero; then a product, a maximum and a sum of what is left."""
    net, x = start(3.0)
    z = net.node("Mul", x, np.float32([0, 1, 0]).reshape(3, 1, 1))
    a = net.node("Conv", z, net.quant(halves(RNG, (2, 3, 2, 2))))
    dead = net.node("Mul", x, np.float32(0))
    b = net.node("MaxPool", dead, kernel_shape=[2, 2])
    c = net.node("Add", dead, x)
    d = net.node("Mul", dead, x)
    e = net.node("GlobalAveragePool", net.node("Add", dead, np.float32(0.5)))
    f = net.node("Conv", dead, net.quant(halves(RNG, (2, 3, 2, 2))), np.float32([0.5, 1]))
    finish(net, z, a, b, c, d, e, f, net.quant(f), least=9)


def test_neg():
    net, x = start(3.0)
    finish(net, net.node("Neg", net.node("Relu", net.node("Neg", x))))


@pytest.mark.parametrize("before", ["quantizer", "conv"])
@pytest.mark.parametrize("opset", [8, 9, 13, 17])
def test_batch_normalization(before, opset):
    net, x = start(2.0, opset=opset)
    if before == "conv":
        x = net.node("Conv", x, net.quant(halves(RNG, (3, 3, 2, 2))), np.float32([0.1, 0.2, 0.3]))
    gamma, beta = np.float32([1.5, -0.75, 0]), np.float32([0.125, 0.5, 0.25])
    mean, variance = np.float32([0.3, -0.2, 0.1]), np.float32([0.5, 2, 1])
    y = net.node("BatchNormalization", x, gamma, beta, mean, variance, epsilon=1e-3)
    z = net.node("MaxPool", net.node("Relu", y), kernel_shape=[2, 2])
    powers = [np.float32([1, -0.5, 0]), beta[::-1].copy(), mean * 0, np.float32([0.25, 4, 1])]
    w = net.node("BatchNormalization", x, *powers, epsilon=0.0)
    w = net.node("Conv", w, net.quant(halves(RNG, (2, 3, 1, 1)))) if before == "quantizer" else w
    finish(net, y, z, w, least=5)


@pytest.mark.parametrize("op", ["Relu", "LeakyRelu", "PRelu", "Clip", "HardTanh"])
@pytest.mark.parametrize("factor", [1.0, -0.7])
def test_activations(op, factor):
    net, x = start(5.0)
    y = net.node("Mul", x, np.float32(factor))
    forms = {
        "Relu": [net.node("Relu", y)],
        "LeakyRelu": [
            net.node("LeakyRelu", y),
            net.node("LeakyRelu", y, alpha=0.25),
            net.node("LeakyRelu", y, alpha=-0.5),
        ],
        "PRelu": [
            net.node("PRelu", y, np.float32([0.25, -0.5, 1.5]).reshape(3, 1, 1)),
            net.node("PRelu", y, np.float32([0.1])),
        ],
        "Clip": [
            net.node("Clip", y, np.float32(-0.6), np.float32(0.8)),
            net.node("Clip", y, None, np.float32(0.5)),
            net.node("Clip", y, np.float32(0.5)),
            net.node("Clip", y),
        ],
        "HardTanh": [
            net.node("Clip", y, np.float32(-1), np.float32(1)),
            net.node("Clip", y, np.float32(0.3), np.float32(0.3)),
        ],
    }[op]
    for z in forms:
        net.quant(z, 0.25, 0, 3, rounding_mode="HALF_UP")
    finish(net, forms[-1], *forms[:-1], *[net.quant(z, 0.2, 0, 4) for z in forms])


def test_clip_by_attributes():
    net, x = start(opset=10)
    finish(net, net.node("Clip", x, min=-0.6, max=0.8), net.node("Clip", x, max=0.5), least=4)


def test_several_activations_in_a_row():
    net, x = start()
    y = net.node("Relu", net.node("Add", x, np.float32([0.5, -0.5, 0.1]).reshape(3, 1, 1)))
    y = net.node("Sub", np.float32(1), net.node("Mul", y, np.float32(1.5)))
    y = net.node("LeakyRelu", y, alpha=0.125)
    y = net.node("Clip", net.node("Neg", y), np.float32(-0.9), np.float32(0.11))
    finish(net, y, net.node("Add", net.node("PRelu", y, np.float32([-1])), y), least=4)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("shape", [SHAPE, (1, 3, 1, 1), (5,), (4, 1), ()])
def test_two_tensors(op, shape):
    net, x = start(2.0)
    y = net.quant(net.input(*shape, name="y"), 0.375, -1.0, 3)
    ends = [net.node(op, x, y), net.node(op, y, x)]
    ends += [net.quant(e, s, 0, 5) for e in ends for s in (0.25, 0.3)]
    inputs = {"x": halves(RNG, SHAPE), "y": halves(RNG, shape)}
    check(net.model(*ends), inputs, 8)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_a_tensor_with_itself(op):
    net, x = start(2.0)
    relu = net.node("Relu", x)
    both = net.node(op, relu, x)
    finish(net, net.node(op, x, x), both, net.node(op, both, both), net.node(op, relu, relu), least=5)


def test_residual_of_unquantized_accumulators():
    net, x = start()
    a = net.node("Relu", net.node("Conv", x, net.quant(halves(RNG, (3, 3, 1, 1))), np.float32([0.3, 0, -1])))
    b = net.node("Conv", x, net.quant(halves(RNG, (3, 3, 1, 1)), np.float32([0.25, 0.5, 0.3]).reshape(3, 1, 1, 1)))
    y = net.node("Add", a, b)
    finish(net, net.node("Add", y, net.node("Relu", y)), net.node("Sub", y, x), least=4)


def test_sum_of_channel_scales():
    net, x = start(scale=np.float32([0.25, 0.5, 0.375]).reshape(1, 3, 1, 1))
    y = net.quant("x", np.float32([0.125, 0.5, 0.3]).reshape(1, 3, 1, 1), 0, 5)
    finish(net, net.node("Add", x, y), net.node("Mul", x, y), net.node("Sub", y, x), least=5)


def test_pass_through():
    net, x = start()
    y = net.node("Identity", net.node("Dropout", net.node("Cast", x, to=TensorProto.DOUBLE)))
    finish(net, net.node("Relu", y))


def test_casts_of_codes():
    net = Net()
    q = net.node("QuantizeLinear", net.input(2, 4), np.float32(0.25), np.int8(0))
    wide = net.node("Cast", q, to=TensorProto.INT32)
    run = check(net.model(wide, kinds={wide: TensorProto.INT32}), {"x": halves(RNG, (2, 4))})
    assert run.outputs[wide].dtype == np.int32


def test_a_cast_to_another_kind_of_number_is_refused():
    net = Net(21)
    q = net.node("QuantizeLinear", net.input(2, 4), np.float32(0.25), np.int8(0))
    y = net.quant(net.node("Cast", net.node("Cast", q, to=TensorProto.FLOAT8E4M3FN), to=TensorProto.FLOAT))
    with pytest.raises(intsim.IntsimError, match="neither an integer"):
        intsim.load(net.model(y))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Neg", "Relu"])
def test_arithmetic_on_integer_outputs(op):
    """ONNX integers all the way out: the output is the result, not the codes it is a function of."""
    net = Net()
    x = net.input(2, 3, kind=TensorProto.INT32)
    y = net.node(
        "MatMulInteger", net.input(2, 3, name="y", kind=TensorProto.INT8), np.int8(RNG.integers(-9, 9, (3, 3)))
    )
    args = [np.int32([[-1, 2, 3]])] if op in ("Add", "Sub", "Mul") else []
    z = net.node(op, y, *args)
    w = net.node("ReduceSum", y, np.int64([1]), keepdims=0)
    model = net.model(z, w, x, kinds={z: TensorProto.INT32, w: TensorProto.INT32, x: TensorProto.INT32})
    del model.graph.output[2]
    del model.graph.input[0]
    values = RNG.integers(-128, 128, (2, 3)).astype(np.int8)
    run = check(model, {"y": values}, 1)
    acc = values.astype(np.int64) @ run_weights(model)
    wanted = {
        "Add": acc + np.array([-1, 2, 3]),
        "Sub": acc - [-1, 2, 3],
        "Mul": acc * [-1, 2, 3],
        "Neg": -acc,
        "Relu": np.maximum(acc, 0),
    }[op]
    np.testing.assert_array_equal(run.outputs[z], wanted)
    np.testing.assert_array_equal(run.outputs[w], acc.sum(axis=1))
    assert run.outputs[z].dtype == np.int32


def run_weights(model):
    from onnx import numpy_helper

    return numpy_helper.to_array(model.graph.initializer[0]).astype(np.int64)
