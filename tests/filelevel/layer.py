"""One multiply-accumulate layer on a machine: which products an output element adds up, and in which registers."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from .machine import Register, dot, lives, packed, shift

WIDE = 200
"""Bits of registers in which nothing overflows."""


@dataclass
class Layer:
    """What was seen of a layer: the same for every network, input and machine.

    `result` holds the accumulators as its machine made them, `exact` the true sums of the same inputs, both in the
    shape of the output, bias included; `registered` are the true sums that registers were to hold, without a bias
    behind them. By channel and stage: `events`; `low`, `high`, extremes of true sums in the registers, those before as
    they were; `need_low`, `need_high` and histograms `partial`, `final` (bits to groups),
    as if no register had overflowed. `own` are the extremes by channel in one register, in the machine's order.
    """

    result: np.ndarray
    exact: np.ndarray
    events: list
    low: list
    high: list
    need_low: list
    need_high: list
    partial: list
    final: list
    own: list
    bias: list = field(default_factory=list)
    registered: np.ndarray | None = None
    rest: list = field(default_factory=list)


@dataclass(frozen=True)
class Taps:
    """Products of a layer: for output element e of channel c, activation codes by position, None for padding.

    rows[group] is a list of outputs, each a list of K codes (None: padding); columns[channel] the K weight codes;
    `group[channel]` says which rows meet it. `fold` brings {(output, channel): value} into the output's shape.
    """

    rows: list
    columns: list
    group: list
    shape: tuple
    channel_axis: int
    batched: bool = False


def order_of(machine_order, rank):
    """Axes (cin, then spatial) of a kernel from the outermost to the fastest."""
    names = ["cin", *("kh", "kw")[2 - rank :]]
    return [names.index(token) for token in machine_order if token in names]


def conv_taps(x, w, strides, dilations, pads, groups, machine_order):
    """x (N, C, *spatial), w (O, C / groups, *kernel) of codes; `pads` begins, then ends; negative ones crop."""
    rank = w.ndim - 2
    n, _, *size = x.shape
    out = [
        (size[i] + pads[i] + pads[rank + i] - dilations[i] * (w.shape[2 + i] - 1) - 1) // strides[i] + 1
        for i in range(rank)
    ]
    axes = order_of(machine_order, rank)
    extents = [w.shape[1 + a] for a in axes]
    taps = []
    for place in product(*(range(e) for e in extents)):
        tap = [0] * (rank + 1)
        for axis, at in zip(axes, place, strict=True):
            tap[axis] = at
        taps.append(tap)
    depth = w.shape[1]
    rows = []
    for g in range(groups):
        outputs = []
        for image in range(n):
            for position in product(*(range(o) for o in out)):
                row = []
                for cin, *kernel in taps:
                    at = [
                        p * s + k * d - b
                        for p, s, k, d, b in zip(position, strides, kernel, dilations, pads[:rank], strict=True)
                    ]
                    inside = all(0 <= a < s for a, s in zip(at, size, strict=True))
                    row.append(x[(image, g * depth + cin, *at)] if inside else None)
                outputs.append(row)
        rows.append(outputs)
    columns = [[w[(o, *tap)] for tap in taps] for o in range(w.shape[0])]
    group = [o * groups // w.shape[0] for o in range(w.shape[0])]
    return Taps(rows, columns, group, (n, w.shape[0], *out), 1)


def matmul_taps(x, w):
    """x (..., K) of codes, w (K, N)."""
    flat = x.reshape(-1, x.shape[-1])
    columns = [list(w[:, j]) for j in range(w.shape[1])]
    return Taps([[list(r) for r in flat]], columns, [0] * w.shape[1], (*x.shape[:-1], w.shape[1]), x.ndim - 1)


@dataclass(frozen=True)
class Operand:
    """Codes' zero points (one, or one a channel) and declared range (None if undeclared)."""

    zeros: list
    kind: tuple | None


def run(taps, x, w, bias, machine):
    """All outputs of a layer.

    Args:
        taps: the codes.
        x: Operand of the activation, one zero point.
        w: Operand of the weights, a zero point a channel.
        bias: a whole number of LSBs for each channel.
        machine: the machine.

    Returns:
        Layer.
    """
    channels = len(taps.columns)
    zx, zw = x.zeros[0], w.zeros
    x_shift = w_shift = 0
    if machine.operands is None:
        columns = [[v - zw[c] for v in col] for c, col in enumerate(taps.columns)]
        rows = [[[0 if v is None else v - zx for v in row] for row in group] for group in taps.rows]
        zx, zw = 0, [0] * channels
    else:
        codes = [v for col in taps.columns for v in col]
        x_shift = shift(x.kind, [v for g in taps.rows for r in g for v in r if v is not None], machine.operands[0])
        w_shift = shift(w.kind, codes, machine.operands[1])
        zx, zw = zx + x_shift, [z + w_shift for z in zw]
        columns = [[v + w_shift for v in col] for col in taps.columns]
        rows = [[[zx if v is None else v + x_shift for v in row] for row in group] for group in taps.rows]

    def ends_of(row, c):
        """What the last register adds first and last beside the products."""
        late = -zx * sum(columns[c]) - zw[c] * sum(row) + len(row) * zx * zw[c]
        raw = zx != 0 or any(zw)
        start = [bias[c]] if machine.bias == "preload" and bias[c] else []
        if machine.bias == "after" and bias[c]:
            return start, [bias[c] + late]
        return start, [late] if raw else []

    stages = max(len(machine.stages), 1)
    counts = ([[0] * stages for _ in range(channels)] for _ in range(5))
    histograms = ([[{} for _ in range(stages)] for _ in range(channels)] for _ in range(2))
    seen = Layer(None, None, *counts, *histograms, [[0, 0] for _ in range(channels)], list(bias))
    alike = [Counter(map(tuple, group)) for group in rows]  # equal rows are added up once
    results, totals = {}, {}
    for c in range(channels):
        for row, times in alike[taps.group[c]].items():
            start, late = ends_of(row, c)
            products = [a * b for a, b in zip(row, columns[c], strict=True)]
            totals[row, c], low, high = prefixes([*start, *products, *late])
            seen.own[c] = [min(seen.own[c][0], low), max(seen.own[c][1], high)]
            for s, found in enumerate(demand(products, machine.stages, start, late)):
                for least, most, final in found:
                    seen.need_low[c][s] = min(seen.need_low[c][s], least)
                    seen.need_high[c][s] = max(seen.need_high[c][s], most)
                    for histogram, bits in ((seen.partial, needed(least, most)), (seen.final, needed(final, final))):
                        histogram[c][s][bits] = histogram[c][s].get(bits, 0) + times
            if not machine.packing:
                results[row, c] = dot(products, machine.stages, start, late)
                note(seen, c, results[row, c], times)
    behind = bias if machine.bias == "requantizer" else [0] * channels
    places = [(e, c, tuple(row)) for c in range(channels) for e, row in enumerate(rows[taps.group[c]])]
    if machine.packing:
        shared = together(taps, rows, columns, ends_of, machine)
        for (_, c), sums in shared.items():
            note(seen, c, sums, 1)
        seen.result = folded(taps, {(e, c): shared[e, c].result + behind[c] for e, c, _ in places})
    else:
        seen.result = folded(taps, {(e, c): results[row, c].result + behind[c] for e, c, row in places})
    seen.exact = folded(taps, {(e, c): totals[row, c] + behind[c] for e, c, row in places})
    seen.registered = folded(taps, {(e, c): totals[row, c] for e, c, row in places})
    return seen


def note(seen, c, sums, times):
    """Count what the registers of one dot product of channel `c` saw, `times` times."""
    for s, events in enumerate(sums.events):
        seen.events[c][s] += times * events
        seen.low[c][s] = min(seen.low[c][s], sums.lows[s])
        seen.high[c][s] = max(seen.high[c][s], sums.highs[s])


KNOWN_WIDTHS = {}


def needed(low, high):
    """Bits of the least register that holds both."""
    key = low, high
    if key not in KNOWN_WIDTHS:
        bits = 1
        while low < -(2 ** (bits - 1)) or high > 2 ** (bits - 1) - 1:
            bits += 1
        KNOWN_WIDTHS[key] = min(bits, 65)
    return KNOWN_WIDTHS[key]


def prefixes(values):
    """(total, least, greatest) of the sums on the way in one register that starts at 0."""
    total = low = high = 0
    for v in values:
        total += v
        low, high = min(low, total), max(high, total)
    return total, low, high


def demand(products, stages, start, late):
    """By stage, each life of a register: (least, greatest, final) true sum, nothing overflowing anywhere."""
    found = []
    values = list(products)
    chain = stages or (Register(None, WIDE, "wrap", 1),)
    for i, stage in enumerate(chain):
        last = i == len(chain) - 1
        groups = lives(values, stage, last)
        if last:
            groups = [[*start, *groups[0], *late]]
        sums = [prefixes(g) for g in groups]
        found.append([(low, high, total) for total, low, high in sums])
        values = [total for total, _, _ in sums]
    return found


def together(taps, rows, columns, ends_of, machine):
    """Neighbouring channels of a group and neighbouring outputs share a multiplier."""
    found = {}
    wide, tall = len(machine.packing["channels"]), len(machine.packing["pixels"])
    for g, outputs in enumerate(rows):
        own = [c for c in range(len(columns)) if taps.group[c] == g]
        for first in range(0, len(own), wide):
            channels = own[first : first + wide]
            for top in range(0, len(outputs), tall):
                block = outputs[top : top + tall]
                grid = [[None] * tall for _ in range(wide)]
                starts, lates = ([[[]] * tall for _ in range(wide)] for _ in range(2))
                starts, lates = [list(s) for s in starts], [list(s) for s in lates]
                for i, c in enumerate(channels):
                    for j, row in enumerate(block):
                        grid[i][j] = [a * b for a, b in zip(row, columns[c], strict=True)]
                        starts[i][j], lates[i][j] = ends_of(row, c)
                for (i, j), sums in packed(grid, machine.stages, machine.packing, starts, lates).items():
                    found[top + j, channels[i]] = sums
    return found


def folded(taps, values):
    """{(output, channel): value} as an array of the output's shape."""
    axis = taps.channel_axis
    count = taps.shape[axis]
    rest = [s for i, s in enumerate(taps.shape) if i != axis]
    flat = np.empty((max(e for e, _ in values) + 1, count), object)
    for at, value in values.items():
        flat[at] = value
    return np.moveaxis(flat.reshape(*rest, count), -1, axis)
