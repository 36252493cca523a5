"""A recipe's network before training, and as `models.train` left it in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from intsim.errors import IntsimError
from models.disparity import described
from models.dpt import DPT
from models.networks import DispNet, fold


def untrained_network(recipe: dict[str, Any]) -> DispNet:
    """The recipe's float network, untrained."""
    table = recipe["network"]
    options = {key: table[key] for key in ("order", "noise", "dimensions", "guide", "embedding")}
    options |= {"widths": tuple(table["widths"]), "channels": described(recipe).channels}
    if table["family"] == "dpt":
        return DPT(**options)
    return DispNet(**options)


def bare_network(recipe: dict[str, Any]) -> DispNet:
    """The recipe's network, not trained; quantized but not calibrated, if it asks for that: a state is loaded next."""
    network = untrained_network(recipe)
    if "quantization" not in recipe:
        return network
    from models.quantize import with_quantizers  # Brevitas is slow to import
    from models.schemes import Scheme

    return with_quantizers(fold(network), Scheme.of(recipe["quantization"]))


def load_checkpoint(path: Path) -> tuple[DispNet, dict[str, Any]]:
    """The trained network and what `models.train` recorded about it; validation is (step, EPE mean, EPE median in px).

    Raises:
        IntsimError: there is no such checkpoint, or its training is not finished.
    """
    if not path.is_file():
        raise IntsimError(f"{path}: no such checkpoint; train the recipe first (python -m models.train)")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["step"] < state["recipe"]["training"]["steps"] and not state.get("stopped"):
        raise IntsimError(f"{path}: training stopped at step {state['step']}; finish it (python -m models.train)")
    network = bare_network(state["recipe"])
    network.load_state_dict(state["network"])
    record = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "step": state["step"],
        "seconds": round(state["seconds"], 1),
        "device": state["device"],
        "validation": [[step, round(mean, 4), round(median, 4)] for step, mean, median in state["validation"]],
        "recipe": state["recipe"],
    }
    return network.eval(), record
