"""Files by hand, of layers that drawn ones aren't: codes read by another scale, moved results, results beyond int32.

The codes are those of ONNX Runtime, of LiteRT, or a refusal that is true.
"""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

import intsim
from intsim.errors import IntsimError
from intsim.targets import Target
from tests.frontend.build import Net

from . import litert

MICROSOFT = "com.microsoft"
F = np.float32


def runtime(model, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def of_rules(text):
    """A target that predicts no runtime by name, so that it takes a file as it stands."""
    return Target.from_toml(text, "own")


KERNELS = Target.load("onnxruntime-vnni").model_copy(update={"runtime": None, "name": "kernels"})
"""Of operators whose kernels are the same on every x86-64."""


def predicted(model, feeds):
    """The codes of ONNX Runtime's kernels."""
    return next(iter(intsim.load(model).run(feeds, KERNELS).outputs.values()))


def node(net, op, x, sx, zx, sy, zy, more=(), **attributes):
    """One node of com.microsoft; `x` is read by scale `sx` and zero point `zx`; `more` inputs stand behind these."""
    if op == "QLinearConcat":
        y = net.node(op, F(sy), zy, x, F(sx), zx, *more, domain=MICROSOFT, **attributes)
    else:
        y = net.node(op, x, F(sx), zx, *more, F(sy), zy, domain=MICROSOFT, **attributes)
    return net.model(y, kinds={y: TensorProto.UINT8})


OPERATORS = {
    "QLinearAveragePool": {"kernel_shape": [2, 2]},
    "QLinearGlobalAveragePool": {"channels_last": 0},
    "QLinearSigmoid": {},
    "QLinearLeakyRelu": {"alpha": 0.1},
    "QLinearSoftmax": {"axis": -1, "opset": 13},
    "QLinearMul": {},
    "QLinearAdd": {},
    "QLinearConcat": {"axis": 1},
}


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("op", OPERATORS)
def test_kernels_get_the_scale_that_a_node_names(op, raw):
    """Of codes that are an input of the file, or that a quantizer of other scales made; read in two ways at once."""
    rng, net, u8 = np.random.default_rng(3), Net(13), np.uint8
    if raw:
        x = net.input(1, 3, 5, 6, kind=TensorProto.UINT8)
        feeds = {"x": rng.integers(0, 256, (1, 3, 5, 6)).astype(u8)}
    else:
        x = net.node("QuantizeLinear", net.input(1, 3, 5, 6), F(0.05), u8(3))
        feeds = {"x": (rng.integers(-3, 253, (1, 3, 5, 6)) * 0.05).astype(F)}
    two = op in ("QLinearMul", "QLinearAdd", "QLinearConcat")
    more = (x, F(0.031), u8(99)) if two else ()
    model = node(net, op, x, 0.08, u8(11), 0.07, u8(5), more, **OPERATORS[op])
    found = predicted(model, feeds)
    np.testing.assert_array_equal(found, runtime(model, feeds))
    assert found.min() < found.max()


def test_codes_read_in_two_ways_are_two_tensors():
    """The other reader, and exact arithmetic, see what they saw."""
    net, u8 = Net(13), np.uint8
    x = net.node("QuantizeLinear", net.input(1, 40), F(0.05), u8(3))
    plain, other = (net.node("DequantizeLinear", x, F(s), u8(z)) for s, z in ((0.05, 3), (0.08, 9)))
    ends = [net.node("QuantizeLinear", net.node("LeakyRelu", v, alpha=0.5), F(0.1), u8(100)) for v in (plain, other)]
    loaded = intsim.load(net.model(*ends, kinds=dict.fromkeys(ends, TensorProto.UINT8)))
    read = [loaded.graph.tensors[n.inputs[0]] for n in loaded.graph.nodes if n.op == "requantize"]
    assert [float(t.scale.item()) for t in read] == [float(F(0.05)), float(F(0.08))]
    assert [n.op for n in loaded.graph.nodes].count("reshape") == 1
    codes = np.arange(40, dtype=np.int64)[None]
    feeds = {"x": ((codes - 3) * F(0.05)).astype(F)}
    run = loaded.run(feeds)
    for name, scale, zero in ((ends[0], 0.05, 3), (ends[1], 0.08, 9)):
        value = (codes - zero) * float(F(scale))
        wanted = np.rint(np.where(value < 0, value / 2, value) / float(F(0.1))) + 100
        np.testing.assert_array_equal(run.outputs[name], wanted)


MOVES = {
    "transpose": lambda net, v: net.node("Transpose", v, perm=[0, 2, 3, 1]),
    "reverse": lambda net, v: net.node("Slice", v, np.array([-1]), np.array([-9]), np.array([3]), np.array([-1])),
    "slice": lambda net, v: net.node("Slice", v, np.array([1]), np.array([3]), np.array([1])),
    "flatten": lambda net, v: net.node("Flatten", v),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize(("op", "more"), [("AveragePool", {"kernel_shape": [2, 2]}), ("Softmax", {"axis": 1})])
def test_what_is_moved_in_front_of_its_quantizer_is_refused(op, more, move):
    net, u8 = Net(17), np.uint8
    v = net.node(op, net.qdq(net.input(1, 3, 4, 4), 0.05, u8(7)), **more)
    y = net.node("QuantizeLinear", MOVES[move](net, v), F(0.03), u8(9))
    loaded = intsim.load(net.model(y, kinds={y: TensorProto.UINT8}))
    machine = of_rules(OF_ELEMENTS)
    with pytest.raises(IntsimError, match="is moved in front of its requantizer; such a kernel is one piece"):
        loaded.run({"x": np.ones((1, 3, 4, 4), F)}, machine)


OF_ELEMENTS = """
title = "kernels that read elements"
source = ["by hand"]
[accumulate]
stages = [{ sum = "rest", bits = 32, overflow = "wrap" }]
[requantize]
scheme = "float32"
[[when]]
op = "average_pool"
requantize = { scheme = "qlinear-average-pool" }
[[when]]
op = "softmax"
requantize = { scheme = "qlinear-softmax" }
[[when]]
op = "reduce"
requantize = { scheme = "qlinear-global-average-pool" }
[[when]]
op = "add"
requantize = { scheme = "qlinear-add" }
[[when]]
op = "mul"
requantize = { scheme = "qlinear-mul" }
"""


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("op", ["QLinearAveragePool", "QLinearGlobalAveragePool"])
def test_pools_with_channels_last(op, kind):
    rng, net = np.random.default_rng(5), Net(13)
    info, element = np.iinfo(kind), TensorProto.UINT8 if kind is np.uint8 else TensorProto.INT8
    x = net.input(2, 5, 4, 3, kind=element)
    more = {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 0, 1, 0]} if op == "QLinearAveragePool" else {}
    y = net.node(op, x, F(0.05), kind(7), F(0.03), kind(9), domain=MICROSOFT, channels_last=1, **more)
    model = net.model(y, kinds={y: element})
    feeds = {"x": rng.integers(info.min, info.max + 1, (2, 5, 4, 3)).astype(kind)}
    np.testing.assert_array_equal(predicted(model, feeds), runtime(model, feeds))


@pytest.mark.parametrize("front", ["AveragePool", "ReduceMean", "Mul"])
def test_a_constant_in_front_of_an_operator_is_refused(front):
    """It is in the scale that the operator's sums have, and in no scale that a kernel is given."""
    net, u8 = Net(13), np.uint8
    v = net.node("Mul", net.qdq(net.input(1, 3, 4, 4), 0.05, u8(7)), F(1.7))
    made = {
        "AveragePool": lambda: net.node("AveragePool", v, kernel_shape=[2, 2]),
        "ReduceMean": lambda: net.node("ReduceMean", v, axes=[2], keepdims=1),
        "Mul": lambda: net.node("Mul", v, net.qdq(net.input(1, 3, 4, 4, name="z"), 0.02, u8(9))),
    }[front]()
    y = net.node("QuantizeLinear", made, F(0.03), u8(9))
    loaded = intsim.load(net.model(y, kinds={y: TensorProto.UINT8}))
    feeds = {name: np.ones((1, 3, 4, 4), F) for name in ("x", "z")[: 2 if front == "Mul" else 1]}
    with pytest.raises(IntsimError, match="adds or multiplies by constants in front of its quantizer"):
        loaded.run(feeds, of_rules(OF_ELEMENTS))


def test_a_mean_over_axes_is_no_kernel_of_onnxruntime():
    """It has none for QLinearReduceMean, and leaves ReduceMean in float32."""
    net, u8 = Net(13), np.uint8
    x = net.input(1, 3, 4, 4, kind=TensorProto.UINT8)
    model = node(net, "QLinearReduceMean", x, 0.05, u8(7), 0.03, u8(9), axes=[2], keepdims=1)
    with pytest.raises(Exception, match="Could not find an implementation for QLinearReduceMean"):
        runtime(model, {"x": np.ones((1, 3, 4, 4), u8)})
    with pytest.raises(IntsimError, match="not predicted: ONNX Runtime leaves it in float32"):
        predicted(model, {"x": np.ones((1, 3, 4, 4), u8)})


def test_a_sum_is_no_mean():
    net, u8 = Net(11), np.uint8
    v = net.node("ReduceSum", net.qdq(net.input(1, 3, 4, 4), 0.05, u8(7)), axes=[2], keepdims=1)
    y = net.node("QuantizeLinear", v, F(0.03), u8(9))
    loaded = intsim.load(net.model(y, kinds={y: TensorProto.UINT8}))
    with pytest.raises(IntsimError, match="sums up, and the scheme averages"):
        loaded.run({"x": np.ones((1, 3, 4, 4), F)}, of_rules(OF_ELEMENTS))


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("exponent", [8, 20])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul", "QLinearAveragePool"])
def test_results_beyond_int32_are_those_of_the_runtime(op, exponent, kind):
    """They become -2^31 before they are clipped; no certificate says that they are exact."""
    net, s, sy = Net(13), F(2.0**exponent), F(2.0**-exponent)
    info, element = np.iinfo(kind), TensorProto.UINT8 if kind is np.uint8 else TensorProto.INT8
    x = net.input(1, 1, 1, 8, kind=element)
    two = [net.input(1, 1, 1, 8, name="z", kind=element), s, kind(0)] if op != "QLinearAveragePool" else []
    more = {} if two else {"kernel_shape": [1, 2]}
    y = net.node(op, x, s, kind(0), *two, sy, kind(0), domain=MICROSOFT, **more)
    model = net.model(y, kinds={y: element})
    codes = np.array([info.min, info.min, info.max, info.max, 1, 0, 3, 90]).astype(kind).reshape(1, 1, 1, 8)
    feeds = {"x": codes, "z": codes[..., ::-1].copy()} if two else {"x": codes}
    wanted = runtime(model, feeds)
    np.testing.assert_array_equal(predicted(model, feeds), wanted)
    (exact,) = intsim.load(model).run(feeds).outputs.values()
    if exponent == 20:
        assert (exact != wanted).any()
        assert intsim.certify(intsim.load(model), KERNELS, samples=0).verdict != "certified"


def test_ties_of_a_product_are_broken_behind_the_zero_point():
    net, u8 = Net(13), np.uint8
    x, z = (net.input(1, 64, name=name, kind=TensorProto.UINT8) for name in "xz")
    model = node(net, "QLinearMul", x, 1, u8(0), 1, u8(7), (z, F(0.5), u8(0)))
    feeds = {"x": np.arange(64, dtype=u8)[None], "z": np.ones((1, 64), u8)}
    wanted = runtime(model, feeds)
    np.testing.assert_array_equal(predicted(model, feeds), wanted)
    np.testing.assert_array_equal(wanted[0, :4], [7, 8, 8, 8])  # 7, 7.5, 8, 8.5


def test_factors_that_the_global_pool_refuses():
    net, u8 = Net(13), np.uint8
    x = net.input(1, 2, 3, 3, kind=TensorProto.UINT8)
    model = node(net, "QLinearGlobalAveragePool", x, 2.0**14, u8(0), 2.0**-14, u8(0), channels_last=0)
    feeds = {"x": np.ones((1, 2, 3, 3), u8)}
    with pytest.raises(Exception, match="out of computation range"):
        runtime(model, feeds)
    with pytest.raises(IntsimError, match=r"ONNX Runtime takes fewer than 2\^24 elements and factors from 2\^-32"):
        predicted(model, feeds)


def test_scales_whose_ratio_float32_does_not_hold():
    net, one = Net(13), np.ones((1, 1, 3, 3), np.int8)
    x = net.input(1, 1, 4, 4, kind=TensorProto.UINT8)
    y = net.node("QLinearConv", x, F(1e10), np.uint8(3), one, F(1e10), np.int8(0), F(1e-30), np.uint8(5))
    model = net.model(y, kinds={y: TensorProto.UINT8})
    with pytest.raises(IntsimError, match=r"its scales 1e\+20 and 1e-30 have a ratio beyond the range of float32"):
        predicted(model, {"x": np.ones((1, 1, 4, 4), np.uint8)})


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("constant", [True, False])
def test_tensors_without_axes(op, constant):
    net, u8 = Net(13), np.uint8
    x = net.input(kind=TensorProto.UINT8)
    z = u8(77) if constant else net.input(name="z", kind=TensorProto.UINT8)
    y = net.node(op, x, F(0.1), u8(3), z, F(0.2), u8(4), F(0.3), u8(5), domain=MICROSOFT)
    model = net.model(y, kinds={y: TensorProto.UINT8})
    feeds = {"x": np.array(200, u8)} | ({} if constant else {"z": np.array(77, u8)})
    np.testing.assert_array_equal(predicted(model, feeds), runtime(model, feeds))


# ---- LiteRT ----------------------------------------------------------------------------------------------------------

asks = pytest.mark.skipif(litert.WHY_NOT is not None, reason=str(litert.WHY_NOT))


def saved(net, answer, folder):
    """The file loaded, and its inputs by name."""
    path = folder / "one.tflite"
    path.write_bytes(answer["file"]["file"].tobytes())
    model = intsim.load(path)
    names = zip(model.lowered.source.inputs, net.inputs, strict=True)
    return model, {name: net.arrays[f"input.{i}"] for name, i in names}


def of_two(op, shapes, scales, zeros, seed=0):
    rng, net = np.random.default_rng(seed), litert.Net()
    given = [
        net.given(rng.choice(np.array([-128, 127, 5, -90], np.int8), s), F(f), z)
        for s, f, z in zip(shapes, scales[:2], zeros[:2], strict=True)
    ]
    out = net.tensor(np.broadcast_shapes(*shapes), "int8", F(scales[2]), zeros[2])
    net.operator(op, given, out, 2, op.capitalize())
    return net, out


@asks
def test_litert_results_beyond_16_bits_are_refused(tmp_path):
    """Vectors, what is left of them and broadcast operands part there: the reference's codes aren't all met."""
    nets = [
        of_two("MUL", [(1, 4, 5, 6), (1, 1, 1, 1)], (0.05, 0.015, 7.5e-6), (0, -128, 127)),
        of_two("ADD", [(1, 4, 5, 3)] * 2, (1000, 0.03, 0.1), (127, -128, -128)),
        of_two("MUL", [(1, 4, 5, 6)] * 2, (0.05, 0.015, 0.01), (3, -128, 127)),
        of_two("ADD", [(1, 4, 5, 6)] * 2, (0.5, 0.03, 0.1), (127, -128, -128)),
    ]
    answers = litert.answers([net for net, _ in nets])
    for i, ((net, out), answer) in enumerate(zip(nets, answers, strict=True)):
        model, feeds = saved(net, answer, tmp_path)
        if i < 2:
            with pytest.raises(IntsimError, match="beyond 16 bits its kernels for vectors and for what is left"):
                model.run(feeds, "litert-ruy")
            assert (answer["builtin"][out] != answer["reference"][out]).any() or i == 0
        else:
            (found,) = model.run(feeds, "litert-ruy").outputs.values()
            assert np.abs(found.astype(int) - answer["builtin"][out]).max() <= 1


@asks
def test_litert_fully_connected_beyond_int32_is_refused(tmp_path):
    """The reference kernel casts a float64 that int32 doesn't hold; C leaves open what that is."""
    rng, net = np.random.default_rng(1), litert.Net()
    x = net.given(rng.integers(-128, 128, (3, 20)).astype(np.int8), F(0.03), 0)
    w = net.tensor((6, 20), "int8", F(0.05), 0, 0, rng.integers(-127, 128, (6, 20)).astype(np.int8))
    out = net.tensor((3, 6), "int8", F(5e-10), 127)
    net.operator("FULLY_CONNECTED", [x, w], out, 4, "FullyConnected")
    (answer,) = litert.answers([net])
    model, feeds = saved(net, answer, tmp_path)
    (exact,) = model.run(feeds).outputs.values()
    assert (exact != answer["reference"][out]).any()
    assert intsim.certify(model, "litert-reference", samples=0).verdict != "certified"
    with pytest.raises(IntsimError, match="a result must fit int32"):
        model.run(feeds, "litert-reference")


@asks
def test_litert_mean_over_all_axes(tmp_path):
    rng, net = np.random.default_rng(1), litert.Net()
    x = net.given(rng.integers(-128, 128, (3, 7)).astype(np.int8), F(0.03), 5)
    out = net.tensor((), "int8", F(0.01), 7)
    net.operator("MEAN", [x, net.tensor([2], "int32", data=[0, 1])], out, 2, "Reducer", keepDims=False)
    (answer,) = litert.answers([net])
    model, feeds = saved(net, answer, tmp_path)
    (found,) = model.run(feeds, "litert-reference").outputs.values()
    np.testing.assert_array_equal(found.reshape(()), answer["reference"][out].reshape(()))


@asks
def test_litert_concatenation_refuses_an_activation():
    """Where XNNPACK takes it, it makes nothing of it; so the file is refused when it is read."""
    net = litert.Net()
    given = [net.given(np.array([[-90, 3, 100]], np.int8), F(0.05), 0) for _ in range(2)]
    out = net.tensor((1, 6), "int8", F(0.05), 0)
    net.operator("CONCATENATION", given, out, 2, "Concatenation", axis=1, fusedActivationFunction=1)
    (answer,) = litert.answers([net])
    assert all(isinstance(answer[kind], str) for kind in ("reference", "builtin"))
    assert isinstance(answer["xnnpack"], str) or answer["xnnpack"][out].min() == -90
