"""Procedural grey textures: filtered noise, dead leaves, stripes and checks. No photograph is used."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIZE = 256
"""Width and height of every texture in texels; all of them repeat seamlessly."""


def _spectral_noise(rng: np.random.Generator) -> NDArray[np.float64]:
    """Gaussian noise with a 1/f**slope amplitude spectrum, as natural images have."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) / frequency ** rng.uniform(0.6, 1.8)
    spectrum[0, 0] = 0.0
    return np.fft.irfft2(spectrum, s=(SIZE, SIZE))


def _dead_leaves(rng: np.random.Generator) -> NDArray[np.float64]:
    """Opaque discs and boxes of random grey and size piled on each other: edges and flat areas at all scales."""
    image = np.zeros((SIZE, SIZE))
    axis = np.arange(SIZE)
    for _ in range(400):
        radius = 3.0 / rng.uniform(0.05, 1.0)
        dx = np.minimum((axis - rng.integers(SIZE)) % SIZE, (rng.integers(SIZE) - axis) % SIZE)[None, :]
        dy = np.minimum((axis - rng.integers(SIZE)) % SIZE, (rng.integers(SIZE) - axis) % SIZE)[:, None]
        inside = (dx < radius) & (dy < radius) if rng.random() < 0.5 else dx**2 + dy**2 < radius**2
        image[inside] = rng.normal()
    return image + 0.15 * _standardize(_spectral_noise(rng))


def _stripes(rng: np.random.Generator) -> NDArray[np.float64]:
    """Stripes or checks, bent by noise so that they do not repeat exactly."""
    cycles = rng.integers(6, 40, 2)
    phase = 2 * np.pi * np.arange(SIZE) / SIZE
    bend = rng.uniform(0.5, 3.0) * _standardize(_spectral_noise(rng))
    wave = np.sin(cycles[0] * phase[None, :] + bend)
    if rng.random() < 0.5:
        wave = wave * np.sin(cycles[1] * phase[:, None] + bend)
    return np.tanh(rng.uniform(0.5, 4.0) * wave) + 0.3 * _standardize(_spectral_noise(rng))


def _standardize(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return (image - image.mean()) / max(float(image.std()), 1e-9)


@lru_cache(maxsize=4)
def texture_pool(seed: int, count: int = 64) -> NDArray[np.float32]:
    """`count` textures, ``(count, SIZE, SIZE)`` float32 in [0, 1], read-only, the same for the same `seed`."""
    rng = np.random.default_rng(seed)
    kinds = (_spectral_noise, _dead_leaves, _spectral_noise, _dead_leaves, _stripes)
    images = [0.5 + 0.22 * _standardize(kinds[i % len(kinds)](rng)) for i in range(count)]
    pool = np.clip(np.stack(images), 0.0, 1.0).astype(np.float32)
    pool.setflags(write=False)
    return pool


def sample(
    pool: NDArray[np.float32], which: NDArray[np.intp], u: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bilinear value of texture `which` at column `u` and row `v` (texels, any real number, wrapping round).

    All arrays share one shape; the result has it too. A continuous function of `u` and `v`.
    """
    u0, v0 = np.floor(u).astype(np.intp), np.floor(v).astype(np.intp)
    fu, fv = u - u0, v - v0
    u0, v0 = u0 % SIZE, v0 % SIZE
    u1, v1 = (u0 + 1) % SIZE, (v0 + 1) % SIZE
    top = pool[which, v0, u0] * (1 - fu) + pool[which, v0, u1] * fu
    bottom = pool[which, v1, u0] * (1 - fu) + pool[which, v1, u1] * fu
    return top * (1 - fv) + bottom * fv
