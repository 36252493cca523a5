"""Verdicts, layer by layer: hand-computed overflows, faults of the lowering, the networks of the zoo."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net, halves
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

import intsim
from intsim.frontend import conv, qonnx
from intsim.frontend.context import Context
from intsim.inputs import Drawn, draw, samples_of
from intsim.verification.compare import difference, place, segment_of
from intsim.verification.layers import layers

ZOO = Path(__file__).resolve().parents[2] / "models" / "zoo"
RNG = np.random.default_rng(7)


def target(tmp_path: Path, overflow: str, bits: int = 16) -> Path:
    path = tmp_path / f"{overflow}{bits}.toml"
    path.write_text(
        f'title = "{bits} bits, {overflow}"\nsource = ["by hand"]\n[accumulate]\n'
        f'stages = [{{ sum = "rest", bits = {bits}, overflow = "{overflow}" }}]\n[requantize]\nscheme = "exact"\n'
    )
    return path


def three_products() -> onnx.ModelProto:
    """A bare accumulator of three int8 products."""
    net = Net()
    x = net.quant(net.input(1, 3), 1, 0, 8, narrow=1)
    w = net.quant(np.full((3, 1), 127, np.float32), 1, 0, 8, narrow=1)
    return net.model(net.node("MatMul", x, w))


def two_channels() -> onnx.ModelProto:
    """A 1x1 convolution over two channels: channel 0 sums x0 + x1, channel 1 sums 127 x0 + 127 x1; then a Quant."""
    net = Net()
    x = net.quant(net.input(1, 2, 2, 2), 1, 0, 8, signed=0)
    weight = np.float32([[1, 1], [127, 127]]).reshape(2, 2, 1, 1)
    acc = net.node("Conv", x, net.quant(weight, 1, 0, 8, narrow=1), kernel_shape=[1, 1])
    return net.model(net.quant(acc, 1, 0, 17))


def one_loud_place() -> dict[str, np.ndarray]:
    x = np.ones((1, 2, 2, 2), np.float32)
    x[0, :, 1, 0] = 255
    return {"x": x}


@pytest.mark.parametrize(("overflow", "result"), [("wrap", -17149), ("saturate", 32767)])
def test_three_products_into_16_bits(tmp_path, overflow, result):
    """3 x 127 x 127 = 48387: minus 65536 where it wraps, 32767 where it saturates."""
    path = tmp_path / "m.onnx"
    onnx.save(three_products(), path)
    x = {"x": np.full((1, 3), 127, np.float32)}
    run = intsim.run(path, target(tmp_path, overflow), x, keep=True)
    (codes,) = (run.tensors[n] for n in run.overflows)
    assert codes.tolist() == [[result]]
    assert next(iter(run.outputs.values())).tolist() == [[result]]
    assert [e.tolist() for e in run.overflows.values()] == [[[1]]]
    found = intsim.verify(path, target(tmp_path, overflow), x, references=False)
    assert (found.verdict, found.overflows, found.holds) == ("diverges", 1, False)
    at = found.first_divergence
    assert at["op"] == "MatMul"
    assert (at["expected"], at["got"], at["blame"]) == (48387, result, "overflow")
    assert (at["position"], at["channel"], at["overflowed_stages"]) == ([0, 0], 0, [1])
    (layer,) = (x for x in found.layers if x.op == "MatMul")
    assert (layer.elements, layer.mismatches, layer.max_lsb) == (1, 1, abs(48387 - result))


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("bits", [15, 16, 17, 18])
def test_width_decides(tmp_path, overflow, bits):
    found = intsim.verify(
        three_products(), target(tmp_path, overflow, bits), {"x": np.full((1, 3), -127, np.float32)}, references=False
    )
    # -48387 needs 17 bits; two products, -32258, fit 16
    assert found.holds == (bits >= 17)
    assert (found.overflows > 0) == (bits < 17)


def test_pairs_saturate_on_avx2_and_not_on_vnni():
    """255 x 127 + 255 x 127 = 64770 is 32767 in the 16-bit lane of vpmaddubsw."""
    found = intsim.verify(two_channels(), "x86-avx2", one_loud_place(), references=False)
    assert found.verdict == "diverges"
    (layer,) = (x for x in found.layers if x.op == "Conv")
    stages = [(s.stage, s.bits, s.overflow, s.overflows) for s in layer.stages]
    assert stages == [(1, 16, "saturate", 1), (2, 32, "wrap", 0), (3, 32, "wrap", 0)]
    assert (layer.elements, layer.mismatches, layer.born, layer.max_lsb) == (8, 1, 1, 64770 - 32767)
    at = found.first_divergence
    assert at["name"].startswith("Conv")
    assert (at["op"], at["channel"], at["position"]) == ("Conv", 1, [0, 1, 1, 0])
    assert (at["expected"], at["got"], at["blame"], at["overflowed_stages"]) == (64770, 32767, "overflow", [1])
    vnni = intsim.verify(two_channels(), "x86-vnni", one_loud_place(), references=False)
    assert vnni.holds
    assert vnni.overflows == 0
    assert vnni.first_divergence is None


def test_a_wrong_integer_is_born_once():
    """The saturated sum makes the next layer wrong too; only the first one bore it."""
    net = Net()
    x = net.quant(net.input(1, 2, 2, 2), 1, 0, 8, signed=0)
    weight = np.float32([[1, 1], [127, 127]]).reshape(2, 2, 1, 1)
    y = net.quant(net.node("Conv", x, net.quant(weight, 1, 0, 8), kernel_shape=[1, 1]), 256, 0, 8, signed=0)
    w = net.quant(np.ones((1, 2, 1, 1), np.float32), 1, 0, 2)
    z = net.quant(net.node("Conv", y, w, kernel_shape=[1, 1]), 256, 0, 9, signed=0)
    found = intsim.verify(net.model(z), "x86-avx2", one_loud_place(), references=False)
    first, second = (x for x in found.layers if x.op == "Conv")
    # 64770 / 256 = 253.008, 32767 / 256 = 127.996
    assert (first.mismatches, first.born, first.max_lsb) == (1, 1, 253 - 128)
    assert (second.mismatches, second.born, second.max_lsb) == (1, 0, 253 - 128)


def test_an_overflow_without_a_mismatch_does_not_hold(tmp_path):
    """Wrapped twice in a row, back to the true sum: exact, and still no register to trust."""
    net = Net()
    x = net.quant(net.input(1, 3), 1, 0, 8, narrow=1)
    w = net.quant(np.float32([[127], [127], [-127]]), 1, 0, 8, narrow=1)
    model = net.model(net.node("MatMul", x, w))
    found = intsim.verify(
        model, target(tmp_path, "wrap", 15), {"x": np.full((1, 3), 127, np.float32)}, references=False
    )
    assert (found.verdict, found.first_divergence) == ("exact", None)
    assert found.overflows > 0
    assert not found.holds


# --- a wrong lowering is caught ----------------------------------------------------------------------------------


def padded(zero: float = 3.0) -> onnx.ModelProto:
    """A padded convolution with an activation zero point and pads that differ, then a Quant with ties."""
    net = Net()
    x = net.quant(net.input(1, 2, 5, 5), 0.25, zero, 4, signed=0)
    w = net.quant(halves(np.random.default_rng(3), (3, 2, 3, 3)), 0.25, 0, 4, narrow=1)
    return net.model(net.quant(net.node("Conv", x, w, kernel_shape=[3, 3], pads=[0, 1, 2, 1]), 0.125, 0, 6))


PADDED = {"x": halves(np.random.default_rng(4), (1, 2, 5, 5))}


def swapped_pads(real):
    def window(node, size, kernel):
        strides, dilations, pads = real(node, size, kernel)
        return strides, dilations, pads[len(kernel) :] + pads[: len(kernel)]

    return window


def forgotten_zero_point(real):
    def operand(self, value):
        tensor, scale, _ = real(self, value)
        return tensor, scale, 0

    return operand


def transposed_weights(real):
    def weights(value, channel_axis):
        found = real(value, channel_axis)
        return replace(found, codes=np.swapaxes(found.codes, -1, -2).copy())

    return weights


FAULTS = [
    ("swapped pads", conv, "window", swapped_pads, "Conv"),
    ("zero point in the padding", Context, "operand", forgotten_zero_point, "Conv"),
    ("transposed weights", conv, "weights", transposed_weights, "Conv"),
    ("rounding", qonnx, "ROUNDING", lambda r: {**r, "ROUND": "half_away"}, "Quant"),
    ("floor", qonnx, "ROUNDING", lambda r: {**r, "ROUND": "floor"}, "Quant"),
]


def test_the_right_lowering_is_exact():
    found = intsim.verify(padded(), "exact", PADDED, references=False)
    assert found.holds
    assert found.first_divergence is None
    assert sum(x.elements for x in found.layers) == 50 + 3 * 5 * 5


@pytest.mark.parametrize(("place_", "name", "wrong", "op"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
@pytest.mark.parametrize("on", ["exact", "x86-vnni", "cpu-int32"])
def test_a_wrong_lowering_is_caught(monkeypatch, place_, name, wrong, op, on):
    monkeypatch.setattr(place_, name, wrong(getattr(place_, name)))
    found = intsim.verify(padded(), on, PADDED, references=False)
    assert found.verdict == "diverges"
    assert found.first_divergence["blame"] == "lowering"
    assert found.first_divergence["op"].startswith(op)
    assert found.first_divergence["expected"] != found.first_divergence["got"]


# --- what verification is made of --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)), max_size=8))
def test_difference(pairs):
    a, b = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    gaps = [abs(x - y) for x, y in pairs if x != y]
    assert difference(a, b) == (len(gaps), max(gaps, default=0))


def test_place():
    assert place((2, 3, 4), 17) == (1, [1, 1, 1])
    assert place((7,), 5) == (None, [5])
    assert place((), 0) == (None, [])


def test_layers_of_a_network():
    """Quantizers of inputs, each MAC with what follows it, adds, bare accumulators: once each, in order."""
    net = Net()
    x = net.quant(net.input(1, 2, 4, 4), 1, 0, 4)
    w = [net.quant(np.ones((2, 2, 1, 1), np.float32), 1, 0, 2) for _ in range(3)]
    a = net.quant(net.node("Relu", net.node("Conv", x, w[0], kernel_shape=[1, 1])), 2, 0, 4)
    b = net.quant(net.node("Conv", x, w[1], kernel_shape=[1, 1]), 2, 0, 4)
    c = net.quant(net.node("Add", a, b), 2, 0, 4)
    d = net.node("Conv", c, w[2], kernel_shape=[1, 1])
    model = intsim.load(net.model(d))
    found = layers(model.graph)
    assert [x.op for x in found] == ["Input", "Conv", "Conv", "Add", "Conv"]
    assert [len(x.macs) for x in found] == [0, 1, 1, 0, 1]
    macs = [m for x in found for m in x.macs]
    assert len(set(macs)) == len(macs) == 3
    assert {x.tensor for x in found} <= set(model.graph.tensors)
    second = [n.op for n in segment_of(model.graph, found[1].tensor)]
    assert second[-1] == "requantize"
    assert second.count("conv") == 1
    assert segment_of(model.graph, found[0].tensor) == []


def test_samples_of_a_batch():
    model = intsim.load(two_channels())
    one, batch = np.zeros((1, 2, 2, 2), np.float32), np.arange(24, dtype=np.float32)
    assert len(samples_of(model, {"x": one})) == 1
    for shape in ((3, 1, 2, 2, 2), (3, 2, 2, 2)):
        parts = samples_of(model, {"x": batch.reshape(shape)})
        assert [p["x"].shape for p in parts] == [one.shape] * 3
        assert np.concatenate([p["x"].reshape(-1) for p in parts]).tolist() == batch.tolist()
    with pytest.raises(intsim.IntsimError, match="input x holds 0 samples"):
        samples_of(model, {"x": np.zeros((0, 1, 2, 2, 2), np.float32)})


def test_drawn_samples():
    """Within (and a little beyond) the range of the quantizer, repeatable, one after another."""
    model = intsim.load(two_channels())
    x = draw(model, 5)["x"]
    assert x.dtype == np.float32
    assert (x == draw(model, 5)["x"]).all()
    assert (x != draw(model, 6)["x"]).any()
    many = np.concatenate([s["x"] for s in Drawn(model, 50, 0)])
    assert -13 <= many.min() < 5
    assert 250 < many.max() <= 268
    assert len(Drawn(model, 10**9, 0)) == 10**9
    net = Net()
    codes = net.input(2, 500, kind=TensorProto.INT8)
    net.node("DequantizeLinear", codes, np.float32(1), np.int8(0))
    w = net.quant(np.ones((500, 1), np.float32), 1, 0, 2)
    x = draw(intsim.load(net.model(net.node("MatMul", net.nodes[0].output[0], w))), 0)["x"]
    assert (x.dtype.kind, x.min(), x.max()) == ("i", -128, 127)


def test_several_samples_add_up():
    many = {"x": np.concatenate([one_loud_place()["x"]] * 3)[:, None]}
    found = intsim.verify(two_channels(), "x86-avx2", many, references=False)
    assert (found.samples, found.overflows, found.seed) == (3, 3, None)
    (layer,) = (x for x in found.layers if x.op == "Conv")
    assert (layer.elements, layer.mismatches, layer.born) == (24, 3, 3)
    assert intsim.verify(two_channels(), samples=4, seed=9, references=False).samples == 4


def test_progress_is_told():
    lines: list[str] = []
    intsim.verify(two_channels(), samples=2, references=False, progress=lines.append)
    assert [x.split(":")[0] for x in lines] == ["sample 1/2"] * 2 + ["sample 2/2"] * 2


# --- the zoo -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(ZOO.glob("*_w8a8.*.onnx")), ids=lambda p: p.stem)
def test_the_zoo_is_exact(path):
    """The integer program of every network is the reference's, on a drawn sample."""
    found = intsim.verify(path, "exact", references=False)
    assert found.holds
    assert found.first_divergence is None
    assert sum(layer.elements for layer in found.layers) > 10_000
