"""The main job on a tiny scale: a generated pair in place of the photograph."""

import json

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from models import demo
from models.disparity import read_network
from models.stereo import generate


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(demo, "real_pair", lambda height, width: generate("test", 0, height, width))
    monkeypatch.setattr(demo, "TEST_PAIRS", 1)


def test_the_demo_ends_with_a_verdict_a_picture_and_figures(offline, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["demo", "--out", str(tmp_path), "--target", "x86-avx2"])
    assert demo.main() == 0
    printed = capsys.readouterr().out
    assert printed.count("verdict: exact") == 2
    assert (tmp_path / "disparity.png").read_bytes().startswith(b"\x89PNG")
    codes = np.load(tmp_path / "codes.npy")
    assert codes.shape == read_network("h3dispnet").input_shape
    assert codes.min() >= 0
    assert codes.max() <= 255
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {v["verdict"] for v in summary["verdicts"].values()} == {"exact"}
    for found in summary["quality"].values():
        error = found["h3dispnet"]["exact"]["error"]
        assert {"mean", "rmse", "robust_sd", "jump_rate"} <= set(error)
        # two heads: the bulk of the errors shrinks, branch jumps remain
        assert error["robust_sd"] < found["dispnet"]["exact"]["error"]["robust_sd"]
    avx2 = summary["quality"][summary["pair"]]["h3dispnet"]["x86-avx2"]
    assert avx2["overflows"] > 0


def test_a_bad_target_is_one_line(offline, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["demo", "--out", str(tmp_path / "out"), "--target", "no-such"])
    assert demo.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
