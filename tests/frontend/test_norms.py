"""Normalisations to a root mean square and of groups of channels; accumulators whose channels share no grid."""

import numpy as np
import pytest

import intsim
from intsim.errors import IntsimError

from .build import Net, check
from .test_rowwise import run

RNG = np.random.default_rng(6)
GAMMA = RNG.normal(1, 0.5, 6).astype(np.float32)


@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
@pytest.mark.parametrize("attributes", [{}, {"axis": 1, "epsilon": 1e-3}])
def test_root_mean_square(attributes, form):
    gamma = GAMMA if not attributes else RNG.normal(1, 0.5, (3, 6)).astype(np.float32)
    made = run(
        lambda net, x: net.node("RMSNormalization", x, gamma, **attributes), opset=23, zero=99, form=form, out=0.03
    )
    assert made == ["rms_norm", "requantize"]


def written_out(net, x, square="Pow", ratio="Div", axes=(-1,), of=None):
    e = of or x
    squared = net.node("Pow", e, np.float32(2)) if square == "Pow" else net.node("Mul", e, e)
    mean = (
        net.node("ReduceMean", squared, np.int64(axes))
        if net.opset >= 18
        else net.node("ReduceMean", squared, axes=list(axes))
    )
    total = net.node("Add", mean, np.float32(1e-5))
    if ratio == "rsqrt":
        return net.node("Mul", x, net.node("Pow", total, np.float32(-0.5)))
    root = net.node("Sqrt", total)
    if ratio == "Div":
        return net.node("Div", x, root)
    return net.node(
        "Mul", x, net.node("Reciprocal", root) if ratio == "Reciprocal" else net.node("Div", np.float32(1), root)
    )


@pytest.mark.parametrize(
    "way",
    [{}, {"square": "Mul", "ratio": "rsqrt"}, {"ratio": "Reciprocal"}, {"ratio": "one over"}, {"axes": (1, 2)}],
    ids=str,
)
@pytest.mark.parametrize("opset", [13, 18])
def test_written_out(way, opset):
    made = run(lambda net, x: net.node("Mul", written_out(net, x, **way), GAMMA), opset=opset, out=0.03, zero=40)
    assert made == ["rms_norm", "requantize"]


def test_a_root_of_another_tensor_is_no_pattern():
    net = Net(13)
    x, z = (net.quant(net.input(2, 6, name=n), 0.1, 0, 8) for n in "xz")
    with pytest.raises(IntsimError, match="can't be integer-only"):
        intsim.load(net.model(net.quant(written_out(net, x, of=z), 0.03, 0, 8)))


def images(opset=21, channels=6, by_channel=False, bias=False, form="qonnx", low=0.25):
    """A convolution's accumulators: one scale and no bias, or some for each channel."""
    net = Net(opset)
    x = net.quant(net.input(2, 3, 4, 3), 0.1, 0, 8)
    w = RNG.normal(0, 1, (channels, 3, 1, 1))
    step = RNG.uniform(0.01, 0.05, (channels, 1, 1, 1)) if by_channel else low
    weights = net.quant(net.const(w), step, 0, 8)
    more = [RNG.normal(0, 1, channels).astype(np.float32)] if bias else []
    return net, net.node("Conv", x, weights, *more)


def finished(net, y, out=0.03):
    model = net.model(net.quant(y, out, 0, 8))
    data = {"x": RNG.normal(0, 3, (2, 3, 4, 3)).astype(np.float32)}
    check(model, data)
    verdict = intsim.verify(model, inputs=data, references=False)
    assert verdict.verdict == "exact"
    assert sum(layer.near_ties for layer in verdict.layers) == 0
    return intsim.load(model).graph.nodes


CHANNELS = {"plain": {}, "bias": {"bias": True, "low": 0.023}, "by channel": {"by_channel": True, "bias": True}}


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize(
    "op",
    [
        "InstanceNormalization",
        "GroupNormalization",
        "GroupNormalization 18",
        "one group",
        "Reshape",
        "LayerNormalization",
        "RMSNormalization",
    ],
)
def test_normalisations_of_accumulators(op, kind):
    """With a bias or a scale for each channel rows come to a fine grid, whose error is counted."""
    net, y = images({"GroupNormalization 18": 18, "RMSNormalization": 23}.get(op, 21), **CHANNELS[kind])
    six = [RNG.normal(1, 0.5, 6).astype(np.float32), RNG.normal(0, 0.5, 6).astype(np.float32)]
    if op == "InstanceNormalization":
        y = net.node(op, y, *six, epsilon=1e-3)
    elif op == "Reshape":
        apart = net.node("Reshape", y, np.int64([0, 2, -1]))
        made = net.node("InstanceNormalization", apart, six[0][:2], six[1][:2], epsilon=1e-5)
        y = net.node("Reshape", made, net.node("Shape", y))
        y = net.node("Add", net.node("Mul", y, six[0].reshape(6, 1, 1)), six[1].reshape(6, 1, 1))
    elif op in ("LayerNormalization", "RMSNormalization"):
        y = net.node(op, net.node("Transpose", y, perm=[0, 2, 3, 1]), *six[: 2 if op[0] == "L" else 1])
    else:
        groups = 1 if op == "one group" else 2
        parameters = [p[:2] for p in six] if op.endswith("18") else six
        y = net.node("GroupNormalization", y, *parameters, num_groups=groups)
    nodes = finished(net, y)
    norm = next(n for n in nodes if n.op in ("layer_norm", "rms_norm"))
    exact = kind == "plain" or (kind == "bias" and op == "InstanceNormalization")
    assert ("off" in norm.attributes) == (not exact)
    assert sum(n.op in ("layer_norm", "rms_norm") for n in nodes) == 1


@pytest.mark.parametrize("shape", ["constant", "flat"])
def test_a_group_norm_in_reshapes_that_goes_on_in_another_shape(shape):
    net, y = images()
    apart = net.node("Reshape", y, np.int64([0, 3, -1]))
    made = net.node("InstanceNormalization", apart, np.ones(3, np.float32), np.zeros(3, np.float32))
    y = net.node("Reshape", made, np.int64([2, 6, 4, 3] if shape == "constant" else [0, 72]))
    finished(net, y)


def instance(net, y, count=6, **attributes):
    return net.node("InstanceNormalization", y, np.ones(count, np.float32), np.zeros(count, np.float32), **attributes)


def of_batch(net, y):
    """The samples of a batch normalised together."""
    made = instance(net, net.node("Reshape", y, np.int64([1, 3, -1])), 3)
    return net.node("Reshape", made, np.int64([2, 6, 4, 3]))


ONES = np.ones(6, np.float32)
REFUSED = {
    "groups": (
        lambda net, y: net.node("GroupNormalization", y, ONES, ONES, num_groups=4),
        "don't divide into 4 groups",
    ),
    "epsilon": (lambda net, y: instance(net, y, epsilon=0.0), "epsilon is not above zero"),
    "scale": (lambda net, y: instance(net, y, 5), "is not a constant of 6 numbers"),
    "axes": (lambda net, y: instance(net, net.node("ReduceSum", y, np.int64([2, 3]), keepdims=0)), "has 2 axes"),
    "batch": (of_batch, "samples together"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    net, y = images()
    make, text = REFUSED[what]
    with pytest.raises(IntsimError, match=text):
        intsim.load(net.model(net.quant(make(net, y), 0.03, 0, 8)))
