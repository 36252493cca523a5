"""Icarus and Verilator: simulators with front ends of their own, which run the self-checking testbench."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from intsim.errors import IntsimError
from intsim.rtl.design import Design
from intsim.rtl.testbench import testbench
from intsim.rtl.tools import need, run, verilator_root
from intsim.rtl.trace import Found, Mismatch

MAIN = """\
#include "Vintsim_bench.h"
#include "verilated.h"
int main(int argc, char **argv) {
  Verilated::commandArgs(argc, argv);
  Verilated::traceEverOn(true);
  Vintsim_bench top;
  for (top.clk = 1; !Verilated::gotFinish(); top.clk = !top.clk) { top.eval(); Verilated::timeInc(1); }
  top.final();
}
"""
BAD_PORT = re.compile(r"(PINMISSING|WIDTH\w*|PINNOTFOUND): .*|warning: (Port .*|Instantiating .* dangling .*)")
"""Warnings about the testbench's own instance that are errors here."""


def icarus(design: Design, folder: Path, vcd: Path | None) -> Found:
    """How a run of Icarus ends; see `cosim`. Raises IntsimError for what it doesn't take."""
    need("iverilog")
    bench, home = folder / "testbench.sv", design.folder.resolve()
    bench.write_text(testbench(design))
    files = [*design.sources, str(bench)]
    said = run(["iverilog", "-g2012", "-Wall", "-s", "intsim_testbench", "-o", folder / "simulation", *files], home)
    _refuse(said, str(bench))
    return read_report(design, run(["vvp", "-n", folder / "simulation", *_waves(vcd)], home))


def verilator(design: Design, folder: Path, vcd: Path | None) -> Found:
    """How a run of Verilator ends; see `cosim`. Raises IntsimError for what it doesn't take."""
    need("verilator", "g++")
    root = verilator_root()
    assert root is not None
    bench, home = folder / "testbench.sv", design.folder.resolve()
    bench.write_text(testbench(design))
    (folder / "main.cc").write_text(MAIN)
    traced, waves = (["--trace"], 1) if vcd else ([], 0)
    command = [str(root / "bin" / "verilator_bin"), "--cc", "--top-module", "intsim_bench", "-Wno-fatal"]
    command += ["--Mdir", str(folder)]
    said = run([*command, *traced, *design.sources, str(bench)], home, extra={"VERILATOR_ROOT": str(root)})
    _refuse(said, str(bench))
    include = root / "include"
    flags = ["-std=c++17", "-O0", "-w", "-pthread", f"-DVM_TRACE={waves}", f"-DVM_TRACE_VCD={waves}"]
    flags += [f"-I{x}" for x in (include, include / "vltstd", folder)]
    runtime = [include / f"verilated{x}.cpp" for x in ("", "_threads", *(["_vcd_c"] if vcd else []))]
    run(["g++", *flags, "-o", "simulation", *sorted(folder.glob("Vintsim_bench*.cpp")), "main.cc", *runtime], folder)
    return read_report(design, run([folder / "simulation", *_waves(vcd)], home))


def _waves(vcd: Path | None) -> list[str]:
    return [] if vcd is None else [f"+vcd={vcd.absolute()}"]


def _refuse(printed: str, bench: str) -> None:
    """Raise IntsimError for a port of the testbench's instance that doesn't fit the module."""
    for line in printed.splitlines():
        if bench in line and (bad := BAD_PORT.search(line)):
            raise IntsimError(f"the ports of the file don't fit the module: {bad[0][:200]}")


def read_report(design: Design, printed: str) -> Found:
    """What the testbench printed. Raises IntsimError where it didn't come to its end."""
    end = re.search(r"^(PASS|FAIL): (\d+) mismatches in \d+ rows, (\d+) cycles", printed, re.MULTILINE)
    if end is None:
        raise IntsimError(f"the simulation broke off: {' '.join(printed.split())[-200:] or 'it printed nothing'}")
    first: Mismatch | None = None
    if told := re.search(r"^FIRST (\w+) (-?\d+) (\w+) (\d+) (\S+) (\S+)$", printed, re.MULTILINE):
        kind, cycle, name, element, expected, got = told.groups()
        port = next(p for p in design.outputs if p.name == name)

        def number(text: str) -> Any:
            return None if text == "-" else port.shown(int(text, 16)) if re.fullmatch("[0-9a-f]+", text) else text

        first = Mismatch(cast(Any, kind), int(cycle), name, int(element), number(expected), number(got))
    return Found(int(end[2]), first, int(end[3]))
