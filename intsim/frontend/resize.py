"""Resize and Upsample: nearest as a gather, linear by integer weights."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from intsim.frontend.context import Context, Refused
from intsim.frontend.elementwise import operand
from intsim.frontend.expression import Const, Curve, Expr, Value
from intsim.frontend.interpolation import nearest_index, neighbours, old_nearest_mode, source_positions
from intsim.frontend.movement import axis_of, integers, pick
from intsim.frontend.reader import Operation
from intsim.frontend.registry import lowers
from intsim.graph import check_size

MOST_POSITIONS = 1 << 16
"""Longest axis that a Resize may make."""


@lowers("Resize", "Upsample", curves=True)
def resize(context: Context, node: Operation) -> Value:
    """Nearest as a gather; linear by integer weights, separable axis by axis."""
    x = operand(context, node)
    old = node.op == "Upsample" or context.model.opset < 11
    if old:
        node = replace(node, attributes={**node.attributes, "coordinate_transformation_mode": "asymmetric"})
    sizes, scales = _resize_targets(context, node, x.shape)
    mode = node.attributes.get("mode", "nearest")
    for axis, (out, scale) in enumerate(zip(sizes, scales, strict=True)):
        if out == x.shape[axis] and scale == 1:
            continue
        positions = source_positions(node.attributes, x.shape[axis], out, scale)
        if mode == "nearest":
            rule = node.attributes.get("nearest_mode", "round_prefer_floor")
            rule = old_nearest_mode(node.op, scale) if old else rule
            x = pick(context, x, axis, [nearest_index(rule, p, x.shape[axis]) for p in positions])
        elif mode in ("linear", "bilinear"):
            if isinstance(x, Curve):
                raise Refused("it mixes numbers of a function that no quantizer rounded; put a quantizer in front")
            x = _interpolate(context, x, axis, positions)
        else:
            raise Refused(f"its mode {mode} is not supported; nearest and linear are")
    return x


def _resize_targets(context: Context, node: Operation, shape: tuple[int, ...]) -> tuple[list[int], list[Fraction]]:
    """Output size and scale of every axis."""
    at_scales = 1 if node.op == "Upsample" or context.model.opset < 11 else 2
    scales: list[Fraction] | None = None
    if "scales" in node.attributes:
        scales = [Fraction(float(np.float32(s))) for s in node.attributes["scales"]]
    elif node.optional(at_scales):
        value = context.value(node.inputs[at_scales])
        if not isinstance(value, Const):
            raise Refused("its scales are not constant")
        scales = [Fraction(float(s)) for s in value.array.reshape(-1)] or None
    sizes = integers(context, node, "sizes", 3)
    axes = [axis_of(a, len(shape)) for a in node.attributes.get("axes", range(len(shape)))]
    if node.attributes.get("antialias") or node.attributes.get("exclude_outside"):
        raise Refused("antialias and exclude_outside are not supported")
    if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refused("its keep_aspect_ratio_policy is not supported; give sizes that stretch")
    if scales is None and sizes is None:
        raise Refused("it has neither scales nor sizes")
    given = [Fraction(s) for s in sizes or []] if scales is None else scales
    if len(given) != len(axes):
        raise Refused(f"it has {len(given)} scales or sizes for {len(axes)} axes")
    out, factors = list(shape), [Fraction(1)] * len(shape)
    for axis, wanted in zip(axes, given, strict=True):
        if wanted <= 0 or wanted > 1 << 20:
            raise Refused(f"its scale or size {wanted} is not usable")
        if scales is None:
            out[axis], factors[axis] = int(wanted), wanted / shape[axis]
        else:  # ONNX shape inference and its runtimes multiply in float32
            out[axis], factors[axis] = int(np.floor(np.float32(shape[axis]) * np.float32(float(wanted)))), wanted
        if not 1 <= out[axis] <= MOST_POSITIONS:
            raise Refused(f"it makes an axis of {out[axis]} elements; 1 to {MOST_POSITIONS} are supported")
    check_size(out)
    return out, factors


def _interpolate(context: Context, x: Expr, axis: int, positions: list[Fraction]) -> Expr:
    """Linear interpolation: weights are rationals that sum to one; their common denominator refines the scale."""
    index, weight = neighbours(positions, x.shape[axis])
    denominator = math.lcm(*(w.denominator for row in weight for w in row))
    if denominator >= 1 << 31:
        raise Refused("its weights have no common denominator of 31 bits")
    varies = any(p.shape[axis] != 1 for p in x.parameters())
    settled = x if x.linear and not varies else context.settle(x, per_cell=not varies)
    tensor = context.broadcast(settled.tensor, settled.shape)
    scale = np.asarray(settled.scale / denominator, dtype=object)
    integer = np.array([[int(w * denominator) for w in row] for row in weight], np.int64)
    arrays = {"index": np.array(index, np.int64), "weight": integer}
    return context.emit("interpolate", [tensor], scale, settled.offset, {"axis": axis}, arrays)
