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

from intsim.errors import IntsimError
from intsim.frontend.expression import Expr
from intsim.graph import IntArray
from intsim.model import Inputs, Model, Run, opened
from intsim.targets import Target
from intsim.verify.causes import Causes
from intsim.verify.compare import born_here, difference, first_difference, place
from intsim.verify.exact_file import ExactFile, bound_inputs, sorted_proto
from intsim.verify.executors import FAMILIES, Executor
from intsim.verify.inexact import Inexact
from intsim.verify.judge import judge, judge_end
from intsim.verify.layers import Layer, layers, stage_names
from intsim.verify.reference import ReferenceRun
from intsim.verify.samples import Samples, each_sample
from intsim.verify.verdict import LayerVerdict, ReferenceVerdict, Verdict

Report = Callable[[str], None]
TIE_ROOM = 2.0**-40
"""Share of an LSB within which float64 can't place a prologue value on one side of a tie."""


def verify(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    samples: int = 1,
    seed: int = 0,
    references: bool = True,
    reference_timeout: float = 15.0,
    progress: Report | None = None,
) -> Verdict:
    """Compare a target's integers with exact semantics, and both with qonnx and ONNX Runtime.

    Args:
        model: path, ModelProto or what `load` returned.
        target: built-in name, TOML file or `Target`.
        inputs: one array an input, in the file's shapes, or with one more leading axis: one sample each. Drawn with
            `seed` where None.
        samples: how many samples to draw.
        seed: seed of the drawn samples.
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
    chosen = target if isinstance(target, Target) else Target.load(target)
    loaded = opened(model, inputs)
    say = progress or (lambda text: None)
    data = each_sample(loaded, inputs) if inputs is not None else Samples(loaded, samples, seed)
    if inputs is not None:
        for sample in data:
            loaded.check_inputs(sample)
    inexact = Inexact(loaded)
    found = layers(loaded.graph, loaded.quantizer_names) + inexact.unread()
    names = stage_names(chosen)
    verdict = Verdict(loaded.path, chosen.name, samples=len(data), seed=None if inputs is not None else seed)
    verdict.host = {"prologue": loaded.lowered.prologue.names, "epilogue": loaded.lowered.epilogue.names}
    verdict.layers = [
        LayerVerdict(f.name, f.op, f.tensor, overflows=dict.fromkeys(names, 0) if f.macs else {}) for f in found
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
            _one_sample(verdict, loaded, chosen, found, names, sample, judge_of, inexact, partial(_tagged, say, tag))
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
    if any(layer.mismatches or layer.accumulator_mismatches for layer in verdict.layers):
        verdict.verdict = "diverges"
    verdict.seconds = time.monotonic() - began
    return verdict


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
    names: list[str],
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
        expected, ties = _expected(model, layer, truth, exact, inexact)
        if fault is None:
            fault = _lowering_fault(layer, expected, exact.tensors[layer.tensor])
        for node in inexact.feeding(layer.tensor):
            right = inexact.right(node, truth, exact)
            line.accumulator_mismatches += difference(right, run.tensors[node.output])[0]
            fault = fault or _lowering_fault(replace(layer, tensor=node.output), right, exact.tensors[node.output])
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
            line.accumulator_mismatches += difference(exact.tensors[sums], run.tensors[sums])[0]
            for name, events in zip(names, run.overflows[mac].T, strict=True):
                line.overflows[name] += int(events.sum())
                channels = line.overflow_channels.setdefault(name, {})
                for channel in np.flatnonzero(events).tolist():
                    channels[channel] = channels.get(channel, 0) + int(events[channel])
    if verdict.first_divergence is None:
        # a fault of the lowering goes first: what the target does to a wrong program means little
        verdict.first_divergence = fault or first_difference(
            model.graph, target, exact.tensors, run.tensors, run.overflows
        )


def _expected(model: Model, layer: Layer, truth: ReferenceRun, exact: Run, inexact: Inexact) -> tuple[IntArray, int]:
    """Exact codes of a layer by the reference evaluator, and how many elements are left open.

    These are prologue elements that float64 can't decide, and codes that the proven error of a row function doesn't
    decide; for them the integers' own choice is admissible, and is taken. A layer that the reference doesn't expose (an
    accumulator inside a fused operator) is compared with the engine's exact run.
    """
    own = exact.tensors[layer.tensor]
    name = model.graph.tensors[layer.tensor].onnx
    if name is not None and name in truth.codes:
        codes = np.asarray(truth.codes[name]).reshape(own.shape)
        boundary = next((b for b in model.lowered.boundaries if b.tensor == layer.tensor), None)
        # an input that a quantizer reads directly is exact: there is no tie that float64 can't tell
        if boundary is None:
            return inexact.admitted(layer.tensor, codes, exact)
        if boundary.host in model.lowered.source.inputs or (codes == own).all():
            return codes, 0
        return _host_choice(codes, own, truth, name)
    if layer.tensor in inexact.errors:
        return own, 0  # judged by its error
    end = next((n for n, e in model.lowered.ends.items() if _is_plain(e) and e.terms[0][0] == layer.tensor), None)
    if end is None or end not in truth.tensors:
        return own, 0
    return _accumulator_codes(model.lowered.ends[end], truth, end, own), 0


def _is_plain(value: Expr) -> bool:
    return len(value.terms) == 1 and not value.steps


def _host_choice(codes: IntArray, own: IntArray, truth: ReferenceRun, name: str) -> tuple[IntArray, int]:
    """Where the exact value lies within float64's reach of a tie, the host's neighbouring code counts as exact."""
    codes, ties = codes.copy(), 0
    for flat in np.flatnonzero((codes != own).reshape(-1)):
        value = truth.unrounded(name, int(flat))
        near = abs(value * 2 - round(value * 2)) <= TIE_ROOM * max(1.0, float(abs(value)))
        if near and abs(int(codes.reshape(-1)[flat]) - int(own.reshape(-1)[flat])) == 1:
            codes.reshape(-1)[flat] = own.reshape(-1)[flat]
            ties += 1
    return codes, ties


def _accumulator_codes(value: Expr, truth: ReferenceRun, name: str, own: IntArray) -> IntArray:
    """The integers behind a real tensor of the reference: (value - offset) / scale."""
    scale, offset = np.asarray(value.terms[0][1], np.float64), np.asarray(value.offset, np.float64)
    real, error = truth.value(name), truth.error(name)
    position = (real - offset) / scale
    codes = np.rint(position)
    room = error / scale + 2.0**-50 * (np.abs(position) + np.abs(offset / scale) + 1)
    doubtful = ~(np.abs(position - codes) + room < 0.5)
    out = codes.astype(np.int64).reshape(own.shape)
    scales, offsets = (np.broadcast_to(v, own.shape).reshape(-1) for v in (value.terms[0][1], value.offset))
    for flat in np.flatnonzero(doubtful.reshape(-1)):
        exact = (truth.exact(name, int(flat)) - offsets[flat]) / scales[flat]
        out.reshape(-1)[flat] = round(exact)
    return out


def _lowering_fault(layer: Layer, expected: IntArray, exact: IntArray) -> dict[str, Any] | None:
    """Where the integer program itself, run exactly, leaves the reference in a layer."""
    apart = np.flatnonzero((expected != exact).reshape(-1))
    if not apart.size:
        return None
    flat = int(apart[0])
    channel, index = place(exact.shape, flat)
    return {
        "node": layer.name,
        "op": layer.op,
        "tensor": layer.tensor,
        "channel": channel,
        "position": index,
        "expected": int(expected.reshape(-1)[flat]),
        "got": int(exact.reshape(-1)[flat]),
        "blame": "lowering",
    }


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
        if name not in tensors or name in local.codes or not _is_plain(value) or name not in local.tensors:
            continue
        tensor = value.terms[0][0]
        if model.graph.tensors[tensor].type is not None or tensor in inexact:
            continue  # moved codes, judged at their quantizer, or a row function's integers, which no float has
        shape = model.graph.tensors[tensor].shape
        had = _in_lsb(value, tensors[name]).reshape(shape)
        exact = _accumulator_codes(value, local, name, np.zeros(shape, np.int64))
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
        if name not in tensors or not _is_plain(value) or value.terms[0][0] in inexact:
            continue
        own = run.tensors[value.terms[0][0]]
        theirs = _in_lsb(value, tensors[name]).reshape(own.shape)
        count, lsb = difference(own, theirs)
        report.result["compared"] += own.size
        report.result["mismatches"] += count
        report.result["max_lsb"] = max(report.result["max_lsb"], lsb)
