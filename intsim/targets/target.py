"""A target: a machine's integer arithmetic, read from TOML and checked."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from intsim.arithmetic.accumulate import Stage, check_stages
from intsim.arithmetic.packing import check_packing
from intsim.arithmetic.registers import Registers
from intsim.arithmetic.requantizers import built_in
from intsim.arithmetic.requantizers.requantizer import listed
from intsim.errors import IntsimError
from intsim.targets import drawing, library
from intsim.targets.grammar import Accumulate, Line, Lines, Operands, Requantize, Table, explain


class Target(Table):
    """A machine's integer arithmetic. Immutable; equal and hashed by content, whatever its file is called."""

    name: str = Field(default="target", exclude=True)
    title: Line
    source: Annotated[Lines, Field(min_length=1)]
    notes: Lines = ()
    operands: Operands | None = None
    accumulate: Accumulate
    requantize: Requantize

    def __eq__(self, other: object) -> bool:
        """Equal content; the name does not count."""
        return self is other or (isinstance(other, Target) and self._content() == other._content())

    def __hash__(self) -> int:
        """Hash of the content."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[Any, ...]:
        return self.title, self.source, self.notes, self.operands, self.accumulate, self.requantize

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The registers as `arithmetic.accumulate` takes them; empty means unbounded."""
        return self.accumulate.stages

    @property
    def registers(self) -> Registers:
        """The multiply-accumulate path, as proofs and engines take it."""
        path, given = self.accumulate, self.operands
        activation, weight = (given.activation, given.weight) if given else (None, None)
        return Registers(path.stages, path.order, path.bias, activation, weight, path.packing)

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
            if (packing := target.accumulate.packing) is None:
                check_stages(target.stages)
            else:
                check_packing(packing, target.stages)
            target._check_bias()
        except ValidationError as error:
            raise IntsimError(f"{called}: {explain(error, cls)}") from None
        except IntsimError as error:
            raise IntsimError(f"{called}: accumulate.{error}") from None
        return target

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
