"""How far a graph's integers can be from the real numbers that the file means by them.

A tensor is exact unless a row function (`rows.py`) or a grid (`grid.py`, or a table with `off`) made it, or something
that moves, picks, adds, multiplies or scales what these made. A requantizer ends that: what it makes are codes, and
codes are exact by definition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise

import numpy as np

from intsim.arithmetic.pieces import Piece
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node, Tensor
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
        error = deviation(graph, node, errors)
        if error:
            errors[node.output] = error
    return errors


def deviation(graph: IntegerGraph, node: Node, errors: Mapping[str, Fraction]) -> Fraction:
    """How many steps a node's output can lie from the number it stands for, with those of its inputs; 0: it is exact.

    Raises:
        IntsimError: it reads such numbers and needs codes.
    """
    op, inexact = OPS[node.op], any(name in errors for name in node.inputs)
    if isinstance(op, RowFunction):
        # a normalisation of numbers on a grid counts by how much they are off; others read exact integers
        if not inexact or errors[node.inputs[0]] <= Fraction(node.attributes.get("off", 0)):
            return op.error(node, graph.tensors[node.inputs[0]].shape)
    elif not inexact:
        return Fraction(node.attributes.get("off", 0))
    if node.op == "requantize":
        return Fraction(0)
    return _passed(graph, node, [errors.get(name, Fraction(0)) for name in node.inputs])


def _passed(graph: IntegerGraph, node: Node, errors: list[Fraction]) -> Fraction:
    """What an operator makes of its inputs' errors."""
    tensors = [graph.tensors[name] for name in node.inputs]
    if node.op in MOVES:
        return max(errors)
    if node.op == "reduce_sum":
        return errors[0] * math.prod(tensors[0].shape[a] for a in node.attributes["axes"])
    if node.op == "sum_pool":
        return errors[0] * math.prod(node.attributes["kernel"]) * int(node.arrays["weight"].max())
    if node.op == "interpolate":
        return errors[0] * int(np.abs(node.arrays["weight"]).sum(axis=1).max())
    if node.op == "mul":
        (x, y), (off_x, off_y) = map(_farthest, tensors, node.attributes["zero_points"]), errors
        return x * off_y + y * off_x + off_x * off_y
    if node.op == "affine":
        return steepest(node, combined_error(node, errors))
    if node.op == "grid":
        here = steepest(node, combined_error(node, errors)) / 2 ** int(node.attributes["shift"])
        return here + Fraction(node.attributes["off"])
    maker = next(n for n in graph.nodes if n.output in node.inputs and errors[node.inputs.index(n.output)])
    raise IntsimError(
        f"node {node.shown} ({node.kind}): it reads what {maker.shown} "
        f"({maker.kind}) makes, which are no codes; put a quantizer between"
    )


def _farthest(x: Tensor, zero_point: int) -> int:
    """How far an integer can be from its zero point."""
    return max(abs(x.low - zero_point), abs(x.high - zero_point))


def steepest(node: Node, distance: Fraction) -> Fraction:
    """How far the function of a node with pieces gets within so many steps of the sum that it reads.

    Its pieces are of a line that bends; one so short that no integer lies on it shows as a jump between its neighbours.
    """
    cells = node_pieces(node)
    slope = max(abs(s) for pieces in cells for _, s, _ in pieces)
    jump = max((abs(_jump(a, b)) for pieces in cells for a, b in pairwise(pieces)), default=Fraction(0))
    return slope * distance if jump <= slope else jump * distance.__ceil__()


def _jump(before: Piece, after: Piece) -> Fraction:
    start = after[0]
    assert start is not None
    return after[1] * start + after[2] - before[1] * (start - 1) - before[2]


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
