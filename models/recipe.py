"""Training recipes: TOML files that hold everything that decides the outcome of a training run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError

_QUANTIZATION: dict[str, type] = {"start": str, "weights": str, "accumulator_bits": int}
"""Optional table: fine-tuning with accumulator-aware weights, from the zoo network `start`."""

_TABLES: dict[str, dict[str, type]] = {
    "network": {"order": int, "widths": list, "noise": float},
    "data": {"height": int, "width": int, "train": int, "validation": int},
    "training": {
        "seed": int,
        "steps": int,
        "batch": int,
        "learning_rate": float,
        "warmup": int,
        "weight_decay": float,
        "invalid_weight": float,
        "bfloat16": bool,
        "validate_every": int,
    },
}


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe: ``name`` and the tables ``network``, ``data`` and ``training``, every key given, none unknown.

    A fourth table, ``quantization``, makes it a recipe of `models.finetune`.

    Raises:
        IntsimError: the file can't be read, is not TOML, or a key is missing, unknown, of the wrong type or negative.
    """
    try:
        recipe = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise IntsimError(f"{path}: can't be read as a recipe ({error})") from None
    tables = {**_TABLES, **({"quantization": _QUANTIZATION} if "quantization" in recipe else {})}
    if set(recipe) != {"name", *tables} or not isinstance(recipe["name"], str):
        raise IntsimError(f"{path}: a recipe has name, {', '.join(f'[{t}]' for t in tables)}, not {', '.join(recipe)}")
    for table, keys in tables.items():
        given = recipe[table]
        if not isinstance(given, dict) or set(given) != set(keys):
            raise IntsimError(f"{path}: [{table}] must hold exactly {', '.join(keys)}")
        for key, kind in keys.items():
            value = given[key]
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise IntsimError(f"{path}: {table}.{key} is {value!r}; it must be of type {kind.__name__}")
            if isinstance(value, int | float) and value < 0:
                raise IntsimError(f"{path}: {table}.{key} is {value}; it can't be negative")
    data, training = recipe["data"], recipe["training"]
    if data["height"] % 16 or data["width"] % 16 or 0 in data.values():
        raise IntsimError(f"{path}: [data] height and width must be multiples of 16, and no entry 0")
    if not 0 < training["batch"] <= data["train"] or not training["steps"] or not training["validate_every"]:
        raise IntsimError(f"{path}: batch must be 1 to the number of training pairs; steps and validate_every above 0")
    return recipe
