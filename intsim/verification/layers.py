"""Layers as people count them: each quantizer with the multiply-accumulates that feed it, and bare accumulators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from intsim.graph import IntegerGraph, Node
from intsim.ops import LAYER_ENDS, OPS, Mac


@dataclass(frozen=True)
class Layer:
    """`tensor` is the integer tensor compared, `macs` the MAC nodes whose overflows are this layer's."""

    name: str
    op: str
    tensor: str
    macs: tuple[str, ...]


def layers(graph: IntegerGraph, sources: Mapping[str, str] | None = None) -> list[Layer]:
    """Layers in graph order: integer inputs, requantizers, accumulators that nothing requantizes."""
    producers = {node.output: node for node in graph.nodes}
    claimed: set[str] = set()
    names = sources or {}
    out = [Layer(names.get(n, n), "Quantize" if n in names else "Input", n, ()) for n in graph.inputs]
    for node in graph.nodes:
        if node.op not in LAYER_ENDS:
            continue
        macs, first = _feeders(node, producers)
        mine = [m for m in macs if m.name not in claimed]
        claimed.update(m.name for m in mine)
        if mine:
            name, op = mine[0].source, mine[0].source_op
        else:
            name, op = (first.source, first.source_op) if first is not None else (node.source, node.source_op)
        if len(node.inputs) > 1:
            name, op = node.source, "Add"
        elif node.op == "table" and not mine:
            name, op = node.source, "-".join(node.attributes.get("functions", ["Table"]))
        out.append(Layer(name or node.name, op or node.op, node.output, tuple(m.name for m in mine)))
    for node in graph.nodes:
        if isinstance(OPS[node.op], Mac) and node.name not in claimed:
            out.append(Layer(node.source or node.name, node.source_op or node.op, node.output, (node.name,)))
    # integers of the file that end the graph, where they wrapped on the way
    for node in graph.nodes:
        if node.op == "affine" and node.output in graph.outputs:
            out.append(Layer(node.source or node.name, node.source_op or node.op, node.output, ()))
    order = {node.output: i for i, node in enumerate(graph.nodes)}
    return sorted(out, key=lambda layer: order.get(layer.tensor, -1))


def _feeders(node: Node, producers: dict[str, Node]) -> tuple[list[Node], Node | None]:
    """MAC nodes that reach `node` without another requantizer between, and the nearest producer."""
    macs, waiting, seen = [], list(node.inputs), set()
    first = producers.get(node.inputs[0])
    while waiting:
        name = waiting.pop(0)
        maker = producers.get(name)
        if maker is None or name in seen or maker.op in LAYER_ENDS:
            continue
        seen.add(name)
        if isinstance(OPS[maker.op], Mac):
            macs.append(maker)
        else:
            waiting += maker.inputs
    return macs, first if first is not None and first.op not in LAYER_ENDS else None
