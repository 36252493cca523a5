"""What `--profile` shows: kernel, time and memory of each layer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from intsim.report.table import Column, say, show_table
from intsim.report.text import number, size

if TYPE_CHECKING:
    from rich.console import Console

    from intsim.engine.program.program import LayerProfile


def profile_json(
    runs: Sequence[Sequence[LayerProfile]], seconds: float, once: float, live_bytes: int
) -> dict[str, Any]:
    """Layers in the order they ran, the same layer of several runs as one, and totals.

    Args:
        runs: records of each run; the same steps in each, though perhaps not by the same kernels.
        seconds: of whole runs, what is done outside the integer graph included, in all.
        once: how much longer the very first run took, which plans, and loads or compiles kernels.
        live_bytes: the largest sum of tensors that a run holds at once; 0 if it is not known.

    Returns:
        `layers` with name, op, kernel, why, runs, macs (one run), seconds (all runs), gmacs_per_second (None without
        MACs), bytes of the output; `runs`, `macs`, `seconds`, `seconds_elsewhere`, `seconds_once`,
        `gmacs_per_second`, `live_bytes`, and `peak_rss_bytes` of the process so far (None where that is not told).
    """
    layers: dict[tuple[int, str, str, str], dict[str, Any]] = {}
    records = [r for run in runs for r in run]
    for step, r in sorted(((i, r) for run in runs for i, r in enumerate(run)), key=lambda pair: pair[0]):
        row = layers.setdefault(
            (step, r.name, r.kernel, r.why),
            {"name": r.name, "op": r.op, "kernel": r.kernel, "why": r.why, "runs": 0, "macs": r.macs, "seconds": 0.0},
        )
        row["runs"] += 1
        row["seconds"] += r.seconds
        row["gmacs_per_second"] = _rate(r.macs * row["runs"], row["seconds"])
        row["bytes"] = r.bytes
    within, macs = sum(r.seconds for r in records), sum(r.macs for r in records)
    return {
        "layers": list(layers.values()),
        "runs": len(runs),
        "macs": macs // max(len(runs), 1),
        "seconds": seconds,
        "seconds_elsewhere": max(seconds - within, 0.0),
        "seconds_once": once,
        "gmacs_per_second": _rate(macs, seconds),
        "live_bytes": live_bytes,
        "peak_rss_bytes": peak_rss(),
    }


def _rate(macs: int, seconds: float) -> float | None:
    return macs / seconds / 1e9 if macs and seconds > 0 else None


def peak_rss() -> int | None:
    """The most memory that this process has held so far, in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def show_profile(console: Console, profile: dict[str, Any]) -> None:
    """The table of `profile_json`, the reasons for the kernels by number, and totals."""
    rows, seconds, runs = profile["layers"], profile["seconds"], max(profile["runs"], 1)
    reasons = list(dict.fromkeys(row["why"] for row in rows))
    show_table(
        console,
        [
            Column("layer", [row["name"] for row in rows], "text"),
            Column("op", [row["op"] for row in rows], "text"),
            Column("kernel", [row["kernel"] for row in rows], "text"),
            Column("why", [str(1 + reasons.index(row["why"])) for row in rows]),
            Column("MACs", [number(row["macs"]) if row["macs"] else "-" for row in rows]),
            Column("ms", [f"{1e3 * row['seconds'] / runs:.3f}" for row in rows]),
            Column("%", [f"{100 * row['seconds'] / seconds:.1f}" if seconds > 0 else "-" for row in rows]),
            Column("GMAC/s", [_rate_text(row["gmacs_per_second"]) for row in rows]),
            Column("output", [size(row["bytes"]) for row in rows], spare=1),
        ],
    )
    for i, reason in enumerate(reasons):
        say(console, f"why {1 + i}: {reason}")
    say(
        console,
        f"{1e3 * seconds / runs:.1f} ms a run, {1e3 * profile['seconds_elsewhere'] / runs:.1f} of them outside "
        f"the layers; {number(profile['macs'])} MACs, {_rate_text(profile['gmacs_per_second'])} GMAC/s",
    )
    once = 1e3 * profile["seconds_once"]
    say(console, f"{once:.1f} ms before, once, for planning and for loading or compiling kernels")
    memory = [f"tensors at once {size(profile['live_bytes'])}"] if profile["live_bytes"] else []
    memory += [f"process at most {size(profile['peak_rss_bytes'])}"] if profile["peak_rss_bytes"] else []
    if memory:
        say(console, f"memory: {', '.join(memory)}")


def _rate_text(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3g}"
