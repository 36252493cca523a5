"""Plots of what was varied: a sweep's curves against a width, a search's Pareto fronts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import combinations
from typing import NamedTuple

from intsim.explore.configuration import Configuration
from intsim.explore.row import Row
from intsim.explore.search import Point, Search
from intsim.explore.sweep import Sweep
from intsim.report.page.figures import (
    LACKING,
    MOST_TOLD,
    OTHER,
    PROVEN,
    SEEN,
    THERE,
    Key,
    Plot,
    axis,
    band,
    layout,
    listed,
    plain,
    step,
    trace,
)
from intsim.report.search import KINDS
from intsim.report.sweep import worst
from intsim.report.text import counted, printable

RULES = {"wrap": SEEN, "saturate": OTHER}
COLOURS = (SEEN, OTHER, PROVEN, LACKING)
"""Of lines that are no rule's."""
SHARES = {"codes that differ": ("mismatches", "elements"), "groups that overflow": ("overflowing", "groups")}
UNITS = "difference, the output's own units"
MOST_LINES, MOST_PAIRS, MOST_CHARACTERS = 4, 3, 70


class Line(NamedTuple):
    """A curve: (width, value) points, None where there is no value."""

    name: str
    colour: str
    points: list[tuple[int, float | None]]
    dotted: bool = False

    @property
    def meant(self) -> str:
        """In the key."""
        return f"{printable(self.name)} (dotted)" if self.dotted else printable(self.name)


def sweep(swept: Sweep) -> list[Plot]:
    """Curves against each width that was swept: errors of the outputs, shares, metrics. What else differs makes lines;
    of many the last ones, which are the widest."""
    plots = []
    for name in (f.name for f in fields(Configuration)):
        groups: dict[Configuration, list[Row]] = {}
        for row in swept.rows:
            if isinstance(getattr(row.configuration, name), int):
                groups.setdefault(replace(row.configuration, **{name: None}), []).append(row)
        if groups:
            plots += _curves(name, dict(list(groups.items())[-MOST_LINES:]))
    return plots


def _curves(width: str, groups: dict[Configuration, list[Row]]) -> list[Plot]:
    """`groups`: rows that differ in `width` alone."""
    title = f"{width} bits"
    styles = [(_named(c) or width, RULES.get(c.overflow or "", COLOURS[i])) for i, c in enumerate(groups)]
    if len({colour for _, colour in styles}) < len(styles):
        styles = [(name, COLOURS[i]) for i, (name, _) in enumerate(styles)]

    def at(row: Row) -> int:
        return int(getattr(row.configuration, width))

    def lines(*kinds: tuple[str, Callable[[Row], float | None]]) -> list[Line]:
        return [
            Line(f"{name}, {word}".removesuffix(", "), colour, [(at(r), value(r)) for r in sorted(rows, key=at)], i > 0)
            for (name, colour), rows in zip(styles, groups.values(), strict=True)
            for i, (word, value) in enumerate(kinds)
        ]

    first, *others = ({at(r) for r in rows if r.proven} for rows in groups.values())
    safe = first.intersection(*others) if width == "accumulator" else set()
    errors = lines(*((k, partial(_error, key=f"{k}_error")) for k in ("mean", "max")))
    shares = lines(*((word, partial(_share, part=a, whole=b)) for word, (a, b) in SHARES.items()))
    plots = [_plot("Error of the outputs", title, UNITS, errors, safe, log=True)]
    plots.append(_plot("Shares", title, "share", shares, safe, log=True))
    for i, metric in enumerate(next(iter(groups.values()))[0].metrics):
        measured = lines(("", partial(_mean, metric=i)))
        plots.append(_plot(printable(metric.name), title, metric.name, measured, safe))
    return plots


def _named(configuration: Configuration) -> str:
    """What it varies, in a line's name."""
    told = {k: v for k, v in configuration.to_json().items() if v is not None}
    return ", ".join(str(v) if isinstance(v, str) else f"{k} {v}" for k, v in told.items())


def _error(row: Row, key: str) -> float | None:
    output = worst(row)
    return None if output is None else getattr(output, key)


def _mean(row: Row, metric: int) -> float | None:
    return row.metrics[metric].mean if metric < len(row.metrics) else None


def _share(row: Row, part: str, whole: str) -> float:
    return sum(getattr(x, part) for x in row.layers) / max(sum(getattr(x, whole) for x in row.layers), 1)


def _plot(what: str, title: str, unit: str, lines: list[Line], safe: set[int], log: bool = False) -> Plot:
    """Lines against a width; on a log scale 0 is at its foot."""
    values = [v for line in lines for _, v in line.points if v is not None]
    floor = min((math.floor(math.log10(v)) for v in values if v > 0), default=0) - 1
    top = max((math.ceil(math.log10(v)) for v in values if v > 0), default=0)

    def at(value: float | None) -> float | None:
        return value if value is None or not log else math.log10(value) if value > 0 else floor

    data = [
        trace(
            "scatter",
            mode="lines+markers",
            x=[w for w, _ in line.points],
            y=[at(v) for _, v in line.points],
            hovertext=[plain(f"{line.name}, {w} bits: {_number(v)}") for w, v in line.points],
            line={"color": line.colour, "dash": "dot" if line.dotted else "solid"},
            marker={"size": 6, "color": line.colour},
        )
        for line in lines
    ]
    y_axis = axis(unit)
    if log:
        ticks = list(range(floor, top + 1, max(1, (top - floor) // 6)))
        words = ["0", *(f"{10.0**t:g}" for t in ticks[1:])]
        y_axis |= {"tickmode": "array", "tickvals": ticks, "ticktext": words, "range": [floor - 0.3, top + 0.3]}
    widths = sorted({w for line in lines for w, _ in line.points})
    x_axis = axis(title, dtick=step(widths[-1] - widths[0]))
    drawn = layout(300, x_axis, y_axis, shapes=[band(w - 0.5, w + 0.5) for w in sorted(safe)])
    key: Key = [(line.colour, line.meant) for line in lines]
    key += [(PROVEN, "no register can overflow, proven")] if safe else []
    told = [f"{line.name}: {', '.join(_number(v) for _, v in line.points[:MOST_TOLD])}" for line in lines]
    alt = f"{what} from {widths[0]} to {widths[-1]} {title}. {listed(told)}."
    return Plot(f"{what} against {title}", alt, data, drawn, key)


def _number(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4g}"


def fronts(found: Search) -> list[Plot]:
    """Each pair of objectives, as far as three: all points, the Pareto front, its knee."""
    pairs = list(combinations(range(len(found.objectives)), 2))[:MOST_PAIRS]
    return [plot for i, j in pairs if (plot := _front(found, i, j, joined=len(pairs) == 1))]


def _front(found: Search, i: int, j: int, joined: bool) -> Plot | None:
    places = [(p.values[i], p.values[j], p) for p in found.points if all(math.isfinite(p.values[k]) for k in (i, j))]
    if not places:
        return None
    front = sorted(((x, y, p) for x, y, p in places if p.front), key=lambda at: at[:2])
    kinds = (
        ([at for at in places if not at[2].front and not at[2].uniform], THERE, "circle", 7, False, "tried"),
        (
            [at for at in places if not at[2].front and at[2].uniform],
            OTHER,
            "diamond",
            9,
            False,
            "the same in all layers",
        ),
        (front, SEEN, "circle", 10, joined, "on the front"),
        ([at for at in places if at[2].knee], LACKING, "star", 16, False, "knee"),
    )
    shown = [kind for kind in kinds if kind[0]]
    data = [
        trace(
            "scatter",
            mode="lines+markers" if line else "markers",
            x=[x for x, _, _ in some],
            y=[y for _, y, _ in some],
            hovertext=[_told(found.objectives, p) for _, _, p in some],
            line={"color": colour},
            marker={"color": colour, "symbol": symbol, "size": size},
        )
        for some, colour, symbol, size, line, _ in shown
    ]
    a, b = printable(found.objectives[i]), printable(found.objectives[j])
    words = listed([f"{a} {x:.6g}, {b} {y:.6g}" for x, y, _ in front])
    key = [(colour, word) for _, colour, _, _, _, word in shown]
    left_out = len(found.points) - len(places)
    note = f"{counted(left_out, 'point')} without a finite value not drawn." if left_out else ""
    drawn = layout(340, axis(a), axis(b))
    return Plot(f"{b} against {a}", f"{len(places)} configurations. On the front: {words}.", data, drawn, key, note)


def _told(objectives: Sequence[str], point: Point) -> str:
    """What is shown where one points at it."""
    values = [f"{n} {v:.6g}" for n, v in zip(objectives, point.values, strict=True) if math.isfinite(v)]
    bits = [
        f"{k.replace('_', ' ')} {' '.join(map(_bits, getattr(point, k).values()))}" for k in KINDS if getattr(point, k)
    ]
    return "<br>".join(plain(t[:MOST_CHARACTERS]) for t in [*values, *bits, *([point.file] if point.file else [])])


def _bits(value: int | list[int]) -> str:
    """Of a layer, stage by stage."""
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
