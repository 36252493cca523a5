"""Pooling and reductions, against the reference."""

import numpy as np
import pytest
from onnx import TensorProto

import intsim
from intsim.errors import IntsimError

from .build import Net, check, halves

RNG = np.random.default_rng(4)


def run(shape, make, zero=0.0, scale=0.25, opset=17):
    """Quantize, apply `make` to the codes and to an accumulator with a negative slope, quantize again."""
    net = Net(opset)
    x = net.quant(net.input(*shape), scale, zero, 4, signed=int(zero == 0))
    negative = net.node("Mul", x, np.float32(-0.5))
    activated = net.node("LeakyRelu", x, alpha=-0.5)
    ends = [make(net, v) for v in (x, negative, activated)]
    ends += [net.quant(e, 0.25, 0, 4, rounding_mode="HALF_DOWN") for e in ends]
    return check(net.model(*ends), {"x": halves(RNG, shape)}, 7)


WINDOWS = [
    ((2, 3, 9), {"kernel_shape": [3]}),
    ((1, 2, 6, 7), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((1, 2, 6, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 2, 6, 7), {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [2, 0, 1, 1]}),
    ((1, 2, 6, 7), {"kernel_shape": [2, 2], "strides": [3, 4], "ceil_mode": 1}),
    ((1, 2, 6, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ((1, 2, 5, 5), {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 0, 0], "ceil_mode": 1}),
    ((1, 2, 6, 7), {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 2, 6, 7), {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 6, 7), {"kernel_shape": [3, 2], "auto_pad": "VALID"}),
    ((1, 2, 3, 4, 5), {"kernel_shape": [2, 2, 2], "strides": [1, 2, 2], "pads": [0, 1, 0, 1, 0, 1]}),
]


@pytest.mark.parametrize(
    ("shape", "attributes"), [*WINDOWS, ((1, 2, 8, 9), {"kernel_shape": [2, 3], "dilations": [3, 2]})]
)
@pytest.mark.parametrize("zero", [0.0, 6.0])
def test_max_pool(shape, attributes, zero):
    run(shape, lambda net, v: net.node("MaxPool", v, **attributes), zero)


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize(("shape", "attributes"), WINDOWS)
@pytest.mark.parametrize("zero", [0.0, 6.0])
def test_average_pool(shape, attributes, include, zero):
    run(shape, lambda net, v: net.node("AveragePool", v, count_include_pad=include, **attributes), zero)


def test_average_pool_dilated():
    attributes = {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 2, 1, 0]}
    run((1, 2, 8, 9), lambda net, v: net.node("AveragePool", v, **attributes), 6.0, opset=19)


CHANNELS = np.float32([0.25, 0.5, 0.375]).reshape(1, 3, 1, 1)


@pytest.mark.parametrize("scale", [0.25, CHANNELS, CHANNELS.reshape(1, 1, 3, 1)])
@pytest.mark.parametrize("zero", [0.0, 2.5])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]}),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]}),
        ("GlobalAveragePool", {}),
        ("GlobalMaxPool", {}),
        ("ReduceMean", {}),
        ("ReduceMean", {"axes": [1], "keepdims": 0}),
        ("ReduceMean", {"axes": [-1, 2]}),
        ("ReduceMean", {"axes": [0, 3], "keepdims": 0}),
    ],
)
def test_scales(op, attributes, scale, zero):
    run((2, 3, 3, 4), lambda net, v: net.node(op, v, **attributes), zero, scale)


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum"])
@pytest.mark.parametrize("axes", [None, [1], [-1, 0], []])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions_by_input(op, axes, keep):
    args = [] if axes is None else [np.int64(axes)]
    run((2, 3, 5), lambda net, v: net.node(op, v, *args, keepdims=keep), 2.0, opset=18)
    if axes == []:
        run((2, 3, 5), lambda net, v: net.node(op, v, *args, keepdims=keep, noop_with_empty_axes=1), 2.0, opset=18)


def test_reduce_sum_by_attribute():
    run((2, 3, 5), lambda net, v: net.node("ReduceSum", v, axes=[1, -1]), 2.0, opset=11)


@pytest.mark.parametrize(
    ("op", "axes"), [("ReduceMean", [1, 1]), ("ReduceMean", [1, -2]), ("ReduceSum", [0, 2, 0]), ("Unsqueeze", [1, 1])]
)
def test_an_axis_twice_is_refused(op, axes):
    net = Net(11)
    x = net.quant(net.input(2, 4, 3))
    y = net.quant(net.node(op, x, axes=axes))
    with pytest.raises(IntsimError, match=r"its axes \[.*\] name one twice"):
        intsim.load(net.model(y))


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize(("axes", "keepdims"), [([1], 1), ([-1], 0), ([0, 2], 0), ([0, 1, 2], 1), (None, 0)])
def test_largest_and_smallest_over_axes(op, axes, keepdims):
    """A scale a channel, rising and falling functions, a zero point."""
    at = {"keepdims": keepdims} | ({} if axes is None else {"axes": axes})
    for zero, scale in ((0.0, 0.25), (6.0, 0.25), (0.0, np.float32([[[0.25], [0.5], [0.75]]]))):
        run((2, 3, 4), lambda net, v: net.node(op, v, **at), zero, scale)
        given = [] if axes is None else [np.int64(axes)]
        run((2, 3, 4), lambda net, v: net.node(op, v, *given, keepdims=keepdims), zero, scale, opset=18)  # noqa: B023


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_largest_and_smallest_of_integers(op):
    """ONNX's integers in and out."""
    net = Net(opset=18)
    x = net.input(2, 5, kind=TensorProto.INT8)
    y = net.node(op, x, np.int64([1]), keepdims=0)
    values = RNG.integers(-128, 128, (2, 5)).astype(np.int8)
    made = intsim.run(net.model(y, kinds={y: TensorProto.INT8}), inputs={"x": values}).outputs[y]
    assert made.tolist() == [(max if op == "ReduceMax" else min)(row) for row in values.tolist()]


def test_nothing_to_reduce():
    net = Net(opset=18)
    x = net.quant(net.input(2, 5))
    y = net.node("ReduceMin", x, np.zeros(0, np.int64), noop_with_empty_axes=1)
    check(net.model(net.quant(y)), {"x": halves(RNG, (2, 5))}, 2)
