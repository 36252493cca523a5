"""Certificates for people: what is proven of each layer, what stands between, and the verdict in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from intsim.proofs.certificate import Certificate, Counterexample, LayerClaim, Obstacle, RequantizerClaim
from intsim.proofs.check import Check
from intsim.report.table import Column, note, say, show_table
from intsim.report.text import floats, listed, number

COLOURS = {"certified": "green", "hybrid": "yellow", "disputed": "red", "refuted": "red"} | dict.fromkeys(
    ("open", "undecided", "unread"), "yellow"
)


def show_certificate(console: Console, certificate: Certificate) -> None:
    """The table of layers, a line for each counterexample, the verdict."""
    states = {o.node: o.status for o in certificate.obstacles}
    readers = {r.reads[0]: r for r in certificate.requantizers if len(r.reads) == 1}
    pairs: list[tuple[LayerClaim | None, RequantizerClaim | None]] = [
        (layer, readers.get(layer.tensor)) for layer in certificate.layers
    ]
    paired = {after.node for _, after in pairs if after is not None}
    pairs += [(None, alone) for alone in certificate.requantizers if alone.node not in paired]
    columns = [
        Column("layer", [layer.name if layer else after.name if after else "" for layer, after in pairs], "text"),
        Column("op", [layer.op if layer else "Quant" for layer, _ in pairs], "text"),
        Column("registers", [registers(layer) for layer, _ in pairs], "text"),
        Column("requantizer", [codes(after) for _, after in pairs], "text"),
    ]
    if certificate.multipliers:
        columns.append(Column("multiplier\nbits", [bits(after) for _, after in pairs]))
    state = [_state([states[n.node] for n in pair if n is not None and n.node in states]) for pair in pairs]
    title = f"{certificate.model['file']} on {certificate.target['name']}, {scope(certificate)}"
    show_table(console, [*columns, Column("status", state, "text")], title)
    for obstacle in certificate.obstacles:
        for line in lines(obstacle):
            say(console, line)
    for name, (low, high) in (certificate.model.get("input_ranges") or {}).items():
        note(console, f"assumed: input {name} holds {low}..{high}")
    for part in ("prologue", "islands", "epilogue"):
        if certificate.host.get(part):
            note(console, f"outside: host {part} ({floats(certificate.host)}): {listed(certificate.host[part])}")
    runtime = certificate.target["content"].get("runtime", {})
    if runtime.get("rewrites"):
        note(console, f"outside: real inputs, whose codes {runtime['name']} makes in float32")
    if runtime.get("within_lsb"):
        note(
            console,
            f"of the target: codes of {runtime['name']} {runtime['version']} may lie {runtime['within_lsb']} LSB from "
            "its codes in a layer, as its notes say",
        )
    if certificate.verdict not in ("certified", "hybrid", certificate.reading.status):
        say(console, agreement(certificate))
    verdict = certificate.verdict
    say(console, "verdict: ", (verdict, f"bold {COLOURS[verdict]}"), f". {sentence(certificate)}")


def registers(layer: LayerClaim | None) -> str:
    """What is proven of a layer's sums; a dash for a requantizer alone."""
    if layer is None:
        return "-"
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
    if claim is None or claim.exact_multiplier_widths is None:
        return "-"
    return str(claim.exact_multiplier_widths[0]) if claim.exact_multiplier_widths else "none"


def _state(states: Sequence[str]) -> Text:
    worst = next((s for s in ("refuted", "open", "undecided") if s in states), "certified")
    return Text(worst, COLOURS[worst])


def lines(obstacle: Obstacle) -> list[str]:
    """An obstacle in a line: its last counterexample, which says most, or why there is none."""
    what = f"{obstacle.name}, {obstacle.kind}"
    if not obstacle.counterexamples or obstacle.status == "certified":
        return [f"{what}: {obstacle.reason}"]
    return [f"{what}: {one_line(obstacle.counterexamples[-1])}"]


def one_line(case: Counterexample) -> str:
    """Expected, got, where, and from what."""
    source = {"layer": "a layer input", "accumulator": "an accumulator"}.get(case.level, "a network input")
    if case.network is not None and case.network.sample is not None:
        source = f"sample {case.network.sample}"
    text = f"{source} gives {case.got}, expected {case.expected}, at {case.position}"
    if case.codes is None:
        return text
    return text + (" (masked: same code)" if case.masked else f" (code {case.codes[1]}, expected {case.codes[0]})")


def sentence(certificate: Certificate) -> str:
    """The verdict in words."""
    what = f"{certificate.model['file']} on {certificate.target['name']}"
    by = {s: [o for o in certificate.obstacles if o.status == s] for s in ("refuted", "open", "undecided")}
    counts = ", ".join(f"{len(v)} {s}" for s, v in by.items() if v)
    if certificate.verdict == "certified":
        exact = f"Every integer of the graph lowered from {what} is exact {scope(certificate)}"
        return f"{exact}, and {agreement(certificate)}"
    if certificate.verdict == "hybrid":
        exact = f"Every integer of the graph lowered from {what} is exact {scope(certificate)}"
        return f"{exact}, and {agreement(certificate)} Nothing is said of the floats, nor of the whole."
    if certificate.verdict in ("disputed", "unread"):
        return agreement(certificate)
    first = by[certificate.verdict][0]
    if certificate.verdict == "refuted":
        return f"A network input makes integers of {what} wrong, first found in {first.name} ({counts})."
    if certificate.verdict == "open":
        searched = f"{certificate.search['samples']} samples searched"
        return (
            f"{first.name} of {what} can make a wrong integer of inputs within its range; "
            f"no network input is known that gets there ({counts}; {searched})."
        )
    return f"Nothing wrong was found in {what}; at {first.name} the proof gave up ({counts})."


def scope(certificate: Certificate) -> str:
    """What the certificate is of: a runtime that makes the codes of real inputs by itself rounds some otherwise."""
    if certificate.verdict == "hybrid":
        return "between float islands, for all codes that these may hand on"
    rewrites = certificate.target["content"].get("runtime", {}).get("rewrites")
    return "for all codes of the inputs" if rewrites else "for every input"


def agreement(certificate: Certificate) -> str:
    """What came of the second reading of the file, in words."""
    reading = certificate.reading
    if reading.disagreement is not None:
        first = reading.disagreement
        return (
            f"The lowered graph is not what an independent reading of {certificate.model['file']} says: {first.name} "
            f"({first.op}), {first.tensor} at {first.position}: the file gives {first.expected}, the graph {first.got} "
            f"(input {reading.inputs[first.input]})."
        )
    if reading.refused:
        return f"The graph could not be compared with an independent reading of the file: {reading.refused}"
    ties = f", {number(reading.near_ties)} of them near ties" if reading.near_ties else ""
    host = f", given {listed(reading.cut)} of the host" if reading.cut else ""
    return (
        f"{number(reading.elements)} integers on {len(reading.inputs)} inputs agree with an independent reading of the "
        f"file{ties}{host}."
    )


def show_check(console: Console, name: str, check: Check) -> None:
    """One line a difference, then the result."""
    for line in check.differences:
        say(console, line)
    for line in check.notes:
        note(console, f"note: {line}")
    say(console, f"target: {check.target}")
    if check.confirmed:
        again = f"{check.counterexamples} counterexamples run again, {number(check.elements)} integers read again"
        text = f": {name} ({check.verdict}); {check.claims} claims computed again, {again}"
        say(console, ("confirmed", "green"), text)
    else:
        say(console, ("not confirmed", "red"), f": {name}, {len(check.differences)} differences")
