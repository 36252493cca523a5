import json

import numpy as np
import pytest
import torch

from intsim.errors import IntsimError
from models.disparity import Network, float_disparity, target
from models.recipe import checked
from models.study import measure as measuring
from models.study import runs
from models.study.decoders import decode_codes, decode_floats, decoders, ramp
from models.study.measure import entries_of, measure, sets_of
from models.study.outputs import outputs, weights_only

PLAIN = Network("n", 0, 32, 48)
KINDS = [
    PLAIN,
    Network("n", 2, 32, 48),
    Network("n", 3, 32, 48, guide=True),
    Network("n", 1, 32, 48, dimensions=3),
    Network("n", 2, 32, 48, dimensions=3, guide=True),
]


def name(network):
    return f"{network.order}-{network.dimensions}-{network.guide}"


@pytest.mark.parametrize("network", KINDS, ids=name)
def test_every_decoder_inverts_the_target(network):
    """Of points on the curve all decoders make the disparity they stand for, in floats and, but for rounding, codes."""
    truth = np.linspace(0, 23.9, 400).reshape(1, 20, 20)
    wanted = target(truth, network)
    codes = np.clip(np.rint(wanted * 256), -128, 127).astype(np.int8)
    for how in decoders(network):
        step = network.disparity_range / 256 if how == "guide" else 2 * network.disparity_range / network.steps
        found, trusted = decode_floats(wanted, network, how)
        assert trusted.all()
        np.testing.assert_allclose(found, truth, rtol=0, atol=1e-4, err_msg=how)
        found, trusted = decode_codes(codes, network, how)
        assert trusted.all()
        np.testing.assert_allclose(found, truth, rtol=0, atol=step, err_msg=how)


@pytest.mark.parametrize("network", KINDS, ids=name)
def test_floats_and_codes_are_decoded_by_one_rule(network):
    """On codes anywhere in the square both ways agree, but where two branches are as good up to one rounding."""
    codes = np.random.default_rng(0).integers(-128, 128, (4, network.heads, 40, 40)).astype(np.int8)
    for how in decoders(network):
        floats, trusted = decode_floats(codes / 256, network, how)
        fixed, confident = decode_codes(codes, network, how)
        close = np.abs(floats - fixed) <= 2 * network.disparity_range / min(network.steps, 256)
        assert close.mean() > 0.97, how
        assert (trusted == confident).mean() > 0.97, how


def test_the_first_decoder_is_the_one_that_training_validates():
    network = KINDS[2]
    output = np.random.default_rng(1).normal(0, 0.3, (2, 3, 8, 8))
    np.testing.assert_allclose(decode_floats(output, network, "nearest")[0], float_disparity(output, network))


def test_a_wrong_branch_costs_no_more_than_the_window():
    network = KINDS[2]
    truth = np.full((1, 1, 1), 12.0)
    output = target(truth, network)
    output[:, :2] = 0.4  # a far corner, while the guide is right
    assert abs(decode_floats(output, network, "nearest")[0].item() - 12) > 1.5
    assert abs(decode_floats(output, network, "window")[0].item() - 12) <= 1.5 + 1e-9
    codes = np.rint(output * 256).astype(np.int8)
    assert abs(decode_codes(codes, network, "window")[0].item() - 12) <= 1.6


def test_the_blend_has_left_the_curve_half_an_edge_away():
    for network in KINDS[1:]:
        far, bits = ramp(network)
        assert far * 2 == network.spacing
        assert far * far / 2 <= 2 * (1 << bits) <= 2 * far * far


def test_runs_are_a_recipe_and_a_seed():
    recipe = runs.recipe_of("p3_s2")
    base = runs.read_recipe(runs.RECIPES / "p3.toml")
    assert recipe["name"] == "p3_s2"
    assert recipe["training"]["seed"] == base["training"]["seed"] + 2
    assert runs.split("c2_guide_s1") == ("c2_guide", 1)
    assert runs.expand(["p3", "p0_s7"]) == ["p3_s0", "p3_s1", "p3_s2", "p0_s7"]
    assert set(runs.expand([])) == {f"{n}_s{s}" for n in runs.names() for s in runs.SEEDS}
    for bad in ("p3", "p9_s0", "p3_s", "../p3_s0"):
        with pytest.raises(IntsimError, match="no run of the study"):
            runs.recipe_of(bad)


def test_networks_that_are_compared_were_trained_equally():
    """The grid differs in head and noise only; each variant in one thing from the network it is compared with."""
    plain = runs.read_recipe(runs.RECIPES / "p0.toml")
    for other in [f"p{p}" for p in range(1, 5)] + ["c1", "c2"] + [f"p{p}_still" for p in range(5)]:
        recipe = runs.read_recipe(runs.RECIPES / f"{other}.toml")
        assert recipe["data"] == plain["data"], other
        assert recipe["training"] == plain["training"], other
        free = {"order", "dimensions", "noise"}
        assert {k: v for k, v in recipe["network"].items() if k not in free} == {
            k: v for k, v in plain["network"].items() if k not in free
        }, other
        assert recipe["network"]["noise"] == (0.0 if other.endswith("_still") else 0.1)


def _tiny(order, **network):
    return checked(
        {
            "name": "tiny_s0",
            "network": {"order": order, "widths": [4, 4, 4, 4], "noise": 0.1, **network},
            "data": {"height": 32, "width": 48, "train": 4, "validation": 2, "scenes": "hard"},
            "training": {
                "seed": 1,
                "steps": 2,
                "batch": 2,
                "learning_rate": 1e-2,
                "warmup": 1,
                "weight_decay": 0.0,
                "invalid_weight": 0.25,
                "bfloat16": False,
                "validate_every": 2,
            },
        }
    )


def test_train_outputs_and_measure_from_one_end_to_the_other(tmp_path, monkeypatch):
    """A tiny guided network through all three stages; the results hold every target and decoder, and agree with it."""
    from models import train as training
    from models.study import cost
    from models.study import outputs as putting

    recipe = _tiny(2, guide=True)
    for module in (runs, putting, measuring):
        monkeypatch.setattr(module, "recipe_of", lambda run: recipe)
    for module in (measuring, putting):
        monkeypatch.setattr(module, "split", lambda run: ("tiny", 0))
    monkeypatch.setattr(training, "NORMALIZATION_BATCHES", 2)
    monkeypatch.setattr(putting, "PAIRS", {"validation": 1, "test": 2})
    monkeypatch.setattr(putting, "CALIBRATION_PAIRS", 4)
    monkeypatch.setattr(putting, "TARGETS", ("exact", "saturate-16"))
    monkeypatch.setattr(putting, "real_pairs", lambda *size: [])
    monkeypatch.setattr(cost, "REPEATS", 1)
    training.train(recipe, tmp_path / "checkpoints")
    path = outputs("tiny_s0", tmp_path)
    stamp = path.stat().st_mtime_ns
    assert outputs("tiny_s0", tmp_path).stat().st_mtime_ns == stamp  # found, not made again
    with np.load(path) as arrays:
        arrays = dict(arrays)
    assert arrays["test/fp32"].shape == (2, 3, 16, 24)
    assert arrays["test/w8a8/exact"].dtype == np.int8
    assert np.abs(arrays["test/fp32"] - arrays["test/w8a8/exact"] / 256).mean() < 0.1
    assert (arrays["test/w8a8/exact"] != arrays["test/w8a8/saturate-16"]).any()
    document = json.loads(measure("tiny_s0", tmp_path, tmp_path / "results").read_text())
    assert sets_of(arrays) == ["test"]
    entries = document["sets"]["generated"]["entries"]
    assert document["sets"]["generated"]["pairs"] == 2
    kinds = {(e["precision"], e["target"]) for e in entries}
    assert kinds == {("fp32", None), ("w8a8-cpu", None), ("w8a8", "exact"), ("w8a8", "saturate-16")}
    assert {e["decoder"] for e in entries} == set(decoders(Network("n", 2, 32, 48, guide=True)))
    assert all(("error" in e) == (e["precision"] != "fp32") for e in entries)
    assert all(0 <= e["coverage"] <= 1 and (e["coverage"] == 1 or e["decoder"] == "masked") for e in entries)
    assert document["cost"]["macs"]["heads"] == 3 * 16 * 24 * 4 * 9
    assert document["cost"]["bytes"]["outputs"] == 3 * 16 * 24
    assert entries == json.loads(json.dumps(measuring.rounded(entries_of("test", arrays, _network()))))["entries"]


def _network():
    return Network("tiny_s0", 2, 32, 48, guide=True)


def test_weights_alone_are_quantized_for_the_cpu_column():
    """The float network with the file's weights differs from both others, and its weights lie on the grid."""
    from models.networks import DispNet, fold
    from models.quantize import quantize

    torch.manual_seed(0)
    folded = fold(DispNet(1, (4, 4, 4, 4)))
    codes = [torch.randint(0, 256, (2, 33, 16, 24)).float()]
    quantized = quantize(folded, codes)
    mixed = weights_only(folded, quantized)
    layer = dict(quantized.named_modules())["enc1.0.conv"]
    scale = layer.quant_weight().scale
    whole = dict(mixed.named_modules())["enc1.0.conv"].weight / scale
    assert torch.allclose(whole, whole.round(), atol=1e-3)
    with torch.no_grad():
        outputs = [network(codes[0]) for network in (folded, mixed, quantized)]
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[1], outputs[2])


@pytest.mark.slow
def test_smoke_training_of_a_row_of_the_study(tmp_path, monkeypatch):
    """The recipe of p1, cut short: it learns more than the mean, and its integers keep what it has learnt."""
    from models import train as training
    from models.study import outputs as putting
    from models.study.metrics import accuracy, error

    recipe = runs.recipe_of("p1_s0")
    recipe["data"] |= {"train": 96, "validation": 8, "scenes": "plain"}
    recipe["training"] |= {"steps": 120, "batch": 8, "warmup": 10, "validate_every": 60}
    monkeypatch.setattr(putting, "recipe_of", lambda run: recipe)
    monkeypatch.setattr(putting, "PAIRS", {"test": 4})
    monkeypatch.setattr(putting, "CALIBRATION_PAIRS", 16)
    monkeypatch.setattr(putting, "TARGETS", ("exact",))
    monkeypatch.setattr(putting, "real_pairs", lambda *size: [])
    training.train(recipe, tmp_path / "checkpoints")
    with np.load(outputs("p1_s0", tmp_path)) as stored:
        arrays = dict(stored)
    network = Network("p1_s0", 1, 64, 128)
    truth, valid = arrays["test/disparity"], arrays["test/valid"]
    floats = decode_floats(arrays["test/fp32"], network, "nearest")[0]
    integers = decode_codes(arrays["test/w8a8/exact"], network, "nearest")[0]
    constant = accuracy(np.full_like(truth, np.median(truth)), truth, valid)["epe"]
    assert accuracy(floats, truth, valid)["epe"] < 0.8 * constant
    assert error(integers, floats)["median"] < 0.1
