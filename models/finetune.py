"""Where accumulator-aware training begins: a trained float network of the zoo, quantized so that it still works.

A recipe with a table ``[quantization]`` is trained by `models.train` from here on, and exported by `models.export`.
"""

from __future__ import annotations

from typing import Any

import onnx
import torch
from onnx import numpy_helper

from intsim.errors import IntsimError
from models.disparity import read_network
from models.export import calibration_batches
from models.networks import DispNet, fold
from models.quantize import quantize


def float_network(name: str, widths: tuple[int, ...]) -> DispNet:
    """The folded float network NAME of the zoo, read back from its FP32 ONNX file.

    Raises:
        IntsimError: there is no such file, or its tensors are not those of a network of these widths.
    """
    network = read_network(name)
    folded = fold(DispNet(network.order, widths, 0.0))
    path = network.file("fp32")
    try:
        stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
        folded.load_state_dict({key: torch.from_numpy(stored[key].copy()) for key in folded.state_dict()})
    except (OSError, KeyError, RuntimeError) as error:
        raise IntsimError(f"{path}: not the float file of a network of widths {widths} ({error})") from None
    return folded


def start_network(recipe: dict[str, Any]) -> DispNet:
    """The recipe's network before its first step: quantized, calibrated on training pairs, bias-corrected."""
    wanted, data = recipe["quantization"], recipe["data"]
    folded = float_network(wanted["start"], tuple(recipe["network"]["widths"]))
    if folded.order != recipe["network"]["order"]:
        raise IntsimError(f"{wanted['start']} has a head of order {folded.order}, the recipe wants another")
    batches = calibration_batches(data["height"], data["width"], min(128, data["train"]))
    return quantize(folded, batches, wanted["weights"], wanted["accumulator_bits"])
