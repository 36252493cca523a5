"""The verb `search`: widths layer by layer, a metric against costs, in a folder that resumes."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intsim.cli.options import LABELS_HELP, METRIC_HELP, OnSamples, finish, progress, result, verb
from intsim.errors import IntsimError

if TYPE_CHECKING:
    from rich.console import Console

COST_HELP = (
    "an objective: bops, mac_bits, register_bits, weight_bits, activation_bits, requantizer_bits, luts-FPGA, dsps-FPGA "
    "(xilinx, ecp5, ice40; luts-generic); may be given again"
)
WRITTEN = re.compile(r"front-[0-9]{3,}\.(toml|onnx)")
"""Files that a search writes of its front."""
RANGE_HELP = "least and most bits, as 2:8"


def span(text: str | None, option: str) -> tuple[int, int] | None:
    """`2:8` as both ends. Raises IntsimError for anything else."""
    if text is None:
        return None
    low, colon, high = text.partition(":")
    if not colon or not all(v.isascii() and v.isdigit() and len(v) < 4 for v in (low, high)):
        raise IntsimError(f"{option} {text[:40]!r}: give the least and the most, as 2:8")
    return int(low), int(high)


@verb
@result
def search(
    asked: OnSamples,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for results; an interrupted search goes on there")],
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help=f"of each layer's weights: {RANGE_HELP}")
    ] = None,
    activations: Annotated[
        str | None, typer.Option("--activations", "-a", help=f"of each quantizer's activations: {RANGE_HELP}")
    ] = None,
    multiplier: Annotated[
        str | None, typer.Option("--multiplier", "-m", help=f"of each requantizer's multiplier: {RANGE_HELP}")
    ] = None,
    slack: Annotated[
        int, typer.Option("--slack", help="how many bits below the proven ones each layer's registers may be")
    ] = 0,
    metric: Annotated[str, typer.Option("--metric", help=METRIC_HELP.split(";")[0])] = "mae",
    maximize: Annotated[bool, typer.Option("--maximize", help="more of a metric of one's own is better")] = False,
    labels: Annotated[str | None, typer.Option("--labels", help=LABELS_HELP)] = None,
    cost: Annotated[list[str] | None, typer.Option("--cost", help=COST_HELP)] = None,
    trials: Annotated[int, typer.Option("--trials", help="points that the sampler proposes")] = 100,
    sampler: Annotated[str, typer.Option("--sampler", help="nsga2 or tpe")] = "nsga2",
    storage: Annotated[
        str | None, typer.Option("--storage", help="an Optuna storage; else search.sqlite in the folder")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="forget an earlier search in the folder")] = False,
) -> None:
    """Search bits of weights, activations, registers and multipliers by layer: what is worth its cost."""
    spans = {
        "weights": span(weights, "--weights"),
        "activations": span(activations, "--activations"),
        "multiplier": span(multiplier, "--multiplier"),
    }
    from intsim.explore.metrics import read_metric
    from intsim.explore.search import search as explore
    from intsim.narrowing import narrow
    from intsim.report import files
    from intsim.report.next_step import after_search, show_step, with_step
    from intsim.report.picture import draw_search
    from intsim.report.search import show_search, write_csv
    from intsim.report.table import say

    chosen = read_metric(metric)
    if maximize:
        chosen = replace(chosen, greater=True)
    own: dict[str, Any] = {**spans, "slack": slack, "metric": chosen, "labels": labels, "costs": cost or ["bops"]}
    own |= {"trials": trials, "sampler": sampler, "storage": storage, "folder": out, "restart": restart}
    try:
        uniform = prod(high - low + 1 for low, high in filter(None, spans.values()))
        with progress(trials + uniform) as step:
            made = explore(asked.loaded, asked.chosen, *asked.drawn, **own, progress=step)
    except KeyboardInterrupt:
        sys.stderr.write(f"intsim: finished points are in {storage or out}; the same command goes on from there\n")
        raise
    written = set()
    with files.folder(out) as draft:
        names = {id(p): f"front-{n:03}" for n, p in enumerate(made.front, 1)}
        for i, point in enumerate(made.points):
            if (name := names.get(id(point))) is not None and point.toml is not None:
                (draft / f"{name}.toml").write_text(point.toml, encoding="utf-8")
                if point.weights or point.activations:
                    fewer = narrow(asked.loaded, point.weights or None, point.activations or None)
                    (draft / f"{name}.onnx").write_bytes(fewer.SerializeToString(deterministic=True))
                made.points[i] = replace(point, file=name)
        following = after_search(asked, made, out)
        written |= {p.name for p in draft.iterdir()}
        content = with_step(made.to_json(), following)
        files.write_json(draft / "search.json", content)
        write_csv(draft / "search.csv", made)
        drawn = draw_search(draft / "search.png", made)
    for old in out.iterdir():  # of an earlier search
        if WRITTEN.fullmatch(old.name) and old.name not in written:
            old.unlink()
    if not drawn:
        sys.stderr.write('intsim: no picture: matplotlib is missing; pip install "intsim[report]"\n')

    def show(console: Console) -> None:
        show_search(console, made)
        say(console, f"wrote search.json, search.csv{', search.png' if drawn else ''} and front-N.* to {out}")
        show_step(console, following)

    finish(asked.json_, content, show)
