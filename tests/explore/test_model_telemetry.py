"""Telemetry of whole models: by hand, added up over samples, and against the target's own run."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from frontend.build import Net

import intsim
from intsim.dispatch import arithmetic
from intsim.engine.telemetry.demand import above
from intsim.errors import IntsimError
from intsim.targets import Target

RNG = np.random.default_rng(3)


def model():
    """Conv with two channels, quantized to 8 bits with a clip, and a product along the last axis."""
    net = Net()
    x = net.quant(net.input(1, 2, 2, 3), 1, 0, 8)
    w = net.quant(np.float32([[1, 1], [1, -1]]).reshape(2, 2, 1, 1), 1, 0, 3)
    a = net.quant(net.node("Conv", x, w), 1, 0, 8)
    v = net.quant(np.float32([[1], [0], [3]]), 1, 0, 3)
    return net.model(net.quant(net.node("MatMul", a, v), 1, 0, 6))


ONES = np.float32(np.broadcast_to(np.float32([100, 50]).reshape(1, 2, 1, 1), (1, 2, 2, 3)))


def test_by_hand():
    """Sums 100, 150 and 100, 50; clipped to 127 and 50; then 127 + 3 x 127 and 50 + 3 x 50 clipped to 31."""
    found = intsim.telemetry(model(), inputs={"x": ONES})
    conv, matmul = (x.stages[0] for x in found.layers)
    assert [x.op for x in found.layers] == ["Conv", "MatMul"]
    assert (conv.stage, conv.bits, conv.groups) == (1, None, 12)
    assert (conv.low.tolist(), conv.high.tolist(), conv.channel_bits) == ([0, 0], [150, 100], [9, 8])
    # channel 0 holds 150 in 9 bits on the way and at the end; channel 1 holds 100, then 50 in 7
    assert [(conv.partial[n].nonzero()[0].tolist(), conv.final[n].nonzero()[0].tolist()) for n in (0, 1)] == [
        ([9], [9]),
        ([8], [7]),
    ]
    assert conv.overflowing(7).tolist() == [6, 6]
    assert conv.persistent(7).tolist() == [6, 0]
    assert conv.transient(7).tolist() == [0, 6]
    # the product's only channel is the last axis: outputs 508, 508, 200, 200
    assert (matmul.groups, matmul.high.tolist(), matmul.final[0, 9], matmul.final[0, 10]) == (4, [508], 2, 2)
    first, last = found.clips
    assert (first.raised.tolist(), first.lowered.tolist(), first.elements) == ([0, 0], [6, 0], 12)
    assert (last.raised.tolist(), last.lowered.tolist(), last.elements) == ([0], [4], 4)
    assert found.overflows == 0


TAKE_SIGNED = ("ai-edge-litert", "cmsis-nn")
"""Runtimes whose targets take int8 activations, of a file as it is."""


@pytest.mark.parametrize(
    "name", [n for n in Target.names() if (r := Target.load(n).runtime) is None or r.name in TAKE_SIGNED]
)
def test_every_target(name):
    """Events are those of the run; at single plain registers the counts are, too; JSON holds everything."""
    values = {"x": np.float32(RNG.integers(-128, 128, (3, 1, 2, 2, 3)))}
    target = Target.load(name)
    loaded = intsim.load(model())
    if target.operands and target.operands.activation.bits < 8:
        with pytest.raises(IntsimError, match="doesn't fit the target's"):
            intsim.telemetry(loaded, target, values)
        return
    found = intsim.telemetry(loaded, target, values)
    runs = [loaded.run({"x": v}, target) for v in values["x"]]
    assert (found.samples, found.seed) == (3, None)
    assert found.overflows == sum(int(e.sum()) for r in runs for e in r.overflows.values())
    for i, node in enumerate(n for n in loaded.graph.nodes if n.name in runs[0].overflows):
        layer, own = found.layers[i], arithmetic(target, loaded.graph, node)
        assert len(layer.stages) == max(len(own.stages), 1)
        for s, stage in enumerate(own.stages):
            events = sum(r.overflows[node.name][:, s] for r in runs)
            np.testing.assert_array_equal(layer.stages[s].overflows, events)
            assert (layer.stages[s].bits, layer.stages[s].overflow) == (stage.bits, stage.overflow)
            if s == 0 and not own.registers.packing:
                np.testing.assert_array_equal(layer.stages[0].overflowing(stage.bits) > 0, events > 0)
        outputs = sum(r.codes[n].size for r in runs for n in r.codes) if i == 1 else 3 * 12
        assert layer.stages[-1].groups == outputs
    content = found.to_json()
    assert json.loads(json.dumps(content)) == content
    assert content["overflows"] == found.overflows


def test_samples_add_up():
    loaded = intsim.load(model())
    values = RNG.integers(-128, 128, (3, 1, 2, 2, 3)).astype(np.float32)
    whole = intsim.telemetry(loaded, "wrap-8", {"x": values})
    parts = [intsim.telemetry(loaded, "wrap-8", {"x": v}) for v in values]
    for i, layer in enumerate(whole.layers):
        stage, each = layer.stages[0], [p.layers[i].stages[0] for p in parts]
        for field in ("partial", "final", "overflows"):
            np.testing.assert_array_equal(getattr(stage, field), sum(getattr(e, field) for e in each))
        np.testing.assert_array_equal(stage.low, np.min([e.low for e in each], axis=0))
        np.testing.assert_array_equal(stage.high, np.max([e.high for e in each], axis=0))
    for i, clip in enumerate(whole.clips):
        np.testing.assert_array_equal(clip.raised, sum(p.clips[i].raised for p in parts))
        np.testing.assert_array_equal(clip.lowered, sum(p.clips[i].lowered for p in parts))
        assert clip.elements == sum(p.clips[i].elements for p in parts)


def test_drawn_samples_are_those_of_the_other_verbs(tmp_path):
    onnx.save(model(), tmp_path / "m.onnx")
    drawn = intsim.telemetry(tmp_path / "m.onnx", target="wrap-8", samples=2, seed=5)
    from intsim.inputs import draw

    loaded = intsim.load(tmp_path / "m.onnx")
    given = intsim.telemetry(loaded, "wrap-8", {"x": np.stack([draw(loaded, s)["x"] for s in (5, 6)])})
    assert drawn.seed == 5
    assert drawn.to_json()["layers"] == given.to_json()["layers"]
    stage = drawn.layers[0].stages[0]
    assert int(above(stage.partial, 8).sum()) == int(stage.overflowing(8).sum()) > 0


def test_a_tensor_without_axes():
    """A sum over everything is one number; what its clip cut is that of one channel."""
    net = Net(18)
    x = net.quant(net.input(2, 5), 1, 0, 8)
    total = net.node("ReduceSum", x, keepdims=0)
    found = intsim.telemetry(net.model(net.quant(total, 1, 0, 4)), "finn-mvau", inputs=np.full((2, 5), 3, np.float32))
    assert [(c.raised.tolist(), c.lowered.tolist()) for c in found.clips] == [([0], [1])]
