"""The one thing to do next where something is unsafe or wrong: in words that were checked, and as a command to type.

A register is said to be wide enough only after the bounds were proven again with it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from intsim.dispatch import arithmetic
from intsim.errors import IntsimError
from intsim.explore.configuration import Configuration, configured
from intsim.model import Model
from intsim.ops import LAYER_ENDS
from intsim.proofs.bounds import Bounds, LayerBound, bounds
from intsim.report.table import say
from intsim.report.text import counted
from intsim.targets import Target
from intsim.targets.library import is_path

if TYPE_CHECKING:
    from intsim.explore.search import Search
    from intsim.explore.sweep import Sweep
    from intsim.proofs.certificate import Certificate
    from intsim.verification.verdict import Verdict

MOST_BITS = 64
"""Of a register."""


@dataclass(frozen=True)
class NextStep:
    """What to do, a command that does or shows it, and the layer that asks for it."""

    text: str
    command: str
    layer: str | None = None


class Asked(Protocol):
    """What the user asked about."""

    target: str

    @property
    def loaded(self) -> Model:
        """The model."""

    @property
    def chosen(self) -> Target:
        """The target."""

    def command(self, verb: str, *more: object, target: str | None = None, data: bool = False) -> str:
        """A command on the same model, with the same target unless another is given; `data`: on the same samples."""


def show_step(console: Console, step: NextStep | None) -> None:
    """The words, and below them the command in one piece."""
    if step is not None:
        say(console, ("next: ", "bold"), step.text)
        console.print(f"  {step.command}", markup=False, soft_wrap=True)


def with_step(content: Mapping[str, Any], step: NextStep | None) -> dict[str, Any]:
    """JSON with the step as `next_step`, null where there is nothing to do."""
    return {**content, "next_step": None if step is None else asdict(step)}


def widen(asked: Asked, proven: Bounds | None = None) -> NextStep:
    """What makes every register of the target wide enough, for every input; `proven` are its bounds if known."""
    proven = proven or bounds(asked.loaded, asked.chosen)
    unsafe = [x for x in proven.layers if not x.safe]
    if not unsafe and _rounds(asked.chosen):
        text = f"registers of {asked.target} round products; with an lsb as fine as the products' they keep them"
        return NextStep(text, asked.command("bounds"))
    if not unsafe:
        return NextStep("a register overflowed that is proven safe: please report this", asked.command("bounds"))
    if asked.chosen.when or _rounds(asked.chosen):
        return _ruled(asked, unsafe)
    at = _first_unsafe(proven)
    wide = _wide_enough(asked.loaded, asked.chosen, proven)
    layer = _widest(proven if wide is None else wide[1], at)
    if wide is None:
        bits = layer.stages[at].required_bits
        text = f"{layer.name} needs {bits} bits in stage {at + 1}, and no width is proven enough"
        return NextStep(text + "; narrow its weights or activations", asked.command("bounds"), layer.name)
    enough = wide[0]
    changes = _changes(asked.chosen, enough)
    more = f" and {counted(len(unsafe) - 1, 'layer')} more" if len(unsafe) > 1 else ""
    text = f"{' and '.join(w for w, _ in changes)} for {layer.name}{more}; then no register can overflow"
    name = _named(enough, asked.target)
    if name is not None:
        return NextStep(f"{text}: target {name}", asked.command("bounds", target=name), layer.name)
    if is_path(asked.target):
        return NextStep(f"{text}: change {asked.target}, and prove it", asked.command("bounds"), layer.name)
    text += f"; {asked.target} has no such register, so choose another target or write one"
    arguments = changes[0][1] if len(changes) == 1 else None
    if arguments is None:
        return NextStep(text, "intsim targets", layer.name)
    return NextStep(text, _sweep(asked, *arguments, data=True), layer.name)


def _rounds(target: Target) -> bool:
    """Whether its registers have an LSB of their own; bits that layers need are then in different units."""
    return any(t.stages and t.stages[0].rounding is not None for t in (target, *target.arithmetics))


def _ruled(asked: Asked, unsafe: Sequence[LayerBound]) -> NextStep:
    """Of a target with rules or an LSB of its own: the layer that needs most beyond what it has."""
    stages = [(s.required_bits - s.bits, s, x) for x in unsafe for s in x.stages if s.unsafe_channels]
    _, stage, layer = max(stages, key=lambda t: t[0])
    text = (
        f"{layer.name} needs {stage.required_bits} bits in stage {stage.stage} and has {stage.bits}; narrow its "
        "weights (7 bits in pairs of products), or "
    )
    if _rounds(asked.chosen):
        return NextStep(f"{text}give them", asked.command("bounds"), layer.name)
    if asked.chosen.runtime is None:
        return NextStep(f"{text}choose a target whose rules don't saturate", asked.command("bounds"), layer.name)
    return NextStep(f"{text}see on which runtimes it is exact", asked.command("advise", data=True), layer.name)


def _wide_enough(model: Model, target: Target, proven: Bounds) -> tuple[Target, Bounds] | None:
    """The target with changes that are proven to suffice, and the bounds they come from; None where none are known."""
    for candidate in _repacked(target, proven):
        # behind registers that clip or wrap more or less may arrive than behind wide ones
        stages = range(len(candidate.stages))
        needs = bounds(model, _widened(candidate, [MOST_BITS for _ in stages]))
        wider = _widened(candidate, [_widest(needs, i).stages[i].required_bits for i in stages])
        if needs.safe and bounds(model, wider).safe:
            return wider, needs
    return None


def _first_unsafe(proven: Bounds) -> int:
    """The first register, from 0, that can overflow in some layer."""
    registers = enumerate(zip(*(x.stages for x in proven.layers), strict=True))
    return next(i for i, stages in registers if any(s.unsafe_channels for s in stages))


def _widest(proven: Bounds, stage: int) -> LayerBound:
    """The layer that needs most bits in a register."""
    return max(proven.layers, key=lambda x: x.stages[stage].required_bits)


def _changed(target: Target, **changes: object) -> Target:
    """With other registers, or another reading of packed fields."""
    return target.model_copy(update={"accumulate": target.accumulate.model_copy(update=changes)})


def _widened(target: Target, bits: Sequence[int]) -> Target:
    """With registers of at least so many bits; the fields of a packed multiplier stay."""
    stages = list(target.accumulate.stages)
    for i in range(target.accumulate.packing is not None, len(stages)):
        stages[i] = replace(stages[i], bits=max(stages[i].bits, bits[i]))
    return _changed(target, stages=tuple(stages))


def _repacked(target: Target, proven: Bounds) -> Iterator[Target]:
    """The target, or where fields of a packed multiplier are read wrong: with a correction, with smaller groups."""
    accumulate, packing = target.accumulate, target.accumulate.packing
    if packing is None or not any(x.stages[0].unsafe_channels for x in proven.layers):
        yield target
        return
    corrected = replace(packing, correction="borrow")
    if packing.correction != "borrow":
        yield _changed(target, packing=corrected)
    first = accumulate.stages[0]
    size = max(x.depth for x in proven.layers) if first.sum is None else first.sum
    while size > 1:
        size = size - 1 if size <= 8 else size // 2
        yield _changed(target, packing=corrected, stages=(replace(first, sum=size), *accumulate.stages[1:]))


def _changes(before: Target, after: Target) -> list[tuple[str, list[object] | None]]:
    """Each in words, and the arguments of a sweep that shows it, if one does."""
    changes: list[tuple[str, list[object] | None]] = []
    old, new = before.accumulate.packing, after.accumulate.packing
    if old is not None and new is not None and old.correction != new.correction:
        changes.append((f'read the packed fields with correction "{new.correction}"', None))
    for i, (a, b) in enumerate(zip(before.stages, after.stages, strict=True)):
        if a.sum != b.sum:
            changes.append((f"add up {b.sum} products at a time in stage {i + 1}, not {a.sum or 'all'},", None))
        if a.bits != b.bits:
            what = f"stage {i + 1}" if a.lanes == 1 else f"the {a.lanes} lanes of stage {i + 1}"
            arguments: list[object] = ["--stage", i + 1, "-a", b.bits, "--overflow", b.overflow]
            changes.append((f"widen {what} from {a.bits} to {b.bits} bits", arguments))
    return changes


def _named(target: Target, asked: str) -> str | None:
    """A target with these registers and this requantizer: built in, or of the same numbered family as `asked`."""
    widths = {str(s.bits) for s in target.stages}
    members = [m for w in sorted(widths) if (m := re.sub(r"-\d+(?=(\.toml)?$)", f"-{w}", asked)) != asked]
    for name in (*members, *Target.names()):
        try:
            known = Target.load(name)
        except IntsimError:
            continue
        if (known.registers, known.requantize) == (target.registers, target.requantize):
            return name
    return None


def _sweep(asked: Asked, *arguments: object, data: bool = False) -> str:
    """A sweep into a folder that no other sweep is in, as its name says what is swept: model, target, options, data."""
    options = shlex.split(asked.command("sweep", *arguments, data=data))[5:]  # behind intsim sweep MODEL -t TARGET
    words = ["sweep", Path(asked.loaded.path).stem, asked.chosen.name, *(Path(w).stem.strip("-") for w in options)]
    return asked.command("sweep", *arguments, "-o", re.sub(r"[^\w.-]", "-", "-".join(words)), data=data)


def after_verify(asked: Asked, verdict: Verdict) -> NextStep | None:
    """Behind a verdict."""
    at = verdict.first_divergence
    if verdict.holds:
        return None
    if at is not None and at["blame"] == "lowering":
        return _read_apart(at["name"], at["op"], asked.command("inspect"))
    if verdict.overflows or (at is not None and at["blame"] == "rounding"):
        return widen(asked)
    layer = at["name"] if at is not None else next(x.name for x in verdict.layers if x.mismatches)
    return _requantizer(asked, layer)


def _read_apart(name: str, op: str, command: str) -> NextStep:
    return NextStep(f"intsim reads {name} ({op}) in two ways, one of them wrong: please report this", command, name)


def _requantizer(asked: Asked, layer: str, widths: Sequence[set[int]] | None = None) -> NextStep:
    """Behind a requantizer that makes other codes; `widths` are the exact multiplier widths of each, if known."""
    if (runtime := asked.chosen.runtime) is not None:
        text = f"{runtime.name} makes other codes of {layer} than exact arithmetic, and has no other kernel; "
        return NextStep(f"{text}see on which runtimes it is exact", asked.command("advise", data=True), layer)
    requantizer = _of_layer(asked, layer).requantize
    text = f"the requantizer of {layer} ({requantizer.scheme}) makes other codes than exact arithmetic; "
    if widths is None:
        command = asked.command("certify", "--multipliers")
        return NextStep(f"{text}see which multipliers are wide enough to be exact", command, layer)
    common = set.intersection(*widths) if widths else set()
    if common:
        own = requantizer.with_width(min(common))
        rounded = "rounded once, half_up" if own is None else "rounded as it is"
        text += f"a fixed-point multiplier of {min(common)} bits, {rounded}, is exact in every layer"
        return NextStep(text, _sweep(asked, "-m", min(common)), layer)
    text += 'no fixed-point multiplier is exact in every layer, thresholds are: scheme = "thresholds"'
    return NextStep(text, asked.command("certify", target="finn-mvau"), layer)


def _of_layer(asked: Asked, layer: str) -> Target:
    """The arithmetic of the layer with this name, which a rule may have chosen."""
    graph = asked.loaded.graph
    named = [n for n in graph.nodes if n.shown == layer and n.op in LAYER_ENDS]
    return arithmetic(asked.chosen, graph, named[-1]) if named else asked.chosen


def after_certify(asked: Asked, certificate: Certificate) -> NextStep | None:
    """Behind a certificate."""
    reading = certificate.reading
    if certificate.holds:
        return None
    if certificate.verdict == "disputed" and reading.disagreement is not None:
        at = reading.disagreement
        return _read_apart(at.name, at.op, asked.command("verify", target="exact"))
    if certificate.verdict == "unread":
        text = "the graph is proven, that it is what the file means is not; compare it with float executors"
        return NextStep(text, asked.command("verify"))
    stands = [o for o in certificate.obstacles if o.status != "certified"]
    codes = [o for o in stands if o.kind == "requantizer"]
    if any(o.kind == "registers" for o in stands):
        step = widen(asked)
        behind = f"; {counted(len(codes), 'requantizer')} will still differ" if codes else ""
        return NextStep(step.text + behind, step.command, step.layer)
    widths = [set(r.exact_multiplier_widths) for r in certificate.requantizers if r.exact_multiplier_widths is not None]
    return _requantizer(asked, codes[0].name, widths if certificate.multipliers else None)


def after_check(asked: Asked, path: Path) -> NextStep:
    """Behind a certificate that is not confirmed."""
    try:
        known = Target.load(asked.target).name
    except IntsimError:
        known = f"{asked.target}.toml"
    text = "the certificate does not hold for this model and target; make one that does"
    return NextStep(text, asked.command("certify", "--out", path, target=known))


def after_sweep(asked: Asked, swept: Sweep) -> NextStep | None:
    """Behind a sweep whose widest register is not proven, or in which no multiplier gives exact codes."""
    own = [r for r in swept.rows if replace(r.configuration.setting, multiplier=None) == Configuration()]
    widest = max(swept.accumulators, default=0)
    points = [r for r in own if r.configuration.accumulator == widest and not r.proven]
    if points and swept.stage is not None:
        return _wider_sweep(asked, swept, points[0].configuration)
    rows = [r for r in own if r.configuration.accumulator is None]
    if rows and all(any(x.mismatches for x in r.layers) for r in rows):
        if not all(r.observed for r in rows):
            return widen(asked)
        layer = next(x.name for x in rows[-1].layers if x.mismatches)
        return _requantizer(asked, layer)
    return None


def after_search(asked: Asked, made: Search, out: Path) -> NextStep | None:
    """Behind a search: what the registers of its knee hold, or of the best point where there is none."""
    best = made.best
    if best is None or best.file is None:
        return None
    model = str(out / f"{best.file}.onnx") if best.weights or best.activations else asked.loaded.path
    text = f"{best.file} is {'the knee' if best.knee else 'the best of the front'}; see what its registers hold"
    return NextStep(text, shlex.join(["intsim", "bounds", model, "-t", str(out / f"{best.file}.toml")]))


def _wider_sweep(asked: Asked, swept: Sweep, point: Configuration) -> NextStep:
    """The width of the swept register from which on it is proven, if it is that register alone."""
    if asked.chosen.when or _rounds(asked.chosen):
        return widen(asked)
    stage, widest = int(swept.stage or 1), int(point.accumulator or 0)

    def at(bits: int) -> Bounds:
        wider = configured(asked.chosen, stage - 1, Configuration(bits, point.overflow, point.multiplier))
        return bounds(asked.loaded, wider)

    worst = _widest(at(MOST_BITS), stage - 1)
    needs, layer = max(widest, worst.stages[stage - 1].required_bits), worst.name
    if needs > MOST_BITS:
        text = f"{layer} needs more than {MOST_BITS} bits; narrow its weights or activations"
        return NextStep(text, asked.command("bounds"), layer)
    proven = at(needs)
    if not proven.safe:
        i = _first_unsafe(proven)
        worst = _widest(proven, i)
        bits = worst.stages[i].required_bits
        wider = configured(asked.chosen, i, Configuration(bits, point.overflow, point.multiplier))
        packed = i == 0 and asked.chosen.accumulate.packing is not None  # its width is that of the fields
        if packed or not bounds(asked.loaded, wider).safe:
            return widen(asked)
        text = f"at every width of stage {stage}, stage {i + 1} of {worst.name} can overflow; sweep that one"
        return NextStep(text, _sweep(asked, "--stage", i + 1, "-a", bits), worst.name)
    text = f"no register can overflow from {needs} bits on, which {layer} needs; {widest} were the most swept"
    arguments = ["-a", f"{widest}:{needs}", "--overflow", ",".join(swept.rules)]
    if asked.chosen.stages:
        arguments += ["--stage", str(stage)]
    return NextStep(text, _sweep(asked, *arguments, data=True), layer)
