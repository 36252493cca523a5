"""Tables of telemetry: bits by layer, a picture of the histogram in text, the worst channels."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from intsim.explore.telemetry import StageTelemetry, Telemetry
from intsim.graph import IntArray
from intsim.report.table import Column, note, say, show_table
from intsim.report.text import counted, number
from intsim.report.verdict import inputs

MARKS, PLAIN_MARKS = " ▁▂▃▄▅▆▇█", " .:-=+*%@"
"""From nothing to the most; the second where the encoding has no blocks."""
WORST = 3
MOST_MARKS = 16


def show_telemetry(console: Console, seen: Telemetry, channels: bool = False) -> None:
    """What every register held, then what the clips cut off; `channels` adds the worst channels of each layer."""
    first, last = _span(seen)
    marks = PLAIN_MARKS if console.options.ascii_only else MARKS
    rows = [(layer.name if i == 0 else "", s) for layer in seen.layers for i, s in enumerate(layer.stages)]
    stages = [s for _, s in rows]
    show_table(
        console,
        [
            Column("layer", [name for name, _ in rows], "text"),
            Column("register", [_register(s) for s in stages], "text"),
            Column("low", [number(int(s.low.min(initial=0))) for s in stages], spare=2),
            Column("high", [number(int(s.high.max(initial=0))) for s in stages], spare=2),
            Column("required\nbits", [str(max(s.channel_bits)) for s in stages]),
            Column("groups", [number(s.groups) for s in stages], spare=1),
            *(Column(k, [_count(s, getattr(s, k)(s.bits)) if s.bits else "-" for s in stages]) for k in COUNTS),
            Column("over-\nflows", [_count(s, s.overflows) for s in stages]),
            Column(f"bits {first}..{last}", [_picture(s, first, last, marks) for s in stages], "drawing"),
        ],
        f"{seen.model} on {seen.target}, {inputs(seen.samples, seen.seed)}",
    )
    note(
        console,
        "groups: lives of a register, what it adds up before it hands on the sum. transient, persistent: groups "
        "that overflow at the target's width, as if no register before had; a persistent one's final sum does not "
        "fit. overflows: additions that overflowed on the target. The picture counts groups by the bits they need, "
        "on a log scale; what needs fewer is in the first mark, what overflows is red.",
    )
    if channels:
        _show_channels(console, seen)
    _show_clips(console, seen, channels)
    overflows = seen.overflows
    result = (f"{number(overflows)} overflow events", "yellow") if overflows else ("no register overflowed", "green")
    say(console, "verdict: ", result)


COUNTS = ("transient", "persistent")


def _register(stage: StageTelemetry) -> str:
    return "unbounded" if stage.bits is None else f"{stage.bits} {stage.overflow}"


def _count(stage: StageTelemetry, counts: IntArray) -> str:
    return "-" if stage.bits is None else number(int(counts.sum()))


def _span(seen: Telemetry) -> tuple[int, int]:
    """Least and greatest bits that the pictures show; they count what needs fewer with the least."""
    needed = [b for x in seen.layers for s in x.stages for b in s.partial.sum(axis=0).nonzero()[0].tolist()]
    last = max(needed, default=1)
    return max(min(needed, default=1), last - MOST_MARKS + 1), last


def _picture(stage: StageTelemetry, first: int, last: int, marks: str) -> Text:
    """One mark for each width, as high as the logarithm of its count."""
    counts = stage.partial.sum(axis=0)
    shown = [int(counts[: first + 1].sum()), *map(int, counts[first + 1 : last + 1])]
    most = max(*shown, 2).bit_length()
    drawn = "".join(marks[-(-c.bit_length() * (len(marks) - 1) // most)] for c in shown)
    cut = len(drawn) if stage.bits is None else max(stage.bits + 1 - first, 0)
    return Text.assemble(drawn[:cut], (drawn[cut:], "red"))


def _worst(stage: StageTelemetry) -> list[int]:
    """Channels with most overflow events, then with most bits."""
    bits = stage.channel_bits
    return sorted(range(len(bits)), key=lambda n: (-int(stage.overflows[n]), -bits[n], n))[:WORST]


def _show_channels(console: Console, seen: Telemetry) -> None:
    ranked = [[(n, s) for s in layer.stages for n in _worst(s)] for layer in seen.layers]
    names = [x.name if i == 0 else "" for x, rows in zip(seen.layers, ranked, strict=True) for i in range(len(rows))]
    rows = [row for rows in ranked for row in rows]
    console.print()
    show_table(
        console,
        [
            Column("layer", names, "text"),
            Column("register", [_register(s) for _, s in rows], "text"),
            Column("channel", [str(n) for n, _ in rows]),
            Column("low", [number(int(s.low[n])) for n, s in rows], spare=1),
            Column("high", [number(int(s.high[n])) for n, s in rows], spare=1),
            Column("required\nbits", [str(s.channel_bits[n]) for n, s in rows]),
            *(
                Column(k, [_count(s, getattr(s, k)(s.bits)[[n]]) if s.bits else "-" for n, s in rows], spare=2)
                for k in COUNTS
            ),
            Column("over-\nflows", [_count(s, s.overflows[[n]]) for n, s in rows]),
        ],
        "worst channels",
    )


def _show_clips(console: Console, seen: Telemetry, channels: bool) -> None:
    cut = [c for c in seen.clips if c.raised.any() or c.lowered.any()]
    if cut:
        ends = [(int(c.raised.sum()), int(c.lowered.sum())) for c in cut]
        worst = [Column("worst channels", [_channels(c.raised + c.lowered) for c in cut], "text")] if channels else []
        console.print()
        show_table(
            console,
            [
                Column("requantizer", [c.name for c in cut], "text"),
                Column("elements", [number(c.elements) for c in cut]),
                Column("raised", [number(low) for low, _ in ends]),
                Column("lowered", [number(high) for _, high in ends]),
                Column("share", [f"{sum(e) / c.elements:.2%}" for c, e in zip(cut, ends, strict=True)]),
                *worst,
            ],
            "output clips",
        )
    rest = len(seen.clips) - len(cut)
    if rest:
        note(console, f"{counted(rest, 'other requantizer' if cut else 'requantizer')} clipped nothing")


def _channels(counts: IntArray) -> str:
    worst = sorted(range(len(counts)), key=lambda n: (-int(counts[n]), n))[:WORST]
    return ", ".join(f"{n}: {number(int(counts[n]))}" for n in worst if counts[n])
