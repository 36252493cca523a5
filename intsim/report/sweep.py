"""A sweep as a table and as CSV."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from intsim.explore.configuration import Configuration
from intsim.explore.row import OutputRow, Row
from intsim.explore.sweep import SafeFrom, Sweep
from intsim.report.numbers import number

CONFIGURATION = ["accumulator", "overflow", "multiplier"]
LAYER = [
    "op", "proven", "observed", "groups", "overflowing", "transient", "persistent", "elsewhere", "accumulators",
    "wrong_accumulators", "codes", "wrong_codes", "max_lsb", "mean_lsb",
]  # fmt: skip
OUTPUT = ["elements", "wrong", "mean", "median", "rmse", "max"]


def write_csv(path: Path, found: Sweep) -> None:
    """One line a configuration and layer, and one a configuration and output; fields of the other kind stay empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*CONFIGURATION, "kind", "name", *LAYER, *OUTPUT])
        writer.writeheader()
        for row in found.rows:
            point = row.configuration.to_json()
            for layer in row.layers:
                fields = {k: v for k, v in layer.to_json().items() if k in LAYER}
                writer.writerow({**point, "kind": "layer", "name": layer.name, **fields})
            for output in row.outputs:
                writer.writerow({**point, "kind": "output", **asdict(output)})


def show_sweep(console: Console, found: Sweep) -> None:
    """The table of widths, then from which width on each layer is safe."""
    where = "" if found.stage is None else f", stage {found.stage}"
    console.print(
        f"{found.model} on {found.target}{where}, {found.samples} sample(s), against the exact run",
        markup=False,
        highlight=False,
    )
    # a grid is one table a multiplier
    for multiplier in [None, *found.multipliers]:
        for rule in found.rules:
            rows = [found.row(Configuration(w, rule, multiplier)) for w in found.accumulators]
            _show_accumulators(console, rule, multiplier, [r for r in rows if r is not None])
    _show_multipliers(console, found)
    if found.accumulators:
        _show_safe(console, found)
    run, reused = sum(r.run for r in found.rows), sum(r.reused for r in found.rows)
    console.print(
        f"{len(found.rows)} configurations, {found.resumed} of them from an earlier run; {number(run)} node runs, "
        f"{number(reused)} saved; {found.seconds:.1f} s",
        style="dim",
    )


def worst(row: Row) -> OutputRow | None:
    """The output with the largest mean difference."""
    return max(row.outputs, key=lambda o: float("inf") if o.mean is None else o.mean, default=None)


def _real(value: float | None) -> str:
    return "not finite" if value is None else "0" if value == 0 else f"{value:.3g}"


def _show_accumulators(console: Console, rule: str, multiplier: int | None, rows: list[Row]) -> None:
    if not rows:
        return
    title = f"accumulators that {rule}" + ("" if multiplier is None else f", {multiplier}-bit multiplier")
    table = _table(title, "bits", "registers", "transient", "persistent", "sums\nwrong", *CODE_HEADS, *OUTPUT_HEADS)
    for row in rows:
        sums = _share(row, "wrong_accumulators", "accumulators")
        table.add_row(
            str(row.configuration.accumulator), _word(row), *_overflows(row), sums, *_codes(row), *_error(row)
        )
    console.print(table)
    console.print(
        "transient, persistent: overflowing groups of the swept register, in all layers. Errors of the outputs are in "
        "their own units; of several outputs the one with the largest mean is shown.",
        style="dim",
    )


def _word(row: Row) -> str:
    return "[green]proven[/]" if row.proven else "[cyan]observed[/]" if row.observed else "[yellow]overflows[/]"


def _overflows(row: Row) -> list[str]:
    return [number(sum(x.transient for x in row.layers)), number(sum(x.persistent for x in row.layers))]


def _table(title: str, *heads: str) -> Table:
    """A narrow table of numbers, so that all columns fit 110."""
    table = Table(title=title, title_justify="left", header_style="bold", padding=0)
    for head in heads:
        table.add_column(head, justify="left" if head == "registers" else "right", no_wrap=True)
    return table


def _share(row: Row, wrong: str, whole: str) -> str:
    parts = [sum(getattr(x, key) for x in row.layers) for key in (wrong, whole)]
    return f"{parts[0] / max(parts[1], 1):.2%}"


def _codes(row: Row) -> list[str]:
    return [_share(row, "wrong_codes", "codes"), number(max((x.max_lsb for x in row.layers), default=0))]


CODE_HEADS = ("codes\nwrong", "LSB\nat most")
OUTPUT_HEADS = ("outputs\nwrong", "mean\nerror", "median\nerror", "\nRMSE", "largest\nerror")


def _error(row: Row) -> list[str]:
    output = worst(row)
    if output is None:
        return ["-"] * len(OUTPUT_HEADS)
    return [
        f"{output.wrong / max(output.elements, 1):.2%}",
        *(_real(v) for v in (output.mean, output.median, output.rmse, output.max)),
    ]


def _show_multipliers(console: Console, found: Sweep) -> None:
    rows = [found.row(Configuration(multiplier=m)) for m in found.multipliers]
    if not any(rows):
        return
    table = _table(f"multipliers: {found.requantizer}", "bits", *CODE_HEADS, *OUTPUT_HEADS)
    for row in rows:
        if row is not None:
            table.add_row(str(row.configuration.multiplier), *_codes(row), *_error(row))
    console.print(table)


def _show_safe(console: Console, found: Sweep) -> None:
    table = Table(title="least width from which on a layer is safe", title_justify="left", header_style="bold")
    table.add_column("layer", overflow="fold")
    for rule in found.rules:
        for head in ("proven", "observed", "exact codes"):
            table.add_column(f"{rule}: {head}", justify="right")
    by_rule: dict[str, list[SafeFrom]] = {rule: [] for rule in found.rules}
    for line in found.safe_from():
        by_rule[line.overflow].append(line)
    for lines in zip(*by_rule.values(), strict=True):
        cells: list[Any] = [v for x in lines for v in (x.proven, x.observed, x.exact)]
        table.add_row(escape(lines[0].layer), *("-" if c is None else str(c) for c in cells))
    console.print(table)
    console.print(
        "proven: for every input. observed: no overflow on these inputs, given what the layers before handed on. "
        "exact codes: as in the exact run.",
        style="dim",
    )
