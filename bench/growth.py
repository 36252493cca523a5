"""How intsim grows: with image side, channels, batch and threads; how much memory it takes; other instruction sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from bench.child import spawn
from bench.contestants import intsim_run, loaded, onnxruntime_run
from bench.networks import ROOT, Network, mlp, unet, zoo
from bench.race import one_line
from bench.timing import take_turns

Report = Callable[[str], None]
CACHES = ROOT / "out" / "bench" / "numba"
ISA: dict[str, dict[str, str]] = {
    "this processor": {},
    "AVX2 (haswell)": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
    "SSE2 (x86-64)": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""},
}
MEMORY = (
    "intsim exact",
    "intsim saturate-18, counts",
    "ORT fully fused int8",
    "ORT QCDQ, all optimisations",
    "qonnx execute_onnx",
)


def largest_layer(network: Network) -> int:
    """Bytes of the largest layer, its inputs and its output together, one byte a code."""
    graph = loaded(network).graph
    sizes = {name: int(np.prod(info.shape)) for name, info in graph.tensors.items()}
    return max(sum(sizes[i] for i in node.inputs) + sizes[node.output] for node in graph.nodes)


def series(kind: str, networks: Iterable[Network], seconds: float, progress: Report) -> list[dict[str, Any]]:
    """Time of intsim exact and of fully fused int8, network by network; `kind` says what grows."""
    rows = []
    for network in networks:
        progress(f"{kind}: {network.name}")
        row: dict[str, Any] = {"kind": kind, "network": network.name, "macs": network.macs}
        try:
            runs = {"intsim": intsim_run("exact")(network), "fused": onnxruntime_run("fused", "ALL")(network)}
            for run in runs.values():
                run()
            for name, timing in take_turns(runs, seconds, most=20).items():
                row[name] = timing.to_json()
        except Exception as error:
            row["reason"] = one_line(error)
        rows.append(row)
    return rows


def growth(quick: bool, progress: Report) -> dict[str, Any]:
    """Rows of time by size, each kind from x1 to x64 multiply-accumulates."""
    steps = (1, 2, 4) if quick else (1, 2, 4, 8)
    seconds = 0.5 if quick else 2.0
    rows = series("unet, image side", (unet(64 * s, 128 * s) for s in steps), seconds, progress)
    rows += series("unet, channels", (unet(128, 256, channels=8 * s) for s in steps), seconds, progress)
    rows += series("unet, batch", (unet(64, 128, s * s) for s in steps), seconds, progress)
    rows += series("mlp64, batch", (mlp(s * s) for s in steps), seconds, progress)
    return {"rows": rows}


def threads(quick: bool, progress: Report, cpus: set[int]) -> dict[str, Any]:
    """Wall and CPU time of one and two threads on two cores."""
    rows = []
    for network in (unet(), zoo("h3dispnet")):
        network.save()
        for count in (1, 2):
            progress(f"{network.name}, {count} threads")
            seconds = "1" if quick else "4"
            found = spawn(
                "exact", network.name, seconds, str(count), cpus=cpus, variables={"INTSIM_THREADS": str(count)}
            )
            rows.append({"network": network.name, "threads": count, **found})
    return {"rows": rows, "cores": len(cpus)}


def memory(quick: bool, progress: Report) -> dict[str, Any]:
    """Peak memory of contestants, and of intsim exact on larger images."""
    rows = []
    tiny = unet(16, 32)
    tiny.save()
    networks: list[tuple[Network, tuple[str, ...]]] = (
        [(unet(), MEMORY)] if quick else [(unet(), MEMORY), (zoo("h3dispnet"), MEMORY)]
    )
    sizes = ((512, 1024),) if quick else ((512, 1024), (1024, 2048))
    networks += [(unet(*size), ("intsim exact", "ORT fully fused int8")) for size in sizes]
    for network, names in networks:
        network.save()
        layer_bytes = largest_layer(network)
        for name in names:
            progress(f"{network.name}: {name}")
            found = spawn("memory", network.name, name, tiny.name)
            rows.append({"network": network.name, "name": name, "layer": layer_bytes, **found})
    return {"rows": rows}


def instruction_sets(quick: bool, progress: Report) -> dict[str, Any]:
    """intsim exact compiled for older processors: time, and whether the output is the same."""
    rows = []
    for network in (unet(128, 256) if quick else unet(), zoo("h3dispnet")):
        network.save()
        for title, variables in ISA.items():
            progress(f"{network.name}: {title}")
            own = {"NUMBA_CACHE_DIR": str(CACHES / variables["NUMBA_CPU_NAME"])} if variables else {}
            found = spawn("exact", network.name, "1" if quick else "3", "1", variables={**variables, **own})
            rows.append({"network": network.name, "title": title, **found})
    return {"rows": rows}
