"""The study's networks that are committed, with a card each: ``python -m models.study zoo``.

Seed 0 of the main grid and of one network of each other kind: the QONNX file, its JSON, and a card made from both and
from the results file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError
from models.disparity import ZOO
from models.study.runs import OUT, RECIPES, RESULTS, split

STUDY_ZOO = ZOO / "study"
GRID = ("p0", "p1", "p2", "p3", "p4", "c1", "c2", "dpt_p0", "dpt_p1", "dpt_p2", "dpt_p3", "dpt_p4")
KINDS = ("p3_guide", "first_embedding", "q_p3_w4a4", "q_p3_ternary", "q_p3_binary", "q_p3_a2q_18", "q_p3_a2qplus_16")
"""Recipes whose first seed is committed."""

_CARD = """---
license: bsd-3-clause
pipeline_tag: depth-estimation
tags: [stereo, disparity, quantization, QONNX, brevitas{tag}]
---

# {run}

{what}

{parameters:,} parameters. Input `codes`: `{shape}` float32 holding integers 0..255, made by
`models.stereo.network_input` from a rectified grey pair of {height} x {width} pixels. Output `output`, at half
resolution: {heads}, INT8 at scale 1/256.

| file | holds |
|---|---|
| `{file}` | the quantized network, QONNX |
| `{run}.json` | what the host needs to know, and how the network was trained |

## Made by

    python -m models.study train   {run}
    python -m models.study measure {run}
    python -m models.study zoo

* Recipe `models/recipes/study/{recipe}.toml`, seed {seed}: {steps} steps of {batch} pairs, {minutes:.1f} minutes on
  {device}, one thread, other work beside it. The network of the last step, not of the best one.
* Data: {train} generated {scenes} pairs of {data_height} x {data_width} pixels (`models.stereo`). Training, validation
  and test share neither random stream nor texture; no photograph is used.
* Validation on {validation} pairs: EPE mean {epe:.3f}, median {median:.3f} px (float).

## Measured

On {pairs} generated test pairs; error is that of the integers against the same network in float. All runs, targets and
decoders are in `models/study.md`.

| precision | target | decoder | coverage | EPE mean px | EPE median px | error mean px | RMSE px | robust SD px |
|---|---|---|---|---|---|---|---|---|
{rows}

## Limits

* One seed of several; a demonstration of quantization, not a competitive stereo method.
* Disparities 0 to 24 pixels only; grey, rectified pairs; half-resolution output.
"""


def collect(out: Path = OUT, results: Path = RESULTS, zoo: Path = STUDY_ZOO) -> list[Path]:
    """Copy those exports of `GRID` and `KINDS` that there are into `zoo` and write their cards; the cards' paths.

    Raises:
        IntsimError: there is no export, or a results file is missing.
    """
    exports = {f"{name}_s0": out / "exports" / f"{name}_s0.qonnx.onnx" for name in (*GRID, *KINDS)}
    if not any(path.exists() for path in exports.values()):
        raise IntsimError(f"{out / 'exports'}: no exported networks; measure some runs first")
    zoo.mkdir(parents=True, exist_ok=True)
    cards = []
    for run, path in exports.items():
        if not path.exists():
            continue
        document, result = (_read(folder / f"{run}.json") for folder in (out / "exports", results))
        for source in (path, out / "exports" / f"{run}.json"):
            shutil.copyfile(source, zoo / source.name)
        cards.append(zoo / f"{run}.md")
        cards[-1].write_text(card(run, path.name, document, result))
    return cards


def card(run: str, file: str, document: dict[str, Any], result: dict[str, Any]) -> str:
    """Text of one card, from the network's JSON and the run's results."""
    recipe, training = document["training"]["recipe"], document["training"]
    name, seed = split(run)
    _, epe, median = training["validation"][-1]
    entries = result["sets"]["generated"]["entries"]
    shown = [e for e in entries if e["target"] in (None, "exact", "x86-avx2")]
    return _CARD.format(
        run=run,
        tag=", hilbert-curve" if document["order"] else "",
        what=_first_line(name),
        parameters=result["parameters"],
        shape=" x ".join(str(n) for n in document["input"]["shape"]),
        height=document["height"],
        width=document["width"],
        heads=_heads(document),
        file=file,
        recipe=name,
        seed=seed,
        steps=training["step"],
        batch=recipe["training"]["batch"],
        minutes=training["seconds"] / 60,
        device=training["device"].upper(),
        train=recipe["data"]["train"],
        scenes=recipe["data"]["scenes"],
        data_height=recipe["data"]["height"],
        data_width=recipe["data"]["width"],
        validation=recipe["data"]["validation"],
        epe=epe,
        median=median,
        pairs=result["sets"]["generated"]["pairs"],
        rows="\n".join(_row(entry) for entry in shown),
    )


def _first_line(name: str) -> str:
    """The comment a recipe begins with."""
    return (RECIPES / f"{name}.toml").read_text().splitlines()[0].lstrip("# ").strip()


def _heads(document: dict[str, Any]) -> str:
    if not document["order"]:
        return "disparity over its range, minus 1/2"
    guide = ", then the disparity over its range minus 1/2" if document["guide"] else ""
    return f"{'x, y and z' if document['dimensions'] == 3 else 'x and y'} of the point, minus 1/2{guide}"


def _row(entry: dict[str, Any]) -> str:
    right, wrong = entry["accuracy"], entry.get("error")
    figures = [f"{entry['coverage']:.1%}", f"{right['epe']:.3f}", f"{right['epe_median']:.3f}"]
    figures += [f"{wrong[key]:.4f}" for key in ("mean", "rmse", "robust_sd")] if wrong else ["-"] * 3
    return "| " + " | ".join([entry["precision"], entry["target"] or "-", entry["decoder"], *figures]) + " |"


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise IntsimError(f"{path}: can't be read ({error}); measure the run first") from None
    return document
