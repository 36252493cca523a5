"""A target's graph as layers: an operator with its requantizer, or what makes codes by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intsim.dispatch import MOVES
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph, Node
from intsim.verification.layers import layers as named_layers

ROUTES = (*MOVES, "concat", "pad")
"""Operators that move codes and make none."""
MOST_NAMED = 12


@dataclass(frozen=True)
class Layer:
    """One layer of a target's graph.

    Attributes:
        name: what a reader calls it; of several of one name the second ends with #2.
        op: of the file.
        names: every name it is known by.
        nodes: the operator, and the requantizer that reads it, if one does.
    """

    name: str
    op: str
    names: frozenset[str]
    nodes: tuple[Node, ...]

    @property
    def head(self) -> Node:
        """The node that reads the layer's operands."""
        return self.nodes[0]

    @property
    def end(self) -> Node:
        """The node that makes its result."""
        return self.nodes[-1]


def layers(graph: IntegerGraph, network: IntegerGraph) -> list[Layer]:
    """Of a graph as a target runs it, in its order, named as in the `network` that it is made of.

    Nodes that nothing reads are left out.
    """
    live = list(_live(graph))
    known = {x.tensor: x for x in named_layers(network)}
    makers = {n.output: n for n in live}
    claimed: dict[str, Node] = {}
    for node in live:
        if node.op == "requantize" or (node.op == "fused" and node.attributes["source"] is None):
            head = makers.get(node.inputs[0]) if len(node.inputs) == 1 else None
            if head is not None and head.op not in (*ROUTES, *ENDS) and head.output not in claimed:
                claimed[head.output] = node
    ends = {n.output for n in claimed.values()}
    found: list[Layer] = []
    seen: dict[str, int] = {}
    for node in live:
        if node.op in ROUTES or node.output in ends:
            continue
        nodes = (node, claimed[node.output]) if node.output in claimed else (node,)
        same = known.get(nodes[-1].output)
        shown, op = (node.shown, node.kind) if same is None else (same.name, same.op)
        seen[shown] = count = seen.get(shown, 0) + 1
        name = shown if count == 1 else f"{shown}#{count}"
        names = {name, *(t for n in nodes for t in (n.shown, n.source, n.module, n.name, n.output) if t)}
        found.append(Layer(name, op, frozenset(names), nodes))
    return found


ENDS = ("requantize", "staircase", "table", "fused", "max_pool", "lookup")
"""Operators whose results are codes already."""


def chosen(found: Sequence[Layer], wanted: Sequence[str], model: str) -> list[Layer]:
    """The layers that bear one of the names; all where none is wanted. Raises IntsimError for a name of none."""
    for name in wanted:
        if not any(name in x.names for x in found):
            names = [x.name for x in found]
            more = ", ..." * (len(names) > MOST_NAMED)
            raise IntsimError(f"{model}: no layer {name!r}; its layers are {', '.join(names[:MOST_NAMED])}{more}")
    return [x for x in found if not wanted or x.names & set(wanted)]


def _live(graph: IntegerGraph) -> Iterator[Node]:
    """Nodes on the way to an output: kernels that read what an operator reads leave it unread."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return reversed(kept)
