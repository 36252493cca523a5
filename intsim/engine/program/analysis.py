"""What is known of a graph on a target before it runs: what each tensor can hold, and which registers can overflow.

A proof speaks of inputs within their described ranges. Behind a register that can overflow a tensor may hold more, so
what each tensor can really hold is followed through the graph; nodes whose inputs may leave their ranges go the slow
way, which looks at the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intsim.arithmetic.accumulate import handed_on
from intsim.dispatch import Machine
from intsim.engine.exact.conv import Weights
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.mac.plan import Plan, plan
from intsim.ops import OPS, Mac
from intsim.targets import Target

Range = tuple[int, int]
ANYTHING = (-(1 << 63), (1 << 63) - 1)
INT32 = (-(1 << 31), (1 << 31) - 1)
SHALLOW = 12
"""Products of a sum up to which a check takes longer than what it may spare: depthwise layers have 9."""
HOPELESS = 16
"""How many times over the greatest sum may exceed a register that data are still checked for."""
NARROW = (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64)


@dataclass
class Analysis:
    """Facts of a graph on a target. Tensors go by their names, nodes by those of their outputs."""

    holds: dict[str, Range] = field(default_factory=dict)
    sound: dict[str, bool] = field(default_factory=dict)  # inputs can't leave their described ranges
    plans: dict[str, Plan] = field(default_factory=dict)  # of multiply-accumulates


def analyse(machine: Machine) -> Analysis:
    """Follow all nodes. Raises IntsimError when a layer doesn't fit the target's multiplier."""
    graph = machine.graph
    analysis = Analysis({name: (graph.tensors[name].low, graph.tensors[name].high) for name in graph.inputs})
    for node in graph.nodes:
        _follow(graph, node, machine.arithmetic(node), analysis)
    return analysis


def _follow(graph: IntegerGraph, node: Node, target: Target, analysis: Analysis) -> None:
    """What the node's output can hold."""
    described = graph.tensors[node.output]
    tensors = [graph.tensors[i] for i in node.inputs]
    sound = all(inside(analysis.holds[t.name], (t.low, t.high)) for t in tensors)
    analysis.sound[node.output] = sound
    held = described.low, described.high
    op = OPS[node.op]
    if isinstance(op, Mac):
        analysis.plans[node.output] = planned = plan(node, op, tensors, target.registers)
        if target.stages and not (sound and safe(planned)):
            (least, most), (low, high) = handed_on(target.stages), planned.added
            held = min(held[0], least + int(low.min())), max(held[1], most + int(high.max()))
        elif not sound:
            held = ANYTHING
    elif node.op == "requantize":
        if not sound or not target.requantize.exact:
            low, high = node.attributes["low"], node.attributes["high"]
            held = ANYTHING if low is None or high is None else (low, high)
    elif not sound:
        table = node.arrays.get({"table": "table", "staircase": "codes"}.get(node.op, ""))
        held = ANYTHING if table is None else (int(table.min()), int(table.max()))
    analysis.holds[node.output] = held


def inside(inner: Range, outer: Range) -> bool:
    """Whether one range lies within another."""
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def byte_shift(held: Range) -> int | None:
    """What makes unsigned bytes of these integers, 0 or 128; None if nothing does."""
    return 0 if inside(held, (0, 255)) else 128 if inside(held, (-128, 127)) else None


def narrowest(held: Range) -> type[np.integer[Any]]:
    """The narrowest type that holds these integers."""
    return next(t for t in NARROW if inside(held, (int(np.iinfo(t).min), int(np.iinfo(t).max))))


def safe(plan: Plan) -> bool:
    """Whether no channel can overflow."""
    return plan.sums is None or bool(plan.sums.all_safe.all())


def byte_weights(node: Node, op: Mac) -> Weights | None:
    """Constant weights without their zero point, if that leaves differences of bytes; small, as many are held."""
    if "weight" not in node.arrays or len(node.inputs) > 1:
        return None
    weight = node.arrays["weight"] - op.zero_points(node)[1]
    fits = weight.size and inside((int(weight.min()), int(weight.max())), (-255, 255))
    return weight.astype(np.int16) if fits else None


def check_pays(products: int, plan: Plan, target: Target) -> bool:
    """Whether the overflow check of sums of so many products may well be quicker than their registers.

    Lanes of 16 bits take few products at once, and registers that a sum can exceed many times over seldom pass.
    """
    if not target.stages or target.stages[0].bits > 16 or plan.sums is None:
        return True
    furthest = np.maximum(plan.sums.high[0], -plan.sums.low[0])
    return products > SHALLOW and bool((furthest <= HOPELESS * target.stages[0].max).mean() > 0.5)


def checkable_weights(node: Node, plan: Plan, target: Target, axis: int = 1) -> IntArray | None:
    """Weights as the multiplier sees them, of a node whose sums of bytes the overflow check can bound; or None.

    Products of a channel lie along `axis` and those after it.
    """
    weight = node.arrays["weight"] + plan.operands.w_shift
    ready = (
        target.registers.packing is None
        and not target.stages[0].drop
        and not plan.operands.depends_on_data()
        and target.stages[-1].bits <= 32
    )
    if not ready or not weight.size or not inside((int(weight.min()), int(weight.max())), (-128, 127)):
        return None
    others = tuple(range(1, weight.ndim)) if axis else 0
    return weight if 255 * int(np.abs(weight).sum(axis=others).max()) < 1 << 31 else None
