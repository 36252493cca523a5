"""The verb `telemetry`: what registers held, what other widths would have seen, what clips cut off."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

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


@app.command()
def telemetry(
    model: ModelPath,
    inputs: InputsPath = None,
    target: TargetName = "exact",
    samples: Samples = 1,
    seed: Seed = 0,
    channels: Annotated[bool, typer.Option("--channels", help="show the worst channels of each layer as well")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder for telemetry.json")] = None,
    threads: Threads = None,
    json_: Json = False,
    shape: Shapes = None,
    constants: Constants = None,
) -> None:
    """Show the bits that every accumulator needed, overflows at every width, and what output clips cut off."""
    from intsim.targets import Target

    chosen = Target.load(target)
    loaded = opened(model, shape, constants, inputs)
    from intsim.explore.telemetry import telemetry as observe
    from intsim.report import files
    from intsim.report.telemetry import show_telemetry

    given = given_samples(loaded, inputs)
    count = samples if given is None else len(given)
    data = None if inputs is None else arrays(inputs, list(loaded.lowered.source.inputs))
    with files.folder(out) if out is not None else nullcontext() as draft:
        with progress(count * len(loaded.graph.nodes)) as step:
            found = observe(loaded, data, chosen, samples, seed, step)
        if draft is not None:
            files.write_json(draft / "telemetry.json", found.to_json())
    emit(found.to_json()) if json_ else show_telemetry(console(), found, channels)
    raise typer.Exit(1 if found.overflows else 0)
