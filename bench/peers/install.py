"""The peers that don't share our environment: each into a virtual environment under out/bench/peers."""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / "out" / "bench" / "peers"
PEERS = {"litert": ["ai-edge-litert"], "tosa": ["tosa-tools"], "da4ml": ["da4ml"]}
MAX_SECONDS = 600


def python(name: str) -> Path:
    """The interpreter of a peer."""
    return FOLDER / name / "bin" / "python"


def install(name: str) -> str | None:
    """Make a peer's environment if it isn't there and mark it; returns why it can't be had, or None."""
    root = FOLDER / name
    if (root / ".installed").is_file():
        return None
    shutil.rmtree(root, ignore_errors=True)
    command = [str(python(name)), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *PEERS[name]]
    try:
        venv.create(root, with_pip=True)
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"not installed: {error}"[:160]
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        return f"not installed: {lines[-1] if lines else 'pip failed'}"[:160]
    (root / ".installed").touch()
    return None


def version(name: str) -> str:
    """The version of a peer's package, read in its environment."""
    code = f"import importlib.metadata as m; print(m.version({PEERS[name][0]!r}))"
    done = subprocess.run([str(python(name)), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
