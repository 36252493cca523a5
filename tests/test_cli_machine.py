"""The command line and the machine it runs on: threads, compiled kernels, profiles, starting up."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net

from intsim.engine import warmup as warm
from intsim.engine.threads import set_threads, threads
from intsim.jit import compile

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT / "models" / "zoo" / "h3dispnet_w8a8.qonnx.onnx"
X = np.full((1, 2, 4, 4), 255, np.float32)


def network() -> onnx.ModelProto:
    """Two channels of u8 x s8, scale 1, then two more; on AVX2 the first layer saturates."""
    net = Net()
    x = net.quant(net.input(1, 2, 4, 4), 1, 0, 8, signed=0)
    for layer in ("first", "second"):
        w = net.quant(np.float32([[1, 2], [127, 126]]).reshape(2, 2, 1, 1), 1, 0, 8, narrow=1)
        net.node("Conv", x, w, kernel_shape=[1, 1])
        net.nodes[-1].name = layer
        x = net.quant(net.node("Relu", net.nodes[-1].output[0]), 256, 0, 8, signed=0)
    return net.model(x)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with m.onnx and x.npy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTSIM_THREADS", raising=False)
    onnx.save(network(), "m.onnx")
    np.save("x.npy", X)
    yield tmp_path
    set_threads(None)


VERBS = [
    ["run"],
    ["verify", "--no-references"],
    ["telemetry"],
    ["sweep", "-o", "s", "-a", "12", "--restart"],
    ["certify"],
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda v: v[0])
def test_threads(intsim_, verb, monkeypatch):
    found = [
        intsim_(*verb, "m.onnx", "-i", "x.npy", "--json", *more) for more in ([], ["--threads", 1], ["--threads=3"])
    ]
    assert {code for code, _, _ in found} <= {0, 1}
    assert {err for _, _, err in found} <= {"", found[0][2]}
    contents = [json.loads(out) for _, out, _ in found]
    for content in contents:
        content.pop("seconds", None)
    assert contents[0] == contents[1] == contents[2]
    assert threads() == 3
    for bad, why in (
        ("0", "threads '0'"),
        ("-2", "threads '-2'"),
        ("2000", "threads '2000'"),
        ("x", "'--threads'"),
    ):
        code, out, err = intsim_(*verb, "m.onnx", "--threads", bad)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert why in err
    monkeypatch.setenv("INTSIM_THREADS", "many")
    code, out, err = intsim_(*verb, "m.onnx")
    assert (code, out) == (2, "")
    assert err == "intsim: INTSIM_THREADS 'many': give a number of threads from 1 to 1024\n"


def test_threads_hold_for_matrix_products_too():
    """Those of numpy, which reads its environment once."""
    code = "import os, sys; from intsim.cli import options as o; assert 'numpy' not in sys.modules; o.use_threads(2);"
    code += "print(*(os.environ.get(n) for n in o.BLAS)); import numpy; o.use_threads(3);"
    code += "print(*(os.environ.get(n) for n in o.BLAS))"
    env = {k: v for k, v in os.environ.items() if "NUM_THREADS" not in k and "MAXIMUM_THREADS" not in k}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
                          env={**env, "OMP_NUM_THREADS": "7"})  # fmt: skip
    assert done.stdout == "2 2 2 7\n" * 2


def test_profile(intsim_):
    code, out, err = intsim_("run", "m.onnx", "-i", "x.npy", "--profile", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)["profile"]
    assert {
        "layers",
        "runs",
        "macs",
        "seconds",
        "seconds_elsewhere",
        "seconds_once",
        "gmacs_per_second",
        "live_bytes",
        "peak_rss_bytes",
    } == set(found)
    assert found["runs"] == 1
    assert found["macs"] == sum(row["macs"] for row in found["layers"]) == 2 * 64
    assert [row["name"].split(",")[0] for row in found["layers"] if row["macs"]] == ["first", "second"]
    for row in found["layers"]:
        assert set(row) == {"name", "op", "kernel", "why", "runs", "macs", "seconds", "gmacs_per_second", "bytes"}
        assert (row["gmacs_per_second"] is None) == (row["macs"] == 0)
        assert 0 <= row["seconds"] <= found["seconds"]
        assert row["bytes"] > 0
    assert found["peak_rss_bytes"] > 1 << 20
    code, out, err = intsim_("run", "m.onnx", "-n", "3", "-t", "x86-avx2", "--profile", "--json")
    again = json.loads(out)["profile"]
    assert (again["runs"], again["macs"]) == (3, 128)
    assert all(row["runs"] == 3 for row in again["layers"])
    code, out, err = intsim_("run", "m.onnx", "-i", "x.npy", "--profile")
    assert (code, err) == (0, "")
    for word in ("first", "kernel", "GMAC/s", "ms a run", "128 MACs", "process at most"):
        assert word in out


def test_warmup(intsim_, monkeypatch):
    monkeypatch.setattr(warm, "TARGETS", ("exact", "saturate-12"))
    monkeypatch.setattr(warm, "CASES", {n: warm.CASES[n] for n in ("conv", "conv of 16 bits")})
    code, out, err = intsim_("warmup", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(found) == {"format", "compiled", "loaded", "seconds", "folder"}
    assert found["compiled"] + found["loaded"] > 0
    code, out, err = intsim_("warmup")
    assert (code, err) == (0, "")
    assert "already there" in out
    assert "kept in" in out
    monkeypatch.setattr(compile, "cache_folder", lambda: None)
    code, out, err = intsim_("warmup")
    assert (code, err) == (0, "intsim: no folder for compiled kernels can be written; set NUMBA_CACHE_DIR to one\n")
    assert "kept nowhere" in out


def test_what_is_compiled_is_said_on_a_terminal(intsim_, monkeypatch, capfd):
    """Only there, and the rest of the output is as ever."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    from intsim.cli.options import progress

    functions: dict = {}
    exec("def convolve(x): return x", functions)  # of no file, so that no machine code is kept
    kernel = compile.compiled(functions["convolve"])
    kernel(1j)
    with progress(2) as step:
        step("one")
        kernel(1)
    assert "compiling convolve (once)" in capfd.readouterr().err
    kernel(1.0)
    assert "compiling" not in capfd.readouterr().err


@pytest.mark.slow  # tests/engine/test_register_matmul.py has a product without a cache every day
def test_no_cache_folder_at_all(tmp_path):
    """A package in a folder that can't be written, no home, a bad NUMBA_CACHE_DIR: everything works, compiled anew."""
    shutil.copytree(ROOT / "intsim", tmp_path / "intsim", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "hardware" / "targets", tmp_path / "intsim" / "_targets")
    for folder in {path.parent for path in (tmp_path / "intsim").rglob("*.py")}:
        (folder / "__pycache__").touch()
    onnx.save(network(), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", X)
    nowhere = "/proc/nothing"
    done = subprocess.run(
        [sys.executable, "-m", "intsim.cli", "run", "m.onnx", "-i", "x.npy", "-t", "x86-avx2", "--json"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": nowhere,
             "HOME": nowhere, "XDG_CACHE_HOME": nowhere, "INTSIM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["overflows"] == 16
    assert not list(tmp_path.rglob("*.nbc"))


def modules_of(*args: str) -> set[str]:
    """What a verb has imported when it ends."""
    code = "import sys\nfrom intsim.cli import main\nsys.argv = ['intsim', *sys.argv[1:]]\n"
    code += "try:\n    main()\nfinally:\n    sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize(
    ("args", "absent"),
    [
        (["--version"], {"numpy", "onnx", "numba"}),
        (["run", "--help"], {"numpy", "onnx", "numba"}),
        (["targets"], {"onnx", "numba", "onnxruntime"}),
        (["inspect", str(ZOO)], {"numba", "onnxruntime", "qonnx", "matplotlib"}),
        (["bounds", str(ZOO)], {"numba", "onnxruntime", "qonnx", "matplotlib"}),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_verbs_import_what_they_need(args, absent):
    assert not modules_of(*args) & absent


def test_the_first_line_of_verify_comes_before_the_compiler():
    code = "import sys\nsys.modules['numba'] = None\nfrom intsim.cli import main\n"
    code += f"sys.argv = ['intsim', 'verify', {str(ZOO)!r}, '--no-references']\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "numba" in done.stderr
    said = " ".join(done.stdout.split())
    assert said.endswith("h3dispnet_w8a8.qonnx.onnx: 14 layers, 207 774 720 MACs, 402 696 weights")


@pytest.mark.parametrize(
    ("sink", "options"),
    [
        *[("| head -c 1", ""), (">&-", " --json"), (">&- 2>&-", "")],
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("| head -c 1", " --json"), (">&-", ""), (">&- 2>&-", " --json")]
        ),
    ],
)
def test_a_reader_that_leaves_changes_no_exit_code(sink, options):
    """1 is for what diverges; nobody reads on, or nobody ever did."""
    command = f"set -o pipefail; {sys.executable} -m intsim.cli targets{options} {sink}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_full_disk_is_no_internal_error():
    for options in ("", " --json"):
        command = f"{sys.executable} -m intsim.cli targets{options} > /dev/full"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 2
        assert done.stderr == "intsim: standard output: can't be written: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_an_error_that_nobody_can_read_keeps_its_exit_code():
    command = f"{sys.executable} -m intsim.cli inspect none.onnx 2> /dev/full"
    assert subprocess.run(["bash", "-c", command], cwd=ROOT, check=False).returncode == 2


def test_the_package_imports_lazily():
    code = """
import sys
import intsim
assert not {"numpy", "onnx", "numba", "pydantic"} & set(sys.modules)
assert set(intsim.__all__) <= set(dir(intsim))
import intsim.verification.compare
import intsim.verification
assert callable(intsim.verify) and intsim.verify.__name__ == "verify"
assert callable(intsim.run) and intsim.run is intsim.run
from intsim import Target, verify
assert verify is intsim.verify
for name in intsim.__all__:
    assert getattr(intsim, name).__name__ == name
try:
    intsim.nothing
except AttributeError as error:
    assert str(error) == "module 'intsim' has no attribute 'nothing'"
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
