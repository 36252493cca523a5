"""A folder with a downloaded model, and modules beside it that wait to be imported: no verb imports any of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net

from intsim import search_path

ROOT = Path(__file__).resolve().parents[2]
WAITING = (
    "qonnx", "numpy", "onnx", "onnxruntime", "numba", "typer", "rich", "pydantic", "matplotlib", "google", "yaml",
    "sitecustomize", "usercustomize", "evil_mod", "llvmlite", "ml_dtypes", "typing_extensions", "PIL", "click",
)  # fmt: skip
RUN_IT = ["run", "verify", "bounds", "certify", "telemetry"]
VERBS = {
    "inspect": ["inspect", "m.onnx"],
    "lower": ["lower", "m.onnx", "-o", "lowered"],
    **{verb: [verb, "m.onnx"] for verb in RUN_IT},
    "sweep": ["sweep", "m.onnx", "-a", "12:13", "-o", "swept"],
    "targets": ["targets"],
    "emit": ["emit", "mac", "-t", "wrap-16", "-n", "10", "-o", "made"],
    "warmup": ["warmup"],
}


def small() -> Net:
    net = Net()
    x = net.quant(net.input(1, 2, 3, 3), 0.25, 0, 4)
    w = net.quant(np.float32([[1, -1], [0.5, 2]]).reshape(2, 2, 1, 1), 0.5, 0, 4)
    net.last = net.quant(net.node("Conv", x, w, kernel_shape=[1, 1]), 0.5, 0, 5)
    return net


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hostile modules, each of which writes its name to a file when it's imported, and two models."""
    folder = tmp_path_factory.mktemp("download")
    for name in WAITING:
        text = f"open({str(folder / 'IMPORTED')!r}, 'a').write({name!r} + chr(10))\n"
        (folder / f"{name}.py").write_text(text)
    net = small()
    onnx.save(net.model(net.last), folder / "m.onnx")
    (folder / "evil.onnx").write_bytes(foreign().SerializeToString())
    (folder / "matplotlibrc").write_text("backend: module://evil_mod\n")
    return folder


def foreign() -> onnx.ModelProto:
    net = small()
    model = net.model(net.last)
    node = onnx.helper.make_node("Softplus", [net.last], ["z"], name="tail", domain="evil_mod")
    model.graph.node.append(node)
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, (1, 2, 3, 3)))
    model.opset_import.append(onnx.helper.make_opsetid("evil_mod", 1))
    return model


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The console script as pip writes it, in a folder where it finds this intsim."""
    path = tmp_path_factory.mktemp("bin") / "intsim-script"
    (path.parent / "intsim").symlink_to(ROOT / "intsim")
    path.write_text("import sys\nfrom intsim.cli import main\nsys.exit(main())\n")
    return path


@pytest.fixture(scope="module")
def one_after_another(script):
    """The same for several calls, each an argument, in one process; prints their exit codes."""
    path = script.with_name("intsim-calls")
    path.write_text(CALLS)
    return path


CALLS = """
import sys
calls = sys.argv[1:]
from intsim.cli import main
codes = []
for call in calls:
    sys.argv[1:] = call.split()
    try:
        main()
    except SystemExit as left:
        codes.append(left.code or 0)
print("codes", *codes)
"""


def called(folder: Path, command: list[str], **environment: str) -> subprocess.CompletedProcess:
    (folder / "IMPORTED").unlink(missing_ok=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | environment
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=1200)


def imported(folder: Path) -> list[str]:
    path = folder / "IMPORTED"
    return path.read_text().split() if path.exists() else []


def test_the_modules_do_wait(folder):
    called(folder, [sys.executable, "-B", "-c", "import numpy, evil_mod"])
    assert imported(folder) == ["numpy", "evil_mod"]


ALONE = ("inspect", "verify", "targets")
"""Verbs that have a process of their own every day."""


def some(names, everyday):
    return [v if v in everyday else pytest.param(v, marks=pytest.mark.slow) for v in names]


@pytest.mark.parametrize("verb", some(VERBS, ALONE))
def test_no_verb_imports_them(folder, script, verb):
    done = called(folder, [sys.executable, script, *VERBS[verb]])
    assert done.returncode in (0, 1), done.stderr
    assert "internal error" not in done.stderr
    assert imported(folder) == []
    assert not (folder / "__pycache__").exists()


def test_no_verb_imports_them_in_one_process(folder, one_after_another):
    calls = [" ".join(VERBS[v]) for v in VERBS if v not in (*ALONE, "warmup")]
    done = called(folder, [sys.executable, one_after_another, *calls])
    assert "internal error" not in done.stderr
    word, *codes = done.stdout.splitlines()[-1].split()
    assert word == "codes"
    assert len(codes) == len(calls)
    assert set(codes) <= {"0", "1"}, done.stderr
    assert imported(folder) == []
    assert not (folder / "__pycache__").exists()


def test_both_executors_ran(folder, script):
    done = called(folder, [sys.executable, script, "verify", "m.onnx", "--json"], PYTHONPATH="")
    found = json.loads(done.stdout)["references"]
    assert {k: (r["reason"], r["judged"]) for k, r in found.items()} == {
        k: (None, 40) for k in ("qonnx", "onnxruntime")
    }
    assert imported(folder) == []


PATHS = [":{root}", "{root}:", ".:{root}", "{root}:../{name}", "{folder}:{root}"]


@pytest.mark.parametrize("path", some(PATHS, (":{root}", "{root}:../{name}")))
def test_a_search_path_that_names_the_working_directory(folder, script, path):
    """`PYTHONPATH=$PYTHONPATH:/my/folder` does when it was empty. Python itself imports sitecustomize there."""
    path = path.format(root=ROOT, name=folder.name, folder=folder).replace(":", os.pathsep)
    done = called(folder, [sys.executable, script, "verify", "m.onnx"], PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert set(imported(folder)) <= {"sitecustomize", "usercustomize"}


def test_as_a_module(folder):
    """Python puts the working directory first, but no package but intsim is imported before that is gone."""
    done = called(folder, [sys.executable, "-m", "intsim.cli", "verify", "m.onnx"], PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert imported(folder) == []


@pytest.mark.parametrize("verb", some(["inspect", *RUN_IT, "lower", "sweep"], ("inspect", "verify", "sweep")))
def test_a_model_of_a_foreign_domain(folder, script, verb):
    arguments = [a.replace("m.onnx", "evil.onnx") for a in VERBS[verb]]
    done = called(folder, [sys.executable, script, *arguments])
    assert "Traceback" not in done.stderr
    assert imported(folder) == []


def entries(monkeypatch, folder, path, python_path=""):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", path)
    monkeypatch.setenv("PYTHONPATH", python_path)
    return search_path.trusted_path()


def test_which_entries_stay(monkeypatch, tmp_path):
    here, other = tmp_path / "here", tmp_path / "other"
    for path in (here / "sub", other):
        path.mkdir(parents=True)
    (tmp_path / "link").symlink_to(here)
    home = search_path.HOME
    for name in ("", ".", "sub", "../here", str(here), str(tmp_path / "link"), f"{here}/sub/.."):
        assert entries(monkeypatch, here, [name, str(other), home, name]) == [str(other), home], name
    # an absolute folder below it is somebody's choice; a relative one that Python has made absolute is none
    assert entries(monkeypatch, here, [str(here / "sub"), home]) == [str(here / "sub"), home]
    assert entries(monkeypatch, here, [str(here / "sub"), home], os.pathsep.join(["sub", str(other)])) == [home]


def test_ones_own_checkout_and_installed_packages_stay(monkeypatch, tmp_path):
    """Whoever works in intsim's own folder, or where packages are installed, still finds them, in their order."""
    home, packages = search_path.HOME, str(Path(np.__file__).parents[1])
    assert entries(monkeypatch, home, ["", packages]) == [home, packages]
    assert entries(monkeypatch, packages, ["", home, packages]) == [home, packages]


def test_a_working_directory_that_is_gone(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "path", ["", search_path.HOME])
    assert search_path.trusted_path() == [search_path.HOME]
    monkeypatch.chdir(tmp_path)
