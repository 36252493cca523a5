# ruff: noqa: E501
"""Who may import whom: the rooms of the package, read off the source."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "intsim").rglob("*.py"))

FORBIDDEN = {
    "errors.py": ["intsim", "onnx", "numpy"],
    "search_path.py": ["intsim", "onnx", "numpy"],
    "ownership.py": ["intsim", "onnx", "numpy"],
    "notebook.py": ["onnx", "numpy", "rich", "intsim.arithmetic", "intsim.graph", "intsim.ops", "intsim.frontend",
                    "intsim.targets", "intsim.engine", "intsim.proofs", "intsim.verification", "intsim.model",
                    "intsim.explore", "intsim.report", "intsim.cli"],
    "jit": ["onnx", "intsim.arithmetic", "intsim.graph", "intsim.ops", "intsim.frontend", "intsim.targets",
                     "intsim.engine", "intsim.proofs", "intsim.verification", "intsim.model", "intsim.cli"],
    "arithmetic": ["onnx", "intsim.graph", "intsim.ops", "intsim.frontend", "intsim.targets", "intsim.engine",
                   "intsim.proofs", "intsim.verification", "intsim.report", "intsim.model", "intsim.cli", "intsim.explore"],
    "reals": ["onnx", "numpy", "intsim.graph", "intsim.ops", "intsim.frontend", "intsim.targets", "intsim.engine",
              "intsim.proofs", "intsim.verification", "intsim.report", "intsim.model", "intsim.cli", "intsim.explore"],
    "hilbert": ["onnx", "intsim.graph", "intsim.ops", "intsim.frontend", "intsim.targets", "intsim.engine",
                "intsim.proofs", "intsim.verification", "intsim.report", "intsim.model", "intsim.cli", "intsim.explore"],
    "nn": ["onnx", "intsim.arithmetic", "intsim.graph", "intsim.ops", "intsim.frontend", "intsim.targets",
           "intsim.engine", "intsim.proofs", "intsim.verification", "intsim.report", "intsim.model", "intsim.cli",
           "intsim.explore", "intsim.jit.compile"],
    "graph.py": ["onnx", "intsim.targets", "intsim.ops", "intsim.frontend", "intsim.engine", "intsim.proofs",
                 "intsim.verification", "intsim.report", "intsim.model", "intsim.cli", "intsim.explore"],
    "ops": ["onnx", "intsim.mac", "intsim.engine", "intsim.frontend", "intsim.targets", "intsim.proofs", "intsim.verification",
            "intsim.report", "intsim.model", "intsim.cli", "intsim.explore"],
    "mac": ["onnx", "intsim.engine", "intsim.frontend", "intsim.targets", "intsim.proofs", "intsim.verification",
            "intsim.report", "intsim.model", "intsim.cli", "intsim.explore"],
    "targets": ["onnx", "intsim.graph", "intsim.ops", "intsim.frontend", "intsim.engine", "intsim.proofs",
                   "intsim.verification", "intsim.report", "intsim.model", "intsim.cli", "intsim.explore"],
    "frontend": ["intsim.engine", "intsim.targets", "intsim.proofs", "intsim.verification", "intsim.report", "intsim.model",
                 "intsim.cli", "intsim.explore"],
    "engine": ["onnx", "intsim.frontend", "intsim.report", "intsim.verification", "intsim.proofs", "intsim.model",
               "intsim.cli", "intsim.explore"],
    "proofs": ["intsim.engine", "intsim.report", "intsim.verification", "intsim.cli", "intsim.explore"],
    "verification": ["intsim.report", "intsim.cli", "intsim.explore", "intsim.proofs"],
    "inputs.py": ["intsim.engine", "intsim.targets", "intsim.proofs", "intsim.verification", "intsim.explore",
                  "intsim.report", "intsim.cli"],
    "model.py": ["intsim.proofs", "intsim.verification", "intsim.explore", "intsim.report", "intsim.cli"],
    "explore": ["intsim.report", "intsim.cli"],
    "testing": ["intsim.report", "intsim.cli"],
    "report": ["intsim.cli"],
}  # fmt: skip
"""Room to what it must not import: modules, with everything below them."""
ALLOWED = {"proofs/replay.py": ["intsim.engine"], "proofs/reading.py": ["intsim.verification"]}
"""File to what it may import all the same: counterexamples are run on the engine, the file is read a second time."""


def room(path: Path) -> str:
    return path.relative_to(ROOT / "intsim").parts[0]


def imports(path: Path) -> set[str]:
    """Every module a file imports, anywhere in it; `from a import b` gives both a and a.b."""
    found: set[str] = set()
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            found.update(f"{module}.{a.name}" for a in node.names)
    return found


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def test_imports_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "a" / "b" / "c.py"
    path.parent.mkdir(parents=True)
    path.write_text("import onnx.helper\ndef f():\n    from x import y\n    from . import d\n    from ..e import g\n")
    assert imports(path) == {"onnx.helper", "x", "x.y", "a.b", "a.b.d", "a.e", "a.e.g"}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_rooms_know_only_what_lies_below(name):
    mine = [p for p in SOURCES if room(p) == name]
    assert mine, f"{name} is gone; correct the table"
    for path in mine:
        free = ALLOWED.get(str(path.relative_to(ROOT / "intsim")), [])
        bad = sorted(i for i in imports(path) for f in FORBIDDEN[name] if within(i, f) and f not in free)
        assert not bad, f"{path.relative_to(ROOT)} imports {', '.join(bad)}"


def test_the_reference_shares_nothing():
    for path in sorted((ROOT / "intsim" / "verification" / "reference").rglob("*.py")):
        ours = {i for i in imports(path) if within(i, "intsim")}
        allowed = ("intsim.errors", "intsim.verification.reference")
        bad = sorted(i for i in ours if not any(within(i, a) for a in allowed))
        assert not bad, f"{path.relative_to(ROOT)} imports {', '.join(bad)}"


def test_executors_and_the_standard_form_share_nothing_with_the_lowering():
    for name in ("executors.py", "standard.py", "process.py", "float_error.py", "faults.py", "causes.py"):
        found = imports(ROOT / "intsim" / "verification" / name)
        for below in ("frontend", "graph", "ops", "engine", "model"):
            assert not any(within(i, f"intsim.{below}") for i in found), (name, below)


def test_no_training_framework():
    for path in SOURCES:
        bad = sorted(i for i in imports(path) for f in ("torch", "brevitas", "models") if within(i, f))
        assert not bad or room(path) == "nn", f"{path.relative_to(ROOT)} imports {', '.join(bad)}"


def test_nothing_imports_testing_and_only_testing_imports_hypothesis():
    for path in SOURCES:
        if room(path) != "testing":
            bad = sorted(i for i in imports(path) for f in ("intsim.testing", "hypothesis") if within(i, f))
            assert not bad, f"{path.relative_to(ROOT)} imports {', '.join(bad)}"


def _runs(path: Path) -> ast.Module:
    """A file without what only a type checker reads."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


@pytest.mark.parametrize("folder", ["intsim", "models", "bench"])
def test_no_files_import_each_other_in_a_circle(folder):
    """Imports inside of functions count."""
    files = sorted((ROOT / folder).rglob("*.py"))
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files}
    graph = {}
    for name, path in names.items():
        found = set()
        for node in ast.walk(_runs(path)):
            if isinstance(node, ast.Import):
                found |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: imports are absolute here"
                full = {f"{node.module}.{a.name}" for a in node.names}
                found |= {f if f in names else str(node.module) for f in full}
        graph[name] = found & set(names) - {name}
    assert sum(map(len, graph.values())) > len(graph)
    graphlib.TopologicalSorter(graph).prepare()


def test_results_load_no_report():
    """Their HTML does, when it is asked for."""
    code = "import sys, intsim.model, intsim.proofs.bounds, intsim.explore.sweep, intsim.verification.verdict as v\n"
    code += "assert not {m for m in sys.modules if m.startswith(('intsim.report', 'rich'))}\n"
    code += "assert '<pre' in v.Verdict('m', 't')._repr_html_() and 'intsim.report.html' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_import_is_light():
    """Neither training frameworks, nor plotting, nor the float executors come with `import intsim`."""
    code = "import sys, intsim, intsim.cli; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "intsim.cli" in loaded
    assert not loaded & {"torch", "brevitas", "matplotlib", "PIL", "qonnx", "onnxruntime", "hypothesis", "pytest"}
