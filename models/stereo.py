"""Procedural stereo pairs with exact ground truth, and what the host does to a pair before the network sees it.

A scene is a pile of slanted planes: a background and up to six ellipses, boxes and bars. On each the disparity is an
affine function of the left image's coordinates, ``d = a + b x + c y``, so the right image's coordinate ``x - d``
inverts exactly and both views sample the same continuous texture. The nearest plane (largest disparity) wins.

Hard scenes have more planes, thin bars and combs (poles, wires, fences: down to one pixel wide, seen through), planes
with little or no texture, textures that repeat, deeper occlusions, more noise, and cameras that differ in gamma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from models.textures import SIZE, sample, texture_pool

DISPARITY_RANGE = 24
"""Disparities lie in [0, 24) pixels of the full-resolution left image; the networks predict disparity / 24."""

INPUT_CHANNELS = 8 + DISPARITY_RANGE + 1
"""Space-to-depth of both images (2 x 4) and one matching cost for each disparity 0..24."""

T = TypeVar("T", bound=np.generic)
Split = Literal["train", "validation", "test"]
SPLITS: dict[Split, int] = {"train": 0, "validation": 1, "test": 2}
_POOL_SEED = 7100


@dataclass(frozen=True)
class Pair:
    """A rectified grey stereo pair, ``left[y, x]`` matching ``right[y, x - disparity[y, x]]``.

    left, right: ``(H, W)`` uint8. disparity: ``(H, W)`` float32 in pixels, 0 where unknown. valid: ``(H, W)`` bool,
    where the disparity is known and the point can be seen in both images. name: where the pair comes from.
    """

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    disparity: NDArray[np.float32]
    valid: NDArray[np.bool_]
    name: str


class Scene:
    """Planes, outlines and textures of one scene of `height` x `width` pixels; see the module docstring."""

    def __init__(
        self, rng: np.random.Generator, height: int, width: int, pool: NDArray[np.float32], hard: bool = False
    ) -> None:
        """Draw a scene from `rng`."""
        self.height, self.width, self.pool = height, width, pool
        count = int(rng.integers(5, 13) if hard else rng.integers(3, 8))
        shape = (count, 1, 1)
        base = rng.uniform(0.5, 23.5, count)
        base[0] = rng.uniform(0.5, 12.0)
        room = np.minimum(np.minimum(base, DISPARITY_RANGE - base), 5.0) * rng.uniform(0.0, 1.0, count) ** 2
        share = rng.uniform(-1.0, 1.0, count)
        self.b = (room * share * 2 / width).reshape(shape)
        self.c = (room * (1 - np.abs(share)) * rng.choice([-1.0, 1.0], count) * 2 / height).reshape(shape)
        self.a = base.reshape(shape) - self.b * (width - 1) / 2 - self.c * (height - 1) / 2
        self.centre = rng.uniform(0.0, 1.0, (2, *shape)) * np.array([width, height]).reshape(2, 1, 1, 1)
        self.radius = np.exp(rng.uniform(np.log(0.06), np.log(0.45), (2, *shape))) * height
        self.angle = rng.uniform(0, np.pi, shape)
        self.box = rng.random(shape) < 0.5
        self.radius[:, 0] = 1e9
        turn, zoom = rng.uniform(-0.4, 0.4, count), rng.uniform(0.35, 0.95, count)
        self.texture = rng.integers(0, len(pool), count)
        self.map = np.stack([zoom * np.cos(turn), zoom * np.sin(turn)])
        self.shift = rng.uniform(0, SIZE, (2, count))
        self.contrast = np.where(rng.random(count) < 0.15, 0.15, rng.uniform(0.4, 1.0, count))
        self.grey = rng.uniform(0.3, 0.7, count)
        self.comb, self.gap = np.full(shape, np.inf), np.ones(shape)
        if hard:
            self._make_hard(rng)

    def _make_hard(self, rng: np.random.Generator) -> None:
        """Thin bars and combs in front of the background; flat and repeating textures."""
        count = len(self.a)
        kind = rng.random((count, 1, 1))
        kind[0] = 1.0
        bar, comb = kind < 0.3, (kind >= 0.3) & (kind < 0.45)
        self.box = self.box | bar | comb
        self.radius[1] = np.where(bar, rng.uniform(0.5, 2.0, kind.shape), self.radius[1])
        self.radius[0] = np.where(bar, rng.uniform(0.2, 0.8, kind.shape) * self.height, self.radius[0])
        self.comb = np.where(comb, rng.uniform(5.0, 14.0, kind.shape), np.inf)
        self.gap = np.where(comb, rng.uniform(0.2, 0.5, kind.shape), 1.0)
        self.contrast = np.where(rng.random(count) < 0.25, rng.uniform(0.02, 0.12, count), self.contrast)
        self.map = self.map * np.where(rng.random(count) < 0.2, rng.uniform(2.0, 4.0, count), 1.0)

    def render(
        self, x: NDArray[np.float64], y: NDArray[np.float64], right: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
        """Grey in [0, 1], disparity in pixels, and index of the plane seen at real image coordinates of one view.

        `x` and `y` are float64 of one shape ``(H, W)``, columns and rows; so are the three results.
        """
        column = (x + self.a + self.c * y) / (1 - self.b) if right else np.broadcast_to(x, (len(self.a), *x.shape))
        disparity = self.a + self.b * column + self.c * y
        dx, dy = column - self.centre[0], y - self.centre[1]
        along = (dx * np.cos(self.angle) + dy * np.sin(self.angle)) / self.radius[0]
        across = (dy * np.cos(self.angle) - dx * np.sin(self.angle)) / self.radius[1]
        inside = np.where(self.box, np.maximum(np.abs(along), np.abs(across)), along**2 + across**2) < 1
        inside &= np.isinf(self.comb) | (np.mod(along * self.radius[0] / self.comb, 1.0) < self.gap)
        winner = np.argmax(np.where(inside, disparity, -np.inf), 0)
        column = np.take_along_axis(column, winner[None], 0)[0]
        cosine, sine = self.map[0][winner], self.map[1][winner]
        u = cosine * column - sine * y + self.shift[0][winner]
        v = sine * column + cosine * y + self.shift[1][winner]
        texel = sample(self.pool, self.texture[winner], u, v)
        grey = self.grey[winner] + self.contrast[winner] * (texel - 0.5)
        return np.clip(grey, 0, 1), np.take_along_axis(disparity, winner[None], 0)[0], winner


def generate(split: Split, index: int, height: int = 64, width: int = 128, hard: bool = False) -> Pair:
    """Pair number `index` of a split; the three splits share neither random stream nor texture.

    Gain, offset and noise differ between the two images, as between two cameras; in `hard` scenes gamma does, too.
    """
    number = SPLITS[split]
    rng = np.random.default_rng([number, index, height, width, 1] if hard else [number, index, height, width])
    scene = Scene(rng, height, width, texture_pool(_POOL_SEED + number), hard)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    left, disparity, plane = scene.render(x, y)
    right, _, _ = scene.render(x, y, right=True)
    _, _, opposite = scene.render(x - disparity, y, right=True)
    valid = (opposite == plane) & (x - disparity >= 0)
    noise = rng.uniform(0, 6 if hard else 3)
    images = []
    for image in (left, right):
        image = image ** rng.uniform(0.9, 1.1) if hard else image
        level = 255 * image * rng.uniform(0.92, 1.08) + rng.uniform(-6, 6)
        images.append(np.clip(np.rint(level + noise * rng.standard_normal(image.shape)), 0, 255).astype(np.uint8))
    return Pair(
        images[0], images[1], disparity.astype(np.float32), valid, f"generated {'hard ' if hard else ''}{split} {index}"
    )


def network_input(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Input codes of the networks: ``(..., H, W)`` uint8 twice -> ``(..., 33, H/2, W/2)`` uint8; H and W even.

    Channels 0..3 and 4..7 are the 2x2 pixels of left and right, row by row. Channel 8 + k is the matching cost of
    disparity k: the 2x2 mean, rounded half up, of ``|left[x] - right[x - k]|``, 255 where x - k is outside.

    Raises:
        IntsimError: other dtypes, unequal shapes, an odd height or width, or a width of less than 26 pixels.
    """
    if left.dtype != np.uint8 or right.dtype != np.uint8 or left.ndim < 2 or left.shape != right.shape:
        raise IntsimError(
            f"left is {left.dtype} {left.shape} and right {right.dtype} {right.shape}: give two uint8 grey images of "
            "one size"
        )
    if left.shape[-2] % 2 or left.shape[-1] % 2 or left.shape[-1] <= DISPARITY_RANGE:
        raise IntsimError(
            f"the images are {left.shape[-2]} x {left.shape[-1]} pixels: give an even height and an even width of at "
            f"least {DISPARITY_RANGE + 2}"
        )
    images = [image[..., i::2, j::2] for image in (left, right) for i in (0, 1) for j in (0, 1)]
    codes = np.empty((*left.shape[:-2], INPUT_CHANNELS, *images[0].shape[-2:]), np.uint8)
    np.stack(images, -3, out=codes[..., :8, :, :])
    cost = np.empty_like(left)
    for k in range(DISPARITY_RANGE + 1):
        here, there = left[..., k:], right[..., : left.shape[-1] - k]
        cost[..., :k] = 255
        np.subtract(np.maximum(here, there), np.minimum(here, there), out=cost[..., k:])
        rows = cost[..., 0::2, :].astype(np.uint16) + cost[..., 1::2, :]
        codes[..., 8 + k, :, :] = (rows[..., 0::2] + rows[..., 1::2] + 2) >> 2
    return codes


def on_grid(image: NDArray[T]) -> NDArray[T]:
    """The networks' output grid, every second row and column: ``(..., H, W) -> (..., H/2, W/2)``, a view."""
    return image[..., ::2, ::2]
