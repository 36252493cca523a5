"""Networks of the two tasks: one U-Net, whose heads are plain or predict points on a Hilbert curve, for each map."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from brevitas.export import export_qonnx
from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
from brevitas.nn import QuantConv2d, QuantIdentity, QuantReLU
from brevitas.quant import Int8WeightPerChannelFloat, Int32Bias, Uint8ActPerTensorFloat
from numpy.typing import NDArray
from torch import Tensor, nn

from intsim.errors import IntsimError
from intsim.nn import HilbertHead
from models.disparity import Network
from models.export import OPSET, tidy
from models.networks import DispNet
from models.quantizers import InputCodes, OutputCodes

CODINGS = {
    "p0": Network("p0", 0, 16, 16, 1),
    "p2": Network("p2", 2, 16, 16, 1),
    "p3": Network("p3", 3, 16, 16, 1),
    "c1": Network("c1", 1, 16, 16, 1, dimensions=3),
}
"""How a value is output: as itself, as a point in the plane (orders 2 and 3), or in space (order 1).

Only order, dimensions and what follows from them are used; values are disparities of a range of 1.
"""

MEETING = (("enc3.1", "enc2.1"), ("dec2.0", "enc1.1"), ("dec1.0", "enc0.1"))
"""Blocks whose outputs are concatenated: they share a quantizer, so that codes can be put side by side."""


class MapNet(DispNet):
    """The U-Net of `models.networks` with several maps: ``(N, channels, H, W)`` codes -> ``(N, heads * maps, H, W)``.

    Each head outputs all maps, so the channels are x of every map, then y of every map, and so on.
    """

    def __init__(self, coding: Network, channels: int, maps: int, widths: tuple[int, ...], noise: float = 0.1) -> None:
        """Make an untrained network."""
        super().__init__(coding.order, widths, noise, coding.dimensions, channels=channels)
        self.heads = HilbertHead(
            widths[0], coding.order, coding.dimensions, make=lambda features: nn.Conv2d(features, maps, 3, padding=1)
        )
        self.maps = maps


def by_map(outputs: NDArray[Any], maps: int) -> NDArray[Any]:
    """Outputs ``(N, heads * maps, H, W)`` -> ``(N, maps, heads, H, W)``, as `models.disparity` reads them."""
    n, channels, height, width = outputs.shape
    return outputs.reshape(n, channels // maps, maps, height, width).swapaxes(1, 2)


def quantize(folded: MapNet, batches: Iterable[Tensor]) -> MapNet:
    """A W8A8 copy of a folded network, calibrated and bias-corrected on `batches` of codes ``(N, channels, H, W)``.

    The quantizers are those of `models.quantizers`.
    """
    network, batches = copy.deepcopy(folded).eval(), list(batches)
    network.input = QuantIdentity(act_quant=InputCodes, return_quant_tensor=True)
    blocks = network.blocks()
    for block in blocks.values():
        block.conv = _quantized(block.conv)
        block.relu = QuantReLU(act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)
    for first, second in MEETING:
        blocks[second].relu = blocks[first].relu
    for name, head in network.heads.items():
        network.heads[name] = _quantized(head)
        network.outputs[name] = QuantIdentity(act_quant=OutputCodes, return_quant_tensor=False)
    network.eval()
    with torch.no_grad():
        for mode in (calibration_mode, bias_correction_mode):
            with mode(network):
                for codes in batches:
                    network(codes)
    return network.eval()


def _quantized(conv: nn.Module) -> QuantConv2d:
    if not isinstance(conv, nn.Conv2d) or conv.bias is None:
        raise IntsimError("the network still has batch normalization; fold it first")
    layer = QuantConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        bias=True,
        weight_quant=Int8WeightPerChannelFloat,
        bias_quant=Int32Bias,
        return_quant_tensor=False,
    )
    layer.weight.data, layer.bias.data = conv.weight.data.clone(), conv.bias.data.clone()
    return layer


def export(quantized: MapNet, shape: tuple[int, int, int, int], path: Path) -> Path:
    """Write the QONNX file of a quantized network for inputs of `shape`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        part = Path(scratch) / path.name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the TorchScript exporter is what Brevitas needs
            export_qonnx(
                copy.deepcopy(quantized),
                args=torch.zeros(shape),
                export_path=str(part),
                input_names=["codes"],
                output_names=["output"],
                opset_version=OPSET,
                dynamo=False,
            )
        tidy(part)
        return part.replace(path)
