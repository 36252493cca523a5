"""Tables and lines that fit what they are printed on: its width, and the characters that its encoding has.

Numbers are neither cut nor broken. Where a table is too wide, texts fold first; then columns are left out, and named
below it: JSON has them, and a wider terminal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from intsim.report.text import printable

BOX = Box("    \n    \n----\n" + "    \n" * 5, ascii=True)
"""A line under the headings, in every encoding."""
NARROW = 12
"""Columns that a text keeps at least, if it has so many."""
Cell = str | Text
WITHIN_A_NUMBER = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")
TIE = "\ue000"
"""Stands for a space within a number while lines are broken."""
BREAKS = "/._-,:"
"""Characters after which a name may go on in the next line."""


@dataclass(frozen=True)
class Column:
    """One column: heading (lines apart by newlines), a cell a row.

    Attributes:
        kind: a number is aligned to the right; a text to the left, and folded where the table is too wide; a drawing
            to the left.
        spare: 0 stays; columns of the greatest number are the first to be left out, all of them together.
    """

    head: str
    cells: Sequence[Cell]
    kind: Literal["number", "text", "drawing"] = "number"
    spare: int = 0

    @property
    def name(self) -> str:
        """The heading in one line."""
        return self.head.replace("-\n", "").replace("\n", " ").strip()

    def width(self, console: Console) -> int:
        """Of the widest line."""
        lines = [line for cell in (self.head, *self.cells) for line in _shown(console, cell).plain.split("\n")]
        return max(map(cell_len, lines))


def show_table(console: Console, columns: Sequence[Column], title: str = "") -> None:
    """Print a table under its title, and say what was left out for want of space."""
    if title:
        say(console, (title, "italic"))
    kept, gap, widths = list(columns), 2, [c.width(console) for c in columns]
    while (room := console.width - sum(widths) - gap * (len(kept) - 1)) < 0:
        least = [min(w, NARROW) if c.kind == "text" else w for c, w in zip(kept, widths, strict=True)]
        spare = max(c.spare for c in kept)
        if sum(widths) - sum(least) + room >= 0:
            widths = _folded_widths(widths, least, -room)
        elif gap > 1:
            gap = 1
        elif spare:
            kept = [c for c in kept if c.spare < spare]
            gap, widths = 2, [c.width(console) for c in kept]
        else:
            break
    table = Table(box=BOX, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0), header_style="bold")
    table.width = sum(widths) + gap * (len(kept) - 1)
    for column, width in zip(kept, widths, strict=True):
        table.add_column(
            _shown(console, column.head),
            justify="right" if column.kind == "number" else "left",
            no_wrap=True,
            min_width=width,
            overflow="crop",
        )
    for cells in zip(*(c.cells for c in kept), strict=True):
        table.add_row(*(_folded(_shown(console, cell), w) for cell, w in zip(cells, widths, strict=True)))
    console.print(table, crop=False)
    left_out = [c.name for c in columns if c not in kept]
    if left_out:
        note(console, f"no room for: {', '.join(left_out)} (a wider terminal or --json shows them)")


def say(console: Console, *parts: str | tuple[str, str]) -> None:
    """Print words and (words, style), broken into lines between words only."""
    text = _shown(console, Text.assemble(*parts))
    starts, column = [], 0
    for word in re.finditer(r"\S+\s*", WITHIN_A_NUMBER.sub(TIE, text.plain)):
        if column and column + cell_len(word[0].rstrip()) > console.width:
            starts.append(word.start())
            column = 0
        column += cell_len(word[0])
    for line in text.divide(starts):
        line.rstrip()
        console.print(line, soft_wrap=True)


def note(console: Console, words: str) -> None:
    """Print what explains a table."""
    say(console, (words, "dim"))


def _shown(console: Console, cell: Cell) -> Text:
    """What the console can print: characters that its encoding lacks as escapes, no control characters."""
    text = cell.copy() if isinstance(cell, Text) else Text(cell)
    plain = "\n".join(printable(line) for line in text.plain.split("\n"))
    encoded = plain.encode(console.encoding, "backslashreplace").decode(console.encoding)
    if encoded != text.plain:
        text.plain = encoded
    return text


def _folded_widths(widths: list[int], least: list[int], excess: int) -> list[int]:
    """Widths that are smaller by `excess` in all, taken from the widest that still can."""
    widths = list(widths)
    for _ in range(excess):
        at = max((i for i, (w, m) in enumerate(zip(widths, least, strict=True)) if w > m), key=lambda i: widths[i])
        widths[at] -= 1
    return widths


def _folded(text: Text, width: int) -> Text:
    """In lines of at most `width`: broken between words, else behind a sign that parts a name, else anywhere."""
    plain, lines = WITHIN_A_NUMBER.sub(TIE, text.plain), []
    for line in plain.split("\n"):
        while cell_len(line) > width:
            most = next(n for n in range(len(line), 0, -1) if n == 1 or cell_len(line[:n]) <= width)
            at = line[: most + 1].rfind(" ")
            if at < 1:
                at = max((i + 1 for i in range(width // 3, most) if line[i] in BREAKS), default=most)
            lines.append(line[:at].rstrip())
            line = line[at:].lstrip()
        lines.append(line)
    folded = "\n".join(lines).replace(TIE, " ")
    return text if folded == text.plain else Text(folded, style=text.style)
