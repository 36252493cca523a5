"""Telemetry of a model on a target: what its registers held, what other widths would have seen, what clips cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import bits_for
from intsim.dispatch import arithmetic
from intsim.engine.run import run_graph
from intsim.engine.telemetry.demand import BINS, Demand, above, clipped, mac_demand, nothing
from intsim.graph import IntArray, IntegerGraph, Node, without_module
from intsim.inputs import Inputs, samples_of
from intsim.model import Model
from intsim.notebook import Shown
from intsim.ops import OPS, Mac
from intsim.targets import Target
from intsim.verification.executed import opened
from intsim.verification.layers import layers

FORMAT = "intsim-telemetry-1"
Report = Callable[[str], None]


def sparse(histogram: IntArray) -> dict[str, int]:
    """A histogram as JSON: bits to count, without zeros; "65" stands for more than 64."""
    return {str(b): int(histogram[b]) for b in range(BINS) if histogram[b]}


@dataclass(frozen=True)
class StageTelemetry:
    """One register of a layer. A group is one life of the register: what it adds up before it hands on the sum.

    Stages count from 1.
    `low`, `high` (channels,) are the extremes of any partial sum, `partial`, `final` (channels, 66) count groups by
    the bits that their partial sums and their final sum need, as if no register before had overflowed. `overflows`
    (channels,) are additions that overflowed on the target. `bits` and `overflow` are the target's, None if unbounded.
    """

    stage: int
    bits: int | None
    overflow: str | None
    low: IntArray
    high: IntArray
    partial: IntArray
    final: IntArray
    overflows: IntArray

    @property
    def channel_bits(self) -> list[int]:
        """Bits that hold every partial sum seen, by channel; extremes at the ends of int64 may have needed more."""
        return [bits_for(int(a), int(b)) for a, b in zip(self.low, self.high, strict=True)]

    @property
    def groups(self) -> int:
        """Lives of the register, over all channels."""
        return int(self.partial.sum())

    def overflowing(self, bits: int) -> IntArray:
        """Groups, by channel, that overflow in a register of `bits` bits."""
        return above(self.partial, bits)

    def persistent(self, bits: int) -> IntArray:
        """Of these, those whose final sum does not fit."""
        return above(self.final, bits)

    def transient(self, bits: int) -> IntArray:
        """Of these, those whose final sum fits again."""
        return self.overflowing(bits) - self.persistent(bits)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; histograms by bits, without zeros. Counts at the target's own width are None if unbounded."""
        own = {
            name: None if self.bits is None else getattr(self, name)(self.bits).tolist()
            for name in ("overflowing", "transient", "persistent")
        }
        return {
            "stage": self.stage,
            "bits": self.bits,
            "overflow": self.overflow,
            "required_bits": max(self.channel_bits, default=1),
            "low": int(self.low.min(initial=0)),
            "high": int(self.high.max(initial=0)),
            "groups": self.groups,
            "overflows": int(self.overflows.sum()),
            **{name: None if counts is None else sum(counts) for name, counts in own.items()},
            "partial": sparse(self.partial.sum(axis=0)),
            "final": sparse(self.final.sum(axis=0)),
            "by_channel": [
                {
                    "required_bits": required,
                    "low": int(self.low[n]),
                    "high": int(self.high[n]),
                    "overflows": int(self.overflows[n]),
                    **{name: None if counts is None else counts[n] for name, counts in own.items()},
                    "partial": sparse(self.partial[n]),
                    "final": sparse(self.final[n]),
                }
                for n, required in enumerate(self.channel_bits)
            ],
        }


@dataclass(frozen=True)
class LayerTelemetry:
    """One multiply-accumulate layer, its registers in order."""

    name: str
    op: str
    stages: list[StageTelemetry]
    node: str | None = None
    module: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        origin = without_module({"node": self.node, "module": self.module})
        return {"name": self.name, **origin, "op": self.op, "stages": [s.to_json() for s in self.stages]}


@dataclass(frozen=True)
class ClipTelemetry:
    """One requantizer: (channels,) values that its clip raised to its least and lowered to its greatest code."""

    name: str
    tensor: str
    elements: int
    raised: IntArray
    lowered: IntArray
    node: str | None = None
    module: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Totals, and a list a side with a count for each channel."""
        return {
            "name": self.name,
            **without_module({"node": self.node, "module": self.module}),
            "tensor": self.tensor,
            "elements": self.elements,
            "raised": int(self.raised.sum()),
            "lowered": int(self.lowered.sum()),
            "channel_raised": self.raised.tolist(),
            "channel_lowered": self.lowered.tolist(),
        }


@dataclass(frozen=True)
class Telemetry(Shown):
    """What `intsim.telemetry` returns."""

    model: str
    target: str
    samples: int
    seed: int | None
    layers: list[LayerTelemetry] = field(default_factory=list)
    clips: list[ClipTelemetry] = field(default_factory=list)

    @property
    def overflows(self) -> int:
        """Additions that overflowed on the target, in all layers and samples."""
        return sum(int(s.overflows.sum()) for layer in self.layers for s in layer.stages)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return {
            "format": FORMAT,
            "model": self.model,
            "target": self.target,
            "samples": self.samples,
            "seed": self.seed,
            "overflows": self.overflows,
            "layers": [x.to_json() for x in self.layers],
            "clips": [x.to_json() for x in self.clips],
        }


class Seen:
    """Telemetry of one graph on one target while it runs, added up over samples."""

    def __init__(self, graph: IntegerGraph, target: Target) -> None:
        """Nothing was seen yet."""
        self.graph, self.target = graph, target
        self.demand: dict[str, Demand] = {}
        self.clips: dict[str, tuple[IntArray, IntArray, int]] = {}
        self.axes = channel_axes(graph)

    def watch(self, node: Node, arrays: list[IntArray]) -> None:
        """Look at a node about to run on `arrays`."""
        op, tensors = OPS[node.op], [self.graph.tensors[i] for i in node.inputs]
        target = arithmetic(self.target, self.graph, node)
        if isinstance(op, Mac):
            demand = mac_demand(node, op, arrays, tensors, target)
            self.demand.setdefault(node.name, nothing(*demand.low.shape)).merge(slice(None), demand)
        elif node.op == "requantize":
            low, high = clipped(node, arrays, tensors, target, self.axes[node.name])
            size = int(np.prod(self.graph.tensors[node.output].shape))
            raised, lowered, elements = self.clips.get(node.name, (0, 0, 0))
            self.clips[node.name] = raised + low, lowered + high, elements + size


def channel_axes(graph: IntegerGraph) -> dict[str, int]:
    """The axis of channels in each requantizer's output: the last one after a matrix product, else axis 1 if any."""
    ops = {node.name: node.op for node in graph.nodes}
    products = {x.tensor for x in layers(graph) if x.macs and ops[x.macs[0]] == "matmul"}
    return {
        node.name: -1 if node.output in products else min(1, len(graph.tensors[node.output].shape) - 1)
        for node in graph.nodes
        if node.op == "requantize"
    }


def telemetry(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    progress: Report | None = None,
) -> Telemetry:
    """Run a model on a target and say what every register held, and would have held at any other width.

    Args:
        model: path, ModelProto or what `load` returned.
        target: a built-in name, a TOML file or a `Target`. Unbounded registers are seen as one register a layer.
        inputs: as `run` takes them: one sample or many. Drawn with `seed` where None.
        samples: how many samples to draw where no inputs are given; 1 if None.
        seed: seed of the first drawn sample.
        progress: called with a line of text before each node.

    Raises:
        IntsimError: bad model, target or inputs, or a layer that doesn't fit the target.
    """
    chosen = Target.load(target)
    loaded = opened(model, inputs, chosen)
    data = samples_of(loaded, inputs, samples, seed)
    seen = Seen(loaded.graph, chosen)
    events: dict[str, IntArray] = {}
    for sample in data:
        codes = loaded.integer_inputs(sample, chosen)
        ran = run_graph(loaded.graph, codes, chosen, progress=progress, watch=seen.watch)
        for name, counts in ran.events.items():
            events[name] = events[name] + counts if name in events else counts
    result = Telemetry(loaded.path, chosen.name, len(data), None if inputs is not None else int(seed))
    for node in loaded.graph.nodes:
        if node.name in seen.demand:
            registers = _stages(
                arithmetic(chosen, loaded.graph, node).stages, seen.demand[node.name], events[node.name]
            )
            result.layers.append(LayerTelemetry(node.shown, node.kind, registers, **node.origin))
        elif node.name in seen.clips:
            low, high, size = seen.clips[node.name]
            result.clips.append(ClipTelemetry(node.shown, node.output, size, low, high, **node.origin))
    return result


def _stages(stages: Sequence[Stage], demand: Demand, events: IntArray) -> list[StageTelemetry]:
    """A layer's registers."""

    def register(i: int, bits: int | None, overflow: str | None, counts: IntArray) -> StageTelemetry:
        low, high, partial, final = (a[:, i] for a in demand)
        return StageTelemetry(i + 1, bits, overflow, low, high, partial, final, counts)

    if not stages:
        return [register(0, None, None, np.zeros(len(demand.low), np.int64))]
    return [register(i, s.bits, s.overflow, events[:, i]) for i, s in enumerate(stages)]
