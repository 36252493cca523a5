"""``python -m bench``: measure, write out/bench/results.json, print the bars. See `make bench`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status

import bench.one_thread  # noqa: F401  # before whatever loads BLAS
from bench import beside, growth
from bench.contestants import contestants
from bench.environment import environment
from bench.networks import FOLDER, NETWORKS, ROOT
from bench.overflow_check import overflow_check
from bench.peers.compare import compare
from bench.proving import proving
from bench.race import one_line, race
from bench.report import print_bars, write_page
from bench.start import start

RESULTS = ROOT / "out" / "bench" / "results.json"
Section = Callable[[Callable[[str], None]], dict[str, Any]]

console = Console(stderr=True)


def sections(quick: bool, cpus: set[int]) -> dict[str, Section]:
    """Every measurement by name, in order."""
    entered = contestants(quick)
    races = {
        name: partial(lambda make, progress: race(make(), entered, 0.7 if quick else 1.5, progress), make)
        for name, make in NETWORKS.items()
        if not quick or name in ("unet", "h3dispnet", "mlp64")
    }
    return {
        **races,
        "architectures": partial(beside.section, quick),
        "peers": partial(compare, quick),
        "overflow_check": partial(overflow_check, quick),
        "proving": partial(proving, quick),
        "growth": partial(growth.growth, quick),
        "threads": partial(growth.threads, quick, cpus=cpus),
        "memory": partial(growth.memory, quick),
        "instruction sets": partial(growth.instruction_sets, quick),
        "start": partial(start, quick),
    }


def say(status: Status, name: str, text: str) -> None:
    """Show what is being measured."""
    status.update(f"{name}: {text}")


def read(path: Path) -> dict[str, Any]:
    """Results of before, or none."""
    return json.loads(path.read_text()) if path.is_file() else {"sections": {}}


def write(path: Path, results: dict[str, Any]) -> None:
    """Replace the file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(results, indent=1) + "\n")
    draft.replace(path)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="a minute or two: fewer contestants, smaller sizes")] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="this section only; may be repeated")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="keep sections that were measured already")] = False,
    page: Annotated[bool, typer.Option(help="write docs/measured/performance.md")] = True,
) -> None:
    """Measure intsim beside other executors on one thread; results go to out/bench/results.json."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if cpus:
        os.sched_setaffinity(0, {max(cpus)})
    plan = sections(quick, cpus)
    unknown = [name for name in only or [] if name not in plan]
    if unknown:
        raise typer.BadParameter(f"no section {unknown[0]!r}; there are {', '.join(plan)}")
    results = read(RESULTS) if only or resume else {"sections": {}}
    results["environment"] = {**environment(), "cores": len(cpus) or os.cpu_count(), "quick": quick}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, measure in plan.items():
        if (only and name not in only) or (resume and name in results["sections"]):
            continue
        begin = time.perf_counter()
        with Status(name, console=console) as status:
            try:
                found = measure(partial(say, status, name))
            except Exception as error:
                found = {"reason": one_line(error)}
        found["load"] = round(os.getloadavg()[0], 2)
        found["seconds"] = round(time.perf_counter() - begin, 1)
        results["sections"][name] = found
        write(RESULTS, results)
        console.print(f"{name}: {found['seconds']} s" + (f", {found['reason']}" if "reason" in found else ""))
    if page:
        console.print(f"wrote {write_page(results).relative_to(ROOT)}")
    print_bars(results)


if __name__ == "__main__":
    typer.run(main)
