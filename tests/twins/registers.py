"""The chain of registers, one value after another, and multipliers that several products share.

A machine is told of products as they come and keeps its registers between them, so it can be looked at, copied and
continued. Stages have `sum` (None: the rest), `bits`, `overflow` and `lanes`; packings `channels`, `pixels`, `bits` and
`correction`. A first stage may have `drop` and `rounding`: its registers' lowest bit is bit `drop` of a product. Where
that is negative they have bits below a product's.
"""

from fractions import Fraction
from typing import NamedTuple

from .rounding import round_fraction


def wrap(x, bits, signed=True):
    low = -(2 ** (bits - 1)) if signed else 0
    return (x - low) % 2**bits + low


def saturate(x, bits, signed=True):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return low if x < low else high if x > high else x


def fits(x, bits):
    return -(2 ** (bits - 1)) <= x < 2 ** (bits - 1)


def kept(x, bits, overflow):
    """What a register of `bits` bits makes of a true sum."""
    assert overflow in ("wrap", "saturate")
    return wrap(x, bits) if overflow == "wrap" else saturate(x, bits)


class Sums(NamedTuple):
    """The finished accumulator; of each stage the additions that did not fit, and the least and greatest true sum.

    The empty register's 0 is a sum too. `low` and `high` are kept within int64.
    """

    result: int
    events: list
    low: list
    high: list


class Machine:
    """Registers of every stage and lane, how many values each stage's group has, and what was seen so far."""

    def __init__(self, stages):
        self.stages = list(stages)
        self.registers = [[0] * stage.lanes for stage in self.stages]
        self.arrived = [0] * len(self.stages)
        self.drop, self.rounding = (getattr(self.stages[0], name, None) or 0 for name in ("drop", "rounding"))
        self.products = 0
        self.events, self.low, self.high = ([0] * len(self.stages) for _ in range(3))

    def copy(self):
        other = Machine(self.stages)
        other.registers = [list(lanes) for lanes in self.registers]
        for name in ("arrived", "events", "low", "high"):
            setattr(other, name, list(getattr(self, name)))
        other.products = self.products
        return other

    def add(self, stage, lane, value):
        total = self.registers[stage][lane] + value
        self.events[stage] += not fits(total, self.stages[stage].bits)
        self.low[stage], self.high[stage] = min(self.low[stage], total), max(self.high[stage], total)
        self.registers[stage][lane] = kept(total, self.stages[stage].bits, self.stages[stage].overflow)

    def cast(self, value):
        """A product or a bias in LSBs of the registers."""
        worth = Fraction(value) / Fraction(2) ** self.drop
        return int(worth) if worth.denominator == 1 else round_fraction(worth, self.rounding)

    def load(self, bias):
        """A preloaded bias: the last register's first addition."""
        self.add(len(self.stages) - 1, 0, self.cast(bias))

    def product(self, value, stage=0):
        """A value for a stage: the next lane takes it, and a full group is handed on."""
        group, lanes = self.stages[stage].sum, self.stages[stage].lanes
        if stage == 0:
            block = getattr(self.stages[0], "restart", None)
            if isinstance(block, int) and self.products and self.products % block == 0 and self.arrived[0]:
                self.hand_on(0)
            self.products += 1
            value = self.cast(value)
        self.add(stage, self.arrived[stage] % lanes, value)
        self.arrived[stage] += 1
        if self.arrived[stage] == (None if group is None else group * lanes):
            self.hand_on(stage)

    def hand_on(self, stage):
        """The lanes that something arrived at go to the next stage, in their order, and restart at 0."""
        lanes = min(self.arrived[stage], self.stages[stage].lanes)
        values = self.registers[stage][:lanes]
        self.registers[stage] = [0] * self.stages[stage].lanes
        self.arrived[stage] = 0
        for value in values:
            self.product(value, stage + 1)

    def finish(self, bias=None):
        """Hand on what is left and add the late bias."""
        for stage in range(len(self.stages) - 1):
            self.hand_on(stage)
        if bias is not None:
            self.add(len(self.stages) - 1, 0, self.cast(bias))
        low, high = ([saturate(value, 64) for value in seen] for seen in (self.low, self.high))
        worth = self.registers[-1][0] * Fraction(2) ** self.drop
        return Sums(int(worth) if worth.denominator == 1 else worth, self.events, low, high)


def accumulate(products, stages, start=None, bias=None):
    """Sums of one dot product, whose products are in order of arrival; without stages nothing overflows."""
    if not stages:
        return Sums(sum(products) + (start or 0) + (bias or 0), [], [], [])
    machine = Machine(stages)
    if start is not None:
        machine.load(start)
    for value in products:
        machine.product(value)
    return machine.finish(bias)


def accumulate_packed(products, stages, packing, start=None, bias=None):
    """Sums of dot products that share a multiplier, by (channel, pixel).

    `products[channel, pixel]` are in order of arrival, the same number each; `start` and `bias` are None or by channel
    and pixel as well. Each group is one Python integer of all products at their offsets, cut to the multiplier's width;
    a field is read from its two's complement digits. An event of the first stage is a group that is read wrongly.
    """
    group, field = stages[0].sum, stages[0].bits
    offsets = {(c, p): packing.channels[c] + packing.pixels[p] for c, p in products}
    depth = len(next(iter(products.values())))
    read = {cell: [] for cell in products}
    events, low, high = (dict.fromkeys(products, 0) for _ in range(3))
    for begin in range(0, depth, group or max(depth, 1)):
        wide, true = 0, dict.fromkeys(products, 0)
        for k in range(begin, min(begin + group, depth) if group else depth):
            for cell, values in products.items():
                true[cell] += values[k]
                low[cell], high[cell] = min(low[cell], true[cell]), max(high[cell], true[cell])
                wide += values[k] * 2 ** offsets[cell]
        digits = f"{wide % 2**packing.bits:0{packing.bits}b}"[::-1]  # lowest first
        for cell, at in offsets.items():
            value = wrap(sum(2**i for i, digit in enumerate(digits[at : at + field]) if digit == "1"), field)
            if packing.correction == "borrow" and at > 0:
                value += digits[at - 1] == "1"
            read[cell].append(value)
            events[cell] += value != true[cell]
    sums = {}
    for cell, values in read.items():
        rest = accumulate(values, stages[1:], *(None if c is None else c[cell] for c in (start, bias)))
        seen = (events[cell], low[cell], high[cell])
        sums[cell] = Sums(rest.result, *([first, *more] for first, more in zip(seen, rest[1:], strict=True)))
    return sums
