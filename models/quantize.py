"""Quantization with Brevitas: everything from input to output codes executable on integers.

Weights by the scheme (`models.schemes`); activations unsigned per tensor after each ReLU, scales calibrated on training
pairs; biases INT32 at scale (input scale x weight scale); input UINT8 at scale 1; output INT8 at the constant scale
2**-8. The first and the last layer have 8-bit weights and read 8-bit codes. The tensors that meet in a concatenation
share one quantizer, so their codes can be put side by side as they are.

Two other first layers: a convolution left in float arithmetic, which integers begin behind; and a pixel embedding, one
integer table of few bits, behind which the first convolution is one like all others.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
from brevitas.inject.enum import RestrictValueType, ScalingImplType
from brevitas.nn import QuantIdentity, QuantReLU
from brevitas.quant import Int8ActPerTensorFloat, Int32Bias, Uint8ActPerTensorFloat
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from intsim.errors import IntsimError
from intsim.nn import PixelEmbedding
from models.dpt import DPT
from models.networks import DispNet
from models.schemes import Scheme, activation_quantizer, quantized_conv

SHARED = (("enc3.1", "enc2.1"), ("dec2.0", "enc1.1"), ("dec1.0", "enc0.1"))
"""Blocks whose outputs are concatenated."""


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


def quantize(folded: DispNet, batches: Iterable[Tensor], scheme: Scheme | None = None) -> DispNet:
    """A quantized copy of a folded network (`models.networks.fold`): calibrated, then bias-corrected; W8A8 by default.

    `batches` are input codes, ``(N, channels, H, W)`` float 0..255; they are gone through twice.
    """
    return calibrated(with_quantizers(folded, scheme), batches)


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


def with_quantizers(folded: DispNet, scheme: Scheme | None = None) -> DispNet:
    """The folded network with Brevitas layers in place of its own, not calibrated yet."""
    scheme = scheme or Scheme()
    if isinstance(folded, DPT):
        from models.quantize_dpt import with_quantizers as for_transformers

        if scheme != Scheme():
            raise IntsimError(f"a transformer is quantized as w8a8, not as {scheme.name}")
        return for_transformers(folded)
    network = copy.deepcopy(folded).eval()
    blocks = network.blocks()
    for block in blocks.values():
        if not isinstance(block.norm, nn.Identity):
            raise IntsimError("the network still has batch normalization; fold it first")
    embedded = isinstance(network.input, PixelEmbedding)
    if embedded:
        spread_table(network)
        network.input = QuantEmbedding(network.input, scheme)
    elif scheme.first == "integer":
        network.input = QuantIdentity(act_quant=InputCodes, return_quant_tensor=True)
    for name, block in blocks.items():
        first = name == network.first and not embedded
        if not first or scheme.first == "integer":
            bits = 8 if first else scheme.activation_bits
            block.conv = quantized_conv(_checked(block.conv), scheme, Int32Bias, bits, first)
        act_quant = activation_quantizer(scheme, 8 if name == network.last else scheme.activation_bits)
        block.relu = QuantReLU(act_quant=act_quant, return_quant_tensor=True)
    for one, other in SHARED:
        blocks[other].relu = blocks[one].relu
    for name, head in network.heads.items():
        network.heads[name] = quantized_conv(_checked(head), scheme, Int32Bias, 8, True)
        network.outputs[name] = QuantIdentity(act_quant=OutputCodes, return_quant_tensor=False)
    return network.eval()


def spread_table(network: DispNet) -> None:
    """Bring each column of the embedding's table to 0..1, and undo it in the first convolution, in place.

    So all codes of an unsigned quantizer are used. The function stays the same but at the border, where padding with 0
    now stands for a column's least value.
    """
    table, conv = network.input.table.data, _checked(network.blocks()[network.first].conv)
    assert conv.bias is not None
    low, span = table.amin(0), (table.amax(0) - table.amin(0)).clamp(min=1e-6)
    channels = conv.in_channels // len(low)
    conv.bias.data += (conv.weight.data.sum((2, 3)) * low.repeat(channels)).sum(1)
    conv.weight.data *= span.repeat(channels)[:, None, None]
    network.input.table.data = (table - low) / span


def _checked(conv: nn.Module) -> nn.Conv2d:
    if not isinstance(conv, nn.Conv2d) or conv.bias is None:
        raise IntsimError(f"{conv} is not a convolution with bias")
    return conv
