"""Comparing integers: counts, the first difference, and what caused it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from intsim.graph import IntArray, IntegerGraph, without_module
from intsim.ops import LAYER_ENDS, OPS, Mac
from intsim.targets import Target


def difference(expected: IntArray, got: IntArray) -> tuple[int, int]:
    """Number of elements that differ, and the largest difference in LSB."""
    apart = expected != got
    count = int(np.count_nonzero(apart))
    if not count:
        return 0, 0
    gap = np.abs(expected[apart].astype(object) - got[apart].astype(object))
    return count, int(gap.max())


def place(shape: tuple[int, ...], flat: int) -> tuple[int | None, list[int]]:
    """Channel (axis 1 where there are at least two axes) and full index of a flat position."""
    index = [int(i) for i in np.unravel_index(flat, shape)] if shape else []
    return (index[1] if len(index) > 1 else None), index


def first_difference(
    graph: IntegerGraph,
    target: Target,
    exact: Mapping[str, IntArray],
    got: Mapping[str, IntArray],
    overflows: Mapping[str, IntArray],
) -> dict[str, Any] | None:
    """The first integer, in graph order, at which a target leaves exact semantics, and its cause.

    Inputs of that node still agree, so the node itself is the cause: its registers (overflow) or its requantizer.
    """
    for node in graph.nodes:
        a, b = exact[node.output], got[node.output]
        if a.shape == b.shape and (a == b).all():
            continue
        flat = int(np.flatnonzero((a != b).reshape(-1))[0])
        channel, index = place(a.shape, flat)
        accumulates = isinstance(OPS[node.op], Mac)
        info: dict[str, Any] = {
            "name": node.shown,
            **without_module(node.origin),
            "op": node.kind,
            "tensor": node.output,
            "channel": channel,
            "position": index,
            "expected": int(a.reshape(-1)[flat]),
            "got": int(b.reshape(-1)[flat]),
            "blame": "overflow" if accumulates else "requantizer",
        }
        if accumulates and node.name in overflows:
            counts = overflows[node.name].sum(axis=0)
            info["overflowed_stages"] = [number for number, count in enumerate(counts, 1) if count]
        return info
    return None


def born_here(
    graph: IntegerGraph, target: Target, exact_target: Target, tensor: str, got: Mapping[str, IntArray]
) -> IntArray | None:
    """What exact arithmetic makes of a layer's own inputs on the target: its MAC and requantizer, nothing before.

    Returns None for a graph input.
    """
    from intsim.engine.run import run_node  # the compiler comes with it; executors are started before

    segment = segment_of(graph, tensor)
    if not segment:
        return None
    local = dict(got)
    for node in segment:
        local[node.output], _ = run_node(graph, node, [local[i] for i in node.inputs], exact_target)
    return local[tensor]


def segment_of(graph: IntegerGraph, tensor: str) -> list[Any]:
    """Nodes between the previous requantizers and `tensor`, in order."""
    producers = {node.output: node for node in graph.nodes}
    needed, waiting = set(), [tensor]
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is None or name in needed or (node.op in LAYER_ENDS and name != tensor):
            continue
        needed.add(name)
        waiting += node.inputs
    return [node for node in graph.nodes if node.output in needed]
