"""What every verb shares: the application, its common options, reading inputs, progress, JSON on standard output.

Modules of the command line import at their beginning only what is light; a verb imports what it needs when it runs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intsim.engine.threads import set_threads, threads
from intsim.errors import IntsimError
from intsim.jit.compile import watch_compiles

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from intsim.model import Model

HELP = "The command line. Exit codes: 0 holds, 1 diverges or overflows, 2 bad usage or input."
app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=HELP, rich_markup_mode=None
)
WIDTH = 110
"""Columns of tables that are not shown on a terminal."""
BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS")
"""What numpy's matrix products look at, once, when numpy is imported."""

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


def use_threads(count: int | None) -> int | None:
    """What `--threads` does: it holds for the process, numpy's matrix products included if numpy isn't there yet."""
    set_threads(count)
    if count is not None and "numpy" not in sys.modules:
        for name in BLAS:
            os.environ.setdefault(name, str(count))
    threads()  # complains of a bad INTSIM_THREADS before any work
    return count


Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        callback=use_threads,
        help="threads; else INTSIM_THREADS, else all processors this process may use. Results don't depend on it",
    ),
]


@cache
def console() -> Console:
    """Standard output, for text and tables."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def arrays(path: str, names: list[str]) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file by name, or of an .npy file for a model with a single input."""
    import numpy as np

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
    from intsim.model import load

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


def given_samples(model: Model, inputs: str | None) -> Sequence[Mapping[str, NDArray[Any]]] | None:
    """Single samples of the file given with `--inputs`; None without one."""
    if inputs is None:
        return None
    from intsim.verification.samples import each_sample

    return each_sample(model, arrays(inputs, list(model.lowered.source.inputs)))


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """A bar on standard error, on terminals only, that moves with each reported step.

    It also says what is being compiled, which happens once and may take seconds.
    """
    if not sys.stderr.isatty() and not os.environ.get("FORCE_COLOR"):
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=total)
        with watch_compiles(lambda name: bar.update(task, description=f"compiling {name} (once)")):
            yield lambda text: bar.update(task, description=text[:70], advance=1)


def emit(content: dict[str, Any]) -> None:
    """JSON on standard output."""
    sys.stdout.write(json.dumps(content, indent=1) + "\n")
