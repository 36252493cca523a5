"""The study's committed networks: files that belong together, integers from end to end, verdicts as they must be."""

import json

import pytest

import intsim
from models.disparity import described
from models.recipe import checked
from models.study.runs import RESULTS, recipe_of
from models.study.zoo import GRID, STUDY_ZOO, card

RUNS = sorted(path.name.removesuffix(".qonnx.onnx") for path in STUDY_ZOO.glob("*.qonnx.onnx"))
FLOAT_FIRST = {run for run in RUNS if run.startswith("first_float")}
EVERYDAY = ("p3_s0", "c1_s0", "dpt_p0_s0", "first_embedding_s0")


def model(run):
    return intsim.load(STUDY_ZOO / f"{run}.qonnx.onnx")


def test_the_main_grid_is_there():
    assert {f"{name}_s0" for name in GRID} <= set(RUNS)
    assert set(EVERYDAY) <= set(RUNS)


@pytest.mark.parametrize("run", RUNS)
def test_network_recipe_results_and_card_belong_together(run):
    document = json.loads((STUDY_ZOO / f"{run}.json").read_text())
    recipe = recipe_of(run)
    assert checked(document["training"]["recipe"]) == recipe
    assert document["training"]["step"] == recipe["training"]["steps"]
    assert document["input"]["shape"] == list(described(recipe).input_shape)
    result = json.loads((RESULTS / f"{run}.json").read_text())
    assert (STUDY_ZOO / f"{run}.md").read_text() == card(run, f"{run}.qonnx.onnx", document, result)


@pytest.mark.parametrize("run", [pytest.param(run, marks=() if run in EVERYDAY else pytest.mark.slow) for run in RUNS])
def test_integers_only_and_exact(run):
    network = model(run)
    prologue = network.lowered.prologue.names
    assert bool(prologue) == (run in FLOAT_FIRST), prologue
    assert not network.lowered.epilogue.names
    verdict = intsim.verify(network, "exact", references=False)
    assert (verdict.verdict, verdict.holds) == ("exact", True)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_certificates_say_what_they_must(run):
    """The definition is certified; registers that saturate at 16 bits never are."""
    network = model(run)
    assert intsim.certify(network, "exact").verdict == "certified"
    if "a2q" not in run:
        assert intsim.certify(network, "saturate-16").verdict != "certified"


@pytest.mark.parametrize("run", [run for run in RUNS if "a2q" in run])
def test_accumulator_aware_networks_keep_their_width(run):
    bits = recipe_of(run)["quantization"]["accumulator_bits"]
    assert intsim.certify(model(run), f"a2q-{bits}").verdict == "certified"
