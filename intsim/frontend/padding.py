"""Pad: constant, edge, reflect and wrap."""

from __future__ import annotations

import numpy as np

from intsim.frontend.context import Context, Refused
from intsim.frontend.elementwise import expression
from intsim.frontend.expression import Const, Expr, Fixed, Value, scalar, spread
from intsim.frontend.movement import axis_of, integers, pick
from intsim.frontend.reader import Operation
from intsim.frontend.registry import lowers
from intsim.graph import Rationals, check_size, rationals


@lowers("Pad")
def pad(context: Context, node: Operation) -> Value:
    """Constant, edge and reflect padding; negative pads crop."""
    x = expression(context, node, 0)
    rank = len(x.shape)
    pads = integers(context, node, "pads", 1) or integers(context, node, "paddings", 1)
    if pads is None:
        raise Refused("it has no pads")
    axes = integers(context, node, "axes", 3) if len(node.inputs) > 3 else None
    axes = list(range(rank)) if axes is None else [axis_of(a, rank) for a in axes]
    if len(pads) != 2 * len(axes):
        raise Refused(f"its pads {pads} don't fit {len(axes)} axes")
    edges = {a: (pads[i], pads[len(axes) + i]) for i, a in enumerate(axes)}
    for axis, (begin, end) in edges.items():
        if min(begin, end) < 0:
            size = x.shape[axis]
            x = pick(context, x, axis, np.arange(max(-begin, 0), size - max(-end, 0)))
    edges = {a: (max(b, 0), max(e, 0)) for a, (b, e) in edges.items()}
    check_size([s + sum(edges.get(a, (0, 0))) for a, s in enumerate(x.shape)])
    mode = node.attributes.get("mode", "constant")
    if mode in ("edge", "reflect", "wrap"):
        for axis, edge in edges.items():
            if any(edge):
                x = pick(context, x, axis, np.pad(np.arange(x.shape[axis]), edge, mode=mode))
        return x
    if mode != "constant":
        raise Refused(f"its mode {mode} is not supported")
    fill = rationals(np.float32(node.attributes.get("value", 0.0)))
    if node.optional(2):
        value = context.value(node.inputs[2])
        if not isinstance(value, Const | Fixed):
            raise Refused("its padding value is not a constant")
        fill = value.real().reshape(())
    return pad_constant(context, x, [list(edges.get(a, (0, 0))) for a in range(rank)], fill)


def pad_constant(context: Context, x: Expr, pads: list[list[int]], fill: Rationals) -> Expr:
    """Padding with a real constant: the code that means it, on a grid where there is one."""
    if not any(b or e for b, e in pads):
        return x
    rank = len(x.shape)
    value = scalar(fill)
    assert value is not None
    tensor, scale, zero = context.operand(x)
    code, offset = value / scale + zero, -zero * scale
    if code.denominator != 1:
        # bring both to their common grid: y = d * x, d the denominator of the code
        factor = code.denominator
        scale, code = scale / factor, code * factor
        pieces = {"cells": [1] * rank, "pieces": [[[None, f"{factor}/1", "0/1"]]]}
        tensor = context.emit("affine", [tensor], rationals(scale), rationals(offset), pieces).tensor
    kind = context.graph.tensors[tensor].type
    if kind is not None and not kind.contains(int(code), int(code)):
        kind = None
    scales, offsets = (spread(rationals(v), rank) for v in (scale, offset))
    return context.emit("pad", [tensor], scales, offsets, {"pads": pads, "value": int(code)}, kind=kind)
