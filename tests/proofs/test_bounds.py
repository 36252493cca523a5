"""Accumulator bounds: never below what is observed, attained by a constructed input, right at powers of two."""

import numpy as np
import onnx
import pytest
from frontend.build import Net
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from proofs.addends import RANGES, graph, registers

import intsim
from intsim.arithmetic.accumulate import accumulate_telemetry
from intsim.arithmetic.integers import bits_for
from intsim.mac.any_order import addends
from intsim.ops import OPS
from intsim.proofs.bounds import LayerBound
from intsim.proofs.budgets import a2q_bits, a2q_budget, a2q_plus_bits, a2q_plus_budget, budget
from intsim.targets import Target


def matmul(
    weight: np.ndarray,
    bits: int = 8,
    signed: int = 1,
    zero: float = 0,
    narrow: int = 0,
    bias=None,
    weight_bits: int = 8,
) -> onnx.ModelProto:
    """A bare accumulator: (1, K) codes times integer weights (K, N), plus an integer bias (N,)."""
    net = Net()
    x = net.quant(net.input(1, len(weight)), 1, zero, bits, signed=signed, narrow=narrow)
    w = net.quant(np.float32(weight), 1, 0, weight_bits)
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
    assert layer.required_bits <= layer.type_bits


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
    assert found.required_bits == found.channel_bits[0] == k + 1 + bits
    down = only(matmul(-np.ones((m, 1)), 1, 0))
    assert (down.low, down.high) == (-m, 0)
    # -2**k still fits k + 1 bits, and -1 fits one
    assert down.required_bits == (m - 1).bit_length() + 1


def test_bound_by_types():
    """K products of int8 by int8: K x 2**14 at most, which needs log2(K) + 16 bits."""
    for depth, bits in ((1, 16), (2, 17), (3, 17), (4, 18), (64, 22), (65, 22)):
        assert only(matmul(np.ones((depth, 1)))).type_bits == bits, depth


def test_unsafe_channels_on_avx2():
    """u8 x s8 pairs in 16 bits: 255 a + 255 b > 32767 from a + b = 129 on, < -32768 from -129 on."""
    pairs = [(64, 64), (64, 65), (127, 1), (127, 2), (-64, -64), (-64, -65), (-127, -2), (127, -127), (1, 1), (-128, 0)]
    model = matmul(np.array(pairs).T, 8, 0)
    layer = only(model, "x86-avx2")
    stages = [(s.stage, s.bits, s.overflow) for s in layer.stages]
    assert stages == [(1, 16, "saturate"), (2, 32, "wrap"), (3, 32, "wrap")]
    unsafe = [p for p in pairs if 255 * sum(v for v in p if v > 0) > 32767 or 255 * sum(v for v in p if v < 0) < -32768]
    assert unsafe == [(64, 65), (127, 2), (-64, -65), (-127, -2)]
    assert layer.stages[0].unsafe_channels == 4
    assert [s.unsafe_channels for s in layer.stages[1:]] == [0, 0]
    assert (layer.stages[0].high, layer.stages[0].low) == (255 * 129, -255 * 129)
    assert layer.stages[0].required_bits == 17
    assert not layer.safe
    assert not intsim.bounds(model, "x86-avx2").safe
    assert only(model, "x86-vnni").safe
    assert only(matmul(np.array([(64, 64), (127, 1), (-64, -64)]).T, 8, 0), "x86-avx2").safe


@settings(max_examples=max(settings().max_examples // 2, 10))
@given(
    weights,
    st.sampled_from([n for n in Target.names() if n != "exact" and "int4" not in n and Target.load(n).runtime is None]),
    st.integers(1, 9),
)
def test_a_proof_of_safety_is_kept(rng, name, depth):
    """No event on any target in channels that are proved safe; and an unsafe register is one some input overflows."""
    machine = Target.load(name).registers
    bits, weight_bits = (8 if kind is None else min(kind.bits, 8) for kind in (machine.activation, machine.weight))
    top = 1 << weight_bits - 1
    weight = rng.integers(-top, top, (depth, 4)) // rng.choice([1, 2, 16], 4)
    model = matmul(weight, bits, 0, weight_bits=weight_bits)
    layer = only(model, name)
    loaded = intsim.load(model)
    events = np.zeros((4, len(layer.stages)), np.int64)
    for _ in range(4):
        most = (1 << bits) - 1
        x = rng.choice([0, 1, most - 1, most], (1, depth)).astype(np.float32)
        (found,) = loaded.run({"x": x}, name).overflows.values()
        events += found
    for i, stage in enumerate(layer.stages):
        if stage.unsafe_channels == 0:
            assert not events[:, i].any()
        assert (events[:, i] > 0).sum() <= stage.unsafe_channels
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
    assert layer.required_bits == 10


def test_json_and_nothing_to_prove():
    found = intsim.bounds(matmul(np.ones((3, 2))), "cpu-int32").to_json()
    assert set(found) == {"format", "model", "target", "safe", "layers"}
    (layer,) = found["layers"]
    assert (layer["depth"], layer["channels"], layer["low"], layer["high"]) == (3, 2, -384, 381)
    assert layer["stages"][0]["unsafe_channels"] == 0
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


def products(weight, low, high, zero=0, raw=False):
    """Reach of the products alone in any order, and the budgets, of a matrix product."""
    made = graph("matmul", (1, len(weight)), low, high, {"weight": weight}, zero_point=zero)
    (node,) = made.nodes
    found = addends(node, OPS["matmul"], [made.tensors["x"]], registers(raw))
    granted = budget(found, made.tensors["x"], False)
    assert granted is not None
    return found.reach()["products"], granted


@given(weights, st.sampled_from(RANGES), st.integers(-5, 5), st.booleans(), st.booleans())
def test_ranges_never_ask_for_more_than_budgets_grant(rng, ends, zero, centred, raw):
    """A2Q bounds every order of the products from types; with the ranges themselves no width is larger."""
    weight = rng.integers(-100, 100, (int(rng.integers(1, 20)), 3))
    if centred:
        weight = np.concatenate([weight, -weight])
        assert not weight.sum(axis=0).any()
    reach, granted = products(weight, *ends, zero, raw)
    for channel in range(3):
        bits = bits_for(int(reach.low[channel]), int(reach.high[channel]))
        assert bits <= granted.a2q_bits[channel]
        limit = a2q_budget(granted.a2q_bits[channel], granted.input_bits, granted.input_signed)
        assert granted.l1[channel] == np.abs(weight[:, channel]).sum() <= limit
        plus, column = granted.a2q_plus_bits[channel], weight[:, channel]
        assert bits <= plus
        parts = np.maximum(column, 0).sum(), np.maximum(-column, 0).sum()
        assert 2 * max(parts) <= a2q_plus_budget(plus, granted.input_bits)
        assert plus == 1 or 2 * max(parts) > a2q_plus_budget(plus - 1, granted.input_bits)
        if column.sum() == 0:
            assert plus <= granted.a2q_bits[channel]


def test_budgets_against_their_formulas():
    """The smallest width is the first whose budget holds the norm: every norm up to 600, and at the budgets' ends."""
    for bits, signed in ((1, False), (2, True), (4, False), (8, False), (8, True)):
        norms = {*range(600), *(2**k + d for k in range(10, 40) for d in (-1, 0, 1))}
        for norm in norms:
            for found, limit in (
                (a2q_bits(norm, bits, signed), lambda p, b=bits, s=signed: a2q_budget(p, b, s)),
                (a2q_plus_bits(norm, bits), lambda p, b=bits: a2q_plus_budget(p, b)),
            ):
                assert found >= 1
                assert norm <= limit(found), (norm, bits, signed)
                assert found == 1 or norm > limit(found - 1), (norm, bits, signed)
    for bits in (0, -1):
        with pytest.raises(intsim.IntsimError, match="must be 1 or more"):
            a2q_budget(16, bits, False)


def test_published_budgets():
    """P = 16: l1 <= 127.99 for u8, 255.99 for s8, 2047.9 for u4; zero-centred weights have twice that, and a little."""
    assert [float(a2q_budget(16, n, s)) for n, s in ((8, False), (8, True), (4, False))] == [
        127.99609375,
        255.9921875,
        2047.9375,
    ]
    assert round(float(a2q_plus_budget(16, 8) / a2q_budget(16, 8, False)), 3) == 2.008
    assert round(float(a2q_plus_budget(16, 4) / a2q_budget(16, 4, False)), 3) == 2.133


def test_a_budget_speaks_of_what_the_multiplier_sees():
    """Codes 0..255 with zero point 128 are -128..127 when corrected, with zero point 3 they need 9 bits."""
    weight = np.array([[3, 1], [-3, 1]])
    for zero, raw, expected in (
        (0, False, (8, False)),
        (128, False, (8, True)),
        (3, False, (9, True)),
        (3, True, (8, False)),
    ):
        _, granted = products(weight, 0, 255, zero, raw)
        assert (granted.input_bits, granted.input_signed) == expected
        assert granted.a2q_plus_bits == [a2q_plus_bits(6, expected[0]), a2q_plus_bits(4, expected[0])]
    net = Net()
    a, b = net.quant(net.input(2, 3, name="a")), net.quant(net.input(3, 2, name="b"))
    assert only(net.model(net.node("MatMul", a, b))).budget is None


def test_a_layer_shows_every_bound():
    """One channel by hand: u8 by (2, -1) plus -100. Late: 510 stands before -100; in any order -355 as well."""
    layer = only(matmul(np.array([[2], [-1]]), 8, 0, bias=np.array([-100])))
    ends = [(x.low, x.high, x.required_bits) for x in (layer.own_order, layer.any_order, layer.products)]
    assert (layer.low, layer.high, layer.required_bits) == (-355, 410, 10)
    assert ends == [(-355, 510, 10), (-355, 510, 10), (-255, 510, 10)]
    assert (layer.budget.l1, layer.budget.a2q_bits) == ([3], [11])
    assert (layer.any_order.channel_low, layer.any_order.channel_high) == ([-355], [510])


REGISTERS = """title = "t"
source = ["s"]
[accumulate]
bias = "{bias}"
stages = [{stages}]
[requantize]
scheme = "exact"
"""


@given(weights, st.sampled_from(["after", "preload"]), st.integers(1, 5), st.integers(1, 4))
def test_the_widths_are_minimal(rng, bias, size, lanes):
    """One register of the width for the own order is safe, of a bit less it isn't; any order's serves any chain."""
    weight = rng.integers(-128, 128, (int(rng.integers(1, 12)), 3))
    model = matmul(weight, 4, 0, bias=rng.integers(-900, 900, 3))

    def layer(*stages: str) -> LayerBound:
        return only(model, Target.from_toml(REGISTERS.format(bias=bias, stages=", ".join(stages))))

    def rest(bits: int) -> str:
        return f'{{ sum = "rest", bits = {bits}, overflow = "saturate" }}'

    own = layer(rest(64)).own_order
    assert layer(rest(own.required_bits)).safe
    assert not layer(rest(own.required_bits - 1)).safe
    found = layer(rest(64))
    assert found.required_bits <= own.required_bits <= found.any_order.required_bits
    split = f'{{ sum = {size}, lanes = {lanes}, bits = {found.any_order.required_bits}, overflow = "wrap" }}'
    assert layer(split, rest(found.any_order.required_bits)).safe
