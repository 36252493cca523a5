"""Verbs that show, lower and verify a model, bound its sums, and explain targets."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from intsim.model import Model


@app.command()
def inspect(model: ModelPath, json_: Json = False, shape: Shapes = None, constants: Constants = None) -> None:
    """Show the integer layers of a model: widths, multiply-accumulates, host work."""
    from intsim.inspect import inspect as inspect_model
    from intsim.report.terminal import show_inspection

    found = inspect_model(opened(model, shape, constants))
    emit(found) if json_ else show_inspection(console(), found)


@app.command()
def lower(
    model: ModelPath,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write")],
    json_: Json = False,
    shape: Shapes = None,
    constants: Constants = None,
) -> None:
    """Write the lowering steps: the file, host prologue, integer graph (JSON and .npz), host epilogue."""
    import onnx

    from intsim.report import files

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
        console().print(f"{len(loaded.graph.nodes)} integer nodes; wrote {', '.join(written)} to {out}")


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
    threads: Threads = None,
    json_: Json = False,
    shape: Shapes = None,
    constants: Constants = None,
) -> None:
    """Compare a target's integers with exact semantics, layer by layer, and blame every difference."""
    from intsim.mac.operands import multiplier_operands
    from intsim.ops import OPS, Mac
    from intsim.targets import Target

    chosen = Target.load(target)
    loaded = opened(model, shape, constants, inputs)
    for node in loaded.graph.nodes:  # what is refused is refused before anything is said
        if isinstance(op := OPS[node.op], Mac):
            tensors = [loaded.graph.tensors[i] for i in node.inputs]
            multiplier_operands(node, op, tensors, chosen.registers.activation, chosen.registers.weight)
    given = given_samples(loaded, inputs)
    count = samples if given is None else len(given)
    data = None if inputs is None else arrays(inputs, list(loaded.lowered.source.inputs))
    for sample in given or ():
        loaded.check_inputs(sample)
    from intsim.report import files

    with files.folder(out) if out is not None else nullcontext() as draft:
        if not json_:
            _announce(loaded, chosen.name, count)  # what follows imports much and takes longer
        from intsim.report.terminal import show_verdict
        from intsim.verification.verify import verify as verify_model

        with progress(count * (2 + 4 * references)) as step:
            verdict = verify_model(loaded, chosen, data, samples, seed, references, reference_timeout, step)
        if draft is not None:
            files.write_json(draft / "verdict.json", verdict.to_json())
            files.write_junit(draft / "verdict.xml", verdict)
            loaded.graph.save(draft / "integer_graph")
    emit(verdict.to_json()) if json_ else show_verdict(console(), verdict)
    raise typer.Exit(0 if verdict.holds else 1)


def _announce(model: Model, target: str, samples: int) -> None:
    """One line about what is going to be verified."""
    from intsim.inspect import inspect as inspect_model
    from intsim.report.numbers import number

    found = inspect_model(model)
    size = f"{len(found['layers'])} layers, {number(found['macs'])} MACs, {number(found['weights'])} weights"
    console().print(
        f"{model.path}: {size}; {target} on {samples} sample(s)", markup=False, highlight=False, soft_wrap=True
    )


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
    from intsim.proofs.bounds import bounds as prove_bounds
    from intsim.report import files
    from intsim.report.bounds import show_bounds, write_witnesses
    from intsim.targets import Target

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
        show_bounds(console(), found, lines)
    raise typer.Exit(0 if found.safe else 1)


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(help="a target to explain")] = None, json_: Json = False
) -> None:
    """List the built-in targets and families of targets, or explain one target in words."""
    from intsim.targets import Target

    chosen = [Target.load(n) for n in ([name] if name else Target.names())]
    families = () if name else Target.families()
    if json_:
        listed = {f.name: {"title": f.title, "family": [f.low, f.high]} for f in families}
        emit({t.name: t.model_dump(mode="json") for t in chosen} | listed)
    elif name:
        console().print(chosen[0].describe(), markup=False, highlight=False, soft_wrap=True)
    else:
        from intsim.report.terminal import show_targets

        show_targets(console(), chosen, families)
