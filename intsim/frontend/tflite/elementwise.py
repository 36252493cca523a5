"""Operators that compute each element by itself: sums, products, activation functions, and the ends of the network."""

from __future__ import annotations

import numpy as np

from intsim.frontend.tflite.activations import bounds
from intsim.frontend.tflite.file import FileTensor
from intsim.frontend.tflite.network import Network, Unsupported
from intsim.frontend.tflite.registry import translates

BINARY = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}
FUNCTIONS = {"LOGISTIC": "Sigmoid", "TANH": "Tanh", "RELU": "Relu", "HARD_SWISH": "HardSwish"}
CLIPS = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


def inner_layout(net: Network, tensors: list[FileTensor]) -> bool:
    """Whether these lie channels first: if one does and all others do, or are constants or single numbers."""
    computed = [t for t in tensors if t.data is None]
    images = [t for t in computed if len(t.shape) == 4]
    return (
        len(images) == len(computed)
        and any(net.has(t, True) for t in images)
        and max(len(t.shape) for t in tensors) == 4
    )


def operand(net: Network, tensor: FileTensor, channels_first: bool) -> str:
    """Real numbers of an operand that broadcasts, in a layout."""
    if not channels_first or len(tensor.shape) == 4:
        return net.real(tensor, channels_first)
    # a constant of fewer axes: N, H, W, C stand behind the axes that it lacks
    net.activation(tensor)
    assert tensor.data is not None
    array = tensor.data.reshape((1,) * (4 - len(tensor.shape)) + tensor.shape).transpose(0, 3, 1, 2)
    return net.node("DequantizeLinear", [net.constant("operand", array), *net.parameters(tensor)])


def layout_of(net: Network, tensor: FileTensor) -> bool:
    """Whether an operator of one tensor works channels first: where its codes already lie so."""
    return tensor.data is None and net.has(tensor, True)


@translates("ADD", "SUB", "MUL")
def binary(net: Network) -> None:
    """A sum, difference or product of the real numbers, with a fused activation."""
    assert net.at is not None
    a, b = net.tensor(0), net.tensor(1)
    inner = inner_layout(net, [a, b])
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise Unsupported(f"its inputs have shapes {list(a.shape)} and {list(b.shape)}, which don't fit") from None
    real = net.node(BINARY[net.at.kind], [operand(net, t, inner) for t in (a, b)])
    y = net.activation(net.output())
    net.quantize(real, shape, inner, bounds(net.option("FusedActivationFunction"), y))


@translates(*FUNCTIONS, *CLIPS, "LEAKY_RELU")
def function(net: Network) -> None:
    """A function of one tensor."""
    assert net.at is not None
    x, kind = net.activation(net.tensor(0)), net.at.kind
    inner = layout_of(net, x)
    real = net.real(x, inner)
    if kind in CLIPS:
        edges = [
            net.constant(what, np.array(v, np.float32)) for what, v in zip(("least", "most"), CLIPS[kind], strict=True)
        ]
        out = net.node("Clip", [real, *edges])
    elif kind == "LEAKY_RELU":
        alpha = float(net.option("Alpha"))
        if not np.isfinite(alpha):
            raise Unsupported("its alpha is not a number")
        out = net.node("LeakyRelu", [real], alpha=alpha)
    else:
        out = net.node(FUNCTIONS[kind], [real])
    net.quantize(out, x.shape, inner)


@translates("PRELU")
def prelu(net: Network) -> None:
    """x where it isn't negative, else x times a constant of its channel (or of each position)."""
    x, alpha = net.activation(net.tensor(0)), net.tensor(1)
    if alpha.data is None:
        raise Unsupported(f"its alpha {alpha.name} is computed at run time; only a constant is supported")
    inner = inner_layout(net, [x, alpha])
    try:
        shape = np.broadcast_shapes(x.shape, alpha.shape)
    except ValueError:
        shape = ()
    if shape != x.shape:
        raise Unsupported(f"its alpha has shape {list(alpha.shape)}, its input {list(x.shape)}")
    net.quantize(net.node("PRelu", [net.real(x, inner), operand(net, alpha, inner)]), x.shape, inner)


@translates("SOFTMAX")
def softmax(net: Network) -> None:
    """Softmax of beta x, along the last axis."""
    x, beta = net.activation(net.tensor(0)), float(net.option("Beta"))
    if not x.shape or not (np.isfinite(beta) and beta > 0):
        raise Unsupported(f"its beta {beta:g} or its input's shape {list(x.shape)} is not usable")
    real = net.real(x)
    if beta != 1:
        real = net.node("Mul", [real, net.constant("beta", np.array(beta, np.float32))])
    net.quantize(net.node("Softmax", [real], axis=-1), x.shape)


@translates("QUANTIZE")
def quantize(net: Network) -> None:
    """Real numbers of an input of the network, or codes of another scale, as codes."""
    x = net.tensor(0)
    if x.kind == "FLOAT32" and x.index in net.file.inputs:
        net.quantize(net.codes(x), x.shape)
    else:
        inner = layout_of(net, net.activation(x))
        net.quantize(net.real(x, inner), x.shape, inner)


@translates("DEQUANTIZE")
def dequantize(net: Network) -> None:
    """The real numbers that the last codes mean, an output of the network."""
    x, y = net.activation(net.tensor(0)), net.output()
    net.check_shape(y, x.shape)
    if y.kind != "FLOAT32":
        raise Unsupported(f"its output {y.name} is {y.kind.lower()}, not float32")
    net.made(y, net.node("DequantizeLinear", [net.codes(x), *net.parameters(x)], y.name))
