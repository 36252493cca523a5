"""The command line. Exit codes: 0 holds, 1 diverges or overflows, 2 bad usage or input."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import onnx
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from intsim import __version__
from intsim.errors import IntsimError
from intsim.inspect import inspect as inspect_model
from intsim.model import Model, load
from intsim.proofs.bounds import bounds as prove_bounds
from intsim.report import files, terminal
from intsim.targets import Target
from intsim.verify.samples import Samples as Drawn
from intsim.verify.samples import each_sample
from intsim.verify.verify import verify as verify_model

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__, rich_markup_mode=None
)
WIDTH = 110
"""Columns of tables that are not shown on a terminal."""
console = Console() if sys.stdout.isatty() else Console(width=WIDTH)

MOST_SAMPLES, MOST_SEED = 1_000_000, (1 << 63) - 1

ModelPath = Annotated[str, typer.Argument(metavar="MODEL", help="a QONNX, QCDQ or QOperator file")]
TargetName = Annotated[str, typer.Option("--target", "-t", help="a built-in target (intsim targets) or a TOML file")]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]
Shapes = Annotated[list[str] | None, typer.Option("--shape", help="fix a dynamic input: NAME=1,3,32,32")]
Constants = Annotated[str | None, typer.Option("--constants", help=".npz with graph inputs that are scales or weights")]
InputsPath = Annotated[str | None, typer.Option("--inputs", "-i", help=".npz with one array an input, or .npy for one")]
Samples = Annotated[
    int, typer.Option("--samples", "-n", min=1, max=MOST_SAMPLES, help="samples to draw when there are no --inputs")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="seed of the drawn samples")]


def arrays(path: str, names: list[str]) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file by name, or of an .npy file for a model with a single input."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            if len(names) != 1:
                raise IntsimError(f"{path}: holds one array, the model has inputs {', '.join(names)}; give an .npz")
            return {names[0]: found}
        with found:
            return {n: found[n] for n in found.files}
    except IntsimError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise many kinds for a damaged file
        raise IntsimError(f"{path}: not a readable .npy or .npz file: {' '.join(str(error).split())}") from error


def opened(path: str, shapes: list[str] | None, constants: str | None, inputs: str | None = None) -> Model:
    """The lowered model; arrays of `inputs` that are parameters of an operator become constants."""
    from intsim.frontend.reader import parameter_inputs

    given: dict[str, tuple[int, ...]] = {}
    for text in shapes or []:
        name, _, dims = text.rpartition("=")
        try:
            given[name] = tuple(int(d) for d in dims.split(","))
        except ValueError:
            raise IntsimError(f"--shape {text}: not of the form NAME=1,3,32,32") from None
    fixed = arrays(constants, []) if constants else {}
    if inputs is not None and inputs.endswith(".npz"):
        wanted = parameter_inputs(path)
        fixed |= {n: a for n, a in arrays(inputs, []).items() if n in wanted}
    return load(path, fixed, given)


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """A bar on standard error, on terminals only, that moves with each reported step."""
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda text: bar.update(task, description=text[:70], advance=1)


def emit(content: dict[str, Any]) -> None:
    """JSON on standard output."""
    sys.stdout.write(json.dumps(content, indent=1) + "\n")


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
    json_: Json = False,
    shape: Shapes = None,
    constants: Constants = None,
) -> None:
    """Prove what every accumulator can reach, for all inputs, and whether the target's registers suffice."""
    found = prove_bounds(opened(model, shape, constants), Target.load(target))
    emit(found.to_json()) if json_ else terminal.show_bounds(console, found)
    raise typer.Exit(0 if found.safe else 1)


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(help="a target to explain")] = None, json_: Json = False
) -> None:
    """List the built-in targets, or explain one in words."""
    chosen = [Target.load(n) for n in ([name] if name else Target.names())]
    if json_:
        emit({t.name: t.model_dump(mode="json") for t in chosen})
    elif name:
        console.print(chosen[0].describe(), markup=False, highlight=False)
    else:
        terminal.show_targets(console, chosen)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    """Bit-exact integer execution of quantized networks."""
    if show:
        console.print(f"intsim {__version__}")
        raise typer.Exit


USAGE_ERRORS: Any = typer.BadParameter.__mro__[2]
"""ClickException, of the click that typer uses: its own copy in later versions."""


def main() -> None:
    """Run the command line; every failure is one line on standard error."""
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="intsim", standalone_mode=False)
        sys.stdout.flush()
    except IntsimError as error:
        _fail(" ".join(str(error).split()))
    except USAGE_ERRORS as error:
        _fail(f"{' '.join(error.format_message().split())} (see intsim --help)")
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        os._exit(0)
    except MemoryError:
        _fail("out of memory; run fewer samples or a smaller input")
    except Exception as error:
        if os.environ.get("INTSIM_DEBUG"):
            raise
        reason = " ".join(str(error).split())[:300]
        _fail(f"internal error: {type(error).__name__}: {reason} (INTSIM_DEBUG=1 shows where; please report it)")
    if code == 130:
        _fail("interrupted", 130)
    sys.exit(code if len(sys.argv) > 1 else 2)


def _fail(text: str, code: int = 2) -> NoReturn:
    # names in a file may hold what moves a terminal's cursor
    sys.stderr.write(f"intsim: {''.join(c if c.isprintable() else '?' for c in text)}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
