"""The verb `sweep`: every accumulator width and overflow rule, every multiplier width, in a folder that resumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from intsim.cli.options import (
    Constants,
    InputsPath,
    Json,
    ModelPath,
    Samples,
    Seed,
    Shapes,
    TargetName,
    Threads,
    app,
    arrays,
    console,
    emit,
    given_samples,
    opened,
    progress,
)
from intsim.errors import IntsimError

MOST_WIDTHS = 64
WIDTHS_HELP = 'widths in bits: "8:32" with both ends, or "12,16,20"'


def widths(text: str | None, option: str) -> list[int]:
    """`8:32` or `12,16,20` as a list; nothing for None. Raises IntsimError for anything else."""
    if text is None:
        return []
    try:
        if ":" in text:
            low, high = (int(part) for part in text.split(":"))
            found = list(range(low, min(high, low + MOST_WIDTHS) + 1))
        else:
            found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found:
        raise IntsimError(f"{option} {text[:40]!r}: give a range like 8:32 or a list like 12,16,20")
    return found


@app.command()
def sweep(
    model: ModelPath,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for results; an interrupted sweep goes on there")],
    accumulator: Annotated[str | None, typer.Option("--accumulator", "-a", help=WIDTHS_HELP)] = None,
    overflow: Annotated[str, typer.Option("--overflow", help="rules of the register, by commas")] = "wrap,saturate",
    multiplier: Annotated[str | None, typer.Option("--multiplier", "-m", help=WIDTHS_HELP)] = None,
    grid: Annotated[bool, typer.Option("--grid", help="all pairs of accumulator and multiplier widths")] = False,
    target: TargetName = "exact",
    stage: Annotated[
        int | None, typer.Option("--stage", help="the register to vary, 1..; the last if not given")
    ] = None,
    inputs: InputsPath = None,
    samples: Samples = 1,
    seed: Seed = 0,
    threads: Threads = None,
    restart: Annotated[bool, typer.Option("--restart", help="forget an earlier sweep in the folder")] = False,
    json_: Json = False,
    shape: Shapes = None,
    constants: Constants = None,
) -> None:
    """Compare accumulator and multiplier widths with the exact run; writes a table, JSON, CSV and a picture."""
    from intsim.explore.configuration import configurations
    from intsim.targets import Target

    chosen = Target.load(target)
    registers, factors = widths(accumulator, "--accumulator"), widths(multiplier, "--multiplier")
    rules: Any = overflow.split(",")
    points = configurations(registers, rules, factors, grid)
    loaded = opened(model, shape, constants, inputs)
    from intsim.explore.sweep import sweep as explore
    from intsim.report import files
    from intsim.report.picture import draw_sweep
    from intsim.report.sweep import show_sweep, write_csv

    given = given_samples(loaded, inputs)
    count = samples if given is None else len(given)
    data = None if inputs is None else arrays(inputs, list(loaded.lowered.source.inputs))
    try:
        with progress(len(points) * count) as step:
            found = explore(
                loaded, data, chosen, registers, rules, factors, stage, samples, seed, grid, out, restart, step
            )
    except KeyboardInterrupt:
        sys.stderr.write(f"intsim: finished configurations are in {out}; the same command goes on from there\n")
        raise
    with files.folder(out) as draft:
        files.write_json(draft / "sweep.json", found.to_json())
        write_csv(draft / "sweep.csv", found)
        drawn = draw_sweep(draft / "sweep.png", found)
    if not drawn:
        (out / "sweep.png").unlink(missing_ok=True)  # of an earlier sweep
    if json_:
        emit(found.to_json())
    else:
        show_sweep(console(), found)
        written = ["sweep.json", "sweep.csv", *(["sweep.png"] if drawn else [])]
        console().print(f"wrote {', '.join(written)} to {out}", markup=False, highlight=False)
    if not drawn:
        sys.stderr.write('intsim: no picture: matplotlib is missing; pip install "intsim[report]"\n')
