"""Modules whose cells are counted for docs/measured/hardware.md and for the formulas of `intsim.explore.cost`."""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from intsim.arithmetic.integers import IntegerType
from intsim.errors import IntsimError
from intsim.explore.cost import KINDS, Figure
from intsim.rtl import area, kinds, layers, modules
from intsim.rtl.design import Design
from intsim.targets import Target

from .test_emitted import chain, one_layer

FAMILIES = ("ecp5", "generic", "ice40", "xilinx")
SCALE = Fraction(355, 113)
"""Times a power of two; its bits are about as many ones as zeros."""
SCHEMES = {
    "single": 'scheme = "fixed-point"\nmultiplier_bits = {}\nrounding = "half_up"',
    "double": 'scheme = "fixed-point"\nmultiplier_bits = {}\ndouble_rounding = true',
    "ruy": 'scheme = "ruy"',
    "shift": 'scheme = "shift"\nrounding = "half_up"',
    "exact": 'scheme = "exact"',
}


def register(bits, requantize, rule="wrap"):
    return chain([f'{{ sum = "rest", bits = {bits}, overflow = "{rule}" }}'], requantize=requantize)


def mac(activation, weight, accumulator, rule):
    types = (IntegerType(b, True) for b in (activation, weight))
    return kinds.mac(register(accumulator, SCHEMES["exact"], rule), *types, 1, 0)


def requantizer(accumulator, multiplier, scheme, constants, out=8):
    """To signed codes of `out` bits, of which every one can come."""
    made = one_requantizer(accumulator, SCHEMES[scheme].format(multiplier), out, scheme == "shift")
    if constants == "constants":
        return made
    twice = int(scheme in ("double", "ruy"))
    multiplier = multiplier or 3
    parameters = {
        "ACC": accumulator,
        "MUL": multiplier,
        "TWICE": twice,
        "ROUNDING": {"double": 1}.get(scheme, 3),
        "RIGHT": 31 if twice else min(62, accumulator + multiplier - 1),
        "OUT": out,
        "LOW": -(1 << out - 1),
        "HIGH": (1 << out - 1) - 1,
    }
    widths = {"bias": accumulator + 1, "multiplier": multiplier, "left": 6, "right": 6, "zero": 9}
    given = [("acc", accumulator), *((n, w) for n, w in widths.items() if scheme != "shift" or n != "multiplier")]
    text = kinds.wrapped("requantize", parameters, given, [("code", out)])
    if scheme == "shift":
        text = text.replace(".right(right)", ".right(right),\n      .multiplier(3'sd1)")
    ports = tuple(kinds.port(n, w) for n, w in given)
    design = Design(Path(), "intsim_requantize", made.design.sources, ports, made.design.outputs)
    return made._replace(top=text, design=design)


def one_requantizer(accumulator, text, out, power_of_two=False):
    scale = Fraction(2) if power_of_two else SCALE
    pieces = [[(None, str(scale * Fraction(1 << out, 1 << accumulator + 1)), 0)]]
    graph, node = one_layer(pieces, ends=(-(1 << out - 1), (1 << out - 1) - 1), zero=0 if out < 3 else 3)
    return layers.requantize(graph, node, register(accumulator, text), 1, 0)


def threshold(levels, accumulator):
    """Of a channel whose every code can come."""
    pieces = [[(None, str(SCALE * Fraction(levels + 1, 1 << accumulator + 1)), Fraction(levels, 2))]]
    graph, node = one_layer(pieces, ends=(0, levels))
    return layers.threshold(graph, node, register(accumulator, SCHEMES["exact"]), 1, 0)


def dot(packed, name):
    """Of a target with packed multipliers: its own, or a plain one with the same registers."""
    target = Target.load(name)
    types = target.operands.activation, target.operands.weight
    if not packed:
        rules = [(s.sum or '"rest"', s.bits, s.overflow) for s in target.stages]
        target = chain(['{{ sum = {}, bits = {}, overflow = "{}" }}'.format(*rule) for rule in rules])
    return kinds.dot(target, *types, 64, 1, 0)


MADE = {
    "mac": lambda variant, a, b, n: mac(a, b, n, variant),
    "requantizer": lambda variant, n, m: requantizer(n, m, *variant.split()),
    "code": lambda variant, n, m, out: requantizer(n, m, *variant.split(), out),
    "shift": lambda variant, n: requantizer(n, 0, "shift", variant),
    "threshold": lambda variant, levels, n: threshold(levels, n),
    "dot": lambda variant, name: dot(variant == "packed", name),
}
"""Modules by (part, variant, arguments), which a point is."""
RULES, CONSTANTS = ("wrap", "saturate"), ("constants", "ports")
POINTS = [
    *(("mac", r, (8, 8, n)) for n in (12, 16, 24, 32, 40) for r in RULES),
    *(("mac", r, p) for p in ((6, 6, 16), (12, 12, 32), (16, 16, 40)) for r in RULES),
    *(("requantizer", f"single {c}", (32, m)) for m in (4, 8, 16, 24, 32) for c in CONSTANTS),
    *(("requantizer", f"single {c}", (n, m)) for n in (16, 24) for m in (8, 32) for c in CONSTANTS),
    *(("requantizer", f"double {c}", (32, m)) for m in (8, 16, 32) for c in CONSTANTS),
    *(("requantizer", f"double {c}", p) for p in ((16, 16), (16, 32), (24, 8)) for c in CONSTANTS),
    *(("shift", c, (n,)) for n in (16, 24, 32) for c in CONSTANTS),
    *(("threshold", "constants", ((1 << b) - 1, 24)) for b in range(1, 9)),
    *(("threshold", "constants", (k, 16)) for k in (3, 15, 63)),
]
"""What formulas are fitted to."""
HELD_OUT = [
    *(("mac", r, p) for p in ((8, 8, 28), (12, 8, 20), (8, 8, 36)) for r in RULES),
    *(("requantizer", f"single {c}", p) for p in ((20, 12), (28, 20), (32, 20)) for c in CONSTANTS),
    *(("requantizer", f"double {c}", p) for p in ((24, 24), (28, 12), (32, 24)) for c in CONSTANTS),
    *(("shift", c, (20,)) for c in CONSTANTS),
    *(("threshold", "constants", p) for p in ((10, 20), (40, 32))),
]
"""What they are held against."""


def mapped(kind, family):
    """Its area on a family; None where Yosys took too long."""
    with tempfile.TemporaryDirectory() as name:
        for file, text in (modules.sources(kind.module) | {f"{kind.design.top}.sv": kind.top}).items():
            (Path(name) / file).write_text(text)
        try:
            return area(replace(kind.design, folder=Path(name)), family)
        except IntsimError as error:
            if "took more than" not in str(error):
                raise
            return None


def all_mapped(points, found, families=FAMILIES):
    """Areas by point and family: those that aren't in `found` are added, as many at once as there are cores."""
    work = [(point, family) for point in points for family in families if (point, family) not in found]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        areas = pool.map(lambda job: mapped(MADE[job[0][0]](job[0][1], *job[0][2]), job[1]), work)
        found.update(zip(work, areas, strict=True))


def figure(point, family, found, held_out):
    part, variant, arguments = point
    return Figure(part, variant, family, arguments, held_out, tuple(getattr(found, k) for k in KINDS))
