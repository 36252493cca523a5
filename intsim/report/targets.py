"""The built-in targets as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from intsim.report.table import Column, note, show_table
from intsim.targets import Target
from intsim.targets.library import Family


def show_targets(console: Console, targets: Sequence[Target], families: Sequence[Family]) -> None:
    """One line a target, one a family."""
    show_table(
        console,
        [
            Column("target", [t.name for t in targets], "text"),
            Column("title", [t.title for t in targets], "text"),
            Column("registers", [_registers(t) for t in targets], "text"),
            Column("requantizer", [t.requantize.scheme for t in targets], "text"),
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


def _registers(target: Target) -> str:
    drawn = [f"{f'{s.lanes}x' if s.lanes > 1 else ''}{s.bits}{s.overflow[0]}" for s in target.stages]
    if target.registers.packing is not None:
        drawn[0] = f"{len(target.registers.packing.offsets)}p{drawn[0]}"
    return " ".join(drawn) or "unbounded"
