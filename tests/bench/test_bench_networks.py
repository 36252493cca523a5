"""The forms of the benchmark's networks say the same thing."""

import numpy as np
import pytest

import intsim
from bench.contestants import contestants, onnxruntime_run, peak_bits, qonnx_run
from bench.draft import Draft
from bench.networks import NETWORKS, ZOO, from_draft, image, layer, mlp, restored, unet, zoo
from bench.race import code_step, differs, race

IMAGE = (1, 3, 16, 24)


@pytest.fixture(scope="module")
def everything():
    """Every kind of layer in one small network."""
    d = Draft("everything", image(IMAGE, 7), seed=7)
    a = d.conv("x", "a", 4, 5)
    b = d.conv(a, "b", 4, depthwise=True)
    c = d.conv(b, "c", 4, 1, scale=d.scales[a])
    s = d.add(a, c, "s")
    down = d.conv(s, "down", 6, stride=2, scale=d.scales[s])
    up = d.concat(d.upsample(down, "up"), s, "both")
    m = d.mean(d.conv(up, "last", 5), "m")
    d.dense(d.flatten(m, "flat"), "top", 7, relu=False, signed=True)
    return from_draft("everything", d, (2, *IMAGE[1:]))


def exact(network, form="qonnx"):
    return next(iter(intsim.load(getattr(network, form)).run(network.inputs).outputs.values()))


def test_qonnx_and_qcdq_are_one_network(everything):
    out = exact(everything)
    assert out.shape == (2, 7)
    assert len(np.unique(out)) > 5
    np.testing.assert_array_equal(out, exact(everything, "qcdq"))


@pytest.mark.parametrize("make", [lambda: unet(16, 32), lambda: mlp(3), lambda: layer(5, 8, 9), NETWORKS["mobilenet"]])
def test_other_executors_agree_up_to_rounding(make):
    network = make()
    out, step = exact(network), code_step(network)
    assert len(np.unique(out)) > 5
    for run in (onnxruntime_run("fused", "ALL"), onnxruntime_run("qcdq", "ALL"), onnxruntime_run("qcdq", "BASIC")):
        share, far = differs(run(network)()[0], out, step)
        assert far <= 1
        assert share < 0.2
    share, far = differs(qonnx_run(network)()[0], out, step)
    assert far <= 1
    assert share < 0.2


def test_fused_outputs_clip_where_signed_codes_do():
    d = Draft("clipped", image(IMAGE, 8), seed=8)
    d.conv("x", "c", 4, relu=False, signed=True, scale=np.float32(1e-3))
    network = from_draft("clipped", d, IMAGE)
    out = exact(network)
    assert {out.min() / np.float32(1e-3), out.max() / np.float32(1e-3)} == {-128, 127}
    assert differs(onnxruntime_run("fused", "ALL")(network)()[0], out, code_step(network))[1] == 0


def test_a_wrong_weight_is_seen(everything):
    (w,) = (i for i in everything.fused.graph.initializer if i.name == "top.w.clip.transposed")
    wrong = type(everything)(**{**vars(everything), "fused": type(everything.fused)()})
    wrong.fused.CopyFrom(everything.fused)
    for i in wrong.fused.graph.initializer:
        if i.name == w.name:
            i.raw_data = bytes(b ^ 64 for b in w.raw_data)
    answer = onnxruntime_run("fused", "ALL")(wrong)()[0]
    assert differs(answer, exact(everything), code_step(everything))[1] > 1


@pytest.mark.parametrize("name", ["dispnet", "h3dispnet"])
def test_zoo_networks_take_another_size(name):
    network = zoo(name, 32, 64)
    out = exact(network)
    assert out.shape[2:] == (16, 32)
    np.testing.assert_array_equal(out, exact(network, "qcdq"))
    share, far = differs(onnxruntime_run("fused", "ALL")(network)()[0], out, code_step(network))
    assert far <= 2
    assert share < 0.1


def test_the_zoo_is_unchanged_at_its_own_size():
    network = zoo("h3dispnet", 96, 144)
    before = intsim.load(ZOO / "h3dispnet_w8a8.qonnx.onnx").run(network.inputs).outputs["output"]
    np.testing.assert_array_equal(before, exact(network))


def test_multiply_accumulates_of_the_unet():
    assert unet().macs == 4_696_571_904
    assert len([n for n in unet().fused.graph.node if n.op_type == "QLinearConv"]) == 12


def test_every_operator_is_fused():
    for make in NETWORKS.values():
        kinds = [n.op_type for n in make().fused.graph.node]
        assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 1
        assert not {"Conv", "Gemm", "Add", "GlobalAveragePool", "Relu"} & set(kinds)


def test_saved_and_restored(everything, tmp_path):
    everything.save(tmp_path)
    again = restored("everything", tmp_path)
    assert again.macs == everything.macs
    np.testing.assert_array_equal(exact(again), exact(everything))


@pytest.mark.slow
def test_everyone_races(everything):
    found = race(everything, contestants(quick=True), 0.0, lambda _: None)
    rows = {r["name"]: r for r in found["rows"]}
    assert rows["intsim exact"]["differs"] == 0
    for name in ("ORT fully fused int8", "qonnx execute_onnx", "intsim saturate-16, counts"):
        assert rows[name]["cpu_ms"] > 0, rows[name]
    checked = [r for r in found["rows"] if r["kind"] == "checked" and "cpu_ms" in r]
    assert len(checked) == 2
    assert all(r["differs"] == 0 and r["events"] == 0 for r in checked)


def test_the_peak_is_the_telemetrys():
    from bench.contestants import checked_target

    network = mlp(2)
    bits = int(checked_target(network).removeprefix("saturate-")) - 2
    model = intsim.load(network.qonnx)
    assert peak_bits(network) == bits
    assert not sum(e.sum() for e in model.run(network.inputs, f"saturate-{bits}").overflows.values())
    assert sum(e.sum() for e in model.run(network.inputs, f"saturate-{bits - 1}").overflows.values())
