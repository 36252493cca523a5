"""The groups in which values reach the registers of a chain, put side by side.

Each time a register starts at 0 its sum is its own: no other register's additions change it. So products may be taken
in another order, as long as each register sees its values in theirs. `groups` finds the order in which every group of
the first registers is a run of products, every group of the second ones a run of such groups, and so on: then the whole
accumulator is loops inside loops, and one running register a stage.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.schedule import schedule


class Groups(NamedTuple):
    """Which values are added up together."""

    order: NDArray[np.int64]  # (K,) products by place
    sizes: tuple[NDArray[np.int64], ...]  # of each stage: how many values its groups have, in the order of the places

    def ends(self) -> NDArray[np.int64]:
        """Of each group of the first stage: how many registers after the first take a value at its end."""
        taken = np.ones(self.sizes[0].size, np.int64)
        last = np.arange(self.sizes[0].size)  # which of them end the groups of a stage
        for sizes in self.sizes[1:-1]:
            last = last[np.cumsum(sizes) - 1]
            taken[last] += 1
        return taken if len(self.sizes) > 1 else np.zeros_like(taken)

    def joined(self, stage: int) -> Groups:
        """The groups where those of `stage` and of the next one are one register: both are plain sums."""
        sizes, above = self.sizes[stage], self.sizes[stage + 1]
        both = np.add.reduceat(sizes, np.cumsum(above) - above)
        return Groups(self.order, (*self.sizes[:stage], both, *self.sizes[stage + 2 :]))

    def largest_sums(self, magnitudes: NDArray[Any]) -> list[float]:
        """Of each stage the largest sum of a group's (N, K) products' magnitudes; rounded up."""
        sums = magnitudes[:, self.order].astype(np.float64)
        found = []
        for sizes in self.sizes:
            sums = np.add.reduceat(sums, np.cumsum(sizes) - sizes, axis=1)
            found.append(float(sums.max()) * (1 + 1e-9))
        return found


@lru_cache(maxsize=64)
def groups(depth: int, stages: tuple[Stage, ...]) -> Groups:
    """Those of `depth` products, 1 or more, through `stages`, 1 or more."""
    plan = schedule(depth, stages)
    held: dict[int, list[Any]] = {}
    for register, source in zip(plan.register.tolist(), plan.source.tolist(), strict=True):
        held.setdefault(register, []).append(source if source >= 0 else held.pop(~source))
    values: list[Any] = [held[plan.registers - 1]]
    sizes = []
    for _ in stages:
        sizes.append(np.array([len(group) for group in values], np.int64))
        values = [value for group in values for value in group]
    return Groups(np.array(values, np.int64), tuple(reversed(sizes)))
