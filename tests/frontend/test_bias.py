"""The constant that a file adds to a layer's sums: in the register in whole LSBs, the rest in the requantizer."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

import intsim
from intsim.errors import IntsimError
from intsim.frontend.bias import split
from intsim.graph import rationals
from intsim.ops import OPS, Mac
from intsim.targets import Target

from .build import CHANNELS_LAST, Net, check

RNG = np.random.default_rng(0)
X, W = np.float32(0.1), np.float32(0.03)
"""Scales whose product is no float32."""
LSB = Fraction(float(X)) * Fraction(float(W))
CODES = np.int8([[3, -2, 5], [-1, 4, 2], [7, 1, -6], [2, 2, -3]])
"""Weights (K, channels)."""
BIAS = np.float32([1.5, -0.75, 0.0])


@given(
    st.lists(st.fractions(min_value=-1000, max_value=1000, max_denominator=64), min_size=1, max_size=4),
    st.fractions(min_value=Fraction(1, 64), max_value=8, max_denominator=64),
)
def test_a_split_loses_nothing(values, scale):
    codes, rest = split(rationals(values), rationals([scale] * len(values)))
    for value, code, left in zip(values, codes.tolist(), rest, strict=True):
        assert code * scale + left == value
        assert abs(left / scale) < Fraction(1, 2) or (abs(left / scale) == Fraction(1, 2) and code % 2 == 0)


def test_ties_go_to_even():
    codes, rest = split(rationals([0.5, 1.5, -0.5, -1.5, 2.5]), rationals([1] * 5))
    assert codes.tolist() == [0, 2, 0, -2, 2]
    assert rest.tolist() == [Fraction(1, 2), Fraction(-1, 2), Fraction(-1, 2), Fraction(1, 2), Fraction(1, 2)]


def quantized(net, shape, name="x"):
    """An input as DequantizeLinear makes it."""
    return net.qdq(net.input(*shape, name=name), X, np.int8(0))


def weights(net, codes, scale=W, **at):
    return net.node("DequantizeLinear", codes, np.float32(scale), **at)


def stored(net, flavour):
    """The bias as exporters write it."""
    if flavour == "float32":
        return net.const(BIAS)
    return net.node("DequantizeLinear", np.int32(np.rint(BIAS.astype(np.float64) / float(LSB))), np.float32(float(LSB)))


def gemm(net, bias):
    return net.node("Gemm", quantized(net, (2, 4)), weights(net, CODES), bias)


def gemm_transposed(net, bias):
    return net.node("Gemm", quantized(net, (2, 4)), weights(net, CODES.T.copy()), bias, transB=1)


def gemm_alpha(net, bias):
    """alpha scales the product, so the bias is in units of alpha: the same sums with twice the bias and beta."""
    return net.node("Gemm", quantized(net, (2, 4)), weights(net, CODES), bias, alpha=0.5, beta=0.5)


def matmul_add(net, bias):
    return net.node("Add", net.node("MatMul", quantized(net, (2, 4)), weights(net, CODES)), bias)


def add_matmul(net, bias):
    return net.node("Add", bias, net.node("MatMul", quantized(net, (2, 4)), weights(net, CODES)))


def matmul_sub(net, bias):
    return net.node("Sub", net.node("MatMul", quantized(net, (2, 4)), weights(net, CODES)), net.node("Neg", bias))


def sub_matmul(net, bias):
    """bias - x w, with the weights' signs turned, so that it is the same sum."""
    return net.node("Sub", bias, net.node("MatMul", quantized(net, (2, 4)), weights(net, -CODES)))


def matmul_reshape_add(net, bias):
    y = net.node("MatMul", quantized(net, (2, 4)), weights(net, CODES))
    return net.node("Add", net.node("Reshape", y, np.int64([2, 1, 3])), bias)


def matmul_transpose_add(net, bias):
    y = net.node("Transpose", net.node("MatMul", quantized(net, (2, 4)), weights(net, CODES)), perm=[1, 0])
    return net.node("Add", y, net.node("Reshape", bias, np.int64([3, 1])))


def vector_matmul_add(net, bias):
    return net.node("Add", net.node("MatMul", quantized(net, (4,)), weights(net, CODES)), bias)


def left_matmul_add(net, bias):
    """A constant left operand: channels are rows."""
    y = net.node("MatMul", weights(net, CODES.T.copy()), quantized(net, (4, 2)))
    return net.node("Add", y, net.node("Unsqueeze", bias, np.int64([1])))


def batched_matmul_add(net, bias):
    codes = np.stack([CODES, CODES[::-1]])
    return net.node("Add", net.node("MatMul", quantized(net, (2, 2, 4)), weights(net, codes)), bias)


def identity_matmul_add(net, bias):
    y = net.node("Identity", net.node("MatMul", quantized(net, (2, 4)), weights(net, CODES)))
    return net.node("Add", net.node("Cast", y, to=TensorProto.FLOAT), bias)


def matmul_add_of_higher_rank(net, bias):
    y = net.node("MatMul", quantized(net, (2, 4)), weights(net, CODES))
    return net.node("Add", y, net.node("Reshape", bias, np.int64([1, 1, 1, 3])))


def matmul_sum(net, bias):
    return net.node("Sum", bias, net.node("MatMul", quantized(net, (2, 4)), weights(net, CODES)))


def matmul_sum_of_three(net, bias):
    half = net.node("Mul", bias, np.float32(0.5))
    return net.node("Sum", half, half, net.node("MatMul", quantized(net, (2, 4)), weights(net, CODES)))


def twice(net, bias):
    """Half of it as an operand, half behind."""
    half = net.node("Mul", bias, np.float32(0.5))
    y = net.node("Gemm", quantized(net, (2, 4)), weights(net, CODES), half)
    return net.node("Add", y, half)


def conv(net, bias):
    w = weights(net, CODES.T[:, :, None, None].copy())
    return net.node("Conv", quantized(net, (1, 4, 2, 2)), w, bias)


def conv_add(net, bias):
    w = weights(net, CODES.T[:, :, None].copy())
    return net.node("Add", net.node("Conv", quantized(net, (1, 4, 3)), w), net.node("Reshape", bias, np.int64([3, 1])))


def conv_transpose(net, bias):
    w = weights(net, CODES[:, :, None].copy())
    return net.node("ConvTranspose", quantized(net, (1, 4, 3)), w, bias, strides=[2])


def channels_last_conv_add(net, bias):
    w = weights(net, CODES.T[:, None, :].copy())
    y = net.node("Conv", quantized(net, (1, 3, 4)), w, domain=CHANNELS_LAST, kernel_shape=[1])
    return net.node("Add", y, bias)


FORMS = [
    *(gemm, gemm_transposed, matmul_add, add_matmul, matmul_sub, sub_matmul, matmul_reshape_add),
    *(matmul_transpose_add, vector_matmul_add, left_matmul_add, batched_matmul_add, identity_matmul_add, twice),
    *(conv, conv_add, conv_transpose, channels_last_conv_add, gemm_alpha),
    *(matmul_add_of_higher_rank, matmul_sum, matmul_sum_of_three),
]


def mac(loaded):
    (node,) = (n for n in loaded.graph.nodes if isinstance(OPS[n.op], Mac))
    return node


@pytest.mark.parametrize("quantizes", [True, False])
@pytest.mark.parametrize("flavour", ["float32", "int32"])
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
def test_every_form_has_its_bias_in_the_register(form, flavour, quantizes):
    net = Net()
    y = form(net, stored(net, flavour))
    model = net.model(net.qdq(y, 0.05, np.int8(3)) if quantizes else y)
    loaded = intsim.load(model)
    node = mac(loaded)
    bias = BIAS if flavour == "float32" else np.rint(BIAS.astype(np.float64) / float(LSB)) * np.float32(float(LSB))
    whole = [round(Fraction(float(b)) / LSB) for b in bias]
    assert np.abs(node.arrays["bias"]).tolist() == np.abs(whole).tolist(), "the same code in every form"
    out = loaded.graph.tensors[node.output]
    rest = np.asarray(out.offset / out.scale).reshape(-1)
    assert max(abs(r) for r in rest) <= Fraction(1, 2)
    assert any(rest), "scales like these leave a rest"
    codes = {n: RNG.integers(-128, 128, s).astype(np.float32) * X for n, (s, _) in loaded.lowered.source.inputs.items()}
    check(model, codes, 2)
    # the register holds the sum with the bias: one bit too few and it overflows, on every rule
    layer = intsim.bounds(loaded, "exact").layers[0]
    assert (out.low, out.high) == (layer.low, layer.high)
    needed = layer.required_bits
    assert intsim.bounds(loaded, f"wrap-{needed}").safe
    assert not intsim.bounds(loaded, f"wrap-{needed - 1}").safe
    assert intsim.certify(loaded, f"saturate-{needed - 1}").verdict in ("refuted", "open")


def test_exact_and_inexact_scales_agree():
    """Powers of two have exact products in float32; with a bias scale one ulp off the network is no other."""
    found = []
    for scale in (np.float32(2.0**-9), np.nextafter(np.float32(2.0**-9), np.float32(1))):
        net = Net()
        x = net.qdq(net.input(2, 4), 2.0**-4, np.int8(0))
        b = net.node("DequantizeLinear", np.int32([20000, -20000, 7]), scale)
        y = net.node("Gemm", x, weights(net, CODES, 2.0**-5), b)
        loaded = intsim.load(net.model(net.qdq(y, 0.5, np.int8(0))))
        run = loaded.run({"x": np.float32(RNG.integers(-9, 9, (2, 4))) * 0 + 1}, "wrap-12", keep=True)
        layer = intsim.bounds(loaded, "wrap-12").layers[0]
        found.append(
            (
                mac(loaded).arrays["bias"].tolist(),
                run.tensors[mac(loaded).output].tolist(),
                [e.tolist() for e in run.overflows.values()],
                (layer.low, layer.high, layer.required_bits, layer.safe),
                intsim.certify(loaded, "wrap-12").verdict,
            )
        )
    assert found[0] == found[1]
    assert found[0][-1] == "refuted"


def stays(net, rows=2):
    x, w = quantized(net, (rows, 4)), weights(net, CODES)
    return net.node("MatMul", x, w)


def behind_mul(net):
    return net.node("Add", net.node("Mul", stays(net), np.float32([2, 3, 4])), BIAS), []


def behind_relu(net):
    return net.node("Add", net.node("Relu", stays(net)), BIAS), []


def by_element(net):
    return net.node("Add", stays(net), np.float32([[1, 2, 3], [4, 5, 6]])), []


def by_row(net):
    """As many rows as channels, and a value for each."""
    return net.node("Add", stays(net, 3), np.float32([[1], [2], [3]])), []


def grown(net):
    """A constant that makes the result larger is no bias of one layer."""
    return net.node("Add", stays(net), np.float32([[[1, 2, 3]], [[4, 5, 6]]])), []


def read_twice(net):
    y = stays(net)
    other = net.qdq(net.node("Relu", y), 0.05, np.int8(0))
    return net.node("Add", y, BIAS), [other]


def an_output(net):
    y = stays(net)
    return net.node("Add", y, BIAS), [y]


def added_twice_over(net):
    y = stays(net)
    return net.node("Add", net.node("Add", y, BIAS), y), []


def batch_normalization(net):
    parameters = [np.float32(v) for v in ([2, 3, 4], [0.5, -1, 2], [0.1, 0.2, 0.3], [1, 2, 3])]
    return net.node("BatchNormalization", stays(net), *parameters), []


OTHERS = [
    behind_mul,
    behind_relu,
    by_element,
    by_row,
    grown,
    read_twice,
    an_output,
    added_twice_over,
    batch_normalization,
]


@pytest.mark.parametrize("form", OTHERS, ids=lambda f: f.__name__)
def test_what_stays_in_the_requantizer(form):
    net = Net()
    y, others = form(net)
    model = net.model(net.qdq(y, 0.05, np.int8(3)), *others)
    loaded = intsim.load(model)
    assert "bias" not in mac(loaded).arrays
    (shape,) = (s for s, _ in loaded.lowered.source.inputs.values())
    check(model, {"x": np.float32(RNG.integers(-128, 128, shape)) * X}, 2)
    assert intsim.bounds(loaded, "exact").layers[0].high == int(127 * np.abs(CODES).sum(axis=0).max() + max(
        np.maximum(-CODES, 0).sum(axis=0)))  # fmt: skip


def test_a_bias_of_integer_products():
    """An int32 constant behind MatMulInteger is its bias; behind the Mul that scales it, nothing is."""
    for scaled in (False, True):
        net = Net()
        x = net.input(2, 4, kind=TensorProto.INT8)
        y = net.node("MatMulInteger", x, CODES)
        if scaled:
            y = net.node("Mul", net.node("Cast", y, to=TensorProto.FLOAT), np.float32([0.01, 0.02, 0.03]))
            y = net.node("Add", y, BIAS)
        else:
            y = net.node("Cast", net.node("Add", np.int32([700, -5, 0]), y), to=TensorProto.FLOAT)
        for model in (net.model(y), net.model(net.qdq(y, 0.05, np.int8(0)))):
            loaded = intsim.load(model)
            assert mac(loaded).arrays.get("bias", np.zeros(3, int)).tolist() == ([0, 0, 0] if scaled else [700, -5, 0])
            check(model, {"x": RNG.integers(-128, 128, (2, 4)).astype(np.int8)}, 1 - scaled)


def test_constants_add_up_before_they_are_split():
    """1.5 and 1.0 LSB are 2.5, which goes to 2; split one by one they would be 2 + 1."""
    net = Net()
    x = net.qdq(net.input(1, 4), 1.0, np.int8(0))
    y = net.node("Gemm", x, weights(net, CODES, 1.0), np.float32([1.0, -1.0, 1.5]))
    y = net.node("Add", y, np.float32([1.5, -1.5, 1.0]))
    assert mac(intsim.load(net.model(y))).arrays["bias"].tolist() == [2, -2, 2]


def test_a_long_way_from_the_product():
    for between, inside in ((20, True), (40, False)):
        net = Net()
        y = stays(net)
        for _ in range(between):
            y = net.node("Identity", y)
        loaded = intsim.load(net.model(net.node("Add", y, BIAS)))
        assert ("bias" in mac(loaded).arrays) == inside


@pytest.mark.parametrize("form", ["Gemm", "Add", "scalar"])
def test_a_bias_of_two_activations(form):
    net = Net()
    x, w = quantized(net, (2, 4)), net.qdq(net.input(4, 3, name="w"), W, np.int8(0))
    bias = np.float32(0.75) if form == "scalar" else BIAS
    y = net.node("Gemm", x, w, bias) if form == "Gemm" else net.node("Add", net.node("MatMul", x, w), bias)
    for model in (net.model(y), net.model(net.qdq(y, 0.05, np.int8(0)))):
        loaded = intsim.load(model)
        wanted = [round(Fraction(float(b)) / LSB) for b in np.broadcast_to(bias, (3,))]
        assert mac(loaded).arrays["bias"].tolist() == wanted
        inputs = {"x": np.float32(RNG.integers(-128, 128, (2, 4))) * X}
        check(model, inputs | {"w": np.float32(RNG.integers(-128, 128, (4, 3))) * W}, 1)
        layer = intsim.bounds(loaded, "exact").layers[0]
        assert (layer.low, layer.high) == (4 * 127 * -128 + min(wanted), 4 * 128 * 128 + max(wanted))
        sums = loaded.graph.tensors[mac(loaded).output]
        assert (sums.low, sums.high) == (layer.low, layer.high)


def test_a_depthwise_bias_and_channels_of_their_own_scale():
    net = Net()
    w = weights(net, np.int8(RNG.integers(-9, 10, (4, 1, 3))), np.float32([0.01, 0.02, 0.03, 0.7]), axis=0)
    y = net.node("Conv", quantized(net, (1, 2, 6)), w, np.float32([1, 2, 3, 4]), group=2, pads=[1, 1])
    model = net.model(net.qdq(y, 0.05, np.int8(0)))
    loaded = intsim.load(model)
    scales = [Fraction(float(X)) * Fraction(float(np.float32(s))) for s in (0.01, 0.02, 0.03, 0.7)]
    assert mac(loaded).arrays["bias"].tolist() == [round(b / s) for b, s in zip((1, 2, 3, 4), scales, strict=True)]
    check(model, {"x": np.float32(RNG.integers(-128, 128, (1, 2, 6))) * X}, 2)


def test_a_bias_that_no_register_of_64_bits_holds_is_refused():
    net = Net()
    x = net.qdq(net.input(1, 1), 1e-10, np.int8(0))
    y = net.node("Gemm", x, weights(net, np.int8([[1]]), 1e-12), np.float32([1]))
    with pytest.raises(
        IntsimError, match=r"node Gemm_\w+ \(Gemm\): its bias in channel 0 is 1, 2\^73 times .* larger scale"
    ):
        intsim.load(net.model(net.qdq(y, 0.5, np.int8(0))))


PLACES = {"after": ([7, -8, 4], [1, 0, 0]), "preload": ([7, -4, 4], [5, 1, 0]), "requantizer": ([13, -8, 4], [0, 0, 0])}
"""Accumulators, and events by channel."""


@pytest.mark.parametrize("place", PLACES)
def test_the_target_says_where_it_is_added(place):
    """Four products of 1, biases of 9.25, -12.25 and 0, a register of 4 bits that saturates."""
    net = Net()
    x = net.qdq(net.input(1, 4), 1.0, np.int8(0))
    y = net.node("Gemm", x, weights(net, np.int8([[1, 1, 1]] * 4), 1.0), np.float32([9.25, -12.25, 0]))
    loaded = intsim.load(net.model(net.qdq(y, 1.0, np.int8(0))))
    target = Target.from_toml(
        f'title = "t"\nsource = ["s"]\naccumulate = {{ bias = "{place}", '
        'stages = [{ sum = "rest", bits = 4, overflow = "saturate" }] }\nrequantize = { scheme = "exact" }\n'
    )
    run = loaded.run({"x": np.ones((1, 4), np.float32)}, target, keep=True)
    sums, events = PLACES[place]
    assert run.tensors[mac(loaded).output].tolist() == [sums]
    assert run.overflows[mac(loaded).name].sum(axis=1).tolist() == events
    seen = intsim.bounds(loaded, target).layers[0]
    assert (seen.low, seen.high) == ((-512, 508) if place == "requantizer" else (-524, 517))


def test_an_axis_of_channels_that_a_reshape_splits():
    net = Net()
    codes = np.concatenate([CODES, CODES[:, ::-1]], axis=1)
    y = net.node("Reshape", net.node("MatMul", quantized(net, (2, 4)), weights(net, codes)), np.int64([2, 2, 3]))
    y = net.node("Add", y, np.float32([[1.5, -0.75, 0], [3, 0.5, 1]]))
    for model in (net.model(y), net.model(net.qdq(y, 0.05, np.int8(3)))):
        loaded = intsim.load(model)
        wanted = [round(Fraction(b) / LSB) for b in (1.5, -0.75, 0, 3, 0.5, 1)]
        assert mac(loaded).arrays["bias"].tolist() == wanted
        check(model, {"x": np.float32(RNG.integers(-128, 128, (2, 4))) * X}, 1)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_dot_product_has_one_channel(shape):
    """Weights of one axis, or a single channel whose axis a Reshape drops: a scalar is its bias."""
    for column in (CODES[:, 0], CODES[:, :1]):
        net = Net()
        y = net.node("MatMul", quantized(net, (2, 4)), weights(net, column.copy()))
        y = net.node("Add", net.node("Reshape", y, np.int64([1, 2])), np.full(shape, 2.5, np.float32))
        for model in (net.model(y), net.model(net.qdq(y, 0.05, np.int8(3)))):
            assert mac(intsim.load(model)).arrays["bias"].tolist() == [round(Fraction(2.5) / LSB)]
            check(model, {"x": np.float32(RNG.integers(-128, 128, (2, 4))) * X}, 1)


def test_a_product_times_nothing_has_no_unit():
    net = Net()
    y = net.node("Gemm", quantized(net, (2, 4)), weights(net, CODES), alpha=0.0)
    model = net.model(net.qdq(net.node("Add", y, BIAS), 0.05, np.int8(3)))
    assert "bias" not in mac(intsim.load(model)).arrays
    check(model, {"x": np.ones((2, 4), np.float32)}, 2)
