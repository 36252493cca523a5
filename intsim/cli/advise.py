"""The verb `advise`: on which runtimes the network computes what its file says."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from intsim.cli.options import InputsPath, OnModel, Samples, Seed, Threads, arrays, finish, progress, result, verb


@verb
@result
def advise(
    asked: OnModel,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="a target; else every built-in one of a runtime")
    ] = None,
    inputs: InputsPath = None,
    samples: Samples = 1,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Say for each runtime whether the network is exact there, for every input or on these, and what helps where
    not."""
    model = asked.loaded
    from intsim.explore.advice import advise as consider
    from intsim.explore.advice import runtime_targets
    from intsim.report.advice import show_advice

    given = None if inputs is None else arrays(inputs, list(model.lowered.source.inputs))
    chosen = target or runtime_targets()
    with progress(len(chosen)) as step:
        told = consider(model, given, samples if given is None else None, seed, targets=chosen, progress=step)
    finish(asked.json_, told.to_json(), partial(show_advice, told=told), told.holds)
