"""Heat maps of key points, and key points from heat maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CELL = 2
"""Image pixels per heat map pixel, along each axis."""
SIGMA = 4.0
"""Standard deviation of a key point's Gaussian in image pixels."""
FLOOR = 1 / 1024
"""Values below it count as it where a logarithm is taken."""


def heat_maps(points: Floats, size: int) -> Floats:
    """``exp(-d**2 / (2 SIGMA**2))`` around each point: ``(..., 2)`` (x, y) in pixels -> ``(..., size, size)``.

    Pixel i of a map covers pixels ``CELL i .. CELL i + CELL - 1`` of the image; its centre is where the value is taken.
    """
    grid = centre(np.arange(size))
    x, y = (np.exp(-((grid - points[..., axis, None]) ** 2) / (2 * SIGMA**2)) for axis in (0, 1))
    return np.asarray(y[..., :, None] * x[..., None, :], np.float64)


def points_of(maps: Floats) -> Floats:
    """The highest point of each map: ``(..., H, W)`` -> ``(..., 2)`` (x, y) in image pixels.

    The highest pixel (the first of several), moved, along each axis on its own, to the top of the parabola through the
    logarithms of its value and its two neighbours': by half a pixel at most, not at all on the border. Exact for
    `heat_maps`, as the logarithm of a Gaussian is a parabola.
    """
    *lead, height, width = maps.shape
    flat = maps.reshape(-1, height * width)
    best = flat.argmax(1)
    row, column = np.divmod(best, width)
    number = np.arange(len(flat))
    moved = []
    for place, length, stride in ((column, width, 1), (row, height, width)):
        inner = (place > 0) & (place < length - 1)
        before, top, after = (
            np.log(np.maximum(flat[number, np.where(inner, best + step, best)], FLOOR)) for step in (-stride, 0, stride)
        )
        bend = before - 2 * top + after  # at most 0, as `top` is the highest
        shift = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend < 0)
        moved.append(centre(place + np.clip(shift, -0.5, 0.5)))
    return np.stack(moved, -1).reshape(*lead, 2)


def centre(place: NDArray[np.floating] | NDArray[np.integer]) -> Floats:
    """Image coordinate of a heat map's pixel coordinate."""
    return np.asarray(place * CELL + (CELL - 1) / 2, np.float64)
