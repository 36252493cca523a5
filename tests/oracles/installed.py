"""Which oracles are there, and how to run them."""

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent.parent / "out" / "oracles"
MAX_SECONDS = 120
NAMES = ("finn-base", "tosa-tools")


def python(name: str) -> Path:
    """The interpreter of an oracle's own environment."""
    return FOLDER / name / "bin" / "python"


def missing(name: str) -> str | None:
    """Why an oracle can't be asked, or None if it can; `install.py` writes the mark when all is in place."""
    return None if (FOLDER / name / ".installed").is_file() else f"{name} is not installed; run `make oracles`"


def available() -> dict[str, str | None]:
    """Every oracle outside our own environment, and why it can't be asked here: None if it can."""
    return {name: missing(name) for name in NAMES}


def ask(name: str, driver: str, *arguments: str) -> None:
    """Run a driver of this folder in an oracle's Python; fails the test with its last lines if it fails."""
    command = [str(python(name)), str(HERE / driver), *arguments]
    done = subprocess.run(command, text=True, capture_output=True, timeout=MAX_SECONDS, check=False)
    assert done.returncode == 0, f"{name}: exit {done.returncode}: {done.stderr[-2000:]}"
