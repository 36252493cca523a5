"""The verb `evaluate`: metrics of a model on a target over a data set."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from intsim.cli.options import (
    LABELS_HELP,
    METRIC_HELP,
    OnTarget,
    Processes,
    Samples,
    Scheduler,
    Seed,
    Threads,
    finish,
    progress,
    result,
    verb,
)


@verb
@result
def evaluate(
    asked: OnTarget,
    data: Annotated[
        str | None, typer.Option("--data", help="folder or pattern of .npy and .npz files; else samples are drawn")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help=METRIC_HELP)] = None,
    labels: Annotated[str | None, typer.Option("--labels", help=LABELS_HELP)] = None,
    samples: Samples = 1,
    seed: Seed = 0,
    processes: Processes = 1,
    scheduler: Scheduler = None,
    threads: Threads = None,
) -> None:
    """Run a data set sample by sample: metrics with 95 % intervals, and overflows."""
    from intsim.explore.evaluate import evaluate as run
    from intsim.explore.evaluate import files_of
    from intsim.report.evaluation import show_evaluated

    total = samples if data is None else len(files_of(data))
    with progress(total) as step:
        done = run(
            asked.loaded,
            asked.chosen,
            data,
            samples if data is None else None,
            seed,
            metrics=metric or ["sqnr"],
            labels=labels,
            processes=processes,
            scheduler=scheduler,
            progress=step,
        )
    finish(asked.json_, done.to_json(), partial(show_evaluated, done=done))
