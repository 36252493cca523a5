"""Conv and ConvTranspose, channels first or last."""

from __future__ import annotations

import numpy as np

from intsim.frontend.accumulate import OutputChannels, accumulate
from intsim.frontend.context import Context, M, Refused
from intsim.frontend.elementwise import expression
from intsim.frontend.expression import Const, Expr, Fixed, Value
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MACS, lowers
from intsim.frontend.weights import Weights, weights
from intsim.graph import Rationals


def whole_numbers(node: Operation, name: str, absent: list[int]) -> list[int]:
    """An attribute, or what it is where it is absent."""
    return [int(v) for v in node.attributes.get(name, absent)]


def window(node: Operation, size: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and explicit pads (begins, ends) of a Conv or pool node; auto_pad resolved."""
    rank = len(kernel)
    strides, dilations = (whole_numbers(node, name, [1] * rank) for name in ("strides", "dilations"))
    pads = whole_numbers(node, "pads", [0] * (2 * rank))
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank or min([*strides, *dilations]) < 1:
        raise Refused(f"its strides {strides}, dilations {dilations} or pads {pads} don't fit {rank} spatial axes")
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * (2 * rank)
        for i in range(rank):
            total = max((-(-size[i] // strides[i]) - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 - size[i], 0)
            pads[i], pads[rank + i] = _halves(total, auto)
    elif auto == "VALID":
        pads = [0] * (2 * rank)
    elif auto != "NOTSET":
        raise Refused(f"its auto_pad {auto} is unknown")
    elif min(pads) < 0:
        raise Refused(f"its pads {pads} are negative")
    return strides, dilations, pads


def _halves(total: int, auto: str) -> tuple[int, int]:
    """Padding before and behind; an odd one is behind with SAME_UPPER."""
    small, large = total // 2, total - total // 2
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def to_channels_first(context: Context, value: M) -> M:
    """NHWC to NCHW."""
    rank = len(value.shape)
    return context.move(value, "transpose", {"perm": [0, rank - 1, *range(1, rank - 1)]})


def to_channels_last(context: Context, value: Expr) -> Expr:
    """NCHW to NHWC."""
    rank = len(value.shape)
    return context.move(value, "transpose", {"perm": [0, *range(2, rank), 1]})


def _bias(context: Context, node: Operation, channels: int) -> Rationals | None:
    if not node.optional(2):
        return None
    value = context.value(node.inputs[2])
    if not isinstance(value, Const | Fixed):
        raise Refused("its bias is computed at run time; only a constant bias is supported")
    if value.shape != (channels,):
        raise Refused(f"its bias has shape {value.shape}, it has {channels} output channels")
    return value.real().reshape(-1)


@lowers("Conv", kind=MACS)
def conv(context: Context, node: Operation) -> Value:
    """Conv of any rank; channels-last nodes have NHWC activations and O,kh,kw,I weights."""
    x = expression(context, node, 0)
    value = context.integer(node.inputs[1])
    if node.channels_last:
        x = to_channels_first(context, x)
        value = to_channels_first(context, value)  # O,kh,kw,I to O,I,kh,kw
    w = weights(value, 0)
    y = convolution(context, node, x, w, _bias(context, node, w.codes.shape[0]))
    return to_channels_last(context, y) if node.channels_last else y


def convolution(context: Context, node: Operation, x: Expr, w: Weights, bias: Rationals | None) -> Expr:
    """The integer convolution of `x` (N, C, *spatial)."""
    groups = int(node.attributes.get("group", 1))
    kernel = w.codes.shape[2:]
    if w.codes.ndim != len(x.shape) or len(kernel) < 1:
        raise Refused(f"its weights have shape {w.codes.shape}, its input {x.shape}")
    if groups < 1 or w.codes.shape[1] * groups != x.shape[1] or w.codes.shape[0] % groups:
        raise Refused(f"its input has {x.shape[1]} channels, its weights {w.codes.shape} with {groups} groups")
    if list(node.attributes.get("kernel_shape", kernel)) != list(kernel):
        raise Refused(f"its kernel_shape {node.attributes['kernel_shape']} is not that of its weights {w.codes.shape}")
    strides, dilations, pads = window(node, x.shape[2:], kernel)
    attributes = {"strides": strides, "dilations": dilations, "pads": pads, "groups": groups}
    repeat = w.codes.shape[0] // groups if groups == x.shape[1] else 0
    return accumulate(context, "conv", x, w, bias, attributes, OutputChannels(1, len(x.shape), 0), repeat)


@lowers("ConvTranspose", kind=MACS)
def conv_transpose(context: Context, node: Operation) -> Value:
    """ConvTranspose, rewritten as a convolution of the input with zero-point codes between its samples."""
    x = expression(context, node, 0)
    groups = int(node.attributes.get("group", 1))
    value = context.value(node.inputs[1])
    if not isinstance(value, Const | Fixed):
        raise Refused("its weights are computed at run time; only constant weights are supported")
    c, per_group, *kernel = value.shape
    rank = len(kernel)
    if c != x.shape[1] or c % groups:
        raise Refused(f"its input has {x.shape[1]} channels, its weights {value.shape} with {groups} groups")
    forward = _forward_kernel(context, value, groups, rank)
    insert, dilations = (whole_numbers(node, name, [1] * rank) for name in ("strides", "dilations"))
    extra = whole_numbers(node, "output_padding", [0] * rank)
    pads = _transposed_pads(node, x.shape[2:], kernel, insert, dilations, extra)
    attributes = {"insert": insert, "strides": [1] * rank, "dilations": dilations, "groups": groups, "pads": pads}
    w = weights(forward, 0)
    bias = _bias(context, node, groups * per_group)
    return accumulate(context, "conv_transpose", x, w, bias, attributes, OutputChannels(1, len(x.shape), 0))


def _transposed_pads(
    node: Operation, size: tuple[int, ...], kernel: list[int], insert: list[int], dilations: list[int], extra: list[int]
) -> list[int]:
    """Pads of the forward convolution: d * (k - 1) - pad, the output padding added at the end."""
    rank = len(kernel)
    pads = whole_numbers(node, "pads", [0] * (2 * rank))
    auto = node.attributes.get("auto_pad", "NOTSET")
    wanted = node.attributes.get("output_shape")
    if auto in ("SAME_UPPER", "SAME_LOWER") and not wanted:
        wanted = [s * i for s, i in zip(size, insert, strict=True)]
    if wanted:
        wanted = [int(v) for v in wanted][-rank:]
        for i in range(rank):
            total = insert[i] * (size[i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - wanted[i]
            pads[i], pads[rank + i] = _halves(total, auto)
    elif auto == "VALID":
        pads = [0] * (2 * rank)
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    return [reach[i] - pads[i] for i in range(rank)] + [reach[i] - pads[rank + i] + extra[i] for i in range(rank)]


def _forward_kernel(context: Context, value: M, groups: int, rank: int) -> M:
    """(C, O / groups, *k) to (O, C / groups, *k) with reversed taps."""
    c, per_group, *kernel = value.shape
    out = context.move(value, "reshape", {"shape": [groups, c // groups, per_group, *kernel]})
    out = context.move(out, "transpose", {"perm": [0, 2, 1, *range(3, 3 + rank)]})
    out = context.move(out, "reshape", {"shape": [groups * per_group, c // groups, *kernel]})
    for axis, k in enumerate(kernel):
        out = context.move(out, "gather", {"axis": 2 + axis}, {"index": np.arange(k - 1, -1, -1)})
    return out
