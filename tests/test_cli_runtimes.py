"""Runtimes on the command line: advise, witness, what verify predicts, and --as."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net
from test_cli import X, network

import intsim
from intsim.verification import executors, witness
from intsim.verification.processor import processor

OTHER = {"vnni": "avx2", "avx2": "vnni"}
HERE = processor()
RUNS = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None or HERE not in OTHER, reason="no ONNX Runtime, or no int8 kernels"
)
WRONG = 252 - 128
"""64515 / 256 without saturation, 32767 / 256 with it: channel 1 of the network, where both inputs are 255."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    onnx.save(network(True), "m.onnx")
    onnx.save(network(False), "qonnx.onnx")
    np.save("x.npy", X)
    return tmp_path


@RUNS
def test_advise(intsim_, as_json):
    on = ["-t", "onnxruntime-vnni", "-t", "onnxruntime-avx2", "-t", "x86-vnni"]
    found = as_json("advise", "m.onnx", "-i", "x.npy", *on, code=1)
    assert (found["model"], found["samples"], found["seed"], found["holds"]) == ("m.onnx", 1, None, False)
    vnni, avx2, own = found["runtimes"]
    assert (vnni["target"], vnni["standing"], vnni["elements"]) == ("onnxruntime-vnni", "certified", 0)
    assert vnni["runtime"] == "onnxruntime 1.31.1 on a CPU with VNNI"
    assert (avx2["standing"], avx2["elements"], avx2["mismatches"]) == ("differs", 64, 16)
    assert (avx2["output_elements"], avx2["output_mismatches"], avx2["max_lsb"]) == (32, 16, WRONG)
    assert (avx2["layer"], avx2["blame"], avx2["overflows"]) == ("conv", "overflow", 16)
    assert avx2["remedy"].startswith("pairs of products saturate: ")
    assert (own["standing"], own["runtime"]) == ("certified", intsim.Target.load("x86-vnni").title)
    code, out, err = intsim_("advise", "m.onnx", "-i", "x.npy", *on)
    assert (code, err) == (1, "")
    assert re.search(r"onnxruntime-avx2 +differs +16 \(25 %\) +16 \(50 %\) +124 +conv", out)
    assert "onnxruntime-avx2: pairs of products saturate" in out
    assert as_json("advise", "m.onnx", "-t", "onnxruntime-vnni")["holds"] is True


@RUNS
def test_advise_on_quiet_inputs(as_json):
    """Not certified, but nothing differs here."""
    np.save("quiet.npy", X * 0 + 1)
    found = as_json("advise", "m.onnx", "-i", "quiet.npy", "-t", "onnxruntime-avx2")
    (line,) = found["runtimes"]
    assert (line["standing"], line["mismatches"], line["layer"], line["blame"]) == ("exact here", 0, None, None)


@pytest.mark.parametrize("within", [0, 1])
def test_a_runtime_near_its_target(folder, intsim_, as_json, within):
    """What holds for a target doesn't hold for a library whose codes lie up to an LSB from it."""
    Path("own.toml").write_text(
        'title = "Own"\nsource = ["by hand"]\n[accumulate]\nstages = []\n[requantize]\nscheme = "exact"\n'
        f'[runtime]\nname = "lib"\nversion = "1"\nwithin_lsb = {within}\n'
    )
    (line,) = as_json("advise", "m.onnx", "-t", "own.toml", "-i", "x.npy")["runtimes"]
    assert (line["standing"], line["mismatches"]) == ("near exact" if within else "certified", 0)
    assert ("differ" in line["remedy"]) == bool(within)
    noted = (
        "codes of lib 1 may lie 1 LSB from its codes in a layer" in intsim_("certify", "m.onnx", "-t", "own.toml")[1]
    )
    assert noted == bool(within)


@RUNS
def test_advise_says_what_is_not_predicted(folder, intsim_, as_json):
    Path("own.toml").write_text(
        'title = "Own"\nsource = ["by hand"]\nothers = "refused"\n[accumulate]\nstages = []\n'
        '[requantize]\nscheme = "exact"\n[[when]]\nop = "add"\n'
    )
    (line,) = as_json("advise", "m.onnx", "-t", "own.toml")["runtimes"]
    assert (line["standing"], line["elements"]) == ("not predicted", 0)
    assert line["reason"] == (
        "node conv: target own: has no rule for conv (Conv), activation u8, weight s8, kernel 1x1; add one, or choose "
        "another target"
    )
    out = intsim_("advise", "m.onnx", "-t", "own.toml", "-t", "onnxruntime-avx2", "-t", "fbgemm-avx2", "-i", "x.npy")[1]
    assert f"own: {line['reason'].replace('target own: ', '')}" in out
    assert "onnxruntime-avx2, fbgemm-avx2: pairs of products saturate: 7-bit weights (reduce_range) or a CPU" in out


@RUNS
def test_advise_asks_every_runtime_in_python(folder):
    found = intsim.advise("m.onnx", X)
    assert [x.target for x in found.runtimes] == [n for n in intsim.Target.names() if intsim.Target.load(n).runtime]
    standings = {x.target: x.standing for x in found.runtimes}
    saturating = {n for n, s in standings.items() if s == "differs"}
    assert saturating == {"fbgemm-avx2", "onednn-avx2", "onnxruntime-avx2"}
    unsigned = {"cmsis-nn", "cmsis-nn-single", "litert-reference", "litert-ruy", "xnnpack"}
    assert {n for n, s in standings.items() if s == "not predicted"} == unsigned
    assert all("int8" in x.reason for x in found.runtimes if x.target in unsigned)
    assert not found.holds


@RUNS
def test_verify_predicts(intsim_, as_json):
    on = ["m.onnx", "-i", "x.npy", "--no-references", "-t"]
    assert as_json("verify", *on, "onnxruntime-avx2", code=1)["predicts"] == "onnxruntime 1.31.1 on a CPU with AVX2"
    out = intsim_("verify", *on, "onnxruntime-avx2")[1]
    assert (
        "predicted for onnxruntime 1.31.1 on a CPU with AVX2: 25 % of codes differ from exact, first in conv\n" in out
    )
    out = intsim_("verify", *on, "fbgemm-vnni")[1]
    assert "predicted for torch 2.13.0 (fbgemm) on a CPU with VNNI: every code as in exact arithmetic" in out
    assert as_json("verify", *on, "x86-avx2", code=1)["predicts"] is None
    assert "predicted for" not in intsim_("verify", *on, "x86-avx2")[1]


@RUNS
def test_witness_as_predicted(intsim_, as_json):
    found = as_json("witness", "m.onnx", "-i", "x.npy", "-t", f"onnxruntime-{HERE}")
    assert (found["runtime"], found["holds"], found["mismatches"], found["hidden"]) == ("onnxruntime", True, 0, [])
    first, layer = found["layers"]
    assert (first["op"], first["elements"], first["mismatches"]) == ("Quantize", 32, 0)
    inexact = 0 if HERE == "vnni" else 16
    assert (layer["op"], layer["elements"], layer["mismatches"], layer["inexact"]) == ("QLinearConv", 32, 0, inexact)
    assert layer["first"] is None
    assert found["outputs"] == [{"name": "y", "elements": 32, "mismatches": 0}]
    code, out, err = intsim_("witness", "m.onnx", "-n", "2", "-t", f"onnxruntime-{HERE}")
    assert (code, err) == (0, "")
    assert re.search(r"QLinearConv +64 +\d+ +0 +0 +as predicted", out)
    assert "verdict: as predicted (0 of 128 codes differ, " in out


@RUNS
def test_witness_sees_a_wrong_target(intsim_, as_json, monkeypatch):
    """The target of the other processor, which only differs where pairs saturate."""
    other = OTHER[HERE]
    monkeypatch.setattr(witness, "processor", lambda: other)
    found = as_json("witness", "m.onnx", "-i", "x.npy", "-t", f"onnxruntime-{other}", code=1)
    layer = found["layers"][1]
    assert (layer["elements"], layer["mismatches"], layer["max_lsb"]) == (32, 16, WRONG)
    predicted, got = (128, 252) if other == "avx2" else (252, 128)
    assert layer["first"] == {"position": [0, 1, 0, 0], "predicted": predicted, "got": got}
    assert found["outputs"] == [{"name": "y", "elements": 32, "mismatches": 16}]
    code, out, err = intsim_("witness", "m.onnx", "-i", "x.npy", "-t", f"onnxruntime-{other}")
    assert (code, err) == (1, "")
    assert f"[0, 1, 0, 0]: predicted {predicted}, onnxruntime has {got}" in out
    assert "verdict: not as predicted (16 of 64 codes differ, " in out


@RUNS
def test_witness_refuses_a_process_on_another_processor(folder, monkeypatch):
    """As under an emulator, which doesn't emulate what it starts."""
    other = OTHER[HERE]
    monkeypatch.setattr(witness, "processor", lambda: other)
    monkeypatch.setattr(executors, "processor", lambda: other)
    said = f"started on a processor with {other}, its process runs on one with {HERE}$"
    with pytest.raises(intsim.IntsimError, match=said):
        intsim.witness_runtime("m.onnx", f"onnxruntime-{other}", X)


@RUNS
def test_witness_in_python(folder):
    found = intsim.witness_runtime("m.onnx", f"onnxruntime-{HERE}", X)
    assert found.holds
    assert [x.elements for x in found.layers] == [32, 32]
    json.dumps(found.to_json())


def test_witness_refuses(intsim_, monkeypatch):
    """One line each, before anything is run."""
    monkeypatch.setattr(witness, "processor", lambda: "vnni")

    def line(*args: object) -> str:
        code, out, err = intsim_("witness", *args)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert line("m.onnx") == "intsim: target exact: is of no runtime; what can be run here: onnxruntime\n"
    assert line("m.onnx", "-t", "x86-vnni").startswith("intsim: target x86-vnni: is of no runtime; ")
    assert line("m.onnx", "-t", "xnnpack").startswith("intsim: target xnnpack: is of ai-edge-litert; ")
    assert line("m.onnx", "-t", "onnxruntime").startswith("intsim: unknown target 'onnxruntime'; did you mean ")
    assert line("n.onnx", "-t", "onnxruntime-vnni").startswith("intsim: n.onnx: ")

    def missing(name: str) -> str:
        raise witness.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(witness, "version", missing)
        text = 'intsim: onnxruntime is not installed; pip install "intsim[references]"\n'
        assert line("m.onnx", "-t", "onnxruntime-vnni") == text
    if importlib.util.find_spec("onnxruntime") is not None:
        text = (
            "target onnxruntime-avx2: is of a processor with avx2, this one has vnni, for which onnxruntime has other"
        )
        assert text in line("m.onnx", "-t", "onnxruntime-avx2")
        text = (
            r"intsim: qonnx.onnx: node \S+ \(Quant\): onnxruntime has no operators of qonnx.custom_op.general; export "
        )
        assert re.match(text, line("qonnx.onnx", "-t", "onnxruntime-vnni"))
        assert "onnxruntime: took longer than 0.1 s" in line("m.onnx", "-t", "onnxruntime-vnni", "--timeout", "0.1")


@RUNS
def test_the_graph_that_onnx_runtime_executes(intsim_, as_json):
    found = as_json("inspect", "m.onnx", "--as", "onnxruntime")
    assert found["model"] == "m.onnx as onnxruntime executes it"
    assert "QLinearConv" in {x["op"] for x in found["layers"]}
    executed = intsim.load_executed("m.onnx")
    assert executed.path == found["model"]
    for target in ("exact", "onnxruntime-avx2"):
        ours, theirs = (intsim.run(m, target, X).outputs["y"] for m in (intsim.load("m.onnx"), executed))
        np.testing.assert_array_equal(ours, theirs)
    code, out, _ = intsim_("bounds", "m.onnx", "-t", "x86-avx2", "--as", "onnxruntime")
    assert code == 1
    assert "--as onnxruntime" in out.split("next: ")[1]
    proven = as_json("certify", "m.onnx", "-t", "x86-vnni", "--as", "onnxruntime", "-o", "c.json")
    assert proven["verdict"] == "certified"
    assert as_json("certify", "m.onnx", "--check", "c.json", "--as", "onnxruntime")["confirmed"] is True
    code, _, err = intsim_("certify", "m.onnx", "--check", "c.json")
    assert (code, "not the model of the certificate" in err) == (2, True)
    assert as_json("witness", "m.onnx", "-t", f"onnxruntime-{HERE}", "--as", "onnxruntime")["holds"] is True


@RUNS
def test_the_graph_of_another_version_is_not_predicted(folder):
    executed = intsim.load_executed("m.onnx")
    executed.graph.executed_by = "onnxruntime 1.2.3"
    with pytest.raises(intsim.IntsimError, match=r"predicts onnxruntime 1\.31\.1, and the graph is that of"):
        executed.run({"x": X}, "onnxruntime-vnni")
    (line,) = intsim.advise(executed, X, targets=["onnxruntime-vnni"]).runtimes
    assert (line.standing, "pip install onnxruntime==1.31.1" in line.reason) == ("not predicted", True)


@RUNS
def test_a_certificate_of_a_runtime_is_of_codes(intsim_):
    on = ("certify", "m.onnx", "-t", "onnxruntime-vnni")
    code, out, _ = intsim_(*on, "-o", "c.json")
    assert (code, "is exact for all codes of the inputs, and" in " ".join(out.split())) == (0, True)
    assert "outside: real inputs, whose codes onnxruntime makes in float32" in out
    assert intsim_("certify", "--check", "c.json", "m.onnx")[0] == 0


@RUNS
def test_a_graph_whose_operators_are_fused(folder):
    """Two layers whose sum is quantized anew: ONNX Runtime makes a QLinearAdd of it, which the same target predicts."""
    net = Net()
    x = net.qdq(net.input(1, 2, 4, 4), 0.5, np.uint8(3))
    net.node("Add", x, net.qdq(net.node("Relu", x), 0.25, np.uint8(7)))
    net.nodes[-1].name = "sum"
    onnx.save(net.model(net.qdq(net.nodes[-1].output[0], 0.37, np.uint8(9))), "sum.onnx")
    executed = intsim.load_executed("sum.onnx")
    assert "QLinearAdd" in {n.source_op for n in executed.graph.nodes}
    target = f"onnxruntime-{HERE}"
    x = np.random.default_rng(0).normal(0, 40, (3, 1, 2, 4, 4)).astype(np.float32)
    for model in ("sum.onnx", executed):
        found = intsim.witness_runtime(model, target, x)
        assert found.holds
        assert sum(x.elements for x in found.layers) >= 96
    theirs, ours = (intsim.run(m, target, x).outputs for m in (executed, "sum.onnx"))
    for name, values in ours.items():
        np.testing.assert_array_equal(theirs[name], values)


def test_a_graph_that_cant_be_taken(intsim_, monkeypatch):
    def line(*args: object) -> str:
        code, out, err = intsim_("inspect", *args)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    text = "intsim: no graph can be taken as 'tflite' executes it; allowed: onnxruntime\n"
    assert line("m.onnx", "--as", "tflite") == text
    found = line("qonnx.onnx", "--as", "onnxruntime")
    assert found.endswith("onnxruntime has no operators of qonnx.custom_op.general; export the network as QCDQ\n")
    assert line("none.onnx", "--as", "onnxruntime").startswith("intsim: none.onnx: ")
    with pytest.raises(intsim.IntsimError, match="model of type int; give a path"):
        intsim.load_executed(3)
    with pytest.raises(intsim.IntsimError, match="onnxruntime rewrites a file when it loads"):
        intsim.load("m.onnx").run({"x": X}, "onnxruntime-vnni")
