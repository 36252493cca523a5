"""The quantizer operators against dumb twins, QONNX's executor, ONNX Runtime and the vectors of the ONNX project."""

import pathlib
from fractions import Fraction

import numpy as np
import onnx
import onnx.backend.test
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from qonnx.custom_op.general.bipolar_quant import binary_quant
from qonnx.custom_op.general.intquant import int_quant
from qonnx.custom_op.general.trunc import trunc_v1, trunc_v2

from intsim.errors import IntsimError
from intsim.verification.reference import Reference
from intsim.verification.reference.quantizers import power_of_two

from .twins import (
    TYING_SCALES,
    as_float32,
    exactly,
    model,
    modes,
    quant_node,
    repeatable,
    seeds,
    twin_conv,
    twin_matmul,
    twin_quant,
    twin_range,
    twin_round,
)

node = helper.make_node
VECTORS = pathlib.Path(onnx.backend.test.__file__).parent / "data" / "node"


def one_quant(x, scale, zero, bits, **attrs):
    fixed = {"s": np.asarray(scale), "z": np.asarray(zero), "b": np.asarray(bits, np.float32)}
    made = model([quant_node(["x", "s", "z", "b"], "y", **attrs)], [("x", x.shape)], ["y"], fixed)
    return Reference(made).run({"x": x})


@repeatable(150)
@given(seeds, modes, st.booleans(), st.booleans(), st.integers(1, 8), st.booleans())
def test_quant_is_qonnx_s_formula_in_fractions(seed, mode, signed, narrow, bits, per_channel):
    rng = np.random.default_rng(seed)
    scale = as_float32(rng.choice(TYING_SCALES, (1, 3, 1) if per_channel else ()))
    zero = rng.integers(-3, 4, scale.shape).astype(np.float32)
    # multiples of half a scale, rounded to float32, and beside them
    x = (rng.integers(-40, 41, (2, 3, 4)) / 2 * scale).astype(np.float32)
    x = np.where(rng.random(x.shape) < 0.3, np.nextafter(x, np.float32(np.inf)), x)
    run = one_quant(x, scale, zero, bits, signed=int(signed), narrow=int(narrow), rounding_mode=mode)
    want = twin_quant(exactly(x), exactly(scale), exactly(zero), bits, signed, narrow, mode)
    assert run.codes["y"].tolist() == want.tolist()
    assert run.codes["y"].dtype == np.int64
    real = (want - exactly(zero)) * exactly(scale)
    for i in (0, 7, 23):
        assert run.exact("y", i) == real.flat[i]
        assert run.unrounded("y", i) == (exactly(x) / exactly(scale) + exactly(zero)).flat[i]
    assert (run.scale["y"] == exactly(scale)).all()
    assert (run.zero_point["y"] == exactly(zero)).all()


@repeatable(100)
@given(seeds, modes, st.booleans(), st.booleans(), st.integers(1, 8))
def test_qonnx_differs_only_beside_a_tie(seed, mode, signed, narrow, bits):
    rng = np.random.default_rng(seed)
    scale, zero = as_float32(rng.choice(TYING_SCALES)), np.float32(rng.integers(-2, 3))
    x = (rng.standard_normal((4, 5)) * 5 * scale).astype(np.float32)
    x.flat[:5] = np.arange(5) * scale / 2
    run = one_quant(x, scale, zero, bits, signed=int(signed), narrow=int(narrow), rounding_mode=mode)
    theirs = int_quant(x, scale, zero, np.float32(bits), signed, narrow, mode)
    for i in np.argwhere(np.abs(run.value("y") - theirs) > 1e-5 * scale * 2**bits):
        exact = run.unrounded("y", tuple(i))
        assert abs(2 * exact - round(2 * exact)) < Fraction(1, 10**4)
        assert run.codes["y"][tuple(i)] == twin_quant(exact, Fraction(1), Fraction(0), bits, signed, narrow, mode)


def test_float32_of_qonnx_errs_on_an_exact_tie_and_the_reference_does_not():
    # the float32 scale is above 0.1, so 0.25 / scale is below 5 / 2; in float32 the quotient is 2.5
    scale = np.float32(0.1)
    x = np.array([0.25, 0.35, 0.05], np.float32)
    exact = [Fraction(float(v)) / Fraction(float(scale)) for v in x]
    run = one_quant(x, scale, np.float32(0), 8)
    assert run.codes["y"].tolist() == [round(e) for e in exact]
    theirs = np.round(int_quant(x, scale, np.float32(0), np.float32(8), True, False, "ROUND") / scale)
    assert theirs.tolist() != run.codes["y"].tolist()


def test_bit_widths_per_channel_and_refusals():
    x = np.array([[100.0, 100.0]], np.float32)
    run = one_quant(x, np.float32(1), np.float32(0), [4, 6])
    assert run.codes["y"].tolist() == [[7, 31]]
    for scale, bits, message in ((0, 4, "positive"), (-1, 4, "positive"), (1, 2.5, "bit width"), (1, 0, "bit width")):
        with pytest.raises(IntsimError, match=message):
            one_quant(x, np.float32(scale), np.float32(0), bits)
    with pytest.raises(IntsimError, match="1-bit"):
        one_quant(x, np.float32(1), np.float32(0), [1, 2])
    with pytest.raises(IntsimError, match="rounding mode"):
        one_quant(x, np.float32(1), np.float32(0), 2, rounding_mode="STOCHASTIC")


@pytest.mark.parametrize("domain", ["onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general", ""])
def test_bipolar_quant_under_every_domain(domain):
    x = np.array([0.0, -0.0, 1e-30, -1e-30, 5, -5], np.float32)
    made = model(
        [node("BipolarQuant", ["x", "s"], ["y"], domain=domain)], [("x", x.shape)], ["y"], {"s": np.float32(0.3)}
    )
    run = Reference(made).run({"x": x})
    assert run.codes["y"].tolist() == [1, 1, 1, -1, 1, -1]
    assert run.value("y").astype(np.float32).tolist() == binary_quant(x, np.float32(0.3)).tolist()


def trunc_run(x, scale, zero, rest, **attrs):
    names = ["x", "s", "z", *(f"r{k}" for k in range(len(rest)))]
    fixed = {"s": np.float32(scale), "z": np.float32(zero), **{f"r{k}": np.float32(v) for k, v in enumerate(rest)}}
    made = model([node("Trunc", names, ["y"], domain="onnx.brevitas", **attrs)], [("x", x.shape)], ["y"], fixed)
    return Reference(made).run({"x": x})


@repeatable(80)
@given(seeds, st.integers(0, 4), modes, st.integers(-4, 4))
def test_trunc_of_opset_1(seed, dropped, mode, zero):
    scale = np.float32(0.125)
    codes = np.random.default_rng(seed).integers(-100, 100, 20)
    x = ((codes - zero) * scale).astype(np.float32)
    run = trunc_run(x, scale, zero, [8, 8 - dropped], rounding_mode=mode)
    want = [twin_round(Fraction(int(c), 2**dropped), mode) for c in codes]
    assert run.codes["y"].tolist() == want
    theirs = trunc_v1(x, scale, np.float32(zero), np.float32(8), np.float32(8 - dropped), mode)
    assert run.value("y").tolist() == theirs.tolist()


@repeatable(80)
@given(seeds, st.integers(0, 4), modes, st.integers(-4, 4), st.booleans(), st.booleans(), st.integers(2, 8))
def test_trunc_of_opset_2(seed, dropped, mode, zero, signed, narrow, bits):
    scale = np.float32(0.125)
    wide = np.float32(0.125 * 2**dropped * 1.2)  # the ratio is rounded to a power of two, the output scale is not
    codes = np.random.default_rng(seed).integers(-100, 100, 20)
    x = ((codes - zero) * scale).astype(np.float32)
    attrs = {"rounding_mode": mode, "signed": int(signed), "narrow": int(narrow)}
    run = trunc_run(x, scale, zero, [8, wide, bits], **attrs)
    low, high = twin_range(bits, signed, narrow)
    want = [twin_round(max(min(Fraction(int(c), 2**dropped), Fraction(high)), Fraction(low)), mode) for c in codes]
    assert run.codes["y"].tolist() == want
    args = (np.float32(8), narrow, signed, wide, np.float32(bits), mode)
    theirs = trunc_v2(x, scale, np.float32(zero), *args)
    np.testing.assert_allclose(run.value("y"), theirs, rtol=1e-6)


def test_the_power_of_two_nearest_in_the_logarithm():
    for k in range(-40, 41):
        for factor in (Fraction(1), Fraction(1414, 1000), Fraction(1415, 1000), Fraction(99, 70), Fraction(708, 1000)):
            ratio = Fraction(2) ** k * factor
            near = Fraction(2) ** (k + (factor**2 > 2) - (factor**2 < Fraction(1, 2)))
            assert power_of_two(ratio) == near


TYPES = {
    name: getattr(TensorProto, name.upper())
    for name in ("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2", "int32")
}


@repeatable(120)
@given(seeds, st.sampled_from([t for t in TYPES if t != "int32"]), st.sampled_from(["tensor", "axis", "block"]))
def test_quantize_and_dequantize_linear(seed, type_name, how):
    rng = np.random.default_rng(seed)
    scale = as_float32(rng.choice(TYING_SCALES, {"tensor": (), "axis": (3,), "block": (2, 3, 2)}[how]))
    bits, unsigned = int(type_name.lstrip("uint")), type_name.startswith("u")
    low, high = twin_range(bits, not unsigned, False)
    zero = rng.integers(max(low, -9), min(high, 9) + 1, scale.shape)
    x = (rng.integers(-(2 ** min(bits, 9)), 2 ** min(bits, 9), (2, 3, 4)) * np.float32(0.05)).astype(np.float32)
    attrs = {"tensor": {}, "axis": {"axis": 1}, "block": {"axis": 2, "block_size": 2}}[how]
    made = model(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"], **attrs),
            node("DequantizeLinear", ["q", "s", "z"], ["y"], **attrs),
        ],
        [("x", x.shape)],
        ["y"],
        {"s": scale},
        25,
    )
    packed = helper.make_tensor("z", TYPES[type_name], zero.shape, [int(v) for v in zero.flat])
    made.graph.initializer.append(packed)
    run = Reference(made).run({"x": x})

    def spread(a):
        return a.reshape(-1, 1) if how == "axis" else np.repeat(a, 2, 2) if how == "block" else a

    ratio = exactly(x) / spread(exactly(scale))
    shift = np.broadcast_to(spread(zero), x.shape)
    want = [min(max(round(r) + int(z), low), high) for r, z in zip(ratio.flat, shift.flat, strict=True)]
    assert run.codes["q"].ravel().tolist() == want
    assert run.value("q").ravel().tolist() == want
    real = (exactly(run.codes["q"]) - exactly(shift)) * spread(exactly(scale))
    assert all(run.exact("y", i) == real.flat[i] for i in range(24))
    assert run.unrounded("q", 5) == ratio.flat[5] + int(shift.flat[5])


def test_quantize_linear_rounds_before_it_adds_the_zero_point():
    # 0.5 rounds to the even 0, plus 1 is 1; QONNX adds first: 1.5 rounds to 2
    x = np.array([0.5, 1.5, -0.5], np.float32)
    fixed = {"s": np.float32(1), "z": np.int8(1)}
    run = Reference(model([node("QuantizeLinear", ["x", "s", "z"], ["y"])], [("x", [3])], ["y"], fixed)).run({"x": x})
    assert run.codes["y"].tolist() == [1, 3, 1]
    assert one_quant(x, np.float32(1), np.float32(1), 8).codes["y"].tolist() == [2, 2, 0]


def test_clip_narrows_integers_and_keeps_their_scale():
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("Clip", ["q", "low", "high"], ["c"]),
        node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    fixed = {"s": np.float32(0.5), "z": np.int8(2), "low": np.int8(-7), "high": np.int8(7)}
    x = np.array([-100, 0, 1, 100], np.float32)
    run = Reference(model(nodes, [("x", [4])], ["y"], fixed)).run({"x": x})
    assert run.codes["c"].tolist() == [-7, 2, 4, 7]
    assert run.scale["c"].item() == Fraction(1, 2)
    assert run.zero_point["c"].item() == 2
    assert run.value("y").tolist() == [-4.5, 0, 1, 2.5]


def random_integers(rng, *shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_integer_operators_against_twins_and_onnx_runtime(seed):
    rng = np.random.default_rng(seed)
    x, w = random_integers(rng, 1, 2, 5, 4), random_integers(rng, 3, 2, 3, 2)
    a, b = random_integers(rng, 2, 3, 4), random_integers(rng, 4, 5)
    row, column = random_integers(rng, 3), random_integers(rng, 5)
    fixed = {"w": w, "xz": np.uint8(seed * 40), "wz": np.uint8(7), "b": b, "az": row[:1][0], "bz": column}
    nodes = [
        node("ConvInteger", ["x", "w", "xz", "wz"], ["c"], pads=[1, 0, 1, 1], strides=[2, 1]),
        node("MatMulInteger", ["a", "b", "az", "bz"], ["m"]),
    ]
    kinds = [("x", x.shape, TensorProto.UINT8), ("a", a.shape, TensorProto.UINT8)]
    made = model(nodes, kinds, [(n, None, TensorProto.INT32) for n in "cm"], fixed)
    run = Reference(made).run({"x": x, "a": a})
    want = twin_conv(exactly(x) - seed * 40, exactly(w) - 7, [2, 1], [1, 1], [1, 0, 1, 1], 1)
    assert run.codes["c"].tolist() == want.tolist()
    want = twin_matmul(exactly(a) - int(row[0]), exactly(b) - exactly(column))
    assert run.codes["m"].tolist() == want.tolist()
    theirs = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x, "a": a})
    assert run.codes["c"].tolist() == theirs[0].tolist()
    assert run.codes["m"].tolist() == theirs[1].tolist()


@pytest.mark.parametrize("seed", range(6))
def test_qlinear_conv_and_matmul_requantize_exactly(seed):
    rng = np.random.default_rng(seed)
    x, w = random_integers(rng, 1, 2, 5, 4), rng.integers(-128, 128, (3, 2, 3, 2)).astype(np.int8)
    w_scale = as_float32(rng.choice(TYING_SCALES, 3)) / 8
    bias = rng.integers(-1000, 1000, 3).astype(np.int32)
    fixed = {
        "w": w, "xs": np.float32(0.1), "xz": np.uint8(128), "ws": w_scale, "wz": np.zeros(3, np.int8),
        "ys": np.float32(0.2) * 8, "yz": np.uint8(100), "bias": bias, "b": random_integers(rng, 4, 5),
    }  # fmt: skip
    a = random_integers(rng, 3, 4)
    nodes = [
        node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "bias"], ["c"], pads=[1, 0, 1, 1]),
        node("QLinearMatMul", ["a", "xs", "xz", "b", "xs", "xz", "ys", "yz"], ["m"]),
    ]
    kinds = [("x", x.shape, TensorProto.UINT8), ("a", a.shape, TensorProto.UINT8)]
    made = model(nodes, kinds, [(n, None, TensorProto.UINT8) for n in "cm"], fixed)
    run = Reference(made).run({"x": x, "a": a})
    acc = twin_conv(exactly(x) - 128, exactly(w), [1, 1], [1, 1], [1, 0, 1, 1], 1) + exactly(bias).reshape(3, 1, 1)
    tenth, fifth = Fraction(float(np.float32(0.1))), Fraction(float(fixed["ys"]))
    real = acc * tenth * exactly(w_scale).reshape(3, 1, 1) / fifth
    assert run.codes["c"].ravel().tolist() == [min(max(round(r) + 100, 0), 255) for r in real.flat]
    real = twin_matmul(exactly(a) - 128, exactly(fixed["b"]) - 128) * tenth * tenth / fifth
    assert run.codes["m"].ravel().tolist() == [min(max(round(r) + 100, 0), 255) for r in real.flat]


KEPT = [
    "convinteger_with_padding",
    "convinteger_without_padding",
    "matmulinteger",
    "qlinearconv",
    "qlinearmatmul_2D_int8_float16",
    "qlinearmatmul_2D_int8_float32",
    "qlinearmatmul_2D_uint8_float16",
    "qlinearmatmul_2D_uint8_float32",
    "qlinearmatmul_3D_int8_float16",
    "qlinearmatmul_3D_int8_float32",
    "qlinearmatmul_3D_uint8_float16",
    "qlinearmatmul_3D_uint8_float32",
    "quantizelinear",
    "quantizelinear_axis",
    "quantizelinear_blocked_asymmetric",
    "quantizelinear_blocked_symmetric",
    "quantizelinear_int16",
    "quantizelinear_int2",
    "quantizelinear_int4",
    "quantizelinear_uint16",
    "quantizelinear_uint2",
    "quantizelinear_uint4",
    "dequantizelinear",
    "dequantizelinear_axis",
    "dequantizelinear_blocked",
    "dequantizelinear_int16",
    "dequantizelinear_int2",
    "dequantizelinear_int4",
    "dequantizelinear_uint16",
    "dequantizelinear_uint2",
    "dequantizelinear_uint4",
]


@pytest.mark.parametrize("name", KEPT)
def test_the_published_vectors_of_onnx(name):
    folder = VECTORS / f"test_{name}"
    made = onnx.load(folder / "model.onnx")

    def arrays(kind, count):
        files = [folder / "test_data_set_0" / f"{kind}_{k}.pb" for k in range(count)]
        return [numpy_helper.to_array(onnx.load_tensor(str(f))) for f in files]

    # scales and zero points are graph inputs there
    feeds = dict(zip([i.name for i in made.graph.input], arrays("input", len(made.graph.input)), strict=True))
    run = Reference(made).run(feeds)
    (want,) = arrays("output", 1)
    assert run.value(made.graph.output[0].name).tolist() == want.astype(np.float64).tolist()


@pytest.mark.parametrize("name", ["quantizelinear_e4m3fn", "quantizelinear_float4e2m1", "dynamicquantizelinear"])
def test_float_and_dynamic_quantizers_are_refused(name):
    made = onnx.load(VECTORS / f"test_{name}" / "model.onnx")
    with pytest.raises(IntsimError):
        Reference(made).run(
            {i.name: np.ones([d.dim_value for d in i.type.tensor_type.shape.dim]) for i in made.graph.input}
        )


def test_float_quant_is_refused_by_name():
    made = model([node("FloatQuant", ["x"], ["y"], name="fq", domain="onnx.brevitas")], [("x", [1])], ["y"])
    with pytest.raises(IntsimError, match=r"fq.*FloatQuant"):
        Reference(made)
