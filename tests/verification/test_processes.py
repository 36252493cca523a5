"""Executors' processes: where they work, what they see, and that they end with their parent and leave nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

import onnx
import pytest
from verification.test_executors import SAMPLE, fake, model
from verification.test_hostile_folder import small

import intsim
from intsim.verification.executors import Executor
from intsim.verification.process import environment

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
PATIENCE = 5
"""Seconds that a child may live longer than its parent."""

LOOKS = """
import json, os, resource, stat, sys
here = os.getcwd()
print('to nobody')
raise RuntimeError(json.dumps([
    here, stat.S_IMODE(os.stat(here).st_mode), os.listdir(here), sys.flags.isolated,
    sys.stdin.read(), resource.getrlimit(resource.RLIMIT_CORE)[0],
    [k for k in os.environ if k.startswith('PYTHON')], os.environ.get('LD_PRELOAD'),
    os.environ.get('KEPT')]))
"""


def test_what_a_child_sees(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, onnxruntime=LOOKS)
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("KEPT", "yes")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    process = Executor("onnxruntime", model(), SAMPLE, [])
    folder = Path(process.folder.name)
    reason = process.result(60).reason
    assert reason.startswith("RuntimeError: "), reason
    found = json.loads(reason.removeprefix("RuntimeError: "))
    assert found == [str(folder), 0o700, [], 1, "", 0, [], None, "yes"]
    assert not folder.exists()


def test_the_environment(monkeypatch):
    for name in ("PYTHONPATH", "PYTHONHOME", "LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    found = environment()
    assert not [k for k in found if k.startswith(("PYTHON", "LD_P", "LD_A", "DYLD_I"))]
    assert found["LD_LIBRARY_PATH"] == "/opt/lib"


# Parents that start two children which never end by themselves, and then do what each of them does

SLEEP = "import time; time.sleep(600)"
# compiled code that holds Python's lock for minutes: no thread of Python's runs any more
LOCKED = "7 ** (10 ** 8 + len(__name__))"
PARENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
sys.path[:0] = {path!r}
import onnx, numpy as np
from intsim.verification.executors import Executor
net, x = onnx.load({model!r}), {{'x': np.zeros((1, 2, 3, 3), np.float32)}}
children = [Executor(kind, net, x, []) for kind in ('qonnx', 'onnxruntime')]
print(*[c.process.pid for c in children], *[c.folder.name for c in children], flush=True)
{then}
"""


def fakes(folder: Path, child: str) -> list[Path]:
    """Executors that leave a mark when they begin, and then do as they are told."""
    marks = []
    for name in ("qonnx", "onnxruntime"):
        (folder / "fakes" / name).mkdir(parents=True)
        marks.append(folder / f"{name}.began")
        text = f"open({str(marks[-1])!r}, 'w').close()\n{child}"
        (folder / "fakes" / name / "__init__.py").write_text(text)
    return marks


def in_time(true, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def parent(tmp_path):
    """Starts a parent of two children: the process, the children's ids, and their folders."""
    started = []

    def begin(child: str, then: str = "time.sleep(600)", wait: bool = True):
        marks = fakes(tmp_path, child)
        net = small()
        onnx.save(net.model(net.last), tmp_path / "m.onnx")
        path = [str(tmp_path / "fakes"), str(ROOT)]
        code = PARENT.format(path=path, model=str(tmp_path / "m.onnx"), then=then)
        (tmp_path / "temporary").mkdir(exist_ok=True)  # of its own: other tests run executors at the same time
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        one, two, *folders = process.stdout.readline().split()
        assert not wait or in_time(lambda: all(m.exists() for m in marks), 120)
        return process, [int(one), int(two)], [Path(f) for f in folders]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def gone(children: list[int], folders: list[Path], seconds: float = PATIENCE) -> bool:
    return in_time(lambda: not any(map(alive, children)) and not any(f.exists() for f in folders), seconds)


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_children_end_with_their_parent(parent, number):
    process, children, folders = parent(SLEEP)
    assert all(map(alive, children))
    assert all(f.exists() for f in folders)
    process.send_signal(number)
    process.wait(10)
    assert gone(children, folders)


@linux
def test_a_parent_that_dies_at_once(parent):
    """Before the children have looked for it."""
    process, children, folders = parent(SLEEP, "import os; os.kill(os.getpid(), 9)", wait=False)
    process.wait(10)
    assert gone(children, folders)


@linux
def test_children_in_compiled_code_that_holds_the_lock(parent):
    """No thread can clean up then, but the kernel's signal ends them."""
    process, children, folders = parent(LOCKED)
    assert all(map(alive, children))
    process.kill()
    assert gone(children, [])
    for folder in folders:  # empty, and of this test
        assert not list(folder.iterdir())
        folder.rmdir()


@linux
def test_a_child_that_was_done_before_its_parent_died(parent, tmp_path):
    """Nobody is left to remove its folder by then: it does so itself, and what it answered has no name on disk."""
    process, children, folders = parent("raise SystemExit")
    assert {f.parent for f in folders} == {tmp_path / "temporary"}
    assert gone([], folders)
    process.kill()
    assert gone(children, folders)
    assert not list((tmp_path / "temporary").glob("intsim-*"))


@linux
def test_the_thread_that_started_them_may_end(parent):
    """`verify` may be called in a thread; one that ends with its children running takes nothing down at once."""
    then = "children[0].process.wait(600)"
    process, children, folders = parent(SLEEP, then)
    os.kill(children[0], signal.SIGKILL)
    assert process.wait(20) == 0  # the folders of both go with the interpreter
    assert gone(children, folders)


@linux
def test_kill_verify_itself(tmp_path):
    """kill -9 of the command, in the middle of it."""
    marks = fakes(tmp_path, f"import os\nprint(os.getcwd())\n{SLEEP}")
    net = small()
    onnx.save(net.model(net.last), tmp_path / "m.onnx")
    (tmp_path / "temporary").mkdir()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "fakes"), str(ROOT)]),
           "TMPDIR": str(tmp_path / "temporary")}  # fmt: skip
    command = [sys.executable, "-m", "intsim.cli", "verify", "m.onnx", "--reference-timeout", "300"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert in_time(lambda: all(m.exists() for m in marks), 120)
        children = [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert len(children) == 2
        assert all(map(alive, children))
    finally:
        process.kill()
        process.wait()
    assert gone(children, [])
    assert gone([], list((tmp_path / "temporary").iterdir()))
    assert not list((tmp_path / "temporary").iterdir())


def test_from_a_thread(tmp_path):
    """Verification in a thread of its own works as in the first."""
    found = []
    thread = threading.Thread(target=lambda: found.append(intsim.verify(model(), "exact", SAMPLE)))
    thread.start()
    thread.join()
    assert all(r.reason is None for r in found[0].references.values())


LONG = [pytest.param(way, marks=pytest.mark.slow) for way in ("path", "pth", "finder")]


@pytest.mark.parametrize("way", [*LONG, "nothing"])
def test_ways_to_have_intsim(tmp_path, way):
    """PYTHONPATH, an editable install by a path or by a finder, a copy in the environment: a child has the same."""
    venv.create(tmp_path / "env", system_site_packages=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    packages = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    (packages / "there.pth").write_text(str(Path(sys.modules["numpy"].__file__).parents[1]) + "\n")
    home = tmp_path / "checkout"
    shutil.copytree(ROOT / "intsim", home / "intsim", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "hardware" / "targets", home / "intsim" / "_targets")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    if way == "path":
        env["PYTHONPATH"] = str(home)
    elif way == "pth":
        (packages / "aaa.pth").write_text(f"{home}\n")
    elif way == "finder":
        (packages / "_finder.py").write_text(FINDER.format(home=str(home / "intsim")))
        (packages / "aaa.pth").write_text("import _finder\n")
    else:
        shutil.move(home / "intsim", packages / "intsim")
        home = packages
    net = small()
    onnx.save(net.model(net.last), tmp_path / "m.onnx")
    code = "import intsim; print(intsim.__file__); v = intsim.verify('m.onnx', samples=1)\n"
    code += "print([r.reason for r in v.references.values()])"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [str(home / "intsim" / "__init__.py"), "[None, None]"], done.stderr


FINDER = """
import importlib.util, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'intsim':
            return importlib.util.spec_from_file_location(
                name, {home!r} + '/__init__.py', submodule_search_locations=[{home!r}])
sys.meta_path.insert(0, Finder)
"""
