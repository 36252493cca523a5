"""Train and measure all runs of a task, or print its table: ``python -m models.tasks train|report keypoints``.

Checkpoints, exported networks and rows of finished runs stay under ``--out``; a call goes on where the last stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress, TaskID

from intsim.errors import IntsimError
from models.tasks.tasks import TASKS, Task, task_named

RESULTS = Path(__file__).parents[1] / "study" / "results"
SEEDS = (0, 1, 2)


def train_all(task: Task, out: Path, results: Path, seeds: tuple[int, ...] = SEEDS, steps: int | None = None) -> Path:
    """Train and measure whatever isn't yet; the results' path. They are written whenever all codings have a seed."""
    from models.tasks.measure import measure  # Brevitas is slow to import
    from models.tasks.network import CODINGS
    from models.tasks.training import SETTINGS, train

    steps = steps or task.steps
    document = {
        "demo": task.name,
        "metric": task.metric,
        "unit": task.unit,
        "higher_is_better": task.higher_is_better,
        "error_unit": task.reading_unit,
        "data": task.data,
        "command": f"python -m models.tasks train {task.name}",
        "training": {"steps": steps, "device": "cpu", "widths": list(task.widths), **SETTINGS},
    }
    rows: list[dict[str, Any]] = []
    path = results / f"demo_{task.name}.json"
    with Progress() as progress:
        for seed in seeds:
            for name, coding in CODINGS.items():
                stem = out / f"{task.name}_{name}_s{seed}"
                bar = progress.add_task(stem.name, total=steps)
                network = train(task, coding, seed, stem.with_suffix(".pt"), steps, partial(_advance, progress, bar))
                progress.update(bar, completed=steps)
                kept = stem.with_suffix(".json")
                if not kept.exists():
                    row = measure(task, coding, network, seed, stem.with_suffix(".onnx"))
                    _write(kept, {"network": name, "seed": seed, **row})
                rows.append(json.loads(kept.read_text()))
            rows.sort(key=lambda row: (list(CODINGS).index(row["network"]), row["seed"]))
            _write(path, {**document, "rows": rows})
    return path


def _advance(progress: Progress, bar: TaskID, step: int) -> None:
    progress.update(bar, completed=step)


def table(document: dict[str, Any]) -> str:
    """The results as a Markdown table: means over the seeds; errors as ratios to the plain network's, too."""
    rows = document["rows"]
    unit, other = document["unit"], document["error_unit"]
    lines = [
        f"{document['metric']} ({unit}); error of W8A8 against FP32 in {other}, and how many times less than p0's",
        "",
        f"| network | FP32 {unit} | W8A8 {unit} | x86-avx2 {unit} | mean | RMSE | robust SD | jumps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    plain = None
    for name in dict.fromkeys(row["network"] for row in rows):
        runs = [row for row in rows if row["network"] == name]
        scores = [np.mean([run[key] for run in runs]) for key in ("fp32", "w8a8")] + [
            np.mean([run["targets"]["x86-avx2"] for run in runs])
        ]
        errors = {key: np.mean([run["error"][key] for run in runs]) for key in runs[0]["error"]}
        plain = plain or errors
        compared = [f"{errors[key]:.4f} ({plain[key] / errors[key]:.2f}x)" for key in ("mean", "rmse", "robust_sd")]
        cells = [name, *(f"{score:.3f}" for score in scores), *compared, f"{errors['jump_rate']:.3%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _write(path: Path, document: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document, indent=2) + "\n")
    os.replace(part, path)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m models.tasks", description=__doc__)
    parser.add_argument("verb", choices=("train", "report"))
    parser.add_argument("task", choices=tuple(TASKS))
    parser.add_argument("--out", type=Path, default=Path("out/tasks"), help="folder for what a training leaves")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="SEED")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if arguments.verb == "train":
            print(train_all(task_named(arguments.task), arguments.out, arguments.results, tuple(arguments.seeds)))
        path = arguments.results / f"demo_{arguments.task}.json"
        if not path.exists():
            raise IntsimError(f"{path}: no results; run python -m models.tasks train {arguments.task} first")
        print(table(json.loads(path.read_text())))
    except IntsimError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
