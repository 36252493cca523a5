import copy
import os
import signal

import pytest
import torch

from intsim.errors import IntsimError
from models import train as module
from models.train import learning_rate, train

RECIPE = {
    "name": "tiny",
    "network": {"order": 2, "widths": [4, 4, 4, 4], "noise": 0.1},
    "data": {"height": 32, "width": 48, "train": 6, "validation": 2},
    "training": {
        "seed": 1,
        "steps": 4,
        "batch": 2,
        "learning_rate": 1e-2,
        "warmup": 2,
        "weight_decay": 0.01,
        "invalid_weight": 0.25,
        "bfloat16": True,
        "validate_every": 2,
    },
}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setattr(module, "NORMALIZATION_BATCHES", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_interrupted_training_ends_like_uninterrupted_training(tmp_path, monkeypatch, capsys):
    """SIGINT in the middle of step 1 (of 0..3): the step is finished, kept, and the rest repeats bit for bit."""
    whole = torch.load(train(RECIPE, tmp_path / "whole"), weights_only=True)
    original = module._step

    def interrupted(network, optimizer, batch, step, training):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(network, optimizer, batch, step, training)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(module, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, tmp_path / "parts")
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.setattr(module, "_step", original)
    path = tmp_path / "parts" / "tiny.pt"
    assert torch.load(path, weights_only=True)["step"] == 2
    parts = torch.load(train(RECIPE, tmp_path / "parts"), weights_only=True)
    assert parts["step"] == whole["step"] == 4
    assert parts["validation"] == whole["validation"]
    assert [step for step, _, _ in whole["validation"]] == [2, 4]
    for key, tensor in whole["network"].items():
        assert torch.equal(tensor, parts["network"][key]), key
    assert whole["device"] == "cpu"
    assert whole["seconds"] > 0
    assert not list((tmp_path / "parts").glob("*.part"))
    assert "EPE mean" in capsys.readouterr().out


def test_training_lowers_the_loss(tmp_path, monkeypatch):
    losses = []
    original = module._step
    monkeypatch.setattr(module, "_step", lambda *a: losses.append(original(*a)) or losses[-1])
    recipe = copy.deepcopy(RECIPE)
    recipe["training"] |= {"steps": 40, "validate_every": 40}
    train(recipe, tmp_path)
    assert len(losses) == 40
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])


def test_finished_training_is_left_alone(tmp_path, monkeypatch):
    path = train(RECIPE, tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(module, "_step", None)
    assert train(RECIPE, tmp_path) == path
    assert path.read_bytes() == before


def test_foreign_and_damaged_checkpoints_are_refused(tmp_path):
    path = train(RECIPE, tmp_path)
    other = copy.deepcopy(RECIPE)
    other["training"]["seed"] = 2
    with pytest.raises(IntsimError, match="another recipe"):
        train(other, tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(IntsimError, match="damaged checkpoint"):
        train(RECIPE, tmp_path)


def test_learning_rate_warms_up_then_falls_to_zero():
    training = {"learning_rate": 1.0, "warmup": 10, "steps": 100}
    rates = [learning_rate(step, training) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == rates[9]
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)
