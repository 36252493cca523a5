"""Results of every kind about one network with a branch and hostile names, and their JSON."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from golden.networks import mixed

import intsim
from intsim.explore.search import Point, Search
from intsim.inspect import inspect as describe
from intsim.rtl import Cosimulation
from intsim.rtl.trace import Mismatch
from intsim.verification.verdict import LayerVerdict, StageVerdict, Verdict
from intsim.verification.witness import Witnessed, WitnessedLayer

HOSTILE = {
    "first": "<script>alert(1)</script>",
    "each": '"><img src=x onerror=alert(2)>',
    "last": "`@all` | <b>&amp; [x](javascript:alert(3)) \x1b[31m {{7*7}} %{x}",
}
"""Names of layers that a page must show and not follow."""
ALL = (
    *("verify", "certify", "bounds", "chain", "propose", "telemetry", "unbounded", "evaluate", "sweep", "search"),
    *("inspect", "compare", "observed", "advise", "witness", "cosim"),
)
"""Names of all results."""


def network(names: dict[str, str] | None = None) -> onnx.ModelProto:
    """As `mixed`, its layers called otherwise."""
    model = mixed(scale=2.0)
    for node in model.graph.node:
        node.name = (names or {}).get(node.name, node.name)
    return model


@cache
def results(folder: Path) -> dict[str, object]:
    """By verb, of m.onnx in the folder, on registers that overflow."""
    path = folder / "m.onnx"
    onnx.save(network(HOSTILE), path)
    model = intsim.load(path)
    made = intsim.vectors(model, "wrap-12", samples=1, out=folder / "golden", formats=["npy"], partial=True)
    layers = made.manifest["layers"]
    wrong = {x["name"]: np.load(folder / "golden" / x["tensors"][-1]["files"]["npy"]) ^ 1 for x in layers}
    np.savez(folder / "dump.npz", **wrong)
    return {
        "verify": intsim.verify(model, "wrap-12", samples=2, references=False),
        "certify": intsim.certify(model, "wrap-12"),
        "bounds": intsim.bounds(model, "wrap-12"),
        "chain": intsim.bounds(model, "arm-neon-int8"),
        "propose": intsim.propose(network(), "wrap-12"),  # a target file takes no control characters
        "telemetry": intsim.telemetry(model, "wrap-12", samples=2),
        "unbounded": intsim.telemetry(model, samples=1),
        "evaluate": intsim.evaluate(model, "wrap-12", samples=2, metrics=["sqnr", "mae"]),
        "sweep": intsim.sweep(model, samples=2, accumulator=[10, 12, 16, 20], multiplier=[4, 8], metrics=["mae"]),
        "inspect": describe(model),
        "search": searched(),
        "observed": intsim.propose_observed(network(), "wrap-32", samples=2),
        "compare": intsim.compare(made.path, folder / "dump.npz"),
        "advise": intsim.advise(model, targets=["onednn-avx2"]),
        "witness": Witnessed(
            *("m.onnx", "onnxruntime-vnni", "onnxruntime", "1.31.1", 1, 0),
            layers=[WitnessedLayer("conv", "Conv", "y", 9, 1, 2, 3, {"position": [0, 1], "predicted": 4, "got": 6})],
        ),
        "cosim": Cosimulation("top", "icarus", 9, 12, 1, Mismatch("differs", 7, "y", 4, -3, "x5")),
    }


def as_json(result: object) -> dict:
    """As a verb writes it."""
    content = result if isinstance(result, dict) else result.to_json()
    return json.loads(json.dumps(content))


def written(folder: Path, *names: str) -> list[Path]:
    """Files of results, in the folder."""
    paths = []
    for name in names:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(as_json(results(folder)[name])))
        paths.append(path)
    return paths


def searched() -> Search:
    """A front of three points, its knee, what it beats, and a point without a finite value."""

    def point(bits: int, mae: float, **more: object) -> Point:
        registers = {name: [bits] for name in HOSTILE.values()}
        return Point(
            dict.fromkeys(registers, bits // 3), {}, registers, {}, False, bits > 16, 0, (mae, 3.0 * bits), **more
        )

    points = [
        point(10, 0.5, front=True, file="<b>front-001"),
        replace(point(12, 0.1, front=True), knee=True),
        point(16, 0.0, front=True),
        replace(point(20, 0.2), uniform=True),
        point(24, float("nan")),
    ]
    return Search("m.onnx", "wrap-12", 2, 0, ["mae", "register_bits"], [False, False], 4, 0, points)


def diverging() -> Verdict:
    """A verdict of a layer that holds, one with wrong integers and one that overflows; a name with markup in it."""
    good = LayerVerdict("Conv_0", "Conv", "a", elements=10, stages=[StageVerdict(1, 16, "wrap")])
    stages = [StageVerdict(1, 16, "wrap", 2, {0: 2})]
    bad = LayerVerdict("Conv_1 <&\x07>", "Conv", "b", elements=20, mismatches=3, max_lsb=9, stages=stages)
    loud = LayerVerdict("Gemm", "Gemm", "c", elements=5, stages=[StageVerdict(1, 16, "wrap", 1, {3: 1})])
    return Verdict("m.onnx", "t", "diverges", samples=1, layers=[good, bad, loud])
