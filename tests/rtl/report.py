"""`python -m tests.rtl.report`: docs/measured/hardware.md, areas of emitted modules and their co-simulation."""

import json
import re
import tempfile
from pathlib import Path

import intsim
from intsim.arithmetic.integers import IntegerType
from intsim.hilbert import Decoder
from intsim.rtl import area, cosim, kinds, layers
from intsim.rtl.design import Design
from intsim.rtl.elaborate import elaborate
from intsim.rtl.synthesis import FAMILIES
from intsim.targets import Target

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "measured" / "hardware.md"
S8, U8 = IntegerType(8, True), IntegerType(8, False)
SIMULATORS = ("cxxrtl", "icarus")
VECTORS = 20_000
HEAD = """\
# Modules in hardware

Made by `python -m tests.rtl.report`. Cells of [modules](../guides/hardware.md) that `intsim emit` wrote, as Yosys
{version} maps them: lookup tables (of whatever width) / flip-flops / DSPs / memories, then lookup tables one behind the
other between ports, registers, DSPs and memories. These are counts before packing and placement; other versions of
Yosys have others. Requantizers are those of layer `enc0.1.conv` of `models/zoo/dispnet_w8a8.qonnx.onnx`, whose
multipliers and shifts a channel's number chooses. Each module was run on its vectors in {simulators}.

| module | {families} | rows | mismatches |
|---|{bars}---|---|
"""


def made():
    """Kinds by what the page calls them."""
    graph = intsim.load(str(ROOT / "models" / "zoo" / "dispnet_w8a8.qonnx.onnx")).graph
    node = layers.layer(graph, "enc0.1.conv", "requantize")
    for name in ("wrap-32", "saturate-24"):
        yield f"mac, s8 x s8, `{name}`", kinds.mac(Target.load(name), S8, S8, VECTORS, 0)
    for name, types in (("cpu-int32", (S8, S8)), ("x86-avx2", (U8, S8)), ("ruy-neon", (S8, S8))):
        shown = " x ".join(f"{'us'[t.signed]}8" for t in types)
        yield f"dot, {shown}, `{name}`", kinds.dot(Target.load(name), *types, 64, VECTORS, 0)
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


ROM = """
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
    mapped = FAMILIES["xilinx"]
    command = f"{mapped.command} -nobram -nolutram -top intsim_wrapper"
    elaborate(Design.load(folder), folder, [command, f"write_json {folder / 'mapped.json'}"])
    cells = json.loads((folder / "mapped.json").read_text())["modules"]["intsim_wrapper"]["cells"].values()
    return sum(re.fullmatch(mapped.luts, c["type"]) is not None for c in cells)


def rom():
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


def main():
    rows, version = [], ""
    for name, kind in made():
        with tempfile.TemporaryDirectory() as folder:
            kinds.emit(kind, Path(folder))
            counted = [area(folder, f) for f in FAMILIES]
            runs = [cosim(folder, s) for s in SIMULATORS]
        version = counted[0].version
        cells = [f"{a.luts} / {a.flip_flops} / {a.dsps} / {a.rams}, {a.logic_depth}" for a in counted]
        rows.append(f"| {name} | {' | '.join(cells)} | {runs[0].vectors} | {max(r.mismatches for r in runs)} |")
        print(rows[-1], flush=True)
    families = " | ".join(FAMILIES)
    head = HEAD.format(
        version=version, simulators=" and ".join(SIMULATORS), families=families, bars="---|" * len(FAMILIES)
    )
    PAGE.write_text(head + "\n".join(rows) + "\n" + rom())


if __name__ == "__main__":
    main()
