"""A target of a runtime against the runtime itself, run here: every code that both make, on the same inputs.

Each layer is predicted on the runtime's own inputs of it, so that one difference is counted once; the network's outputs
are predicted from the network's inputs, and compared with those of the file as it is: a tensor that is shown may keep a
runtime from fusing what makes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.graph import IntArray, without_module
from intsim.inputs import Inputs, samples_of
from intsim.model import Model
from intsim.notebook import Shown
from intsim.targets import Target
from intsim.verification.compare import difference, first_apart
from intsim.verification.executed import RUNTIMES, opened
from intsim.verification.executors import AS_IT_IS, Executor
from intsim.verification.layers import layers
from intsim.verification.processor import processor

FORMAT = "intsim-witness-1"
Report = Callable[[str], None]


@dataclass
class WitnessedLayer:
    """One layer: `elements` codes were compared, on the runtime's own inputs; `mismatches` differ from the prediction.

    `inexact` counts codes of the runtime that exact arithmetic on the same inputs doesn't give. `first` is the first
    mismatch: its position, and the codes predicted and got.
    """

    name: str
    op: str
    tensor: str
    elements: int = 0
    mismatches: int = 0
    max_lsb: int = 0
    inexact: int = 0
    first: dict[str, Any] | None = None
    node: str | None = None
    module: str | None = None


@dataclass
class WitnessedOutput:
    """An output of the file, as its values: elements, and how many differ from the predicted ones."""

    name: str
    elements: int = 0
    mismatches: int = 0


@dataclass
class Witnessed(Shown):
    """What `intsim.witness_runtime` returns.

    `layers` are those whose codes the runtime shows, `hidden` names the others, which it has fused away. `holds`: no
    code and no output differs.
    """

    model: str
    target: str
    runtime: str
    version: str
    samples: int = 0
    seed: int | None = None
    layers: list[WitnessedLayer] = field(default_factory=list)
    outputs: list[WitnessedOutput] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def mismatches(self) -> int:
        """Codes of all layers that differ from the prediction."""
        return sum(x.mismatches for x in self.layers)

    @property
    def holds(self) -> bool:
        """Nothing differs."""
        return not self.mismatches and not any(x.mismatches for x in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        shown = [without_module(asdict(x)) for x in self.layers]
        return {"format": FORMAT, **asdict(self), "layers": shown, "mismatches": self.mismatches, "holds": self.holds}


def witness_runtime(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target,
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    timeout: float = 60.0,
    progress: Report | None = None,
) -> Witnessed:
    """Run the runtime that a target predicts, and compare every code that it shows with the prediction.

    Args:
        model: path, ModelProto or what `load` returned.
        target: a target with a table `runtime`.
        inputs, samples, seed: as `verify` takes them.
        timeout: seconds after which the runtime is given up, for each sample.
        progress: called with a line of text before each step.

    Raises:
        IntsimError: a bad model or input, operators that the runtime doesn't have (QONNX), a target without a runtime
            that can be run here, or a runtime that isn't installed, fails, or would choose other kernels on this
            processor.
    """
    began = time.monotonic()
    chosen = Target.load(target)
    runtime = runnable(chosen)
    loaded = opened(model, inputs, chosen)
    loaded.check_whole("a witness")
    say = progress or (lambda text: None)
    data = samples_of(loaded, inputs, samples, seed)
    graph = loaded.graph
    known = {t: graph.tensors[t].onnx for t in graph.tensors}
    found = [x for x in layers(graph, loaded.lowered.boundaries) if known.get(x.tensor)]
    told = Witnessed(
        loaded.path, chosen.name, runtime, version(runtime), len(data), None if inputs is not None else int(seed)
    )
    lines = {x.tensor: WitnessedLayer(x.name, x.op, x.tensor, node=x.node, module=x.module) for x in found}
    ends = {name: WitnessedOutput(name) for name in loaded.lowered.source.outputs}
    told.outputs, told.layers = list(ends.values()), list(lines.values())
    for i, sample in enumerate(data):
        say(f"sample {i + 1}/{len(data)}: {runtime}")
        tensors = _run(loaded, runtime, sample, [str(known[x.tensor]) for x in found], timeout)
        say(f"sample {i + 1}/{len(data)}: comparing")
        _compare(loaded, chosen, sample, tensors, lines, ends)
    told.hidden = [x.name for x in told.layers if not x.elements]
    told.layers = [x for x in told.layers if x.elements]
    told.seconds = time.monotonic() - began
    return told


def runnable(target: Target) -> str:
    """The runtime of a target; raises IntsimError where it can't be run here."""
    if target.runtime is None or target.runtime.name not in RUNTIMES:
        what = "is of no runtime" if target.runtime is None else f"is of {target.runtime.name}"
        raise IntsimError(f"target {target.name}: {what}; what can be run here: {', '.join(RUNTIMES)}")
    runtime = target.runtime.name
    try:
        version(runtime)
    except PackageNotFoundError:
        raise IntsimError(f'{runtime} is not installed; pip install "intsim[references]"') from None
    wants, has = target.runtime.cpu, processor()
    if wants is not None and wants != has:
        raise IntsimError(
            f"target {target.name}: is of a processor with {wants}, this one has {has}, for which {runtime} has other "
            "kernels; choose the target of this processor"
        )
    return runtime


def _run(
    model: Model, runtime: str, sample: Mapping[str, NDArray[Any]], wanted: list[str], timeout: float
) -> dict[str, NDArray[Any]]:
    """Tensors of the graph that the runtime made of the file, and outputs of the file as it is."""
    assert model.file is not None
    typed = {
        name: np.asarray(sample[name]).astype(onnx.helper.tensor_dtype_to_np_dtype(element))
        for name, (_, element) in model.lowered.source.inputs.items()
    }
    ends = list(model.lowered.source.outputs)
    runs = [
        Executor(kind, proto, typed, names, same_processor=True)
        for kind, proto, names in ((AS_IT_IS, model.lowered.source.proto, wanted), (runtime, model.file, ends))
    ]
    try:
        return {k: v for run in runs for k, v in run.tensors(timeout, model.path, runtime).items()}
    finally:
        for run in runs:
            run.stop()


def _compare(
    model: Model,
    target: Target,
    sample: Mapping[str, NDArray[Any]],
    tensors: Mapping[str, NDArray[Any]],
    lines: dict[str, WitnessedLayer],
    ends: dict[str, WitnessedOutput],
) -> None:
    from intsim.engine.run import run_among  # the compiler comes with it; the executor was started before

    graph, exact = model.graph, Target.load("exact")
    values: dict[str, IntArray] = dict(model.integer_inputs(sample, target))
    ideal: dict[str, IntArray] = dict(model.integer_inputs(sample))

    def shown(tensor: str, mine: IntArray, right: IntArray) -> tuple[IntArray, IntArray]:
        """What layers behind read of a tensor: the runtime's codes, after they were compared; else both as given."""
        name, line = graph.tensors[tensor].onnx or "", lines.get(tensor)
        got = tensors.get(name)
        if line is None or got is None or got.dtype.kind not in "iu" or got.size != mine.size:
            return mine, right
        had = got.astype(np.int64).reshape(mine.shape)
        count, lsb = difference(mine, had)
        line.elements += had.size
        line.mismatches += count
        line.max_lsb = max(line.max_lsb, lsb)
        line.inexact += difference(right, had)[0]
        if count and line.first is None:
            at = first_apart(mine, had)[1]
            line.first = {"position": at["position"], "predicted": at["expected"], "got": at["got"]}
        return had, had

    for tensor in graph.inputs:
        values[tensor], ideal[tensor] = shown(tensor, values[tensor], ideal[tensor])
    for node in graph.nodes:
        mine, _ = run_among(graph, node, values, target)
        right, _ = run_among(graph, node, ideal, exact)
        values[node.output], ideal[node.output] = shown(node.output, mine, right)
    run = model.run(sample, target)
    for name, end in ends.items():
        if name in tensors:
            end.elements += tensors[name].size
            end.mismatches += int(np.count_nonzero(run.outputs[name] != tensors[name].reshape(run.outputs[name].shape)))
