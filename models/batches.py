"""Training data in memory, and the batch of each step: a function of the recipe and the step number alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from models.disparity import Network, target
from models.stereo import Split, generate, network_input, on_grid

Arrays = dict[str, NDArray[Any]]


def load_pairs(split: Split, count: int, height: int, width: int) -> Arrays:
    """The first `count` pairs of a split: left, right, disparity and valid as in `Pair`, each ``(count, H, W)``."""
    pairs = [generate(split, i, height, width) for i in track(range(count), f"{split} pairs", disable=count < 500)]
    return {key: np.stack([getattr(pair, key) for pair in pairs]) for key in ("left", "right", "disparity", "valid")}


def batch_of(data: Arrays, step: int, recipe: dict[str, Any], network: Network) -> tuple[Tensor, Tensor, Tensor]:
    """Input codes ``(N, 33, H/2, W/2)``, target ``(N, heads, H/2, W/2)`` and weight ``(N, 1, H/2, W/2)`` of one step.

    Every pair comes once an epoch, in an order of that epoch's own; batches are flipped upside down half of the time
    and each pair gets a random gain.
    """
    training = recipe["training"]
    size, count = training["batch"], len(data["left"])
    epoch, place = divmod(step * size, count - count % size)
    rows = np.random.default_rng([training["seed"], epoch]).permutation(count)[place : place + size]
    rng = np.random.default_rng([training["seed"], 1, step])
    left, right, disparity, valid = (data[key][rows] for key in ("left", "right", "disparity", "valid"))
    if rng.random() < 0.5:
        left, right, disparity, valid = (image[:, ::-1] for image in (left, right, disparity, valid))
    gain = rng.uniform(0.7, 1.2, (size, 1, 1))
    left, right = (np.clip(np.rint(image * gain), 0, 255).astype(np.uint8) for image in (left, right))
    weight = np.where(on_grid(valid), 1.0, training["invalid_weight"]).astype(np.float32)[:, None]
    codes = torch.from_numpy(network_input(left, right)).float()
    return codes, torch.from_numpy(target(on_grid(disparity), network)), torch.from_numpy(weight)
