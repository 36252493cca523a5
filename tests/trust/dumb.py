"""The dumb twins of an accumulator and of requantizers: Python integers; they share no code with the package.

A machine is told of products as they come and keeps its registers between them, so it can be looked at, copied and
continued. Stages are plain tuples (sum or None, bits, overflow, lanes).
"""

import struct


def fits(value, bits):
    return -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)


def kept(value, bits, overflow):
    """What a register of `bits` bits makes of a true sum."""
    if fits(value, bits):
        return value
    if overflow == "saturate":
        return 2 ** (bits - 1) - 1 if value > 0 else -(2 ** (bits - 1))
    return (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


class Machine:
    """Registers of every stage and lane, how many values each stage's group has, and what was seen so far."""

    def __init__(self, stages):
        self.stages = list(stages)
        self.registers = [[0] * lanes for _, _, _, lanes in self.stages]
        self.arrived = [0] * len(self.stages)
        self.events, self.low, self.high = ([0] * len(self.stages) for _ in range(3))

    def copy(self):
        other = Machine(self.stages)
        other.registers = [list(lanes) for lanes in self.registers]
        for name in ("arrived", "events", "low", "high"):
            setattr(other, name, list(getattr(self, name)))
        return other

    def add(self, stage, lane, value):
        _, bits, overflow, _ = self.stages[stage]
        total = self.registers[stage][lane] + value
        self.events[stage] += not fits(total, bits)
        self.low[stage], self.high[stage] = min(self.low[stage], total), max(self.high[stage], total)
        self.registers[stage][lane] = kept(total, bits, overflow)

    def load(self, bias):
        """A preloaded bias: the last register's first addition."""
        self.add(len(self.stages) - 1, 0, bias)

    def product(self, value, stage=0):
        """A value for a stage: the next lane takes it, and a full group is handed on."""
        group, _, _, lanes = self.stages[stage]
        self.add(stage, self.arrived[stage] % lanes, value)
        self.arrived[stage] += 1
        if self.arrived[stage] == (None if group is None else group * lanes):
            self.hand_on(stage)

    def hand_on(self, stage):
        """The lanes that something arrived at go to the next stage, in their order, and restart at 0."""
        lanes = min(self.arrived[stage], self.stages[stage][3])
        values = self.registers[stage][:lanes]
        self.registers[stage] = [0] * self.stages[stage][3]
        self.arrived[stage] = 0
        for value in values:
            self.product(value, stage + 1)

    def finish(self, bias=None):
        """Hand on what is left, add the late bias; returns (result, events, low, high)."""
        for stage in range(len(self.stages) - 1):
            self.hand_on(stage)
        if bias is not None:
            self.add(len(self.stages) - 1, 0, bias)
        low = [max(value, -(2**63)) for value in self.low]
        high = [min(value, 2**63 - 1) for value in self.high]
        return self.registers[-1][0], self.events, low, high


def accumulate(products, stages, start=None, bias=None):
    """(result, events, low, high) of one dot product's products."""
    machine = Machine(stages)
    if start is not None:
        machine.load(start)
    for value in products:
        machine.product(value)
    return machine.finish(bias)


def accumulate_packed(products, stages, packing, start, bias):
    """Of products[channel][pixel][k]: {(channel, pixel): (result, events, low, high)}.

    packing: (channels, pixels, bits, correction). Each group is one Python integer of all products at their offsets,
    cut to the register's width; a field is read from its two's complement bits.
    """
    channels, pixels, bits, correction = packing
    group, field, _, _ = stages[0]
    depth = len(products[0][0])
    size = depth if group is None else group
    cells = [(c, p) for c in range(len(channels)) for p in range(len(pixels))]
    machines = {cell: Machine(stages[1:]) for cell in cells}
    events, low, high = ({cell: 0 for cell in cells} for _ in range(3))
    for c, p in cells:
        if start is not None:
            machines[c, p].load(start[c])
    for begin in range(0, depth, max(size, 1)):
        wide, true = 0, dict.fromkeys(cells, 0)
        for k in range(begin, min(begin + size, depth)):
            for c, p in cells:
                value = products[c][p][k]
                true[c, p] += value
                low[c, p], high[c, p] = min(low[c, p], true[c, p]), max(high[c, p], true[c, p])
                wide += value * 2 ** (channels[c] + pixels[p])
        digits = bin(wide % 2**bits + 2**bits)[3:][::-1]  # lowest bit first
        for c, p in cells:
            at = channels[c] + pixels[p]
            read = sum(2**i for i in range(field) if digits[at + i : at + i + 1] == "1")
            read -= 2**field if read >= 2 ** (field - 1) else 0
            if correction == "borrow" and at > 0:
                read += digits[at - 1] == "1"
            events[c, p] += read != true[c, p]
            machines[c, p].product(read)
    results = {}
    for c, p in cells:
        result, after, least, most = machines[c, p].finish(None if bias is None else bias[c])
        results[c, p] = (result, [events[c, p], *after], [low[c, p], *least], [high[c, p], *most])
    return results


# Requantizers, one accumulator at a time; results before zero point and clip


def quotient(top, bottom, mode):
    """top / bottom rounded as the textbook says, bottom > 0."""
    floor, rest = divmod(top, bottom)
    if rest == 0:
        return floor
    half = (2 * rest > bottom) - (2 * rest < bottom)  # -1, 0, 1: below, at, above the middle
    positive = top > 0
    at_tie = {"half_even": floor % 2, "half_away": positive, "half_toward_zero": not positive, "half_up": True}
    if mode in at_tie:
        return floor + (half > 0 or (half == 0 and bool(at_tie[mode])))
    return floor + {"floor": False, "ceil": True, "away": positive, "toward_zero": not positive}[mode]


def multiplier(scale, bits):
    """(M, n) with scale ~= M / 2^n, M of `bits` bits with its sign, ties away from zero; scale is a Fraction > 0."""
    n = 0
    while scale * 2**n < 2 ** (bits - 2):
        n += 1
    while scale * 2**n >= 2 ** (bits - 1):
        n -= 1
    scaled = scale * (2**n if n >= 0 else 1) / (1 if n >= 0 else 2**-n)
    m = quotient(scaled.numerator, scaled.denominator, "half_away")
    return (m // 2, n - 1) if m == 2 ** (bits - 1) else (m, n)


def gemmlowp(acc, m, n, bits):
    """High product with ties up, then a right shift with ties away from zero; n counts from 2^(bits-1)."""
    left, right = max(bits - 1 - n, 0), max(n - bits + 1, 0)
    shifted = kept(acc * 2**left, 32, "wrap")
    high = quotient(shifted * m, 2 ** (bits - 1), "half_up")
    return quotient(high, 2**right, "half_away")


def apply_scale(acc, m, n, twice):
    """TOSA."""
    nudge = 2 ** (n - 1)
    if twice and n > 31:
        nudge += 2**30 if acc >= 0 else -(2**30)
    return (acc * m + nudge) // 2**n


def float32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def requantized(form, acc, scale, mode):
    """form: (scheme, multiplier_bits, rounding, double_rounding); scale: a Fraction > 0; mode: what the model says."""
    scheme, bits, own, twice = form
    if scheme in ("exact", "thresholds"):
        return quotient(acc * scale.numerator, scale.denominator, mode)
    if scheme == "shift":
        return quotient(acc * scale.numerator, scale.denominator, own)
    if scheme == "float32":
        # a product of two float32 is exact in float64, so each step rounds once
        return round(float32(float32(float(acc)) * float32(scale.numerator / scale.denominator)))
    m, n = multiplier(scale, bits)
    if scheme == "tosa":
        return apply_scale(acc, m, n, twice)
    if twice:
        return gemmlowp(acc, m, n, bits)
    return quotient(acc * m * 2 ** max(-n, 0), 2 ** max(n, 0), own)
