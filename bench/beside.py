"""``python -m bench.beside``: intsim on a target beside ONNX Runtime on the same QDQ file, one network after another.

Both take turns in one process on one thread, CPU time, medians; the profile is of the quickest of a few runs, by kind
of step. ``--json FILE`` keeps the figures, ``--profile`` prints the kinds of steps.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import bench.one_thread  # noqa: F401  # before whatever loads BLAS
from bench.architectures import ARCHITECTURES, architecture
from bench.contestants import session
from bench.networks import FOLDER
from bench.race import one_line
from bench.timing import take_turns


def kinds(records: list[Any]) -> list[tuple[str, float, int]]:
    """Operators and kernel, milliseconds and how many steps, the most time first."""
    spent: dict[str, list[float]] = defaultdict(list)
    for r in records:
        spent[f"{r.op}: {r.kernel}"].append(1e3 * r.seconds)
    return sorted(((k, sum(v), len(v)) for k, v in spent.items()), key=lambda one: -one[1])


def beside(name: str, target: str, seconds: float) -> dict[str, Any]:
    """Both times, their ratio, and the quickest profile of some runs."""
    import intsim

    file, inputs = architecture(name, FOLDER)
    model, machine = intsim.load(file), intsim.Target.load(target)
    peer = session(file, "ALL")
    runs = {
        "intsim": lambda: model.run(inputs, machine, counts=False),
        "ORT": lambda: peer.run(None, inputs),
    }
    for run in runs.values():
        run()
    timings = {k: t.to_json() for k, t in take_turns(runs, seconds, most=400).items()}
    profiles = []
    for _ in range(7):
        records: list[Any] = []
        model.run(inputs, machine, counts=False, profile=records)
        profiles.append((sum(r.seconds for r in records), records))
    best = min(profiles, key=lambda one: one[0])
    return {
        "name": name,
        "target": target,
        "intsim_ms": timings["intsim"]["cpu_ms"],
        "ort_ms": timings["ORT"]["cpu_ms"],
        "ratio": timings["intsim"]["cpu_ms"] / timings["ORT"]["cpu_ms"],
        "ratio_of_least": timings["intsim"]["cpu_min_ms"] / timings["ORT"]["cpu_min_ms"],
        "steps_ms": 1e3 * best[0],
        "steps": len(best[1]),
        "kinds": kinds(best[1]),
    }


def section(quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Rows of all networks for the page; one that fails has a `reason`."""
    rows = []
    for name in ARCHITECTURES:
        progress(name)
        try:
            rows.append(beside(name, "exact", 0.5 if quick else 2.0))
        except Exception as error:
            rows.append({"name": name, "reason": one_line(error)})
    return {"rows": rows}


def main(
    only: Annotated[list[str] | None, typer.Option("--only", help="this network only; may be repeated")] = None,
    target: Annotated[str, typer.Option(help="intsim's target")] = "exact",
    seconds: Annotated[float, typer.Option(help="of each contestant and network")] = 2.0,
    profile: Annotated[bool, typer.Option("--profile", help="kinds of steps, the most time first")] = False,
    keep: Annotated[Path | None, typer.Option("--json", help="where the figures go")] = None,
) -> None:
    """CPU milliseconds a run and the ratio to ONNX Runtime."""
    found = []
    for name in only or ARCHITECTURES:
        row = beside(name, target, seconds)
        found.append(row)
        print(
            f"{name:20} intsim {row['intsim_ms']:8.3f} ms  ORT {row['ort_ms']:8.3f} ms  ratio {row['ratio']:.2f} "
            f"(of the least {row['ratio_of_least']:.2f})  {row['steps']} steps {row['steps_ms']:.3f} ms",
            flush=True,
        )
        if profile:
            for kind, spent, count in row["kinds"][:16]:
                print(f"    {spent:8.3f} ms {count:4} x {kind}")
    if keep is not None:
        keep.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
