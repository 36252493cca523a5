"""``python -m bench.report``: docs/measured/performance.md from out/bench/results.json, and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.bars import ARCHITECTURES, BY_QONNX, FUSED, PROVING, QCDQ, Bar, bars, row

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "out" / "bench" / "results.json"
PAGE = ROOT / "docs" / "measured" / "performance.md"
MIB = 1 << 20
WORDS = {True: "yes", False: "**no**", None: "-"}

NETWORKS = {
    "unet": "U-Net: 12 convolutions on 6x256x512",
    "h3dispnet": "h3dispnet of the zoo, a pair of 256x512 pixels (33x128x256 inside)",
    "dispnet": "dispnet of the zoo, a pair of 256x512 pixels (33x128x256 inside)",
    "mobilenet": "MobileNet: depthwise and 1x1 convolutions, residual additions, 3x224x224",
    "mlp64": "Perceptron 784-512-512-10, batch 64",
    "mlp1": "Perceptron 784-512-512-10, batch 1",
}

HOW = """## How it is measured

`make bench` (`make bench QUICK=1` for a minute or two) measures, writes `out/bench/results.json` and makes this page
from it. Everything runs on one thread, pinned to one core, except the table of threads. Contestants that live in one
environment take turns in one process: an untimed run, then timed ones for a moment, round after round. Times are CPU
time of the process, the median and, in brackets, the least; wall time is beside it. Ratios are of CPU medians. Peers
with an environment of their own run in a process pinned to the same core. All take floats and give floats, quantizing
included; TOSA and da4ml take codes and give sums.

Networks are in `bench/networks.py`: weights and inputs from seeds, or the zoo's files. Each exists as QONNX (intsim,
qonnx), as QCDQ node for node as Brevitas exports it (ONNX Runtime) and fully fused: every operator on integers
(QLinearConv, QGemm, QLinearAdd, QLinearGlobalAveragePool), what a deployment tool would reach at best.

*Differs* is the share of output codes that are not the exact ones, and the greatest distance; for a target with
overflows that is the point of it. *No counts* says whether a channel overflowed, *counts* how often.
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in rows)]) + "\n"


def ms(found: dict[str, Any]) -> str:
    """CPU time: median (least)."""
    digits = 3 if found["cpu_ms"] < 1 else 2 if found["cpu_ms"] < 10 else 1 if found["cpu_ms"] < 1000 else 0
    return f"{found['cpu_ms']:.{digits}f} ({found['cpu_min_ms']:.{digits}f})"


def number(value: float | None) -> str:
    """Three figures, or a dash."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def share(found: dict[str, Any]) -> str:
    """How much differs and how far."""
    if "differs" not in found:
        return "-"
    percent = 100 * found["differs"]
    return (
        "exact"
        if not percent
        else f"{percent:.{0 if percent >= 10 else 2}{'f' if percent >= 10 else 'g'}} %, {found['distance']}"
    )


def busy(results: dict[str, Any]) -> str:
    """Load average from the least to the greatest, before and after each section."""
    loads = [results["environment"]["load"], *(s["load"] for s in results["sections"].values() if "load" in s)]
    return f"{min(loads)} to {max(loads)}"


def machine(results: dict[str, Any]) -> str:
    """The environment."""
    e = results["environment"]
    facts = [
        f"{e['processor']}; {', '.join(e['flags']) or 'flags unknown'}; {e['cores']} cores, one used; {e['system']}",
        f"Python {e['python']}; " + ", ".join(f"{k} {v}" for k, v in e["versions"].items() if v != "not installed"),
        f"{e['date']}; load average {busy(results)}" + ("; quick run" if e.get("quick") else ""),
    ]
    return "## Machine\n\n" + "\n".join(f"- {f}" for f in facts) + "\n"


def asked(found: list[Bar]) -> tuple[list[str], list[list[str]], list[str]]:
    """The bars as a table, one row a bar and one column a network: heads, cells; and what else is to be said."""
    columns = [c for c in [*NETWORKS, *(b.network for b in found)] if any(b.network == c for b in found)]
    columns = list(dict.fromkeys(columns))
    rows: dict[tuple[str, str], dict[str, Bar]] = {}
    for b in found:
        rows.setdefault((f"{b.number}. {b.text}", b.asked), {})[b.network] = b
    cells = []
    for (text, limit), of in rows.items():
        said = [held(of[c].value, of[c].holds) if c in of else "" for c in columns]
        cells.append([text, limit, *said])
    why: dict[tuple[str, str], list[str]] = {}
    for b in found:
        if b.why:
            why.setdefault((f"{b.number}. {b.text}", b.why), []).append(b.network)
    notes = [f"{text}, {' and '.join(of)}: {reason}" for (text, reason), of in why.items()]
    return ["", "asked", *columns], cells, notes


def bar_table(results: dict[str, Any]) -> str:
    """The bars, what is measured and whether it holds."""
    head, cells, notes = asked(bars(results))
    if not cells:
        return ""
    lines = "".join(f"- {n}\n" for n in notes)
    return (
        "## Asked and measured\n\nRatios of CPU time on one thread.\n\n"
        + table(head, cells)
        + (f"\n{lines}" if lines else "")
    )


def raced(results: dict[str, Any], name: str) -> str:
    """One network's race, with what peers elsewhere took."""
    section = results["sections"][name]
    fused, qcdq = (row(results, name, n).get("cpu_ms") for n in (FUSED, QCDQ))
    peers = results["sections"].get("peers", {}).get("rows", [])
    rows = section["rows"] + [{**r, "name": r["peer"]} for r in peers if r["network"] == name]
    cells = []
    for r in rows:
        title = r["name"] + (f" ({r['target']})" if "target" in r else "")
        if "cpu_ms" not in r:
            cells.append([title, r.get("reason", "not measured"), *["-"] * 6])
            continue
        ratios = [number(r["cpu_ms"] / base) if base else "-" for base in (fused, qcdq)]
        events = "-" if r.get("events") is None else f"{r['events']}"
        cells.append([title, ms(r), f"{r['wall_ms']:.2f}", number(r["gmacs"]), *ratios, share(r), events])
    head = ["", "CPU ms", "wall ms", "GMAC/s", "to fused", "to QCDQ", "differs", "events or channels"]
    return f"### {NETWORKS.get(name, name)}: {section['macs'] / 1e9:.3g} GMAC\n\n{table(head, cells)}"


def held(value: float | None, holds: bool | None) -> str:
    """A figure, and whether it is as asked."""
    return f"{number(value)} {WORDS[holds]}".removesuffix(" -")


def architectures(results: dict[str, Any]) -> str:
    """Networks of well-known architectures beside ONNX Runtime on the same QDQ file."""
    cells = []
    for r in results["sections"].get("architectures", {}).get("rows", []):
        if "ratio" not in r:
            cells.append([r["name"], r.get("reason", "-"), *["-"] * 5])
            continue
        most = ", ".join(f"{kind} {spent:.2f}" for kind, spent, _ in r["kinds"][:3])
        times = f"{r['intsim_ms']:.2f}", f"{r['ort_ms']:.2f}"
        limit = ARCHITECTURES.get(r["name"])
        verdict = (
            ["-", number(r["ratio"])] if limit is None else [f"≤ {limit:g}", held(r["ratio"], r["ratio"] <= limit)]
        )
        cells.append([r["name"], *times, *verdict, number(r["ratio_of_least"]), most])
    head = ["network", "exact, CPU ms", "ORT, CPU ms", "asked", "ratio", "of the least", "most time in, ms"]
    note = "Target exact and ONNX Runtime, fully optimised, on one QDQ file (`bench/architectures.py`); medians.\n\n"
    return "## Architectures\n\n" + note + table(head, cells) if cells else ""


def layer_peers(results: dict[str, Any]) -> str:
    """Peers that were asked for one layer."""
    rows = [r for r in results["sections"].get("peers", {}).get("rows", []) if r["network"] not in NETWORKS]
    cells = []
    for r in rows:
        if "cpu_ms" not in r:
            cells.append([r["peer"], r["network"], r["reason"], "-", "-"])
        else:
            title = r["peer"] + (f" {r['version']}" if "version" in r else "")
            title += f", after {r['prepare_s']:.1f} s of preparation" if "prepare_s" in r else ""
            cells.append([title, r["network"], ms(r), number(r["gmacs"]), share(r)])
    return "## Peers on one layer\n\n" + table(["", "layer", "CPU ms", "GMAC/s", "differs"], cells) if cells else ""


def checked(results: dict[str, Any]) -> str:
    """Layers with and without the overflow check."""
    cells = []
    for r in results["sections"].get("overflow_check", {}).get("rows", []):
        if "checked" not in r:
            cells.append([r["network"], r.get("reason", "-"), *["-"] * 4])
            continue
        ratio = number(r["stepwise"]["cpu_ms"] / r["checked"]["cpu_ms"])
        verdict = "proven for every input" if r["proven"] else "same" if r["same"] else "**differs**"
        cells.append([r["network"], r["target"], ms(r["checked"]), ms(r["stepwise"]), ratio, verdict])
    head = ["layer", "registers", "checked, CPU ms", "stepwise, CPU ms", "stepwise / checked", "verdict"]
    note = "Registers two bits wider than the input's own peak; codes in, codes out, no counts.\n\n"
    return "## The overflow check\n\n" + note + table(head, cells) if cells else ""


def proved(results: dict[str, Any]) -> str:
    """Loading, certificates and sweeps."""
    found = results["sections"].get("proving", {})
    cells = []
    for r in found.get("rows", []):
        one, single = (r.get(k, {}).get("cpu_ms") for k in ("run", "sweep one"))
        times = [ms(r[k]) if k in r else "-" for k in ("load", "run")]
        slow = [ms(r[k]) + " " + WORDS[r[k]["cpu_ms"] <= 1e3 * most] if k in r else "-" for k, most in PROVING.items()]
        peer = r["qonnx"]["cpu_ms"] / one if one and "qonnx" in r else None
        cells.append([
            r["network"] + (f": {r['reason']}" if "reason" in r else ""), *times,
            held(peer, None if peer is None else peer >= BY_QONNX), *slow,
            number(r["load"]["cpu_ms"] / one if one and "load" in r else None),
            number(r["sweep nine"]["cpu_ms"] / single if single and "sweep nine" in r else None),
        ])  # fmt: skip
    seconds = [f"≤ {most:g} s" for most in PROVING.values()]
    head = ["network", "load, CPU ms", "exact run", f"qonnx / run, ≥ {BY_QONNX:g}"]
    head += [f"certify, {found.get('target', '-')}, {seconds[0]}", f"sweep of 9 widths, {seconds[1]}"]
    head += ["load / run", "9 widths / one"]
    return "## Loading and proving\n\n" + table(head, cells) if cells else ""


def grown(results: dict[str, Any]) -> str:
    """Time by size."""
    cells = []
    for r in results["sections"].get("growth", {}).get("rows", []):
        if "intsim" not in r:
            cells.append([r["kind"], r["network"], f"{r['macs'] / 1e9:.3g}", r.get("reason", "-"), *["-"] * 3])
            continue
        per_mac = [1e9 * r[k]["cpu_ms"] / r["macs"] for k in ("intsim", "fused")]
        cells.append([
            r["kind"], r["network"], f"{r['macs'] / 1e9:.3g}", ms(r["intsim"]), *(f"{v:.2f}" for v in per_mac),
            number(r["intsim"]["cpu_ms"] / r["fused"]["cpu_ms"]),
        ])  # fmt: skip
    head = ["grows", "network", "GMAC", "exact, CPU ms", "exact, ms/GMAC", "fused, ms/GMAC", "to fused"]
    return "## Growth\n\n" + table(head, cells) if cells else ""


def threaded(results: dict[str, Any]) -> str:
    """One and two threads."""
    found = results["sections"].get("threads", {})
    cells = [
        [r["network"], str(r["threads"]), f"{r['wall_ms']:.1f}" if "wall_ms" in r else r.get("reason", "-"),
         ms(r) if "cpu_ms" in r else "-"]
        for r in found.get("rows", [])
    ]  # fmt: skip
    head = ["target exact", "threads", "wall ms", "CPU ms"]
    return f"## Threads, on {found.get('cores', '?')} cores\n\n" + table(head, cells) if cells else ""


def remembered(results: dict[str, Any]) -> str:
    """Peak memory."""
    cells = []
    for r in results["sections"].get("memory", {}).get("rows", []):
        if "whole" not in r:
            cells.append([r["name"], r["network"], r.get("reason", "-"), "-", "-", "-"])
            continue
        sizes = (r["whole"], r["whole"] - r["code"], r["run"], r["layer"])
        cells.append([r["name"], r["network"], *(f"{s / MIB:.0f}" for s in sizes)])
    note = (
        "MiB of resident memory above a process that has imported everything and read the files: the peak from reading"
        " the network to the end of two runs; the same less what a tiny network had left behind, above all compiled"
        " code; the peak of one more run; and the largest layer, inputs and output, at a byte a code.\n\n"
    )
    head = ["", "network", "peak", "without code", "peak of a run", "largest layer"]
    return "## Memory\n\n" + note + table(head, cells) if cells else ""


def ported(results: dict[str, Any]) -> str:
    """Other instruction sets."""
    rows = results["sections"].get("instruction sets", {}).get("rows", [])
    cells = [
        [r["title"], r["network"], ms(r) if "cpu_ms" in r else r.get("reason", "-"), r.get("digest", "-")[:12]]
        for r in rows
    ]
    head = ["kernels compiled for", "network", "CPU ms", "digest of the output"]
    return "## Other instruction sets, target exact\n\n" + table(head, cells) if cells else ""


def started(results: dict[str, Any]) -> str:
    """Cold start."""
    s = results["sections"].get("start", {})
    if "first_s" not in s:
        return f"## Start\n\n{s['reason']}\n" if "reason" in s else ""
    cells = [
        ["`import numpy, onnx, numba`", f"{s['imports_s']:.2f}"],
        ["`intsim verify` to its first output", f"{s['first_s']:.2f}"],
        ["`intsim verify` to its verdict", f"{s['verdict_s']:.2f}"],
    ]
    return f"## Start\n\nMedians of {s['starts']}, compiled code cached.\n\n" + table(["", "wall s"], cells)


def page(results: dict[str, Any]) -> str:
    """The whole page."""
    races = [n for n in NETWORKS if n in results["sections"]]
    parts = [
        "# Performance\n\nMade by `make bench` on the machine below. No number on this page is written by hand.\n",
        machine(results),
        bar_table(results),
        HOW,
        "## Whole networks\n",
        *(raced(results, n) if "rows" in results["sections"][n] else f"### {NETWORKS[n]}\n\nfailed\n" for n in races),
        architectures(results), layer_peers(results), checked(results), proved(results), grown(results),
        threaded(results), remembered(results), ported(results), started(results),
    ]  # fmt: skip
    return "\n".join(p for p in parts if p)


def write_page(results: dict[str, Any], path: Path = PAGE) -> Path:
    """Write the page; returns its path."""
    path.write_text(page(results))
    return path


def print_bars(results: dict[str, Any]) -> None:
    """The bars on the terminal."""
    (_, _, *networks), cells, notes = asked(bars(results))
    console = Console(highlight=False, soft_wrap=True)
    for text, limit, *said in cells:
        found = [f"{n} {v.replace('**', '')}" for n, v in zip(networks, said, strict=True) if v]
        console.print(f"{text}  ({limit})\n    {'   '.join(found)}", markup=False)
    for note in notes:
        console.print(note, markup=False)


def main() -> None:
    """Render what was measured last."""
    results = json.loads(RESULTS.read_text())
    print_bars(results)
    print(write_page(results).relative_to(ROOT))


if __name__ == "__main__":
    main()
