"""The formulas of formulas.py give the codes of the real libraries, on this machine and, under qemu, on Haswell.

Everyday some layers of each kind; the long suite has more, PyTorch on Haswell, and whole networks.
"""

import functools
import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest

from . import batches, draw, formulas, runtimes

pytestmark = pytest.mark.xdist_group("runtimes")
F = np.float32
MACHINES = runtimes.NATIVE, runtimes.HASWELL


def needs(library, machine=runtimes.NATIVE):
    """Skip, with the reason, where a library or a machine is missing."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    reason = runtimes.why_not(machine)
    if reason is None and machine == runtimes.NATIVE and not vnni():
        reason = 'this CPU has no AVX512-VNNI, for which the formulas of "native" are'
    if reason:
        pytest.skip(reason)


@functools.cache
def vnni():
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "avx512_vnni" in flags.read_text().split()


def differing(answers, cases, predict):
    """(codes compared, lines about the cases that differ or were refused)."""
    compared, wrong = 0, []
    for case, answer in zip(cases, answers, strict=True):
        if isinstance(answer, str):
            wrong.append(f"{case.op} {case.attributes}: {answer}")
            continue
        predicted = predict(case)
        assert predicted.shape == answer["y"].shape
        assert predicted.dtype == answer["y"].dtype
        compared += predicted.size
        count = int((predicted != answer["y"]).sum())
        if count:
            shapes = {name: array.shape for name, array in case.arrays.items() if array.ndim}
            wrong.append(f"{case.op} {case.attributes} {shapes}: {count} of {predicted.size}")
    return compared, wrong


def check(answers, cases, predict, at_least):
    compared, wrong = differing(answers, cases, predict)
    assert not wrong
    assert compared >= at_least


# the formulas' own arithmetic


def nearest(value):
    """The float32 nearest to a fraction, ties to even, by looking at the neighbours."""
    guess = F(float(value))
    around = [np.nextafter(guess, F(-np.inf)), guess, np.nextafter(guess, F(np.inf))]
    return min(around, key=lambda v: (abs(Fraction(float(v)) - value), int(v.view(np.int32)) % 2))


def test_fma_rounds_once():
    rng = np.random.default_rng(0)
    twice = 0
    for _ in range(3000):
        a, b = (F(rng.integers(1, 2**24) * 2.0 ** int(rng.integers(-30, -10))) for _ in range(2))
        c = F(
            rng.choice([-1, 1])
            * float(a)
            * float(b)
            * (1 + 2.0 ** -int(rng.integers(10, 40)))
            * 2.0 ** int(rng.integers(-3, 30))
        )
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        got = formulas.fma(a, b, c)
        assert got == nearest(exact)
        twice += F(float(a) * float(b) + float(c)) != got or F(a * b) + c != got
    assert twice > 100


def test_fma_where_rounding_twice_is_wrong():
    """1 + 2^-24 lies between two float32; a little more must go up, though float64 loses that little."""
    a, b, c = F(1 + 2**-12), F(2**-24 * (1 - 2**-12 + 2**-23)), F(1)
    exact = Fraction(float(a)) * Fraction(float(b)) + 1
    assert formulas.fma(a, b, c) == nearest(exact)


@pytest.mark.parametrize("block", [None, 5])
def test_pairs_one_by_one(block):
    rng = np.random.default_rng(1)
    a, w = rng.integers(0, 256, (7, 13)), rng.choice([-128, -90, 5, 100, 127], (3, 13))
    got = formulas.sums(a, w, formulas.PAIRS, block)
    saturated = 0
    for i in range(7):
        for o in range(3):
            total, k = 0, 0
            while k < 13:
                alone = k == 12 or (block and k % block == block - 1)
                pair = int(a[i, k] * w[o, k]) + (0 if alone else int(a[i, k + 1] * w[o, k + 1]))
                saturated += abs(pair) > 32767
                total += max(-32768, min(32767, pair))
                k += 1 if alone else 2
            assert got[i, o] == total
    assert saturated


def test_convolution_one_by_one():
    case = draw.conv(np.random.default_rng(2), "u8u8", style="grouped", batch=2, bias=False)
    at, x, w = case.attributes, case["x"].astype(int), case["w"].astype(int)
    acc, (height, width) = formulas.convolve(case, formulas.EXACT)
    zx, zw = int(case["x_zero_point"]), int(np.ravel(case["w_zero_point"])[0])
    outputs, channels = len(w) // at["group"], w.shape[1]
    for n, o, i, j in np.ndindex(2, len(w), height, width):
        total = 0
        for c, r, s in np.ndindex(*w.shape[1:]):
            row = i * at["strides"][0] - at["pads"][0] + r * at["dilations"][0]
            column = j * at["strides"][1] - at["pads"][1] + s * at["dilations"][1]
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                total += (x[n, o // outputs * channels + c, row, column] - zx) * (w[o, c, r, s] - zw)
        assert acc[n, i * width + j, o] == total


# ONNX Runtime

EVERYDAY = 6


@functools.cache
def everyday(machine):
    """All everyday answers of ONNX Runtime from one process."""
    cases = [case for name in batches.ORT for case in batches.ort(name, EVERYDAY)]
    return runtimes.onnxruntime(cases, machine)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", batches.ORT)
def test_onnxruntime(name, machine):
    needs("onnxruntime", machine)
    start = list(batches.ORT).index(name) * EVERYDAY
    answers = everyday(machine)[start : start + EVERYDAY]
    check(answers, batches.ort(name, EVERYDAY), lambda case: formulas.onnxruntime(case, machine), 50)


def test_what_saturates_on_haswell_is_seen():
    """Were the formulas exact there, they would be wrong: the drawn layers do saturate."""
    needs("onnxruntime", runtimes.HASWELL)
    start = list(batches.ORT).index("conv") * EVERYDAY
    answers = everyday(runtimes.HASWELL)[start : start + EVERYDAY]
    _, wrong = differing(
        answers, batches.ort("conv", EVERYDAY), lambda case: formulas.onnxruntime(case, runtimes.NATIVE)
    )
    assert wrong


def test_onnxruntime_qdq():
    """One DequantizeLinear, operator, QuantizeLinear is fused into the operator of a QOperator file."""
    needs("onnxruntime")
    cases = [case for name in batches.QDQ for case in batches.ort(name, 5, form="qdq")]
    answers = runtimes.onnxruntime(cases, form="qdq")
    check(answers, cases, lambda case: formulas.onnxruntime(case, runtimes.NATIVE), 10_000)


FUSED = {
    "conv u8s8": (lambda rng: draw.conv(rng, "u8s8"), "QLinearConv"),
    "conv u8u8": (lambda rng: draw.conv(rng, "u8u8"), "QLinearConv"),
    "conv s8s8": (lambda rng: draw.conv(rng, "s8s8"), "Conv"),
    "matmul u8s8": (lambda rng: draw.matmul(rng, "u8s8"), "QLinearMatMul"),
    "matmul s8s8": (lambda rng: draw.matmul(rng, "s8s8"), "MatMul"),
    "add": (lambda rng: draw.binary(rng, "add", draw.S8), "QLinearAdd"),
    "concat": (lambda rng: draw.concat(rng, draw.S8), "QLinearConcat"),
    "average_pool": (lambda rng: draw.average_pool(rng, draw.S8), "QLinearAveragePool"),
    "softmax": (lambda rng: draw.softmax(rng, draw.U8), "QLinearSoftmax"),
}


def test_what_a_qdq_file_is_fused_into(tmp_path):
    """Signed activations keep Conv and MatMul in float; the model as it runs shows com.microsoft's operators."""
    needs("onnxruntime")
    rng, jobs, paths = batches.generator("fused"), [], []
    for i, (drawn, _) in enumerate(FUSED.values()):
        case = drawn(rng)
        paths.append(tmp_path / f"{i}.onnx")
        feeds, file = draw.network_feeds(case), draw.model(case, "qdq").SerializeToString()
        jobs.append({"library": "ort", "model": file, "feeds": feeds, "optimized": str(paths[-1])})
    for (name, (_, expected)), path, answer in zip(FUSED.items(), paths, runtimes.answer(jobs), strict=True):
        assert not isinstance(answer, str), f"{name}: {answer}"
        assert expected in {node.op_type for node in onnx.load(path).graph.node}, name


def check_networks(count, machine, form, every_tensor):
    needs("onnxruntime", machine)
    rng = batches.generator("networks")
    nets = [draw.network(rng, ["u8s8", "u8u8"][i % 2]) for i in range(count)]
    for net, answer in zip(nets, runtimes.onnxruntime(nets, machine, form, every_tensor), strict=True):
        assert not isinstance(answer, str), answer
        predicted = formulas.network(net, machine)
        for name, codes in answer.items():
            np.testing.assert_array_equal(codes, predicted[name], err_msg=name)


@pytest.mark.parametrize("every_tensor", [False, True])
@pytest.mark.parametrize("form", ["qoperator", "qdq"])
def test_networks(form, every_tensor):
    check_networks(6, runtimes.NATIVE, form, every_tensor)


# PyTorch


def torch_cases(engine):
    return [case for name in batches.TORCH for case in batches.torch(name, 5, engine)]


@functools.cache
def everyday_torch():
    """All everyday answers of PyTorch from one process, by engine."""
    given = {engine: torch_cases(engine) for engine in batches.ENGINES} | {"depthwise": depthwise_cases()}
    engines = {"depthwise": "fbgemm"}
    answers = runtimes.answer(
        [runtimes.torch_job(case, engines.get(name, name)) for name in given for case in given[name]]
    )
    return {name: [answers.pop(0) for _ in cases] for name, cases in given.items()}


@pytest.mark.parametrize("engine", batches.ENGINES)
def test_torch(engine):
    needs("torch")
    cases = torch_cases(engine)
    check(everyday_torch()[engine], cases, lambda case: formulas.torch(case, engine, runtimes.NATIVE), 40_000)


def depthwise_cases():
    """One depthwise layer with the padding that FBGEMM's own kernel takes, and without padding."""
    rng = batches.generator("saturating depthwise")
    at = dict(strides=[1, 1], pads=[1] * 4, dilations=[1, 1], group=16)
    padded = draw.conv(rng, style="depthwise", kernel=[3, 3], bias=False, cin=16, cout=16, **at)
    return padded, draw.Case("conv", padded.arrays, ("x",), padded.attributes | {"pads": [0] * 4})


def test_fbgemm_depthwise_saturates_on_any_machine():
    needs("torch")
    for case, answer, saturates in zip(depthwise_cases(), everyday_torch()["depthwise"], (True, False), strict=True):
        assert formulas.fbgemm_depthwise(case) == saturates
        acc, shape = formulas.convolve(case, formulas.EXACT)
        exact = formulas.channels_first(formulas.fbgemm_requantize(acc, case, "x", "w"), shape)
        assert np.array_equal(answer["y"], exact) != saturates


# the long suite

LONG = {"conv": 60, "leaky_relu": 300, "sigmoid": 300, "global_average_pool": 300}


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", batches.ORT)
def test_onnxruntime_long(name, machine):
    needs("onnxruntime", machine)
    cases = batches.ort(name, LONG.get(name, 150), seed=1)
    check(runtimes.onnxruntime(cases, machine), cases, lambda case: formulas.onnxruntime(case, machine), 5_000)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", batches.QDQ)
def test_onnxruntime_qdq_long(name, machine):
    needs("onnxruntime", machine)
    cases = batches.ort(name, 60, seed=2, form="qdq")
    check(runtimes.onnxruntime(cases, machine, "qdq"), cases, lambda case: formulas.onnxruntime(case, machine), 1_000)


@pytest.mark.slow
@pytest.mark.parametrize("every_tensor", [False, True])
@pytest.mark.parametrize("form", ["qoperator", "qdq"])
@pytest.mark.parametrize("machine", MACHINES)
def test_networks_long(machine, form, every_tensor):
    check_networks(30, machine, form, every_tensor)


@pytest.mark.slow
@pytest.mark.parametrize("name", batches.TORCH)
@pytest.mark.parametrize("engine", batches.ENGINES)
def test_torch_long(engine, name):
    needs("torch")
    cases = batches.torch(name, 60, engine, seed=1)
    check(runtimes.torch(cases, engine), cases, lambda case: formulas.torch(case, engine, runtimes.NATIVE), 5_000)


@pytest.mark.slow
@pytest.mark.parametrize("engine", batches.ENGINES)
def test_torch_on_haswell(engine):
    needs("torch", runtimes.HASWELL)
    cases = [case for name in batches.TORCH for case in batches.torch(name, 15, engine, seed=1)]
    check(
        runtimes.torch(cases, engine, runtimes.HASWELL),
        cases,
        lambda case: formulas.torch(case, engine, runtimes.HASWELL),
        100_000,
    )
