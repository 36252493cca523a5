"""A Python process for a float executor, apart from the user's folder, that doesn't outlive the one that started it.

Worker processes of sweeps are such children too, which import from all places where their parent does.

It imports from where its parent does, but not from the working directory and not by the environment; it works in an
empty private folder and gets no input but the request. `start` is the parent's part, `main` what the process runs.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from intsim.search_path import trusted_path

BOOT = """import sys
sys.path[:] = sys.argv[3:]
from intsim.verification.process import child
with child(sys.argv[2]) as (request, result):
    from intsim.verification.executors import answer
    answer(sys.argv[1], request, result)
"""
"""What the child process runs; what an executor needs is imported once the parent is watched."""
LOADERS = ("LD_PRELOAD", "LD_AUDIT", "LD_DEBUG_OUTPUT", "LD_PROFILE", "GCONV_PATH", "DYLD_INSERT_LIBRARIES")
"""Variables that put code into a process, or files into its folder. LD_LIBRARY_PATH stays: executors may need it."""
SET_PARENT_DEATH_SIGNAL = 1
WATCH_SECONDS = 0.25


def start(kind: str, folder: str, request: IO[bytes], result: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the executor `kind` in the empty private `folder`; it reads `request` and writes `result`.

    Raises OSError where no process can be started.
    """
    return subprocess.Popen(
        command(BOOT, kind, folder, trusted_path()), cwd=folder, env=environment(), stdin=request, stdout=result,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def command(boot: str, kind: str, folder: str, path: Sequence[str]) -> list[str]:
    """What starts an isolated Python that runs `boot`, with `kind`, `folder` and where it imports from as arguments."""
    flags = ["-I", "-W", "ignore"]
    if sys.dont_write_bytecode:
        flags.append("-B")
    if sys.pycache_prefix and os.path.isabs(sys.pycache_prefix):
        flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return [sys.executable, *flags, "-c", boot, kind, folder, *path]


def environment() -> dict[str, str]:
    """The environment without Python's variables and without those that load code into processes."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k not in LOADERS}


@contextmanager
def child(folder: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """In the child process: the request and where its result goes, until the parent ends; then remove the folder."""
    _end_with_parent(folder)
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(os.dup(0), "rb") as request, os.fdopen(os.dup(1), "wb") as result:
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)  # who asks gets nothing, and who prints disturbs nothing
        os.dup2(nowhere, 1)
        try:
            yield request, result
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _end_with_parent(folder: str) -> None:
    """Watch the parent in a thread; when it's gone remove `folder` and leave.

    A parent that ended closed the other end of standard error, and left this process to another one. The kernel's
    signal (on Linux) ends a process whose thread can't run as compiled code holds Python's lock: a second later, by an
    alarm, as that leaves the thread the time to clean up.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            libc: Any = ctypes.CDLL(None)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM, signal.SIGHUP})
            libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
            libc.signal.restype = ctypes.c_void_p
            # a handler gets the signal's number: SIGHUP is 1, and alarm(1) ends the process in one second
            libc.signal(int(signal.SIGHUP), ctypes.cast(libc.alarm, ctypes.c_void_p))
            libc.prctl(SET_PARENT_DEATH_SIGNAL, int(signal.SIGHUP), 0, 0, 0)
    threading.Thread(target=_watch, args=(parent, folder), daemon=True).start()


def _watch(parent: int, folder: str) -> None:
    if not hasattr(select, "poll"):  # no way to tell; the process ends with its work
        return
    other_end = select.poll()
    other_end.register(2, 0)
    # a parent that ended before the first look is found by its end of the pipe
    while not other_end.poll(WATCH_SECONDS * 1000) and os.getppid() == parent:
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
