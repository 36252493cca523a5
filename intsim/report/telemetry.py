"""Tables of telemetry: bits by layer, a picture of the histogram in text, the worst channels."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from intsim.explore.telemetry import LayerTelemetry, StageTelemetry, Telemetry
from intsim.graph import IntArray
from intsim.report.numbers import number

MARKS = " ▁▂▃▄▅▆▇█"
WORST = 3
MOST_MARKS = 16


def show_telemetry(console: Console, found: Telemetry, channels: bool = False) -> None:
    """What every register held, then what the clips cut off; `channels` adds the worst channels of each layer."""
    first, last = _span(found)
    table = Table(
        title=escape(f"{found.model} on {found.target}, {found.samples} sample(s)"),
        title_justify="left",
        header_style="bold",
        padding=0,
    )
    table.add_column("layer", overflow="fold", min_width=12)
    table.add_column("register", no_wrap=True)
    for head in ("low", "high", "bits", "groups", "transient", "persistent", "events"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(f"bits {first}..{last}", no_wrap=True)
    for layer in found.layers:
        for i, stage in enumerate(layer.stages):
            table.add_row(
                escape(layer.name) if i == 0 else "", _register(stage), *_numbers(stage), _picture(stage, first, last)
            )
    console.print(table)
    console.print(
        "groups: lives of a register, what it adds up before it hands on the sum. transient, persistent: groups that "
        "overflow at the target's width, as if no register before had; a persistent one's final sum does not fit. "
        "events: additions that overflowed on the target. The picture counts groups by the bits they need, on a log "
        "scale; what needs fewer is in the first mark, what overflows is red.",
        style="dim",
    )
    if channels:
        _show_channels(console, found)
    _show_clips(console, found, channels)
    word = (
        f"[yellow]{number(found.overflows)} overflow events[/]"
        if found.overflows
        else "[green]no register overflowed[/]"
    )
    console.print(f"verdict: {word}")


def _register(stage: StageTelemetry) -> str:
    return "unbounded" if stage.bits is None else f"{stage.bits} {stage.overflow}"


def _numbers(stage: StageTelemetry) -> list[str]:
    counts = ["-", "-"]
    if stage.bits is not None:
        counts = [number(int(c.sum())) for c in (stage.transient(stage.bits), stage.persistent(stage.bits))]
    ends = (int(stage.low.min(initial=0)), int(stage.high.max(initial=0)))
    events = "-" if stage.bits is None else number(int(stage.events.sum()))
    return [*map(number, ends), str(max(stage.channel_bits)), number(stage.groups), *counts, events]


def _span(found: Telemetry) -> tuple[int, int]:
    """Least and greatest bits that the pictures show; they count what needs fewer with the least."""
    needed = [b for x in found.layers for s in x.stages for b in s.partial.sum(axis=0).nonzero()[0].tolist()]
    last = max(needed, default=1)
    return max(min(needed, default=1), last - MOST_MARKS + 1), last


def _picture(stage: StageTelemetry, first: int, last: int) -> str:
    """One mark for each width, as high as the logarithm of its count."""
    counts = stage.partial.sum(axis=0)
    shown = [int(counts[: first + 1].sum()), *map(int, counts[first + 1 : last + 1])]
    most = max(*shown, 2).bit_length()
    marks = [MARKS[-(-c.bit_length() * (len(MARKS) - 1) // most)] for c in shown]
    cut = len(marks) if stage.bits is None else max(stage.bits + 1 - first, 0)
    past = "".join(marks[cut:])
    return "".join(marks[:cut]) + (f"[red]{past}[/]" if past.strip() else past)


def _worst(stage: StageTelemetry) -> list[int]:
    """Channels with most overflow events, then with most bits."""
    bits = stage.channel_bits
    return sorted(range(len(bits)), key=lambda n: (-int(stage.events[n]), -bits[n], n))[:WORST]


def _show_channels(console: Console, found: Telemetry) -> None:
    table = Table(title="worst channels", title_justify="left", header_style="bold")
    for head in ("layer", "register"):
        table.add_column(head, overflow="fold")
    for head in ("channel", "low", "high", "bits", "transient", "persistent", "events"):
        table.add_column(head, justify="right")
    for layer in found.layers:
        for i, n, stage in _ranked(layer):
            own = ["-"] * 3
            if stage.bits is not None:
                counts = (stage.transient(stage.bits)[n], stage.persistent(stage.bits)[n], stage.events[n])
                own = [number(int(c)) for c in counts]
            ends = [number(int(stage.low[n])), number(int(stage.high[n]))]
            name = escape(layer.name) if i == 0 else ""
            table.add_row(name, _register(stage), str(n), *ends, str(stage.channel_bits[n]), *own)
    console.print(table)


def _ranked(layer: LayerTelemetry) -> list[tuple[int, int, StageTelemetry]]:
    """(line, channel, register), the worst channels of each register."""
    pairs = [(n, stage) for stage in layer.stages for n in _worst(stage)]
    return [(i, n, stage) for i, (n, stage) in enumerate(pairs)]


def _show_clips(console: Console, found: Telemetry, channels: bool) -> None:
    table = Table(title="output clips", title_justify="left", header_style="bold")
    table.add_column("requantizer", overflow="fold")
    for head in (
        "values",
        "raised to the low end",
        "lowered to the high end",
        "share",
        *(["worst channels"] * channels),
    ):
        table.add_column(head, justify="right")
    cut = [c for c in found.clips if c.low.any() or c.high.any()]
    for clip in cut:
        low, high = int(clip.low.sum()), int(clip.high.sum())
        worst = [_channels(clip.low + clip.high)] if channels else []
        table.add_row(
            escape(clip.name),
            number(clip.elements),
            number(low),
            number(high),
            f"{(low + high) / clip.elements:.2%}",
            *worst,
        )
    if cut:
        console.print(table)
    rest = len(found.clips) - len(cut)
    if rest:
        console.print(f"{rest} {'other ' if cut else ''}requantizers clipped nothing", style="dim")


def _channels(counts: IntArray) -> str:
    worst = sorted(range(len(counts)), key=lambda n: (-int(counts[n]), n))[:WORST]
    return ", ".join(f"{n}: {number(int(counts[n]))}" for n in worst if counts[n])
