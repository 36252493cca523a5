"""A model on a target over a data set: metrics with their confidence, and overflows, sample by sample."""

from __future__ import annotations

import glob
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.engine.run import GraphRun, run_graph
from intsim.errors import IntsimError
from intsim.explore.metrics import Metric, MetricResult, read_labels, read_metrics
from intsim.explore.workers import Workers
from intsim.inputs import arrays_of, samples_of
from intsim.model import Model
from intsim.notebook import Shown
from intsim.ops import OPS, Mac
from intsim.targets import Target
from intsim.verification.executed import opened

FORMAT = "intsim-evaluation-1"
Data = str | Path | Iterable[Any]
Report = Callable[[str], None]
BATCH, BATCH_BYTES = 8, 16 << 20
"""Samples that go to another process together: so many, or fewer that have so many bytes."""
Labelled = tuple[str, Mapping[str, Any], Any]
"""What is said of a sample, the sample, its label."""
Measured = tuple[str, list[float], dict[str, int]]
"""What is said of it, its metrics, the events of each layer that has some."""


@dataclass(frozen=True)
class Evaluated(Shown):
    """What `intsim.evaluate` returns.

    `overflows` are the events of each layer on all samples, in all stages; `seed` is None where data was given.
    """

    model: str
    target: str
    samples: int
    seed: int | None
    metrics: list[MetricResult]
    overflows: dict[str, int]
    seconds: float = field(compare=False)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return {"format": FORMAT, **asdict(self)}


def evaluate(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    data: Data | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    metrics: Sequence[str | Metric] = ("sqnr",),
    labels: str | Path | NDArray[Any] | None = None,
    processes: int = 1,
    scheduler: str | None = None,
    progress: Report | None = None,
) -> Evaluated:
    """Run a model on a target over a data set, one sample at a time, and say what its outputs are worth.

    Args:
        model: path, ModelProto or what `load` returned.
        target: a built-in name, a TOML file or a `Target`.
        data: a folder or a pattern of .npy and .npz files, in the order of their names, each a sample or several; or
            an iterable of samples. One after another is in memory. Drawn where None.
        samples, seed: how many to draw (1 if None), and the seed of the first.
        metrics: names (`intsim.explore.metrics.BUILT_IN`), FILE.py:FUNCTION, MODULE:FUNCTION, or `Metric`s.
        labels: a .npy file or an array, a row a sample.
        processes: how many of this machine run samples, 1..256; they share its threads. 1 is this one.
        scheduler: address of a Dask cluster, tcp://HOST:PORT, whose workers run them instead.
        progress: called with a line of text before each sample; behind it where other processes run them.

    Raises:
        IntsimError: bad model, target, data, metrics or labels; a metric that fails; workers that aren't there.
    """
    began = time.monotonic()
    workers = Workers(processes, scheduler)
    chosen = Target.load(target)
    loaded = opened(model, None, chosen)
    known = read_labels(str(labels)) if isinstance(labels, str | Path) else labels
    used = read_metrics(metrics, known is not None)
    measure = Measure(loaded, chosen, used)
    values = {m.name: array("d") for m in used}
    events = dict.fromkeys(measure.shown.values(), 0)
    say = progress or (lambda text: None)
    batches = _batches(loaded, _samples(loaded, data, samples, seed), known, None if workers.others else say)
    early: dict[int, list[Measured]] = {}
    following = count = 0
    with closing(workers.results(measure, batches, used)) as finished:
        for number, found in finished:
            early[number] = found
            for name, _, _ in found if workers.others else ():
                say(name)
            while following in early:  # metrics in the samples' order, whichever was ready first
                for _, numbers, counts in early.pop(following):
                    for metric, value in zip(used, numbers, strict=True):
                        values[metric.name].append(value)
                    for layer, n in counts.items():
                        events[layer] += n
                    count += 1
                following += 1
    if not count:
        raise IntsimError(f"{loaded.path}: no samples in {data}")
    if known is not None and len(known) != count:
        raise IntsimError(f"{loaded.path}: {len(known)} labels for {count} samples")
    results = [MetricResult.of(name, column) for name, column in values.items()]
    of = None if data is not None else int(seed)
    return Evaluated(loaded.path, chosen.name, count, of, results, events, time.monotonic() - began)


def _batches(
    model: Model, samples: Iterable[tuple[str, Mapping[str, Any]]], labels: Any, say: Report | None
) -> Iterator[list[Labelled]]:
    """Samples with their labels in batches for other processes; one by one where `say` hears of each."""
    batch: list[Labelled] = []
    size = 0
    for count, (name, sample) in enumerate(samples):
        if say is not None:
            say(name)
        if labels is not None and count >= len(labels):
            raise IntsimError(f"{model.path}: {len(labels)} labels, and more samples")
        batch.append((name, sample, None if labels is None else labels[count]))
        size += sum(np.asarray(a).nbytes for a in sample.values())
        if say is not None or len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Measure:
    """Runs samples and measures them: what a worker of `evaluate` holds.

    Args:
        model: a loaded model.
        target: where it runs.
        metrics: of the outputs.
    """

    def __init__(self, model: Model, target: Target, metrics: Sequence[Metric]) -> None:
        """Nothing runs yet."""
        self.model, self.target, self.metrics = model, target, metrics
        self.exact = Target.load("exact")
        self.compared = target != self.exact and any(m.references for m in metrics)
        self.shown = {n.name: n.shown for n in model.graph.nodes if isinstance(OPS[n.op], Mac)}

    def __call__(self, batch: Sequence[Labelled]) -> list[Measured]:
        """Samples with their labels, in order."""
        return [(name, *self._measured(sample, label)) for name, sample, label in batch]

    def _measured(self, sample: Mapping[str, Any], label: Any) -> tuple[list[float], dict[str, int]]:
        model, graph = self.model, self.model.graph
        if model.islands:
            own = model.run(sample, self.target)
            ran, outputs = GraphRun(own.tensors, own.overflows), own.outputs
            truth = model.run(sample, self.exact).outputs if self.compared else outputs
            return [metric(outputs, truth, label) for metric in self.metrics], self._events(ran)
        codes = model.narrow_inputs(
            sample, self.target
        )  # a runtime makes them in its own way, exact arithmetic goes on
        ran = run_graph(graph, codes, self.target)
        outputs = model.finish(sample, ran)[0]
        truth = model.finish(sample, run_graph(graph, codes, self.exact))[0] if self.compared else outputs
        return [metric(outputs, truth, label) for metric in self.metrics], self._events(ran)

    def _events(self, ran: GraphRun) -> dict[str, int]:
        """Overflow events by layer."""
        events: dict[str, int] = {}
        for node, counts in ran.events.items():
            name, total = self.shown[node], int(counts.sum())
            if total:
                events[name] = events.get(name, 0) + total
        return events


def files_of(data: str | Path) -> list[Path]:
    """The .npy and .npz files of a folder or a pattern, by name. Raises IntsimError where there is none."""
    found = Path(data).iterdir() if Path(data).is_dir() else map(Path, glob.glob(str(data), recursive=True))
    files = [f for f in sorted(found) if f.suffix in (".npy", ".npz") and f.is_file()]
    if not files:
        raise IntsimError(f"{data}: no .npy or .npz file; give a folder or a pattern as in 'data/*.npz'")
    return files


def _samples(
    model: Model, data: Data | None, samples: int | None, seed: int
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Samples with a line about where they come from."""
    if data is None:
        for i, sample in enumerate(samples_of(model, None, samples, seed)):
            yield f"sample {i + 1}, drawn", sample
        return
    if samples is not None:
        raise IntsimError("both data and a number of samples: samples are drawn where no data is given; give one")
    if isinstance(data, str | Path):
        files = files_of(data)
        for i, file in enumerate(files):
            held = arrays_of(file)
            inputs = held[""] if "" in held else {n: a for n, a in held.items() if n in model.lowered.source.inputs}
            for sample in samples_of(model, inputs):
                yield f"{file.name}, {i + 1} of {len(files)}", sample
        return
    for i, given in enumerate(data):
        for sample in samples_of(model, given):
            yield f"sample {i + 1}", sample
