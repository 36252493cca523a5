"""What `--profile` shows: kernel, time and memory of each layer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from intsim.report.numbers import number, size

if TYPE_CHECKING:
    from rich.console import Console

    from intsim.engine.program.program import LayerProfile

FIGURES = {"why": 3, "MACs": 13, "ms": 8, "%": 4, "GMAC/s": 6, "output": 7}
"""Columns of figures, and how wide they are at least."""


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
    for place, r in sorted(((i, r) for run in runs for i, r in enumerate(run)), key=lambda found: found[0]):
        row = layers.setdefault(
            (place, r.name, r.kernel, r.why),
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


def show_profile(console: Console, found: dict[str, Any]) -> None:
    """The table of `profile_json`, the reasons for the kernels by number, and totals."""
    reasons = list(dict.fromkeys(row["why"] for row in found["layers"]))
    runs = max(found["runs"], 1)
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    spare = max(console.width - sum(FIGURES.values()) - 3 * (len(FIGURES) + 3), 30)
    for head, part in (("layer", 0.42), ("op", 0.25), ("kernel", 0.33)):
        table.add_column(head, no_wrap=True, overflow="ellipsis", max_width=int(part * spare))
    for head, width in FIGURES.items():
        table.add_column(head, justify="right", no_wrap=True, min_width=width)
    for row in found["layers"]:
        table.add_row(
            *(escape(row[key]) for key in ("name", "op", "kernel")),
            str(1 + reasons.index(row["why"])),
            number(row["macs"]) if row["macs"] else "-",
            f"{1e3 * row['seconds'] / runs:.3f}",
            f"{100 * row['seconds'] / found['seconds']:.1f}" if found["seconds"] > 0 else "-",
            _rate_text(row["gmacs_per_second"]),
            size(row["bytes"]),
        )
    console.print(table)
    lines = [f"why {1 + i}: {reason}" for i, reason in enumerate(reasons)]
    lines.append(
        f"{1e3 * found['seconds'] / runs:.1f} ms a run, {1e3 * found['seconds_elsewhere'] / runs:.1f} of them outside "
        f"the layers; {number(found['macs'])} MACs, {_rate_text(found['gmacs_per_second'])} GMAC/s"
    )
    lines.append(
        f"{1e3 * found['seconds_once']:.1f} ms before, once, for planning and for loading or compiling kernels"
    )
    memory = [f"tensors at once {size(found['live_bytes'])}"] if found["live_bytes"] else []
    memory += [f"process at most {size(found['peak_rss_bytes'])}"] if found["peak_rss_bytes"] else []
    lines += [f"memory: {', '.join(memory)}"] if memory else []
    for line in lines:
        console.print(line, markup=False, highlight=False)


def _rate_text(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3g}"
