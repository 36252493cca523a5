"""From a run's network outputs to its results file: every decoder, target and set, with the metrics of the study."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from intsim.errors import IntsimError
from models.checkpoint import load_checkpoint
from models.disparity import Network, described
from models.layer_errors import measured
from models.study.cost import cost
from models.study.decoders import decode_codes, decode_floats, decoders
from models.study.metrics import accuracy, error
from models.study.outputs import Arrays
from models.study.runs import OUT, RESULTS, checkpoint, recipe_of, split


def measure(run: str, out: Path = OUT, results: Path = RESULTS) -> Path:
    """Write RUN.json from the checkpoint's record and the .npz of `models.study.outputs`; return its path.

    For the first seed of a transformer RUN_layers.json besides, its errors layer by layer.
    """
    recipe, (name, seed) = recipe_of(run), split(run)
    network = described(recipe)
    _, record = load_checkpoint(checkpoint(run, out))
    with np.load(out / "outputs" / f"{run}.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    table = recipe["network"]
    document = {
        "run": run,
        "recipe": name,
        "seed": seed,
        **{key: table[key] for key in ("family", "order", "dimensions", "guide", "noise", "inputs", "embedding")},
        "parameters": record["parameters"],
        "training": {**{k: record[k] for k in ("seconds", "device", "validation")}, "steps": record["step"]},
        "sets": {"generated" if s == "test" else s: entries_of(s, arrays, network) for s in sets_of(arrays)},
        "cost": cost(run, network, out),
    }
    results.mkdir(parents=True, exist_ok=True)
    if table["family"] == "dpt" and seed == 0:
        rows = measured(run, out)
        layers = [{"name": r.name, "relative_rms": r.error, "max": r.largest} for r in rows]
        _written(layers, results / f"{run}_layers.json")
    return _written(document, results / f"{run}.json")


def measure_cost(run: str, out: Path = OUT, results: Path = RESULTS) -> Path:
    """Measure the cost in a results file again, on a machine that does nothing else; return its path.

    Raises:
        IntsimError: there is no results file of this run.
    """
    path = results / f"{run}.json"
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise IntsimError(f"{path}: can't be read ({error}); measure the run first") from None
    document["cost"] = cost(run, described(recipe_of(run)), out)
    return _written(document, path)


def _written(document: Any, path: Path) -> Path:
    part = path.with_suffix(".part")
    part.write_text(_text(rounded(document)))
    os.replace(part, path)
    return path


def sets_of(arrays: Arrays) -> list[str]:
    """Sets that have outputs, but for the validation pairs, on which choices were made."""
    return sorted({key.split("/")[0] for key in arrays} - {"validation"})


def entries_of(name: str, arrays: Arrays, network: Network) -> dict[str, Any]:
    """Accuracy over the valid pixels and error over all, for each precision, target and decoder."""
    truth, valid = arrays[f"{name}/disparity"], arrays[f"{name}/valid"]
    entries = []
    for decoder in decoders(network):
        floats, trusted = decode_floats(arrays[f"{name}/fp32"], network, decoder)
        entries.append(_entry("fp32", None, decoder, floats, trusted, truth, valid, None))
        for key in sorted(arrays):
            parts = key.split("/")
            if parts[0] != name or parts[1] in ("fp32", "disparity", "valid"):
                continue
            target = parts[2] if len(parts) == 3 else None
            decode = decode_codes if target else decode_floats
            predicted, trusted = decode(arrays[key], network, decoder)
            entries.append(_entry(parts[1], target, decoder, predicted, trusted, truth, valid, floats))
    return {"pairs": len(truth), "entries": entries}


def _entry(
    precision: str,
    target: str | None,
    decoder: str,
    predicted: Any,
    trusted: Any,
    truth: Any,
    valid: Any,
    floats: Any,
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "precision": precision,
        "target": target,
        "decoder": decoder,
        "coverage": float(trusted.mean()),
    }
    entry["accuracy"] = accuracy(predicted, truth, valid & trusted)
    if floats is not None:
        entry["error"] = error(predicted[trusted], floats[trusted])
    return entry


def _text(document: Any) -> str:
    """JSON with a line for each entry, so that changes can be read."""
    text = json.dumps(document)
    for start in ('{"precision"', '"cost"', '{"name"'):
        text = text.replace(start, f"\n{start}")
    return text + "\n"


def rounded(value: Any) -> Any:
    """Floats to six significant digits; an infinite or missing one as a string or null is what JSON can hold."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value
