"""What a design takes of an FPGA, counted by Yosys after mapping, before packing, placement and timing."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import asdict, dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError
from intsim.rtl.design import Design
from intsim.rtl.elaborate import elaborate


@dataclass(frozen=True)
class Family:
    """How a family is mapped, and patterns of its cells; of `generic` gates count as lookup tables."""

    command: str
    luts: str
    flip_flops: str
    dsps: str
    rams: str
    carries: str
    then: str = ""
    """One more command."""


NONE = "(?!)"
FAMILIES = {
    "ecp5": Family("synth_ecp5 -noiopad", "LUT4", "TRELLIS_FF", "MULT18X18D", "DP16KD|TRELLIS_DPR16X4", "CCU2C"),
    "generic": Family(
        "synth -noabc -flatten",
        r"\$_(NOT|AND|NAND|OR|NOR|XOR|XNOR|ANDNOT|ORNOT|MUX)_",
        r"\$_\w*DFF\w*_",
        NONE,
        NONE,
        NONE,
        # the script of `abc` itself takes many minutes of a wide multiplier
        "abc -script +strash;&get,-n;&nf,{D};&put -g AND,NAND,OR,NOR,XOR,XNOR,MUX",
    ),
    "ice40": Family("synth_ice40 -dsp", "SB_LUT4", "SB_DFF.*", "SB_MAC16", "SB_RAM40_4K.*", "SB_CARRY"),
    **{
        name: Family(
            f"synth_xilinx -flatten -noiopad -noclkbuf -family {own}",
            "LUT[1-6]",
            "FD[RSCP]E",
            dsps,
            "RAMB.*|RAM[0-9].*",
            "CARRY[48]",
        )
        for name, own, dsps in (("ultrascale", "xcup", "DSP48E2"), ("xilinx", "xc7", "DSP48E1"))
    },
}
"""What Yosys maps to: ECP5, gates of two inputs, iCE40 UltraPlus, AMD's UltraScale+ and 7 series."""
KINDS = ("luts", "flip_flops", "dsps", "rams", "carries")


@dataclass(frozen=True)
class Area:
    """Cells of a design.

    Attributes:
        design: its top module; fpga: the family; version: of Yosys, whose counts differ between versions.
        luts, flip_flops, dsps, rams, carries: cells of these kinds; a lookup table counts as one, however wide. Of
            `generic` there are no others than gates and flip flops, and gates, multiplexers among them, are the luts.
        logic_depth: lookup tables one behind the other, between ports, registers, DSPs and memories.
    """

    design: str
    fpga: str
    version: str
    luts: int
    flip_flops: int
    dsps: int
    rams: int
    carries: int
    logic_depth: int

    def to_json(self) -> dict[str, Any]:
        """docs/json.md."""
        return {"format": "intsim-area-1", **asdict(self)}


def area(design: Design | str | Path, fpga: str = "xilinx") -> Area:
    """Map a design to an FPGA and count its cells.

    Args:
        design: or the path of its TOML file, or of the folder that holds `cosim.toml`; it needs no vectors.
        fpga: "ecp5", "ice40", "ultrascale", "xilinx" (7 series), or "generic" for gates.

    Raises:
        IntsimError: a bad file, an unknown FPGA, a design that Yosys doesn't take, Yosys that isn't installed.
    """
    if fpga not in FAMILIES:
        raise IntsimError(f"FPGA {fpga!r}; allowed: {', '.join(FAMILIES)}")
    design = design if isinstance(design, Design) else Design.load(design)
    with tempfile.TemporaryDirectory(prefix="intsim-area-") as name:
        folder = Path(name)
        mapped = FAMILIES[fpga]
        written = folder / "mapped.json"
        commands = [f"{mapped.command} -top intsim_wrapper", mapped.then, f"write_json {written}"]
        elaborate(design, folder, [c for c in commands if c])
        found = json.loads(written.read_text())
    cells = found["modules"]["intsim_wrapper"]["cells"].values()
    version = re.match(r"Yosys (\S+)", found["creator"])
    kinds = {k: sum(_is(c, getattr(mapped, k)) for c in cells) for k in KINDS}
    return Area(design.top, fpga, version[1] if version else "", **kinds, logic_depth=_depth(list(cells), mapped))


def _is(cell: dict[str, Any], pattern: str) -> bool:
    return re.fullmatch(pattern, cell["type"]) is not None


def _depth(cells: list[dict[str, Any]], family: Family) -> int:
    """The most lookup tables one behind the other."""
    ends = "|".join((family.flip_flops, family.dsps, family.rams))
    drives: dict[Any, int] = {}
    reads: list[list[Any]] = []
    through = [c for c in cells if not _is(c, ends)]
    for number, cell in enumerate(through):
        own: dict[str, list[Any]] = {"input": [], "output": []}
        for pin, bits in cell["connections"].items():
            own[cell["port_directions"][pin]] += bits
        reads.append(own["input"])
        drives |= dict.fromkeys(own["output"], number)
    order = TopologicalSorter({n: {drives[b] for b in bits if b in drives} for n, bits in enumerate(reads)})
    depth = [0] * len(through)
    for number in order.static_order():
        before = max((depth[drives[b]] for b in reads[number] if b in drives), default=0)
        depth[number] = before + _is(through[number], family.luts)
    return max(depth, default=0)
