"""Train one network from a recipe: ``python -m models.train models/recipes/h3dispnet.toml``.

A recipe fixes everything, the number of steps included, so two recipes can be trained equally. Interrupt it whenever
you like: the next call goes on from the last checkpoint. Every random choice depends on the seed and the step number
alone, so one thread on one machine repeats a run bit for bit, interrupted or not.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from intsim.errors import IntsimError
from intsim.hilbert import Curve
from intsim.nn import depth_loss, point_loss, project
from models.batches import Arrays, batch_of, load_pairs
from models.checkpoint import untrained_network
from models.disparity import Network, described, float_disparity
from models.networks import DispNet
from models.recipe import checked, read_recipe
from models.stereo import network_input, on_grid

NORMALIZATION_BATCHES = 64


def train(recipe: dict[str, Any], folder: Path, device: str = "cpu") -> Path:
    """Train to the recipe's last step, from the checkpoint in `folder` if there is one; return the checkpoint's path.

    Raises:
        IntsimError: the checkpoint is damaged or belongs to another recipe.
        KeyboardInterrupt: on SIGINT, at the end of the step under way, after writing the checkpoint.
    """
    recipe = checked(recipe)
    data, training = recipe["data"], recipe["training"]
    meta = described(recipe)
    path = folder / f"{recipe['name']}.pt"
    torch.manual_seed(training["seed"])
    network = make_network(recipe).to(device).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network, recipe)
    state: dict[str, Any] = {"recipe": recipe, "step": 0, "seconds": 0.0, "device": device, "validation": []}
    state["stopped"] = False
    if path.exists():
        state, optimizer = _resume(path, recipe, network)
    if state["step"] == training["steps"] or state["stopped"]:
        return path
    size = data["height"], data["width"], data["scenes"]
    pairs = load_pairs("train", data["train"], *size)
    held_out = load_pairs("validation", data["validation"], *size)
    start, before = time.monotonic(), state["seconds"]
    asked_to_stop: list[int] = []
    earlier = signal.signal(signal.SIGINT, lambda number, frame: asked_to_stop.append(number))
    try:
        for step in track(range(state["step"], training["steps"]), recipe["name"]):
            loss = optimizer_step(network, optimizer, batch_of(pairs, step, recipe, meta), step, training, meta)
            state["step"] = step + 1
            last = state["step"] == training["steps"]
            if last:
                _reestimate_normalization(network, pairs, recipe, meta)
            validate = last or state["step"] % training["validate_every"] == 0
            if validate:
                state["validation"].append([state["step"], *validation_epe(network, held_out, meta)])
            state["seconds"] = before + time.monotonic() - start
            if validate:
                _, mean, median = state["validation"][-1]
                report = f"step {step + 1} loss {loss:.4f} EPE mean {mean:.3f} median {median:.3f} px"
                print(f"{report} {state['seconds']:.0f} s", flush=True)
                if training["patience"] and mean == min(epe for _, epe, _ in state["validation"]):
                    state["best"] = {key: tensor.clone() for key, tensor in network.state_dict().items()}
                state["stopped"] = _out_of_patience(state["validation"], training["patience"])
            if training["patience"] and (last or state["stopped"]):
                network.load_state_dict(state["best"])
            if validate or asked_to_stop:
                _checkpoint({**state, "network": network.state_dict(), "optimizer": optimizer.state_dict()}, path)
            if state["stopped"]:
                break
            if asked_to_stop and not last:
                raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, earlier)
    return path


def make_network(recipe: dict[str, Any]) -> DispNet:
    """The recipe's network before its first step: untrained, or, with a table ``quantization``, quantized already."""
    if "quantization" in recipe:
        from models.finetune import start_network  # Brevitas is slow to import

        return start_network(recipe)
    return untrained_network(recipe)


def _out_of_patience(validation: list[list[float]], patience: int) -> bool:
    """Whether the last `patience` validations brought no lower mean than those before."""
    means = [mean for _, mean, _ in validation]
    return 0 < patience < len(means) and min(means[:-patience]) <= min(means[-patience:])


def make_optimizer(network: DispNet, recipe: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW; for a folded network each step is in proportion to the size of the parameter that it changes.

    Folding leaves weights of very different sizes (those of the first layer carry the input's scale of 1/256), and a
    step of AdamW does not depend on the size of the gradient.
    """
    folded = "quantization" in recipe
    groups = [
        {"params": [p], "size": float(p.detach().square().mean().sqrt()) if folded else 1.0}
        for p in network.parameters()
    ]
    return torch.optim.AdamW(groups, 0.0, weight_decay=recipe["training"]["weight_decay"])


def learning_rate(step: int, training: dict[str, Any]) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / max(1, training["warmup"]))
    return float(training["learning_rate"] * warm * 0.5 * (1 + np.cos(np.pi * step / training["steps"])))


def validation_epe(network: DispNet, data: Arrays, meta: Network) -> tuple[float, float]:
    """Mean and median end-point error in pixels over the valid pixels of `data`."""
    network.eval()
    device = next(network.parameters()).device
    errors = []
    with torch.no_grad():
        for first in range(0, len(data["left"]), 32):
            part = slice(first, first + 32)
            codes = network_input(data["left"][part], data["right"][part])[:, : meta.channels]
            output = network(torch.from_numpy(codes).float().to(device))
            predicted = float_disparity(output.cpu().numpy(), meta)
            errors.append(np.abs(predicted - on_grid(data["disparity"][part]))[on_grid(data["valid"][part])])
    error = np.concatenate(errors)
    return float(error.mean()), float(np.median(error))


def optimizer_step(
    network: DispNet,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, ...],
    step: int,
    training: dict[str, Any],
    meta: Network,
) -> float:
    """One update of the network; returns the loss of the batch."""
    torch.manual_seed(training["seed"] * 1_000_003 + step)
    device = next(network.parameters()).device
    codes, wanted, weight = (part.to(device) for part in batch)
    codes = codes.contiguous(memory_format=torch.channels_last)
    network.train()
    with torch.autocast(device.type, torch.bfloat16, enabled=training["bfloat16"]):
        features = network.trunk(network.input(codes))
    features = features.float() if training["bfloat16"] else features
    loss = loss_of(network.heads(features), wanted, weight, training, meta)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, training) * group["size"]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def loss_of(output: Tensor, wanted: Tensor, weight: Tensor, training: dict[str, Any], meta: Network) -> Tensor:
    """The recipe's loss: distance in the plane or in space (one head: L1), and what it weighs besides.

    `output` and `wanted` ``(N, heads, H, W)``, `weight` ``(N, 1, H, W)``.
    """
    coordinates = meta.dimensions if meta.order else 1
    points, goal = output[:, :coordinates], wanted[:, :coordinates]
    loss = point_loss(points, goal, weight)
    if meta.guide:
        loss = loss + training["guide_weight"] * point_loss(output[:, coordinates:], wanted[:, coordinates:], weight)
    q, right = points, goal
    if meta.order and (training["commit_weight"] or training["depth_weight"] or training["agree_weight"]):
        curve = Curve(meta.order, meta.inset, meta.dimensions)
        q, squared = project(points + 0.5, curve)
        right = project(goal + 0.5, curve)[0]
        loss = loss + training["commit_weight"] * (weight * squared).sum() / weight.sum()
        if meta.guide:
            loss = loss + training["agree_weight"] * point_loss(output[:, coordinates:] + 0.5, q, weight)
    if training["depth_weight"]:
        loss = loss + training["depth_weight"] * depth_loss(q, right)
    return loss


def _reestimate_normalization(network: DispNet, data: Arrays, recipe: dict[str, Any], meta: Network) -> None:
    """Replace the running statistics by plain averages over the first batches under the final weights, in float32."""
    network.train()
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not layers:
        return
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    device = next(network.parameters()).device
    with torch.no_grad():
        for step in range(NORMALIZATION_BATCHES):
            network.trunk(network.input(batch_of(data, step, recipe, meta)[0].to(device)))


def _checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write atomically: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def _resume(path: Path, recipe: dict[str, Any], network: DispNet) -> tuple[dict[str, Any], torch.optim.Optimizer]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["recipe"] != recipe:
            raise IntsimError(f"{path} is the checkpoint of another recipe; remove it or choose another --out")
        network.load_state_dict(state.pop("network"))
        optimizer = make_optimizer(network, recipe)  # not before: loading makes new parameters of Brevitas' scales
        optimizer.load_state_dict(state.pop("optimizer"))
    except IntsimError:
        raise
    except Exception as error:  # torch.load raises anything from EOFError to UnpicklingError
        raise IntsimError(f"{path}: damaged checkpoint ({type(error).__name__}); remove it") from None
    return state, optimizer


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/models"), help="folder for the checkpoint")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; 1 repeats bit for bit")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        print(train(read_recipe(arguments.recipe), arguments.out, arguments.device))
    except IntsimError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
