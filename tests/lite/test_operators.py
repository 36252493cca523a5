"""Every operator of a .tflite file: lowered and run, against the file read a second time, in Python's numbers."""

import numpy as np
import pytest

import intsim
from intsim.verification.inexact import Inexact
from intsim.verification.second_reading import SecondReading
from tests.lite.cases import CASES, inputs

TYPES = ("int8", "int16", "uint8")
ROUNDS = 6


def compared(path, net, sample):
    """The run, and the second reading's verdict."""
    path.write_bytes(net.bytes())
    model = intsim.load(path)
    run = model.run(sample, keep=True)
    second = SecondReading.of(model)
    fault = second.compare(model, sample, run, set(Inexact(model).requantizers))
    assert fault is None, fault
    return model, run, second.verdict


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_of_the_second_reading(name, dtype, tmp_path):
    rng = np.random.default_rng([len(name), TYPES.index(dtype)])
    for _ in range(ROUNDS):
        net = CASES[name](rng, dtype)
        sample = inputs(net, rng)
        model, run, verdict = compared(tmp_path / f"{name}.tflite", net, sample)
        assert verdict.mismatches == 0
        assert verdict.elements >= sum(int(np.prod(net.tensors[o][1])) for o in net.outputs)
        for output in net.outputs:
            label, shape, *_ = net.tensors[output]
            assert run.outputs[label].shape == tuple(shape)
        kinds = {o[0] for o in net.operators}
        assert {n.source_op for n in model.graph.nodes} <= kinds
