"""CPU and wall time of contestants that take turns in one process.

A turn is one untimed run, which brings a contestant's own data back into the caches, and timed ones for a moment; slow
contestants skip the untimed one, and very slow ones are content with fewer runs. Neighbours on the machine inflate wall
time; CPU time of this process is what ratios are made of, its median for the usual case and its minimum for the least
disturbed one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

TURN = 0.15
"""Seconds of timed runs a turn; a contestant whose run takes longer has one run a turn and no untimed one."""
SLOW = 1.5
"""Seconds of a run from which two are enough."""


@dataclass
class Timing:
    """Seconds of every timed run."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def add(self, run: Callable[[], Any]) -> float:
        """Time one run; returns its wall seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        self.cpu.append(cpu)
        self.wall.append(wall)
        return wall

    def to_json(self) -> dict[str, Any]:
        """Medians and minima in milliseconds, and how many runs they are of."""
        return {
            "cpu_ms": 1e3 * statistics.median(self.cpu),
            "cpu_min_ms": 1e3 * min(self.cpu),
            "wall_ms": 1e3 * statistics.median(self.wall),
            "runs": len(self.cpu),
        }


def take_turns(
    runs: Mapping[str, Callable[[], Any]],
    seconds: float,
    least: int = 3,
    most: int = 60,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Timing]:
    """Time every contestant, in turns, until each has had `seconds` or `most` runs, and `least` runs in any case.

    Each must have run once before, so that nothing is compiled here. Raises what a contestant raises.
    """
    timings = {name: Timing() for name in runs}
    spent = dict.fromkeys(runs, 0.0)
    waiting = list(runs)
    while waiting:
        for name in list(waiting):
            progress(name)
            timing, run = timings[name], runs[name]
            begin = time.perf_counter()
            if timing.wall and timing.wall[-1] < TURN:
                run()
            turn = timing.add(run)
            while turn < TURN and len(timing.cpu) < most:
                turn += timing.add(run)
            spent[name] += time.perf_counter() - begin
            enough = len(timing.cpu) >= (min(2, least) if timing.wall[-1] > SLOW else least)
            if len(timing.cpu) >= most or (enough and spent[name] > seconds):
                waiting.remove(name)
    return timings
