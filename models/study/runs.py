"""The study's runs: a recipe and a seed each, named RECIPE_sSEED, such as ``p3_s0``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError
from models.recipe import read_recipe

RECIPES = Path(__file__).parents[1] / "recipes" / "study"
RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "study.md"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
OUT = Path("out/study")
"""Checkpoints and network outputs; nothing in it is needed to make the page."""

SEEDS = (0, 1, 2)


def names() -> list[str]:
    """All recipes of the study, in alphabetical order."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def split(run: str) -> tuple[str, int]:
    """Recipe and seed of a run's name.

    Raises:
        IntsimError: not of the form RECIPE_sSEED, or there is no such recipe.
    """
    match = re.fullmatch(r"(.+)_s(\d+)", run)
    if not match or match[1] not in names():
        raise IntsimError(f"{run}: no run of the study; give RECIPE_sSEED with a recipe of {', '.join(names())}")
    return match[1], int(match[2])


def recipe_of(run: str) -> dict[str, Any]:
    """The recipe of one run: its own name, the seed added to the recipe's, ``{seed}`` filled in."""
    name, seed = split(run)
    recipe = read_recipe(RECIPES / f"{name}.toml")
    recipe["name"] = run
    recipe["training"]["seed"] += seed
    if "quantization" in recipe:
        recipe["quantization"]["start"] = recipe["quantization"]["start"].replace("{seed}", str(seed))
    return recipe


def checkpoint(run: str, out: Path = OUT) -> Path:
    """Where a run's checkpoint lies."""
    return out / "checkpoints" / f"{run}.pt"


def expand(chosen: list[str]) -> list[str]:
    """Run names as they are, recipe names as one run for each seed; all recipes where nothing is named."""
    known = names()
    return [r for name in (chosen or known) for r in ([f"{name}_s{s}" for s in SEEDS] if name in known else [name])]
