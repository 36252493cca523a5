"""Work shared out to threads: how many there are, and which share each takes.

Kernels release Python's lock, so threads are enough. Shares are contiguous and results come back in order: what is
computed does not depend on how many threads there are.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Generic, TypeVar

from intsim.errors import IntsimError
from intsim.machine import usable_cpus

VARIABLE = "INTSIM_THREADS"
MOST_THREADS = 1024
BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS")
"""What numpy's matrix products look at, once, when numpy is imported."""

P = TypeVar("P")
R = TypeVar("R")


def set_threads(count: int | None) -> None:
    """Use `count` threads (1..1024) from now on; None goes back to the default. Raises IntsimError for others."""
    global _chosen
    _chosen = None if count is None else _checked(count, "threads")


class using:  # noqa: N801 - read as a statement
    """Use `count` threads within the block, in this thread of the caller's only; None changes nothing."""

    def __init__(self, count: int | None) -> None:
        """Raises IntsimError for what is no number of threads."""
        self.count = None if count is None else _checked(count, "threads")

    def __enter__(self) -> None:
        """Begin."""
        self.token = _here.set(self.count or _here.get())

    def __exit__(self, *raised: object) -> None:
        """Go back to what was."""
        _here.reset(self.token)


def threads() -> int:
    """How many threads to use: `using`, else `set_threads`, else the environment's INTSIM_THREADS, else `usable_cpus`.

    Raises IntsimError for an INTSIM_THREADS that is no number of threads.
    """
    chosen = _here.get() or _chosen
    if chosen is not None:
        return chosen
    given = os.environ.get(VARIABLE, "").strip()
    return (
        _checked(int(given) if given.isdecimal() and len(given) < 10 else given, VARIABLE) if given else usable_cpus()
    )


def _checked(count: Any, name: str) -> int:
    if isinstance(count, bool) or not hasattr(count, "__index__") or not 1 <= count <= MOST_THREADS:
        raise IntsimError(f"{name} {str(count)[:40]!r}: give a number of threads from 1 to {MOST_THREADS}")
    return int(count)


def shares(count: int, grain: int = 1) -> list[tuple[int, int]]:
    """Contiguous shares (start, stop) of range(count), at most one a thread, in order.

    Each but the last starts and stops at a multiple of `grain`, and none is smaller than `grain` unless it is the only
    one. Nothing for a count of 0.
    """
    blocks = max(count, 0) // max(grain, 1)
    parts = max(1, min(threads(), blocks))
    ends = [min((2 * i * count + parts * grain) // (2 * parts * grain), blocks - parts + i) for i in range(1, parts)]
    edges = [0, *(end * grain for end in ends), count]
    return list(pairwise(edges)) if count > 0 else []


def each(function: Callable[[P], R], parts: Sequence[P]) -> list[R]:
    """Results of function(part) for all parts, in order, by `threads()` threads; the caller's own is one of them.

    Parts are taken in order as threads become free. After an exception no further part is begun; once those under way
    have ended, the exception of the earliest part is raised. A call from inside a part runs there, one after another.
    """
    wanted = min(threads(), len(parts))
    if wanted <= 1 or getattr(_inside, "part", False):
        return [function(part) for part in parts]
    job = _Job(function, parts)
    try:
        pool = _pool(wanted - 1)
        for _ in range(wanted - 1):
            # settings such as numpy's errstate belong to a context, and a context to one thread at a time
            pool.submit(contextvars.copy_context().run, job.work)
    except RuntimeError:
        pass  # no thread can be had, or the interpreter is ending: this thread does it all
    job.work()
    return job.finish()


def share_out(function: Callable[[tuple[int, int]], object], count: int, grain: int) -> None:
    """`function` of contiguous shares (start, stop) of range(count), of at least `grain`, by `threads()` threads."""
    if count < 2 * grain or threads() == 1:
        function((0, count))
    else:
        each(function, shares(count, grain))


class _Job(Generic[P, R]):
    """The parts of one call: which is next, how many are under way, what came out."""

    def __init__(self, function: Callable[[P], R], parts: Sequence[P]) -> None:
        self.function, self.parts = function, parts
        self.results: dict[int, R] = {}
        self.errors: dict[int, BaseException] = {}
        self.next, self.under_way = 0, 0
        self.changed = threading.Condition()

    def work(self) -> None:
        """Take parts until none is left."""
        _inside.part = True
        try:
            while (index := self._take()) is not None:
                try:
                    self.results[index] = self.function(self.parts[index])
                except BaseException as error:  # an interrupt as well: it is raised when all threads have stopped
                    self.errors[index] = error
                with self.changed:
                    self.under_way -= 1
                    self.changed.notify_all()
        finally:
            _inside.part = False

    def _take(self) -> int | None:
        with self.changed:
            if self.errors or self.next == len(self.parts):
                return None
            self.next += 1
            self.under_way += 1
            return self.next - 1

    def finish(self) -> list[R]:
        """Wait for parts under way in other threads, which may still write into the caller's arrays."""
        with self.changed:
            while self.under_way:
                try:
                    self.changed.wait()
                except KeyboardInterrupt as error:
                    self.errors.setdefault(len(self.parts), error)
        if self.errors:
            raise self.errors[min(self.errors)]
        return [self.results[i] for i in range(len(self.parts))]


def _pool(workers: int) -> ThreadPoolExecutor:
    """The process's pool, of at least so many threads."""
    global _kept
    with _lock:
        if _kept is None or _kept[1] < workers:
            if _kept is not None:
                _kept[0].shutdown(wait=False)
            _kept = ThreadPoolExecutor(workers, thread_name_prefix="intsim"), workers
        return _kept[0]


def _start_anew() -> None:
    """In a forked child there are no threads but the one that forked, and locks may be held by others."""
    global _kept, _lock, _inside
    _kept, _lock, _inside = None, threading.Lock(), threading.local()


_chosen: int | None = None
_here: contextvars.ContextVar[int | None] = contextvars.ContextVar("threads", default=None)
_kept: tuple[ThreadPoolExecutor, int] | None = None
_lock, _inside = threading.Lock(), threading.local()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
