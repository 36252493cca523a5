"""The engine over a whole graph: what is kept, what is counted, and built-in targets against `exact`."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from frontend.build import Net, halves

import intsim
from intsim.engine.run import run_graph
from intsim.targets import Target

RNG = np.random.default_rng(11)


def network():
    """Two convolutions, a residual and a product of activations, quantized to 8 bits."""
    net = Net()
    x = net.quant(net.input(1, 3, 6, 6), 0.25, 0, 8)
    w = [
        net.quant(np.float32(RNG.integers(-127, 128, s)) / 8, 0.125, 0, 8, narrow=1)
        for s in ((4, 3, 3, 3), (4, 4, 1, 1))
    ]
    a = net.quant(net.node("Relu", net.node("Conv", x, w[0], pads=[1, 1, 1, 1])), 4, 0, 8, signed=0)
    b = net.quant(net.node("Conv", a, w[1], np.float32([1, 2, -3, 4])), 64, 0, 8)
    c = net.quant(net.node("Add", a, b), 64, 0, 8)
    d = net.node("MatMul", c, net.node("Transpose", a, perm=[0, 1, 3, 2]))
    return net.model(net.quant(d, 1 << 14, 0, 8), d), {"x": halves(RNG, (1, 3, 6, 6), reach=128)}


def test_without_keep_only_what_outputs_need_is_left():
    model, values = network()
    loaded = intsim.load(model)
    all_, few = loaded.run(values, keep=True), loaded.run(values)
    assert set(all_.tensors) == set(loaded.graph.tensors)
    assert set(few.tensors) == set(loaded.graph.outputs)
    for name in few.outputs:
        np.testing.assert_array_equal(few.outputs[name], all_.outputs[name])


def test_events_have_a_row_for_each_channel_and_a_column_for_each_stage():
    model, values = network()
    loaded = intsim.load(model)
    macs = {n.name: n for n in loaded.graph.nodes if n.op in ("conv", "matmul")}
    for name in Target.names():
        if "int4" in name or Target.load(name).when:  # takes no 8 bits, or not every operator
            continue
        run = loaded.run(values, name)
        assert run.overflows.keys() == macs.keys()
        for node, events in run.overflows.items():
            axis = 1 if macs[node].op == "conv" else -1
            channels = loaded.graph.tensors[macs[node].output].shape[axis]
            assert events.shape == (channels, len(Target.load(name).stages))


@pytest.mark.parametrize("name", ["x86-vnni", "dsp48e2"])
def test_targets_that_are_exact_here(name):
    """Wide wrapping accumulators with an exact requantizer: no overflow, so nothing differs."""
    model, values = network()
    exact, stepped = intsim.run(model, inputs=values, keep=True), intsim.run(model, name, values, keep=True)
    assert not any(e.any() for e in stepped.overflows.values())
    for tensor, value in exact.tensors.items():
        np.testing.assert_array_equal(stepped.tensors[tensor], value, err_msg=tensor)


def test_a_saturating_target_differs_only_where_it_counts_events():
    model, values = network()
    loaded = intsim.load(model)
    exact, stepped = loaded.run(values, keep=True), loaded.run(values, "x86-avx2", keep=True)
    first = next(n for n in loaded.graph.nodes if n.op == "conv")
    wrong = (exact.tensors[first.output] != stepped.tensors[first.output]).any(axis=(0, 2, 3))
    events = stepped.overflows[first.name].sum(axis=1) > 0
    assert events.any()
    assert (events | ~wrong).all()


def test_progress_names_the_onnx_nodes():
    model, values = network()
    loaded = intsim.load(model)
    seen = []
    run_graph(loaded.graph, loaded.integer_inputs(values), Target.load("exact"), progress=seen.append)
    assert seen == [n.source for n in loaded.graph.nodes]


def test_every_run_is_the_same():
    model, values = network()
    loaded = intsim.load(model)
    runs = [loaded.run(values, "cpu-int32", keep=True) for _ in range(2)]
    for name, value in runs[0].tensors.items():
        np.testing.assert_array_equal(value, runs[1].tensors[name])


def test_a_proof_speaks_of_inputs_within_their_range():
    """256 wraps to -256 in 9 bits, which the next layer was proven never to see: -(-256) does not fit either."""
    net = Net()
    x = net.quant(net.input(1, 1, 1, 1), 1, 0, 8, signed=0)
    plus, minus = (net.quant(np.float32([[[[sign]]]]), 1, 0, 8) for sign in (1, -1))
    first = net.node("Conv", x, plus, np.float32([1]))
    loaded = intsim.load(net.model(net.node("Conv", first, minus)))
    ran = loaded.run({"x": np.full((1, 1, 1, 1), 255, np.float32)}, "wrap-9")
    assert [int(events.sum()) for events in ran.overflows.values()] == [1, 1]
    assert [codes.item() for codes in ran.codes.values()] == [-256]
