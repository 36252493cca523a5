"""Verbs that show, lower, run and verify a model, and explain targets."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from numpy.typing import NDArray

from intsim.cli.options import (
    Constants,
    InputsPath,
    Json,
    ModelPath,
    Samples,
    Seed,
    Shapes,
    TargetName,
    app,
    arrays,
    console,
    emit,
    opened,
    progress,
)
from intsim.inspect import inspect as inspect_model
from intsim.proofs.bounds import bounds as prove_bounds
from intsim.report import files, terminal
from intsim.report.bounds import show_bounds, write_witnesses
from intsim.targets import Target
from intsim.verify.samples import Samples as Drawn
from intsim.verify.samples import each_sample
from intsim.verify.verify import verify as verify_model


@app.command()
def inspect(model: ModelPath, json_: Json = False, shape: Shapes = None, constants: Constants = None) -> None:
    """Show the integer layers of a model: widths, multiply-accumulates, host work."""
    found = inspect_model(opened(model, shape, constants))
    emit(found) if json_ else terminal.show_inspection(console, found)


@app.command()
def lower(
    model: ModelPath,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write")],
    json_: Json = False,
    shape: Shapes = None,
    constants: Constants = None,
) -> None:
    """Write the lowering steps: the file, host prologue, integer graph (JSON and .npz), host epilogue."""
    loaded = opened(model, shape, constants)
    with files.folder(out) as draft:
        (draft / "0_source.onnx").write_bytes(loaded.lowered.source.proto.SerializeToString())
        onnx.save(loaded.lowered.prologue.model(), str(draft / "1_prologue.onnx"))
        loaded.graph.save(draft / "2_graph")
        onnx.save(loaded.lowered.epilogue.model(), str(draft / "3_epilogue.onnx"))
    written = ["0_source.onnx", "1_prologue.onnx", "2_graph.json", "2_graph.npz", "3_epilogue.onnx"]
    if json_:
        emit({"model": loaded.path, "nodes": len(loaded.graph.nodes), "files": [str(out / f) for f in written]})
    else:
        console.print(f"{len(loaded.graph.nodes)} integer nodes; wrote {', '.join(written)} to {out}")


@app.command()
def run(
    model: ModelPath,
    inputs: InputsPath = None,
    target: TargetName = "exact",
    out: Annotated[Path | None, typer.Option("--out", "-o", help=".npz for outputs and codes")] = None,
    samples: Samples = 1,
    seed: Seed = 0,
    json_: Json = False,
    shape: Shapes = None,
    constants: Constants = None,
) -> None:
    """Run a model as integers on a target; the .npz holds each output, and its integers as NAME.codes."""
    chosen = Target.load(target)
    loaded = opened(model, shape, constants, inputs)
    names = list(loaded.lowered.source.inputs)
    data = each_sample(loaded, arrays(inputs, names)) if inputs else Drawn(loaded, samples, seed)
    results: dict[str, list[NDArray[Any]]] = {}
    events = 0
    path = None if out is None else out if out.suffix == ".npz" else out.with_name(out.name + ".npz")
    with files.file(path) if path is not None else nullcontext() as draft:
        with progress(len(data) * len(loaded.graph.nodes)) as step:
            for sample in data:
                ran = loaded.run(sample, chosen, progress=step)
                for name, array in [*ran.outputs.items(), *((f"{n}.codes", c) for n, c in ran.codes.items())]:
                    results.setdefault(name, []).append(array)
                events += sum(int(e.sum()) for e in ran.overflows.values())
        stacked = {n: a[0] if len(a) == 1 else np.stack(a) for n, a in results.items()}
        if draft is not None:
            np.savez(draft, allow_pickle=False, **{n: _storable(a) for n, a in stacked.items()})
    summary = {n: _summary(a) for n, a in stacked.items()}
    if json_:
        emit({"model": loaded.path, "target": chosen.name, "overflows": events, "outputs": summary})
    else:
        for name, s in summary.items():
            console.print(f"{name}  {s['dtype']} {s['shape']}  {s['min']}..{s['max']}", markup=False)
        console.print(f"{events} overflow events on {chosen.name}", markup=False)
    raise typer.Exit(1 if events else 0)


def _summary(array: NDArray[Any]) -> dict[str, Any]:
    """Shape, type and extremes; an extreme that is not finite is given as text, which JSON can hold."""
    ends = [a.item() for a in (array.min(), array.max())]
    low, high = (e if np.isfinite(float(e)) else str(e) for e in ends)
    return {"shape": list(array.shape), "dtype": str(array.dtype), "min": low, "max": high}


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """Sub-byte types as int8 or uint8, which .npz can hold."""
    if array.dtype.name in ("int4", "int2"):
        return array.astype(np.int8)
    return array.astype(np.uint8) if array.dtype.name in ("uint4", "uint2") else array


@app.command()
def verify(
    model: ModelPath,
    target: TargetName = "exact",
    inputs: InputsPath = None,
    samples: Samples = 1,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for verdict.json, JUnit, integer graph")
    ] = None,
    references: Annotated[bool, typer.Option(help="ask qonnx and ONNX Runtime as well")] = True,
    reference_timeout: Annotated[float, typer.Option(min=0.1, help="seconds for each executor and sample")] = 15.0,
    json_: Json = False,
    shape: Shapes = None,
    constants: Constants = None,
) -> None:
    """Compare a target's integers with exact semantics, layer by layer, and blame every difference."""
    chosen = Target.load(target)
    loaded = opened(model, shape, constants, inputs)
    data = arrays(inputs, list(loaded.lowered.source.inputs)) if inputs else None
    count = len(each_sample(loaded, data)) if data is not None else samples
    with files.folder(out) if out is not None else nullcontext() as draft:
        with progress(count * (2 + 4 * references)) as step:
            verdict = verify_model(loaded, chosen, data, samples, seed, references, reference_timeout, step)
        if draft is not None:
            files.write_json(draft / "verdict.json", verdict.to_json())
            files.write_junit(draft / "verdict.xml", verdict)
            loaded.graph.save(draft / "integer_graph")
    emit(verdict.to_json()) if json_ else terminal.show_verdict(console, verdict)
    raise typer.Exit(0 if verdict.holds else 1)


@app.command()
def bounds(
    model: ModelPath,
    target: TargetName = "exact",
    witness: Annotated[
        Path | None, typer.Option("--witness", help="folder for inputs that attain the bounds, one .npz a layer")
    ] = None,
    json_: Json = False,
    shape: Shapes = None,
    constants: Constants = None,
) -> None:
    """Prove what every accumulator can reach, for all inputs, and whether the target's registers suffice."""
    chosen = Target.load(target)
    loaded = opened(model, shape, constants)
    found = prove_bounds(loaded, chosen)
    lines = None
    if witness is not None:
        with files.folder(witness) as draft:
            lines = write_witnesses(draft, loaded.graph, chosen.registers)
    if json_:
        emit(found.to_json() | ({} if lines is None else {"witnesses": lines}))
    else:
        show_bounds(console, found, lines)
    raise typer.Exit(0 if found.safe else 1)


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(help="a target to explain")] = None, json_: Json = False
) -> None:
    """List the built-in targets and families of targets, or explain one target in words."""
    chosen = [Target.load(n) for n in ([name] if name else Target.names())]
    families = () if name else Target.families()
    if json_:
        listed = {f.name: {"title": f.title, "family": [f.low, f.high]} for f in families}
        emit({t.name: t.model_dump(mode="json") for t in chosen} | listed)
    elif name:
        console.print(chosen[0].describe(), markup=False, highlight=False, soft_wrap=True)
    else:
        terminal.show_targets(console, chosen, families)
