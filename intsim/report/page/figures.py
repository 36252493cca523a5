"""Plots of the page, as Plotly takes them: plain dictionaries, whose texts from files are escaped here.

Colours are seen on white and on black; text and grid get theirs from the style sheet (page.css).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import combinations
from typing import Any

import numpy as np

from intsim.explore.configuration import Configuration
from intsim.explore.row import Row
from intsim.explore.sweep import Sweep
from intsim.explore.telemetry import StageTelemetry, Telemetry
from intsim.graph import IntArray
from intsim.report.page.drawing import short
from intsim.report.results import Point, Search
from intsim.report.summary import Need
from intsim.report.sweep import rows_of, worst
from intsim.report.text import counted, number, printable

THERE, SEEN, PROVEN, LACKING, OTHER = "#9aa3ad", "#3b82c4", "#2f9e6e", "#d6455d", "#d98a1f"
"""Available, observed, proven and enough, too few or overflowing, another one."""
SHADES = [[0.0, "#f2c879"], [0.5, "#e0703f"], [1.0, "#a3123a"]]
BLUES = [[0.0, "#a9cbe8"], [0.5, "#3b82c4"], [1.0, "#123f70"]]
WIDE, NARROW = 30, 13
"""Characters of a layer's name beside a plot, on wide and on narrow screens."""
MOST_BITS = 64
MOST_TOLD = 12


@dataclass(frozen=True)
class Plot:
    """A plot: what Plotly draws, its words for those who don't see it, and its colours (or none) with what they mean."""

    title: str
    alt: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    key: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""


def _text(text: str) -> str:
    """As Plotly shows it, which reads a few tags."""
    return escape(printable(text), quote=False)


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, "automargin": True, "zeroline": False, "fixedrange": True, **more}


def _layout(height: int, x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    own = {"height": height, "xaxis": x, "yaxis": y, "showlegend": False, "dragmode": False, "hovermode": "closest"}
    look = {"paper_bgcolor": clear, "plot_bgcolor": clear, "margin": {"l": 8, "r": 12, "t": 8, "b": 8}}
    return own | look | {"font": {"family": "system-ui, sans-serif", "size": 12}} | more


def _rows(names: Sequence[str], title: str = "layer") -> tuple[dict[str, Any], dict[str, Any]]:
    """An axis with a name a row, the first on top; and the shorter names for narrow screens."""
    at = list(range(len(names)))
    every = max(1, -(-len(names) // 80))
    axis = _axis(title, tickmode="array", tickvals=at[::every], range=[len(names) - 0.4, -0.6], showgrid=False)
    wide, narrow = ([_text(short(n, most)) for n in names[::every]] for most in (WIDE, NARROW))
    return axis | {"ticktext": wide}, {"narrow": narrow}


def _height(rows: int) -> int:
    return 90 + 26 * min(rows, 80)


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - MOST_TOLD
    return "; ".join([*parts[:MOST_TOLD], *([f"and {more} more"] if more > 0 else [])])


def _row_name(layer: str, stage: int, stages: int) -> str:
    return layer if stages == 1 else f"{layer} · {stage}"


def bits(proven: Sequence[Need], seen: Telemetry | None) -> Plot | None:
    """Bits needed against bits there are: a row a register."""
    observed = {} if seen is None else {(x.name, s.stage): s for x in seen.layers for s in x.stages}
    known = {(n.layer, n.stage): n for n in proven}
    there = {k: n.bits for k, n in known.items()} | {k: s.bits for k, s in observed.items() if k not in known}
    if not there:
        return None
    keys = list(there)
    last = max(stage for _, stage in keys)
    names = [_row_name(layer, stage, last) for layer, stage in keys]
    words = []
    for key, name in zip(keys, names, strict=True):
        parts = [f"proven least {known[key].required}"] if key in known else []
        parts += [f"observed {max(observed[key].channel_bits)}"] if key in observed else []
        own = there[key]
        words.append(f"{name}: {', '.join(parts)}, {'no register' if own is None else f'{own} there'}")
    hover = [_text(w) for w in words]
    at = range(len(keys))
    data: list[dict[str, Any]] = [
        {"type": "bar", "orientation": "h", "y": list(at), "x": [there[k] for k in keys], "width": 0.8, "hovertext": hover,
         "hoverinfo": "text", "marker": {"color": THERE, "opacity": 0.45}}
    ]  # fmt: skip
    boxes = [(i, _quartiles(observed[k])) for i, k in enumerate(keys) if k in observed and observed[k].groups]
    if boxes:
        ends = {name: [q[j] for _, q in boxes] for j, name in enumerate(("lowerfence", "q1", "median", "q3", "upperfence"))}
        data.append(
            {"type": "box", "orientation": "h", "y": [i for i, _ in boxes], **ends, "width": 0.42, "hoverinfo": "skip",
             "fillcolor": SEEN, "line": {"color": SEEN, "width": 1.5}, "opacity": 0.85}
        )  # fmt: skip
    marks = [(i, known[k]) for i, k in enumerate(keys) if k in known]
    if marks:
        colours = [LACKING if n.bits is not None and n.missing > 0 else PROVEN for _, n in marks]
        data.append(
            {"type": "scatter", "mode": "markers", "y": [i for i, _ in marks], "x": [n.required for _, n in marks],
             "marker": {"symbol": "diamond", "size": 11, "color": colours}, "hovertext": [hover[i] for i, _ in marks],
             "hoverinfo": "text"}
        )  # fmt: skip
    axis, meta = _rows(names, "layer" if last == 1 else "layer · stage")
    layout = _layout(_height(len(keys)), _axis("bits of a signed register", rangemode="tozero"), axis, meta=meta)
    key = [(THERE, "bits there are")] if any(b is not None for b in there.values()) else []
    key += [(SEEN, "observed: half of the sums in the box, all between the ends")] if boxes else []
    key += [(PROVEN, "proven least"), (LACKING, "proven least, and more than there are")] if marks else []
    return Plot("Bits needed, bits there are", f"Bits, a row for each register. {_listed(words)}.", data, layout, key)


def _quartiles(stage: StageTelemetry) -> list[int]:
    """Least, quarters and greatest of the bits that groups need."""
    counts = stage.partial.sum(axis=0)
    order = np.cumsum(counts)
    ranks = [1, *(-(-int(order[-1]) * q // 4) for q in (1, 2, 3)), int(order[-1])]
    return [int(np.searchsorted(order, max(r, 1))) for r in ranks]


def _fitting(layers: Iterable[StageTelemetry]) -> tuple[IntArray, IntArray]:
    """Groups by bits, those that fit their registers and the others."""
    fit = np.zeros(MOST_BITS + 2, np.int64)
    over = fit.copy()
    for stage in layers:
        counts = stage.partial.sum(axis=0)
        held = np.arange(counts.size) <= (MOST_BITS + 1 if stage.bits is None else stage.bits)
        fit += np.where(held, counts, 0)
        over += np.where(held, 0, counts)
    return fit, over


def histograms(seen: Telemetry) -> list[Plot]:
    """Bits that partial sums needed, over all layers: a plot a stage."""
    plots = []
    numbers = sorted({s.stage for x in seen.layers for s in x.stages})
    for n in numbers:
        stages = [s for x in seen.layers for s in x.stages if s.stage == n and s.groups]
        fit, over = _fitting(stages)
        needed = np.flatnonzero(fit + over)
        if not needed.size:
            continue
        span = range(int(needed[0]), int(needed[-1]) + 1)
        data: list[dict[str, Any]] = []
        for counts, colour, word in ((fit, SEEN, "fit"), (over, LACKING, "don't fit")):
            if counts.any():
                values = [int(counts[b]) for b in span]
                told = [f"{number(v)} groups need {_bits(b)} and {word}" for b, v in zip(span, values, strict=True)]
                data.append({"type": "bar", "x": list(span), "y": values, "marker": {"color": colour}, "hovertext": told,
                             "hoverinfo": "text", "width": 0.85})  # fmt: skip
        widths = sorted({s.bits for s in stages if s.bits is not None})
        most = math.log10(max(int((fit + over).max()), 1))
        x = _axis("bits that the partial sums of a group need", range=[span[0] - 0.7, max([span[-1], *widths]) + 0.9], dtick=_step(len(span)))
        y = _axis("groups", type="log", range=[-0.25, most + 0.15], dtick=1)
        lines = [
            {"type": "line", "x0": b + 0.5, "x1": b + 0.5, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": OTHER, "width": 2, "dash": "dash"}}
            for b in widths
        ]
        where = f", stage {n}" if len(numbers) > 1 else ""
        words = [f"{number(int((fit + over)[b]))} need {_bits(b)}" for b in span if (fit + over)[b]]
        registers = ", ".join(map(str, widths))
        key = [(SEEN, "fit"), (LACKING, "don't fit"), (OTHER, f"register: {registers} bits")] if widths else [(SEEN, "no register")]
        alt = f"Groups by bits{where}: {_listed(words)}. Registers have {registers or 'no'} bits."
        plots.append(Plot(f"Partial sums by bits{where}", alt, data, _layout(280, x, y, shapes=lines, barmode="stack", bargap=0.1), key))
    return plots


def _bits(bits: int) -> str:
    return "more than 64 bits" if bits > MOST_BITS else counted(bits, "bit")


def _step(count: int) -> int:
    return max(1, -(-count // 12))


def by_layer(seen: Telemetry) -> Plot | None:
    """The same by layer: rows are registers, columns bits, shades counts."""
    rows = [(x.name, s) for x in seen.layers for s in x.stages if s.groups]
    if len(rows) < 2:
        return None
    table = np.stack([s.partial.sum(axis=0) for _, s in rows])
    needed = np.flatnonzero(table.sum(axis=0))
    span = range(int(needed[0]), int(needed[-1]) + 1)
    counts = [[int(line[b]) for b in span] for line in table]
    last = max(s.stage for _, s in rows)
    names = [_row_name(name, s.stage, last) for name, s in rows]
    marks = [(i, s.bits) for i, (_, s) in enumerate(rows) if s.bits is not None]
    axis, meta = _rows(names, "layer" if last == 1 else "layer · stage")
    end = max([span[-1], *(b for _, b in marks)])
    x = _axis("bits that the partial sums of a group need", range=[span[0] - 0.7, end + 0.9], dtick=_step(len(span)), showgrid=False)
    data: list[dict[str, Any]] = [_heat(list(span), counts, BLUES, "%{customdata} groups need %{x} bits<extra></extra>")]
    if marks:
        data.append(
            {"type": "scatter", "mode": "markers", "x": [b + 0.5 for _, b in marks], "y": [i for i, _ in marks], "hoverinfo": "skip",
             "marker": {"symbol": "line-ns-open", "size": 18, "color": OTHER, "line": {"width": 3, "color": OTHER}}}
        )  # fmt: skip
    most = max(map(max, counts))
    key = [("linear-gradient(90deg,#a9cbe8,#3b82c4,#123f70)", f"1 to {number(most)} groups, each shade as many times more"), (OTHER, "width of the register")]
    words = [f"{n}: up to {_bits(int(np.flatnonzero(line)[-1]))}" for n, line in zip(names, table, strict=True)]
    return Plot("Partial sums by layer and bits", f"Bits that sums need, a row for each register. {_listed(words)}.", data, _layout(_height(len(rows)), x, axis, meta=meta), key)


def _heat(x: list[int], counts: list[list[int]], shades: list[list[Any]], hover: str) -> dict[str, Any]:
    """Counts above 0 on a log scale; the others stay empty."""
    z = [[math.log10(c) if c > 0 else None for c in line] for line in counts]
    top = max((v for line in z for v in line if v is not None), default=0.0)
    return {"type": "heatmap", "x": x, "z": z, "customdata": counts, "hovertemplate": hover, "colorscale": shades,
            "zmin": 0, "zmax": max(top, 1), "showscale": False, "xgap": 1, "ygap": 1, "hoverongaps": False}  # fmt: skip


def overflow(seen: Telemetry) -> Plot | None:
    """Overflow events by layer and channel, of all registers; None where there is none."""
    rows = [(x.name, sum((s.overflows for s in x.stages), np.zeros(1, np.int64))) for x in seen.layers if x.stages]
    rows = [(name, events) for name, events in rows if events.any()]
    if not rows:
        return None
    channels = max(events.size for _, events in rows)
    counts = [[int(c) for c in events] + [0] * (channels - events.size) for _, events in rows]
    axis, meta = _rows([name for name, _ in rows], "layer")
    x = _axis("channel of the layer's output", range=[-0.5, channels - 0.5], showgrid=False, **({"dtick": 1} if channels <= 16 else {}))
    data = [_heat(list(range(channels)), counts, SHADES, "channel %{x}: %{customdata} overflow events<extra></extra>")]
    most = max(map(max, counts))
    words = [f"{name}: {number(int(e.sum()))} events in {counted(int((e > 0).sum()), 'channel')}" for name, e in rows]
    key = [("linear-gradient(90deg,#f2c879,#e0703f,#a3123a)", f"1 to {counted(most, 'event')}; channels without are empty")]
    return Plot("Overflow by layer and channel", f"Overflow events. {_listed(words)}.", data, _layout(_height(len(rows)), x, axis, meta=meta), key)


RULES = {"wrap": SEEN, "saturate": OTHER}


def sweep(swept: Sweep) -> list[Plot]:
    """Curves against the width that was swept: errors of the outputs, shares, metrics."""
    grid = [None] if any(r.configuration.multiplier is None for r in swept.rows) else swept.multipliers[-1:]
    registers = {rule: rows_of(swept, (Configuration(w, rule, grid[0]) for w in swept.accumulators)) for rule in swept.rules}
    lines = {rule: (RULES[rule], rows) for rule, rows in registers.items() if rows}
    plots = _curves("accumulator bits", lines, lambda r: int(r.configuration.accumulator or 0)) if lines else []
    single = rows_of(swept, (Configuration(multiplier=m) for m in swept.multipliers))
    if single:
        plots += _curves("multiplier bits", {"multiplier": (SEEN, single)}, lambda r: int(r.configuration.multiplier or 0))
    return plots


def _curves(axis: str, lines: dict[str, tuple[str, list[Row]]], width: Any) -> list[Plot]:
    plots = []
    errors = {f"{name}, {k}": (colour, [getattr(worst(r), f"{k}_error", None) for r in rows], k == "max")
              for name, (colour, rows) in lines.items() for k in ("mean", "max")}  # fmt: skip
    shares = {f"{name}, {word}": (colour, [_share(r, *keys) for r in rows], dash)
              for name, (colour, rows) in lines.items()
              for word, keys, dash in (("codes that differ", ("mismatches", "elements"), False), ("groups that overflow", ("overflowing", "groups"), True))}  # fmt: skip
    x = [width(r) for r in next(iter(lines.values()))[1]]
    safe = [{"type": "rect", "x0": b - 0.5, "x1": b + 0.5, "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 0}, "layer": "below",
             "fillcolor": PROVEN, "opacity": 0.18}
            for i, b in enumerate(x) if axis.startswith("acc") and all(rows[i].proven for _, rows in lines.values() if i < len(rows))]  # fmt: skip
    shaded = [(PROVEN, "no register can overflow, proven")] if safe else []
    for title, unit, values in (("Error of the outputs", "difference, the output's own units", errors), ("Shares", "share", shares)):
        plots.append(_log_lines(f"{title} against {axis}", axis, unit, x, values, safe, shaded))
    for i, metric in enumerate(next(iter(lines.values()))[1][0].metrics):
        measured = {name: (colour, [r.metrics[i].mean for r in rows], False) for name, (colour, rows) in lines.items()}
        plots.append(_lines(f"{printable(metric.name)} against {axis}", axis, printable(metric.name), x, measured, safe, shaded))
    return plots


def _share(row: Row, part: str, whole: str) -> float:
    return sum(getattr(x, part) for x in row.layers) / max(sum(getattr(x, whole) for x in row.layers), 1)


Lines = dict[str, tuple[str, list[float | None], bool]]


def _lines(title: str, axis: str, unit: str, x: list[int], lines: Lines, safe: list[Any], shaded: list[tuple[str, str]], y: Any = None) -> Plot:
    """Lines against a width; `y` changes the axis."""
    shift = y or (lambda v: v)
    data = [
        {"type": "scatter", "mode": "lines+markers", "x": x, "y": [None if v is None else shift(v) for v in values],
         "line": {"color": colour, "dash": "dot" if dashed else "solid"}, "marker": {"size": 6, "color": colour},
         "hovertext": [_text(f"{name}, {b} bits: {'no value' if v is None else format(v, '.4g')}") for b, v in zip(x, values, strict=False)],
         "hoverinfo": "text"}
        for name, (colour, values, dashed) in lines.items()
    ]  # fmt: skip
    words = [f"{n}: {', '.join('no value' if v is None else format(v, '.3g') for v in values[:MOST_TOLD])}" for n, (_, values, _) in lines.items()]
    key = [(colour, name + (" (dotted)" if dashed else "")) for name, (colour, _, dashed) in lines.items()]
    layout = _layout(300, _axis(axis, dtick=_step(len(x))), _axis(_text(unit)), shapes=safe)
    return Plot(title, f"{title}, from {x[0]} to {x[-1]}. {_listed(words)}.", data, layout, [*key, *shaded])


def _log_lines(title: str, axis: str, unit: str, x: list[int], lines: Lines, safe: list[Any], shaded: list[tuple[str, str]]) -> Plot:
    """The same on a log scale with 0 at its foot."""
    above = [math.log10(v) for _, values, _ in lines.values() for v in values if v is not None and v > 0]
    floor, top = (math.floor(min(above)) - 1, math.ceil(max(above))) if above else (-1, 0)
    plot = _lines(title, axis, unit, x, lines, safe, shaded, lambda v: math.log10(v) if v > 0 else floor)
    ticks = list(range(floor, top + 1, max(1, -(-(top - floor) // 6))))
    text = ["0", *(f"1e{t}" if not -3 <= t <= 3 else f"{10.0**t:g}" for t in ticks[1:])]
    plot.layout["yaxis"] |= {"tickmode": "array", "tickvals": ticks, "ticktext": text, "range": [floor - 0.3, top + 0.3]}
    return plot


def fronts(found: Search) -> list[Plot]:
    """Each pair of objectives, at most three: all points, the Pareto front, its knee."""
    plots = []
    for i, j in list(combinations(range(len(found.objectives)), 2))[:3]:
        points = [p for p in found.points if p.values[i] is not None and p.values[j] is not None]
        if not points:
            continue
        front = sorted((p for p in points if p.front), key=lambda p: (p.values[i], p.values[j]))
        groups = (
            ([p for p in points if not p.front], THERE, "circle", 7, "markers", "tried"),
            (front, SEEN, "circle", 10, "markers" if len(found.objectives) > 2 else "lines+markers", "on the front"),
            ([p for p in points if p.knee], LACKING, "star", 16, "markers", "knee"),
        )
        data = [
            {"type": "scatter", "mode": mode, "x": [p.values[i] for p in some], "y": [p.values[j] for p in some],
             "marker": {"color": colour, "symbol": symbol, "size": size}, "line": {"color": colour},
             "hovertext": [_point(found, p) for p in some], "hoverinfo": "text"}
            for some, colour, symbol, size, mode, _ in groups if some
        ]  # fmt: skip
        a, b = (printable(found.objectives[k]) for k in (i, j))
        told = [f"{a} {p.values[i]:.6g}, {b} {p.values[j]:.6g}" for p in front]
        layout = _layout(340, _axis(_text(a)), _axis(_text(b)))
        key = [(colour, word) for some, colour, _, _, _, word in groups if some]
        plots.append(Plot(f"{b} against {a}", f"{len(points)} configurations. On the front: {_listed(told)}.", data, layout, key))
    return plots


def _point(found: Search, point: Point) -> str:
    values = [f"{n} {v:.6g}" for n, v in zip(found.objectives, point.values, strict=True) if v is not None]
    options = [f"{k} {v}" for k, v in point.configuration.items()]
    return "<br>".join(_text(short(t, 60)) for t in [*values, *options, *([point.file] if point.file else [])])
