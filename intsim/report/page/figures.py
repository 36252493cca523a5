"""Plots of the page, as Plotly takes them: plain dictionaries, whose texts from files are escaped here.

Colours are seen on white and on black; text and grid get theirs from the style sheet (page.css).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from intsim.report.page.drawing import short
from intsim.report.text import printable

THERE, SEEN, PROVEN, LACKING, OTHER = "#9aa3ad", "#3b82c4", "#2f9e6e", "#d6455d", "#d98a1f"
"""Available, observed, proven and enough, too few or overflowing, another one."""
WIDE, NARROW = 30, 13
"""Characters of a layer's name beside a plot, on wide and on narrow screens."""
MOST_NAMES, MOST_TICKS, MOST_TOLD = 80, 11, 12
ROW = 26
"""Pixels of a row."""
Key = list[tuple[str, str]]
"""Colours, or none, with what they mean."""


@dataclass(frozen=True)
class Plot:
    """A plot: what Plotly draws, its words for those who don't see it, its colours, and what is to be known."""

    title: str
    alt: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    key: Key = field(default_factory=list)
    note: str = ""


def plain(text: str) -> str:
    """As Plotly shows it, which reads a few tags."""
    return escape(printable(text), quote=False)


def trace(kind: str, **more: Any) -> dict[str, Any]:
    """What one kind of mark draws; with `hovertext`, that is shown where one points at it."""
    return {"type": kind, "hoverinfo": "text" if "hovertext" in more else "skip", **more}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with its name."""
    named = {"text": plain(title), "standoff": 10}
    return {"title": named, "automargin": True, "zeroline": False, "fixedrange": True, **more}


def rows(names: Sequence[str], title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An axis with a name a row, the first on top, and the shorter names for narrow screens."""
    every = max(1, -(-len(names) // MOST_NAMES))
    wide, narrow = ([plain(short(n, most)) for n in names[::every]] for most in (WIDE, NARROW))
    at = list(range(0, len(names), every))
    made = axis(title, tickmode="array", tickvals=at, ticktext=wide, range=[len(names) - 0.4, -0.6], showgrid=False)
    return made, {"narrow": narrow}


def layout(height: int, x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What plots have in common."""
    clear = dict.fromkeys(("paper_bgcolor", "plot_bgcolor"), "rgba(0,0,0,0)")
    calm = {"showlegend": False, "dragmode": False, "hovermode": "closest"}
    font = {"family": "system-ui, sans-serif", "size": 12}
    margin = {"l": 8, "r": 12, "t": 8, "b": 8}
    return {"height": height, "xaxis": x, "yaxis": y, "font": font, "margin": margin, **clear, **calm, **more}


def height(count: int) -> int:
    """Of a plot with so many rows."""
    return 90 + ROW * min(count, MOST_NAMES)


def step(count: int) -> int:
    """From tick to tick of so many."""
    return max(1, -(-count // MOST_TICKS))


def heat(x: Sequence[int], counts: list[list[int]], shades: Sequence[str], hover: str) -> dict[str, Any]:
    """Counts above 0 on a log scale, by row; the others stay empty."""
    z = [[math.log10(c) if c > 0 else None for c in line] for line in counts]
    top = max((v for line in z for v in line if v is not None), default=0.0)
    scale = [[i / (len(shades) - 1), shade] for i, shade in enumerate(shades)]
    drawn = {"x": list(x), "z": z, "customdata": counts, "hovertemplate": f"{hover}<extra></extra>"}
    look = {"colorscale": scale, "zmin": 0, "zmax": max(top, 1), "showscale": False, "xgap": 1, "ygap": 1}
    return {"type": "heatmap", **drawn, **look, "hoverongaps": False}


def ramp(shades: Sequence[str]) -> str:
    """Shades as a colour of a key."""
    return f"linear-gradient(90deg,{','.join(shades)})"


def upright(x: float) -> dict[str, Any]:
    """A line from the foot of a plot to its head."""
    return {**_whole(x, x), "type": "line", "line": {"color": OTHER, "width": 2, "dash": "dash"}}


def band(low: float, high: float) -> dict[str, Any]:
    """What is proven, from foot to head."""
    look = {"line": {"width": 0}, "layer": "below", "fillcolor": PROVEN, "opacity": 0.18}
    return {**_whole(low, high), "type": "rect", **look}


def _whole(low: float, high: float) -> dict[str, Any]:
    return {"x0": low, "x1": high, "yref": "paper", "y0": 0, "y1": 1}


def listed(parts: Sequence[str]) -> str:
    """The first ones in a line, and how many more there are."""
    more = len(parts) - MOST_TOLD
    return "; ".join([*parts[:MOST_TOLD], *([f"and {more} more"] if more > 0 else [])])
