"""From a graph and a target to a program: each node goes the quickest way that is proven to give its definition."""

from __future__ import annotations

import operator
import weakref
from collections import OrderedDict
from collections.abc import Callable

from intsim.budget import check
from intsim.dispatch import SOURCES
from intsim.engine.program import arrays, halves, maps, registers, windows, words
from intsim.engine.program.builder import ProgramBuilder
from intsim.engine.program.program import Program
from intsim.graph import IntegerGraph, Node
from intsim.targets import Target

WAYS: dict[str, tuple[Callable[[ProgramBuilder, Node], bool], ...]] = {
    "conv": (words.conv, halves.conv, registers.conv),
    "conv_transpose": (words.conv, halves.conv, registers.conv),
    "matmul": (arrays.matmul, arrays.matmul_pairs, halves.matmul, registers.matmul),
    "softmax": (arrays.softmax,),
    "layer_norm": (arrays.layer_norm,),
    "requantize": (words.requantize, arrays.requantize),
    "gather": (words.resize, maps.gather),
    "staircase": (arrays.staircase,),
    "grid": (arrays.grid,),
    "function": (arrays.function,),
    "table": (words.table, arrays.table),
    "concat": (words.concat,),
    "max_pool": (maps.max_pool, windows.pool),
    "sum_pool": (windows.pool,),
    "interpolate": (windows.interpolate,),
    "mul": (maps.multiply,),
    "reduce_sum": (maps.mean,),
}
"""Of each operator, quickest first; a way that can't take a node says False and adds nothing."""
MOST_PROGRAMS = 4
"""Programs of a graph that are kept: each holds packed weights and its memory."""

_Key = tuple[Target, str, bool, tuple[str, ...], tuple[str, ...]]
_Kept = OrderedDict[_Key, tuple[list[object], Program]]
_programs: dict[int, tuple[weakref.ref[IntegerGraph], _Kept]] = {}


def program(graph: IntegerGraph, target: Target, keep: bool) -> Program:
    """A graph's program, kept while its nodes and tensors are the same ones; arrays of a node are constants.

    `keep` keeps every tensor, so nothing runs as one that is two in the graph. Raises IntsimError when a layer doesn't
    fit the target.
    """
    number = id(graph)
    if number not in _programs or _programs[number][0]() is not graph:
        _programs[number] = weakref.ref(graph, lambda _: _programs.pop(number, None)), OrderedDict()
    kept = _programs[number][1]
    key = (target, target.name, keep, tuple(graph.inputs), tuple(graph.outputs))
    parts: list[object] = [*graph.nodes, *graph.tensors.values()]
    if key not in kept or len(kept[key][0]) != len(parts) or not all(map(operator.is_, kept[key][0], parts)):
        kept[key] = parts, _compiled(graph, target, keep)
    kept.move_to_end(key)
    while len(kept) > MOST_PROGRAMS:
        kept.popitem(last=False)
    return kept[key][1]


def _unread(builder: ProgramBuilder, node: Node) -> bool:
    """Whether a kernel that reads what this operator reads took its place."""
    return node.op in SOURCES and not builder.readers[node.output] and node.output not in builder.graph.outputs


def _compiled(graph: IntegerGraph, target: Target, keep: bool) -> Program:
    builder = ProgramBuilder(graph, target, keep)
    for node in builder.graph.nodes:
        if node.output in builder.fused or (not keep and _unread(builder, node)):
            continue
        if not any(way(builder, node) for way in WAYS.get(node.op, ())):
            arrays.definition(builder, node)
        if keep:
            builder.keep_tensor(node.output)
    for name in graph.outputs:
        builder.as_array(name)
    read = {name for node in graph.nodes for name in node.inputs}
    made = Program(builder.layouts, builder.steps, graph.outputs, [n for n in graph.inputs if n not in read])
    check(made.live_bytes, "a run takes")
    return made
