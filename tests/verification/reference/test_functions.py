"""Irrational functions in the reference evaluator: digits, decisions, and whole networks with them in between."""

import math
from decimal import localcontext
from fractions import Fraction

import numpy as np
import pytest
from frontend.build import Net, check
from functions import CONTEXT, FUNCTIONS, POSITIVE, codes, erf, number, sine, softplus, tanh, values
from hypothesis import given
from hypothesis import strategies as st

import intsim
from intsim.errors import IntsimError
from intsim.verification.reference import Reference, transcendental
from intsim.verification.reference.functions import _FLOATS, _in_floats
from intsim.verification.reference.reals import Real

ALL = np.arange(-128, 128)
S, T = np.float32(0.043), np.float32(0.021)
TWINS = {
    "exp": lambda x: x.exp(),
    "log": lambda x: x.ln(),
    "sqrt": lambda x: x.sqrt(),
    "erf": erf,
    "tanh": tanh,
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "softplus": softplus,
    "sine": sine,
    "cosine": lambda x: 1 - 2 * sine(x / 2) ** 2,
}


@pytest.mark.parametrize("name", TWINS)
@given(st.one_of(st.fractions(-11, 11), st.floats(-11, 11, width=32).map(Fraction)), st.sampled_from([5, 16, 40]))
def test_enclosures(name, x, digits):
    x = abs(x) + Fraction(1, 1 << 40) if name in ("log", "sqrt") else x
    low, high = getattr(transcendental, name)(x, digits)
    with localcontext(CONTEXT):
        value = Fraction(TWINS[name](number(x)))
    slack = Fraction(1, 10**60)
    assert low - slack <= value <= high + slack
    assert high - low <= Fraction(1, 10 ** (digits - 1)) * max(1, abs(value))


def test_far_from_zero():
    for x in (9, 50, 300):
        low, high = transcendental.erf(Fraction(x), 30)
        assert 1 - Fraction(1, 10**30) < low <= high < 1
    assert transcendental.exp(Fraction(-5000), 30)[0] > 0
    for bad, function in ((Fraction(0), transcendental.log), (Fraction(-1), transcendental.sqrt)):
        with pytest.raises(IntsimError, match="no real number"):
            function(bad, 30)


def test_real_numbers_are_decided_with_as_many_digits_as_it_takes():
    root = Real(lambda digits: transcendental.sqrt(Fraction(2), digits))
    assert (math.floor(root), math.ceil(root), round(root), math.trunc(-root)) == (1, 2, 1, -1)
    assert round(root * 10**200) == math.isqrt(8 * 10**400) // 2 + math.isqrt(8 * 10**400) % 2
    near = Fraction(math.isqrt(2 * 10**500), 10**250)
    assert near < root < near + Fraction(1, 10**250)
    assert root > near
    assert root != near
    assert root * Fraction(0) == 0
    assert abs(float(1 / (1 - root) + 1 + root)) < 1e-100
    with pytest.raises(IntsimError, match="3000 digits"):
        math.floor(root * root)


@pytest.mark.parametrize("name", {**FUNCTIONS, **POSITIVE})
def test_every_code(name):
    attributes, twin = {**FUNCTIONS, **POSITIVE}[name]
    inputs = ALL if name in FUNCTIONS else np.arange(256)
    zero = 0 if name in FUNCTIONS else -1
    net = Net(22)
    x = net.quant(net.input(256), S, np.float32(zero), 8, signed=int(name in FUNCTIONS))
    y = net.node(name.split()[0], x, **attributes)
    ends = {m: net.quant(y, T, 0, 8, rounding_mode=m) for m in ("ROUND", "FLOOR", "UP")}
    real = ((inputs - zero) * S).astype(np.float32)
    run = Reference(net.model(*ends.values())).run({"x": real})
    found = values(twin, [(Fraction(int(n)) - zero) * Fraction(float(S)) for n in inputs])
    for mode, end in ends.items():
        np.testing.assert_array_equal(run.codes[end], codes(found, T, 0, -128, 127, mode), err_msg=mode)


def test_exponents_for_each_channel_and_square_roots_of_zero():
    net = Net(20)
    x = net.quant(net.input(3, 16), 1, 0, 4, signed=0)
    y = net.node("Pow", x, np.float32([[0.5], [1.5], [0.3]]))
    numbers = np.arange(16, dtype=np.float32) * np.ones((3, 1), np.float32)
    ends = [net.quant(y, 2, 0, 8, rounding_mode="HALF_UP"), net.quant(net.node("Sqrt", x), 2, 0, 8)]
    run = check(net.model(*ends), {"x": numbers}, 3)
    # the root of 9 is 3, one and a half steps
    assert run.tensors[ends[0]][0, 9] == run.tensors[ends[1]][0, 9] == 2
    assert run.tensors[ends[0]][0, 0] == run.tensors[ends[1]][0, 0] == 0


def test_where_there_is_no_value():
    net = Net(20)
    x = net.quant(net.input(4), 1, 0, 4)
    reference = Reference(net.model(net.quant(net.node("Log", x), 1, 0, 8)))
    with pytest.raises(IntsimError, match=r"\(Log\): the logarithm of 0 is no real number"):
        reference.run({"x": np.float32([1, 2, 0, 3])})


def small_network(make, opset, dialect):
    """Convolution, function, convolution."""
    rng, net = np.random.default_rng(5), Net(opset)

    def quantized(x, scale):
        if dialect == "qonnx":
            return net.quant(x, scale, 0, 8)
        q = net.node("QuantizeLinear", x, np.float32(scale), np.int8(0))
        return net.node("DequantizeLinear", q, np.float32(scale), np.int8(0))

    def conv(x, out, of):
        codes_ = rng.integers(-127, 128, (out, of, 3, 3)).astype(np.int8)
        if dialect == "qonnx":
            weight = net.quant((codes_ * np.float32(0.0078125)).astype(np.float32), 0.0078125, 0, 8)
        else:
            weight = net.node("DequantizeLinear", codes_, np.float32(0.0078125), np.int8(0))
        return net.node("Conv", x, weight, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    x = quantized(net.input(1, 3, 6, 6), 0.03)
    x = quantized(make(net, quantized(conv(x, 6, 3), 0.05)), 0.04)
    return net.model(quantized(conv(x, 4, 6), 0.1))


def silu(net, x):
    return net.node("Mul", x, net.node("Sigmoid", x))


@pytest.mark.parametrize("dialect", ["qonnx", "qcdq"])
@pytest.mark.parametrize(("make", "opset"), [(lambda n, x: n.node("Gelu", x), 20), (silu, 13)], ids=["gelu", "silu"])
def test_networks_are_exact(make, opset, dialect):
    model = small_network(make, opset, dialect)
    for target in ("exact", "x86-vnni"):
        found = intsim.verify(model, target, samples=2, seed=3, references=False)
        assert found.holds
        assert [layer.op for layer in found.layers if "Gelu" in layer.op or "Sigmoid" in layer.op]
    assert intsim.certify(model, "x86-vnni").verdict == "certified"
    assert intsim.telemetry(model).layers


def test_a_wrong_entry_is_caught():
    loaded = intsim.load(small_network(silu, 13, "qonnx"))
    node = next(n for n in loaded.graph.nodes if n.op == "table")
    node.arrays["table"][0, 128:160] += 1
    found = intsim.verify(loaded, "exact", samples=1, seed=3, references=False)
    assert found.verdict == "diverges"
    assert (found.first_divergence["op"], found.first_divergence["blame"]) == ("Sigmoid-Mul", "lowering")


@pytest.mark.slow
def test_an_executor_that_differs_at_a_tie_is_judged_by_name():
    """float32 executors of GELU miss a rounding here and there; each miss is theirs, and is counted as rounding."""
    found = intsim.verify(small_network(lambda n, x: n.node("Gelu", x), 20, "qcdq"), "exact", samples=1, seed=3)
    assert found.verdict == "exact"
    report = found.references["onnxruntime"]
    assert report.reason is None
    assert report.mismatches == report.blame["float_rounding"]


@pytest.mark.parametrize("op", sorted(_FLOATS))
@given(st.integers(0, 1 << 30), st.sampled_from([0.01, 1.0, 30.0, 2000.0]), st.integers(-60, 3))
def test_bounds_of_floats_hold(op, seed, size, exponent):
    """Arguments as far off as is said, against 60 digits."""
    rng = np.random.default_rng(seed)
    v, e = rng.normal(0, size, 20), np.where(rng.random(20) < 0.5, 0.0, 2.0**exponent)
    values, bounds = _in_floats(op, v, e)
    for at, off, value, bound in zip(v, e, values, bounds, strict=True):
        for side in (-1, 0, 1):
            x = Fraction(float(at)) + side * Fraction(float(off))
            if not math.isfinite(bound):
                assert value == 0
                continue
            low, high = getattr(transcendental, op.lower())(x, 60)
            assert abs((low + high) / 2 - Fraction(float(value))) <= Fraction(float(bound)) + Fraction(1, 10**50) * high


@pytest.mark.parametrize("op", sorted(_FLOATS))
def test_many_elements_have_the_codes_of_few(op, monkeypatch):
    """More arguments than are worked out closely, in a whole network; ties and near ties among them."""
    net = Net()
    x = net.quant(net.input(1, 60, 100), S, 0, 16)
    model = net.model(net.quant(net.node(op, net.node("Mul", x, np.float32(0.11))), T, 0, 16))
    inputs = {"x": np.random.default_rng(3).normal(0, 20, (1, 60, 100)).astype(np.float32)}
    fast = Reference(model).run(inputs)
    monkeypatch.setattr("intsim.verification.reference.functions._MOST_CLOSE", 1 << 20)
    close = Reference(model).run(inputs)
    (name,) = [n for n in fast.codes if n in model.graph.output[0].name]
    np.testing.assert_array_equal(fast.codes[name], close.codes[name])
