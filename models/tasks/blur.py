"""Deblurring of luminance: two photographs, blurred, made noisy and rounded to 8 bits.

The photographs are the two of scikit-learn's `load_sample_images`, 427 x 640 pixels. Parts of china.jpg, with a gap
between them, train and validate; flower.jpg is for the test alone. Each part is blurred on its own, so nothing of one
part gets into another.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError

Floats = NDArray[np.float64]

SIGMA = 1.0
"""Standard deviation of the blur in pixels."""
NOISE = 1.0
"""Standard deviation of the noise, of 255 grey levels."""
WEIGHTS = np.array([0.299, 0.587, 0.114])
"""Luminance of red, green and blue: ITU-R BT.601."""
SPLITS = {
    "train": ("china.jpg", slice(0, 304)),
    "validation": ("china.jpg", slice(336, 640)),
    "test": ("flower.jpg", slice(0, 640)),
}
"""File and columns."""


@lru_cache(maxsize=2)
def luminance(name: str) -> Floats:
    """Luminance of a photograph, float64 ``(427, 640)`` in [0, 1]; read-only."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        raise IntsimError("the photographs come with scikit-learn: install the extra train") from None
    image: Floats = load_sample_image(name) @ WEIGHTS / 255
    image.setflags(write=False)
    return image


def blurred(image: Floats) -> Floats:
    """Gaussian blur with the border mirrored: ``(H, W)`` -> the same; the kernel reaches 4 pixels far."""
    reach = 4
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * SIGMA**2))
    kernel /= kernel.sum()
    for _ in range(2):
        padded = np.pad(image, ((reach, reach), (0, 0)), "reflect")
        image = sum(w * padded[i : i + len(image)] for i, w in enumerate(kernel)).T
    return image


@lru_cache(maxsize=3)
def photograph(split: str) -> tuple[NDArray[np.uint8], Floats]:
    """A split's part: codes uint8 ``(427, W)`` as a network gets them, luminance float64 ``(427, W)`` in [0, 1]."""
    name, columns = SPLITS[split]
    sharp = luminance(name)[:, columns]
    rng = np.random.default_rng(list(SPLITS).index(split))
    grey = 255 * blurred(sharp) + rng.normal(0, NOISE, sharp.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8), sharp


def tiles(split: str, size: int) -> tuple[NDArray[np.uint8], Floats]:
    """All tiles of a split side by side: codes and luminance, ``(tiles, size, size)`` each; rests are left out."""
    codes, sharp = photograph(split)
    return _tiles(codes, size), _tiles(sharp, size)


def _tiles(image: NDArray[Any], size: int) -> NDArray[Any]:
    height, width = (length - length % size for length in image.shape)
    grid = image[:height, :width].reshape(height // size, size, width // size, size)
    return grid.swapaxes(1, 2).reshape(-1, size, size)


def crops(seed: int, step: int, count: int, size: int) -> tuple[NDArray[np.uint8], Floats]:
    """Random crops of the training part, turned and mirrored at random: ``(count, size, size)`` each."""
    rng = np.random.default_rng([seed, step])
    codes, sharp = photograph("train")
    pairs = []
    for _ in range(count):
        row, column = (int(rng.integers(0, length - size + 1)) for length in codes.shape)
        window = slice(row, row + size), slice(column, column + size)
        turns, mirror = int(rng.integers(4)), int(rng.choice([1, -1]))
        pairs.append(tuple(np.rot90(image[window], turns)[:, ::mirror] for image in (codes, sharp)))
    return np.stack([c for c, _ in pairs]), np.stack([s for _, s in pairs])
