"""Nobody but a scheme itself asks which scheme it is: the names are compared in `arithmetic/requantizers` only."""

import ast
from pathlib import Path

import pytest

from intsim.arithmetic.requantizers import built_in

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "intsim" / "arithmetic" / "requantizers"
NAMES = {"fixed-point", "thresholds", "tosa"}
"""Names that mean nothing but a scheme; "exact" is a target too, "float32" a type."""


def is_scheme(node: ast.AST) -> bool:
    """`scheme`, `anything.scheme`, or a name that only schemes have."""
    return (
        (isinstance(node, ast.Name) and node.id == "scheme")
        or (isinstance(node, ast.Attribute) and node.attr == "scheme")
        or (isinstance(node, ast.Constant) and node.value in NAMES)
    )


def asked(source: str) -> list[int]:
    """Lines on which code depends on a scheme's name, or on its class."""
    classes = {c.__name__ for c in built_in().values()}
    lines = []
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            parts += [e for p in parts if isinstance(p, ast.Tuple | ast.List | ast.Set) for e in p.elts]
        elif isinstance(node, ast.Match):
            parts = [node.subject, *(p.value for p in ast.walk(node) if isinstance(p, ast.MatchValue))]
        elif isinstance(node, ast.Subscript):
            parts = [node.slice]
        elif isinstance(node, ast.Dict):
            parts = [k for k in node.keys if k is not None]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("get", "startswith"):
            parts = [*node.args, node.func.value]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            lines += [node.lineno for n in ast.walk(node.args[1]) if getattr(n, "id", "") in classes]
        if any(map(is_scheme, parts)):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "line",
    [
        'a if form.scheme == "shift" else b',
        'form.scheme not in ("exact", "thresholds")',
        'name == "tosa"',
        'name in ("exact", "thresholds")',
        "chosen[form.scheme]",
        "chosen.get(form.scheme)",
        '{"fixed-point": 1}[name]',
        "match form.scheme:\n    case 1:\n        pass",
        'match name:\n    case "tosa":\n        pass',
        "isinstance(requantizer, FixedPoint)",
        "isinstance(requantizer, (Tosa, Shift))",
    ],
)
def test_questions_are_seen(line):
    assert asked(line) == [1] * len(asked(line)) != []


@pytest.mark.parametrize("line", ["show(target.requantize.scheme)", 'Target.load("tosa")', "scheme = named(scheme)"])
def test_mentions_are_not_questions(line):
    assert not asked(line)


def test_only_schemes_know_their_names():
    sources = [p for p in (ROOT / "intsim").rglob("*.py") if OWN not in p.parents]
    assert len(sources) > 200
    assert not [(str(p.relative_to(ROOT)), n) for p in sources for n in asked(p.read_text())]


def test_a_file_is_a_scheme():
    """One subclass in each file but those that schemes share; operators of a runtime lie in one file of it."""
    files = {p.stem for p in OWN.glob("*.py")} - {"__init__", "requantizer"}
    assert {c.__module__.rsplit(".", 1)[1] for c in built_in().values()} == files
    sums = [c for c in built_in().values() if c.reads == "sum"]
    assert len({c.__module__ for c in sums}) == len(sums)
    assert all(c.operators for c in built_in().values() if c.reads != "sum")
