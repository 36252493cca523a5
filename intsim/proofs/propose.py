"""Registers of a network's own: of each layer the least widths that are proven to hold all its sums, as a target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import onnx
import tomli_w

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import bits_for
from intsim.arithmetic.pieces import spans
from intsim.arithmetic.registers import BiasPlace
from intsim.arithmetic.requantizers.requantizer import bias_in_accumulator
from intsim.dispatch import MOVES, machine
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph, Node
from intsim.model import Model
from intsim.notebook import Shown
from intsim.ops import OPS, Mac
from intsim.ops.requantize import formulas
from intsim.proofs.bounds import Bounds, LayerBound, bounds
from intsim.proofs.held import held
from intsim.proofs.reachable import cell_ranges
from intsim.targets import Target
from intsim.targets.rules import MACS
from intsim.verification.executed import opened

FORMAT = "intsim-proposal-1"
WIDEST = 62
"""Of a register, so that a bias behind it stays within 64 bits."""


@dataclass(frozen=True)
class ProposedLayer:
    """Of one layer: `bits` of its registers and how many `lanes` there are of each, stage by stage; its channels.

    `register_bits` are those of all its registers, where every channel has its own.
    """

    name: str
    bits: list[int]
    lanes: list[int]
    channels: int
    register_bits: int


@dataclass(frozen=True)
class Proposal(Shown):
    """What `intsim.propose` returns.

    Attributes:
        model, target: what it was asked of.
        proposed: the target's name, which is that of its file.
        layers: with their widths.
        uniform_bits: of the least widths, stage by stage, that suffice for all layers.
        register_bits: of all registers of all layers, where every channel has its own; `uniform_register_bits` of the
            uniform widths.
        toml: the text of the target's file.
    """

    model: str
    target: str
    proposed: str
    layers: list[ProposedLayer]
    uniform_bits: list[int]
    register_bits: int
    uniform_register_bits: int
    toml: str

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return {"format": FORMAT, **asdict(self)}

    def load(self) -> Target:
        """The proposed target."""
        return Target.from_toml(self.toml, self.proposed)


def propose(
    model: str | Path | onnx.ModelProto | Model, target: str | Path | Target = "exact", name: str = "proposed"
) -> Proposal:
    """The target with rules that give each layer's registers the least widths in which no sum overflows.

    Order of addition, groups, lanes, overflow rules and requantizers stay the target's; one without registers gets one
    a layer, which wraps. Proven for every input of the network; with one bit less in one register, sums of its layer
    leave it or aren't proven not to, or the offset does that a requantizer adds in it. Fields of packed multipliers
    stay as they are.

    Args:
        name: of the new target.

    Raises:
        IntsimError: a bad model or target; a network that multiplies nothing; registers that no width is proven enough
            for; layers whose names are those of others with another arithmetic.
    """
    chosen = Target.load(target)
    loaded = opened(model, target=chosen)
    nodes = [n for n in loaded.graph.nodes if isinstance(OPS[n.op], Mac)]
    if not nodes:
        raise IntsimError(f"{loaded.path}: no layer adds up products, so there are no registers to propose")
    needs, widths, offsets = least_widths(loaded, chosen)
    runs = machine(loaded.graph, chosen)
    arithmetics = {x.name: runs.arithmetic(n) for n, x in zip(nodes, needs.layers, strict=True)}
    own = {layer: with_bits(arithmetic, widths[layer]) for layer, arithmetic in arithmetics.items()}
    proposed, content = by_layer(loaded, chosen, own, name)
    if other := _other(loaded.graph, chosen, proposed, offsets):
        raise IntsimError(
            f"{loaded.path}: {other} shares a name with a layer that has another arithmetic or other widths on "
            f"{chosen.name}, and rules go by names; give layers names of their own"
        )
    if not bounds(loaded, proposed).safe:
        raise IntsimError(f"{loaded.path}: the widths that its layers need on {chosen.name} aren't proven together")
    lanes = {x.name: [s.lanes for s in _stages(runs.arithmetic(n))] for n, x in zip(nodes, needs.layers, strict=True)}
    layers = [_layer(x, widths[x.name], lanes[x.name]) for x in needs.layers]
    uniform = _uniform(layers)
    return Proposal(
        loaded.path,
        chosen.name,
        name,
        layers,
        uniform,
        sum(x.register_bits for x in layers),
        sum(_layer(x, uniform[: len(lanes[x.name])], lanes[x.name]).register_bits for x in needs.layers),
        tomli_w.dumps(content),
    )


def least_widths(model: Model, target: Target) -> tuple[Bounds, dict[str, list[int]], dict[str, tuple[str, int]]]:
    """Bounds with wide registers, of each layer the least widths that are proven, stage by stage, and `_offset_bits`.

    Offsets that a requantizer adds in the last register count. Raises IntsimError where no width is proven enough.
    """
    nodes = [n for n in model.graph.nodes if isinstance(OPS[n.op], Mac)]
    runs = machine(model.graph, target)
    dropped = max((s.drop for n in nodes for s in runs.arithmetic(n).stages[:1]), default=0)
    widest = min(WIDEST, 63 - dropped)
    wide = target.changed(lambda own: with_bits(own, [widest] * max(1, len(own.stages))))
    needs = bounds(model, wide)
    if not needs.safe:
        layer = next(x for x in needs.layers if not x.safe)
        raise IntsimError(
            f"{model.path}: layer {layer.name} can overflow on {target.name} whatever the widths of its registers; "
            f"intsim bounds {model.path} -t {target.name} says where"
        )
    offsets = _offset_bits(model.graph, wide)
    widths: dict[str, list[int]] = {}
    for node, layer in zip(nodes, needs.layers, strict=True):
        least = [s.required_bits for s in layer.stages]
        least[-1] = max(least[-1], *(bits for maker, bits in offsets.values() if maker == node.output), 0)
        # of layers of one name, which one rule speaks of; where these have several arithmetics `_other` finds it
        widths[layer.name] = [max(p) for p in zip_longest(widths.get(layer.name, []), least, fillvalue=0)][: len(least)]
    return needs, widths, offsets


def by_layer(
    model: Model, target: Target, own: Mapping[str, Target], name: str, whole: bool = False
) -> tuple[Target, dict[str, Any]]:
    """The target with a rule for each layer that gives it an arithmetic of its own, and the content of its file.

    Args:
        own: of each layer, by name; their requantizers count where the target has rules, or with `whole`.
        name: of the new target.
    """
    content = {k: v for k, v in target.model_dump(mode="json", exclude_none=True).items() if k != "name"}
    content["title"] = f"{target.title}, registers as wide as {Path(model.path).name} needs them"[:500]
    rules = [_rule(layer, arithmetic, whole or bool(target.when)) for layer, arithmetic in own.items()]
    content["when"] = [*rules, *content.get("when", [])]
    for table in (content, *content["when"]):
        _plain(table)
    return Target.from_content(content, name, name), content


def _offset_bits(graph: IntegerGraph, target: Target) -> dict[str, tuple[str, int]]:
    """Of requantizers that add an offset to a layer's sums, in its last register: the layer, and the bits for that.

    By their outputs, the layer by its own. Channel by channel: an offset meets the sums of its cell alone.
    """
    runs, found = machine(graph, target), {}
    seen = replace(graph, tensors=held(graph, target))

    def unbounded(mac: Node) -> tuple[Sequence[Stage], BiasPlace]:
        return (), runs.arithmetic(mac).accumulate.bias

    for node in graph.nodes:
        run, requantizer = runs.node(node), runs.arithmetic(node).requantize
        if run.op != "requantize" or len(run.inputs) > 1 or requantizer.exact or requantizer.reads != "sum":
            continue
        maker = graph.producer(node.inputs[0])
        while maker is not None and maker.op in MOVES and len(maker.inputs) == 1:
            maker = graph.producer(maker.inputs[0])
        if maker is None or not isinstance(OPS[maker.op], Mac):
            continue
        ends = [0]
        for formula, (low, high) in zip(formulas(run), cell_ranges(seen, run, unbounded), strict=True):
            for first, last, (_, scale, offset) in spans(formula.pieces, low, high):
                if scale and offset:
                    bias = bias_in_accumulator(scale, offset)
                    ends += [first + bias, last + bias]
        found[node.output] = maker.output, bits_for(min(ends), max(ends))
    return found


def _other(graph: IntegerGraph, chosen: Target, proposed: Target, offsets: Mapping[str, tuple[str, int]]) -> str | None:
    """A node that has another arithmetic, register widths aside, on the proposed target, or a requantizer that has
    registers there which don't hold its offset."""
    one, two = machine(graph, chosen), machine(graph, proposed)
    for node in graph.nodes:
        narrow = _stages(two.arithmetic(node))[-1].bits < offsets.get(node.output, ("", 0))[1]
        if narrow or _kept(one.arithmetic(node)) != _kept(two.arithmetic(node)):
            return node.shown
    return None


def _kept(own: Target) -> object:
    """Of an arithmetic, what a proposal leaves as it is."""
    path = own.accumulate
    stages = [(s.sum, s.overflow, s.lanes, s.restart, s.drop, s.rounding) for s in _stages(own)]
    return own.operands, own.requantize, path.order, path.bias, path.padding, path.packing, stages


def _layer(layer: LayerBound, bits: Sequence[int], lanes: Sequence[int]) -> ProposedLayer:
    whole = layer.channels * sum(b * n for b, n in zip(bits, lanes, strict=True))
    return ProposedLayer(layer.name, list(bits), list(lanes), layer.channels, whole)


def _stages(own: Target) -> Sequence[Stage]:
    return own.stages or (Stage(None, WIDEST, "wrap"),)


def with_bits(own: Target, bits: Sequence[int]) -> Target:
    """With registers of these widths; the fields of a packed multiplier stay."""
    kept = int(own.accumulate.packing is not None)
    stages = [
        stage if i < kept else replace(stage, bits=b)
        for i, (stage, b) in enumerate(zip(_stages(own), bits, strict=True))
    ]
    return own.model_copy(update={"accumulate": own.accumulate.model_copy(update={"stages": tuple(stages)})})


def _rule(name: str, own: Target, ruled: bool) -> dict[str, Any]:
    """A `[[when]]` table that gives a layer its arithmetic, all of it where the target has rules of its own."""
    content = own.model_dump(mode="json", exclude_none=True)
    rule = {"op": list(MACS), "layer": re.sub(r"[*?[]", r"[\g<0>]", name), "accumulate": content["accumulate"]}
    if ruled:
        rule |= {"operands": content.get("operands", "any"), "requantize": content["requantize"]}
    return rule


def _plain(table: dict[str, Any]) -> None:
    """Tables as a person would write them: the order in one line, nothing that holds unless it is said."""
    if "accumulate" in table:
        own = table["accumulate"]
        own["order"] = " ".join(own["order"])
        own["stages"] = [{k: v for k, v in s.items() if (k, v) != ("lanes", 1)} for s in own["stages"]]
    if "requantize" in table:
        table["requantize"] = {k: v for k, v in table["requantize"].items() if v is not False}


def _uniform(layers: Sequence[ProposedLayer]) -> list[int]:
    most = max((len(x.bits) for x in layers), default=0)
    return [max(x.bits[i] for x in layers if i < len(x.bits)) for i in range(most)]
