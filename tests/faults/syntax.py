"""A piece of Python, looked for by its syntax: what stands there, however it is laid out and its variables are called.

A pattern is plain Python, one expression or some statements, looked for within a function, class or constant that is
named. In it

* the name of a local variable stands for any local variable: the same name for the same one, another for another;
* names of functions, classes, constants and modules, attributes, keywords and literals stand for themselves;
* `...` stands for any expression, any further arguments or any statements.

A function is looked for by its qualified name in the whole package, so it may move to another file. Where several have
one name, the last parts of their module's name stand before it, unless the pattern is in one of them only. Underscores
before a name, which say that it is private, don't count.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

PACKAGE = "intsim"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_HAS_VARIABLES = (*_FUNCTIONS, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NAMES = {ast.Name: "id", ast.arg: "arg", ast.ExceptHandler: "name"}
"""Kinds of nodes that name a variable, and the field that does."""
_UNSAID = ("ctx", "kind", "type_comment")
"""Fields of a node that say nothing of what the program does."""


class NotOnceError(Exception):
    """A pattern that is nowhere, or in several places."""


@dataclass(frozen=True)
class Scope:
    """A function, class or constant of the package.

    Attributes:
        path: its file.
        source: that file's text.
        module: dotted name.
        name: qualified name within the module, as `Class.method`.
        node: the definition or the assignment.
        outer: the outermost function around it, or itself.
    """

    path: Path
    source: str
    module: str
    name: str
    node: ast.stmt
    outer: ast.stmt

    @cached_property
    def local(self) -> set[str]:
        """Names of its variables, and of those of the functions around it."""
        return _local(self.outer)

    @cached_property
    def fixed(self) -> set[str]:
        """Names that stand for themselves: of the module, of functions within functions, built in."""
        return {*dir(builtins), *_fixed(_tree(self.source), True), *_fixed(self.outer, False)}


@dataclass
class Match:
    """A place that a pattern describes: its nodes, what names are called there, what each `...` stands for."""

    scope: Scope
    nodes: list[Any]
    names: dict[str, str] = field(default_factory=dict)
    rest: list[list[Any]] = field(default_factory=list)

    def same(self, pattern: Any, node: Any) -> bool:
        """Whether a node, a list of nodes or a field is as in the pattern; keeps names and the rest."""
        if _is_rest(pattern) and isinstance(node, ast.expr):
            self.rest.append([node])
            return True
        if type(pattern) is not type(node):
            return False
        if isinstance(pattern, list):
            return self._same_list(pattern, node)
        if not isinstance(pattern, ast.AST):
            return bool(pattern == node)
        return all(self._same_field(f, pattern, node) for f in pattern._fields if f not in _UNSAID)

    def _same_field(self, name: str, pattern: ast.AST, node: ast.AST) -> bool:
        ours, theirs = getattr(pattern, name), getattr(node, name)
        if name != _NAMES.get(type(pattern)) or None in (ours, theirs):
            return self.same(ours, theirs)
        if ours in self.names or theirs in self.names.values():
            return self.names.get(ours) == theirs
        self.names[ours] = theirs
        if theirs in self.scope.local:
            return ours == theirs or ours not in self.scope.fixed
        return ours.lstrip("_") == theirs.lstrip("_")

    def _same_list(self, pattern: list[Any], nodes: list[Any]) -> bool:
        """One by one; the first `...` of the pattern may stand for any number."""
        at = next((i for i, p in enumerate(pattern) if _is_rest(p)), None)
        if at is None:
            return len(pattern) == len(nodes) and all(map(self.same, pattern, nodes))
        end = len(nodes) - (len(pattern) - at - 1)
        if end < at or not all(map(self.same, pattern[:at], nodes[:at])):
            return False
        self.rest.append(nodes[at:end])
        return all(map(self.same, pattern[at + 1 :], nodes[end:]))

    def filled(self, new: list[Any]) -> list[Any]:
        """Nodes of another pattern, with the names and the rest of this place.

        Raises:
            ValueError: a name stands for nothing here, or there is another number of `...`.
        """
        every = [n for top in new for n in ast.walk(top)]
        stored = {n.id for n in every if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
        known = {*self.names, *self.scope.fixed, *stored, *(n.arg for n in every if isinstance(n, ast.arg))}
        for node in every:
            if isinstance(node, ast.Name) and node.id not in known:
                raise ValueError(f"{node.id!r} stands for nothing in {self.scope.name}: name it in what is looked for")
        if self.rest and len(self.rest) != sum(_is_rest(n) and not isinstance(n, ast.Expr) for n in every):
            raise ValueError(f"{len(self.rest)} times ... are looked for in {self.scope.name}, but not put back")
        rest = iter(self.rest)

        def named(node: ast.AST) -> list[Any] | None:
            if self.rest and _is_rest(node):
                return next(rest)
            name = _NAMES.get(type(node))
            if name is not None:
                setattr(node, name, self.names.get(getattr(node, name), getattr(node, name)))
            return None

        return _copied(new, named)


def find(folder: Path, where: str, old: str, new: str) -> Match:
    """The one place in the package under `folder` that matches `old` in what is called `where`.

    Raises:
        NotOnceError: there is none or there are several.
    """
    pattern = _parsed(old, new)
    found = [m for scope in scopes(folder, where) for m in _matches(scope, pattern)]
    if len(found) == 1:
        return found[0]
    named = ", ".join(f"{s.module}.{s.name}" for s in scopes(folder, where)) or "no such name"
    other = {s.name for s in scopes(folder) if any(_matches(s, pattern))} if not found else set()
    hint = f"; it is in {', '.join(sorted(other))}" if other else ""
    raise NotOnceError(f"{old!r} is {len(found)} times in {where} ({named}), not once{hint}")


def replaced(match: Match, old: str, new: str) -> str:
    """The text of the match's file with `new` in its place; nothing else changes."""
    first, last = match.nodes[0], match.nodes[-1]
    nodes = match.filled(_parsed(new, old)) or [ast.Pass()]
    text = "\n".join(ast.unparse(ast.fix_missing_locations(n)) for n in nodes)
    text = f"({text})" if isinstance(first, ast.expr) else text.replace("\n", "\n" + " " * first.col_offset)
    source = match.scope.source.encode()
    starts = [0, *itertools.accumulate(len(line) for line in source.splitlines(keepends=True))]
    begin, end = starts[first.lineno - 1] + first.col_offset, starts[last.end_lineno - 1] + last.end_col_offset
    done = (source[:begin] + text.encode() + source[end:]).decode()
    before, after = _tree(match.scope.source).body, ast.parse(done).body
    at = next(i for i, top in enumerate(before) if top.end_lineno >= last.end_lineno)
    instead: dict[int, list[Any]] = {id(n): [] for n in match.nodes} | {id(first): nodes}
    meant = _copied(before[at], lambda n: instead.get(id(n)))
    whole = len(before) == len(after) and ast.dump(after[at]) == ast.dump(meant)
    assert whole, f"{new!r} can't be written in {match.scope.name}"
    return done


def scopes(folder: Path, where: str = "") -> Iterator[Scope]:
    """Functions, classes and constants of the package under `folder` that have this name; without one, all."""
    wanted = _public(where)
    for path, source in _sources(folder):
        if wanted.rpartition(".")[2] in source:
            module = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
            for name, node, outer in _named(source):
                own = _public(name)
                if wanted in ("", own) or (
                    wanted.endswith(f".{own}") and _public(f".{module}.{own}").endswith(f".{wanted}")
                ):
                    yield Scope(path, source, module, name, node, outer)


def _public(name: str) -> str:
    """A dotted name without the underscores before its parts."""
    return re.sub(r"\b_+", "", name)


@cache
def _sources(folder: Path) -> list[tuple[Path, str]]:
    return [(path, path.read_text()) for path in sorted((folder / PACKAGE).rglob("*.py"))]


def _parsed(text: str, other: str) -> list[Any]:
    """A pattern's statements; where it and the other one are an expression, that."""
    bodies = [ast.parse(textwrap.dedent(t)).body for t in (text, other)]
    if all(len(b) == 1 and isinstance(b[0], ast.Expr) for b in bodies):
        return [bodies[0][0].value]  # type: ignore[attr-defined]
    return list(bodies[0])


def _matches(scope: Scope, pattern: list[Any]) -> Iterator[Match]:
    for node in ast.walk(scope.node):
        runs = [[node]] if isinstance(pattern[0], ast.expr) else _runs(node, len(pattern), any(map(_is_rest, pattern)))
        for run in runs:
            match = Match(scope, run)
            if match.same(pattern, run):
                yield match


def _runs(node: ast.AST, length: int, longer: bool) -> Iterator[list[Any]]:
    """Statements within a node that follow each other: so many, or as many and more."""
    for _, body in ast.iter_fields(node):
        if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
            for begin in range(len(body) - length + 1):
                for end in range(begin + length, len(body) + 1 if longer else begin + length + 1):
                    yield body[begin:end]


def _is_rest(node: Any) -> bool:
    node = node.value if isinstance(node, ast.Expr) else node
    return isinstance(node, ast.Constant) and node.value is ...


def _copied(node: Any, instead: Callable[[ast.AST], list[Any] | None]) -> Any:
    """A copy of a tree, or of a list of them, with other nodes for those that `instead` has some for."""
    if isinstance(node, list):
        return [new for old in node for new in _copied_one(old, instead)]
    return _copied_one(node, instead)[0]


def _copied_one(node: Any, instead: Callable[[ast.AST], list[Any] | None]) -> list[Any]:
    if not isinstance(node, ast.AST):
        return [node]
    new = instead(node)
    return [type(node)(**{f: _copied(v, instead) for f, v in ast.iter_fields(node)})] if new is None else new


@cache
def _tree(source: str) -> ast.Module:
    """Its tree; the same one for the same text, so that nodes can be told by identity."""
    return ast.parse(source)


@cache
def _named(source: str) -> list[tuple[str, ast.stmt, ast.stmt]]:
    """Qualified name and node of each function, class and constant of a file, and the outermost function around it."""
    return list(_definitions(_tree(source), "", None))


def _definitions(parent: ast.AST, prefix: str, around: ast.stmt | None) -> Iterator[tuple[str, ast.stmt, ast.stmt]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            name, outer = prefix + node.name, around or node
            yield name, node, outer
            yield from _definitions(node, f"{name}.", None if isinstance(outer, ast.ClassDef) else outer)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and around is None:
            yield from ((prefix + name, node, node) for name in sorted(_stored(node)))
        elif not isinstance(node, ast.expr):
            yield from _definitions(node, prefix, around)


def _stored(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _local(node: ast.AST, within: bool = False) -> set[str]:
    """Names of the variables of functions, lambdas and comprehensions within a node."""
    within = within or isinstance(node, _HAS_VARIABLES)
    name = getattr(node, _NAMES.get(type(node), ""), None)
    own = {name} if within and name and not isinstance(getattr(node, "ctx", None), ast.Load) else set()
    return own.union(*(_local(child, within) for child in ast.iter_child_nodes(node)))


def _fixed(node: ast.AST, assigned: bool) -> set[str]:
    """Names imported or defined within a node; those `assigned` to as well, but none within functions and classes."""
    names: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            names |= {(a.asname or a.name).partition(".")[0] for a in child.names}
        elif isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
            names.add(child.name)
        elif assigned and isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            names.add(child.id)
        if not isinstance(child, (ast.ClassDef, *_HAS_VARIABLES) if assigned else ast.ClassDef):
            names |= _fixed(child, assigned)
    return names
