"""Run a lowered model on a target: host prologue, integer graph, host epilogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from intsim.engine.mac import run_mac
from intsim.engine.requantize import run_requantize
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.ops import OPS, Mac
from intsim.targets import Target

Progress = Callable[[str], None]
Watch = Callable[[Node, list[IntArray]], None]


@dataclass
class GraphRun:
    """Integer tensors that were kept, and overflow events (channels, stages) of each MAC node."""

    tensors: dict[str, IntArray]
    events: dict[str, IntArray] = field(default_factory=dict)


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


def run_graph(
    graph: IntegerGraph,
    inputs: Mapping[str, IntArray],
    target: Target,
    keep: bool = False,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> GraphRun:
    """Run all nodes. `inputs` are integer codes (int64) for every graph input; `keep` keeps every tensor.

    Without `keep` a tensor is dropped after its last reader, so memory follows the live tensors. `watch` sees every
    node with the arrays it is about to run on.
    """
    run = GraphRun({n: np.asarray(inputs[n], np.int64) for n in graph.inputs})
    last_reader = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    for i, node in enumerate(graph.nodes):
        if progress is not None:
            progress(node.source or node.name)
        arrays = [run.tensors[n] for n in node.inputs]
        if watch is not None:
            watch(node, arrays)
        out, events = run_node(graph, node, arrays, target)
        run.tensors[node.output] = out
        if events is not None:
            run.events[node.name] = events
        if not keep:
            for name in set(node.inputs):
                if last_reader[name] == i and name not in graph.outputs:
                    del run.tensors[name]
    return run
