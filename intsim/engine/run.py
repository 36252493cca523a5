"""Run an integer graph on a target: as a prepared program, or node by node where that can't be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.dispatch import machine
from intsim.engine.node import run_alone, run_among, run_node
from intsim.engine.program.compile import program
from intsim.engine.program.program import LayerProfile, Progress
from intsim.graph import IntArray, IntegerGraph, Node, Tensor
from intsim.targets import Target

__all__ = ["GraphRun", "Progress", "Watch", "run_alone", "run_among", "run_graph", "run_node"]

Watch = Callable[[Node, list[IntArray]], None]


@dataclass
class GraphRun:
    """Integer tensors that were kept, and overflow events (channels, stages) of each MAC node."""

    tensors: dict[str, IntArray]
    events: dict[str, IntArray] = field(default_factory=dict)
    live_bytes: int = 0  # of tensors at once, as planned; 0 where nothing was planned


def run_graph(
    graph: IntegerGraph,
    inputs: Mapping[str, NDArray[Any]],
    target: Target,
    keep: bool = False,
    progress: Progress | None = None,
    watch: Watch | None = None,
    counts: bool = True,
    profile: list[LayerProfile] | None = None,
    overflow_check: bool = True,
) -> GraphRun:
    """Run all nodes. `inputs` are integer codes, of any integer type, for every graph input; `keep` keeps every tensor.

    Without `keep` a tensor is dropped after its last reader, so memory follows the live tensors. `watch` sees every
    node with the arrays it is about to run on. Without `counts` events are 1 where a register overflowed at all.
    `profile` receives a record of each step. Without `overflow_check` registers are stepped through at once,
    which changes no result.
    """
    given = {n: _integers(inputs[n]) for n in graph.inputs}
    described = all(_described(a, graph.tensors[n]) for n, a in given.items())
    if watch is not None or not described:
        wide = {n: a.astype(np.int64, copy=False) for n, a in given.items()}
        return _node_by_node(graph, wide, target, keep, progress, watch, counts)
    prepared = program(graph, target, keep)
    frame = prepared.run(given, counts, progress, profile, overflow_check)
    ends = {n: frame.arrays[n].astype(np.int64) for n in graph.outputs}
    first = {n: given[n].astype(np.int64, copy=False) for n in (given if keep else prepared.unread)}
    return GraphRun({**first, **frame.kept, **ends}, frame.events, prepared.live_bytes)


def _described(array: NDArray[Any], tensor: Tensor) -> bool:
    """Whether an array has a tensor's shape, and no integer outside of its range."""
    if array.shape != tensor.shape:
        return False
    least, most = _ends(array.dtype)
    if array.size == 0 or (tensor.low <= least and most <= tensor.high):
        return True
    return bool(array.min() >= tensor.low and array.max() <= tensor.high)


@cache
def _ends(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the greatest integer of a type."""
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _integers(codes: Any) -> NDArray[Any]:
    """Codes in their type, int64 unless that is one of integers; uint64 could hold more than int64."""
    array = np.asarray(codes)
    return array if array.dtype.kind in "iu" and array.dtype != np.uint64 else array.astype(np.int64)


def _node_by_node(
    graph: IntegerGraph,
    given: dict[str, IntArray],
    target: Target,
    keep: bool,
    progress: Progress | None,
    watch: Watch | None,
    counts: bool,
) -> GraphRun:
    """On int64 arrays, with no proof that speaks of inputs within their ranges taken for granted."""
    runs = machine(graph, target)
    graph = runs.graph
    run = GraphRun(dict(given))
    last_reader = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    for i, node in enumerate(graph.nodes):
        if progress is not None:
            progress(node.shown)
        arrays = [run.tensors[n] for n in node.inputs]
        if watch is not None:
            watch(node, arrays)
        out, events = run_alone(graph, node, arrays, runs.arithmetic(node))
        run.tensors[node.output] = out
        if events is not None:
            run.events[node.name] = events if counts else (events > 0).astype(np.int64)
        if not keep:
            for name in set(node.inputs):
                if last_reader[name] == i and name not in graph.outputs:
                    del run.tensors[name]
    return run
