"""The verbs `vectors` and `compare`: tables, JSON, exit codes, the next step."""

import json
import os
import shlex

import numpy as np
import onnx
import pytest

import intsim

from . import networks


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(networks.mixed(), "m.onnx")
    return tmp_path


def test_from_vectors_to_the_next_step(intsim_, folder):
    code, out, err = intsim_("vectors", "m.onnx", "-t", "wrap-12", "-o", "v", "--partial", "--format", "npy,c")
    assert (code, err) == (0, "")
    assert "6 layers" in out
    assert "files and manifest.json in v" in out
    dump = np.load("v/00_first/output.npy")
    np.save("d.npy", dump)
    code, out, err = intsim_("compare", "v", "d.npy", "--layer", "first")
    assert (code, err) == (0, "")
    assert "verdict: same" in out
    dump[0, 1, 2, 3] ^= 3
    np.save("d.npy", dump)
    code, out, err = intsim_("compare", "v", "d.npy", "--layer", "first")
    assert (code, err) == (1, "")
    assert "channel 1, position 0,1,2,3 (element 43 of the dump)" in " ".join(out.split())
    assert f"got {dump[0, 1, 2, 3]}" in " ".join(out.split())
    assert "verdict: different" in out
    command = out.strip().split("\n")[-1].strip()
    assert command == "intsim vectors m.onnx -t wrap-12 --seed 0 --trace first:0,1,2,3"
    acc = np.load("v/00_first/accumulator.npy")[0, 1, 2, 3]
    code, out, err = intsim_(*shlex.split(command)[1:])
    assert (code, err) == (0, "")
    assert f"accumulator {acc}," in out


def test_json(as_json, folder):
    made = as_json("vectors", "m.onnx", "-o", "v", "--layer", "first", "--layer", "last", "--order", "NHWC")
    assert made == json.loads((folder / "v" / "manifest.json").read_text())
    assert [x["name"] for x in made["layers"]] == ["first", "last"]
    told = as_json("vectors", "m.onnx", "--trace", "last:3", "-t", "x86-avx2")
    assert told["format"] == "intsim-trace-1"
    assert told["position"] == [0, 3]
    np.save("d.npy", np.load("v/01_last/output.npy") + 1)
    found = as_json("compare", "v", "d.npy", "--layer", "last", code=1)
    assert (found["format"], found["same"]) == ("intsim-comparison-1", False)
    assert found["next_step"]["layer"] == "last"
    np.save("d.npy", np.load("v/01_last/output.npy"))
    assert as_json("compare", "v", "d.npy", "--layer", "last")["next_step"] is None


def test_next_steps(as_json, folder):
    """Another order; what a layer without products reads; a layer whose operand is wrong."""
    as_json("vectors", "m.onnx", "-o", "v", "--samples", "2", "--seed", "5")
    codes = np.load("v/00_first/output.npy")
    np.save("d.npy", codes.transpose(0, 1, 3, 4, 2).reshape(-1))
    found = as_json("compare", "v", "d.npy", "--layer", "first", code=1)["next_step"]
    assert found["command"] == "intsim compare v d.npy --layer first --order NHWC"
    as_json(*shlex.split(found["command"])[1:])
    codes[1, 0, 0, 0, 0] ^= 1
    np.save("d.npy", codes)
    found = as_json("compare", "v", "d.npy", "--layer", "first", code=1)["next_step"]
    assert found["command"].endswith("--seed 6 --trace first:0,0,0,0")
    np.save("d.npy", np.load("v/04_most/output.npy") ^ 1)
    found = as_json("compare", "v", "d.npy", "--layer", "most", code=1)["next_step"]
    assert found["command"] == "intsim compare v OPERAND.npy --layer most --tensor operand"
    np.save("d.npy", np.load("v/04_most/operand.npy") ^ 1)
    found = as_json("compare", "v", "d.npy", "--layer", "most", "--tensor", "operand", code=1)["next_step"]
    assert "wrong already" in found["text"]


def test_given_inputs(as_json, folder):
    x = np.linspace(-1, 9, 90, dtype=np.float32).reshape(1, 3, 6, 5)
    np.save("x.npy", x)
    made = as_json("vectors", "m.onnx", "-i", "x.npy", "-o", "v")
    assert (made["inputs"], made["seed"], made["samples"]) == ("x.npy", None, 1)
    codes = np.load("v/05_last/output.npy")
    assert np.array_equal(codes, next(iter(intsim.run("m.onnx", inputs=x).codes.values())))
    np.save("d.npy", codes ^ 1)
    found = as_json("compare", "v", "d.npy", "--layer", "last", code=1)["next_step"]
    assert found["command"] == "intsim vectors m.onnx -t exact --inputs x.npy --trace last:0,0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vectors", "m.onnx"], "give one of --out"),
        (["vectors", "m.onnx", "-o", "v", "--trace", "first:1,1,1"], "give one of --out"),
        (["vectors", "m.onnx", "-o", "v", "--order", "finn", "--pe", "2"], "--pe and --simd fold weights together"),
        (["vectors", "m.onnx", "--trace", "first"], "not of the form LAYER:c,y,x"),
        (["vectors", "m.onnx", "--trace", "first:9,0,0"], "has no output 9,0,0; its result has shape"),
        (["vectors", "m.onnx", "--trace", "most:0,0,0"], "adds up no products"),
        (["vectors", "m.onnx", "-o", "v", "--layer", "x"], "no layer 'x'; its layers are first, each"),
        (["vectors", "m.onnx", "-o", ".."], "did not write"),
        (["compare", "v", "d.npy"], "No such file"),
        (["compare", "v"], "Missing argument"),
    ],
)
def test_bad_usage_is_one_line(intsim_, folder, arguments, said):
    code, out, err = intsim_(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert os.listdir(folder) == ["m.onnx"]


def test_a_folder_that_can_not_be_written(intsim_, folder):
    if os.geteuid() == 0:
        pytest.skip("root writes anywhere")
    (folder / "locked").mkdir(mode=0o500)
    code, out, err = intsim_("vectors", "m.onnx", "-o", "locked/v")
    assert (code, out) == (2, "")
    assert "can't be written: Permission denied" in err
