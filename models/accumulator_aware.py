"""Weights that keep a promised accumulator width: A2Q and A2Q+ of Brevitas, begun from a trained float network.

A2Q (Colbert et al., ICCV 2023, arXiv 2308.13504) limits the l1 norm of each output channel's integer weights so that
no sum of products of N-bit inputs can leave a P-bit register: ``(2**(P-1) - 1) * 2**(s-N)``, s = 1 for signed inputs.
A2Q+ (ICML 2024, arXiv 2401.10432) subtracts each channel's mean first, which doubles the limit: ``(2**P - 2) /
(2**N - 1)``. Both round weights toward zero, so that rounding can't break the limit. The promise is about products; a
bias is added in a register of its own (target ``a2q-N``), or `intsim certify` says where it breaks the promise.
"""

from __future__ import annotations

from typing import Any

import torch
from brevitas.nn import QuantConv2d
from brevitas.quant import Int8AccumulatorAwareWeightQuant, Int8AccumulatorAwareZeroCenterWeightQuant
from torch import Tensor, nn

from intsim.errors import IntsimError

QUANTIZERS: dict[str, Any] = {
    "a2q": Int8AccumulatorAwareWeightQuant,
    "a2q+": Int8AccumulatorAwareZeroCenterWeightQuant,
}
INPUT_BITS = 8
"""Of the zoo's activations, which are unsigned."""


def weight_quantizer(weights: str, accumulator_bits: int) -> Any:
    """Brevitas' 8-bit quantizer for that accumulator width.

    Raises:
        IntsimError: unknown quantizer, or a width outside 12..32.
    """
    if weights not in QUANTIZERS or not 12 <= accumulator_bits <= 32:
        raise IntsimError(f'weights {weights!r} for {accumulator_bits} bits; take "a2q" or "a2q+", and 12 to 32 bits')
    return QUANTIZERS[weights].let(accumulator_bit_width=accumulator_bits)


def largest_norm(weights: str, accumulator_bits: int, input_bits: int = INPUT_BITS) -> float:
    """Largest l1 norm of a channel's integer weights, for unsigned inputs of `input_bits`."""
    if weights == "a2q":
        return (2.0 ** (accumulator_bits - 1) - 1) / 2**input_bits
    return (2.0**accumulator_bits - 2) / (2**input_bits - 1)


def keep_the_function(
    layer: QuantConv2d, weights: str, accumulator_bits: int, bits: int = 8, input_bits: int = INPUT_BITS
) -> None:
    """Choose each channel's scale so coarse that its float weights meet the limit as they are.

    Brevitas begins with the scale of the largest weight and shrinks the whole channel to meet the limit, which makes
    another function of it. A coarser scale costs resolution only, and training goes on from there. `bits` are the
    weights'.
    """
    w: Tensor = layer.weight.data
    over = tuple(range(1, w.dim()))
    if weights == "a2q+":
        w = w - w.mean(over, keepdim=True)
    finest = w.abs().amax(over, keepdim=True) / (2 ** (bits - 1) - 1)
    limit = largest_norm(weights, accumulator_bits, input_bits)
    scale = torch.maximum(finest, w.abs().sum(over, keepdim=True) / limit)
    quantizer = layer.weight_quant.tensor_quant
    for holder in (quantizer.scaling_impl, quantizer.pre_scaling_impl.scaling_impl):
        holder.value.data = scale.log2()  # Brevitas learns the logarithm


def store_integers(network: nn.Module, codes: Tensor) -> None:
    """Replace every accumulator-aware weight by its quantized value, before an export; `codes` is any network input.

    Brevitas exports the float weight and the scale with rounding to nearest, without the norm and the rounding toward
    zero that kept the limit (seen in 0.13.4: norms up to 16 % above it). Values on the grid survive any rounding.
    """
    layers = [m for m in network.modules() if isinstance(m, QuantConv2d) and _aware(m)]
    weights: dict[nn.Module, Tensor] = {}
    hooks = [
        m.register_forward_pre_hook(lambda layer, inputs: weights.update({layer: layer.quant_weight(inputs[0]).value}))
        for m in layers
    ]
    with torch.no_grad():
        network(codes)
        for layer, weight in weights.items():
            layer.weight.copy_(weight)
    for hook in hooks:
        hook.remove()


def _aware(layer: QuantConv2d) -> bool:
    return hasattr(layer.weight_quant.tensor_quant, "pre_scaling_impl")
