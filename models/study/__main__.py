"""The study's commands: ``python -m models.study train|outputs|measure|cost|zoo|report [RUN ...]``.

`train` trains runs (RECIPE_sSEED, or RECIPE for all seeds) from their recipes, and goes on where it was interrupted;
`outputs` quantizes them and runs them on every target; `measure` turns that into models/study/results/RUN.json; `cost`
measures size and time again, on an idle machine; `zoo` collects seed 0 of what was exported into models/zoo/study;
`report` makes models/study.md and its plots from the stored results alone.
"""

from __future__ import annotations

import argparse
import sys

from rich.progress import Progress

from intsim.errors import IntsimError
from models.study import runs


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m models.study", description=__doc__)
    parser.add_argument("verb", choices=("train", "outputs", "measure", "cost", "zoo", "report"))
    parser.add_argument("runs", nargs="*", metavar="RUN", help="RECIPE_sSEED, or RECIPE for seeds 0, 1, 2")
    parser.add_argument("--device", default="cpu", help="for train: cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; 1 repeats bit for bit")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "report":
            from models.study.report import write

            print(write(runs.RESULTS, runs.PAGE, runs.IMAGES))
            return
        if arguments.verb == "zoo":
            from models.study.zoo import collect

            print(*collect(), sep="\n")
            return
        work(arguments.verb, runs.expand(arguments.runs), arguments.device, arguments.threads)
    except IntsimError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from there", file=sys.stderr)
        sys.exit(130)


def work(verb: str, chosen: list[str], device: str, threads: int) -> None:
    """One verb on each run in turn."""
    import torch  # slow to import, and not needed for the report

    torch.set_num_threads(threads)
    if verb == "train":
        from models.train import train

        for run in chosen:
            print(train(runs.recipe_of(run), runs.checkpoint(run).parent, device))
        return
    from models.study.measure import measure, measure_cost
    from models.study.outputs import outputs

    with Progress(transient=True) as progress:
        task = progress.add_task(verb, total=len(chosen))
        for run in chosen:
            if verb == "cost":
                progress.console.print(str(measure_cost(run)), highlight=False)
                progress.advance(task)
                continue

            def note(line: str, run: str = run) -> None:
                progress.update(task, description=f"{run}: {line}")

            path = outputs(run, note=note)
            progress.console.print(str(measure(run) if verb == "measure" else path), highlight=False)
            progress.advance(task)


if __name__ == "__main__":
    main()
