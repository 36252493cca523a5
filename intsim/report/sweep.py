"""A sweep as a table and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from intsim.explore.configuration import Configuration
from intsim.explore.row import LayerRow, OutputRow, Row
from intsim.explore.sweep import Sweep
from intsim.report.table import Column, note, say, show_table
from intsim.report.text import number
from intsim.report.verdict import inputs

CONFIGURATION = [f.name for f in fields(Configuration)]
LAYER = [
    "op", "proven", "observed", "groups", "overflowing", "transient", "persistent", "elsewhere", "sums",
    "sum_mismatches", "elements", "mismatches", "max_lsb", "mean_lsb",
]  # fmt: skip
OUTPUT = ["mean_error", "median_error", "rmse", "max_error"]
METRIC = ["mean", "low", "high", "median"]


def write_csv(path: Path, swept: Sweep) -> None:
    """One line a configuration and layer, output or metric; fields of the other kinds stay empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*CONFIGURATION, "kind", "name", *LAYER, *OUTPUT, *METRIC])
        writer.writeheader()
        for row in swept.rows:
            point = row.configuration.to_json()
            for layer in row.layers:
                fields = {k: v for k, v in layer.to_json().items() if k in LAYER}
                writer.writerow({**point, "kind": "layer", "name": layer.name, **fields})
            for output in row.outputs:
                writer.writerow({**point, "kind": "output", **asdict(output)})
            for metric in row.metrics:
                fields = {k: v for k, v in asdict(metric).items() if k in METRIC}
                writer.writerow({**point, "kind": "metric", "name": metric.name, **fields})


def show_sweep(console: Console, swept: Sweep) -> None:
    """The table of widths, then from which width on each layer is safe."""
    where = "" if swept.stage is None else f", stage {swept.stage}"
    data = inputs(swept.samples, swept.seed)
    say(console, f"{swept.model} on {swept.target}{where}, {data}, against the exact run")
    for setting in swept.settings:
        for rule in swept.rules:
            points = (replace(setting, accumulator=w, overflow=rule) for w in swept.accumulators)
            _show_accumulators(console, rule, setting, rows_of(swept, points))
    _show_others(console, swept)
    if swept.accumulators:
        _show_safe(console, swept)
    run, reused = sum(r.run for r in swept.rows), sum(r.reused for r in swept.rows)
    note(
        console,
        f"{len(swept.rows)} configurations, {swept.resumed} of them from an earlier run; {number(run)} node runs, "
        f"{number(reused)} saved; {swept.seconds:.1f} s",
    )


def rows_of(swept: Sweep, points: Iterable[Configuration]) -> list[Row]:
    """The rows of those configurations that the sweep has."""
    return [row for point in points if (row := swept.row(point)) is not None]


def worst(row: Row) -> OutputRow | None:
    """The output with the largest mean difference."""
    return max(row.outputs, key=lambda o: float("inf") if o.mean_error is None else o.mean_error, default=None)


def _real(value: float | None) -> str:
    return "not finite" if value is None else "0" if value == 0 else f"{value:.3g}"


def _show_accumulators(console: Console, rule: str, setting: Configuration, rows: list[Row]) -> None:
    if not rows:
        return
    title = f"accumulators that {rule}" + ("" if setting == Configuration() else f", {setting}")
    console.print()
    show_table(
        console,
        [
            Column("bits", [str(r.configuration.accumulator) for r in rows]),
            Column("registers", [_word(r) for r in rows], "text"),
            *(Column(k, [number(sum(getattr(x, k) for x in r.layers)) for r in rows]) for k in OVERFLOWS),
            Column("sum\nmis-\nmatches", [_share(r.layers, "sum_mismatches", "sums") for r in rows]),
            *_errors(rows),
        ],
        title,
    )
    note(
        console,
        "transient, persistent: overflowing groups of the swept register, in all layers. Errors of the outputs are "
        "in their own units; of several outputs the one with the largest mean is shown.",
    )


OVERFLOWS = ("transient", "persistent")


def _word(row: Row) -> Text:
    if row.proven:
        return Text("proven", "green")
    return Text("observed", "cyan") if row.observed else Text("overflows", "yellow")


def _share(parts: Iterable[LayerRow | OutputRow], wrong: str, whole: str) -> str:
    counts = [(getattr(x, wrong), getattr(x, whole)) for x in parts]
    return f"{sum(c for c, _ in counts) / max(sum(n for _, n in counts), 1):.2%}"


def _errors(rows: list[Row]) -> list[Column]:
    """Of the codes, and of the output that is furthest off."""
    outputs = [worst(r) for r in rows]

    def errors(head: str, key: str, spare: int = 0) -> Column:
        return Column(head, ["-" if o is None else _real(getattr(o, key)) for o in outputs], spare=spare)

    return [
        Column("mis-\nmatches", [_share(r.layers, "mismatches", "elements") for r in rows]),
        Column("max\nLSB", [number(max((x.max_lsb for x in r.layers), default=0)) for r in rows], spare=1),
        Column("output\nmis-\nmatches", ["-" if o is None else _share([o], "mismatches", "elements") for o in outputs]),
        errors("mean\nerror", "mean_error"),
        errors("median\nerror", "median_error", spare=2),
        errors("RMSE", "rmse", spare=2),
        errors("max\nerror", "max_error"),
        *(
            Column(m.name, ["-" if r.metrics[i].mean is None else f"{r.metrics[i].mean:.4g}" for r in rows])
            for i, m in enumerate(rows[0].metrics)
        ),
    ]


def _show_others(console: Console, swept: Sweep) -> None:
    """What registers weren't swept in: multipliers, codes, targets, models."""
    rows = [r for r in swept.rows if r.configuration.accumulator is None]
    alone = rows_of(swept, (Configuration(multiplier=m) for m in swept.multipliers))
    for title, lines, cells in (
        (f"multipliers: {swept.multiplier_rounding}", alone, [str(r.configuration.multiplier) for r in alone]),
        (
            "codes, targets and models",
            others := [r for r in rows if r not in alone],
            [str(r.configuration) for r in others],
        ),
    ):
        if lines:
            console.print()
            first = Column("bits", cells) if lines is alone else Column("configuration", cells, "text")
            show_table(console, [first, *_errors(lines)], title)
    if any(r.configuration.weights is not None or r.configuration.activations is not None for r in swept.rows):
        note(
            console,
            "weights, activations: the network's own codes without their last bits, which no retraining has made good. "
            "Errors of the outputs are against the network as it is, mismatches of layers against the exact run of "
            "these codes.",
        )


def _show_safe(console: Console, swept: Sweep) -> None:
    lines = {rule: [x for x in swept.safe_from() if x.overflow == rule] for rule in swept.rules}
    columns = [
        Column(f"{rule}\n{kind}\nfrom", [str(getattr(x, f"{kind}_from") or "-") for x in lines[rule]])
        for rule in swept.rules
        for kind in ("proven", "observed", "exact")
    ]
    layers = Column("layer", [x.name for x in next(iter(lines.values()), [])], "text")
    console.print()
    show_table(console, [layers, *columns], "least width from which on a layer is safe")
    note(
        console,
        "proven: for every input. observed: no overflow on these inputs, given what the layers before handed on. "
        "exact: codes as in the exact run.",
    )
