"""Results as Markdown: what a pull request shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from intsim.report.documents import Document
from intsim.report.text import counted, printable

MOST_CASES = 5
"""Of a result that are named one by one."""


def markdown(documents: Sequence[Document]) -> str:
    """A table with the verdict of each result, then what fails, the layer that limits the widths, and what to do."""
    told = [(d, d.summary) for d in documents if d.summary is not None]
    said: set[str] = set()
    bad = sum(s.holds is False for _, s in told)
    head = (
        f"{bad} of {counted(len(told), 'result')} {'does' if bad == 1 else 'do'} not hold"
        if bad
        else "everything holds"
    )
    lines = [f"## intsim: {head}", "", "| | of | verdict |", "|---|---|---|"]
    lines += [f"| {s.verb} | {_plain(s.subject)} | **{_plain(s.verdict)}**: {_plain(s.text)} |" for _, s in told]
    for d, s in told:
        if not (s.limit or s.failures or d.step):
            continue
        lines += ["", f"### {s.verb}: {_plain(s.subject)}", ""]
        lines += [f"{_plain(s.limit)}.", *([""] if s.failures else [])] if s.limit else []
        lines += [f"* {_plain(c.name)}: {_plain(c.why)}" for c in s.failures[:MOST_CASES]]
        more = len(s.failures) - MOST_CASES
        lines += [f"* and {more} more"] if more > 0 else []
        if d.step is not None and d.step.text not in said:
            said.add(d.step.text)
            lines += ["", f"Next: {_plain(d.step.text)}", "", *_code(d.step.command)]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Without what Markdown, HTML or GitHub read: marks become references to their characters."""
    return re.sub(
        r"\[(?![-\d, ]+\])|[^\w\s.,:;/()'%=+\[\]-]|_|(?<=:)(?=//)|(?<=www)\.",
        lambda m: f"&#{ord(m[0])};" if m[0] else "&#8203;",
        printable(text),
    )


def _code(command: str) -> list[str]:
    """A block that nothing in it can end."""
    plain = printable(command)
    fence = "`" * (1 + max((len(m) for m in re.findall("`+", plain)), default=2))
    return [fence, plain, fence]
