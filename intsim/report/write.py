"""Results into files: a page, JUnit, a summary in Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError
from intsim.junit import write_junit
from intsim.report import files
from intsim.report.documents import Document, document
from intsim.report.markdown import markdown as in_markdown
from intsim.report.page.page import check, write_page
from intsim.report.results import parsed
from intsim.report.summary import Case, Summary


def ready(html: Path | None = None, junit: Path | None = None, markdown: Path | None = None) -> None:
    """Raise IntsimError, before any work, for a file that can't be written and a page that nothing can make."""
    if html is not None:
        check()
    paths = [p for p in (html, junit, markdown) if p is not None]
    if len({p.absolute() for p in paths}) < len(paths):
        raise IntsimError(f"{paths[0]}: two reports into one file; give each its own")
    for path in paths:
        files.check(path)


def write(
    content: dict[str, Any],
    verb: str,
    html: Path | None = None,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> None:
    """Write what a verb's JSON says into the files that are given."""
    write_all([document(parsed(json.dumps(content)), f"intsim {verb}")], [], html, junit, markdown)


def write_all(
    documents: Sequence[Document],
    others: Sequence[str],
    html: Path | None = None,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> None:
    """The same for documents that were read."""
    told = [d.summary for d in documents if d.summary is not None]
    if markdown is not None:
        with files.file(markdown) as draft:
            draft.write_text(in_markdown(documents), encoding="utf-8")
    if junit is not None:
        with files.file(junit) as draft:
            write_cases(draft, told)
    if html is not None:
        write_page(html, documents, others)


def write_cases(path: Path, summaries: Sequence[Summary]) -> None:
    """One test case a layer, of several results in one suite."""
    one = summaries[0] if len(summaries) == 1 else None
    cases = [
        Case(c.name if one else f"{s.verb} {s.subject}: {c.name}", c.why)
        for s in summaries
        for c in s.cases or [_whole(s)]
    ]
    suite = f"intsim {one.verb}: {one.subject}" if one else "intsim"
    write_junit(path, suite, one.subject if one else "intsim", cases)


def _whole(told: Summary) -> Case:
    """Of a result without layers."""
    return Case(told.verb, told.text if told.holds is False else "")
