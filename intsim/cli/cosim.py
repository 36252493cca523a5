"""The verb `cosim`: a design on its vectors in a simulator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intsim.cli.options import Json, app, conclude, result

if TYPE_CHECKING:
    from rich.console import Console


@app.command()
@result
def cosim(
    design: Annotated[Path, typer.Argument(help="a folder that emit wrote, or a TOML file")],
    simulator: Annotated[
        str | None,
        typer.Option("--simulator", "-s", help="cxxrtl, icarus, netlist or verilator; else the first there is"),
    ] = None,
    vcd: Annotated[Path | None, typer.Option("--vcd", help="file for a waveform")] = None,
    json_: Json = False,
) -> None:
    """Run a design on its vectors and find the first wrong element: exit code 0, 1 where there is one."""
    from intsim import rtl
    from intsim.report.table import say

    found = rtl.cosim(design, simulator, vcd)

    def show(console: "Console") -> None:
        say(console, f"{found.design} on {found.simulator}: {found.vectors} rows in {found.cycles} cycles")
        wrong = f"{found.mismatches} wrong elements; the first in {found.words()}"
        say(console, f"verdict: {'as expected' if found.holds else wrong}")

    conclude(json_, found.to_json(), None, show, found.holds)
