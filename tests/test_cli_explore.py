"""The verbs `telemetry` and `sweep`: tables, JSON, files, exit codes, an interruption."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net

import intsim
from intsim.explore import evaluation

X = np.full((1, 2, 4, 4), 255, np.float32)


def network() -> onnx.ModelProto:
    """Two channels of u8 x s8 of scale 1: sums 255 x 3 and 255 x 253, both inputs loud."""
    net = Net()
    x = net.quant(net.input(1, 2, 4, 4), 1, 0, 8, signed=0)
    w = net.quant(np.float32([[1, 2], [127, 126]]).reshape(2, 2, 1, 1), 1, 0, 8, narrow=1)
    net.node("Conv", x, w, kernel_shape=[1, 1])
    net.nodes[-1].name = "conv"
    return net.model(net.quant(net.node("Relu", net.nodes[-1].output[0]), 128, 0, 8, signed=0))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with m.onnx and x.npy."""
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "m.onnx")
    np.save("x.npy", X)
    return tmp_path


def test_telemetry(intsim_):
    code, out, err = intsim_("telemetry", "m.onnx", "-i", "x.npy", "--json", "-o", "out")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found == json.loads(Path("out/telemetry.json").read_text())
    stage = found["layers"][0]["stages"][0]
    assert (found["overflows"], stage["required_bits"], stage["high"], stage["groups"]) == (0, 17, 64515, 32)
    assert stage["final"] == {"11": 16, "17": 16}
    assert [c["required_bits"] for c in stage["by_channel"]] == [11, 17]
    assert found["clips"][0]["channel_lowered"] == [0, 16]  # 64515 / 128 is 504, above 255
    code, out, err = intsim_("telemetry", "m.onnx", "-i", "x.npy", "-t", "wrap-16", "--channels")
    assert (code, err) == (1, "")
    for word in ("conv", "16 wrap", "64 515", "bits 11..17", "16 overflow events", "worst channels", "clipped nothing"):
        assert word in out, word
    assert "output clips" in intsim_("telemetry", "m.onnx", "-i", "x.npy")[1]
    code, out, err = intsim_("telemetry", "m.onnx", "--samples", 2, "--seed", 1, "-t", "cpu-int32")
    assert (code, err) == (0, "")
    assert "no register overflowed" in out


def test_telemetry_of_a_model_without_layers(intsim_):
    net = Net()
    onnx.save(net.model(net.quant(net.input(1, 4), 1, 0, 8)), "q.onnx")
    code, out, err = intsim_("telemetry", "q.onnx", "--channels")
    assert (code, err) == (0, "")
    code, out, err = intsim_("sweep", "q.onnx", "-a", "8", "-m", "8", "-o", "q")
    assert (code, err) == (0, "")
    assert "2 configurations" in out or "3 configurations" in out


def test_sweep(intsim_):
    pytest.importorskip("matplotlib")
    arguments = ("sweep", "m.onnx", "-i", "x.npy", "--accumulator", "9:18", "--multiplier", "4,8", "-o", "out/deep")
    code, out, err = intsim_(*arguments, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found == json.loads(Path("out/deep/sweep.json").read_text())
    assert (found["accumulator_widths"], found["multiplier_widths"]) == (list(range(9, 19)), [4, 8])
    assert len(found["rows"]) == 22
    assert Path("out/deep/sweep.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with Path("out/deep/sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    layers = [x for x in lines if x["kind"] == "layer"]
    assert len(layers) == len([x for x in lines if x["kind"] == "output"]) == 22
    for line, row in zip(layers, found["rows"], strict=True):
        assert (line["accumulator"], line["overflow"]) == (str(row["accumulator"] or ""), row["overflow"] or "")
        assert line["mismatches"] == str(row["layers"][0]["mismatches"])
        assert float(line["mean_lsb"]) == row["layers"][0]["mean_lsb"]
    proven = {x["overflow"]: x["proven_from"] for x in found["safe_from"]}
    assert (
        proven == {"wrap": 17, "saturate": 17} == dict.fromkeys(proven, intsim.bounds("m.onnx").layers[0].required_bits)
    )
    code, out, err = intsim_(*arguments)
    assert (code, err) == (0, "")
    for word in ("22 configurations, 22 of them from an earlier run", "proven", "observed", "rounded once, half_up",
                 "wrote sweep.json, sweep.csv, sweep.png to out/deep"):  # fmt: skip
        assert word in out, word
    assert sorted(p.name for p in Path("out/deep").iterdir()) == ["rows.sqlite", "sweep.csv", "sweep.json", "sweep.png"]


def test_sweep_of_a_grid_and_of_a_stage(intsim_):
    code, out, err = intsim_("sweep", "m.onnx", "-a", "8,16", "-m", "6,8", "--grid", "--overflow", "wrap", "-o", "g")
    assert (code, err) == (0, "")
    assert "accumulators that wrap, 8-bit multiplier" in out
    code, out, err = intsim_(
        "sweep", "m.onnx", "-i", "x.npy", "-t", "x86-avx2", "--stage", 1, "-a", "12,17", "-o", "s", "--json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["target"], found["stage"]) == ("x86-avx2", 1)
    narrow, wide = found["rows"][:2]
    assert (narrow["layers"][0]["overflowing"], wide["layers"][0]["overflowing"]) == (16, 0)
    assert wide["layers"][0]["proven"]


def test_without_matplotlib(intsim_, monkeypatch):
    Path("out").mkdir()
    Path("out/sweep.png").write_text("of an earlier sweep")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = intsim_("sweep", "m.onnx", "-a", "8,32", "-o", "out")
    assert code == 0
    assert err == 'intsim: no picture: matplotlib is missing; pip install "intsim[report]"\n'
    assert "wrote sweep.json, sweep.csv to out" in out
    assert sorted(p.name for p in Path("out").iterdir()) == ["rows.sqlite", "sweep.csv", "sweep.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-a", "32:8"], "--accumulator '32:8': give a range like 8:32 or a list like 12,16,20"),
        (["-a", "8:"], "--accumulator '8:'"),
        (["-a", "8-32"], "--accumulator '8-32'"),
        (["-m", "4:8:2"], "--multiplier '4:8:2'"),
        (["-a", "8:1000000000000"], "accumulator width 65; allowed: 1..64"),
        (["-a", "0:4"], "accumulator width 0"),
        (["-m", "40"], "multiplier width 40; allowed: 4..32"),
        (["-a", "8", "--overflow", "clip"], "overflow rule 'clip'"),
        ([], "nothing to vary"),
        (["-a", "8", "--grid"], "a grid needs two kinds of widths"),
        (["-a", "8", "--stage", "2"], "stage 2; target exact has stages 1..1"),
        (["-a", "8", "-t", "nosuch"], "unknown target"),
        (["-a", "8", "-i", "nosuch.npy"], "nosuch.npy"),
    ],
)
def test_bad_usage(intsim_, arguments, words):
    code, out, err = intsim_("sweep", "m.onnx", "-o", "out", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_another_sweep_in_the_folder(intsim_):
    assert intsim_("sweep", "m.onnx", "-a", "8", "-o", "out")[0] == 0
    before = {p.name: p.read_bytes() for p in Path("out").iterdir()}
    code, out, err = intsim_("sweep", "m.onnx", "-a", "8", "-t", "cpu-int32", "-o", "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "holds a sweep with another target" in err
    assert {p.name: p.read_bytes() for p in Path("out").iterdir()} == before
    assert intsim_("sweep", "m.onnx", "-a", "8", "-t", "cpu-int32", "-o", "out", "--restart")[0] == 0


def test_an_interruption_keeps_what_is_done(intsim_, monkeypatch):
    """Ctrl-C after three configurations: exit code 130, a hint, no results yet, and the same command goes on."""
    real, seen = evaluation.Evaluation.__call__, []

    def interrupted(self, configuration, say):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(configuration)
        return real(self, configuration, say)

    monkeypatch.setattr(evaluation.Evaluation, "__call__", interrupted)
    code, out, err = intsim_("sweep", "m.onnx", "-a", "8:12", "-o", "out")
    assert (code, out) == (130, "")
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert [p.name for p in Path("out").iterdir()] == ["rows.sqlite"]
    monkeypatch.setattr(evaluation.Evaluation, "__call__", real)
    code, out, err = intsim_("sweep", "m.onnx", "-a", "8:12", "-o", "out", "--json")
    assert (code, json.loads(out)["resumed"]) == (0, 3)
    assert json.loads(out)["rows"] == [r.to_json() for r in intsim.sweep("m.onnx", accumulator=range(8, 13)).rows]


def count(folder: Path) -> int:
    """Rows so far, of a sweep that works on them: read without its lock."""
    try:
        file = sqlite3.connect(f"file:{folder.absolute()}/rows.sqlite?immutable=1", uri=True)
        try:
            return int(file.execute("SELECT count(*) FROM rows").fetchone()[0])
        finally:
            file.close()
    except sqlite3.Error:  # not yet there
        return 0


@pytest.mark.slow
def test_a_signal_in_a_process_of_its_own(intsim_):
    """SIGINT while it works on many samples; each of the widths overflows, and is a run of its own."""
    command = [sys.executable, "-m", "intsim.cli", "sweep", "m.onnx", "-a", "4:9", "-n", "1000", "-o", "out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(intsim.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and count(Path("out")) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    done = count(Path("out"))
    code, out, err = intsim_("sweep", "m.onnx", "-a", "4:9", "-n", "1000", "-o", "out", "--json")
    assert (code, json.loads(out)["resumed"]) == (0, done)


def test_axes(intsim_, as_json):
    """Files by patterns, targets by names, codes; the short options are axes too."""
    onnx.save(network(), "m2.onnx")
    axes = ("weights=4:5", "activations=6", "model=m*.onnx", "target=exact,wrap-16")
    varied = [word for axis in axes for word in ("--axis", axis)]
    found = as_json("sweep", "m.onnx", "-i", "x.npy", *varied, "-o", "out")
    points = [(r["model"], r["target"], r["weights"], r["activations"]) for r in found["rows"]]
    widths = [(4, None), (5, None), (None, 6)]
    assert points == [(m, t, *w) for m in ("m.onnx", "m2.onnx") for t in ("exact", "wrap-16") for w in widths]
    assert (found["weight_widths"], found["activation_widths"]) == ([4, 5], [6])
    again = as_json("sweep", "m.onnx", "-i", "x.npy", *varied, "-o", "out")
    assert again["resumed"] == 12
    assert again["rows"] == found["rows"]
    one = as_json("sweep", "m.onnx", "-i", "x.npy", "--axis", "accumulator=9:10", "--axis", "overflow=wrap", "-o", "a")
    two = as_json("sweep", "m.onnx", "-i", "x.npy", "-a", "9:10", "--overflow", "wrap", "-o", "b")
    assert one["rows"] == two["rows"]
    code, out, _ = intsim_("sweep", "m.onnx", "-i", "x.npy", *varied, "-o", "out")
    assert code == 0
    for word in ("m2.onnx, on wrap-16, 6-bit", "which no retraining has made good"):
        assert word in " ".join(out.split()), word


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("sweep", "m.onnx", "-o", "o", "--axis", "width=4"),
            "--axis 'width=4': give NAME=VALUES; names are accumulator",
        ),
        (("sweep", "m.onnx", "-o", "o", "--axis", "weights"), "give NAME=VALUES"),
        (("sweep", "m.onnx", "-o", "o", "--axis", "weights=a"), "--axis weights 'a': give a range like 8:32"),
        (
            ("sweep", "m.onnx", "-o", "o", "--axis", "weights=4", "--axis", "weights=5"),
            "--axis weights: is given twice",
        ),
        (("sweep", "m.onnx", "-o", "o", "-a", "9", "--axis", "accumulator=8"), "both are given; give one"),
        (("sweep", "m.onnx", "-o", "o", "--axis", "model=no*.onnx"), "--axis model=no*.onnx: no file is like that"),
        (("sweep", "m.onnx", "-o", "o", "--axis", "model=no.onnx"), "no.onnx"),
        (("sweep", "m.onnx", "-o", "o", "--axis", "target=no-such"), "no-such"),
        (("sweep", "m.onnx", "-o", "o", "--axis", "weights=1"), "which needs 2 bits at least"),
        (("narrow", "m.onnx", "-o", "n.onnx"), "nothing to do; give --weights or --activations"),
        (("narrow", "m.onnx", "-o", "n.onnx", "-w", "four"), "--weights 'four': give bits, as 4, or NAME=BITS"),
        (("narrow", "m.onnx", "-o", "n.onnx", "-w", "no=4"), "no layer named no; there are conv"),
        (("search", "m.onnx", "-o", "s", "-w", "8"), "--weights '8': give the least and the most, as 2:8"),
        (("search", "m.onnx", "-o", "s"), "nothing to vary; give ranges"),
        (("search", "m.onnx", "-o", "s", "--slack", "1", "--cost", "gates"), "cost 'gates'; allowed: bops"),
        (("search", "m.onnx", "-o", "s", "--slack", "1", "--metric", "no.py:f"), "no.py can't be read"),
    ],
)
def test_bad_axes_and_searches(intsim_, arguments, words):
    code, out, err = intsim_(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not Path("n.onnx").exists()


def test_narrow(intsim_, as_json):
    found = as_json("narrow", "m.onnx", "-w", "conv=5", "-a", "6", "-o", "n.onnx")
    assert [(q["kind"], q["bits"], q["narrowed_bits"]) for q in found["quantizers"]] == [
        ("weights", 8, 5),
        ("activations", 8, 6),
        ("activations", 8, 6),
    ]
    bits = {t.type.bits for t in intsim.load("n.onnx").graph.tensors.values() if t.type is not None}
    assert bits == {6}
    code, out, err = intsim_("narrow", "m.onnx", "-w", "5", "-o", "n.onnx")
    assert (code, err) == (0, "")
    assert "wrote n.onnx: 1 of 1 narrower" in out


def test_search(intsim_, as_json):
    pytest.importorskip("optuna")
    pytest.importorskip("matplotlib")
    asked = ("search", "m.onnx", "-t", "saturate-32", "-n", 2, "-w", "4:8", "--slack", 2, "--cost", "register_bits")
    found = as_json(*asked, "--trials", 12, "-o", "out")
    assert found == json.loads(Path("out/search.json").read_text())
    front = [p for p in found["points"] if p["front"]]
    assert sorted(p["file"] for p in front) == sorted(p.stem for p in Path("out").glob("front-*.toml"))
    for point in front:
        target, model = f"out/{point['file']}.toml", f"out/{point['file']}.onnx"
        assert as_json("bounds", model, "-t", target, code=int(not point["proven"]))["safe"] == point["proven"]
    lines = list(csv.DictReader(Path("out/search.csv").read_text().splitlines()))
    assert len(lines) == len(found["points"]) == 12 + 5
    again = as_json(*asked, "--trials", 14, "-o", "out")
    assert (again["resumed"], again["trials"]) == (12, 14)
    code, out, err = intsim_(*asked, "--trials", 14, "-o", "out")
    assert (code, err) == (0, "")
    for word in ("no other beats", "uniform networks are beaten", "14 points tried, 14 of them by an earlier run"):
        assert word in " ".join(out.split()), word
    assert Path("out/search.png").read_bytes()[:4] == b"\x89PNG"
    Path("out/front-notes.txt").write_text("mine")
    fewer = ("search", "m.onnx", "-t", "saturate-32", "--slack", 1, "--trials", 2, "--restart", "-o", "out")
    written = [p["file"] for p in as_json(*fewer)["points"] if p["front"]]
    assert sorted(p.name for p in Path("out").glob("front-*")) == sorted(
        [f"{n}.toml" for n in written] + ["front-notes.txt"]
    )
