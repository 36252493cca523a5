"""One node on a target, on int64 arrays: the way that looks at the data."""

from __future__ import annotations

from intsim.engine.mac import run_mac
from intsim.engine.requantize.node import run_requantize
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.ops import OPS, Mac
from intsim.targets import Target


def run_node(
    graph: IntegerGraph, node: Node, arrays: list[IntArray], target: Target
) -> tuple[IntArray, IntArray | None]:
    """One node on a target: its output, and overflow events if it accumulates."""
    op = OPS[node.op]
    tensors = [graph.tensors[i] for i in node.inputs]
    if isinstance(op, Mac):
        result = run_mac(node, op, arrays, tensors, target)
        return result.out, result.events
    if node.op == "requantize":
        return run_requantize(node, arrays, tensors, target), None
    return op.evaluate(node, *arrays), None
