"""Elementwise functions between quantizers: every code against decimal arithmetic of fifty digits and more."""

from fractions import Fraction

import numpy as np
import pytest
from functions import FUNCTIONS, POSITIVE, codes, f32, values
from onnx import TensorProto

import intsim

from .build import Net, check

S, T = np.float32(0.043), np.float32(0.021)
ALL = np.arange(-128, 128)
EVERY = {**FUNCTIONS, **POSITIVE}


def reals(numbers, scale=S, zero=0):
    return [(Fraction(int(n)) - zero) * Fraction(float(np.float32(scale))) for n in numbers]


def linear(net, x, scale, zero):
    """QuantizeLinear and DequantizeLinear."""
    q = net.node("QuantizeLinear", x, np.float32(scale), zero)
    return net.node("DequantizeLinear", q, np.float32(scale), zero)


@pytest.mark.parametrize("name", EVERY)
def test_every_code_of_a_qonnx_quantizer(name):
    attributes, twin = EVERY[name]
    numbers = ALL if name in FUNCTIONS else np.arange(1, 256)
    zero = np.float32(0 if name in FUNCTIONS else -1)  # no code is zero then
    net = Net(22)
    x = net.quant(net.input(1, 256), S, zero, 8, signed=int(name in FUNCTIONS))
    y = net.node(name.split()[0], x, **attributes)
    ends = {m: net.quant(y, T, 0, 8, rounding_mode=m) for m in ("ROUND", "FLOOR", "CEIL", "DOWN", "HALF_UP")}
    graph = intsim.load(net.model(*ends.values())).graph
    inputs = ALL if name in FUNCTIONS else np.arange(256)
    found = values(twin, reals(inputs, S, int(zero)))
    tensors = {graph.inputs[0]: inputs.reshape(1, 256)}
    for node in graph.nodes:
        made = intsim.ops.OPS[node.op].evaluate(node, *(tensors[i] for i in node.inputs))
        tensors[node.output] = made
        mode = next(m for m, end in ends.items() if end == node.output)
        wanted = codes(found, T, 0, -128, 127, mode)
        np.testing.assert_array_equal(made[0], wanted, err_msg=mode)
        if node.op == "table":
            assert (graph.tensors[node.output].low, graph.tensors[node.output].high) == (made.min(), made.max())
    assert numbers.size >= 255


@pytest.mark.parametrize("name", EVERY)
def test_every_code_of_qcdq(name):
    attributes, twin = EVERY[name]
    zero_in, inputs = (np.uint8(100), np.arange(256)) if name in FUNCTIONS else (np.int8(-128), ALL)
    if name in POSITIVE:
        inputs = inputs[1:]
    net = Net(22)
    x = linear(net, net.input(1, 256), S, zero_in)
    if name in POSITIVE:
        x = net.node("Clip", x, S)  # one step and more
    y = net.node("QuantizeLinear", net.node(name.split()[0], x, **attributes), T, np.int8(-7))
    model = net.model(y, kinds={y: TensorProto.INT8})
    loaded = intsim.load(model)
    node = loaded.graph.nodes[-1]
    made = intsim.ops.OPS[node.op].evaluate(node, inputs.reshape(1, -1))[0]
    wanted = codes(values(twin, reals(inputs, S, int(zero_in))), T, 0, -128, 127, after=-7)
    np.testing.assert_array_equal(made, wanted)


def gelu13(net, x):
    """As torch writes it at opset 13."""
    e = net.node("Erf", net.node("Div", x, np.float32(1.41421354)))
    return net.node("Mul", net.node("Mul", x, net.node("Add", e, np.float32(1))), np.float32(0.5))


def hard_swish13(net, x):
    clipped = net.node("Clip", net.node("Add", x, np.float32(3)), np.float32(0), np.float32(6))
    return net.node("Div", net.node("Mul", x, clipped), np.float32(6))


def tanh_gelu13(net, x):
    inner = net.node("Add", x, net.node("Mul", net.node("Pow", x, np.float32(3)), np.float32(0.044715)))
    t = net.node("Tanh", net.node("Mul", inner, np.float32(0.7978846)))
    return net.node("Mul", net.node("Mul", np.float32(0.5), x), net.node("Add", np.float32(1), t))


DECOMPOSED = {
    "gelu": (gelu13, lambda x: x * (FUNCTIONS["Erf"][1](x / f32(1.41421354)) + 1) / 2),
    "silu": (lambda n, x: n.node("Mul", x, n.node("Sigmoid", x)), lambda x: x / (1 + (-x).exp())),
    "hard swish": (hard_swish13, lambda x: x * max(0, min(6, x + 3)) / 6),
    "gelu by tanh": (
        tanh_gelu13,
        lambda x: x / 2 * (1 + FUNCTIONS["Tanh"][1](f32(0.7978846) * (x + f32(0.044715) * x**3))),
    ),
    "difference": (lambda n, x: n.node("Sub", n.node("Exp", x), n.node("Relu", x)), lambda x: x.exp() - max(0, x)),
    "quotient": (
        lambda n, x: n.node("Div", n.node("Tanh", x), n.node("Add", n.node("Abs", x), np.float32(1))),
        lambda x: FUNCTIONS["Tanh"][1](x) / (1 + abs(x)),
    ),
    "largest": (lambda n, x: n.node("Max", n.node("Sin", x), x), lambda x: max(FUNCTIONS["Sin"][1](x), x)),
    "leaky": (
        lambda n, x: n.node("LeakyRelu", n.node("Neg", n.node("Tanh", x)), alpha=0.25),
        lambda x: -FUNCTIONS["Tanh"][1](x) * (1 if x < 0 else f32(0.25)),
    ),
    "root": (lambda n, x: n.node("Pow", n.node("Abs", x), np.float32(1.5)), lambda x: abs(x) * abs(x).sqrt()),
    "power": (lambda n, x: n.node("Pow", n.node("Exp", x), np.float32(-0.3)), lambda x: (x * -f32(0.3)).exp()),
}


@pytest.mark.parametrize("name", DECOMPOSED)
def test_decomposed_functions_become_one_table(name):
    make, twin = DECOMPOSED[name]
    net = Net(13)
    x = net.quant(net.input(1, 256), S, 0, 8)
    y = net.quant(make(net, x), T, 0, 8)
    graph = intsim.load(net.model(y)).graph
    assert [n.op for n in graph.nodes] == ["table"]
    made = intsim.ops.OPS["table"].evaluate(graph.nodes[0], ALL).reshape(-1)
    np.testing.assert_array_equal(made, codes(values(twin, reals(ALL)), T, 0, -128, 127))


@pytest.mark.parametrize("bits", [4, 11, pytest.param(16, marks=pytest.mark.slow)])
def test_other_widths(bits):
    """Up to sixteen bits; the twin looks at some of the larger tables."""
    net = Net(20)
    scale = np.float32(6 / 2 ** (bits - 1))
    x = net.quant(net.input(1, 16), scale, 0, bits)
    node = intsim.load(net.model(net.quant(net.node("Sigmoid", x), T / 64, 0, 16, signed=0))).graph.nodes[0]
    assert node.arrays["table"].shape == (1, 2**bits)
    some = np.unique(np.r_[-(2 ** (bits - 1)) : 2 ** (bits - 1) : max(1, 2**bits // 99), 2 ** (bits - 1) - 1])
    wanted = codes(values(FUNCTIONS["Sigmoid"][1], reals(some, scale)), T / 64, 0, 0, 2**16 - 1)
    np.testing.assert_array_equal(intsim.ops.OPS["table"].evaluate(node, some).reshape(-1), wanted)


def test_constants_and_scales_for_each_channel():
    net = Net(20)
    x = net.quant(net.input(1, 3, 256), np.float32([0.02, 0.043, 0.1]).reshape(1, 3, 1), 0, 8)
    gain = np.float32([1.5, -0.75, 0.3]).reshape(3, 1)
    y = net.node("Mul", net.node("Sigmoid", net.node("Add", x, gain)), gain)
    a = net.quant(y, np.float32([0.01, 0.02, 0.03]).reshape(3, 1), 0, 8)
    graph = intsim.load(net.model(a)).graph
    (node,) = graph.nodes
    assert node.attributes["cells"] == [1, 3, 1]
    made = intsim.ops.OPS["table"].evaluate(node, np.broadcast_to(ALL, (1, 3, 256)))
    for c, (scale, out) in enumerate(zip([0.02, 0.043, 0.1], [0.01, 0.02, 0.03], strict=True)):
        g = f32(gain[c, 0])
        wanted = codes(values(lambda v, g=g: g / (1 + (-v - g).exp()), reals(ALL, scale)), out, 0, -128, 127)
        np.testing.assert_array_equal(made[0, c], wanted)


@pytest.mark.parametrize("mode", ["ROUND", "HALF_UP", "HALF_DOWN", "FLOOR", "CEIL", "UP", "DOWN"])
def test_ties_are_decided_as_ties(mode):
    """Roots of squares, rational functions: halves of the output's step, exactly."""
    net = Net(22)
    x = net.quant(net.input(1, 256), 1, 0, 8, signed=0)
    half = np.float32(2)
    ends = [net.quant(net.node(op, x), half, 0, 8, rounding_mode=mode) for op in ("Sqrt", "Abs", "HardSwish", "Elu")]
    ends.append(net.quant(net.node("Pow", x, np.float32(0.25)), half, 0, 8, rounding_mode=mode))
    graph = intsim.load(net.model(*ends)).graph
    inputs = np.arange(256)
    twins = [lambda v: v.sqrt(), abs, FUNCTIONS["HardSwish"][1], lambda v: v, lambda v: v.sqrt().sqrt()]
    for end, twin in zip(ends, twins, strict=True):
        node = graph.producer(end)
        made = intsim.ops.OPS[node.op].evaluate(node, inputs).reshape(-1)
        np.testing.assert_array_equal(made, codes(values(twin, reals(inputs, 1)), half, 0, -128, 127, mode))


@pytest.mark.parametrize(("form", "scale"), [("none", 1), ("tanh", 0.25)])
def test_what_lies_just_beside_a_whole_number_is_rounded_as_that(form, scale):
    """x Phi(x) is below a large x, and below 0, by less than 2^-1000: for a floor by enough."""
    net = Net(20)
    y = net.node("Gelu", net.quant(net.input(1, 256), scale, 0, 8), approximate=form)
    ends = {mode: net.quant(y, scale, 0, 8, rounding_mode=mode) for mode in ("FLOOR", "CEIL")}
    graph = intsim.load(net.model(*ends.values())).graph
    name = "Gelu" if form == "none" else next(n for n in FUNCTIONS if n.startswith("Gelu") and n != "Gelu")
    near = abs(ALL * scale) < 6
    small = values(FUNCTIONS[name][1], reals(ALL[near], scale))
    for mode, far in (("FLOOR", np.where(ALL > 0, ALL - 1, -1)), ("CEIL", np.where(ALL > 0, ALL, 0))):
        node = graph.producer(ends[mode])
        made = intsim.ops.OPS[node.op].evaluate(node, ALL).reshape(-1)
        np.testing.assert_array_equal(made[~near], far[~near])
        np.testing.assert_array_equal(made[near], codes(small, scale, 0, -128, 127, mode))


def test_a_bipolar_quantizer_and_a_zero_point_for_each_channel():
    net = Net(20)
    x = net.quant(net.input(1, 2, 16), 0.5, 0, 4)
    y = net.node("Tanh", net.node("Sub", x, np.float32(0.25)))
    sign = net.node("BipolarQuant", y, np.float32(1), domain="qonnx.custom_op.general")
    zeros = net.node("QuantizeLinear", y, np.float32([0.1, 0.2]), np.int8([3, -5]), axis=1)
    codes_in = (np.arange(-8, 8) * np.float32(0.5)).reshape(1, 1, 16).repeat(2, 1)
    run = check(net.model(sign, zeros, kinds={zeros: TensorProto.INT8}), {"x": codes_in}, 3)
    np.testing.assert_array_equal(run.outputs[sign][0, 0], np.where(codes_in[0, 0] >= 0.25, 1, -1))
    wanted = np.rint(np.tanh(codes_in[0, 1] - 0.25) / np.float64(np.float32(0.2))) - 5
    np.testing.assert_array_equal(run.outputs[zeros][0, 1], wanted)


def test_a_function_at_the_end_stays_on_the_host():
    net = Net(20)
    x = net.quant(net.input(1, 16), 0.5, 0, 4)
    y = net.node("Gelu", x)
    loaded = intsim.load(net.model(y, net.quant(y, 0.25, 0, 8)))
    assert [n.op for n in loaded.graph.nodes] == ["table"]
    assert any("Gelu" in n for n in loaded.lowered.epilogue.names)


REFUSED = {
    "log": (lambda n, x: n.node("Log", x), r"node Log\S* \(Log\): at code -8, where it reads -4: log of"),
    "root": (lambda n, x: n.node("Sqrt", x), r"node Sqrt\S* \(Sqrt\): at code -8.*negative"),
    "reciprocal": (lambda n, x: n.node("Reciprocal", x), r"\(Reciprocal\): at code 0.*division by zero"),
    "power": (lambda n, x: n.node("Pow", x, np.float32(0.3)), r"\(Pow\): at code -8.*fractional power"),
    "overflow": (lambda n, x: n.node("Exp", n.node("Exp", n.node("Mul", x, np.float32(9)))), r"\(Exp\): at code [1-7]"),
    "two tensors": (
        lambda n, x: n.node("Mul", n.node("Gelu", n.quant(x, 1e-6, 0, 24)), n.quant(x, 0.25, 0, 4)),
        r"node Mul\S* \(Mul\): functions of two tensors, \S+ and \S+, meet; put a quantizer behind ",
    ),
    "sum": (
        lambda n, x: n.node("Erf", n.node("Add", x, n.quant(x, 0.25, 0, 4))),
        r"\(Erf\): it is a function of .* together; quantize",
    ),
    "exponent": (lambda n, x: n.node("Pow", x, x), r"its exponent is not a constant"),
    "base": (lambda n, x: n.node("Pow", np.float32(2), x), r"its exponent is not a constant"),
    "unrounded": (
        lambda n, x: n.node("MatMul", n.node("Gelu", x), n.quant(np.ones((16, 4), np.float32), 1, 0, 4)),
        r"\(MatMul\): it reads Gelu of \S+ unrounded; put a quantizer in front",
    ),
    "form": (lambda n, x: n.node("Gelu", x, approximate="fast"), r"approximate is 'fast'"),
    "alpha": (lambda n, x: n.node("Celu", x, alpha=0.0), r"alpha is zero"),
    "integers": (lambda n, x: n.node("Cast", n.node("Exp", x), to=TensorProto.INT32), r"casts real values to integers"),
    "hidden tie": (lambda n, x: n.node("Log", n.node("Exp", x)), r"at code -?\d+ lies within 2\^-4096"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_node_and_code(name):
    make, text = REFUSED[name]
    net = Net(20)
    x = net.quant(net.input(1, 16), 0.5, 0, 4)
    with pytest.raises(intsim.IntsimError, match=text) as error:
        intsim.load(net.model(net.quant(make(net, x), 1, 0, 8)))
    assert "\n" not in str(error.value)


def test_codes_that_cannot_come_read_as_the_nearest_that_can():
    """A Relu between quantizers keeps a signed type: its negative codes have no logarithm, and never come."""
    net = Net(20)
    x = net.quant(net.input(1, 16), 0.5, 0, 4)
    y = net.quant(net.node("Clip", x, np.float32(0.5)), 0.5, 0, 4)
    loaded = intsim.load(net.model(net.quant(net.node("Log", y), 0.1, 0, 8)))
    node = loaded.graph.nodes[-1]
    table = node.arrays["table"][0]
    assert node.attributes["low"] == -8
    assert (table[:9] == table[9]).all()
    assert loaded.graph.tensors[node.output].low == table[9]
