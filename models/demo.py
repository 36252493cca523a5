"""The main job, end to end: ``python -m models.demo [--out DIR]``.

A real stereo photograph goes through the committed INT8 networks as integers only; every layer is compared with exact
semantics, the result with qonnx and ONNX Runtime; the fixed-point Hilbert decoder turns codes into disparity, which is
drawn beside the ground truth; the quantization error of both networks is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import intsim
from intsim.report import files
from intsim.report.verdict import show_verdict
from models.disparity import Network, disparity, float_disparity, read_network
from models.evaluate import accuracy, pair_input, quantization_error, run_onnx
from models.real_pair import real_pair
from models.stereo import Pair, generate, on_grid

NETWORKS = ("dispnet", "h3dispnet")
TEST_PAIRS = 8
"""Generated test pairs beside the photograph."""
TARGETS = ("cpu-int32", "dsp-40", "dsp48e2", "x86-avx2", "x86-vnni")


def integers(model: intsim.Model, pairs: list[Pair], target: str) -> tuple[NDArray[np.int64], int]:
    """Output codes of `pairs` on a target, stacked, and the overflow events on the way."""
    codes, events = [], 0
    for pair in pairs:
        ran = intsim.run(model, target, {"codes": pair_input(pair)})
        codes.append(ran.codes["output"])
        events += sum(int(e.sum()) for e in ran.overflows.values())
    return np.concatenate(codes), events


def measure(
    network: Network, model: intsim.Model, pairs: list[Pair], targets: list[str]
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Accuracy of FP32 and of integers, and quantization error, for each target; and the disparities."""
    truth, valid = (np.stack([on_grid(getattr(p, key)) for p in pairs]) for key in ("disparity", "valid"))
    floats = float_disparity(run_onnx(network.file("fp32"), [pair_input(p) for p in pairs]), network)
    maps = {"fp32": floats}
    measured: dict[str, Any] = {"fp32": accuracy(floats, truth, valid)}
    for target in targets:
        codes, events = integers(model, pairs, target)
        maps[target] = disparity(codes, network)
        error = quantization_error(maps[target], floats, network.disparity_range)
        measured[target] = {**accuracy(maps[target], truth, valid), "error": error, "overflows": events}
    return measured, maps


def quality_table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    """Accuracy and quantization error of each network on each target."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("network")
    table.add_column("arithmetic")
    for head in ("EPE px", "> 3 px", "mean |e| px", "RMSE px", "robust SD px", "jumps", "overflows"):
        table.add_column(head, justify="right")
    for name, measured in rows.items():
        for kind, r in measured.items():
            e = r.get("error")
            figures = ["-"] * 5
            if e is not None:
                figures = [f"{e['mean']:.4f}", f"{e['rmse']:.4f}", f"{e['robust_sd']:.4f}", f"{e['jump_rate']:.2%}"]
                figures.append(f"{r['overflows']:,}".replace(",", " "))
            table.add_row(name, kind, f"{r['epe']:.3f}", f"{r['bad3']:.2%}", *figures)
    return table


def draw(path: Path, pair: Pair, maps: dict[str, NDArray[np.float64]], network: Network) -> None:
    """Left image, ground truth and disparities side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    truth = np.where(on_grid(pair.valid), on_grid(pair.disparity), np.nan)
    panels = [("left image", pair.left, "gray"), ("ground truth", truth, "turbo")]
    panels += [(title, image, "turbo") for title, image in maps.items()]
    figure, axes = pyplot.subplots(2, -(-len(panels) // 2), figsize=(13, 5.6), layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    shown = None
    for axis, (title, image, colours) in zip(axes.flat, panels, strict=False):
        limits = {} if colours == "gray" else {"vmin": 0, "vmax": network.disparity_range}
        drawn = axis.imshow(image, cmap=colours, interpolation="nearest", **limits)
        shown = drawn if limits else shown
        axis.set_title(title, fontsize=10)
    assert shown is not None
    figure.colorbar(shown, ax=axes, shrink=0.8, label="disparity, px")
    figure.suptitle(f"{network.name} on {pair.name}: integers only, fixed-point Hilbert decoder")
    with files.file(path) as draft:
        figure.savefig(draft, dpi=110)
    pyplot.close(figure)


def main() -> int:
    """Command line; exit code 0 if both networks are exact, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m models.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/verify"), help="folder for PNG and JSON")
    parser.add_argument("--target", action="append", help=f"more targets to measure (default: {', '.join(TARGETS)})")
    arguments = parser.parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=120)
    status = Console(stderr=True)
    targets = list(dict.fromkeys(["exact", *(arguments.target or TARGETS)]))
    try:
        return demonstrate(arguments.out, targets, console, status)
    except intsim.IntsimError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2


def demonstrate(out: Path, targets: list[str], console: Console, status: Console) -> int:
    """Verify, measure, draw and write."""
    for target in targets:  # a bad one is refused before anything runs
        intsim.Target.load(target)
    networks = {name: read_network(name) for name in NETWORKS}
    shape = networks["h3dispnet"].height, networks["h3dispnet"].width
    with status.status("fetching a real stereo pair"):
        pair = real_pair(*shape)
    console.print(f"stereo pair: {pair.name}, {shape[1]} x {shape[0]} pixels", highlight=False)
    models = {name: intsim.load(network.file("w8a8.qonnx")) for name, network in networks.items()}
    verdicts = {}
    for name, model in models.items():
        with status.status(f"verifying {name}") as line:
            verdicts[name] = intsim.verify(
                model, "exact", {"codes": pair_input(pair)}, reference_timeout=60, progress=line.update
            )
        show_verdict(console, verdicts[name])
    photograph, generated = [pair], [generate("test", i, *shape) for i in range(TEST_PAIRS)]
    results: dict[str, dict[str, Any]] = {}
    for title, pairs, chosen in (
        (pair.name, photograph, targets),
        (f"{TEST_PAIRS} generated test pairs", generated, ["exact"]),
    ):
        with status.status(f"measuring on {title}"):
            measured = {name: measure(networks[name], models[name], pairs, chosen) for name in NETWORKS}
        results[title] = {name: f[0] for name, f in measured.items()}
        heading = f"{title}: accuracy, and quantization error e = integers - FP32"
        console.print(quality_table(heading, results[title]))
        if pairs is photograph:
            plain, hilbert = measured["dispnet"][1], measured["h3dispnet"][1]
            picked = {"h3dispnet FP32": hilbert["fp32"], "h3dispnet integers, exact": hilbert["exact"]}
            if "x86-avx2" in targets:
                picked["h3dispnet integers, x86-avx2"] = hilbert["x86-avx2"]
            picked["dispnet integers, exact"] = plain["exact"]
            draw(out / "disparity.png", pair, {k: v[0] for k, v in picked.items()}, networks["h3dispnet"])
    summary = {"pair": pair.name, "verdicts": {n: asdict(v) for n, v in verdicts.items()}, "quality": results}
    with files.file(out / "summary.json") as draft:
        draft.write_text(json.dumps(summary, indent=1) + "\n")
    with files.file(out / "codes.npy") as draft, draft.open("wb") as stream:
        np.save(stream, pair_input(pair), allow_pickle=False)
    console.print(f"wrote {out / 'disparity.png'}, {out / 'summary.json'} and {out / 'codes.npy'}", highlight=False)
    return 0 if all(v.holds for v in verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
