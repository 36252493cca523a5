"""A network of many operators as the input of every verb."""

import json
import sys

import numpy as np
import pytest

import intsim
from intsim import cli
from tests.lite import litert
from tests.lite.cases import inputs, mixed
from tests.lite.test_operators import compared


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "net.tflite").write_bytes(mixed(np.random.default_rng(1)).bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["intsim", *words, "--json"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    assert left.value.code in (0, None, 1), err
    return json.loads(out)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_the_second_reading_makes_of_it(seed, tmp_path):
    rng = np.random.default_rng(seed)
    net = mixed(rng)
    _, run, verdict = compared(tmp_path / "net.tflite", net, inputs(net, rng))
    assert (verdict.tensors, verdict.mismatches) == (len(net.operators) - 1, 0)
    assert len(np.unique(run.outputs["answer"])) > 1


@pytest.mark.parametrize(
    "words",
    [
        ("inspect",),
        ("lower", "--out", "lowered"),
        ("run", "--target", "x86-avx2"),
        ("bounds", "--target", "x86-avx2"),
        ("telemetry", "--target", "saturate-16"),
        ("certify", "--target", "cpu-int32", "-n", "1"),
        ("sweep", "-a", "12,16", "-m", "8", "--out", "sweep"),
    ],
    ids=lambda words: words[0],
)
def test_every_verb_takes_it(words, folder, monkeypatch, capsys):
    document = command(monkeypatch, capsys, words[0], "net.tflite", *words[1:])
    assert document["format"].startswith("intsim-")


def test_layers_have_the_file_s_operators(folder, monkeypatch, capsys):
    document = command(monkeypatch, capsys, "verify", "net.tflite", "--target", "x86-avx2", "--samples", "2")
    kinds = [layer["op"] for layer in document["layers"]]
    assert kinds.count("DEPTHWISE_CONV_2D") == 1
    assert kinds.count("CONV_2D") == 5
    assert kinds.count("FULLY_CONNECTED") == 1
    assert document["file"]["mismatches"] == 0
    for reference in document["references"].values():
        assert reference["reason"] is None
        assert reference["blame"]["executor"] == 0


@pytest.mark.skipif(litert.WHY_NOT is not None, reason=litert.WHY_NOT or "")
def test_litert_ends_nearby(tmp_path):
    rng = np.random.default_rng(3)
    nets = [mixed(rng) for _ in range(4)]
    samples = [inputs(net, rng) for net in nets]
    for i, answer in enumerate(litert.answers(tmp_path, [n.bytes() for n in nets], samples)):
        assert not isinstance(answer, str), answer
        ours = intsim.run(tmp_path / f"{i}.tflite", inputs=samples[i]).outputs["answer"]
        assert np.abs(ours - answer[0]).max() <= 16 / 256
        assert np.ptp(ours) > 32 / 256
