"""A search as a table of its front, and as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from intsim.explore.search import Point, Search
from intsim.report.table import Column, note, say, show_table
from intsim.report.text import counted, number
from intsim.report.verdict import inputs

MOST_ROWS = 24
"""Of a front that are printed; the rest is in the files."""
KINDS = ("weights", "activations", "registers", "multiplier_bits")


def write_csv(path: Path, made: Search) -> None:
    """A line a point: what it is, its objectives, the bits of every layer."""
    names = [(k, n) for k in KINDS for n in dict.fromkeys(n for p in made.points for n in getattr(p, k))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        flags = ["uniform", "proven", "overflows", "front", "knee", "file"]
        writer.writerow([*flags, *made.objectives, *(f"{k}/{n}" for k, n in names)])
        for point in made.points:
            bits = [_bits(getattr(point, k).get(n)) for k, n in names]
            writer.writerow([*(getattr(point, f) for f in flags), *point.values, *bits])


def _bits(value: int | list[int] | None) -> str:
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def show_search(console: Console, made: Search) -> None:
    """The front, then what it says of networks that are the same in every layer."""
    front = made.front
    shown = _thinned(front)
    columns = [
        Column(
            "point" if any(p.file for p in shown) else "",
            [Text(p.file or "", "green" if p.knee else "") for p in shown],
            "text",
        )
    ]
    for i, name in enumerate(made.objectives):
        columns.append(Column(name.replace("_", "_\n"), [_value(p.values[i]) for p in shown]))
    for kind in KINDS:
        if any(getattr(p, kind) for p in shown):
            columns.append(Column(kind.replace("_", "\n"), [_span(getattr(p, kind)) for p in shown], spare=1))
    columns.append(Column("overflows", [_overflows(p) for p in shown], "text"))
    where = f"{made.model} on {made.target}, {inputs(made.samples, made.seed)}"
    show_table(console, columns, f"{where}: {counted(len(front), 'point')} that no other beats")
    note(console, "bits: least..most of all layers. proven: no register can overflow, for any input.")
    if len(shown) < len(front):
        note(console, f"{len(shown)} of {len(front)} are shown; all of them are in search.csv")
    best = made.best
    if best is not None:
        _show_layers(console, best)
    uniform = counted(len(made.uniform), "uniform network")
    say(console, f"{made.dominated} of {uniform} are beaten by points whose layers have bits of their own")
    note(
        console,
        f"{counted(made.trials, 'point')} tried, {made.resumed} of them by an earlier run; {made.seconds:.1f} s",
    )


def _show_layers(console: Console, point: Point) -> None:
    """The bits of one point, layer by layer, then of its quantizers."""
    what = "the knee, from where on more costs much and gives little" if point.knee else "the one that costs most"
    what = f"{point.file}: {what}" if point.file else what
    kinds = [k for k in KINDS if k != "activations" and getattr(point, k)]
    layers = list(point.registers)
    columns = [Column(k.replace("_", "\n"), [_bits(getattr(point, k).get(n)) for n in layers]) for k in kinds]
    console.print()
    show_table(console, [Column("layer", layers, "text"), *columns], what)
    if point.activations:
        console.print()
        names = [Column("quantizer", list(point.activations), "text")]
        show_table(console, [*names, Column("activations", [str(b) for b in point.activations.values()])])


def _thinned(front: list[Point]) -> list[Point]:
    """At most `MOST_ROWS`, evenly, both ends and the knee among them."""
    if len(front) <= MOST_ROWS:
        return front
    picked = {round(i * (len(front) - 1) / (MOST_ROWS - 1)) for i in range(MOST_ROWS)}
    return [p for i, p in enumerate(front) if i in picked or p.knee]


def _value(value: float) -> str:
    if not math.isfinite(value):
        return "exact" if value > 0 else "-"
    return number(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def _span(bits: Mapping[str, int | list[int]]) -> str:
    every = [b for v in bits.values() for b in (v if isinstance(v, list) else [v])]
    return "-" if not every else str(every[0]) if min(every) == max(every) else f"{min(every)}..{max(every)}"


def _overflows(point: Point) -> Text:
    if point.proven:
        return Text("proven", "green")
    return Text(counted(point.overflows, "overflow"), "yellow") if point.overflows else Text("observed", "cyan")
