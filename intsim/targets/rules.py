"""Rules of a target: arithmetic of its own for some operators, operand types, shapes or layers.

A library has several kernels, and which one runs a layer decides what comes out: the depthwise kernel may saturate
where the others don't. `[[when]]` tables of a target file say so: conditions, and the tables that hold instead of the
target's own. They are tried in their order; the first whose conditions all hold decides.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from intsim.targets.grammar import ALLOWED, TABLES, Accumulate, Line, Operands, Requantize, Table

OPERATORS = (
    "conv",
    "depthwise",
    "conv_transpose",
    "dense",
    "matmul",
    "add",
    "mul",
    "concat",
    "average_pool",
    "global_average_pool",
    "reduce",
    "resize",
    "leaky_relu",
    "softmax",
    "layer_norm",
    "requantize",
    "staircase",
    "table",
)
"""Operators that a rule can name: what a machine computes in its own way, as a file's operators come out of
lowering."""
MACS = ("conv", "depthwise", "conv_transpose", "dense", "matmul")
"""Those of them that multiply and accumulate."""
CONDITIONS = (
    "op",
    "function",
    "activation",
    "weight",
    "weight_zero",
    "output",
    "padded",
    "kernel",
    "stride",
    "dilation",
    "multiple_of",
    "multiplier",
    "whole",
    "grouped",
    "depth",
    "layer",
)


PADDED = {True: "padded", False: "not padded", "half": "padded by half the kernel", "uneven": "padded unevenly"}
"""In words."""


class Facts(NamedTuple):
    """What rules ask of a node; what has no meaning for its operator is None.

    `function` is the file's operator behind a table ("Sigmoid"); `activation`, `weight` the declared types of its
    operands ("u8"), `output` that of its codes, which a sum alone has none of; `weight_zero`: weights have zero points
    other than 0; `padded` "no", "half" (floor(dilation (kernel - 1) / 2) on every side), "uneven" (more on one side
    than on the other) or "other"; `kernel`, `stride`, `dilation`
    one number an axis, as in "3x3"; `channels` of the input, `depth` products of one, `multiplier` of them a group;
    `whole`: the window is the whole input; `layer` the names of the layer.
    """

    op: str
    function: str | None = None
    activation: str | None = None
    weight: str | None = None
    weight_zero: bool | None = None
    output: str | None = None
    padded: str | None = None
    kernel: str | None = None
    stride: str | None = None
    dilation: str | None = None
    channels: int | None = None
    depth: int | None = None
    multiplier: int | None = None
    whole: bool | None = None
    grouped: bool | None = None
    layer: tuple[str, ...] = ()

    def __str__(self) -> str:
        """In words: `depthwise, activation s8, weight s8, kernel 3x3`."""
        words = [self.op if self.function is None else f"{self.op} ({self.function})"]
        for key in ("activation", "weight", "output", "kernel"):
            value = getattr(self, key)
            told = value is not None and (key != "output" or value != self.activation)
            words += [f"{key} {value}"] if told else []
        return ", ".join(words)


def _several(value: Any) -> Any:
    """One word as a list of one."""
    return (value,) if isinstance(value, (str, int)) else tuple(value) if isinstance(value, list) else value


def _no_number(value: Any) -> Any:
    if isinstance(value, (bool, str)):
        return value
    raise ValueError("a number is no boolean")


def _rising(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] > value[1]:
        raise ValueError("the greatest is first")
    return value


def _operands(value: Any) -> Any:
    if value == "any" or isinstance(value, (dict, Operands)):
        return value
    raise ValueError("no table")


Operator = Literal[OPERATORS]  # type: ignore[valid-type]
OperandName = Annotated[str, Field(pattern=r"^[su]([1-9]|[12][0-9]|3[0-2])$")]
Sizes = Annotated[str, Field(pattern=r"^([1-9][0-9]{0,4}|\*)(x([1-9][0-9]{0,4}|\*))*$")]
EachSize = Annotated[tuple[Sizes, ...], BeforeValidator(_several), Field(min_length=1, strict=False)]
Types = Annotated[tuple[OperandName, ...], BeforeValidator(_several), Field(min_length=1, strict=False)]
Names = Annotated[tuple[Line, ...], BeforeValidator(_several), Field(min_length=1, strict=False)]


class When(Table):
    """One rule: conditions, all of which must hold, and what is then instead of the target's own tables.

    `op` is one operator or several; the other conditions are left out where they don't matter. `refused` gives the
    reason for which the target has no result, instead of tables.
    """

    op: Annotated[tuple[Operator, ...], BeforeValidator(_several), Field(min_length=1, strict=False)] | None = None
    function: Names | None = None
    activation: Types | None = None
    weight: Types | None = None
    weight_zero: bool | None = None
    output: Types | None = None
    padded: Annotated[Literal[True, False, "half", "uneven"], BeforeValidator(_no_number)] | None = None
    kernel: EachSize | None = None
    stride: EachSize | None = None
    dilation: EachSize | None = None
    multiple_of: Annotated[int, Field(ge=2, le=65536)] | None = None
    multiplier: (
        Annotated[tuple[PositiveInt, ...], BeforeValidator(_several), Field(min_length=1, strict=False)] | None
    ) = None
    whole: bool | None = None
    grouped: bool | None = None
    depth: Annotated[tuple[PositiveInt, PositiveInt], Field(strict=False), AfterValidator(_rising)] | None = None
    layer: Names | None = None
    operands: Annotated[Operands | Literal["any"], BeforeValidator(_operands)] | None = None
    accumulate: Accumulate | None = None
    requantize: Requantize | None = None
    refused: Line | None = None

    @model_validator(mode="after")
    def _says_something(self) -> When:
        """A rule refuses, or gives tables, or says that the target's own hold."""
        if self.refused is not None and any(x is not None for x in (self.operands, self.accumulate, self.requantize)):
            raise PydanticCustomError("both", "refused")
        return self

    def holds(self, facts: Facts) -> bool:
        """Whether every condition does."""
        return (
            _one_of(facts.op, self.op)
            and _one_of(facts.function, self.function)
            and _one_of(facts.activation, self.activation)
            and _one_of(facts.weight, self.weight)
            and (self.weight_zero is None or facts.weight_zero == self.weight_zero)
            and self._makes(facts.output)
            and self._padded(facts.padded)
            and _of_size(facts.kernel, self.kernel)
            and _of_size(facts.stride, self.stride)
            and _of_size(facts.dilation, self.dilation)
            and (self.multiple_of is None or (facts.channels is not None and facts.channels % self.multiple_of == 0))
            and (self.multiplier is None or facts.multiplier in self.multiplier)
            and (self.depth is None or (facts.depth is not None and self.depth[0] <= facts.depth <= self.depth[1]))
            and (self.grouped is None or facts.grouped == self.grouped)
            and (self.whole is None or facts.whole == self.whole)
            and (self.layer is None or any(fnmatchcase(name, p) for name in facts.layer for p in self.layer))
        )

    def _makes(self, fact: str | None) -> bool:
        """Whether the codes are of these types; sums alone have none, and only a refusal needs to know."""
        if self.output is None or fact is None:
            return self.output is None or self.refused is None
        return fact in self.output

    def _padded(self, fact: str | None) -> bool:
        if self.padded is None:
            return True
        if fact is None:
            return False
        return fact == self.padded if isinstance(self.padded, str) else (fact != "no") == self.padded

    def conditions(self) -> str:
        """In words: `depthwise, activation u8, kernel 3x3 or 5x5`."""
        parts = []
        for key in CONDITIONS:
            value = getattr(self, key)
            if value is None:
                continue
            words = " or ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            if key == "padded":
                words = PADDED[value]
            elif key == "depth":
                words = f"depth {value[0]}..{value[1]}"
            elif key == "weight_zero":
                words = "zero points of weights" if value else "no zero points of weights"
            elif key == "grouped":
                words = "in groups" if value else "not in groups"
            elif key == "whole":
                words = "over the whole input" if value else "not over the whole input"
            elif key == "multiple_of":
                words = f"input channels a multiple of {value}"
            elif key != "op":
                words = f"{key} {words}"
            parts.append(words)
        return ", ".join(parts) or "anything else"


def _one_of(fact: str | None, allowed: tuple[str, ...] | None) -> bool:
    return allowed is None or fact in allowed


def _of_size(fact: str | None, allowed: tuple[str, ...] | None) -> bool:
    """Whether a size is one of those, in which "*" stands for any number."""
    if allowed is None or fact is None:
        return allowed is None
    own = fact.split("x")
    return any(
        len(own) == len(sizes) and all(a in ("*", b) for a, b in zip(sizes, own, strict=True))
        for sizes in (size.split("x") for size in allowed)
    )


TABLES["when"] = When
ALLOWED["op"] = f"one or several of {', '.join(OPERATORS)}"
