"""Key points by heat map: handwritten digits of 8 x 8 pixels, drawn turned and enlarged among pieces of others.

The images are those of scikit-learn's `load_digits` (UCI "Optical recognition of handwritten digits", 1797 images). A
digit's key points are computed from its 8 x 8 pixels: where its ink begins at the top, where it ends at the bottom,
and its centre of mass. Drawing moves them with the digit, so they are known to a fraction of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError

Floats = NDArray[np.float64]

CELLS = 8
"""Pixels of a digit along each side."""
CANVAS = 48
"""Pixels of an image along each side."""
POINTS = ("top", "bottom", "centre")
INK = 0.5
"""Pixels of a digit with at least so much ink count for its top and bottom; full ink is 1."""
SPLITS = {"train": range(1200), "validation": range(1200, 1500), "test": range(1500, 1797)}
"""Digits of each split; pieces that surround a digit come from its own split."""
PIECES = 5


@dataclass(frozen=True)
class Placement:
    """Where a digit is drawn: pixels per cell, angle in radians, canvas position ``(x, y)`` of its middle, in pixels.

    Coordinates are those of pixel centres: the first cell's centre is (0, 0), the first pixel's likewise.
    """

    scale: float
    angle: float
    x: float
    y: float

    def to_canvas(self, points: Floats) -> Floats:
        """Cells to pixels: ``(..., 2)`` (x, y) -> the same."""
        return (points - (CELLS - 1) / 2) @ self._turn.T * self.scale + np.array([self.x, self.y])

    def to_cells(self, points: Floats) -> Floats:
        """Pixels to cells, the inverse of `to_canvas`."""
        return (points - np.array([self.x, self.y])) @ self._turn / self.scale + (CELLS - 1) / 2

    @property
    def _turn(self) -> Floats:
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.array([[c, -s], [s, c]])


@lru_cache(maxsize=1)
def digit_images() -> Floats:
    """All digits, float64 ``(1797, 8, 8)`` in [0, 1], multiples of 1/16; ink is 1. Read-only."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise IntsimError("the digits come with scikit-learn: install the extra train") from None
    images: Floats = load_digits().images / 16
    images.setflags(write=False)
    return images


def key_points(digit: Floats) -> Floats:
    """Top, bottom and centre of mass of a digit ``(8, 8)`` in cells: float64 ``(3, 2)``, columns x, y.

    Top and bottom are the first and the last row that has a pixel of at least `INK`, at the mean column of those
    pixels, weighted by their ink.
    """
    place = np.arange(CELLS)
    rows = np.flatnonzero((digit >= INK).any(1))
    points = []
    for row in (int(rows[0]), int(rows[-1])):
        ink = np.where(digit[row] >= INK, digit[row], 0.0)
        points.append(((ink * place).sum() / ink.sum(), float(row)))
    points.append(((digit * place).sum() / digit.sum(), (digit.T * place).sum() / digit.sum()))
    return np.array(points)


def draw(digit: Floats, placement: Placement, size: int = CANVAS) -> Floats:
    """The digit on an empty canvas ``(size, size)``: bilinear between cell centres, no ink outside its cells."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    cells = placement.to_cells(np.stack([x, y], -1)) + 1  # of the digit with a border of empty cells
    padded = np.pad(digit, 1)
    inside = ((cells > 0) & (cells < padded.shape[0] - 1)).all(-1)
    cells = np.clip(cells, 0, padded.shape[0] - 1.001)
    column, row = np.moveaxis(cells.astype(np.int64), -1, 0)
    along, down = np.moveaxis(cells - np.floor(cells), -1, 0)
    upper = padded[row, column] * (1 - along) + padded[row, column + 1] * along
    lower = padded[row + 1, column] * (1 - along) + padded[row + 1, column + 1] * along
    return np.where(inside, upper * (1 - down) + lower * down, 0.0)


def generate(split: str, index: int) -> tuple[NDArray[np.uint8], Floats]:
    """One image, uint8 ``(48, 48)``, and its key points in pixels, float64 ``(3, 2)``; depends on the arguments alone.

    A digit, `PIECES` quarters of other digits of the split that it hides, and noise of 6 grey levels.
    """
    digits = SPLITS[split]
    rng = np.random.default_rng([list(SPLITS).index(split), index])
    digit = digit_images()[rng.choice(digits)]
    placement = Placement(rng.uniform(2.5, 3.5), rng.uniform(-0.5, 0.5), *(rng.uniform(-6, 6, 2) + (CANVAS - 1) / 2))
    others = np.zeros((CANVAS, CANVAS))
    for _ in range(PIECES):
        piece = np.zeros((CELLS, CELLS))
        row, column = rng.integers(0, 2, 2) * (CELLS // 2)
        part = slice(row, row + CELLS // 2), slice(column, column + CELLS // 2)
        piece[part] = digit_images()[rng.choice(digits)][part]
        where = Placement(rng.uniform(2, 4), rng.uniform(-np.pi, np.pi), *rng.uniform(0, CANVAS - 1, 2))
        others = np.maximum(others, draw(piece, where) * rng.uniform(0.4, 1.0))
    image = draw(digit, placement) * rng.uniform(0.6, 1.0)
    image = 40 + 180 * np.where(image > 0.1, image, np.maximum(image, others)) + rng.normal(0, 6, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), placement.to_canvas(key_points(digit))


@lru_cache(maxsize=4)
def images_of(split: str, count: int) -> tuple[NDArray[Any], Floats]:
    """The first `count` images of a split and their points: uint8 ``(count, 48, 48)``, float64 ``(count, 3, 2)``."""
    made = [generate(split, index) for index in range(count)]
    return np.stack([image for image, _ in made]), np.stack([points for _, points in made])
