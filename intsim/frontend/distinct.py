"""Exact functions of large arrays: worked out once for each number and cell of parameters that meet.

A Python object an element is what makes loading slow; weights have few distinct numbers in each cell.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from intsim.graph import Rationals


def of_distinct(values: np.ndarray, parameters: tuple[Rationals, ...], function: Callable[..., Any]) -> np.ndarray:
    """`function(value, *parameters)` elementwise as an object array of the broadcast shape.

    Args:
        values: integers or floats, without NaN; the function is given Python numbers.
        parameters: rationals that broadcast with `values`.
        function: of a number and one rational a parameter.
    """
    cells = np.broadcast_shapes(*(p.shape for p in parameters))
    shape = np.broadcast_shapes(values.shape, cells)
    return of_pairs(np.broadcast_to(values, shape), cell_numbers(cells, shape), parameters, function)


def cell_numbers(cells: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The row-major number of the cell that each element of `shape` lies in."""
    return np.broadcast_to(np.arange(prod(cells)).reshape(cells), shape)


def of_pairs(
    values: np.ndarray, cells: np.ndarray, parameters: tuple[Rationals, ...], function: Callable[..., Any]
) -> np.ndarray:
    """The same of numbers and the cells that they lie in, two arrays of one shape."""
    shape = np.broadcast_shapes(*(p.shape for p in parameters))
    count = max(prod(shape), 1)
    numbers, which = np.unique(values.reshape(-1), return_inverse=True)
    pairs, inverse = np.unique(which.reshape(-1) * count + cells.reshape(-1), return_inverse=True)
    columns = [np.broadcast_to(p, shape).reshape(-1) for p in parameters]
    made = np.empty(pairs.size, object)
    plain = numbers.tolist()
    for i, pair in enumerate(pairs.tolist()):
        number, cell = divmod(pair, count)
        made[i] = function(plain[number], *(c[cell] for c in columns))
    return made[inverse].reshape(values.shape)
