"""Who may import whom: the rooms of the package, read off the source."""

import ast
import graphlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "intsim").rglob("*.py"))

ROOMS = {
    "errors": "",
    "search_path": "",
    "ownership": "",
    "machine": "",
    "budget": "errors machine",
    "drafts": "errors",
    "junit": "",
    "notebook": "",
    "jit": "ownership | llvmlite numba numpy",
    "arithmetic": "errors | numpy",
    "arithmetic.requantizers": "arithmetic errors | numpy",
    "reals": "arithmetic | numpy",
    "hilbert": "errors jit | numpy",
    "nn": "errors hilbert | torch",
    "graph": "arithmetic budget errors | numpy",
    "ops": "arithmetic arithmetic.requantizers errors graph reals | numpy",
    "mac": "arithmetic errors graph ops | numpy",
    "frontend": "arithmetic budget errors graph jit ops reals | google numpy onnx tflite",
    "targets": "arithmetic arithmetic.requantizers errors | pydantic pydantic_core",
    "dispatch": "arithmetic arithmetic.requantizers errors graph ops reals targets | numpy",
    "engine": "",
    "engine.threads": "errors machine",
    "engine.requantize": "arithmetic arithmetic.requantizers engine.threads errors graph jit ops targets | numpy",
    "engine.exact": "engine.requantize engine.threads errors graph jit | llvmlite numba numpy",
    "engine.registers": "arithmetic engine.exact engine.threads errors graph jit | llvmlite numba numpy",
    "engine.node": "arithmetic dispatch engine.registers engine.requantize errors graph mac ops targets | numpy",
    "engine.program": "arithmetic budget dispatch engine.exact engine.node engine.registers engine.requantize errors"
    " engine.threads graph jit mac"
    " ops targets | numpy",
    "engine.run": "dispatch engine.node engine.program graph targets | numpy",
    "engine.telemetry": "arithmetic engine.registers errors graph jit mac ops targets | numpy",
    "engine.warmup": "arithmetic engine.run engine.telemetry engine.threads errors graph ops targets | numpy",
    "inputs": "budget errors frontend | numpy",
    "model": "engine.run engine.threads errors frontend graph inputs notebook targets | numpy onnx",
    "verification.reference": "errors | numpy onnx",
    "verification.tflite": "errors | numpy tflite",
    "verification": "dispatch engine.run errors frontend graph inputs model notebook ops search_path targets"
    " verification.reference verification.tflite | llvmlite numpy onnx onnxruntime qonnx",
    "narrowing": "arithmetic errors frontend model ops targets verification | numpy onnx",
    "execution": "inputs model targets verification | numpy onnx",
    "proofs": "arithmetic arithmetic.requantizers budget dispatch engine.run errors frontend graph inputs mac model"
    " notebook"
    " ops targets verification verification.reference | numpy onnx pydantic tomli_w",
    "explore": "arithmetic arithmetic.requantizers dispatch engine.run engine.telemetry engine.threads errors graph"
    " inputs mac model narrowing notebook ops proofs targets verification"
    " | cloudpickle dask distributed numpy onnx optuna tomli_w tornado",
    "golden": "arithmetic arithmetic.requantizers budget dispatch drafts engine.node errors graph inputs mac model"
    " notebook ops proofs targets verification | numpy onnx pydantic vcd",
    "diagnosis": "arithmetic arithmetic.requantizers dispatch errors golden graph inputs jit mac model notebook"
    " ops proofs targets verification | numpy onnx tomli_w",
    "testing": "arithmetic arithmetic.requantizers errors frontend model targets | hypothesis numpy onnx",
    "rtl": "arithmetic arithmetic.requantizers dispatch errors golden graph hilbert inputs junit mac model ops targets"
    " | numpy",
    "inspect": "arithmetic graph model ops verification | numpy",
    "report": "budget diagnosis dispatch drafts engine.telemetry errors explore golden graph inspect junit model"
    " narrowing ops proofs"
    " rtl targets verification | jinja2 markupsafe matplotlib numpy onnx plotly pydantic rich",
    "assertions": "inputs model proofs report targets verification | onnx rich",
    "pytest_plugin": " | pytest",
    "cli": "arithmetic budget diagnosis dispatch engine.threads engine.warmup errors explore frontend golden hilbert"
    " inputs"
    " inspect jit"
    " mac model narrowing ops proofs report rtl"
    " search_path targets verification | numpy onnx rich typer",
}
"""Every room and wing, lowest first: what it imports of the rooms above it, and of other packages."""
ONLY = {
    ("proofs", "engine.run"): "replay.py",
    ("proofs", "verification"): "reading.py",
    ("proofs", "verification.reference"): "reading.py",
}
"""Counterexamples run on the engine, the file is read a second time: one file each."""
OPENS = "intsim.verification.executed"
"""What opens a model for a target, which every room above does."""
MODELS = {
    "models": "models.datasets models.study intsim intsim.errors intsim.explore intsim.hilbert intsim.nn intsim.proofs"
    " intsim.report",
    "models.datasets": "models intsim.errors",
    "models.study": "models intsim intsim.errors intsim.hilbert intsim.inspect",
    "models.tasks": "models intsim intsim.errors intsim.nn",
}
"""Folders of models/, and what each imports of the others and of the package."""


def room(path: Path) -> str:
    """The room or wing that a file of the package lies in."""
    first, *rest = path.relative_to(ROOT / "intsim").with_suffix("").parts
    return f"{first}.{rest[0]}" if rest and f"{first}.{rest[0]}" in ROOMS else first


@cache
def imports(path: Path, tree: ast.Module | None = None) -> set[str]:
    """Every module a file imports, anywhere in it; `from a import b` gives both a and a.b."""
    found: set[str] = set()
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(tree or ast.parse(path.read_text())):
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


def names(folder: str) -> dict[str, Path]:
    """The files of a folder by their modules' names."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files}


def test_every_file_lies_in_a_room():
    assert {room(p) for p in SOURCES} == {*ROOMS, "__init__"}


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_import_what_the_table_says(name):
    own, _, outside = ROOMS[name].partition(" | ")
    above = list(ROOMS)[: list(ROOMS).index(name)]
    assert set(own.split()) <= set(above), "a room imports from rooms above it"
    modules, seen, others = names("intsim"), set(), set()
    for path in (p for p in SOURCES if room(p) == name):
        for module in imports(path, _runs(path)):
            if module in modules and module != "intsim":
                there = room(modules[module])
                if there not in (name, "engine") and not (path.name == "__init__.py" and there.startswith(name)):
                    seen.add(there)
                    alone = ONLY.get((name, there), path.name) == path.name or module.startswith(OPENS)
                    assert alone, f"{path.relative_to(ROOT)} imports {module}"
            elif (package := module.split(".")[0]) not in {*sys.stdlib_module_names, "intsim"}:
                others.add(package)
    assert (seen, others) == (set(own.split()), set(outside.split()))


@pytest.mark.parametrize("name", MODELS)
def test_folders_of_models_import_what_the_table_says(name):
    modules, seen = names("intsim") | names("models"), set()
    folder = ROOT / name.replace(".", "/")
    for path in folder.rglob("*.py") if name != "models" else folder.glob("*.py"):
        for module in imports(path, _runs(path)) & set(modules):
            top = ".".join(module.split(".")[:2])
            seen.add(top if module.startswith("intsim") or (ROOT / top.replace(".", "/")).is_dir() else "models")
    assert seen - {name} == set(MODELS[name].split())


def test_the_reference_shares_nothing():
    for path in sorted((ROOT / "intsim" / "verification" / "reference").rglob("*.py")):
        ours = {i for i in imports(path) if within(i, "intsim")}
        allowed = ("intsim.errors", "intsim.verification.reference")
        bad = sorted(i for i in ours if not any(within(i, a) for a in allowed))
        assert not bad, f"{path.relative_to(ROOT)} imports {', '.join(bad)}"


def test_executors_and_the_standard_form_share_nothing_with_the_lowering():
    for name in (
        "executors.py",
        "standard.py",
        "process.py",
        "processor.py",
        "float_error.py",
        "faults.py",
        "causes.py",
    ):
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
    graph, modules = {}, names(folder)
    for name, path in modules.items():
        found = set()
        for node in ast.walk(_runs(path)):
            if isinstance(node, ast.Import):
                found |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: imports are absolute here"
                full = {f"{node.module}.{a.name}" for a in node.names}
                found |= {f if f in modules else str(node.module) for f in full}
        graph[name] = found & set(modules) - {name}
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
    assert not loaded & {
        "torch",
        "brevitas",
        "matplotlib",
        "PIL",
        "qonnx",
        "onnxruntime",
        "hypothesis",
        "pytest",
        "distributed",
    }
