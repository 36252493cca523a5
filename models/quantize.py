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

from brevitas.nn import QuantIdentity, QuantReLU
from brevitas.quant import Int32Bias
from torch import Tensor, nn

from intsim.errors import IntsimError
from intsim.nn import PixelEmbedding
from models import quantize_dpt
from models.dpt import DPT
from models.networks import DispNet
from models.quantizers import (
    InputCodes,
    OutputCodes,
    QuantEmbedding,
    calibrated,
    checked_convolution,
    spread_table,
)
from models.schemes import Scheme, activation_quantizer, quantized_conv

SHARED = (("enc3.1", "enc2.1"), ("dec2.0", "enc1.1"), ("dec1.0", "enc0.1"))
"""Blocks whose outputs are concatenated."""


def quantize(folded: DispNet, batches: Iterable[Tensor], scheme: Scheme | None = None) -> DispNet:
    """A quantized copy of a folded network (`models.networks.fold`): calibrated, then bias-corrected; W8A8 by default.

    `batches` are input codes, ``(N, channels, H, W)`` float 0..255; they are gone through twice.
    """
    return calibrated(with_quantizers(folded, scheme), batches)


def with_quantizers(folded: DispNet, scheme: Scheme | None = None) -> DispNet:
    """The folded network with Brevitas layers in place of its own, not calibrated yet."""
    scheme = scheme or Scheme()
    if isinstance(folded, DPT):
        if scheme != Scheme():
            raise IntsimError(f"a transformer is quantized as w8a8, not as {scheme.name}")
        return quantize_dpt.with_quantizers(folded)
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
            block.conv = quantized_conv(checked_convolution(block.conv), scheme, Int32Bias, bits, first)
        act_quant = activation_quantizer(scheme, 8 if name == network.last else scheme.activation_bits)
        block.relu = QuantReLU(act_quant=act_quant, return_quant_tensor=True)
    for one, other in SHARED:
        blocks[other].relu = blocks[one].relu
    for name, head in network.heads.items():
        network.heads[name] = quantized_conv(checked_convolution(head), scheme, Int32Bias, 8, True)
        network.outputs[name] = QuantIdentity(act_quant=OutputCodes, return_quant_tensor=False)
    return network.eval()
