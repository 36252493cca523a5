"""`python -m tests.rtl.report`: docs/measured/hardware.md, areas of modules and their co-simulation, and cost.json.

A function a section. Everything is mapped anew; it takes half an hour on two cores.
"""

import json
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import intsim
from intsim.arithmetic.integers import IntegerType
from intsim.explore import cost
from intsim.hilbert import Decoder
from intsim.rtl import area, cosim, kinds, layers, tools
from intsim.rtl.design import Design
from intsim.rtl.elaborate import elaborate
from intsim.rtl.synthesis import FAMILIES as MAPPED
from intsim.targets import Target

from . import real_layer
from .parts import CONSTANTS, FAMILIES, HELD_OUT, POINTS, RULES, all_mapped, figure

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "measured" / "hardware.md"
S8, U8 = IntegerType(8, True), IntegerType(8, False)
SIMULATORS = ("cxxrtl", "icarus")
VECTORS = 20_000
HEAD = """\
# Modules in hardware

Made by `python -m tests.rtl.report`: [modules](../guides/hardware.md) of `hardware/rtl`, as Yosys {version} maps
them. These are counts before packing and placement, each module by itself; other versions of Yosys have others.
`generic` is gates of two inputs, multiplexers among them, without DSPs and carries. A CCU2C of ECP5 takes the place
of two lookup tables, an SB_CARRY of iCE40 lies beside one (which it leaves to others only if they share its inputs),
a CARRY4 or CARRY8 of xilinx and ultrascale takes none.
"""


def table(head, rows):
    """In Markdown."""
    bars = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, bars, *rows)) + "\n"


def cells(found, *more):
    """Lookup tables + carries / DSPs, and what else is asked for."""
    if found is None:
        return "no end"
    carries = f" + {found.carries}" if found.carries else ""
    return f"{found.luts}{carries}" + "".join(f" / {getattr(found, m)}" for m in ("dsps", *more))


def made():
    """Kinds by what the page calls them."""
    graph = intsim.load(str(ROOT / "models" / "zoo" / "dispnet_w8a8.qonnx.onnx")).graph
    node = layers.layer(graph, "enc0.1.conv", "requantize")
    for name in ("wrap-32", "saturate-24"):
        yield f"mac, s8 x s8, `{name}`", kinds.mac(Target.load(name), S8, S8, VECTORS, 0)
    for name, types in (("cpu-int32", (S8, S8)), ("x86-avx2", (U8, S8)), ("ruy-neon", (S8, S8))):
        shown = " x ".join(f"{'us'[t.signed]}8" for t in types)
        yield f"dot, {shown}, `{name}`", kinds.dot(Target.load(name), *types, 64, VECTORS, 0)
    for name in PACKED:
        target = Target.load(name)
        types = (target.operands.activation, target.operands.weight)
        yield f"dot, packed, `{name}`", kinds.dot(target, *types, 64, VECTORS, 0)
    for name in ("cpu-int32", "tflite-single", "fixed-point-8"):
        yield f"requantize, 24 channels, `{name}`", layers.requantize(graph, node, Target.load(name), VECTORS, 0)
    yield from decoders()


def decoders():
    """Kinds of Hilbert decoders: bare, with distances, with registers, with a guide."""
    for order in (1, 2, 3, 4):
        decoder = Decoder.lattice_aligned(order, signed=True)
        yield f"hilbert, order {order}, 8-bit codes", kinds.hilbert(decoder, False, 1 << 16, 0)
    decoder, name = Decoder.lattice_aligned(3, signed=True), "hilbert, order 3, 8-bit codes"
    yield f"{name}, `--confidence 15`", kinds.hilbert(decoder, False, 1 << 16, 0, radius=15)
    yield f"{name}, `--pipelined`", kinds.hilbert(decoder, False, 1 << 16, 0, pipelined=True)
    for order in (1, 2, 3, 4):
        decoder, how = Decoder.lattice_aligned(order, signed=True), {"guided": True, "window": 100, "pipelined": True}
        name = f"hilbert, order {order}, 8-bit codes, `--guide --window 100 --pipelined`"
        yield name, kinds.hilbert(decoder, False, VECTORS, 0, **how)


ROM = """\
## A decoder against a table of all pairs of codes

Lookup tables on the 7 series at order 3. As a memory a table takes a lookup table for each 64 bits and, for each bit of
its output, multiplexers behind them: of two and of four they are there already (MUXF7, MUXF8), then a lookup table
makes one of four. That follows from sizes alone, and is computed. Yosys, kept out of memories (`-nobram -nolutram`;
it would take block RAMs), makes logic of the table instead and finds some of what the decoder knows; that is measured,
and takes minutes for 8 bits.

| code bits | entries x bits | memory, computed | logic, mapped | decoder, mapped | memory / decoder | logic / decoder |
|---|---|---|---|---|---|---|
"""
ROM_BITS = (5, 6, 7, 8)


def table_luts(entries, bits):
    """Lookup tables of six inputs that a memory takes: 64 bits each, and multiplexers of four where MUXF8 end."""
    words = -(-entries // 64)
    total, left = words, -(-words // 4)
    while left > 1:
        left = -(-left // 4)
        total += left
    return total * bits


def table_as_logic(folder):
    """Lookup tables of an emitted table that is kept out of memories, counted."""
    mapped = MAPPED["xilinx"]
    command = f"{mapped.command} -nobram -nolutram -top intsim_wrapper"
    elaborate(Design.load(folder), folder, [command, f"write_json {folder / 'mapped.json'}"])
    cells = json.loads((folder / "mapped.json").read_text())["modules"]["intsim_wrapper"]["cells"].values()
    return sum(re.fullmatch(mapped.luts, c["type"]) is not None for c in cells)


def rom(_):
    """The section ROM: an order-3 decoder without a multiplier, and the table of all pairs of codes."""
    rows = []
    for bits in ROM_BITS:
        decoder = Decoder.lattice_aligned(3, None, bits, signed=True)
        with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
            kinds.emit(kinds.hilbert(decoder, False, 16, 0), Path(name))
            own = area(name, "xilinx").luts
            kinds.emit(kinds.hilbert(decoder, True, 16, 0), Path(other))
            logic = table_as_logic(Path(other))
        memory = table_luts(1 << 2 * bits, bits + 3)
        cells = [bits, f"{1 << 2 * bits} x {bits + 3}", memory, logic, own]
        cells += [f"{memory / own:.1f}", f"{logic / own:.1f}"]
        rows.append(f"| {' | '.join(map(str, cells))} |")
        print(rows[-1], flush=True)
    return ROM + "\n".join(rows) + "\n"


PACKED = ("dsp48e2-int8", "dsp48e2-int8-raw", "dsp48e2-int4", "dsp48e2-int4-raw")
EMITTED = """\
## Emitted modules, and their vectors

Lookup tables / flip-flops / DSPs / memories, then lookup tables one behind the other between ports, registers, DSPs
and memories. Requantizers are those of layer `enc0.1.conv` of `models/zoo/dispnet_w8a8.qonnx.onnx`, whose multipliers
and shifts a channel's number chooses. Each module was run on its vectors in {simulators}.
"""


def emitted(_):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(_emitted, made()))
    head = EMITTED.format(simulators=" and ".join(SIMULATORS))
    return f"{head}\n{table(['module', *FAMILIES, 'rows', 'mismatches'], rows)}"


def _emitted(named):
    name, kind = named
    with tempfile.TemporaryDirectory() as folder:
        kinds.emit(kind, Path(folder))
        counted = [area(folder, f) for f in FAMILIES]
        runs = [cosim(folder, s) for s in SIMULATORS]
    shown = [f"{a.luts} / {a.flip_flops} / {a.dsps} / {a.rams}, {a.logic_depth}" for a in counted]
    return [name, *shown, runs[0].vectors, max(r.mismatches for r in runs)]


REQUANTIZERS = """\
## Requantizers by multiplier and scheme

Lookup tables + carries / DSPs from a 32-bit accumulator to an 8-bit code. `single` rounds the product once, half up;
`double` is gemmlowp's two roundings, `ruy` the same with ties up twice; `shift` has no multiplier. Constants are
those of one channel (355/113 times a power of two), or multiplier, shifts, bias and zero point are ports, as of a
machine that runs layer after layer.
"""


def requantizers(found):
    wanted = [("single", 4), ("single", 8), ("single", 16), ("single", 24), ("single", 32)]
    wanted += [("double", 8), ("double", 16), ("double", 32), ("ruy", 32)]
    points = {(s, m, c): ("requantizer", f"{s} {c}", (32, m)) for s, m in wanted for c in CONSTANTS}
    points |= {("shift", "-", c): ("shift", c, (32,)) for c in CONSTANTS}
    all_mapped(points.values(), found)
    rows = [[*key, *(cells(found[point, f]) for f in FAMILIES)] for key, point in points.items()]
    return f"{REQUANTIZERS}\n{table(['scheme', 'multiplier bits', 'given as', *FAMILIES], rows)}"


MACS = """\
## Multiply-accumulate by register and rule

Lookup tables + carries / DSPs / flip-flops of `mac.sv`, s8 x s8, whose register starts at a bias.
"""


def macs(found):
    points = {(n, r): ("mac", r, (8, 8, n)) for n in (12, 16, 20, 24, 28, 32, 40) for r in RULES}
    all_mapped(points.values(), found)
    rows = [[*key, *(cells(found[point, f], "flip_flops") for f in FAMILIES)] for key, point in points.items()]
    return f"{MACS}\n{table(['bits', 'rule', *FAMILIES], rows)}"


MULTIPLIERS = """\
## Packed multipliers against plain ones

Lookup tables + carries / DSPs / flip-flops of dot products with the same registers: groups in 18 bits (s8 x s8) or 11
bits (u4 x s4), the rest in 32 bits. A packed one makes several outputs at once, which stand in the second column; a
plain one has to be there as many times. `raw` reads fields without correction.
"""


def packed(found):
    points = {}
    for name in PACKED:
        own = Target.load(name)
        points[f"packed, `{name}`", len(own.accumulate.packing.offsets)] = ("dot", "packed", (name,))
        if own.accumulate.packing.correction == "none":
            shown = " x ".join(f"{'us'[t.signed]}{t.bits}" for t in (own.operands.activation, own.operands.weight))
            points[f"plain, {shown}", 1] = ("dot", "plain", (name,))
    families = (*FAMILIES, "ultrascale")
    all_mapped(points.values(), found, families)
    rows = [[*key, *(cells(found[point, f], "flip_flops") for f in families)] for key, point in points.items()]
    return f"{MULTIPLIERS}\n{table(['module', 'outputs', *families], rows)}"


THRESHOLDS = """\
## Threshold counters against requantizers

Lookup tables + carries / DSPs from a 24-bit accumulator to a code of so many bits, with the constants of one channel:
all 2^bits - 1 thresholds counted, or a multiplier of 16 bits.
"""


def thresholds(found):
    bits, ways = range(1, 9), ("thresholds", "multiplier")
    points = {("thresholds", b): ("threshold", "constants", ((1 << b) - 1, 24)) for b in bits}
    points |= {("multiplier", b): ("code", "single constants", (24, 16, b)) for b in bits}
    all_mapped(points.values(), found)
    rows = [[b, *(cells(found[points[way, b], f]) for f in FAMILIES for way in ways)] for b in bits]
    return f"{THRESHOLDS}\n{table(['code bits', *(f'{f}, {way}' for f in FAMILIES for way in ways)], rows)}"


COSTS = """\
## Formulas of these figures

`intsim.explore.cost` estimates cells of multiply-accumulates, requantizers and threshold counters by formulas that
are linear in a few terms of widths; `intsim/explore/cost.json` has the {fitted} modules that they are fitted to,
{held} that were held out, and the coefficients. Below, by part: how many modules, and of lookup tables the largest
count, then the difference of estimate and count, median and worst of the fitted ones, and worst of those that were
held out. Carries are in the second table, in the same way. The fit weighs a difference by 1 / (count + 16).

They are poor where counts jump: gates of a constant multiplier depend on its bits, not on how many there are; lookup
tables of a register that saturates on whether its rule merges with the adder. A `shift` has two coefficients and three
modules, so that small residuals say little. A module that isn't among these may be further off than the worst.

DSPs are counted as the blocks that operands are cut into; {dsps}.
Flip-flops: {flip_flops}.
"""


def differences(figures, fits, kind):
    """By part, variant and family: (estimate - count, count, held out) of each figure."""
    at, by = cost.KINDS.index(kind), {}
    for f in figures:
        estimate = cost.predict(fits, f.part, f.variant, f.fpga, f.arguments)[at]
        told = (estimate - f.cells[at], f.cells[at], f.held_out)
        by.setdefault((f.part, f.variant), {}).setdefault(f.fpga, []).append(told)
    return by


def residuals(figures, fits, kind):
    """A row for each formula."""
    rows = []
    for (part, variant), families in differences(figures, fits, kind).items():
        shown = []
        for family in FAMILIES:
            fitted, held = ([abs(d) for d, _, h in families[family] if h == wanted] for wanted in (False, True))
            most = max(count for _, count, _ in families[family])
            shown.append(f"{most}: {median(fitted):g}, {max(fitted)}; {max(held)}")
        numbers = [sum(h == wanted for _, _, h in families[FAMILIES[0]]) for wanted in (False, True)]
        rows.append([f"{part}, {variant}", "{} + {}".format(*numbers), *shown])
    return table(["part", "fitted + held out", *FAMILIES], rows)


def wrong(figures, fits, kind):
    """In words, how many of the figures the formula misses."""
    missed = [abs(d) for f in differences(figures, fits, kind).values() for v in f.values() for d, _, _ in v if d]
    total = len(figures)
    return f"{total - len(missed)} of {total} counts are met, the worst differs by {max(missed, default=0)}"


def costs(found):
    points = dict.fromkeys(POINTS, False) | dict.fromkeys(HELD_OUT, True)
    all_mapped(points, found)
    areas = {(p, f): found[p, f] for p in points for f in FAMILIES if found[p, f] is not None}
    figures = [figure(p, f, own, points[p]) for (p, f), own in areas.items()]
    cost.store(next(iter(areas.values())).version, figures)
    fits = cost.stored()[2]
    missed = {kind: wrong(figures, fits, kind) for kind in ("dsps", "flip_flops")}
    head = COSTS.format(fitted=len(POINTS), held=len(HELD_OUT), **missed)
    return f"{head}\n{residuals(figures, fits, 'luts')}\n{residuals(figures, fits, 'carries')}"


STREAMED = """\
## A layer on a photograph

`emit layer`, each tile of a real stereo pair one image; codes and accumulators of its outputs compared.
"""


def streamed(_):
    rows = [[name, r.simulator, r.vectors, r.cycles, r.mismatches] for name, r in real_layer.rows()]
    return f"{STREAMED}\n{table(['layer', 'simulator', 'outputs', 'cycles', 'mismatches'], rows)}"


SECTIONS = (requantizers, macs, packed, thresholds, costs, rom, emitted, streamed)


def main():
    tools.SECONDS = 3600  # a table of 65 536 entries as logic takes ten minutes
    written, found = [], {}  # sections, and what this run has mapped
    for section in SECTIONS:
        written.append(section(found))
        print(written[-1], flush=True)
    PAGE.write_text("\n".join([HEAD.format(version=cost.stored()[0]), *written]))


if __name__ == "__main__":
    main()
