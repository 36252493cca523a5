"""Pages whose code runs: the fenced blocks of a Markdown page, one after another in a folder of its own.

| block | what is done |
|---|---|
| `python` | executed, in one namespace a page; a `text` block behind it is what it printed |
| `console` | each line that begins with `$` is run by bash; what stands below it is what it printed |
| `sh` | run by bash as a whole, which must succeed |
| `toml` | must be TOML |
| any of them whose first line is a comment with a file's name | written to that file, not run |
| any of them whose first line is `# not run here: REASON` | left out |
| any other | a drawing or a quotation; nothing |

In what is shown, `...` stands for anything, also for whole lines. A page that says `<!-- goes on from: PAGE -->` begins
with the files that the code of that page made; with `<!-- goes on from: PAGE as far as FILE -->` that code is run no
further than to the block that made FILE. mktestdocs, sybil and pytest-examples run code blocks too; none of them
compares what commands print and writes it anew (`python -m tests.docs.refresh`).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LANGUAGES = ("python", "console", "sh", "toml", "c", "systemverilog")
FILE = re.compile(r"(?:#|//|/\*) ([\w-]+\.(?:py|toml|c|sv))\b")
LEFT_OUT = re.compile(r"# not run here: (.+)")
GOES_ON = re.compile(r"<!-- goes on from: ([\w./-]+)(?: as far as ([\w.-]+))? -->")


def pages() -> list[Path]:
    """The README and the pages of the book."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


@dataclass
class Block:
    """A fenced block: its language, its text, and the lines of the page between its fences, from `start` to `end`."""

    language: str
    text: str
    start: int
    end: int

    @property
    def left_out(self) -> str | None:
        """Why it is not run."""
        found = LEFT_OUT.match(self.text)
        return found[1] if found else None

    @property
    def file(self) -> str | None:
        """The file that it is."""
        found = FILE.match(self.text) if self.language in LANGUAGES else None
        return found[1] if found else None


@dataclass
class Shown:
    """What a page shows of an output, in its lines from `start` to `end`, and what came out."""

    what: str
    shown: list[str]
    real: list[str]
    start: int
    end: int
    code: int = 0

    @property
    def complaint(self) -> str | None:
        """What is wrong with it, if something is."""
        real = "\n".join(self.real)
        if not self.shown:
            return f"ended with {self.code}:\n{real}" if self.code else None
        if not matches(self.shown, self.real):
            return "shows\n{}\nbut the output is\n{}".format("\n".join(self.shown), real)
        refused = any(line.startswith("intsim: ") for line in self.shown)
        return f"ended with {self.code}" if self.code == 2 and not refused else None


def matches(shown: list[str], real: list[str]) -> bool:
    """Whether an output is what is shown, `...` standing for anything."""
    pattern = ".*?".join(map(re.escape, "\n".join(shown).split("...")))
    return re.fullmatch(pattern, "\n".join(real), re.DOTALL) is not None


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    found = []
    for token in MarkdownIt().parse(text):
        if token.type == "fence" and token.map is not None:
            language = token.info.split()[0] if token.info.strip() else ""
            found.append(Block(language, token.content, token.map[0] + 1, token.map[1] - 1))
    return found


def earlier(page: Path) -> Path | None:
    """The page whose files this one begins with."""
    found = GOES_ON.search(page.read_text())
    return (page.parent / found[1]).resolve() if found else None


def last_file(page: Path) -> str | None:
    """The file with which that page has done enough; None for all of it."""
    found = GOES_ON.search(page.read_text())
    return found[2] if found else None


_folders: dict[tuple[Path, str | None], Path] = {}
_home = tempfile.TemporaryDirectory(prefix="book-", ignore_cleanup_errors=True)


def run_page(page: Path, last: str | None = None) -> list[Shown]:
    """Run the blocks of a page in a new folder; everything that it shows, with what came out.

    With `last` no block is run once that file is there.

    Raises what a Python block raises, and AssertionError for a block that is not what its language says or a page that
    does not make `last`.
    """
    before, enough = earlier(page), last_file(page)
    if before is not None and (before, enough) not in _folders:
        run_page(before, enough)
    folder = Path(tempfile.mkdtemp(dir=_home.name))
    if before is not None:
        shutil.copytree(_folders[before, enough], folder, dirs_exist_ok=True)
    _folders[page, last] = folder
    with contextlib.chdir(folder), _importing_from(folder):
        found = list(_outputs(page, last))
    assert last is None or (folder / last).exists(), f"{page} makes no {last}"
    return found


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """As a script in that folder would import, and without a trace."""
    sys.path[:0] = [str(folder), str(ROOT)]
    before = set(sys.modules)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.path.remove(str(ROOT))
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


def _outputs(page: Path, last: str | None) -> Iterator[Shown]:
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: tuple[str, str] | None = None
    for block in blocks(page.read_text()):
        if last is not None and Path(last).exists():
            return
        where = f"{os.path.relpath(page, ROOT)}:{block.start + 1}"
        if block.left_out:
            continue
        if block.language == "text" and printed is not None:
            yield Shown(printed[0], _lines(block.text), _lines(printed[1]), block.start, block.end)
        printed = None
        if block.file:
            Path(block.file).write_text(block.text)
        elif block.language == "python":
            printed = where, _execute(block, where, names)
        elif block.language == "sh":
            real, code = _shell("set -e\n" + block.text)
            yield Shown(where, [], real, block.start, block.end, code)
        elif block.language == "console":
            yield from _console(block, where)
        elif block.language == "toml":
            tomllib.loads(block.text)


def _execute(block: Block, where: str, names: dict[str, Any]) -> str:
    """What the block prints. A traceback names the line of the page."""
    code = compile("\n" * block.start + block.text, where.split(":")[0], "exec")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, names)
    return out.getvalue()


def _console(block: Block, where: str) -> Iterator[Shown]:
    lines = block.text.splitlines()
    assert lines[0].startswith("$ "), f"{where}: a console block begins with a command"
    i = 0
    while i < len(lines):
        command = [lines[i][2:]]
        i += 1
        while command[-1].endswith("\\"):
            command.append(lines[i])
            i += 1
        first = i
        while i < len(lines) and not lines[i].startswith("$ "):
            i += 1
        real, code = _shell("\n".join(command))
        shown = Shown(f"{where} $ {command[0]}", _lines("\n".join(lines[first:i])), real, 0, 0, code)
        shown.start, shown.end = block.start + first, block.start + i
        yield shown


def environment() -> dict[str, str]:
    """What a user's shell would have: this tree's intsim, this Python first, no terminal."""
    here = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "COLUMNS")} | here


def _shell(command: str) -> tuple[list[str], int]:
    """What a command prints, standard error included, and its exit code. `intsim` is that of this tree."""
    intsim = f'intsim() {{ {shlex.quote(sys.executable)} -m intsim.cli "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", intsim + command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=environment(),
    )  # fmt: skip
    return _lines(done.stdout), done.returncode


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]
