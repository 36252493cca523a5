"""The constant that a file adds to the result of a multiply-accumulate: where it goes.

Exporters write it as an operand of Conv or Gemm, or as an Add behind; in float32, or as an int32 code whose scale is
float32(s_x * s_w), hardly ever the exact product. Hardware has it in the accumulator all the same. So it is split into
whole LSBs, which are the layer's bias, and a rest of at most half an LSB, which stays exactly what it is, in the
requantizer (docs/ir.md, section Bias).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.frontend.context import Context, Refused
from intsim.frontend.expression import Const, Expr, Fixed, compress
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MACS
from intsim.graph import LIMIT, IntArray, Node, Rationals, rationals
from intsim.ops import OPS, Mac
from intsim.ops.movement import axis_behind

LARGEST = 1 << 62
"""Magnitude of a bias code from which on 64 bits can't hold its sums."""
MOST_BETWEEN = 32
"""Nodes between a multiply-accumulate and a constant beyond which it is not looked for."""
SAME_NUMBERS = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that hand on every number once."""


def split(constant: Rationals, scale: Rationals) -> tuple[IntArray, Rationals]:
    """`constant` (channels,) as whole LSBs of `scale` (channels,), ties to even, and what is left of it, exactly."""
    codes = np.empty(constant.shape, np.int64)
    for c, (b, s) in enumerate(zip(constant, scale, strict=True)):
        code = round_fraction(b / s, Rounding.HALF_EVEN)
        if abs(code) >= LARGEST:
            raise Refused(
                f"its bias in channel {c} is {float(b):g}, 2^{abs(code).bit_length() - 1} times the accumulator's unit "
                f"{float(s):g}, more than 64 bits hold; quantize input or weights with a larger scale"
            )
        codes[c] = code
    return codes, np.asarray(constant - rationals(codes) * scale, dtype=object)


def added(context: Context, node: Operation, position: int, value: Expr) -> Expr:
    """`value`, the sum of the node's input at `position` and a constant, with the constant in the accumulator.

    As it is where the input is not the result of a multiply-accumulate that nobody else reads, or where the constant is
    not one value a channel: then the requantizer adds it.
    """
    if not _is_product(context, node.inputs[position]) or len(value.terms) != 1 or value.steps:
        return value
    name, scale = value.terms[0]
    way = _way_back(context, name)
    if way is None or context.graph.tensors[name].shape != value.shape:
        return value
    axis = way[-1][1]
    parameters = [compress(p) for p in (scale, value.offset)]
    if any(size > 1 for p in parameters for a, size in enumerate(p.shape) if a != axis):
        return value
    channels = (value.shape[axis],)
    scales, offsets = (np.broadcast_to(p.reshape(-1), channels) for p in parameters)
    before = way[0][0].arrays.get("bias", np.zeros(1, np.int64))
    codes, rest = split(np.asarray(offsets + rationals(before) * scales, dtype=object), scales)
    if codes.any() or before.any():
        _give_bias(context, [node for node, _ in way], codes)
    for maker, at in way:
        # what the integers mean: the sum as the layer makes it, without the sign and factor of what came behind
        own = context.graph.tensors[maker.output]
        factor = np.broadcast_to(compress(own.scale).reshape(-1), channels) / scales
        left = np.asarray(rest * factor, dtype=object)
        context.describe(maker.output, own.scale, _along(left, at, len(own.shape)))
    return replace(value, offset=_along(rest, axis, len(value.shape)))


def _along(values: Rationals, axis: int, rank: int) -> Rationals:
    """One value a channel, as a parameter of a tensor."""
    return compress(values.reshape([-1 if a == axis else 1 for a in range(rank)]))


def belongs(context: Context, node: Operation) -> bool:
    """Whether a node adds a bias to a multiply-accumulate's result, or hands the result on to where one may be added.

    Such a node is integer even where no quantizer follows.
    """
    sides = [n for n in node.inputs if n and not isinstance(context.values.get(n), Const | Fixed)]
    if node.op not in ("Add", "Sub", *SAME_NUMBERS) or len(sides) != 1:
        return False
    return isinstance(context.values.get(sides[0]), Expr) and _is_product(context, sides[0])


def _is_product(context: Context, name: str) -> bool:
    """Whether an ONNX tensor is a multiply-accumulate's result, moved or with a constant added, that one node reads."""
    for _ in range(MOST_BETWEEN):
        maker = context.makers.get(name)
        if maker is None or context.readers.get(name, 0) != 1:
            return False
        if maker.op in MACS:
            return True
        sides = [n for n in maker.inputs if n and not isinstance(context.values.get(n), Const | Fixed)]
        if maker.op not in ("Add", "Sub", *SAME_NUMBERS) or len(sides) != 1:
            return False
        name = sides[0]
    return False


def _way_back(context: Context, name: str) -> list[tuple[Node, int]] | None:
    """The multiply-accumulate and the moves that make a tensor, each with its axis of channels."""
    nodes: list[Node] = []
    while not nodes or not isinstance(OPS[nodes[0].op], Mac):
        node = context.producer(name)
        wanted = node is not None and (isinstance(OPS[node.op], Mac) or node.op in ("reshape", "transpose"))
        if node is None or not wanted or len(nodes) > MOST_BETWEEN:
            return None
        nodes.insert(0, node)
        name = node.inputs[0]
    shapes = [context.graph.tensors[node.output].shape for node in nodes]
    axes = [len(shapes[0]) - 1 if nodes[0].op == "matmul" else 1]
    for node, before in zip(nodes[1:], shapes, strict=False):
        axis = axis_behind(node, axes[-1], before)
        if axis is None:
            return None
        axes.append(axis)
    return list(zip(nodes, axes, strict=True))


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
