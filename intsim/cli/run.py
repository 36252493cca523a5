"""The verb `run`: outputs and codes on a target, and where the time went."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intsim.cli.options import OnSamples, conclude, progress, result, verb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from intsim.engine.program.program import LayerProfile


@verb
@result
def run(
    asked: OnSamples,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=".npz for outputs and codes")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="show kernel, time and memory of each layer")] = False,
    counts: Annotated[
        bool,
        typer.Option(help="count overflow events; without, only the registers of channels that have some (faster)"),
    ] = True,
) -> None:
    """Run a model as integers on a target; the .npz holds each output, and its integers as NAME.codes."""
    target, model, data = asked.chosen, asked.loaded, asked.data
    import numpy as np

    from intsim.report import files
    from intsim.report.next_step import widen
    from intsim.report.profile import profile_json
    from intsim.report.run import show_summary, summary

    results: dict[str, list[NDArray[Any]]] = {}
    records: list[list[LayerProfile]] = []
    events, seconds, once, live = 0, 0.0, 0.0, 0
    path = None if out is None else out if out.suffix == ".npz" else out.with_name(out.name + ".npz")
    with files.file(path) if path is not None else nullcontext() as draft:
        with progress((len(data) + profile) * len(model.graph.nodes)) as step:
            if profile:  # the first run plans, and loads or compiles kernels
                began = time.perf_counter()
                model.run(next(iter(data)), target, progress=step, counts=counts)
                once = time.perf_counter() - began
            for sample in data:
                records.append([])
                recorded: dict[str, Any] = {"profile": records[-1]} if profile else {}
                began = time.perf_counter()
                ran = model.run(sample, target, progress=step, counts=counts, **recorded)
                seconds += time.perf_counter() - began
                live = max(live, ran.live_bytes)
                codes = {_codes_name(n, ran.outputs): c for n, c in ran.codes.items()}
                for name, array in [*ran.outputs.items(), *codes.items()]:
                    results.setdefault(name, []).append(array)
                events += sum(int(e.sum()) for e in ran.overflows.values())
        stacked = {n: a[0] if len(a) == 1 else np.stack(a) for n, a in results.items()}
        if draft is not None:
            np.savez(draft, allow_pickle=False, **{n: _storable(a) for n, a in stacked.items()})
    content: dict[str, Any] = {"format": "intsim-run-1", "model": model.path, "target": target.name}
    content |= {"overflows": events, "counted": counts, "outputs": summary(stacked)}
    if profile:
        content["profile"] = profile_json(records, seconds, max(once - seconds / len(data), 0.0), live)

    conclude(asked.json_, content, widen(asked) if events else None, partial(show_summary, ran=content), not events)


def _codes_name(name: str, outputs: Mapping[str, Any]) -> str:
    """NAME.codes, with a # behind for every output of the file that has the name already."""
    codes = f"{name}.codes"
    while codes in outputs:
        codes += "#"
    return codes


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """Sub-byte types as int8 or uint8, which .npz can hold."""
    kinds = {"int4": "int8", "int2": "int8", "uint4": "uint8", "uint2": "uint8"}
    return array.astype(kinds[array.dtype.name]) if array.dtype.name in kinds else array
