"""From a graph and a target to a program: each node goes the quickest way that is proven to give its definition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from intsim.engine import isa, words
from intsim.engine.exact import NO_CODES, WordProduct, codes
from intsim.engine.forms import ANYTHING, INT32, Forms, byte_shift, byte_weights, forms, inside, is_resize, safe
from intsim.engine.node import run_node
from intsim.engine.program import Frame, Program, Step
from intsim.engine.rounder import Rounder
from intsim.engine.rounding_kernels import combine_dense, requantize_dense
from intsim.engine.staircase import fit
from intsim.engine.words import Layout, Place
from intsim.graph import IntegerGraph, Node
from intsim.ops import OPS, Mac
from intsim.ops.pieces import combined_range
from intsim.targets import Target

NARROW = (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64)
MOVES = {"gather", "concat", "pad", "reshape", "transpose"}
"""Operators whose definition moves integers of any type."""


def narrowest(held: tuple[int, int]) -> type[np.integer[Any]]:
    """The narrowest type that holds these integers."""
    return next(t for t in NARROW if inside(held, (int(np.iinfo(t).min), int(np.iinfo(t).max))))


def program(graph: IntegerGraph, target: Target, keep: bool) -> Program:
    """Prepare a graph for a target; `keep` keeps every tensor, so nothing runs as one that is two in the graph.

    Raises IntsimError when a layer doesn't fit the target.
    """
    draft = Draft(graph, target, keep)
    for node in graph.nodes:
        draft.add(node)
    for name in graph.outputs:
        draft.dense(name)
    return Program(draft.forms, draft.layouts, draft.steps, graph.outputs, keep)


class Draft:
    """A program in the making: steps so far, and which tensors they have made in which form."""

    def __init__(self, graph: IntegerGraph, target: Target, keep: bool) -> None:
        """No steps yet; raises IntsimError when a layer doesn't fit the target's multiplier."""
        self.graph, self.target, self.keep, self.dot = graph, target, keep, isa.dot()
        self.forms: Forms = forms(graph, target, self.dot)
        self.layouts: list[Layout] = list(self.forms.storages)
        self.places: dict[str, Place] = dict(self.forms.places)
        self.steps: list[Step] = []
        self.arrays: set[str] = set(graph.inputs)
        self.written: set[str] = set()  # tensors that are words by now
        self.fused: set[str] = set()
        self.readers = graph.consumers()

    def add(self, node: Node) -> None:
        """Steps of one node."""
        if node.output in self.fused:
            return
        ways: dict[str, Callable[[Node], bool]] = {
            "conv": self._conv,
            "conv_transpose": self._conv,
            "matmul": self._product,
            "requantize": self._round,
            "gather": self._resize,
            "concat": self._concat,
        }
        way = ways.get(node.op)
        if way is None or not way(node):
            self._defined(node)
        if self.keep:
            self._keep(node.output)

    # forms

    def dense(self, name: str) -> None:
        """Make sure that a tensor is an array."""
        if name in self.arrays:
            return
        place, shape = self.places[name], self.graph.tensors[name].shape
        kind = narrowest(self.forms.holds[name])

        def action(frame: Frame) -> None:
            out = np.empty(shape, kind)
            words.unpack(frame.buffers[place.storage], place, out)
            frame.arrays[name] = out

        size = math.prod(shape) * kind().itemsize
        self._step((), "unpack", f"{name} is read as an array", action, size, storages=(place.storage,), made=(name,))
        self.arrays.add(name)

    def worded(self, name: str) -> Place:
        """Make sure that a tensor is words, in its place or in a new one."""
        place = self.places.get(name)
        if place is None:
            shift = byte_shift(self.forms.holds[name])
            assert shift is not None
            place = self.places[name] = self._storage(self._plain(name, shift))
        if name not in self.written:
            self.dense(name)
            self._pack(name, place)
        return place

    def _pack(self, name: str, place: Place) -> None:
        lay = place.layout
        shape = (lay.images, place.channels, lay.height, lay.width)

        def action(frame: Frame) -> None:
            words.pack(frame.arrays[name].reshape(shape), frame.buffers[place.storage], place)

        why = f"{name} is read as words"
        self._step((), "pack", why, action, 4 * lay.size, arrays=(name,), storages=(place.storage,))
        self.written.add(name)

    def _plain(self, name: str, shift: int) -> Layout:
        images, channels, *spatial = self.graph.tensors[name].shape
        *_, height, width = (1, *spatial)
        return Layout(images, channels, height, width, shift)

    def _storage(self, layout: Layout) -> Place:
        self.layouts.append(layout)
        return Place(len(self.layouts) - 1, layout, 0, layout.channels)

    def _step(
        self,
        nodes: tuple[Node, ...],
        kernel: str,
        why: str,
        action: Callable[[Frame], None],
        size: int = 0,
        *,
        arrays: tuple[str, ...] = (),
        storages: tuple[int, ...] = (),
        made: tuple[str, ...] = (),
    ) -> None:
        macs = sum(self._macs(n) for n in nodes)
        self.steps.append(Step(nodes, kernel, why, action, macs, size, arrays, storages, made))

    def _macs(self, node: Node) -> int:
        op = OPS[node.op]
        if not isinstance(op, Mac):
            return 0
        rows, columns = op.extent(node, *(self.graph.tensors[i].shape for i in node.inputs))
        depth = self._depth(node) if "weight" in node.arrays else self.graph.tensors[node.inputs[1]].shape[-2]
        return rows * columns * depth

    @staticmethod
    def _depth(node: Node) -> int:
        shape = node.arrays["weight"].shape
        return shape[-2] if node.op == "matmul" else math.prod(shape[1:])

    def _keep(self, name: str) -> None:
        self.dense(name)

        def action(frame: Frame) -> None:
            frame.kept[name] = frame.arrays[name].astype(np.int64)

        self._step((), "keep", "every tensor is wanted", action, arrays=(name,))

    # ways

    def _defined(self, node: Node) -> None:
        """The node's definition, or for registers and schemes the engine's own checked way, on int64 arrays."""
        for name in node.inputs:
            self.dense(name)
        kind = narrowest(self.forms.holds[node.output])
        movement = node.op in MOVES

        def action(frame: Frame) -> None:
            given = [frame.arrays[n] for n in node.inputs]
            if movement:
                frame.arrays[node.output] = OPS[node.op].evaluate(node, *(a.astype(kind, copy=False) for a in given))
                return
            out, events = run_node(self.graph, node, [a.astype(np.int64) for a in given], self.target)
            frame.arrays[node.output] = out.astype(kind)
            if events is not None:
                frame.events[node.name] = events if frame.counts else (events > 0).astype(np.int64)

        self.arrays.add(node.output)
        size = math.prod(self.graph.tensors[node.output].shape) * kind().itemsize
        kernel, why = ("move", "an array of any type") if movement else self._plainly(node)
        self._step((node,), kernel, why, action, size, arrays=node.inputs, made=(node.output,))

    def _plainly(self, node: Node) -> tuple[str, str]:
        if not self.forms.sound[node.output]:
            return "definition", "inputs may leave their described range behind an overflow"
        if not isinstance(OPS[node.op], Mac):
            return "definition", "no compiled kernel for it"
        if not safe(self.forms.plans[node.output]):
            return "registers", "a register may overflow"
        return "BLAS", "operands are not bytes, or not constant" if node.op == "matmul" else "operands are not bytes"

    def _no_events(self, node: Node) -> np.ndarray:
        channels = OPS[node.op].extent(node, *(self.graph.tensors[i].shape for i in node.inputs))[1]  # type: ignore[attr-defined]
        return np.zeros((channels, len(self.target.stages)), np.int64)

    def _conv(self, node: Node) -> bool:
        conv = self.forms.convs.get(node.output)
        if conv is None:
            return False
        place = self.worded(node.inputs[0])
        scratch = None if conv.direct(place) else self._storage(conv.scratch(place))
        rounding, rule = self._alone(node)
        events = self._no_events(node)
        if rounding is not None:
            out = rounding.output
            to = self.places.get(out)
            if to is None:
                shift = byte_shift(self.forms.holds[out])
                assert shift is not None
                to = self.places[out] = self._storage(self._plain(out, shift))
            prepared = codes(rule, conv.channels, to.layout.shift)
        shape = self.graph.tensors[node.output].shape

        def action(frame: Frame) -> None:
            source = frame.buffers[place.storage]
            aside = None if scratch is None else frame.buffers[scratch.storage]
            frame.events[node.name] = events.copy()
            if rounding is not None and to is not None:
                conv.run(source, place, aside, (frame.buffers[to.storage], to), prepared)
                return
            images, channels, *spatial = shape
            *_, height, width = (1, *spatial)
            sums = np.empty((images, channels, height, width), np.int32)
            conv.run(source, place, aside, sums, NO_CODES)
            frame.arrays[node.output] = sums.reshape(shape)

        used = (place.storage,) if scratch is None else (place.storage, scratch.storage)
        why = "no register can overflow" if self.target.stages else "exact sums"
        kernel = f"words {self.dot.name}" + (", phases" if conv.strided else ", own border" if scratch else "")
        if rounding is not None and to is not None:
            self._step((node, rounding), kernel, why, action, 4 * to.layout.size, storages=(*used, to.storage))
            self.written.add(rounding.output)
            self.fused.add(rounding.output)
        else:
            self._step((node,), kernel, why, action, 4 * math.prod(shape), storages=used, made=(node.output,))
            self.arrays.add(node.output)
        return True

    def _alone(self, node: Node) -> tuple[Node | None, Any]:
        """The requantizer that alone reads a convolution's accumulators, and its formula, if it can be one step."""
        readers = self.readers[node.output]
        if self.keep or node.output in self.graph.outputs or len(readers) != 1:
            return None, None
        reader = readers[0]
        if reader.op != "requantize" or len(reader.inputs) != 1 or byte_shift(self.forms.holds[reader.output]) is None:
            return None, None
        shape, cells = self.graph.tensors[node.output].shape, reader.attributes["cells"]
        if self.graph.tensors[reader.output].shape != shape or blocks_of(cells, len(shape)) not in (None, 1):
            return None, None
        rule = self._formula(reader)
        return (None, None) if rule is None else (reader, rule)

    def _formula(self, node: Node) -> Rounder | None:
        """The proven formula of a requantizer for all that can arrive."""
        tensors = [self.graph.tensors[i] for i in node.inputs]
        reach = self.forms.holds[node.inputs[0]]
        if len(tensors) > 1:
            if not self.forms.sound[node.output]:
                return None
            reach = combined_range(node, *tensors)
        return fit(node, tensors, self.target.form, self.target.stages, reach)

    def _round(self, node: Node) -> bool:
        shape = self.graph.tensors[node.output].shape
        same = all(self.graph.tensors[i].shape == shape for i in node.inputs)
        axis = blocks_of(node.attributes["cells"], len(shape))
        factors = node.arrays.get("coefficients")
        if (
            not same
            or axis == -1
            or 0 in shape
            or (factors is not None and blocks_of(factors.shape[1:], len(shape)) == -1)
        ):
            return False
        rule = self._formula(node)
        if rule is None or not inside(self.forms.holds[node.output], INT32) or inside(ANYTHING, rule.reach):
            return False
        if factors is not None and factors[0].size not in (1, rule.scale.size):
            return False
        for name in node.inputs:
            self.dense(name)
        kind = narrowest(self.forms.holds[node.output])
        at = 0 if axis is None else axis
        blocks = (
            math.prod(shape[:at]),
            1 if axis is None else shape[at],
            math.prod(shape[at if axis is None else at + 1 :]),
        )
        spread = (
            None
            if factors is None
            else np.broadcast_to(factors.reshape(len(factors), -1), (len(factors), rule.scale.size))
        )
        lane = np.int32 if factors is None and inside(rule.reach, INT32) else np.int64

        def action(frame: Frame) -> None:
            given = [np.ascontiguousarray(frame.arrays[n]).reshape(blocks) for n in node.inputs]
            out = np.empty(blocks, kind)
            if spread is None:
                requantize_dense(given[0].astype(lane, copy=False), rule, out)
            else:
                combine_dense(given, spread, rule, out)
            frame.arrays[node.output] = out.reshape(shape)

        why = "proven for every accumulator that can arrive"
        size = math.prod(shape) * kind().itemsize
        self.arrays.add(node.output)
        kernel = "formula and table" if rule.table.size else "formula"
        self._step((node,), kernel, why, action, size, arrays=node.inputs, made=(node.output,))
        return True

    def _product(self, node: Node) -> bool:
        """Constant byte weights: rows of words."""
        op, x, y = OPS[node.op], self.graph.tensors[node.inputs[0]], self.graph.tensors[node.output]
        assert isinstance(op, Mac)
        weight, shift = byte_weights(node, op), byte_shift(self.forms.holds[x.name])
        ready = self.forms.sound[node.output] and safe(self.forms.plans[node.output]) and inside((y.low, y.high), INT32)
        if weight is None or weight.ndim != 2 or shift is None or not ready or 0 in x.shape or 0 in y.shape:
            return False
        bias = node.arrays.get("bias", np.zeros(weight.shape[1], np.int64))
        zero = op.zero_points(node)[0] + shift
        product = WordProduct(weight, bias - zero * weight.sum(axis=0), self.dot)
        self.dense(x.name)
        events, shape = self._no_events(node), y.shape

        def action(frame: Frame) -> None:
            frame.events[node.name] = events.copy()
            rows = frame.arrays[x.name].reshape(-1, x.shape[-1])
            frame.arrays[node.output] = product.run(rows, shift).reshape(shape)

        self.arrays.add(node.output)
        why = "no register can overflow" if self.target.stages else "exact sums"
        self._step(
            (node,), f"rows {self.dot.name}", why, action, 4 * math.prod(shape), arrays=(x.name,), made=(y.name,)
        )
        return True

    def _resize(self, node: Node) -> bool:
        """Rows or columns picked from words into words."""
        out = self.places.get(node.output)
        if out is None or node.output not in self.forms.places or not is_resize(node):
            return False
        source = self.worded(node.inputs[0])
        if source.layout.shift != out.layout.shift:
            return False
        lay, index = source.layout, node.arrays["index"].astype(np.int64)
        across = node.attributes["axis"] == len(self.graph.tensors[node.output].shape) - 1
        rows, columns = (np.arange(lay.height), index) if across else (index, np.arange(lay.width))

        def action(frame: Frame) -> None:
            words.resize(frame.buffers[source.storage], source, rows, columns, frame.buffers[out.storage], out)

        self._step(
            (node,), "words", "positions of words", action, 4 * out.layout.size, storages=(source.storage, out.storage)
        )
        self.written.add(node.output)
        return True

    def _concat(self, node: Node) -> bool:
        """Operands that don't lie in the result yet are copied there."""
        out = self.places.get(node.output)
        if out is None or node.attributes["axis"] != 1:
            return False
        channel, moved = 0, []
        for name in node.inputs:
            place, count = self.places.get(name), self.graph.tensors[name].shape[1]
            at = Place(out.storage, out.layout, out.group + channel // 4, count)
            if place == at and channel % 4 == 0:
                self.worded(name)
            else:
                if place is None or place.layout.shift != out.layout.shift:
                    self.dense(name)
                    place = self._storage(self._plain(name, out.layout.shift))
                    self._pack_into(name, place)
                else:
                    self.worded(name)
                moved.append((place, channel))
            channel += count

        def action(frame: Frame) -> None:
            for place, at in moved:
                words.shift_channels(frame.buffers[place.storage], place, frame.buffers[out.storage], out, at)

        used = (*(p.storage for p, _ in moved), out.storage)
        why = f"{len(node.inputs) - len(moved)} of {len(node.inputs)} operands lie in the result"
        self._step((node,), "words", why, action, 4 * out.layout.size, storages=used)
        self.written.add(node.output)
        return True

    def _pack_into(self, name: str, place: Place) -> None:
        written = name in self.written
        self._pack(name, place)
        if not written:
            self.written.discard(name)


def blocks_of(cells: Any, rank: int) -> int | None:
    """The axis along which cells differ, of a tensor of `rank` axes; None for one cell, -1 for several axes."""
    full = [1] * (rank - len(cells)) + list(cells)
    axes = [i for i, size in enumerate(full) if size != 1]
    return None if not axes else axes[0] if len(axes) == 1 and len(full) == rank else -1
