"""The verb `report`: results that were written as JSON, as one page, and for a pull request."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intsim.cli.options import Json, Junit, Markdown, app, console, emit
from intsim.errors import IntsimError

if TYPE_CHECKING:
    from intsim.report.documents import Document


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="JSON that verbs wrote, or folders of it")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="the page, an HTML file; extra explore")] = None,
    junit: Junit = None,
    markdown: Markdown = None,
    json_: Json = False,
) -> None:
    """Write results as one HTML file that needs no network, as Markdown or as JUnit."""
    if not (out or junit or markdown or json_):
        raise IntsimError("give the file to write: --out report.html, --markdown FILE or --junit FILE")
    from intsim.report.documents import collect
    from intsim.report.table import say
    from intsim.report.write import ready, write_all

    ready(out, junit, markdown)
    documents, others = collect(paths)
    write_all(documents, others, out, junit, markdown)
    written = [str(p) for p in (out, junit, markdown) if p is not None]
    told = [d for d in documents if d.summary is not None]
    if json_:
        emit({"format": "intsim-report-1", "files": written, "results": [_json(d) for d in told]})
        return
    for d in told:
        assert d.summary is not None
        say(console(), f"{d.summary.verb}, {d.summary.subject}: {d.summary.verdict}")
    say(console(), f"wrote {', '.join(written)}")


def _json(told: Document) -> dict[str, object]:
    assert told.summary is not None
    parts = {k: v for k, v in asdict(told.summary).items() if k != "cases"}
    failures = [c._asdict() for c in told.summary.failures]
    step = None if told.step is None else asdict(told.step)
    return {"file": told.source, **parts, "failures": failures, "next_step": step}
