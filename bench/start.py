"""Cold start: from the command to the first thing that a user sees, against the bare imports of its libraries."""

from __future__ import annotations

import os
import pty
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.networks import ROOT

MODEL = "models/zoo/h3dispnet_w8a8.qonnx.onnx"
IMPORTS = [sys.executable, "-c", "import numpy, onnx, numba"]
VERIFY = [sys.executable, "-m", "intsim.cli", "verify", MODEL, "--target", "exact"]
MAX_SECONDS = 120


def watch(command: list[str]) -> tuple[float, float]:
    """Wall seconds to the first byte on a terminal (to the end where there is none) and to the end."""
    ours, theirs = pty.openpty()
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL, cwd=ROOT)
    os.close(theirs)
    first = None
    try:
        while time.perf_counter() - begin < MAX_SECONDS:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                seen = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not seen:
                break
            first = first or time.perf_counter() - begin
        process.wait(MAX_SECONDS)
    finally:
        process.kill()
        os.close(ours)
    end = time.perf_counter() - begin
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:4])} ended with {process.returncode}")
    return first or end, end


def start(quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Medians of alternating starts; the first of each only fills the caches."""
    times: dict[str, list[tuple[float, float]]] = {"imports": [], "verify": []}
    for n in range(4 if quick else 11):
        for name, command in (("imports", IMPORTS), ("verify", VERIFY)):
            progress(f"start {n}: {name}")
            found = watch(command)
            if n:
                times[name].append(found)
    return {
        "imports_s": statistics.median(end for _, end in times["imports"]),
        "first_s": statistics.median(first for first, _ in times["verify"]),
        "verdict_s": statistics.median(end for _, end in times["verify"]),
        "starts": len(times["imports"]),
        "model": MODEL,
    }
