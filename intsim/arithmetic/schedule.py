"""The order in which a chain of registers works: every addition and every hand-on, one after another."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage, check_stages


class Schedule(NamedTuple):
    """Additions in the order in which they happen.

    Registers are numbered through all stages: `first[s] + lane`. An addition of a register's value into the next stage
    empties that register. The last register holds the accumulator.
    """

    stage: NDArray[np.int32]  # (steps,) stage that adds
    register: NDArray[np.int32]  # (steps,) register that is added to
    source: NDArray[np.int32]  # (steps,) product k >= 0, or ~register of the stage before
    first: tuple[int, ...]  # of each stage, its first register

    @property
    def registers(self) -> int:
        """How many there are."""
        return self.first[-1] + 1


@lru_cache(maxsize=64)
def schedule(depth: int, stages: tuple[Stage, ...]) -> Schedule:
    """The additions of `depth` products through `stages` (at least one), lanes and incomplete groups included.

    Lanes that nothing arrived at hand on nothing. Raises IntsimError for stages that don't end in one register.
    """
    stages = check_stages(stages)
    first = tuple(int(n) for n in np.cumsum([0, *(s.lanes for s in stages[:-1])]))
    arrived = [0] * len(stages)
    steps: list[tuple[int, int, int]] = []

    def arrive(s: int, source: int) -> None:
        stage = stages[s]
        steps.append((s, first[s] + arrived[s] % stage.lanes, source))
        arrived[s] += 1
        if stage.sum is not None and arrived[s] == stage.lanes * stage.sum:
            hand_on(s)

    def hand_on(s: int) -> None:
        count, arrived[s] = min(arrived[s], stages[s].lanes), 0
        for lane in range(count):
            arrive(s + 1, ~(first[s] + lane))

    block = stages[0].restart
    for k in range(depth):
        if isinstance(block, int) and k and k % block == 0 and arrived[0]:
            hand_on(0)
        arrive(0, k)
    for s in range(len(stages) - 1):
        hand_on(s)
    columns = np.array(steps, np.int32).reshape(-1, 3).T.copy()
    columns.setflags(write=False)
    stage, register, source = columns
    return Schedule(stage, register, source, first)
