"""Verification of a model on a target against exact semantics and two float executors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.dispatch import arithmetic
from intsim.errors import IntsimError
from intsim.graph import without_module
from intsim.inputs import Inputs, samples_of
from intsim.model import Model, Run, quantize_boundary
from intsim.targets import Target
from intsim.verification.causes import Causes
from intsim.verification.compare import born_here, difference, first_apart, first_difference
from intsim.verification.exact_file import ExactFile, bound_inputs, sorted_proto
from intsim.verification.executed import opened
from intsim.verification.executors import FAMILIES, Executor
from intsim.verification.expected import accumulator_codes, expected_codes, is_plain, lowering_fault
from intsim.verification.inexact import Inexact
from intsim.verification.judge import judge, judge_end
from intsim.verification.layers import Layer, layers
from intsim.verification.second_reading import SecondReading
from intsim.verification.verdict import LayerVerdict, ReferenceVerdict, StageVerdict, Verdict

Report = Callable[[str], None]
Arrays = Mapping[str, NDArray[Any]]


def verify(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    references: bool = True,
    reference_timeout: float = 15.0,
    progress: Report | None = None,
) -> Verdict:
    """Compare a target's integers with exact semantics, and both with qonnx and ONNX Runtime.

    Args:
        model: path, ModelProto or what `load` returned.
        target: a built-in name, a TOML file or a `Target`.
        inputs: as `run` takes them: one sample or many. Drawn with `seed` where None.
        samples: how many samples to draw where no inputs are given; 1 if None.
        seed: seed of the first drawn sample.
        references: run the float executors as well.
        reference_timeout: seconds after which an executor is given up, for each sample.
        progress: called with a line of text before each step.

    Returns:
        Verdict; `verdict.to_json()` is the documented JSON.

    Raises:
        IntsimError: bad model, target or inputs.
    """
    began = time.monotonic()
    if not 0 < reference_timeout < math.inf:
        raise IntsimError(f"--reference-timeout {reference_timeout}: give a number of seconds above zero")
    chosen = Target.load(target)
    loaded = opened(model, inputs, chosen)
    say = progress or (lambda text: None)
    data = samples_of(loaded, inputs, samples, seed)
    verdict = Verdict(loaded.path, chosen.name, samples=len(data), seed=None if inputs is not None else int(seed))
    verdict.predicts = None if chosen.runtime is None else str(chosen.runtime)
    compared = _Comparison(loaded, chosen, verdict)
    if references:
        verdict.references = {kind: ReferenceVerdict() for kind in FAMILIES}
    for i, sample in enumerate(data):
        compared.sample(sample, reference_timeout, say, f"sample {i + 1}/{len(data)}")
    misread = verdict.file is not None and verdict.file.mismatches
    if misread or any(layer.mismatches or layer.sum_mismatches for layer in verdict.layers):
        verdict.verdict = "diverges"
    elif loaded.islands:
        verdict.verdict = "hybrid"
    verdict.seconds = time.monotonic() - began
    return verdict


class _Comparison:
    """A model on a target beside its file, and what it adds to a verdict."""

    def __init__(self, model: Model, target: Target, verdict: Verdict) -> None:
        self.model, self.target, self.exact_target = model, target, Target.load("exact")
        self.inexact = Inexact(model)
        self.layers = layers(model.graph, model.lowered.boundaries) + self.inexact.unread()
        self.file = ExactFile(model)
        self.causes = Causes(self.file.proto)
        self.second = SecondReading.of(model)
        self.verdict = verdict
        verdict.file = self.second.verdict if self.second is not None else None
        for layer in self.layers:
            line = LayerVerdict(
                layer.name, layer.op, layer.tensor, stages=self._stages(layer), node=layer.node, module=layer.module
            )
            verdict.layers.append(line)
        verdict.host = model.lowered.host | {"cut": self.file.cut}
        self.islands: Arrays = {}

    def _stages(self, layer: Layer) -> list[StageVerdict]:
        """The registers of a layer's multiply-accumulates; of several the longest chain."""
        macs = (node for node in self.model.graph.nodes if node.name in layer.macs)
        chains = [arithmetic(self.target, self.model.graph, node).stages for node in macs]
        longest = max(chains, key=len) if chains else ()
        return [StageVerdict(n, s.bits, s.overflow) for n, s in enumerate(longest, 1)]

    def sample(self, sample: Arrays, timeout: float, progress: Report, tag: str) -> None:
        """Add one sample: executors start, the target's layers are compared meanwhile, then executors are judged."""

        def say(text: str) -> None:
            progress(f"{tag}: {text}")

        executors = self._started(sample)
        try:
            run = self._compared(sample, say)
            for kind, executor in executors.items():
                say(f"waiting for {kind}")
                outcome = executor.result(timeout)
                report = self.verdict.references[kind]
                report.seconds += outcome.seconds
                report.reason = outcome.reason
                if report.reason is None:
                    say(f"judging {kind}")
                    report.reason = self._unusable(outcome.tensors)
                if report.reason is None:
                    self._judged(report, run, sample, outcome.tensors)
        finally:
            for executor in executors.values():
                executor.stop()

    def _started(self, sample: Arrays) -> dict[str, Executor]:
        """Processes of the executors that nothing kept from answering so far."""
        source, ends = self.model.lowered.source, self.model.lowered.ends
        proto = sorted_proto(self.model)
        for name, array in bound_inputs(self.model, proto).items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        clips = [n.output[0] for n in proto.graph.node if n.op_type == "Clip"]
        wanted = dict.fromkeys([*self.file.reference.quantizers, *clips, *ends, *source.outputs, *self.file.cut])
        typed = {}
        for name, (_, element) in source.inputs.items():
            typed[name] = np.asarray(sample[name]).astype(onnx.helper.tensor_dtype_to_np_dtype(element))
        alive = [k for k in FAMILIES if k in self.verdict.references and self.verdict.references[k].reason is None]
        return {kind: Executor(kind, proto, typed, list(wanted)) for kind in alive}

    def _compared(self, sample: Arrays, say: Report) -> Run:
        """The target's run, its layers added to the verdict."""
        say(f"integers on {self.target.name}")
        graph, inexact = self.model.graph, self.inexact
        run = self.model.run(sample, self.target, keep=True)
        same = self.target == self.exact_target
        exact = run if same else self.model.run(sample, self.exact_target, keep=True)
        say("exact semantics")
        self.islands = exact.islands
        truth = self.file.run(sample, inexact.given(exact) if inexact else None, exact.islands)
        fault = None
        if self.second is not None:
            say("the file a second time")
            fault = self.second.compare(self.model, sample, exact, set(inexact.requantizers))
        accumulators = {node.name: node.output for node in graph.nodes}
        entered = None
        for layer, line in zip(self.layers, self.verdict.layers, strict=True):
            got = run.tensors[layer.tensor]
            expected, ties, _ = expected_codes(self.model, layer, truth, exact, inexact)
            fault = fault or lowering_fault(layer, expected, exact.tensors[layer.tensor])
            for node in inexact.feeding(layer.tensor):
                right = inexact.right(node, truth, exact)
                line.sum_mismatches += difference(right, run.tensors[node.output])[0]
                fault = fault or lowering_fault(replace(layer, tensor=node.output), right, exact.tensors[node.output])
            count, lsb = difference(expected, got)
            line.elements += got.size
            line.host_ties += ties if layer.tensor in graph.inputs else 0
            line.near_ties += ties if layer.tensor not in graph.inputs else 0
            line.mismatches += count
            line.max_lsb = max(line.max_lsb, lsb)
            handed = self.model.islands and layer.tensor in graph.inputs  # an island's, of what came before
            if count and layer.tensor in graph.inputs and entered is None and not handed:
                origin = without_module({"node": layer.node, "module": layer.module})
                where = {"name": layer.name, **origin, "op": layer.op, "tensor": layer.tensor}
                entered = {**where, **first_apart(expected, got)[1], "blame": "requantizer"}
            if count and not handed:
                local = born_here(graph, self.exact_target, layer.tensor, run.tensors)
                line.born += difference(local, got)[0] if local is not None else count
            for mac in layer.macs:
                sums = accumulators[mac]
                line.sum_mismatches += difference(exact.tensors[sums], run.tensors[sums])[0]
                for stage, events in zip(line.stages, run.overflows[mac].T, strict=False):
                    stage.overflows += int(events.sum())
                    channels = stage.overflow_channels
                    for channel in np.flatnonzero(events).tolist():
                        channels[channel] = channels.get(channel, 0) + int(events[channel])
        if self.verdict.first_divergence is None:
            # a fault of the lowering goes first: what the target does to a wrong program means little
            self.verdict.first_divergence = (
                fault or entered or first_difference(graph, exact.tensors, run.tensors, run.overflows)
            )
        return run

    def _unusable(self, tensors: Arrays) -> str | None:
        """Why what an executor returned can't be compared: a shape that the file doesn't give, or no finite number."""
        shapes = {t.onnx: t.shape for t in self.model.graph.tensors.values() if t.onnx}
        shapes |= {n: e.shape for n, e in self.model.lowered.ends.items()}
        for name, array in tensors.items():
            if name in shapes and math.prod(array.shape) != math.prod(shapes[name]):
                return f"returned {name} with shape {array.shape}, not {shapes[name]}"
            if name in shapes and not np.isfinite(array.astype(np.float64)).all():
                return f"returned {name} with NaN or infinity"
        return None

    def _entering(self, sample: Arrays, run: Run, tensors: Arrays) -> dict[str, NDArray[np.int64]]:
        """Codes of the graph's inputs; those that an executor's own islands made, where there are islands."""
        if not self.model.islands:
            return self.model.integer_inputs(sample, self.target)
        codes = dict(run.inputs)
        for boundary in self.model.lowered.boundaries:
            if boundary.host in tensors:
                value = np.asarray(tensors[boundary.host]).reshape(codes[boundary.tensor].shape)
                codes[boundary.tensor] = quantize_boundary(boundary, value).astype(np.int64)
        return codes

    def _judged(self, report: ReferenceVerdict, run: Run, sample: Arrays, tensors: Arrays) -> None:
        """Add what an executor returned: each quantizer, accumulators that nothing quantizes, and the ends in all."""
        graph = self.model.graph
        local = self.file.run(sample, tensors, self.islands)
        mine = judge(report, local, graph, self._entering(sample, run, tensors), self.target, self.causes)
        for name, value in self.model.lowered.ends.items():
            # a row function's integers are what no float has
            if name not in tensors or not is_plain(value) or value.terms[0][0] in self.inexact.errors:
                continue
            tensor = value.terms[0][0]
            own, scale = run.tensors[tensor], np.asarray(value.terms[0][1], np.float64)
            real = np.asarray(tensors[name], np.float64)
            had = np.rint((real - np.asarray(value.offset, np.float64)) / scale).astype(np.int64).reshape(own.shape)
            count, lsb = difference(own, had)
            report.result["judged"] += own.size
            report.result["mismatches"] += count
            report.result["max_lsb"] = max(report.result["max_lsb"], lsb)
            if name in local.codes or name not in local.tensors or graph.tensors[tensor].type is not None:
                continue  # moved codes, judged at their quantizer
            exact = accumulator_codes(value, local, name, had)
            lsb_of = np.abs(np.broadcast_to(scale, own.shape))
            rounding = had == exact if (had == exact).all() else self.causes.of_values(local, name, had - exact, lsb_of)
            judge_end(report, name, had, exact, mine.get(tensor), rounding)
