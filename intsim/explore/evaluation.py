"""Evaluating a configuration, running no node whose result is known.

Known are the exact run, and for each requantizer the run with unbounded sums. One pass of telemetry over its layers
says for every width which of them stay as they are: a wrapping register keeps its sum unless the final sum does not
fit, a saturating one unless a partial sum does not. Other layers run on the target, and after them only what they
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.dispatch import arithmetic, machine
from intsim.engine.run import GraphRun, run_among, run_graph
from intsim.engine.telemetry.demand import above, mac_demand
from intsim.errors import IntsimError
from intsim.explore.configuration import Configuration, configured, swept_stage, unbounded
from intsim.explore.metrics import Metric, MetricResult
from intsim.explore.row import LayerRow, OutputRow, Row
from intsim.graph import IntArray, Node, Tensor
from intsim.inputs import Sample
from intsim.mac.plan import plan
from intsim.model import Model
from intsim.ops import LAYER_ENDS, OPS, Mac
from intsim.proofs.held import held
from intsim.targets import Target
from intsim.verification.layers import layers

MOST_BYTES = 2 << 30
"""Tensors of known runs that are kept; beyond, a run is repeated when it is needed."""
Report = Callable[[str], None]


class Counts(NamedTuple):
    """A layer's groups by the bits they need, (stages, bins), over all channels."""

    partial: IntArray
    final: IntArray


@dataclass
class Known:
    """A run with unbounded sums: every tensor, the bytes of those that are its own, what registers would need."""

    tensors: dict[str, IntArray]
    size: int
    counts: dict[str, Counts] = field(default_factory=dict)


@dataclass
class Outcome:
    """One sample on one configuration: tensors that differ from a known run, and what was counted."""

    changed: dict[str, IntArray] = field(default_factory=dict)
    counts: dict[str, Counts | None] = field(default_factory=dict)
    run: int = 0
    reused: int = 0


class Evaluation:
    """Evaluates configurations of one target on one model and its samples.

    Args:
        model: a loaded model.
        target: where the configurations start from.
        stage: index of the swept register.
        data: the samples.
        metrics: of the outputs.
        labels: a row a sample, None where there are none.
        reference: what gives the outputs that errors and metrics are against; this model's exact run where None.
    """

    def __init__(
        self,
        model: Model,
        target: Target,
        stage: int,
        data: Sequence[Sample],
        metrics: Sequence[Metric] = (),
        labels: Any = None,
        reference: Evaluation | None = None,
    ) -> None:
        """Nothing runs yet."""
        self.reference = reference or self
        self.model, self.target, self.stage, self.data = model, target, stage, data
        self.metrics, self.labels = metrics, labels
        self.graph = model.graph
        self.exact_target = Target.load("exact")
        self.layers = [x for x in layers(self.graph, model.lowered.boundaries) if x.tensor not in self.graph.inputs]
        self.macs = {n.name: n for n in self.graph.nodes if isinstance(OPS[n.op], Mac)}
        self._exact: dict[int, Known] = {}
        self._ends: dict[int, dict[str, NDArray[Any]]] = {}
        self._known: dict[int, Known] = {}
        self._multiplier: int | None = None
        self._proofs: dict[Target, dict[str, bool]] = {}

    def __call__(self, configuration: Configuration, say: Report = lambda text: None) -> Row:
        """Evaluate one configuration over all samples; `say` hears of each sample."""
        target = configured(self.target, self.stage, configuration)
        proofs = self.proofs(target)
        swept = configuration.accumulator is not None
        row = Row(
            configuration,
            [LayerRow(x.name, x.op, all(proofs[m] for m in x.macs), node=x.node, module=x.module) for x in self.layers],
        )
        gaps: dict[str, list[NDArray[np.float64]]] = {}
        values: dict[str, list[float]] = {m.name: [] for m in self.metrics}
        for i, sample in enumerate(self.data):
            say(f"{configuration}: sample {i + 1} of {len(self.data)}")
            exact = self.exact(i)
            known = self.known(i, configuration, exact)
            done = self.rerun(target, known, proofs)
            tensors = {**known.tensors, **done.changed}
            for layer, line in zip(self.layers, row.layers, strict=True):
                line.compare(exact.tensors[layer.tensor], tensors[layer.tensor])
                for name in layer.macs:
                    own = arithmetic(target, self.graph, self.macs[name])
                    if own.stages:
                        groups = self.counts(self.macs[name], own, known).partial.sum(axis=-1)
                        at = swept_stage(self.target, own, self.stage)
                        _count(line, groups, done.counts.get(name), own.stages, swept, at)
                    sums = self.macs[name].output
                    line.sums += tensors[sums].size
                    if tensors[sums] is not exact.tensors[sums]:
                        line.sum_mismatches += int(np.count_nonzero(tensors[sums] != exact.tensors[sums]))
            truth, outputs = self.reference.outputs(i), self.model.finish(sample, GraphRun(tensors))[0]
            for name, value in outputs.items():
                gaps.setdefault(name, []).append(_gap(truth[name], value))
            for metric in self.metrics:
                label = None if self.labels is None else self.labels[i]
                values[metric.name].append(metric(outputs, truth, label))
            row.run += done.run
            row.reused += done.reused
        row.outputs = [OutputRow.of(name, parts) for name, parts in gaps.items()]
        row.metrics = [MetricResult.of(name, column) for name, column in values.items()]
        return row

    def proofs(self, target: Target) -> dict[str, bool]:
        """Of each multiply-accumulate node, whether no register of the target can overflow, for any input."""
        if target not in self._proofs:
            tensors = held(self.graph, target)
            self._proofs[target] = {name: self._proven(node, tensors, target) for name, node in self.macs.items()}
        return self._proofs[target]

    def _proven(self, node: Node, held_there: Mapping[str, Tensor], target: Target) -> bool:
        """What `proofs.bounds.layer_bound` calls safe, without its other bounds."""
        tensors = [held_there[n] for n in node.inputs]
        registers = arithmetic(target, self.graph, node).registers
        sums = plan(node, OPS[node.op], tensors, registers).sums  # type: ignore[arg-type]
        return sums is None or bool(sums.none_overflows.all())

    def exact(self, i: int) -> Known:
        """The exact run of a sample."""
        if i in self._exact:
            return self._exact[i]
        codes = self.model.integer_inputs(self.data[i], self.target)
        tensors = run_graph(self.graph, codes, self.exact_target, keep=True).tensors
        return self._kept(self._exact, i, Known(tensors, _size(tensors)))

    def known(self, i: int, configuration: Configuration, exact: Known) -> Known:
        """The run of a sample with unbounded sums and the configuration's requantizer."""
        if configuration.multiplier != self._multiplier:  # one requantizer's runs at a time
            self._known, self._multiplier = {}, configuration.multiplier
        if i in self._known:
            return self._known[i]
        target = unbounded(configured(self.target, self.stage, configuration))
        if target.exact_codes:
            return exact
        try:
            changed = self.rerun(target, exact, {}).changed
        except IntsimError:
            # a requantizer that takes 32-bit sums only; with the target's own registers it may well run
            changed = {}
        return self._kept(self._known, i, Known({**exact.tensors, **changed}, _size(changed)))

    def _kept(self, runs: dict[int, Known], i: int, run: Known) -> Known:
        """A run, which is remembered if there is room."""
        if sum(k.size for k in (*self._exact.values(), *self._known.values(), run)) <= MOST_BYTES:
            runs[i] = run
        return run

    def rerun(self, target: Target, known: Known, proofs: Mapping[str, bool]) -> Outcome:
        """Run on `target` what differs there from a known run, and what follows from it.

        The requantizer of `target` must be that of the known run, or not an exact one.
        """
        done = Outcome()
        plain, on = unbounded(target), machine(self.graph, target)
        for node in self.graph.nodes:
            read, own = on.node(node).inputs, on.arithmetic(node)
            arrays = [done.changed.get(n, known.tensors[n]) for n in read]
            fresh = any(n in done.changed for n in read)
            chosen: Target | None = target if fresh else None
            if node.name in self.macs:
                counts = None
                if own.stages and not fresh:
                    counts = self.counts(node, own, known)
                elif own.stages and not proofs.get(node.name):
                    counts = self._measured(node, arrays, own)
                done.counts[node.name] = counts
                rounded = bool(own.stages) and own.stages[0].drop > 0  # counts don't say what bits are lost
                plainly = own.registers.packing is None and not rounded
                if plainly and (counts is None or not harm(counts, own.stages)):
                    chosen = plain if fresh else None
                else:
                    chosen = target
            elif node.op in LAYER_ENDS and not own.requantize.exact:
                chosen = target  # its bias goes into the last register
            elif fresh and node.op == "requantize" and self._described(read, arrays):
                chosen = plain  # exact, and the same for registers of all widths: so is what is known of it
            if chosen is None:
                done.reused += 1
                continue
            done.run += 1
            out, _ = run_among(self.graph, node, dict(zip(read, arrays, strict=True)), chosen)
            if not np.array_equal(out, known.tensors[node.output]):
                done.changed[node.output] = out
        return done

    def _described(self, names: Sequence[str], arrays: Sequence[IntArray]) -> bool:
        """Whether tensors are within their ranges."""
        tensors = [self.graph.tensors[n] for n in names]
        return all(
            a.size == 0 or (t.low <= int(a.min()) and int(a.max()) <= t.high)
            for a, t in zip(arrays, tensors, strict=True)
        )

    def counts(self, node: Node, target: Target, known: Known) -> Counts:
        """What a layer's registers would need in a known run."""
        if node.name not in known.counts:
            known.counts[node.name] = self._measured(node, [known.tensors[n] for n in node.inputs], target)
        return known.counts[node.name]

    def _measured(self, node: Node, arrays: list[IntArray], target: Target) -> Counts:
        tensors = [self.graph.tensors[n] for n in node.inputs]
        demand = mac_demand(node, OPS[node.op], arrays, tensors, target)  # type: ignore[arg-type]
        return Counts(demand.partial.sum(axis=0), demand.final.sum(axis=0))

    def outputs(self, i: int) -> dict[str, NDArray[Any]]:
        """The file's outputs of the exact run of a sample."""
        if i not in self._ends:
            self._ends[i] = self.model.finish(self.data[i], GraphRun(self.exact(i).tensors))[0]
        return self._ends[i]


def _size(tensors: Mapping[str, IntArray]) -> int:
    return sum(t.nbytes for t in tensors.values())


def harm(counts: Counts, stages: Sequence[Stage]) -> int:
    """Groups that hand on something else than their sum, of registers that all see exact values."""
    return sum(
        int(above((counts.final if stage.overflow == "wrap" else counts.partial)[s], stage.bits))
        for s, stage in enumerate(stages)
    )


def _count(
    line: LayerRow, groups: IntArray, counts: Counts | None, stages: Sequence[Stage], swept: bool, stage: int | None
) -> None:
    """Add a layer's overflowing groups to its row; `groups` by stage, `stage` the swept one if the layer has it."""
    line.groups += int(groups.sum() if not swept else 0 if stage is None else groups[stage])
    if counts is None:
        return
    for s, register in enumerate(stages):
        partial, final = (int(above(c[s], register.bits)) for c in counts)
        if swept and s != stage:
            line.elsewhere += partial
            continue
        line.overflowing += partial
        line.persistent += final
        line.transient += partial - final


def _gap(exact: NDArray[Any], got: NDArray[Any]) -> NDArray[np.float64]:
    """Absolute differences; equal values differ by 0, infinities too."""
    a, b = exact.astype(np.float64), got.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b)))
