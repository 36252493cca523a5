"""Pictures of the page; every bar and point is a figure of the results files. The same results give the same bytes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models.study.records import MAIN, Records
from models.study.sections import base, remedied, rows_of, scheme_of, scheme_rows, targets_of, ways
from models.study.tables import BAR

DPI = 90
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#000000", "#f0e442")
FIGURES = (("robust_sd", "robust SD"), ("mean", "mean"), ("rmse", "RMSE"))

Bars = dict[str, dict[str, list[float]]]
"""Values over the seeds by label (a colour) and group (a place on the axis)."""


def draw(records: Records, folder: Path) -> dict[str, Path]:
    """Draw ``study_NAME.png`` for every plot that has data; their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, plot in _PLOTS.items():
        if (figure := plot(records)) is not None:
            drawn[name] = folder / f"study_{name}.png"
            figure.savefig(drawn[name], format="png", metadata={"Software": None})
    return drawn


def ratio(records: Records) -> Any:
    """Ratio to the plain network by order, beside the curve's length."""
    rows = [m for _, m in rows_of(records, base(records)) if m.ratio("mean")]
    if not rows:
        return None
    figure, axes = _figure(2)
    for axis, dimensions in zip(axes, (2, 3), strict=True):
        chosen = [m for m in rows if m.runs[0].dimensions == dimensions]
        orders = [m.runs[0].order for m in chosen]
        lengths = [m.runs[0].length for m in chosen]
        axis.plot(orders, lengths, "k--", marker="_", linewidth=1, label="length L of the curve")
        for (key, title), colour in zip(FIGURES, COLOURS, strict=False):
            _points(axis, orders, [m.ratio(key) for m in chosen], marker="o", color=colour, label=title)
        for least, style in ((BAR["robust_sd"], ":"), (BAR["mean"], "-.")):
            axis.axhline(least, color="#999999", linestyle=style, linewidth=1)
        axis.set(xlabel=f"order of the {dimensions}-D curve", xticks=orders)
        _log(axis)
    axes[1].sharey(axes[0])
    axes[0].set_ylabel("plain error / this error, W8A8")
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def noise(records: Records) -> Any:
    """Robust SD and RMSE by order, without and with feature noise."""
    kinds = [("without noise", base(records, noise=False)), ("with noise", base(records))]
    if not all(networks for _, networks in kinds):
        return None
    figure, axes = _figure(2)
    for axis, (key, title) in zip(axes, (FIGURES[0], FIGURES[2]), strict=True):
        for (label, networks), colour in zip(kinds, COLOURS, strict=False):
            rows = [m for _, m in rows_of(records, networks) if m.runs[0].dimensions == 2]
            _points(
                axis,
                [m.runs[0].order for m in rows],
                [m.error(key) for m in rows],
                marker="o",
                color=colour,
                label=label,
            )
        axis.set(xlabel="order (0: plain)", ylabel=f"{title}, px", xticks=range(5))
        _log(axis)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def targets(records: Records) -> Any:
    """RMSE of the base networks, a bar for each target."""
    networks, names = base(records), targets_of(records)
    if len(names) < 2:
        return None
    figure, (axis,) = _figure(width=9.0)
    bars = {t: {names[0]: m.error("rmse") for names, m in rows_of(records, networks, target=t)} for t in names}
    _bars(axis, list(networks), bars, "RMSE of the quantization error, px")
    _log(axis)
    _legend(axis, len(names))
    return figure


def decoders(records: Records) -> Any:
    """Robust SD and RMSE of every network with noise, a bar for each decoder."""
    networks = remedied(records)
    every = [way for runs in networks.values() for way in ways(runs, MAIN)]
    names = list(
        dict.fromkeys(decoder for precision, target, decoder in every if (precision, target) == ("w8a8", "exact"))
    )
    if len(names) < 2:
        return None
    figure, axes = _figure(width=9.0, height=5.0, rows=2)
    for axis, (key, title) in zip(axes, (FIGURES[0], FIGURES[2]), strict=True):
        bars = {d: {row[0]: m.error(key) for row, m in rows_of(records, networks, decoder=d)} for d in names}
        _bars(axis, list(networks), bars, f"{title}, px")
        _log(axis)
    axes[-1].tick_params(axis="x", labelrotation=25)
    _legend(axes[0], len(names))
    return figure


def schemes(records: Records) -> Any:
    """End-point error by scheme, a colour for each kind of head."""
    drawn: Bars = {}
    for _, m in scheme_rows(records):
        drawn.setdefault(m.runs[0].head, {})[scheme_of(m.runs[0], m.precision)] = m.accuracy("epe")
    if not drawn:
        return None
    drawn = {head: values for head, values in drawn.items() if len(values) > 1} or drawn
    figure, (axis,) = _figure(width=9.0, height=3.8)
    labels = list(dict.fromkeys(label for values in drawn.values() for label in values))
    _bars(axis, labels, drawn, "EPE against the truth, px")
    axis.tick_params(axis="x", labelrotation=25)
    _legend(axis, len(drawn))
    return figure


_PLOTS: dict[str, Callable[[Records], Any]] = {
    "ratio": ratio,
    "noise": noise,
    "targets": targets,
    "decoders": decoders,
    "schemes": schemes,
}


def _figure(columns: int = 1, width: float = 8.4, height: float = 3.4, rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not needed where nothing is drawn

    figure: Any = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=rows > 1).ravel()
    for axis in axes:
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _log(axis: Any) -> None:
    """A logarithmic axis with decimal numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legend(axis: Any, columns: int) -> None:
    axis.legend(fontsize=8, frameon=False, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1))


def _points(axis: Any, places: Sequence[float], values: Sequence[list[float]], **style: Any) -> None:
    """Means with a line from the least to the largest; values that are not all finite are left out."""
    shown = [(place, v) for place, v in zip(places, values, strict=True) if v and all(map(math.isfinite, v))]
    means = [statistics.fmean(v) for _, v in shown]
    below = [max(mean - min(v), 0.0) for mean, (_, v) in zip(means, shown, strict=True)]
    above = [max(max(v) - mean, 0.0) for mean, (_, v) in zip(means, shown, strict=True)]
    axis.errorbar([place for place, _ in shown], means, [below, above], capsize=2.5, markersize=5, **style)


def _bars(axis: Any, groups: Sequence[str], bars: Bars, title: str) -> None:
    """Bars side by side in each group, one colour a label."""
    width = 0.84 / max(sum(bool(values.get(group)) for values in bars.values()) for group in groups)
    for i, (label, values) in enumerate(bars.items()):
        places, shown = [], []
        for j, group in enumerate(groups):
            present = [key for key, others in bars.items() if others.get(group)]
            if label in present:
                places.append(j + (present.index(label) - (len(present) - 1) / 2) * width)
                shown.append(values[group])
        means = [statistics.fmean(v) for v in shown]
        axis.bar(places, means, 0.9 * width, color=COLOURS[i % len(COLOURS)], label=label)
        _points(axis, places, shown, linestyle="none", ecolor="#333333", elinewidth=0.8)
    axis.set_xticks(range(len(groups)), groups)
    axis.set_ylabel(title)
