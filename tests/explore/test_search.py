"""Searches: fronts by definition, points against runs of their files, uniform networks, resuming, refusals."""

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from frontend.build import Net

import intsim
from intsim.errors import IntsimError
from intsim.explore.metrics import Metric
from intsim.explore.network_costs import COSTS, widths
from intsim.explore.search import Network, Problem, front_of, knee_of, search
from intsim.targets import Target

pytest.importorskip("optuna")
RNG = np.random.default_rng(0)


def model():
    """Two layers with biases behind one another, weights of 8 bits."""
    rng = np.random.default_rng(5)
    net = Net()
    x = net.quant(net.input(1, 6), 0.25, 0, 8)
    for i, (inside, outside) in enumerate(((6, 5), (5, 4))):
        w = net.quant(rng.integers(-127, 128, (inside, outside)).astype(np.float32) / 64, 1 / 64, 0, 8, narrow=1)
        y = net.node("MatMul", x, w)
        net.nodes[-1].name = f"layer{i}"
        x = net.quant(y, 2.0, 0, 8)
    return intsim.load(net.model(x))


def data(loaded, count=3):
    return [intsim.inputs.draw(loaded, seed) for seed in range(count)]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_fronts_by_definition(values):
    flags = front_of(values)
    for i, (own, flag) in enumerate(zip(values, flags, strict=True)):
        beaten = any(all(a <= b for a, b in zip(x, own, strict=True)) and x != own for x in values)
        assert flag == (not beaten and own not in values[:i])


def test_the_knee():
    assert knee_of([(0, 10), (1, 2), (10, 0)]) == 1
    assert knee_of([(0, 10), (10, 0)]) is None
    assert knee_of([(0, 5, 10), (1, 5, 2), (10, 5, 0)]) == 1  # an objective that never varies has no say


def test_points_are_what_their_files_do(tmp_path):
    """Each point of the front, run anew from the model and the target that it names: metric, costs, proofs."""
    loaded = model()
    given = data(loaded)
    costs = ["register_bits", "weight_bits", "bops", "mac_bits", "activation_bits"]
    found = search(
        loaded, "saturate-32", given, weights=(3, 8), activations=(4, 8), slack=3, metric="sqnr", costs=costs, trials=60
    )
    assert {p.uniform for p in found.points} == {True, False}
    assert any(not p.proven for p in found.points)
    truth = [intsim.run(loaded, inputs=x).outputs for x in given]
    for point in found.front[:12]:
        smaller = intsim.load(intsim.narrow(loaded, point.weights, point.activations))
        target = Target.from_toml(point.toml, "point")
        runs = [intsim.run(smaller, target, x) for x in given]
        scores = []
        for run, exact in zip(runs, truth, strict=True):
            (got,), (want,) = run.outputs.values(), exact.values()
            noise = float(((got.astype(float) - want) ** 2).sum())
            scores.append(np.inf if noise == 0 else 10 * np.log10(float((want.astype(float) ** 2).sum()) / noise))
        finite = [s for s in scores if np.isfinite(s)]
        assert point.values[0] == pytest.approx(np.mean(finite) if finite else np.inf)
        assert point.overflows == sum(int(e.sum()) for r in runs for e in r.overflows.values())
        assert intsim.bounds(smaller, target).safe == point.proven
        net = widths(smaller.graph, target)
        assert point.values[1:] == tuple(COSTS[c](net) for c in costs)
        stages = {x.name: [s.bits for s in x.stages] for x in intsim.bounds(smaller, target).layers}
        assert stages == point.registers


def test_costs_by_hand():
    """6 to 5 to 4 values, u... of the codes that there are: weights of 8 bits, activations of 8."""
    net = widths(model().graph, Target.load("saturate-32"))
    assert COSTS["bops"](net) == (30 + 20) * 8 * 8
    assert COSTS["mac_bits"](net) == (30 + 20) * 32
    assert COSTS["register_bits"](net) == (5 + 4) * 32
    assert COSTS["weight_bits"](net) == (30 + 20) * 8
    assert COSTS["activation_bits"](net) == (6 + 5 + 4) * 8
    assert COSTS["requantizer_bits"](net) == 0
    fixed = widths(model().graph, Target.load("fixed-point-16"))
    assert COSTS["requantizer_bits"](fixed) == (5 + 4) * 32 * 16
    assert COSTS["dsps-xilinx"](net) == 2


def test_uniform_networks_are_beaten():
    """Each starts a point whose registers are as narrow as is proven layer by layer."""
    loaded = model()
    found = search(
        loaded, "saturate-32", data(loaded), weights=(5, 8), costs=["register_bits"], metric="sqnr", trials=4
    )
    assert [sorted(set(p.weights.values())) for p in found.uniform] == [[5], [6], [7], [8]]
    for uniform, own in itertools.zip_longest(found.uniform, [p for p in found.points if not p.uniform]):
        assert uniform.weights == own.weights
        assert uniform.values[0] == own.values[0]
        assert uniform.values[1] >= own.values[1]
        assert uniform.proven
        assert len({tuple(b) for b in uniform.registers.values()}) == 1
    tried = [p for p in found.points if not p.uniform]

    def beaten(uniform):
        pairs = [(p.values[0] - uniform.values[0], uniform.values[1] - p.values[1]) for p in tried]
        return any(better >= 0 and cheaper >= 0 and (better > 0 or cheaper > 0) for better, cheaper in pairs)

    assert found.dominated == sum(map(beaten, found.uniform))


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_an_interrupted_search_goes_on(tmp_path, monkeypatch, sampler):
    """What was tried is there, nothing is tried twice, and a seed gives the same points."""
    loaded = model()
    given = data(loaded)
    asked = {"weights": (4, 8), "slack": 1, "costs": ["register_bits"], "sampler": sampler}
    tried = []

    def stop(text):
        if text.startswith("point"):
            tried.append(text)
            if len(tried) == 6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(loaded, "saturate-32", given, trials=9, folder=tmp_path, progress=stop, **asked)
    found = search(loaded, "saturate-32", given, trials=9, folder=tmp_path, **asked)
    assert (found.resumed, found.trials) == (5, 9)
    whole = search(loaded, "saturate-32", given, trials=9, **asked)
    plain = [replace(p, toml=None, front=False, knee=False) for p in found.points]
    assert plain[:10] == [replace(p, toml=None, front=False, knee=False) for p in whole.points][:10]
    assert search(loaded, "saturate-32", given, trials=9, **asked).points == whole.points
    with monkeypatch.context() as never:  # what is there is not evaluated again, uniform networks neither
        never.setattr(Problem, "_point", None)
        again = search(loaded, "saturate-32", given, trials=9, folder=tmp_path, **asked)
    assert again.points == found.points
    with pytest.raises(IntsimError, match="holds a search with another ranges; --restart begins anew"):
        search(loaded, "saturate-32", given, trials=9, folder=tmp_path, **{**asked, "slack": 2})
    again = search(loaded, "saturate-32", given, trials=3, folder=tmp_path, restart=True, **{**asked, "slack": 2})
    assert again.resumed == 0


def test_multipliers_are_searched():
    loaded = model()
    found = search(loaded, "fixed-point-32", data(loaded), multiplier=(4, 16), costs=["requantizer_bits"], trials=20)
    assert len(found.uniform) == 13
    assert all(p.proven for p in found.points)
    for point in found.front:
        target = Target.from_toml(point.toml, "point")
        assert {r.layer: r.requantize.multiplier_bits for r in target.when} == {
            (n,): b for n, b in point.multiplier_bits.items()
        }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "nothing to vary; give ranges"),
        ({"weights": ("4", 8)}, "weights 4:8; allowed"),
        ({"slack": 1.5}, "slack 1.5; allowed"),
        ({"weights": (8, 4)}, r"weights 8:4; allowed: 1\.\.32, the least first"),
        ({"multiplier": (2, 4)}, r"multiplier 2:4; allowed: 4\.\.32"),
        ({"slack": -1}, r"slack -1; allowed: 0\.\.32"),
        ({"slack": 1, "costs": ["gates"]}, "cost 'gates'; allowed: bops"),
        ({"slack": 1, "costs": ["bops", "bops"]}, "cost one twice"),
        ({"slack": 1, "metric": "epe"}, "metric epe needs labels"),
        ({"slack": 1, "trials": 0}, "0 trials"),
        ({"slack": 1, "sampler": "grid"}, "sampler 'grid'; allowed: nsga2, tpe"),
        ({"slack": 1, "storage": "sqlite:////proc/none/x.sqlite"}, "can't be used as a storage"),
        ({"slack": 1, "storage": "nothing"}, "can't be used as a storage"),
    ],
)
def test_what_can_not_be_searched(changes, words):
    loaded = model()
    with pytest.raises(IntsimError, match=words):
        search(loaded, "saturate-32", data(loaded, 1), **{"trials": 2, **changes})


def test_the_document():
    loaded = model()
    found = search(loaded, "saturate-32", data(loaded, 1), slack=1, trials=2, metric="sqnr")
    content = found.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["points"][0]["values"][0] is None  # nothing is lost: an infinite SQNR


def test_registers_that_a_data_set_needs():
    """One bit less in any register overflows on these inputs; the file's target doesn't."""
    loaded = model()
    given = data(loaded)
    found = intsim.propose_observed(loaded, "saturate-32", given)
    assert found.overflows == 0
    assert all(sum(int(e.sum()) for e in intsim.run(loaded, found.load(), x).overflows.values()) == 0 for x in given)
    assert found.register_bits < found.proven_register_bits == intsim.propose(loaded, "saturate-32").register_bits
    for layer in found.layers:
        assert layer.bits == layer.observed_bits
        held = f'layer = "{layer.name}"'
        content = found.toml.split("[[when]]")
        (at,) = [i for i, t in enumerate(content) if held in t or f'"{layer.name}"' in t]
        content[at] = content[at].replace(f"bits = {layer.bits[0]}", f"bits = {layer.bits[0] - 1}")
        less = Target.from_toml("[[when]]".join(content), "less")
        assert any(sum(int(e.sum()) for e in intsim.run(loaded, less, x).overflows.values()) for x in given)


def test_registers_that_keep_a_metric():
    loaded = model()
    given = data(loaded)
    found = intsim.propose_observed(loaded, "saturate-32", given, metric="mae", keep=8.0)
    truth = [next(iter(intsim.run(loaded, inputs=x).outputs.values())) for x in given]
    runs = [intsim.run(loaded, found.load(), x) for x in given]
    gaps = [np.abs(next(iter(r.outputs.values())) - t).mean() for r, t in zip(runs, truth, strict=True)]
    assert found.value == pytest.approx(np.mean(gaps))
    assert found.proven_value == 0 < found.value <= 8
    assert found.overflows == sum(int(e.sum()) for r in runs for e in r.overflows.values()) > 0
    assert any(x.bits[0] < x.observed_bits[0] for x in found.layers)
    with pytest.raises(IntsimError, match="go together; give both or none"):
        intsim.propose_observed(loaded, "saturate-32", given, keep=1.0)
    with pytest.raises(IntsimError, match="mae is 0 with proven registers already; -1 can't be kept"):
        intsim.propose_observed(loaded, "saturate-32", given, metric="mae", keep=-1.0)


def deep(seed, names, scale):
    rng = np.random.default_rng(seed)
    net, sizes = Net(), (6, 5, 4, 3)
    x = net.quant(net.input(1, 6), 0.25, 0, 8)
    for name, inside, outside in zip(names, sizes, sizes[1:], strict=False):
        w = net.quant(rng.integers(-127, 128, (inside, outside)).astype(np.float32) / 64, 1 / 64, 0, 8, narrow=1)
        x = net.node("MatMul", x, w)
        net.nodes[-1].name = name
        x = net.quant(x, scale, 0, 8)
    return intsim.load(net.model(x))


def test_proofs_are_of_a_points_own_multipliers():
    """A coarser multiplier lets later layers see greater codes, for which they need more bits."""
    loaded = deep(14, ("l0", "l1", "l2"), 9.44)
    found = search(loaded, "fixed-point-16", data(loaded, 1), multiplier=(4, 6), costs=["register_bits"], trials=2)
    for point in found.points:
        target = Network(loaded, Target.load("fixed-point-16")).machine(point.registers, point.multiplier_bits, "p")[0]
        assert intsim.bounds(loaded, target).safe == point.proven


def test_layers_of_one_name_have_registers_for_all():
    loaded = deep(0, ("same", "same"), 2.0)
    given = data(loaded)
    found = intsim.propose_observed(loaded, "saturate-32", given)
    assert found.overflows == 0
    assert all(sum(int(e.sum()) for e in intsim.run(loaded, found.load(), x).overflows.values()) == 0 for x in given)
    own = intsim.propose_observed(deep(0, ("a", "b"), 2.0), "saturate-32", given).layers
    assert [x.bits for x in found.layers] == [[max(x.bits[0] for x in own)]]
    assert own[0].bits > own[1].bits


def test_a_metric_that_is_no_number():
    """Of any point, uniform ones too."""
    loaded = model()

    def fails_below_5(outputs, references, label):
        gap = sum(np.abs(outputs[n] - references[n]).sum() for n in outputs)
        return float("nan") if gap > 0 else 1.0

    given = data(loaded, 1)
    with pytest.raises(IntsimError, match="is no number on any sample"):
        search(loaded, "saturate-32", given, weights=(2, 8), metric=Metric("own", fails_below_5), trials=1)


def test_uniform_networks_are_counted_once():
    loaded = model()
    found = search(loaded, "saturate-32", data(loaded, 1), weights=(7, 20), costs=["bops"], trials=1)
    assert [set(p.weights.values()) for p in found.uniform] == [{7}, {8}]


def test_a_storage_of_another_program(tmp_path):
    import optuna

    storage = f"sqlite:///{tmp_path / 'other.sqlite'}"
    study = optuna.create_study(study_name="intsim", storage=storage, directions=["maximize", "minimize"])
    study.add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    loaded = model()
    with pytest.raises(IntsimError, match="holds a study named intsim that is no search"):
        search(loaded, "saturate-32", data(loaded, 1), slack=1, storage=storage, trials=2)
