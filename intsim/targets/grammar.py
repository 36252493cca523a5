"""The tables of a target file: keys, types, ranges, and the one line that says what is wrong with one."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from intsim.arithmetic.accumulate import STAGES, Stage, read_stages
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.keys import shown
from intsim.arithmetic.packing import Packing, read_packing
from intsim.arithmetic.registers import BiasPlace, PaddingRule
from intsim.arithmetic.requantizers import Requantizer, read_requantizer
from intsim.errors import IntsimError

ORDER_TOKENS = ("kh", "kw", "cin")
# What a key allows, for the one line of an error.
ALLOWED = {
    "title": "one printable line of text",
    "source": "a list of one or more printable lines of text",
    "notes": "a list of printable lines of text",
    "activation": '"s" or "u" and 1..32 bits, e.g. "u8"',
    "weight": '"s" or "u" and 1..32 bits, e.g. "s8"',
    "order": 'a permutation of "kh kw cin"',
    "stages": STAGES,
    "bias": '"after", "preload", "requantizer"',
    "padding": '"fed", "skipped"',
    "operands": 'a table, in a rule also "any"',
    "accumulate": "a table",
    "requantize": "a table",
    "runtime": "a table",
    "cpu": '"vnni", "avx2"',
    "name": "one printable line of text",
    "version": "one printable line of text",
    "engine": "one printable line of text",
    "within_lsb": "0..255",
    "even_ends": "true, false",
    "others": '"own", "refused"',
    "when": "up to 64 tables [[when]]",
    "refused": "one printable line of text: why",
    "function": "operators of the file, one or a list",
    "padded": 'true, false, "half", "uneven"',
    "weight_zero": "true, false",
    "output": 'types as in "u8", one or a list',
    "kernel": 'sizes as in "3x3" or "3x*", one or a list',
    "stride": 'sizes as in "1x1", one or a list',
    "dilation": 'sizes as in "1x1", one or a list',
    "multiple_of": "2..65536",
    "multiplier": "output channels of a group, one or a list",
    "whole": "true, false",
    "grouped": "true, false",
    "depth": "[least, greatest] number of products, the least first",
    "layer": 'names or patterns as in "head_*", one or a list',
}


def _operand(text: Any) -> IntegerType:
    if isinstance(text, IntegerType):
        return text
    if isinstance(text, str) and re.fullmatch("[su]([1-9]|[12][0-9]|3[0-2])", text):
        return IntegerType(int(text[1:]), signed=text[0] == "s")
    raise ValueError("not an operand type")


def _line(text: Any) -> str:
    # Printable only: titles and sources are shown in terminals and reports.
    if isinstance(text, str) and 0 < len(text) <= 500 and text.isprintable() and text.strip():
        return text
    raise ValueError("not one printable line")


def _order(text: Any) -> tuple[str, ...]:
    tokens = tuple(text.split()) if isinstance(text, str) else tuple(text) if isinstance(text, (list, tuple)) else ()
    if sorted(map(str, tokens)) != sorted(ORDER_TOKENS):
        raise ValueError("not a permutation")
    return tokens


def _keys(given: Requantizer, info: SerializationInfo) -> dict[str, Any]:
    return {k: v for k, v in given.keys().items() if v is not None or not info.exclude_none}


Line = Annotated[str, BeforeValidator(_line)]
Lines = Annotated[tuple[Line, ...], Field(strict=False)]
Operand = Annotated[
    IntegerType, BeforeValidator(_operand), PlainSerializer(lambda t: f"{'s' if t.signed else 'u'}{t.bits}")
]
Requantize = Annotated[Requantizer, PlainValidator(read_requantizer), PlainSerializer(_keys)]
"""The table `[requantize]`: its scheme says what is in it."""
Stages = Annotated[tuple[Stage, ...], PlainValidator(read_stages), PlainSerializer(lambda s: tuple(map(Stage.keys, s)))]
Packed = Annotated[Packing, PlainValidator(read_packing), PlainSerializer(asdict)]


class Table(BaseModel):
    """A TOML table: no unknown keys, no conversions, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Operands(Table):
    """What the multiplier takes; the planner shifts zero points so that the tensors fit and compensates."""

    activation: Operand
    weight: Operand


class Accumulate(Table):
    """The accumulator: order of arrival, packed products, registers, and where the bias goes.

    `stages` may be empty: the unbounded sum. `bias` "after" adds it into the last register when all products are in;
    "preload" starts the last register at it; with "requantizer" no register holds it.
    """

    order: Annotated[tuple[str, ...], BeforeValidator(_order)] = ORDER_TOKENS
    packing: Packed | None = None
    stages: Stages
    bias: BiasPlace = "after"
    padding: PaddingRule = "fed"

    @model_serializer(mode="wrap")
    def _dumped(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `padding` where it is what all machines did before there was a choice: hashes of targets stay."""
        content: dict[str, Any] = dump(self)
        return {k: v for k, v in content.items() if (k, v) != ("padding", "fed")}


class Runtime(Table):
    """The library that a target predicts: its package's name, the version it was tested with, and the processor.

    `cpu` is "vnni" or "avx2" where the library's kernels depend on it; `engine` one of the library's backends.
    `within_lsb`: how far codes of the library may lie from those of the target, in each layer; 0: they are the same.
    `rewrites`: it executes another graph than the file's, and only that one is predicted. `even_ends`: it rounds the
    ends of fused activations half to even, not away from zero.
    """

    name: Line
    version: Line
    cpu: Literal["vnni", "avx2"] | None = None
    engine: Line | None = None
    within_lsb: Annotated[int, Field(ge=0, le=255)] = 0
    rewrites: bool = False
    even_ends: bool = False

    def __str__(self) -> str:
        """In words."""
        engine = "" if self.engine is None else f" ({self.engine})"
        processor = "" if self.cpu is None else f" on a CPU with {self.cpu.upper()}"
        within = f", within {self.within_lsb} LSB in a layer" if self.within_lsb else ""
        return f"{self.name} {self.version}{engine}{processor}{within}"


TABLES: dict[Any, type[Table]] = {"operands": Operands, "accumulate": Accumulate, "runtime": Runtime}


def explain(error: ValidationError, root: type[Table]) -> str:
    """The first validation error as one line: key, value, what is allowed."""
    problem = error.errors(include_url=False)[0]
    path = problem["loc"]
    ahead, inside = (f"rule {int(path[1]) + 1}: ", path[2:]) if path[0] == "when" and path[1:] else ("", path)
    inside = tuple(
        p for p in inside if not (isinstance(p, str) and p.startswith(("function-", "literal[", "Operands")))
    )
    if isinstance(refusal := problem.get("ctx", {}).get("error"), IntsimError):
        before = "".join(f"{part}." for part in inside[:-1])  # the refusal begins with the last part
        return ahead + re.sub("^(unknown key )?", lambda m: m[0] + before, str(refusal))
    if problem["type"] == "both":
        return f"{ahead}refused is given beside tables; a rule refuses or computes, not both"
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in inside).lstrip(".")[:120]
    where = where if where.isprintable() else ascii(where)
    keys = [part for part in inside if isinstance(part, str)]
    allowed = ALLOWED.get(keys[-1] if keys else "", "a table" if ahead else "see docs/targets.md")
    if problem["type"] == "extra_forbidden":
        table = TABLES[inside[0]] if inside[1:] else TABLES["when"] if ahead else root
        names = ", ".join(name for name in table.model_fields if name != "name")
        return f"{ahead}unknown key {where}; allowed: {names}"
    said = "missing" if problem["type"] == "missing" else shown(problem["input"])
    return f"{ahead}{where or 'a rule'} is {said}; allowed: {allowed}"
