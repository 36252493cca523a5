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
