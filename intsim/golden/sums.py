"""A layer's registers, addition by addition, by the definition: what each holds at the end, and one output's story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import Stage, Watch, accumulate_telemetry
from intsim.arithmetic.packing import accumulate_packed
from intsim.arithmetic.schedule import schedule
from intsim.dispatch import Machine
from intsim.engine.node import whole_sets
from intsim.errors import IntsimError
from intsim.graph import IntArray, Node
from intsim.mac.operands import channel_zeros
from intsim.mac.plan import Plan, plan
from intsim.notebook import Shown
from intsim.ops import OPS, Mac, Panel
from intsim.targets import Target

MOST_PRODUCTS = 1 << 22
"""Products in memory at once."""
UNBOUNDED = (Stage(None, 64, "wrap"),)
"""Of a target without registers: exact sums fit int64."""


class Block(NamedTuple):
    """Outputs (rows, channels) of a layer: their products, and what is added before, after and behind them."""

    panel: Panel
    start: IntArray | None  # (channels,) preloaded into the last register
    late: IntArray | None  # broadcasts to (rows, channels): added into it after the products
    behind: IntArray | None  # likewise, added to what the registers hand on


class Sums(NamedTuple):
    """A multiply-accumulate on a machine with its operands at hand."""

    node: Node
    op: Mac
    arrays: list[IntArray]
    target: Target
    planned: Plan

    @classmethod
    def of(cls, runs: Machine, node: Node, arrays: list[IntArray]) -> Sums:
        """Of a node of a machine's graph; raises IntsimError where a tensor doesn't fit the machine's multiplier."""
        op, target = OPS[node.op], runs.arithmetic(node)
        assert isinstance(op, Mac)
        return cls(
            node, op, arrays, target, plan(node, op, [runs.graph.tensors[n] for n in node.inputs], target.registers)
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Its registers."""
        return self.target.stages or UNBOUNDED

    def blocks(self) -> Iterator[Block]:
        """All outputs; of packed multipliers with whole sets of neighbouring positions."""
        node, op, operands = self.node, self.op, self.planned.operands
        x, w = op.operands(node, *self.arrays)
        x, w = x + operands.x_shift, w + operands.w_shift
        order, packing = self.target.accumulate.order, self.target.registers.packing
        panels = op.panels(node, x, w, operands.pad, order)
        owed = operands.owed and op.pads(node)
        masks = op.panels(node, np.ones_like(x), w, 0, order) if owed else repeat(None)
        if packing is not None:
            panels = whole_sets(panels, len(packing.pixels))
        zeros = channel_zeros(operands.w_zero, op.extent(node, *(a.shape for a in self.arrays))[1])
        for panel, mask in zip(panels, masks, strict=False):
            zero, preload, behind = zeros[panel.channels], self.planned.preload, self.planned.behind
            late = self.planned.late(panel.w, panel.channels)
            if operands.depends_on_data():
                term = -panel.a.sum(axis=1)[:, None] * zero
                late = term if late is None else term + late
            added = None if behind is None else behind[panel.channels]
            if mask is not None:  # what was taken off for padding, which made no products
                owing = operands.x_zero * ((1 - mask.a) @ (panel.w - zero[:, None]).T)
                added = owing if added is None else owing + added
            yield Block(panel, None if preload is None else preload[panel.channels], late, added)

    def add(self, block: Block, rows: Sequence[int] | slice, watch: Watch) -> IntArray:
        """The sums of some rows of a block, (rows, channels), while `watch` sees every addition of that shape.

        With packed multipliers rows begin with a whole set; `watch` sees (sets of rows, sets of channels, channels,
        pixels), filled with zeros.
        """
        a, w, packing = block.panel.a[rows], block.panel.w, self.target.registers.packing
        shape = len(a), len(w)
        late = None if block.late is None else np.broadcast_to(block.late, (len(block.panel.a), len(w)))[rows]
        products = a[:, None, :] * w[None]
        first = 0 if block.start is None else block.start
        if packing is None:
            return accumulate_telemetry(products, self.stages, first, late, watch).result
        sizes = len(packing.pixels), len(packing.channels)

        def sets(values: IntArray) -> IntArray:
            grown = [(0, -n % size) for n, size in zip(values.shape, sizes, strict=False)]
            full = np.pad(values, [*grown, *[(0, 0)] * (values.ndim - 2)])
            parts = full.reshape(
                full.shape[0] // sizes[0], sizes[0], full.shape[1] // sizes[1], sizes[1], *full.shape[2:]
            )
            return np.moveaxis(parts, 1, 3)

        start, behind = (None if v is None else sets(np.broadcast_to(v, shape)) for v in (first, late))
        result = accumulate_packed(sets(products), self.stages, packing, start, behind, watch).result
        return apart(result, shape)


def apart(values: IntArray, shape: tuple[int, ...]) -> IntArray:
    """(rows, channels) of the sets of packed multipliers, without what was filled."""
    if values.ndim == 2:
        return values
    rows = np.moveaxis(values, 3, 1)
    return rows.reshape(rows.shape[0] * rows.shape[1], -1)[: shape[0], : shape[1]]


def registers_at_end(sums: Sums) -> list[IntArray]:
    """Of each stage what its registers hold after the layer's last addition, in LSBs of the registers.

    The output's shape, and behind it an axis of lanes where a stage has several. Lanes that no value came to hold 0.
    Of packed multipliers the first stage is what is read of an output's field. Empty for a target without registers.
    """
    node, op, stages = sums.node, sums.op, sums.target.stages
    shapes = [a.shape for a in sums.arrays]
    rows, channels = op.extent(node, *shapes)
    out = [np.zeros((s.lanes, rows, channels), np.int64) for s in stages]
    packing = sums.target.registers.packing
    together = 1 if packing is None else len(packing.pixels)
    for block in sums.blocks() if stages else ():
        panel = block.panel
        depth = max(1, panel.a.shape[1])
        step = max(1, MOST_PRODUCTS // (depth * len(panel.w) * together)) * together
        for at in range(0, len(panel.a), step):
            part = slice(at, min(at + step, len(panel.a)))
            rows_ = slice(panel.rows.start + part.start, panel.rows.start + part.stop)
            places = [o[:, rows_, panel.channels] for o in out]
            sums.add(block, part, partial(_keep, stages, places))
    folded = [[op.fold(node, lane_, *shapes) for lane_ in stage] for stage in out]
    return [lanes[0] if len(lanes) == 1 else np.stack(lanes, axis=-1) for lanes in folded]


def _keep(
    stages: Sequence[Stage],
    places: list[IntArray],
    stage: int,
    values: range,
    k: int | None,
    added: IntArray,
    held: IntArray,
) -> None:
    """A `Watch` that leaves the latest value of each register, (lanes, rows, channels), in the places of its stage."""
    there = places[stage]
    there[lane(stages[stage], values)] = apart(np.broadcast_to(held, added.shape), (there.shape[1], there.shape[2]))


def lane(stage: Stage, values: range) -> int:
    """Which of a stage's registers takes these values of the stage before."""
    block = stage.restart if isinstance(stage.restart, int) else 0
    return (values.start % block if block else values.start) % stage.lanes


@dataclass(frozen=True)
class Addition:
    """One addition of a trace.

    Attributes:
        stage: from 1; 0 of what is added behind the registers.
        lane: the register, from 0.
        adds: "product", "register" (handed on by the stage before), "bias" (preloaded), "late", "read" (of a field of
            a packed register), "behind".
        activation, weight: of a product, as the multiplier sees them.
        added: what is added; `value`: what the register holds then; `overflow`: whether it is not their sum.
    """

    stage: int
    lane: int
    adds: str
    activation: int | None
    weight: int | None
    added: int
    value: int
    overflow: bool


@dataclass(frozen=True)
class Trace(Shown):
    """One output's additions one after another, and `total`, the accumulator that they make."""

    layer: str
    position: tuple[int, ...]
    additions: list[Addition]
    total: int

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        own = {"layer": self.layer, "position": list(self.position), "total": self.total}
        return {"format": "intsim-trace-1", **own, "additions": [asdict(a) for a in self.additions]}


def trace(sums: Sums, name: str, position: Sequence[int]) -> Trace:
    """The additions of one output; `position` is its place in the result, without the first axis where that is 1.

    Raises:
        IntsimError: no such output.
    """
    node, op = sums.node, sums.op
    shapes = [a.shape for a in sums.arrays]
    shape = op.shape(node, *shapes)
    at = tuple(position)
    if len(at) == len(shape) - 1:
        at = (0, *at)
    if len(at) != len(shape) or not all(0 <= i < size for i, size in zip(at, shape, strict=True)):
        raise IntsimError(f"layer {name} has no output {','.join(map(str, position))}; its result has shape {shape}")
    rows, channels = op.extent(node, *shapes)
    row, channel = divmod(int(op.fold(node, np.arange(rows * channels).reshape(rows, channels), *shapes)[at]), channels)
    block = next(
        b
        for b in sums.blocks()
        if b.panel.rows.start <= row < b.panel.rows.stop and b.panel.channels.start <= channel < b.panel.channels.stop
    )
    return _traced(sums, block, row, channel, name, at)


@dataclass
class _Story:
    """A `Watch` of one output of a block, whose place among the outputs that are added up is `picked` of `shape`."""

    sums: Sums
    block: Block
    row: int
    channel: int
    shape: tuple[int, int]
    picked: tuple[int, int]
    seen: list[tuple[int, int | None, int, Addition]] = field(default_factory=list)  # stage, value, group, addition
    groups: dict[int, list[range]] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)

    def __call__(self, stage: int, values: range, k: int | None, added: IntArray, register: IntArray) -> None:
        """Note an addition; that of no preloaded bias is none."""
        value, new = (int(apart(np.broadcast_to(v, added.shape), self.shape)[self.picked]) for v in (added, register))
        own = self.groups.setdefault(stage, [])
        begins = own[-1:] != [values]
        own += [values] * begins
        before = 0 if begins else self.held[stage]
        self.held[stage] = new
        wide = stage == 0 and self.sums.target.registers.packing is not None
        x = w = None
        if wide and k is None:
            what, overflow = "read", new != value
        else:
            what, overflow = "register", not wide and new != before + value
        if stage == 0 and k is not None:
            what = "product"
            x, w = (
                int(operand[at, k])
                for operand, at in ((self.block.panel.a, self.row), (self.block.panel.w, self.channel))
            )
        elif k is None and what != "read":
            what = "bias" if begins else "late"
            if begins and self.block.start is None:
                return
        number = lane(self.sums.stages[stage], values)
        self.seen.append((stage, k, len(own) - 1, Addition(stage + 1, number, what, x, w, value, new, overflow)))

    def told(self) -> list[Addition]:
        """The additions in the order in which they happen (`schedule`)."""
        by_value = {(stage, k): addition for stage, k, _, addition in self.seen if k is not None}
        reads = {group: addition for stage, k, group, addition in self.seen if k is None and addition.adds == "read"}
        out = [addition for *_, addition in self.seen if addition.adds == "bias"]
        count: Counter[int] = Counter()
        for stage in schedule(self.block.panel.a.shape[1], self.sums.stages).stage.tolist():
            number = count[stage]  # values of a stage arrive in the order in which they are handed on
            count[stage] += 1
            out += [reads[number]] if stage == 1 and reads else []
            out.append(by_value[stage, number])
        return [*out, *(addition for *_, addition in self.seen if addition.adds == "late")]


def _traced(sums: Sums, block: Block, row: int, channel: int, name: str, at: tuple[int, ...]) -> Trace:
    packing, panel = sums.target.registers.packing, block.panel
    own, mine = row - panel.rows.start, channel - panel.channels.start
    together = 1 if packing is None else len(packing.pixels)
    first = own - own % together
    rows = slice(first, min(first + together, len(panel.a)))
    story = _Story(sums, block, own, mine, (rows.stop - rows.start, len(panel.w)), (own - first, mine))
    total = int(sums.add(block, rows, story)[story.picked])
    if block.behind is not None:
        behind = int(np.broadcast_to(block.behind, (len(panel.a), len(panel.w)))[own, mine])
        total += behind
        return Trace(name, at, [*story.told(), Addition(0, 0, "behind", None, None, behind, total, False)], total)
    return Trace(name, at, story.told(), total)
