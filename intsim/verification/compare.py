"""Comparing integers: counts, the first difference, and what caused it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from intsim.graph import IntArray, IntegerGraph, Node, without_module
from intsim.ops import OPS, Mac
from intsim.targets import Target
from intsim.verification.layers import makers


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


def first_apart(expected: IntArray, got: IntArray) -> tuple[int, dict[str, Any]]:
    """The flat position of the first of some differences, and what is told of it."""
    flat = int(np.flatnonzero((expected != got).reshape(-1))[0])
    channel, index = place(expected.shape, flat)
    codes = {"expected": int(expected.reshape(-1)[flat]), "got": int(got.reshape(-1)[flat])}
    return flat, {"channel": channel, "position": index, **codes}


def first_difference(
    graph: IntegerGraph,
    exact: Mapping[str, IntArray],
    got: Mapping[str, IntArray],
    overflows: Mapping[str, IntArray],
) -> dict[str, Any] | None:
    """The first integer, in graph order, at which a target leaves exact semantics, and its cause.

    Inputs of that node still agree, so the node itself is the cause: its registers or its requantizer. Registers in
    which nothing overflows have rounded products ("rounding").
    """
    for node in graph.nodes:
        a, b = exact[node.output], got[node.output]
        if a.shape == b.shape and (a == b).all():
            continue
        accumulates = isinstance(OPS[node.op], Mac)
        info: dict[str, Any] = {
            "name": node.shown,
            **without_module(node.origin),
            "op": node.kind,
            "tensor": node.output,
            **first_apart(a, b)[1],
            "blame": "overflow" if accumulates else "requantizer",
        }
        if accumulates and node.name in overflows:
            counts = overflows[node.name].sum(axis=0)
            info["blame"] = "overflow" if counts.any() else "rounding"
            info["overflowed_stages"] = [number for number, count in enumerate(counts, 1) if count]
        return info
    return None


def born_here(graph: IntegerGraph, exact_target: Target, tensor: str, got: Mapping[str, IntArray]) -> IntArray | None:
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


def segment_of(graph: IntegerGraph, tensor: str) -> list[Node]:
    """Nodes between the previous requantizers and `tensor`, in order."""
    needed = {node.output for node in makers({node.output: node for node in graph.nodes}, tensor)}
    return [node for node in graph.nodes if node.output in needed]
