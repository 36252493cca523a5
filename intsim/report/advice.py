"""The table of runtimes: where a network is exact, and how wrong it is elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from intsim.explore.advice import Advice
from intsim.report.table import Column, note, say, show_table
from intsim.report.text import number, percent
from intsim.report.verdict import inputs

STYLES = {
    "certified": "green",
    "exact here": "green",
    "near exact": "yellow",
    "differs": "red",
    "not predicted": "yellow",
}


def show_advice(console: Console, told: Advice) -> None:
    """One line a runtime; remedies and reasons below, each once."""
    rows = told.runtimes
    show_table(
        console,
        [
            Column("target", [x.target for x in rows], "text"),
            Column("standing", [Text(x.standing, STYLES[x.standing]) for x in rows]),
            Column("mis-\nmatches", [_share(x.mismatches, x.elements) for x in rows]),
            Column("output\nmis-\nmatches", [_share(x.output_mismatches, x.output_elements) for x in rows]),
            Column("max\nLSB", [str(x.max_lsb) if x.elements else "-" for x in rows]),
            Column("layer", [x.layer or "" for x in rows], "text"),
        ],
        f"{told.model} on runtimes against exact arithmetic, {inputs(told.samples, told.seed)}",
    )
    note(console, "certified: exact for every input; exact here: on these inputs; layer: of the first mismatch")
    texts: dict[str, list[str]] = {}
    for row in rows:
        if text := row.reason or row.remedy:
            texts.setdefault(text.replace(f"target {row.target}: ", "", 1), []).append(row.target)
    for text, names in texts.items():
        say(console, (f"{', '.join(names)}: ", "bold"), text)


def _share(count: int, total: int) -> str:
    if not total:
        return "-"
    return "0" if not count else f"{number(count)} ({percent(count, total)})"
