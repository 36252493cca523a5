"""Which lanes, order of products and kind of addition are exact for the registers of a chain and the operands at hand.

Each time a register starts at 0 its sum is its own: no other register's additions change it. So products may be taken
in another order, as long as each register sees its values in theirs. `grouped` finds the order in which every group of
the first registers is a run of products, every group of the second ones a run of such groups, and so on: then the whole
accumulator is loops inside loops, and one running register a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.schedule import schedule
from intsim.engine.exact.isa import untried
from intsim.engine.registers.kernel import Shape
from intsim.engine.registers.vectors import Limits, Mode

COUNTED = (1 << 16) - 1  # events that a 16-bit lane counts


class Groups(NamedTuple):
    """Which values are added up together."""

    order: NDArray[np.int64]  # (K,) products as they are taken
    sizes: tuple[NDArray[np.int64], ...]  # of each stage: how many values its groups have, in that order

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
        largest = []
        for sizes in self.sizes:
            sums = _sums_of_runs(sums, sizes)
            largest.append(float(sums.max()) * (1 + 1e-9))
        return largest


def _sums_of_runs(values: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, K) to (N, runs): sums of neighbours, `sizes` of them, in an order of their own."""
    size = int(sizes[0])
    if size > 16 or not (sizes == size).all():
        return np.add.reduceat(values, np.cumsum(sizes) - sizes, axis=1)
    total = values[:, ::size]
    for k in range(1, size):
        total = total + values[:, k::size]
    return total


@lru_cache(maxsize=64)
def grouped(depth: int, stages: tuple[Stage, ...]) -> Groups:
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


@dataclass(frozen=True)
class Register:
    """A register of the kernel: a stage, or several that are one plain sum.

    Attributes:
        stage: index of its stage, the last one of several.
        arriving: largest magnitude that is added to it.
        bound: largest magnitude of its sums if none of them leaves it, else None.
    """

    stage: int
    arriving: int
    bound: int | None

    def reach(self, stage: Stage) -> int:
        """Largest magnitude of a true sum."""
        return -stage.min + self.arriving if self.bound is None else self.bound


@dataclass(frozen=True)
class Lanes:
    """What `kernel.accumulate` is compiled for, and its registers."""

    shape: Shape  # blocks of several channels
    shift: int  # of kind "narrow": the lane's bits less the register's
    registers: tuple[Register, ...]
    groups: Groups


def choose_lanes(
    stages: tuple[Stage, ...], weights: NDArray[Any], span: tuple[int, int], preloaded: int, mode: Mode
) -> Lanes:
    """The quickest way that is exact.

    Args:
        stages: one or more, see `check_stages`.
        weights: (N, K) integers, K at least 1.
        span: least and largest activation.
        preloaded: largest magnitude in the last register before the first product.
        mode: what is told of overflows.
    """
    least, most = int(weights.min()), int(weights.max())
    products = [x * w for x in span for w in (least, most)]
    largest = max(abs(p) for p in products)
    order = grouped(weights.shape[1], stages)
    registers = _registers(stages, order, weights, span, preloaded, largest)
    if mode != "extremes":
        registers, order = _joined(registers, order)
    first, rest = stages[registers[0].stage], registers[1:]
    operands = max(abs(v) for v in (*span, least, most))
    unroll, whole = _unroll(order.sizes[0], bool(rest))
    bits, kind = 64, "any"
    if mode != "extremes":
        fits16 = min(products) >= -(1 << 15) and max(products) < 1 << 15 and operands < 1 << 15
        if fits16 and order.order.size <= COUNTED:
            bits, kind = _narrow_kind(first, registers[0], products, whole)
        if kind == "any":
            bits, kind = _wide_kind(first, registers[0], max(largest, operands))
    out_bits = 32 if bits < 64 and all(r.reach(stages[r.stage]) < 1 << 31 for r in rest) else 64
    tail = "none" if not rest else "chain"
    if not rest:
        out_bits = max(bits, 32)
    elif len(rest) == 1 and out_bits == 32:
        tail = "one" if rest[0].bound is None else "sum"
    if mode == "extremes":
        unroll, whole = 1, False
    narrow = bits >= 32 and operands < 1 << (bits // 2 - 1)
    shift = 16 - first.bits if kind == "narrow" else 0
    # see kernel._Tile.two_additions: no product may be the least number of the lane, of which two add up to 2^16
    paired = mode == "touched" and kind == "narrow" and unroll % 2 == 0 and largest << shift < 1 << 15
    machine = untried()
    count, channels = 32 * machine.lanes // bits, 4 if machine.registers >= 32 else 2
    shape = Shape(count, channels, 2, unroll, bits, out_bits, kind, tail, mode, narrow, whole, paired)
    return Lanes(shape, shift, tuple(registers), order)


def holds(lanes: Lanes, stages: Sequence[Stage], late: int) -> bool:
    """Whether terms up to this magnitude can be added to the last register in its lane."""
    bound, end = lanes.registers[-1].bound, 1 << (lanes.shape.out_bits - 1)
    inside = stages[-1].bits <= lanes.shape.out_bits or (bound is not None and bound + late < end)
    return inside and late < end


def _registers(
    stages: Sequence[Stage], order: Groups, weights: NDArray[Any], span: tuple[int, int], preloaded: int, largest: int
) -> list[Register]:
    sums = order.largest_sums(np.abs(weights.astype(np.float64)))
    magnitude = max(abs(v) for v in span)
    registers, arriving, free = [], largest, True
    for s, stage in enumerate(stages):
        bound = int(sums[s] * magnitude) + 1 if free else int(order.sizes[s].max()) * arriving
        bound += preloaded if s == len(stages) - 1 else 0
        fits = bound <= stage.max
        registers.append(Register(s, arriving, bound if fits else None))
        free &= fits
        arriving = bound if fits else -stage.min
    return registers


def _joined(registers: list[Register], order: Groups) -> tuple[list[Register], Groups]:
    """Neighbours that never overflow are one sum."""
    out = registers[:1]
    for register in registers[1:]:
        if out[-1].bound is None or register.bound is None:
            out.append(register)
            continue
        order = order.joined(len(out) - 1)
        out[-1] = replace(register, arriving=out[-1].arriving)
    return out, order


def _unroll(sizes: NDArray[np.int64], followed: bool) -> tuple[int, bool]:
    """Products at once, and whether that is every group; short groups are filled up with zeros."""
    longest = int(sizes.max())
    if followed and longest <= 4:
        return (2 if longest <= 2 else 4), True
    return 2, False


def _narrow_kind(stage: Stage, register: Register, products: list[int], whole: bool) -> tuple[int, str]:
    """Lane and kind with products of 16 bits; "any" where 16 bits are too few."""
    if register.bound is not None and register.bound < 1 << 15:
        return 16, "exact"
    if stage.bits > 16 or register.bound is not None:
        return 64, "any"
    if stage.overflow == "wrap":
        return 16, "wrap" if stage.bits < 16 else "full"
    fits = stage.min <= min(products) and max(products) <= stage.max
    return 16, "narrow" if stage.bits == 16 or (fits and not whole) else "both"


def _wide_kind(stage: Stage, register: Register, largest: int) -> tuple[int, str]:
    """Lane and kind with products and operands up to `largest`."""
    if largest < 1 << 31:
        if register.bound is not None and register.bound < 1 << 31:
            return 32, "exact"
        if register.bound is None and stage.overflow == "wrap" and stage.bits <= 32:
            return 32, "wrap" if stage.bits < 32 else "full"
        if stage.overflow == "saturate" and register.reach(stage) < 1 << 31:
            return 32, "clip"
    clips = register.bound is not None or stage.overflow == "saturate"
    return 64, "clip" if clips and register.reach(stage) < 1 << 63 else "any"


def limits(lanes: Lanes, stages: Sequence[Stage]) -> NDArray[np.int64]:
    """(registers + 1, `Limits`); the last row is the last stage's, whatever is known of its sums."""
    rows = [_limits(stages[r.stage], r.bound) for r in lanes.registers]
    rows[0] = rows[0]._replace(shift=lanes.shift)
    far = (1 << (lanes.shape.out_bits - 1)) - 1
    last = _limits(stages[-1], None if stages[-1].bits <= lanes.shape.out_bits else far)
    return np.array([*rows, last], np.int64)


def _limits(stage: Stage, bound: int | None) -> Limits:
    if bound is not None:
        return Limits(-bound, bound, -1, -1, 0, 0, 0)
    if stage.overflow == "saturate":
        return Limits(stage.min, stage.max, -1, -1, 0, 0, 0)
    mask = (1 << stage.bits) - 1 if stage.bits < 64 else -1
    half = 1 << (stage.bits - 1) if stage.bits < 64 else stage.min
    return Limits(stage.min, stage.max, mask, 0, half, ~mask, 0)
