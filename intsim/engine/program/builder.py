"""A program in the making: its steps so far, and how they have made each tensor, as array or words."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from intsim.dispatch import machine
from intsim.engine.exact.layout import Layout, TensorView, pack, unpack
from intsim.engine.exact.selftest import dot
from intsim.engine.program.analysis import analyse, byte_shift, narrowest
from intsim.engine.program.placement import place
from intsim.engine.program.program import Frame, Step
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.ops import OPS, Mac
from intsim.targets import Target


class ProgramBuilder:
    """Steps so far, and which tensors they have made, as arrays or as words."""

    def __init__(self, graph: IntegerGraph, target: Target, keep: bool) -> None:
        """No steps yet; raises IntsimError when a layer doesn't fit the target's multiplier."""
        self.machine = machine(graph, target)
        self.graph, self.keep, self.dot = self.machine.graph, keep, dot()
        self.analysis = analyse(self.machine)
        self.placement = place(self.machine, self.analysis, self.dot)
        self.layouts, self.views = list(self.placement.layouts), dict(self.placement.views)
        self.steps: list[Step] = []
        self.arrays: set[str] = set(graph.inputs)
        self.written: set[str] = set()  # tensors that are words by now
        self.fused: set[str] = set()
        self.readers = self.graph.consumers()

    def arithmetic(self, node: Node) -> Target:
        """The target's arithmetic for a node."""
        return self.machine.arithmetic(node)

    def as_array(self, name: str) -> None:
        """Make sure that a tensor is an array."""
        if name in self.arrays:
            return
        view, shape = self.views[name], self.graph.tensors[name].shape
        kind = narrowest(self.analysis.holds[name])

        def action(frame: Frame) -> None:
            out = np.empty(shape, kind)
            unpack(frame.buffers[view.buffer], view, out)
            frame.arrays[name] = out

        size = math.prod(shape) * kind().itemsize
        why = "words are read as an array"
        self.step((), "unpack", why, action, size, name, buffers=(view.buffer,), made=(name,))

    def as_words(self, name: str) -> TensorView:
        """Make sure that a tensor is words, in its own view or in a new one."""
        view = self.views.get(name)
        if view is None:
            shift = byte_shift(self.analysis.holds[name])
            assert shift is not None
            view = self.views[name] = self.new_buffer(self.plain(name, shift))
        if name not in self.written:
            self.as_array(name)
            self.pack(name, view)
        return view

    def pack(self, name: str, view: TensorView) -> None:
        """Write a tensor, which is an array by now, into a view."""
        lay = view.layout
        shape = (lay.images, view.channels, lay.height, lay.width)

        def action(frame: Frame) -> None:
            pack(frame.arrays[name].reshape(shape), frame.buffers[view.buffer], view)

        why = "an array is read as words"
        self.step((), "pack", why, action, 4 * lay.size, name, arrays=(name,), buffers=(view.buffer,))
        self.written.add(name)

    def plain(self, name: str, shift: int) -> Layout:
        """A layout without a border."""
        images, channels, *spatial = self.graph.tensors[name].shape
        *_, height, width = (1, *spatial)
        return Layout(images, channels, height, width, shift)

    def new_buffer(self, layout: Layout) -> TensorView:
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
        buffers: tuple[int, ...] = (),
        made: tuple[str, ...] = (),
    ) -> None:
        """Append a step that writes `size` bytes and makes some tensors as arrays."""
        macs = sum(self._macs(n) for n in nodes)
        self.steps.append(Step(nodes, kernel, why, action, macs, size, label, arrays, buffers, made))
        self.arrays.update(made)

    def _macs(self, node: Node) -> int:
        op = OPS[node.op]
        if not isinstance(op, Mac):
            return 0
        rows, columns = op.extent(node, *(self.graph.tensors[i].shape for i in node.inputs))
        weight = node.arrays["weight"].shape if "weight" in node.arrays else self.graph.tensors[node.inputs[1]].shape
        return rows * columns * (weight[-2] if node.op == "matmul" else math.prod(weight[1:]))

    def keep_tensor(self, name: str) -> None:
        """Keep a tensor for the caller."""
        self.as_array(name)

        def action(frame: Frame) -> None:
            frame.kept[name] = frame.arrays[name].astype(np.int64)

        self.step((), "keep", "every tensor is wanted", action, 0, name, arrays=(name,))

    def no_events(self, node: Node) -> IntArray:
        """Events (channels, stages) of a node that has none."""
        op = OPS[node.op]
        assert isinstance(op, Mac)
        channels = op.extent(node, *(self.graph.tensors[i].shape for i in node.inputs))[1]
        return np.zeros((channels, len(self.arithmetic(node).stages)), np.int64)
