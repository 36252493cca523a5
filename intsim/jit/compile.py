"""Compiling of inner loops, kept on disk where that can be written, and news of what is being compiled.

Numba is imported with the first kernel, not with this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

Watcher = Callable[[str], None]


class Census(NamedTuple):
    """Specialisations of kernels in this process: read from the disk, and compiled."""

    loaded: int
    compiled: int


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call with new types, without Python's lock; machine code is kept on disk where possible.

    Where nothing can be kept (no folder to write, a full disk, a Numba whose caching is made differently) everything
    works, and each process compiles anew.
    `NUMBA_CACHE_DIR` names another folder. A change of the function's file, or of a file of intsim that it imports,
    compiles anew.
    """
    from numba import njit

    if not _kernels:
        _ignore_settings_of_the_working_directory()
    kernel = njit(nogil=True)(function)
    if hasattr(kernel, "stats"):  # not with NUMBA_DISABLE_JIT
        _keep_on_disk(kernel)
        _kernels.append(kernel)
        if len(_kernels) == 1:
            _listen()
    made: Callable[..., Any] = kernel
    return made


def _ignore_settings_of_the_working_directory() -> None:
    """Numba reads a `.numba_config.yaml` there, which may name modules to import and folders of machine code to run."""
    from numba.core import config

    if getattr(config, "_config_fname", None):
        config._config_fname = ""
        config.reload_config()


def _keep_on_disk(kernel: Any) -> None:
    # RuntimeError: no folder. The others: a Numba made differently inside, and then nothing is kept; its own cache
    # can hand a kernel the code of other types (`cache`)
    with suppress(RuntimeError, ImportError, AttributeError, TypeError):
        from intsim.jit.cache import KernelCache

        kernel._cache = KernelCache(kernel.py_func)


@contextmanager
def watch_compiles(watcher: Watcher) -> Iterator[None]:
    """Within the block `watcher` gets the name of each kernel that is about to be compiled, in the compiling thread.

    Kernels that are compiled because another one calls them are not told.
    """
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def census() -> Census:
    """How many specialisations this process has read and compiled so far."""
    all_stats = [kernel.stats for kernel in _kernels]
    loaded = sum(sum(s.cache_hits.values()) for s in all_stats)
    return Census(loaded, sum(len(k.signatures) for k in _kernels) - loaded)


def cache_folder() -> Path | None:
    """Where machine code of the engine is kept; None where that can't be written, or by Numba's making."""
    try:
        from intsim.jit.cache import KernelCache, writable_folder

        KernelCache(cache_folder)
    except (RuntimeError, ImportError, AttributeError, TypeError):
        return None
    return writable_folder(Path(__file__))


def _listen() -> None:
    from numba.core import event

    class Compiles(event.Listener):
        """Tells watchers of the outermost kernel; Numba compiles one at a time."""

        depth = 0

        def on_start(self, event: Any) -> None:
            function = event.data["dispatcher"].py_func
            if self.depth == 0:
                for watcher in tuple(_watchers):
                    watcher(function.__name__.strip("_"))
            self.depth += 1

        def on_end(self, event: Any) -> None:
            self.depth -= 1

    event.register("numba:compile", Compiles())


_kernels: list[Any] = []
_watchers: list[Watcher] = []
