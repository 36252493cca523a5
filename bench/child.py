"""Measurements that want a process of their own: ``python -m bench.child TASK ARGUMENTS``, JSON on the last line.

memory NETWORK CONTESTANT TINY    peak resident memory above what imports and reading the files took
exact NETWORK SECONDS THREADS     CPU and wall time of intsim on target exact, and a digest of its output
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bench.one_thread  # noqa: F401  # before whatever loads BLAS
from bench.contestants import contestants, intsim_run, options
from bench.networks import ROOT, restored
from bench.timing import take_turns

MAX_SECONDS = 600


def status(key: str) -> int:
    """A size of this process in bytes: VmRSS now or VmHWM, its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise KeyError(key)


def forget_peak() -> None:
    """Let the peak begin anew at what is resident now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def memory(name: str, contestant: str, tiny: str) -> dict[str, Any]:
    """Peaks in bytes, above what imports and reading the files took.

    `whole`: from the first preparation to the end of two runs; `run`: of one more run; `code`: what of either a tiny
    network, run before, had left behind, above all compiled code.
    """
    for module in ("intsim.engine.run", "intsim.model", "numba", "onnxruntime", "qonnx.util.cleanup"):
        importlib.import_module(module)
    network, small = restored(name), restored(tiny)
    (entered,) = (c for c in contestants() if c.name == contestant)
    forget_peak()
    before = status("VmRSS")
    first = entered.prepare(small)
    first()
    code = status("VmRSS") - before
    run = entered.prepare(network)
    run()
    run()
    whole = status("VmHWM") - before
    forget_peak()
    run()
    return {"whole": whole, "run": status("VmHWM") - before, "code": code}


def exact(name: str, seconds: str, threads: str) -> dict[str, Any]:
    """Times of target exact; with more than one thread the wall time is what matters."""
    asked = {"threads": int(threads)} if "threads" in options() and int(threads) > 1 else {}
    run = intsim_run("exact", **asked)(restored(name))
    digest = hashlib.sha256(run()[0].tobytes()).hexdigest()
    return {**take_turns({"exact": run}, float(seconds))["exact"].to_json(), "digest": digest}


def spawn(
    task: str, *arguments: str, cpus: set[int] | None = None, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a task of this file in a new process; returns its answer, or a `reason` why there is none."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.child", task, *arguments]

    def free() -> None:
        if cpus and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cpus)

    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=MAX_SECONDS, check=False, cwd=ROOT,
            env={**os.environ, **(variables or {})}, preexec_fn=free,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"reason": f"took longer than {MAX_SECONDS} s"}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {"reason": lines[-1][:160] if lines else f"ended with {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps({"memory": memory, "exact": exact}[sys.argv[1]](*sys.argv[2:])))
