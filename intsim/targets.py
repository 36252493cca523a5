"""Targets are data: reads and validates `hardware/targets/*.toml`, the description of a machine's integer arithmetic.

The grammar is in `docs/targets.md`. A target says what the multiplier takes, in which order products arrive, through
which registers they are added, where the bias goes, and how the sum becomes a few bits again.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from intsim.arithmetic.accumulate import MAX_SUM, Overflow, Stage, check_stages
from intsim.arithmetic.form import RequantizerForm
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.registers import Registers
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError

SOURCE_TREE = Path(__file__).resolve().parent.parent / "hardware" / "targets"
INSTALLED = Path(__file__).resolve().parent / "_targets"
MAX_FILE_BYTES = 1 << 16
ORDER_TOKENS = ("kh", "kw", "cin")
# What a key allows, for the one line of an error; keys are the last part of their path.
ALLOWED = {
    "title": "one printable line of text",
    "source": "a list of one or more printable lines of text",
    "activation": '"s" or "u" and 1..32 bits, e.g. "u8"',
    "weight": '"s" or "u" and 1..32 bits, e.g. "s8"',
    "order": 'a permutation of "kh kw cin"',
    "stages": 'a list of tables { sum = 1..2147483647 or "rest", bits = 1..64, overflow = "wrap" or "saturate" }',
    "sum": '1..2147483647 or "rest"',
    "bits": "1..64",
    "overflow": '"wrap", "saturate"',
    "bias": '"after", "preload"',
    "scheme": '"exact", "fixed-point", "shift", "thresholds", "float32"',
    "multiplier_bits": "4..32",
    "rounding": ", ".join(f'"{mode}"' for mode in Rounding),
    "double_rounding": "true, false",
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


def _rounding(text: Any) -> Rounding:
    if isinstance(text, str):
        return Rounding(text)
    raise ValueError("not a rounding mode")


Line = Annotated[str, BeforeValidator(_line)]
Operand = Annotated[IntegerType, BeforeValidator(_operand)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Operands(_Table):
    """What the multiplier takes; the planner shifts zero points so that the tensors fit and compensates."""

    activation: Operand
    weight: Operand


class StageTable(_Table):
    """One register, as written: `sum` values of the stage before into `bits` bits."""

    sum: Annotated[int, Field(ge=1, le=MAX_SUM)] | Literal["rest"]
    bits: Annotated[int, Field(ge=1, le=64)]
    overflow: Overflow

    @property
    def stage(self) -> Stage:
        """The same as `arithmetic` wants it."""
        return Stage(None if self.sum == "rest" else self.sum, self.bits, self.overflow)


class Accumulate(_Table):
    """The accumulator: order of arrival, registers, and where the bias goes.

    `stages` may be empty: the unbounded sum. `bias` "after" adds it into the last register when all products are in;
    "preload" starts the last register at it.
    """

    order: Annotated[tuple[str, ...], BeforeValidator(_order)] = ORDER_TOKENS
    stages: Annotated[tuple[StageTable, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]
    bias: Literal["after", "preload"] = "after"


class Requantize(_Table):
    """How the accumulator becomes a few bits.

    `exact` and `thresholds` reproduce the rational formula and round as the model says; `float32` rounds half to even.
    `shift` and single-rounding `fixed-point` need `rounding`; with `double_rounding` gemmlowp fixes both roundings.
    """

    scheme: Literal["exact", "fixed-point", "shift", "thresholds", "float32"]
    multiplier_bits: Annotated[int, Field(ge=4, le=32)] | None = None
    rounding: Annotated[Rounding, BeforeValidator(_rounding)] | None = None
    double_rounding: bool = False

    @model_validator(mode="after")
    def _check(self) -> Requantize:
        fixed = self.scheme == "fixed-point"
        if fixed and self.multiplier_bits is None:
            raise ValueError(
                f'multiplier_bits is missing for scheme "fixed-point"; allowed: {ALLOWED["multiplier_bits"]}'
            )
        if not fixed and self.multiplier_bits is not None:
            raise ValueError(f'multiplier_bits is for scheme "fixed-point" only, not "{self.scheme}"; remove it')
        if not fixed and self.double_rounding:
            raise ValueError(f'double_rounding is for scheme "fixed-point" only, not "{self.scheme}"; remove it')
        rounds = self.scheme == "shift" or (fixed and not self.double_rounding)
        if rounds and self.rounding is None:
            raise ValueError(f'rounding is missing for scheme "{self.scheme}"; allowed: {ALLOWED["rounding"]}')
        if not rounds and self.rounding is not None:
            what = "double_rounding = true" if fixed else f'scheme "{self.scheme}"'
            raise ValueError(f"rounding is given, but {what} fixes it; remove it")
        return self


class Target(_Table):
    """A machine's integer arithmetic. Immutable; equal and hashed by content, whatever its file is called."""

    name: str = Field(default="target", exclude=True)
    title: Line
    source: Annotated[
        tuple[Line, ...], Field(min_length=1), BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)
    ]
    operands: Operands | None = None
    accumulate: Accumulate
    requantize: Requantize

    def __eq__(self, other: object) -> bool:
        """Equal content; the name does not count."""
        return isinstance(other, Target) and self._content() == other._content()

    def __hash__(self) -> int:
        """Hash of the content."""
        return hash(self._content())

    def _content(self) -> tuple[Any, ...]:
        return self.title, self.source, self.operands, self.accumulate, self.requantize

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The registers as `arithmetic.accumulate` takes them; empty means unbounded."""
        return tuple(table.stage for table in self.accumulate.stages)

    @property
    def form(self) -> RequantizerForm:
        """The requantizer, as proofs and engines take it."""
        r = self.requantize
        return RequantizerForm(r.scheme, r.multiplier_bits, r.rounding, r.double_rounding)

    @property
    def registers(self) -> Registers:
        """The multiply-accumulate path, as proofs and engines take it."""
        given = self.operands
        return Registers(
            self.stages,
            self.accumulate.order,
            self.accumulate.bias == "preload",
            given.activation if given else None,
            given.weight if given else None,
        )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the built-in targets, sorted."""
        return tuple(sorted(path.stem for path in _folder().glob("*.toml")))

    @classmethod
    def load(cls, name_or_path: str | Path) -> Target:
        """Read a built-in target by name, or a file by path (anything that ends in .toml or holds a separator).

        Raises:
            IntsimError: unknown name, unreadable file, bad TOML, or a key that breaks the grammar.
        """
        text = str(name_or_path)
        if text.endswith(".toml") or "/" in text or "\\" in text:
            path = Path(text)
        elif text in cls.names():
            path = _folder() / f"{text}.toml"
        else:
            raise IntsimError(f"unknown target {text[:80]!r}; built in: {', '.join(cls.names())}; or give a .toml file")
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise IntsimError(f"target file {text[:200]!r}: {reason}") from None
        if len(data) > MAX_FILE_BYTES:
            raise IntsimError(f"target file {text[:200]!r} is larger than {MAX_FILE_BYTES} bytes; not a target")
        try:
            return cls.from_toml(data.decode("utf-8"), name=path.stem, where=text)
        except UnicodeDecodeError:
            raise IntsimError(f"target file {text[:200]!r} is not UTF-8 text") from None

    @classmethod
    def from_toml(cls, text: str, name: str = "target", where: str | None = None) -> Target:
        """Read a target from TOML text.

        Args:
            text: the file's content.
            name: the target's name.
            where: what errors call the file; the name if None.

        Raises:
            IntsimError: one line naming the file, the key and what is allowed.
        """
        place = f"target {where or name}"
        try:
            content = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            raise IntsimError(f"{place}: not TOML: {' '.join(str(error).split())[:200]}") from None
        if "name" in content:
            raise IntsimError(f"{place}: unknown key name; the file name is the target's name")
        try:
            target = cls.model_validate({**content, "name": name})
            check_stages(target.stages)
        except ValidationError as error:
            raise IntsimError(f"{place}: {_explain(error)}") from None
        except IntsimError as error:
            raise IntsimError(f"{place}: accumulate.{error}") from None
        return target

    def describe(self) -> str:
        """Explain the target in words and draw its registers, in plain text of several lines."""
        lines = [f"{self.name}: {self.title}", ""]
        if self.operands is None:
            lines.append("multiplier  takes values with their zero points removed, of any width")
        else:
            lines.append(f"multiplier  {self.operands.activation} activation x {self.operands.weight} weight")
        lines.append(f"order       {' '.join(self.accumulate.order)}, the last one fastest")
        lines += [f"{'registers' if i == 0 else '':<12}{line}" for i, line in enumerate(self._drawing())]
        if self.accumulate.bias == "preload":
            lines.append("bias        preloaded: the last register starts at it")
        else:
            lines.append("bias        added into the last register after all products")
        lines.append(f"requantize  {self._requantizer()}")
        lines += [f"{'source' if i == 0 else '':<12}{line}" for i, line in enumerate(self.source)]
        return "\n".join(lines)

    def _drawing(self) -> list[str]:
        if not self.stages:
            return ["products ==> exact sum, unbounded"]
        lines = ["products"]
        for stage in self.stages:
            taken = "the rest" if stage.sum is None else f"{stage.sum} at a time"
            lines.append(f"  |  {taken}")
            lines.append(f"  +--> [{stage.bits} bits, {stage.overflow}]  {stage.min}..{stage.max}")
        return lines

    def _requantizer(self) -> str:
        r = self.requantize
        match r.scheme:
            case "exact":
                return "exact: round(acc * scale + offset) in rational arithmetic, rounded as the model says"
            case "thresholds":
                return "thresholds: count the integer thresholds reached; equal to exact"
            case "float32":
                return "float32: float32(acc) * float32(scale), clipped, rounded half to even"
            case "shift":
                return f"shift: acc >> n, rounded {r.rounding}; scales must be powers of two"
            case "fixed-point":
                how = "high product half_up, then shift half_away (two roundings)"
                how = how if r.double_rounding else f"full product, shifted, rounded {r.rounding} once"
                return f"fixed-point: {r.multiplier_bits}-bit multiplier and shift; {how}"


def _folder() -> Path:
    """The built-in files: packaged with an installed wheel, else those of the source tree."""
    return INSTALLED if INSTALLED.is_dir() else SOURCE_TREE


def _explain(error: ValidationError) -> str:
    """The first validation error as one line: key, value, what is allowed."""
    problem = error.errors(include_url=False)[0]
    # Union members add themselves to the path ("sum.int"); only keys and list positions are the user's.
    path = [part for part in problem["loc"] if isinstance(part, int) or part in _KEYS or problem["type"] == _EXTRA]
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")[:120]
    where = where if where.isprintable() else ascii(where)
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    if problem["type"] == _EXTRA:
        table: Any = {"operands": Operands, "accumulate": Accumulate, "requantize": Requantize}.get(str(path[0]))
        table = Target if table is None or len(path) == 1 else StageTable if "stages" in path else table
        keys = ", ".join(name for name in table.model_fields if name != "name")
        return f"unknown key {where}; allowed: {keys}"
    if problem["type"] == "missing":
        return f"{where} is missing; allowed: {ALLOWED[key]}"
    if problem["type"] == "value_error" and key == "requantize":
        return f"requantize.{problem['ctx']['error']}"
    value = " ".join(repr(problem["input"]).split())[:60]
    return f"{where} is {value}; allowed: {ALLOWED.get(key, 'see docs/targets.md')}"


_EXTRA = "extra_forbidden"
_KEYS = frozenset(ALLOWED)
