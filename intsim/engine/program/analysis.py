"""What is known of a graph on a target before it runs: what each tensor can hold, and which tensors are words.

A proof speaks of inputs within their described ranges. Behind a register that can overflow a tensor may hold more, so
what each tensor can really hold is followed through the graph; nodes whose inputs may leave their ranges go the slow
way, which looks at the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from intsim.engine.exact.conv import WordConv
from intsim.engine.exact.isa import Dot
from intsim.engine.exact.layout import Layout, TensorView
from intsim.engine.exact.taps import window
from intsim.engine.registers.overflow_check import Certified
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.mac.operands import channel_zeros
from intsim.mac.plan import Plan, plan
from intsim.ops import OPS, Mac
from intsim.targets import Target

Range = tuple[int, int]
ANYTHING = (-(1 << 63), (1 << 63) - 1)
INT32 = (-(1 << 31), (1 << 31) - 1)


def inside(inner: Range, outer: Range) -> bool:
    """Whether one range lies within another."""
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def byte_shift(held: Range) -> int | None:
    """What makes unsigned bytes of these integers, 0 or 128; None if nothing does."""
    return 0 if inside(held, (0, 255)) else 128 if inside(held, (-128, 127)) else None


@dataclass
class Analysis:
    """Facts of a graph on a target. Nodes go by the names of their outputs."""

    holds: dict[str, Range] = field(default_factory=dict)
    sound: dict[str, bool] = field(default_factory=dict)  # inputs can't leave their described ranges
    plans: dict[str, Plan] = field(default_factory=dict)
    convs: dict[str, WordConv] = field(default_factory=dict)  # convolutions that run on words
    certified: dict[str, Certified] = field(default_factory=dict)  # and that may prove themselves on words
    places: dict[str, TensorView] = field(default_factory=dict)  # tensors that are words
    storages: list[Layout] = field(default_factory=list)


def safe(found: Plan) -> bool:
    """Whether no channel can overflow."""
    return found.sums is None or bool(found.sums.all_safe.all())


def forms(graph: IntegerGraph, target: Target, dot: Dot) -> Analysis:
    """Raises IntsimError when a layer doesn't fit the target's multiplier."""
    found = Analysis()
    for name in graph.inputs:
        found.holds[name] = graph.tensors[name].low, graph.tensors[name].high
    for node in graph.nodes:
        _follow(graph, node, target, found)
    weights = {node.output: w for node in graph.nodes if (w := _conv_weights(graph, node, target, found)) is not None}
    drafts, where = _place(graph, found, weights)
    for node in graph.nodes:
        if node.output in weights:
            draft = drafts[where[node.inputs[0]][0]]
            if safe(found.plans[node.output]):
                made = _word_conv(graph, node, weights[node.output], draft["shift"], dot)
                if made is not None:
                    found.convs[node.output] = made
                    _make_room(draft, made)
            else:
                proof = _certified(graph, node, weights[node.output], draft["shift"], target, found, dot)
                if proof is not None:
                    found.certified[node.output] = proof
                    _make_room(draft, proof.conv)
    found.storages = [Layout(**draft) for draft in drafts]
    for name, (storage, group) in where.items():
        found.places[name] = TensorView(storage, found.storages[storage], group, graph.tensors[name].shape[1])
    return found


def _follow(graph: IntegerGraph, node: Node, target: Target, found: Analysis) -> None:
    """What the node's output can hold."""
    described = graph.tensors[node.output]
    tensors = [graph.tensors[i] for i in node.inputs]
    sound = all(inside(found.holds[t.name], (t.low, t.high)) for t in tensors)
    found.sound[node.output] = sound
    held = described.low, described.high
    op = OPS[node.op]
    if isinstance(op, Mac):
        found.plans[node.output] = how = plan(node, op, tensors, target.registers)
        if target.stages and not (sound and safe(how)):
            last, behind = target.stages[-1], np.zeros(1, np.int64) if how.behind is None else how.behind
            held = min(held[0], last.min + int(behind.min())), max(held[1], last.max + int(behind.max()))
        elif not sound:
            held = ANYTHING
    elif node.op == "requantize":
        if not sound or target.form.scheme not in ("exact", "thresholds"):
            low, high = node.attributes["low"], node.attributes["high"]
            held = ANYTHING if low is None or high is None else (low, high)
    elif not sound:
        table = node.arrays["table"] if node.op == "table" else None
        held = ANYTHING if table is None else (int(table.min()), int(table.max()))
    found.holds[node.output] = held


def byte_weights(node: Node, op: Mac) -> IntArray | None:
    """Constant weights without their zero point, if they fit int8."""
    if "weight" not in node.arrays or len(node.inputs) > 1:
        return None
    weight = node.arrays["weight"] - op.zero_points(node)[1]
    return weight if weight.size and inside((int(weight.min()), int(weight.max())), (-128, 127)) else None


def _conv_weights(graph: IntegerGraph, node: Node, target: Target, found: Analysis) -> IntArray | None:
    """Weights (O, C / groups, kh, kw) of a node that can run on words.

    It can with byte operands, 32-bit accumulators, and inputs within their ranges.
    """
    op, y = OPS[node.op], graph.tensors[node.output]
    if (
        node.op not in ("conv", "conv_transpose")
        or not isinstance(op, Mac)
        or not _can_be_words(graph, found, node.inputs[0])
    ):
        return None
    how, spatial = found.plans[node.output], window(node)
    if spatial is None or not found.sound[node.output]:
        return None
    if safe(how):
        weight = byte_weights(node, op) if inside((y.low, y.high), INT32) else None
    else:
        weight = multiplied(node, how, target)
    return None if weight is None else weight.reshape(*weight.shape[:2], *spatial.kernel)


def multiplied(node: Node, how: Plan, target: Target, axis: int = 1) -> IntArray | None:
    """Weights as the multiplier sees them, of a node whose sums of bytes could prove themselves.

    Products of a channel lie along `axis` and those after it.
    """
    weight = node.arrays["weight"] + how.operands.w_shift
    ready = target.registers.packing is None and not how.operands.depends_on_data() and target.stages[-1].bits <= 32
    if not ready or not weight.size or not inside((int(weight.min()), int(weight.max())), (-128, 127)):
        return None
    return (
        weight
        if 255 * int(np.abs(weight).sum(axis=tuple(range(1, weight.ndim)) if axis else 0).max()) < 1 << 31
        else None
    )


def _certified(
    graph: IntegerGraph, node: Node, weight: IntArray, shift: int, target: Target, found: Analysis, dot: Dot
) -> Certified | None:
    how, spatial, channels = found.plans[node.output], window(node), weight.shape[0]
    assert spatial is not None
    assert how.sums is not None
    # the multiplier must see the bytes as they are, padding too
    pad = how.operands.pad
    if how.operands.x_shift != shift or not 0 <= pad <= 255 or node.op != "conv":
        return None
    size, out = (_map(graph, name) for name in (node.inputs[0], node.output))
    late = late_terms(how, weight.reshape(channels, -1))
    start = np.zeros(channels, np.int64) if how.preload is None else how.preload
    proof = Certified(
        weight,
        target.stages,
        start,
        np.zeros(channels, np.int64) if late is None else late,
        how.sums.all_safe,
        spatial,
        size,
        out,
        pad,
        dot,
    )
    return proof if proof.possible else None


def late_terms(how: Plan, rows: IntArray) -> IntArray | None:
    """What is added to each channel (N, K) after its products."""
    zeros = channel_zeros(how.operands.w_zero, len(rows))
    terms = [t for t in (how.after, how.operands.compensation(rows, zeros)) if t is not None]
    return sum(terms[1:], terms[0]) if terms else None


def _word_conv(graph: IntegerGraph, node: Node, weight: IntArray, shift: int, dot: Dot) -> WordConv | None:
    op, spatial = OPS[node.op], window(node)
    assert isinstance(op, Mac)
    assert spatial is not None
    zero = op.zero_points(node)[0] + shift
    if op.pads(node) and not 0 <= zero <= 255:
        return None
    size, out = (_map(graph, name) for name in (node.inputs[0], node.output))
    bias = node.arrays.get("bias", np.zeros(weight.shape[0], np.int64))
    return WordConv(weight, bias, spatial, size, out, zero, zero, dot)


def _map(graph: IntegerGraph, name: str) -> tuple[int, int]:
    """Height and width; a rank of 3 has one row."""
    *_, height, width = (1, *graph.tensors[name].shape[2:])
    return height, width


def _place(
    graph: IntegerGraph, found: Analysis, weights: dict[str, IntArray]
) -> tuple[list[dict[str, int]], dict[str, tuple[int, int]]]:
    """Which tensors are words, and where: storage and first plane. Operands of a concatenation lie in its result."""
    shifts: dict[str, int] = {}
    for node in reversed(graph.nodes):
        if node.output in weights:
            shifts.setdefault(node.inputs[0], byte_shift(found.holds[node.inputs[0]]) or 0)
        elif node.output in shifts and _moves_words(node):
            # what they hold, the result holds, so its shift suits them
            shifts |= {n: shifts[node.output] for n in node.inputs if _can_be_words(graph, found, n)}
        elif node.output in shifts and node.op in ("requantize", "table"):
            for name in node.inputs:
                if _can_be_words(graph, found, name):
                    shifts.setdefault(name, byte_shift(found.holds[name]) or 0)
    drafts: list[dict[str, int]] = []
    where: dict[str, tuple[int, int]] = {}
    producers = {node.output: node for node in graph.nodes}
    for name in [*(node.output for node in reversed(graph.nodes)), *graph.inputs]:
        if name in shifts and name not in where:
            where[name] = len(drafts), 0
            height, width = _map(graph, name)
            images, channels = graph.tensors[name].shape[:2]
            sizes = {"images": images, "channels": channels, "height": height, "width": width}
            drafts.append({**sizes, "shift": shifts[name]})
        maker = producers.get(name)
        if name in shifts and maker is not None and maker.op == "concat" and _moves_words(maker):
            _inlay(graph, maker, where, shifts)
    return drafts, where


def _can_be_words(graph: IntegerGraph, found: Analysis, name: str) -> bool:
    shape = graph.tensors[name].shape
    return len(shape) in (3, 4) and byte_shift(found.holds[name]) is not None and 0 not in shape


def _moves_words(node: Node) -> bool:
    """Concatenations of channels, and picking of rows or columns."""
    return node.attributes.get("axis", -1) == 1 if node.op == "concat" else is_resize(node)


def is_resize(node: Node) -> bool:
    """Whether it picks positions along a spatial axis."""
    return node.op == "gather" and node.attributes["axis"] >= 2


def _inlay(graph: IntegerGraph, node: Node, where: dict[str, tuple[int, int]], shifts: dict[str, int]) -> None:
    """Operands that start at a whole word and lie nowhere else yet are parts of the result."""
    storage, group = where[node.output]
    channel = 0
    for name in node.inputs:
        fits = shifts.get(name) == shifts[node.output]
        if channel % 4 == 0 and fits and name not in where:
            where[name] = storage, group + channel // 4
        channel += graph.tensors[name].shape[1]


def _make_room(draft: dict[str, int], conv: WordConv) -> None:
    """A border as the convolution reads it, unless another one needs another padding."""
    if conv.strided or draft.get("pad", conv.pad) != conv.pad:
        return
    if any(conv.border):
        draft["pad"] = conv.pad
    for side, needed in zip(("top", "left", "bottom", "right"), conv.border, strict=True):
        draft[side] = max(draft.get(side, 0), needed)
