"""Functions of accumulators: steps against decimal arithmetic of fifty digits and more, and against the reference."""

from fractions import Fraction

import numpy as np
import pytest
from functions import FUNCTIONS, POSITIVE, codes, values
from onnx import TensorProto

import intsim
from intsim.ops import OPS

from .build import Net, check

S, T = np.float32(0.043 / 2**14), np.float32(0.055)
BITS = 22
LEAST, MOST = -(2 ** (BITS - 1)), 2 ** (BITS - 1) - 1
STEPPED = sorted(set(FUNCTIONS) - {"HardSigmoid", "Abs", "Neg"})
EVERYDAY = ("Gelu", "HardSwish", "Elu", "ThresholdedRelu", "Floor")


def reals(numbers, scale=S, shift=0):
    return [int(n) * Fraction(float(scale)) + shift for n in numbers]


def around(starts, rng, low=LEAST, high=MOST, count=20):
    """Some of the starts, what lies right in front of them, random integers and the ends."""
    some = rng.choice(starts, min(count, len(starts)), replace=False)
    return np.unique(np.clip(np.r_[some, some - 1, rng.integers(low, high, count), low, high], low, high))


def every():
    return [pytest.param(n, marks=[] if n in EVERYDAY else [pytest.mark.slow]) for n in STEPPED]


@pytest.mark.parametrize("mode", ["ROUND", pytest.param("FLOOR", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", every())
def test_every_function(name, mode):
    attributes, twin = FUNCTIONS[name]
    net = Net(22)
    x = net.quant(net.input(1, 16), S, 0, BITS)
    y = net.node(name.split()[0], x, **attributes)
    (node,) = intsim.load(net.model(net.quant(y, T, 0, 8, rounding_mode=mode))).graph.nodes
    assert node.op == "staircase"
    numbers = around(node.arrays["starts"][0], np.random.default_rng(1))
    wanted = codes(values(twin, reals(numbers)), T, 0, -128, 127, mode)
    np.testing.assert_array_equal(OPS["staircase"].evaluate(node, numbers).reshape(-1), wanted)


DECOMPOSED = {
    "silu": (lambda n, x: n.node("Mul", x, n.node("Sigmoid", x)), lambda x: x / (1 + (-x).exp())),
    "hard swish": (
        lambda n, x: n.node(
            "Div",
            n.node("Mul", x, n.node("Clip", n.node("Add", x, np.float32(3)), np.float32(0), np.float32(6))),
            np.float32(6),
        ),
        lambda x: x * max(0, min(6, x + 3)) / 6,
    ),
    "gated": (lambda n, x: n.node("Mul", n.node("HardSigmoid", x), x), lambda x: x * FUNCTIONS["HardSigmoid"][1](x)),
    "difference": (lambda n, x: n.node("Sub", n.node("Exp", x), n.node("Relu", x)), lambda x: x.exp() - max(0, x)),
    "bipolar": (lambda n, x: n.node("Sub", n.node("Tanh", x), np.float32(0.25)), None),
}


@pytest.mark.parametrize("name", DECOMPOSED)
def test_decomposed_functions_are_one_staircase(name):
    make, twin = DECOMPOSED[name]
    net = Net(17)
    x = net.quant(net.input(1, 16), S, 0, BITS)
    y = make(net, x)
    if twin is None:
        end = net.node("BipolarQuant", y, np.float32(1), domain="qonnx.custom_op.general")
    else:
        end = net.quant(y, T, 0, 8)
    (node,) = intsim.load(net.model(end)).graph.nodes
    numbers = around(node.arrays["starts"][0], np.random.default_rng(2))
    if twin is None:
        wanted = [1 if v >= Fraction(0.25541281188299536) else -1 for v in reals(numbers)]  # atanh(1/4)
        assert node.arrays["starts"].shape == (1, 1)
    else:
        wanted = codes(values(twin, reals(numbers)), T, 0, -128, 127)
    np.testing.assert_array_equal(OPS["staircase"].evaluate(node, numbers).reshape(-1), wanted)


GAMMA = np.float32([1.5, -0.8, 0, 0.31])


def layer(net, x):
    """A convolution with scales, a float bias and a normalization a channel; one falls, one is its shift alone."""
    rng = np.random.default_rng(5)
    scale = rng.uniform(0.01, 0.03, (4, 1, 1, 1)).astype(np.float32)
    w = net.quant(rng.normal(0, 0.5, (4, 3, 3, 3)), scale, 0, 8)
    bias, shift, mean, variance = (rng.normal(0, 0.5, 4).astype(np.float32) for _ in range(4))
    y = net.node("Conv", x, w, bias, pads=[1] * 4)
    return net.node("BatchNormalization", y, GAMMA, shift, mean, np.abs(variance) + np.float32(0.1))


@pytest.mark.parametrize("out", [np.float32(0.03), np.float32([0.01, 0.02, 0.03, 0.04]).reshape(4, 1, 1)])
def test_scales_and_shifts_for_each_channel(out):
    net = Net(17)
    x = net.quant(net.input(1, 3, 6, 6), np.float32(0.002), 0, 14)
    y = layer(net, x)
    silu = net.node("Mul", y, net.node("Sigmoid", y))
    model = net.model(net.quant(silu, out, 0, 8))
    graph = intsim.load(model).graph
    node = graph.nodes[-1]
    assert (node.op, node.attributes["cells"]) == ("staircase", [1, 4, 1, 1])
    assert len(set(node.arrays["codes"][2])) == 1  # of the channel that is a constant
    rng = np.random.default_rng(6)
    check(model, {"x": rng.normal(0, 3, (1, 3, 6, 6)).astype(np.float32)}, 2)
    tensor = graph.tensors[node.inputs[0]]
    for c in (0, 1, 3):
        real = tensor.scale.reshape(-1)[c if tensor.scale.size > 1 else 0]
        starts = node.arrays["starts"][c]
        inside = starts[(starts > tensor.low) & (starts <= tensor.high)]
        assert len(inside) > 20, (c, real)


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow), 2])
def test_every_step_of_codes_of_17_bits(seed):
    """Around each step of 17 bits."""
    rng = np.random.default_rng(seed)
    net = Net(20)
    scale = np.float32(rng.uniform(1, 9) / 2**15)
    x = net.quant(net.input(1, 16), scale, 0, 17)
    name = ("Gelu", "Mish", "HardSwish")[seed]
    (node,) = intsim.load(net.model(net.quant(net.node(name, x), np.float32(0.01), 0, 8))).graph.nodes
    starts = node.arrays["starts"][0]
    numbers = np.unique(np.clip(np.r_[starts, starts - 1, starts + 1], -(2**16), 2**16 - 1))
    wanted = codes(values(FUNCTIONS[name][1], reals(numbers, scale)), np.float32(0.01), 0, -128, 127)
    np.testing.assert_array_equal(OPS["staircase"].evaluate(node, numbers).reshape(-1), wanted)


def test_integers_that_cannot_come_have_the_functions_codes_as_far_as_int32():
    """What a register that overflowed leaves is read as if it could come, where the function has a value."""
    net = Net(20)
    x = net.quant(net.input(1, 2), np.float32(2**-8), 0, 8)
    w = net.quant(np.full((2, 4), 0.3, np.float32), np.float32(0.001), 0, 16)
    y = net.node("MatMul", x, w)
    a = net.quant(net.node("Tanh", y), np.float32(0.01), 0, 8)
    b = net.quant(net.node("Log", net.node("Add", y, np.float32(1))), np.float32(0.01), 0, 8)
    graph = intsim.load(net.model(a, b)).graph
    first, second = (n for n in graph.nodes if n.op == "staircase")
    unit = Fraction(float(np.float32(0.001))) / 256
    rng = np.random.default_rng(8)
    numbers = np.unique(np.r_[rng.integers(-(2**31), 2**31 - 1, 20), -(2**31), 2**31 - 1, first.arrays["starts"][0]])
    wanted = codes(values(FUNCTIONS["Tanh"][1], [int(n) * unit for n in numbers]), np.float32(0.01), 0, -128, 127)
    np.testing.assert_array_equal(OPS["staircase"].evaluate(first, numbers).reshape(-1), wanted)
    # a logarithm ends where its argument does: from there on the last code before
    made = (
        OPS["staircase"]
        .evaluate(second, np.array([-(2**31), -(2**30), graph.tensors[first.inputs[0]].low]))
        .reshape(-1)
    )
    assert made[0] == made[1] == -128
    high = np.array([2**31 - 1, 2**20])
    shifted = [int(n) * unit + 1 for n in high]
    wanted = codes(values(POSITIVE["Log"][1], shifted), np.float32(0.01), 0, -128, 127)
    np.testing.assert_array_equal(OPS["staircase"].evaluate(second, high).reshape(-1), wanted)


@pytest.mark.parametrize("mode", ["ROUND", "HALF_UP", "HALF_DOWN", "FLOOR", "CEIL", "UP", "DOWN"])
def test_ties_are_decided_as_ties(mode):
    """HardSwish is rational: a code of it begins at integers exactly."""
    net = Net(22)
    x = net.quant(net.input(1, 16), 2.0**-13, 0, 18)
    end = net.quant(net.node("HardSwish", x), 0.25, 0, 8, rounding_mode=mode)
    (node,) = intsim.load(net.model(end)).graph.nodes
    # x >= 3 is x itself, in quarters: ties and codes at multiples of 1/8
    numbers = np.arange(3 * 2**13, 5 * 2**13, 2**10)
    numbers = np.unique(np.r_[numbers - 1, numbers, numbers + 1])[1:]
    wanted = codes(values(FUNCTIONS["HardSwish"][1], reals(numbers, 2.0**-13)), 0.25, 0, -128, 127, mode)
    np.testing.assert_array_equal(OPS["staircase"].evaluate(node, numbers).reshape(-1), wanted)


REFUSED = {
    "log": (
        lambda n, x: n.node("Log", x),
        r"at -?\d+, where it reads -?[\d.e-]+: log of|at more than \d+ of the integers",
    ),
    "hidden tie": (
        lambda n, x: n.node("Log", n.node("Exp", n.node("Mul", x, np.float32(2**14)))),
        r"its value at -?\d+ lies within 2\^-4096",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_integer(name):
    make, text = REFUSED[name]
    net = Net(20)
    x = net.quant(net.input(1, 16), 2.0**-15, 0, 17)
    with pytest.raises(intsim.IntsimError, match=text) as error:
        intsim.load(net.model(net.quant(make(net, x), 1, 0, 8)))
    assert "\n" not in str(error.value)


def test_too_many_steps_are_refused(monkeypatch):
    monkeypatch.setattr("intsim.reals.runs.MOST_EVALUATIONS", 300)
    net = Net(20)
    x = net.quant(net.input(1, 16), 1, 0, 20)
    with pytest.raises(intsim.IntsimError, match=r"too many steps over the integers -524288\.\.524287 of its input"):
        intsim.load(net.model(net.quant(net.node("Sin", x), T, 0, 8)))


def test_targets_of_runtimes_refuse_them():
    """A kernel's table lists codes of bytes; a function of sums is none."""
    net = Net(17)
    x = net.qdq(net.input(1, 3, 6, 6), np.float32(0.02), np.uint8(128))
    w = net.node("DequantizeLinear", np.int8(np.arange(-54, 54).reshape(4, 3, 3, 3)), np.float32(0.01), np.int8(0))
    y = net.node("Sigmoid", net.node("Conv", x, w))
    model = net.model(net.qdq(y, np.float32(1 / 256), np.uint8(0)))
    assert intsim.certify(model, "x86-vnni").verdict == "certified"
    with pytest.raises(intsim.IntsimError, match=r"node \S+: onnxruntime runs it in float32"):
        intsim.certify(model, "onnxruntime-vnni")


@pytest.mark.parametrize(("mode", "scale", "name"), [("FLOOR", 1 / 16, "Sigmoid"), ("CEIL", 1 / 16, "Sigmoid")])
def test_a_limit_where_codes_change_is_not_reached(mode, scale, name):
    """16 sigmoid(x) lies between 0 and 16: floors end at 15, and what is rounded up begins at 1."""
    net = Net(17)
    x = net.quant(net.input(1, 16), S, 0, BITS)
    made = intsim.load(net.model(net.quant(net.node(name, x), np.float32(scale), 0, 8, rounding_mode=mode)))
    (codes,) = made.graph.nodes[-1].arrays["codes"]
    assert (codes.min(), codes.max()) == ((0, 15) if mode == "FLOOR" else (1, 16))


def test_a_limit_that_is_too_close_is_refused():
    net = Net(17)
    y = net.node("Sigmoid", net.quant(net.input(1, 16), np.float32(1), 0, 18))
    with pytest.raises(
        intsim.IntsimError, match=r"comes so close to where rounding changes .* clip its input"
    ) as error:
        intsim.load(net.model(net.quant(y, np.float32(1 / 16), 0, 8, rounding_mode="CEIL")))
    assert "\n" not in str(error.value)


def test_a_function_behind_zero_points_for_each_channel_has_no_steps_beyond_the_codes():
    """e^63 is 10^27 steps of the quantizer; what its zero points leave of them is a byte's."""
    net = Net(19)
    x = net.qdq(net.input(1, 2, 3), 0.25, np.uint8(128))
    y = net.node("Exp", net.node("MatMul", x, net.quant(np.float32([[2, 1, 0], [0, 2, 1], [1, 0, 2]]), 0.5, 0, 4)))
    q = net.node("QuantizeLinear", y, np.float32([0.1, 0.25, 0.05]), np.uint8([255, 0, 9]), axis=2)
    model = net.model(q, kinds={q: TensorProto.UINT8})
    check(model, {"x": np.float32([[[-31, 0.25, 3], [1, -1, 2]]])}, 2)
