"""Sweeps and evaluations on several processes: the same numbers, whoever dies, and nobody left behind."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net

import intsim
from intsim.engine.threads import set_threads, threads
from intsim.errors import IntsimError
from intsim.explore import workers as module
from intsim.explore.metrics import Metric
from intsim.explore.workers import Workers

pytest.importorskip("distributed")
ROOT = Path(intsim.__file__).resolve().parents[1]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
SAMPLES = 11
OWN = """
import os
import numpy as np

HERE = {here!r}

def gap(outputs, references):
    (name,) = outputs
    return float(np.abs(outputs[name] - references[name]).max())

def plain(outputs, references, labels):
    return gap(outputs, references)

def seen(outputs, references, labels):
    \"\"\"Writes down who is at it; the process that comes to the {nth}th call of all is killed in it.\"\"\"
    with open(HERE, "a") as file:
        file.write(f"{{os.getpid()}}\\n")
    with open(HERE) as file:
        if len(file.readlines()) == {nth}:
            os.kill(os.getpid(), 9)
    return gap(outputs, references)
"""


def network() -> onnx.ModelProto:
    rng, net = np.random.default_rng(3), Net(opset=17)
    x = net.qdq(net.input(1, 6), 0.05, np.uint8(9))
    w = net.node("DequantizeLinear", net.const(rng.integers(-90, 90, (6, 4)).astype(np.int8)),
                 net.const(np.float32(0.01)), net.const(np.int8(0)))  # fmt: skip
    return net.model(net.qdq(net.node("MatMul", x, w), 0.06, np.uint8(100)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with m.onnx; workers' folders lie in it too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(module.tempfile, "tempdir", None)
    onnx.save(network(), "m.onnx")
    return tmp_path


@pytest.fixture(autouse=True)
def default_threads():
    yield
    set_threads(None)


def own(folder: Path, nth: int = 0) -> str:
    """A metric of one's own, in a file; `calls` counts them."""
    (folder / "own.py").write_text(OWN.format(here=str(folder / "calls"), nth=nth))
    (folder / "calls").unlink(missing_ok=True)
    return f"{folder}/own.py:seen"


def calls(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "calls").read_text().splitlines()]


def swept(metric: str, **more):
    found = intsim.sweep(
        "m.onnx", samples=SAMPLES, accumulator=[8, 10, 12], multiplier=[6, 9], metrics=[metric], **more
    )
    return found, [r.to_json() for r in found.rows]


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def in_time(true, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


def test_two_processes_say_what_one_says(folder):
    metric = own(folder)
    alone, rows = swept(metric)
    assert set(calls(folder)) == {os.getpid()}
    metric, said = own(folder), []
    found, shared = swept(metric, processes=2, folder=folder / "out", progress=said.append)
    assert shared == rows
    assert (found.resumed, sorted(said)) == (0, sorted(str(r.configuration) for r in alone.rows))
    assert len(calls(folder)) == SAMPLES * len(rows)
    assert os.getpid() not in calls(folder)
    assert not list((folder / "temporary").iterdir())
    # what is there isn't done again, and needs no process
    assert swept(metric, processes=2, folder=folder / "out")[0].resumed == len(rows)
    assert len(calls(folder)) == SAMPLES * len(rows)


@pytest.mark.slow
def test_all_axes_on_two_processes(folder):
    """Models and targets are read by the process that was started: workers work elsewhere."""
    onnx.save(network(), "n.onnx")
    Path("own.toml").write_text((ROOT / "hardware" / "targets" / "x86-avx2.toml").read_text())
    axes = {"models": ["m.onnx", "n.onnx"], "targets": ["exact", "own.toml"], "weights": [4, 6],
            "accumulator": [9, 12], "grid": True, "samples": 2}  # fmt: skip
    alone = intsim.sweep("m.onnx", **axes)
    shared = intsim.sweep("m.onnx", **axes, processes=2, folder="out")
    assert len(alone.rows) == 2 * 2 * 2 * 4
    assert shared.rows == alone.rows
    assert intsim.sweep("m.onnx", **axes, folder="out").resumed == len(alone.rows)


def test_evaluate_on_two_processes(folder, monkeypatch):
    monkeypatch.setattr("intsim.explore.evaluate.BATCH", 3)
    labels = np.arange(SAMPLES) % 4
    given = {"samples": SAMPLES, "seed": 5, "labels": labels}
    metrics = ["sqnr", "top1", own(folder), f"{folder}/own.py:plain"]
    alone = intsim.evaluate("m.onnx", "wrap-12", metrics=metrics, **given)
    said = []
    shared = intsim.evaluate("m.onnx", "wrap-12", metrics=metrics, **given, processes=2, progress=said.append)
    assert shared == alone
    assert sum(shared.overflows.values()) > 0
    assert sorted(said) == sorted(f"sample {i + 1}, drawn" for i in range(SAMPLES))
    assert os.getpid() in calls(folder)[:SAMPLES]
    assert os.getpid() not in calls(folder)[SAMPLES:]


@linux
@pytest.mark.slow
def test_workers_that_are_killed_by_their_work(folder):
    """Each that comes to it: one line, and no hang."""
    (folder / "own.py").write_text("import os\ndef f(outputs, references, label):\n    os.kill(os.getpid(), 9)\n")
    with pytest.raises(IntsimError, match=r"^worker processes .*: out of memory\?$"):
        intsim.evaluate("m.onnx", samples=3, metrics=[f"{folder}/own.py:f"], processes=2)


@linux
def test_a_worker_that_is_killed(folder):
    """In the middle of a configuration: another one does it again, and each row is there once."""
    _, rows = swept(own(folder))
    metric = own(folder, nth=2 * SAMPLES + 4)
    found, shared = swept(metric, processes=2, folder=folder / "out")
    assert [{**r, "metrics": None} for r in shared] == [{**r, "metrics": None} for r in rows]
    assert [[{**m, "name": ""} for m in r["metrics"]] for r in shared] == [
        [{**m, "name": ""} for m in r["metrics"]] for r in rows
    ]
    assert len(set(calls(folder))) >= 2
    assert SAMPLES * len(rows) < len(calls(folder)) <= SAMPLES * (len(rows) + 3)
    assert found.resumed == 0
    assert swept(metric, folder=folder / "out")[0].resumed == len(rows)


@pytest.mark.slow
def test_the_error_is_that_of_the_first_sample(folder, monkeypatch):
    """Whichever process comes to one first."""
    monkeypatch.setattr("intsim.explore.evaluate.BATCH", 1)
    (folder / "own.py").write_text("import time\ndef f(outputs, references, label):\n    if label in (3, 4):\n"
                                   "        time.sleep(0.5 * (label == 3))\n"
                                   "        raise ValueError(int(label))\n    return 1\n")  # fmt: skip
    given = {"samples": SAMPLES, "labels": np.arange(SAMPLES), "metrics": [f"{folder}/own.py:f"]}
    for count in (1, 2):
        with pytest.raises(IntsimError, match=r"own\.py:f: ValueError: 3$"):
            intsim.evaluate("m.onnx", **given, processes=count)


def refused(**given) -> str:
    with pytest.raises(IntsimError) as raised:
        intsim.sweep("m.onnx", accumulator=[8, 9], folder="out", **given)
    assert not Path("out").exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


BAD = [
    ({"processes": 0}, "processes '0': give a number from 1 to 256"),
    ({"processes": 257}, "processes '257'"),
    ({"processes": True}, "processes 'True'"),
    ({"processes": 2.0}, "processes '2.0'"),
    ({"processes": 2, "scheduler": "tcp://127.0.0.1:8786"}, "both processes and a scheduler"),
    ({"scheduler": "127.0.0.1"}, "scheduler '127.0.0.1': give an address like tcp://127.0.0.1:8786"),
    ({"scheduler": "http://127.0.0.1:80"}, "scheduler 'http://"),
]


@pytest.mark.parametrize(("given", "words"), BAD)
def test_what_is_refused(folder, given, words):
    assert words in refused(**given)


def test_without_dask(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert refused(processes=2) == 'several processes need Dask; pip install "intsim[explore]"'


def test_a_metric_that_stays_at_home(folder):
    lock = threading.Lock()
    words = refused(processes=2, metrics=[Metric("mine", lambda outputs, references, labels: lock.locked())])
    assert words.startswith("metric mine: can't be sent to other processes: TypeError: ")


@pytest.fixture
def nobody(monkeypatch):
    """Addresses of nothing, of something silent and of something that speaks otherwise."""
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    silent, other, closed = socket.socket(), socket.socket(), socket.socket()
    for s in (silent, other, closed):
        s.bind(("127.0.0.1", 0))
    closed.close()
    silent.listen()
    other.listen()

    def answer():
        try:
            while True:
                there, _ = other.accept()
                there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 5)
                there.close()
        except OSError:
            pass

    threading.Thread(target=answer, daemon=True).start()
    yield [f"tcp://127.0.0.1:{s}" for s in (1, silent.getsockname()[1], other.getsockname()[1])]
    for s in (silent, other):
        s.close()


def test_no_scheduler(folder, nobody, capfd):
    for address in (*nobody, "tcp://no-such-host.invalid:8786"):
        began = time.monotonic()
        assert refused(scheduler=address) == f"{address}: no Dask scheduler answers there"
        assert time.monotonic() - began < 5
    assert capfd.readouterr() == ("", "")


def test_the_secret(folder, monkeypatch):
    """Who connects to the scheduler of a sweep, or to a worker, without it gets nothing: not even a greeting."""
    crews, made = [], module._Crew.__init__
    monkeypatch.setattr(module._Crew, "__init__", lambda crew, *given: crews.append(given[0]) or made(crew, *given))

    def greeted(address: str) -> bytes:
        host, port = address.removeprefix("intsim://").split(":")
        with socket.create_connection((host, int(port)), 5) as there:
            there.sendall(b"x" * 40)
            there.settimeout(5)
            try:
                return there.recv(100)
            except ConnectionResetError:
                return b""

    def ask(argument):
        from distributed import get_worker

        assert threads() == 3
        return argument + 1, get_worker().address

    set_threads(7)  # of all together
    with closing(Workers(2).results(ask, [1, 2, 3])) as results:
        found = dict([next(results)])
        assert [greeted(a) for a in (crews[0], *(address for _, address in found.values()))] == [b"", b""]
        found.update(results)
    assert {i: n for i, (n, _) in found.items()} == {0: 2, 1: 3, 2: 4}


def test_what_shares_a_group_stays_with_a_worker():
    """As long as no other one would be idle."""
    supply = module._Supply("aAbBbbcC", str.lower)
    order = [supply.take(w) for w in "xyxyxyxy"]
    assert order == [(0, "a"), (2, "b"), (1, "A"), (3, "B"), (6, "c"), (4, "b"), (7, "C"), (5, "b")]
    with pytest.raises(StopIteration):
        supply.take("x")
    alone = module._Supply("aAAA", str.lower)
    assert [alone.take(w)[0] for w in "xyzx"] == [0, 1, 2, 3]
    assert [module._Supply("ab").take("x")] == [(0, "a")]


def test_another_version(monkeypatch):
    function = module.Function(b"")
    with pytest.raises(IntsimError, match=f"a worker has intsim {intsim.__version__}, this is 9; install the same"):
        module.apply(function, 1, "9", None)
    with pytest.raises(
        IntsimError, match=r"a worker can't open what it is sent: EOFError: .*; it needs the same packages"
    ):
        module.apply(function, 1, intsim.__version__, None)


def command(*more: object) -> list[str]:
    return [
        sys.executable,
        "-m",
        "intsim.cli",
        "sweep",
        "m.onnx",
        "-a",
        "4:24",
        "-n",
        "150",
        "-o",
        "out",
        *map(str, more),
    ]


def begin(*more: object) -> subprocess.Popen:
    return subprocess.Popen(command(*more), env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def count(working: bool = True) -> int:
    """Rows so far: of a sweep that is `working` without its lock, which may show one that isn't committed yet."""
    try:
        file = sqlite3.connect(f"file:{Path('out/rows.sqlite').absolute()}{'?immutable=1' * working}", uri=True)
        try:
            return int(file.execute("SELECT count(*) FROM rows").fetchone()[0])
        finally:
            file.close()
    except sqlite3.Error:
        return 0


@linux
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_ends_half_way(folder, number):
    """By kill -9, Ctrl-C or a plain kill: no process is left, and the same command goes on from there."""
    process = begin("--processes", 2)
    assert in_time(lambda: process.poll() is not None or count() >= 4, 120)
    pids = children(process.pid)
    assert len(pids) == 2
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert out == ""
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert (process.returncode, err.count("\n")) == (130, 2)
        assert "the same command goes on from there" in err
        assert [p.name for p in Path("out").iterdir()] == ["rows.sqlite"]
        assert not any(map(alive, pids))
    assert in_time(lambda: not any(map(alive, pids)), 5)
    assert in_time(lambda: not list((folder / "temporary").iterdir()), 5)
    done = count(working=False)
    assert done >= 3
    again = subprocess.run(command("--processes", 2, "--json"), env={**os.environ, "PYTHONPATH": str(ROOT)},
                           capture_output=True, text=True, check=True)  # fmt: skip
    found = json.loads(again.stdout)
    assert again.stderr == ""
    assert done == found["resumed"] < len(found["rows"])
    assert found["rows"] == [r.to_json() for r in intsim.sweep("m.onnx", accumulator=range(4, 25), samples=150).rows]


@pytest.fixture
def cluster():
    """A scheduler and two workers as Dask starts them: its address, and the workers' processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, env = f"tcp://127.0.0.1:{port}", {**os.environ, "PYTHONPATH": str(ROOT)}
    quiet = {"env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"], **quiet
    )
    there = [subprocess.Popen([*dask, "worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"], **quiet)
             for _ in range(2)]  # fmt: skip
    yield address, there
    for process in (*there, scheduler):
        process.kill()
        process.wait()


@linux
@pytest.mark.slow
def test_a_cluster_that_is_there(folder, cluster):
    """The same table, although one of its two workers is killed half-way; with both gone, one line."""
    address, there = cluster
    rows = [r.to_json() for r in intsim.sweep("m.onnx", accumulator=range(4, 25), samples=150).rows]
    process = begin("--scheduler", address, "--json")
    assert in_time(lambda: process.poll() is not None or count() >= 4, 120)
    there[0].kill()
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["rows"] == rows
    assert (json.loads(out)["resumed"], count()) == (0, len(rows))
    alone = intsim.evaluate("m.onnx", "wrap-12", samples=30, metrics=["mae"])
    assert intsim.evaluate("m.onnx", "wrap-12", samples=30, metrics=["mae"], scheduler=address) == alone
    there[1].kill()
    process = begin("--scheduler", address, "--restart")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == f"intsim: {address}: the scheduler has no workers; start some: dask worker {address}\n"
