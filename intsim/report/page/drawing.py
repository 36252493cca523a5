"""Drawings of the page that are no plots: the network by its layers, and where in a tensor an integer lies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from intsim.ops import OPS, Mac
from intsim.report.summary import Need
from intsim.report.text import printable

MOST_ROWS = 400
WIDTH, HIGH, LOW, GAP, LANE, EDGE = 300, 40, 24, 14, 11, 10
"""Of a drawing, in its units: boxes with and without a register, between them, between lines that go around, margin."""
TIGHT = 1
"""Bits to spare that are called few."""


class Drawn(Protocol):
    """A node as a drawing wants it: `intsim.graph.Node`, or one of a graph's JSON."""

    @property
    def op(self) -> str:
        """In the integer graph."""

    @property
    def name(self) -> str:
        """Its own."""

    @property
    def inputs(self) -> Sequence[str]:
        """Tensors that it reads."""

    @property
    def output(self) -> str:
        """The tensor that it makes."""

    @property
    def source(self) -> str:
        """The file's node."""

    @property
    def source_op(self) -> str:
        """Its operator."""

    @property
    def label(self) -> str:
        """What a reader calls it, where the file names modules."""


@dataclass
class Box:
    """A row of the drawing: a layer, with what only hands its result on."""

    name: str
    ops: list[str]
    reads: list[str]
    output: str
    kind: str = "plain"
    headroom: str = ""
    y: float = 0
    height: float = LOW

    @property
    def title(self) -> str:
        """In full, for those who point at it."""
        return printable(f"{self.name}: {', '.join(self.ops)}{', ' * bool(self.headroom)}{self.headroom}")

    @property
    def shown(self) -> str:
        """The name, cut so that it fits."""
        return short(self.name, 32 if self.headroom else 40)

    @property
    def below(self) -> str:
        """The operators, likewise."""
        return short(", ".join(self.ops), 44)


@dataclass
class Network:
    """Boxes from the top down, and lines between them as SVG paths."""

    boxes: list[Box]
    lines: list[str]
    width: float
    height: float
    skips: int = 0
    short_of: list[str] = field(default_factory=list)

    @property
    def alt(self) -> str:
        """In words."""
        text = f"The network from input to output in {len(self.boxes)} boxes, {self.skips} connections go around some"
        return text + (
            f"; too few bits in {', '.join(self.short_of[:12])}" if self.short_of else "; no register is short"
        )


def short(name: str, most: int) -> str:
    """The end of a name, which tells layers apart."""
    plain = printable(name)
    return plain if len(plain) <= most else "…" + plain[1 - most :]


def shown(node: Drawn) -> str:
    """As `intsim.graph.Node.shown`."""
    return node.label or node.source or node.name


def is_layer(node: Drawn) -> bool:
    """Whether it multiplies and adds up."""
    return isinstance(OPS.get(node.op), Mac)


def network(nodes: Sequence[Drawn], needs: Mapping[str, Need]) -> Network:
    """Draw nodes in their order. `needs`: of layers by name, the register that lacks most."""
    boxes = _boxes(nodes, needs)
    y = float(EDGE)
    for box in boxes:
        box.height = HIGH if box.headroom else LOW
        box.y = y
        y += box.height + GAP
    at = {box.output: i for i, box in enumerate(boxes)}
    pairs = sorted({(at[t], i) for i, box in enumerate(boxes) for t in box.reads if t in at})
    straight = [(a, b) for a, b in pairs if b == a + 1]
    around = [(a, b) for a, b in pairs if b > a + 1]
    lanes: list[int] = []  # where the last line of each ends
    centre, right = EDGE + WIDTH / 2, EDGE + WIDTH
    lines = [f"M{centre:g} {boxes[a].y + boxes[a].height:g}V{boxes[b].y:g}" for a, b in straight]
    for a, b in around:
        lane = next((i for i, end in enumerate(lanes) if end <= a), len(lanes))
        lanes[lane:] = [b, *lanes[lane + 1 :]]
        x = right + LANE * (lane + 1)
        low, high = boxes[a].y + boxes[a].height * 0.7, boxes[b].y + boxes[b].height * 0.3
        lines.append(f"M{right:g} {low:g}H{x:g}V{high:g}H{right:g}")
    lacking = [b.name for b in boxes if b.kind == "lacking"]
    return Network(boxes, lines, right + LANE * (len(lanes) + 1), y - GAP + EDGE, len(around), lacking)


def _boxes(nodes: Sequence[Drawn], needs: Mapping[str, Need]) -> list[Box]:
    readers: dict[str, int] = {}
    for node in nodes:
        for tensor in dict.fromkeys(node.inputs):
            readers[tensor] = readers.get(tensor, 0) + 1
    made = {node.output for node in nodes}
    given = dict.fromkeys(t for node in nodes for t in node.inputs if t not in made)
    boxes = [Box(name, ["input"], [], name) for name in given]
    last = {box.output: box for box in boxes}
    for node in nodes:
        before = last.get(node.inputs[0]) if len(set(node.inputs)) == 1 else None
        kind = node.source_op or node.op
        if before is not None and before.ops != ["input"] and readers[node.inputs[0]] == 1 and not is_layer(node):
            before.ops += [node.op] if before.ops[-1] != node.op else []
            before.output = node.output
            last[node.output] = before
            continue
        box = Box(shown(node), [kind], list(dict.fromkeys(node.inputs)), node.output)
        need = needs.get(box.name) if is_layer(node) else None
        if need is not None:
            box.kind, box.headroom = headroom(need)
        boxes.append(box)
        last[node.output] = box
    for box in boxes:  # what reads a tensor within a box reads the box
        box.reads = list(dict.fromkeys(last[t].output for t in box.reads))
    return boxes


def headroom(need: Need) -> tuple[str, str]:
    """Its class in the style sheet, and in words."""
    if need.bits is None:
        return "free", f"needs {need.required} bits"
    if need.missing > 0:
        return "lacking", f"{need.missing} too few: {need.required} of {need.bits}"
    return (
        "tight" if need.missing >= -TIGHT else "enough"
    ), f"{-need.missing} to spare: {need.required} of {need.bits}"


@dataclass(frozen=True)
class Plane:
    """The last two axes of a tensor, or the last one, and a place on it, in a drawing's units."""

    rows: int
    columns: int
    row: int
    column: int
    before: tuple[int, ...]
    width: float
    height: float

    @property
    def x(self) -> float:
        """Of the middle of the element."""
        return (self.column + 0.5) / self.columns * self.width

    @property
    def y(self) -> float:
        """Likewise."""
        return (self.row + 0.5) / self.rows * self.height

    @property
    def alt(self) -> str:
        """In words."""
        return f"Row {self.row} of {self.rows} and column {self.column} of {self.columns} of the channel, from 0"


LONG_SIDE, SHORT_SIDE = 260.0, 24.0


def plane(position: Iterable[int], shape: Sequence[int] | None) -> Plane | None:
    """Where a position lies; None where the shape isn't known, or isn't one that has this position."""
    place = tuple(position)
    if (
        shape is None
        or len(shape) != len(place)
        or not place
        or not all(0 <= p < n for p, n in zip(place, shape, strict=True))
    ):
        return None
    rows, columns = (1, shape[-1]) if len(shape) < 3 else (shape[-2], shape[-1])
    row = 0 if len(shape) < 3 else place[-2]
    scale = LONG_SIDE / max(rows, columns)
    width, height = max(columns * scale, SHORT_SIDE), max(rows * scale, SHORT_SIDE)
    return Plane(rows, columns, row, place[-1], place[: -1 if len(shape) < 3 else -2], width, height)
