"""Dumb twins of intsim.arithmetic in plain Python integers; they share no code with it."""

import struct


def wrap(x, bits, signed=True):
    low = -(2 ** (bits - 1)) if signed else 0
    return (x - low) % 2**bits + low


def saturate(x, bits, signed=True):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return low if x < low else high if x > high else x


def round_divide(n, d, mode):
    """Textbook formulas: add a half and floor, by the sign where the mode is symmetric."""
    sign, m = (-1 if n < 0 else 1), abs(n)
    if mode == "floor":
        return n // d
    if mode == "ceil":
        return -(-n // d)
    if mode == "away":
        return sign * -(-m // d)
    if mode == "toward_zero":
        return sign * (m // d)
    if mode == "half_up":
        return (2 * n + d) // (2 * d)
    if mode == "half_away":
        return sign * ((2 * m + d) // (2 * d))
    if mode == "half_toward_zero":
        return sign * -((d - 2 * m) // (2 * d))
    assert mode == "half_even"
    up = (2 * n + d) // (2 * d)
    tie = (2 * n + d) % (2 * d) == 0
    return up - 1 if tie and up % 2 else up


def round_fraction(x, mode):
    return round_divide(x.numerator, x.denominator, mode)


def accumulate(products, stages, start=0, bias=None):
    """(result, events, low, high) of one output; stages are (sum or None, bits, overflow, lanes if not 1)."""
    values = list(products)
    events, lows, highs = [], [], []
    for index, (group, bits, overflow, *more) in enumerate(stages):
        last, lanes = index == len(stages) - 1, more[0] if more else 1
        seen = []  # true sums
        registers = {}  # by (how often all lanes were full before, lane)

        def add(register, value, seen=seen, bits=bits, overflow=overflow):
            seen.append(register + value)
            return (wrap if overflow == "wrap" else saturate)(register + value, bits)

        if last:
            registers[0, 0] = add(0, start)
        for i, value in enumerate(values):
            place = (0 if group is None else i // (group * lanes), i % lanes)
            registers[place] = add(registers.get(place, 0), value)
        if last and bias is not None:
            registers[0, 0] = add(registers[0, 0], bias)
        values = [registers[place] for place in sorted(registers)]
        events.append(sum(not -(2 ** (bits - 1)) <= total < 2 ** (bits - 1) for total in seen))
        lows.append(saturate(min([0, *seen]), 64))
        highs.append(saturate(max([0, *seen]), 64))
    if not stages:
        values = [sum(values) + start + (bias or 0)]
    assert len(values) == 1
    return values[0], events, lows, highs


def packed(products, channels, pixels, width, borrow, stages, start=None, bias=None):
    """Of each (channel, pixel) what `accumulate` says: products[c][p] are in order of arrival, the same number each.

    The wide register is a string of bits, from which fields are cut.
    """
    group, bits, _ = stages[0]
    lanes = [(c, p) for c in range(len(channels)) for p in range(len(pixels))]
    depth = len(products[0][0])
    read, first = {lane: [] for lane in lanes}, {lane: [0, 0, 0] for lane in lanes}  # events, low, high
    for begin in range(0, depth, group or max(depth, 1)):
        wide, sums = 0, dict.fromkeys(lanes, 0)
        for k in range(begin, min(begin + group, depth) if group else depth):
            for c, p in lanes:
                product = int(products[c][p][k])
                wide += product * 2 ** (channels[c] + pixels[p])
                sums[c, p] += product
                first[c, p][1:] = min(first[c, p][1], sums[c, p]), max(first[c, p][2], sums[c, p])
        text = f"{wide % 2**width:0{width}b}"[::-1]  # lowest bit first
        for c, p in lanes:
            offset = channels[c] + pixels[p]
            field = text[offset : offset + bits]
            value = sum(2**i for i in range(bits - 1) if field[i] == "1") - 2 ** (bits - 1) * (field[-1] == "1")
            if borrow and offset > 0:
                value += text[offset - 1] == "1"
            read[c, p].append(value)
            first[c, p][0] += value != sums[c, p]
    found = {}
    for c, p in lanes:
        result, *rest = accumulate(
            read[c, p], stages[1:], 0 if start is None else start[c][p], None if bias is None else bias[c][p]
        )
        found[c, p] = (result, *([x, *more] for x, more in zip(first[c, p], rest, strict=True)))
    return found


def high_mul(a, b):
    """gemmlowp SaturatingRoundingDoublingHighMul, line by line: the nudge, then C's truncating division."""
    if a == b == -(2**31):
        return 2**31 - 1
    product = a * b
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    return nudged // 2**31 if nudged >= 0 else -(-nudged // 2**31)


def divide_by_pot(x, exponent):
    """gemmlowp RoundingDivideByPOT, line by line."""
    mask = 2**exponent - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def tflite(acc, multiplier, exponent):
    """TFLite MultiplyByQuantizedMultiplier with two roundings; scale = multiplier * 2^(exponent - 31)."""
    left, right = max(exponent, 0), max(-exponent, 0)
    return divide_by_pot(high_mul(wrap(acc << left, 32), multiplier), right)


def float32(x):
    """A float64 rounded to float32."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def onnxruntime(acc, scale, zero_point, low, high):
    """The x86 requantizer; int32 and the product of two float32 are exact in float64, so each step rounds once."""
    value = float32(float32(float(acc)) * scale)
    value = min(max(value, float(low - zero_point)), float(high - zero_point))
    return round(value) + zero_point  # Python rounds floats half to even
