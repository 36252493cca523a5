"""The verb `area`: what a design takes of an FPGA."""

from pathlib import Path
from typing import Annotated

import typer

from intsim.cli.options import Json, app, console, emit


@app.command()
def area(
    design: Annotated[Path, typer.Argument(help="a folder that emit wrote, or a TOML file")],
    fpga: Annotated[
        str, typer.Option("--fpga", "-f", help="ecp5, ice40, ultrascale, xilinx (7 series); generic: gates")
    ] = "xilinx",
    json_: Json = False,
) -> None:
    """Count what a design takes of an FPGA, as Yosys maps it: before packing, placement and timing."""
    from intsim import rtl
    from intsim.report.table import Column, show_table

    found = rtl.area(design, fpga)
    if json_:
        emit(found.to_json())
        return
    columns = [
        Column("gates" if fpga == "generic" else "LUTs", [str(found.luts)]),
        Column("flip flops", [str(found.flip_flops)]),
    ]
    columns += [Column("DSPs", [str(found.dsps)]), Column("RAMs", [str(found.rams)])]
    columns += [Column("carries", [str(found.carries)]), Column("logic depth", [str(found.logic_depth)])]
    show_table(console(), columns, f"{found.design} on {found.fpga}, mapped by Yosys {found.version}")
