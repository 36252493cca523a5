"""Certificates for people: what is proven of each layer, what stands between, and the verdict in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from intsim.proofs.certificate import Certificate, Counterexample, LayerClaim, Obstacle, RequantizerClaim
from intsim.proofs.check import Check
from intsim.report.terminal import _table, number

COLOURS = {"certified": "green", "disputed": "red", "refuted": "red"} | dict.fromkeys(
    ("open", "undecided", "unread"), "yellow"
)


def show_certificate(console: Console, found: Certificate) -> None:
    """The table of layers, a line for each counterexample, the verdict."""
    widths = found.multipliers
    title = escape(f"{found.model['file']} on {found.target['name']}, for every input")
    heads = ["layer", "op", "registers", "requantizer", *(["multiplier bits"] if widths else []), "state"]
    table = _table(*heads, title=title)
    states = {o.node: o.status for o in found.obstacles}
    readers = {r.reads[0]: r for r in found.requantizers if len(r.reads) == 1}
    paired = set()
    for layer in found.layers:
        after = readers.get(layer.tensor)
        paired.add(None if after is None else after.node)
        mine = [states[n] for n in (layer.node, after.node if after else "") if n in states]
        row = [escape(layer.name), layer.op, registers(layer), codes(after)]
        table.add_row(*row, *([bits(after)] if widths else []), _state(mine))
    for alone in found.requantizers:
        if alone.node not in paired:
            row = [escape(alone.name), "Quant", "-", codes(alone)]
            table.add_row(
                *row, *([bits(alone)] if widths else []), _state([states[alone.node]] if alone.node in states else [])
            )
    console.print(table)
    for obstacle in found.obstacles:
        for line in lines(obstacle):
            console.print(Text(line))
    for part in ("prologue", "epilogue"):
        if found.host.get(part):
            console.print(f"outside: host {part} (float64): {escape(', '.join(found.host[part]))}", style="dim")
    if found.verdict not in ("certified", found.reading.status):
        console.print(Text(agreement(found)))
    console.print(f"verdict: [bold {COLOURS[found.verdict]}]{found.verdict}[/]. {escape(sentence(found))}")


def registers(layer: LayerClaim) -> str:
    """What is proven of a layer's sums."""
    if layer.wrong:
        return f"{len(layer.wrong)} of {layer.channels} ch can be wrong"
    if layer.undecided:
        return f"{len(layer.undecided)} of {layer.channels} ch undecided"
    back = len(layer.wraps_back) + len(layer.tried)
    return f"proven, {back} ch wrap back" if back else "proven"


def codes(claim: RequantizerClaim | None) -> str:
    """What is proven of a requantizer."""
    if claim is None:
        return "-"
    if claim.equal:
        return "equal"
    if claim.equal is None:
        return f"{len(claim.undecided)} of {len(claim.cells)} cells undecided"
    unit = " inputs" if len(claim.reads) > 1 else ""
    return f"differs in {number(claim.count)} of {number(claim.reachable)}{unit}"


def bits(claim: RequantizerClaim | None) -> str:
    """The least width of a fixed-point multiplier that is exact."""
    if claim is None or claim.multiplier_bits is None:
        return "-"
    return str(claim.multiplier_bits[0]) if claim.multiplier_bits else "none"


def _state(states: Sequence[str]) -> str:
    worst = next((s for s in ("refuted", "open", "undecided") if s in states), "certified")
    return f"[{COLOURS[worst]}]{worst}[/]"


def lines(obstacle: Obstacle) -> list[str]:
    """An obstacle in a line: its last counterexample, which says most, or why there is none."""
    what = f"{obstacle.name}, {obstacle.kind}"
    if not obstacle.counterexamples or obstacle.status == "certified":
        return [f"{what}: {obstacle.reason}"]
    return [f"{what}: {one_line(obstacle.counterexamples[-1])}"]


def one_line(found: Counterexample) -> str:
    """Expected, got, where, and from what."""
    source = {"layer": "a layer input", "accumulator": "an accumulator"}.get(found.level, "a network input")
    if found.network is not None and found.network.sample is not None:
        source = f"sample {found.network.sample}"
    text = f"{source} gives {found.got}, expected {found.expected}, at {found.position}"
    if found.codes is None:
        return text
    return text + (" (masked: same code)" if found.masked else f" (code {found.codes[1]}, expected {found.codes[0]})")


def sentence(found: Certificate) -> str:
    """The verdict in words."""
    what = f"{found.model['file']} on {found.target['name']}"
    by = {s: [o for o in found.obstacles if o.status == s] for s in ("refuted", "open", "undecided")}
    counts = ", ".join(f"{len(v)} {s}" for s, v in by.items() if v)
    if found.verdict == "certified":
        return f"Every integer of the graph lowered from {what} is exact for every input, and {agreement(found)}"
    if found.verdict in ("disputed", "unread"):
        return agreement(found)
    first = by[found.verdict][0]
    if found.verdict == "refuted":
        return f"A network input makes integers of {what} wrong, first found in {first.name} ({counts})."
    if found.verdict == "open":
        searched = f"{found.samples['searched']} samples searched"
        return (
            f"{first.name} of {what} can make a wrong integer of inputs within its range; "
            f"no network input is known that gets there ({counts}; {searched})."
        )
    return f"Nothing wrong was found in {what}; at {first.name} the proof gave up ({counts})."


def agreement(found: Certificate) -> str:
    """What came of the second reading of the file, in words."""
    reading = found.reading
    if reading.first is not None:
        first = reading.first
        return (
            f"The lowered graph is not what an independent reading of {found.model['file']} says: {first.node} "
            f"({first.op}), {first.tensor} at {first.position}: the file gives {first.expected}, the graph {first.got} "
            f"(input {reading.inputs[first.input]})."
        )
    if reading.refused:
        return f"The graph could not be compared with an independent reading of the file: {reading.refused}"
    ties = f", {number(reading.near_ties)} of them near ties" if reading.near_ties else ""
    host = f", given {', '.join(reading.given)} of the host" if reading.given else ""
    return (
        f"{number(reading.integers)} integers on {len(reading.inputs)} inputs agree with an independent reading of the "
        f"file{ties}{host}."
    )


def show_check(console: Console, name: str, found: Check) -> None:
    """One line a difference, then the result."""
    for line in found.differences:
        console.print(Text(_printable(line)))
    for note in found.notes:
        console.print(Text(_printable(f"note: {note}")), style="dim")
    console.print(Text(_printable(f"target: {found.target}")))
    if found.confirmed:
        text = f"[green]confirmed[/]: {escape(name)} ({found.verdict}); {found.claims} claims computed again"
        again = f"{found.counterexamples} counterexamples run again, {number(found.integers)} integers read again"
        console.print(f"{text}, {again}")
    else:
        console.print(f"[red]not confirmed[/]: {escape(name)}, {len(found.differences)} differences")


def _printable(text: str) -> str:
    """What a certificate's texts hold must not move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)
