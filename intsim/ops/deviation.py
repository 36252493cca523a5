"""How far a graph's integers can be from the real numbers that the file means by them.

A tensor is exact unless a row function (`rows.py`) made it, or something that only moves, picks, adds or scales what a
row function made. A requantizer ends that: what it makes are codes, and codes are exact by definition.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.ops import OPS
from intsim.ops.pieces import apply_cells, combine, node_pieces
from intsim.ops.requantize import EXACT, formulas
from intsim.ops.rows import RowFunction

MOVES = ("concat", "gather", "max_pool", "pad", "reshape", "transpose")
"""Operators whose outputs are integers of their inputs."""


def deviations(graph: IntegerGraph) -> dict[str, Fraction]:
    """Tensors that can differ from the real number they stand for, and by how many steps at most.

    Raises:
        IntsimError: such a tensor is read by a node for which it must be codes.
    """
    errors: dict[str, Fraction] = {}
    for node in graph.nodes:
        op, inexact = OPS[node.op], any(name in errors for name in node.inputs)
        if isinstance(op, RowFunction) and not inexact:
            errors[node.output] = op.error(node, graph.tensors[node.inputs[0]].shape)
        elif inexact and node.op != "requantize":
            errors[node.output] = _passed(graph, node, [errors.get(name, Fraction(0)) for name in node.inputs])
    return errors


def _passed(graph: IntegerGraph, node: Node, errors: list[Fraction]) -> Fraction:
    """What an operator makes of its inputs' errors."""
    if node.op in MOVES:
        return max(errors)
    if node.op == "reduce_sum":
        return errors[0] * math.prod(graph.tensors[node.inputs[0]].shape[a] for a in node.attributes["axes"])
    if node.op == "sum_pool":
        return errors[0] * math.prod(node.attributes["kernel"]) * int(node.arrays["weight"].max())
    if node.op == "affine":
        slope = max(abs(scale) for pieces in node_pieces(node) for _, scale, _ in pieces)
        return slope * combined_error(node, errors)
    maker = next(n for n in graph.nodes if n.output in node.inputs and errors[node.inputs.index(n.output)])
    raise IntsimError(
        f"node {node.shown} ({node.kind}): it reads what {maker.shown} "
        f"({maker.kind}) makes, which are no codes; put a quantizer between"
    )


def combined_error(node: Node, errors: list[Fraction]) -> Fraction:
    """Error of the sum that a node with pieces makes of its inputs, in steps of that sum."""
    factors = node.arrays.get("coefficients")
    if factors is None:
        return errors[0]
    return sum((e * int(np.abs(a).max()) for e, a in zip(errors, factors, strict=True)), Fraction(0))


def code_reach(node: Node, arrays: list[IntArray], errors: list[Fraction]) -> tuple[IntArray, IntArray]:
    """Least and greatest code that a requantize node makes of the real numbers its inputs may stand for.

    Args:
        node: the requantize node.
        arrays: its inputs.
        errors: their deviations, 0 of exact ones.

    Returns:
        two int64 arrays in the node's output shape. Between sums as far apart as the deviation, rounded up to a whole
        step, the node's function has its extremes at these ends or at the sum itself; it is monotone but for slopes
        of activations that change their sign, which add less than a step's worth.
    """
    acc, steps = combine(node, *arrays), combined_error(node, errors).__ceil__()
    own = formulas(node)
    ends = [apply_cells(node, acc + move, own, lambda a, f: EXACT.codes(f, a)) for move in (-steps, 0, steps)]
    return np.minimum.reduce(ends), np.maximum.reduce(ends)
