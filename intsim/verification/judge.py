"""Judging a float executor layer by layer, each on the inputs that the executor itself had there.

One flipped tie makes every later layer differ; judged locally it is counted once, where it happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.graph import IntArray, IntegerGraph, Node
from intsim.ops import LAYER_ENDS
from intsim.targets import Target
from intsim.verification.causes import Causes
from intsim.verification.compare import difference, place
from intsim.verification.reference import ReferenceRun
from intsim.verification.verdict import ReferenceVerdict

EXACT = "exact"


def judge(
    verdict: ReferenceVerdict,
    found: ReferenceRun,
    graph: IntegerGraph,
    integer_inputs: Mapping[str, IntArray],
    target: Target,
    causes_of: Causes,
) -> dict[str, IntArray]:
    """Add one sample's findings to `verdict`. `found` is the reference's run on what the executor had.

    Every quantizer that the executor exposed is compared with exact arithmetic on the executor's own inputs; for a
    target other than exact, with that target's arithmetic on them, and differences that exact arithmetic doesn't
    share are blamed on the target's registers or its requantizer. `causes_of` names those of the executor. Returns the
    target's integers on the executor's inputs, by tensor (none for `exact`).
    """
    local, values = _target_locals(graph, integer_inputs, found, target) if _differs(target) else ({}, {})
    for name, exact in found.codes.items():
        if name not in found.given_codes:
            continue
        had = found.given_codes[name].astype(np.int64)
        verdict.off_grid += len(found.off_grid.get(name, ()))
        wanted, blame = exact, None
        if name in local:
            wanted, nominal, requantized = local[name]
            blame = (nominal, requantized)
        found_apart = difference(wanted, had)
        verdict.count(had.size, *found_apart)
        if not found_apart[0]:
            continue
        apart = wanted != had
        causes = causes_of.of_codes(found, name, had)
        # a Softmax leaves its integers a choice of two codes: an executor with the other one has rounded, not failed
        causes[causes == ""] = "float_rounding"
        if blame is not None:
            nominal, requantized = blame
            target_left = (had == exact) & (wanted != nominal)
            causes[target_left & (requantized == wanted)] = "overflow"
            causes[target_left & (requantized != wanted)] = "requantizer"
        for cause in verdict.blame:
            verdict.blame[cause] += int(np.count_nonzero(causes[apart] == cause))
        if verdict.first_divergence is None:
            verdict.first_divergence = _explain(found, name, wanted, had, causes)
    return values


def judge_end(
    verdict: ReferenceVerdict,
    name: str,
    had: IntArray,
    exact: IntArray,
    wanted: IntArray | None,
    rounding: NDArray[np.bool_],
) -> None:
    """Add the accumulators behind an output that nothing quantizes; all three in LSB of the accumulator.

    `had`: the executor's values, `exact`: exact arithmetic on its inputs, `wanted`: the target's, where it differs,
    `rounding`: where float rounding explains what lies between `had` and `exact`.
    """
    target = exact if wanted is None else wanted
    count, lsb = difference(target, had)
    verdict.count(had.size, count, lsb)
    if not count:
        return
    apart = target != had
    causes = np.where(rounding, "float_rounding", "executor").astype("<U14")
    causes[had == exact] = "overflow"
    for cause in verdict.blame:
        verdict.blame[cause] += int(np.count_nonzero(causes[apart] == cause))
    if verdict.first_divergence is None:
        flat = int(np.flatnonzero(apart.reshape(-1))[0])
        channel, index = place(had.shape, flat)
        pick = [int(a.reshape(-1)[flat]) for a in (target, had, exact)]
        verdict.first_divergence = {
            "tensor": name,
            "channel": channel,
            "position": index,
            "expected": pick[0],
            "got": pick[1],
            "blame": str(causes.reshape(-1)[flat]),
            "exact_approx": float(pick[2]),
        }


def _explain(found: ReferenceRun, name: str, wanted: IntArray, had: IntArray, causes: NDArray[Any]) -> dict[str, Any]:
    """The first difference with the exact rational that was to be rounded."""
    flat = int(np.flatnonzero((wanted != had).reshape(-1))[0])
    channel, index = place(wanted.shape, flat)
    info: dict[str, Any] = {
        "tensor": name,
        "channel": channel,
        "position": index,
        "expected": int(wanted.reshape(-1)[flat]),
        "got": int(had.reshape(-1)[flat]),
        "blame": str(causes.reshape(-1)[flat]),
    }
    exact = found.unrounded(name, flat)
    text = f"{exact.numerator}/{exact.denominator}"
    if len(text) <= 200:
        info["exact"] = text
    info["exact_approx"] = float(exact)
    return info


def _differs(target: Target) -> bool:
    return any(bool(t.stages) or not t.requantize.exact for t in (target, *target.arithmetics))


def _target_locals(
    graph: IntegerGraph,
    integer_inputs: Mapping[str, IntArray],
    found: ReferenceRun,
    target: Target,
) -> tuple[dict[str, tuple[IntArray, IntArray, IntArray]], dict[str, IntArray]]:
    """For each quantizer: the target's codes on the executor's inputs, exact codes on them, and the exact requantizer
    on the target's accumulators. Weights are the file's; an executor whose weights differ is judged there.
    """
    from intsim.engine.run import run_among, run_node  # the compiler comes with it; executors are started before

    exact = Target.load(EXACT)
    named = {node.output: graph.tensors[node.output].onnx for node in graph.nodes}
    values: dict[str, IntArray] = {}
    for name in graph.inputs:
        onnx = graph.tensors[name].onnx
        values[name] = found.given_codes[onnx].astype(np.int64) if onnx in found.given_codes else integer_inputs[name]
    ideal = dict(values)
    out: dict[str, tuple[IntArray, IntArray, IntArray]] = {}
    for node in graph.nodes:
        mine, _ = run_among(graph, node, values, target)
        true, _ = run_node(graph, node, [ideal[i] for i in node.inputs], exact)
        onnx = named[node.output]
        if node.op in LAYER_ENDS and onnx in found.given_codes:
            out[onnx] = (mine, true, _exactly(graph, node, values, exact))
            mine = true = found.given_codes[onnx].astype(np.int64)
        values[node.output], ideal[node.output] = mine, true
    return out, values


def _exactly(graph: IntegerGraph, node: Node, values: Mapping[str, IntArray], exact: Target) -> IntArray:
    from intsim.engine.run import run_node

    return run_node(graph, node, [values[i] for i in node.inputs], exact)[0]
