"""Quantization schemes: how many bits, which scales, and the Brevitas quantizers that stand for them.

8-bit weights take their scale from the largest weight of a channel (or of the layer), as Brevitas does. Below 8 bits
that wastes the few codes there are: scales begin where the weights' squared error is smallest, and training goes on
from there with the scale as a parameter (Esser et al., "Learned Step Size Quantization", ICLR 2020). Ternary weights
are the 2-bit case, -1, 0, 1 (Li et al., "Ternary Weight Networks", arXiv 1605.04711); binary ones are -1 and 1 at the
mean size of the weights (Rastegari et al., "XNOR-Net", ECCV 2016).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from brevitas.core.function_wrapper import RoundSte
from brevitas.core.utils import SingleArgStatelessBuffer
from brevitas.inject import ExtendedInjector
from brevitas.inject.enum import QuantType, RestrictValueType, ScalingImplType, ScalingPerOutputType, StatsOp
from brevitas.nn import QuantConv2d
from brevitas.quant import (
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int8WeightPerTensorFloat,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.base import NarrowIntQuant
from brevitas.quant.fixed_point import Int8WeightPerChannelFixedPoint
from brevitas.quant.solver.weight import WeightQuantSolver
from torch import Tensor

from intsim.errors import IntsimError
from models.accumulator_aware import keep_the_function, weight_quantizer

Weights = Literal["int", "ternary", "binary", "a2q", "a2q+"]
AWARE = ("a2q", "a2q+")
CANDIDATES = 64
"""Scales tried for the smallest squared error, evenly spaced up to the largest weight's."""


@dataclass(frozen=True)
class Scheme:
    """What a network is quantized to; the first and the last layer keep 8-bit weights and inputs under every scheme.

    weights: ``int`` (narrow, symmetric), ``ternary``, ``binary``, or ``a2q``, ``a2q+`` for sums of products that fit
    `accumulator_bits`. weight_bits, activation_bits: 2..8; ternary and binary weights have 2 and 1. per_channel: one
    weight scale an output channel, else one a layer. power_of_two: every scale of weights and activations is one, so
    that requantizing is a shift. first: ``float`` leaves the first convolution in float arithmetic, on the host.

    Raises:
        IntsimError: bits out of range, or a2q with other than per-channel float scales.
    """

    weights: Weights = "int"
    weight_bits: int = 8
    activation_bits: int = 8
    per_channel: bool = True
    power_of_two: bool = False
    accumulator_bits: int = 32
    first: Literal["integer", "float"] = "integer"

    def __post_init__(self) -> None:
        """Refuse what can't be quantized."""
        if self.weights not in ("int", "ternary", "binary", *AWARE):
            raise IntsimError(f"weights {self.weights!r}; take int, ternary, binary, a2q or a2q+")
        if not (2 <= self.weight_bits <= 8 and 2 <= self.activation_bits <= 8):
            raise IntsimError(f"{self.weight_bits}-bit weights, {self.activation_bits}-bit activations; take 2 to 8")
        if self.weights in AWARE and (self.power_of_two or not self.per_channel):
            raise IntsimError(f"{self.weights} has float scales per channel only; leave power_of_two and per_channel")

    @classmethod
    def of(cls, table: dict[str, Any]) -> Scheme:
        """The scheme of a recipe's table ``quantization``; its other keys are not looked at."""
        return cls(**{field.name: table[field.name] for field in fields(cls) if field.name in table})

    @property
    def name(self) -> str:
        """Such as ``w4a8``, ``w2a8`` (ternary), ``w1a8``, with ``-tensor`` and ``-shift`` where they apply."""
        bits = {"ternary": "2", "binary": "1"}.get(self.weights, str(self.weight_bits))
        aware = f"-{self.weights}-{self.accumulator_bits}" if self.weights in AWARE else ""
        parts = aware, "" if self.per_channel else "-tensor", "-shift" if self.power_of_two else ""
        return f"w{bits}a{self.activation_bits}{''.join(parts)}{'-float-first' if self.first == 'float' else ''}"


class _LearnedScale(NarrowIntQuant, WeightQuantSolver):
    """Scale a parameter, which `fit` sets; it is the scale itself, not the largest value."""

    scaling_impl_type = ScalingImplType.PARAMETER
    scaling_init = 1.0
    int_scaling_impl = SingleArgStatelessBuffer(1.0)
    scaling_min_val = 1e-10
    restrict_value_float_to_int_impl = RoundSte


class _MeanSize(WeightQuantSolver):
    """-1 and 1 at the mean size of the weights."""

    quant_type = QuantType.BINARY
    scaling_impl_type = ScalingImplType.STATS
    scaling_stats_op = StatsOp.AVE
    scaling_min_val = 1e-10
    signed = True
    narrow_range = True
    restrict_value_float_to_int_impl = RoundSte


_EIGHT_BITS = {
    (True, False): Int8WeightPerChannelFloat,
    (False, False): Int8WeightPerTensorFloat,
    (True, True): Int8WeightPerChannelFixedPoint,
    (False, True): Int8WeightPerTensorFixedPoint,
}


def activation_quantizer(scheme: Scheme, bits: int) -> type[ExtendedInjector]:
    """Unsigned, per tensor; few bits clip the largest 0.1 % of the values, which calibration sees, as outliers."""
    quantizer = Uint8ActPerTensorFixedPoint if scheme.power_of_two else Uint8ActPerTensorFloat
    return quantizer if bits == 8 else quantizer.let(bit_width=bits, high_percentile_q=99.9)


def quantized_conv(conv: torch.nn.Conv2d, scheme: Scheme, bias: Any, input_bits: int, end: bool) -> QuantConv2d:
    """A quantized convolution with the weights of `conv`; `end` for the first and the last layer.

    `bias` is Brevitas' quantizer for the bias, `input_bits` the width of the unsigned codes that it reads.
    """
    bits = 8 if end else {"ternary": 2, "binary": 1}.get(scheme.weights, scheme.weight_bits)
    layer = QuantConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        bias=True,
        weight_quant=_weight_quantizer(scheme, bits),
        bias_quant=bias,
        return_quant_tensor=False,
    )
    assert conv.bias is not None
    layer.weight.data, layer.bias.data = conv.weight.data.clone(), conv.bias.data.clone()
    if scheme.weights in AWARE:
        layer.weight_quant.init_tensor_quant()  # its norms begin at these weights
        keep_the_function(layer, scheme.weights, scheme.accumulator_bits, bits, input_bits)
    elif 1 < bits < 8:
        fit(layer, bits, scheme)
    return layer


def fit(layer: QuantConv2d, bits: int, scheme: Scheme) -> None:
    """Set the layer's scales, of one channel or of all, to those with the smallest squared error of its weights."""
    weight: Tensor = layer.weight.data
    rows = weight.flatten(1) if scheme.per_channel else weight.flatten()[None]
    largest = rows.abs().amax(1, keepdim=True).clamp(min=1e-10)
    limit = 2 ** (bits - 1) - 1
    if scheme.power_of_two:
        top = torch.ceil(torch.log2(largest / limit))
        tried = [2.0 ** (top - down) for down in range(6)]
    else:
        tried = [largest / limit * (k / CANDIDATES) for k in range(CANDIDATES, 0, -1)]
    errors = [((rows / s).round().clamp(-limit, limit) * s - rows).square().sum(1) for s in tried]
    best = torch.stack(errors).argmin(0)
    scale = torch.stack(tried).gather(0, best[None, :, None])[0]
    holder = layer.weight_quant.tensor_quant.scaling_impl
    value = scale.log2() if scheme.power_of_two else scale
    holder.value.data = value.reshape(holder.value.shape)


def _weight_quantizer(scheme: Scheme, bits: int) -> Any:
    if scheme.weights in AWARE:
        return weight_quantizer(scheme.weights, scheme.accumulator_bits).let(bit_width=bits)
    if bits == 8:
        return _EIGHT_BITS[scheme.per_channel, scheme.power_of_two]
    scales = {
        "scaling_per_output_type": ScalingPerOutputType.CHANNEL if scheme.per_channel else ScalingPerOutputType.TENSOR,
        "restrict_scaling_type": RestrictValueType.POWER_OF_TWO if scheme.power_of_two else RestrictValueType.FP,
    }
    return _MeanSize.let(**scales) if bits == 1 else _LearnedScale.let(bit_width=bits, **scales)
