from pathlib import Path

import pytest

from intsim.errors import IntsimError
from models.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "models" / "recipes"


def test_the_two_recipes_differ_in_name_and_order_only():
    plain, hilbert = read_recipe(RECIPES / "dispnet.toml"), read_recipe(RECIPES / "h3dispnet.toml")
    assert (plain["name"], plain["network"].pop("order")) == ("dispnet", 0)
    assert (hilbert["name"], hilbert["network"].pop("order")) == ("h3dispnet", 3)
    del plain["name"], hilbert["name"]
    assert plain == hilbert


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "dispnet"', "", "name: Field required"),
        ("[data]", "[date]", "data: Field required"),
        ("steps ", "stops ", "training.steps: Field required"),
        ("batch          = 16", 'batch = "16"', "training.batch: .*integer"),
        ("batch          = 16", "batch = true", "training.batch: .*integer"),
        ("batch          = 16", "batch = 99999999", "batch must be"),
        ("batch          = 16", "batch = -1", "training.batch: .*greater"),
        ("height     = 64", "height = 60", "multiple of 16"),
        ("[network]", "[network", "can't be read"),
        ("noise  = 0.1", "noise = nan", "network.noise"),
        ("noise  = 0.1", "noise = 0.1\nguide = true", "its own guide"),
        ("noise  = 0.1", "noise = 0.1\nunknown = 1", "network.unknown: Extra"),
        ("noise  = 0.1", "noise = 0.1\ndimensions = 4", "network.dimensions"),
        ('name = "dispnet"', 'name = "../dispnet"', "name"),
    ],
)
def test_bad_recipes_are_one_clear_line(tmp_path, old, new, complaint):
    text = (RECIPES / "dispnet.toml").read_text()
    assert old in text
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(IntsimError, match=complaint) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(IntsimError, match="can't be read"):
        read_recipe(tmp_path / "none.toml")
