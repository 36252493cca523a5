"""Mutation testing of intsim/arithmetic: every operator, constant and call changed, one at a time; do tests notice?

`python -m tests.trust.mutation [FILE...]` from the root of the tree runs mutmut in a copy under out/mutation and writes
what it found, file by file, to tests/trust/mutation.json. Files that are not named keep their last result. With
`--alive` it tries again only the mutants that lived, after tests were added; their files must be unchanged.

mutmut changes no function that has a decorator. So the copy spells decorators out behind their function
(`low = property(low)`), which means the same; a cache is left out, because mutants share a process with the
unchanged code and would be handed its results.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.faults.planting import ROOT

ROOM = "intsim/arithmetic"
COPY = ROOT / "out" / "mutation"
RECORD = ROOT / "tests" / "trust" / "mutation.json"
COPIED = (
    "intsim",
    "hardware/targets",
    "tests/arithmetic",
    "tests/twins",
    "tests/conftest.py",
    "tests/trust/__init__.py",
    "pyproject.toml",
)
CACHES = ("cache", "lru_cache")
KILLED, TIMEOUT = (1, 3), (36, 24, 152, 255)  # exit codes of mutmut's workers

CONFTEST = """
import re
from pathlib import Path

from hypothesis import Phase, settings

import intsim

assert Path(intsim.__file__).resolve().parent == Path(__file__).resolve().parent / "intsim", "not the copy"


def pytest_sessionstart():
    # found is enough: no minute spent on the smallest counterexample
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile("mutation", settings.get_profile("ci"), phases=phases)
    settings.load_profile("mutation")


def pytest_collection_modifyitems(items):
    # of the tests that take every accumulator in every rounding mode, two modes are enough here
    exhaustive = "test_every_16_bit_accumulator_each_way"
    items[:] = [i for i in items if exhaustive not in i.name or re.search(r"half_even|floor", i.name)]
"""


def without_decorators(source: str) -> str:
    """The same module with the decorators of functions called behind them, caches left out."""
    lines = source.splitlines()
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and n.decorator_list]
    for function in sorted(functions, key=lambda f: -f.lineno):
        indent = " " * function.col_offset
        calls = []
        for decorator in reversed(function.decorator_list):
            named = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")
            if name not in CACHES and name not in ("staticmethod", "classmethod"):
                calls.append(f"{indent}{function.name} = {ast.unparse(decorator)}({function.name})")
        kept = [d for d in function.decorator_list if getattr(d, "id", "") in ("staticmethod", "classmethod")]
        assert function.end_lineno is not None
        lines[function.end_lineno : function.end_lineno] = calls
        first = min(d.lineno for d in function.decorator_list)
        lines[first - 1 : function.lineno - 1] = [f"{indent}@{ast.unparse(d)}" for d in kept]
    return "\n".join(lines) + "\n"


def prepare(files: list[str]) -> None:
    """Make the copy; what mutmut remembers of an earlier run there is thrown away."""
    shutil.rmtree(COPY, ignore_errors=True)
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    for name in COPIED:
        source, goal = ROOT / name, COPY / name
        goal.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, goal, ignore=skip)
        else:
            shutil.copy2(source, goal)
    for name in files:
        (COPY / name).write_text(without_decorators((ROOT / name).read_text()))
    (COPY / "conftest.py").write_text(CONFTEST)
    project = COPY / "pyproject.toml"
    text = project.read_text()
    old = f'only_mutate = ["{ROOM}/*.py"]'
    assert text.count(old) == 1, "pyproject.toml, [tool.mutmut]: only_mutate is not what this program replaces"
    project.write_text(text.replace(old, f"only_mutate = {json.dumps(files)}"))


def run(mutants: Sequence[str] = ()) -> None:
    """Run mutmut in the copy, on the named mutants or on all, one process at a time."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "HYPOTHESIS", "COV"))}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(Path(sys.executable).parent / "mutmut"), "run", "--max-children", "1", *mutants]
    with (COPY / "mutmut.txt").open("w") as log:
        done = subprocess.run(command, cwd=COPY, env=environment, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f"mutmut ended with exit code {done.returncode}; see {COPY / 'mutmut.txt'}")


def changed_lines(mutant: str) -> tuple[str, str]:
    """The lines a mutant takes away and adds, as mutmut shows them."""
    command = [str(Path(sys.executable).parent / "mutmut"), "show", mutant]
    text = subprocess.run(command, cwd=COPY, capture_output=True, text=True, check=True).stdout
    body = [line for line in text.splitlines() if not line.startswith(("---", "+++"))]
    old, new = ("\n".join(line[1:].strip() for line in body if line.startswith(sign)) for sign in "-+")
    return old, new


def found(file: str) -> dict[str, Any]:
    """What became of the mutants of one file."""
    path = COPY / "mutants" / f"{file}.meta"
    codes = json.loads(path.read_text())["exit_code_by_key"] if path.exists() else {}
    alive = []
    for name, code in codes.items():
        if code is not None and code not in KILLED and code not in TIMEOUT:
            function = name.rsplit(".", 1)[1].rsplit("__mutmut_", 1)[0].removeprefix("x_").removeprefix("xǁ")
            old, new = changed_lines(name)
            alive.append({"name": name, "function": function.replace("ǁ", "."), "old": old, "new": new})
    return {
        "sha256": sha256((ROOT / file).read_bytes()).hexdigest(),
        "mutants": len(codes),
        "timeouts": sum(code in TIMEOUT for code in codes.values()),
        "alive": alive,
    }


def again(files: list[str], record: dict[str, Any]) -> None:
    """Try again what lived, and take what is killed now off the record."""
    changed = [f for f in files if sha256((ROOT / f).read_bytes()).hexdigest() != record[f]["sha256"]]
    if changed:
        raise SystemExit(f"{changed[0]} has changed since it was mutated; name it without --alive")
    mutants = [a["name"] for f in files for a in record[f]["alive"]]
    if mutants:
        run(mutants)
        for file in files:
            record[file]["alive"] = found(file)["alive"]


def main(arguments: list[str]) -> None:
    """Mutate the named files, or all of the room, and write the record."""
    names = [a for a in arguments if a != "--alive"]
    room = sorted(str(p.relative_to(ROOT)) for p in (ROOT / ROOM).rglob("*.py") if p.name != "__init__.py")
    unknown = [n for n in names if n not in room]
    if unknown:
        raise SystemExit(f"{unknown[0]} is not in {ROOM}; there are {', '.join(room)}")
    files = names or room
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record = {name: result for name, result in record.items() if name in room}
    began = time.monotonic()
    prepare(files)
    if "--alive" in arguments:
        again(files, record)
    else:
        run()
        record |= {file: found(file) for file in files}
    RECORD.write_text(json.dumps(dict(sorted(record.items())), indent=1, ensure_ascii=False) + "\n")
    for file in files:
        result = record[file]
        print(f"{file}: {result['mutants']} mutants, {len(result['alive'])} alive")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
