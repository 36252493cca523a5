"""Quantized networks of well-known architectures: a prepared program gives what the definitions give, node by node."""

import numpy as np
import pytest

import intsim
from bench.architectures import ARCHITECTURES, drawn_input, quantized
from intsim.engine.run import run_graph

pytestmark = pytest.mark.xdist_group("engine")
EVERYDAY = ("swin_64", "perceptron_1")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in EVERYDAY)) for n in ARCHITECTURES]
)
@pytest.mark.parametrize("target", ["exact", pytest.param("saturate-16", marks=pytest.mark.slow)])
def test_a_program_is_its_definitions(name, target):
    file = quantized(name)
    model, machine = intsim.load(file), intsim.Target.load(target)
    codes = model.narrow_inputs({"x": drawn_input(file, 5)}, machine)
    quick = run_graph(model.graph, codes, machine)
    plain = run_graph(model.graph, codes, machine, watch=lambda node, arrays: None)
    for output in model.graph.outputs:
        np.testing.assert_array_equal(quick.tensors[output], plain.tensors[output], strict=True)
    assert quick.events.keys() == plain.events.keys()
    for layer, events in plain.events.items():
        np.testing.assert_array_equal(quick.events[layer], events)
