"""A program in the making: its steps so far, and in which forms they have made each tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from intsim.engine.exact import layout as words
from intsim.engine.exact import selftest
from intsim.engine.exact.layout import Layout, TensorView
from intsim.engine.program.analysis import Analysis, byte_shift, forms, inside
from intsim.engine.program.program import Frame, Step
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.ops import OPS, Mac
from intsim.targets import Target

NARROW = (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64)


def narrowest(held: tuple[int, int]) -> type[np.integer[Any]]:
    """The narrowest type that holds these integers."""
    return next(t for t in NARROW if inside(held, (int(np.iinfo(t).min), int(np.iinfo(t).max))))


class ProgramBuilder:
    """A program in the making: steps so far, and which tensors they have made in which form."""

    def __init__(self, graph: IntegerGraph, target: Target, keep: bool) -> None:
        """No steps yet; raises IntsimError when a layer doesn't fit the target's multiplier."""
        self.graph, self.target, self.keep, self.dot = graph, target, keep, selftest.dot()
        self.forms: Analysis = forms(graph, target, self.dot)
        self.layouts: list[Layout] = list(self.forms.storages)
        self.places: dict[str, TensorView] = dict(self.forms.places)
        self.steps: list[Step] = []
        self.arrays: set[str] = set(graph.inputs)
        self.written: set[str] = set()  # tensors that are words by now
        self.fused: set[str] = set()
        self.readers = graph.consumers()

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
        why = "words are read as an array"
        self.step((), "unpack", why, action, size, name, storages=(place.storage,), made=(name,))
        self.arrays.add(name)

    def worded(self, name: str) -> TensorView:
        """Make sure that a tensor is words, in its place or in a new one."""
        place = self.places.get(name)
        if place is None:
            shift = byte_shift(self.forms.holds[name])
            assert shift is not None
            place = self.places[name] = self.storage(self.plain(name, shift))
        if name not in self.written:
            self.dense(name)
            self.pack(name, place)
        return place

    def pack(self, name: str, place: TensorView) -> None:
        """Write a tensor, which is an array by now, into a place."""
        lay = place.layout
        shape = (lay.images, place.channels, lay.height, lay.width)

        def action(frame: Frame) -> None:
            words.pack(frame.arrays[name].reshape(shape), frame.buffers[place.storage], place)

        why = "an array is read as words"
        self.step((), "pack", why, action, 4 * lay.size, name, arrays=(name,), storages=(place.storage,))
        self.written.add(name)

    def plain(self, name: str, shift: int) -> Layout:
        """A layout without a border."""
        images, channels, *spatial = self.graph.tensors[name].shape
        *_, height, width = (1, *spatial)
        return Layout(images, channels, height, width, shift)

    def storage(self, layout: Layout) -> TensorView:
        """A new buffer."""
        self.layouts.append(layout)
        return TensorView(len(self.layouts) - 1, layout, 0, layout.channels)

    def step(
        self,
        nodes: tuple[Node, ...],
        kernel: str,
        why: str,
        action: Callable[[Frame], None],
        size: int = 0,
        label: str = "",
        *,
        arrays: tuple[str, ...] = (),
        storages: tuple[int, ...] = (),
        made: tuple[str, ...] = (),
    ) -> None:
        """Append a step; `size` bytes are written."""
        macs = sum(self._macs(n) for n in nodes)
        self.steps.append(Step(nodes, kernel, why, action, macs, size, label, arrays, storages, made))

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

    def keep_tensor(self, name: str) -> None:
        """Keep a tensor for the caller."""
        self.dense(name)

        def action(frame: Frame) -> None:
            frame.kept[name] = frame.arrays[name].astype(np.int64)

        self.step((), "keep", "every tensor is wanted", action, 0, name, arrays=(name,))

    def no_events(self, node: Node) -> IntArray:
        """Events (channels, stages) of a node that has none."""
        op = OPS[node.op]
        assert isinstance(op, Mac)
        channels = op.extent(node, *(self.graph.tensors[i].shape for i in node.inputs))[1]
        return np.zeros((channels, len(self.target.stages)), np.int64)
