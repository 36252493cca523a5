"""Writes docs/measured/trust.md: what has been checked against what, how often, and what has not.

`python -m tests.trust.report` from the root of the tree. Counts come from record.json and mutation.json, which long
tests and tests/trust/mutation.py leave; operators, targets, faults from the tree; witnesses from this machine.
"""

from __future__ import annotations

import ast
import functools
import json
import platform
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from intsim.frontend import lower  # noqa: F401  (registers the handlers)
from intsim.frontend.registry import HANDLERS
from intsim.ops import OPS
from tests.faults.catalogue import FAULTS
from tests.faults.planting import ROOT, planted
from tests.trust import record
from tests.trust.mutation import RECORD as MUTATION
from tests.trust.mutation import ROOM
from tests.witness.programs import WITNESSES, available

PAGE = ROOT / "docs" / "measured" / "trust.md"
SURVIVORS = ROOT / "tests" / "trust" / "survivors.toml"
HERE = re.compile(r"<!-- this machine -->.*?<!-- end -->", re.S)
"""The part of the page that differs from machine to machine."""

HEAD = """# What has been checked, and what has not

A pass does not mean free of bugs. It means that the checks below found none: so many cases, drawn as said, against
twins that share no code with what they check. What has not been checked is at the end.

Written by `make trust`. The numbers of targets and requantizers are left by long tests (`make test-all`), those of
mutants by `make mutation`.
"""

NOT_COVERED = """
## What is not covered

* **Widths and lengths.** Dot products were compared up to 4096 terms; schedules of more are the same code, not the same
  test. Accumulators of 61 to 64 bits are compared at their edges, not at random lengths.
* **Random is not all.** All pairs of 8-bit operands, and all 16-bit accumulators of the exact requantizer in every
  rounding mode, were tried; sums of more than two products were drawn. What one particular triple needs may hide.
* **Hardware that nobody ran.** A target without a witness above rests on its manual or source, as its file cites it.
  Emulated witnesses show what the emulator's authors read in the manual.
* **Undocumented behaviour.** Flags, traps, and timing are not modelled, nor modes that a target file doesn't name.
* **Models of other tools.** The front end was compared with the reference evaluator on random graphs of up to eight
  operators, with qonnx and ONNX Runtime where they run the file, and with ONNX's node tests; not with every exporter.
* **The requantizer of a library** is what its source says at the cited place; versions differ.
* **Shared mistakes.** Definition, fast twin and dumb twin were written by people who read the same pages. A page that
  was misread three times the same way stays unnoticed; published vectors and witnesses are there against that.
* **Mutants** cover `intsim/arithmetic`. Other rooms have the planted faults instead.
"""


@functools.cache
def words(path: Path) -> frozenset[str]:
    """String constants in a Python file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return frozenset(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))


def test_files() -> list[Path]:
    """Everyday test files, and the random graphs that some of them draw from."""
    skipped = ("faults", "trust", "models")
    files = [
        p for p in sorted((ROOT / "tests").rglob("test_*.py")) if p.relative_to(ROOT / "tests").parts[0] not in skipped
    ]
    return [*files, ROOT / "intsim" / "testing" / "graphs.py"]


def naming(name: str) -> list[str]:
    """Test files that name an operator."""
    return [str(p.relative_to(ROOT)) for p in test_files() if name in words(p)]


def operators() -> str:
    """The operators, and what each is compared with."""
    return (
        "\n## Operators\n\n"
        f"{len(OPS)} operators of the integer graph, each against its definition written again in Python integers "
        f"(`tests/ops`), and {len(HANDLERS)} ONNX operators, each against the reference evaluator, which "
        "shares no code with the lowering. A test demands that every one of them is named by a test "
        "(`tests/trust/test_report.py`).\n\n"
        f"Of the integer graph: {_listed(OPS)}.\n\nOf ONNX: {_listed(HANDLERS)}.\n"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def targets() -> str:
    """Built-in targets, and the dot products compared on each."""
    from intsim.targets import Target

    counts = record.read()["targets"]
    total = sum(c["dot_products"] for c in counts.values())
    families = ", ".join(str(f) for f in Target.families())
    lines = [
        "\n## Targets\n\n",
        "Boundary-weighted dot products on every built-in target and on members of every family: definition "
        "(`intsim.arithmetic`), fast twin (`intsim.engine`) and dumb twin (Python integers, `tests/twins`) "
        "agree on each accumulator, on overflow events a stage and on the extremes of the sums.\n\n",
        f"{len(Target.names())} targets, families {families}. {_n(total)} dot products in all.\n\n",
        "| target | dot products | products | overflowed | most terms |\n|---|---|---|---|---|\n",
    ]
    members = [f.member(n) for f in Target.families() for n in sorted({f.low, (f.low + f.high) // 2, f.high})]
    for name in [*Target.names(), *members]:
        c = counts.get(name)
        cells = (
            "not run | | |" if c is None else f"{_n(c['dot_products'])} | {_n(c['products'])} | {_n(c['overflowed'])} |"
        )
        lines.append(f"| `{name}` | {cells} {c['longest'] if c else ''} |\n")
    return "".join(lines)


def requantizers() -> str:
    """Requantizer forms, and the vectors compared on each."""
    counts = record.read()["requantizers"]
    lines = [
        "\n## Requantizers\n\n",
        "Accumulators at ties, next to them, at powers of two and anywhere in int32, times powers of two, their small "
        "multiples, float32 values and fractions; against twins in Python integers that follow the sources line by "
        "line. Certificates (`intsim.proofs`) are compared with trying every accumulator of up to 20 bits.\n\n",
        "| form | vectors | exact ties among them |\n|---|---|---|\n",
        *(f"| {name} | {_n(c['vectors'])} | {_n(c['ties'])} |\n" for name, c in counts.items()),
    ]
    return "".join(lines)


def witnesses() -> str:
    """Programs of the instruction itself, and which of them could run here."""
    modelled = sorted({t for w in WITNESSES.values() for t in w.targets})
    lines = [
        "\n## Witnesses\n\n",
        f"{len(WITNESSES)} programs in C that execute the instruction itself (`hardware/witness`); the registers of "
        f"{len(modelled)} targets, {', '.join(f'`{t}`' for t in modelled)}, must give what the instruction gives. "
        "A program runs on the machine it is for, or under an emulator.\n\n",
        "<!-- this machine -->\n",
        f"Where this page was written ({platform.system()} {platform.machine()}):\n\n",
        "| witness | for | here |\n|---|---|---|\n",
    ]
    for name, reason in available().items():
        w = WITNESSES[name]
        agrees = ", ".join(f"`{t}`" for t in w.targets) or f"`{w.source}`"
        native = platform.machine() == w.machine
        ran = "runs on this CPU" if native else f"runs under an emulator of {w.machine}"
        lines.append(f"| `{name}` | {agrees} | {ran if reason is None else f'skipped: {reason}'} |\n")
    return "".join([*lines, "<!-- end -->\n"])


def faults() -> str:
    """How many faults are planted, by folder."""
    folders: dict[str, int] = {}
    for fault in FAULTS:
        folder = str(planted(ROOT, fault)[0].parent.relative_to(ROOT))
        folders[folder] = folders.get(folder, 0) + 1
    places = ", ".join(f"{count} in `{folder}`" for folder, count in sorted(folders.items()))
    return (
        f"\n## Planted faults\n\n{len(FAULTS)} mistakes, each planted in a copy of the tree; each turns its test red "
        f"by an assertion ([faults.md](faults.md)): {places}.\n"
    )


KERNELS = tuple(
    f"{ROOM}/{name}.py"
    for name in (
        "binary32",
        *(f"requantizers/{name}" for name in ("float64", "litert", "onnxruntime", "torch", "xnnpack")),
    )
)
"""Files of the room that `tests/runtimes` tests."""


def mutation() -> dict[str, Any]:
    """What mutmut found, by file."""
    return json.loads(MUTATION.read_text()) if MUTATION.exists() else {}


def explained() -> list[dict[str, str]]:
    """Mutants that live, and why."""
    return tomllib.loads(SURVIVORS.read_text()).get("survivor", []) if SURVIVORS.exists() else []


def why(file: str, alive: dict[str, str]) -> str | None:
    """The explanation of one mutant that lives, if there is one."""
    key = (file, alive["function"], alive["old"], alive["new"])
    found = [s["why"] for s in explained() if (s["file"], s["function"], s["old"], s["new"]) == key]
    return found[0] if found else None


def mutants() -> str:
    """The mutation score, and every mutant that lives."""
    found = mutation()
    total = sum(f["mutants"] for f in found.values())
    alive = sum(len(f["alive"]) for f in found.values())
    score = f"{100 * (total - alive) / total:.1f} %" if total else "not run"
    lines = [
        "\n## Mutants\n\n",
        f"mutmut changes every operator, constant, argument and call of `{ROOM}`, one at a time, and runs "
        f"`tests/arithmetic`. {_n(total - alive)} of {_n(total)} mutants turn a test red: {score}. Statements outside "
        "functions are not changed; decorators are spelled out for it (`tests/trust/mutation.py`).\n\n",
        "| file | mutants | killed | alive | score |\n|---|---|---|---|---|\n",
    ]
    for file, f in found.items():
        n, left = f["mutants"], len(f["alive"])
        share = f"{100 * (n - left) / n:.1f} %" if n else "-"
        lines.append(f"| `{file}` | {n} | {n - left} | {left} | {share} |\n")
    fresh = [f"`{Path(file).stem}.{name}`" for file, f in found.items() for name in f.get("not_mutated", [])]
    if fresh:
        lines.append(
            f"\n{len(fresh)} functions are newer than that and haven't been changed yet: {', '.join(fresh)}.\n"
        )
    kernels = ", ".join(f"`{Path(file).stem}`" for file in KERNELS)
    lines.append(
        f"\nNot in it, as `tests/arithmetic` doesn't test them: {kernels}. They are compared with formulas of their "
        "own and with the runtimes themselves ([Real runtimes](runtimes.md)).\n"
    )
    lines.append("\nThose that live, and why:\n\n| function | line | changed to | why it lives |\n|---|---|---|---|\n")
    for file, f in found.items():
        for a in f["alive"]:
            place = f"{Path(file).stem}.{a['function']}"
            lines.append(
                f"| `{place}` | {_code(a['old'])} | {_code(a['new'])} | {why(file, a) or '**unexplained**'} |\n"
            )
    return "".join(lines)


def page() -> str:
    """The whole page."""
    return "".join([HEAD, operators(), targets(), requantizers(), witnesses(), faults(), mutants(), NOT_COVERED])


def portable(text: str) -> str:
    """The page without what depends on the machine that wrote it."""
    return HERE.sub("", text)


def _n(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _code(text: str) -> str:
    return "<br>".join(f"`{line}`" for line in text.replace("|", "\\|").splitlines())


if __name__ == "__main__":
    record.take()
    PAGE.write_text(page())
