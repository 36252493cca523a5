"""Verdicts: a table of layers, the second opinions, the first wrong integer, and the result in a sentence."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from intsim.report.table import Column, note, say, show_table
from intsim.report.text import counted, floats, listed, number, percent
from intsim.verification.verdict import BLAMES, LayerVerdict, ReferenceVerdict, Verdict

ALWAYS = ("float_rounding", "requantizer", "overflow")
"""Causes that have a column even where nothing is blamed on them; others get one where something is."""


def show_verdict(console: Console, verdict: Verdict) -> None:
    """The verdict table, the second opinions, and the first wrong integer."""
    layers = verdict.layers
    stages = max((x.stages for x in layers), key=len, default=[])
    alike = all(
        [(s.bits, s.overflow) for s in x.stages] == [(s.bits, s.overflow) for s in stages] for x in layers if x.stages
    )
    columns = [
        Column("layer", [x.name for x in layers], "text"),
        Column("op", [x.op for x in layers], "text"),
        Column("elements", [number(x.elements) for x in layers]),
        Column("mis-\nmatches", [number(x.mismatches) for x in layers]),
        Column("born", [number(x.born) for x in layers]),
        Column("max\nLSB", [str(x.max_lsb) for x in layers]),
        Column("sum\nmis-\nmatches", [number(x.sum_mismatches) for x in layers]),
    ]
    if stages:
        columns.append(Column("over-\nflows", [number(x.overflows) if x.stages else "-" for x in layers]))
    if len(stages) > 1:
        for i, stage in enumerate(stages):
            counts = [number(x.stages[i].overflows) if i < len(x.stages) else "-" for x in layers]
            columns.append(Column(f"stage {stage.stage}", counts, spare=1))
    columns.append(Column("verdict", [_word(x) for x in layers]))
    show_table(console, columns, f"{verdict.model} on {verdict.target}, {inputs(verdict.samples, verdict.seed)}")
    note(console, "born: made here, not handed down by a layer before; sums: accumulators")
    if stages:
        registers = "; ".join(f"{s.stage}: {s.bits}-bit {s.overflow}" for s in stages)
        registers = registers if alike else "of each layer's own registers (intsim bounds shows them)"
        note(console, f"overflows: events in stages {registers}")
    if verdict.references:
        _show_references(console, verdict.references)
    if verdict.file is not None:
        read = verdict.file
        what = f"{number(read.mismatches)} of {number(read.elements)} codes of {number(read.tensors)} tensors differ"
        near = f", {number(read.near_ties)} near ties" if read.near_ties else ""
        say(console, f"the .tflite file itself, evaluated a second time, against exact: {what}{near}")
    for part in ("prologue", "islands", "epilogue"):
        if verdict.host.get(part):
            note(console, f"host {part} ({floats(verdict.host)}): {listed(verdict.host[part])}")
    if verdict.first_divergence:
        say(console, first_divergence(verdict.first_divergence))
    text = word(verdict)
    if verdict.predicts is not None:
        say(console, _predicted(verdict))
    wrong, total = sum(x.mismatches for x in layers), sum(x.elements for x in layers)
    say(
        console,
        "verdict: ",
        (text, "bold red" if not verdict.holds else "bold green" if verdict.verdict == "exact" else "bold yellow"),
        f" ({number(wrong)} of {number(total)} integers wrong, {number(verdict.overflows)} overflow events, "
        f"{verdict.seconds:.1f} s)",
    )


def word(verdict: Verdict) -> str:
    """The verdict, with what keeps it from holding."""
    spoiled = verdict.verdict != "diverges" and not verdict.holds
    return f"{verdict.verdict}, but registers overflow" if spoiled else verdict.verdict


def _predicted(verdict: Verdict) -> str:
    """What a user of the runtime wants to know, in one line."""
    wrong, total = sum(x.mismatches for x in verdict.layers), sum(x.elements for x in verdict.layers)
    if not wrong:
        return f"predicted for {verdict.predicts}: every code as in exact arithmetic, on these inputs"
    first = "" if verdict.first_divergence is None else f", first in {verdict.first_divergence['name']}"
    return f"predicted for {verdict.predicts}: {percent(wrong, total)} of codes differ from exact{first}"


def inputs(samples: int, seed: int | None) -> str:
    """Which inputs a result is about."""
    many = counted(samples, "sample")
    return f"{many} given" if seed is None else f"{many} drawn at random (seed {seed})"


def _word(layer: LayerVerdict) -> Text:
    if layer.mismatches or layer.sum_mismatches:
        return Text("diverges", "red")
    return Text("overflows", "yellow") if layer.overflows else Text("exact", "green")


def _show_references(console: Console, references: dict[str, ReferenceVerdict]) -> None:
    heard = {name: r for name, r in references.items() if r.reason is None}
    if heard:
        rows = list(heard.values())
        shown = [b for b in BLAMES if b in ALWAYS or any(r.blame[b] for r in rows)]
        show_table(
            console,
            [
                Column("executor", list(heard), "text"),
                Column("judged", [number(r.judged) for r in rows]),
                Column("mis-\nmatches", [number(r.mismatches) for r in rows]),
                *(Column(b.replace("_", "\n"), [number(r.blame[b]) for r in rows]) for b in shown),
                Column("result", [number(r.result["mismatches"]) for r in rows]),
                Column("of", [number(r.result["judged"]) for r in rows]),
            ],
        )
    for name, reference in references.items():
        if reference.reason is not None:
            say(console, f"{name}: no opinion: {reference.reason}")
        elif reference.first_divergence:
            at = reference.first_divergence
            say(
                console,
                f"{name}: first at {at['tensor']} {at['position']}: {at['got']}, expected {at['expected']} "
                f"(exact value {at['exact_approx']:.17g}), {at['blame'].replace('_', ' ')}",
            )
    if heard:
        note(console, "Each layer of an executor is judged on the inputs it had there itself.")


def first_divergence(at: dict[str, Any]) -> str:
    """The first wrong integer and its cause in a line."""
    stage = f" in stage {', '.join(map(str, at['overflowed_stages']))}" if at.get("overflowed_stages") else ""
    return (
        f"first divergence: {at['name']} ({at['op']}), channel {at['channel']}, position {at['position']}: "
        f"expected {at['expected']}, got {at['got']}; blame: {at['blame']}{stage}"
    )
