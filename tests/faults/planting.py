"""Planting a fault in a copy of the tree, and running tests there.

A copy holds everything the tests read, without what is built. Tests run in a process of their own, whose root conftest
proves that the copied package was imported, and writes down what failed and how.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import syntax

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("intsim", "hardware", "tests", "pyproject.toml")
LINKED = ("models", "docs")
TIMEOUT = 900
NOTICED = ("AssertionError", "Failed")
"""Kinds of failure by which a test says that something is wrong: assert, and pytest.raises that saw nothing."""

CONFTEST = """
import json
from pathlib import Path

from hypothesis import Phase, settings

import intsim

HERE = Path(__file__).resolve().parent
assert Path(intsim.__file__).resolve() == HERE / "intsim" / "__init__.py", f"{intsim.__file__} is not the copy"
OUTCOMES = {}


def pytest_sessionstart():
    # found is enough: no minute spent on the smallest counterexample
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile("fault", settings.get_profile("ci"), phases=phases)
    settings.load_profile("fault")


def pytest_runtest_makereport(item, call):
    kind = None if call.excinfo is None else call.excinfo.type.__name__
    if kind and Path(call.excinfo.traceback[-1].path).is_relative_to(HERE / "intsim"):
        kind += " in the package"
    if call.when == "call" or kind is not None:
        OUTCOMES[item.nodeid] = (call.when, kind)


def pytest_sessionfinish():
    (HERE / "outcomes.json").write_text(json.dumps(OUTCOMES))
"""


@dataclass(frozen=True)
class Fault:
    """A piece of a file, changed as a mistake would change it.

    Attributes:
        name: short, for test ids.
        seen: what a user would see.
        where: name of the function, class or constant of the package; or the path of another file, from the root.
        old: the piece, which is there once: Python as `syntax.py` says, or text of another file.
        new: what stands there instead, with the same names for the same variables.
        test: node id that must fail; of a parametrized test, one of its cases.
        slow: left to the long suite.
    """

    name: str
    seen: str
    where: str
    old: str
    new: str
    test: str
    slow: bool = False


@dataclass(frozen=True)
class Outcome:
    """What pytest said in a copy: its exit code, phase and kind of failure of each test, its output, the time taken."""

    code: int
    tests: dict[str, tuple[str, str | None]]
    text: str
    seconds: float


@contextmanager
def in_copy(home: Path) -> Iterator[Path]:
    """A copy of the tree in the folder `home`, with links for what no fault touches; one at a time.

    All copies in one folder stand at one path, so that compiled kernels, kept beside them, are found again.
    """
    folder = home.resolve() / "tree"
    folder.mkdir()
    try:
        yield _copied(folder)
    finally:
        shutil.rmtree(folder)


def _copied(folder: Path) -> Path:
    skip = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=skip)
        else:
            shutil.copy2(source, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / "conftest.py").write_text(CONFTEST)
    return folder


def planted(folder: Path, fault: Fault) -> tuple[Path, str]:
    """The file of a tree that the mistake is in, and its text with the mistake.

    Raises:
        NotOnceError: what is to be changed is nowhere, or in several places.
        ValueError: what is to stand there speaks of a variable that what stands there does not.
    """
    if "/" not in fault.where:
        match = syntax.find(folder, fault.where, fault.old, fault.new)
        return match.scope.path, syntax.replaced(match, fault.old, fault.new)
    path = folder / fault.where
    source = path.read_text()
    count = source.count(fault.old)
    if count != 1:
        raise syntax.NotOnceError(f"{fault.old!r} is {count} times in {fault.where}, not once")
    return path, source.replace(fault.old, fault.new)


def plant(folder: Path, fault: Fault) -> None:
    """Make the mistake in a copy of the tree."""
    path, text = planted(ROOT, fault)
    (folder / path.relative_to(ROOT)).write_text(text)


def run_tests(folder: Path, *tests: str) -> Outcome:
    """Run node ids of a copy in a process of its own, with its package.

    Compiled kernels lie beside the copies; each is named by its sources, so a fault in one makes that one anew.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "HYPOTHESIS", "COV"))}
    environment |= {
        "PYTHONPATH": str(folder),
        "NUMBA_CACHE_DIR": str(folder.parent / "numba"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    began = time.monotonic()
    # plain assertions: a fault seen in a long array must not wait for pytest to explain every difference
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "--assert=plain", "-p", "no:cacheprovider"]
    command += tests
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    seconds = time.monotonic() - began
    record = folder / "outcomes.json"
    outcomes = {k: tuple(v) for k, v in json.loads(record.read_text()).items()} if record.exists() else {}
    return Outcome(done.returncode, outcomes, done.stdout + done.stderr, seconds)


def why_not_red(outcome: Outcome) -> str | None:
    """None if a test ran and noticed a fault; else what happened instead."""
    failures = {name: how for name, how in outcome.tests.items() if how[1] is not None}
    if outcome.code == 0:
        return "all tests passed"
    if outcome.code != 1 or not failures:
        return f"pytest ended with exit code {outcome.code} and {len(failures)} failures"
    broken = {name: how for name, how in failures.items() if how[0] != "call" or how[1] not in NOTICED}
    return f"not an assertion: {broken}" if broken else None
