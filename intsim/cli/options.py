"""What every verb shares: the application, its common options, reading inputs, progress, JSON on standard output.

Modules of the command line import at their beginning only what is light; a verb imports what it needs when it runs.
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from functools import cached_property, wraps
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_type_hints

import typer

from intsim.budget import VARIABLE, memory, set_memory
from intsim.engine.threads import BLAS, set_threads, threads
from intsim.errors import IntsimError
from intsim.jit.compile import watch_compiles

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from intsim.inputs import Drawn
    from intsim.model import Model
    from intsim.report.next_step import NextStep
    from intsim.targets import Target

HELP = "The command line. Exit codes: 0 holds, 1 diverges or overflows, 2 bad usage or input."
app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=HELP, rich_markup_mode=None
)
WIDTH = 80
"""Columns of output that goes elsewhere than to a terminal."""

METRIC_HELP = "mae, sqnr, psnr, agreement, top1, epe, d1, FILE.py:FUNCTION or MODULE:FUNCTION; may be given again"
LABELS_HELP = ".npy with a row a sample"
MOST_SAMPLES, MOST_SEED = 1_000_000, (1 << 63) - 1

ModelPath = Annotated[str, typer.Argument(metavar="MODEL", help="QONNX, QCDQ, QOperator or .tflite file")]
TargetName = Annotated[str, typer.Option("--target", "-t", help="a built-in target (intsim targets) or a TOML file")]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]
Shapes = Annotated[list[str] | None, typer.Option("--shape", help="fix a dynamic input: NAME=1,3,32,32")]
Ranges = Annotated[
    list[str] | None, typer.Option("--range", help="what an integer input can hold: NAME=0:99, both inclusive")
]
As = Annotated[str | None, typer.Option("--as", help="onnxruntime: read the graph that this runtime executes")]
Islands = Annotated[
    bool,
    typer.Option("--islands", help="run what can't be integers between integers in floats on the host: hybrid at best"),
]
Constants = Annotated[str | None, typer.Option("--constants", help=".npz with graph inputs that are scales or weights")]
InputsPath = Annotated[str | None, typer.Option("--inputs", "-i", help=".npz with one array an input, or .npy for one")]
Samples = Annotated[
    int, typer.Option("--samples", "-n", min=1, max=MOST_SAMPLES, help="samples to draw when there are no --inputs")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="seed of the drawn samples")]
Processes = Annotated[
    int, typer.Option("--processes", help="processes of this machine that share the work and the threads")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="tcp://HOST:PORT of a Dask cluster whose workers share the work")
]


Html = Annotated[Path | None, typer.Option("--html", help="file for a page that holds the result; extra explore")]
Junit = Annotated[Path | None, typer.Option("--junit", help="file for a JUnit report")]
Markdown = Annotated[Path | None, typer.Option("--markdown", help="file for a summary, as a pull request shows it")]


def use_threads(count: int | None) -> int | None:
    """What `--threads` does: it holds for the process, numpy's matrix products included if numpy isn't there yet."""
    set_threads(count)
    if count is not None and "numpy" not in sys.modules:
        for name in BLAS:
            os.environ.setdefault(name, str(count))
    threads()  # complains of a bad INTSIM_THREADS before any work
    return count


def use_memory(text: str | None) -> str | None:
    """What `--memory` does: it holds for the process and those that it starts."""
    set_memory(text)
    memory()  # complains of a bad INTSIM_MEMORY before any work
    if text is not None:
        os.environ[VARIABLE] = text
    return text


Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        callback=use_memory,
        help="most that may be taken, such as 8G; else INTSIM_MEMORY, else all that this process may use",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        callback=use_threads,
        help="threads; else INTSIM_THREADS, else all processors this process may use. Results don't depend on it",
    ),
]


@dataclass
class OnModel:
    """What a verb on a model is given: the file, and what opens it."""

    model: ModelPath
    json_: Json = False
    shape: Shapes = None
    range_: Ranges = None
    constants: Constants = None
    as_: As = None
    memory: Memory = None
    islands: Islands = False

    @property
    def read_as(self) -> str | None:
        """The runtime whose graph is read instead of the file's."""
        return self.as_

    @cached_property
    def loaded(self) -> Model:
        """The lowered model; of `--inputs`, arrays that are parameters of an operator become constants."""
        from intsim.frontend.reader import parameter_inputs
        from intsim.model import load

        shapes: dict[str, tuple[int, ...]] = {}
        for text in self.shape or []:
            name, _, dims = text.rpartition("=")
            try:
                shapes[name] = tuple(int(d) for d in dims.split(","))
            except ValueError:
                raise IntsimError(f"--shape {text}: not of the form NAME=1,3,32,32") from None
        ranges: dict[str, tuple[int, int]] = {}
        for text in self.range_ or []:
            name, _, ends = text.rpartition("=")
            try:
                low, high = map(int, ends.split(":"))
            except ValueError:
                raise IntsimError(f"--range {text}: not of the form NAME=0:99") from None
            ranges[name] = low, high
        fixed = arrays(self.constants, []) if self.constants else {}
        inputs = getattr(self, "inputs", None)
        if inputs is not None and inputs.endswith(".npz"):
            wanted = parameter_inputs(self.model)
            fixed |= {n: a for n, a in arrays(inputs, []).items() if n in wanted}
        if self.read_as is not None:
            if self.islands:
                what = f"the graph that {self.read_as} executes, which has no float islands"
                raise IntsimError(
                    f"--islands: {what}; remove --islands, or choose a target of registers (intsim targets)"
                )
            from intsim.verification.executed import load_executed

            return load_executed(self.model, self.read_as, fixed, shapes, ranges)
        return load(self.model, fixed, shapes, ranges, islands=self.islands)


@dataclass
class OnTarget(OnModel):
    """And a machine."""

    target: TargetName = "exact"

    @cached_property
    def chosen(self) -> Target:
        """The target itself."""
        from intsim.targets import Target

        return Target.load(self.target)

    @property
    def read_as(self) -> str | None:
        """As above; what the target predicts where nothing else is asked for."""
        return self.as_ or self.chosen.rewriter

    def command(self, verb: str, *more: object, target: str | None = None, data: bool = False) -> str:
        """What to type for another verb on the same model, opened the same way; `data`: on the same samples."""
        words: list[object] = ["intsim", verb, self.model]
        words += [] if verb in ("inspect", "advise") else ["-t", target or self.target]
        words += [word for text in self.shape or [] for word in ("--shape", text)]
        words += [word for text in self.range_ or [] for word in ("--range", text)]
        words += ["--constants", self.constants] if self.constants else []
        words += ["--as", self.as_] if self.as_ else []
        words += ["--memory", self.memory] if self.memory else []
        words += ["--islands"] if self.islands else []
        return shlex.join(map(str, [*words, *more]))


@dataclass
class OnSamples(OnTarget):
    """And data to run on."""

    inputs: InputsPath = None
    samples: Samples = 1
    seed: Seed = 0
    threads: Threads = None

    @cached_property
    def arrays(self) -> Mapping[str, NDArray[Any]] | None:
        """The arrays of `--inputs`; None where samples are drawn."""
        return None if self.inputs is None else arrays(self.inputs, list(self.loaded.lowered.source.inputs))

    @property
    def drawn(self) -> tuple[Mapping[str, NDArray[Any]] | None, int | None, int]:
        """What functions of `intsim` take as inputs, samples and seed."""
        return self.arrays, self.samples if self.inputs is None else None, self.seed

    @cached_property
    def data(self) -> Sequence[Mapping[str, NDArray[Any]]] | Drawn:
        """Single samples, given or drawn."""
        from intsim.inputs import samples_of

        return samples_of(self.loaded, *self.drawn)

    def command(self, verb: str, *more: object, target: str | None = None, data: bool = False) -> str:
        """As above; the file of `--inputs` goes along where it holds parameters."""
        from intsim.frontend.reader import parameter_inputs

        words: list[object] = list(more)
        opens = self.inputs is not None and self.inputs.endswith(".npz") and bool(parameter_inputs(self.model))
        if verb in ("bounds", "inspect"):
            words += ["--constants", self.inputs] if opens else []
        elif self.inputs is not None:
            words += ["--inputs", self.inputs] if data or opens else []
        elif data:
            words += ["--samples", self.samples] if self.samples != 1 else []
            words += ["--seed", self.seed] if self.seed else []
        return super().command(verb, *words, target=target)


LAST = ("html", "junit", "markdown", "memory", "threads", "json_", "shape", "range_", "constants", "as_", "islands")
"""Options that help lists behind a verb's own."""
FILES: dict[str, Any] = {"html": Html, "junit": Junit, "markdown": Markdown}
"""Into which every result can be written."""


class Concluded(typer.Exit):
    """A verb's end: the exit code, and the JSON of what it printed."""

    def __init__(self, code: int, content: dict[str, Any]) -> None:
        """As `typer.Exit`."""
        super().__init__(code)
        self.content = content


def result(function: Callable[..., None]) -> Callable[..., None]:
    """Give a verb that ends with `conclude` or `finish` the options `--html`, `--junit` and `--markdown`.

    That they can be written is seen before the work.
    """

    @wraps(function)
    def called(*given: Any, **named: Any) -> None:
        paths = {name: named.pop(name, None) for name in FILES}
        if not any(paths.values()):
            function(*given, **named)
            return
        from intsim.report.write import ready, write

        ready(**paths)
        try:
            function(*given, **named)
        except Concluded as done:
            write(done.content, function.__name__, **paths)
            raise

    called.__annotations__ = hints = {**get_type_hints(function, include_extras=True), **FILES}
    own = [p.replace(annotation=hints[n]) for n, p in inspect.signature(function).parameters.items()]
    more = [Parameter(n, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for n, kind in FILES.items()]
    called.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    return called


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Register a verb. The fields of its first parameter's class become options beside the verb's own."""
    hints = get_type_hints(function, include_extras=True)
    first, *own = inspect.signature(function).parameters.values()
    kind = hints[first.name]
    kinds = get_type_hints(kind, include_extras=True)
    shared = {f.name: Parameter(f.name, Parameter.KEYWORD_ONLY, annotation=kinds[f.name]) for f in fields(kind)}
    for f in fields(kind):
        shared[f.name] = shared[f.name].replace(default=Parameter.empty if f.default is MISSING else f.default)
    parameters = [p.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in own]
    head, tail = ([p for n, p in shared.items() if (n in LAST) == last] for last in (False, True))

    @wraps(function)
    def called(**given: Any) -> None:
        function(kind(**{name: given.pop(name) for name in shared}), **given)

    called.__signature__ = inspect.Signature([*head, *parameters, *tail])  # type: ignore[attr-defined]
    return app.command()(called)


def console() -> Console:
    """Standard output, for text and tables: as wide as the terminal, or as COLUMNS says."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # not rich's exit code 1, which says that something diverges

    fixed = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Output(width=WIDTH if fixed else None, highlight=False)


def one_array(path: str) -> NDArray[Any]:
    """The one array of an .npy or .npz file."""
    from intsim.inputs import arrays_of

    found = arrays_of(Path(path))
    if len(found) != 1:
        raise IntsimError(f"{path}: holds arrays {', '.join(found)}; give a file with one")
    return next(iter(found.values()))


def arrays(path: str, names: list[str]) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file by name, or of an .npy file for a model with a single input."""
    from intsim.inputs import arrays_of

    found = arrays_of(Path(path))
    if "" not in found:
        return found
    if len(names) != 1:
        raise IntsimError(f"{path}: holds one array, the model has inputs {', '.join(names)}; give an .npz")
    return {names[0]: found[""]}


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """A bar on standard error, on terminals only, that moves with each reported step.

    It also says what is being compiled, which happens once and may take seconds.
    """
    if not sys.stderr.isatty() and not os.environ.get("FORCE_COLOR"):
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), *times)
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=total)
        with watch_compiles(lambda name: bar.update(task, description=f"compiling {name} (once)")):
            yield lambda text: bar.update(task, description=text[:70], advance=1)


def conclude(
    json_: bool, content: dict[str, Any], step: NextStep | None, show: Callable[[Console], None], holds: bool | int
) -> NoReturn:
    """Print a result and what to do next, as JSON or as `show` does, and leave: with 0 where it holds, else with 1, or
    with the exit code that is given."""
    from intsim.report.next_step import show_step, with_step

    def both(console: Console) -> None:
        show(console)
        show_step(console, step)

    finish(json_, with_step(content, step), both, holds)


def readable(content: dict[str, Any]) -> str:
    """JSON for people as well."""
    return json.dumps(content, indent=1) + "\n"


def finish(
    json_: bool,
    content: dict[str, Any],
    show: Callable[[Console], None],
    holds: bool | int = True,
    text: Callable[[dict[str, Any]], str] = readable,
) -> NoReturn:
    """The same for a result with nothing to do, or whose JSON and `show` say what that is; `text` writes the JSON."""
    if json_:
        sys.stdout.write(text(content))
    else:
        show(console())
    raise Concluded(int(not holds) if isinstance(holds, bool) else holds, content)


def emit(content: dict[str, Any]) -> None:
    """JSON on standard output."""
    sys.stdout.write(readable(content))
