"""The verb `identify`: which machine made a dump."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from intsim.cli.options import Json, Seed, app, conclude, progress, result
from intsim.errors import IntsimError

CODES = {"specification": 0, "one class": 1, "several classes": 3, "none": 4}
"""Exit codes; 2 is bad usage or input, as everywhere."""


@app.command()
@result
def identify(
    vectors: Annotated[Path, typer.Argument(metavar="DIR", help="a folder that intsim vectors wrote")],
    dump: Annotated[Path, typer.Argument(metavar="DUMP", help=".npy, .npz, .hex, .csv, .txt, .bin or .vcd")],
    layer: Annotated[str | None, typer.Option("--layer", help="whose integers the dump holds")] = None,
    tensor: Annotated[str | None, typer.Option("--tensor", help="which: output or accumulator")] = None,
    order: Annotated[
        str | None, typer.Option("--order", help="of the dump's elements: NCHW, NHWC, finn, hls4ml; else the vectors'")
    ] = None,
    map_: Annotated[Path | None, typer.Option("--map", help="a TOML file: type, bus, fold, signals of a .vcd")] = None,
    next_: Annotated[
        tuple[int, str] | None,
        typer.Option("--next", help="COUNT FILE.npz: operands that tell apart what this dump can't"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="a target file of the simplest machine")] = None,
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Search the machines that make a dump, and show the simplest. Exit code 0: only the specification does, 1: one
    class of others, 3: several that act differently, 4: none that is known."""
    from intsim.diagnosis.identify import identify as search
    from intsim.report.diagnosis import after_identification, show_identification
    from intsim.report.files import file

    if next_ is not None and next_[0] < 1:
        raise IntsimError(f"--next {next_[0]}: give 1 or more samples")
    how: dict[str, Any] = {"layer": layer, "tensor": tensor, "order": order, "map": map_}
    with progress(4) as step:
        found = search(vectors, dump, **how, next=next_, seed=seed, progress=step)
    if out is not None:
        toml = found.classes[0].toml if found.classes else None
        if toml is None:
            what = "what made the dump has no words in a target file" if found.classes else "no machine made the dump"
            raise IntsimError(f"--out {out}: {what}")
        with file(out) as draft:
            draft.write_text(toml)
    words = ["intsim", "identify", str(vectors), str(dump)]
    for name, value in how.items():
        words += [f"--{name}", str(value)] if value is not None else []
    step_ = after_identification(found, words, None if next_ is None else next_[1])
    conclude(json_, found.to_json(), step_, lambda c: show_identification(c, found), CODES[found.answer])
