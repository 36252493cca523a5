"""Every multiply-accumulate operator the front end reads, against the reference."""

import numpy as np
import pytest
from onnx import TensorProto

import intsim

from .build import CHANNELS_LAST, Net, check, halves

RNG = np.random.default_rng(2)


def run_conv(x_shape, w_shape, op="Conv", zero=0.0, bias=True, x_scale=0.25, w_scale=0.25, **attributes):
    net = Net()
    x = net.quant(net.input(*x_shape), x_scale, zero, 4, signed=int(zero == 0))
    w = net.quant(halves(RNG, w_shape), w_scale, 0, 4)
    channels = w_shape[0] if op == "Conv" else w_shape[1] * attributes.get("group", 1)
    args = [np.float32(RNG.integers(-20, 20, channels) / 16)] if bias else []
    a = net.node(op, x, w, *args, **attributes)
    return check(net.model(a, net.quant(a, 0.75, zero, 5, signed=int(zero == 0))), {"x": halves(RNG, x_shape)}, 3)


@pytest.mark.parametrize("zero", [0.0, 6.0, 2.5])
@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((2, 3, 9), (4, 3, 3), {}),
        ((1, 2, 9), (4, 2, 4), {"pads": [3, 1], "strides": [2], "dilations": [2]}),
        ((2, 3, 6, 7), (4, 3, 3, 2), {"pads": [1, 0, 2, 3]}),
        ((1, 4, 6, 7), (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 1]}),
        ((1, 3, 6, 7), (3, 1, 3, 3), {"group": 3, "pads": [1, 1, 1, 1], "dilations": [1, 2]}),
        ((2, 3, 6, 7), (6, 1, 3, 3), {"group": 3, "pads": [2, 0, 0, 1], "strides": [2, 3]}),
        ((1, 2, 6, 7), (2, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((1, 2, 6, 7), (2, 2, 2, 4), {"auto_pad": "SAME_LOWER", "strides": [1, 3]}),
        ((1, 2, 6, 7), (2, 2, 2, 4), {"auto_pad": "SAME_LOWER", "dilations": [2, 1]}),
        ((1, 2, 6, 7), (2, 2, 3, 3), {"auto_pad": "VALID", "pads": [1, 1, 1, 1]}),
        ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"pads": [1, 0, 1, 0, 1, 0], "strides": [1, 2, 1]}),
        ((1, 2, 3, 3), (2, 2, 3, 3), {}),
        ((1, 2, 1, 1), (2, 2, 1, 1), {}),
    ],
)
def test_conv(x, w, attributes, zero):
    run_conv(x, w, zero=zero, **attributes)


def test_conv_without_bias():
    run_conv((1, 3, 5, 5), (2, 3, 3, 3), bias=False)


def test_conv_with_a_scale_for_each_input_channel():
    """Brought to a common grid, or, for a depthwise layer, kept."""
    scale = np.float32([0.25, 0.5, 0.375]).reshape(1, 3, 1, 1)
    run_conv((2, 3, 6, 6), (4, 3, 3, 3), x_scale=scale)
    run_conv((2, 3, 6, 6), (6, 1, 3, 3), x_scale=scale, group=3, pads=[1, 1, 1, 1])
    run_conv((2, 3, 6, 6), (6, 1, 3, 3), x_scale=scale, group=3, zero=2.5, pads=[1, 1, 1, 1])


def test_depthwise_conv_of_a_tensor_with_an_offset_for_each_position():
    """The scale changes by channel, the offset by position: both must be brought to one grid."""
    net = Net()
    x = net.quant(net.input(1, 2, 2, 2), np.float32([0.25, 0.5]).reshape(1, 2, 1, 1))
    shifted = net.node("Add", x, np.float32(RNG.integers(-8, 8, (1, 2, 2, 2)) / 8))
    a = net.node("Conv", shifted, net.quant(halves(RNG, (2, 1, 2, 2))), group=2, pads=[1, 0, 0, 1])
    check(net.model(a, net.quant(a, 0.75)), {"x": halves(RNG, (1, 2, 2, 2))}, 3)


def test_depthwise_conv_whose_channel_scales_settle_on_one_grid():
    """Scales 1/4 and 3/4 with offsets in 1/4: both channels end on the grid 1/4, each feeds two output channels."""
    net = Net()
    x = net.quant(net.input(1, 2, 3, 3), np.float32([0.25, 0.75]).reshape(1, 2, 1, 1))
    shifted = net.node("Add", x, np.float32([0.25, 0.25]).reshape(1, 2, 1, 1))
    a = net.node(
        "Conv",
        shifted,
        net.quant(halves(RNG, (4, 1, 2, 2)), np.float32([0.25, 0.5, 0.125, 1]).reshape(4, 1, 1, 1)),
        group=2,
    )
    check(net.model(a, net.quant(a, 0.75)), {"x": halves(RNG, (1, 2, 3, 3))}, 3)


def test_conv_weights_with_a_scale_inside_a_channel():
    scale = np.float32(2.0 ** RNG.integers(-3, 0, (2, 3, 1, 1)))
    run_conv((1, 3, 5, 5), (2, 3, 3, 3), w_scale=scale)
    run_conv((1, 4, 5, 5), (4, 2, 3, 3), w_scale=np.float32(2.0 ** RNG.integers(-3, 0, (1, 2, 1, 1))), group=2)


@pytest.mark.parametrize("zero", [0.0, 6.0, 2.5])
@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((2, 3, 5), (3, 4, 3), {}),
        ((1, 3, 5, 4), (3, 2, 3, 2), {"strides": [2, 3], "pads": [1, 0, 0, 1]}),
        ((1, 3, 5, 4), (3, 2, 2, 2), {"strides": [2, 2]}),
        ((1, 3, 4, 4), (3, 2, 3, 3), {"strides": [3, 2], "output_padding": [2, 1], "pads": [1, 1, 1, 1]}),
        ((1, 4, 4, 4), (4, 3, 3, 3), {"group": 2, "strides": [2, 2], "dilations": [2, 1]}),
        ((1, 4, 4, 4), (4, 1, 3, 3), {"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((1, 4, 4, 4), (4, 2, 4, 4), {"group": 4, "strides": [2, 2], "pads": [3, 3, 3, 3]}),
        ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": [3, 2], "output_shape": [10, 8]}),
        ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": [3, 2], "output_shape": [8, 6], "auto_pad": "SAME_UPPER"}),
        ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": [3, 2], "output_shape": [8, 6], "output_padding": [1, 1]}),
        ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        ((1, 2, 2, 3, 2), (2, 3, 2, 2, 2), {"strides": [2, 1, 2]}),
    ],
)
def test_conv_transpose(x, w, attributes, zero):
    run_conv(x, w, "ConvTranspose", zero=zero, **attributes)


def test_conv_transpose_with_channel_scales():
    scale = np.float32([0.25, 0.5, 0.3])
    run_conv((1, 2, 4, 4), (2, 3, 3, 3), "ConvTranspose", w_scale=scale.reshape(1, 3, 1, 1), strides=[2, 2])
    run_conv((1, 4, 4, 4), (4, 3, 2, 2), "ConvTranspose", w_scale=scale.reshape(1, 3, 1, 1), group=2)
    run_conv((1, 3, 4, 4), (3, 1, 2, 2), "ConvTranspose", w_scale=scale.reshape(3, 1, 1, 1), group=3)


@pytest.mark.parametrize("x", [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 5)])
@pytest.mark.parametrize("w", [(5,), (5, 4), (2, 5, 4), (2, 1, 5, 2)])
@pytest.mark.parametrize("zero", [0.0, 3.0])
def test_matmul_by_a_constant(x, w, zero):
    net = Net()
    q = net.quant(net.input(*x), 0.25, zero, 4)
    a = net.node("MatMul", q, net.quant(halves(RNG, w), 0.5, zero, 4))
    check(net.model(a, net.quant(a, 0.75)), {"x": halves(RNG, x)}, 3)


@pytest.mark.parametrize(
    ("w", "x"), [((4, 5), (5, 3)), ((4, 5), (2, 5, 3)), ((2, 4, 5), (5, 3)), ((2, 4, 5), (2, 5, 3))]
)
def test_matmul_constant_on_the_left(w, x):
    net = Net()
    scale = np.float32(2.0 ** RNG.integers(-3, 0, (w[-2], 1)))
    a = net.node("MatMul", net.quant(halves(RNG, w), scale), net.quant(net.input(*x), 0.25, 1.0, 4))
    check(net.model(a, net.quant(a, 0.75)), {"x": halves(RNG, x)}, 3)


@pytest.mark.parametrize(
    ("x", "y"),
    [((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((3, 5), (2, 5, 4)), ((5,), (5, 4)), ((3, 5), (5,)), ((5,), (5,))],
)
@pytest.mark.parametrize("zero", [0.0, 3.0])
def test_matmul_of_two_activations(x, y, zero):
    net = Net()
    a = net.quant(net.input(*x), 0.25, zero, 4)
    b = net.quant(net.input(*y, name="y"), 0.5, -zero, 4)
    c = net.node("MatMul", a, b)
    check(net.model(c, net.quant(c, 0.75)), {"x": halves(RNG, x), "y": halves(RNG, y)}, 4)


def test_attention_like():
    """Two batched products of activations, the second with an unquantized accumulator behind Relu."""
    net = Net()
    x = net.quant(net.input(2, 4, 6), 0.25, 0, 4)
    t = net.node("Transpose", x, perm=[0, 2, 1])
    a = net.node("Relu", net.node("MatMul", x, t))
    b = net.node("MatMul", net.quant(a, 0.5, 0, 4, signed=0), x)
    check(net.model(a, b, net.node("MatMul", a, x)), {"x": halves(RNG, (2, 4, 6))}, 4)


@pytest.mark.parametrize("bias", [None, (), (1,), (4,), (1, 4), (3, 1), (3, 4)])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.3, 1.0), (1.0, -0.7), (2.0, 0.0)])
def test_gemm(bias, quantized, alpha, beta):
    net = Net()
    x = net.quant(net.input(3, 5), 0.25, 1.0, 4)
    w = net.quant(halves(RNG, (5, 4)), np.float32([[0.25, 0.5, 0.3, 1]]))
    args = []
    if bias is not None:
        c = np.asarray(halves(RNG, bias) + np.float32(1 / 64))
        args = [net.quant(c, 0.125, 0, 8) if quantized else c]
    a = net.node("Gemm", x, w, *args, alpha=alpha, beta=beta)
    check(net.model(a, net.quant(a, 0.75)), {"x": halves(RNG, (3, 5))}, 3)


@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [0, 1])
def test_gemm_transposed(a, b):
    net = Net()
    x = net.quant(net.input(*[(3, 5), (5, 3)][a]), 0.25, 1.0, 4)
    w = net.quant(halves(RNG, [(5, 4), (4, 5)][b]), 0.25)
    y = net.node("Gemm", x, w, transA=a, transB=b)
    check(net.model(y), {"x": halves(RNG, [(3, 5), (5, 3)][a])}, 2)


def test_gemm_of_activations():
    net = Net()
    x = net.quant(net.input(3, 4), 0.25, 1.0, 4)
    y = net.quant("x", 0.5, 0, 3)
    a = net.node("Gemm", x, y, transB=1, alpha=0.5)
    b = net.node("Gemm", x, net.quant(halves(RNG, (4, 4))), y, beta=0.75)
    check(net.model(a, b), {"x": halves(RNG, (3, 4))}, 4)


def test_weights_that_are_integers_written_as_floats():
    net = Net()
    a = net.node("Conv", net.quant(net.input(1, 2, 5, 5)), np.float32(RNG.integers(-9, 9, (3, 2, 3, 3)) / 8))
    check(net.model(a), {"x": halves(RNG, (1, 2, 5, 5))}, 2)


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("zero", [0.0, 6.0])
def test_channels_last(group, zero):
    net = Net()
    x = net.quant(net.input(2, 6, 7, 3), 0.25, zero, 4, signed=int(zero == 0))
    w = net.quant(halves(RNG, (6, 3, 2, 3 // group)), np.float32(RNG.integers(1, 9, (6, 1, 1, 1)) / 16))
    a = net.node(
        "Conv",
        x,
        w,
        np.float32(RNG.integers(-9, 9, 6) / 8),
        domain=CHANNELS_LAST,
        group=group,
        kernel_shape=[3, 2],
        pads=[1, 0, 2, 1],
        strides=[2, 1],
    )
    parameters = [np.float32(RNG.normal(size=6)) for _ in range(3)] + [np.float32(RNG.uniform(0.5, 2, 6))]
    b = net.node("BatchNormalization", a, *parameters, domain=CHANNELS_LAST)
    p = net.node("MaxPool", net.quant(b, 0.5, 0, 6), domain=CHANNELS_LAST, kernel_shape=[2, 2], strides=[1, 2])
    check(net.model(a, p), {"x": halves(RNG, (2, 6, 7, 3))}, 4)


@pytest.mark.parametrize("kinds", [(np.uint8, np.int8), (np.int8, np.uint8), (np.int8, np.int8), (np.uint8, np.uint8)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_qlinear_conv(kinds, per_channel):
    net = Net()
    first, second = kinds
    x = net.node("QuantizeLinear", net.input(1, 2, 6, 6), np.float32(0.25), first(3))
    n = 4 if per_channel else 1
    w = RNG.integers(np.iinfo(second).min, np.iinfo(second).max + 1, (4, 2, 3, 3)).astype(second)
    wz = RNG.integers(0, 5, n).astype(second)
    ws = np.float32(RNG.integers(1, 9, n) / 64)
    wz, ws = (wz, ws) if per_channel else (wz[0], ws[0])
    bias = RNG.integers(-3000, 3000, 4).astype(np.int32)
    args = [x, np.float32(0.25), first(3), w, ws, wz, np.float32(1.5), first(5), bias]
    y = net.node("QLinearConv", *args, pads=[1, 1, 0, 2], strides=[2, 1])
    z = net.node("DequantizeLinear", y, np.float32(1.5), first(5))
    kind = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}[first]
    run = check(net.model(y, z, kinds={y: kind}), {"x": halves(RNG, (1, 2, 6, 6), reach=60)}, 3)
    assert run.outputs[y].dtype == first


@pytest.mark.parametrize("per", [False, True])
def test_qlinear_matmul(per):
    net = Net()
    a = net.node("QuantizeLinear", net.input(3, 5), np.float32(0.25), np.uint8(7))
    w = RNG.integers(-128, 128, (5, 4)).astype(np.int8)
    sa, za = (np.float32([0.25, 0.5, 1]), np.uint8([7, 0, 3])) if per else (np.float32(0.25), np.uint8(7))
    sb, zb = (np.float32([1, 2, 3, 0.3]), np.int8([0, -4, 9, 1])) if per else (np.float32(0.3), np.int8(3))
    y = net.node(
        "QLinearMatMul",
        a,
        np.asarray(sa),
        np.asarray(za),
        w,
        np.asarray(sb),
        np.asarray(zb),
        np.float32(4),
        np.int8(-3),
    )
    z = net.node("DequantizeLinear", y, np.float32(4), np.int8(-3))
    check(net.model(y, z, kinds={y: TensorProto.INT8}), {"x": halves(RNG, (3, 5), reach=60)}, 3)


def test_qlinear_matmul_of_activations():
    net = Net()
    a = net.node("QuantizeLinear", net.input(2, 3, 5), np.float32(0.25), np.uint8(7))
    b = net.node("QuantizeLinear", net.input(2, 5, 4, name="y"), np.float32(0.5), np.int8(-7))
    y = net.node(
        "QLinearMatMul", a, np.float32(0.25), np.uint8(7), b, np.float32(0.5), np.int8(-7), np.float32(0.9), np.int8(1)
    )
    inputs = {"x": halves(RNG, (2, 3, 5)), "y": halves(RNG, (2, 5, 4))}
    check(net.model(y, kinds={y: TensorProto.INT8}), inputs, 4)


def test_conv_integer():
    net = Net()
    x = net.input(1, 2, 5, 6, kind=TensorProto.UINT8)
    w = RNG.integers(-128, 128, (4, 2, 3, 3)).astype(np.int8)
    y = net.node("ConvInteger", x, w, np.uint8(9), np.int8([1, 0, -3, 7]), pads=[1, 1, 1, 1])
    f = net.node("Mul", net.node("Cast", y, to=1), np.float32(0.01))
    codes = RNG.integers(0, 256, (1, 2, 5, 6)).astype(np.uint8)
    run = check(net.model(y, net.quant(f, 0.75, 0, 8), kinds={y: TensorProto.INT32}), {"x": codes}, 2)
    assert run.outputs[y].dtype == np.int32


@pytest.mark.parametrize("per", [False, True])
def test_matmul_integer(per):
    net = Net()
    x = net.input(3, 5, kind=TensorProto.INT8)
    w = RNG.integers(0, 256, (5, 4)).astype(np.uint8)
    za, zb = (np.int8([1, 0, -3]), np.uint8([1, 2, 3, 255])) if per else (np.int8(-4), np.uint8(100))
    y = net.node("MatMulInteger", x, w, np.asarray(za), np.asarray(zb))
    check(net.model(y, kinds={y: TensorProto.INT32}), {"x": RNG.integers(-128, 128, (3, 5)).astype(np.int8)}, 1)


def test_matmul_integer_of_activations():
    net = Net()
    x, z = net.input(3, 5, kind=TensorProto.INT8), net.input(5, 4, name="y", kind=TensorProto.UINT8)
    y = net.node("MatMulInteger", x, z, np.int8(-4), np.uint8(100))
    inputs = {"x": RNG.integers(-128, 128, (3, 5)).astype(np.int8), "y": RNG.integers(0, 256, (5, 4)).astype(np.uint8)}
    check(net.model(y, kinds={y: TensorProto.INT32}), inputs, 1)


@pytest.mark.parametrize("target", ["exact", "wrap-12", "cpu-int32"])
@pytest.mark.parametrize("strides", [[1 << 40, 1], [1, 1 << 40], [7, 6], [5, 4]])
def test_strides_beyond_the_input(strides, target):
    """One position along an axis; memory doesn't grow with the stride."""
    rng, net = np.random.default_rng(0), Net()
    x = net.quant(net.input(1, 2, 4, 4), 1, 0, 4, signed=0)
    w = net.quant(rng.integers(-3, 4, (3, 2, 2, 3)).astype(np.float32), 1, 0, 4)
    y = net.quant(net.node("Conv", x, w, strides=strides, pads=[0, 1, 1, 1]), 1, 0, 8)
    model, feeds = net.model(y), {"x": rng.integers(0, 16, (1, 2, 4, 4)).astype(np.float32)}
    wanted = check(model, feeds).outputs[y]
    np.testing.assert_array_equal(intsim.load(model).run(feeds, target).outputs[y], wanted)


@pytest.mark.parametrize("zero", [0.0, 6.0])
@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((2, 3, 9), (4, 3, 3), {"pads": [1, 2], "strides": [2]}),
        ((1, 4, 5, 6), (6, 2, 3, 2), {"pads": [1, 0, 2, 1], "group": 2, "dilations": [1, 2]}),
        ((1, 3, 4, 4), (3, 1, 2, 2), {"group": 3, "auto_pad": "SAME_UPPER"}),
        ((1, 2, 3, 4, 3), (2, 2, 2, 2, 2), {"pads": [1, 0, 0, 0, 1, 0]}),
    ],
)
def test_convolution_of_two_tensors(x, w, attributes, zero):
    """Weights that are the data's, behind a quantizer of their own; a constant bias."""
    net = Net()
    a = net.quant(net.input(*x), 0.25, zero, 4, signed=int(zero == 0))
    b = net.quant(net.input(*w, name="w"), 0.5, 0, 4)
    y = net.node("Conv", a, b, np.float32(RNG.integers(-9, 9, w[0]) / 16), **attributes)
    inputs = {"x": halves(RNG, x), "w": halves(RNG, w, 0.5)}
    check(net.model(y, net.quant(y, 0.75, 0, 5)), inputs, 3)


@pytest.mark.parametrize("codes", [np.uint8, np.int8])
def test_convolution_of_integers_of_run_time(codes):
    net = Net(opset=13)
    kind = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}[codes]
    x, w = net.input(1, 2, 4, 4, kind=kind), net.input(3, 2, 2, 2, name="w", kind=kind)
    y = net.node("ConvInteger", x, w, np.array(3, codes), np.array([1, 2, 100], codes), pads=[1] * 4)
    info = np.iinfo(codes)
    inputs = {
        n: RNG.integers(info.min, info.max, s).astype(codes) for n, s in (("x", (1, 2, 4, 4)), ("w", (3, 2, 2, 2)))
    }
    run = intsim.run(net.model(y, kinds={y: TensorProto.INT32}), inputs=inputs)
    padded = np.pad(inputs["x"].astype(int) - 3, [(0, 0), (0, 0), (1, 1), (1, 1)])
    shifted = inputs["w"].astype(int) - np.array([1, 2, 100]).reshape(3, 1, 1, 1)
    wanted = [
        [[(padded[0, :, i : i + 2, j : j + 2] * kernel).sum() for j in range(5)] for i in range(5)]
        for kernel in shifted
    ]
    assert run.outputs[y].tolist() == [wanted]


def test_a_kernel_of_run_time_that_is_too_large_is_refused():
    net = Net()
    y = net.node("Conv", net.quant(net.input(1, 1, 2, 2)), net.quant(net.input(1, 1, 3, 3, name="w")))
    with pytest.raises(intsim.IntsimError, match="larger than the padded input"):
        intsim.load(net.model(net.quant(y)))


@pytest.mark.parametrize("zeros", [[3], [3, 3, 3], [-3, 0, 4], [1, -128, 127]])
@pytest.mark.parametrize("whole", [False, True])
def test_qlinear_matmul_with_an_output_scale_a_row(zeros, whole):
    """Of shape (M,) or with the output's axes: rounded to even codes before each row's zero point is added."""
    net = Net()
    a = net.node("QuantizeLinear", net.input(2, 3, 5), np.float32(0.25), np.uint8(7))
    w = RNG.integers(-128, 128, (5, 4)).astype(np.int8)
    scale, zero = np.float32([2, 3, 0.7]), np.int8(zeros)
    if whole:
        scale = np.float32(RNG.choice([2, 3, 0.7], (2, 3, 1)))
        zero = np.broadcast_to(zero.reshape(-1, 1), (2, 3, 1)) if zero.size > 1 else zero
    y = net.node("QLinearMatMul", a, np.float32(0.25), np.uint8(7), w, np.float32(0.5), np.int8(3), scale, zero)
    check(net.model(y, kinds={y: TensorProto.INT8}), {"x": halves(RNG, (2, 3, 5), reach=60)}, 3)


def test_qlinear_matmul_with_an_output_scale_a_column_is_refused():
    net = Net()
    a = net.node("QuantizeLinear", net.input(3, 5), np.float32(0.25), np.uint8(7))
    w = RNG.integers(-128, 128, (5, 4)).astype(np.int8)
    scale = np.float32([1, 2, 3, 4])
    y = net.node("QLinearMatMul", a, np.float32(0.25), np.uint8(7), w, np.float32(0.5), np.int8(3), scale, np.int8(0))
    with pytest.raises(intsim.IntsimError, match=r"scale or zero point has shape \(4,\); .* one for each row"):
        intsim.load(net.model(y, kinds={y: TensorProto.INT8}))


NEGATIVE = {
    "conv": (lambda n, x, w: n.node("Conv", x, w, np.float32([0.3, -1, 2]), pads=[1] * 4), (3, 2, 3, 3), 0),
    "transposed": (lambda n, x, w: n.node("ConvTranspose", x, w, strides=[2, 2]), (2, 3, 2, 2), 1),
    "product": (lambda n, x, w: n.node("MatMul", x, w), (5, 3), 1),
    "largest": (lambda n, x, w: n.node("MaxPool", n.node("Conv", x, w), kernel_shape=[2, 2]), (3, 2, 3, 3), 0),
    "sum": (lambda n, x, w: n.node("Add", x, n.node("Relu", w)), (1, 2, 5, 5), 1),
}


@pytest.mark.parametrize("name", NEGATIVE)
def test_weights_with_negative_scales(name):
    """DequantizeLinear multiplies by whatever scale it has; each channel's sign is its own."""
    make, shape, axis = NEGATIVE[name]
    net = Net()
    x = net.qdq(net.input(1, 2, 5, 5), 0.25, np.uint8(7))
    codes = net.const(RNG.integers(-128, 128, shape).astype(np.int8))
    scale = np.float32(RNG.choice([-1, 1], shape[axis]) * RNG.uniform(0.01, 0.1, shape[axis]))
    scale[0] = -abs(scale[0])
    w = net.node("DequantizeLinear", codes, scale, np.zeros(shape[axis], np.int8), axis=axis)
    y = net.qdq(make(net, x, w), 0.375, np.uint8(100))
    check(net.model(y), {"x": halves(RNG, (1, 2, 5, 5), reach=60)}, 2)


def test_qlinear_conv_with_a_negative_scale_of_weights():
    net = Net()
    a = net.node("QuantizeLinear", net.input(1, 2, 5, 5), np.float32(0.25), np.uint8(7))
    w = RNG.integers(-128, 128, (3, 2, 3, 3)).astype(np.int8)
    ws, bias = np.float32([-0.1, 0.2, -0.3]), RNG.integers(-900, 900, 3).astype(np.int32)
    y = net.node(
        "QLinearConv", a, *(np.float32(0.25), np.uint8(7)), w, ws, np.int8([0, 0, 0]), np.float32(4), np.uint8(9), bias
    )
    check(net.model(y, kinds={y: TensorProto.UINT8}), {"x": halves(RNG, (1, 2, 5, 5), reach=60)}, 2)


@pytest.mark.parametrize(("scale", "text"), [(0, "its scale is zero$"), (np.nan, "NaN or infin")])
def test_weights_without_a_scale(scale, text):
    net = Net()
    x = net.qdq(net.input(1, 5), 0.25, np.uint8(7))
    w = net.node("DequantizeLinear", net.const(np.ones((5, 3), np.int8)), np.float32(scale), np.int8(0))
    with pytest.raises(intsim.IntsimError, match=text):
        intsim.load(net.model(net.qdq(net.node("MatMul", x, w), 0.375, np.uint8(100))))
