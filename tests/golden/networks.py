"""Networks of a few layers for vectors: convolution, depthwise, add, pools and a dense layer."""

import numpy as np
import onnx
from frontend.build import Net

RNG = np.random.default_rng(5)


def mixed(signed: bool = False, zero: bool = True, scale: float = 1.0, convolutions: bool = False) -> onnx.ModelProto:
    """QuantizeLinear and DequantizeLinear around each: conv, relu, depthwise, add, average pool, max pool, dense.

    `signed` codes or not, with a zero point other than 0 unless `zero` is False. A `scale` other than 1 makes all
    scales powers of two. With `convolutions` those alone, as runtimes fuse them.
    """
    rng, net = np.random.default_rng(7), Net(opset=17)
    kind = np.int8 if signed else np.uint8

    def q(x, step, at):
        return net.qdq(x, step, np.asarray(at if zero else 0, kind))

    def weight(*shape, per_channel=True):
        codes = rng.integers(-127, 127, shape, endpoint=True).astype(np.int8)
        step = (
            np.float32(2.0 ** -rng.integers(5, 8, shape[0]))
            if per_channel and scale == 1.0
            else np.float32(scale * 2**-6)
        )
        if per_channel and scale == 1.0:
            step = np.float32(step * rng.uniform(0.5, 1, shape[0]))
        zeros = np.zeros(np.shape(step), np.int8)
        at = {"axis": 0} if zeros.ndim else {}
        return net.node("DequantizeLinear", net.const(codes), net.const(np.float32(step)), net.const(zeros), **at), step

    def bias(count, step):
        codes = rng.integers(-900, 900, count).astype(np.int32)
        step = np.float32(step)
        at = {"axis": 0} if step.ndim else {}
        zeros = np.zeros(step.shape, np.int32)
        return net.node("DequantizeLinear", net.const(codes), net.const(step), net.const(zeros), **at)

    step = [2.0**-4, 2.0**-3, 2.0**-2, 2.0**-2] if scale != 1.0 else [0.061, 0.127, 0.23, 0.31]
    x = q(net.input(1, 3, 6, 5), step[0], -3 if signed else 7)
    w, sw = weight(4, 3, 3, 3)
    a = net.node(
        "Conv", x, w, bias(4, np.float32(step[0]) * sw), kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]
    )
    a = q(net.node("Relu", a), step[1], 0 if convolutions else -5 if signed else 3)
    w, sw = weight(4, 1, 3, 2)
    pads = [1, 1, 1, 1] if convolutions else [1, 0, 1, 1]
    b = net.node(
        "Conv", a, w, bias(4, np.float32(step[1]) * sw), kernel_shape=[3, 2], pads=pads, group=4, strides=[1, 1]
    )
    b = q(b, step[2], 0 if signed else 128)
    if convolutions:
        return named(net, b, ("first", "each"))
    s = q(net.node("Add", a, b), step[3], 1 if signed else 120)
    p = q(net.node("AveragePool", s, kernel_shape=[2, 2], strides=[2, 2]), step[3], 1 if signed else 120)
    m = net.node("MaxPool", p, kernel_shape=[1, 2], strides=[1, 1])
    f = net.node("Flatten", m)
    w, sw = weight(5, 12, per_channel=False)
    y = q(net.node("Gemm", f, w, bias(5, np.float32(step[3]) * sw), transB=1), step[3] * 8, 2 if signed else 100)
    return named(net, y, ("first", "each", "sum", "mean", "most", "last"))


def unsigned_weights() -> onnx.ModelProto:
    """One convolution whose weights are u8 with a zero point, and so are its activations."""
    rng, net = np.random.default_rng(13), Net(opset=17)
    x = net.qdq(net.input(1, 2, 4, 4), 0.05, np.uint8(9))
    w = net.const(rng.integers(0, 256, (3, 2, 3, 3)).astype(np.uint8))
    w = net.node("DequantizeLinear", w, net.const(np.float32(0.02)), net.const(np.uint8(117)))
    y = net.node("Conv", x, w, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    net.nodes[-1].name = "conv"
    return net.model(net.qdq(y, 0.3, np.uint8(100)))


def named(net: Net, end: str, names: tuple[str, ...]) -> onnx.ModelProto:
    """The model, its operators called by these names."""
    operators = [n for n in net.nodes if n.op_type in ("Conv", "Add", "AveragePool", "MaxPool", "Gemm")]
    for node, name in zip(operators, names, strict=True):
        node.name = name
    return net.model(end)


def packed() -> onnx.ModelProto:
    """One convolution of u4 and s4 with three channels, so that sets of packed multipliers have a gap."""
    rng, net = np.random.default_rng(11), Net()
    x = net.quant(net.input(1, 3, 4, 4), 0.25, 0, 4, signed=0)
    w = net.quant(np.float32(rng.integers(-8, 8, (3, 3, 3, 3)) * 0.25), 0.25, 0, 4)
    y = net.node("Conv", x, w, kernel_shape=[3, 3], pads=[1, 0, 0, 1])
    net.nodes[-1].name = "conv"
    return net.model(net.quant(y, 4.0, 0, 4))
