"""What each tensor of a graph can hold on a target, for every input of the network.

A graph's descriptions are those of exact arithmetic. A target's requantizer may make a code that the exact one never
makes, and a register that overflows hands on anything that fits it; both reach the registers of later layers. So the
ranges are followed through the graph as the target makes them: the image of its own requantizer over all that its
registers can hand on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from intsim.arithmetic.accumulate import Stage, handed_on
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.requantizers.requantizer import Requantizer, StepLimitError
from intsim.dispatch import machine
from intsim.errors import IntsimError
from intsim.graph import LIMIT, IntArray, IntegerGraph, Node, Tensor
from intsim.mac.plan import plan
from intsim.ops import OPS, Mac
from intsim.ops.requantize import accumulator
from intsim.proofs.segments import segments
from intsim.targets import Target

Range = tuple[int, int]
ANYTHING = (-LIMIT, LIMIT)
MOST_INPUTS = 12
"""Inputs of one requantizer up to which all corners of their ranges are tried."""


def held(graph: IntegerGraph, target: Target) -> dict[str, Tensor]:
    """Descriptions of all tensors with the least and greatest integer that `target` can make there.

    Sound, and equal to the graph's own as long as no register overflows and requantizers are exact.

    Raises:
        IntsimError: a layer that doesn't fit the target's multiplier.
    """
    tensors, on = {name: graph.tensors[name] for name in graph.inputs}, machine(graph, target)
    for node in graph.nodes:
        described = graph.tensors[node.output]
        runs = on.node(node)
        low, high = _made(runs, [tensors[i] for i in runs.inputs], graph, on.arithmetic(node))
        same = (low, high) == (described.low, described.high)
        tensors[node.output] = described if same else replace(described, low=max(low, -LIMIT), high=min(high, LIMIT))
    return tensors


def _made(node: Node, tensors: list[Tensor], graph: IntegerGraph, target: Target) -> Range:
    op, described = OPS[node.op], graph.tensors[node.output]
    if isinstance(op, Mac):
        return _accumulated(node, op, tensors, target)
    if node.op == "requantize" and not target.requantize.exact:
        return image(node, [graph.tensors[i] for i in node.inputs], tensors, target.requantize, target.stages)
    own = node.op == "fused" or node.attributes.get("machine")
    if not own and all(t is graph.tensors[t.name] for t in tensors):
        return described.low, described.high
    if node.op == "table":  # beyond its ends it reads them
        first, last = node.attributes["low"], node.attributes["low"] + node.arrays["table"].shape[1] - 1
        low, high = (min(max(v, first), last) for v in (tensors[0].low, tensors[0].high))
        tensors = [replace(tensors[0], low=low, high=high)]
    try:
        return op.value_range(node, *tensors)
    except IntsimError:  # it says nothing of such inputs, which exact arithmetic never makes
        return ANYTHING


def _accumulated(node: Node, op: Mac, tensors: list[Tensor], target: Target) -> Range:
    """The finished sums where they are exact, all that the last register holds elsewhere."""
    low, high = op.channel_ranges(node, *tensors)
    planned = plan(node, op, tensors, target.registers)
    if planned.sums is None:
        return min(low), max(high)
    exact = np.asarray(planned.sums.all_exact.reshape(-1, len(low)).all(axis=0)).tolist()
    least, most = handed_on(target.stages)
    added = (np.broadcast_to(side, len(low)).tolist() for side in planned.added)
    ends = [
        (a, b) if whole else (least + c, most + d) for a, b, whole, c, d in zip(low, high, exact, *added, strict=True)
    ]
    return min(a for a, _ in ends), max(b for _, b in ends)


def image(
    node: Node, described: list[Tensor], tensors: list[Tensor], requantizer: Requantizer, stages: Sequence[Stage]
) -> Range:
    """Least and greatest code that a requantizer makes of all integers within the inputs' ranges.

    `tensors` have these ranges, `described` those that the requantizer was made for. Where it refuses every integer the
    clip bounds it.
    """
    if len(tensors) > MOST_INPUTS:
        return _anything(node)
    cells = tuple(node.attributes["cells"])
    corners = np.array(list(itertools.product(*((t.low, t.high) for t in tensors))), np.int64)
    arrays = [c.reshape(-1, *[1] * len(cells)) for c in corners.T]
    made: dict[tuple[Formula, int, int], IntArray] = {}
    try:
        # each operand's share rises or falls with it, so a sum's ends are at corners
        total, formulas = accumulator(node, arrays, described, requantizer)
        ends = (np.broadcast_to(side, cells).reshape(-1).tolist() for side in (total.min(axis=0), total.max(axis=0)))
        for formula, low, high in zip(formulas, *ends, strict=True):
            if (formula, low, high) not in made:
                made[formula, low, high] = _codes(formula, low, high, requantizer, stages)
    except (IntsimError, StepLimitError):
        return _anything(node)
    codes = np.concatenate(list(made.values()))
    return (int(codes.min()), int(codes.max())) if codes.size else _anything(node)


def _codes(formula: Formula, low: int, high: int, requantizer: Requantizer, stages: Sequence[Stage]) -> IntArray:
    """Codes of one cell, its least and its greatest among them."""
    parts = [s for s in segments(formula, low, high, requantizer, stages) if s.valid]
    return requantizer.codes(formula, np.array([v for s in parts for v in (s.low, s.high)], np.int64), stages)


def _anything(node: Node) -> Range:
    """All that the clip lets through."""
    low, high = node.attributes["low"], node.attributes["high"]
    return ANYTHING[0] if low is None else low, ANYTHING[1] if high is None else high
