"""Float64 reference codec of the Hilbert-curve output representation: the definition, by full scan of the curve.

Source: arXiv 2405.14024 (ICML 2025), section 2.3, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.errors import IntsimError
from intsim.hilbert.curve import Curve

CHUNK = 1 << 13  # points scanned at a time: bounds the memory to 8 * 2**p * 64 KiB and stays near the cache


@overload
def encode(
    q: ArrayLike, order: int, inset: float | Fraction = ..., *, dimensions: Literal[2] = ...
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...


@overload
def encode(
    q: ArrayLike, order: int, inset: float | Fraction = ..., *, dimensions: int
) -> tuple[NDArray[np.float64], ...]: ...


def encode(
    q: ArrayLike, order: int, inset: float | Fraction = 0.1, *, dimensions: int = 2
) -> tuple[NDArray[np.float64], ...]:
    """Map the normalised scalar q to the curve point at arc length q * L.

    Args:
        q: real array of any shape, 0 <= q <= 1.
        order: p, 1..6; with three dimensions 1..4.
        inset: k, 0 <= k < 0.5.
        dimensions: d, 2 or 3.

    Returns:
        (x, y) or (x, y, z), float64 arrays of the shape of q, in [k, 1 - k]; q = 0 is the lower-left end (k, k, ...),
        q = 1 the lower-right end (1 - k, k, ...).

    Raises:
        IntsimError: bad dimensions, a bad order or inset, or a q that is not a real number in [0, 1] (clip it first).
    """
    curve = Curve(order, inset, dimensions)
    values = real(q, "q")
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise IntsimError(f"q spans [{values.min()}, {values.max()}]: clip it to [0, 1] before encoding")
    position = values * curve.segments
    segment = np.minimum(position.astype(np.int64), curve.segments - 1)
    along = position - segment
    start, end = curve.points[segment], curve.points[segment + 1]
    # This form of the interpolation is exact at both ends of an edge.
    point = start * (1 - along)[..., None] + end * along[..., None]
    return tuple(point[..., axis] for axis in range(curve.dimensions))


@overload
def decode(
    x: ArrayLike,
    y: ArrayLike,
    order: int,
    inset: float | Fraction = ...,
    *,
    distance: Literal[False] = ...,
) -> NDArray[np.float64]: ...


@overload
def decode(
    x: ArrayLike, y: ArrayLike, order: int, inset: float | Fraction = ..., *, distance: Literal[True]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...


def decode(
    x: ArrayLike, y: ArrayLike, order: int, inset: float | Fraction = 0.1, *, distance: bool = False
) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map points to the q of the closest point of the whole curve (equation 1 of the paper).

    Every segment is looked at, so the cost is O(points * 4**p); memory stays bounded because the scan goes in chunks.
    Of several closest points the one with the lowest q wins. Floats can't always tell a tie from a near tie: where two
    curve points are equally near up to rounding (a few 1e-16 of squared distance), either may come out.
    `intsim.hilbert.Decoder` decides such cases exactly.

    Args:
        x: real array, finite; points outside the unit square are allowed.
        y: real array, finite, broadcastable against x.
        order: p, 1..6.
        inset: k, 0 <= k < 0.5.
        distance: also return the distance of each point to the curve.

    Returns:
        q, float64 in [0, 1], of the broadcast shape; with ``distance=True`` the pair (q, distance), the distance in
        units of the unit square.

    Raises:
        IntsimError: a bad order or inset, values that are not finite reals, or shapes that don't broadcast.
    """
    curve = Curve(order, inset)
    px, py = real(x, "x"), real(y, "y")
    try:
        px, py = np.broadcast_arrays(px, py)
    except ValueError:
        raise IntsimError(
            f"x of shape {px.shape} and y of shape {py.shape} don't broadcast: give equal shapes"
        ) from None
    shape, px, py = px.shape, px.ravel(), py.ravel()
    q, far = in_chunks(lambda part: _scan(px[part], py[part], curve), shape)
    return (q, far) if distance else q


def in_chunks(
    scan: Callable[[slice], tuple[NDArray[np.float64], NDArray[np.float64]]], shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """q and distance of points of any shape; `scan` gives q and squared distance of some of them."""
    q, squared = np.empty(math.prod(shape)), np.empty(math.prod(shape))
    for first in range(0, q.size, CHUNK):
        part = slice(first, first + CHUNK)
        q[part], squared[part] = scan(part)
    return q.reshape(shape), np.sqrt(squared).reshape(shape)


def _scan(
    x: NDArray[np.float64], y: NDArray[np.float64], curve: Curve
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Closest point by looking at every segment; only a strictly closer one replaces an earlier one."""
    column, row = curve.vertices.T.tolist()
    lattice = np.unique(curve.points[:, 0])
    to_column, to_columns = _squared_distances(x, lattice)
    to_row, to_rows = _squared_distances(y, lattice)
    best, segment = np.full(x.shape, np.inf), np.zeros(x.shape, np.int64)
    squared, closer = np.empty(x.shape), np.empty(x.shape, bool)
    for s in range(curve.segments):
        if row[s] == row[s + 1]:
            np.add(to_columns[min(column[s], column[s + 1])], to_row[row[s]], out=squared)
        else:
            np.add(to_column[column[s]], to_rows[min(row[s], row[s + 1])], out=squared)
        np.less(squared, best, out=closer)
        np.minimum(squared, best, out=best)
        np.copyto(segment, s, where=closer)
    start, end = curve.points[segment], curve.points[segment + 1]
    # Edges are parallel to an axis: the Manhattan distance from the start, within the edge, is the arc length.
    foot = np.clip(np.stack([x, y], axis=1), np.minimum(start, end), np.maximum(start, end))
    along = np.abs(foot - start).sum(axis=1) / np.abs(end - start).sum(axis=1)
    return (segment + along) / curve.segments, best


def _squared_distances(
    values: NDArray[np.float64], lattice: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Along one axis: squared distances to each lattice line, and to each interval between neighbouring lines."""
    to_line = values - lattice[:, None]
    outside = np.maximum(np.maximum(-to_line[:-1], to_line[1:]), 0.0)
    return to_line * to_line, outside * outside


def real(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """The values as float64; refuses what is not finite and real."""
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            raise ValueError
    except ValueError:
        raise IntsimError(f"{name} is not an array of real numbers: give floats or integers") from None
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise IntsimError(f"{name} holds NaN or infinity: mask invalid values out first")
    return array
