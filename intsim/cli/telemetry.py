"""The verb `telemetry`: what registers held, what other widths would have seen, what clips cut off."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from intsim.cli.options import OnSamples, conclude, progress, result, verb


@verb
@result
def telemetry(
    asked: OnSamples,
    channels: Annotated[bool, typer.Option("--channels", help="show the worst channels of each layer as well")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder for telemetry.json")] = None,
) -> None:
    """Show the bits that every accumulator needed, overflows at every width, and what output clips cut off."""
    target, model = asked.chosen, asked.loaded
    from intsim.explore.telemetry import telemetry as observe
    from intsim.report import files
    from intsim.report.next_step import widen, with_step
    from intsim.report.telemetry import show_telemetry

    steps = len(asked.data) * len(model.graph.nodes)
    with files.folder(out) if out is not None else nullcontext() as draft:
        with progress(steps) as step:
            seen = observe(model, target, *asked.drawn, progress=step)
        following = widen(asked) if seen.overflows else None
        content = with_step(seen.to_json(), following)
        if draft is not None:
            files.write_json(draft / "telemetry.json", content)
    show = partial(show_telemetry, seen=seen, channels=channels)
    conclude(asked.json_, content, following, show, not seen.overflows)
