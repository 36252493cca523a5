"""The file read a second time: the reference evaluator against the graph that was lowered from it, on a few inputs.

Everything else in this room speaks of the lowered graph. A TensorFlow Lite file is evaluated as it is written as well,
beside the ONNX form that it was translated to. Here what the file itself says is asked for, by a reader that
shares no code with lowering and engine. The one file of `proofs/` that imports `intsim.verification`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.frontend.expression import Expr
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.graph import IntArray, Tensor
from intsim.inputs import Sample, draw
from intsim.model import Model, Run
from intsim.proofs.certificate import Disagreement, Reading
from intsim.proofs.replay import chained, real_inputs
from intsim.targets import Target
from intsim.verification.compare import place
from intsim.verification.exact_file import ExactFile
from intsim.verification.expected import expected_codes
from intsim.verification.inexact import Inexact
from intsim.verification.layers import Layer, layers
from intsim.verification.reference import ReferenceRun
from intsim.verification.second_reading import SecondReading

CORNERS = ("low", "high", "alternating")
INPUTS = len(CORNERS) + 1
"""Corners of the input range, and one drawn input."""
SEED = 0
FAR = 256.0
"""Real inputs in place of corners where the host works before the first quantizer: -FAR, FAR, -1 and 1 in turn."""
LARGEST = 1 << 31
"""Corners of wider integer inputs than 32 bits, as samples are drawn."""
REAL_ROOM = 2.0**-47
"""Share of the largest term by which float64 may miss a real output that no quantizer makes."""


@dataclass
class _Tally:
    """What was compared so far."""

    elements: int = 0
    near_ties: int = 0
    inputs: list[str] = field(default_factory=list)
    digest: str = ""
    first: Disagreement | None = None


def read_again(model: Model, target: Target, progress: Callable[[str], None] | None = None) -> Reading:
    """Compare the integers of a model run on `target` with what the reference evaluator makes of its file.

    Every quantizer's codes, accumulators that end the integers, and the real values of outputs behind these, on the
    corners of the input range and a drawn input. It ends with the first disagreement. `target` is `exact`, or one
    that was proven to equal it. What the evaluator can't read is `refused`, with its reason.
    """
    tally = _Tally()
    refused = ""
    cut: list[str] = []
    try:
        file = ExactFile(model)
        cut = list(file.cut)
        inexact = Inexact(model)
        second = SecondReading.of(model)
        compared = layers(model.graph, model.lowered.boundaries) + inexact.unread()
        for name, inputs, coded in corners(model):
            if progress is not None:
                progress(f"reading the file again: {name}")
            try:
                run = model.run(inputs, target, keep=True)
                truth = file.run(inputs, inexact.given(run) if inexact else None, run.islands)
            except IntsimError as error:
                if coded:
                    raise
                refused = refused or str(error)  # the host's functions have no value there: not an input
                continue
            tally.inputs.append(name)
            tally.digest = chained(tally.digest, inputs)
            _compare(tally, model, compared, inexact, run, truth)
            if tally.first is None and second is not None:
                _compare_file(tally, model, second, inputs, inexact, run)
            if tally.first is not None:
                break
    except IntsimError as error:
        tally, refused = _Tally(), str(error)
    if tally.inputs and tally.elements == 0 and tally.first is None:
        refused = f"{model.path}: nothing that the reference evaluator shows is an integer of the graph"
    elif tally.inputs:
        refused = ""
    return Reading(
        tally.inputs, tally.elements, tally.near_ties, tally.digest, cut, " ".join(refused.split()), tally.first
    )


def corners(model: Model) -> Iterator[tuple[str, Sample, bool]]:
    """Name and network input: all codes low, all high, both in turn; then one drawn. The last says it is of codes.

    Where the host works before the first quantizer no input is known for given codes; real ones that are large on both
    sides take their place.
    """
    infos = {name: model.graph.tensors[name] for name in model.graph.inputs}
    for kind in CORNERS:
        inputs = real_inputs(model, {n: _codes(kind, t.shape, t) for n, t in infos.items()})
        yield (kind, inputs, True) if inputs is not None else (f"far {kind}", _far(model, kind), False)
    yield "drawn", draw(model, SEED), not (model.lowered.prologue.operations or model.islands)


def _codes(kind: str, shape: tuple[int, ...], info: Tensor) -> IntArray:
    """A corner of a tensor's range."""
    return _corner(kind, shape, max(info.low, -LARGEST), min(info.high, LARGEST - 1))


def _corner(kind: str, shape: tuple[int, ...], low: int, high: int) -> IntArray:
    flat = np.arange(math.prod(shape)) % 2
    chosen = {"low": 0 * flat, "high": 0 * flat + 1, "alternating": flat}[kind]
    return np.where(chosen, high, low).astype(np.int64).reshape(shape)


def _far(model: Model, kind: str) -> dict[str, NDArray]:
    """Real inputs, large on one side or small on both; integers at their corners, those that the host reads small."""
    out: dict[str, NDArray] = {}
    for name, (shape, element) in model.lowered.source.inputs.items():
        info = model.graph.tensors.get(name)
        if element not in ONNX_INTEGERS:
            size = 1.0 if kind == "alternating" else FAR
            out[name] = np.float32(size) * _corner(kind, shape, -1, 1).astype(np.float32)
        else:
            out[name] = _corner(kind, shape, 0, 1) if info is None else _codes(kind, shape, info)
    return out


def _compare(
    tally: _Tally, model: Model, compared: list[Layer], inexact: Inexact, run: Run, truth: ReferenceRun
) -> None:
    """Add one input; the first disagreement in graph order ends it."""
    for layer in compared:
        got = run.tensors[layer.tensor]
        expected, ties, shown = expected_codes(model, layer, truth, run, inexact)
        tally.elements += got.size if shown else 0
        tally.near_ties += ties
        if _apart(tally, layer.name, layer.op, layer.tensor, expected, got) or _beyond(tally, model, layer, truth):
            return
        for node in inexact.feeding(layer.tensor):
            right, got = inexact.right(node, truth, run), run.tensors[node.output]
            tally.elements += got.size
            if _apart(tally, node.shown, node.kind, node.output, right, got):
                return
    for name, value in model.lowered.ends.items():
        # a quantizer's output is codes, compared above; numbers behind a row function have an error of their own
        exact = name not in truth.codes and not any(n in inexact.errors for n, _ in value.terms)
        if exact and name in truth.tensors and _end_apart(tally, model, name, value, run, truth):
            return


def _compare_file(
    tally: _Tally, model: Model, second: SecondReading, inputs: Sample, inexact: Inexact, run: Run
) -> None:
    """Add what the file itself holds, where that is no ONNX file."""
    before = second.verdict.elements
    at = second.compare(model, inputs, run, set(inexact.requantizers))
    tally.elements += second.verdict.elements - before
    if at is not None:
        where = at["name"], at["op"], at["tensor"], at["position"], at["expected"], at["got"]
        tally.first = Disagreement(len(tally.inputs) - 1, *where)


def _apart(tally: _Tally, name: str, op: str, tensor: str, expected: NDArray, got: NDArray) -> bool:
    differ = np.flatnonzero((expected != got).reshape(-1))
    if not differ.size:
        return False
    flat = int(differ[0])
    at = place(got.shape, flat)[1]
    pair = (a.reshape(-1)[flat].item() for a in (expected, got))
    tally.first = Disagreement(len(tally.inputs) - 1, name, op, tensor, at, *pair)
    return True


def _beyond(tally: _Tally, model: Model, layer: Layer, truth: ReferenceRun) -> bool:
    """A code that the graph holds possible and the file's quantizer can't make: few inputs would show it."""
    info = model.graph.tensors[layer.tensor]
    maker = model.graph.producer(layer.tensor)
    if info.onnx not in truth.quantized or (maker is not None and maker.op != "requantize"):
        return False
    quantized = truth.quantized[info.onnx]
    ends = ("least", int(quantized.low.min()), info.low), ("greatest", int(quantized.high.max()), info.high)
    for what, limit, mine in ends:
        if (mine < limit) if what == "least" else (mine > limit):
            op = f"{layer.op}, {what} code"
            tally.first = Disagreement(len(tally.inputs) - 1, layer.name, op, layer.tensor, [], limit, mine)
            return True
    return False


def _end_apart(tally: _Tally, model: Model, name: str, value: Expr, run: Run, truth: ReferenceRun) -> bool:
    """An output in real numbers: what the integers behind it stand for, and the file's own."""
    real = model.real(value, run.tensors)
    wanted, error = truth.value(name).reshape(real.shape), truth.error(name).reshape(real.shape)
    if not np.isfinite(error).all():
        return False
    tally.elements += real.size
    room = error + REAL_ROOM * _size(model, value, run)
    return _apart(tally, name, "output", name, np.where(np.abs(real - wanted) <= room, real, wanted), real)


def _size(model: Model, value: Expr, run: Run) -> NDArray[np.float64]:
    """The largest number on the way to each element of an expression: what float64 rounds is a share of it."""
    size = np.abs(np.asarray(value.offset, np.float64))
    for name, scale in value.terms:
        size = size + np.abs(run.tensors[name].astype(np.float64) * np.asarray(scale, np.float64))
    for step in value.steps:
        edges = [np.zeros(()) if v is None else np.abs(np.asarray(v, np.float64)) for v in step.values]
        if step.kind == "affine":
            size = size * edges[0] + edges[1]
        elif step.kind == "leaky":
            size = size * np.maximum(edges[0], 1.0)
        else:
            size = np.maximum(size, np.maximum(edges[0], edges[1]))
    return np.broadcast_to(size, value.shape)
