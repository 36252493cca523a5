"""Training of one run: the same steps, data, order and noise for every coding. Goes on where it was interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from intsim.errors import IntsimError
from intsim.nn import point_loss
from models.disparity import Network, target
from models.tasks.network import MapNet
from models.tasks.tasks import Task
from models.train import learning_rate

SETTINGS: dict[str, Any] = {"batch": 16, "learning_rate": 3e-3, "warmup": 100, "weight_decay": 1e-2, "noise": 0.1}
"""AdamW with linear warm-up and half a cosine down to zero, gradients clipped at norm 1; noise on the features."""
EVERY = 250
"""Steps between checkpoints."""
NORMALIZATION_BATCHES = 32

Progress = Callable[[int], None]


def train(
    task: Task, coding: Network, seed: int, path: Path, steps: int | None = None, progress: Progress | None = None
) -> MapNet:
    """The trained network of one run, from the checkpoint at `path` as far as that goes; `progress` gets the step.

    Every random choice depends on seed and step alone.

    Raises:
        IntsimError: the checkpoint is damaged or of another run.
    """
    steps = steps or task.steps
    run = {"task": task.name, "coding": coding.name, "seed": seed, "steps": steps, "widths": list(task.widths)}
    run |= SETTINGS
    torch.manual_seed(seed)
    network = MapNet(coding, task.channels, task.maps, task.widths, SETTINGS["noise"])
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 0.0, weight_decay=SETTINGS["weight_decay"])
    state: dict[str, Any] = {"run": run, "step": 0, "seconds": 0.0}
    if path.exists():
        state = _read(path, run, network, optimizer)
    start, before = time.monotonic(), state["seconds"]
    while state["step"] < steps:
        optimizer_step(network, optimizer, task, coding, seed, state["step"], steps)
        state["step"] += 1
        if state["step"] == steps:
            _reestimate_normalization(network, task, seed)
        if state["step"] == steps or state["step"] % EVERY == 0:
            state["seconds"] = before + time.monotonic() - start
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({**state, "network": network.state_dict(), "optimizer": optimizer.state_dict()}, f"{path}.part")
            os.replace(f"{path}.part", path)
        if progress:
            progress(state["step"])
    return network.eval()


def batch_tensors(task: Task, coding: Network, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes ``(N, channels, H, W)``, wanted outputs ``(N, heads, maps, H, W)``, weights ``(N, 1, maps, H, W)``."""
    examples = task.batch(seed, step, SETTINGS["batch"])
    wanted = target(examples.values, coding).swapaxes(1, 2)
    weight = task.weight(examples.values)[:, None].astype(np.float32)
    codes = torch.from_numpy(examples.codes).float().contiguous(memory_format=torch.channels_last)
    return codes, torch.from_numpy(np.ascontiguousarray(wanted)), torch.from_numpy(weight)


def optimizer_step(
    network: MapNet,
    optimizer: torch.optim.Optimizer,
    task: Task,
    coding: Network,
    seed: int,
    step: int,
    steps: int,
) -> None:
    """One batch, drawn from the seed and the step, and one update of the network."""
    torch.manual_seed(seed * 1_000_003 + step)
    codes, wanted, weight = batch_tensors(task, coding, seed, step)
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        features = network.trunk(network.input(codes))
    output = network.heads(features.float())
    loss = point_loss(output.reshape(wanted.shape), wanted, weight)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, {**SETTINGS, "steps": steps})
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def _reestimate_normalization(network: MapNet, task: Task, seed: int) -> None:
    """Replace running statistics by plain averages over the first batches under the final weights, in float32."""
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    with torch.no_grad():
        for step in range(NORMALIZATION_BATCHES):
            codes = torch.from_numpy(task.batch(seed, step, SETTINGS["batch"]).codes).float()
            network.trunk(network.input(codes))


def _read(path: Path, run: dict[str, Any], network: MapNet, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["run"] != run:
            raise IntsimError(f"{path} is the checkpoint of another run; remove it or choose another --out")
        network.load_state_dict(state.pop("network"))
        optimizer.load_state_dict(state.pop("optimizer"))
    except IntsimError:
        raise
    except Exception as error:  # torch.load raises anything from EOFError to UnpicklingError
        raise IntsimError(f"{path}: damaged checkpoint ({type(error).__name__}); remove it") from None
    return state
