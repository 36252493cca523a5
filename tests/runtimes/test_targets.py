"""The targets of runtimes give the codes of the real runtimes: drawn layers and networks, every code compared.

The files are read and run by intsim; the runtime runs the same layers in a process of its own. `formulas.py`, which
shares nothing with intsim, is a third reading: where all three agree, a mistake would have to be made three times.
"""

import zlib

import numpy as np
import pytest
from onnx import TensorProto

import intsim
from intsim.errors import IntsimError
from tests.frontend.build import Net

from . import batches, draw, formulas, litert, litert_cases, litert_formulas, runtimes
from .test_formulas import MACHINES, check, differing, needs

pytestmark = pytest.mark.xdist_group("runtimes")
TARGETS = {runtimes.NATIVE: "vnni", runtimes.HASWELL: "avx2"}
"""The end of a target's name by the machine that it is for."""
WHOLE = ["conv", "matmul", "add", "mul", "concat", "average_pool", "global_average_pool"]
WHOLE += ["leaky_relu", "sigmoid", "softmax", *batches.FLOAT]


def predicted(drawn, target):
    """The codes of a case's or network's output on a target, by intsim, from its QDQ file."""
    read = runtimes.executed if target.startswith("onnxruntime") else intsim.load
    model = read(draw.model(drawn, "qdq"))
    run = model.run(draw.network_feeds(drawn), target)
    (output,) = run.outputs
    return run.outputs[output]


def fits(case, target):
    """Whether the target predicts a case; else the reason that it gives."""
    try:
        predicted(case, target)
    except IntsimError as error:
        return str(error)
    return None


def kept_by(cases, target):
    """The cases that the target predicts, which are most."""
    kept = [case for case in cases if fits(case, target) is None]
    assert 2 * len(kept) >= len(cases), [fits(case, target) for case in cases]
    return kept


def everyday(name, count):
    """Drawn layers, of which the targets of ONNX Runtime refuse none."""
    cases = batches.ort(name, count, form="qdq")
    assert kept_by(cases, "onnxruntime-vnni") == cases
    return cases


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", WHOLE)
def test_onnxruntime_by_formula(name, machine):
    """Against the formulas, which `test_formulas.py` holds to the runtime."""
    cases = everyday(name, 6)
    answers = [{"y": formulas.onnxruntime(case, machine)} for case in cases]
    check(answers, cases, lambda case: predicted(case, f"onnxruntime-{TARGETS[machine]}"), 200)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", WHOLE)
def test_onnxruntime(name, machine):
    """Against ONNX Runtime itself."""
    needs("onnxruntime", machine)
    cases = batches.ort(name, 60, seed=1, form="qdq")
    answers = runtimes.onnxruntime(cases, machine, form="qdq")
    least = 2000 if name == "global_average_pool" else 5000
    check(answers, cases, lambda case: predicted(case, f"onnxruntime-{TARGETS[machine]}"), least)


@pytest.mark.parametrize("machine", MACHINES)
def test_networks(machine):
    """Whole networks of nine layers and more, output and every code on the way."""
    drawn = [draw.network(np.random.default_rng(seed), kind) for seed, kind in ((2, "u8s8"), (3, "u8u8"))]
    compared = 0
    for one in drawn:
        model = runtimes.executed(draw.model(one, "qdq", every_tensor=True))
        run = model.run(draw.network_feeds(one), f"onnxruntime-{TARGETS[machine]}")
        wanted = formulas.network(one, machine)
        for name, codes in run.outputs.items():
            assert np.array_equal(codes, wanted[name]), name
            compared += codes.size
    assert compared > 5000


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_networks_in_onnxruntime(machine):
    """The same in ONNX Runtime itself, output only and every tensor as an output."""
    needs("onnxruntime", machine)
    target = f"onnxruntime-{TARGETS[machine]}"
    some = [draw.network(np.random.default_rng(100 + seed), kind) for seed in range(18) for kind in ("u8s8", "u8u8")]
    drawn = [one for one in some if fits(one, target) is None]  # a tensor plus itself is refused
    assert len(drawn) >= 8
    for every in (False, True):
        answers = runtimes.onnxruntime(drawn, machine, "qdq", every)
        for one, answer in zip(drawn, answers, strict=True):
            assert not isinstance(answer, str), answer
            model = runtimes.executed(draw.model(one, "qdq", every_tensor=every))
            run = model.run(draw.network_feeds(one), f"onnxruntime-{TARGETS[machine]}")
            for name, codes in answer.items():
                assert np.array_equal(codes, run.outputs[name]), name


TORCH = {engine: ["conv", "depthwise", "linear", "average_pool"] for engine in ("fbgemm", "onednn")}
TORCH["qnnpack"] = ["conv", "depthwise", "linear"]


def torch_target(engine, machine):
    return engine if engine == "qnnpack" else f"{engine}-{TARGETS[machine]}"


def torch_cases(name, count, engine, seed=0):
    """Drawn layers that the engine's target predicts; most are."""
    return batches.torch(name, count, engine, seed)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("engine", "name"), [(e, n) for e, names in TORCH.items() for n in names])
def test_torch_by_formula(engine, name, machine):
    cases = torch_cases(name, 6, engine)
    target = torch_target(engine, machine)
    kept = kept_by(cases, target)
    answers = [{"y": formulas.torch(case, engine, machine)} for case in kept]
    check(answers, kept, lambda case: predicted(case, target), 300)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("engine", TORCH)
def test_torch(engine, machine):
    """Against PyTorch itself."""
    needs("torch", machine)
    target = torch_target(engine, machine)
    kept = kept_by([case for name in TORCH[engine] for case in torch_cases(name, 30, engine, seed=2)], target)
    answers = runtimes.torch(kept, engine, machine)
    check(answers, kept, lambda case: predicted(case, target), 5000)


@pytest.mark.parametrize("machine", MACHINES)
def test_fbgemm_adds_a_bias_in_one_rounding(machine):
    """An fma, where all weights have one scale: -144 + 247.0001 is 103.00001, more than half a code."""
    wanted = 129
    scales = {"a_scale": np.float32(0.022), "b_scale": np.float32(0.015027273), "y_scale": np.float32(0.068103604)}
    zeros = {"a_zero_point": np.uint8(128), "b_zero_point": np.int8(0), "y_zero_point": np.uint8(128)}
    arrays = {"a": np.uint8([[126]]), "b": np.int8([[72]]), "bias": np.float32([0.08165821]), **scales, **zeros}
    case = draw.Case("matmul", arrays, ("a",))
    assert predicted(case, torch_target("fbgemm", machine)) == wanted
    assert formulas.torch(case, "fbgemm", machine) == wanted
    if machine == runtimes.NATIVE:
        needs("torch")
        (answer,) = runtimes.torch([case], "fbgemm")
        assert answer["y"] == wanted


LITERT = {"reference": "litert-reference", "builtin": "litert-ruy", "xnnpack": "xnnpack"}
LITERT_OPERATORS = [
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "ADD", "SUB", "MUL", "MEAN"),
    *("AVERAGE_POOL_2D", "MAX_POOL_2D", "QUANTIZE", "LEAKY_RELU", "LOGISTIC", "TANH", "SOFTMAX", "CONCATENATION"),
    *("PAD", "RESIZE_NEAREST_NEIGHBOR", "ADD broadcast", "MUL broadcast"),
]
NETWORKS = "whole networks"
BOUNDED = {
    "builtin": {"DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "MEAN", "QUANTIZE", "ADD", "ADD broadcast"},
}
"""Operators of which the targets' files say that some codes differ by 1: leftover channels."""


def lite_cases(name, count, seed=9, size=0):
    """Drawn files of one operator, with about `size` codes each if that is more; or of whole networks."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    if name == NETWORKS:
        return [litert_cases.network(rng) for _ in range(count)]
    return [litert_cases.enlarged(rng, litert_cases.DRAWS[name](rng), size) for _ in range(count)]


def litert_lines(names, count, folder, seed=9, size=0):
    """(operator, kind, codes, differing, largest difference, refused) of drawn files, LiteRT's codes against
    intsim's."""
    cases = [(name, case) for name in names for case in lite_cases(name, count, seed, size)]
    answers = litert.answers([case.net for _, case in cases])
    for number, ((name, case), answer) in enumerate(zip(cases, answers, strict=True)):
        path = folder / f"{number}.tflite"
        path.write_bytes(answer["file"]["file"].tobytes())
        model = intsim.load(path)
        given = {f"t{k.split('.')[1]}": a for k, a in case.net.arrays.items() if k.startswith("input.")}
        for kind, target in LITERT.items():
            if kind == "xnnpack" and not answer[kind]["taken"].all():
                continue
            try:
                outputs = model.run(given, target).outputs
            except IntsimError as error:
                yield name, kind, 0, 0, 0, str(error)
                continue
            mine = np.concatenate([codes.ravel() for codes in outputs.values()]).astype(np.int64)
            theirs = [answer[kind][int(tensor.removeprefix("t"))].ravel() for tensor in outputs]
            gap = np.abs(mine - np.concatenate(theirs).astype(np.int64))
            yield name, kind, gap.size, int(np.count_nonzero(gap)), int(gap.max(initial=0)), None


@pytest.mark.skipif(litert.WHY_NOT is not None, reason=str(litert.WHY_NOT))
@pytest.mark.parametrize("count", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_litert(count, tmp_path):
    """Files of one operator in LiteRT itself, every kernel set."""
    compared = dict.fromkeys(LITERT, 0)
    for name, kind, codes, wrong, largest, _ in litert_lines([*LITERT_OPERATORS, NETWORKS], count, tmp_path):
        bound = 1 if name in BOUNDED.get(kind, ()) else 0
        assert largest <= bound, (name, kind, wrong, codes)
        compared[kind] += codes
    assert min(compared.values()) > 10_000


def first_result(net, y, feed, target):
    """The codes of a drawn network on a target."""
    model = intsim.load(net.model(y, kinds={y: TensorProto.INT8}))
    return model.run({"x": feed}, target).outputs[y]


@pytest.mark.parametrize("kind", LITERT)
@pytest.mark.parametrize("leaky", [True, False])
def test_what_quantizes_behind_a_concatenation_is_a_kernel_of_its_own(kind, leaky):
    """LEAKY_RELU and QUANTIZE of codes that lie side by side; -3 / 4 of scale 8 are, rounded twice, -1 of scale 13."""
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 2, 8, 16)
    (sx, zx), (sy, zy) = one, other = (np.float32(8), 2), (np.float32(13.366049766540527), 7)
    net = Net(17)
    codes = net.node("Concat", *[net.input(*x.shape, kind=TensorProto.INT8)] * 2, axis=1)
    v = net.node("DequantizeLinear", codes, sx, np.int8(zx))
    v = net.node("LeakyRelu", v, alpha=0.25) if leaky else v
    got = first_result(net, net.node("QuantizeLinear", v, sy, np.int8(zy)), x, LITERT[kind])
    both = np.concatenate([x, x], axis=1)
    right = litert_formulas.leaky_relu(both, one, other, np.float32(0.25), kind)
    assert np.array_equal(got, right if leaky else litert_formulas.requantize(both, one, other, kind))


@pytest.mark.parametrize("kind", LITERT)
@pytest.mark.parametrize("keep", [True, False])
def test_only_a_mean_that_keeps_its_axes_is_ruys(kind, keep):
    rng = np.random.default_rng(4)
    x, one, other = rng.integers(-128, 128, (8, 5, 7, 32)), (np.float32(0.05), 11), (np.float32(0.0125), -9)
    net = Net(17)
    v = net.qdq(net.input(8, 32, 5, 7, kind=TensorProto.FLOAT), one[0], np.int8(one[1]))
    v = net.node("ReduceMean", v, axes=[2, 3], keepdims=int(keep))
    y = net.node("QuantizeLinear", v, other[0], np.int8(other[1]))
    feed = ((x.transpose(0, 3, 1, 2) - one[1]) * np.float64(one[0])).astype(np.float32)
    got = first_result(net, y, feed, LITERT[kind])
    means = {k: litert_formulas.mean(x.astype(np.int8), [1, 2], k, one, other, kind) for k in (True, False)}
    assert np.array_equal(got.reshape(8, 32), means[keep].reshape(8, 32))
    assert (means[True].reshape(8, 32) == means[False]).all() == (kind != "builtin")


BEHIND_CODES = {
    "in front": lambda net, x, w: net.node("Conv", net.node("Mul", x, np.float32(0.3)), w),
    "of each channel": lambda net, x, w: net.node(
        "Conv", net.node("Mul", x, np.float32([1, 2, 3]).reshape(3, 1, 1)), w
    ),
    "of the weights": lambda net, x, w: net.node("Conv", x, net.node("Mul", w, np.float32(0.3))),
    "behind": lambda net, x, w: net.node("Mul", net.node("Conv", x, w), np.float32(0.5)),
}


@pytest.mark.parametrize("target", ["fbgemm-vnni", "onednn-vnni", "qnnpack", *LITERT.values(), "cmsis-nn"])
@pytest.mark.parametrize("where", BEHIND_CODES)
def test_constants_around_a_layer_are_no_kernels(target, where):
    kind = np.int8 if target in LITERT.values() or target == "cmsis-nn" else np.uint8
    net = Net(17)
    x = net.qdq(net.input(1, 3, 6, 6), np.float32(0.05), kind(3))
    w = net.node("DequantizeLinear", np.int8(range(-48, 60)).reshape(4, 3, 3, 3), np.float32(0.0173), np.int8(0))
    y = net.node("QuantizeLinear", BEHIND_CODES[where](net, x, w), np.float32(0.07), kind(10))
    model = intsim.load(net.model(y, kinds={y: TensorProto.INT8 if kind is np.int8 else TensorProto.UINT8}))
    with pytest.raises(IntsimError, match=r"no such kernel does|has no rule for conv"):
        model.run({"x": np.ones((1, 3, 6, 6), np.float32)}, target)


def test_a_wrong_target_is_seen():
    """The oracle isn't blind: VNNI's target on Haswell's saturating pairs."""
    cases = everyday("conv", 12)
    answers = [{"y": formulas.onnxruntime(case, runtimes.HASWELL)} for case in cases]
    compared, wrong = differing(answers, cases, lambda case: predicted(case, "onnxruntime-vnni"))
    assert wrong
    assert compared > 500


def file_with(activation, scale, zero):
    """A convolution with a fused activation of LiteRT's, whose codes reach all of int8, as a .tflite file."""
    net = litert.Net()
    x = net.given(np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1), np.float32(0.1), 0)
    w = net.tensor((1, 1, 1, 1), "int8", [np.float32(1)], 0, 0, np.int8([[[[3]]]]))
    bias = net.tensor([1], "int32", [np.float32(0.1)], 0, 0, [0])
    out = net.tensor((1, 16, 16, 1), "int8", scale, zero)
    fields = dict.fromkeys(("strideH", "strideW", "dilationHFactor", "dilationWFactor"), 1)
    fused = litert_formulas.ACTIVATION_CODES[activation]
    net.operator("CONV_2D", [x, w, bias], out, 3, "Conv2D", padding=0, fusedActivationFunction=fused, **fields)
    return net, out


@pytest.mark.skipif(litert.WHY_NOT is not None, reason=str(litert.WHY_NOT))
def test_ends_of_fused_activations_at_half_a_code(tmp_path):
    """6 / 0.16 is 37.5 and -1 / (1 / 2.5) is -2.5: XNNPACK takes the even code behind the zero point."""
    nets = [
        file_with(activation, np.float32(scale), zero)
        for activation, scale in (("RELU6", 6 / 37.5), ("RELU6", 6 / 38.5), ("RELU_N1_TO_1", 0.4))
        for zero in (-128, -127, 5, 90)
    ]
    apart = 0
    for (net, out), answer in zip(nets, litert.answers([net for net, _ in nets]), strict=True):
        path = tmp_path / "net.tflite"
        path.write_bytes(answer["file"]["file"].tobytes())
        model = intsim.load(path)
        for kind, target in LITERT.items():
            given = {f"t{k.split('.')[1]}": a for k, a in net.arrays.items() if k.startswith("input.")}
            (codes,) = model.run(given, target).outputs.values()
            assert np.array_equal(codes, answer[kind][out]), (kind, net.tensors[out])
        apart += int((answer["xnnpack"][out] != answer["reference"][out]).any())
    assert 4 <= apart < len(nets)


@pytest.mark.parametrize("target", [*LITERT.values(), "cmsis-nn"])
@pytest.mark.parametrize(("end", "refused"), [(6 * 0.25 + 0.125, True), (6 * 0.25, False), (6 * 0.25 + 0.13, False)])
def test_a_clip_at_half_a_code_is_refused(target, end, refused):
    """An ONNX file doesn't say how a runtime makes it a code."""
    net = Net(17)
    x = net.qdq(net.input(1, 3, 6, 6), np.float32(0.05), np.int8(3))
    w = net.node("DequantizeLinear", np.int8(range(-48, 60)).reshape(4, 3, 3, 3), np.float32(0.0173), np.int8(0))
    y = net.node("Clip", net.node("Conv", x, w), np.float32(0), np.float32(end))
    y = net.node("QuantizeLinear", y, np.float32(0.25), np.int8(-10))
    model = intsim.load(net.model(y, kinds={y: TensorProto.INT8}))
    feed = {"x": np.ones((1, 3, 6, 6), np.float32)}
    if not refused:
        model.run(feed, target)
        return
    with pytest.raises(IntsimError, match="ends at half a code"):
        model.run(feed, target)


@pytest.mark.parametrize("kind", LITERT)
@pytest.mark.parametrize("channels", [1, 2])
def test_scales_of_fully_connected_layers(kind, channels):
    """LiteRT's built-in kernel makes a multiplier of the float32 product of two scales, where there are two."""
    ends = np.arange(-128, 128, dtype=np.int8)
    x = np.stack(np.meshgrid(ends, ends), axis=-1).reshape(-1, 2)
    w, scales = np.int8([[127, 1], [-127, 1]]), [np.float32(0.02), np.float32(0.015)][:channels]
    step = np.float32(0.4096)
    net = Net(17)
    v = net.qdq(net.input(*x.shape), np.float32(0.08), np.int8(0))
    each = {"axis": 1} if channels > 1 else {}
    b = net.node("DequantizeLinear", w.T, np.squeeze(np.array(scales)), np.zeros(channels, np.int8).squeeze(), **each)
    y = net.node("QuantizeLinear", net.node("MatMul", v, b), step, np.int8(0))
    got = first_result(net, y, (x * np.float64(np.float32(0.08))).astype(np.float32), LITERT[kind])
    sums = x.astype(np.int64) @ w.T.astype(np.int64)
    given = (np.float32(0.08), 0), scales, (step, 0), "NONE", kind, "FULLY_CONNECTED"
    assert np.array_equal(got, litert_formulas.layer(sums, *given))
