"""`python -m tests.docs.refresh [PAGE ...]`: write what the commands of the book print now into its pages.

What a page leaves out stays left out: a line with `...` in it that still fits, and as many lines before and behind a
line of `...` as there are. Seconds become `...`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from .pages import ROOT, Shown, blocks, matches, pages, run_page

SECONDS = re.compile(r"\b\d+(?:\.\d+)?(?= m?s\b)")


def renewed(shown: list[str], real: list[str]) -> list[str]:
    """The lines to show of a new output, left out what was."""
    if matches(shown, real):
        return shown
    real = [SECONDS.sub("...", line) for line in real]
    real = [next((s for s in shown if "..." in s and s != "..." and matches([s], [line])), line) for line in real]
    if shown.count("...") == 1:
        head = shown.index("...")
        tail = len(shown) - head - 1
        if len(real) > head + tail:
            return [*real[:head], "...", *real[len(real) - tail :]]
    return real


def refresh(page: Path) -> bool:
    """Rewrite a page; whether that changed it."""
    text = page.read_text()
    lines = text.splitlines()
    found: list[Shown] = run_page(page)
    for one in reversed(found):
        if one.shown:
            indent = re.match(" *", lines[one.start])[0]  # type: ignore[index]
            lines[one.start : one.end] = [(indent + line).rstrip() for line in renewed(one.shown, one.real)]
    new = "\n".join(lines) + "\n"
    page.write_text(new)
    return new != text


if __name__ == "__main__":
    for path in [Path(a).resolve() for a in sys.argv[1:]] or pages():
        if blocks(path.read_text()):
            print("new " if refresh(path) else "same", path.relative_to(ROOT), flush=True)
