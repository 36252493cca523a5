"""What every quantization of a network here is made of: the codes at both ends, the embedding, the calibration."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
from brevitas.inject.enum import RestrictValueType, ScalingImplType
from brevitas.nn import QuantIdentity
from brevitas.quant import Int8ActPerTensorFloat, Uint8ActPerTensorFloat
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from intsim.errors import IntsimError
from intsim.nn import PixelEmbedding
from models.networks import DispNet
from models.schemes import Scheme, activation_quantizer


class InputCodes(Uint8ActPerTensorFloat):
    """UINT8 at scale 1: the pixel codes themselves."""

    scaling_impl_type = ScalingImplType.CONST
    restrict_scaling_type = RestrictValueType.FP
    scaling_init = 255.0


class OutputCodes(Int8ActPerTensorFloat):
    """INT8 at scale 2**-8: code c stands for c / 256."""

    scaling_impl_type = ScalingImplType.CONST
    restrict_scaling_type = RestrictValueType.FP
    scaling_init = 0.5


class QuantEmbedding(PixelEmbedding):
    """A pixel embedding whose input and table are quantized; what it returns knows the table's scale."""

    def __init__(self, embedding: PixelEmbedding, scheme: Scheme) -> None:
        """Take over the table of `embedding`."""
        bits = scheme.activation_bits
        act_quant = activation_quantizer(scheme, bits)
        super().__init__(embedding.table.shape[1], QuantIdentity(act_quant=act_quant, return_quant_tensor=True))
        self.table.data = embedding.table.data.clone()
        self.codes = QuantIdentity(act_quant=InputCodes, return_quant_tensor=True)

    def forward(self, codes: Tensor) -> Tensor | IntQuantTensor:
        """Rows for `codes`, ``(N, C, H, W) -> (N, C * width, H, W)``."""
        rows = super().forward(getattr(self.codes(codes), "value", codes))
        table = self.quantizer(self.table)
        if not isinstance(table, IntQuantTensor):  # while it is calibrated
            return rows
        return IntQuantTensor(rows, table.scale, table.zero_point, table.bit_width, table.signed, table.training)


def calibrated(network: DispNet, batches: Iterable[Tensor]) -> DispNet:
    """Set the scales of a network with quantizers and correct its biases, in place; the network."""
    batches = list(batches)
    with torch.no_grad():
        with calibration_mode(network):
            for codes in batches:
                network(codes)
        with bias_correction_mode(network):
            for codes in batches:
                network(codes)
    return network.eval()


def spread_table(network: DispNet) -> None:
    """Bring each column of the embedding's table to 0..1, and undo it in the first convolution, in place.

    So all codes of an unsigned quantizer are used. The function stays the same but at the border, where padding with 0
    now stands for a column's least value.
    """
    table, conv = network.input.table.data, checked_convolution(network.blocks()[network.first].conv)
    assert conv.bias is not None
    low, span = table.amin(0), (table.amax(0) - table.amin(0)).clamp(min=1e-6)
    channels = conv.in_channels // len(low)
    conv.bias.data += (conv.weight.data.sum((2, 3)) * low.repeat(channels)).sum(1)
    conv.weight.data *= span.repeat(channels)[:, None, None]
    network.input.table.data = (table - low) / span


def checked_convolution(conv: nn.Module) -> nn.Conv2d:
    """The convolution with a bias that a module must be; raises IntsimError for another."""
    if not isinstance(conv, nn.Conv2d) or conv.bias is None:
        raise IntsimError(f"{conv} is not a convolution with bias")
    return conv
