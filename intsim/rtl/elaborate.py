"""A design through Yosys: its ports checked, then as C++ of CXXRTL or as a netlist of gates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError
from intsim.rtl.design import Design
from intsim.rtl.testbench import control, wrapper
from intsim.rtl.tools import yosys

GATES = (
    "flatten; chformal -remove; delete t:$print t:$scopeinfo; async2sync; opt; memory -nomap; memory_map; "
    "opt -fast; dffunmap; simplemap; techmap; opt -fast; dffunmap; clean"
)
"""From a hierarchy to gates of one bit and D flip-flops without reset or enable."""


def read_commands(design: Design, folder: Path) -> list[str]:
    """Yosys commands that read a design under the module `intsim_wrapper`, which is written to `folder`."""
    (folder / "wrapper.sv").write_text(wrapper(design))
    files = " ".join((*design.sources, str(folder / "wrapper.sv")))
    return [
        f"read_verilog -sv -defer {files}",
        "hierarchy -check -top intsim_wrapper",
        "proc",
        f"write_json {folder / 'ports.json'}",
    ]


def elaborate(design: Design, folder: Path, more: list[str]) -> None:
    """Read a design, run more commands, and hold its ports against what the file says of them.

    Raises IntsimError for what Yosys doesn't take, and a port that is missing, unnamed or of another width.
    """
    yosys([*read_commands(design, folder), *more], design.folder.resolve())
    modules = json.loads((folder / "ports.json").read_text())["modules"]
    kind = modules["intsim_wrapper"]["cells"]["dut"]["type"]
    check_ports(design, modules[kind]["ports"])


def netlist(design: Design, folder: Path) -> dict[str, Any]:
    """The design's gates, Yosys's JSON of the module `intsim_wrapper`."""
    written = folder / "gates.json"
    elaborate(design, folder, [GATES, f"write_json {written}"])
    return dict(json.loads(written.read_text())["modules"]["intsim_wrapper"])


def check_ports(design: Design, ports: dict[str, Any]) -> None:
    """Raise IntsimError unless the module's ports are those of the file."""
    into, out = control(design)
    said = {name: (1, "input") for name, _ in into} | {name: (1, "output") for name, _ in out}
    said |= {p.name: (p.width, "input") for p in design.inputs} | {p.name: (p.width, "output") for p in design.outputs}
    for name, (width, direction) in said.items():
        if name not in ports:
            raise IntsimError(f"module {design.top} has no port {name}; it has {', '.join(ports)}")
        real = ports[name]
        if real["direction"] != direction or len(real["bits"]) != width:
            raise IntsimError(
                f"port {name} of module {design.top} is an {real['direction']} of {len(real['bits'])} bits; "
                f"the file says {direction}, {width} bits"
            )
    for name, real in ports.items():
        if name not in said and real["direction"] != "output":
            raise IntsimError(f"input {name} of module {design.top} is not in the file; give it a file or a value")
