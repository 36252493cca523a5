"""The command line. Exit codes: 0 holds, 1 diverges or overflows, 2 bad usage or input."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from typing import Annotated, Any, NoReturn

from intsim.search_path import leave_working_directory

leave_working_directory()  # before anything is imported that isn't Python's own or intsim's

import typer  # noqa: E402

from intsim import __version__  # noqa: E402
from intsim.cli import (  # noqa: E402, F401 (each registers its verb)
    advise,
    area,
    bounds,
    certify,
    compare,
    cosim,
    emit,
    evaluate,
    identify,
    inspect,
    lower,
    narrow,
    report,
    run,
    search,
    sweep,
    targets,
    telemetry,
    vectors,
    verify,
    warmup,
    witness,
)
from intsim.cli.options import app, console  # noqa: E402
from intsim.errors import IntsimError  # noqa: E402
from intsim.report.text import printable  # noqa: E402


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    """Bit-exact integer execution of quantized networks."""
    if show:
        console().print(f"intsim {__version__}")
        raise typer.Exit


_stopped = "interrupted", 130
"""What is said of a process that a signal ends, and its exit code."""
USAGE_ERRORS: Any = typer.BadParameter.__mro__[2]
"""ClickException, of the click that typer uses: its own copy in later versions."""


def main() -> None:
    """Run the command line; every failure is one line on standard error."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (to the end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names in a file may hold what the encoding lacks
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="intsim", standalone_mode=False)
        sys.stdout.flush()
    except IntsimError as error:
        _fail(" ".join(str(error).split()))
    except USAGE_ERRORS as error:
        _fail(f"{' '.join(error.format_message().split())} (see intsim --help)")
    except KeyboardInterrupt:
        _fail(*_stopped)
    except BrokenPipeError:
        os._exit(0)
    except MemoryError:
        _fail("out of memory; run fewer samples or a smaller input")
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            _fail(f"{error.filename or 'standard output'}: can't be written: {error.strerror}")
        if os.environ.get("INTSIM_DEBUG"):
            raise
        reason = " ".join(str(error).split())[:300]
        _fail(f"internal error: {type(error).__name__}: {reason} (INTSIM_DEBUG=1 shows where; please report it)")
    if code == 130:
        _fail(*_stopped)
    sys.exit(code if len(sys.argv) > 1 else 2)


def _terminate(*_: object) -> None:
    """What SIGTERM does: it ends as Ctrl-C does, so that nothing half-written is left."""
    global _stopped
    _stopped = "terminated", 143
    raise KeyboardInterrupt


def _fail(text: str, code: int = 2) -> NoReturn:
    try:
        sys.stderr.write(f"intsim: {printable(text)}\n")
        sys.stderr.flush()
    except OSError:  # nobody can read it; the exit code says the same
        os._exit(code)
    sys.exit(code)
