"""A program in the making: its steps so far, and how they have made each tensor, as array or words."""

from __future__ import annotations

import math

import numpy as np

from intsim.dispatch import machine
from intsim.engine.exact.conv import NO_CODES, Bound, SpreadCodes, WordConv
from intsim.engine.exact.layout import Buffer, Layout, TensorView, pack, unpack
from intsim.engine.exact.selftest import dot
from intsim.engine.program.analysis import analyse, byte_shift, narrowest
from intsim.engine.program.functions import tabled
from intsim.engine.program.placement import place
from intsim.engine.program.program import Frame, Step, Work
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.ops import OPS, Mac
from intsim.targets import Target


class Source:
    """What a convolution reads: the words of a tensor, or a copy of them that is laid out for it."""

    def __init__(self, builder: ProgramBuilder, conv: WordConv, view: TensorView) -> None:
        """Make room for the copy, if one is needed."""
        self.conv, self.view = conv, view
        self.scratch = None if conv.direct(self.view) else builder.new_buffer(conv.scratch(self.view))
        self.buffers = (self.view.buffer,) if self.scratch is None else (self.view.buffer, self.scratch.buffer)

    def bind(self, to: TensorView | tuple[int, ...], codes: SpreadCodes = NO_CODES) -> list[Bound]:
        """As `WordConv.bind`."""
        return self.conv.bind(self.view, None if self.scratch is None else self.scratch.layout, to, codes)

    def words(self, frame: Frame) -> Buffer:
        """In a run, which has made the tensor."""
        if self.scratch is not None:
            for work in self.filling(frame.buffers):
                work(frame)
        return self.buffer(frame.buffers)

    def buffer(self, buffers: list[Buffer]) -> Buffer:
        """What the convolution reads."""
        return buffers[self.view.buffer if self.scratch is None else self.scratch.buffer]

    def filling(self, buffers: list[Buffer]) -> list[Work]:
        """What makes the copy, if there is one."""
        if self.scratch is None:
            return []
        to = self.scratch
        return [Work(self.conv.split(buffers[self.view.buffer], self.view, buffers[to.buffer], to.layout))]


class ProgramBuilder:
    """Steps so far, and which tensors they have made, as arrays or as words."""

    def __init__(self, graph: IntegerGraph, target: Target, keep: bool) -> None:
        """No steps yet; raises IntsimError when a layer doesn't fit the target's multiplier."""
        self.machine = machine(graph, target)
        self.analysis = analyse(self.machine)
        self.parts: dict[str, tuple[Node, ...]] = {}  # nodes that one stands for
        if not keep:
            self.machine, self.parts = tabled(self.machine, self.analysis)
        self.graph, self.keep, self.dot = self.machine.graph, keep, dot()
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

    def sole_requantizer(self, node: Node) -> Node | None:
        """The requantizer of a node's result alone, in its shape, where nobody else reads that."""
        readers, shape = self.readers[node.output], self.graph.tensors[node.output].shape
        if self.keep or node.output in self.graph.outputs or len(readers) != 1:
            return None
        reader = readers[0]
        same = len(reader.inputs) == 1 and self.graph.tensors[reader.output].shape == shape
        return reader if reader.op == "requantize" and same else None

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

        why = "words are read as an array"
        self.add(Step((), "unpack", why, action, name, buffers=(view.buffer,), made=(name,)))

    def as_words(self, name: str) -> TensorView:
        """Make sure that a tensor is words, in its own view or in a new one."""
        view = self.views.get(name)
        if view is None:
            view = self.views[name] = self.new_view(name)
        if name not in self.written:
            self.as_array(name)
            self.pack(name, view)
        return view

    def pack(self, name: str, view: TensorView) -> None:
        """Write a tensor, which is an array by now, into a view."""

        def action(frame: Frame) -> None:
            pack(frame.arrays[name], frame.buffers[view.buffer], view)

        why = "an array is read as words"
        self.add(Step((), "pack", why, action, name, arrays=(name,), buffers=(view.buffer,)))
        self.written.add(name)

    def new_view(self, name: str, shift: int | None = None) -> TensorView:
        """A tensor's own buffer, without a border; by default of the shift that makes bytes of it."""
        shift = byte_shift(self.analysis.holds[name]) if shift is None else shift
        assert shift is not None
        return self.new_buffer(Layout.plain(self.graph.tensors[name].shape, shift))

    def new_buffer(self, layout: Layout) -> TensorView:
        """A new buffer."""
        self.layouts.append(layout)
        return TensorView(len(self.layouts) - 1, layout, 0, layout.channels)

    def add(self, step: Step) -> None:
        """Append a step. Unless it says so, it writes the array that it makes, or the last of its buffers."""
        step.macs = sum(self._macs(n) for n in step.nodes)
        step.nodes = tuple(n for node in step.nodes for n in self.parts.get(node.output, (node,)))
        for name in step.made:
            kind = narrowest(self.analysis.holds[name])
            step.bytes = step.bytes or math.prod(self.graph.tensors[name].shape) * kind().itemsize
        if step.buffers and not step.made:
            step.bytes = 4 * self.layouts[step.buffers[-1]].size
        self.steps.append(step)
        self.arrays.update(step.made)

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

        self.add(Step((), "keep", "every tensor is wanted", action, name, arrays=(name,)))

    def no_events(self, node: Node) -> IntArray:
        """Events (channels, stages) of a node that has none."""
        op = OPS[node.op]
        assert isinstance(op, Mac)
        channels = op.extent(node, *(self.graph.tensors[i].shape for i in node.inputs))[1]
        return np.zeros((channels, len(self.arithmetic(node).stages)), np.int64)
