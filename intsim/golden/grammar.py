"""The file of `--map`: how a dump holds a tensor, as a TOML table checked key by key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from intsim.arithmetic.keys import shown
from intsim.budget import contents
from intsim.errors import IntsimError
from intsim.golden.element import Element
from intsim.golden.layout import ORDERS, Order
from intsim.golden.words import MOST_BUS
from intsim.targets.grammar import Line, Table

Format = Literal["npy", "hex", "text", "raw", "vcd"]
ALLOWED = {
    "layer": "the name of a layer",
    "tensor": 'the role of a tensor, as "output" or "accumulator"',
    "file": "a path, from the folder of this file on",
    "format": '"npy", "hex", "text", "raw", "vcd"',
    "order": ", ".join(f'"{name}"' for name in ORDERS),
    "type": '"s" or "u" and 1..64 bits, e.g. "s8"',
    "fold": "1..65536 channels",
    "bus": "a table",
    "vcd": "a table",
    "dump": "a list of tables [[dump]]",
    "bits": f"1..{MOST_BUS}",
    "elements": f"1..{MOST_BUS}",
    "first": '"low", "high"',
    "row": f"1..{1 << 31}",
    "clock": "the name of a signal",
    "edge": '"rising", "falling"',
    "sample": '"before", "after"',
    "valid": "the name of a signal, or a list of them",
    "data": "the name of a signal, or a list of them",
}
"""What a key takes, for the one line of an error."""


def _element(text: Any) -> str:
    if isinstance(text, str) and re.fullmatch("[su]([1-9]|[1-5][0-9]|6[0-4])", text):
        return text
    raise ValueError("no type of integers")


def _signals(given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, (list, tuple)) else ()
    if not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError("no names of signals")
    return names


Signals = Annotated[tuple[str, ...], BeforeValidator(_signals)]


class Bus(Table):
    """Elements packed into words: `bits` of a word, how many `elements` it holds, whether the `first` one lies in its
    lowest or its highest bits, and how many elements there are in a `row`, which begins a new word.
    """

    bits: Annotated[int, Field(ge=1, le=MOST_BUS)]
    elements: Annotated[int, Field(ge=1, le=MOST_BUS)] | None = None
    first: Literal["low", "high"] = "low"
    row: Annotated[int, Field(ge=1, le=1 << 31)] | None = None


class Vcd(Table):
    """Signals that are sampled on an edge of `clock` where all of `valid` are 1: as they are `before` what changes at
    the edge, as a register there sees them, or `after` it. Several `data` signals hold an element, or a word, each.
    """

    clock: Line
    data: Signals
    valid: Signals | None = None
    edge: Literal["rising", "falling"] = "rising"
    sample: Literal["before", "after"] = "before"


class Dump(Table):
    """One tensor in a dump. What is None is as in the golden tensor, or as the file's ending says."""

    layer: Line | None = None
    tensor: Line | None = None
    file: Line | None = None
    format: Format | None = None
    order: Order | None = None
    type: Annotated[str, BeforeValidator(_element)] | None = None
    fold: Annotated[int, Field(ge=1, le=MOST_BUS)] | None = None
    bus: Bus | None = None
    vcd: Vcd | None = None

    @property
    def element(self) -> Element | None:
        """The type of its elements."""
        return None if self.type is None else Element.named(self.type)


class Map(Dump):
    """A file of `--map`: one tensor, or what several have in common and a table [[dump]] for each."""

    dump: Annotated[tuple[Dump, ...], Field(strict=False)] = ()

    def each(self) -> list[Dump]:
        """The tensors, with what they have in common."""
        common = {k: getattr(self, k) for k in Dump.model_fields}
        tables = [
            {k: getattr(d, k) for k in Dump.model_fields if getattr(d, k) is not None} for d in self.dump or (Dump(),)
        ]
        return [Dump.model_construct(**{**common, **own}) for own in tables]


TABLES: dict[str, type[Table]] = {"bus": Bus, "vcd": Vcd, "dump": Dump}


def read_map(path: Path) -> Map:
    """Raises IntsimError for a file that can't be read or isn't such a table; one line that names the key."""
    try:
        return Map.model_validate(tomllib.loads(contents(path).decode()))
    except IntsimError:
        raise
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise IntsimError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        raise IntsimError(f"{path}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """The first validation error as one line: key, value, what is allowed."""
    problem = error.errors(include_url=False)[0]
    path = [
        p for p in problem["loc"] if not (isinstance(p, str) and p.startswith(("function-", "constrained", "literal")))
    ]
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")[:120]
    where = where if where.isprintable() else ascii(where)
    keys = [p for p in path if isinstance(p, str)]
    if problem["type"] == "extra_forbidden":
        table = TABLES.get(keys[-2] if keys[1:] else "", Map)
        return f"unknown key {where}; allowed: {', '.join(table.model_fields)}"
    said = "missing" if problem["type"] == "missing" else shown(problem["input"])
    return f"{where} is {said}; allowed: {ALLOWED.get(keys[-1] if keys else '', 'see docs/guides/golden-vectors.md')}"
