"""A graph on a target as a list of prepared steps: proofs, packed weights and buffers made once, run many times.

Tensors are words where a convolution on words reads them (`placement.py`), else arrays of the narrowest type. A
convolution and the requantizer that alone reads it are one step. Words live in one block of memory, in which a buffer
takes the place of others that nobody reads any more.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact import layout
from intsim.engine.threads import share_out, threads, using
from intsim.graph import IntArray, Node

Array = NDArray[Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class LayerProfile:
    """One step of a run, as `--profile` shows it."""

    name: str  # the file's node
    op: str  # of the integer graph; several when they run as one
    kernel: str  # what ran
    why: str  # and why it could, or had to
    macs: int
    seconds: float
    bytes: int  # of the output


@dataclass
class Frame:
    """What one run works on."""

    arrays: dict[str, Array]
    buffers: list[layout.Buffer]
    counts: bool = True
    overflow_check: bool = True  # before registers are stepped through
    threads: int = 1
    events: dict[str, IntArray] = field(default_factory=dict)
    kept: dict[str, IntArray] = field(default_factory=dict)
    kernel: str = ""  # what a step chose while it ran
    why: str = ""


Action = Callable[[Frame], None]


@dataclass(frozen=True)
class OnBuffers:
    """What runs on buffers: `bind` makes an action for some memory, once, and each run in that memory calls it."""

    bind: Callable[[list[layout.Buffer]], Action]


def in_shares(part: Callable[[tuple[int, int]], object], count: int, grain: int) -> Action:
    """An action: `part` of contiguous shares of range(count), at least `grain` each, by as many threads."""
    return lambda frame: share_out(part, count, grain)


@dataclass
class Step:
    """One step: the nodes it stands for, what it runs, and why so. Steps without nodes move data."""

    nodes: tuple[Node, ...]
    kernel: str
    why: str
    action: Action | OnBuffers
    label: str = ""  # of a step without nodes: the tensor that it moves
    arrays: tuple[str, ...] = ()  # arrays that it reads
    buffers: tuple[int, ...] = ()  # that it reads or writes
    made: tuple[str, ...] = ()  # arrays that it makes
    bytes: int = 0  # that it writes
    macs: int = 0


class Memory:
    """Where buffers lie in one block of memory, by their sizes and spans (first and last step, inclusive).

    A buffer takes the room of others whose last reader has run. Buffers are laid in the order of their first steps,
    each in the smallest gap that holds it. `begin` are their first elements, `size` elements hold all. With n buffers
    and g gaps at a time it takes n (log n + g) steps.
    """

    ALIGN = 16
    """Elements: 64 bytes of 32-bit words."""

    def __init__(self, sizes: Mapping[int, int], spans: Mapping[int, tuple[int, int]]) -> None:
        """Lay all buffers."""
        self.begin: dict[int, int] = {}
        self.size = 0
        self._gaps: list[tuple[int, int]] = []  # (first, length), in order, never adjacent
        ending = sorted((last, key) for key, (_, last) in spans.items())
        done = 0
        for key, (first, _) in sorted(spans.items(), key=lambda item: (item[1][0], -sizes[item[0]])):
            while done < len(ending) and ending[done][0] < first:
                self._free(ending[done][1], sizes)
                done += 1
            self.begin[key] = self._take(self._rounded(sizes[key]))

    def _rounded(self, size: int) -> int:
        return -(-max(size, 1) // self.ALIGN) * self.ALIGN

    def _take(self, size: int) -> int:
        fitting = [(length, at) for at, (_, length) in enumerate(self._gaps) if length >= size]
        if fitting:
            _, at = min(fitting)
            first, length = self._gaps.pop(at)
            if length > size:
                self._gaps.insert(at, (first + size, length - size))
            return first
        # the gap at the end, if any, grows
        first = self.size
        if self._gaps and sum(self._gaps[-1]) == self.size:
            first = self._gaps.pop()[0]
        self.size = first + size
        return first

    def _free(self, key: int, sizes: Mapping[int, int]) -> None:
        first, length = self.begin[key], self._rounded(sizes[key])
        at = bisect.bisect(self._gaps, (first, 0))
        if at < len(self._gaps) and self._gaps[at][0] == first + length:
            length += self._gaps.pop(at)[1]
        if at and sum(self._gaps[at - 1]) == first:
            first, before = self._gaps.pop(at - 1)
            length += before
            at -= 1
        self._gaps.insert(at, (first, length))


class Program:
    """Prepared steps, run by `run`. Made by `compile.program`."""

    def __init__(self, layouts: list[layout.Layout], steps: list[Step], ends: list[str], unread: list[str]) -> None:
        """Find out when buffers and arrays are born and die, and where buffers lie.

        `ends` are the arrays that a run hands on, `unread` the graph's inputs that no node reads.
        """
        self.layouts, self.steps, self.ends, self.unread = layouts, steps, ends, unread
        births: dict[int, int] = {}
        deaths: dict[int, int] = {}
        for index, step in enumerate(steps):
            for buffer in step.buffers:
                births.setdefault(buffer, index)
                deaths[buffer] = index
        spans = {b: (births[b], deaths[b]) for b in births}
        self.memory = Memory({b: layouts[b].size for b in spans}, spans)
        self.born: list[list[int]] = [[] for _ in steps]
        for buffer, (birth, _) in spans.items():
            if any(layouts[buffer].border):
                self.born[birth].append(buffer)
        last = {name: i for i, step in enumerate(steps) for name in (*step.arrays, *step.made)}
        self.dropped: list[list[str]] = [[] for _ in steps]
        for name, index in last.items():
            if name not in ends:
                self.dropped[index].append(name)
        self.live_bytes = 4 * self.memory.size + self._most_arrays(last)
        self.arenas: list[_Arena] = []
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
        overflow_check: bool = True,
    ) -> Frame:
        """Run all steps on integer codes; `frame.arrays` then holds the outputs, `frame.kept` all tensors if asked."""
        arena = self._arena()
        try:
            count = threads()
            with using(count):  # what the environment says is read once a run
                frame = Frame(dict(inputs), arena.buffers, counts, overflow_check, count)
                for index, action in enumerate(arena.actions):
                    if progress is not None:
                        for node in self.steps[index].nodes:
                            progress(node.shown)
                    if profile is None:
                        for words, border in arena.borders[index]:
                            layout.fill_border(words, border)
                        action(frame)
                    else:
                        profile.append(self._profiled(index, arena, frame))
                    for name in self.dropped[index]:
                        frame.arrays.pop(name, None)
        finally:
            with self.lock:
                self.arenas.append(arena)
        return frame

    def _profiled(self, index: int, arena: _Arena, frame: Frame) -> LayerProfile:
        """Run one step; its record."""
        step, begin = self.steps[index], time.perf_counter()
        for words, border in arena.borders[index]:
            layout.fill_border(words, border)
        frame.kernel, frame.why = step.kernel, step.why
        arena.actions[index](frame)
        seconds = time.perf_counter() - begin
        name = ", ".join(dict.fromkeys(n.shown for n in step.nodes)) or step.label
        ops = " + ".join(n.op for n in step.nodes) or "move"
        return LayerProfile(name, ops, frame.kernel, frame.why, step.macs, seconds, step.bytes)

    def _arena(self) -> _Arena:
        """The memory of the run before, or new memory while another thread has that."""
        with self.lock:
            if self.arenas:
                return self.arenas.pop()
        words = np.zeros(self.memory.size, np.uint32)
        buffers = [words[:0]] * len(self.layouts)
        for buffer, begin in self.memory.begin.items():
            buffers[buffer] = words[begin : begin + self.layouts[buffer].size]
        actions = [s.action.bind(buffers) if isinstance(s.action, OnBuffers) else s.action for s in self.steps]
        borders = [[(buffers[b], self.layouts[b]) for b in born] for born in self.born]
        return _Arena(buffers, actions, borders)


@dataclass
class _Arena:
    """Memory for one run at a time, the steps' actions in it, and the borders that each step fills first."""

    buffers: list[layout.Buffer]
    actions: list[Action]
    borders: list[list[tuple[layout.Buffer, layout.Layout]]]
