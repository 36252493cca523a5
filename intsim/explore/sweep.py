"""Sweeps: every accumulator width and overflow rule, every multiplier width, against the exact run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Overflow
from intsim.errors import IntsimError
from intsim.explore.configuration import (
    RULES,
    Configuration,
    checked_stage,
    configurations,
    requantizer_in_words,
)
from intsim.explore.evaluation import Evaluation
from intsim.explore.ledger import Ledger
from intsim.explore.metrics import Metric, read_labels, read_metrics
from intsim.explore.row import Row
from intsim.explore.workers import Workers
from intsim.inputs import Inputs, Sample, samples_of
from intsim.model import Model
from intsim.notebook import Shown
from intsim.proofs.subject import identity, sha256_of, target_content
from intsim.targets import Target
from intsim.verification.executed import opened

FORMAT = "intsim-sweep-1"
ARITHMETIC = ("operands", "accumulate", "requantize")
"""Tables of a target that count for a sweep that goes on: not its name, title and sources."""
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
    def points(self) -> dict[Configuration, Row]:
        """Rows by configuration."""
        return {r.configuration: r for r in self.rows}

    def row(self, configuration: Configuration) -> Row | None:
        """The row of a configuration, if it was swept."""
        return self.points.get(configuration)

    def safe_from(self) -> list[SafeFrom]:
        """For each layer and overflow rule; of a grid, with the widest multiplier."""
        grid = all(r.configuration.accumulator is not None for r in self.rows)
        multiplier = max(self.multipliers) if grid and self.multipliers else None
        safe = []
        for rule in self.rules:
            rows = [self.row(Configuration(w, rule, multiplier)) for w in self.accumulators]
            lines = [r.layers for r in rows if r is not None]
            for layer in zip(*lines, strict=True):
                flags = [(x.proven, x.observed, x.mismatches == 0) for x in layer]
                widths = (_from(self.accumulators, list(kind)) for kind in zip(*flags, strict=True))
                safe.append(SafeFrom(layer[0].name, rule, *widths))
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
        stage: number 1.. of the swept register; the last one where None.
        grid: all pairs of the two axes, instead of one axis after the other.
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
    points = configurations(accumulator, overflow, multiplier, grid)
    index = checked_stage(chosen, stage)
    loaded = opened(model, inputs, chosen)
    data = list(samples_of(loaded, inputs, samples, seed))
    known = read_labels(str(labels), len(data)) if isinstance(labels, str | Path) else labels
    measured = read_metrics(metrics, known is not None)
    if known is not None and len(known) != len(data):
        raise IntsimError(f"{loaded.path}: {len(known)} labels for {len(data)} samples")
    subject, content = identity(loaded), target_content(chosen)["content"]
    head = {
        "model": subject["sha256"],
        "graph": subject["graph_sha256"],
        "target": sha256_of({k: v for k, v in content.items() if k in ARITHMETIC}),
        "stage": index + 1,
        "inputs": data_hash(data),
        "metrics": sha256_of({m.name: m.version for m in measured}),
        "labels": "" if known is None else data_hash([{"labels": known}]),
    }
    evaluate = Evaluation(loaded, chosen, index, data, measured, known)
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
        index + 1 if accumulator else None,
        requantizer_in_words(chosen) if multiplier else None,
        len(data),
        None if inputs is not None else int(seed),
        [rows[point] for point in points],
        resumed,
        time.monotonic() - began,
    )


def _row(ledger: Ledger, point: Configuration) -> Row:
    """A row that is there; raises IntsimError where it is none."""
    try:
        return Row.from_json(ledger[point.to_json()])
    except (KeyError, TypeError, ValueError):
        raise ledger.damaged() from None


def _evaluated(
    workers: Workers, evaluate: Evaluation, points: Sequence[Configuration], say: Report
) -> Generator[Row, None, None]:
    """The rows of points, as they are finished. One evaluation serves all of a process."""
    if not workers.others:
        yield from (evaluate(point, say) for point in points)
    elif points:
        with closing(workers.results(evaluate, points, evaluate.metrics)) as finished:
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
