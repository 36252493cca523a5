"""Verification of a model on a target against exact semantics and two float executors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.dispatch import arithmetic
from intsim.errors import IntsimError
from intsim.frontend.expression import Expr
from intsim.graph import IntArray
from intsim.inputs import Inputs, samples_of
from intsim.model import Model, opened
from intsim.targets import Target
from intsim.verification.causes import Causes
from intsim.verification.compare import born_here, difference, first_difference
from intsim.verification.exact_file import ExactFile, bound_inputs, sorted_proto
from intsim.verification.executors import FAMILIES, Executor
from intsim.verification.expected import accumulator_codes, expected_codes, is_plain, lowering_fault
from intsim.verification.inexact import Inexact
from intsim.verification.judge import judge, judge_end
from intsim.verification.layers import Layer, layers
from intsim.verification.reference import ReferenceRun
from intsim.verification.verdict import LayerVerdict, ReferenceVerdict, StageVerdict, Verdict

Report = Callable[[str], None]


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
    loaded, chosen = opened(model, inputs), Target.load(target)
    say = progress or (lambda text: None)
    data = samples_of(loaded, inputs, samples, seed)
    inexact = Inexact(loaded)
    found = layers(loaded.graph, loaded.lowered.boundaries) + inexact.unread()
    verdict = Verdict(loaded.path, chosen.name, samples=len(data), seed=None if inputs is not None else int(seed))
    verdict.predicts = None if chosen.runtime is None else str(chosen.runtime)
    verdict.host = {"prologue": loaded.lowered.prologue.names, "epilogue": loaded.lowered.epilogue.names}
    verdict.layers = [
        LayerVerdict(f.name, f.op, f.tensor, stages=_stages(loaded, chosen, f), node=f.node, module=f.module)
        for f in found
    ]
    if references:
        verdict.references = {kind: ReferenceVerdict() for kind in FAMILIES}
    judge_of = ExactFile(loaded)
    causes = Causes(judge_of.proto)
    verdict.host["cut"] = judge_of.cut
    for i, sample in enumerate(data):
        tag = f"sample {i + 1}/{len(data)}: "
        alive = {k for k, v in verdict.references.items() if v.reason is None}
        executors = _start(loaded, sample, judge_of, alive)
        try:
            _one_sample(verdict, loaded, chosen, found, sample, judge_of, inexact, partial(_tagged, say, tag))
            for kind, executor in executors.items():
                say(tag + f"waiting for {kind}")
                outcome = executor.result(reference_timeout)
                report = verdict.references[kind]
                report.seconds += outcome.seconds
                if outcome.reason is not None:
                    report.reason = outcome.reason
                    continue
                say(tag + f"judging {kind}")
                codes = loaded.integer_inputs(sample)
                report.reason = _unusable(loaded, outcome.tensors)
                if report.reason is not None:
                    continue
                local = judge_of.run(sample, outcome.tensors)
                mine = judge(report, local, loaded.graph, codes, chosen, causes)
                _ends(report, loaded, local, mine, outcome.tensors, inexact.errors, causes)
                _result(report, loaded, chosen, sample, outcome.tensors, inexact.errors)
        finally:
            for executor in executors.values():
                executor.stop()
    if any(layer.mismatches or layer.sum_mismatches for layer in verdict.layers):
        verdict.verdict = "diverges"
    verdict.seconds = time.monotonic() - began
    return verdict


def _stages(model: Model, target: Target, layer: Layer) -> list[StageVerdict]:
    """The registers of a layer's multiply-accumulate; of several the longest chain."""
    own = [arithmetic(target, model.graph, node).stages for node in model.graph.nodes if node.name in layer.macs]
    longest = max(own, key=len, default=())
    return [StageVerdict(number, s.bits, s.overflow) for number, s in enumerate(longest, 1)]


def _tagged(say: Report, tag: str, text: str) -> None:
    say(tag + text)


def _start(model: Model, sample: Mapping[str, NDArray[Any]], exact: ExactFile, alive: set[str]) -> dict[str, Executor]:
    """Executor processes for one sample."""
    proto = sorted_proto(model)
    bound = bound_inputs(model, proto)
    for name, array in bound.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    clips = [n.output[0] for n in proto.graph.node if n.op_type == "Clip"]
    shown = [*exact.reference.quantizers, *clips, *model.lowered.ends, *model.lowered.source.outputs, *exact.cut]
    wanted = list(dict.fromkeys(shown))
    typed = {}
    for name, (_, element) in model.lowered.source.inputs.items():
        typed[name] = np.asarray(sample[name]).astype(onnx.helper.tensor_dtype_to_np_dtype(element))
    return {kind: Executor(kind, proto, typed, wanted) for kind in FAMILIES if kind in alive}


def _one_sample(
    verdict: Verdict,
    model: Model,
    target: Target,
    found: list[Layer],
    sample: Mapping[str, NDArray[Any]],
    judge_of: ExactFile,
    inexact: Inexact,
    say: Report,
) -> None:
    """Add one sample's layers to the verdict."""
    say(f"integers on {target.name}")
    exact_target = Target.load("exact")
    run = model.run(sample, target, keep=True)
    exact = run if target == exact_target else model.run(sample, exact_target, keep=True)
    say("exact semantics")
    truth = judge_of.run(sample, inexact.given(exact) if inexact else None)
    fault = None
    accumulators = {node.name: node.output for node in model.graph.nodes}
    for layer, line in zip(found, verdict.layers, strict=True):
        got = run.tensors[layer.tensor]
        expected, ties, _ = expected_codes(model, layer, truth, exact, inexact)
        if fault is None:
            fault = lowering_fault(layer, expected, exact.tensors[layer.tensor])
        for node in inexact.feeding(layer.tensor):
            right = inexact.right(node, truth, exact)
            line.sum_mismatches += difference(right, run.tensors[node.output])[0]
            fault = fault or lowering_fault(replace(layer, tensor=node.output), right, exact.tensors[node.output])
        count, lsb = difference(expected, got)
        line.elements += got.size
        line.host_ties += ties if layer.tensor in model.graph.inputs else 0
        line.near_ties += ties if layer.tensor not in model.graph.inputs else 0
        line.mismatches += count
        line.max_lsb = max(line.max_lsb, lsb)
        if count:
            local = born_here(model.graph, target, exact_target, layer.tensor, run.tensors)
            line.born += difference(local, got)[0] if local is not None else count
        for mac in layer.macs:
            sums = accumulators[mac]
            line.sum_mismatches += difference(exact.tensors[sums], run.tensors[sums])[0]
            for stage, events in zip(line.stages, run.overflows[mac].T, strict=False):
                stage.overflows += int(events.sum())
                channels = stage.overflow_channels
                for channel in np.flatnonzero(events).tolist():
                    channels[channel] = channels.get(channel, 0) + int(events[channel])
    if verdict.first_divergence is None:
        # a fault of the lowering goes first: what the target does to a wrong program means little
        verdict.first_divergence = fault or first_difference(
            model.graph, target, exact.tensors, run.tensors, run.overflows
        )


def _unusable(model: Model, tensors: Mapping[str, NDArray[Any]]) -> str | None:
    """Why what an executor returned can't be compared: a shape that the file doesn't give, or no finite number."""
    shapes = {t.onnx: t.shape for t in model.graph.tensors.values() if t.onnx}
    shapes |= {n: e.shape for n, e in model.lowered.ends.items()}
    for name, array in tensors.items():
        if name in shapes and math.prod(array.shape) != math.prod(shapes[name]):
            return f"returned {name} with shape {array.shape}, not {shapes[name]}"
        if name in shapes and not np.isfinite(array.astype(np.float64)).all():
            return f"returned {name} with NaN or infinity"
    return None


def _ends(
    report: ReferenceVerdict,
    model: Model,
    local: ReferenceRun,
    mine: dict[str, IntArray],
    tensors: Mapping[str, Any],
    inexact: Collection[str],
    causes: Causes,
) -> None:
    """Judge accumulators that end the integer part without a quantizer."""
    for name, value in model.lowered.ends.items():
        if name not in tensors or name in local.codes or not is_plain(value) or name not in local.tensors:
            continue
        tensor = value.terms[0][0]
        if model.graph.tensors[tensor].type is not None or tensor in inexact:
            continue  # moved codes, judged at their quantizer, or a row function's integers, which no float has
        shape = model.graph.tensors[tensor].shape
        had = _in_lsb(value, tensors[name]).reshape(shape)
        exact = accumulator_codes(value, local, name, np.zeros(shape, np.int64))
        scale = np.abs(np.broadcast_to(np.asarray(value.terms[0][1], np.float64), shape))
        rounding = causes.of_values(local, name, had - exact, scale) if (had != exact).any() else had == exact
        judge_end(report, name, had, exact, mine.get(tensor), rounding)


def _in_lsb(value: Expr, real: NDArray[Any]) -> IntArray:
    """Float values as integers of an expression's grid, rounded to the nearest."""
    scale, offset = np.asarray(value.terms[0][1], np.float64), np.asarray(value.offset, np.float64)
    return np.rint((np.asarray(real, np.float64) - offset) / scale).astype(np.int64)


def _result(
    report: ReferenceVerdict,
    model: Model,
    target: Target,
    sample: Mapping[str, NDArray[Any]],
    tensors: Mapping[str, Any],
    inexact: Collection[str],
) -> None:
    """End-to-end comparison of the integers behind the outputs with what the executor ended with."""
    run = model.run(sample, target)
    for name, value in model.lowered.ends.items():
        if name not in tensors or not is_plain(value) or value.terms[0][0] in inexact:
            continue
        own = run.tensors[value.terms[0][0]]
        theirs = _in_lsb(value, tensors[name]).reshape(own.shape)
        count, lsb = difference(own, theirs)
        report.result["judged"] += own.size
        report.result["mismatches"] += count
        report.result["max_lsb"] = max(report.result["max_lsb"], lsb)
