"""Where tensors lie: which are words, in which buffers, with which borders; and what reads them there.

Convolutions of bytes read words. Tensors that they read, and what is moved into those, are words from the start.
Operands of a concatenation lie in its result.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

import numpy as np

from intsim.dispatch import Machine
from intsim.engine.exact.conv import Weights, Window, WordConv, window
from intsim.engine.exact.isa import Dot
from intsim.engine.exact.layout import Layout, TensorView
from intsim.engine.program.analysis import (
    INT32,
    Analysis,
    byte_shift,
    byte_weights,
    check_pays,
    checkable_weights,
    inside,
    safe,
)
from intsim.engine.registers.overflow_check import ConvCheck, limits
from intsim.graph import IntegerGraph, Node
from intsim.ops import OPS, Mac


@dataclass
class Placement:
    """Buffers of words and the tensors in them. Convolutions go by the names of their outputs."""

    layouts: list[Layout]  # of each buffer
    views: dict[str, TensorView]  # of each tensor that is words
    convs: dict[str, WordConv]  # that run on words
    checks: dict[str, ConvCheck]  # overflow checks that do


def place(machine: Machine, analysis: Analysis, dot: Dot) -> Placement:
    """Lay out the words of a graph."""
    return _Placer(machine.graph, machine, analysis, dot).placed()


@dataclass
class _Placer:
    graph: IntegerGraph
    machine: Machine
    analysis: Analysis
    dot: Dot

    def placed(self) -> Placement:
        """Each convolution that can run on words may widen the border of what it reads."""
        layers = {n.output: layer for n in self.graph.nodes if (layer := self._layer(n)) is not None}
        layouts, starts = self._buffers(self._shifts(layers))
        convs: dict[str, WordConv] = {}
        checks: dict[str, ConvCheck] = {}
        padded: set[int] = set()  # buffers whose padding some convolution has chosen
        for node in self.graph.nodes:
            name = node.output
            if name not in layers:
                continue
            buffer, _ = starts[node.inputs[0]]
            shift = layouts[buffer].shift
            reads: WordConv | None = None
            if safe(self.analysis.plans[name]):
                reads = self._word_conv(node, *layers[name], shift)
                if reads is not None:
                    convs[name] = reads
            else:
                check = self._conv_check(node, *layers[name], shift)
                if check is not None:
                    checks[name], reads = check, check.conv
            if reads is not None and not reads.strided and (buffer not in padded or layouts[buffer].pad == reads.pad):
                layouts[buffer] = _with_border(layouts[buffer], reads)
                if any(reads.border):
                    padded.add(buffer)
        views = {
            name: TensorView(buffer, layouts[buffer], group, self.graph.tensors[name].shape[1])
            for name, (buffer, group) in starts.items()
        }
        return Placement(layouts, views, convs, checks)

    def _layer(self, node: Node) -> tuple[Weights, Window] | None:
        """Weights (O, C / groups, kh, kw) and spatial part of a node that can run on words.

        It can with byte operands, 32-bit accumulators, and inputs within their ranges.
        """
        op, x, y = OPS[node.op], *(self.graph.tensors[n] for n in (node.inputs[0], node.output))
        if not isinstance(op, Mac) or node.op not in ("conv", "conv_transpose"):
            return None
        plan, spatial = self.analysis.plans[y.name], window(node, x.shape, y.shape)
        if spatial is None or not self.analysis.sound[y.name] or not self._can_be_words(x.name):
            return None
        weight: Weights | None
        if safe(plan):
            weight = byte_weights(node, op) if inside((y.low, y.high), INT32) else None
        else:
            target = self.machine.arithmetic(node)
            products = node.arrays["weight"].size // y.shape[1]
            weight = checkable_weights(node, plan, target) if check_pays(products, plan, target) else None
        return None if weight is None else (weight.reshape(*weight.shape[:2], *spatial.kernel), spatial)

    def _conv_check(self, node: Node, weight: Weights, spatial: Window, shift: int) -> ConvCheck | None:
        plan = self.analysis.plans[node.output]
        assert plan.sums is not None
        # the multiplier must see the bytes as they are, padding too
        pad = plan.operands.pad
        if plan.operands.owed or plan.operands.x_shift != shift or not 0 <= pad <= 255 or node.op != "conv":
            return None
        late = plan.late(weight.reshape(len(weight), -1))
        edges = limits(self.machine.arithmetic(node).stages, plan.preload, late, plan.sums.all_safe)
        return None if edges is None else ConvCheck(weight, edges, spatial, pad, self.dot)

    def _word_conv(self, node: Node, weight: Weights, spatial: Window, shift: int) -> WordConv | None:
        op = OPS[node.op]
        assert isinstance(op, Mac)
        zero = op.zero_points(node)[0] + shift
        if op.pads(node) and not 0 <= zero <= 255:
            return None
        bias = node.arrays.get("bias", np.zeros(weight.shape[0], np.int64))
        return WordConv(weight, bias, spatial, zero, zero, self.dot)

    def _shifts(self, layers: Container[str]) -> dict[str, int]:
        """Tensors that are words, and what is added to their codes."""
        shifts: dict[str, int] = {}
        sums: set[str] = set()  # what requantizers to words read
        for node in reversed(self.graph.nodes):
            if node.output in layers:
                shifts.setdefault(node.inputs[0], self._shift(node.inputs[0]))
            elif (node.output in sums and node.op == "mul") or _is_mean(self.graph, node):
                for name in filter(self._can_be_words, node.inputs):
                    shifts.setdefault(name, self._shift(name))
            elif node.output in shifts and _moves_words(node):
                # what they hold, the result holds, so its shift suits them
                shifts |= {n: shifts[node.output] for n in node.inputs if self._can_be_words(n)}
            elif node.output in shifts and node.op in ("requantize", "table"):
                for name in filter(self._can_be_words, node.inputs):
                    shifts.setdefault(name, self._shift(name))
                sums.update(node.inputs)
        return shifts

    def _shift(self, name: str) -> int:
        return byte_shift(self.analysis.holds[name]) or 0

    def _can_be_words(self, name: str) -> bool:
        shape = self.graph.tensors[name].shape
        return len(shape) in (3, 4) and byte_shift(self.analysis.holds[name]) is not None and 0 not in shape

    def _buffers(self, shifts: dict[str, int]) -> tuple[list[Layout], dict[str, tuple[int, int]]]:
        """A layout for each buffer, and of each tensor its buffer and first plane."""
        layouts: list[Layout] = []
        starts: dict[str, tuple[int, int]] = {}
        producers = {node.output: node for node in self.graph.nodes}
        for name in [*(node.output for node in reversed(self.graph.nodes)), *self.graph.inputs]:
            if name in shifts and name not in starts:
                starts[name] = len(layouts), 0
                layouts.append(Layout.plain(self.graph.tensors[name].shape, shifts[name]))
            maker = producers.get(name)
            if name in shifts and maker is not None and maker.op == "concat" and _moves_words(maker):
                self._inlay(maker, starts, shifts)
        return layouts, starts

    def _inlay(self, node: Node, starts: dict[str, tuple[int, int]], shifts: dict[str, int]) -> None:
        """Operands that start at a whole word and lie nowhere else yet are parts of the result."""
        buffer, group = starts[node.output]
        channel = 0
        for name in node.inputs:
            fits = shifts.get(name) == shifts[node.output]
            if channel % 4 == 0 and fits and name not in starts:
                starts[name] = buffer, group + channel // 4
            channel += self.graph.tensors[name].shape[1]


def _is_mean(graph: IntegerGraph, node: Node) -> bool:
    """Whether it adds up whole maps."""
    rank = len(graph.tensors[node.inputs[0]].shape)
    return node.op == "reduce_sum" and sorted(a % rank for a in node.attributes["axes"]) == list(range(2, rank))


def _moves_words(node: Node) -> bool:
    """Concatenations of channels, maxima of windows, and picking of rows, columns or whole words of channels."""
    if node.op == "concat":
        return bool(node.attributes["axis"] == 1)
    return node.op == "max_pool" or is_resize(node) or channel_slice(node) is not None


def is_resize(node: Node) -> bool:
    """Whether it picks positions along a spatial axis."""
    return node.op == "gather" and node.attributes["axis"] >= 2


def channel_slice(node: Node) -> int | None:
    """The first of the channels that it picks, if they lie side by side from a multiple of four on."""
    if node.op != "gather" or node.attributes["axis"] != 1:
        return None
    index = node.arrays["index"]
    first = int(index[0]) if index.size else -1
    return first if first >= 0 and first % 4 == 0 and (index == first + np.arange(index.size)).all() else None


def _with_border(layout: Layout, conv: WordConv) -> Layout:
    """The layout with a border as the convolution reads it."""
    top, left, bottom, right = map(max, layout.border, conv.border)
    pad = conv.pad if any(conv.border) else layout.pad
    return replace(layout, top=top, left=left, bottom=bottom, right=right, pad=pad)
