"""The outputs of a run, in a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from rich.console import Console

from intsim.model import Run
from intsim.report.profile import show_profile
from intsim.report.table import Column, say, show_table
from intsim.report.text import number


def summary(outputs: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, Any]]:
    """Shape, type and extremes by name; an extreme that is not finite is given as text, which JSON can hold."""
    return {name: _summary(array) for name, array in outputs.items()}


def _summary(array: NDArray[Any]) -> dict[str, Any]:
    ends = [a.item() for a in (array.min(), array.max())]
    low, high = (e if math.isfinite(float(e)) else str(e) for e in ends)
    return {"shape": list(array.shape), "dtype": str(array.dtype), "min": low, "max": high}


def show_outputs(console: Console, outputs: Mapping[str, Mapping[str, Any]]) -> None:
    """One line an output; `outputs` is what `summary` returns."""
    rows = list(outputs.values())
    show_table(
        console,
        [
            Column("output", list(outputs), "text"),
            Column("dtype", [r["dtype"] for r in rows], "text"),
            Column("shape", ["x".join(map(str, r["shape"])) for r in rows]),
            Column("min", [str(r["min"]) for r in rows]),
            Column("max", [str(r["max"]) for r in rows]),
        ],
    )


def show_summary(console: Console, ran: Mapping[str, Any]) -> None:
    """What the JSON of `run` says: outputs, the profile if there is one, overflows."""
    show_outputs(console, ran["outputs"])
    if ran.get("profile") is not None:
        show_profile(console, ran["profile"])
    what = "overflow events" if ran["counted"] else "registers of channels that overflowed"
    say(console, f"{number(ran['overflows'])} {what} on {ran['target']}")


def show_run(console: Console, run: Run) -> None:
    """Outputs, the integers behind them, and overflow events by multiply-accumulate and stage."""
    show_outputs(console, summary({**run.outputs, **{f"{name} as integers": a for name, a in run.codes.items()}}))
    rows = [(node, i + 1, int(n)) for node, e in run.overflows.items() for i, n in enumerate(e.sum(axis=0)) if n]
    if rows:
        console.print()
        names, stages, events = zip(*rows, strict=True)
        numbers = [Column("stage", [str(s) for s in stages]), Column("over-\nflows", [number(n) for n in events])]
        show_table(console, [Column("node", names, "text"), *numbers], "overflows")
    say(console, f"{number(sum(n for _, _, n in rows))} overflow events")
