"""The verb `witness`: the runtime itself, run here, against the target that predicts it."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from intsim.cli.options import OnSamples, finish, progress, result, verb


@verb
@result
def witness(
    asked: OnSamples,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="seconds for the runtime and each sample")
    ] = 60.0,
) -> None:
    """Run the real runtime here and compare every code that it shows with what its target predicts."""
    target, model = asked.chosen, asked.loaded
    from intsim.report.witness import show_witness
    from intsim.verification.witness import runnable, witness_runtime

    runnable(target)
    with progress(2 * len(asked.data)) as step:
        told = witness_runtime(model, target, *asked.drawn, timeout=timeout, progress=step)
    finish(asked.json_, told.to_json(), partial(show_witness, told=told), told.holds)
