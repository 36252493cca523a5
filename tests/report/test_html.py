"""Results as notebooks show them."""

import re
import tempfile
from html import unescape
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net

import intsim
from intsim.diagnosis.identify import Identification
from intsim.golden.compare import Comparison
from intsim.golden.vectors import Vectors
from intsim.report.html import SHOW
from intsim.verification.witness import Witnessed, WitnessedLayer


def network() -> onnx.ModelProto:
    net = Net()
    x = net.quant(net.input(1, 2, 4, 4), 1, 0, 8, signed=0)
    w = net.quant(np.float32([[1, 2], [127, 126]]).reshape(2, 2, 1, 1), 1, 0, 8, narrow=1)
    net.node("Conv", x, w, kernel_shape=[1, 1])
    net.nodes[-1].name = "<script>&[red]"
    return net.model(net.quant(net.node("Relu", net.nodes[-1].output[0]), 256, 0, 8, signed=0))


MODEL = intsim.load(network())
X = {"x": np.full((1, 2, 4, 4), 255, np.float32)}
HOME = tempfile.TemporaryDirectory(prefix="html-", ignore_cleanup_errors=True)


def written() -> Vectors:
    return intsim.vectors(MODEL, "wrap-16", X, out=Path(HOME.name) / "v", formats=["npy"])


def compared() -> Comparison:
    made = written()
    codes = np.load(made.path / made.manifest["layers"][0]["tensors"][-1]["files"]["npy"])
    np.save(Path(HOME.name) / "dump.npy", codes ^ 1)
    return intsim.compare(made.path, Path(HOME.name) / "dump.npy")


def identified() -> Identification:
    made = written()
    codes = np.load(made.path / made.manifest["layers"][0]["tensors"][-1]["files"]["npy"])
    np.save(Path(HOME.name) / "other.npy", codes ^ 5)
    return intsim.identify(made.path, Path(HOME.name) / "other.npy")


RESULTS = {
    "Model": (lambda: MODEL, ["4 weights"]),
    "Run": (lambda: intsim.run(MODEL, "wrap-16", X), ["overflows", "16 overflow events"]),
    "Bounds": (lambda: intsim.bounds(MODEL, "wrap-16"), ["17 (1)", "overflow is possible"]),
    "Proposal": (lambda: intsim.propose(MODEL, "wrap-16"), ["17", "no register of target proposed can overflow"]),
    "Verdict": (lambda: intsim.verify(MODEL, "wrap-16", X, references=False), ["diverges", "1 sample given"]),
    "Telemetry": (lambda: intsim.telemetry(MODEL, "wrap-16", X), ["16 overflow events", "bits 11..17"]),
    "Evaluated": (
        lambda: intsim.evaluate(MODEL, "wrap-16", [X], metrics=["mae"]),
        ["mae", "16 overflow events in 1 layer", "1 sample given"],
    ),
    "Observed": (
        lambda: intsim.propose_observed(MODEL, "wrap-16", [X]),
        ["17", "registers of observed", "0 overflow events"],
    ),
    "Search": (
        lambda: intsim.search(MODEL, "wrap-16", [X], slack=1, trials=2),
        ["1 point that no other beats", "proven", "2 points tried"],
    ),
    "Sweep": (lambda: intsim.sweep(MODEL, inputs=X, accumulator=[16, 17]), ["accumulators that wrap", "proven"]),
    "Advice": (
        lambda: intsim.advise(MODEL, X, targets=["onednn-avx2", "onednn-vnni"]),
        ["certified", "differs", "16 (25 %)", "onednn-avx2: pairs of products saturate"],
    ),
    "Witnessed": (
        lambda: Witnessed(
            *("m", "onnxruntime-vnni", "onnxruntime", "1.31.1", 1, 0),
            layers=[
                WitnessedLayer("<script>&[red]", "Conv", "y", 9, 1, 2, 3, {"position": [7], "predicted": 4, "got": 6})
            ],
            hidden=["[b]"],
        ),
        ["predicted 4, onnxruntime has 6", "not shown by the runtime: 1 layer ([b])", "not as predicted"],
    ),
    "Vectors": (written, ["1 layer, 5 files and manifest.json in", "1x2x4x4"]),
    "Trace": (lambda: intsim.trace_output(MODEL, "<script>&[red]", (1, 0, 0), "wrap-16", X), ["overflow", "32385"]),
    "Comparison": (
        compared,
        ["first wrong: <script>&[red], output, channel 0, position 0,0,0,0", "verdict: different"],
    ),
    "Identification": (identified, ["32 of 32 differ from the specification", "verdict:"]),
    "Certificate": (lambda: intsim.certify(MODEL, "wrap-16"), ["verdict:", "refuted"]),
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_result(name):
    make, words = RESULTS[name]
    result = make()
    assert type(result).__name__ == name
    page = result._repr_html_()
    assert page == intsim.html(result)
    assert page.startswith("<pre style=")
    assert "<script" not in page
    text = unescape(re.sub(r"<[^>]*>", "", page))
    for word in words:
        assert word in text
    if name != "Run":
        assert "<script>&[red]" in text


def test_every_kind_is_shown_here():
    assert {kind.__name__ for kind in SHOW} == set(RESULTS)


def test_colours_are_in_the_page():
    page = intsim.bounds(MODEL, "wrap-16")._repr_html_()
    assert re.search(r'<span style="[^"]*color: #[0-9a-f]+[^"]*">unsafe</span>', page)
