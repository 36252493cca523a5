import json
import re

import pytest

from models.card import card
from models.disparity import ZOO, read_network
from models.recipe import checked, read_recipe
from models.stereo import generate

NAMES = ("dispnet", "h3dispnet", "h3dispnet_a2q", "h3dispnet_a2qplus")


def _results(value):
    figures = {"epe": value, "epe_median": value, "bad3": 0.1, "d1": 0.1}
    error = {"mean": value, "median": value, "rmse": value, "robust_sd": value, "jump_rate": 0.01}
    return {"A": {"fp32": figures, "w8a8": figures, "error": error}}


@pytest.mark.parametrize("name", NAMES)
def test_card_takes_its_facts_from_the_files(name):
    document = json.loads((ZOO / f"{name}.json").read_text())
    document["training"]["step"] = 4711
    text = card(read_network(name), document, _results(0.625))
    assert "4711 steps" in text
    assert "| A | FP32 | 0.625 |" in text
    assert "{" not in text


@pytest.mark.parametrize("name", NAMES)
def test_committed_card_and_metadata_belong_together(name):
    """All but the measured tables is what the files say now."""
    document = json.loads((ZOO / f"{name}.json").read_text())
    assert checked(document["training"]["recipe"]) == read_recipe(ZOO.parent / "recipes" / f"{name}.toml")
    assert document["training"]["step"] == document["training"]["recipe"]["training"]["steps"]
    expected = card(read_network(name), document, _results(0.0))
    without_tables = [re.sub(r"(?m)^\|.*\n", "", text) for text in (expected, (ZOO / f"{name}.md").read_text())]
    assert without_tables[0] == without_tables[1]


@pytest.mark.parametrize("name", NAMES)
def test_committed_card_has_figures_of_the_generated_and_the_real_pair(name):
    text = (ZOO / f"{name}.md").read_text()
    assert len(re.findall(r"(?m)^\| 64 generated test pairs \|", text)) == 3
    assert len(re.findall(r"(?m)^\| motorcycle", text)) == 3
    assert generate("test", 0, 32, 48).name not in text
