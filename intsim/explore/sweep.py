"""Sweeps: widths of accumulators, multipliers, weights and activations, targets, models; against exact runs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Overflow
from intsim.explore.configuration import (
    RULES,
    Configuration,
    checked_stage,
    configurations,
    requantizer_in_words,
)
from intsim.explore.evaluation import Evaluation
from intsim.explore.ledger import Ledger
from intsim.explore.metrics import Metric, labels_of, read_metrics
from intsim.explore.row import Row
from intsim.explore.workers import Workers
from intsim.inputs import Inputs, Sample, samples_of
from intsim.model import Model
from intsim.narrowing import Narrowing
from intsim.notebook import Shown
from intsim.proofs.subject import identity, sha256_of, target_content
from intsim.targets import Target
from intsim.verification.executed import opened

FORMAT = "intsim-sweep-2"
ARITHMETIC = ("operands", "accumulate", "requantize")
"""Tables of a target that count for a sweep that goes on: not its name, title and sources."""
WIDEST = 64
Report = Callable[[str], None]


@dataclass(frozen=True)
class SafeFrom:
    """The least swept width of a layer from which on it is safe, for one overflow rule; None if there is none.

    `proven_from` it for every input; `observed_from` it without any overflow on these; `exact_from` it with the same
    codes as the exact run.
    """

    name: str
    overflow: Overflow
    proven_from: int | None
    observed_from: int | None
    exact_from: int | None


@dataclass
class Sweep(Shown):
    """What `intsim.sweep` returns. `stage` is the swept register's number, None where no register was swept."""

    model: str
    target: str
    stage: int | None
    multiplier_rounding: str | None
    samples: int
    seed: int | None
    rows: list[Row] = field(default_factory=list)
    resumed: int = 0
    seconds: float = 0.0

    @property
    def accumulators(self) -> list[int]:
        """Register widths that were swept, ascending."""
        return sorted({w for r in self.rows if (w := r.configuration.accumulator) is not None})

    @property
    def rules(self) -> list[Overflow]:
        """Overflow rules that were swept."""
        return [rule for rule in RULES if any(r.configuration.overflow == rule for r in self.rows)]

    @property
    def multipliers(self) -> list[int]:
        """Multiplier widths that were swept, ascending."""
        return sorted({w for r in self.rows if (w := r.configuration.multiplier) is not None})

    @property
    def weights(self) -> list[int]:
        """Widths of weights that were swept, ascending."""
        return sorted({w for r in self.rows if (w := r.configuration.weights) is not None})

    @property
    def activations(self) -> list[int]:
        """Widths of activations that were swept, ascending."""
        return sorted({w for r in self.rows if (w := r.configuration.activations) is not None})

    @property
    def settings(self) -> list[Configuration]:
        """What registers were swept in: configurations without their registers, each once, in their order."""
        return list(
            dict.fromkeys(r.configuration.setting for r in self.rows if r.configuration.accumulator is not None)
        )

    @property
    def points(self) -> dict[Configuration, Row]:
        """Rows by configuration."""
        return {r.configuration: r for r in self.rows}

    def row(self, configuration: Configuration) -> Row | None:
        """The row of a configuration, if it was swept."""
        return self.points.get(configuration)

    def safe_from(self) -> list[SafeFrom]:
        """For each layer and overflow rule; of several settings in the widest one, of the first model and target."""
        if not self.settings:
            return []
        first = self.settings[0]
        own = max(
            (s for s in self.settings if (s.model, s.target) == (first.model, first.target)),
            key=lambda s: [WIDEST if v is None else v for v in (s.weights, s.activations, s.multiplier)],
        )
        points, safe = self.points, []
        for rule in self.rules:
            rows = [points[c] for w in self.accumulators if (c := replace(own, accumulator=w, overflow=rule)) in points]
            widths = [int(r.configuration.accumulator or 0) for r in rows]
            for layer in zip(*(r.layers for r in rows), strict=True):
                flags = [(x.proven, x.observed, x.mismatches == 0) for x in layer]
                least = (_from(widths, list(kind)) for kind in zip(*flags, strict=True))
                safe.append(SafeFrom(layer[0].name, rule, *least))
        return safe

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return {
            "format": FORMAT,
            "model": self.model,
            "target": self.target,
            "stage": self.stage,
            "multiplier_rounding": self.multiplier_rounding,
            "samples": self.samples,
            "seed": self.seed,
            "accumulator_widths": self.accumulators,
            "overflow_rules": list(self.rules),
            "multiplier_widths": self.multipliers,
            "weight_widths": self.weights,
            "activation_widths": self.activations,
            "seconds": self.seconds,
            "resumed": self.resumed,
            "nodes_run": sum(r.run for r in self.rows),
            "nodes_reused": sum(r.reused for r in self.rows),
            "safe_from": [vars(x) for x in self.safe_from()],
            "rows": [r.to_json() for r in self.rows],
        }


def _from(widths: Sequence[int], flags: Sequence[bool]) -> int | None:
    """The least width from which on every flag is set."""
    least = None
    for width, flag in zip(reversed(widths), reversed(flags), strict=True):
        if not flag:
            break
        least = width
    return least


def sweep(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    accumulator: Sequence[int] = (),
    overflow: Sequence[Overflow] = RULES,
    multiplier: Sequence[int] = (),
    weights: Sequence[int] = (),
    activations: Sequence[int] = (),
    targets: Sequence[str | Path] = (),
    models: Sequence[str | Path] = (),
    stage: int | None = None,
    grid: bool = False,
    metrics: Sequence[str | Metric] = (),
    labels: str | Path | NDArray[Any] | None = None,
    folder: str | Path | None = None,
    restart: bool = False,
    processes: int = 1,
    scheduler: str | None = None,
    progress: Report | None = None,
) -> Sweep:
    """Evaluate a model with registers of many widths, and with multipliers of many widths, against the exact run.

    Args:
        model: path, ModelProto or what `load` returned.
        target: a built-in name, a TOML file or a `Target`; everything that is not swept is its own.
        inputs: as `run` takes them: one sample or many. Drawn with `seed` where None.
        samples: how many samples to draw where no inputs are given; 1 if None.
        seed: seed of the first drawn sample.
        accumulator: widths in bits of the swept register, 1..64. An unbounded target gets one plain register.
        overflow: rules of that register.
        multiplier: widths in bits of a fixed-point requantizer's multiplier, 4..32, rounded as the target's own
            fixed-point one, else once, `half_up`.
        weights, activations: bits that the network's own codes get (`intsim.narrow`), 1..32; errors and metrics are
            against the network as it is.
        targets, models: built-in names or files, and files with the same inputs, each instead of `target` or `model`;
            errors are against the model's own exact run.
        stage: number 1.. of the swept register; the last one where None.
        grid: all combinations of widths, instead of one kind after the other.
        metrics, labels: as `evaluate` takes them.
        folder: keeps finished rows in rows.sqlite there, and goes on from those it finds.
        restart: forget rows of an earlier sweep in `folder`.
        processes: how many of this machine evaluate configurations, 1..256; they share its threads. 1 is this one.
        scheduler: address of a Dask cluster, tcp://HOST:PORT, whose workers evaluate them instead.
        progress: called with a line of text before each sample of each configuration that has to be evaluated; where
            other processes evaluate them, for each configuration that is finished.

    Raises:
        IntsimError: bad model, target, inputs or widths; a layer that doesn't fit the target or a multiplier; a folder
            that holds the rows of another sweep; workers that aren't there.
    """
    began = time.monotonic()
    workers = Workers(processes, scheduler)
    chosen = Target.load(target)
    points = configurations(
        accumulator,
        overflow,
        multiplier,
        grid,
        weights,
        activations,
        [str(t) for t in targets],
        [str(m) for m in models],
    )
    loaded = opened(model, inputs, chosen)
    loaded.check_whole("a sweep")
    data = list(samples_of(loaded, inputs, samples, seed))
    known = labels_of(labels, len(data))
    measured = read_metrics(metrics, known is not None)
    evaluate = Evaluations(loaded, chosen, stage, points, data, measured, known)
    head = {
        **subject_of(loaded, chosen, data, measured, known),
        "models": {m: identity(evaluate.model(m, None))["sha256"] for m in evaluate.models},
        "targets": {t: _arithmetic(own) for t, own in evaluate.targets.items() if t is not None},
        "stage": evaluate.stages[None] + 1,
    }
    with Ledger(None if folder is None else Path(folder), head, restart) as ledger:
        rows = {p: _row(ledger, p) for p in points if p.to_json() in ledger}
        resumed, missing = len(rows), [p for p in points if p not in rows]
        with closing(_evaluated(workers, evaluate, missing, progress or (lambda text: None))) as finished:
            for row in finished:
                ledger.add(row.configuration.to_json(), row.to_json())
                rows[row.configuration] = row
    return Sweep(
        loaded.path,
        chosen.name,
        evaluate.stages[None] + 1 if accumulator else None,
        requantizer_in_words(chosen) if multiplier else None,
        len(data),
        None if inputs is not None else int(seed),
        [rows[point] for point in points],
        resumed,
        time.monotonic() - began,
    )


def _arithmetic(target: Target) -> str:
    """SHA-256 of what counts of a target."""
    return sha256_of({k: v for k, v in target_content(target)["content"].items() if k in ARITHMETIC})


def subject_of(
    model: Model, target: Target, data: Sequence[Sample], metrics: Sequence[Metric], labels: Any
) -> dict[str, str]:
    """SHA-256 of what a sweep or a search is of."""
    subject = identity(model)
    return {
        "model": subject["sha256"],
        "graph": subject["graph_sha256"],
        "target": _arithmetic(target),
        "inputs": data_hash(data),
        "metrics": sha256_of({m.name: m.version for m in metrics}),
        "labels": "" if labels is None else data_hash([{"labels": labels}]),
    }


class Evaluations:
    """Evaluates the points of a sweep; what a model and a target share is computed once while they stay.

    Args:
        model, target: the sweep's own, which points without others have.
        stage: number of the swept register, None for the last one.
        points: all that will be asked for.
        data, metrics, labels: as `Evaluation` takes them.

    Raises:
        IntsimError: a target or a model that can't be read or lacks the stage.
    """

    def __init__(
        self,
        model: Model,
        target: Target,
        stage: int | None,
        points: Sequence[Configuration],
        data: Sequence[Sample],
        metrics: Sequence[Metric] = (),
        labels: Any = None,
    ) -> None:
        """Targets and models are read, nothing runs yet."""
        self.own, self.data, self.metrics, self.labels = model, data, metrics, labels
        names = dict.fromkeys([None, *(p.target for p in points)])
        self.targets = {t: target if t is None else Target.load(t) for t in names}
        self.stages = {t: checked_stage(own, stage) for t, own in self.targets.items()}
        self.models = {m: opened(m, data[0]) for p in points if (m := p.model) is not None}  # their files are here only
        self._whole: dict[tuple[str | None, str | None], Evaluation] = {}
        self._narrow: dict[Configuration, Evaluation] = {}

    def model(self, name: str | None, target: str | None) -> Model:
        """A model of a point, as its target runs it."""
        if name is None and target is None:
            return self.own
        given = self.own if name is None else self.models[name]
        if given.file is not None:  # as the sweep's own target runs it
            return opened(given.file, target=self.targets[target])
        return opened(given, self.data[0], self.targets[target])

    def __call__(self, point: Configuration, say: Report = lambda text: None) -> Row:
        """One point over all samples; `say` hears of each sample."""
        key = point.model, point.target
        if key not in self._whole:
            self._whole = {key: self._made(self.model(*key), point.target)}
        whole = self._whole[key]
        if point.weights is None and point.activations is None:
            return whole(point, say)
        codes = replace(point.setting, multiplier=None)
        if codes not in self._narrow:
            fewer = Narrowing(whole.model).opened(whole.target, point.weights, point.activations)
            self._narrow = {codes: self._made(fewer, point.target, whole)}
        return self._narrow[codes](point, say)

    def _made(self, model: Model, target: str | None, reference: Evaluation | None = None) -> Evaluation:
        own, stage = self.targets[target], self.stages[target]
        return Evaluation(model, own, stage, self.data, self.metrics, self.labels, reference)


def _row(ledger: Ledger, point: Configuration) -> Row:
    """A row that is there; raises IntsimError where it is none."""
    try:
        return Row.from_json(ledger[point.to_json()])
    except (KeyError, TypeError, ValueError):
        raise ledger.damaged() from None


def _evaluated(
    workers: Workers, evaluate: Evaluations, points: Sequence[Configuration], say: Report
) -> Generator[Row, None, None]:
    """The rows of points, as they are finished; a process goes on with what shares its runs."""
    if not workers.others:
        yield from (evaluate(point, say) for point in points)
    elif points:
        with closing(workers.results(evaluate, points, evaluate.metrics, lambda p: p.setting)) as finished:
            for i, row in finished:
                say(str(points[i]))
                yield row


def data_hash(data: Sequence[Sample]) -> str:
    """SHA-256 of all samples, names, types and shapes included."""
    digest = hashlib.sha256(str(len(data)).encode())
    for sample in data:
        for name in sorted(sample):
            array = np.asarray(sample[name])
            digest.update(f"{name} {array.dtype.name} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
