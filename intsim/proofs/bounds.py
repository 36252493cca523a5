"""What every accumulator can reach, for all inputs: proven ranges, widths, and whether a target's registers suffice."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from intsim.arithmetic.integers import IntegerType, bits_for
from intsim.graph import IntegerGraph, Node, Tensor
from intsim.model import Model, opened
from intsim.ops import OPS, Mac
from intsim.ops.plan import plan
from intsim.targets import Target


@dataclass(frozen=True)
class StageBound:
    """One register: extremes of the true sums in it, the bits they need, channels in which it may overflow."""

    stage: str
    low: int
    high: int
    bits: int
    channels_unsafe: int


@dataclass(frozen=True)
class LayerBound:
    """One multiply-accumulate layer.

    `low`, `high`: range of the finished accumulator over all inputs within the tensors' ranges, bias included; both
    are attained. `bits` holds them as a signed integer; `channel_bits` for each output channel. `type_bits` is what
    the operand types alone would ask for (A2Q, arXiv 2308.13504, data-type bound). `stages` are the target's registers
    in its own order of addition; `safe` means that none can overflow.
    """

    name: str
    op: str
    depth: int
    channels: int
    low: int
    high: int
    bits: int
    type_bits: int
    safe: bool
    channel_bits: list[int] = field(default_factory=list)
    stages: list[StageBound] = field(default_factory=list)


@dataclass(frozen=True)
class Bounds:
    """What `intsim.bounds` returns."""

    model: str
    target: str
    safe: bool
    layers: list[LayerBound]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return asdict(self)


def bounds(model: str | Path | onnx.ModelProto | Model, target: str | Path | Target = "exact") -> Bounds:
    """Prove, for every multiply-accumulate layer, what its accumulator and a target's registers can reach.

    Holds for every input whose codes lie in the tensors' declared ranges. Raises IntsimError for a bad model or
    target, or a layer that doesn't fit the target's multiplier.
    """
    loaded = opened(model)
    chosen = target if isinstance(target, Target) else Target.load(target)
    found = [layer_bound(loaded.graph, n, OPS[n.op], chosen) for n in loaded.graph.nodes if isinstance(OPS[n.op], Mac)]  # type: ignore[arg-type]
    return Bounds(loaded.path, chosen.name, all(f.safe for f in found), found)


def layer_bound(graph: IntegerGraph, node: Node, op: Mac, target: Target) -> LayerBound:
    """The bound of one node."""
    tensors = [graph.tensors[i] for i in node.inputs]
    low, high = op.channel_ranges(node, *tensors)
    sums = plan(node, op, tensors, target.registers).sums
    stages = []
    if sums is not None:
        for i, stage in enumerate(target.stages):
            least, most = int(sums.low[i].min()), int(sums.high[i].max())
            unsafe = int((~sums.safe[i].reshape(-1, len(low)).all(axis=0)).sum())
            name = f"{i + 1}: {stage.bits}-bit {stage.overflow}"
            stages.append(StageBound(name, least, most, bits_for(least, most), unsafe))
    depth = _depth(node, tensors)
    return LayerBound(
        node.source or node.name,
        node.source_op or node.op,
        depth,
        len(low),
        min(low),
        max(high),
        bits_for(min(low), max(high)),
        _type_bits(node, op, tensors, depth),
        all(s.channels_unsafe == 0 for s in stages),
        [bits_for(a, b) for a, b in zip(low, high, strict=True)],
        stages,
    )


def _depth(node: Node, tensors: list[Tensor]) -> int:
    """Products of one output element."""
    if "weight" not in node.arrays:
        return int(tensors[1].shape[-2])
    weight = node.arrays["weight"]
    return int(weight.shape[-2] if node.op == "matmul" else np.prod(weight.shape[1:]))


def _type_bits(node: Node, op: Mac, tensors: list[Tensor], depth: int) -> int:
    """Width from the operands' ranges alone: depth times the largest product, either sign."""
    zx, zw = op.zero_points(node)
    x = (tensors[0].low - zx, tensors[0].high - zx)
    kind = IntegerType(**node.attributes["weight_type"]) if "weight_type" in node.attributes else None
    if kind is not None:
        w = (kind.min - int(np.max(zw)), kind.max - int(np.min(zw)))
    else:
        w = (tensors[1].low - int(zw), tensors[1].high - int(zw)) if len(tensors) > 1 else (-1, 1)
    corners = [a * b for a in (*x, 0) for b in w]
    return bits_for(depth * min(corners), depth * max(corners))
