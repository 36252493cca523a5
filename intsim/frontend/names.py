"""Names that no tensor and no node of a file has."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

SOURCE_FILE = "intsim.source_file"
"""Metadata of a model that was made of a file of another format: JSON.

`sha256` is the file's, `codes` says which tensors hold the codes of each tensor of the file, as it lies there and
channels first (null: none).
"""
SOURCE_OPERATOR, SOURCE_NODE = "intsim.source_operator", "intsim.source_node"
"""Metadata of a node that was made of another format's operator: that operator, and the name of its node."""
EVEN_ENDS = "intsim.even_ends"
"""Metadata of a node that was made of an operator with a fused activation: its least and its greatest code, `low,high`,
where its ends are rounded half to even and that makes other codes."""


class Fresh:
    """Gives names that are neither among `taken` nor given before."""

    def __init__(self, taken: Iterable[str]) -> None:
        """Start with the names that are taken."""
        self.taken = set(taken)

    def __call__(self, stem: str) -> str:
        """`stem` if nobody has it, else with a number behind."""
        name, n = stem, 1
        while name in self.taken:
            n += 1
            name = f"{stem}#{n}"
        self.taken.add(name)
        return name


def names_of(graph: onnx.GraphProto) -> set[str]:
    """Names of all tensors and nodes of a graph, of those that nothing reads too."""
    named = [*graph.input, *graph.output, *graph.initializer, *graph.value_info, *graph.node]
    return {v.name for v in named} | {t for n in graph.node for t in (*n.input, *n.output)}
