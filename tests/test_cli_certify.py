"""`intsim certify`: tables, JSON, files, exit codes, and checking what was written."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net

import intsim
from intsim.report import certificate as shown


def network() -> onnx.ModelProto:
    """An identity and then two large pairs: on AVX2 the second layer saturates; it doesn't read the network's input."""
    net = Net()
    x = net.quant(net.input(1, 4), 1, 0, 8, signed=0)
    w = net.quant(np.float32(np.eye(4)), 1, 0, 2)
    net.node("MatMul", x, w)
    net.nodes[-1].name = "first"
    y = net.quant(net.nodes[-1].output[0], 1, 0, 8, signed=0)
    net.node("MatMul", y, net.quant(np.full((4, 2), 127, np.float32), 1, 0, 8))
    net.nodes[-1].name = "second"
    net.quant(net.nodes[-1].output[0], 512, 0, 8, signed=0)
    net.nodes[-1].output[0] = "y"
    return net.model("y")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    onnx.save(network(), "m.onnx")
    np.save("quiet.npy", np.zeros((3, 1, 4), np.float32))
    loud = np.zeros((3, 1, 4), np.float32)
    loud[2] = 255
    np.save("loud.npy", loud)
    return tmp_path


@pytest.fixture
def intsim_(intsim_):
    return lambda *args: intsim_("certify", *args)


def test_certified(intsim_):
    code, out, err = intsim_("m.onnx", "-t", "x86-vnni")
    assert (code, err) == (0, "")
    for word in ("first", "second", "proven", "equal", "certified. Every integer of the graph lowered from m.onnx on "
                 "x86-vnni is exact for every input, and 40 integers on 4 inputs agree with an independent reading of "
                 "the file."):  # fmt: skip
        assert word in " ".join(out.split())
    code, out, err = intsim_("m.onnx", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["target"]["name"] == "exact"


def test_open_and_refuted(intsim_):
    code, out, err = intsim_("m.onnx", "-t", "x86-avx2", "-i", "quiet.npy")
    assert (code, err) == (1, "")
    for word in ("2 of 2 ch can be wrong", "verdict: open", "a layer input gives 32767, expected 64770, at [0, 0]",
                 "3 samples searched"):  # fmt: skip
        assert word in " ".join(out.split())
    code, out, err = intsim_("m.onnx", "-t", "x86-avx2", "-i", "loud.npy")
    assert (code, err) == (1, "")
    for word in ("sample 2 gives 65534, expected 129540, at [0, 0] (code 128, expected 253)", "verdict: refuted"):
        assert word in " ".join(out.split())


def test_written_and_checked(intsim_):
    code, _, err = intsim_("m.onnx", "-t", "x86-avx2", "-i", "loud.npy", "-o", "sub/c")
    assert (code, err) == (1, "")
    assert sorted(p.name for p in Path("sub").iterdir()) == ["c.json", "c.npz"]
    content = json.loads(Path("sub/c.json").read_text())
    assert (content["verdict"], content["model"]["file"]) == ("refuted", "m.onnx")
    with np.load("sub/c.npz") as npz:
        assert npz.files == ["2:0"]
        assert (npz["2:0"] == 255).all()
    first = Path("sub/c.json").read_bytes(), Path("sub/c.npz").read_bytes()
    intsim_("m.onnx", "-t", "x86-avx2", "-i", "loud.npy", "-o", "sub/c")
    assert (Path("sub/c.json").read_bytes(), Path("sub/c.npz").read_bytes()) == first
    # the model lies here, not beside it
    code, out, err = intsim_("--check", "sub/c.json")
    assert (code, err) == (0, "")
    assert "confirmed: sub/c.json (refuted); 5 claims computed again, 2 counterexamples run again" in " ".join(
        out.split()
    )
    code, out, _ = intsim_("--check", "sub/c.json", "m.onnx", "--json")
    assert code == 0
    found = json.loads(out)
    assert found.pop("target").startswith("x86-avx2 (SHA-256 ")
    note = "of 3 samples given 1 are here; the others can't be searched again"
    assert found == {"format": "intsim-check-1", "certificate": "sub/c.json", "verdict": "refuted", "confirmed": True,
                     "claims": 5, "reruns": 2, "elements": 40, "differences": [], "notes": [note],
                     "next_step": None}  # fmt: skip
    Path("sub/c.npz").unlink()
    code, out, err = intsim_("--check", "sub/c.json")
    assert (code, out) == (2, "")
    assert "sample 2 of the certificate is missing" in err


def test_drawn_samples_are_drawn_again(intsim_):
    code, _, _ = intsim_("m.onnx", "-t", "x86-avx2", "-n", 5, "--seed", 4, "-o", "c.json")
    assert code == 1
    assert json.loads(Path("c.json").read_text())["search"].items() >= {"samples": 1, "seed": 4}.items()
    Path("c.npz").unlink()
    assert intsim_("--check", "c.json")[0] == 0
    intsim_("m.onnx", "-t", "x86-avx2", "-n", 5, "--seed", 4, "-o", "c.json")
    with np.load("c.npz") as npz:
        np.savez("c.npz", **{k: npz[k] * 0 + 254 for k in npz.files})
    code, out, _ = intsim_("--check", "c.json")
    assert code == 1
    assert "sample 0 is not the one that seed 4 draws" in out
    assert "sha256 is stated as" in out


def test_a_changed_certificate_is_not_confirmed(intsim_):
    intsim_("m.onnx", "-t", "x86-avx2", "-o", "c.json")
    text = Path("c.json").read_text()
    assert '"expected": 64770' in text
    Path("c.json").write_text(text.replace('"expected": 64770', '"expected": 64771'))
    code, out, err = intsim_("--check", "c.json")
    assert (code, err) == (1, "")
    lines = " ".join(out.split())
    for word in ("digest: the file was changed", "obstacles[second].counterexamples[0].expected: the file says 64771, "
                 "computed again 64770", "counterexample 1: expected is stated as 64771, the run gives 64770",
                 "not confirmed: c.json, 3 differences"):  # fmt: skip
        assert word in lines
    code, out, _ = intsim_("--check", "c.json", "--json")
    assert code == 1
    assert len(json.loads(out)["differences"]) == 3


def test_refusals(intsim_, folder):
    intsim_("m.onnx", "-t", "x86-vnni", "-o", "c.json")
    net = Net()
    x = net.quant(net.input(1, 3), 1, 0, 12)
    onnx.save(net.model(net.node("MatMul", x, net.quant(np.ones((3, 1), np.float32), 1, 0, 8))), "wide.onnx")
    Path("bad.json").write_text("{")
    Path("new.json").write_text('{"format": "intsim-certificate-7"}')
    Path("alone").mkdir()
    Path("alone/c.json").write_text(Path("c.json").read_text().replace("m.onnx", "gone.onnx"))
    for args, word in (
        ((), "give a MODEL"),
        (("wide.onnx", "-t", "x86-avx2"), "doesn't fit the target's u8"),
        (("m.onnx", "-t", "nope"), "unknown target 'nope'"),
        (("--check", "bad.json"), "not a certificate, or damaged"),
        (("--check", "new.json"), "intsim-certificate-7"),
        (("--check", "none.json"), "can't be read"),
        (("--check", "c.json", "wide.onnx"), "not the model of the certificate"),
        (("--check", "alone/c.json"), "neither beside it nor here"),
        (("--check", "c.json", "-t", "exact"), "--check takes target and samples from the certificate"),
        (("m.onnx", "-n", "-1"), "--samples"),
    ):
        code, out, err = intsim_(*args)
        assert (code, out) == (2, ""), args
        assert word in err
        assert err.count("\n") == 1
    assert intsim_("m.onnx", "-t", "nope", "-o", "no/c.json")[0] == 2
    assert not Path("no").exists()


def test_multipliers(intsim_):
    """Scale 1/512 is a power of two: every width will do."""
    code, out, _ = intsim_("m.onnx", "--multipliers")
    assert code == 0
    assert "multiplier" in out
    found = json.loads(intsim_("m.onnx", "--multipliers", "--json")[1])
    assert found["multipliers"] is True
    assert all(isinstance(r["exact_multiplier_widths"], list) for r in found["requantizers"])


def test_sentences():
    """A verdict in words for each kind."""
    found = intsim.certify(network(), "x86-avx2")
    assert found.verdict == "open"
    assert "no network input is known that gets there (1 open; 0 samples searched)" in shown.sentence(found)
    assert intsim.certify(network(), "exact").holds
