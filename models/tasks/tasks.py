"""The two tasks: what a network is given, what it should output, and how well it does.

Values are what the network predicts, in [0, 1]: ``(N, maps, H, W)``. A reading is what a user makes of them: key
points, or grey levels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from models.tasks import blur, digits
from models.tasks.heatmaps import CELL, heat_maps, points_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Input codes uint8 ``(N, channels, H, W)``, right values float64 ``(N, maps, H, W)``, right readings."""

    codes: NDArray[np.uint8]
    values: Floats
    readings: Floats


class Task(ABC):
    """One task. `metric` is computed by `score` in `unit`; readings are in `reading_unit` and span `reading_range`.

    channels, maps, size: of a network's input and output, ``(N, channels, size, size)`` and ``(N, maps, size, size)``.
    steps: of a training. widths: of the network.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    unit: ClassVar[str]
    higher_is_better: ClassVar[bool]
    reading_unit: ClassVar[str]
    reading_range: ClassVar[int]
    data: ClassVar[str]
    channels: ClassVar[int]
    maps: ClassVar[int]
    size: ClassVar[int]
    steps: ClassVar[int]
    widths: ClassVar[tuple[int, int, int, int]]

    @abstractmethod
    def batch(self, seed: int, step: int, count: int) -> Examples:
        """Training examples of one step; of the size that suits training."""

    @abstractmethod
    def examples(self, split: str, count: int | None = None) -> Examples:
        """The first examples of ``validation`` or ``test``; None: all of them."""

    @abstractmethod
    def weight(self, values: Floats) -> Floats:
        """What an error of each value weighs in the loss; the shape of `values`."""

    @abstractmethod
    def reading(self, values: Floats) -> Floats:
        """What a user makes of the values."""

    @abstractmethod
    def score(self, readings: Floats, right: Floats) -> float:
        """The metric."""


class KeyPoints(Task):
    """Heat maps of a digit's top, bottom and centre of mass; a reading is ``(N, 3, 2)``, x and y in pixels."""

    name = "keypoints"
    metric = "mean distance of a key point from the right one"
    unit = "px"
    higher_is_better = False
    reading_unit = "px"
    reading_range = digits.CANVAS
    data = (
        "scikit-learn digits, turned and enlarged among pieces of others, 48 x 48 px; heat maps of three key points, "
        "24 x 24; train, validation and test from different digits"
    )
    channels = CELL * CELL
    maps = len(digits.POINTS)
    size = digits.CANVAS // CELL
    steps = 1200
    widths = (16, 24, 32, 48)
    train, held_out = 4096, 512

    def batch(self, seed: int, step: int, count: int) -> Examples:
        """Images of the training split, each once an epoch."""
        epoch, place = divmod(step * count, self.train - self.train % count)
        rows = np.random.default_rng([seed, epoch]).permutation(self.train)[place : place + count]
        images, points = digits.images_of("train", self.train)
        return self._made(images[rows], points[rows])

    def examples(self, split: str, count: int | None = None) -> Examples:
        """Images of another split."""
        return self._made(*digits.images_of(split, count or self.held_out))

    def _made(self, images: NDArray[np.uint8], points: Floats) -> Examples:
        n = len(images)
        codes = images.reshape(n, self.size, CELL, self.size, CELL).transpose(0, 2, 4, 1, 3)
        return Examples(
            codes.reshape(n, self.channels, self.size, self.size), heat_maps(points, self.size), np.asarray(points)
        )

    def weight(self, values: Floats) -> Floats:
        """Little where there is no key point near."""
        return 0.1 + values

    def reading(self, values: Floats) -> Floats:
        """The highest points."""
        return points_of(values)

    def score(self, readings: Floats, right: Floats) -> float:
        """Mean Euclidean distance."""
        return float(np.sqrt(((readings - right) ** 2).sum(-1)).mean())


class Deblurring(Task):
    """Luminance of a blurred photograph; a reading is in grey levels, 0..255, of the shape of the values."""

    name = "deblurring"
    metric = "PSNR"
    unit = "dB"
    higher_is_better = True
    reading_unit = "grey levels of 255"
    reading_range = 255
    data = (
        "luminance of scikit-learn's china.jpg (halves with a gap: training, validation) and flower.jpg (test), "
        "blurred by a Gaussian of 1 px, noise of 1 grey level"
    )
    channels = 1
    maps = 1
    size = 64
    steps = 1000
    widths = (12, 16, 24, 32)
    crop = 32

    def batch(self, seed: int, step: int, count: int) -> Examples:
        """Random crops of 32 x 32."""
        return self._made(*blur.crops(seed, step, count, self.crop))

    def examples(self, split: str, count: int | None = None) -> Examples:
        """Tiles of 64 x 64."""
        codes, sharp = blur.tiles(split, self.size)
        return self._made(codes[:count], sharp[:count])

    def _made(self, codes: NDArray[np.uint8], sharp: Floats) -> Examples:
        return Examples(codes[:, None], sharp[:, None], self.reading(sharp[:, None]))

    def weight(self, values: Floats) -> Floats:
        """All alike."""
        return np.ones_like(values)

    def reading(self, values: Floats) -> Floats:
        """Grey levels."""
        return values * 255

    def score(self, readings: Floats, right: Floats) -> float:
        """PSNR in dB over all pixels of all images at once."""
        return float(10 * np.log10(255**2 / ((readings - right) ** 2).mean()))


TASKS: dict[str, Task] = {task.name: task for task in (KeyPoints(), Deblurring())}


def task_named(name: str) -> Task:
    """The task of that name."""
    if name not in TASKS:
        raise IntsimError(f"no task {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]
