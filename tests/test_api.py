"""The functions of `intsim`: one order of arguments, the same forms of inputs, one line for what is wrong."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net

import intsim

X = np.float32([[3, 250, 0, 17]])
OTHER = np.float32([[9, 1, 255, 3]])
NAMED = ("run", "verify", "certify", "telemetry", "sweep")


def network(inputs: int = 1) -> onnx.ModelProto:
    """One layer of one or two inputs, whose sums leave 8 bits."""
    net = Net()
    x = [net.quant(net.input(1, 4, name=name), 1, 0, 8, signed=0) for name in "xy"[:inputs]]
    both = x[0] if inputs == 1 else net.quant(net.node("Add", *x), 2, 0, 8, signed=0)
    w = net.quant(np.float32([[1, 2], [3, -1], [2, 2], [1, 0]]), 1, 0, 4)
    return net.model(net.quant(net.node("MatMul", both, w), 4, 0, 8, signed=0))


MODEL = network()
FUNCTIONS = {
    "run": lambda *args, **more: intsim.run(*args, **more).outputs,
    "verify": lambda *args, **more: intsim.verify(*args, **more, references=False).to_json()["layers"],
    "certify": lambda *args, **more: intsim.certify(*args, **more).to_json()["search"],
    "telemetry": lambda *args, **more: intsim.telemetry(*args, **more).to_json()["layers"],
    "sweep": lambda *args, **more: [r.to_json() for r in intsim.sweep(*args, **more, accumulator=[9]).rows],
}


def same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def test_one_order_of_arguments():
    for name in (*NAMED, "bounds"):
        parameters = list(inspect.signature(getattr(intsim, name)).parameters.values())
        assert [p.name for p in parameters[:2]] == ["model", "target"]
        assert parameters[1].default == "exact"
        if name != "bounds":
            assert [p.name for p in parameters[2:5]] == ["inputs", "samples", "seed"], name
            assert [p.default for p in parameters[2:5]] == [None, None, 0]
            assert all(p.kind is p.KEYWORD_ONLY for p in parameters[5:])
    for name, first in (("advise", ["model"]), ("witness_runtime", ["model", "target"])):
        parameters = list(inspect.signature(getattr(intsim, name)).parameters.values())
        positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        assert [p.name for p in positional] == [*first, "inputs", "samples", "seed"]
        assert [p.default for p in positional[len(first) :]] == [None, None, 0]


@pytest.mark.parametrize("name", NAMED)
def test_forms_of_one_sample(name):
    call = FUNCTIONS[name]
    wanted = call(MODEL, "wrap-9", {"x": X})
    for form in (X, X.tolist(), [{"x": X}], ({"x": X},), {"x": X[None]}, X[None]):
        assert same(call(intsim.load(MODEL), intsim.Target.load("wrap-9"), form), wanted)


@pytest.mark.parametrize("name", NAMED)
def test_forms_of_many_samples(name):
    call = FUNCTIONS[name]
    wanted = call(MODEL, "wrap-9", [{"x": X}, {"x": OTHER}])
    batch = np.concatenate([X, OTHER])
    for form in (batch, batch.tolist(), {"x": batch}, {"x": np.stack([X, OTHER])}, np.stack([X, OTHER])):
        assert same(call(MODEL, "wrap-9", form), wanted)


def test_a_run_of_many_samples_is_each_of_them():
    whole = intsim.run(MODEL, "wrap-9", np.concatenate([X, OTHER]), keep=True)
    parts = [intsim.run(MODEL, "wrap-9", x, keep=True) for x in (X, OTHER)]
    for name in ("outputs", "codes", "tensors", "inputs", "given"):
        for key, array in getattr(whole, name).items():
            np.testing.assert_array_equal(array, np.stack([getattr(p, name)[key] for p in parts]))
    for key, events in whole.overflows.items():
        assert events.any()
        np.testing.assert_array_equal(events, sum(p.overflows[key] for p in parts))


def test_drawn_samples():
    drawn = intsim.run(MODEL, samples=3, seed=5).outputs
    for i in range(3):
        one = intsim.run(MODEL, seed=5 + i).outputs
        assert same({k: v[i] for k, v in drawn.items()}, one)
    assert intsim.certify(MODEL, "saturate-9").search == {"samples": 0, "seed": None, "sha256": ""}
    assert intsim.telemetry(MODEL, seed=4).samples == 1


def test_a_model_and_a_target_in_every_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(MODEL, "m.onnx")
    own = intsim.Target.load("wrap-9")
    text = 'title = "t"\nsource = ["s"]\n[accumulate]\nstages = [{ sum = "rest", bits = 9, overflow = "wrap" }]\n'
    Path("own.toml").write_text(text + '[requantize]\nscheme = "exact"\n')
    for name in NAMED:
        wanted = FUNCTIONS[name](MODEL, own, X)
        for model in ("m.onnx", Path("m.onnx"), intsim.load("m.onnx")):
            for target in ("wrap-9", "own.toml", Path("own.toml"), own):
                assert same(FUNCTIONS[name](model, target, X), wanted), name
    assert intsim.bounds("m.onnx", Path("own.toml")).layers == intsim.bounds(MODEL, own).layers


class Tensor:
    """What torch's tensors are to numpy."""

    def __init__(self, array, reason=""):
        self.array, self.reason = array, reason

    def __array__(self, dtype=None, copy=None):
        if self.reason:
            raise RuntimeError(self.reason)
        return self.array


def test_another_library_s_arrays():
    for form in (Tensor(X), [Tensor(X[0])], {"x": Tensor(X)}, memoryview(X)):
        assert same(FUNCTIONS["run"](MODEL, "wrap-9", form), FUNCTIONS["run"](MODEL, "wrap-9", X))


def test_numbers_of_numpy_are_plain_in_json(tmp_path):
    assert intsim.run(MODEL, samples=np.int8(2), seed=np.int64(3)).outputs
    found = [
        intsim.verify(MODEL, seed=np.int32(3), references=False).to_json(),
        intsim.telemetry(MODEL, seed=np.int32(3)).to_json(),
        intsim.sweep(MODEL, seed=np.int32(3), accumulator=[9]).to_json(),
        intsim.certify(MODEL, samples=np.int32(1), seed=np.int32(3)).to_json(),
    ]
    assert json.loads(json.dumps(found)) == found


WRONG: dict[str, tuple[dict, str]] = {
    "unknown name": ({"inputs": {"z": X}}, "no input 'z' and needs input 'x'"),
    "a name that is no text": ({"inputs": {3: X}}, "no input 3"),
    "rank": ({"inputs": X[0]}, r"shape \(4,\) given, the file needs \(1, 4\)"),
    "more ranks": ({"inputs": X[None, None]}, r"shape \(1, 1, 1, 4\) given"),
    "shape": ({"inputs": X[:, :3]}, r"shape \(1, 3\) given"),
    "one number": ({"inputs": 3.5}, r"shape \(\) given"),
    "strings": ({"inputs": X.astype(str)}, "not numeric"),
    "complex": ({"inputs": X.astype(complex)}, "not numeric"),
    "objects": ({"inputs": {"x": X.astype(object)}}, "not numeric"),
    "times": ({"inputs": X.astype("datetime64[s]")}, "not numeric"),
    "ragged": ({"inputs": [[1, 2], [3]]}, "rows differ in length"),
    "NaN": ({"inputs": X * np.nan}, "holds NaN or infinity"),
    "infinity": ({"inputs": [{"x": X}, {"x": X - np.float32(np.inf)}]}, "holds NaN or infinity"),
    "an empty batch": ({"inputs": X[:0]}, "holds 0 samples"),
    "an empty list": ({"inputs": []}, "an empty list of samples"),
    "nothing by name": ({"inputs": {}}, "needs input 'x'"),
    "no array of numpy": ({"inputs": {"x": Tensor(X, "needs\n detach()")}}, r"not an array: needs detach\(\)"),
    "text": ({"inputs": "x.npy"}, "inputs of type str; give an array"),
    "a set": ({"inputs": {1, 2}}, "inputs of type set"),
    "inputs and samples": ({"inputs": X, "samples": 2}, "both inputs and samples=2"),
    "a negative number of samples": ({"samples": -1}, "samples -1: give a whole number"),
    "half a sample": ({"samples": 1.5}, r"samples 1\.5: give a whole number"),
    "samples as text": ({"samples": "2"}, "samples '2'"),
    "seed": ({"seed": -1}, "seed -1: give a whole number, 0 or more"),
    "a seed that no certificate holds": ({"seed": 1 << 63}, "seed 9223372036854775808: give a number of 63 bits"),
    "target of a wrong type": ({"target": 3, "inputs": X}, "target of type int"),
    "no target": ({"target": None, "inputs": X}, "target of type NoneType"),
    "unknown target": ({"target": "wrap", "inputs": X}, "unknown target 'wrap'"),
    "model of a wrong type": ({"model": 3, "inputs": X}, "model of type int"),
    "no model": ({"model": None}, "model of type NoneType"),
    "no file": ({"model": "nowhere.onnx"}, "nowhere.onnx"),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_one_line(name, wrong):
    given, words = WRONG[wrong]
    with np.errstate(all="ignore"), pytest.raises(intsim.IntsimError, match=words) as error:
        FUNCTIONS[name](**{"model": MODEL, **given})
    assert "\n" not in str(error.value)


def test_samples_0():
    for name in NAMED:
        if name == "certify":
            assert FUNCTIONS[name](MODEL, samples=0)["samples"] == 0
        else:
            with pytest.raises(intsim.IntsimError, match="samples 0: give a whole number, 1 or more"):
                FUNCTIONS[name](MODEL, samples=0)


def test_several_inputs_need_names():
    model = network(2)
    with pytest.raises(intsim.IntsimError, match="has inputs x, y; give a dict of arrays by name"):
        intsim.run(model, inputs=X)
    with pytest.raises(intsim.IntsimError, match="input x holds 2 samples, input y holds 3 samples"):
        intsim.run(model, inputs={"x": np.repeat(X, 2, 0), "y": np.repeat(X, 3, 0)})
    whole = intsim.run(model, inputs={"x": np.repeat(X, 2, 0), "y": OTHER})
    assert all(len(array) == 2 for array in whole.outputs.values())


FORMS = {
    "from": "from intsim import verify",
    "attribute": "import intsim; verify = intsim.verify",
    "behind the room": "import intsim.verification; verify = intsim.verify",
    "behind the file": "import intsim.verification.verify; verify = intsim.verify",
}


@pytest.mark.parametrize("form", [*FORMS][::3] + [pytest.param(f, marks=pytest.mark.slow) for f in [*FORMS][1:3]])
def test_every_import_of_verify(form):
    code = f"{FORMS[form]}; assert callable(verify), verify; import intsim; assert intsim.verify is verify"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_everything_named_is_there():
    for name in intsim.__all__:
        assert getattr(intsim, name) is not None
    assert set(intsim.__all__) <= set(dir(intsim))


def test_the_documentation_imports_from_public_modules_only():
    """`intsim` and packages below it that say what they offer; files that extend a room import from it."""
    root = Path(__file__).parent.parent
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md")), *(root / "hardware" / "examples").glob("*.py")]
    seen = 0
    for page in pages:
        for line in page.read_text().splitlines():
            words = line.split()
            own = page.name == "extending.md" or "intsim.arithmetic.requantizers" in line
            if words[:1] == ["from"] and len(words) > 3 and words[1].split(".")[0] == "intsim" and not own:
                module = importlib.import_module(words[1])
                names = [w.strip(",") for w in words[3:]]
                assert set(names) <= set(module.__all__), f"{page.name}: {line}"
                seen += 1
    assert seen >= 5
