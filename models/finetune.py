"""Where training of a quantized network begins: a trained float network, quantized so that it still works.

A recipe with a table ``[quantization]`` is trained by `models.train` from here on, and exported by `models.export`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper

from intsim.errors import IntsimError
from models.batches import calibration_batches
from models.checkpoint import load_checkpoint
from models.disparity import described, read_network
from models.networks import DispNet, fold
from models.quantize import quantize
from models.schemes import Scheme

MEANT = ("order", "dimensions", "guide", "widths", "inputs", "embedding")
"""Keys of a recipe's table ``network`` in which it must agree with the network that it begins with."""


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


def trained_network(path: Path, table: dict[str, Any]) -> DispNet:
    """The folded float network of a finished checkpoint; `table` is the table ``network`` of the recipe that wants it.

    Raises:
        IntsimError: there is no such checkpoint, it is unfinished, quantized already, or of another network.
    """
    network, record = load_checkpoint(path)
    if "quantization" in record["recipe"]:
        raise IntsimError(f"{path}: holds a quantized network; begin with the float one it was made from")
    had = record["recipe"]["network"]
    for key in MEANT:
        if had[key] != table[key]:
            raise IntsimError(f"{path}: a network with {key} {had[key]}, the recipe wants {table[key]}")
    return fold(network)


def start_network(recipe: dict[str, Any]) -> DispNet:
    """The recipe's network before its first step: quantized, calibrated on training pairs, bias-corrected.

    ``start`` is the name of a zoo network or the path of a checkpoint, which ends in ``.pt``.

    Raises:
        IntsimError: see `float_network` and `trained_network`; or a ``{seed}`` that nobody filled in.
    """
    wanted, data, table = recipe["quantization"], recipe["data"], recipe["network"]
    start = wanted["start"]
    if "{seed}" in start:
        raise IntsimError(f'start = "{start}": write a seed for {{seed}}, or train the run of a seed by models.study')
    if start.endswith(".pt"):
        folded = trained_network(Path(start), table)
    else:
        folded = float_network(start, tuple(table["widths"]))
        if folded.order != table["order"]:
            raise IntsimError(f"{start} has a head of order {folded.order}, the recipe wants another")
    size = data["height"], data["width"], min(128, data["train"])
    options = {"scenes": data["scenes"], "channels": described(recipe).channels}
    batches = calibration_batches(*size, **options)
    return quantize(folded, batches, Scheme.of(wanted))
