"""The built-in target files, and families of them: one file `NAME-N.toml` for a range of numbers.

A family file starts with a table `[family]` that gives its range, `N = [4, 64]`, and says `$N` wherever the number
goes; the letter is any capital. `wrap-16` is `wrap-N.toml` with 16 for `$N`. What was said of the built-in folder holds
for a path as well: `mine/own-12.toml`, if there is no such file, is 12 of `mine/own-N.toml`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from intsim.arithmetic.keys import shown
from intsim.errors import IntsimError

PACKAGE = Path(__file__).resolve().parents[1]
SOURCE_TREE = PACKAGE.parent / "hardware" / "targets"
INSTALLED = PACKAGE / "_targets"
MAX_FILE_BYTES = 1 << 16
MAX_NUMBER = 999_999
FAMILY = re.compile(r"(.+)-([A-Z])")
MEMBER = re.compile(r"(.+)-(0|[1-9][0-9]{0,5})")
STAND_IN = "987654321"
"""Stands for the number while a family's own table and title are read."""


class Family(NamedTuple):
    """A family of targets: its name, the range of its number, both ends included, and its title."""

    name: str
    low: int
    high: int
    title: str

    def __str__(self) -> str:
        """As listed: `wrap-N (4..64)`."""
        return f"{self.name} ({self.low}..{self.high})"

    def member(self, number: int) -> str:
        """Name of the target with that number."""
        return f"{self.name[:-1]}{number}"


def folder() -> Path:
    """The built-in files: packaged with an installed wheel, else those of the source tree."""
    return INSTALLED if INSTALLED.is_dir() else SOURCE_TREE


def names() -> tuple[str, ...]:
    """Names of the built-in targets that are files of their own, sorted."""
    return tuple(sorted(path.stem for path in folder().glob("*.toml") if not FAMILY.fullmatch(path.stem)))


def families() -> tuple[Family, ...]:
    """The built-in families, sorted by name."""
    paths = sorted(path for path in folder().glob("*.toml") if FAMILY.fullmatch(path.stem))
    return tuple(_family(path, f"target family {path.stem}") for path in paths)


def is_path(text: str) -> bool:
    """Whether it names a file, not a built-in target."""
    return text.endswith(".toml") or "/" in text or "\\" in text


def content(name_or_path: str) -> tuple[str, dict[str, Any]]:
    """Name and TOML content of a built-in target, of a family's member, or of a file.

    Raises:
        IntsimError: unknown name, a number outside its family's range, unreadable file, bad TOML.
    """
    text = name_or_path
    path = Path(text) if is_path(text) else folder() / f"{text}.toml"
    called = f"target {text if text.isprintable() else ascii(text)}"
    member = MEMBER.fullmatch(path.stem)
    kin = _kin(path.parent, member[1]) if member else None
    if member is not None and kin is not None and not path.exists():
        family, number = _family(kin, called), int(member[2])
        if not family.low <= number <= family.high:
            raise IntsimError(f"{called}: {family.name[-1]} is {number}; allowed: {family.low}..{family.high}")
        tables = parsed(_read(kin, str(kin)).replace(f"${family.name[-1]}", str(number)), called)
        del tables["family"]
        return path.stem, tables
    if not is_path(text) and text not in {p.stem for p in folder().glob("*.toml")}:
        raise IntsimError(_unknown(text))
    letter = path.stem[-1] if FAMILY.fullmatch(path.stem) else None
    raw = _read(path, text)
    tables = parsed(raw if letter is None else raw.replace(f"${letter}", STAND_IN), called)
    if "family" in tables and letter is not None:
        family = _family(path, called)
        raise IntsimError(f"{called}: a family of targets; give a number {family.low}..{family.high} for {letter}")
    if "family" in tables:
        raise IntsimError(f"{called}: family: the file of a family is called NAME-N.toml, N the letter of its number")
    return path.stem, tables


def parsed(text: str, called: str) -> dict[str, Any]:
    """TOML text as tables; raises IntsimError with `called` in front."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise IntsimError(f"{called}: not TOML: {' '.join(str(error).split())[:200]}") from None


def _kin(parent: Path, prefix: str) -> Path | None:
    """The family file that a numbered name belongs to."""
    try:
        paths = sorted(parent.glob("*.toml"))
        return next((p for p in paths if (m := FAMILY.fullmatch(p.stem)) and m[1] == prefix), None)
    except (OSError, ValueError):
        return None


def _family(path: Path, called: str) -> Family:
    """Range and title of a family file."""
    letter = path.stem[-1]
    text = _read(path, str(path))
    tables = parsed(text.replace(f"${letter}", STAND_IN), called)
    table = tables.get("family")
    ends = table.get(letter) if isinstance(table, dict) and len(table) == 1 else None
    if (
        not isinstance(ends, list)
        or [type(n) for n in ends] != [int, int]
        or not 0 <= ends[0] <= ends[1] <= MAX_NUMBER
        or f"${letter}" not in text
    ):
        raise IntsimError(
            f"{called}: family is {shown(table)}; allowed: {letter} = [least, greatest] of 0..{MAX_NUMBER}, "
            f"and ${letter} where the number goes"
        )
    return Family(path.stem, ends[0], ends[1], str(tables.get("title", "")).replace(STAND_IN, letter))


def _unknown(text: str) -> str:
    """The error for a name that is no target, with the nearest one that is."""
    known, kinds = names(), families()
    numbers = re.findall(r"[0-9]{1,6}", text)
    members = [f.member(int(n)) for f in kinds for n in numbers[-1:] if f.low <= int(n) <= f.high]
    near = difflib.get_close_matches(text[:80], [*known, *members, *(f.name for f in kinds)], 1)
    hint = f"did you mean {near[0]}? " if near else ""
    listed = f"built in: {', '.join(known)}" + (f"; families: {', '.join(map(str, kinds))}" if kinds else "")
    return f"unknown target {text[:80]!r}; {hint}{listed}; or give a .toml file"


def _read(path: Path, text: str) -> str:
    """A target file's text; `text` is what errors call it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise IntsimError(f"target file {text[:200]!r}: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise IntsimError(f"target file {text[:200]!r} is larger than {MAX_FILE_BYTES} bytes; not a target")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise IntsimError(f"target file {text[:200]!r} is not UTF-8 text") from None
