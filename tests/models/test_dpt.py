import os
import signal
import tomllib
from pathlib import Path

import pytest
import torch
from tiny_dpt import WIDTHS, settled
from torch import nn
from torch.nn import functional

from intsim.errors import IntsimError
from models import train as training
from models.checkpoint import untrained_network
from models.dpt import GRID, HEAD_WIDTH, Attention, TransformerBlock
from models.networks import Scale, fold
from models.recipe import read_recipe
from models.train import train

RECIPES = Path("models/recipes/study")
SIZE = (2, 33, 16, 24)


@pytest.mark.parametrize(("order", "dimensions", "guide"), [(0, 2, False), (1, 2, False), (3, 2, True), (2, 3, False)])
def test_shapes_and_heads(order, dimensions, guide):
    network = settled(order, dimensions=dimensions, guide=guide)
    names = ["q"] if order == 0 else ["x", "y", "z"][:dimensions] + ["guide"] * guide
    assert list(network.heads) == names
    assert network(torch.randint(0, 256, SIZE).float()).shape == (2, len(names), 16, 24)


def test_recipes_differ_in_the_heads_only():
    networks = [untrained_network(read_recipe(RECIPES / f"dpt_p{order}.toml")) for order in range(5)]
    shapes = [{k: v.shape for k, v in n.state_dict().items() if not k.startswith("heads")} for n in networks]
    assert all(s == shapes[0] for s in shapes)
    assert [n.order for n in networks] == [0, 1, 2, 3, 4]
    counts = [sum(p.numel() for p in n.parameters()) for n in networks]
    assert 150_000 < counts[0] < 200_000
    assert {c - counts[0] for c in counts[1:]} == {16 * 9 + 1}


@pytest.mark.parametrize("order", range(5))
def test_recipes_train_as_the_other_family_does(order):
    ours, theirs = (tomllib.loads((RECIPES / f"{p}p{order}.toml").read_text()) for p in ("dpt_", ""))
    assert ours["data"] == theirs["data"]
    assert ours["training"] == theirs["training"]
    assert ours["network"]["noise"] == theirs["network"]["noise"]
    assert ours["name"] == f"dpt_p{order}"


@pytest.mark.parametrize("order", [0, 3])
def test_folding_changes_nothing_but_rounding(order):
    network = settled(order)
    folded = fold(network)
    codes = torch.randint(0, 256, SIZE).float()
    torch.testing.assert_close(folded(codes), network(codes), rtol=0, atol=2e-5)
    assert not any(isinstance(m, nn.BatchNorm2d | Scale) for m in folded.modules())
    assert sum(isinstance(m, nn.LayerNorm) for m in folded.modules()) == 6
    with pytest.raises(IntsimError, match="no batch normalization"):
        fold(folded)


def test_folding_is_exact_in_double_precision():
    """But for the one rounding of each weight to float32, of which a difference of 1e-6 is left."""
    network = settled(2)
    folded, codes = fold(network).double(), torch.randint(0, 256, SIZE).double()
    torch.testing.assert_close(folded(codes), network.double()(codes), rtol=0, atol=2e-6)


def test_attention_is_what_torch_calls_attention():
    torch.manual_seed(0)
    layer, x = Attention(2 * HEAD_WIDTH), torch.randn(3, 10, 2 * HEAD_WIDTH)
    parts = [m(x).unflatten(-1, (2, HEAD_WIDTH)).transpose(1, 2) for m in (layer.query, layer.key, layer.value)]
    wanted = layer.project(functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), wanted, rtol=1e-5, atol=1e-6)


def test_transformer_block_is_torchs_pre_norm_encoder_layer():
    torch.manual_seed(0)
    width = 2 * HEAD_WIDTH
    block = TransformerBlock(width)
    other = nn.TransformerEncoderLayer(
        width, 2, 2 * width, dropout=0, activation="gelu", batch_first=True, norm_first=True
    )
    attention = block.attention
    stacked = [getattr(attention, name) for name in ("query", "key", "value")]
    other.self_attn.in_proj_weight.data = torch.cat([m.weight.data for m in stacked])
    other.self_attn.in_proj_bias.data = torch.cat([m.bias.data for m in stacked])
    other.self_attn.out_proj.load_state_dict(attention.project.state_dict())
    for name, module in {"linear1": block.expand, "linear2": block.reduce}.items():
        getattr(other, name).load_state_dict(module.state_dict())
    x = torch.randn(2, 7, width)
    torch.testing.assert_close(block(x), other(x), rtol=1e-5, atol=1e-5)


def test_every_parameter_gets_a_gradient():
    network = settled(2).train()
    network(torch.randint(0, 256, (2, 33, 32, 64)).float()).square().mean().backward()
    lost = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a bias of all keys adds the same to every score of a row, which Softmax takes out again: its gradient is rounding
    assert not [n for n in lost if not n.endswith("key.bias")]


def test_pairs_of_a_batch_do_not_meet():
    network, codes = settled(1), torch.randint(0, 256, SIZE).float()
    alone = torch.cat([network(codes[:1]), network(codes[1:])])
    torch.testing.assert_close(network(codes), alone, rtol=0, atol=1e-5)


def test_tokens_see_the_whole_image_and_know_where_they_are():
    network = settled(1)
    codes = torch.zeros(1, 33, 32, 64)
    changed = codes.clone()
    changed[..., :4, :4] = 255
    difference = (network(changed) - network(codes)).abs()[0, 0]
    assert difference[-4:, -4:].max() > 0
    network.position.data *= 10
    inside = network(codes)[0, 0, 12:20, 12:52]
    assert inside.std() > 0


def test_the_position_is_interpolated_on_other_grids():
    network = settled(0)
    assert network.position_on(*GRID) is network.position
    other = network.position_on(2 * GRID[0], 2 * GRID[1])
    assert other.shape == (1, WIDTHS[2], 2 * GRID[0], 2 * GRID[1])
    network.position.data[:] = torch.arange(GRID[1]).float()  # a ramp stays one
    ramp = network.position_on(2 * GRID[0], 2 * GRID[1])[0, 0, 0]
    torch.testing.assert_close(ramp[1:-1], (torch.arange(2 * GRID[1]).float() - 0.5)[1:-1] / 2)


@pytest.mark.parametrize("widths", [(4, 4), (4, 4, 16, 16), (4, 4, 24)])
def test_widths_are_checked(widths):
    with pytest.raises(IntsimError, match="takes three, the last a multiple of 16"):
        settled(0, widths)


@pytest.mark.slow  # test_train.py and test_finetune.py interrupt smaller networks every day
def test_training_goes_on_bit_for_bit(tmp_path, monkeypatch):
    document = tomllib.loads((RECIPES / "dpt_p2.toml").read_text())
    document["network"]["widths"] = list(WIDTHS)
    document["data"] |= {"height": 32, "width": 48, "train": 4, "validation": 2}
    document["training"] |= {"steps": 3, "batch": 2, "validate_every": 3, "warmup": 1}
    monkeypatch.setattr(training, "NORMALIZATION_BATCHES", 2)
    whole = torch.load(train(document, tmp_path / "whole"), weights_only=True)
    original = training.optimizer_step

    def interrupted(network, optimizer, batch, step, table, meta):
        if step == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return original(network, optimizer, batch, step, table, meta)

    monkeypatch.setattr(training, "optimizer_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(document, tmp_path / "parts")
    parts = torch.load(train(document, tmp_path / "parts"), weights_only=True)
    assert parts["validation"] == whole["validation"]
    for key, tensor in whole["network"].items():
        assert torch.equal(parts["network"][key], tensor), key
