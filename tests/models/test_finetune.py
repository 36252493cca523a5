"""Training goes on from a float checkpoint, quantized; interrupted or not it ends alike."""

import copy
from pathlib import Path

import pytest
import torch

from intsim.errors import IntsimError
from models import train as module
from models.checkpoint import load_checkpoint
from models.finetune import start_network
from models.recipe import checked, read_recipe
from models.train import train
from tests.models.test_train import RECIPE

STUDY = Path(__file__).parents[2] / "models" / "recipes" / "study"
RECIPES = sorted(p.stem for p in STUDY.glob("*.toml") if p.stem.startswith(("q_", "first_")))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setattr(module, "NORMALIZATION_BATCHES", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def float_recipe(**network):
    recipe = copy.deepcopy(RECIPE)
    recipe["network"] |= network
    return checked(recipe)


def quantized_recipe(start, weights="int", **network):
    recipe = copy.deepcopy(RECIPE)
    recipe["name"] = "quantized"
    recipe["network"] |= network
    recipe["training"]["bfloat16"] = False
    recipe["quantization"] = {"start": str(start), "weights": weights, "weight_bits": 4, "activation_bits": 4}
    return checked(recipe)


@pytest.fixture
def start(tmp_path):
    return train(float_recipe(), tmp_path / "start")


def scales(network):
    """Every scale that is learned, by name."""
    return {key: t for key, t in network.state_dict().items() if key.endswith("scaling_impl.value")}


@pytest.mark.parametrize("weights", ["int", *(pytest.param(w, marks=pytest.mark.slow) for w in ("binary", "a2q+"))])
def test_interrupted_training_ends_like_uninterrupted_training(start, tmp_path, monkeypatch, weights):
    """Stopped after the checkpoint of step 2 (of 4); what is loaded needs no float network any more."""
    recipe = quantized_recipe(start, weights)
    path = train(recipe, tmp_path / "whole")
    whole = torch.load(path, weights_only=True)
    original = module.optimizer_step

    def stopped(network, optimizer, batch, step, *rest):
        if step == 2:
            raise RuntimeError("the power is gone")
        return original(network, optimizer, batch, step, *rest)

    monkeypatch.setattr(module, "optimizer_step", stopped)
    with pytest.raises(RuntimeError, match="the power is gone"):
        train(recipe, tmp_path / "parts")
    monkeypatch.setattr(module, "optimizer_step", original)
    parts = torch.load(train(recipe, tmp_path / "parts"), weights_only=True)
    assert parts["validation"] == whole["validation"]
    for key, tensor in whole["network"].items():
        assert torch.equal(tensor, parts["network"][key]), key
    before = start_network(recipe)
    start.unlink()
    network, record = load_checkpoint(path)
    assert record["recipe"] == recipe
    assert {key: t.tolist() for key, t in network.state_dict().items()} == {
        key: t.tolist() for key, t in whole["network"].items()
    }
    trained, untrained = scales(network), scales(before)
    # of 11 blocks' activations; of the weights but in the first layer and the heads, or three parameters for each
    assert len(trained) == {"int": 11 + 10, "binary": 11, "a2q+": 11 + 3 * 13}[weights]
    same = [key for key in trained if torch.equal(trained[key], untrained[key])]
    assert not same
    codes = torch.randint(0, 256, (1, 33, 16, 24)).float()
    grid = network(codes).detach() * 256
    assert torch.equal(grid, grid.round())


def test_an_embedding_is_trained_on(tmp_path):
    start = train(float_recipe(embedding=2), tmp_path)
    recipe = quantized_recipe(start, embedding=2)
    before = start_network(recipe).input.table.detach()
    network, _ = load_checkpoint(train(recipe, tmp_path))
    assert float(before.min()) == 0
    assert float(before.max()) == 1
    assert not torch.equal(network.input.table, before)
    codes = torch.arange(256).float().reshape(1, 1, 16, 16)
    with torch.no_grad():
        rows = network.input(codes)
    levels = rows.value / rows.scale
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert 0 <= float(levels.min()) <= float(levels.max()) <= 15.001


def test_unfit_starts_are_refused(start, tmp_path):
    with pytest.raises(IntsimError, match=r"widths \[4, 4, 4, 4\], the recipe wants \[8, 4, 4, 4\]"):
        start_network(quantized_recipe(start, widths=[8, 4, 4, 4]))
    with pytest.raises(IntsimError, match="order 2, the recipe wants 3"):
        start_network(quantized_recipe(start, order=3))
    with pytest.raises(IntsimError, match="no such checkpoint"):
        start_network(quantized_recipe(tmp_path / "none.pt"))
    with pytest.raises(IntsimError, match="write a seed"):
        start_network(quantized_recipe("p3_s{seed}.pt"))
    state = torch.load(start, weights_only=True)
    recipe = quantized_recipe(start)
    torch.save({**state, "recipe": recipe, "network": start_network(recipe).state_dict()}, tmp_path / "again.pt")
    with pytest.raises(IntsimError, match="holds a quantized network"):
        start_network(quantized_recipe(tmp_path / "again.pt"))


@pytest.mark.parametrize("name", RECIPES)
def test_the_studys_recipes_begin_with_runs_of_the_study(name):
    """Equal steps and rates for all schemes, and for all first layers; the network is its start's but for noise."""
    recipe = read_recipe(STUDY / f"{name}.toml")
    assert recipe["name"] == name
    if "quantization" not in recipe:
        assert name == "first_start"
        return
    start = Path(recipe["quantization"]["start"])
    assert start.parent == Path("out/study/checkpoints")
    origin = read_recipe(STUDY / f"{start.name.removesuffix('_s{seed}.pt')}.toml")
    assert recipe["network"] | {"noise": 0.0} == origin["network"] | {"noise": 0.0}
    assert recipe["data"] == origin["data"]
    like = read_recipe(STUDY / ("first_8bit.toml" if name.startswith("first") else "q_p0_w8a8.toml"))
    assert recipe["training"] == like["training"]
