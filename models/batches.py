"""Training data in memory, and the batch of each step: a function of the recipe and the step number alone."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from models import stereo, textures
from models.disparity import Network, target
from models.real_pair import cache_folder
from models.stereo import INPUT_CHANNELS, Split, generate, network_input, on_grid

Arrays = dict[str, NDArray[Any]]


KEYS = ("left", "right", "disparity", "valid")
KEPT = 500
"""Splits of at least so many pairs are kept on disk."""
CALIBRATION_PAIRS = 128


def load_pairs(split: Split, count: int, height: int, width: int, scenes: str = "plain") -> Arrays:
    """The first `count` pairs of a split: left, right, disparity and valid as in `Pair`, each ``(count, H, W)``.

    Many pairs are kept as .npy files in the cache folder, under a digest of the code that makes them, and are mapped
    into memory from there the next time.
    """
    if count < KEPT:
        return _generated(split, count, height, width, scenes)
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (stereo, textures))
    digest = hashlib.sha256(code + repr((split, count, height, width, scenes)).encode()).hexdigest()[:16]
    folder = cache_folder() / "pairs" / digest
    if not folder.is_dir():
        arrays = _generated(split, count, height, width, scenes)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            for key, array in arrays.items():
                np.save(Path(scratch) / key, array)
            try:
                Path(scratch).rename(folder)
                Path(scratch).mkdir()  # for the context manager to remove
            except OSError:
                pass  # another process was first
    return {key: np.load(folder / f"{key}.npy", mmap_mode="r") for key in KEYS}


def _generated(split: Split, count: int, height: int, width: int, scenes: str) -> Arrays:
    numbers = track(range(count), f"{split} pairs", disable=count < KEPT)
    pairs = [generate(split, i, height, width, hard=scenes == "hard") for i in numbers]
    return {key: np.stack([getattr(pair, key) for pair in pairs]) for key in KEYS}


def batch_of(data: Arrays, step: int, recipe: dict[str, Any], network: Network) -> tuple[Tensor, Tensor, Tensor]:
    """Codes ``(N, channels, H/2, W/2)``, target ``(N, heads, H/2, W/2)`` and weight ``(N, 1, H/2, W/2)`` of one step.

    Every pair comes once an epoch, in an order of that epoch's own; batches are flipped upside down half of the time
    and each pair gets a random gain.
    """
    training = recipe["training"]
    size, count = training["batch"], len(data["left"])
    epoch, place = divmod(step * size, count - count % size)
    rows = np.random.default_rng([training["seed"], epoch]).permutation(count)[place : place + size]
    rng = np.random.default_rng([training["seed"], 1, step])
    left, right, disparity, valid = (data[key][rows] for key in KEYS)
    if rng.random() < 0.5:
        left, right, disparity, valid = (image[:, ::-1] for image in (left, right, disparity, valid))
    gain = rng.uniform(0.7, 1.2, (size, 1, 1))
    left, right = (np.clip(np.rint(image * gain), 0, 255).astype(np.uint8) for image in (left, right))
    weight = np.where(on_grid(valid), 1.0, training["invalid_weight"]).astype(np.float32)[:, None]
    codes = torch.from_numpy(network_input(left, right)[:, : network.channels]).float()
    return codes, torch.from_numpy(target(on_grid(disparity), network)), torch.from_numpy(weight)


def calibration_batches(
    height: int,
    width: int,
    count: int = CALIBRATION_PAIRS,
    batch: int = 16,
    scenes: str = "plain",
    channels: int = INPUT_CHANNELS,
) -> Iterator[Tensor]:
    """Input codes of the first `count` training pairs, their first `channels` channels, in batches."""
    for first in range(0, count, batch):
        numbers = range(first, min(first + batch, count))
        pairs = [generate("train", i, height, width, hard=scenes == "hard") for i in numbers]
        yield torch.stack([torch.from_numpy(network_input(p.left, p.right)[:channels]) for p in pairs]).float()
