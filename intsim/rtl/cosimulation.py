"""Run a design on its vectors in a simulator, and say where it first differs."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError
from intsim.junit import write_junit
from intsim.rtl import cxxrtl, events, netlist
from intsim.rtl.design import Design
from intsim.rtl.tools import INSTALL, missing
from intsim.rtl.trace import Mismatch, compared

SIMULATORS = {
    "cxxrtl": ("yosys", "g++"),
    "icarus": ("iverilog",),
    "netlist": ("yosys",),
    "verilator": ("verilator", "g++"),
}
"""Simulators and the programs that they need; unless one is asked for, the first whose programs are there."""


@dataclass(frozen=True)
class Cosimulation:
    """What a co-simulation found.

    Attributes:
        design: its top module; simulator: which ran it; layer: of a network that it computes, or "".
        vectors: rows of the outputs; cycles: that were run, without those of the reset.
        mismatches: wrong elements; an element of a row that never came is one.
        first: the first wrong one, None where nothing is wrong.
    """

    design: str
    simulator: str
    vectors: int
    cycles: int
    mismatches: int
    first: Mismatch | None
    layer: str = ""

    @property
    def holds(self) -> bool:
        """Whether every element is as expected."""
        return not self.mismatches

    def to_json(self) -> dict[str, Any]:
        """docs/json.md."""
        return {"format": "intsim-cosim-1", **asdict(self)}

    def words(self) -> str:
        """The first mismatch in a line; "" where there is none."""
        if self.first is None:
            return ""
        f = self.first
        place = f"cycle {f.cycle}, port {f.port}, element {f.element}" + f" of layer {self.layer}" * bool(self.layer)
        if f.how == "missing":
            return f"{place}: never came"
        return f"{place}: a row too many" if f.how == "extra" else f"{place}: expected {f.expected}, got {f.got}"

    def write_junit(self, path: Path) -> None:
        """One test case, for continuous integration."""
        why = "" if self.holds else f"{self.mismatches} mismatches; first: {self.words()}"
        write_junit(path, "intsim cosim", self.simulator, [(self.design, why)])


def chosen(simulator: str | None) -> str:
    """The simulator to use. Raises IntsimError for an unknown one, and where none is there."""
    if simulator is not None:
        if simulator not in SIMULATORS:
            raise IntsimError(f"simulator {simulator!r}; allowed: {', '.join(sorted(SIMULATORS))}")
        return simulator
    for name, tools in SIMULATORS.items():
        if not any(map(missing, tools)):
            return name
    raise IntsimError(f"no simulator is installed: {INSTALL['yosys']}")


def cosim(design: Design | str | Path, simulator: str | None = None, vcd: str | Path | None = None) -> Cosimulation:
    """Run a design on its vectors.

    Args:
        design: or the path of its TOML file, or of the folder that holds `cosim.toml`.
        simulator: "cxxrtl", "icarus", "netlist" or "verilator"; None for the first of them that is installed.
        vcd: file for a waveform.

    Returns:
        What was found. All simulators offer rows and look at outputs in the same cycles.

    Raises:
        IntsimError: a bad file, a design that the simulator doesn't take, a program that isn't installed.
    """
    design = design if isinstance(design, Design) else Design.load(design)
    simulator = chosen(simulator)
    waves = None if vcd is None else Path(vcd)
    if waves is not None and not waves.absolute().parent.is_dir():
        raise IntsimError(f"{waves}: there is no folder {waves.absolute().parent} for a waveform")
    rows = design.rows[1]
    with tempfile.TemporaryDirectory(prefix="intsim-cosim-") as name:
        folder = Path(name)
        if simulator in ("icarus", "verilator"):
            found = getattr(events, simulator)(design, folder, waves)
        else:
            run = netlist.simulate if simulator == "netlist" else cxxrtl.simulate
            found = compared(design, run(design, folder, waves))
    return Cosimulation(design.top, simulator, rows, found.cycles, found.mismatches, found.first, design.layer)
