"""Conv and ConvTranspose, channels first or last."""

from __future__ import annotations

import math

import numpy as np

from intsim.frontend.accumulate import OutputChannels, accumulate
from intsim.frontend.context import Context, M, Refused
from intsim.frontend.elementwise import expression
from intsim.frontend.expression import ONE, ZERO, Const, Expr, Fixed, Value, spread
from intsim.frontend.matmul import product
from intsim.frontend.padding import pad_constant
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MACS, lowers
from intsim.frontend.weights import Weights, weights
from intsim.graph import IntArray, Rationals, check_size


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
    bias = _bias(context, node, value.shape[0])
    if isinstance(value, Expr):
        y = convolution_of_two(context, node, x, value, bias)
    else:
        y = convolution(context, node, x, weights(value, 0), bias)
    return to_channels_last(context, y) if node.channels_last else y


def convolution(context: Context, node: Operation, x: Expr, w: Weights, bias: Rationals | None) -> Expr:
    """The integer convolution of `x` (N, C, *spatial)."""
    groups = _groups(node, x.shape, w.codes.shape)
    strides, dilations, pads = window(node, x.shape[2:], w.codes.shape[2:])
    attributes = {"strides": strides, "dilations": dilations, "pads": pads, "groups": groups}
    repeat = w.codes.shape[0] // groups if groups == x.shape[1] else 0
    return accumulate(context, "conv", x, w, bias, attributes, OutputChannels(1, len(x.shape), 0), repeat)


def _groups(node: Operation, x: tuple[int, ...], w: tuple[int, ...]) -> int:
    """The number of groups; raises Refused for shapes that don't fit together."""
    groups = int(node.attributes.get("group", 1))
    kernel = w[2:]
    if len(w) != len(x) or len(kernel) < 1:
        raise Refused(f"its weights have shape {w}, its input {x}")
    if groups < 1 or w[1] * groups != x[1] or w[0] % groups:
        raise Refused(f"its input has {x[1]} channels, its weights {w} with {groups} groups")
    if list(node.attributes.get("kernel_shape", kernel)) != list(kernel):
        raise Refused(f"its kernel_shape {node.attributes['kernel_shape']} is not that of its weights {w}")
    return groups


def window_positions(
    size: tuple[int, ...], kernel: tuple[int, ...], strides: list[int], dilations: list[int]
) -> tuple[IntArray, list[int]]:
    """Where each tap of each window is in a flattened padded input, (taps, windows), and the windows along each axis.

    Raises Refused for a kernel that is larger than the input.
    """
    ends = [s - d * (k - 1) for s, d, k in zip(size, dilations, kernel, strict=True)]
    if min(ends) < 1:
        raise Refused(f"its kernel {kernel} is larger than the padded input {size}")
    count = [-(-e // s) for e, s in zip(ends, strides, strict=True)]
    check_size([*kernel, *count])
    at = np.zeros((1, 1), np.int64)
    for i in range(len(size)):
        here = np.arange(kernel[i])[:, None] * dilations[i] + np.arange(count[i]) * strides[i]
        at = at[:, None, :, None] * size[i] + here[None, :, None, :]
        at = at.reshape(math.prod(kernel[: i + 1]), math.prod(count[: i + 1]))
    return at, count


def convolution_of_two(context: Context, node: Operation, x: Expr, w: Expr, bias: Rationals | None) -> Expr:
    """The convolution of `x` (N, C, *spatial) with a tensor: its windows as rows of a product of two tensors."""
    groups = _groups(node, x.shape, w.shape)
    kernel, rank = w.shape[2:], len(w.shape) - 2
    strides, dilations, pads = window(node, x.shape[2:], kernel)
    x = pad_constant(context, x, [[0, 0], [0, 0], *([pads[i], pads[rank + i]] for i in range(rank))], ZERO)
    size = x.shape[2:]
    at, count = window_positions(size, kernel, strides, dilations)
    taps, places, depth = math.prod(kernel), math.prod(count), w.shape[1]
    check_size([x.shape[0], x.shape[1], taps, places])
    rows = context.settle(x)
    rows = context.move(rows, "reshape", {"shape": [x.shape[0], groups, depth, math.prod(size)]})
    rows = context.move(rows, "gather", {"axis": 3}, {"index": at.reshape(-1)})
    rows = context.move(rows, "reshape", {"shape": [x.shape[0], groups, depth, taps, places]})
    rows = context.move(rows, "transpose", {"perm": [0, 1, 4, 2, 3]})
    rows = context.move(rows, "reshape", {"shape": [x.shape[0], groups, places, depth * taps]})
    columns = context.move(context.settle(w), "reshape", {"shape": [1, groups, w.shape[0] // groups, depth * taps]})
    columns = context.move(columns, "transpose", {"perm": [0, 1, 3, 2]})
    out = product(context, rows, columns, bias if groups == 1 else None)
    out = context.move(out, "transpose", {"perm": [0, 1, 3, 2]})
    out = context.move(out, "reshape", {"shape": [x.shape[0], w.shape[0], *count]})
    if bias is None or groups == 1:
        return out
    shift = np.broadcast_to(bias, (w.shape[0],)).reshape(1, -1, *[1] * rank)
    return out.affine(spread(ONE, rank + 2), shift, out.shape)


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
