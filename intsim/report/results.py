"""Results read back from the JSON that verbs write (docs/json.md): what it was made of, as far as that is an object."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter

from intsim.diagnosis.identify import Identification
from intsim.engine.telemetry.demand import BINS
from intsim.errors import IntsimError
from intsim.explore.advice import Advice
from intsim.explore.evaluate import Evaluated
from intsim.explore.observed import Observed
from intsim.explore.row import Row
from intsim.explore.search import Search
from intsim.explore.sweep import Sweep
from intsim.explore.telemetry import ClipTelemetry, LayerTelemetry, StageTelemetry, Telemetry
from intsim.golden.compare import Comparison
from intsim.graph import IntArray
from intsim.proofs.bounds import Bounds
from intsim.proofs.certificate import Certificate, Int64, digest
from intsim.proofs.check import Check
from intsim.proofs.propose import Proposal
from intsim.proofs.schema import Document, validated
from intsim.rtl.cosimulation import Cosimulation
from intsim.verification.verdict import Verdict
from intsim.verification.witness import Witnessed

Count = Annotated[int, Field(ge=0, lt=1 << 48)]
"""Whose sums int64 holds."""
Histogram = dict[Annotated[int, Field(ge=0, lt=BINS)], Count]


@dataclass(frozen=True)
class Checked:
    """What `certify --check` found of a certificate."""

    certificate: str
    check: Check


@dataclass(frozen=True)
class Outputs:
    """What `run` says of a run."""

    model: str
    target: str
    overflows: int
    counted: bool
    outputs: dict[str, dict[str, Any]]
    profile: dict[str, Any] | None = None


@dataclass(frozen=True)
class GraphNode:
    """A node of a graph's JSON, as far as a drawing wants it."""

    op: str
    name: str
    inputs: list[str]
    output: str
    source: str = ""
    source_op: str = ""
    label: str = ""


@dataclass(frozen=True)
class GraphTensor:
    """A tensor of it."""

    name: str
    shape: list[int]


@dataclass(frozen=True)
class Graph:
    """An integer graph without its constants."""

    name: str
    nodes: list[GraphNode]
    tensors: list[GraphTensor]


class _Channel(BaseModel):
    low: Int64
    high: Int64
    overflows: Count
    partial: Histogram
    final: Histogram


class _Stage(BaseModel):
    stage: int
    bits: int | None
    overflow: str | None
    by_channel: list[_Channel]


class _Layer(BaseModel):
    name: str
    op: str
    stages: list[_Stage]
    node: str | None = None
    module: str | None = None


class _Clip(BaseModel):
    name: str
    tensor: str
    elements: int
    channel_raised: list[Count]
    channel_lowered: list[Count]


class _Telemetry(BaseModel):
    model: str
    target: str
    samples: int
    seed: int | None
    layers: list[_Layer]
    clips: list[_Clip]


@dataclass(frozen=True)
class _Divergence:
    """What is said of a verdict's first wrong integer."""

    name: str
    op: str
    tensor: str
    channel: int | None
    position: list[int]
    expected: int
    got: int
    blame: str
    overflowed_stages: list[int] = field(default_factory=list)


def _dense(histograms: list[Histogram]) -> IntArray:
    made = np.zeros((len(histograms), BINS), np.int64)
    for row, counts in zip(made, histograms, strict=True):
        row[list(counts)] = list(counts.values())
    return made


def _stage(s: _Stage) -> StageTelemetry:
    low, high, events = (
        np.array([getattr(c, k) for c in s.by_channel], np.int64) for k in ("low", "high", "overflows")
    )
    partial, final = (_dense([getattr(c, k) for c in s.by_channel]) for k in ("partial", "final"))
    return StageTelemetry(s.stage, s.bits, s.overflow, low, high, partial, final, events)


def _telemetry(content: dict[str, Any]) -> Telemetry:
    told = _Telemetry.model_validate(content)
    layers = [LayerTelemetry(x.name, x.op, list(map(_stage, x.stages)), x.node, x.module) for x in told.layers]
    clips = [
        ClipTelemetry(
            c.name, c.tensor, c.elements, np.array(c.channel_raised, np.int64), np.array(c.channel_lowered, np.int64)
        )
        for c in told.clips
    ]
    return Telemetry(told.model, told.target, told.samples, told.seed, layers, clips)


def _certificate(content: dict[str, Any]) -> Certificate:
    told = Document.model_validate_json(json.dumps(validated(content)))
    if digest(content) != content["digest"]:
        raise IntsimError("its digest is not that of what it says, so it was altered or damaged; certify again")
    parts = {k: getattr(told, k).model_dump() for k in ("target", "search")}
    parts |= {k: getattr(told, k).model_dump(exclude_none=True) for k in ("model", "host")}
    names = ("intsim", "verdict", "reading", "layers", "requantizers", "obstacles", "multipliers")
    return Certificate(**parts, **{k: getattr(told, k) for k in names})


def _check(content: dict[str, Any]) -> Checked:
    return Checked(
        content["certificate"], TypeAdapter(Check).validate_python({**content, "counterexamples": content["reruns"]})
    )


def _verdict(content: dict[str, Any]) -> Verdict:
    if content["first_divergence"] is not None:
        TypeAdapter(_Divergence).validate_python(content["first_divergence"])
    return TypeAdapter(Verdict).validate_python(content)


def _sweep(content: dict[str, Any]) -> Sweep:
    rows = TypeAdapter(list[Row]).validate_python([_row(r) for r in content["rows"]])
    fields = ("model", "target", "stage", "multiplier_rounding", "samples", "seed", "resumed", "seconds")
    return Sweep(**{k: content[k] for k in fields}, rows=rows)


def _row(content: Mapping[str, Any]) -> dict[str, Any]:
    return {**content, "configuration": content, "run": content["nodes_run"], "reused": content["nodes_reused"]}


def _inspection(content: dict[str, Any]) -> dict[str, Any]:
    TypeAdapter(str).validate_python(content["model"])
    return dict(content)


def _search(content: dict[str, Any]) -> Search:
    found = TypeAdapter(Search).validate_python({**content, "points": [_point(p) for p in content["points"]]})
    if any(len(p.values) != len(found.objectives) for p in found.points) or len(found.greater) != len(found.objectives):
        raise IntsimError("a point has not as many values as there are objectives")
    return found


def _point(content: Mapping[str, Any]) -> dict[str, Any]:
    return {**content, **content["configuration"], "values": [math.nan if v is None else v for v in content["values"]]}


def _plain(kind: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: TypeAdapter(kind).validate_python(content)


READ: dict[str, Callable[[dict[str, Any]], Any]] = {
    "intsim-advice-1": _plain(Advice),
    "intsim-bounds-1": _plain(Bounds),
    "intsim-certificate-2": _certificate,
    "intsim-certificate-3": _certificate,
    "intsim-check-1": _check,
    "intsim-comparison-1": _plain(Comparison),
    "intsim-cosim-1": _plain(Cosimulation),
    "intsim-evaluation-1": _plain(Evaluated),
    "intsim-graph-1": _plain(Graph),
    "intsim-identification-1": _plain(Identification),
    "intsim-inspection-1": _inspection,
    "intsim-observed-1": _plain(Observed),
    "intsim-proposal-1": _plain(Proposal),
    "intsim-run-1": _plain(Outputs),
    "intsim-search-1": _search,
    "intsim-sweep-2": _sweep,
    "intsim-telemetry-1": _telemetry,
    "intsim-verdict-1": _verdict,
    "intsim-witness-1": _plain(Witnessed),
}
"""By the document's format."""


def parsed(text: str | bytes) -> Any:
    """JSON whose numbers are finite; raises ValueError or RecursionError."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number of JSON")
    return value
