"""Nodes that together are a function of one tensor of bytes become a table of it, by their definitions.

An activation as `x * sigmoid(x)`, or a GELU in eight operators with quantizers between, is such a function. Where its
tensor can hold at most 256 integers, running the definitions on all of them is cheaper than running them on the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from intsim.dispatch import Machine
from intsim.engine.node import run_alone
from intsim.engine.program.analysis import Analysis, byte_shift
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node

ELEMENTWISE = ("affine", "mul", "requantize", "table")


class Tabled(NamedTuple):
    """A machine whose graph has tables in the place of such nodes; `parts`: the nodes that one node stands for, itself
    or what was there before it among them, by its output."""

    machine: Machine
    parts: dict[str, tuple[Node, ...]]


def tabled(machine: Machine, analysis: Analysis) -> Tabled:
    """Exchange every set of two nodes or more whose inner tensors nobody else reads; tensors keep their names."""
    graph = machine.graph
    roots = _roots(graph, analysis)
    readers = graph.consumers()
    inner = {
        name
        for name, root in roots.items()
        if name not in graph.outputs and readers[name] and all(roots.get(r.output) == root for r in readers[name])
    }
    made = IntegerGraph(graph.name, graph.tensors, [], graph.inputs, graph.outputs, graph.executed_by)
    parts: dict[str, tuple[Node, ...]] = {}
    makers = {n.output: n for n in graph.nodes}
    left: set[str] = set()  # inner tensors that are made nevertheless
    tables: dict[str, Node] = {}
    for node in graph.nodes:
        name = node.output
        if name in roots and name not in inner:
            whole = tuple(_set(makers, roots, node))
            table = _table(machine, analysis, roots[name], whole) if len(whole) > 1 else None
            if table is None:
                left |= {n.output for n in whole}
            else:
                tables[name], parts[name] = table, whole
    same: dict[str, str] = {}  # tensors that hold what another one holds
    dropped: dict[str, tuple[Node, ...]] = {}  # and the nodes that made them, until somebody reads them
    for node in graph.nodes:
        name = node.output
        if name in inner and name not in left:
            continue
        runs = tables.get(name, node)
        for i in runs.inputs:
            parts[name] = (*dropped.pop(i, ()), *parts.get(name, (node,)))
        if any(i in same for i in runs.inputs):
            runs = replace(runs, inputs=tuple(same.get(i, i) for i in runs.inputs))
        if name not in graph.outputs and _changes_nothing(machine, analysis, runs):
            same[name], dropped[name] = runs.inputs[0], parts[name]
        else:
            made.nodes.append(runs)
    return Tabled(replace(machine, graph=made), {k: v for k, v in parts.items() if len(v) > 1})


def _changes_nothing(machine: Machine, analysis: Analysis, node: Node) -> bool:
    """Whether a table or requantizer of bytes makes of every code the same one, and its tensor is described alike."""
    if node.op not in ("requantize", "table") or len(node.inputs) != 1 or not analysis.sound[node.output]:
        return False
    x, y = (machine.graph.tensors[n] for n in (node.inputs[0], node.output))
    alike = (x.shape, x.low, x.high, x.type) == (y.shape, y.low, y.high, y.type)
    if not alike or byte_shift(analysis.holds[x.name]) is None or math.prod(node.attributes["cells"]) != 1:
        return False
    table = _table(machine, analysis, x.name, (node,))
    low, high = analysis.holds[x.name]
    return table is not None and bool((table.arrays["table"] == np.arange(low, high + 1)).all())


def _roots(graph: IntegerGraph, analysis: Analysis) -> dict[str, str]:
    """Of each tensor that is a function of one tensor of bytes, element by element alike: that tensor."""
    roots: dict[str, str] = {}
    for node in graph.nodes:
        found = {roots.get(i, i) for i in node.inputs}
        if node.op not in ELEMENTWISE or len(found) != 1 or not analysis.sound[node.output]:
            continue
        (root,) = found
        shapes = {graph.tensors[n].shape for n in (root, node.output, *node.inputs)}
        alike = math.prod(node.attributes.get("cells", ())) == 1
        alike = alike and all(a.size == 1 for a in node.arrays.get("coefficients", ()))
        if len(shapes) == 1 and alike and byte_shift(analysis.holds[root]) is not None:
            roots[node.output] = root
    return roots


def _set(makers: dict[str, Node], roots: dict[str, str], last: Node) -> Iterator[Node]:
    """The nodes from a root to `last`, in order; others than `last` may be of several sets."""
    seen: dict[str, Node] = {}
    waiting: list[tuple[Node, bool]] = [(last, False)]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            if node.output not in seen:
                seen[node.output] = node
                yield node
        elif node.output not in seen:
            waiting.append((node, True))
            waiting += [(makers[i], False) for i in node.inputs if i in roots]


def _table(machine: Machine, analysis: Analysis, root: str, nodes: tuple[Node, ...]) -> Node | None:
    """The table of what `nodes` make of all that `root` can hold; None where a definition refuses one of them."""
    low, high = analysis.holds[root]
    rank = len(machine.graph.tensors[root].shape)
    values: dict[str, IntArray] = {root: np.arange(low, high + 1).reshape((1,) * max(rank - 1, 0) + (-1,))}
    try:
        for node in nodes:
            arrays = [values[i] for i in node.inputs]
            values[node.output] = run_alone(machine.graph, node, arrays, machine.arithmetic(node))[0]
    except IntsimError:
        return None
    entries = values[nodes[-1].output].reshape(1, -1)
    attributes = {"low": low, "cells": [1]}
    return replace(nodes[-1], op="table", inputs=(root,), attributes=attributes, arrays={"table": entries})
