"""Every quantizer the front end reads, against the reference."""

import numpy as np
import pytest
from onnx import TensorProto

import intsim
from intsim.errors import IntsimError
from intsim.frontend.codes import quantize_constant
from intsim.frontend.context import Quantizer
from intsim.frontend.qonnx import ROUNDING
from intsim.graph import rationals
from intsim.verification.reference import Reference

from .build import Net, check, halves

MODES = ["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN", "half_up", "round"]
DOMAINS = ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"]
RNG = np.random.default_rng(1)


def test_modes_are_all_here():
    assert {m.upper() for m in MODES} == set(ROUNDING)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("signed", "narrow", "zero"), [(1, 0, 0), (1, 1, 0), (0, 0, 3), (0, 1, 0), (1, 0, -1.5), (0, 0, 0.25)]
)
def test_quant_of_input_then_of_accumulator(mode, signed, narrow, zero):
    """The first quantizer reads floats, the second one integers; half of all values are ties."""
    net = Net()
    x = net.quant(net.input(2, 3, 5), 0.25, zero, 4, signed=signed, narrow=narrow, rounding_mode=mode)
    y = net.quant(x, 0.5, zero, 3, signed=signed, narrow=narrow, rounding_mode=mode)
    z = net.quant(y, 0.75, zero, 4, signed=signed, narrow=narrow, rounding_mode=mode)
    check(net.model(x, y, z), {"x": halves(RNG, (2, 3, 5))}, 6)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
def test_domains(domain, op):
    if op == "IntQuant" and domain == "onnx.brevitas":
        op = "Quant"
    net = Net()
    x = net.quant(net.input(2, 4), domain=domain, op=op)
    b = net.node("BipolarQuant", x, np.float32(0.5), domain=domain)
    t = net.node("Trunc", x, np.float32(0.25), np.float32(0), np.float32(4), np.float32(2), domain=domain)
    check(net.model(b, t), {"x": halves(RNG, (2, 4))}, 5)


@pytest.mark.parametrize("width", [[4, 4], [[4, 4]], [[[4], [4], [4]]], [[[[4]]]]])
@pytest.mark.parametrize("op", ["Quant", "Trunc"])
def test_a_bit_width_that_would_grow_its_tensor(op, width):
    """Widths that are all the same are one width, but broadcast as they are: qonnx's result would be larger."""
    net = Net()
    x = net.quant(net.input(2, 3, 1), 0.5, 0, 6)
    width = np.float32(width)
    more = (width,) if op == "Quant" else (np.float32(6), width)
    model = net.model(net.node(op, x, np.float32(0.5), np.float32(0), *more, domain=DOMAINS[0]))
    if width.size == 1 or width.shape == (1, 3, 1):
        assert set(intsim.load(model).graph.tensors[n].shape for n in intsim.load(model).graph.outputs) == {(2, 3, 1)}
    else:
        with pytest.raises(IntsimError, match=r"bit width of shape \(.*\) doesn't fit its input \(2, 3, 1\)"):
            intsim.load(model)


def test_channel_scales_and_zero_points_of_activations():
    net = Net()
    scale = np.float32([0.25, 0.5, 0.3]).reshape(1, 3, 1)
    zero = np.float32([0, 1, -2]).reshape(1, 3, 1)
    x = net.quant(net.input(2, 3, 8), scale, zero, 4)
    y = net.quant(x, scale[:, ::-1] * 1.5, 0, 3, signed=0)
    z = net.quant(x, np.float32(0.4), zero, 3, rounding_mode="FLOOR")
    check(net.model(x, y, z), {"x": halves(RNG, (2, 3, 8))}, 6)


def test_scale_for_every_element():
    net = Net()
    x = net.quant(net.input(2, 6), np.float32(RNG.integers(1, 9, (1, 6)) / 8), 0, 4)
    y = net.quant(x, np.float32(RNG.integers(1, 9, (2, 6)) / 8), 0, 3)
    check(net.model(y), {"x": halves(RNG, (2, 6))}, 3)


def test_channel_scale_of_weights():
    net = Net()
    x = net.quant(net.input(1, 3, 5, 5), 0.25, 0, 4)
    w = net.quant(halves(RNG, (4, 3, 3, 3)), np.float32([0.25, 0.5, 0.3, 1]).reshape(4, 1, 1, 1), 0, 3, narrow=1)
    a = net.node("Conv", x, w, kernel_shape=[3, 3])
    check(net.model(net.quant(a, 1.5, 0, 5), a), {"x": halves(RNG, (1, 3, 5, 5))}, 3)


@pytest.mark.parametrize("scale", [1, 0.5, np.float32([0.25, 0.5, 2]).reshape(1, 3, 1)])
@pytest.mark.parametrize("zero", [0.0, 1.0])
def test_one_bit_signed(scale, zero):
    net = Net()
    x = net.quant(net.input(2, 3, 4), scale, zero, 1)
    y = net.quant(net.node("Sub", net.quant("x", 0.25, 0, 4), np.float32(0.25)), scale, zero, 1)
    check(net.model(x, y), {"x": halves(RNG, (2, 3, 4))}, 4)


def test_one_bit_unsigned():
    net = Net()
    x = net.quant(net.input(2, 3, 4), 0.5, 0, 1, signed=0)
    check(net.model(x), {"x": halves(RNG, (2, 3, 4))}, 2)


def test_bipolar():
    net = Net()
    x = net.node("BipolarQuant", net.input(2, 3, 4), np.float32(0.5), domain="qonnx.custom_op.general")
    w = net.node("BipolarQuant", halves(RNG, (4, 5)), np.float32(0.25), domain="qonnx.custom_op.general")
    y = net.node("MatMul", x, w)
    z = net.node("BipolarQuant", y, np.float32(1), domain="qonnx.custom_op.general")
    check(net.model(x, y, z), {"x": np.float32([[0.0, -0.0, 1, -1]] * 3 + [[2, -3, 0, 1e-30]] * 3).reshape(2, 3, 4)}, 5)


@pytest.mark.parametrize("slope", [1.0, -1.0, -0.5])
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.3])
def test_bipolar_at_its_threshold(slope, threshold):
    """Rising and falling functions of the accumulator, whose zero lies on a code or between two."""
    net = Net()
    x = net.quant(net.input(33), 0.25, 0, 6)
    y = net.node("Mul", net.node("Sub", x, np.float32(threshold)), np.float32(slope))
    z = net.node("BipolarQuant", y, np.float32(0.5), domain="qonnx.custom_op.general")
    check(net.model(z), {"x": np.float32(np.arange(-16, 17) / 4)}, 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("signed", [0, 1])
def test_trunc_after_average_pool(mode, signed):
    """Brevitas' TruncAvgPool: the pool's sum, times its area, truncated; then the same as Trunc opset 2."""
    net = Net()
    x = net.quant(net.input(1, 2, 4, 6), 0.25, 0, 4, signed=signed)
    pool = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    total = net.node("Mul", pool, np.float32(4))
    args = [np.float32(0.25), np.float32(0), np.float32(6)]
    old = net.node("Trunc", total, *args, np.float32(4), domain="qonnx.custom_op.general", rounding_mode=mode)
    new = net.node(
        "Trunc",
        total,
        *args,
        np.float32(1),
        np.float32(3),
        domain="qonnx.custom_op.general",
        rounding_mode=mode,
        signed=signed,
        narrow=0,
    )
    off = net.node("Trunc", pool, *args, np.float32(4), domain="qonnx.custom_op.general", rounding_mode=mode)
    check(net.model(old, new, off), {"x": halves(RNG, (1, 2, 4, 6))}, 7)


def test_trunc_zero_point():
    net = Net()
    x = net.quant(net.input(3, 8), 0.25, 5, 4, signed=0)
    head = [np.float32(0.25), np.float32(5), np.float32(4)]
    old = net.node("Trunc", x, *head, np.float32(2), domain="qonnx.custom_op.general")
    new = net.node("Trunc", x, *head, np.float32(1), np.float32(2), domain="qonnx.custom_op.general", signed=0)
    y = net.quant(net.node("MatMul", new, net.quant(halves(RNG, (8, 3)))), 2, 0, 5)
    check(net.model(old, new, y), {"x": halves(RNG, (3, 8))}, 6)


TYPES = [np.int8, np.uint8, np.int16, np.uint16]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("opset", [13, 21])
def test_qdq(kind, opset):
    net = Net(opset)
    zero = kind(0 if np.iinfo(kind).min < 0 else 100)
    x = net.qdq(net.input(2, 3, 6), 0.25, zero)
    w = net.node("DequantizeLinear", RNG.integers(-7, 8, (6, 4)).astype(np.int8), np.float32(0.125), np.int8(0))
    a = net.node("MatMul", x, w)
    b = net.node("Add", a, net.node("DequantizeLinear", np.int32([3, -1, 0, 77]), np.float32(1 / 32), np.int32(0)))
    check(net.model(a, b, net.qdq(b, 0.75, zero)), {"x": halves(RNG, (2, 3, 6))}, 3)


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2])
def test_qdq_small_types(kind):
    net = Net(25 if kind in (TensorProto.INT2, TensorProto.UINT2) else 21)
    bits = 4 if kind in (TensorProto.INT4, TensorProto.UINT4) else 2
    signed = kind in (TensorProto.INT4, TensorProto.INT2)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    zero = net.const(1, kind=kind)
    x = net.qdq(net.input(2, 6), 0.25, zero)
    codes = net.const(RNG.integers(low, high + 1, (6, 4)), kind=kind)
    w = net.node(
        "DequantizeLinear", codes, np.float32([0.5, 0.25, 1, 0.125]), net.const([0, 1, 1, 0], kind=kind), axis=1
    )
    a = net.node("MatMul", x, w)
    check(net.model(x, a, net.qdq(a, 0.75, zero)), {"x": halves(RNG, (2, 6))}, 4)


def test_output_dtype_instead_of_zero_point():
    net = Net(21)
    q = net.node("QuantizeLinear", net.input(2, 6), np.float32(0.25), output_dtype=TensorProto.INT16)
    d = net.node("DequantizeLinear", q, np.float32(0.25))
    run = check(net.model(d, q, kinds={q: TensorProto.INT16}), {"x": halves(RNG, (2, 6), reach=3000)}, 2)
    assert run.outputs[q].dtype == np.int16


@pytest.mark.parametrize(("low", "high"), [(-7, 7), (None, 5), (-3, None), (-1000, 1000)])
def test_clip_narrows_the_type(low, high):
    net = Net()
    bounds = ["" if v is None else net.const(np.int8(np.clip(v, -128, 127))) for v in (low, high)]
    x = net.qdq(net.input(4, 8), 0.25, np.int8(0), clip=(bounds[0], bounds[1]))
    y = net.qdq(net.node("MatMul", x, net.quant(halves(RNG, (8, 3)))), 1.5, np.int8(2), clip=(bounds[0], bounds[1]))
    check(net.model(x, y), {"x": halves(RNG, (4, 8))}, 4)


def test_channel_zero_points():
    net = Net()
    scale, zero = np.float32([0.25, 0.5, 0.3]), np.uint8([3, 0, 200])
    x = net.qdq(net.input(2, 3, 6), scale, zero, axis=1)
    y = net.qdq(net.node("Relu", x), scale * 2, zero[::-1].copy(), axis=-2)
    check(net.model(x, y), {"x": halves(RNG, (2, 3, 6), reach=500)}, 3)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_blocked(axis):
    net = Net(21)
    codes = RNG.integers(-8, 8, (6, 4)).astype(np.int8)
    shape = [2 if i == axis % 2 else n for i, n in enumerate((6, 4))]
    block = [3, 2][axis % 2]
    scale, zero = np.float32(2.0 ** RNG.integers(-3, 2, shape)), RNG.integers(-2, 3, shape).astype(np.int8)
    w = net.node("DequantizeLinear", codes, scale, zero, axis=axis, block_size=block)
    a = net.node("MatMul", net.quant(net.input(3, 6)), w)
    check(net.model(a), {"x": halves(RNG, (3, 6))}, 2)


def test_blocked_activation():
    net = Net(21)
    scale = np.float32(2.0 ** RNG.integers(-3, 2, (2, 3)))
    x = net.qdq(net.input(2, 6), scale, np.zeros((2, 3), np.int8), axis=1, block_size=2)
    check(net.model(net.quant(net.node("MatMul", x, net.quant(halves(RNG, (6, 3))))), x), {"x": halves(RNG, (2, 6))}, 3)


def test_uint8_input_is_codes():
    net = Net()
    q = net.input(1, 3, 4, 4, kind=TensorProto.UINT8)
    x = net.node("DequantizeLinear", q, np.float32(1 / 255), np.uint8(10))
    w = net.quant(halves(RNG, (2, 3, 3, 3)))
    y = net.quant(net.node("Conv", x, w, pads=[1, 1, 1, 1]), 0.1, 0, 8)
    codes = RNG.integers(0, 256, (1, 3, 4, 4)).astype(np.uint8)
    run = check(net.model(y), {"x": codes}, 2)
    np.testing.assert_array_equal(run.inputs["x"], codes)


@pytest.mark.parametrize("mode", sorted(set(ROUNDING.values()) | {"half_up"}))
def test_quantize_constant_at_ties(mode):
    """Values one ulp around every tie and integer, at a scale that float32 rounds."""
    from intsim.arithmetic.rounding import round_fraction

    scale = np.float32(0.1)
    ties = np.arange(-9, 10) * (float(scale) / 2)
    x = np.concatenate([ties, np.nextafter(ties, 9), np.nextafter(ties, -9), [1e300, -1e300]])
    exact = rationals(x) / rationals(scale) + rationals(0.5)
    wanted = [min(max(round_fraction(v, mode) + 1, -3), 3) for v in exact]
    assert quantize_constant(x, Quantizer(rationals(scale), rationals(0.5), 1, mode, (-3, 3))).tolist() == wanted


def test_scale_from_the_graph_input():
    """A scale that is a graph input becomes a constant when it is bound."""
    net = Net()
    x, s = net.input(2, 4), net.input(name="s")
    y = net.node("QuantizeLinear", x, s, np.int8(0))
    model = net.model(y, kinds={y: TensorProto.INT8})
    values = halves(RNG, (2, 4))
    run = intsim.run(model, inputs={"x": values, "s": np.float32(0.25)})
    wanted = Reference(model, {"s": np.float32(0.25)}).run({"x": values}).codes[y]
    np.testing.assert_array_equal(run.outputs[y], wanted)
    assert run.outputs[y].dtype == np.int8
    with pytest.raises(intsim.IntsimError, match="not a constant"):
        intsim.load(model)


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_a_clip_behind_a_later_quantizer_is_that_quantizers(kind):
    """The second layer's multiplier sees the file's codes and zero point, as the first one's does: no copy between."""
    net = Net()
    x = net.qdq(net.input(2, 3), 0.25, kind(5), (kind(3), kind(9)))
    weight = net.node("DequantizeLinear", np.int8([[1, -2], [3, 4], [-5, 6]]), np.float32(0.5), np.int8(0))
    y = net.qdq(net.node("MatMul", x, weight), 1.5, kind(60), (kind(58), kind(64)))
    other = net.node("DequantizeLinear", np.int8([[1], [-2]]), np.float32(0.5), np.int8(0))
    model = net.model(net.node("MatMul", y, other))
    check(model, {"x": halves(RNG, (2, 3))}, 3)
    graph = intsim.load(model).graph
    assert [node.op for node in graph.nodes] == ["matmul", "requantize", "matmul"]
    assert graph.nodes[2].attributes["zero_point"] == 60
    assert (graph.tensors[graph.nodes[2].inputs[0]].low, graph.tensors[graph.nodes[2].inputs[0]].high) == (58, 64)
