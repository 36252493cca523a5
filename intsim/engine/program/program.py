"""A graph on a target as a list of prepared steps: proofs, packed weights and buffers made once, run many times.

Tensors are words where a convolution on words reads them (`placement.py`), else arrays of the narrowest type. A
convolution and the requantizer that alone reads it are one step. Words live in one block of memory, in which a buffer
takes the place of others that nobody reads any more.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact import layout
from intsim.engine.threads import share_out, threads, using
from intsim.graph import IntArray, Node
from intsim.jit.chain import Call, Chain

Array = NDArray[Any]
Progress = Callable[[str], None]
LINKS = 32
"""Calls of a chain at most: between chains Python sees that a user interrupts."""


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
class Work:
    """An action without a choice: a kernel's call as one thread makes it, and what several threads do instead."""

    call: Call
    shared: Callable[[], object] | None = None

    def __call__(self, frame: Frame) -> None:
        """Do it."""
        if self.shared is None or frame.threads == 1:
            self.call.run()
        else:
            self.shared()


@dataclass(frozen=True)
class OnBuffers:
    """What runs on buffers: `bind` makes actions for some memory, once, and each run in that memory calls them."""

    bind: Callable[[list[layout.Buffer]], Sequence[Action]]


def in_shares(kernel: Callable[..., object], arguments: tuple[Any, ...], count: int, grain: int) -> list[Action]:
    """A kernel whose last arguments are a share first, last of range(count), at least `grain` each, threads apart."""

    def shared() -> None:
        share_out(lambda part: kernel(*arguments, *part), count, grain)

    return [Work(Call(kernel, (*arguments, 0, count)), shared)]


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
    events: dict[str, IntArray] = field(default_factory=dict)  # of nodes that can have none, by their names


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
        self.events = [(name, events) for step in steps for name, events in step.events.items()]
        self.order = {node.name: index for index, step in enumerate(steps) for node in step.nodes}
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
                # those of a machine without registers are empty: nobody can write into them
                frame.events = {name: events.copy() if events.size else events for name, events in self.events}
                if progress is None and profile is None:
                    for action in arena.whole(count):
                        action(frame)
                else:
                    self._watched(arena, frame, progress, profile)
                if len(frame.events) > len(self.events):
                    frame.events = dict(sorted(frame.events.items(), key=lambda one: self.order[one[0]]))
        finally:
            with self.lock:
                self.arenas.append(arena)
        return frame

    def _watched(
        self, arena: _Arena, frame: Frame, progress: Progress | None, profile: list[LayerProfile] | None
    ) -> None:
        """Run step by step."""
        for index, actions in enumerate(arena.actions):
            if progress is not None:
                for node in self.steps[index].nodes:
                    progress(node.shown)
            if profile is not None:
                profile.append(self._profiled(index, arena, frame))
                continue
            for action in actions:
                action(frame)

    def _profiled(self, index: int, arena: _Arena, frame: Frame) -> LayerProfile:
        """Run one step; its record."""
        step, begin = self.steps[index], time.perf_counter()
        frame.kernel, frame.why = step.kernel, step.why
        for action in arena.actions[index]:
            action(frame)
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
        return _Arena(buffers, [self._bound(index, buffers) for index in range(len(self.steps))])

    def _bound(self, index: int, buffers: list[layout.Buffer]) -> list[Action]:
        """A step's actions in some memory: borders of the buffers that it is the first to use, itself, what it ends."""
        action, dropped = self.steps[index].action, self.dropped[index]
        borders = [Work(layout.fill_border(buffers[b], self.layouts[b])) for b in self.born[index]]
        own = action.bind(buffers) if isinstance(action, OnBuffers) else [action]
        return [*borders, *own, *([partial(_drop, dropped)] if dropped else [])]


def _drop(names: list[str], frame: Frame) -> None:
    """Arrays that nobody reads any more."""
    for name in names:
        frame.arrays.pop(name, None)


class _Arena:
    """Memory for one run at a time, and the steps' actions in it."""

    def __init__(self, buffers: list[layout.Buffer], actions: list[list[Action]]) -> None:
        self.buffers, self.actions = buffers, actions
        self.flat = [action for step in actions for action in step]
        self.joined: list[Action] | None = None
        self.runs = 0

    def whole(self, threads: int) -> list[Action]:
        """All actions. Calls that follow each other are one for one thread, once it is known that runs are repeated."""
        self.runs += 1
        if threads > 1 or self.runs == 1:
            return self.flat
        if self.joined is None:
            self.joined = _joined(self.flat)
        return self.joined


def _joined(actions: list[Action]) -> list[Action]:
    """The same with chains of calls, of at most `LINKS` each."""
    made: list[Action] = []
    for calls, group in groupby(actions, lambda action: isinstance(action, Work)):
        if not calls:
            made += group
            continue
        works = list(group)
        for begin in range(0, len(works), LINKS):
            part: list[Any] = works[begin : begin + LINKS]
            try:
                made.append(partial(_run_chain, Chain([work.call for work in part])))
            except (AttributeError, KeyError, TypeError):  # kernels that aren't compiled, or a Numba made differently
                made += part
    return made


def _run_chain(chain: Chain, frame: Frame) -> None:
    chain.run()
