"""The definition of an accumulator: a chain of registers that add one value after another.

Each stage adds `sum` values of the stage before into its register, one at a time; after *each* addition the
register's overflow rule applies. A full group, or the last incomplete one, hands its value to the next stage and
the register restarts at 0. So `vpmaddubsw`+`vpmaddwd`+`vpaddd` is pairs into a saturating 16-bit register, pairs
into 32 bits, the rest into 32 bits. A stage may have several registers, its lanes, which take values in turn and hand
on one after the other when all are full. Saturating sums depend on the order, wrapping ones do not.

A first register of one product may have an LSB of its own, as a fixed-point type of hardware synthesis has: each
product is rounded to it. All registers behind, and what is added into the last one, are in that LSB then; what they
hand on is shifted back.

This file is written to be read; `engine/registers/` computes the same, fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.integers import as_integers, saturate, wrap
from intsim.arithmetic.keys import Key, check, integer, one_of, optional, read, shown
from intsim.arithmetic.rounding import Rounding, round_divide
from intsim.errors import IntsimError

Overflow = Literal["wrap", "saturate"]
Integers = NDArray[np.int64]
MAX_SUM = (1 << 31) - 1
MAX_STAGES = 16
MAX_LSB, MAX_DROP = 64, 62
KEYS = {
    "sum": Key(lambda v: v == "rest" or integer(1, MAX_SUM).takes(v), f'1..{MAX_SUM} or "rest"'),
    "bits": integer(1, 64),
    "overflow": one_of(get_args(Overflow)),
    "lanes": integer(1, 1024),
    "restart": Key(
        lambda v: v in (None, "tap", "half") or integer(1, MAX_SUM).takes(v), f'1..{MAX_SUM}, "tap", "half"'
    ),
    "lsb": optional(integer(-MAX_LSB, MAX_LSB)),
    "drop": integer(0, MAX_DROP),
    "rounding": optional(one_of(tuple(Rounding))),
}
"""What a stage's keys take in a target file."""
STAGES = f"a list of up to {MAX_STAGES} tables {{ sum = {KEYS['sum'].allowed}, bits = {KEYS['bits'].allowed}, " + (
    f"overflow = {' or '.join(KEYS['overflow'].allowed.split(', '))} }}"
)


@dataclass(frozen=True, slots=True)
class Stage:
    """One register of an accumulator.

    Attributes:
        sum: how many values of the stage before are added into one group, 1..2^31-1; None means all that remain.
        bits: width of the signed register, 1..64.
        overflow: what the register does with a sum that does not fit, "wrap" or "saturate".
        lanes: how many such registers take turns: value i goes to register i mod lanes, as in a SIMD register whose
            elements are added up later. All are full after `lanes * sum` values and hand on in their order.
        restart: of the first stage: after so many products registers hand on what they have, full or not. "tap" is a
            layer's input channels, where they arrive fastest; "half" half of its products, the first half the larger.
            Where registers are computed it is a number (`restarted`).
        lsb: of a first stage of one product: 2^lsb is what the lowest bit of its register, and of all behind it, is
            worth; -8 is 8 fraction bits. Products are rounded to it. Where registers are computed it is `drop` bits of
            the layer's products (`with_lsb`).
        drop: of a first stage of one product: so many of the lowest bits of each product are rounded off.
        rounding: how. Needed with `lsb` and `drop`, refused without.
    """

    sum: int | None
    bits: int
    overflow: Overflow
    lanes: int = 1
    restart: int | Literal["tap", "half"] | None = None
    lsb: int | None = None
    drop: int = 0
    rounding: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no register can be."""
        if self.sum == "rest":
            object.__setattr__(self, "sum", None)
        check(KEYS, self.keys(), "stage ")

    def keys(self) -> dict[str, Any]:
        """The table of a target file that says the same."""
        own = asdict(self) | ({"sum": "rest"} if self.sum is None else {})
        return {k: v for k, v in own.items() if k not in ("restart", "lsb", "drop", "rounding") or v not in (None, 0)}

    @property
    def min(self) -> int:
        """Smallest value of the register."""
        return -(1 << (self.bits - 1))

    @property
    def max(self) -> int:
        """Largest value of the register."""
        return (1 << (self.bits - 1)) - 1

    def cast(self, values: Integers) -> Integers:
        """Integers in LSBs of a product as the registers have them, before an overflow rule: without `drop` bits."""
        if not self.drop:
            return values
        if self.rounding == "floor":
            return values >> self.drop
        return np.asarray(round_divide(values, 1 << self.drop, str(self.rounding)))


def read_stages(content: Any) -> tuple[Stage, ...]:
    """The stages of a target file's list; raises IntsimError for what no stage is. `check_stages` asks for the rest."""
    if not isinstance(content, (list, tuple)) or len(content) > MAX_STAGES:
        raise IntsimError(f"stages is {shown(content)}; allowed: {STAGES}")
    return tuple(read(Stage, KEYS, table, f"stages, stage {number}: ") for number, table in enumerate(content, 1))


def restarted(stages: Sequence[Stage], channels: int, depth: int) -> tuple[Stage, ...]:
    """Stages with `restart` as a number of products, for a layer of `channels` input channels a tap and `depth`
    products."""
    if not stages or not isinstance(stages[0].restart, str):
        return tuple(stages)
    after = channels if stages[0].restart == "tap" else (depth + 1) // 2
    return (replace(stages[0], restart=max(after, 1)), *stages[1:])


def with_lsb(stages: Sequence[Stage], unit: int) -> tuple[Stage, ...]:
    """Stages with `lsb` as `drop` bits of products whose lowest bit is worth 2^unit.

    Registers whose LSB is finer hold multiples of 2^s of it, s = unit - lsb: wrapping ones of W bits are registers of
    W - s bits in the products' LSB.

    Raises:
        IntsimError: registers that saturate at what is no multiple, hold no bit of a product, or reach beyond int64.
    """
    if not stages or stages[0].lsb is None:
        return tuple(stages)
    drop = stages[0].lsb - unit
    least, most = min(s.bits for s in stages), max(s.bits for s in stages)
    if drop > 0 and drop + most > 63:
        raise IntsimError(
            f"its products' LSB is 2^{unit}, so that {most} bits of 2^{unit + drop} go beyond the 64 bits that intsim "
            "carries; give fewer bits or a finer lsb"
        )
    if drop >= 0:
        first = replace(stages[0], lsb=None, drop=drop, rounding=stages[0].rounding if drop else None)
        return (first, *stages[1:])
    if any(s.overflow != "wrap" for s in stages):
        raise IntsimError(
            f"its products' LSB is 2^{unit}, coarser than the register's 2^{unit + drop}, whose greatest value is no "
            f'multiple of it; give lsb = {unit} (and {-drop} bits less) or overflow = "wrap"'
        )
    if least + drop < 1:
        raise IntsimError(
            f"its products' LSB is 2^{unit}, above all {least} bits of a register with LSB 2^{unit + drop}; give a "
            "greater lsb or more bits"
        )
    first = replace(stages[0], lsb=None, rounding=None)
    return tuple(replace(s, bits=s.bits + drop) for s in (first, *stages[1:]))


def handed_on(stages: Sequence[Stage]) -> tuple[int, int]:
    """Least and greatest accumulator that registers (one or more) can hand on, in LSBs of the layer."""
    last, drop = stages[-1], stages[0].drop
    return last.min << drop, last.max << drop


Watch = Callable[[int, range, int | None, Integers, Integers], None]
"""Sees each addition of an accumulation: the stage, from 0; which values of the stage before its register takes;
which of them was added (None: a bias); what was added; what the register holds then."""


class Accumulation(NamedTuple):
    """Result and telemetry of `accumulate_telemetry`; `...` is the shape of the products without their last axis."""

    result: Integers  # (...) value of the last register
    events: Integers  # (..., stages) additions whose true sum left the register
    low: Integers  # (..., stages) smallest true sum, never above 0; saturated to int64
    high: Integers  # (..., stages) largest true sum, never below 0; saturated to int64


def check_stages(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages of a layer as a tuple if they can be computed, else raise IntsimError; see `check_chain`."""
    chain = check_chain(stages)
    if chain and chain[0].lsb is not None:
        raise IntsimError(
            "stages, stage 1: lsb is the worth of a bit, which only a layer's scales compare with its products; of "
            "products alone give drop, how many bits of each are dropped"
        )
    return chain


def check_chain(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages as a tuple if they end in one value, else raise IntsimError.

    The last stage must be one register that takes the rest. A stage after one that takes the rest sees one value a
    lane, so it must take the rest as well (e.g. a 40-bit accumulator that is stored to 32 bits). An empty list is the
    unbounded sum.
    """
    seen_rest = False
    for number, stage in enumerate(stages, 1):
        if seen_rest and stage.sum is not None:
            raise IntsimError(f'stages, stage {number}: sum is {stage.sum} after a "rest" stage; allowed: "rest"')
        seen_rest = stage.sum is None
    for number, stage in enumerate(stages, 1):
        if stage.restart is not None and (number > 1 or stage.sum is None):
            raise IntsimError(f"stages, stage {number}: restart is for the first stage, which must not take the rest")
        cast = stage.lsb is not None or stage.drop > 0
        if cast and (number > 1 or stage.sum != 1 or stage.lanes != 1 or stage.restart is not None):
            raise IntsimError(
                f"stages, stage {number}: lsb and drop are for the first stage, which must have sum = 1 and no lanes"
            )
        if stage.lsb is not None and stage.drop:
            raise IntsimError(f"stages, stage {number}: lsb and drop say the same in two ways; give one of them")
        if cast != (stage.rounding is not None):
            missing = f"rounding is missing; allowed: {KEYS['rounding'].allowed}"
            raise IntsimError(f"stages, stage {number}: {missing if cast else 'rounding belongs to lsb or drop'}")
        if (drop := stages[0].drop) and drop + stage.bits > 63:
            raise IntsimError(
                f"stages, stage {number}: {stage.bits} bits above {drop} dropped ones; allowed: 63 in all"
            )
    if stages and not seen_rest:
        raise IntsimError(f'stages, stage {len(stages)}: sum is {stages[-1].sum}; the last stage must be "rest"')
    if stages and stages[-1].lanes != 1:
        raise IntsimError(f"stages, stage {len(stages)}: lanes is {stages[-1].lanes}; the last stage has one register")
    return tuple(stages)


def accumulate(products: Any, stages: Sequence[Stage], start: Any = 0, bias: Any = None) -> tuple[Integers, Integers]:
    """Add products through the stages; see `accumulate_telemetry`, of which this returns result and events."""
    return accumulate_telemetry(products, stages, start, bias)[:2]


def accumulate_telemetry(
    products: Any, stages: Sequence[Stage], start: Any = 0, bias: Any = None, watch: Watch | None = None
) -> Accumulation:
    """Add products through the stages, counting overflow and keeping the extremes.

    Args:
        products: (..., K) integers within int64, in order of arrival.
        stages: see `check_stages`; empty is a plain sum, which the caller guarantees to fit int64.
        start: broadcasts to (...): a bias preloaded into the last register. Loading it is an addition to 0.
        bias: broadcasts to (...), or None: a bias added into the last register after everything else.
        watch: sees every addition.

    Returns:
        Accumulation, the extremes in LSBs of the registers. They count every true sum, before the overflow rule, and
        the 0 a register starts at. So a register of `bits_for(low, high)` bits or more would have seen no overflow if
        nothing overflowed here.

    Raises:
        IntsimError: not integers, or impossible stages.
    """
    stages = check_stages(stages)
    values = as_integers(products, "products").astype(np.int64)
    if values.ndim == 0:
        raise IntsimError("products need at least one axis, the order of arrival")
    shape = values.shape[:-1]
    telemetry = tuple(np.zeros((*shape, len(stages)), np.int64) for _ in range(3))
    first = np.broadcast_to(as_integers(start, "start").astype(np.int64), shape)
    after = None if bias is None else np.broadcast_to(as_integers(bias, "bias").astype(np.int64), shape)
    if not stages:
        total = values.sum(axis=-1) + first
        return Accumulation(total if after is None else total + after, *telemetry)
    drop, cast = stages[0].drop, stages[0].cast
    values, first, after = cast(values), cast(first), None if after is None else cast(after)
    seen = watch or _unseen

    for index, stage in enumerate(stages):
        last = index == len(stages) - 1
        # Of no products nothing is handed on: the last register sees the bias alone.
        groups = [range(values.shape[-1])] if last else _groups(values.shape[-1], stage)
        handed_on = np.zeros((*shape, len(groups)), np.int64)
        for place, arrivals in enumerate(groups):
            register = np.zeros(shape, np.int64)
            if last and start is not None:
                register = _add(register, first, stage, index, telemetry)
                seen(index, arrivals, None, first, register)
            for arrival in arrivals:
                register = _add(register, values[..., arrival], stage, index, telemetry)
                seen(index, arrivals, arrival, values[..., arrival], register)
            if last and after is not None:
                register = _add(register, after, stage, index, telemetry)
                seen(index, arrivals, None, after, register)
            handed_on[..., place] = register
        values = handed_on
    return Accumulation(values[..., 0] << drop, *telemetry)


def _unseen(*_: Any) -> None:
    """A `Watch` that doesn't look."""


def _groups(count: int, stage: Stage) -> list[range]:
    """Which of `count` values each register adds up before it hands on, in the order of handing on."""
    together = count if stage.sum is None else min(stage.lanes * stage.sum, count)
    block = stage.restart if isinstance(stage.restart, int) else max(count, 1)
    return [
        range(begin + lane, min(begin + together, end), stage.lanes)
        for start, end in ((s, min(s + block, count)) for s in range(0, count, block))
        for begin in range(start, end, max(together, 1))
        for lane in range(min(stage.lanes, end - begin))
    ]


def _add(register: Integers, value: Integers, stage: Stage, index: int, telemetry: tuple[Integers, ...]) -> Integers:
    """One addition and the register's overflow rule; updates the telemetry of stage `index` in place."""
    register, value = np.broadcast_arrays(np.atleast_1d(register), np.atleast_1d(value))
    total = register + value
    # 64-bit registers: the sum wrapped in int64 if it has the sign of neither term.
    past_int64 = ((register ^ total) & (value ^ total)) < 0
    limit = np.where(value < 0, np.iinfo(np.int64).min, np.iinfo(np.int64).max)
    clipped = np.where(past_int64, limit, total)  # the true sum, saturated to int64
    # Wrapping modulo 2^64 first does not change the value modulo 2^bits.
    kept = wrap(total, stage.bits) if stage.overflow == "wrap" else saturate(clipped, stage.bits)
    events, low, high = (t[..., index].reshape(total.shape) for t in telemetry)
    shape = telemetry[0].shape[:-1]
    telemetry[0][..., index] = (events + (past_int64 | (total < stage.min) | (total > stage.max))).reshape(shape)
    telemetry[1][..., index] = np.minimum(low, clipped).reshape(shape)
    telemetry[2][..., index] = np.maximum(high, clipped).reshape(shape)
    return kept.reshape(shape)
