"""Work shared out to processes: some of this machine's, or the workers of a Dask cluster that is there.

A function is sent once and kept by each worker, with what it remembers, as long as the work lasts; its arguments follow
one by one, a few ahead. What a worker that died was at is given to another one. `Workers` is the caller's part, `serve`
what a process of this machine runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, TypeVar

from intsim import __version__
from intsim.engine.threads import BLAS, VARIABLE, threads, using
from intsim.errors import IntsimError
from intsim.explore.metrics import OWN_MODULE, Metric
from intsim.verification.process import child, command, environment

if TYPE_CHECKING:
    from distributed import Client, Future

MISSING = 'several processes need Dask; pip install "intsim[explore]"'
ADDRESS = re.compile(r"(tcp|tls|ws|wss)://[^/\s]+:\d{1,5}/?")
MOST_PROCESSES = 256
AHEAD = 2
"""Arguments that a worker has: one that it works on, and the next."""
LOOK_SECONDS, SOON = 0.5, 0.05
CONNECT_SECONDS, CLOSE_SECONDS = 3.0, 5.0
LONELY_SECONDS = 15.0
"""How long a cluster may have no worker."""
DEATHS = 4
"""Processes that a signal ended, for each that is wanted, before it is taken for more than an accident."""
SETTINGS: dict[str, Any] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.large-graph-warning-threshold": "1 TiB",
}
"""No pages that tell others what goes on, and nothing that looks at how much memory a worker takes."""
BOOT = """import sys
sys.path[:] = sys.argv[3:]
from intsim.explore.workers import serve
serve(sys.argv[1], sys.argv[2])
"""

A = TypeVar("A")
R = TypeVar("R")
Look = Callable[[], list[str]]


@dataclass(frozen=True)
class Workers:
    """Who works: this process (1), `processes` of this machine, or the workers of the cluster behind `scheduler`.

    Raises IntsimError for a number out of 1..256, for both, or for an address that is none.
    """

    processes: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        """Check what was given."""
        count = self.processes
        if isinstance(count, bool) or not hasattr(count, "__index__") or not 1 <= count <= MOST_PROCESSES:
            raise IntsimError(f"processes {str(count)[:40]!r}: give a number from 1 to {MOST_PROCESSES}")
        if self.scheduler is None:
            return
        if count != 1:
            raise IntsimError("both processes and a scheduler: a cluster has its own workers; give one")
        if not isinstance(self.scheduler, str) or not ADDRESS.fullmatch(self.scheduler):
            raise IntsimError(f"scheduler {str(self.scheduler)[:80]!r}: give an address like tcp://127.0.0.1:8786")

    @property
    def others(self) -> bool:
        """Whether other processes than this one work."""
        return self.processes > 1 or self.scheduler is not None

    def results(
        self,
        function: Callable[[A], R],
        arguments: Iterable[A],
        metrics: Sequence[Metric] = (),
        group: Callable[[A], Any] | None = None,
    ) -> Generator[tuple[int, R], None, None]:
        """Numbers of arguments with `function(argument)`, as they are finished; arguments are taken a few ahead.

        In this process they are in order. `metrics` are those that the function calls. Arguments of one `group` share
        something that the function remembers: they go to the same worker, as long as none would be idle; all of them
        are taken at once then. Close the iterator, with `contextlib.closing`, so that no process is left behind. Where
        the function, or taking an argument, raises, the exception of the earliest argument is raised once those before
        it are finished.

        Raises:
            IntsimError: Dask is missing, the function can't be sent, no scheduler answers, workers end or aren't there.
        """
        if not self.others:
            yield from ((i, function(argument)) for i, argument in enumerate(arguments))
            return
        try:
            import distributed  # noqa: F401 (whether it is there)
        except ImportError as error:
            raise IntsimError(MISSING) from error
        with ExitStack() as stack:
            packed = _packed(function, metrics)
            stack.enter_context(_quiet())
            opened = _local(self.processes) if self.scheduler is None else _cluster(self.scheduler)
            client, look = stack.enter_context(opened)
            engine = None if self.scheduler is None else 0
            yield from _results(client, look, packed, _Supply(arguments, group), engine)


class Function:
    """What a worker holds: a function as it was sent, unpacked when it is first asked for."""

    def __init__(self, packed: bytes) -> None:
        """Nothing is unpacked yet."""
        self.packed = packed

    @cached_property
    def unpacked(self) -> Callable[[Any], Any]:
        """The function; raises IntsimError where this process lacks what it is made of."""
        try:
            return pickle.loads(self.packed)
        except Exception as error:  # a module that is missing, or another version of one
            what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise IntsimError(f"a worker can't open what it is sent: {what}; it needs the same packages") from error

    def __getstate__(self) -> dict[str, Any]:
        """Not what was unpacked: the next one unpacks it anew."""
        return {"packed": self.packed}


_turn = threading.Lock()


def apply(function: Function, argument: Any, version: str, engine: int | None) -> Any:
    """In a worker: one call, on `engine` threads, on those of a Dask worker where 0. One at a time in a process."""
    if version != __version__:
        raise IntsimError(f"a worker has intsim {__version__}, this is {version}; install the same")
    if engine == 0:
        from distributed import get_worker

        engine = min(get_worker().state.nthreads, threads())
    with _turn, using(engine):
        return function.unpacked(argument)


def _packed(function: Callable[[Any], Any], metrics: Sequence[Metric]) -> bytes:
    """A function that any process can unpack; raises IntsimError where a metric can't go there."""
    import cloudpickle

    homes = {getattr(m.function, "__module__", None) or "" for m in metrics}
    modules = [sys.modules[name] for name in homes if name.startswith(OWN_MODULE)]
    try:
        for module in modules:  # files of the user's own, which other processes can't import
            cloudpickle.register_pickle_by_value(module)
        for metric in metrics:
            try:
                cloudpickle.dumps(metric)
            except Exception as error:  # whatever the user's function holds raises what it likes
                what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                raise IntsimError(f"metric {metric.name}: can't be sent to other processes: {what}") from error
        return cloudpickle.dumps(function)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


class _Supply:
    """Arguments by number that no worker has yet; by groups, each worker's own as long as it lasts."""

    def __init__(self, arguments: Iterable[Any], group: Callable[[Any], Any] | None = None) -> None:
        self.given = 0
        self.rest = enumerate(arguments)
        self.groups: dict[Any, deque[tuple[int, Any]]] | None = None
        self.latest: dict[str, Any] = {}
        if group is not None:
            self.groups = {}
            for i, argument in self.rest:
                self.groups.setdefault(group(argument), deque()).append((i, argument))

    def take(self, worker: str) -> tuple[int, Any]:
        """The next for a worker; raises StopIteration where there is none."""
        if self.groups is None:
            i, argument = next(self.rest)
            self.given = i + 1
            return i, argument
        if not self.groups:
            raise StopIteration
        own = self.latest.get(worker)
        if own not in self.groups:
            begun = set(self.latest.values())
            own = next((g for g in self.groups if g not in begun), None)
            if own is None:  # help where the most is left
                own = max(self.groups, key=lambda g: len(self.groups[g]) if self.groups else 0)
        self.latest[worker] = own
        taken = self.groups[own].popleft()
        if not self.groups[own]:
            del self.groups[own]
        return taken


def _results(
    client: Client, look: Look, packed: bytes, supply: _Supply, engine: int | None
) -> Generator[tuple[int, Any], None, None]:
    """`Workers.results` on a cluster; `look` says which workers there are, and raises when there is no hope."""
    from distributed import wait

    function = client.submit(Function, packed, pure=False)
    more = True
    waiting: dict[Future, int] = {}
    places: dict[Future, str] = {}
    failed: dict[int, BaseException] = {}
    workers, looked = look(), time.monotonic()
    while more or waiting:
        for worker in workers * AHEAD:
            if not more or sum(places[f] == worker for f in waiting) >= AHEAD:
                continue
            try:
                i, argument = supply.take(worker)
            except StopIteration:
                more = False
            except IntsimError as error:
                failed[supply.given], more = error, False
            else:
                there: dict[str, Any] = {"workers": [worker], "allow_other_workers": True, "pure": False}
                future = client.submit(apply, function, argument, __version__, engine, **there)
                waiting[future], places[future] = i, worker
        if not waiting:
            if more:  # none has come yet
                time.sleep(SOON)
                workers = look()
            continue
        done: Iterable[Future] = ()
        with suppress(TimeoutError), _lost(), client.as_current():
            done = wait(list(waiting), timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED").done
        if time.monotonic() - looked > LOOK_SECONDS:
            workers, looked = look(), time.monotonic()
        for future in done:
            i, _ = waiting.pop(future), places.pop(future)
            try:
                with _lost():
                    result = future.result()
            except Exception as error:
                failed[i], more = error, False
            else:
                yield i, result
        if failed:
            late = [f for f, i in waiting.items() if i > min(failed)]
            client.cancel(late)
            for future in late:
                del waiting[future], places[future]
    if failed:
        raise failed[min(failed)]


@contextmanager
def _lost() -> Iterator[None]:
    """What Dask raises for workers and schedulers that are gone, as one line."""
    from distributed import KilledWorker
    from distributed.client import CancelledError

    try:
        yield
    except KilledWorker as error:
        raise IntsimError("worker processes end, one after another, on the same work: out of memory?") from error
    except CancelledError as error:
        raise IntsimError("the scheduler is gone, or has thrown the work away") from error
    except ImportError as error:
        raise IntsimError(f"a worker lacks a module: {error}; it needs intsim {__version__}") from error


@contextmanager
def _cluster(scheduler: str) -> Iterator[tuple[Client, Look]]:
    """A client of a cluster that is there."""
    import dask
    from distributed import Client

    with dask.config.set({**SETTINGS, "distributed.comm.timeouts.connect": CONNECT_SECONDS}):
        try:
            _answers(scheduler)
            client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except Exception as error:  # Dask has many for what isn't there, or isn't Dask
            raise IntsimError(f"{scheduler}: no Dask scheduler answers there") from error
        seen = time.monotonic()

        def look() -> list[str]:
            nonlocal seen
            try:
                found = list(client.nthreads())
            except Exception as error:
                raise IntsimError(f"{scheduler}: the scheduler is gone") from error
            if found:
                seen = time.monotonic()
            elif time.monotonic() - seen > LONELY_SECONDS:
                raise IntsimError(f"{scheduler}: the scheduler has no workers; start some: dask worker {scheduler}")
            return found

        try:
            yield client, look
        finally:
            client.close(timeout=CLOSE_SECONDS)


def _answers(scheduler: str) -> None:
    """Raises where nothing speaks Dask's language at an address; a client waits for an answer without end."""
    from distributed.comm import connect
    from distributed.security import Security

    failed: list[BaseException] = []

    async def greet() -> None:
        arguments = Security().get_connection_args("client")
        comm = await connect(scheduler, timeout=CONNECT_SECONDS, **arguments)
        await comm.close()

    def try_it() -> None:
        try:
            asyncio.run(asyncio.wait_for(greet(), CONNECT_SECONDS))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=try_it, daemon=True)  # the caller's may have a loop of its own
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@contextmanager
def _local(count: int) -> Iterator[tuple[Client, Look]]:
    """Processes of this machine, with a scheduler in this one; they end with the block, and with this process."""
    import dask
    from distributed import Client, LocalCluster

    from intsim.explore import channel

    secret = channel.own_secret()
    path = [os.path.abspath(p) for p in sys.path]  # workers import from where this process does
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="intsim-", ignore_cleanup_errors=True))
        stack.enter_context(dask.config.set({**SETTINGS, "temporary-directory": folder}))
        here: dict[str, Any] = {"host": "127.0.0.1", "protocol": f"{channel.SCHEME}://"}
        quiet: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
        cluster = LocalCluster(n_workers=0, processes=False, silence_logs=False, **here, **quiet)
        stack.callback(cluster.close, timeout=CLOSE_SECONDS)
        client = Client(cluster, set_as_default=False)
        stack.callback(client.close, timeout=CLOSE_SECONDS)
        crew = _Crew(cluster.scheduler_address, secret, count, folder, path)
        stack.callback(crew.end)

        def look() -> list[str]:
            crew.look()
            return list(client.nthreads())

        yield client, look


class _Crew:
    """Worker processes of this machine, in an empty folder of theirs."""

    def __init__(self, address: str, secret: bytes, count: int, folder: str, path: Sequence[str]) -> None:
        engine = str(max(1, threads() // count))
        self.count = count
        self.command, self.folder = command(BOOT, address, folder, path), folder
        self.variables = {**environment(), VARIABLE: engine, **dict.fromkeys(BLAS, engine)}
        self.secret = secret
        self.members: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        self.deaths = 0

    def look(self) -> None:
        """Replace those that were killed.

        Raises IntsimError where they end by themselves, or are killed again and again.
        """
        for process, said in [m for m in self.members if m[0].poll() is not None]:
            self.members.remove((process, said))
            with said:
                said.seek(0)
                lines = [line for line in said.read().decode(errors="replace").splitlines() if line.strip()]
            self.deaths += 1
            if process.returncode >= 0:
                why = lines[-1].strip()[:200] if lines else f"exit code {process.returncode}"
                raise IntsimError(f"a worker process ended: {why}")
            if self.deaths > DEATHS * self.count:
                raise IntsimError(f"worker processes are killed (signal {-process.returncode}): out of memory?")
        while len(self.members) < self.count:
            self._start()

    def _start(self) -> None:
        said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its process)
        with tempfile.TemporaryFile() as request:
            request.write(self.secret)
            request.seek(0)
            try:
                # in a session of its own a Ctrl-C is for this process alone
                process = subprocess.Popen(
                    self.command, cwd=self.folder, env=self.variables, stdin=request, stdout=subprocess.DEVNULL,
                    stderr=said, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                said.close()
                raise IntsimError(f"no worker process can be started: {error}") from error
        self.members.append((process, said))

    def end(self) -> None:
        """End them at once."""
        for process, _ in self.members:
            process.kill()
        for process, said in self.members:
            process.wait()
            said.close()
        self.members = []


def serve(address: str, folder: str) -> None:
    """Work for the scheduler at `address`; what a process of `_Crew` runs until its parent ends it, or ends itself."""
    with child(folder) as (request, _):
        secret = request.read()
        import dask
        import distributed

        from intsim.explore import channel

        channel.open_with(secret)

        async def work() -> None:
            here: dict[str, Any] = {"host": "127.0.0.1", "protocol": f"{channel.SCHEME}://"}
            quiet: dict[str, Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
            async with distributed.Worker(
                address, nthreads=1, memory_limit=0, local_directory=folder, death_timeout=120, **here, **quiet
            ) as worker:
                await worker.finished()

        with _quiet(), dask.config.set(SETTINGS):
            asyncio.run(work())


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what Dask logs and warns of: what matters is raised."""
    names = [n for n in logging.root.manager.loggerDict if n.split(".")[0] in ("distributed", "tornado", "asyncio")]
    found = [logging.getLogger(n) for n in {"distributed", "tornado", "asyncio", *names}]
    levels = [logger.level for logger in found]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(dask|distributed|tornado)\b")
        for logger in found:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(found, levels, strict=True):
                logger.setLevel(level)
