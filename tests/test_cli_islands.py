"""`--islands` of every verb that has it: exit codes, JSON, certificates that are checked again."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from intsim.testing.net import Net


def dynamic() -> onnx.ModelProto:
    """Two products of codes whose scales and zero points come from the data, Relu between."""
    rng = np.random.default_rng(3)
    net = Net(opset=13)
    x = net.input(2, 6)
    for i, o in ((6, 5), (5, 3)):
        codes, scale, zero = net.node("DynamicQuantizeLinear", x, outputs=3)
        w = net.const(rng.integers(-127, 128, (i, o)), np.int8)
        sums = net.node("Cast", net.node("MatMulInteger", codes, w, zero), to=TensorProto.FLOAT)
        x = net.node("Relu", net.node("Mul", sums, net.node("Mul", scale, np.float32(0.01))))
    return net.model(x)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("islands")
    onnx.save(dynamic(), folder / "dynamic.onnx")
    return folder


@pytest.fixture
def folder(models, monkeypatch):
    monkeypatch.chdir(models)
    return models


VERBS = [
    ("inspect",),
    ("lower", "-o", "lowered"),
    ("run", "-o", "out.npz"),
    ("verify", "--no-references", "-n", "2"),
    ("certify", "-t", "x86-vnni"),
    ("bounds", "-t", "cpu-int32"),
    ("telemetry", "-t", "x86-vnni"),
]


@pytest.mark.parametrize("words", VERBS, ids=lambda w: w[0])
def test_only_where_it_is_asked_for(intsim_, as_json, words):
    verb, *rest = words
    status, out, err = intsim_(verb, "dynamic.onnx", *rest)
    assert (status, out) == (2, "")
    assert err.startswith("intsim: dynamic.onnx: ")
    assert err.count("\n") == 1
    assert "dynamic quantization" in err
    assert "--islands" in err
    content = as_json(verb, "dynamic.onnx", *rest, "--islands")
    if "verdict" in content:
        assert content["verdict"] == "hybrid"
        assert content["host"]["islands"]


def test_text_says_what_is_outside(intsim_):
    for verb, said in (("certify", "Nothing is said of the floats, nor of the whole"), ("verify", "verdict: hybrid")):
        status, out, _ = intsim_(verb, "dynamic.onnx", "--islands", *(["--no-references"] if verb == "verify" else []))
        assert status == 0
        assert said in " ".join(out.split())
        assert "islands (floats of the file): " in out
        assert "certified" not in out.rpartition("verdict")[2]


def test_certificate_is_checked_again(folder, intsim_, as_json):
    as_json("certify", "dynamic.onnx", "-t", "x86-vnni", "--islands", "-o", "made.json")
    found = as_json("certify", "--check", "made.json")
    assert (found["verdict"], found["confirmed"]) == ("hybrid", True)
    content = json.loads((folder / "made.json").read_text())
    content["verdict"] = "certified"
    (folder / "forged.json").write_text(json.dumps(content))
    assert intsim_("certify", "--check", "forged.json", "dynamic.onnx")[0] == 1


def test_overflow_is_one(as_json):
    assert as_json("verify", "dynamic.onnx", "-t", "wrap-16", "--no-references", "--islands", code=1)["overflows"] > 0
    assert as_json("certify", "dynamic.onnx", "-t", "wrap-16", "--islands", code=1)["verdict"] in ("open", "refuted")


@pytest.mark.parametrize("words", [("verify", "-t", "onnxruntime-vnni"), ("inspect", "--as", "onnxruntime")])
def test_graphs_of_runtimes_have_none(intsim_, words):
    status, _, err = intsim_(words[0], "dynamic.onnx", *words[1:], "--islands")
    assert status == 2
    assert "no float islands" in err


def test_what_keeps_codes_is_refused(intsim_):
    for words in (("sweep", "-a", "16", "-o", "swept"), ("vectors", "-o", "golden")):
        status, _, err = intsim_(words[0], "dynamic.onnx", *words[1:], "--islands")
        assert status == 2
        assert "float islands" in err
