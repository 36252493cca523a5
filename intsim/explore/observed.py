"""Registers that were enough on some data, layer by layer, as a target: below what is proven, so no certificate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import tomli_w
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.explore.metrics import Metric, labels_of, read_metrics
from intsim.explore.network_costs import read_costs
from intsim.explore.search import MOST_SLACK, Problem, Ranges
from intsim.explore.telemetry import telemetry
from intsim.inputs import Inputs, samples_of
from intsim.model import Model
from intsim.notebook import Shown
from intsim.targets import Target
from intsim.verification.executed import opened

FORMAT = "intsim-observed-1"
Report = Callable[[str], None]


@dataclass(frozen=True)
class ObservedLayer:
    """Of one layer, stage by stage: `bits` that are kept, `observed_bits` in which nothing overflows on these inputs,
    `proven_bits` in which nothing does on any."""

    name: str
    bits: list[int]
    observed_bits: list[int]
    proven_bits: list[int]


@dataclass(frozen=True)
class Observed(Shown):
    """What `intsim.propose_observed` returns.

    Attributes:
        model, target: what it was asked of; proposed: the name of the target that came out.
        samples, seed: of the data; None where it was given.
        metric: that had to be kept, at `keep` or better; None: that no register overflows.
        value: of the metric with these registers, `proven_value` with proven ones; None where there is no metric.
        overflows: events on these inputs.
        layers: with their widths.
        register_bits: of all registers, where every channel has its own; `proven_register_bits` of proven ones.
        toml: the text of the target's file.
    """

    model: str
    target: str
    proposed: str
    samples: int
    seed: int | None
    metric: str | None
    keep: float | None
    value: float | None
    proven_value: float | None
    overflows: int
    layers: list[ObservedLayer]
    register_bits: int
    proven_register_bits: int
    toml: str

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers; what is not finite is null."""
        content = {"format": FORMAT, **asdict(self)}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}

    def load(self) -> Target:
        """The proposed target."""
        return Target.from_toml(self.toml, self.proposed)


def propose_observed(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    metric: str | Metric | None = None,
    keep: float | None = None,
    labels: str | Path | NDArray[Any] | None = None,
    name: str = "observed",
    progress: Report | None = None,
) -> Observed:
    """The target with a rule for each layer whose registers are as narrow as these inputs allow.

    Without a metric: no register overflows on them, as one pass of telemetry says. With one, each layer's registers in
    turn, those of most channels first, lose bits as long as the metric is kept; what overflows is allowed then.

    Args:
        model, target, inputs, samples, seed: as `telemetry` takes them.
        metric, labels: as `evaluate` takes them; `keep`: the value that the metric's mean must reach.
        name: of the new target.
        progress: called with a line of text before each run over the data.

    Raises:
        IntsimError: bad model, target, inputs, metric or labels; a network that multiplies nothing; a metric without
            `keep`, or one that isn't kept with proven registers either.
    """
    chosen = Target.load(target)
    loaded = opened(model, inputs, chosen)
    loaded.check_whole("widths that are enough")
    data = list(samples_of(loaded, inputs, samples, seed))
    if (metric is None) != (keep is None):
        raise IntsimError("a metric and the value that it must keep go together; give both or none")
    known = labels_of(labels, len(data))
    (measured,) = read_metrics(["mae" if metric is None else metric], known is not None)
    problem = Problem(loaded, chosen, data, measured, known, read_costs(["register_bits"]), Ranges(slack=MOST_SLACK))
    say = progress or (lambda text: None)
    say("proven registers")
    network = problem.network({}, {})
    needs = network.proven({})
    proven = problem.with_registers(needs)
    say("telemetry")
    fields = {n: network.fields(n) for n in needs}
    registers = {n: fields[n] + [1] * (len(bits) - len(fields[n])) for n, bits in needs.items()}
    for layer in telemetry(loaded, network.machine(needs, {}, "proven")[0], data).layers:  # a name may be of several
        seen = [max(s.channel_bits, default=1) for s in layer.stages]
        held = zip(registers[layer.name], needs[layer.name], seen, strict=True)
        registers[layer.name] = [max(have, min(need, bits)) for have, need, bits in held]
    observed = registers
    if keep is not None:
        if not _kept(proven.values[0], keep, measured.greater):
            reached = f"{measured.name} is {proven.values[0]:.6g} with proven registers already"
            raise IntsimError(f"{loaded.path}: {reached}; {keep:g} can't be kept")
        registers = _narrowed(problem, measured, keep, registers, say)
    best = problem.with_registers(registers)
    content = network.machine(registers, {}, name)[1]
    kept = [ObservedLayer(n, list(b), list(observed[n]), list(needs[n])) for n, b in registers.items()]
    return Observed(
        loaded.path,
        chosen.name,
        name,
        len(data),
        None if inputs is not None else int(seed),
        None if metric is None else measured.name,
        keep,
        None if metric is None else best.values[0],
        None if metric is None else proven.values[0],
        best.overflows,
        kept,
        int(best.values[1]),
        int(proven.values[1]),
        tomli_w.dumps(content),
    )


def _kept(value: float, keep: float, greater: bool) -> bool:
    return value >= keep if greater else value <= keep


def _narrowed(
    problem: Problem, metric: Metric, keep: float, registers: dict[str, list[int]], say: Report
) -> dict[str, list[int]]:
    """Bit by bit and layer by layer, while the metric is kept."""
    for layer in sorted(registers, key=lambda n: -problem.channels[n]):
        while True:
            fewer = problem.network({}, {}).fewer(layer, registers[layer], 1)
            if fewer == registers[layer]:
                break
            say(f"{layer}: {fewer[-1]} bits")
            tried = {**registers, layer: fewer}
            if not _kept(problem.with_registers(tried).values[0], keep, metric.greater):
                break
            registers = tried
    return registers
