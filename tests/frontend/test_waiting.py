"""Numbers that are joined, moved or pooled before a quantizer rounds them."""

import numpy as np
import pytest
from onnx import TensorProto

import intsim

from .build import Net, check

S = np.float32(0.0371)


def branch(net, x, channels, seed, scale=0.013):
    """A convolution with a float bias and a scale a channel: its accumulators have no grid of 64 bits with others'."""
    rng = np.random.default_rng(seed)
    w = net.quant(rng.normal(0, 0.3, (channels, 2, 3, 3)), rng.uniform(0.5, 1.5, (channels, 1, 1, 1)) * scale, 0, 8)
    return net.node("Conv", x, w, np.float32(rng.normal(0, 0.4, channels)), pads=[1] * 4)


def three(net, x):
    """Relu of one, SiLU of another, and accumulators as they are."""
    a, b, c = (branch(net, x, n, n) for n in (2, 3, 1))
    return net.node("Relu", a), net.node("Mul", b, net.node("Sigmoid", b)), c


def norm(net, x, channels):
    rng = np.random.default_rng(channels)
    rows = (rng.normal(1, 0.5, channels), rng.normal(0, 1, channels), rng.normal(0, 1, channels))
    return net.node("BatchNormalization", x, *map(np.float32, rows), np.float32(rng.uniform(0.5, 2, channels)))


def joined(net, x, axis=1):
    return net.node("Concat", *three(net, x), axis=axis)


MOVED = {
    "joined": joined,
    "relu": lambda n, x: n.node("Relu", joined(n, x)),
    "normalized": lambda n, x: norm(n, joined(n, x), 6),
    "function of joined": lambda n, x: n.node("Tanh", norm(n, joined(n, x), 6)),
    "constant a channel": lambda n, x: n.node("Mul", joined(n, x), np.float32(np.arange(1, 7)).reshape(6, 1, 1) / 7),
    "transposed": lambda n, x: n.node("Transpose", joined(n, x), perm=[0, 2, 3, 1]),
    "shuffled": lambda n, x: n.node(
        "Reshape",
        n.node("Transpose", n.node("Reshape", joined(n, x), np.int64([1, 3, 2, 5, 5])), perm=[0, 2, 1, 3, 4]),
        np.int64([1, 6, 5, 5]),
    ),
    "picked": lambda n, x: n.node("Slice", joined(n, x), np.int64([1]), np.int64([5]), np.int64([1])),
    "part": lambda n, x: n.node("Split", joined(n, x), np.int64([4, 2]), axis=1, outputs=2)[1],
    "larger": lambda n, x: n.node("Resize", joined(n, x), None, np.float32([1, 1, 2, 2]), mode="nearest"),
    "pooled": lambda n, x: n.node("MaxPool", joined(n, x), kernel_shape=[2, 2], strides=[2, 2]),
    "relu of pooled": lambda n, x: n.node("Relu", n.node("GlobalMaxPool", joined(n, x))),
    "pooled function": lambda n, x: n.node("MaxPool", three(n, x)[1], kernel_shape=[3, 3], pads=[1] * 4),
    "moved function": lambda n, x: n.node("Transpose", n.node("Reshape", three(n, x)[1], np.int64([3, 25]))),
    "pyramid": lambda n, x: pyramid(n, three(n, x)[1]),
    "joined twice": lambda n, x: n.node("Concat", joined(n, x), three(n, x)[1], axis=1),
}


def pyramid(net, x):
    """Maxima of maxima, side by side."""
    rows = [x]
    for _ in range(3):
        rows.append(net.node("MaxPool", rows[-1], kernel_shape=[3, 3], pads=[1] * 4))
    return net.node("Concat", *rows, axis=1)


EVERYDAY = ("joined", "function of joined", "shuffled", "part", "larger", "relu of pooled", "pyramid", "joined twice")


@pytest.mark.parametrize("name", [n if n in EVERYDAY else pytest.param(n, marks=pytest.mark.slow) for n in MOVED])
def test_codes_are_those_of_the_file(name):
    net = Net(17)
    y = MOVED[name](net, net.quant(net.input(1, 2, 5, 5), S, 0, 8))
    model = net.model(net.quant(y, np.float32(0.021), 0, 8))
    graph = intsim.load(model).graph
    assert not any(n.op == "affine" for n in graph.nodes)
    rng = np.random.default_rng(3)
    check(model, {"x": rng.normal(0, 1.5, (1, 2, 5, 5)).astype(np.float32)}, 3)


def test_a_part_is_rounded_once_for_all_that_reads_it():
    net = Net(17)
    y = pyramid(net, three(net, net.quant(net.input(1, 2, 5, 5), S, 0, 8))[1])
    graph = intsim.load(net.model(net.quant(y, np.float32(0.021), 0, 8))).graph
    assert [n.op for n in graph.nodes] == ["conv", "staircase", *["max_pool"] * 3, "concat"]


def test_qcdq_and_two_quantizers():
    """Two readers round by scales of their own; the last one has a scale and a zero point a channel."""
    net = Net(17)
    y = joined(net, net.qdq(net.input(1, 2, 5, 5), S, np.int8(0)))
    a = net.node("QuantizeLinear", y, np.float32(0.05), np.uint8(7))
    zeros = np.int8([0, 3, -4, 1, 0, 9])
    b = net.node("QuantizeLinear", y, np.float32(np.arange(2, 8) / 99), zeros, axis=1)
    model = net.model(a, b, kinds={a: TensorProto.UINT8, b: TensorProto.INT8})
    rng = np.random.default_rng(4)
    check(model, {"x": rng.normal(0, 1.5, (1, 2, 5, 5)).astype(np.float32)}, 3)


def test_one_part_in_two_places_with_scales_of_their_own():
    net = Net(17)
    a, b, _ = three(net, net.quant(net.input(1, 2, 5, 5), S, 0, 8))
    y = net.node("Concat", b, a, b, axis=1)
    q = net.quant(y, np.float32(np.arange(2, 10) / 99).reshape(1, 8, 1, 1), 0, 8)
    rng = np.random.default_rng(5)
    check(net.model(q), {"x": rng.normal(0, 1.5, (1, 2, 5, 5)).astype(np.float32)}, 2)


def test_layers_are_compared_where_the_file_has_the_codes():
    net = Net(17)
    y = joined(net, net.quant(net.input(1, 2, 5, 5), S, 0, 8))
    model = net.model(net.quant(y, np.float32(0.021), 0, 8))
    verdict = intsim.verify(model, references=False)
    assert verdict.verdict == "exact"
    last = verdict.layers[-1]
    assert (last.op, last.elements) == ("Quant", 150)


COMPUTED = {
    "sum": lambda n, x: n.node("Add", joined(n, x), n.node("Concat", *three(n, x)[::-1], axis=1)),
    "constants of what was moved": lambda n, x: n.node(
        "Mul", MOVED["shuffled"](n, x), np.float32(np.arange(1, 7)).reshape(6, 1, 1)
    ),
    "mean": lambda n, x: n.node("GlobalAveragePool", joined(n, x)),
    "least": lambda n, x: n.node("ReduceMin", joined(n, x), axes=[1]),
    "falling function of the largest": lambda n, x: n.node("Neg", n.node("ReduceMax", joined(n, x), axes=[1])),
    "between": lambda n, x: n.node("Resize", joined(n, x), None, np.float32([1, 1, 2, 2]), mode="linear"),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_who_computes_with_several_of_the_numbers_has_them_on_a_grid(name):
    net = Net(17)
    y = COMPUTED[name](net, net.quant(net.input(1, 2, 5, 5), S, 0, 8))
    model = net.model(net.quant(y, np.float32(0.021), 0, 8))
    assert any(n.op in ("function", "grid") for n in intsim.load(model).graph.nodes)
    check(model, {"x": np.random.default_rng(3).normal(0, 1.5, (1, 2, 5, 5)).astype(np.float32)}, 2)


REFUSED = {
    "conv": lambda n, x: n.node("Conv", joined(n, x), n.quant(np.ones((1, 6, 1, 1), np.float32), 1, 0, 8)),
    "falling function of pooled": lambda n, x: n.node("Neg", n.node("GlobalMaxPool", joined(n, x))),
    "scales of what was moved": lambda n, x: n.quant(
        MOVED["shuffled"](n, x), np.float32(np.arange(1, 7)).reshape(1, 6, 1, 1), 0, 8
    ),
    "line that falls": lambda n, x: n.node("HardSigmoid", n.node("GlobalMaxPool", joined(n, x)), alpha=-0.3, beta=0.9),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    net = Net(17)
    y = REFUSED[name](net, net.quant(net.input(1, 2, 5, 5), S, 0, 8))
    with pytest.raises(intsim.IntsimError, match=r"put a quantizer in front|quantize it before that") as error:
        intsim.load(net.model(net.quant(y, np.float32(0.021), 0, 8)))
    assert "\n" not in str(error.value)
