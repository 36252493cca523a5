"""Any number of threads: the same integers and the same events."""

from pathlib import Path

import numpy as np
import pytest

import intsim
from intsim.engine import warmup
from intsim.engine.run import run_graph
from intsim.engine.threads import using
from intsim.inputs import draw
from intsim.targets import Target

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once

ZOO = Path(__file__).resolve().parents[2] / "models" / "zoo"


@pytest.mark.parametrize("target", ["exact", "x86-avx2", "saturate-16", "wrap-18"])
def test_a_committed_network(target):
    model = intsim.load(ZOO / "h3dispnet_w8a8.qonnx.onnx")
    values = draw(model, 3)
    one = model.run(values, target, keep=True, threads=1)
    assert target == "exact" or sum(int(e.sum()) for e in one.overflows.values())
    for threads in (2, 3, 7):
        many = model.run(values, target, keep=True, threads=threads)
        for name, tensor in one.tensors.items():
            np.testing.assert_array_equal(many.tensors[name], tensor)
        for name, events in one.overflows.items():
            np.testing.assert_array_equal(many.overflows[name], events)


@pytest.mark.parametrize("name", warmup.CASES)
def test_small_graphs(name):
    made = warmup.case(name)
    for target in map(Target.load, ("exact", "saturate-16", "wrap-12")):
        for counts in (True, False):
            ran = []
            for threads in (1, 2, 5):
                with using(threads):
                    ran.append(run_graph(made.graph, made.inputs, target, keep=True, counts=counts))
            for other in ran[1:]:
                for tensor in made.graph.tensors:
                    np.testing.assert_array_equal(other.tensors[tensor], ran[0].tensors[tensor])
                for node, events in ran[0].events.items():
                    np.testing.assert_array_equal(other.events[node], events)
