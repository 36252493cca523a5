import copy
import os
import signal

import pytest
import torch

from intsim.errors import IntsimError
from models import train as module
from models.disparity import target
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
    original = module.optimizer_step

    def interrupted(network, optimizer, batch, step, training, meta):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(network, optimizer, batch, step, training, meta)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(module, "optimizer_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, tmp_path / "parts")
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.setattr(module, "optimizer_step", original)
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
    original = module.optimizer_step
    monkeypatch.setattr(module, "optimizer_step", lambda *a: losses.append(original(*a)) or losses[-1])
    recipe = copy.deepcopy(RECIPE)
    recipe["training"] |= {"steps": 40, "validate_every": 40}
    train(recipe, tmp_path)
    assert len(losses) == 40
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])


def test_finished_training_is_left_alone(tmp_path, monkeypatch):
    path = train(RECIPE, tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(module, "optimizer_step", None)
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


def test_patience_stops_early_and_keeps_the_best(tmp_path, monkeypatch):
    """Validation means 3, 2, 5, 4, ...: with patience 2 it stops after the fourth, with the network of the second."""
    means, seen = iter([3.0, 2.0, 5.0, 4.0, 1.0]), []

    def validation(network, data, meta):
        seen.append({key: tensor.clone() for key, tensor in network.state_dict().items()})
        return next(means), 0.5

    monkeypatch.setattr(module, "validation_epe", validation)
    recipe = copy.deepcopy(RECIPE)
    recipe["training"] |= {"steps": 10, "validate_every": 1, "patience": 2}
    path = train(recipe, tmp_path)
    state = torch.load(path, weights_only=True)
    assert (state["step"], state["stopped"]) == (4, True)
    for key, tensor in state["network"].items():
        assert torch.equal(tensor, seen[1][key]), key
    before = path.read_bytes()
    assert train(recipe, tmp_path) == path  # finished
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("network", "training"),
    [
        ({"dimensions": 3, "guide": True, "order": 1}, {}),
        ({"order": 2}, {"commit_weight": 5.0, "depth_weight": 0.1}),
        ({"order": 0, "inputs": "concat"}, {"depth_weight": 0.1}),
        ({"order": 2, "embedding": 2}, {"bfloat16": False}),
    ],
    ids=["guided cube", "on the curve", "plain concat", "embedding"],
)
def test_every_kind_of_network_learns(tmp_path, monkeypatch, network, training):
    losses = []
    original = module.optimizer_step
    monkeypatch.setattr(module, "optimizer_step", lambda *a: losses.append(original(*a)) or losses[-1])
    recipe = copy.deepcopy(RECIPE)
    recipe["network"] |= network
    recipe["training"] |= {"steps": 30, "validate_every": 30, **training}
    train(recipe, tmp_path)
    assert sum(losses[-8:]) < sum(losses[:8])


def test_each_term_of_the_loss_counts():
    """The loss with all terms is the sum of what each adds, and a point on its place costs nothing."""
    meta = module.Network("n", 2, 32, 48, guide=True)
    torch.manual_seed(0)
    output, weight = torch.randn(1, 3, 4, 4) / 8, torch.rand(1, 1, 4, 4)
    truth = torch.rand(1, 4, 4).double().numpy() * 24
    wanted = torch.from_numpy(target(truth, meta))
    terms = {"guide_weight": 0.0, "commit_weight": 0.0, "agree_weight": 0.0, "depth_weight": 0.0}

    def loss(**given):
        return module.loss_of(output, wanted, weight, {**terms, **given}, meta).item()

    base = loss()
    guide = (weight * (output[:, 2:] - wanted[:, 2:]).abs()).sum() / weight.sum()
    assert loss(guide_weight=0.5) - base == pytest.approx(0.5 * guide.item(), rel=1e-3)
    added = [loss(**{key: 2.0}) - base for key in terms]
    assert min(added[:3]) > 0
    assert loss(**dict.fromkeys(terms, 2.0)) - base == pytest.approx(sum(added), rel=1e-4)
    exact = module.loss_of(wanted, wanted, weight, {**terms, "guide_weight": 1.0, "commit_weight": 1.0}, meta)
    assert exact.item() < 3e-4
