"""The table of what a runtime computed here, against what its target predicts."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from intsim.report.table import Column, note, say, show_table
from intsim.report.text import counted, number
from intsim.report.verdict import inputs
from intsim.verification.witness import Witnessed


def show_witness(console: Console, told: Witnessed) -> None:
    """Layers on the runtime's own inputs, then the outputs, then the result in a sentence."""
    layers = told.layers
    show_table(
        console,
        [
            Column("layer", [x.name for x in layers], "text"),
            Column("op", [x.op for x in layers], "text"),
            Column("elements", [number(x.elements) for x in layers]),
            Column("inexact", [number(x.inexact) for x in layers], spare=1),
            Column("mis-\nmatches", [number(x.mismatches) for x in layers]),
            Column("max\nLSB", [str(x.max_lsb) for x in layers]),
            Column(
                "verdict", [Text("differs", "red") if x.mismatches else Text("as predicted", "green") for x in layers]
            ),
        ],
        f"{told.model}: {told.runtime} {told.version} against {told.target}, {inputs(told.samples, told.seed)}",
    )
    note(
        console,
        "on the runtime's own inputs of each layer; inexact: not as exact arithmetic, mismatches: not as predicted",
    )
    if told.hidden:
        names = ", ".join(told.hidden[:3]) + (f" and {len(told.hidden) - 3} more" if len(told.hidden) > 3 else "")
        say(console, (f"not shown by the runtime: {counted(len(told.hidden), 'layer')} ({names})", "dim"))
    first = next((x for x in layers if x.first is not None), None)
    if first is not None and first.first is not None:
        at = first.first
        say(
            console,
            f"first: {first.name} {at['position']}: predicted {at['predicted']}, {told.runtime} has {at['got']}",
        )
    for end in told.outputs:
        say(console, f"output {end.name}: {number(end.mismatches)} of {number(end.elements)} elements differ")
    codes = sum(x.elements for x in layers)
    words = "as predicted" if told.holds else "not as predicted"
    style = "bold green" if told.holds else "bold red"
    rest = f" ({number(told.mismatches)} of {number(codes)} codes differ, {told.seconds:.1f} s)"
    say(console, "verdict: ", (words, style), rest)
