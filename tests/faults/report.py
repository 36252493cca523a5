"""Writes docs/measured/faults.md: every planted fault, what a user would see, its test, and how long that takes.

`python -m tests.faults.report` from the root of the tree runs every fault, and fails if one stays green. With names it
runs those, with `--new` those that the page does not name yet, and keeps the seconds that the page states of others.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from .catalogue import FAULTS
from .planting import ROOT, Fault, in_copy, plant, run_tests, why_not_red

PAGE = "docs/measured/faults.md"

HEAD = """# Planted faults

A test that can't fail proves nothing. Each line is a mistake planted in a copy of the tree, and the test that turns red
there: by an assertion, not by a crash. In a copy without a fault the same tests are green. `tests/faults` holds the
catalogue and runs all of it with the other tests; `python -m tests.faults.report` writes this page. Seconds are for one
process, its start and its compilation of the kernels included.

{count} faults, {total:.1f} s.

| fault | what a user would see | where | red test | seconds |
|---|---|---|---|---|
"""


def page(seconds: Mapping[str, float]) -> str:
    """The page, from the seconds of each fault by name."""
    rows = [f"| {f.name} | {f.seen} | `{f.where}` | `{f.test}` | {seconds[f.name]:.1f} |\n" for f in FAULTS]
    return HEAD.format(count=len(FAULTS), total=sum(seconds.values())) + "".join(rows)


def measure(fault: Fault, home: Path) -> float:
    """Seconds until a fault turned its test red; raises RuntimeError if it did not."""
    with in_copy(home) as folder:
        plant(folder, fault)
        outcome = run_tests(folder, fault.test)
    reason = why_not_red(outcome)
    print(f"{outcome.seconds:6.1f} s  {fault.name}{f': {reason}' if reason else ''}", file=sys.stderr, flush=True)
    if reason:
        raise RuntimeError(f"{fault.name}: {reason}\n{outcome.text}")
    return outcome.seconds


def main(names: list[str]) -> None:
    """Plant faults and write the page."""
    stated = re.findall(r"^\| (\S+) \|.* (\d+\.\d) \|$", (ROOT / PAGE).read_text(), re.MULTILINE)
    seconds = {name: float(number) for name, number in stated} if names else {}
    with TemporaryDirectory(prefix="intsim-faults-") as home:
        for fault in FAULTS:
            if fault.name in names or fault.name not in seconds:
                seconds[fault.name] = measure(fault, Path(home))
    (ROOT / PAGE).write_text(page({f.name: seconds[f.name] for f in FAULTS}))


if __name__ == "__main__":
    main(sys.argv[1:])
