"""Plots of registers: bits needed against bits there are, partial sums by bits, overflow by channel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from intsim.explore.telemetry import StageTelemetry, Telemetry
from intsim.graph import IntArray
from intsim.report.page.figures import (
    LACKING,
    OTHER,
    PROVEN,
    SEEN,
    THERE,
    Key,
    Plot,
    axis,
    heat,
    height,
    layout,
    listed,
    plain,
    ramp,
    rows,
    step,
    trace,
    upright,
)
from intsim.report.summary import Need
from intsim.report.text import counted, number

EVENTS, SUMS = ("#f2c879", "#e0703f", "#a3123a"), ("#a9cbe8", "#3b82c4", "#123f70")
MOST_BITS = 64
BY_BITS = "bits needed by partial sums"
APART = (
    "Where more was observed than is proven: the proof is of what registers before hand on, which saturate or wrap; "
    "observed are sums as if none before had overflowed."
)
ENDS = ("lowerfence", "q1", "median", "q3", "upperfence")
Register = tuple[str, int]
"""The layer and the stage."""


def bits(proven: Sequence[Need], seen: Telemetry | None) -> Plot | None:
    """Bits needed against bits there are: a row a register."""
    known = {(n.layer, n.stage): n for n in proven}
    observed = {} if seen is None else {(x.name, s.stage): s for x in seen.layers for s in x.stages}
    there = {k: s.bits for k, s in observed.items()} | {k: n.bits for k, n in known.items()}
    keys = [*known, *(k for k in observed if k not in known)]
    if not keys:
        return None
    names, title = _names(keys)
    words = [f"{n}: {_told(known.get(k), observed.get(k), there[k])}" for n, k in zip(names, keys, strict=True)]
    hover = [plain(w) for w in words]
    wide = trace(
        "bar", y=list(range(len(keys))), x=[there[k] for k in keys], hovertext=hover, orientation="h", width=0.8
    )
    data = [wide | {"marker": {"color": THERE, "opacity": 0.45}}]
    key: Key = [(THERE, "bits there are")] if any(b is not None for b in there.values()) else []
    boxes = [(i, _quarters(observed[k])) for i, k in enumerate(keys) if k in observed and observed[k].groups]
    if boxes:
        ends = {end: [q[j] for _, q in boxes] for j, end in enumerate(ENDS)}
        made = trace("box", y=[i for i, _ in boxes], **ends, orientation="h", width=0.42, opacity=0.85)
        data.append(made | {"fillcolor": SEEN, "line": {"color": SEEN, "width": 1.5}})
        key.append((SEEN, "observed: half of the sums in the box, all between the ends"))
    marks = [(i, known[k]) for i, k in enumerate(keys) if k in known]
    if marks:
        colours = [LACKING if n.bits is not None and n.missing > 0 else PROVEN for _, n in marks]
        look = {"symbol": "diamond", "size": 11, "color": colours}
        x, y, told = [n.required for _, n in marks], [i for i, _ in marks], [hover[i] for i, _ in marks]
        data.append(trace("scatter", mode="markers", x=x, y=y, marker=look, hovertext=told))
        meant = {PROVEN: "proven least", LACKING: "proven least, more than there are"}
        key += [(colour, text) for colour, text in meant.items() if colour in colours]
    more = any(k in known and max(s.channel_bits) > known[k].required for k, s in observed.items())
    y_axis, meta = rows(names, title)
    drawn = layout(height(len(keys)), axis("bits of a signed register", rangemode="tozero"), y_axis, meta=meta)
    alt = f"Bits, a row for each register. {listed(words)}."
    return Plot("Bits needed, bits there are", alt, data, drawn, key, APART * more)


def _names(keys: Sequence[Register]) -> tuple[list[str], str]:
    """Of registers, with their stage where there are several; and what they are."""
    if all(stage == 1 for _, stage in keys):
        return [layer for layer, _ in keys], "layer"
    return [f"{layer} · {stage}" for layer, stage in keys], "layer · stage"


def _told(need: Need | None, stage: StageTelemetry | None, there: int | None) -> str:
    parts = [] if need is None else [f"proven least {need.required}"]
    parts += [] if stage is None else [f"observed {max(stage.channel_bits)}"]
    return ", ".join([*parts, "no register" if there is None else f"{there} there"])


def _quarters(stage: StageTelemetry) -> list[int]:
    """Least, quarters and greatest of the bits that groups need."""
    upto = np.cumsum(stage.partial.sum(axis=0))
    count = int(upto[-1])
    ranks = (1, *(-(-count * q // 4) for q in (1, 2, 3)), count)
    return [int(np.searchsorted(upto, rank)) for rank in ranks]


def _fitting(stages: Iterable[StageTelemetry]) -> tuple[IntArray, IntArray]:
    """Groups by bits, those that fit their registers and the others."""
    fit = np.zeros(MOST_BITS + 2, np.int64)
    over = fit.copy()
    for stage in stages:
        counts = stage.partial.sum(axis=0)
        held = np.arange(counts.size) <= (MOST_BITS + 1 if stage.bits is None else stage.bits)
        fit += np.where(held, counts, 0)
        over += np.where(held, 0, counts)
    return fit, over


def histograms(seen: Telemetry) -> list[Plot]:
    """Bits that partial sums needed, over all layers: a plot a stage."""
    numbers = sorted({s.stage for x in seen.layers for s in x.stages})
    found = {n: [s for x in seen.layers for s in x.stages if s.stage == n and s.groups] for n in numbers}
    return [_histogram(s, f", stage {n}" if len(numbers) > 1 else "") for n, s in found.items() if s]


def _histogram(stages: Sequence[StageTelemetry], where: str) -> Plot:
    fit, over = _fitting(stages)
    both = fit + over
    span, widths = _span(both), sorted({s.bits for s in stages if s.bits is not None})
    data, key = [], []
    for counts, colour, word in ((fit, SEEN, "fit"), (over, LACKING, "don't fit")):
        if counts.any():
            told = [f"{number(int(counts[b]))} groups need {_bits(b)} and {word}" for b in span]
            made = trace("bar", x=list(span), y=[int(counts[b]) for b in span], hovertext=told, width=0.85)
            data.append(made | {"marker": {"color": colour}})
            key.append((colour, word))
    registers = ", ".join(map(str, widths))
    key += [(OTHER, f"register: {registers} bits")] if widths else []
    groups = axis("groups", type="log", range=[-0.25, math.log10(int(both.max())) + 0.15], dtick=1)
    lines = [upright(b + 0.5) for b in widths]
    drawn = layout(280, _across(span, widths), groups, shapes=lines, barmode="stack", bargap=0.1)
    words = [f"{number(int(both[b]))} need {_bits(b)}" for b in span if both[b]]
    alt = f"Groups by bits{where}: {listed(words)}. Registers have {registers or 'no'} bits."
    return Plot(f"Partial sums by bits{where}", alt, data, drawn, key)


def _span(counts: IntArray) -> range:
    """From the least bits that something needs to the most."""
    needed = np.flatnonzero(counts)
    return range(int(needed[0]), int(needed[-1]) + 1)


def _across(span: range, widths: Iterable[int], **more: Any) -> dict[str, Any]:
    """The axis of bits, as far as registers go."""
    last = max([span[-1], *widths])
    return axis(BY_BITS, range=[span[0] - 0.7, last + 0.9], dtick=step(last - span[0]), **more)


def _bits(count: int) -> str:
    return f"more than {MOST_BITS} bits" if count > MOST_BITS else counted(count, "bit")


def by_layer(seen: Telemetry) -> Plot | None:
    """The same by layer: rows are registers, columns bits, shades counts. None for a single one."""
    stages = {(x.name, s.stage): s for x in seen.layers for s in x.stages if s.groups}
    if len(stages) < 2:
        return None
    table = np.stack([s.partial.sum(axis=0) for s in stages.values()])
    span = _span(table.sum(axis=0))
    counts = [[int(line[b]) for b in span] for line in table]
    data = [heat(span, counts, SUMS, "%{customdata} groups need %{x} bits")]
    key = [(ramp(SUMS), f"1 to {number(max(map(max, counts)))} groups, each shade as many times more")]
    marks = [(i, s.bits) for i, s in enumerate(stages.values()) if s.bits is not None]
    if marks:
        look = {"symbol": "line-ns-open", "size": 18, "color": OTHER, "line": {"width": 3, "color": OTHER}}
        ends = trace("scatter", mode="markers", x=[b + 0.5 for _, b in marks], y=[i for i, _ in marks], marker=look)
        data.append(ends)
        key.append((OTHER, "width of the register"))
    names, title = _names(list(stages))
    y_axis, meta = rows(names, title)
    drawn = layout(height(len(stages)), _across(span, [b for _, b in marks], showgrid=False), y_axis, meta=meta)
    words = [f"{n}: up to {_bits(_span(line)[-1])}" for n, line in zip(names, table, strict=True)]
    alt = f"Bits that sums need, a row for each register. {listed(words)}."
    return Plot("Partial sums by layer and bits", alt, data, drawn, key)


def overflow(seen: Telemetry) -> Plot | None:
    """Overflow events by layer and channel, of all registers; None where there is none."""
    events = {x.name: np.sum([s.overflows for s in x.stages], axis=0) for x in seen.layers if x.stages}
    found = {name: counts for name, counts in events.items() if counts.any()}
    if not found:
        return None
    channels = max(counts.size for counts in found.values())
    table = [[*map(int, counts), *[0] * (channels - counts.size)] for counts in found.values()]
    data = [heat(range(channels), table, EVENTS, "channel %{x}: %{customdata} overflow events")]
    every = {"dtick": 1} if channels <= MOST_BITS // 4 else {}
    x_axis = axis("channel of the layer's output", range=[-0.5, channels - 0.5], showgrid=False, **every)
    y_axis, meta = rows(list(found), "layer")
    words = [
        f"{n}: {number(int(c.sum()))} events in {counted(int((c > 0).sum()), 'channel')}" for n, c in found.items()
    ]
    key = [(ramp(EVENTS), f"1 to {counted(max(map(max, table)), 'event')}; channels without are empty")]
    drawn = layout(height(len(found)), x_axis, y_axis, meta=meta)
    return Plot("Overflow by layer and channel", f"Overflow events. {listed(words)}.", data, drawn, key)
