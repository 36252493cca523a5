"""Float64 reference of decoding with a guide: a second, coarse opinion on q that tells branches of the curve apart.

Branches of a Hilbert curve lie one edge apart, so noise of half an edge can move the closest point to a branch whose q
is anything (arXiv 2405.14024, section 4, leaves it at that). A scalar head of the same network knows q to a fraction of
the range. It may *restrict* the search to a window of q, *weigh* against far branches, or *replace* the decoded value
where the point is far from the curve.

Lengths here are in *edges*, the distance h of neighbouring vertices, along the curve and across it alike.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.errors import IntsimError
from intsim.hilbert.curve import Curve
from intsim.hilbert.reference import in_chunks, real
from intsim.hilbert.scan import segment_table


@overload
def decode_points(
    points: ArrayLike,
    order: int,
    inset: float | Fraction = ...,
    *,
    guide: ArrayLike | None = ...,
    window: float | None = ...,
    weight: float = ...,
    distance: Literal[False] = ...,
) -> NDArray[np.float64]: ...


@overload
def decode_points(
    points: ArrayLike,
    order: int,
    inset: float | Fraction = ...,
    *,
    guide: ArrayLike | None = ...,
    window: float | None = ...,
    weight: float = ...,
    distance: Literal[True],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...


def decode_points(
    points: ArrayLike,
    order: int,
    inset: float | Fraction = 0.1,
    *,
    guide: ArrayLike | None = None,
    window: float | None = None,
    weight: float = 0.0,
    distance: bool = False,
) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map points of the plane or of space to q along the curve, with or without a guide.

    Without a guide it is the closest point of the whole curve. With a window w it is the closest point of the part of
    the curve with q in [guide - w, guide + w]: if the guide is within w of the truth, the result is off by at most
    2 w, wherever the point lies. With a weight the feet of all segments (the closest point of each, of its part within
    the window if there is one) compete, and the one with the least

        (distance from the point / h)**2 + weight * ((q of the foot - guide) * segments)**2

    wins. Its q is not pulled towards the guide: the weight chooses among branches only. Of equals the lowest q wins, up
    to float rounding, as in `decode`.

    Every segment is looked at: O(points * segments), with memory bounded by chunks.

    Args:
        points: real array (..., d), d = 2 or 3, finite; points outside the unit square are allowed.
        order: p, 1..6 in the plane, 1..4 in space.
        inset: k, 0 <= k < 0.5.
        guide: real array that broadcasts to (...): q as known otherwise, clipped to [0, 1] here.
        window: w >= 0, in q; None for the whole curve.
        weight: >= 0; 0 for the distance alone. 1 weighs an edge along the curve like an edge across it.
        distance: also return the distance of each point to the curve point that was chosen.

    Returns:
        q, float64 (...), in [0, 1] and within w of the guide; with ``distance=True`` the pair (q, distance), the
        distance in edges h.

    Raises:
        IntsimError: a bad order, inset, window or weight, points of another dimension, values that are not finite
            reals, a window or a weight without a guide, or a guide whose shape does not fit.
    """
    values = real(points, "points")
    if values.ndim == 0 or values.shape[-1] not in (2, 3):
        raise IntsimError(f"points have shape {values.shape}: the last axis holds the 2 or 3 coordinates")
    shape, dimensions = values.shape[:-1], values.shape[-1]
    curve = Curve(order, inset, dimensions)
    for name, value in (("window", 0.0 if window is None else window), ("weight", weight)):
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not number or not 0 <= value < np.inf:
            raise IntsimError(f"{name} is {value!r}: give a finite number of at least 0")
    given = None
    if guide is not None:
        try:
            given = np.broadcast_to(np.clip(real(guide, "guide"), 0.0, 1.0), shape).ravel()
        except ValueError:
            raise IntsimError(f"guide of shape {np.shape(guide)} does not fit points of shape {values.shape}") from None
    elif window is not None or weight:
        raise IntsimError("a window or a weight needs a guide: give guide=")
    # In lattice units all edges are 1 long. (Edges of a float inset are equal up to rounding.)
    lattice = (values.reshape(-1, dimensions).T - curve.points[0, 0]) * ((curve.side - 1) / np.ptp(curve.points[:, 0]))

    def scan(part: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return _scan(lattice[:, part], curve, None if given is None else given[part], window, float(weight))

    q, far = in_chunks(scan, shape)
    return (q, far) if distance else q


def _scan(
    lattice: NDArray[np.float64],
    curve: Curve,
    guide: NDArray[np.float64] | None,
    window: float | None,
    weight: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(q, squared distance) of the best foot: lattice (d, n), guide (n,); only a strictly better one replaces one."""
    size = lattice.shape[1]
    offsets = lattice[:, None, :] - np.arange(curve.side)[:, None]  # from each lattice line, along each axis
    squares = offsets * offsets
    aim = None if guide is None else guide * curve.segments
    low_q = high_q = None
    if guide is not None and window is not None:
        low_q, high_q = np.maximum(guide - window, 0.0), np.minimum(guide + window, 1.0)
        low, high = low_q * curve.segments, high_q * curve.segments
    best, best_squared, position = np.full(size, np.inf), np.empty(size), np.empty(size)
    for s, (start, axis, sign) in enumerate(segment_table(curve)):
        beyond = sign * offsets[axis, start[axis]]
        along = np.minimum(np.maximum(beyond, 0.0), 1.0)
        if low_q is not None:
            along = np.minimum(np.maximum(along, low - s), high - s)
        beyond = beyond - along
        squared = beyond * beyond
        for other in range(curve.dimensions):
            if other != axis:
                squared += squares[other, start[other]]
        along += s
        cost = squared
        if weight and aim is not None:
            far = along - aim
            cost = squared + weight * (far * far)
        better = cost < best
        if low_q is not None:
            better &= (low <= s + 1) & (high >= s)
        np.copyto(best, cost, where=better)
        np.copyto(best_squared, squared, where=better)
        np.copyto(position, along, where=better)
    q = position / curve.segments
    if low_q is not None and high_q is not None:
        q = np.minimum(np.maximum(q, low_q), high_q)  # against rounding
    return q, best_squared


def blend(
    q_curve: ArrayLike, q_guide: ArrayLike, distance: ArrayLike, near: float = 0.25, far: float = 0.5
) -> NDArray[Any]:
    """Trust the curve near it and the guide far from it: continuous in the distance, linear between two radii.

    Two curve points that are equally close to a point at the distance r are on segments that meet in a vertex, or at
    least an edge apart, and then r >= 1/2. So with ``far <= 1/2`` the result does not jump where branches part (on the
    medial axis between parallel edges it is the guide). What is left is the inner side of a turn: on its bisector the
    decoded point itself steps from one edge to the next, by 2 r edges along the curve, times the weight it has there.

    Args:
        q_curve: real array, q of the closest point, as from `decode_points`.
        q_guide: real array, the guide's q; taken as it is, clip it first.
        distance: real array, distance of the point to the curve, in edges, as `decode_points` returns it.
        near: the result is q_curve where distance <= near; in the same units as the distance.
        far: the result is q_guide where distance >= far; 0 <= near <= far. With near == far it switches there.

    Returns:
        float64 array of the broadcast shape.

    Raises:
        IntsimError: values that are not finite reals, shapes that don't broadcast, or radii out of order.
    """
    curve, guide, radius = real(q_curve, "q_curve"), real(q_guide, "q_guide"), real(distance, "distance")
    if not 0 <= near <= far < np.inf:
        raise IntsimError(f"radii near {near} and far {far}: give 0 <= near <= far")
    try:
        curve, guide, radius = np.broadcast_arrays(curve, guide, radius)
    except ValueError:
        raise IntsimError(
            f"q_curve of shape {curve.shape}, q_guide of {guide.shape} and distance of {radius.shape} don't broadcast"
        ) from None
    share = (far - np.clip(radius, near, far)) / (far - near) if far > near else np.where(radius <= near, 1.0, 0.0)
    # This form is exact at both ends.
    return np.asarray(guide * (1 - share) + curve * share)
