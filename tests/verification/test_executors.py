"""The executors' processes: what they hand back, and what happens when one is missing, breaks, hangs or lies."""

import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from frontend.build import Net

import intsim
from intsim.verification import executors
from intsim.verification.executors import FAMILIES, Executor


def model():
    net = Net()
    x = net.quant(net.input(1, 2, 3, 3), 0.25, 0, 4)
    w = net.quant(np.float32([[1, -1], [0.5, 2]]).reshape(2, 2, 1, 1), 0.5, 0, 4)
    return net.model(net.quant(net.node("Conv", x, w, kernel_shape=[1, 1]), 0.5, 0, 5))


SAMPLE = {"x": np.float32(np.arange(18).reshape(1, 2, 3, 3) / 8 - 1)}


REAL = """else:
    sys.path = [p for p in sys.path if p not in __file__]
    del sys.modules[__name__]
    import %s
"""


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> None:
    """Packages that the child processes import in place of the real ones, each in the process of its own name only."""
    for name, text in modules.items():
        (folder / name).mkdir()
        body = "".join(f"    {line}\n" for line in text.splitlines())
        (folder / name / "__init__.py").write_text(f"import sys\nif sys.argv[1] == {name!r}:\n{body}{REAL % name}")
    monkeypatch.syspath_prepend(folder)


LIAR = """
import numpy as np
class SessionOptions: pass
class InferenceSession:
    def __init__(self, *a, **k): pass
    def run(self, names, inputs): return [VALUE for n in names]
"""
BROKEN = {
    "missing": ("raise ImportError('no such package')", "no such package"),
    "fails": ("raise RuntimeError('first line\\nit broke')", "it broke"),
    "dies": ("import os; os._exit(3)", "exit code 3"),
    "killed": ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
    "hangs": ("import time; time.sleep(60)", "took longer than 3 s"),
    "wrong shape": (LIAR.replace("VALUE", "np.zeros((1, 2, 3), np.float32)"), "shape (1, 2, 3)"),
    "NaN": (LIAR.replace("VALUE", "np.full((1, 2, 3, 3), np.nan, np.float32)"), "NaN"),
    "no arrays": (LIAR.replace("VALUE", "np.array([{}], object)"), "allow_pickle"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_executor_is_reported(tmp_path, monkeypatch, case):
    """Its reason is told, the other one's opinion stays, exact semantics decide, and no process is left."""
    text, reason = BROKEN[case]
    fake(tmp_path, monkeypatch, onnxruntime=text)
    began = time.monotonic()
    verdict = intsim.verify(model(), "exact", SAMPLE, reference_timeout=3 if case == "hangs" else 30)
    assert time.monotonic() - began < 15
    assert verdict.holds
    assert sum(x.elements for x in verdict.layers) == 36
    lame = verdict.references["onnxruntime"]
    assert reason in lame.reason
    assert "\n" not in lame.reason
    assert (lame.judged, lame.mismatches, sum(lame.blame.values())) == (0, 0, 0)
    if case != "hangs":
        assert verdict.references["qonnx"].reason is None
        assert verdict.references["qonnx"].judged == 18 + 18 + 4


def test_both_missing(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, onnxruntime="raise ImportError('gone')", qonnx="raise ImportError('gone too')")
    verdict = intsim.verify(model(), "exact", SAMPLE)
    assert verdict.holds
    assert [verdict.references[k].reason for k in FAMILIES] == [
        "ImportError: gone too",
        "ImportError: gone",
    ]


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_reason_of_a_missing_one_names_the_extra(tmp_path, monkeypatch, kind):
    fake(tmp_path, monkeypatch, **{kind: f"raise ModuleNotFoundError({f'No module named {kind!r}'!r})"})
    verdict = intsim.verify(model(), "exact", SAMPLE)
    assert verdict.holds
    assert verdict.references[kind].reason == executors.MISSING
    assert "intsim[references]" in executors.MISSING


def test_a_given_up_executor_is_not_asked_again(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, onnxruntime="raise ImportError('gone')", qonnx="raise ImportError('gone')")
    started = []
    real = Executor.__init__
    monkeypatch.setattr(Executor, "__init__", lambda self, *a: (started.append(a[0]), real(self, *a))[1])
    intsim.verify(model(), "exact", samples=3)
    assert sorted(started) == sorted(FAMILIES)


def test_what_a_process_hands_back():
    """Tensors by name, names of any kind, and nothing left on disk."""
    net = model()
    odd = "a name\nof two lines"
    for node in net.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == net.graph.output[0].name:
                    names[i] = odd
    net.graph.output[0].name = odd
    process = Executor("onnxruntime", net, SAMPLE, [net.graph.node[0].output[0], odd])
    folder = Path(process.folder.name)
    found = process.result(60)
    assert found.reason is None
    assert set(found.tensors) == {net.graph.node[0].output[0], odd}
    assert found.seconds > 0
    np.testing.assert_array_equal(found.tensors[net.graph.node[0].output[0]], np.rint(SAMPLE["x"] * 4) / 4)
    assert not folder.exists()
    process.stop()


def test_stop_ends_the_process(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, qonnx="import time; time.sleep(60)")
    process = Executor("qonnx", model(), SAMPLE, [])
    folder = Path(process.folder.name)
    process.stop()
    assert process.process.returncode == -9
    assert not folder.exists()


def request(**changes):
    """What a child is asked for, as a file."""
    net = model()
    origins = {name: sys.modules[name].__file__ for name in executors.SAME}
    about = {"wanted": [net.graph.output[0].name, "nowhere"], "inputs": ["x"], "origins": origins} | changes
    file = io.BytesIO()
    parts = {"about": json.dumps(about).encode(), "model": net.SerializeToString()}
    np.savez(file, i0=SAMPLE["x"], **{n: np.frombuffer(b, np.uint8) for n, b in parts.items()})
    file.seek(0)
    return file


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_childs_part(kind):
    """In this process."""
    result = io.BytesIO()
    executors.answer(kind, request(), result)
    result.seek(0)
    with np.load(result) as npz:
        assert sorted(npz.files) == ["names", "o0"]
        assert npz["o0"].shape == (1, 2, 3, 3)


def test_another_package_than_the_parents(tmp_path):
    with pytest.raises(RuntimeError, match=r"found numpy in .*, not in /elsewhere/numpy/__init__.py"):
        executors.answer("qonnx", request(origins={"numpy": "/elsewhere/numpy/__init__.py"}), io.BytesIO())


def test_no_process_can_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    verdict = intsim.verify(model(), "exact", SAMPLE)
    assert verdict.holds
    assert all(r.reason.startswith("could not be started: ") for r in verdict.references.values())
