"""A target's registers in Python integers: what one sum becomes, addition by addition.

Nothing is shared with the engine. Every value may be a Python integer, or an array of them, one element a case; an
array of int64 where `fits_int64` says that nothing leaves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.packing import Packing
from intsim.arithmetic.schedule import schedule
from intsim.graph import IntArray


def fitted(total: Any, bits: int, saturates: bool) -> Any:
    """What a register of `bits` bits keeps of a sum."""
    edge = 1 << (bits - 1)
    if not saturates:
        return ((total + edge) & (2 * edge - 1)) - edge
    if isinstance(total, int):
        return min(max(total, -edge), edge - 1)
    return np.minimum(np.maximum(total, -edge), edge - 1)


def fits_int64(most: int, stages: Sequence[Stage]) -> bool:
    """Whether int64 holds all that `accumulator` computes of products and addends whose magnitudes add up to `most`.

    A register keeps no more than its width and, where it doesn't overflow, than it is given; `drop` bits come back.
    """
    return most < 1 << 61 and all(stage.bits + stages[0].drop <= 61 for stage in stages)


def cast(value: Any, drop: int, rounding: str | None) -> Any:
    """A value in LSBs of a product as registers have it whose lowest bit is bit `drop` of a product."""
    if not drop or value is None:
        return value
    whole, tie = value >> drop, 1 << (drop - 1)
    rest = value - (whole << drop)
    up = {
        "floor": rest < 0,
        "ceil": rest > 0,
        "away": (rest > 0) & (value >= 0),
        "toward_zero": (rest > 0) & (value < 0),
        "half_up": rest >= tie,
        "half_even": (rest > tie) | ((rest == tie) & (whole % 2 == 1)),
        "half_away": (rest > tie) | ((rest == tie) & (value >= 0)),
        "half_toward_zero": (rest > tie) | ((rest == tie) & (value < 0)),
    }[str(rounding)]
    return whole + up if isinstance(value, int) else whole + np.asarray(up, bool)


def accumulator(products: Sequence[Any], stages: Sequence[Stage], start: Any = None, after: Any = None) -> Any:
    """The accumulator that `products`, in order of arrival, end as.

    Args:
        products: Python integers, or arrays of them (dtype object) of one shape.
        stages: registers; empty is the plain sum.
        start: preloaded into the last register, or None.
        after: added into the last register after everything else, or None.
    """
    zero = 0 if not len(products) or isinstance(products[0], int) else np.zeros_like(products[0])
    if not stages:
        return sum(products, zero) + (0 if start is None else start) + (0 if after is None else after)
    order = schedule(len(products), tuple(stages))
    registers: list[Any] = [zero] * order.registers
    last, drop = stages[-1], stages[0].drop
    products = [cast(p, drop, stages[0].rounding) for p in products]
    start, after = (cast(v, drop, stages[0].rounding) for v in (start, after))
    if start is not None:
        registers[-1] = fitted(zero + start, last.bits, last.overflow == "saturate")
    for s, register, source in zip(order.stage.tolist(), order.register.tolist(), order.source.tolist(), strict=True):
        if source >= 0:
            value = products[source]
        else:
            value, registers[~source] = registers[~source], zero
        stage = stages[s]
        registers[register] = fitted(registers[register] + value, stage.bits, stage.overflow == "saturate")
    if after is not None:
        registers[-1] = fitted(registers[-1] + after, last.bits, last.overflow == "saturate")
    return registers[-1] << drop


def packed_accumulator(
    products: Mapping[tuple[int, int], Sequence[int]],
    mine: tuple[int, int],
    stages: Sequence[Stage],
    packing: Packing,
    start: int | None = None,
    after: int | None = None,
) -> int:
    """The accumulator of field `mine` = (channel, pixel) of a packed multiplier.

    `products` holds those of every field that has a partner; one that has none adds nothing.
    """
    first, rest = stages[0], stages[1:]
    depth = len(products[mine])
    size = max(depth, 1) if first.sum is None else first.sum
    read = []
    offset = packing.channels[mine[0]] + packing.pixels[mine[1]]
    for begin in range(0, depth, size):
        wide = 0
        for (channel, pixel), values in products.items():
            wide += sum(values[begin : begin + size]) << (packing.channels[channel] + packing.pixels[pixel])
        wide = fitted(wide, packing.bits, False)
        field = fitted(wide >> offset, first.bits, False)
        if packing.correction == "borrow" and offset:
            field += (wide >> (offset - 1)) & 1
        read.append(field)
    return int(accumulator(read, rest, start, after))


class Peak(NamedTuple):
    """Where a register is driven furthest out: stage, step of the schedule, and by how much, for each case."""

    stage: int
    step: IntArray
    excess: IntArray


def peaks(products: IntArray, stages: Sequence[Stage], upwards: bool, start: IntArray | None = None) -> list[Peak]:
    """Of each stage, the addition whose sum leaves the register furthest if nothing below it overflows.

    `products` (N, K), int64 or object, and `start` (N,) are in LSBs of the layer's products; an excess of 0 or less
    means that the sum stays inside.
    """
    order = schedule(products.shape[1], tuple(stages))
    if stages and stages[0].drop:
        products, start = stages[0].cast(products), None if start is None else stages[0].cast(start)
    products = np.ascontiguousarray(products.T)  # one after another in memory
    registers = np.zeros((order.registers, products.shape[1]), products.dtype)
    if start is not None:
        registers[-1] = start
    excess = [np.full(products.shape[1], -1, products.dtype) for _ in stages]
    step = [np.full(products.shape[1], -1, np.int64) for _ in stages]
    columns = zip(order.stage.tolist(), order.register.tolist(), order.source.tolist(), strict=True)
    for i, (s, register, source) in enumerate(columns):
        if source >= 0:
            registers[register] += products[source]
        else:
            registers[register] += registers[~source]
            registers[~source] = 0
        out = registers[register] - stages[s].max if upwards else stages[s].min - registers[register]
        more = np.asarray(out > excess[s], bool)
        excess[s][more], step[s][more] = out[more], i
    return [Peak(s, step[s], excess[s]) for s in range(len(stages))]


def leaves(depth: int, stages: Sequence[Stage], steps: Iterable[int]) -> dict[int, list[int]]:
    """The products that a register holds after each of these additions of the schedule, in order of arrival there."""
    order = schedule(depth, tuple(stages))
    held: list[list[int]] = [[] for _ in range(order.registers)]
    wanted = set(steps)
    found: dict[int, list[int]] = {step: [] for step in wanted}
    columns = zip(order.register.tolist(), order.source.tolist(), strict=True)
    for i, (register, source) in enumerate(columns):
        if source >= 0:
            held[register].append(source)
        else:
            held[register] += held[~source]
            held[~source] = []
        if i in wanted:
            found[i] = list(held[register])
    return found
