"""Metrics, and data sets: against plain numpy, files and iterables alike, and what is refused."""

import json
import sys

import numpy as np
import onnx
import pytest
from frontend.build import Net

import intsim
from intsim import cli
from intsim.errors import IntsimError
from intsim.explore.metrics import BUILT_IN, read_metric


def network():
    rng, net = np.random.default_rng(3), Net(opset=17)
    x = net.qdq(net.input(1, 6), 0.05, np.uint8(9))
    w = net.node("DequantizeLinear", net.const(rng.integers(-90, 90, (6, 4)).astype(np.int8)),
                 net.const(np.float32(0.01)), net.const(np.int8(0)))  # fmt: skip
    return net.model(net.qdq(net.node("MatMul", x, w), 0.06, np.uint8(100)))


MODEL = intsim.load(network())
NAME, OUT = next(iter(MODEL.lowered.source.inputs)), next(iter(MODEL.lowered.source.outputs))
RNG = np.random.default_rng(8)
DATA = [RNG.uniform(-0.4, 12, (1, 6)).astype(np.float32) for _ in range(12)]
LABELS = RNG.integers(0, 4, 12)
MAPS = RNG.normal(0, 3, (12, 1, 4))


def outputs(target):
    return np.stack([next(iter(intsim.run(MODEL, target, x).outputs.values())) for x in DATA]).astype(np.float64)


def by_hand(name, got, exact):
    """Of each sample, in numpy."""
    off = np.abs(got - MAPS)
    noise = ((got - exact) ** 2).sum((1, 2))
    with np.errstate(divide="ignore"):
        return {
            "mae": np.abs(got - exact).mean((1, 2)),
            "sqnr": 10 * np.log10((exact**2).sum((1, 2)) / noise),
            "psnr": 10 * np.log10((exact.max((1, 2)) - exact.min((1, 2))) ** 2 / (noise / 4)),
            "agreement": got.reshape(12, -1).argmax(1) == exact.reshape(12, -1).argmax(1),
            "top1": got.reshape(12, -1).argmax(1) == LABELS,
            "epe": off.mean((1, 2)),
            "d1": ((off > 3) & (off > 0.05 * np.abs(MAPS))).mean((1, 2)),
        }[name]


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("target", ["wrap-12", "exact"])
def test_metrics_are_those_of_numpy(name, target):
    labels = LABELS if name == "top1" else MAPS if BUILT_IN[name].labels else None
    found = intsim.evaluate(MODEL, target, DATA, metrics=[name], labels=labels).metrics[0]
    values = by_hand(name, outputs(target), outputs("exact")).astype(np.float64)
    finite = values[np.isfinite(values)]
    assert (found.samples, found.infinite) == (len(finite), 12 - len(finite))
    if len(finite):
        reach = 1.959964 * finite.std(ddof=1) / np.sqrt(len(finite))
        assert (found.mean, found.median) == pytest.approx((finite.mean(), np.median(finite)))
        assert (found.low, found.high) == pytest.approx((finite.mean() - reach, finite.mean() + reach))
    else:
        assert found.mean is None


def test_files_are_the_samples_in_the_order_of_their_names(tmp_path):
    for i, x in enumerate(DATA[:6]):
        np.save(tmp_path / f"{i}.npy", x)
    np.savez(tmp_path / "6.npz", **{NAME: np.stack(DATA[6:]), "something": np.zeros(3)})
    (tmp_path / "notes.txt").write_text("no data")
    given = {"metrics": ["mae", "top1"], "labels": LABELS}
    found = intsim.evaluate(MODEL, "wrap-12", DATA, **given)
    assert found.overflows[next(iter(found.overflows))] > 0
    np.save(tmp_path.parent / "labels.npy", LABELS)
    for data in (tmp_path, f"{tmp_path}/*.np[yz]", iter(DATA)):
        for labels in (LABELS, tmp_path.parent / "labels.npy"):
            data = iter(DATA) if not isinstance(data, (str, type(tmp_path))) else data
            assert intsim.evaluate(MODEL, "wrap-12", data, metrics=["mae", "top1"], labels=labels) == found


OWN = """
import numpy as np

def worst(outputs, references, labels):
    (name,) = outputs
    return np.abs(outputs[name] - references[name]).max()

def broken(outputs, references, labels):
    raise ValueError("two\\nlines")

def two(outputs, references, labels):
    return [1, 2]
"""


def test_a_function_of_ones_own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    found = intsim.evaluate(MODEL, "wrap-12", DATA, metrics=[f"{tmp_path}/own.py:worst"]).metrics[0]
    assert found.mean == pytest.approx(np.abs(outputs("wrap-12") - outputs("exact")).max((1, 2)).mean())
    assert read_metric(f"{tmp_path}/own.py:worst").version != ""
    for name, words in (("broken", "ValueError: two lines"), ("two", "metric .*two: ValueError")):
        with pytest.raises(IntsimError, match=words):
            intsim.evaluate(MODEL, "wrap-12", DATA, metrics=[f"{tmp_path}/own.py:{name}"])


def test_a_sweep_has_the_metrics_of_each_configuration(tmp_path):
    names = ["mae", "top1", "sqnr"]
    data = [{NAME: x} for x in DATA]
    swept = intsim.sweep(MODEL, inputs=data, accumulator=[10, 13], overflow=["wrap"], metrics=names, labels=LABELS,
                         folder=tmp_path)  # fmt: skip
    for row in swept.rows:
        alone = intsim.evaluate(MODEL, f"wrap-{row.configuration.accumulator}", DATA, metrics=names, labels=LABELS)
        assert row.metrics == alone.metrics
    again = intsim.sweep(MODEL, inputs=data, accumulator=[10, 13], overflow=["wrap"], metrics=names, labels=LABELS,
                         folder=tmp_path)  # fmt: skip
    assert (again.resumed, again.rows) == (2, swept.rows)
    for other in ({"metrics": ["mae"], "labels": LABELS}, {"metrics": names, "labels": LABELS[::-1]}):
        with pytest.raises(IntsimError, match=r"holds a sweep with another (metrics|labels)"):
            intsim.sweep(MODEL, inputs=data, accumulator=[10], overflow=["wrap"], folder=tmp_path, **other)
    with pytest.raises(IntsimError, match="5 labels for 12 samples"):
        intsim.sweep(MODEL, inputs=data, accumulator=[10], metrics=["top1"], labels=LABELS[:5])


REFUSED = [
    ({"metrics": ["best"]}, "metric 'best': allowed: mae, sqnr"),
    ({"metrics": ["no_such_module:f"]}, "no_such_module can't be read: ModuleNotFoundError"),
    ({"metrics": ["missing.py:f"]}, "missing.py can't be read: No such file"),
    ({"metrics": ["math:nothing"]}, "math has no function nothing"),
    ({"metrics": ["top1"]}, "metric top1 needs labels"),
    ({"metrics": ["mae", "mae"]}, "given twice"),
    ({"labels": LABELS[:5]}, "5 labels, and more samples"),
    ({"labels": np.zeros(20)}, "20 labels for 12 samples"),
    ({"metrics": ["epe"], "labels": MAPS[:, :, :2]}, "labels of 2 elements for an output of 4"),
    ({"labels": "none.npy"}, "none.npy: not a readable .npy file: No such file"),
    ({"data": "nowhere/*.npy"}, "no .npy or .npz file"),
    ({"data": []}, "no samples in"),
    ({"samples": 3}, "both data and a number of samples"),
]


@pytest.mark.parametrize(("given", "words"), REFUSED)
def test_what_is_refused(given, words):
    with pytest.raises(IntsimError, match=words) as raised:
        intsim.evaluate(MODEL, "wrap-12", **{"data": DATA, **given})
    assert "\n" not in str(raised.value)


def test_the_verb(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "m.onnx")
    np.save("labels.npy", LABELS)
    (tmp_path / "data").mkdir()
    for i, x in enumerate(DATA):
        np.save(f"data/{i:02d}.npy", x)

    def called(*words):
        monkeypatch.setattr(sys, "argv", ["intsim", "evaluate", "m.onnx", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    code, out, err = called("-t", "wrap-12", "--data", "data", "--metric", "top1", "--labels", "labels.npy", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["metrics"][0]["mean"] == by_hand("top1", outputs("wrap-12"), outputs("exact")).mean()
    code, out, err = called("-t", "wrap-12", "--data", "data")
    assert (code, err) == (0, "")
    assert "12 samples given" in out
    np.save("x.npy", np.stack(DATA))
    sys.argv = ["intsim", "sweep", "m.onnx", "-i", "x.npy", "-a", "11", "--metric", "agreement", "-o", "swept"]
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code in (0, None)
    out = capsys.readouterr().out
    assert "agreement" in out
    assert ",metric,agreement," in (tmp_path / "swept" / "sweep.csv").read_text()
    (tmp_path / "data" / "05.npy").write_bytes(b"no array")
    code, out, err = called("-t", "wrap-12", "--data", "data")
    assert (code, out) == (2, "")
    assert "data/05.npy: not a readable .npy or .npz file" in err
