"""What a result comes to: its verdict in words, the layer that limits the widths, a case a layer.

The page, the summary for a pull request and JUnit all say what is here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from intsim.diagnosis.identify import Identification
from intsim.explore.advice import Advice
from intsim.explore.evaluate import Evaluated
from intsim.explore.observed import Observed
from intsim.explore.search import Search
from intsim.explore.sweep import SafeFrom, Sweep
from intsim.explore.telemetry import StageTelemetry, Telemetry
from intsim.golden.compare import Comparison
from intsim.proofs.bounds import Bounds, LayerBound
from intsim.proofs.certificate import Certificate
from intsim.proofs.propose import Proposal
from intsim.report.certificate import lines, sentence
from intsim.report.diagnosis import VERDICTS
from intsim.report.results import Checked, Outputs
from intsim.report.text import counted, number
from intsim.report.vectors import first_wrong
from intsim.report.verdict import first_divergence, inputs, word
from intsim.rtl.cosimulation import Cosimulation
from intsim.verification.verdict import LayerVerdict, Verdict
from intsim.verification.witness import Witnessed


class Case(NamedTuple):
    """A layer, or another part that holds or fails: why it does, "" where it doesn't."""

    name: str
    why: str


class Need(NamedTuple):
    """What a register of a layer has to hold; `bits` is its width, None where there is no register."""

    layer: str
    stage: int
    bits: int | None
    overflow: str | None
    required: int

    @property
    def missing(self) -> int:
        """Bits, below 0 where some are to spare; without a register what it would take."""
        return self.required - (self.bits or 0)


@dataclass(frozen=True)
class Summary:
    """A result in words.

    Attributes:
        verb: that made it.
        subject: what it is about: a model on a target, say.
        verdict: in a word or two.
        holds: None where nothing is judged.
        text: the verdict in a sentence.
        limit: the layer that limits the widths, and by how much; empty where the result says nothing of widths.
        cases: its layers, those that fail with the reason.
    """

    verb: str
    subject: str
    verdict: str
    holds: bool | None
    text: str
    limit: str = ""
    cases: list[Case] = field(default_factory=list)

    @property
    def failures(self) -> list[Case]:
        """The cases that don't hold."""
        return [c for c in self.cases if c.why]


def limiting(needs: Iterable[Need]) -> list[Need]:
    """The worst register of each layer, the layer that limits the widths first."""
    worst: dict[str, Need] = {}
    for need in needs:
        if need.layer not in worst or need.missing > worst[need.layer].missing:
            worst[need.layer] = need
    return sorted(worst.values(), key=lambda n: -n.missing)


def limit(needs: Sequence[Need], how: str) -> str:
    """Which layer limits the widths, by how much, and what would do for all others; `how`: on which inputs."""
    ranked = limiting(needs)
    if not ranked:
        return ""
    first = ranked[0]
    alike = {n.layer for n in ranked if n.missing == first.missing}
    who = (
        f"{first.layer} and {counted(len(alike) - 1, 'layer')} more limit"
        if len(alike) > 1
        else f"{first.layer} limits"
    )
    if first.bits is None:
        text = f"{who} the width: a register for its sums needs {first.required} bits {how}"
    else:
        kept = f"stage {first.stage} has {first.bits} bits ({first.overflow}) and needs {first.required} {how}"
        apart = f"{counted(first.missing, 'bit')} too few" if first.missing > 0 else f"{-first.missing} to spare"
        text = f"{who} the width: {kept}, {apart}"
    others = [n.required for n in needs if n.layer not in alike and n.stage == first.stage]
    return f"{text}; every other layer fits in {max(others)}" if others else text


def needs_of(result: object) -> list[Need]:
    """The registers that a result speaks of: proven of bounds and certificates, observed of telemetry."""
    if isinstance(result, Telemetry):
        return [Need(x.name, s.stage, s.bits, s.overflow, max(s.channel_bits)) for x in result.layers for s in x.stages]
    if isinstance(result, Bounds):
        return [need for x in result.layers for need in _bound(x)]
    if isinstance(result, Certificate):
        return [Need(x.name, s.stage, s.bits, s.overflow, s.required_bits) for x in result.layers for s in x.stages]
    return []


def _bound(layer: LayerBound) -> list[Need]:
    if not layer.stages:
        return [Need(layer.name, 1, None, None, layer.own_order.required_bits)]
    return [Need(layer.name, s.stage, s.bits, s.overflow, s.required_bits) for s in layer.stages]


ALWAYS, SEEN = "for every input", "on these inputs"
BEHIND = " (of what registers that overflow hand on; behind wide ones it may be more)"
"""Bounds are of the target as it is."""


def can_overflow(layer: LayerBound) -> list[str]:
    """Of each register that isn't proven: its width, and the one that it needs."""
    return [
        f"stage {s.stage} has {s.bits} bits ({s.overflow}) and needs {s.required_bits}, "
        f"{s.unsafe_channels} of {counted(layer.channels, 'channel')} can overflow"
        for s in layer.stages
        if s.unsafe_channels
    ]


def overflowed(layer: LayerVerdict) -> list[str]:
    """Of each register that overflowed: how often."""
    return [
        f"{counted(s.overflows, 'overflow')} of the {s.bits}-bit register of stage {s.stage} ({s.overflow})"
        for s in layer.stages
        if s.overflows
    ]


def _verify(found: Verdict) -> Summary:
    wrong, total = sum(x.mismatches for x in found.layers), sum(x.elements for x in found.layers)
    events = f"{number(found.overflows)} overflow events" if found.overflows else "no register overflowed"
    text = f"{number(wrong)} of {number(total)} integers wrong, {events}, {inputs(found.samples, found.seed)}"
    if found.first_divergence is not None:
        text += f"; {first_divergence(found.first_divergence)}"
    return Summary(
        "verify", _on(found), word(found), found.holds, text, "", [Case(x.name, _wrong(x)) for x in found.layers]
    )


def _wrong(layer: LayerVerdict) -> str:
    parts = overflowed(layer)
    if layer.mismatches or layer.sum_mismatches:
        sums = f", {number(layer.sum_mismatches)} sums wrong" if layer.sum_mismatches else ""
        what = f"{number(layer.mismatches)} of {number(layer.elements)} integers wrong"
        parts.insert(0, f"{what}, at most {layer.max_lsb} LSB{sums}")
    return "; ".join(parts)


def _bounds(proven: Bounds) -> Summary:
    cases = [Case(x.name, "; ".join(can_overflow(x))) for x in proven.layers]
    unsafe = sum(bool(c.why) for c in cases)
    text = f"registers of {unsafe} of {counted(len(cases), 'layer')} can overflow"
    text = text if unsafe else "no register can overflow, for every input"
    word = "overflow is possible" if unsafe else "proven"
    told = limit(needs_of(proven), ALWAYS) + BEHIND * (unsafe > 1)
    return Summary("bounds", _on(proven), word, proven.safe, text, told, cases)


def _certify(made: Certificate) -> Summary:
    stands = [o for o in made.obstacles if o.status != "certified"]
    why = {o.node: "; ".join(t.removeprefix(f"{o.name}, ") for t in lines(o)) for o in stands}
    named = {x.node: x.name for x in made.layers} | {x.node: x.name for x in made.requantizers}
    named |= {o.node: o.name for o in made.obstacles}
    cases = [Case(name, why.get(node, "")) for node, name in named.items()]
    read_again = "" if made.reading.status == "certified" else sentence(made)
    cases.append(Case("the file, read a second time", read_again))
    subject = f"{made.model['file']} on {made.target['name']}"
    told = limit(needs_of(made), ALWAYS)
    return Summary("certify", subject, made.verdict, made.holds, sentence(made).removesuffix("."), told, cases)


def _check(found: Checked) -> Summary:
    check = found.check
    text = f"{counted(len(check.differences), 'difference')}" if check.differences else "every claim came out again"
    word = "confirmed" if check.confirmed else "not confirmed"
    why = "; ".join(check.differences)
    subject = f"{found.certificate} ({check.verdict})"
    return Summary("certify --check", subject, word, check.confirmed, text, "", [Case(found.certificate, why)])


def _telemetry(seen: Telemetry) -> Summary:
    data = inputs(seen.samples, seen.seed)
    text = f"{counted(seen.overflows, 'overflow event')}, {data}" if seen.overflows else f"no overflow, {data}"
    cases = [Case(x.name, "; ".join(map(_stage, (s for s in x.stages if s.overflows.sum())))) for x in seen.layers]
    told = limit(needs_of(seen), SEEN)
    word = "overflows" if seen.overflows else "observed"
    return Summary("telemetry", _on(seen), word, not seen.overflows, text, told, cases)


def _stage(stage: StageTelemetry) -> str:
    events, needed = counted(int(stage.overflows.sum()), "overflow event"), max(stage.channel_bits)
    return f"{events} in stage {stage.stage}, which has {stage.bits} bits ({stage.overflow}) and needed {needed}"


def _compare(found: Comparison) -> Summary:
    wrong, total = sum(t.mismatches for t in found.tensors), sum(t.elements for t in found.tensors)
    text = f"{number(wrong)} of {number(total)} integers differ"
    if found.wrong is not None and found.wrong.first is not None:
        text += f"; {first_wrong(found.wrong, found.wrong.first)}"
    many = [
        f"{number(t.mismatches)} of {number(t.elements)} integers wrong" * bool(t.mismatches) for t in found.tensors
    ]
    cases = [Case(f"{t.layer}, {t.tensor}", why) for t, why in zip(found.tensors, many, strict=True)]
    subject = f"{found.dump} against {found.vectors}"
    return Summary("compare", subject, "same" if found.same else "different", found.same, text, "", cases)


def _sweep(swept: Sweep) -> Summary:
    text = f"{counted(len(swept.rows), 'configuration')}, {inputs(swept.samples, swept.seed)}"
    return Summary("sweep", _on(swept), "compared", None, text, _proven_from(swept.safe_from(), swept.accumulators))


def _proven_from(safe: list[SafeFrom], widths: list[int]) -> str:
    """Which layer is proven last, under the rule that is swept first."""
    widest = max(widths, default=0)
    own = [(x.name, x.proven_from or widest + 1) for x in safe if x.overflow == safe[0].overflow]
    if not own:
        return ""
    name, bits = max(own, key=lambda x: x[1])
    text = f"{name} limits the width: proven from {bits} bits on"
    text = f"{name} limits the width: not proven up to {widest} bits, the most swept" if bits > widest else text
    others = max((b for n, b in own if n != name), default=0)
    return f"{text}; every other layer from {others} on" if 0 < others < bits else text


def _evaluate(done: Evaluated) -> Summary:
    means = [f"{m.name} {m.mean:.6g}" for m in done.metrics if m.mean is not None]
    wrong = {name: count for name, count in done.overflows.items() if count}
    events = f"{counted(sum(wrong.values()), 'overflow event')} in {counted(len(wrong), 'layer')}"
    parts = [*means, events if wrong else "no register overflowed", inputs(done.samples, done.seed)]
    return Summary("evaluate", _on(done), "overflows" if wrong else "observed", None, ", ".join(parts))


def _propose(made: Proposal) -> Summary:
    uniform = " and ".join(map(str, made.uniform_bits))
    text = (
        f"no register of target {made.proposed} can overflow, for every input; one width for all takes {uniform} bits"
    )
    needs = [Need(x.name, i, None, None, b) for x in made.layers for i, b in enumerate(x.bits, 1)]
    return Summary("bounds --propose", _on(made), "proven", None, text, limit(needs, ALWAYS))


def _observed(made: Observed) -> Summary:
    data = inputs(made.samples, made.seed)
    saved = f"{number(made.register_bits)} register bits, with proven widths {number(made.proven_register_bits)}"
    kept = "" if made.metric is None or made.value is None else f", {made.metric} {made.value:.6g}"
    needs = [Need(x.name, i, None, None, b) for x in made.layers for i, b in enumerate(x.observed_bits, 1)]
    return Summary("sweep --propose", _on(made), "observed", None, f"{saved}{kept}, {data}", limit(needs, SEEN))


WORST_FIRST = ("differs", "not predicted", "near exact", "exact here", "certified")
"""Standings of runtimes; nothing is said of all that isn't true of each."""


def _advise(told: Advice) -> Summary:
    cases = [
        Case(
            x.target, f"{x.standing}: {number(x.mismatches)} of {number(x.elements)} codes" * (x.standing == "differs")
        )
        for x in told.runtimes
    ]
    found = Counter[str](x.standing for x in told.runtimes)
    worst = [x for x in WORST_FIRST if found[x]]
    text = f"{counted(len(cases), 'runtime')}: {', '.join(f'{found[x]} {x}' for x in worst)}"
    return Summary("advise", told.model, next(iter(worst), "no runtime"), told.holds, text, "", cases)


def _witness(told: Witnessed) -> Summary:
    cases = [Case(x.name, f"{x.mismatches} codes not as predicted" * bool(x.mismatches)) for x in told.layers]
    word = "as predicted" if told.holds else "not as predicted"
    text = f"{counted(told.mismatches, 'code')} of {told.runtime} {told.version} not as predicted"
    text += f"; it shows no codes of {counted(len(told.hidden), 'layer')}" * bool(told.hidden)
    return Summary("witness", _on(told), word, told.holds, text, "", cases)


def _identify(found: Identification) -> Summary:
    subject = f"{found.dump} against {found.vectors}"
    holds = found.answer == "specification"
    return Summary("identify", subject, found.answer, holds, VERDICTS[found.answer][0])


def _run(ran: Outputs) -> Summary:
    text = f"{counted(ran.overflows, 'overflow event' if ran.counted else 'channel')}, {len(ran.outputs)} arrays"
    word = "overflows" if ran.overflows else "observed"
    return Summary("run", _on(ran), word, not ran.overflows, text if ran.overflows else "no register overflowed")


def _cosim(found: Cosimulation) -> Summary:
    why = "" if found.holds else f"{found.mismatches} wrong elements; the first in {found.words()}"
    word = "as expected" if found.holds else "not as expected"
    subject = f"{found.design} on {found.simulator}"
    return Summary(
        "cosim", subject, word, found.holds, why or f"{number(found.vectors)} rows", "", [Case(found.design, why)]
    )


def _inspect(content: dict[str, Any]) -> Summary:
    counts = f"{number(content['macs'])} MACs, {number(content['weights'])} weights"
    text = f"{counted(len(content['layers']), 'layer')}, {counts}"
    return Summary("inspect", content["model"], "described", None, text)


def _search(found: Search) -> Summary:
    front = sum(p.front for p in found.points)
    text = f"{counted(len(found.points), 'configuration')}, {front} on the front of {', '.join(found.objectives)}"
    return Summary("search", _on(found), "compared", None, text)


def _on(result: Any) -> str:
    return f"{result.model} on {result.target}"


WORDS: dict[type, Callable[[Any], Summary]] = {
    Advice: _advise,
    Bounds: _bounds,
    Certificate: _certify,
    Checked: _check,
    Comparison: _compare,
    Cosimulation: _cosim,
    Evaluated: _evaluate,
    Identification: _identify,
    Observed: _observed,
    Outputs: _run,
    Proposal: _propose,
    Search: _search,
    Sweep: _sweep,
    Telemetry: _telemetry,
    Verdict: _verify,
    Witnessed: _witness,
    dict: _inspect,
}
"""Of each kind of result."""


def summarize(result: object) -> Summary:
    """A result in words; raises KeyError for what is none."""
    return WORDS[type(result)](result)
