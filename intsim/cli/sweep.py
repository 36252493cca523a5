"""The verb `sweep`: widths of accumulators, multipliers and codes, targets and models, in a folder that resumes."""

from __future__ import annotations

import glob
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intsim.cli.options import (
    LABELS_HELP,
    METRIC_HELP,
    OnSamples,
    Processes,
    Scheduler,
    finish,
    progress,
    result,
    verb,
)
from intsim.errors import IntsimError

if TYPE_CHECKING:
    from rich.console import Console

MOST_WIDTHS = 64
WIDTHS_HELP = 'widths in bits: "8:32" with both ends, or "12,16,20"'


def widths(text: str | None, option: str) -> list[int]:
    """`8:32` or `12,16,20` as a list; nothing for None. Raises IntsimError for anything else."""
    if text is None:
        return []
    try:
        if ":" in text:
            low, high = (int(part) for part in text.split(":"))
            listed = list(range(low, min(high, low + MOST_WIDTHS) + 1))
        else:
            listed = [int(part) for part in text.split(",")]
    except ValueError:
        listed = []
    if not listed:
        raise IntsimError(f"{option} {text[:40]!r}: give a range like 8:32 or a list like 12,16,20")
    return listed


AXES = ("accumulator", "overflow", "multiplier", "weights", "activations", "target", "model")
AXIS_HELP = (
    "what varies, NAME=VALUES; may be given again. accumulator, multiplier, weights, activations: widths; overflow: "
    "rules; target: names or files; model: files or patterns"
)


def axes_of(given: list[str] | None) -> dict[str, str]:
    """`NAME=VALUES` by name. Raises IntsimError for another name, no values, or a name twice."""
    axes: dict[str, str] = {}
    for text in given or []:
        name, _, values = text.partition("=")
        if name not in AXES or not values:
            raise IntsimError(f"--axis {text[:60]!r}: give NAME=VALUES; names are {', '.join(AXES)}")
        if name in axes:
            raise IntsimError(f"--axis {name}: is given twice; list its values, by commas")
        axes[name] = values
    return axes


def files_of(text: str) -> list[str]:
    """Files by commas, patterns among them. Raises IntsimError for a pattern that no file has."""
    files: list[str] = []
    for part in text.split(","):
        found = sorted(glob.glob(part, recursive=True)) if any(c in part for c in "*?[") else [part]
        if not found:
            raise IntsimError(f"--axis model={part}: no file is like that")
        files += found
    return files


@verb
@result
def sweep(
    asked: OnSamples,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for results; an interrupted sweep goes on there")],
    axis: Annotated[list[str] | None, typer.Option("--axis", help=AXIS_HELP)] = None,
    accumulator: Annotated[str | None, typer.Option("--accumulator", "-a", help=WIDTHS_HELP)] = None,
    overflow: Annotated[
        str | None, typer.Option("--overflow", help="rules of the register, by commas: wrap,saturate")
    ] = None,
    multiplier: Annotated[str | None, typer.Option("--multiplier", "-m", help=WIDTHS_HELP)] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="all combinations of widths, not one kind after the other")
    ] = False,
    stage: Annotated[
        int | None, typer.Option("--stage", help="the register to vary, 1..; the last if not given")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help=METRIC_HELP)] = None,
    labels: Annotated[str | None, typer.Option("--labels", help=LABELS_HELP)] = None,
    propose: Annotated[
        bool, typer.Option("--propose", help="instead: each layer's least registers on this data, as OUT/observed.toml")
    ] = False,
    keep: Annotated[
        float | None, typer.Option("--keep", help="with --propose and one --metric: the value that it must reach")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="forget an earlier sweep in the folder")] = False,
    processes: Processes = 1,
    scheduler: Scheduler = None,
) -> None:
    """Compare widths, targets or models with exact runs; writes a table, JSON, CSV and a picture."""
    from intsim.explore.configuration import configurations
    from intsim.explore.workers import Workers

    target, axes = asked.chosen, axes_of(axis)
    for name, short in (("accumulator", accumulator), ("overflow", overflow), ("multiplier", multiplier)):
        if short is not None and axes.setdefault(name, short) != short:
            raise IntsimError(f"--{name} and --axis {name}=: both are given; give one")
    if propose:
        if axes or grid or stage is not None or len(metric or []) > 1:
            raise IntsimError("--propose finds the widths itself: give no axes, and one --metric at most")
        _propose(asked, out, next(iter(metric or []), None), keep, labels)
        return
    if keep is not None:
        raise IntsimError("--keep is of --propose")
    rules: Any = axes.get("overflow", "wrap,saturate").split(",")
    varied: dict[str, Any] = {"overflow": rules, "grid": grid}
    for name in ("accumulator", "multiplier", "weights", "activations"):
        option = f"--{name}" if name in ("accumulator", "multiplier") else f"--axis {name}"
        varied[name] = widths(axes.get(name), option)
    varied["targets"] = axes["target"].split(",") if "target" in axes else []
    varied["models"] = files_of(axes["model"]) if "model" in axes else []
    kinds = ("accumulator", "overflow", "multiplier", "grid", "weights", "activations", "targets", "models")
    points = configurations(*(varied[k] for k in kinds))
    steps = 1 if Workers(processes, scheduler).others else len(asked.data)
    model = asked.loaded
    from intsim.explore.sweep import sweep as explore
    from intsim.report import files
    from intsim.report.next_step import after_sweep, show_step, with_step
    from intsim.report.picture import draw_sweep
    from intsim.report.sweep import show_sweep, write_csv
    from intsim.report.table import say

    varied |= {"stage": stage, "folder": out, "restart": restart}
    varied |= {"metrics": metric or (), "labels": labels, "processes": processes, "scheduler": scheduler}
    try:
        with progress(len(points) * steps) as step:
            swept = explore(model, target, *asked.drawn, **varied, progress=step)
    except KeyboardInterrupt:
        sys.stderr.write(f"intsim: finished configurations are in {out}; the same command goes on from there\n")
        raise
    following = after_sweep(asked, swept)
    content = with_step(swept.to_json(), following)
    with files.folder(out) as draft:
        files.write_json(draft / "sweep.json", content)
        write_csv(draft / "sweep.csv", swept)
        drawn = draw_sweep(draft / "sweep.png", swept)
    if not drawn:
        (out / "sweep.png").unlink(missing_ok=True)  # of an earlier sweep
    if not drawn:
        sys.stderr.write('intsim: no picture: matplotlib is missing; pip install "intsim[report]"\n')

    def show(console: Console) -> None:
        show_sweep(console, swept)
        written = ["sweep.json", "sweep.csv", *(["sweep.png"] if drawn else [])]
        say(console, f"wrote {', '.join(written)} to {out}")
        show_step(console, following)

    finish(asked.json_, content, show)


def _propose(asked: OnSamples, out: Path, metric: str | None, keep: float | None, labels: str | None) -> None:
    """Write OUT/observed.toml and OUT/observed.json."""
    from intsim.explore.observed import propose_observed
    from intsim.report import files
    from intsim.report.observed import show_observed
    from intsim.report.table import say

    inputs, samples, seed = asked.drawn
    with progress(1) as step:
        made = propose_observed(
            asked.loaded, asked.chosen, inputs, samples, seed, metric=metric, keep=keep, labels=labels, progress=step
        )
    with files.folder(out) as draft:
        files.write_json(draft / "observed.json", made.to_json())
        (draft / "observed.toml").write_text(made.toml, encoding="utf-8")

    def show(console: Console) -> None:
        show_observed(console, made)
        say(console, f"wrote observed.toml, observed.json to {out}")

    finish(asked.json_, made.to_json(), show)
