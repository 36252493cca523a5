"""Quantization of the transformer: W8A8 as in `models.quantize`, and what lies between its operators besides.

What is added to something has a power of two as its scale: the tokens, both branches, the decoder's maps. Adding
integers of different scales then takes a shift. Scores have one scale for all heads; layer norms keep their float gain
and bias, which go into the requantizer behind them. `models.networks.fold` comes first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from brevitas.inject.enum import RestrictValueType, ScalingImplType
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int32Bias,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
)
from torch import Tensor, nn

from intsim.errors import IntsimError
from intsim.nn import PixelEmbedding
from models.dpt import DPT, TransformerBlock
from models.quantizers import InputCodes, OutputCodes, QuantEmbedding, calibrated, spread_table
from models.schemes import Scheme, quantized_conv

RESIDUAL_BITS = 8
"""Of the tokens between the transformer's blocks, and of what is added to them."""

ADDED = ("stem0", "stem1.1", "coarse.1", "middle", "fuse1.1")
"""Blocks whose outputs the decoder adds."""


class Shares(Uint8ActPerTensorFloat):
    """UINT8 at scale 1/256: what Softmax gives; 1 becomes 255/256."""

    scaling_impl_type = ScalingImplType.CONST
    restrict_scaling_type = RestrictValueType.FP
    scaling_init = 255 / 256


class Residual(Int8ActPerTensorFixedPoint):
    """INT8 at a power of two that holds 99.9 % of the values: few channels have outliers, which are clipped.

    Without that the codes are about twice as coarse for all others.
    """

    high_percentile_q = 99.9


def quantize(folded: DPT, batches: Iterable[Tensor], residual_bits: int = RESIDUAL_BITS) -> DPT:
    """A W8A8 copy of a folded network: calibrated, then bias-corrected.

    `batches` are input codes, ``(N, channels, H, W)`` float 0..255; they are gone through twice. `residual_bits`: see
    `with_quantizers`.
    """
    network = with_quantizers(folded, residual_bits)
    calibrated(network, batches)
    return network


def with_quantizers(folded: DPT, residual_bits: int = RESIDUAL_BITS) -> DPT:
    """The folded network with Brevitas layers in place of its own, not calibrated yet.

    `residual_bits`: of the tokens between blocks and of what is added to them.

    Raises:
        IntsimError: the network is not folded.
    """
    network, scheme = copy.deepcopy(folded).eval(), Scheme()
    if any(not isinstance(block.norm, nn.Identity) for block in network.blocks().values()):
        raise IntsimError("the network still has batch normalization; fold it first")
    if isinstance(network.input, PixelEmbedding):
        spread_table(network)
        network.input = QuantEmbedding(network.input, scheme)
    else:
        network.input = QuantIdentity(act_quant=InputCodes, return_quant_tensor=True)
    for name, block in network.blocks().items():
        block.conv = _convolution(block.conv)
        kind = Uint8ActPerTensorFixedPoint if name in ADDED else Uint8ActPerTensorFloat
        block.relu = QuantReLU(act_quant=kind, return_quant_tensor=True)
    network.embed = _convolution(network.embed)
    network.embed_point, network.position_point, network.tokens = (_residual(residual_bits) for _ in range(3))
    for layer in network.layers:
        assert isinstance(layer, TransformerBlock)
        _quantize_layer(layer, residual_bits)
    for name in ("fused1", "fused0"):
        setattr(network, name, QuantIdentity(act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True))
    for name, head in network.heads.items():
        network.heads[name] = _convolution(head)
        network.outputs[name] = QuantIdentity(act_quant=OutputCodes)
    return network.eval()


def _quantize_layer(layer: TransformerBlock, residual_bits: int) -> None:
    attention = layer.attention
    for name in ("query", "key", "value", "project"):
        setattr(attention, name, _linear(getattr(attention, name)))
    for name in ("expand", "reduce"):
        setattr(layer, name, _linear(getattr(layer, name)))
    for name in ("query_point", "key_point", "value_point", "scores"):
        setattr(attention, name, QuantIdentity(act_quant=Int8ActPerTensorFloat))
    attention.shares = QuantIdentity(act_quant=Shares)
    attention.mixed = QuantIdentity(act_quant=Int8ActPerTensorFloat, return_quant_tensor=True)
    layer.hidden = QuantIdentity(act_quant=Int8ActPerTensorFloat)
    for name in ("norm1_point", "norm2_point", "active"):
        setattr(layer, name, QuantIdentity(act_quant=Int8ActPerTensorFloat, return_quant_tensor=True))
    for name in ("branch1", "branch2", "sum1", "sum2"):
        setattr(layer, name, _residual(residual_bits))


def _residual(bits: int) -> QuantIdentity:
    return QuantIdentity(act_quant=Residual, bit_width=bits, return_quant_tensor=True)


def _convolution(conv: nn.Module) -> QuantConv2d:
    assert isinstance(conv, nn.Conv2d)
    return quantized_conv(conv, Scheme(), Int32Bias, 8, True)


def _linear(linear: nn.Linear) -> QuantLinear:
    layer = QuantLinear(
        linear.in_features,
        linear.out_features,
        bias=True,
        weight_quant=Int8WeightPerChannelFloat,
        bias_quant=Int32Bias,
    )
    layer.weight.data, layer.bias.data = linear.weight.data.clone(), linear.bias.data.clone()
    return layer
