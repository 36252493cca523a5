"""JSON that verbs wrote, as documents of a report: read back, checked, in words and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from intsim.budget import contents
from intsim.errors import IntsimError
from intsim.report.certificate import show_check
from intsim.report.html import SHOW, as_html
from intsim.report.inspection import show_inspection
from intsim.report.next_step import NextStep
from intsim.report.results import READ, Checked, Graph, Outputs, parsed
from intsim.report.run import show_summary
from intsim.report.summary import Summary, summarize
from intsim.report.table import say
from intsim.rtl.cosimulation import Cosimulation

AGAIN = "have its verb write it again"
MARK = b'"intsim-'
"""In every document of intsim's."""
WRONG = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What comes of JSON that a verb did not write."""


def _cosimulation(console: Console, found: Cosimulation) -> None:
    say(console, f"{found.design} on {found.simulator}: {found.vectors} rows in {found.cycles} cycles")


SHOWN: dict[type, Callable[[Console, Any], None]] = {
    **SHOW,
    Checked: lambda console, found: show_check(console, found.certificate, found.check),
    Cosimulation: _cosimulation,
    Outputs: lambda console, ran: show_summary(console, asdict(ran)),
    dict: show_inspection,
}
"""Tables of all that a report takes."""


@dataclass(frozen=True)
class Document:
    """A result that was read back.

    `source` is its file, or the verb that made it just now; `table` what the terminal shows of it, as HTML. A graph has
    no summary: it is drawn where others speak of its layers.
    """

    source: str
    result: Any
    summary: Summary | None = None
    table: str = ""
    step: NextStep | None = None

    @property
    def model(self) -> str | None:
        """The model that it names."""
        if isinstance(self.result, dict):
            return str(self.result["model"])
        named = getattr(self.result, "model", None)
        return named["file"] if isinstance(named, dict) else named

    @property
    def target(self) -> str | None:
        """The target that it names."""
        named = getattr(self.result, "target", None)
        return named["name"] if isinstance(named, dict) else named


def document(content: Any, source: str) -> Document:
    """A document from its JSON. Raises IntsimError, one line that names `source`, for what no verb writes."""
    kind = content.get("format") if isinstance(content, dict) else None
    if not isinstance(kind, str) or not kind.startswith("intsim-"):
        raise IntsimError(f"{source}: names no format of intsim's; give what a verb's --json or --out wrote")
    if kind not in READ:
        names = ", ".join(k.removeprefix("intsim-") for k in READ)
        raise IntsimError(f"{source}: a report has no place for format {kind[:80]!r}; it has for {names}")
    try:
        result = READ[kind](content)
        if isinstance(result, Graph):
            return Document(source, result)
        step = content.get("next_step")
        following = None if step is None else NextStep(str(step["text"]), str(step["command"]), step.get("layer"))
        table = as_html(lambda console: SHOWN[type(result)](console, result))
        return Document(source, result, summarize(result), table, following)
    except IntsimError as error:
        raise IntsimError(f"{source}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))[:120]
        raise IntsimError(f"{source}: damaged: {where}: {first['msg']}; {AGAIN}") from None
    except WRONG as error:
        raise IntsimError(f"{source}: damaged: {type(error).__name__} {str(error)[:120]}; {AGAIN}") from None


def collect(paths: Sequence[Path]) -> tuple[list[Document], list[str]]:
    """The documents of files and folders, each file once, and of folders the files that hold other JSON of intsim's.

    Raises:
        IntsimError: one line: nothing to take, or a file that is not there, no JSON, or damaged.
    """
    found: dict[Path, Document] = {}
    others: list[str] = []
    for path in paths:
        if not path.is_dir():
            found.setdefault(path.resolve(), document(_json(path, _bytes(path)), str(path)))
            continue
        before = len(found)
        for one in sorted(p for p in path.rglob("*.json") if p.is_file()):
            data = contents(one)
            if MARK not in data or one.resolve() in found:
                continue
            content = _json(one, data)
            if isinstance(content, dict) and content.get("format") in READ:
                found[one.resolve()] = document(content, str(one))
            else:
                others.append(str(one))
        if len(found) == before:
            raise IntsimError(f"{path}: holds no JSON that a report takes; write some with --json or --out")
    if not any(d.summary for d in found.values()):
        raise IntsimError(f"{', '.join(map(str, paths))}: a graph alone says nothing; give a result as well")
    return list(found.values()), others


def _bytes(path: Path) -> bytes:
    try:
        return contents(path)
    except IntsimError as error:
        raise IntsimError(f"{error}; give a file or a folder of intsim's JSON") from None


def _json(path: Path, data: bytes) -> Any:
    try:
        return parsed(data)
    except (ValueError, RecursionError) as error:
        raise IntsimError(f"{path}: not JSON: {' '.join(str(error).split())[:120]}; {AGAIN}") from None
