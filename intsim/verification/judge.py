"""Judging a float executor layer by layer, each on the inputs that the executor itself had there.

One flipped tie makes every later layer differ; judged locally it is counted once, where it happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.graph import IntArray, IntegerGraph
from intsim.ops import LAYER_ENDS
from intsim.targets import Target
from intsim.verification.causes import Causes
from intsim.verification.compare import difference, first_apart
from intsim.verification.reference import ReferenceRun
from intsim.verification.verdict import ReferenceVerdict

EXACT = "exact"


def judge(
    verdict: ReferenceVerdict,
    local: ReferenceRun,
    graph: IntegerGraph,
    integer_inputs: Mapping[str, IntArray],
    target: Target,
    causes_of: Causes,
) -> dict[str, IntArray]:
    """Add one sample's findings to `verdict`. `local` is the reference's run on what the executor had.

    Every quantizer that the executor exposed is compared with exact arithmetic on the executor's own inputs; for a
    target other than exact, with that target's arithmetic on them, and differences that exact arithmetic doesn't
    share are blamed on the target's registers or its requantizer. `causes_of` names those of the executor. Returns the
    target's integers on the executor's inputs, by tensor (none for `exact`).
    """
    differs = any(t.stages or not t.requantize.exact for t in (target, *target.arithmetics))
    targets, values = _target_locals(graph, integer_inputs, local, target) if differs else ({}, {})
    for name, codes in local.given_codes.items():
        had, exact = codes.astype(np.int64), local.codes[name]
        verdict.off_grid += len(local.off_grid[name])
        wanted = targets[name].codes if name in targets else exact
        if not _counted(verdict, wanted, had):
            continue
        causes = causes_of.of_codes(local, name, had)
        # a Softmax leaves its integers a choice of two codes: an executor with the other one has rounded, not failed
        causes[causes == ""] = "float_rounding"
        if name in targets:
            target_left = (had == exact) & (wanted != targets[name].exact)
            same = targets[name].requantized == wanted
            causes[target_left & same] = "overflow"
            causes[target_left & ~same] = "requantizer"
        _blame(verdict, name, wanted, had, causes, partial(_rational, local, name))
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
    wanted = exact if wanted is None else wanted
    if _counted(verdict, wanted, had):
        causes = np.where(rounding, "float_rounding", "executor").astype("<U14")
        causes[had == exact] = "overflow"
        _blame(verdict, name, wanted, had, causes, lambda flat: {"exact_approx": float(exact.reshape(-1)[flat])})


def _counted(verdict: ReferenceVerdict, wanted: IntArray, had: IntArray) -> int:
    """Add one tensor; how many of its elements differ."""
    count, lsb = difference(wanted, had)
    verdict.count(had.size, count, lsb)
    return count


def _blame(
    verdict: ReferenceVerdict,
    name: str,
    wanted: IntArray,
    had: IntArray,
    causes: NDArray[Any],
    exact: Callable[[int], dict[str, Any]],
) -> None:
    """Add the causes where a tensor differs, and what is told of the very first difference."""
    for cause in verdict.blame:
        verdict.blame[cause] += int(np.count_nonzero(causes[wanted != had] == cause))
    if verdict.first_divergence is None:
        flat, told = first_apart(wanted, had)
        told = {"tensor": name, **told, "blame": str(causes.reshape(-1)[flat])}
        verdict.first_divergence = told | exact(flat)


def _rational(local: ReferenceRun, name: str, flat: int) -> dict[str, Any]:
    """The exact rational that was to be rounded."""
    exact = local.unrounded(name, flat)
    text = f"{exact.numerator}/{exact.denominator}"
    return ({"exact": text} if len(text) <= 200 else {}) | {"exact_approx": float(exact)}


class _Local(NamedTuple):
    """One quantizer on an executor's inputs: the target's codes, exact ones, and the exact requantizer's on the
    target's accumulators.
    """

    codes: IntArray
    exact: IntArray
    requantized: IntArray


def _target_locals(
    graph: IntegerGraph, integer_inputs: Mapping[str, IntArray], local: ReferenceRun, target: Target
) -> tuple[dict[str, _Local], dict[str, IntArray]]:
    """Of each quantizer, and the target's integers by tensor.

    Weights are the file's; an executor whose weights differ is judged there.
    """
    from intsim.engine.run import run_among, run_node  # the compiler comes with it; executors are started before

    exact = Target.load(EXACT)
    given = {t: local.given_codes[i.onnx] for t, i in graph.tensors.items() if i.onnx in local.given_codes}
    values = {name: given.get(name, integer_inputs[name]).astype(np.int64) for name in graph.inputs}
    ideal = dict(values)
    quantizers: dict[str, _Local] = {}
    unmoved: dict[str, IntArray] = {}  # what the exact requantizer makes where codes are moved before the file has them
    for node in graph.nodes:
        inputs = [values[i] for i in node.inputs]
        mine = run_among(graph, node, values, target)[0]
        true = run_node(graph, node, [ideal[i] for i in node.inputs], exact)[0]
        requantized = None
        if node.op in LAYER_ENDS:
            requantized = run_node(graph, node, inputs, exact)[0]
        elif any(i in unmoved for i in node.inputs):
            requantized = run_node(graph, node, [unmoved.get(i, values[i]) for i in node.inputs], exact)[0]
        if requantized is not None and node.output in given:
            quantizers[str(graph.tensors[node.output].onnx)] = _Local(mine, true, requantized)
            mine = true = given[node.output].astype(np.int64)
        elif requantized is not None:
            unmoved[node.output] = requantized
        values[node.output], ideal[node.output] = mine, true
    return quantizers, values
