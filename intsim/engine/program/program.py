"""A graph on a target as a list of prepared steps: proofs, packed weights and buffers made once, run many times.

Tensors are words where a convolution on words reads them (`analysis.py`), else arrays of the narrowest type. A
convolution and the requantizer that alone reads it are one step. Words live in one block of memory, in which a buffer
takes the place of others that nobody reads any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact import layout
from intsim.engine.profile import LayerProfile
from intsim.engine.program.memory import Plan as MemoryPlan
from intsim.engine.threads import threads
from intsim.graph import IntArray, Node

Array = NDArray[Any]
Progress = Callable[[str], None]


@dataclass
class Frame:
    """What one run works on."""

    arrays: dict[str, Array]
    buffers: list[layout.Buffer]
    counts: bool = True
    workers: int = 1
    certify: bool = True
    events: dict[str, IntArray] = field(default_factory=dict)
    kept: dict[str, IntArray] = field(default_factory=dict)
    kernel: str = ""  # what a step chose while it ran
    why: str = ""


@dataclass
class Step:
    """One step: the nodes it stands for, what it runs, and why so. Steps without nodes move data."""

    nodes: tuple[Node, ...]
    kernel: str
    why: str
    action: Callable[[Frame], None]
    macs: int = 0
    bytes: int = 0
    label: str = ""  # of a step without nodes: the tensor that it moves
    arrays: tuple[str, ...] = ()  # arrays that it reads
    storages: tuple[int, ...] = ()  # buffers that it reads or writes
    made: tuple[str, ...] = ()  # arrays that it makes


class Program:
    """Prepared steps, run by `run`. Made by `compile.program`."""

    def __init__(self, layouts: list[layout.Layout], steps: list[Step], ends: list[str]) -> None:
        """Find out when buffers and arrays are born and die, and where buffers lie."""
        self.layouts, self.steps, self.ends = layouts, steps, ends
        births: dict[int, int] = {}
        deaths: dict[int, int] = {}
        for index, step in enumerate(steps):
            for storage in step.storages:
                births.setdefault(storage, index)
                deaths[storage] = index
        spans = {s: (births[s], deaths[s]) for s in births}
        self.memory = MemoryPlan({s: layouts[s].size for s in spans}, spans)
        self.born: list[list[int]] = [[] for _ in steps]
        for storage, (birth, _) in spans.items():
            if layout.has_border(layouts[storage]):
                self.born[birth].append(storage)
        last = {name: i for i, step in enumerate(steps) for name in (*step.arrays, *step.made)}
        self.dropped: list[list[str]] = [[] for _ in steps]
        for name, index in last.items():
            if name not in ends:
                self.dropped[index].append(name)
        self.live_bytes = 4 * self.memory.size + self._most_arrays(last)
        self.arenas: list[layout.Buffer] = []
        self.lock = threading.Lock()

    def _most_arrays(self, last: Mapping[str, int]) -> int:
        """Most bytes of arrays that steps have made and that are still read."""
        change = [0] * (len(self.steps) + 1)
        for index, step in enumerate(self.steps):
            for name in step.made:
                change[index] += step.bytes
                change[last[name] + 1 if name not in self.ends else len(self.steps)] -= step.bytes
        return max(accumulate(change), default=0)

    def run(
        self,
        inputs: Mapping[str, Array],
        counts: bool = True,
        progress: Progress | None = None,
        profile: list[LayerProfile] | None = None,
        certify: bool = True,
    ) -> Frame:
        """Run all steps on integer codes; `frame.arrays` then holds the outputs, `frame.kept` all tensors if asked."""
        arena = self._arena()
        try:
            buffers = [arena[:0]] * len(self.layouts)
            for storage, begin in self.memory.begin.items():
                buffers[storage] = arena[begin : begin + self.layouts[storage].size]
            frame = Frame(dict(inputs), buffers, counts, threads(), certify)
            for index, step in enumerate(self.steps):
                self._step(index, step, frame, progress, profile)
        finally:
            with self.lock:
                self.arenas.append(arena)
        return frame

    def _step(
        self, index: int, step: Step, frame: Frame, progress: Progress | None, profile: list[LayerProfile] | None
    ) -> None:
        if progress is not None:
            for node in step.nodes:
                progress(node.source or node.name)
        begin = time.perf_counter()
        for storage in self.born[index]:
            layout.fill_border(frame.buffers[storage], self.layouts[storage])
        frame.kernel, frame.why = step.kernel, step.why
        step.action(frame)
        if profile is not None:
            seconds = time.perf_counter() - begin
            name = ", ".join(dict.fromkeys(n.source or n.name for n in step.nodes)) or step.label
            ops = " + ".join(n.op for n in step.nodes) or "move"
            profile.append(LayerProfile(name, ops, frame.kernel, frame.why, step.macs, seconds, step.bytes))
        for name in self.dropped[index]:
            frame.arrays.pop(name, None)

    def _arena(self) -> layout.Buffer:
        """The memory of the run before, or new memory while another thread has that."""
        with self.lock:
            return self.arenas.pop() if self.arenas else np.zeros(self.memory.size, np.uint32)
