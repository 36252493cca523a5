"""What a data set came to: metrics with their intervals, and layers that overflowed."""

from __future__ import annotations

from rich.console import Console

from intsim.explore.evaluate import Evaluated
from intsim.explore.metrics import MetricResult
from intsim.report.table import Column, note, say, show_table
from intsim.report.text import counted, number
from intsim.report.verdict import inputs


def show_evaluated(console: Console, done: Evaluated) -> None:
    """A line a metric, and one for each layer that overflowed."""
    rows = done.metrics
    infinite = any(r.infinite for r in rows)
    columns = [
        Column("metric", [r.name for r in rows], "text"),
        Column("mean", [_value(r.mean) for r in rows]),
        Column("interval", [_interval(r) for r in rows]),
        Column("median", [_value(r.median) for r in rows], spare=1),
        Column("samples", [number(r.samples) for r in rows], spare=1),
    ]
    columns += [Column("infinite", [number(r.infinite) for r in rows])] if infinite else []
    show_table(console, columns, f"{done.model} on {done.target}, {inputs(done.samples, done.seed)}")
    note(console, "interval: in which the mean over all such samples lies, with 95 % confidence, normal")
    if infinite:
        note(console, "infinite: samples without a finite value, as an SQNR where nothing differs; the mean is without")
    wrong = {name: count for name, count in done.overflows.items() if count}
    if wrong:
        show_table(
            console,
            [Column("layer", list(wrong), "text"), Column("over-\nflows", [number(v) for v in wrong.values()])],
        )
    total = sum(wrong.values())
    say(console, f"{counted(total, 'overflow event')} in {counted(len(wrong), 'layer')}, {done.seconds:.1f} s")


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _interval(row: MetricResult) -> str:
    return "-" if row.low is None else f"{_value(row.low)}..{_value(row.high)}"
