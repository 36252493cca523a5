"""Layers as people count them: each quantizer with the multiply-accumulates that feed it, and bare accumulators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from intsim.frontend.context import Boundary
from intsim.graph import IntegerGraph, Node
from intsim.ops import LAYER_ENDS, OPS, Mac, Op


@dataclass(frozen=True)
class Layer:
    """`tensor` is the integer tensor compared, `macs` the MAC nodes whose overflows are this layer's.

    `name` is what a reader calls it; `node` and `module` are those of the file, where it names modules.
    """

    name: str
    op: str
    tensor: str
    macs: tuple[str, ...]
    node: str | None = None
    module: str | None = None


def layers(graph: IntegerGraph, boundaries: Iterable[Boundary] = ()) -> list[Layer]:
    """Layers in graph order: integer inputs, requantizers, accumulators that nothing requantizes."""
    producers = {node.output: node for node in graph.nodes}
    claimed: set[str] = set()
    made = {b.tensor: b for b in boundaries}
    out = [
        Layer(made[n].shown, "Quantize", n, (), **made[n].origin) if n in made else Layer(n, "Input", n, ())
        for n in graph.inputs
    ]
    for node in graph.nodes:
        if node.attributes.get("rounded"):  # moved codes of a quantizer that stands behind the movement in the file
            out.append(Layer(node.shown, node.kind, node.output, (), **node.origin))
        if node.op not in LAYER_ENDS | {"zero_point"}:
            continue
        macs, first = _feeders(node, producers)
        mine = [m for m in macs if m.name not in claimed]
        claimed.update(m.name for m in mine)
        named = mine[0] if mine else first or node
        op = named.kind
        if len(node.inputs) > 1:
            named, op = node, _written(node, "Add")
        elif node.op in ("staircase", "table") and not mine:
            named, op = node, _written(node, "-".join(node.attributes.get("functions", ["Table"])))
        if (
            node.kind.startswith("QLinear") or node.op == "zero_point"
        ):  # the operator of the file that sums, or looks up, and quantizes too
            named, op = node, node.kind
        out.append(Layer(named.shown, op, node.output, tuple(m.name for m in mine), **named.origin))
    for node in graph.nodes:
        bare = isinstance(OPS[node.op], Mac) and node.name not in claimed
        # integers of the file that end the graph, where they wrapped on the way
        if bare or (node.op == "affine" and node.output in graph.outputs):
            out.append(Layer(node.shown, node.kind, node.output, (node.name,) if bare else (), **node.origin))
    order = {node.output: i for i, node in enumerate(graph.nodes)}
    return sorted(out, key=lambda layer: order.get(layer.tensor, -1))


def _written(node: Node, otherwise: str) -> str:
    """The file's operator where it holds a quantizer of its own, as TensorFlow Lite's do, whose names are capitals."""
    return node.kind if node.kind.isupper() else otherwise


def _feeders(node: Node, producers: dict[str, Node]) -> tuple[list[Node], Node | None]:
    """MAC nodes that reach `node` without another requantizer between, and the nearest producer."""
    macs = [m for m in makers(producers, node.output, Mac) if isinstance(OPS[m.op], Mac)]
    first = producers.get(node.inputs[0])
    return macs, first if first is not None and first.op not in LAYER_ENDS else None


def makers(producers: Mapping[str, Node], tensor: str, last: type[Op] | tuple[()] = ()) -> Iterator[Node]:
    """The maker of a tensor, then what leads to it without another requantizer between, nearest first.

    What leads to an operator of the kind `last` is left out.
    """
    waiting, seen = [tensor], set()
    while waiting:
        name = waiting.pop(0)
        maker = producers.get(name)
        if maker is None or name in seen or (maker.op in LAYER_ENDS | {"zero_point"} and name != tensor):
            continue
        seen.add(name)
        yield maker
        if not isinstance(OPS[maker.op], last):
            waiting += maker.inputs
