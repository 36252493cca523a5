"""Pooling and reductions."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from intsim.frontend.context import Context, Refused
from intsim.frontend.conv import to_channels_first, to_channels_last, window
from intsim.frontend.elementwise import expression, operand
from intsim.frontend.expression import ONE, ZERO, Const, Curve, Expr, Value, compress, spread
from intsim.frontend.movement import axis_of
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MOVERS, lowers
from intsim.frontend.waiting import moved


def _pool_window(node: Operation, size: tuple[int, ...]) -> tuple[dict[str, list[int]], list[int], list[int]]:
    """Attributes of a pool node, its own pads, and the extra end pads that ceil_mode asks for."""
    kernel = [int(k) for k in node.attributes.get("kernel_shape", [])]
    rank = len(size)
    if len(kernel) != rank or min(kernel, default=0) < 1:
        raise Refused(f"its kernel_shape {kernel} doesn't fit {rank} spatial axes")
    strides, dilations, pads = window(node, size, tuple(kernel))
    extra = [0] * rank
    if node.attributes.get("ceil_mode"):
        for i in range(rank):
            room = size[i] + pads[i] + pads[rank + i] - (dilations[i] * (kernel[i] - 1) + 1)
            positions = -(-room // strides[i]) + 1
            if (positions - 1) * strides[i] >= size[i] + pads[i]:
                positions -= 1  # a window must start inside the input or its left padding
            extra[i] = max((positions - 1) * strides[i] - room, 0)
    grown = pads[:rank] + [p + e for p, e in zip(pads[rank:], extra, strict=True)]
    return {"kernel": kernel, "strides": strides, "dilations": dilations, "pads": grown}, pads, extra


@lowers("MaxPool", kind=MOVERS, curves=True)
def max_pool(context: Context, node: Operation) -> Value:
    """MaxPool commutes with every growing function, so scales and activations pass through it.

    Numbers of a function, or without integers of one scale for each channel, wait for their quantizer.
    """
    if any(node.outputs[1:]):
        raise Refused("its Indices output is not supported")
    x = operand(context, node)
    if isinstance(x, Curve):
        return moved(context, node)[0]
    if node.channels_last:
        x = to_channels_first(context, x)
    attributes, _, _ = _pool_window(node, x.shape[2:])
    in_window = any(s != 1 for p in x.parameters() for s in p.shape[2:])
    if not _grows(x) or in_window:
        try:
            x = context.settle(x, per_cell=not in_window, growing=True)
        except Refused:
            return moved(context, node)[0]
    tensor = context.broadcast(x.tensor, x.shape)
    kind = context.graph.tensors[tensor].type
    y = context.emit("max_pool", [tensor], x.scale, x.offset, attributes, kind=kind)
    out = Expr(y.shape, ((y.tensor, x.scale),), x.offset, x.steps)
    return to_channels_last(context, out) if node.channels_last else out


def _grows(x: Expr) -> bool:
    """Whether the expression is a non-decreasing function of a single tensor."""

    factors = [s.values[0] for s in x.steps if s.kind in ("affine", "leaky")]
    growing = np.all(x.scale > 0) and all(np.all(f >= 0) for f in factors if f is not None)
    return len(x.terms) == 1 and bool(growing)


@lowers("AveragePool")
def average_pool(context: Context, node: Operation) -> Value:
    """A sum with a finer scale; positions with different divisors are brought to the divisors' common multiple."""
    x = expression(context, node, 0)
    settled = context.settle(x, per_cell=True)  # one integer zero point, maybe a scale for each channel
    if compress(settled.offset / settled.scale).size > 1 or any(s != 1 for s in settled.scale.shape[2:]):
        settled = context.settle(x)
    zero = int(compress(-settled.offset / settled.scale).item())
    size = x.shape[2:]
    attributes, pads, extra = _pool_window(node, size)
    rank = len(size)
    counted = []
    for i in range(rank):
        inside = np.zeros(size[i] + pads[i] + pads[rank + i] + extra[i], np.int64)
        if node.attributes.get("count_include_pad"):
            inside[: size[i] + pads[i] + pads[rank + i]] = 1
        else:
            inside[pads[i] : pads[i] + size[i]] = 1
        step, d, k = attributes["strides"][i], attributes["dilations"][i], attributes["kernel"][i]
        starts = range(0, inside.size - d * (k - 1), step)
        counted.append(np.array([inside[s : s + d * (k - 1) + 1 : d].sum() for s in starts]))
    counts = functools.reduce(np.multiply.outer, counted)
    if (counts == 0).any():
        raise Refused("one of its windows lies in the padding alone")
    common = math.lcm(*(int(c) for c in np.unique(counts)))
    weight = (common // counts).reshape(1, 1, *counts.shape).astype(np.int64)
    scale = np.asarray(settled.scale / common, dtype=object)
    offset, arrays = spread(ZERO, len(x.shape)), {"weight": weight}
    more: dict[str, Any] = {"zero_point": zero}
    if node.attributes.get("count_include_pad"):
        more["include_pad"] = True  # beyond the padding's end weights don't tell
    return context.emit("sum_pool", [settled.tensor], scale, offset, {**attributes, **more}, arrays)


@lowers("GlobalMaxPool", kind=MOVERS, curves=True)
def global_max_pool(context: Context, node: Operation) -> Value:
    """MaxPool over all positions."""
    kernel = list(operand(context, node).shape[2:])
    return max_pool(context, replace(node, attributes={"kernel_shape": kernel}))


@lowers("GlobalAveragePool")
def global_average_pool(context: Context, node: Operation) -> Value:
    """Sum over all positions with a scale divided by their number."""
    x = expression(context, node, 0)
    return _reduced(context, x, list(range(2, len(x.shape))), True, True)


@lowers("ReduceMean", "ReduceSum")
def reduce(context: Context, node: Operation) -> Value:
    """Mean or sum over axes, given as attribute or input."""
    x = expression(context, node, 0)
    axes = _axes(context, node, len(x.shape))
    return _reduced(context, x, axes, node.op == "ReduceMean", bool(node.attributes.get("keepdims", 1))) if axes else x


@lowers("ReduceMax", "ReduceMin", kind=MOVERS)
def extreme_over(context: Context, node: Operation) -> Value:
    """The largest over axes as a pool of them, the smallest as minus the largest of negated numbers."""
    x = expression(context, node, 0)
    shape = x.shape
    axes = _axes(context, node, len(shape))
    if not axes:
        return x
    sign = spread(ONE if node.op == "ReduceMax" else -ONE, len(shape))
    x = x if node.op == "ReduceMax" else x.affine(sign, spread(ZERO, len(shape)), shape)
    varies = any(p.shape[a] != 1 for p in x.parameters() for a in axes)
    if not _grows(x) or varies:
        x = context.settle(x, per_cell=not varies, growing=True)
    kept = [a for a in range(len(shape)) if a not in axes]
    x = context.move(x, "transpose", {"perm": [*kept, *axes]})
    count = math.prod(shape[a] for a in axes)
    x = context.move(x, "reshape", {"shape": [1, math.prod(shape[a] for a in kept), count]})
    at = {"kernel": [count], "strides": [1], "dilations": [1], "pads": [0, 0]}
    y = context.emit("max_pool", [x.tensor], x.scale, x.offset, at, kind=context.graph.tensors[x.tensor].type)
    out = Expr(y.shape, ((y.tensor, x.scale),), x.offset, x.steps)
    keep = bool(node.attributes.get("keepdims", 1))
    left = [1 if a in axes else s for a, s in enumerate(shape) if keep or a not in axes]
    out = context.move(out, "reshape", {"shape": left})
    if node.op == "ReduceMax":
        return out
    return out.affine(spread(-ONE, len(left)), spread(ZERO, len(left)), out.shape)


def _axes(context: Context, node: Operation, rank: int) -> list[int]:
    """The axes of a reduction, ascending; none where it changes nothing."""
    axes = node.attributes.get("axes")
    if axes is None and node.optional(1):
        value = context.value(node.inputs[1])
        if not isinstance(value, Const):
            raise Refused("its axes are not constant")
        axes = value.array.reshape(-1).tolist()
    if not axes:
        return [] if node.attributes.get("noop_with_empty_axes") else list(range(rank))
    named = [axis_of(int(a), rank) for a in axes]
    if len(set(named)) != len(named):
        raise Refused(f"its axes {named} name one twice")
    return sorted(named)


def _reduced(context: Context, x: Expr, axes: list[int], mean: bool, keep: bool) -> Expr:
    """The sum, or the mean, over axes; the count multiplies the offset of a sum, which may be any number."""
    varies = any(p.shape[a] != 1 for p in x.parameters() for a in axes)
    plain = x.linear and context.graph.tensors[x.tensor].shape == x.shape and all(x.scale.flat)
    settled = x if plain and not varies else context.settle(x, per_cell=not varies)
    count = math.prod(x.shape[a] for a in axes)
    meaning = (settled.scale / count, settled.offset) if mean else (settled.scale, settled.offset * count)
    scale, offset = (np.asarray(v, dtype=object) for v in meaning)
    y = context.emit("reduce_sum", [settled.tensor], scale, offset, {"axes": axes})
    return y if keep else context.move(y, "reshape", {"shape": [s for i, s in enumerate(x.shape) if i not in axes]})
