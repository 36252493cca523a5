"""Nodes of piecewise linear functions of an accumulator, one set of pieces (`arithmetic.pieces`) a cell.

A cell is one entry of a parameter array that broadcasts against the tensor: the whole tensor, a channel, or any other
block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from intsim.arithmetic.pieces import Piece, Transform, apply_pieces
from intsim.errors import IntsimError
from intsim.graph import LIMIT, IntArray, Node, Tensor, rational_text

Function = TypeVar("Function")


MOST_KNOWN = 1 << 18
"""Rationals whose text is remembered."""
_known: dict[str, Fraction] = {}


def pieces_json(cells: list[list[Piece]]) -> list[list[list[Any]]]:
    """File form: rationals as text."""
    return [[[start, _text(s), _text(b)] for start, s, b in cell] for cell in cells]


def node_pieces(node: Node) -> list[list[Piece]]:
    """The pieces of each cell, cells in row-major order."""
    return [[(start, _read(s), _read(b)) for start, s, b in cell] for cell in node.attributes["pieces"]]


def _text(value: Fraction) -> str:
    text = rational_text(value)
    if type(value) is Fraction:
        _remember(text, value)
    return text


def _read(text: str) -> Fraction:
    """A rational from its text, which pieces are read from many times."""
    value = _known.get(text)
    if value is None:
        value = Fraction(text)
        _remember(text, value)
    return value


def _remember(text: str, value: Fraction) -> None:
    if len(_known) >= MOST_KNOWN:
        _known.clear()
    _known[text] = value


def cell_views(cells: tuple[int, ...], rank: int) -> Iterator[tuple[slice, ...]]:
    """For each cell, the index that selects its block of a tensor of `rank` axes."""
    full = (1,) * (rank - len(cells)) + tuple(cells)
    for index in np.ndindex(*full):
        yield tuple(slice(None) if size == 1 else slice(i, i + 1) for i, size in zip(index, full, strict=True))


def combine(node: Node, *arrays: IntArray) -> IntArray:
    """`sum_i a_i * x_i` with the node's integer coefficients; the input itself when there are none."""
    coefficients = node.arrays.get("coefficients")
    if coefficients is None:
        return arrays[0]
    out = arrays[0] * coefficients[0]
    for x, a in zip(arrays[1:], coefficients[1:], strict=True):
        out = out + x * a
    return out


def combined_range(node: Node, *tensors: Tensor) -> tuple[int, int]:
    """Range of `combine` over all cells; raises IntsimError when it leaves 64 bits."""
    coefficients = node.arrays.get("coefficients")
    if coefficients is None:
        return tensors[0].low, tensors[0].high
    low = high = 0
    for tensor, a in zip(tensors, coefficients, strict=True):
        corners = [int(c) * edge for c in (a.min(), a.max()) for edge in (tensor.low, tensor.high)]
        low, high = low + min(corners), high + max(corners)
    if low < -LIMIT or high > LIMIT:
        raise IntsimError(
            f"node {node.name}: the exact sum of its inputs needs {max(-low, high).bit_length() + 1} bits, "
            "more than 64; quantize the inputs to closer scales"
        )
    return low, high


def apply(node: Node, acc: IntArray, transform: Transform) -> IntArray:
    """Piecewise `transform(acc, S, B)` over all cells and pieces."""
    return apply_cells(node, acc, node_pieces(node), lambda block, pieces: apply_pieces(pieces, block, transform))


def apply_cells(
    node: Node, acc: IntArray, functions: Sequence[Function], apply_one: Callable[[IntArray, Function], IntArray]
) -> IntArray:
    """`apply_one(accumulators, function)` of each cell, in the broadcast shape of accumulator and cells, int64.

    `functions` are what a cell is made of, cells in row-major order.
    """
    cells = tuple(node.attributes["cells"])
    acc = np.broadcast_to(acc, np.broadcast_shapes(acc.shape, cells))
    out = np.empty(acc.shape, np.int64)
    for view, function in zip(cell_views(cells, acc.ndim), functions, strict=True):
        out[view] = apply_one(acc[view], function)
    return out
