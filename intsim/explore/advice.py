"""What a network does on every runtime that intsim predicts: exact for all inputs, exact on these, or how wrong.

For each target of a runtime: a certificate where there is one; else the codes that differ from exact ones on samples,
where the first of them is made, and by what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.dispatch import machine
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph
from intsim.inputs import Inputs, samples_of
from intsim.model import Model
from intsim.notebook import Shown
from intsim.proofs.certify import claims
from intsim.targets import Target
from intsim.verification.executed import opened
from intsim.verification.verify import verify

FORMAT = "intsim-advice-1"
Report = Callable[[str], None]
Standing = Literal["certified", "exact here", "near exact", "differs", "not predicted"]
"""Proven exact for every input; exact on the samples; the same of a target from which the library's codes may lie an
LSB or so away (`within_lsb`); not exact on them; the target refuses a node."""


@dataclass
class RuntimeAdvice:
    """The network on one runtime.

    `elements` codes were compared; `mismatches` differ from exact ones, by `max_lsb` at most; `layer` is where the
    first of them is made, `blame` "overflow", "rounding" or "requantizer". `rewritten` values of outputs differ because
    the runtime executes another graph than the file's. `reason` says why nothing is predicted. `remedy` is what helps,
    empty where nothing need be done.
    """

    target: str
    runtime: str
    standing: Standing
    elements: int = 0
    mismatches: int = 0
    output_elements: int = 0
    output_mismatches: int = 0
    max_lsb: int = 0
    overflows: int = 0
    rewritten: int = 0
    layer: str | None = None
    blame: str | None = None
    reason: str | None = None
    remedy: str = ""


@dataclass
class Advice(Shown):
    """What `intsim.advise` returns, a line for each target of a runtime."""

    model: str
    samples: int
    seed: int | None
    runtimes: list[RuntimeAdvice] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every runtime that is predicted is exact, as far as is known."""
        return not any(x.standing == "differs" for x in self.runtimes)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return {"format": FORMAT, **asdict(self), "holds": self.holds}


def runtime_targets() -> list[Target]:
    """The built-in targets that predict a runtime."""
    return [t for name in Target.names() if (t := Target.load(name)).runtime is not None]


def advise(
    model: str | Path | onnx.ModelProto | Model,
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    targets: Sequence[str | Path | Target] | None = None,
    progress: Report | None = None,
) -> Advice:
    """Say of each runtime whether it computes what the file says.

    Args:
        model: path, ModelProto or what `load` returned.
        inputs, samples, seed: as `verify` takes them; 1 sample is drawn by default.
        targets: which ones; every built-in target with a runtime if None.
        progress: called with a line of text before each step.

    Raises:
        IntsimError: bad model, targets or inputs.
    """
    loaded = opened(model, inputs)
    loaded.check_whole("advice")
    chosen = runtime_targets() if targets is None else [Target.load(t) for t in targets]
    data = list(samples_of(loaded, inputs, samples, seed))
    told = Advice(loaded.path, len(data), None if inputs is not None else int(seed))
    say = progress or (lambda text: None)
    read: dict[str | None, Model | IntsimError] = {}
    for target in chosen:
        say(target.name)
        if target.rewriter not in read:
            try:
                read[target.rewriter] = opened(loaded, target=target)
            except IntsimError as error:
                read[target.rewriter] = error
        told.runtimes.append(_one(loaded, read[target.rewriter], target, data))
    return told


def _one(
    model: Model, executed: Model | IntsimError, target: Target, data: Sequence[Mapping[str, NDArray[Any]]]
) -> RuntimeAdvice:
    """Of the graph that the runtime executes; where that is another one, of the file's outputs, too."""
    runtime = str(target.runtime) if target.runtime is not None else target.title
    within = 0 if target.runtime is None else target.runtime.within_lsb
    try:
        if isinstance(executed, IntsimError):
            raise executed
        on = machine(executed.graph, target)
        layers, requantizers, _, _ = claims(executed.graph, target)
        proven = all(x.holds for x in layers) and all(x.equal and not x.undecided for x in requantizers)
        rewritten = 0 if executed is model else _rewritten(model, executed, data)
        if proven and not within and not rewritten and same_program(model.graph, executed.graph):
            return RuntimeAdvice(target.name, runtime, "certified")
        verdict = verify(executed, target, data, references=False)
    except IntsimError as error:
        return RuntimeAdvice(target.name, runtime, "not predicted", reason=str(error))
    ends = {on.graph.tensors[n].name for n in executed.graph.outputs}
    last = [x for x in verdict.layers if x.tensor in ends] or verdict.layers[-1:]
    wrong = sum(x.mismatches for x in verdict.layers)
    advice = RuntimeAdvice(
        target.name,
        runtime,
        "differs" if wrong or rewritten else "near exact" if within else "exact here",
        sum(x.elements for x in verdict.layers),
        wrong,
        sum(x.elements for x in last),
        sum(x.mismatches for x in last),
        max((x.max_lsb for x in verdict.layers), default=0),
        verdict.overflows,
        rewritten,
    )
    if (at := verdict.first_divergence) is not None:
        advice.layer, advice.blame = at["name"], at["blame"]
    advice.remedy = _remedy(advice, target)
    return advice


def same_program(file: IntegerGraph, executed: IntegerGraph) -> bool:
    """Whether two graphs are one but for names: the same nodes in the same order, on tensors of the same meaning."""
    return file is executed or _nameless(file) == _nameless(executed)


def _nameless(graph: IntegerGraph) -> list[Any]:
    """What a graph computes, its tensors numbered."""
    names = [*graph.inputs, *(n.output for n in graph.nodes)]
    number = {name: i for i, name in enumerate(names)}
    told: list[Any] = [len(graph.inputs), [number[n] for n in graph.outputs]]
    for name in names:
        t = graph.tensors[name]
        told.append((t.shape, t.type, t.low, t.high, t.scale.tolist(), t.offset.tolist()))
    for node in graph.nodes:
        arrays = {key: (a.shape, a.dtype, a.tobytes()) for key, a in node.arrays.items()}
        attributes = node.attributes
        if node.op == "requantize" and attributes["low"] is not None:
            least = Fraction(attributes["low"] - attributes["zero"])
            attributes = attributes | {"pieces": [_without_floor(p, least) for p in attributes["pieces"]]}
        told.append((node.op, [number[i] for i in node.inputs], attributes, arrays))
    return told


def _without_floor(pieces: list[Any], least: Fraction) -> list[Any]:
    """Without a first piece, a Relu's, where all codes are the least one with it and would be without it."""
    if len(pieces) == 2:
        (_, flat, level), (start, slope, offset) = pieces
        ends = Fraction(level), Fraction(slope) * start + Fraction(offset)
        if not Fraction(flat) and Fraction(slope) > 0 and max(ends) <= least:
            return [[None, slope, offset]]
    return pieces


def _rewritten(model: Model, executed: Model, data: Sequence[Mapping[str, NDArray[Any]]]) -> int:
    """Values of outputs that the runtime's graph, in exact arithmetic, makes otherwise than the file."""
    count = 0
    for sample in data:
        own, other = (m.run(sample).outputs for m in (model, executed))
        count += sum(int(np.count_nonzero(own[name] != other[name])) for name in own)
    return count


def _remedy(advice: RuntimeAdvice, target: Target) -> str:
    """What helps, by what makes the codes differ, on this target."""
    if advice.standing == "near exact":
        return "kernels of the library differ from its target in some codes, by what its notes say (intsim targets)"
    if advice.standing == "exact here":
        return "" if not advice.overflows else "registers overflow without effect here; see intsim bounds"
    if advice.blame == "rounding":
        return "registers round products: give them an lsb as fine as the products' own"
    if advice.overflows:
        cpu = " or a CPU with VNNI" if target.runtime is not None and target.runtime.cpu == "avx2" else ""
        return f"pairs of products saturate: 7-bit weights (reduce_range){cpu}"
    if advice.rewritten and not advice.mismatches:
        by = target.rewriter
        return f"{by} executes another graph, with other outputs; intsim verify --as {by} shows it"
    return f"the kernels round otherwise, by at most {advice.max_lsb} LSB: train or calibrate with this in mind"
