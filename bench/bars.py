"""What intsim should hold on one thread of a processor with VNNI, and whether it does. Ratios of CPU time medians."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.contestants import CHECKED, STEPWISE

FUSED, QCDQ, QONNX, EXACT = (
    "ORT fully fused int8",
    "ORT QCDQ, all optimisations",
    "qonnx execute_onnx",
    "intsim exact",
)
WHOLE = ("unet", "h3dispnet", "dispnet", "mobilenet", "mlp64", "mlp1")
ARCHITECTURES = {
    **dict.fromkeys(("resnet18_224", "mobilenet_v2_224"), 1.0),
    **dict.fromkeys(("googlenet_96", "cnv_32"), 1.2),
    **dict.fromkeys(("efficientnet_b0_64", "yolo_64", "perceptron_64"), 1.5),
    **dict.fromkeys(("swin_64", "vit_64"), 2.5),
    "perceptron_1": 3.0,
}
"""Most that an exact run may take, in runs of ONNX Runtime on the same QDQ file."""
PROVING = {"certify": 5.0, "sweep nine": 8.0}
"""Most CPU seconds."""
BY_QONNX = 20.0
"""Least time of qonnx's executor, in exact runs."""
REGISTERS = {
    "saturate-16, no counts": {"mobilenet": 6.0, "mlp64": 6.0, "mlp1": 15.0},
    "saturate-16, counts": {"mobilenet": 9.0, "mlp64": 9.0},
}
"""Instead of `STEPWISE_BARS`, of networks of small layers."""
STEPWISE_BARS = (
    ("saturate-16, no counts", 3.5),
    ("saturate-18, no counts", 9.0),
    ("saturate-16, counts", 7.0),
    ("saturate-18, counts", 13.0),
    ("x86-avx2, no counts", 6.0),
)
GROWTH = 1.25
CHECK_RATIO = "stepwise / checked, 2 bits above the peak, no counts"


@dataclass(frozen=True)
class Bar:
    """One requirement on one network; `value` None where it was not measured, and then `why`."""

    number: str
    text: str
    network: str
    asked: str
    value: float | None
    holds: bool | None
    why: str = ""


def row(results: dict[str, Any], network: str, name: str) -> dict[str, Any]:
    """A contestant's row, empty if there is none."""
    rows = results["sections"].get(network, {}).get("rows", [])
    return next((r for r in rows if r["name"] == name), {})


def ratio(results: dict[str, Any], network: str, above: str, below: str) -> tuple[float | None, str]:
    """CPU time of one contestant over another's, or why there is none."""
    a, b = (row(results, network, n) for n in (above, below))
    for name, found in ((above, a), (below, b)):
        if "cpu_ms" not in found:
            return None, f"{name}: {found.get('reason', 'not measured')}"
    return a["cpu_ms"] / b["cpu_ms"], ""


def at_most(number: str, text: str, network: str, limit: float, found: tuple[float | None, str]) -> Bar:
    """A bar from above."""
    value, why = found
    return Bar(number, text, network, f"≤ {limit:g}", value, None if value is None else value <= limit, why)


def at_least(number: str, text: str, network: str, limit: float, found: tuple[float | None, str]) -> Bar:
    """A bar from below."""
    value, why = found
    return Bar(number, text, network, f"≥ {limit:g}", value, None if value is None else value >= limit, why)


def races(results: dict[str, Any]) -> Iterator[Bar]:
    """Bars 1 to 4, from the races."""
    raced = [n for n in WHOLE if n in results["sections"]]
    for n in raced:
        yield at_most("1", "exact / ORT on QCDQ, all optimisations", n, 1.0, ratio(results, n, EXACT, QCDQ))
        yield at_most("1", "exact / ORT fully fused int8", n, 1.5, ratio(results, n, EXACT, FUSED))
    for n in raced:
        yield at_least("2", "qonnx execute_onnx / exact", n, 10, ratio(results, n, QONNX, EXACT))
    yield from peaks(results)
    for name, limit in STEPWISE_BARS:
        for n in raced:
            found = ratio(results, n, f"intsim {name}", FUSED)
            limits = REGISTERS.get(name, {})
            yield at_most("3", f"{name} / ORT fully fused int8", n, limits.get(n, limit), found)
    for n in raced:
        bar = at_least("4", CHECK_RATIO, n, 4, ratio(results, n, STEPWISE, CHECKED))
        yield bar if bar.value is None else same_verdict(results, n, bar)


def layerwise(results: dict[str, Any]) -> Iterator[Bar]:
    """Bar 4 on single layers: the least ratio of those that are not proven for every input."""
    rows = results["sections"].get("overflow_check", {}).get("rows", [])
    mine = [r for r in rows if "checked" in r and not r["proven"]]
    if mine:
        each = [r["stepwise"]["cpu_ms"] / r["checked"]["cpu_ms"] for r in mine]
        said = ", ".join(f"{r['network']} ({r['target']}) {e:.1f}" for r, e in zip(mine, each, strict=True))
        bar = at_least("4", f"{CHECK_RATIO}, single layers", "layers", 4, (min(each), said))
        same = all(r["same"] for r in mine)
        yield bar if same else Bar(bar.number, bar.text, "layers", bar.asked, bar.value, False, "the verdicts differ")


def same_verdict(results: dict[str, Any], network: str, bar: Bar) -> Bar:
    """The bar, broken if the two paths say different things, and no bar if they are the same path."""
    a, b = row(results, network, CHECKED), row(results, network, STEPWISE)
    if not a.get("checked", True):
        why = f"{a['target']}: no layer is left to the overflow check"
        return Bar(bar.number, bar.text, network, bar.asked, bar.value, None, why)
    if (bool(a["events"]), a["differs"]) == (bool(b["events"]), b["differs"]):
        return bar
    return Bar(bar.number, bar.text, network, bar.asked, bar.value, False, "the verdicts differ")


def peaks(results: dict[str, Any]) -> Iterator[Bar]:
    """Bar 2, memory."""
    rows = results["sections"].get("memory", {}).get("rows", [])
    for network in dict.fromkeys(r["network"] for r in rows):
        of = {r["name"]: r for r in rows if r["network"] == network}
        a, b = of.get(EXACT, {}), of.get(QONNX, {})
        if b:
            known = "whole" in a and "whole" in b
            why = a.get("reason") or b.get("reason", "")
            found = (a["whole"] / b["whole"], "") if known else (None, why)
            yield at_most("2", "peak memory, exact / qonnx", network, 0.2, found)
            own = [r["whole"] - r["code"] for r in (a, b)] if known else []
            found = (own[0] / own[1], "") if known else (None, why)
            yield at_most("2", "peak memory without compiled code, exact / qonnx", network, 0.2, found)


def portable(results: dict[str, Any]) -> Iterator[Bar]:
    """Bar 5, other instruction sets."""
    rows = results["sections"].get("instruction sets", {}).get("rows", [])
    for network in dict.fromkeys(r["network"] for r in rows):
        first, *others = (r for r in rows if r["network"] == network)
        for other in others:
            known = "cpu_ms" in first and "cpu_ms" in other
            why = first.get("reason") or other.get("reason", "")
            if known and first["digest"] != other["digest"]:
                yield Bar("5", f"exact, {other['title']}", network, "same output", None, False, "the output differs")
                continue
            value = other["cpu_ms"] / first["cpu_ms"] if known else None
            if "haswell" in other["title"]:
                yield at_most("5", f"exact, {other['title']} / {first['title']}", network, 3, (value, why))
            else:
                holds = True if known else None
                yield Bar("5", f"exact, {other['title']}", network, "same output", value, holds, why)


def spread(rows: list[dict[str, Any]], name: str) -> float:
    """Greatest over least time per multiply-accumulate."""
    each = [r[name]["cpu_ms"] / r["macs"] for r in rows]
    return max(each) / min(each)


def grown(results: dict[str, Any]) -> Iterator[Bar]:
    """Bar 6, growth and memory of a large image."""
    rows = results["sections"].get("growth", {}).get("rows", [])
    for kind in dict.fromkeys(r["kind"] for r in rows):
        mine = [r for r in rows if r["kind"] == kind]
        macs, missing = [r["macs"] for r in mine], [r for r in mine if "intsim" not in r]
        title, text = kind.split(", ")
        text = f"time per MAC, {text} x1 to x{round(max(macs) / min(macs))}, greatest / least"
        if missing:
            yield at_most("6", text, title, GROWTH, (None, missing[0].get("reason", "not measured")))
        else:
            fused = f"fully fused int8: {spread(mine, 'fused'):.2f}"
            yield at_most("6", text, title, GROWTH, (spread(mine, "intsim"), fused))
    rows = [r for r in results["sections"].get("memory", {}).get("rows", []) if r["name"] == EXACT]
    mine = [r for r in rows if r["network"].startswith("unet") and "run" in r]
    slopes = [(b["whole"] - a["whole"]) / (b["layer"] - a["layer"]) for a, b in pairwise(mine)]
    for a, b in pairwise(slopes):
        each = f"{a:.2f}, then {b:.2f} bytes a byte of the largest layer"
        yield at_most("6", f"peak memory growth, {mine[-1]['network']} / before", "unet", GROWTH, (b / a, each))


def started(results: dict[str, Any]) -> Iterator[Bar]:
    """Bar 8, cold start."""
    found = results["sections"].get("start", {})
    if "first_s" in found:
        value = found["first_s"] / found["imports_s"]
        yield at_most(
            "8", "intsim verify to its first output / import numpy, onnx, numba", "h3dispnet", 2.5, (value, "")
        )


def bars(results: dict[str, Any]) -> list[Bar]:
    """All of them, in order."""
    return [*races(results), *layerwise(results), *portable(results), *grown(results), *started(results)]
