"""Where tensors lie: which are words, in which buffers, with which borders; and what reads them there.

Convolutions of bytes read words. Tensors that they read, and what is moved into those, are words from the start.
Operands of a concatenation lie in its result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from intsim.dispatch import Machine
from intsim.engine.exact.conv import WordConv, window
from intsim.engine.exact.isa import Dot
from intsim.engine.exact.layout import Layout, TensorView
from intsim.engine.program.analysis import (
    INT32,
    Analysis,
    byte_shift,
    byte_weights,
    checkable_weights,
    inside,
    late_terms,
    safe,
)
from intsim.engine.registers.overflow_check import ConvCheck
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.ops import OPS, Mac
from intsim.targets import Target

SIDES = ("top", "left", "bottom", "right")


@dataclass
class Placement:
    """Buffers of words and the tensors in them. Convolutions go by the names of their outputs."""

    layouts: list[Layout]  # of each buffer
    views: dict[str, TensorView]  # of each tensor that is words
    convs: dict[str, WordConv]  # that run on words
    checks: dict[str, ConvCheck]  # overflow checks that do


def place(machine: Machine, analysis: Analysis, dot: Dot) -> Placement:
    """Lay out the words of a graph."""
    graph = machine.graph
    weights = {
        n.output: w for n in graph.nodes if (w := _conv_weights(graph, n, machine.arithmetic(n), analysis)) is not None
    }
    layouts, starts = _buffers(graph, _shifts(graph, analysis, weights))
    convs: dict[str, WordConv] = {}
    checks: dict[str, ConvCheck] = {}
    padded: set[int] = set()  # buffers whose padding some convolution has chosen
    for node in graph.nodes:
        name = node.output
        if name not in weights:
            continue
        buffer, _ = starts[node.inputs[0]]
        shift = layouts[buffer].shift
        reads: WordConv | None
        if safe(analysis.plans[name]):
            reads = _word_conv(graph, node, weights[name], shift, dot)
            if reads is not None:
                convs[name] = reads
        else:
            check = _conv_check(graph, node, weights[name], shift, machine.arithmetic(node), analysis, dot)
            if check is not None:
                checks[name] = check
            reads = None if check is None else check.conv
        if reads is not None and not reads.strided and (buffer not in padded or layouts[buffer].pad == reads.pad):
            layouts[buffer] = _with_border(layouts[buffer], reads)
            if any(reads.border):
                padded.add(buffer)
    views = {
        name: TensorView(buffer, layouts[buffer], group, graph.tensors[name].shape[1])
        for name, (buffer, group) in starts.items()
    }
    return Placement(layouts, views, convs, checks)


def _conv_weights(graph: IntegerGraph, node: Node, target: Target, analysis: Analysis) -> IntArray | None:
    """Weights (O, C / groups, kh, kw) of a node that can run on words.

    It can with byte operands, 32-bit accumulators, and inputs within their ranges.
    """
    op, y = OPS[node.op], graph.tensors[node.output]
    if not isinstance(op, Mac) or node.op not in ("conv", "conv_transpose"):
        return None
    plan, spatial = analysis.plans[node.output], window(node)
    if spatial is None or not analysis.sound[node.output] or not _can_be_words(graph, analysis, node.inputs[0]):
        return None
    if safe(plan):
        weight = byte_weights(node, op) if inside((y.low, y.high), INT32) else None
    else:
        weight = checkable_weights(node, plan, target)
    return None if weight is None else weight.reshape(*weight.shape[:2], *spatial.kernel)


def _conv_check(
    graph: IntegerGraph, node: Node, weight: IntArray, shift: int, target: Target, analysis: Analysis, dot: Dot
) -> ConvCheck | None:
    plan, spatial, channels = analysis.plans[node.output], window(node), weight.shape[0]
    assert spatial is not None
    assert plan.sums is not None
    # the multiplier must see the bytes as they are, padding too
    pad = plan.operands.pad
    if plan.operands.x_shift != shift or not 0 <= pad <= 255 or node.op != "conv":
        return None
    size, out = (_map(graph, name) for name in (node.inputs[0], node.output))
    late = late_terms(plan, weight.reshape(channels, -1))
    nothing = np.zeros(channels, np.int64)
    start, after = (nothing if term is None else term for term in (plan.preload, late))
    check = ConvCheck(weight, target.stages, start, after, plan.sums.all_safe, spatial, size, out, pad, dot)
    return check if check.possible else None


def _word_conv(graph: IntegerGraph, node: Node, weight: IntArray, shift: int, dot: Dot) -> WordConv | None:
    op, spatial = OPS[node.op], window(node)
    assert isinstance(op, Mac)
    assert spatial is not None
    zero = op.zero_points(node)[0] + shift
    if op.pads(node) and not 0 <= zero <= 255:
        return None
    size, out = (_map(graph, name) for name in (node.inputs[0], node.output))
    bias = node.arrays.get("bias", np.zeros(weight.shape[0], np.int64))
    return WordConv(weight, bias, spatial, size, out, zero, zero, dot)


def _map(graph: IntegerGraph, name: str) -> tuple[int, int]:
    """Height and width; a rank of 3 has one row."""
    *_, height, width = (1, *graph.tensors[name].shape[2:])
    return height, width


def _shifts(graph: IntegerGraph, analysis: Analysis, weights: dict[str, IntArray]) -> dict[str, int]:
    """Tensors that are words, and what is added to their codes."""
    shifts: dict[str, int] = {}
    for node in reversed(graph.nodes):
        if node.output in weights:
            shifts.setdefault(node.inputs[0], byte_shift(analysis.holds[node.inputs[0]]) or 0)
        elif node.output in shifts and _moves_words(node):
            # what they hold, the result holds, so its shift suits them
            shifts |= {n: shifts[node.output] for n in node.inputs if _can_be_words(graph, analysis, n)}
        elif node.output in shifts and node.op in ("requantize", "table"):
            for name in node.inputs:
                if _can_be_words(graph, analysis, name):
                    shifts.setdefault(name, byte_shift(analysis.holds[name]) or 0)
    return shifts


def _buffers(graph: IntegerGraph, shifts: dict[str, int]) -> tuple[list[Layout], dict[str, tuple[int, int]]]:
    """A layout for each buffer, and of each tensor its buffer and first plane."""
    layouts: list[Layout] = []
    starts: dict[str, tuple[int, int]] = {}
    producers = {node.output: node for node in graph.nodes}
    for name in [*(node.output for node in reversed(graph.nodes)), *graph.inputs]:
        if name in shifts and name not in starts:
            starts[name] = len(layouts), 0
            images, channels = graph.tensors[name].shape[:2]
            layouts.append(Layout(images, channels, *_map(graph, name), shifts[name]))
        maker = producers.get(name)
        if name in shifts and maker is not None and maker.op == "concat" and _moves_words(maker):
            _inlay(graph, maker, starts, shifts)
    return layouts, starts


def _can_be_words(graph: IntegerGraph, analysis: Analysis, name: str) -> bool:
    shape = graph.tensors[name].shape
    return len(shape) in (3, 4) and byte_shift(analysis.holds[name]) is not None and 0 not in shape


def _moves_words(node: Node) -> bool:
    """Concatenations of channels, and picking of rows or columns."""
    return node.attributes.get("axis", -1) == 1 if node.op == "concat" else is_resize(node)


def is_resize(node: Node) -> bool:
    """Whether it picks positions along a spatial axis."""
    return node.op == "gather" and node.attributes["axis"] >= 2


def _inlay(graph: IntegerGraph, node: Node, starts: dict[str, tuple[int, int]], shifts: dict[str, int]) -> None:
    """Operands that start at a whole word and lie nowhere else yet are parts of the result."""
    buffer, group = starts[node.output]
    channel = 0
    for name in node.inputs:
        fits = shifts.get(name) == shifts[node.output]
        if channel % 4 == 0 and fits and name not in starts:
            starts[name] = buffer, group + channel // 4
        channel += graph.tensors[name].shape[1]


def _with_border(layout: Layout, conv: WordConv) -> Layout:
    """The layout with a border as the convolution reads it."""
    sides = {side: max(getattr(layout, side), needed) for side, needed in zip(SIDES, conv.border, strict=True)}
    return replace(layout, **sides, pad=conv.pad if any(conv.border) else layout.pad)
