"""From a graph and a target to a program: each node goes the quickest way that is proven to give its definition."""

from __future__ import annotations

from collections.abc import Callable

from intsim.engine import ways_arrays, ways_registers, ways_tables, ways_words
from intsim.engine.draft import Draft
from intsim.engine.program import Program
from intsim.graph import IntegerGraph, Node
from intsim.targets import Target

WAYS: dict[str, tuple[Callable[[Draft, Node], bool], ...]] = {
    "conv": (ways_words.conv, ways_registers.conv),
    "conv_transpose": (ways_words.conv, ways_registers.conv),
    "matmul": (ways_arrays.product, ways_registers.product),
    "requantize": (ways_words.add, ways_arrays.rounded),
    "gather": (ways_words.resize,),
    "table": (ways_tables.on_words, ways_tables.on_arrays),
    "concat": (ways_words.concat,),
}
"""Of each operator, quickest first; a way that can't take a node says False and adds nothing."""


def program(graph: IntegerGraph, target: Target, keep: bool) -> Program:
    """Prepare a graph for a target; `keep` keeps every tensor, so nothing runs as one that is two in the graph.

    Raises IntsimError when a layer doesn't fit the target.
    """
    draft = Draft(graph, target, keep)
    for node in graph.nodes:
        if node.output in draft.fused:
            continue
        if not any(way(draft, node) for way in WAYS.get(node.op, ())):
            ways_arrays.defined(draft, node)
        if keep:
            draft.keep_tensor(node.output)
    for name in graph.outputs:
        draft.dense(name)
    return Program(draft.layouts, draft.steps, graph.outputs)
