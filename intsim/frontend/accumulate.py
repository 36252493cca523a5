"""Writing multiply-accumulate nodes: operands, scales, bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intsim.frontend.bias import split
from intsim.frontend.context import Context
from intsim.frontend.expression import ZERO, Expr, compress, scalar, spread
from intsim.frontend.weights import Weights, type_json
from intsim.graph import IntArray, Rationals, rationals


@dataclass(frozen=True)
class OutputChannels:
    """Where output channels lie: axis of the output and its rank, axis of the weights."""

    axis: int
    rank: int
    weight_axis: int


def accumulate(
    context: Context,
    op: str,
    x: Expr,
    w: Weights,
    bias: Rationals | None,
    attributes: dict[str, Any],
    out: OutputChannels,
    repeat: int = 0,
) -> Expr:
    """Write a MAC node; of `bias` (one value or one a channel) whole LSBs go into the accumulator.

    The rest is the result's offset.

    `repeat` tells a depthwise layer's channel multiplier: then the activation's scale may differ by channel.
    """
    tensor, x_scale, zero = _activation(context, x, repeat)
    scale = compress(x_scale * w.scale)
    arrays: dict[str, IntArray] = {"weight": w.codes}
    if w.zero.any():
        axes = [-1 if axis == out.weight_axis else 1 for axis in range(w.codes.ndim)]
        arrays["weight_zero"] = w.zero.reshape(axes if w.zero.size > 1 else ())
    channels = [1] * out.rank
    channels[out.axis] = -1
    offset = spread(ZERO, out.rank)
    if bias is not None:
        count = w.codes.shape[out.weight_axis]
        codes, rest = split(*(np.broadcast_to(v.reshape(-1), (count,)) for v in (bias, scale)))
        if codes.any():
            arrays["bias"] = codes
        offset = compress(rest.reshape(channels))
    if scale.size > 1:
        scale = scale.reshape(channels)
    attributes = {**attributes, "zero_point": zero, "weight_type": type_json(w.type)}
    return context.emit(op, [tensor], compress(spread(scale, out.rank)), offset, attributes, arrays)


def _activation(context: Context, x: Expr, repeat: int) -> tuple[str, Rationals, int]:
    """The activation as one tensor, its scale (one, or for a depthwise layer one an output channel), its zero point."""
    if repeat and x.linear and x.scale.size > 1 and _by_channel(np.broadcast_shapes(x.scale.shape, x.offset.shape)):
        settled = context.settle(x, per_cell=True)
        zero = scalar(compress(-settled.offset / settled.scale))
        if zero is not None:
            by_channel = np.broadcast_to(settled.scale.reshape(-1), (x.shape[1],))  # settling may have made all one
            return settled.tensor, np.repeat(by_channel, repeat), int(zero)
    tensor, only, point = context.operand(x)
    return tensor, rationals([only]), point


def _by_channel(shape: tuple[int, ...]) -> bool:
    """Whether a parameter of this shape changes from channel to channel only."""
    return all(size == 1 for axis, size in enumerate(shape) if axis != 1)
