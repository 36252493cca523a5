"""The suite must notice: every planted fault turns the test that the catalogue names red, and nothing else does."""

import ast
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from . import syntax
from .catalogue import FAULTS
from .planting import ROOT, Fault, in_copy, plant, planted, run_tests, why_not_red
from .report import PAGE, page

ROOMS = sorted({str(Path(f.test.split("::")[0]).parent) for f in FAULTS})


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


def test_the_catalogue_is_in_order() -> None:
    assert len({f.name for f in FAULTS}) == len(FAULTS) >= 20
    assert len({planted(ROOT, f) for f in FAULTS}) == len(FAULTS)
    assert sum(not f.slow for f in FAULTS) >= 14
    for fault in FAULTS:
        file, _, test = fault.test.partition("[")[0].partition("::")
        assert not test or f"def {test}(" in (ROOT / file).read_text(), fault.name


@pytest.mark.parametrize("room", [pytest.param(r, marks=[pytest.mark.slow] * (r != "tests/arithmetic")) for r in ROOMS])
def test_without_a_fault_the_same_tests_are_green(room: str, home: Path) -> None:
    """The control: in a copy nothing was planted in, all tests of the catalogue pass."""
    tests = sorted({f.test for f in FAULTS if str(Path(f.test.split("::")[0]).parent) == room})
    with in_copy(home) as folder:
        outcome = run_tests(folder, *tests)
    assert outcome.code == 0, outcome.text
    for test in tests:
        ran = [how for name, how in outcome.tests.items() if name == test or name.startswith((test + "[", test + "::"))]
        assert ran, test
        assert all(how == ("call", None) for how in ran), test


@pytest.mark.parametrize("fault", [pytest.param(f, id=f.name, marks=[pytest.mark.slow] * f.slow) for f in FAULTS])
def test_a_planted_fault_turns_its_test_red(fault: Fault, home: Path) -> None:
    with in_copy(home) as folder:
        plant(folder, fault)
        outcome = run_tests(folder, fault.test)
    assert why_not_red(outcome) is None, f"{fault.name}: {why_not_red(outcome)}\n{outcome.text}"


HARMLESS = Fault(
    "a-sum-in-another-order",
    "nothing",
    "IntegerType.min",
    "-(1 << (self.bits - 1)) + self.narrow",
    "self.narrow - (1 << (self.bits - 1))",
    "tests/arithmetic/test_rounding.py::test_mode_names",
)


def test_what_is_no_fault_is_not_red(home: Path) -> None:
    with in_copy(home) as folder:
        plant(folder, HARMLESS)
        assert "passed" in str(why_not_red(run_tests(folder, HARMLESS.test)))


@pytest.mark.parametrize(
    ("where", "old", "new", "reason"),
    [
        ("rounding", "Rounding(mode)", "Rounding(mode).moode", "AttributeError"),
        ("intsim/errors.py", "class IntsimError", "clas IntsimError", "exit code "),
        ("tests/arithmetic/test_rounding.py", "def test_exhaustively", "def exhaustively", "exit code 4"),
    ],
)
def test_what_only_breaks_the_program_is_not_red(where: str, old: str, new: str, reason: str, home: Path) -> None:
    """A crash, a package that can't be imported or a test that isn't there prove nothing."""
    fault = replace(
        HARMLESS, where=where, old=old, new=new, test="tests/arithmetic/test_rounding.py::test_exhaustively"
    )
    with in_copy(home) as folder:
        plant(folder, fault)
        assert reason in str(why_not_red(run_tests(folder, fault.test)))


def test_another_package_than_the_copy_is_refused(home: Path) -> None:
    with in_copy(home) as folder:
        (folder / "intsim").rename(folder / "elsewhere")
        (folder / "intsim").symlink_to(folder / "elsewhere")
        assert "exit code 4" in str(why_not_red(run_tests(folder, HARMLESS.test)))


@cache
def another_spelling(path: Path) -> dict[str, dict[str, str]]:
    """Other names for the variables of each function and class of a file, by the name of what is outermost."""
    tops = [s for s in syntax.scopes(ROOT) if s.path == path and "." not in s.name]
    return {s.name: {name: f"_{name[::-1]}" for name in s.local - s.fixed} for s in tops}


class Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(self.names.get(node.arg, node.arg), node.annotation)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = self.names.get(node.name or "", node.name)
        return self.generic_visit(node)


def respelled(path: Path, source: str) -> str:
    """A file whose variables are all renamed and whose lines are laid out anew, without comments."""
    module = ast.parse(source)
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            Renamed(another_spelling(path)[node.name]).visit(node)
    return ast.unparse(ast.fix_missing_locations(module))


PYTHON = [f for f in FAULTS if "/" not in f.where]


@pytest.mark.slow
def test_faults_outlive_renamed_variables_another_layout_and_a_move(tmp_path: Path) -> None:
    """In a tree where every file of the package lies elsewhere, spelled anew, each fault is the same mistake."""
    moved = tmp_path / syntax.PACKAGE / "elsewhere"
    for path in (ROOT / syntax.PACKAGE).rglob("*.py"):
        new = moved / path.relative_to(ROOT / syntax.PACKAGE)
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(respelled(path, path.read_text()))
    for fault in PYTHON:
        path, text = planted(ROOT, fault)
        there, again = planted(tmp_path, fault)
        assert there == moved / path.relative_to(ROOT / syntax.PACKAGE)
        assert there.read_text() != path.read_text()
        assert ast.unparse(ast.parse(again)) == respelled(path, text), fault.name


def tree(folder: Path, source: str) -> Path:
    """A package of one file."""
    path = folder / syntax.PACKAGE / "file.py"
    path.parent.mkdir()
    path.write_text(source)
    return folder


TWO = """
import math

def one(a, b):
    c = math.floor(a)  # a comment
    return (a - b) + (a -
                      c)

class Two:
    def one(self, a):
        for b in a:
            self.one(b)
            print(a, b)
"""


@pytest.mark.parametrize(
    ("where", "old", "new", "line"),
    [
        ("one", "x - y + (x - z)", "z - x", "return (c - a)"),
        ("one", "math.floor(x)", "math.ceil(x)", "c = (math.ceil(a))  # a comment"),
        ("one", "z = ...\nreturn ...", "z = ...\nreturn z - ...", "return c - (a - b + (a - c))"),
        ("Two.one", "for y in x: ...", "for y in x[1:]: ...", "for b in a[1:]:"),
        ("file.Two.one", "print(x, ...)", "print(..., x)", "(print(b, a))"),
        ("Two.one", "print(x, y)", "if x:\n    print(y)", "if a:"),
    ],
)
def test_what_is_planted(where: str, old: str, new: str, line: str, tmp_path: Path) -> None:
    fault = replace(HARMLESS, where=where, old=old, new=new)
    _, text = planted(tree(tmp_path, TWO), fault)
    ast.parse(text)
    assert line in [part.strip() for part in text.splitlines()]


@pytest.mark.parametrize(
    ("where", "old", "new", "reason"),
    [
        ("one", "x - y", "x + y", "2 times"),
        ("one", "x * y", "x + y", "0 times"),
        ("one", "math.ceil(x)", "x", "0 times"),
        ("one", "x - x", "x", "0 times"),
        ("Two.one", "x - y + (x - z)", "x", "0 times in Two.one .intsim.file.Two.one., not once; it is in one"),
        ("three", "x - y", "x", "no such name"),
        ("elsewhere.one", "x - y", "x", "no such name"),
        ("intsim/file.py", "no such text", "x", "0 times"),
        ("intsim/file.py", "a -", "a +", "2 times"),
        ("one", "math.floor(x)", "nothing(x)", "'nothing' stands for nothing in one"),
        ("Two.one", "for y in x: ...", "for y in x[1:]: pass", "... "),
    ],
)
def test_a_fault_that_is_not_there_once_is_refused(where: str, old: str, new: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises((syntax.NotOnceError, ValueError), match=reason):
        planted(tree(tmp_path, TWO), replace(HARMLESS, where=where, old=old, new=new))


def test_the_page_is_that_of_the_catalogue() -> None:
    """docs/measured/faults.md is written by `python -m tests.faults.report`; only the seconds may differ."""

    def without_seconds(text: str) -> str:
        return re.sub(r"\d+\.\d", "", text)

    assert without_seconds((ROOT / PAGE).read_text()) == without_seconds(
        page(dict.fromkeys((f.name for f in FAULTS), 0.0))
    )
