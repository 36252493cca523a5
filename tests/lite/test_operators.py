"""Every operator of a .tflite file: lowered and run, against the file read a second time, in Python's numbers."""

import numpy as np
import pytest

import intsim
from intsim.verification.inexact import Inexact
from intsim.verification.second_reading import SecondReading
from tests.lite import litert
from tests.lite.cases import CASES, inputs

ROUNDS = 5
LONG = {("int16", name) for name in ("hard_swish", "logistic", "tanh")}
"""Tables of 65 536 exact entries take seconds each."""
PAIRS = [
    pytest.param(name, dtype, marks=pytest.mark.slow if (dtype, name) in LONG else ())
    for dtype in ("int8", "int16", "uint8")
    for name in CASES
]
NOT_THERE = {("int16", "relu_n1_to_1"), ("int16", "hard_swish")}
"""Which LiteRT has no kernel for."""
APART = {("int16", "softmax"): 8}
APART |= {
    (t, f"resize_bilinear{f}"): far
    for t, far in (("int8", 2), ("uint8", 2), ("int16", 512))
    for f in ("", "_corners", "_centres")
}
"""LSB by which reference kernels may be off beyond their rounding: softmax interpolates its tables; bilinear steps have
10 bits behind the point, so that the eighth position is off by up to 2^-8."""


def compared(path, net, sample):
    """The run, and the second reading's verdict."""
    path.write_bytes(net.bytes())
    model = intsim.load(path)
    run = model.run(sample, keep=True)
    second = SecondReading.of(model)
    fault = second.compare(model, sample, run, set(Inexact(model).requantizers))
    assert fault is None, fault
    return model, run, second.verdict


def drawn(name, dtype, number):
    rng = np.random.default_rng([*name.encode(), *dtype.encode(), number])
    net = CASES[name](rng, dtype)
    return net, inputs(net, rng)


@pytest.mark.parametrize(("name", "dtype"), PAIRS)
def test_codes_are_those_of_the_second_reading(name, dtype, tmp_path):
    for number in range(1 if (dtype, name) in LONG else ROUNDS):
        net, sample = drawn(name, dtype, number)
        model, run, verdict = compared(tmp_path / f"{name}.tflite", net, sample)
        assert verdict.mismatches == 0
        codes = [o for o in net.outputs if net.tensors[o][2] != 0]
        assert verdict.elements >= sum(int(np.prod(net.tensors[o][1])) for o in codes)
        assert [(k, v.shape) for k, v in run.outputs.items()] == [
            (net.tensors[o][0], tuple(net.tensors[o][1])) for o in net.outputs
        ]
        assert {n.source_op for n in model.graph.nodes} <= {o[0] for o in net.operators}


@pytest.mark.skipif(litert.WHY_NOT is not None, reason=litert.WHY_NOT or "")
@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8"])
def test_codes_are_litert_s_up_to_its_rounding(dtype, tmp_path):
    """Layouts, padding, scales, biases, clamps: whatever isn't rounding shows as more than one LSB."""
    names = [n for n in CASES if (dtype, n) not in LONG | NOT_THERE]
    drawings = [(n, *drawn(n, dtype, number)) for n in names for number in range(ROUNDS)]
    answers = litert.answers(tmp_path, [net.bytes() for _, net, _ in drawings], [s for *_, s in drawings])
    heard = 0
    for i, ((name, _, sample), answer) in enumerate(zip(drawings, answers, strict=True)):
        if isinstance(answer, str):
            assert name in ("conv", "grouped", "depthwise"), answer
            assert "has_bias" in answer
            continue
        run = intsim.run(tmp_path / f"{i}.tflite", inputs=sample)
        for ours, theirs in zip(run.outputs.values(), answer, strict=True):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            far = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()
            assert far <= APART.get((dtype, name), 1), (name, i, far)
            heard += ours.size
    assert heard > 5000


def summed(name, dtype, number):
    """A layer whose codes are its accumulators: the product of its scales, powers of two, is that of its output."""
    net, sample = drawn(name, dtype, number)
    rng = np.random.default_rng(number)
    kind, inputs_, (out,), *_ = net.operators[0]
    x, w, *b = [inputs_[i] for i in ((2, 1, 3) if kind == "TRANSPOSE_CONV" else (0, 1, 2)) if i < len(inputs_)]
    b = [i for i in b if i >= 0]
    for index, scale, zero in ((x, 0.5, None), (w, 0.25, 0), (out, 0.125, 0), *((i, 0.125, 0) for i in b)):
        label, shape, type_, buffer, scales, zeros, axis, more = net.tensors[index]
        scales = np.full(np.size(scales), scale)
        net.tensors[index] = (label, shape, type_, buffer, scales, zeros if zero is None else zero, axis, more)
    net.buffers[net.tensors[w][3]] = rng.integers(-1, 2, net.tensors[w][1]).astype(np.int8).tobytes()
    for i in b:
        wide = np.int64 if dtype == "int16" else np.int32
        net.buffers[net.tensors[i][3]] = rng.integers(-9, 10, net.tensors[i][1]).astype(wide).tobytes()
    (label,) = sample
    low = rng.integers(-3, 4, sample[label].shape) + net.tensors[x][5]
    return net, {label: low.astype(dtype)}


@pytest.mark.skipif(litert.WHY_NOT is not None, reason=litert.WHY_NOT or "")
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_accumulators_are_litert_s(dtype, tmp_path):
    """Nothing is rounded: not one code may differ."""
    names = ("conv", "grouped", "depthwise", "transpose_conv", "fully_connected", "flattened")
    drawings = [summed(name, dtype, number) for name in names for number in range(2 * ROUNDS)]
    answers = litert.answers(tmp_path, [net.bytes() for net, _ in drawings], [s for _, s in drawings])
    heard = 0
    for i, ((_, sample), answer) in enumerate(zip(drawings, answers, strict=True)):
        if not isinstance(answer, str):
            np.testing.assert_array_equal(intsim.run(tmp_path / f"{i}.tflite", inputs=sample).outputs["y"], answer[0])
            heard += 1
        else:
            assert "has_bias" in answer
    assert heard > 40
