"""What every accumulator can reach, for all inputs: proven ranges, widths, and whether a target's registers suffice."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from intsim.arithmetic.integers import IntegerType, bits_for
from intsim.dispatch import arithmetic
from intsim.graph import Node, Tensor, without_module
from intsim.mac.any_order import Addends, Reach, addends
from intsim.mac.plan import plan
from intsim.model import Model, opened
from intsim.notebook import Shown
from intsim.ops import OPS, Mac
from intsim.proofs.budgets import Budget, budget
from intsim.proofs.held import held
from intsim.targets import Target

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
    loaded, chosen = opened(model), Target.load(target)
    tensors = held(loaded.graph, chosen)
    found = [
        layer_bound(node, op, [tensors[i] for i in node.inputs], arithmetic(chosen, loaded.graph, node))
        for node in loaded.graph.nodes
        if isinstance(op := OPS[node.op], Mac)
    ]
    return Bounds(loaded.path, chosen.name, all(f.safe for f in found), found)


def layer_bound(node: Node, op: Mac, tensors: list[Tensor], target: Target) -> LayerBound:
    """The bound of one node for all integers within the ranges of its inputs, `tensors`; `target` without rules."""
    adds = addends(node, op, tensors, target.registers)
    found = {kind: _reached(reach) for kind, reach in adds.reach().items()}
    final = found["final"]
    sums = plan(node, op, tensors, target.registers).sums
    stages = []
    if sums is not None:
        for i, stage in enumerate(target.stages):
            least, most = int(sums.low[i].min()), int(sums.high[i].max())
            unsafe = int((~sums.safe[i].reshape(-1, adds.channels).all(axis=0)).sum())
            required = bits_for(least, most)
            stages.append(StageBound(i + 1, stage.bits, stage.overflow, least, most, required, unsafe))
    depth = _depth(node, tensors)
    return LayerBound(
        node.shown,
        node.kind,
        depth,
        adds.channels,
        final.low,
        final.high,
        final.required_bits,
        _type_bits(node, tensors, adds, depth),
        all(s.unsafe_channels == 0 for s in stages),
        final.channel_bits,
        stages,
        found["own"],
        found["any"],
        found["products"],
        budget(adds, tensors[0], op.pads(node)),
        **node.origin,
    )


def _reached(reach: Reach) -> Reached:
    """Python integers, and widths."""
    low, high = ([int(v) for v in side] for side in (reach.low, reach.high))
    widths = [bits_for(a, b) for a, b in zip(low, high, strict=True)]
    return Reached(min(low), max(high), max(widths), low, high, widths)


def _depth(node: Node, tensors: list[Tensor]) -> int:
    """Products of one output element."""
    if "weight" not in node.arrays:
        return int(tensors[1].shape[-2])
    weight = node.arrays["weight"]
    return int(weight.shape[-2] if node.op == "matmul" else np.prod(weight.shape[1:]))


def _type_bits(node: Node, tensors: list[Tensor], adds: Addends, depth: int) -> int:
    """Width from the operands' types alone: depth times the largest product, either sign."""
    x = _ends(tensors[0].type, tensors[0].low, tensors[0].high)
    if len(tensors) > 1:
        w = _ends(tensors[1].type, tensors[1].low, tensors[1].high)
    else:
        codes, kind = node.arrays["weight"], node.attributes.get("weight_type")
        w = _ends(None if kind is None else IntegerType(**kind), int(codes.min()), int(codes.max()))
    how = adds.operands
    w = (w[0] + int(np.min(how.w_shift)), w[1] + int(np.max(how.w_shift)))
    corners = [a * b for a in (x[0] + how.x_shift, x[1] + how.x_shift, 0) for b in w]
    return bits_for(depth * min(corners), depth * max(corners))


def _ends(kind: IntegerType | None, low: int, high: int) -> tuple[int, int]:
    """Of the declared type, or of the values where none is declared."""
    return (low, high) if kind is None else (kind.min, kind.max)
