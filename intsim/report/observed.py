"""Registers that were enough on some data, as a table."""

from __future__ import annotations

from rich.console import Console

from intsim.explore.observed import Observed
from intsim.report.table import Column, note, say, show_table
from intsim.report.text import counted, number
from intsim.report.verdict import inputs


def show_observed(console: Console, made: Observed) -> None:
    """A line a layer: bits kept, observed and proven; then what that saves and costs."""

    def widths(kind: str) -> list[str]:
        return [" ".join(map(str, getattr(x, kind))) for x in made.layers]

    columns = [Column("layer", [x.name for x in made.layers], "text")]
    columns += [Column(k.replace("_", "\n"), widths(k)) for k in ("bits", "observed_bits", "proven_bits")]
    where = f"{made.model} on {made.target}, {inputs(made.samples, made.seed)}"
    show_table(console, columns, f"{where}: registers of {made.proposed}")
    note(
        console,
        "observed: nothing overflows in as many on these inputs; proven: on any. On others registers of fewer bits may "
        "overflow.",
    )
    kept = counted(made.overflows, "overflow event")
    if made.metric is not None:
        kept = f"{made.metric} {made.value:.6g}, {made.proven_value:.6g} with proven registers; {kept}"
    proven = f"{number(made.proven_register_bits)} with proven registers"
    say(console, f"{number(made.register_bits)} register bits, {proven}; {kept}")
