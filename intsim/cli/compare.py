"""The verb `compare`: a dump of a simulation or a board against golden vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intsim.cli.options import Json, app, conclude, result


@app.command()
@result
def compare(
    vectors: Annotated[Path, typer.Argument(metavar="DIR", help="a folder that intsim vectors wrote")],
    dump: Annotated[Path, typer.Argument(metavar="DUMP", help=".npy, .npz, .hex, .csv, .txt, .bin or .vcd")],
    layer: Annotated[str | None, typer.Option("--layer", help="whose integers the dump holds")] = None,
    tensor: Annotated[str | None, typer.Option("--tensor", help="which: its result, or another of its roles")] = None,
    order: Annotated[
        str | None, typer.Option("--order", help="of the dump's elements: NCHW, NHWC, finn, hls4ml; else the vectors'")
    ] = None,
    map_: Annotated[Path | None, typer.Option("--map", help="a TOML file: type, bus, fold, signals of a .vcd")] = None,
    json_: Json = False,
) -> None:
    """Compare a dump with golden vectors, and show the first wrong integer. Exit code 1 where one is wrong."""
    from intsim.golden.compare import compare as hold
    from intsim.report.vectors import after_comparison, show_comparison

    found = hold(vectors, dump, layer=layer, tensor=tensor, order=order, map=map_)
    words = ["intsim", "compare", str(vectors), str(dump)]
    for name, value in (("--layer", layer), ("--tensor", tensor), ("--map", map_)):
        words += [name, str(value)] if value is not None else []
    step = after_comparison(found, words)
    conclude(json_, found.to_json(), step, lambda c: show_comparison(c, found), found.same)
