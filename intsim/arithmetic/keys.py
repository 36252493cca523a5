"""Dataclasses that are tables of a target file: what their keys take, and the one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, NamedTuple, TypeVar

from intsim.errors import IntsimError

Record = TypeVar("Record")


class Key(NamedTuple):
    """What a key takes, as a condition of its value and in the words of an error."""

    takes: Callable[[Any], bool]
    allowed: str


def integer(low: int, high: int) -> Key:
    """An integer low..high; a bool is none."""
    return Key(lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high, f"{low}..{high}")


def one_of(words: Sequence[str]) -> Key:
    """One of these words."""
    return Key(lambda v: isinstance(v, str) and v in words, ", ".join(f'"{word}"' for word in words))


def optional(key: Key) -> Key:
    """The same, or None."""
    return Key(lambda v: v is None or key.takes(v), key.allowed)


def check(keys: Mapping[str, Key], values: Mapping[str, Any], where: str = "") -> None:
    """Raise IntsimError for the first value that its key doesn't take; `where` is put before the key."""
    for name, key in keys.items():
        if name in values and not key.takes(value := values[name]):
            raise IntsimError(f"{where}{name} is {shown(value)}; allowed: {key.allowed}")


def read(kind: type[Record], keys: Mapping[str, Key], table: Any, where: str, *before: str) -> Record:
    """The object of a dataclass whose fields are the keys of `table`; such an object is returned as it is.

    `where` is put before a key in errors, `before` are keys that were read already. Raises IntsimError for what is no
    table, an unknown key, a missing one, a value that its key doesn't take, and as the class does.
    """
    if isinstance(table, kind):
        return table
    if not isinstance(table, dict):
        raise IntsimError(f"{where.rstrip('.: ')} is {shown(table)}; allowed: a table")
    own = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for name in map(str, table):
        if name not in own:
            name = name if name.isprintable() else ascii(name)
            raise IntsimError(f"unknown key {where}{name[:80]}; allowed: {', '.join([*before, *own])}")
    for name, key in keys.items():
        if name not in table and own[name].default is MISSING:
            raise IntsimError(f"{where}{name} is missing; allowed: {key.allowed}")
    check(keys, table, where)
    return kind(**table)


def shown(value: Any) -> str:
    """A value as an error shows it: one line, not long."""
    return " ".join(repr(list(value) if isinstance(value, tuple) else value).split())[:60]
