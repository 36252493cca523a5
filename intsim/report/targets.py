"""The built-in targets as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from intsim.report.table import Column, note, show_table
from intsim.targets import Target
from intsim.targets.drawing import chain
from intsim.targets.library import Family


def show_targets(console: Console, targets: Sequence[Target], families: Sequence[Family]) -> None:
    """One line a target, one a family."""
    show_table(
        console,
        [
            Column("target", [t.name for t in targets], "text"),
            Column("title", [t.title for t in targets], "text"),
            Column("registers", [chain(t) for t in targets], "text"),
            Column("requantizer", [t.requantize.scheme for t in targets], "text"),
            Column("rules", [str(len(t.when) or "") for t in targets], spare=1),
        ],
    )
    note(console, "registers, first to last: bits; w wraps, s saturates; 8x lanes in turn; 2p fields of one multiplier")
    if families:
        console.print()
        show_table(
            console,
            [
                Column("family", [f.name for f in families], "text"),
                Column("title", [f.title for f in families], "text"),
                Column("numbers", [f"{f.low}..{f.high}" for f in families]),
                Column("e.g.", [f.member((f.low + f.high) // 2) for f in families], "text"),
            ],
        )
