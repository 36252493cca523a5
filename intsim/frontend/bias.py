"""The constant that a file adds to the result of a multiply-accumulate: where it goes.

Exporters write it as an operand of Conv or Gemm, or as an Add behind; in float32, or as an int32 code whose scale is
float32(s_x * s_w), hardly ever the exact product. Hardware has it in the accumulator all the same. So it is split into
whole LSBs, which are the layer's bias, and a rest of at most half an LSB, which stays exactly what it is, in the
requantizer (docs/ir.md, section Bias).
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from intsim.arithmetic.rounding import Rounding, round_divide
from intsim.frontend.context import Context, Refused, compress_index
from intsim.frontend.expression import Const, Expr, Fixed, Value, compress, spread
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MACS
from intsim.graph import LIMIT, IntArray, Node, Rationals, rationals
from intsim.ops import OPS, Mac
from intsim.ops.movement import axis_behind

LARGEST = 1 << 62
"""Magnitude of a bias code from which on 64 bits can't hold its sums."""
MOST_BETWEEN = 32
"""Nodes between a multiply-accumulate and a constant beyond which it is not looked for."""
SUMS = ("Add", "Sub", "Sum")
SAME_NUMBERS = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that hand on every number once."""


def split(constant: Rationals, scale: Rationals) -> tuple[IntArray, Rationals]:
    """`constant` (channels,) as whole LSBs of `scale` (channels,), ties to even, and what is left of it, exactly."""
    codes, rest = np.empty(constant.shape, np.int64), np.empty(constant.shape, object)
    for c, (b, s) in enumerate(zip(constant, scale, strict=True)):
        # b / s and what is left, as integers: only the rest is brought to lowest terms
        (p, q), (m, n) = b.as_integer_ratio(), s.as_integer_ratio()
        top, bottom = (p * n, q * m) if m > 0 else (-p * n, -q * m)
        code = round_divide(top, bottom, Rounding.HALF_EVEN)
        if abs(code) >= LARGEST:
            raise Refused(
                f"its bias in channel {c} is {float(b):g}, 2^{abs(code).bit_length() - 1} times the accumulator's unit "
                f"{float(s):g}, more than 64 bits hold; quantize input or weights with a larger scale"
            )
        codes[c], rest[c] = code, Fraction(p * n - code * m * q, q * n)
    return codes, rest


def added(context: Context, node: Operation, position: int, value: Value) -> Value:
    """`value`, the sum of the node's input at `position` and a constant, with the constant in the accumulator.

    As it is where the input is not the result of a multiply-accumulate that nobody else reads, or where the constant is
    not one value a channel: then the requantizer adds it.
    """
    if not isinstance(value, Expr) or not value.linear or not _is_product(context, node.inputs[position]):
        return value
    way = _way_back(context, value.tensor)
    if way is None or not _same_but_leading(context.graph.tensors[value.tensor].shape, value.shape):
        return value
    channels = context.graph.tensors[way[0].output].shape[_channel_axis(way[0])]
    channel_of = _channel_of(context, way, value.shape)
    scales, offsets = (_by_channel(p, channel_of[-1], channels) for p in (value.scale, value.offset))
    if scales is None or offsets is None or any(s == 0 for s in scales):
        return value
    before = way[0].arrays.get("bias", np.zeros(1, np.int64))
    codes, rest = split(np.asarray(offsets + rationals(before) * scales, dtype=object), scales)
    if codes.any() or before.any():
        _give_bias(context, way, codes)
    for step, channels_at in zip(way, channel_of, strict=False):
        # what the integers mean: the sum as the layer makes it, without the sign and factor of what came behind
        own = context.graph.tensors[step.output]
        given = _by_channel(spread(own.scale, len(own.shape)), channels_at, channels)
        if given is not None:
            left = np.asarray(rest * given / scales, dtype=object)
            context.describe(step.output, own.scale, compress_index(left, channels_at))
    return replace(value, offset=compress_index(rest, channel_of[-1]))


def _same_but_leading(shape: tuple[int, ...], grown: tuple[int, ...]) -> bool:
    """Whether two shapes differ by leading axes of one element at most."""
    more = len(grown) - len(shape)
    return more >= 0 and grown[more:] == shape and all(s == 1 for s in grown[:more])


def _channel_axis(node: Node) -> int:
    return -1 if node.op == "matmul" else 1


def _channel_of(context: Context, way: list[Node], shape: tuple[int, ...]) -> list[IntArray]:
    """The channel of every element, behind each node of `way`, and last in `shape`; axes of one channel have size 1."""
    first = context.graph.tensors[way[0].output].shape
    axis: int | None = _channel_axis(way[0]) % len(first)
    channels = np.arange(first[_channel_axis(way[0])])
    index = channels.reshape([-1 if a == axis else 1 for a in range(len(first))])
    behind = [index]
    for node in way[1:]:
        before = context.graph.tensors[node.inputs[0]].shape
        moved = axis_behind(node, axis, before) if axis is not None else None
        if moved is None:
            index = OPS[node.op].evaluate(node, np.ascontiguousarray(np.broadcast_to(index, before)))
        else:
            rank = len(context.graph.tensors[node.output].shape)
            index = channels.reshape([-1 if a == moved else 1 for a in range(rank)])
        axis = moved
        behind.append(index)
    return [*behind, index.reshape((1,) * (len(shape) - index.ndim) + index.shape)]


def _by_channel(parameter: Rationals, channel_of: IntArray, channels: int) -> Rationals | None:
    """A parameter as (channels,) values; None if it changes within a channel."""
    parameter = compress(parameter)
    if parameter.size == 1:
        return np.broadcast_to(parameter.reshape(-1), (channels,))
    shape = np.broadcast_shapes(parameter.shape, channel_of.shape)
    at = np.broadcast_to(np.arange(parameter.size).reshape(parameter.shape), shape).reshape(-1)
    pairs = np.unique(np.broadcast_to(channel_of, shape).reshape(-1) * parameter.size + at)
    values = parameter.reshape(-1)
    out: Rationals = np.full(channels, None, object)
    for pair in pairs.tolist():
        channel, index = divmod(pair, parameter.size)
        if out[channel] is not None and out[channel] != values[index]:
            return None
        out[channel] = values[index]
    return out


def belongs(context: Context, node: Operation) -> bool:
    """Whether a node adds a bias to a multiply-accumulate's result, or hands the result on to where one may be added.

    Such a node is integer even where no quantizer follows.
    """
    side = _only_side(context, node)
    return side is not None and isinstance(context.values.get(side), Expr) and _is_product(context, side)


def _only_side(context: Context, node: Operation) -> str | None:
    """What a node hands on, moved or with constants added; None if it does anything else."""
    sides = [n for n in node.inputs if n and not isinstance(context.values.get(n), Const | Fixed)]
    return sides[0] if node.op in (*SUMS, *SAME_NUMBERS) and len(sides) == 1 else None


def _is_product(context: Context, name: str) -> bool:
    """Whether an ONNX tensor is a multiply-accumulate's result, moved or with a constant added, that one node reads."""
    for _ in range(MOST_BETWEEN):
        maker = context.model.makers.get(name)
        if maker is None or len(context.model.readers.get(name, ())) != 1 or name in context.model.outputs:
            return False
        side = _only_side(context, maker)
        if maker.op in MACS or side is None:
            return maker.op in MACS
        name = side
    return False


def _way_back(context: Context, name: str) -> list[Node] | None:
    """The multiply-accumulate and the moves that make a tensor."""
    nodes: list[Node] = []
    while not nodes or not isinstance(OPS[nodes[0].op], Mac):
        node = context.producer(name)
        wanted = node is not None and (isinstance(OPS[node.op], Mac) or node.op in ("reshape", "transpose"))
        if node is None or not wanted or len(nodes) > MOST_BETWEEN:
            return None
        nodes.insert(0, node)
        name = node.inputs[0]
    return nodes


def _give_bias(context: Context, nodes: list[Node], codes: IntArray) -> None:
    """Set the bias of the first of `nodes`, and the ranges of all."""
    graph = context.graph
    changed = replace(nodes[0], arrays={**nodes[0].arrays, "bias": codes})
    low, high = OPS[changed.op].value_range(changed, *(graph.tensors[i] for i in changed.inputs))
    if low < -LIMIT or high > LIMIT:
        raise Refused(f"its exact sum with the bias needs {max(-low, high).bit_length() + 1} bits, more than 64")
    context.replace(nodes[0], changed)
    nodes[0] = changed
    for node in nodes:
        graph.tensors[node.output] = replace(graph.tensors[node.output], low=low, high=high)
