"""A model on a target over a data set: metrics with their confidence, and overflows, sample by sample."""

from __future__ import annotations

import glob
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from intsim.engine.run import run_graph
from intsim.errors import IntsimError
from intsim.explore.metrics import Metric, MetricResult, read_labels, read_metrics
from intsim.inputs import arrays_of, samples_of
from intsim.model import Model
from intsim.notebook import Shown
from intsim.ops import OPS, Mac
from intsim.targets import Target
from intsim.verification.executed import opened

FORMAT = "intsim-evaluation-1"
Data = str | Path | Iterable[Any]
Report = Callable[[str], None]


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
        progress: called with a line of text before each sample.

    Raises:
        IntsimError: bad model, target, data, metrics or labels; a metric that fails.
    """
    began = time.monotonic()
    chosen = Target.load(target)
    loaded = opened(model, None, chosen)
    known = read_labels(str(labels)) if isinstance(labels, str | Path) else labels
    used = read_metrics(metrics, known is not None)
    exact = Target.load("exact")
    compared = chosen != exact and any(m.references for m in used)
    values = {m.name: array("d") for m in used}
    shown = {n.name: n.shown for n in loaded.graph.nodes if isinstance(OPS[n.op], Mac)}
    events = dict.fromkeys(shown.values(), 0)
    count = 0
    for name, sample in _samples(loaded, data, samples, seed):
        if progress is not None:
            progress(name)
        if known is not None and count >= len(known):
            raise IntsimError(f"{loaded.path}: {len(known)} labels, and more samples")
        codes = loaded.narrow_inputs(sample, chosen)  # a runtime makes them in its own way, exact arithmetic goes on
        ran = run_graph(loaded.graph, codes, chosen)
        outputs = loaded.finish(sample, ran)[0]
        truth = loaded.finish(sample, run_graph(loaded.graph, codes, exact))[0] if compared else outputs
        for metric in used:
            values[metric.name].append(metric(outputs, truth, None if known is None else known[count]))
        for node, counts in ran.events.items():
            events[shown[node]] += int(counts.sum())
        count += 1
    if not count:
        raise IntsimError(f"{loaded.path}: no samples in {data}")
    if known is not None and len(known) != count:
        raise IntsimError(f"{loaded.path}: {len(known)} labels for {count} samples")
    results = [MetricResult.of(name, column) for name, column in values.items()]
    of = None if data is not None else int(seed)
    return Evaluated(loaded.path, chosen.name, count, of, results, events, time.monotonic() - began)


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
