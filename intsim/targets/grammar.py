"""The tables of a target file: keys, types, ranges, and the one line that says what is wrong with one."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    ValidationError,
)

from intsim.arithmetic.accumulate import MAX_LANES, MAX_SUM, Overflow, Stage
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.packing import Correction, Packing
from intsim.arithmetic.registers import BiasPlace
from intsim.arithmetic.requantizers import Requantizer, read_requantizer
from intsim.arithmetic.requantizers.requantizer import shown

ORDER_TOKENS = ("kh", "kw", "cin")
MAX_STAGES = 16
# What a key allows, for the one line of an error; keys are the last part of their path, or two parts where they differ.
ALLOWED = {
    "title": "one printable line of text",
    "source": "a list of one or more printable lines of text",
    "notes": "a list of printable lines of text",
    "activation": '"s" or "u" and 1..32 bits, e.g. "u8"',
    "weight": '"s" or "u" and 1..32 bits, e.g. "s8"',
    "order": 'a permutation of "kh kw cin"',
    "stages": f"a list of up to {MAX_STAGES} tables "
    '{ sum = 1..2147483647 or "rest", bits = 1..64, overflow = "wrap" or "saturate" }',
    "sum": '1..2147483647 or "rest"',
    "bits": "1..64",
    "lanes": f"1..{MAX_LANES}",
    "overflow": '"wrap", "saturate"',
    "packing": "a table",
    "channels": "a list of ascending bit offsets 0..63, the first 0, e.g. [0, 18]",
    "pixels": "a list of ascending bit offsets 0..63, the first 0, e.g. [0, 22]",
    "packing.bits": "2..64",
    "correction": '"none", "borrow"',
    "bias": '"after", "preload", "requantizer"',
    "operands": "a table",
    "accumulate": "a table",
    "requantize": "a table",
}


def _operand(text: Any) -> IntegerType:
    if isinstance(text, IntegerType):
        return text
    if isinstance(text, str) and text[:1] in ("s", "u") and text[1:].isascii() and text[1:].isdecimal():
        bits = int(text[1:]) if len(text) <= 3 else 0
        if 1 <= bits <= 32 and text[1:] == str(bits):
            return IntegerType(bits, signed=text[0] == "s")
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


def _offsets(value: Any) -> tuple[int, ...]:
    numbers = list(value) if isinstance(value, (list, tuple)) else []
    if not numbers or not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 64 for n in numbers):
        raise ValueError("not bit offsets")
    if numbers[0] != 0 or numbers != sorted(set(numbers)):
        raise ValueError("not ascending from 0")
    return tuple(numbers)


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _keys(given: Requantizer, info: SerializationInfo) -> dict[str, Any]:
    return {k: v for k, v in given.keys().items() if v is not None or not info.exclude_none}


Line = Annotated[str, BeforeValidator(_line)]
Lines = Annotated[tuple[Line, ...], BeforeValidator(_listed)]
Operand = Annotated[IntegerType, BeforeValidator(_operand)]
Requantize = Annotated[Requantizer, PlainValidator(read_requantizer), PlainSerializer(_keys)]
"""The table `[requantize]`: its scheme says what is in it."""
Offsets = Annotated[tuple[int, ...], BeforeValidator(_offsets)]


class Table(BaseModel):
    """A TOML table: no unknown keys, no conversions, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Operands(Table):
    """What the multiplier takes; the planner shifts zero points so that the tensors fit and compensates."""

    activation: Operand
    weight: Operand


class StageTable(Table):
    """One register a lane, as written: `sum` values of the stage before into `bits` bits."""

    sum: Annotated[int, Field(ge=1, le=MAX_SUM)] | Literal["rest"]
    bits: Annotated[int, Field(ge=1, le=64)]
    overflow: Overflow
    lanes: Annotated[int, Field(ge=1, le=MAX_LANES)] = 1

    @property
    def stage(self) -> Stage:
        """The same as `arithmetic` wants it."""
        return Stage(None if self.sum == "rest" else self.sum, self.bits, self.overflow, self.lanes)


class PackingTable(Table):
    """Several products in one multiplier, as written: offsets of the packed operands in a register of `bits` bits."""

    channels: Offsets
    pixels: Offsets = (0,)
    bits: Annotated[int, Field(ge=2, le=64)]
    correction: Correction

    @property
    def packing(self) -> Packing:
        """The same as `arithmetic` wants it. Raises IntsimError for fields that don't fit."""
        return Packing(self.channels, self.pixels, self.bits, self.correction)


class Accumulate(Table):
    """The accumulator: order of arrival, packed products, registers, and where the bias goes.

    `stages` may be empty: the unbounded sum. `bias` "after" adds it into the last register when all products are in;
    "preload" starts the last register at it; with "requantizer" no register holds it.
    """

    order: Annotated[tuple[str, ...], BeforeValidator(_order)] = ORDER_TOKENS
    packing: PackingTable | None = None
    stages: Annotated[tuple[StageTable, ...], Field(max_length=MAX_STAGES), BeforeValidator(_listed)]
    bias: BiasPlace = "after"


TABLES: dict[Any, type[Table]] = {
    "operands": Operands,
    "accumulate": Accumulate,
    "stages": StageTable,
    "packing": PackingTable,
}


def explain(error: ValidationError, root: type[Table]) -> str:
    """The first validation error as one line: key, value, what is allowed."""
    problem = error.errors(include_url=False)[0]
    # Union members add themselves to the path ("sum.int"); only keys and list positions are the user's.
    unknown = problem["type"] == "extra_forbidden"
    path = [part for part in problem["loc"] if isinstance(part, int) or part in ALLOWED or unknown]
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")[:120]
    where = re.sub(r"stages\[(\d+)\]\.?", lambda m: f"stages, stage {int(m[1]) + 1}: ", where).removesuffix(": ")
    where = where if where.isprintable() else ascii(where)
    keys = [part for part in path if isinstance(part, str)]
    allowed = ALLOWED.get(".".join(keys[-2:])) or ALLOWED.get(keys[-1] if keys else "", "see docs/targets.md")
    if unknown:
        table = root
        for part in path[:-1]:
            table = TABLES.get(part, table)
        return f"unknown key {where}; allowed: {', '.join(name for name in table.model_fields if name != 'name')}"
    if problem["type"] == "missing":
        return f"{where} is missing; allowed: {allowed}"
    if problem["type"] == "value_error" and keys[-1:] == ["requantize"]:
        return str(problem["ctx"]["error"])
    return f"{where} is {shown(problem['input'])}; allowed: {allowed}"
