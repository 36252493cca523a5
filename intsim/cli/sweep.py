"""The verb `sweep`: every accumulator width and overflow rule, every multiplier width, in a folder that resumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intsim.cli.options import LABELS_HELP, METRIC_HELP, OnSamples, finish, progress, result, verb
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


@verb
@result
def sweep(
    asked: OnSamples,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for results; an interrupted sweep goes on there")],
    accumulator: Annotated[str | None, typer.Option("--accumulator", "-a", help=WIDTHS_HELP)] = None,
    overflow: Annotated[str, typer.Option("--overflow", help="rules of the register, by commas")] = "wrap,saturate",
    multiplier: Annotated[str | None, typer.Option("--multiplier", "-m", help=WIDTHS_HELP)] = None,
    grid: Annotated[bool, typer.Option("--grid", help="all pairs of accumulator and multiplier widths")] = False,
    stage: Annotated[
        int | None, typer.Option("--stage", help="the register to vary, 1..; the last if not given")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help=METRIC_HELP)] = None,
    labels: Annotated[str | None, typer.Option("--labels", help=LABELS_HELP)] = None,
    restart: Annotated[bool, typer.Option("--restart", help="forget an earlier sweep in the folder")] = False,
) -> None:
    """Compare accumulator and multiplier widths with the exact run; writes a table, JSON, CSV and a picture."""
    from intsim.explore.configuration import configurations

    target = asked.chosen
    registers, factors = widths(accumulator, "--accumulator"), widths(multiplier, "--multiplier")
    rules: Any = overflow.split(",")
    points = configurations(registers, rules, factors, grid)
    model = asked.loaded
    from intsim.explore.sweep import sweep as explore
    from intsim.report import files
    from intsim.report.next_step import after_sweep, show_step, with_step
    from intsim.report.picture import draw_sweep
    from intsim.report.sweep import show_sweep, write_csv
    from intsim.report.table import say

    varied: dict[str, Any] = {"accumulator": registers, "overflow": rules, "multiplier": factors}
    varied |= {"stage": stage, "grid": grid, "folder": out, "restart": restart}
    varied |= {"metrics": metric or (), "labels": labels}
    try:
        with progress(len(points) * len(asked.data)) as step:
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
