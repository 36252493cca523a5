"""Batches of dot products three ways: the definition, the fast twin, the dumb twin. All must agree, bit for bit."""

import itertools

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.registers import Registers
from intsim.engine.registers.matmul import register_matmul
from intsim.engine.registers.packed import packed_matmul
from intsim.targets import Target
from intsim.testing.dots import defined, operand_types
from intsim.testing.values import weighted
from tests import twins

BIAS = IntegerType(32, True)
MOST_TERMS = 4096
PRODUCTS = 24_000
"""Products in a batch: so a batch of long sums has few of them, one of short sums many."""


def machines(members=3):
    """Name and target of every built-in file, and of `members` of each family: its ends and between them."""
    names = list(Target.names())
    for family in Target.families():
        names += [family.member(n) for n in sorted({family.low, (family.low + family.high) // 2, family.high})][
            :members
        ]
    return {name: Target.load(name) for name in names}


def operands(machine, rng):
    """Types of activations, weights and bias; a machine that takes any operands gets wide ones too, up to overflow."""
    kinds = operand_types(machine)
    registers = machine.registers if isinstance(machine, Target) else machine
    if registers.activation is not None:
        return *kinds, BIAS
    # an unbounded sum must fit int64
    bits = int(rng.choice([8, 16, 24] if not registers.stages else [8, 16, 24, 31]))
    wide = IntegerType(bits, True)
    return wide, wide, IntegerType(min(registers.stages[-1].bits, 63) if registers.stages else 48, True)


def batch(machine, seed, terms):
    """Boundary-weighted operands: activations (M, K), weights (N, K), a bias (N,), as the multiplier takes them."""
    rng = np.random.default_rng(seed)
    activation, weight, bias = operands(machine, rng)
    outputs = min(max(PRODUCTS // max(terms, 1), 4), 2048)
    channels = int(rng.integers(1, 9))
    pixels = max(outputs // channels, 1)
    a, w = (weighted(rng, kind, (n, terms)) for kind, n in ((activation, pixels), (weight, channels)))
    return a, w, weighted(rng, bias, (1, channels))[0]


def same_three_ways(machine: Target | Registers, a, w, bias) -> tuple[int, int]:
    """Compare results and telemetry; returns how many dot products, and in how many a register overflowed."""
    registers = machine.registers if isinstance(machine, Target) else machine
    start, late = (bias if registers.bias == place else None for place in ("preload", "after"))
    if not registers.stages:
        # an unbounded machine: the engine's way is a matrix product
        exact = [[sum(int(x) * int(y) for x, y in zip(row, column, strict=True)) for column in w] for row in a]
        total = np.array(exact, np.int64).reshape(len(a), len(w)) + bias
        np.testing.assert_array_equal(defined(registers, a[:, None], w[None], bias).result, total)
        return total.size, 0
    if registers.bias == "requantizer":  # no register holds it
        bias = np.zeros_like(bias)
    if registers.packing is None:
        fast = register_matmul(a, w, registers.stages, start, late)
        slow = defined(registers, a[:, None], w[None], bias)
        whole = (slow.result, slow.events, slow.low, slow.high)
        dumb = _dumb(registers, a, w, start, late)
    else:
        fast = packed_matmul(a, w, registers.stages, registers.packing, start, late)
        whole = _packed_definition(registers, a, w, bias)
        dumb = _packed_dumb(registers, a, w, start, late)
    result, events, low, high = whole
    for ours, twin in zip(whole, dumb, strict=True):
        np.testing.assert_array_equal(ours, twin, err_msg="definition and dumb twin")
    np.testing.assert_array_equal(fast.out, result, err_msg="fast twin and definition: results")
    np.testing.assert_array_equal(fast.events, events.sum(0), err_msg="fast twin and definition: events")
    np.testing.assert_array_equal(fast.low, low.min(0, initial=0), err_msg="fast twin and definition: least sums")
    np.testing.assert_array_equal(fast.high, high.max(0, initial=0), err_msg="fast twin and definition: greatest sums")
    return result.size, int(events.any(axis=-1).sum())


def _dumb(registers, a, w, start, late):
    rows, columns = a.tolist(), w.tolist()
    found = []
    for row in rows:
        for n, column in enumerate(columns):
            first, last = (None if c is None else int(c[n]) for c in (start, late))
            products = [x * y for x, y in zip(row, column, strict=True)]
            found.append(twins.accumulate(products, registers.stages, first, last))
    shape = (len(rows), len(columns))
    return tuple(np.array(part, np.int64).reshape(*shape, *np.shape(part[0])) for part in zip(*found, strict=True))


def _sets(rows, together):
    """Rows in sets of `together`, the last one filled with zeros: (sets, together, K)."""
    missing = -len(rows) % together
    filled = np.concatenate([rows, np.zeros((missing, rows.shape[1]), rows.dtype)])
    return filled.reshape(len(filled) // together, together, rows.shape[1])


def _packed_definition(registers, a, w, bias):
    p = registers.packing
    pixels, channels = _sets(a, len(p.pixels)), _sets(w, len(p.channels))
    biases = _sets(bias[:, None], len(p.channels))[..., 0]
    parts = defined(registers, pixels[:, None], channels[None], biases[None, :, :, None])
    return tuple(_unpacked(part, len(a), len(w)) for part in parts)


def _packed_dumb(registers, a, w, start, late):
    p = registers.packing
    pixels, channels = _sets(a, len(p.pixels)).tolist(), _sets(w, len(p.channels)).tolist()
    constants = [None if c is None else _sets(c[:, None], len(p.channels))[..., 0].tolist() for c in (start, late)]
    cells = list(itertools.product(range(len(p.channels)), range(len(p.pixels))))
    parts = [[], [], [], []]
    for pixel in pixels:
        for i, channel in enumerate(channels):
            products = {(c, q): [x * y for x, y in zip(pixel[q], channel[c], strict=True)] for c, q in cells}
            first, last = (None if v is None else {(c, q): v[i][c] for c, q in cells} for v in constants)
            sums = twins.accumulate_packed(products, registers.stages, p, first, last)
            for part, column in zip(parts, zip(*sums.values(), strict=True), strict=True):
                part.append(column)
    outer = (len(pixels), len(channels), len(p.channels), len(p.pixels))
    return tuple(
        _unpacked(np.array(part, np.int64).reshape(*outer, *np.shape(part[0][0])), len(a), len(w)) for part in parts
    )


def _unpacked(part, pixels, channels):
    """(sets of pixels, sets of channels, channels, pixels, ...) to (M, N, ...), what was filled left out."""
    part = np.moveaxis(part, 3, 1)
    part = part.reshape(part.shape[0] * part.shape[1], part.shape[2] * part.shape[3], *part.shape[4:])
    return part[:pixels, :channels]
