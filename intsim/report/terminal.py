"""Rich tables of inspections, verdicts and targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from intsim.report.numbers import number

if TYPE_CHECKING:
    from intsim.targets import Family, Target
    from intsim.verification.verdict import ReferenceVerdict, Verdict


def _table(*heads: str, title: str | None = None) -> Table:
    """A table whose first two columns are text and the others numbers."""
    table = Table(title=title, title_justify="left", header_style="bold", expand=False)
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i < 2 else "right", overflow="fold")
    return table


def show_inspection(console: Console, found: dict[str, Any]) -> None:
    """What a model is made of."""
    table = _table("layer", "op", "output", "weights", "bits in", "bits out", "acc bits", "bias", "rest", "MACs")
    elsewhere = False
    for layer in found["layers"]:
        bias = layer["bias"] or {"accumulator": 0, "rest": 0.0, "requantizer": 0.0}
        largest = max(bias["rest"], bias["requantizer"])
        elsewhere |= largest > 0.5
        table.add_row(
            escape(layer["name"]),
            layer["op"],
            "x".join(map(str, layer["shape"])),
            layer["weights"] or "-",
            layer["input"],
            layer["output"],
            str(layer["accumulator_bits"] or "-"),
            number(bias["accumulator"]) if layer["bias"] else "-",
            f"{largest:.3g}" if layer["bias"] else "-",
            number(layer["macs"]),
        )
    console.print(table)
    console.print(
        "bias: largest one, in LSB of the accumulator, in the register; rest: what the requantizer adds, in LSB"
    )
    if elsewhere:
        console.print(
            "a rest above 0.5 is a constant that no register holds: BatchNormalization, or behind a nonlinearity"
        )
    for name, shape in found["inputs"].items():
        console.print(f"input    {escape(name)}  {'x'.join(map(str, shape))}")
    for name, shape in found["outputs"].items():
        console.print(f"output   {escape(name)}  {'x'.join(map(str, shape))}")
    for part in ("prologue", "epilogue"):
        console.print(f"{part} {escape(', '.join(found['host'][part])) or 'none'}  (host, float64)")
    console.print(f"total    {number(found['macs'])} MACs, {number(found['weights'])} weights")


def show_verdict(console: Console, verdict: Verdict) -> None:
    """The verdict table, the second opinions, and the first wrong integer."""
    stages = next((layer.stages for layer in verdict.layers if layer.stages), [])
    title = f"{verdict.model} on {verdict.target}, {verdict.samples} sample(s)"
    heads = [f"ovf {s.stage}" for s in stages]
    table = _table(
        "layer", "op", "integers", "wrong", "born", "max LSB", "wrong sums", *heads, "verdict", title=escape(title)
    )
    for layer in verdict.layers:
        if layer.mismatches or layer.sum_mismatches:
            word = "[red]diverges[/]"
        else:
            word = "[yellow]overflows[/]" if layer.overflows else "[green]exact[/]"
        counts = [number(s.overflows) for s in layer.stages] or ["-"] * len(stages)
        table.add_row(
            escape(layer.name),
            layer.op,
            number(layer.elements),
            number(layer.mismatches),
            number(layer.born),
            str(layer.max_lsb),
            number(layer.sum_mismatches),
            *counts,
            word,
        )
    console.print(table)
    if stages:
        registers = "; ".join(f"{s.stage}: {s.bits}-bit {s.overflow}" for s in stages)
        console.print(f"ovf: overflow events by stage of the accumulator; {registers}", style="dim")
    if verdict.references:
        console.print(_references(verdict.references))
    for part in ("prologue", "epilogue"):
        if verdict.host.get(part):
            console.print(f"host {part} (float64): {escape(', '.join(verdict.host[part]))}", style="dim")
    if verdict.first_divergence:
        console.print(_first(verdict.first_divergence))
    colour = "green" if verdict.holds else "red"
    text = verdict.verdict if verdict.holds or verdict.verdict != "exact" else "exact, but registers overflow"
    wrong, total = sum(x.mismatches for x in verdict.layers), sum(x.elements for x in verdict.layers)
    console.print(
        f"verdict: [bold {colour}]{text}[/]  "
        f"({number(wrong)} of {number(total)} integers wrong, {number(verdict.overflows)} overflow events, "
        f"{verdict.seconds:.1f} s)"
    )


def _references(references: dict[str, ReferenceVerdict]) -> Group:
    from intsim.verification.verdict import BLAMES

    # a named fault of an executor gets a column where one was found
    always = ("float_rounding", "requantizer", "overflow")
    shown = [b for b in BLAMES if b in always or any(r.blame[b] for r in references.values())]
    table = _table("executor", "state", "judged", "differ", *(b.replace("_", " ") for b in shown), "final differ")
    lines: list[Any] = [table]
    for name, found in references.items():
        if found.reason is not None:
            table.add_row(name, Text(f"no opinion: {found.reason}"), *["-"] * (len(shown) + 3))
            continue
        final = f"{number(found.result['mismatches'])} of {number(found.result['judged'])}"
        counts = [found.blame[k] for k in shown]
        table.add_row(name, "ran", *map(number, (found.judged, found.mismatches, *counts)), final)
        if found.first_divergence:
            at = found.first_divergence
            lines.append(
                Text(
                    f"{name}: first at {at['tensor']} {at['position']}: {at['got']}, expected {at['expected']}"
                    f" (exact value {at['exact_approx']:.17g}), {at['blame'].replace('_', ' ')}"
                )
            )
    lines.append(Text("Each layer of an executor is judged on the inputs it had there itself.", style="dim"))
    return Group(*lines)


def _first(at: dict[str, Any]) -> Text:
    stage = f" in stage {', '.join(map(str, at['overflowed_stages']))}" if at.get("overflowed_stages") else ""
    return Text(
        f"first divergence: {at['node']} ({at['op']}), channel {at['channel']}, position {at['position']}: "
        f"expected {at['expected']}, got {at['got']}; blame: {at['blame']}{stage}"
    )


def show_targets(console: Console, targets: list[Target], families: Sequence[Family]) -> None:
    """One line a target, one a family."""
    table = Table("target", "title", "registers", "requantizer", header_style="bold")
    for target in targets:
        drawn = [f"{f'{s.lanes}x' if s.lanes > 1 else ''}{s.bits}{s.overflow[0]}" for s in target.stages]
        if target.registers.packing is not None:
            drawn[0] = f"{len(target.registers.packing.offsets)}p{drawn[0]}"
        table.add_row(target.name, escape(target.title), " ".join(drawn) or "unbounded", target.requantize.scheme)
    console.print(table)
    console.print(
        "registers, first to last: bits; w wraps, s saturates; 8x lanes in turn; 2p fields of one multiplier",
        style="dim",
    )
    if families:
        table = Table("family", "title", "numbers", "e.g.", header_style="bold")
        for f in families:
            table.add_row(f.name, escape(f.title), f"{f.low}..{f.high}", f.member((f.low + f.high) // 2))
        console.print(table)
