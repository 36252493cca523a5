"""A sweep as a picture: errors against widths, overflow by layer, and where it is proven or observed to be safe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from intsim.explore.configuration import Configuration
from intsim.explore.row import LayerRow, OutputRow, Row
from intsim.explore.search import Search
from intsim.explore.sweep import Sweep
from intsim.report.sweep import rows_of, worst
from intsim.report.text import printable

COLOURS = {"wrap": "#0072b2", "saturate": "#d55e00"}
PROVEN, OBSERVED = "#cde8cf", "#e8eef7"
MOST_LABELS = 60
DPI = 110


def draw_sweep(path: Path, swept: Sweep) -> bool:
    """Write the picture as PNG; False, and no file, where matplotlib is missing."""
    return _draw(path, sweep_figure, swept)


def draw_search(path: Path, made: Search) -> bool:
    """Write the picture of a search as PNG; False, and no file, where matplotlib is missing."""
    return _draw(path, search_figure, made)


def _draw(path: Path, figure: Callable[[Any, Any], Any], shown: Sweep | Search) -> bool:
    try:
        from matplotlib import rc_context, rcdefaults
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with rc_context():
        rcdefaults()  # a matplotlibrc of the working directory may ask for programs to be run, LaTeX for one
        figure(Figure, shown).savefig(path, format="png")
    return True


def search_figure(new_figure: Any, made: Search) -> Any:
    """Metric against each cost: all points, uniform networks, the front."""
    costs = made.objectives[1:]
    figure = new_figure(
        figsize=(6.8 * min(len(costs), 3) + 1.5, 4.4 * -(-len(costs) // 3)), dpi=DPI, layout="constrained"
    )
    name = Path(made.model).name or made.model
    figure.suptitle(f"{_plain(name)} on {_plain(made.target)}: {_plain(made.objectives[0])} against cost", fontsize=12)
    panels = np.atleast_1d(figure.subplots(-(-len(costs) // 3), min(len(costs), 3))).reshape(-1)
    groups = {
        "tried": ([p for p in made.points if not p.uniform], ".", "#b0b0b0"),
        "the same in every layer": (made.uniform, "s", COLOURS["saturate"]),
        "beaten by no other": (made.front, "o", COLOURS["wrap"]),
        "knee": ([p for p in made.front if p.knee], "*", "#009e73"),
    }
    for i, (axes, cost) in enumerate(zip(panels, costs, strict=False)):
        for label, (points, mark, colour) in groups.items():
            pairs = [(p.values[1 + i], p.values[0]) for p in points if np.isfinite(p.values[0])]
            size = 13 if label == "knee" else 4
            if pairs:
                axes.plot(*zip(*pairs, strict=True), mark, ms=size, color=colour, label=label)
        axes.set_xlabel(_plain(cost))
        axes.set_ylabel(_plain(made.objectives[0]))
        axes.grid(alpha=0.25)
        _legend(axes)
    for axes in panels[len(costs) :]:
        axes.axis("off")
    return figure


def sweep_figure(new_figure: Any, swept: Sweep) -> Any:
    """The picture as what `new_figure`, a class of matplotlib's, makes."""
    panels = [p for p in _panels(swept) if p.rows]
    heights = [p.height for p in panels]
    figure = new_figure(figsize=(13.5, sum(heights) + 0.6), dpi=DPI, layout="constrained")
    where = "" if swept.stage is None else f", stage {swept.stage}"
    name = Path(swept.model).name or swept.model
    figure.suptitle(f"{_plain(name)} on {_plain(swept.target)}{where}: against the exact run", fontsize=12)
    parts = np.atleast_1d(figure.subfigures(len(panels), 1, height_ratios=heights))
    for part, panel in zip(parts, panels, strict=True):
        panel.draw(part)
    return figure


def _panels(swept: Sweep) -> list[Any]:
    axes = [_Axis(swept, name) for name in ("multiplier", "weights", "activations")]
    return [_Accumulators(swept), *axes, _Grid(swept), _Others(swept)]


def _plain(text: str, most: int = 100) -> str:
    """The end of a text, so that it fits, without what matplotlib reads as mathematics."""
    return printable(text)[-most:].replace("$", r"\$")


class _Accumulators:
    """Two panels of errors against the register's width, and a map of overflow by layer for each rule."""

    def __init__(self, swept: Sweep) -> None:
        self.swept = swept
        rows = {rule: rows_of(swept, (Configuration(w, rule) for w in swept.accumulators)) for rule in swept.rules}
        self.rows = {rule: mine for rule, mine in rows.items() if len(mine) == len(swept.accumulators)}
        self.layers = _mac_layers(next(iter(self.rows.values()), []))
        self.height = 3.4 + _map_height(self.layers)

    def draw(self, part: Any) -> None:
        widths = self.swept.accumulators
        top, bottom = part.subfigures(2, 1, height_ratios=[3.4, self.height - 3.4])
        error, wrong = top.subplots(1, 2)
        for rule, rows in self.rows.items():
            output = [worst(r) for r in rows]
            for kind, line, mark in (("mean", "-", "o"), ("max", ":", "")):
                values = [_number(o, f"{kind}_error") for o in output]
                error.plot(widths, values, line, marker=mark, ms=3, color=COLOURS[rule], label=f"{rule}, {kind}")
            final = [_share(sum(o.mismatches for o in r.outputs), sum(o.elements for o in r.outputs)) for r in rows]
            wrong.plot(widths, final, "-", marker="o", ms=3, color=COLOURS[rule], label=f"{rule}, outputs that differ")
            groups = [_share(sum(x.overflowing for x in r.layers), sum(x.groups for x in r.layers)) for r in rows]
            wrong.plot(widths, groups, ":", color=COLOURS[rule], label=f"{rule}, groups that overflow")
        error.set_ylabel("output difference, its own units")
        wrong.set_ylabel("share")
        for axes in (error, wrong):
            _log(axes)
            axes.set_xlabel("accumulator bits")
            _regions(axes, widths, self.rows)
            _legend(axes)
        maps = np.atleast_1d(bottom.subplots(1, len(self.rows), sharey=True))
        tables = {
            rule: np.array([[_share(x.overflowing, x.groups) for x in _mac_layers([r])] for r in rows]).T
            for rule, rows in self.rows.items()
        }
        limits = _limits(tables.values())
        for axes, (rule, rows) in zip(maps, self.rows.items(), strict=True):
            image = _map(axes, widths, self.layers, tables[rule], limits)
            _title(axes, f"{rule}: groups that overflow, by layer", "accumulator bits")
            for kind, style in (("proven", "-"), ("observed", "--")):
                flags = [[getattr(x, kind) for x in _mac_layers([r])] for r in rows]
                _boundary(axes, np.array(flags).T, style, f"{kind} safe from here on")
        lines = {line.get_label(): line for axes in maps for line in axes.get_lines()}
        if lines:
            bottom.legend(lines.values(), lines, fontsize=7, loc="outside lower center", ncols=len(lines))
        _colours(bottom, image, list(maps), 0.03, "share of groups")


class _Axis:
    """Errors against the widths of one axis alone, and a map of wrong codes by layer where they can be compared."""

    def __init__(self, swept: Sweep, name: str) -> None:
        self.swept, self.name = swept, name
        points = {w: r for r in swept.rows if (w := getattr(r.configuration, name)) is not None}
        self.widths = sorted(w for w, r in points.items() if r.configuration == Configuration(**{name: w}))
        self.rows = [points[w] for w in self.widths]
        self.layers = self.rows[0].layers if self.rows and name == "multiplier" else []
        self.height = max(3.4, _map_height(self.layers))

    def draw(self, part: Any) -> None:
        panels = np.atleast_1d(part.subplots(1, 1 + bool(self.layers)))
        error, output = panels[0], [worst(r) for r in self.rows]
        for key, style in (("mean_error", "-"), ("median_error", "-."), ("rmse", "--"), ("max_error", ":")):
            values = [_number(o, key) for o in output]
            error.plot(self.widths, values, style, marker="o", ms=3, label=key.removesuffix("_error"))
        _log(error)
        error.set_ylabel("output difference, its own units")
        what = f"requantizer: {_plain(self.swept.multiplier_rounding or '')}" if self.layers else self.name
        _title(error, what, f"{self.name} bits", 9)
        _legend(error)
        if self.layers:
            table = np.array([[_share(x.mismatches, x.elements) for x in r.layers] for r in self.rows]).T
            image = _map(panels[1], self.widths, self.layers, table, _limits([table]))
            _title(panels[1], "wrong codes, by layer", f"{self.name} bits")
            _colours(part, image, panels[1], 0.05, "share of codes")


class _Grid:
    """A map of the mean output difference over both widths, for each rule in `rows`."""

    height = 4.2

    def __init__(self, swept: Sweep) -> None:
        self.swept = swept
        points = {Configuration(w, r, m) for w in swept.accumulators for r in swept.rules for m in swept.multipliers}
        self.rows = swept.rules if points and points <= swept.points.keys() else []

    def draw(self, part: Any) -> None:
        widths, multipliers = self.swept.accumulators, self.swept.multipliers
        maps = np.atleast_1d(part.subplots(1, len(self.rows), sharey=True))
        tables = {}
        for rule in self.rows:
            rows = [[self.swept.row(Configuration(w, rule, m)) for w in widths] for m in multipliers]
            tables[rule] = np.array([[_number(worst(r) if r else None, "mean_error") for r in line] for line in rows])
        limits = _limits(tables.values())
        for axes, (rule, table) in zip(maps, tables.items(), strict=True):
            image = _map(axes, widths, multipliers, table, limits)
            _title(axes, f"{rule}: mean output difference, its own units", "accumulator bits")
        maps[0].set_ylabel("multiplier bits")
        _colours(part, image, list(maps), 0.03)


class _Others:
    """Mean and largest output difference of what isn't on an axis alone: targets, models, combinations."""

    def __init__(self, swept: Sweep) -> None:
        grid = [Configuration(w, r, m) for w in swept.accumulators for r in swept.rules for m in swept.multipliers]
        shown = {*grid, *(Configuration(w, r) for w in swept.accumulators for r in swept.rules)}
        for name in ("multiplier", "weights", "activations"):
            shown |= {Configuration(**{name: w}) for w in {getattr(r.configuration, name) for r in swept.rows} - {None}}
        self.rows = [r for r in swept.rows if r.configuration not in shown][:MOST_LABELS]
        self.height = min(max(2.0, 1.2 + 0.24 * len(self.rows)), 16.0)

    def draw(self, part: Any) -> None:
        axes = part.subplots(1, 1)
        output = [worst(r) for r in self.rows]
        places = np.arange(len(self.rows))
        axes.plot([_number(o, "mean_error") for o in output], places, "o", color=COLOURS["wrap"], label="mean")
        axes.plot([_number(o, "max_error") for o in output], places, "|", color=COLOURS["saturate"], label="max")
        axes.set_yticks(places, [_plain(str(r.configuration), 60) for r in self.rows], fontsize=7)
        axes.set_xscale("symlog", linthresh=1e-3, linscale=0.5)
        axes.set_xlim(left=-2e-4)  # no difference lies on the axis, and is seen
        axes.set_ylim(len(self.rows) - 0.4, -0.6)
        axes.set_xlabel("output difference, its own units")
        axes.grid(alpha=0.25)
        _legend(axes)


def _mac_layers(rows: Sequence[Row]) -> list[LayerRow]:
    """The layers of the first row that have registers."""
    return [x for x in rows[0].layers if x.groups] if rows else []


def _map_height(layers: Sequence[LayerRow]) -> float:
    return min(max(2.0, 1.4 + 0.22 * len(layers)), 12.0)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _number(output: OutputRow | None, key: str) -> float:
    value = None if output is None else getattr(output, key)
    return float("nan") if value is None else float(value)


def _log(axes: Any) -> None:
    """A log scale that shows 0 as well, which many points are."""
    points = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
    above = points[np.isfinite(points) & (points > 0)]
    if above.size:
        axes.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(above.min())), linscale=0.5)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)


def _regions(axes: Any, widths: list[int], rules: Mapping[Any, list[Row]]) -> None:
    """Shade the widths that are safe under every swept rule: proven, and observed only."""
    for left, right, colour, name in _bands(widths, rules):
        axes.axvspan(left - 0.5, right + 0.5, color=colour, zorder=0, lw=0, label=name)
    axes.set_xlim(widths[0] - 0.5, widths[-1] + 0.5)


def _bands(widths: list[int], rules: Mapping[Any, list[Row]]) -> list[tuple[int, int, str, str]]:
    kinds = []
    for i in range(len(widths)):
        rows = [r[i] for r in rules.values()]
        kinds.append("proven" if all(r.proven for r in rows) else "observed" if all(r.observed for r in rows) else "")
    bands = []
    for kind, colour, name in (("proven", PROVEN, "proven safe"), ("observed", OBSERVED, "safe on these inputs")):
        mine = [w for w, k in zip(widths, kinds, strict=True) if k == kind]
        runs = np.split(np.array(mine), np.flatnonzero(np.diff(mine) > 1) + 1) if mine else []
        bands += [(int(r[0]), int(r[-1]), colour, name if i == 0 else "_") for i, r in enumerate(runs)]
    return bands


def _limits(tables: Iterable[Any]) -> tuple[float, float]:
    """Powers of ten around the values above 0, for one scale of several maps."""
    values = np.concatenate([np.asarray(t, float).reshape(-1) for t in tables])
    above = values[np.isfinite(values) & (values > 0)]
    low, high = (np.floor(np.log10(above.min())), np.ceil(np.log10(above.max()))) if above.size else (-1.0, 0.0)
    return 10.0**low, 10.0 ** max(high, low + 1)


def _map(axes: Any, widths: Sequence[int], rows: Sequence[Any], table: Any, limits: tuple[float, float]) -> Any:
    """A map on a log scale; 0 is white. `rows` are layers, or widths of the other axis."""
    from matplotlib.colors import LogNorm

    # a model without layers has an empty map
    shown = table if len(rows) else np.zeros((1, len(widths)))
    image = axes.imshow(np.ma.masked_less_equal(shown, 0), aspect="auto", cmap="viridis_r", norm=LogNorm(*limits))
    every = max(1, -(-len(rows) // MOST_LABELS))
    axes.set_yticks(range(0, len(rows), every))
    names = [_plain(r.name, 28) if isinstance(r, LayerRow) else str(r) for r in rows]
    axes.set_yticklabels(names[::every], fontsize=7)
    step = -(-len(widths) // 13)
    axes.set_xticks(range(0, len(widths), step))
    axes.set_xticklabels([str(w) for w in widths[::step]])
    return image


def _title(axes: Any, text: str, label: str, size: int = 10) -> None:
    """Of one panel, and what its widths are."""
    axes.set_title(text, fontsize=size)
    axes.set_xlabel(label)


def _boundary(axes: Any, flags: Any, style: str, name: str) -> None:
    """A stair left of the widths from which on each layer has the flag; none where the widest has not."""
    if not flags.size or not flags[:, -1].any():
        return
    missing = [np.flatnonzero(~line) for line in flags]
    edges = [(m[-1] if m.size else -1) + 0.5 if line[-1] else np.nan for m, line in zip(missing, flags, strict=True)]
    y = np.repeat(np.arange(len(edges) + 1) - 0.5, 2)[1:-1]
    axes.plot(np.repeat(edges, 2), y, style, color="black", lw=1.3, label=name)


def _legend(axes: Any) -> None:
    """Beside the data."""
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def _colours(part: Any, image: Any, axes: Any, fraction: float, label: str = "") -> None:
    """The scale of a map, with a number at powers of ten."""
    from matplotlib.ticker import LogFormatterMathtext

    part.colorbar(
        image, ax=axes, fraction=fraction, pad=0.01, label=label, format=LogFormatterMathtext(labelOnlyBase=True)
    )
