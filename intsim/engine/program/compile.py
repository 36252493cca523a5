"""From a graph and a target to a program: each node goes the quickest way that is proven to give its definition."""

from __future__ import annotations

from collections.abc import Callable

from intsim.engine.program import blocked, dense, registers, tables
from intsim.engine.program.builder import ProgramBuilder
from intsim.engine.program.program import Program
from intsim.graph import IntegerGraph, Node
from intsim.targets import Target

WAYS: dict[str, tuple[Callable[[ProgramBuilder, Node], bool], ...]] = {
    "conv": (blocked.conv, registers.conv),
    "conv_transpose": (blocked.conv, registers.conv),
    "matmul": (dense.product, registers.product),
    "requantize": (blocked.add, dense.rounded),
    "gather": (blocked.resize,),
    "table": (tables.on_words, tables.on_arrays),
    "concat": (blocked.concat,),
}
"""Of each operator, quickest first; a way that can't take a node says False and adds nothing."""


def program(graph: IntegerGraph, target: Target, keep: bool) -> Program:
    """Prepare a graph for a target; `keep` keeps every tensor, so nothing runs as one that is two in the graph.

    Raises IntsimError when a layer doesn't fit the target.
    """
    draft = ProgramBuilder(graph, target, keep)
    for node in graph.nodes:
        if node.output in draft.fused:
            continue
        if not any(way(draft, node) for way in WAYS.get(node.op, ())):
            dense.defined(draft, node)
        if keep:
            draft.keep_tensor(node.output)
    for name in graph.outputs:
        draft.dense(name)
    return Program(draft.layouts, draft.steps, graph.outputs)
