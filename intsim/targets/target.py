"""A target: a machine's integer arithmetic, read from TOML and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from intsim.arithmetic.accumulate import Stage, check_chain
from intsim.arithmetic.packing import check_packing
from intsim.arithmetic.registers import Registers
from intsim.arithmetic.requantizers import built_in
from intsim.arithmetic.requantizers.requantizer import listed
from intsim.errors import IntsimError
from intsim.targets import drawing, library
from intsim.targets.grammar import Accumulate, Line, Lines, Operands, Requantize, Runtime, Table, explain
from intsim.targets.rules import Facts, When

TABLES = ("operands", "accumulate", "requantize")
"""What a rule can give."""


class Target(Table):
    """A machine's integer arithmetic. Immutable; equal and hashed by content, whatever its file is called."""

    name: str = Field(default="target", exclude=True)
    title: Line
    source: Annotated[Lines, Field(min_length=1)]
    notes: Lines = ()
    runtime: Runtime | None = None
    operands: Operands | None = None
    accumulate: Accumulate
    requantize: Requantize
    others: Literal["own", "refused"] = "own"
    when: Annotated[tuple[When, ...], Field(strict=False, max_length=64)] = ()

    @model_serializer(mode="wrap")
    def _dumped(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of rules where there are none: the content of a target is what its file says."""
        content: dict[str, Any] = dump(self)
        ruled = self.when or self.others != "own"
        return {k: v for k, v in content.items() if ruled or k not in ("others", "when")}

    def __eq__(self, other: object) -> bool:
        """Equal content; the name does not count."""
        return self is other or (isinstance(other, Target) and self._content() == other._content())

    def __hash__(self) -> int:
        """Hash of the content."""
        return self._hash

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Target:
        """A copy with other fields. What is derived from fields is not copied, as pydantic's own would."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("_hash", "arithmetics", "plain"):
            copied.__dict__.pop(name, None)
        return copied

    @cached_property
    def _hash(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[Any, ...]:
        return (
            *(self.title, self.source, self.notes, self.runtime),
            *(self.operands, self.accumulate, self.requantize, self.others, self.when),
        )

    @cached_property
    def arithmetics(self) -> tuple[Target, ...]:
        """Of each rule, what it leaves of the target: one without rules."""
        return tuple(self._by(rule) for rule in self.when)

    @cached_property
    def plain(self) -> Target:
        """The target without its rules: what holds where none does."""
        return self.model_copy(update={"when": (), "others": "own"}) if self.when else self

    def _by(self, rule: When) -> Target:
        given = {key: value for key in TABLES if (value := getattr(rule, key)) is not None}
        if given.get("operands") == "any":
            given["operands"] = None
        return self.plain.model_copy(update=given)

    @property
    def rewriter(self) -> str | None:
        """The runtime that executes another graph than the file's, if the target predicts such a one."""
        return None if self.runtime is None or not self.runtime.rewrites else self.runtime.name

    @property
    def exact_codes(self) -> bool:
        """Whether every requantizer of it makes the codes of the exact formula."""
        return all(t.requantize.exact for t in (self, *self.arithmetics))

    def changed(self, change: Callable[[Target], Target]) -> Target:
        """With a change of what it computes, made to its own tables and to what each rule leaves of them."""
        own = change(self.plain)
        rules = [
            rule
            if rule.refused is not None
            else rule.model_copy(update={"accumulate": (new := change(old)).accumulate, "requantize": new.requantize})
            for rule, old in zip(self.when, self.arithmetics, strict=True)
        ]
        tables = {"accumulate": own.accumulate, "requantize": own.requantize, "when": tuple(rules)}
        return self.model_copy(update=tables)

    def of(self, facts: Facts) -> Target:
        """The arithmetic of a node: that of the first rule which holds of it, else the target's own; without rules.

        Raises:
            IntsimError: a rule that refuses it, or no rule in a target that refuses the others; names neither node nor
                target.
        """
        for rule, arithmetic in zip(self.when, self.arithmetics, strict=True):
            if rule.holds(facts):
                if rule.refused is not None:
                    raise IntsimError(f"not predicted: {rule.refused}")
                return arithmetic
        if self.when and self.others == "refused":
            raise IntsimError(f"has no rule for {facts}; add one, or choose another target")
        return self.plain

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The registers as `arithmetic.accumulate` takes them; empty means unbounded."""
        return self.accumulate.stages

    @property
    def registers(self) -> Registers:
        """The multiply-accumulate path, as proofs and engines take it."""
        path, given = self.accumulate, self.operands
        activation, weight = (given.activation, given.weight) if given else (None, None)
        return Registers(path.stages, path.order, path.bias, activation, weight, path.packing, path.padding)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the built-in targets that are files of their own, sorted; `families` lists the numbered ones."""
        return library.names()

    @classmethod
    def families(cls) -> tuple[library.Family, ...]:
        """The built-in families; `str` of one is "wrap-N (4..64)", `load("wrap-16")` one of its members."""
        return library.families()

    @classmethod
    def load(cls, target: str | Path | Target) -> Target:
        """A target as it is, a built-in one by name, or a file by path (what ends in .toml or holds a separator).

        Raises:
            IntsimError: neither of these, unknown name, a number outside its family, unreadable file, bad TOML, or a
                key that breaks the grammar.
        """
        if isinstance(target, Target):
            return target
        if not isinstance(target, str | Path):
            kind = type(target).__name__
            raise IntsimError(f"target of type {kind}; give the name of a built-in one, a .toml file or a Target")
        text = str(target)
        return _built_in(text) if not library.is_path(text) else cls._loaded(text)

    @classmethod
    def _loaded(cls, text: str) -> Target:
        name, content = library.content(text)
        return cls.from_content(content, name, text if text.isprintable() else ascii(text))

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
        return cls.from_content(library.parsed(text, f"target {where or name}"), name, where or name)

    @classmethod
    def from_content(cls, content: dict[str, Any], name: str, where: str) -> Target:
        """The target of tables that are already read, as `from_toml` reads them; raises IntsimError as it does."""
        called = f"target {where}"
        if "name" in content:
            raise IntsimError(f"{called}: unknown key name; the file name is the target's name")
        try:
            target = cls.model_validate({**content, "name": name})
        except ValidationError as error:
            raise IntsimError(f"{called}: {explain(error, cls)}") from None
        if target.others == "refused" and not target.when:
            raise IntsimError(f'{called}: others is "refused" without rules, which refuses nothing; add a [[when]]')
        rules = [(f"rule {number}: ", arithmetic) for number, arithmetic in enumerate(target.arithmetics, 1)]
        for ahead, each in (("", target), *rules):
            try:
                each._check()
            except IntsimError as error:
                raise IntsimError(f"{called}: {ahead}accumulate.{error}") from None
        return target

    def _check(self) -> None:
        """Refuse tables that don't belong together."""
        if (packing := self.accumulate.packing) is None:
            check_chain(self.stages)
        else:
            check_packing(packing, self.stages)
        self._check_bias()
        order = self.accumulate.order
        if self.stages and self.stages[0].restart == "tap" and order[-1] != "cin":
            raise IntsimError(
                f'stages, stage 1: restart is "tap" with order "{" ".join(order)}", in which the products of a tap are '
                "not together; use an order that ends in cin"
            )
        if self.stages and self.stages[0].rounding is not None and not self.requantize.exact:
            raise IntsimError(
                f'stages, stage 1: lsb and drop are beside an exact requantizer only, not scheme "'
                f'{self.requantize.scheme}", whose bias goes into a register'
            )

    def _check_bias(self) -> None:
        """Multipliers and shifts have no room for a bias."""
        if self.accumulate.bias == "requantizer" and not self.requantize.takes_bias:
            raise IntsimError(
                f'bias is "requantizer", but scheme "{self.requantize.scheme}" takes no bias; '
                f"allowed with schemes {listed(name for name, c in built_in().items() if c.takes_bias)}"
            )

    def describe(self) -> str:
        """Explain the target in words and draw its registers, in plain text of several lines."""
        return drawing.describe(self)


@lru_cache(maxsize=256)
def _built_in(name: str) -> Target:
    """A built-in target, read once: its file belongs to the package."""
    return Target._loaded(name)
