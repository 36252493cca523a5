"""Accumulator bounds: never below what is observed, attained by a constructed input, right at powers of two."""

import numpy as np
import onnx
import pytest
from frontend.build import Net
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import intsim
from intsim.arithmetic.accumulate import accumulate_telemetry
from intsim.proofs.bounds import LayerBound
from intsim.targets import Target


def matmul(
    weight: np.ndarray, bits: int = 8, signed: int = 1, zero: float = 0, narrow: int = 0, bias=None
) -> onnx.ModelProto:
    """A bare accumulator: (1, K) codes times integer weights (K, N), plus an integer bias (N,)."""
    net = Net()
    x = net.quant(net.input(1, len(weight)), 1, zero, bits, signed=signed, narrow=narrow)
    w = net.quant(np.float32(weight), 1, 0, 8)
    y = net.node("MatMul", x, w) if bias is None else net.node("Gemm", x, w, np.float32(bias))
    return net.model(y)


def conv(weight: np.ndarray, zero: float, pads: int, bits: int = 4) -> onnx.ModelProto:
    net = Net()
    x = net.quant(net.input(1, weight.shape[1], 4, 4), 1, zero, bits, signed=0)
    w = net.quant(np.float32(weight), 1, 0, 8)
    return net.model(net.node("Conv", x, w, kernel_shape=list(weight.shape[2:]), pads=[pads] * 4))


def only(model: onnx.ModelProto, target: object = "exact") -> LayerBound:
    (layer,) = intsim.bounds(model, target).layers
    return layer


def accumulators(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    loaded = intsim.load(model)
    run = loaded.run({"x": x.astype(np.float32)}, keep=True)
    (name,) = run.overflows
    return run.tensors[name]


weights = st.integers(0, 2**32).map(np.random.default_rng)


@given(weights, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 9), st.integers(0, 1))
def test_no_extreme_lies_outside(rng, out, cin, kernel, zero, pads):
    """Random and extreme inputs of a convolution with zero point and padding."""
    weight = rng.integers(-128, 128, (out, cin, kernel, kernel))
    model = conv(weight, zero, pads)
    layer = only(model)
    assert layer.depth == cin * kernel * kernel
    assert layer.channels == out
    for x in (rng.integers(0, 16, (1, cin, 4, 4)), rng.choice([0, 15], (1, cin, 4, 4)), np.zeros((1, cin, 4, 4))):
        acc = accumulators(model, x - zero)
        assert layer.low <= acc.min()
        assert acc.max() <= layer.high
        for channel, bits in enumerate(layer.channel_bits):
            assert -(1 << bits - 1) <= acc[:, channel].min()
            assert acc[:, channel].max() < 1 << bits - 1
    assert layer.bits <= layer.type_bits


@given(
    weights,
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(1, 8),
    st.integers(0, 1),
    st.integers(-3, 3),
    st.booleans(),
)
def test_both_ends_are_attained(rng, depth, channels, bits, signed, zero, with_bias):
    """The input that takes, for each weight, the end of its range that suits the weight's sign."""
    if bits == 1 and signed:
        signed = 0
    weight = rng.integers(-127, 128, (depth, channels))
    bias = rng.integers(-(2**16), 2**16, channels) if with_bias else None
    model = matmul(weight, bits, signed, zero, bias=bias)
    layer = only(model)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    ends = []
    for channel in range(channels):
        for a, b in ((low, high), (high, low)):
            codes = np.where(weight[:, channel] < 0, a, b)
            ends.append(accumulators(model, (codes - zero)[None])[0, channel])
    assert layer.high == max(ends)
    assert layer.low == min(ends)


@pytest.mark.parametrize("k", range(1, 8))
@pytest.mark.parametrize(("offset", "bits"), [(-1, 0), (0, 1), (1, 1)])
def test_bits_at_powers_of_two(k, offset, bits):
    """An accumulator of 0..m: 2**k - 1 fits k + 1 bits, 2**k does not."""
    m = 2**k + offset
    found = only(matmul(np.ones((m, 1)), 1, 0))
    assert (found.low, found.high) == (0, m)
    assert found.bits == found.channel_bits[0] == k + 1 + bits
    down = only(matmul(-np.ones((m, 1)), 1, 0))
    assert (down.low, down.high) == (-m, 0)
    # -2**k still fits k + 1 bits, and -1 fits one
    assert down.bits == (m - 1).bit_length() + 1


def test_bound_by_types():
    """K products of int8 by int8: K x 2**14 at most, which needs log2(K) + 16 bits."""
    for depth, bits in ((1, 16), (2, 17), (3, 17), (4, 18), (64, 22), (65, 22)):
        assert only(matmul(np.ones((depth, 1)))).type_bits == bits, depth


def test_unsafe_channels_on_avx2():
    """u8 x s8 pairs in 16 bits: 255 a + 255 b > 32767 from a + b = 129 on, < -32768 from -129 on."""
    pairs = [(64, 64), (64, 65), (127, 1), (127, 2), (-64, -64), (-64, -65), (-127, -2), (127, -127), (1, 1), (-128, 0)]
    model = matmul(np.array(pairs).T, 8, 0)
    layer = only(model, "x86-avx2")
    assert [s.stage for s in layer.stages] == ["1: 16-bit saturate", "2: 32-bit wrap", "3: 32-bit wrap"]
    unsafe = [p for p in pairs if 255 * sum(v for v in p if v > 0) > 32767 or 255 * sum(v for v in p if v < 0) < -32768]
    assert unsafe == [(64, 65), (127, 2), (-64, -65), (-127, -2)]
    assert layer.stages[0].channels_unsafe == 4
    assert [s.channels_unsafe for s in layer.stages[1:]] == [0, 0]
    assert (layer.stages[0].high, layer.stages[0].low) == (255 * 129, -255 * 129)
    assert layer.stages[0].bits == 17
    assert not layer.safe
    assert not intsim.bounds(model, "x86-avx2").safe
    assert only(model, "x86-vnni").safe
    assert only(matmul(np.array([(64, 64), (127, 1), (-64, -64)]).T, 8, 0), "x86-avx2").safe


@settings(max_examples=max(settings().max_examples // 2, 10))
@given(weights, st.sampled_from([n for n in Target.names() if n != "exact"]), st.integers(1, 9))
def test_a_proof_of_safety_is_kept(rng, name, depth):
    """No event on any target in channels that are proved safe; and an unsafe register is one some input overflows."""
    weight = rng.integers(-128, 128, (depth, 4)) // rng.choice([1, 2, 16], 4)
    model = matmul(weight, 8, 0)
    layer = only(model, name)
    loaded = intsim.load(model)
    events = np.zeros((4, len(layer.stages)), np.int64)
    for _ in range(4):
        x = rng.choice([0, 1, 254, 255], (1, depth)).astype(np.float32)
        (found,) = loaded.run({"x": x}, name).overflows.values()
        events += found
    for i, stage in enumerate(layer.stages):
        if stage.channels_unsafe == 0:
            assert not events[:, i].any()
        assert (events[:, i] > 0).sum() <= stage.channels_unsafe
    if layer.safe:
        assert not events.any()


@given(weights, st.integers(1, 8), st.integers(2, 17))
def test_plain_registers_overflow_exactly_where_said(rng, depth, bits):
    """One register of N bits: unsafe if and only if the constructed input overflows it on the way."""
    weight = rng.integers(-128, 128, (depth, 1))
    text = (
        'title = "t"\nsource = ["s"]\n[accumulate]\n'
        f'stages = [{{ sum = "rest", bits = {bits}, overflow = "wrap" }}]\n[requantize]\nscheme = "exact"\n'
    )
    target = Target.from_toml(text)
    layer = only(matmul(weight, 4, 0), target)
    worst = [np.where(weight[:, 0] < 0, a, b) * weight[:, 0] for a, b in ((0, 15), (15, 0))]
    seen = accumulate_telemetry(np.array(worst), target.stages)
    assert layer.safe == (not seen.events.any())


def test_two_tensors():
    """A product of two activations: both ranges count, whatever the signs."""
    net = Net()
    a = net.quant(net.input(2, 5, name="a"), 1, 0, 4)
    b = net.quant(net.input(5, 3, name="b"), 1, 0, 3, signed=0)
    layer = only(net.model(net.node("MatMul", a, b)))
    assert (layer.low, layer.high, layer.depth) == (5 * -8 * 7, 5 * 7 * 7, 5)
    assert layer.bits == 10


def test_json_and_nothing_to_prove():
    found = intsim.bounds(matmul(np.ones((3, 2))), "cpu-int32").to_json()
    assert set(found) == {"model", "target", "safe", "layers"}
    (layer,) = found["layers"]
    assert (layer["depth"], layer["channels"], layer["low"], layer["high"]) == (3, 2, -384, 381)
    assert layer["stages"][0]["channels_unsafe"] == 0
    net = Net()
    x = net.node("DequantizeLinear", net.input(1, 3, kind=TensorProto.INT8), np.float32(1), np.int8(0))
    empty = intsim.bounds(net.model(net.quant(x)))
    assert (empty.layers, empty.safe) == ([], True)


def test_an_operand_that_does_not_fit_is_named():
    net = Net()
    x = net.quant(net.input(1, 3), 1, 0, 12)
    y = net.node("MatMul", x, net.quant(np.ones((3, 1), np.float32), 1, 0, 8))
    with pytest.raises(intsim.IntsimError, match=r"MatMul.*u8"):
        intsim.bounds(net.model(y), "x86-avx2")
