"""The command line: every verb in tables and in JSON, exit codes, files in and out."""

import importlib
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net
from onnx import TensorProto

import intsim
from intsim.graph import IntegerGraph
from intsim.verification.verdict import BLAMES

X = np.full((1, 2, 4, 4), 255, np.float32)


def network(qcdq: bool) -> onnx.ModelProto:
    """Two channels of u8 x s8, scale 1: on AVX2 channel 1 saturates where both inputs are loud. Named x, conv, y."""
    net = Net()
    weight = np.float32([[1, 2], [127, 126]]).reshape(2, 2, 1, 1)
    if qcdq:
        x = net.qdq(net.input(1, 2, 4, 4), 1, np.uint8(0))
        w = net.node("DequantizeLinear", weight.astype(np.int8), np.float32(1), np.int8(0))
    else:
        x = net.quant(net.input(1, 2, 4, 4), 1, 0, 8, signed=0)
        w = net.quant(weight, 1, 0, 8, narrow=1)
    net.node("Conv", x, w, kernel_shape=[1, 1])
    net.nodes[-1].name = "conv"
    acc = net.node("Relu", net.nodes[-1].output[0])
    last = net.qdq(acc, 256, np.uint8(0)) if qcdq else net.quant(acc, 256, 0, 8, signed=0)
    net.nodes[-1].output[0] = "y"
    assert last
    return net.model("y")


@pytest.fixture(params=["qonnx", "qcdq"])
def folder(request, tmp_path, monkeypatch):
    """A working folder with m.onnx, inputs and a target of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    onnx.save(network(request.param == "qcdq"), "m.onnx")
    np.save("x.npy", X)
    np.savez("x.npz", x=X)
    np.savez("batch.npz", x=np.stack([X, X * 0, X - 100]))
    Path("narrow.toml").write_text(
        'title = "12 bits"\nsource = ["by hand"]\n[accumulate]\n'
        'stages = [{ sum = "rest", bits = 12, overflow = "wrap" }]\n[requantize]\nscheme = "exact"\n'
    )
    return tmp_path


def test_inspect(intsim_, as_json):
    found = as_json("inspect", "m.onnx")
    assert found["model"] == "m.onnx"
    assert found["inputs"] == {"x": [1, 2, 4, 4]}
    assert (found["macs"], found["weights"]) == (1 * 2 * 4 * 4 * 2, 4)
    conv = next(x for x in found["layers"] if x["op"] == "Conv")
    assert conv["name"] == "conv"
    assert (conv["shape"], conv["input_type"], conv["output_type"], conv["macs"]) == (
        [1, 2, 4, 4],
        "UINT8",
        "UINT8",
        64,
    )
    # 255 x (127 + 126) = 64515 needs 17 bits as a signed integer
    assert conv["accumulator_bits"] == 17
    assert set(found["host"]) == {"prologue", "epilogue"}
    code, out, err = intsim_("inspect", "m.onnx")
    assert (code, err) == (0, "")
    for word in ("conv", "UINT8", "1x2x4x4", "64 MACs", "4 weights"):
        assert word in out


def test_lower(folder, intsim_, as_json):
    files = ["0_source.onnx", "1_prologue.onnx", "2_graph.json", "2_graph.npz", "3_epilogue.onnx"]
    found = as_json("lower", "m.onnx", "-o", "out/steps")
    assert [Path(f).name for f in found["files"]] == files
    assert sorted(p.name for p in Path("out/steps").iterdir()) == files
    assert IntegerGraph.load("out/steps/2_graph") == intsim.load("m.onnx").graph
    assert onnx.load("out/steps/0_source.onnx") == onnx.load("m.onnx")
    for name in ("1_prologue.onnx", "3_epilogue.onnx"):
        onnx.load(f"out/steps/{name}")
    assert found["integer_nodes"] == len(intsim.load("m.onnx").graph.nodes)
    code, out, err = intsim_("lower", "m.onnx", "--out", "out/steps")
    assert (code, err) == (0, "")
    assert "2_graph.json" in out


def test_run_exact(intsim_, as_json):
    found = as_json("run", "m.onnx", "-i", "x.npy", "-o", "y.npz")
    assert (found["model"], found["target"], found["overflows"]) == ("m.onnx", "exact", 0)
    assert found["outputs"]["y"]["shape"] == [1, 2, 4, 4]
    with np.load("y.npz") as npz:
        assert set(npz.files) == {"y", "y.codes"}
        # 765 / 256 = 2.99, 64515 / 256 = 252.01
        assert npz["y.codes"][0, :, 0, 0].tolist() == [3, 252]
        assert npz["y"][0, :, 0, 0].tolist() == [3 * 256, 252 * 256]
    code, out, err = intsim_("run", "m.onnx", "-i", "x.npz")
    assert (code, err) == (0, "")
    assert "0 overflow events on exact" in out


def test_run_overflows(intsim_, as_json):
    found = as_json("run", "m.onnx", "-i", "x.npz", "-t", "x86-avx2", "-o", "sub/y", code=1)
    assert found["overflows"] == 16
    with np.load("sub/y.npz") as npz:
        assert npz["y.codes"][0, :, 0, 0].tolist() == [3, 128]
    code, out, _ = intsim_("run", "m.onnx", "-i", "x.npz", "-t", "x86-avx2")
    assert code == 1
    assert "16 overflow events on x86-avx2" in out


def test_run_without_counting(intsim_, as_json):
    """The first stage of one channel overflows, sixteen times: without counting that is one."""
    found = as_json("run", "m.onnx", "-i", "x.npz", "-t", "x86-avx2", "--no-counts", code=1)
    assert (found["overflows"], found["counted"]) == (1, False)
    code, out, _ = intsim_("run", "m.onnx", "-i", "x.npz", "-t", "x86-avx2", "--no-counts")
    assert code == 1
    assert "1 registers of channels that overflowed on x86-avx2" in out


def test_run_a_batch(as_json):
    found = as_json("run", "m.onnx", "-i", "batch.npz", "-o", "y.npz")
    assert found["outputs"]["y"]["shape"] == [3, 1, 2, 4, 4]
    with np.load("y.npz") as npz:
        # 155 x 3 = 465 and 155 x 253 = 39215
        assert npz["y.codes"][:, 0, :, 0, 0].tolist() == [[3, 252], [0, 0], [2, 153]]


def test_run_drawn_samples(as_json):
    found = as_json("run", "m.onnx", "-n", "3", "--seed", "5", "-o", "y.npz")
    assert found["outputs"]["y"]["shape"] == [3, 1, 2, 4, 4]
    again = as_json("run", "m.onnx", "-n", "3", "--seed", "5", "-o", "z.npz")
    assert found == again
    with np.load("y.npz") as a, np.load("z.npz") as b:
        assert (a["y"] == b["y"]).all()


def test_verify_exact(intsim_, as_json):
    found = as_json("verify", "m.onnx", "--no-references", "-n", "2")
    assert (found["verdict"], found["first_divergence"], found["references"]) == ("exact", None, {})
    code, out, err = intsim_("verify", "m.onnx", "--no-references")
    assert (code, err) == (0, "")
    assert "verdict: exact" in out
    assert "conv" in out


LAYER = {"name", "op", "mismatches", "max_lsb", "overflows", "stages"}
REFERENCE = {"judged", "mismatches", "max_lsb", "blame"}


def test_verify_schema(folder, as_json):
    """The documented JSON, with both executors."""
    found = as_json(
        "verify", "m.onnx", "-t", "x86-avx2", "-i", "x.npz", "-o", "out", "--reference-timeout", "60", code=1
    )
    assert {"model", "target", "verdict", "layers", "references", "first_divergence"} <= set(found)
    assert (found["model"], found["target"], found["verdict"]) == ("m.onnx", "x86-avx2", "diverges")
    assert all(set(layer) >= LAYER for layer in found["layers"])
    conv = next(x for x in found["layers"] if x["op"] == "Conv")
    assert (conv["name"], conv["mismatches"], conv["max_lsb"]) == ("conv", 16, 252 - 128)
    stages = [(s["stage"], s["bits"], s["overflow"], s["overflows"]) for s in conv["stages"]]
    assert stages == [(1, 16, "saturate", 16), (2, 32, "wrap", 0), (3, 32, "wrap", 0)]
    assert set(found["references"]) == {"qonnx", "onnxruntime"}
    heard = [r for r in found["references"].values() if r["reason"] is None]
    assert found["references"]["onnxruntime"] in heard
    for report in found["references"].values():
        assert set(report) >= REFERENCE
        assert set(report["blame"]) == set(BLAMES)
        assert sum(report["blame"].values()) == report["mismatches"]
    assert all((r["mismatches"], r["blame"]["overflow"]) == (16, 16) for r in heard)
    at = found["first_divergence"]
    assert (at["name"], at["op"], at["channel"], at["position"]) == ("conv", "Conv", 1, [0, 1, 0, 0])
    assert (at["expected"], at["got"], at["blame"]) == (64515, 32767, "overflow")
    written = sorted(p.name for p in Path("out").iterdir())
    assert written == ["integer_graph.json", "integer_graph.npz", "verdict.json", "verdict.xml"]
    assert json.loads(Path("out/verdict.json").read_text()) == found
    suite = ET.parse("out/verdict.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == (str(len(found["layers"])), "1")
    assert IntegerGraph.load("out/integer_graph") == intsim.load("m.onnx").graph


def test_verify_table_of_a_divergence(intsim_):
    code, out, err = intsim_("verify", "m.onnx", "-t", "x86-avx2", "-i", "x.npz", "--no-references")
    assert (code, err) == (1, "")
    for word in (
        "diverges",
        "first divergence: conv (Conv)",
        "expected 64515, got 32767",
        "blame: overflow",
        "stage 1",
    ):
        assert word in out


def test_own_target(intsim_, as_json):
    """765 and 64515 into 12 bits: 765 fits, 64515 wraps more than once."""
    found = as_json("verify", "m.onnx", "-t", "narrow.toml", "-i", "x.npz", "--no-references", code=1)
    assert found["target"] == "narrow"
    assert found["first_divergence"]["expected"] == 64515
    assert found["first_divergence"]["got"] == (64515 + 2048) % 4096 - 2048
    assert as_json("targets", "narrow.toml")["targets"][0]["title"] == "12 bits"
    code, out, _ = intsim_("targets", "./narrow.toml")
    assert code == 0
    assert "[12 bits, wrap]  -2048..2047" in out


def test_bounds(intsim_, as_json):
    found = as_json("bounds", "m.onnx", "-t", "x86-avx2", code=1)
    (layer,) = found["layers"]
    assert (layer["name"], layer["low"], layer["high"], layer["required_bits"], layer["safe"]) == (
        "conv",
        0,
        64515,
        17,
        False,
    )
    assert [s["unsafe_channels"] for s in layer["stages"]] == [1, 0, 0]
    assert as_json("bounds", "m.onnx", "-t", "x86-vnni")["safe"] is True
    assert as_json("bounds", "m.onnx")["layers"][0]["stages"] == []
    code, out, err = intsim_("bounds", "m.onnx", "--target", "x86-avx2")
    assert (code, err) == (1, "")
    assert "overflow is possible" in out
    code, out, err = intsim_("bounds", "m.onnx", "--target", "cpu-int32")
    assert (code, err) == (0, "")
    assert "no register can overflow" in out


def test_targets(intsim_, as_json):
    families = intsim.Target.families()
    found = as_json("targets")
    assert [t["name"] for t in found["targets"]] == list(intsim.Target.names())
    family = {"name": "wrap-N", "low": 4, "high": 64, "title": "N-bit accumulator that wraps"}
    assert family in found["families"]
    code, out, err = intsim_("targets")
    assert (code, err) == (0, "")
    assert all(name in out for name in intsim.Target.names())
    assert all(f.name in out and f"{f.low}..{f.high}" in out for f in families)
    assert max(map(len, out.splitlines())) <= 110
    for line in ("8x16w 32w 4x32w 32w", "4p11w 32w"):
        assert line in out
    code, out, err = intsim_("targets", "dsp48e2-int8")
    assert (code, err) == (0, "")
    assert "[             c1             ][       c0       ]" in out
    code, out, err = intsim_("targets", "wrap-12")
    assert (code, err) == (0, "")
    assert "[12 bits, wrap]  -2048..2047" in out
    code, out, err = intsim_("targets", "wrap-65")
    assert (code, out) == (2, "")
    assert "target wrap-65: N is 65; allowed: 4..64" in err
    code, out, err = intsim_("targets", "x86-avx2")
    assert (code, err) == (0, "")
    for word in ("vpmaddubsw", "UINT8 activation x INT8 weight", "[16 bits, saturate]  -32768..32767"):
        assert word in out
    assert as_json("targets", "x86-avx2")["targets"][0]["operands"]["activation"]


def test_shape(folder, intsim_, as_json):
    proto = onnx.load("m.onnx")
    for axis, name in ((2, "h"), (3, "w")):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(proto, "d.onnx")
    code, out, err = intsim_("inspect", "d.onnx")
    assert (code, out) == (2, "")
    assert "[1, 2, h, w]" in err
    assert as_json("inspect", "d.onnx", "--shape", "x=1,2,6,3")["inputs"] == {"x": [1, 2, 6, 3]}
    for verb in ("verify", "run", "bounds"):
        extra = ["--no-references"] if verb == "verify" else []
        assert intsim_(verb, "d.onnx", "--shape", "x=1,2,6,3", *extra)[0] == 0


def test_constants(folder, intsim_, as_json):
    """A scale that the file leaves as an input: from --constants, or from --inputs."""
    proto = onnx.load("m.onnx")
    last = next(
        n for n in proto.graph.node if n.op_type in ("Quant", "QuantizeLinear") and n.input[0].startswith("relu")
    )
    scale = last.input[1]
    kept = [i for i in proto.graph.initializer if i.name != scale]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    proto.graph.input.append(onnx.helper.make_tensor_value_info(scale, TensorProto.FLOAT, []))
    onnx.save(proto, "p.onnx")
    code, _, err = intsim_("run", "p.onnx", "-i", "x.npy")
    assert code == 2
    assert "p.onnx" in err
    np.savez("c.npz", **{scale: np.float32(512)})
    np.savez("all.npz", **{scale: np.float32(512), "x": X})
    one = as_json("run", "p.onnx", "-i", "x.npy", "--constants", "c.npz", "-o", "one.npz")
    two = as_json("run", "p.onnx", "-i", "all.npz", "-o", "two.npz")
    assert one == two
    with np.load("one.npz") as a, np.load("two.npz") as b:
        assert a["y.codes"][0, :, 0, 0].tolist() == b["y.codes"][0, :, 0, 0].tolist() == [1, 126]
    assert intsim_("verify", "p.onnx", "-i", "all.npz", "--no-references")[0] == 0


def test_help_and_version(intsim_):
    code, out, err = intsim_("--version")
    assert (code, out, err) == (0, f"intsim {intsim.__version__}\n", "")
    code, out, err = intsim_("--help")
    assert (code, err) == (0, "")
    for verb in ("inspect", "lower", "run", "verify", "bounds", "targets"):
        assert verb in out
        assert intsim_(verb, "--help")[0] == 0
    code, out, err = intsim_()
    assert (code, err) == (2, "")
    assert "verify" in out


def test_strange_outputs_stay_json(folder, as_json):
    """An epilogue that gives infinities: JSON that any reader takes."""
    net = Net()
    x = net.quant(net.input(1, 4), 1, 0, 4)
    w = net.quant(np.float32(np.eye(4)), 1, 0, 2)
    y = net.node("Reciprocal", net.node("MatMul", x, w))
    onnx.save(net.model(y), "inf.onnx")
    np.save("zero.npy", np.zeros((1, 4), np.float32))
    with np.errstate(all="ignore"):
        found = as_json("run", "inf.onnx", "-i", "zero.npy")
    assert found["outputs"][y]["max"] == "inf"


def test_interrupt(intsim_, monkeypatch):
    """Ctrl-C: one line, exit code 130, nothing half-written."""

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("intsim.verification.verify"), "verify", stop)
    code, out, err = intsim_("verify", "m.onnx", "-o", "out")
    assert (code, err) == (130, "intsim: interrupted\n")
    assert out.count("\n") == 1  # what was going to be verified
    assert not Path("out").exists()
    assert not [p for p in Path().iterdir() if p.name.startswith(".")]


def test_a_bug_is_one_line_too(intsim_, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(importlib.import_module("intsim.proofs.bounds"), "bounds", broken)
    monkeypatch.delenv("INTSIM_DEBUG", raising=False)
    code, out, err = intsim_("bounds", "m.onnx")
    assert (code, out) == (2, "")
    assert err.startswith("intsim: internal error: RuntimeError: first second")
    assert err.count("\n") == 1
    monkeypatch.setenv("INTSIM_DEBUG", "1")
    with pytest.raises(RuntimeError):
        intsim_("bounds", "m.onnx")


def test_control_characters_of_a_file_do_not_reach_the_terminal(intsim_, capfd):
    net = Net()
    x = net.quant(net.input(1, 4))
    net.node("Frobnicate", x)
    net.nodes[-1].name = "evil\x1b[2J\x07"
    onnx.save(net.model(net.quant(net.nodes[-1].output[0])), "evil.onnx")
    code, _, err = intsim_("inspect", "evil.onnx")
    assert code == 2
    assert "evil?[2J?" in err
    assert "\x1b" not in err


def test_as_a_program(tmp_path):
    """The installed entry point: JSON alone on standard output, exit code of the verdict."""
    onnx.save(network(False), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", X)
    for target, code in (("exact", 0), ("x86-avx2", 1)):
        done = subprocess.run(
            [sys.executable, "-m", "intsim.cli", "verify", "m.onnx", "-i", "x.npy", "-t", target, "--json",
             "--no-references"],
            capture_output=True, text=True, cwd=tmp_path, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (code, "")
        assert json.loads(done.stdout)["target"] == target
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "x.npy"]
