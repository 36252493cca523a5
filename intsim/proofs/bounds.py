"""What every accumulator can reach, for all inputs: proven ranges, widths, and whether a target's registers suffice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import IntegerType, bits_for
from intsim.dispatch import machine
from intsim.graph import Node, Tensor, without_module
from intsim.mac.any_order import Addends, Reach, addends
from intsim.mac.partial_sums import Flags, PartialSums
from intsim.mac.plan import plan
from intsim.model import Model
from intsim.notebook import Shown
from intsim.ops import OPS, Mac
from intsim.proofs.budgets import Budget, budget, declared
from intsim.proofs.held import held
from intsim.targets import Target
from intsim.verification.executed import opened

FORMAT = "intsim-bounds-1"


@dataclass(frozen=True)
class StageBound:
    """One register of `bits` bits: extremes of the true sums in it, the bits they need, how many channels may overflow.

    Stages count from 1.
    """

    stage: int
    bits: int
    overflow: str
    low: int
    high: int
    required_bits: int
    unsafe_channels: int


@dataclass(frozen=True)
class Reached:
    """Extremes of the sums of a layer, and the least signed width that holds them; lists have a value a channel."""

    low: int
    high: int
    required_bits: int
    channel_low: list[int] = field(default_factory=list)
    channel_high: list[int] = field(default_factory=list)
    channel_bits: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class LayerBound:
    """One multiply-accumulate layer.

    `low`, `high`: range of the finished accumulator over all inputs within the tensors' ranges, bias included; both are
    attained. `required_bits` hold them as a signed integer; `channel_bits` for each output channel. `own_order` are the
    sums on the way in one register that takes the target's addends in the target's order, `any_order` those in every
    order, bias and compensation included; `products` are the products alone in every order, which is what `budget`
    (A2Q, A2Q+) bounds from types. `type_bits` is what the operand types alone would ask for (A2Q, arXiv 2308.13504,
    data-type bound). `stages` are the target's registers in its own order of addition; `safe` means that none can
    overflow.
    """

    name: str
    op: str
    depth: int
    channels: int
    low: int
    high: int
    required_bits: int
    type_bits: int
    safe: bool
    channel_bits: list[int]
    stages: list[StageBound]
    own_order: Reached
    any_order: Reached
    products: Reached
    budget: Budget | None
    node: str | None = None
    module: str | None = None


@dataclass(frozen=True)
class Bounds(Shown):
    """What `intsim.bounds` returns."""

    model: str
    target: str
    safe: bool
    layers: list[LayerBound]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return {"format": FORMAT, **asdict(self), "layers": [without_module(asdict(x)) for x in self.layers]}


def bounds(model: str | Path | onnx.ModelProto | Model, target: str | Path | Target = "exact") -> Bounds:
    """Prove, for every multiply-accumulate layer, what its accumulator and a target's registers can reach.

    Holds for every input of the network: layers see what the target's own registers and requantizers can make (`held`).
    Raises IntsimError for a bad model or target, or a layer that doesn't fit the target's multiplier.
    """
    chosen = Target.load(target)
    loaded = opened(model, target=chosen)
    tensors, on = held(loaded.graph, chosen), machine(loaded.graph, chosen)
    layers = [
        layer_bound(node, op, [tensors[i] for i in node.inputs], on.arithmetic(node))
        for node in loaded.graph.nodes
        if isinstance(op := OPS[node.op], Mac)
    ]
    return Bounds(loaded.path, chosen.name, all(x.safe for x in layers), layers)


def layer_bound(node: Node, op: Mac, tensors: list[Tensor], target: Target) -> LayerBound:
    """The bound of one node for all integers within the ranges of its inputs, `tensors`; `target` without rules."""
    adds = addends(node, op, tensors, target.registers)
    reached = {kind: _reached(reach) for kind, reach in adds.reach().items()}
    final = reached["final"]
    stages = stage_bounds(plan(node, op, tensors, target.registers).sums, target.stages, adds.channels)
    return LayerBound(
        node.shown,
        node.kind,
        adds.w[0].shape[1],
        adds.channels,
        final.low,
        final.high,
        final.required_bits,
        _type_bits(node, tensors, adds),
        all(s.unsafe_channels == 0 for s in stages),
        final.channel_bits,
        stages,
        reached["own"],
        reached["any"],
        reached["products"],
        budget(adds, tensors[0], op.pads(node)),
        **node.origin,
    )


def stage_bounds(sums: PartialSums | None, stages: Sequence[Stage], channels: int) -> list[StageBound]:
    """Of each register; `sums` are None where there is none."""
    if sums is None:
        return []
    bounds = []
    for i, stage in enumerate(stages):
        low, high = int(sums.low[i].min()), int(sums.high[i].max())
        unsafe = int((~by_channel(sums.safe[i], channels)).sum())
        bounds.append(StageBound(i + 1, stage.bits, stage.overflow, low, high, bits_for(low, high), unsafe))
    return bounds


def by_channel(flags: Flags, channels: int) -> Flags:
    """Of every matrix of a batch: what holds for the channels in all of them."""
    return np.asarray(flags.reshape(-1, channels).all(axis=0))


def _reached(reach: Reach) -> Reached:
    """Python integers, and widths."""
    low, high = ([int(v) for v in side] for side in (reach.low, reach.high))
    widths = [bits_for(a, b) for a, b in zip(low, high, strict=True)]
    return Reached(min(low), max(high), max(widths), low, high, widths)


def _type_bits(node: Node, tensors: list[Tensor], adds: Addends) -> int:
    """Width from the operands' types alone: depth times the largest product, either sign."""
    operands = adds.operands
    x, *rest = (declared(t.type, t.low, t.high) for t in tensors)
    if rest:
        w = rest[0]
    else:
        codes, kind = node.arrays["weight"], node.attributes.get("weight_type")
        w = declared(None if kind is None else IntegerType(**kind), int(codes.min()), int(codes.max()))
    w = (w[0] + int(np.min(operands.w_shift)), w[1] + int(np.max(operands.w_shift)))
    depth = adds.w[0].shape[1]
    corners = [a * b for a in (x[0] + operands.x_shift, x[1] + operands.x_shift, 0) for b in w]
    return bits_for(depth * min(corners), depth * max(corners))
