"""Quantization with Brevitas: W8A8, everything from input to output codes executable on integers.

Weights INT8 per output channel, narrow range, or accumulator-aware (`models.accumulator_aware`); activations UINT8 per
tensor after each ReLU, float scales calibrated on training pairs; biases INT32 at scale (input scale x weight scale);
input UINT8 at scale 1; output INT8 at the constant scale 2**-8. The tensors that meet in a concatenation share one
quantizer, so their codes can be put side by side as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
from brevitas.inject.enum import RestrictValueType, ScalingImplType
from brevitas.nn import QuantConv2d, QuantIdentity, QuantReLU
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Int32Bias, Uint8ActPerTensorFloat
from torch import Tensor, nn

from intsim.errors import IntsimError
from models.accumulator_aware import Weights, keep_the_function, weight_quantizer
from models.networks import DispNet

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


def quantize(
    folded: DispNet, batches: Iterable[Tensor], weights: Weights | None = None, accumulator_bits: int = 32
) -> DispNet:
    """A W8A8 copy of a folded network (`models.networks.fold`): calibrated, then bias-corrected.

    `batches` are input codes, ``(N, 33, H, W)`` float 0..255; they are gone through twice.
    Other arguments: see `with_quantizers`.
    """
    batches = list(batches)
    network = with_quantizers(folded, weights, accumulator_bits)
    with torch.no_grad():
        with calibration_mode(network):
            for codes in batches:
                network(codes)
        with bias_correction_mode(network):
            for codes in batches:
                network(codes)
    return network.eval()


def with_quantizers(folded: DispNet, weights: Weights | None = None, accumulator_bits: int = 32) -> DispNet:
    """The folded network with Brevitas layers in place of its own, not calibrated yet.

    `weights` None: plain INT8; else an accumulator-aware quantizer for `accumulator_bits`.
    """
    network = copy.deepcopy(folded).eval()
    network.input = QuantIdentity(act_quant=InputCodes, return_quant_tensor=True)
    blocks = network.blocks()
    for block in blocks.values():
        if not isinstance(block.norm, nn.Identity):
            raise IntsimError("the network still has batch normalization; fold it first")
        block.conv = _quantized(block.conv, weights, accumulator_bits)
        block.relu = QuantReLU(act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)
    for first, second in SHARED:
        blocks[second].relu = blocks[first].relu
    for name, head in network.heads.items():
        network.heads[name] = _quantized(head, weights, accumulator_bits)
        network.outputs[name] = QuantIdentity(act_quant=OutputCodes, return_quant_tensor=False)
    return network.eval()


def _quantized(conv: nn.Module, weights: Weights | None, accumulator_bits: int) -> QuantConv2d:
    if not isinstance(conv, nn.Conv2d) or conv.bias is None:
        raise IntsimError(f"{conv} is not a convolution with bias")
    layer = QuantConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        bias=True,
        weight_quant=weight_quantizer(weights, accumulator_bits) if weights else Int8WeightPerChannelFloat,
        bias_quant=Int32Bias,
        return_quant_tensor=False,
    )
    layer.weight.data, layer.bias.data = conv.weight.data.clone(), conv.bias.data.clone()
    if weights:
        layer.weight_quant.init_tensor_quant()  # its norms begin at these weights
        keep_the_function(layer, weights, accumulator_bits)
    return layer
