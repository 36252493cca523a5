"""What one configuration came to: per layer and per output, against the exact run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.explore.configuration import Configuration
from intsim.explore.metrics import MetricResult
from intsim.graph import IntArray, without_module

PLAIN = 1 << 61
"""Magnitude below which differences of integers stay within int64."""


@dataclass
class LayerRow:
    """One layer. Groups are lives of the swept register (of all registers where none is swept).

    `overflowing` groups are `transient` or `persistent` (intsim.explore.telemetry), on the inputs that the layer had in
    this configuration; `elsewhere` are those of the other registers. `proven`: no register of the layer can overflow,
    for any input. Differences are against the exact run; codes are what the requantizer gives, or the accumulator
    itself where there is none. LSB are those of the codes.
    """

    name: str
    op: str
    proven: bool
    groups: int = 0
    overflowing: int = 0
    transient: int = 0
    persistent: int = 0
    elsewhere: int = 0
    sums: int = 0
    sum_mismatches: int = 0
    elements: int = 0
    mismatches: int = 0
    max_lsb: int = 0
    sum_lsb: int = 0
    node: str | None = None
    module: str | None = None

    @property
    def observed(self) -> bool:
        """Nothing overflowed in this layer on these inputs."""
        return not self.overflowing and not self.elsewhere

    @property
    def mean_lsb(self) -> float:
        """Mean absolute difference of the codes."""
        return self.sum_lsb / self.elements if self.elements else 0.0

    def compare(self, exact: IntArray, got: IntArray) -> None:
        """Count one sample's codes."""
        self.elements += got.size
        if got is exact:
            return
        apart = exact != got
        count = int(np.count_nonzero(apart))
        if count:
            a, b = exact[apart], got[apart]
            if max(-int(a.min()), int(a.max()), -int(b.min()), int(b.max())) >= PLAIN:
                a, b = a.astype(object), b.astype(object)
            gap = np.abs(a - b)
            self.mismatches += count
            self.max_lsb = max(self.max_lsb, int(gap.max()))
            self.sum_lsb += int(gap.sum(dtype=object))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**without_module(asdict(self)), "observed": self.observed, "mean_lsb": self.mean_lsb}


@dataclass(frozen=True)
class OutputRow:
    """Absolute differences of one of the file's outputs, in its own units; None where they are not finite."""

    name: str
    elements: int
    mismatches: int
    mean_error: float | None
    median_error: float | None
    rmse: float | None
    max_error: float | None

    @classmethod
    def of(cls, name: str, gaps: Sequence[NDArray[np.float64]]) -> OutputRow:
        """From the absolute differences of every sample."""
        gap = np.concatenate([g.reshape(-1) for g in gaps]) if gaps else np.zeros(0)
        if not gap.size:
            return cls(name, 0, 0, 0.0, 0.0, 0.0, 0.0)
        numbers = (gap.mean(), np.median(gap), np.sqrt(np.mean(gap * gap)), gap.max())
        shown = (float(v) if np.isfinite(v) else None for v in numbers)
        return cls(name, gap.size, int(np.count_nonzero(gap)), *shown)


@dataclass
class Row:
    """One configuration, over all samples. `run` and `reused` count nodes; reused ones were those of a known run."""

    configuration: Configuration
    layers: list[LayerRow]
    outputs: list[OutputRow] = field(default_factory=list)
    metrics: list[MetricResult] = field(default_factory=list)
    run: int = 0
    reused: int = 0

    @property
    def proven(self) -> bool:
        """No register of any layer can overflow."""
        return all(x.proven for x in self.layers)

    @property
    def observed(self) -> bool:
        """No register of any layer overflowed."""
        return all(x.observed for x in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return {
            **self.configuration.to_json(),
            "proven": self.proven,
            "observed": self.observed,
            "nodes_run": self.run,
            "nodes_reused": self.reused,
            "outputs": [asdict(x) for x in self.outputs],
            "metrics": [asdict(x) for x in self.metrics],
            "layers": [x.to_json() for x in self.layers],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Row:
        """What `to_json` wrote. Raises KeyError or TypeError for anything else."""
        layers = [{k: v for k, v in x.items() if k not in ("observed", "mean_lsb")} for x in content["layers"]]
        return cls(
            Configuration(**{f.name: content[f.name] for f in fields(Configuration)}),
            [LayerRow(**x) for x in layers],
            [OutputRow(**x) for x in content["outputs"]],
            [MetricResult(**x) for x in content["metrics"]],
            content["nodes_run"],
            content["nodes_reused"],
        )
