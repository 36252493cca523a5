"""What the numbers depend on: processor, versions, threads, load."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

FLAGS = ("sse4_2", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_vbmi", "amx_int8", "asimddp")
PACKAGES = ("intsim", "numpy", "numba", "llvmlite", "onnx", "onnxruntime", "qonnx", "brevitas")


def processor() -> tuple[str, list[str]]:
    """Name, and those of FLAGS that it has, as /proc/cpuinfo says; without one, what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name", platform.machine())
    if "cpu family" in facts:
        name += f", family {facts['cpu family']} model {facts.get('model', '?')}"
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return name, [f for f in FLAGS if f in flags]


def version(package: str) -> str:
    """The installed version, or a word that says there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def environment() -> dict[str, Any]:
    """Plain values for the results file."""
    name, flags = processor()
    return {
        "processor": name,
        "flags": flags,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {p: version(p) for p in PACKAGES},
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load": round(os.getloadavg()[0], 2),
    }
