"""A requantize node on a target's requantizer scheme."""

from __future__ import annotations

from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.schemes import requantize
from intsim.targets import Target


def run_requantize(node: Node, arrays: list[IntArray], tensors: list[Tensor], target: Target) -> IntArray:
    """Codes out of a requantize node on `target`. Raises IntsimError when the scheme can't take the node's scales."""
    try:
        return requantize(node, arrays, tensors, target.form, target.stages)
    except IntsimError as error:
        raise IntsimError(f"node {node.source or node.name}: target {target.name}: {error}") from None
