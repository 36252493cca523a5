"""Zero points and scales far from 1 in every quantizer, against Fractions: float64 must not decide them.

A zero point of 1e-38 and a code don't fit one float64; what a quantizer passes on keeps both all the same.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from frontend.build import Net

import intsim
from intsim.errors import IntsimError
from intsim.verification.reference import Reference
from intsim.verification.reference.quantize import on_codes, quantize, rounding
from intsim.verification.reference.tensor import EXACT, from_array, grid, inexact

from .twins import check, exactly, twin_quant, twin_round

MODES = ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]
TINY = [1e-38, -1e-38, 2.0**-126, 1e-30, -1e-30, 3e-17, -3e-17, 2.0**-60]
SCALES = [0.25, 0.1, 1e-30, 1e30, 2.0**-100, 3e-13, 7.77]


def drawn(rng, mode, second):
    """Quant behind Quant: a tiny zero point in one of them, values on and beside the points where a code changes."""
    one, two = (np.float32(s) for s in (rng.choice(SCALES), 1.0))
    two = np.float32(one * rng.choice([0.5, 1, 2, 3, 0.3]))
    zeros = [np.float32(rng.choice(TINY)), np.float32(rng.choice([0, 1, 0.5, *TINY]))]
    zeros = zeros[::-1] if second else zeros
    x = np.arange(-24, 40, dtype=np.float32) * (one / np.float32(2))
    x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), [0]]).astype(np.float32)
    x[np.abs(x) < 2.0**-126] = 0
    net = Net()
    made = [net.quant(net.input(*x.shape), one, zeros[0], 5, rounding_mode=mode)]
    made.append(net.quant(made[0], two, zeros[1], 6, rounding_mode=mode))
    s, t, z, v = (Fraction(float(i)) for i in (one, two, *zeros))
    first = twin_quant(exactly(x), s, z, 5, mode=mode)
    return net.model(*made), made, x, [first, twin_quant((first - z) * s, t, v, 6, mode=mode)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("second", [False, True])
def test_quant_behind_quant(mode, second):
    """The reference evaluator, and the integers that are lowered from the same file."""
    for seed in range(24):
        model, names, x, codes = drawn(np.random.default_rng([seed, second]), mode, second)
        found = Reference(model).run({"x": x})
        loaded = intsim.load(model)
        run = loaded.run({"x": x}, keep=True)
        for name, wanted in zip(names, codes, strict=True):
            assert found.codes[name].tolist() == wanted.tolist(), (seed, name)
            tensor = next(t for t, info in loaded.graph.tensors.items() if info.onnx == name)
            assert run.tensors[tensor].tolist() == wanted.tolist(), (seed, name)


@pytest.mark.parametrize("mode", MODES)
def test_a_host_value_beside_a_zero_point(mode):
    """A boundary of the host: thousands of values, so that the compiled loop decides too."""
    x = np.tile(np.arange(-40, 41, dtype=np.float32) / 8, 64)
    for zero, scale in itertools.product(TINY, [0.25, 0.125, 0.1]):
        net = Net()
        y = net.quant(net.node("Mul", net.input(*x.shape), np.float32(0.5)), scale, zero, 6, rounding_mode=mode)
        loaded = intsim.load(net.model(y))
        codes = next(iter(loaded.integer_inputs({"x": x}).values()))
        half, step, shift = Fraction(1, 2), Fraction(float(np.float32(scale))), Fraction(float(np.float32(zero)))
        wanted = twin_quant(exactly(x[:81]) * half, step, shift, 6, mode=mode)
        assert codes[:81].tolist() == wanted.tolist()
        assert (codes.reshape(64, 81) == codes[:81]).all()


def test_trunc_keeps_its_zero_point():
    """Trunc divides the zero point; it flows on with it."""
    for zero, mode in itertools.product([1e-38, -1e-38, 3.0, 0.5], ["FLOOR", "ROUND", "CEIL"]):
        net = Net()
        x = np.arange(0, 64, dtype=np.float32) / 4
        y = net.quant(net.input(*x.shape), 0.25, zero, 8, signed=0)
        six = [np.float32(v) for v in (0.25, zero, 8, 1.0, 6)]
        t = net.node("Trunc", y, *six, domain="qonnx.custom_op.general", rounding_mode=mode, signed=0, narrow=0)
        end = net.quant(t, 1.0, 0, 8, rounding_mode="FLOOR")
        found = Reference(net.model(end)).run({"x": x})
        z = Fraction(float(np.float32(zero)))
        first = twin_quant(exactly(x), Fraction(1, 4), z, 8, signed=False)
        whole = [twin_round((c - z) * Fraction(1, 4) / Fraction(1, 4) + z, "ROUND") for c in first]
        second = [min(max(twin_round(Fraction(c, 4), mode), 0), 63) for c in whole]
        assert found.codes[t].tolist() == second
        third = [min(max(twin_round(c - z / 4, "FLOOR"), -128), 127) for c in second]
        assert found.codes[end].tolist() == third


@pytest.mark.parametrize("scale", [1e-30, 1e30, 2.0**-120, 0.1])
def test_linear_quantizers_and_bipolar_on_any_scale(scale):
    """QuantizeLinear with a zero point at either end of its type, and the sign of what is almost 0."""
    step = Fraction(float(np.float32(scale)))
    x = (np.arange(-40, 41, dtype=np.float32) * np.float32(scale) / np.float32(2)).astype(np.float32)
    for zero in (np.int8(-128), np.int8(127), np.uint8(3), np.int16(-32768), np.int32(2**31 - 5), np.int32(-(2**31))):
        net = Net(21)
        y = net.qdq(net.input(*x.shape), scale, np.asarray(zero))
        limits = np.iinfo(zero.dtype)
        found = Reference(net.model(y)).run({"x": x}).codes[net.nodes[0].output[0]]
        wanted = [min(max(round(v / step) + int(zero), limits.min), limits.max) for v in exactly(x)]
        assert found.tolist() == wanted
    net = Net()
    y = net.quant(net.input(*x.shape), scale, 1e-38, 6)
    sign = net.node("BipolarQuant", y, np.float32(0.5), domain="qonnx.custom_op.general")
    found = Reference(net.model(sign)).run({"x": x})
    z = Fraction(float(np.float32(1e-38)))
    wanted = [1 if c - z >= 0 else -1 for c in twin_quant(exactly(x), step, z, 6)]
    assert found.codes[sign].tolist() == wanted
    assert -1 in wanted
    assert 1 in wanted


@pytest.mark.parametrize("zero", [*TINY, 0.5, 3.0])
def test_what_flows_on_is_exact(zero):
    codes = np.arange(-8, 8, dtype=np.float64)
    z, s = Fraction(zero), np.asarray(Fraction(1, 10), object)
    check(on_codes(codes, s, np.asarray(z, object)), (exactly(codes) - z) * s)
    zeros = np.asarray([z, Fraction(0), Fraction(1, 3)], object)
    check(
        on_codes(codes.reshape(-1, 1) * np.ones(3), s, zeros), (exactly(codes.reshape(-1, 1)) - zeros) * Fraction(1, 10)
    )


def test_a_zero_point_that_no_float_holds():
    """It lies below a half, and float64 calls it one half; the value that meets it is 0 exactly."""
    zero = np.asarray(Fraction(1, 2) - Fraction(1, 2**70), object)
    low, high = np.asarray(-8.0), np.asarray(7.0)
    for mode in MODES:
        for x in (
            from_array(np.zeros(3), "x"),
            inexact(np.zeros(3), np.zeros(3), lambda i: Fraction(0)),
        ):
            found, *_ = quantize(x, np.asarray(Fraction(1), object), zero, low, high, rounding(mode))
            assert found.tolist() == [twin_round(zero.item(), mode)] * 3


def test_integers_beyond_float64():
    """An int64 above 2^53 is decided on itself, not on the float next to it."""
    number = 2**60 + 1
    x = from_array(np.array([number, -number]), "x")
    scale = np.asarray(Fraction(2**59), object)
    for mode in MODES:
        found, *_ = quantize(
            x, scale, np.asarray(Fraction(0), object), np.asarray(-8.0), np.asarray(7.0), rounding(mode)
        )
        wanted = [twin_round(Fraction(n, 2**59), mode) for n in (number, -number)]
        assert found.tolist() == wanted
    with pytest.raises(IntsimError, match="beyond 2\\^53"):
        grid(np.array([EXACT * 4]), Fraction(1))
