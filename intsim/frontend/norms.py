"""Normalisations of rows: LayerNormalization, RMSNormalization, InstanceNormalization, GroupNormalization.

A row's integers have one scale, and for a root mean square one zero point. Where a bias or a scale for each channel
leaves none that 61 bits hold (a convolution's accumulators), the row is brought to a fine grid; how far its integers
are off then is counted in the result's error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.frontend.context import MOST_ERROR, Context, Refused
from intsim.frontend.elementwise import expression
from intsim.frontend.expression import ONE, ZERO, Const, Expr, Fixed, scalar, spread
from intsim.frontend.grids import on_grid
from intsim.frontend.movement import axis_of
from intsim.frontend.reader import Operation
from intsim.frontend.registry import lowers
from intsim.frontend.rowwise import one_scale
from intsim.graph import Rationals, rational_text, rationals
from intsim.ops import OPS
from intsim.ops.layer_norm import HEADROOM, fraction_bits
from intsim.ops.rows import RowFunction


@dataclass(frozen=True)
class Row:
    """A tensor of one scale and zero point."""

    tensor: str
    scale: Fraction
    zero: int = 0


def row_of(context: Context, x: Expr, axes: Sequence[int], centred: bool) -> Row:
    """The rows along some axes as integers; `centred`: what all of a row have in common doesn't count."""
    count = math.prod(x.shape[a] for a in axes)
    refused: IntsimError
    try:
        if centred:
            tensor, scale = one_scale(context, x, axes)
            row = Row(tensor, scale)
        else:
            if any(len(set(s.flat) - {0}) > 1 for _, s in x.terms):
                raise Refused("its input has a scale for each channel; quantize it with one scale for the tensor")
            settled = context.settle(x, growing=True)
            step, offset = scalar(settled.scale), scalar(settled.offset)
            assert step is not None
            assert offset is not None
            row = Row(settled.tensor, step, int(-offset / step))
        info = context.graph.tensors[row.tensor]
        most = info.high - info.low if centred else max(abs(info.low - row.zero), abs(info.high - row.zero))
        if most * count < HEADROOM:
            return row
        refused = Refused(
            f"{count} times its input's range {info.low}..{info.high} needs more than 61 bits; quantize its input"
        )
    except Refused as error:
        refused = error
    try:
        made = on_grid(context, x, HEADROOM.bit_length() - 1 - count.bit_length())
    except IntsimError:
        raise refused from None
    step = scalar(made.scale)
    assert step is not None
    return Row(made.tensor, step)


def norm_of(context: Context, op: str, row: Row, axes: Sequence[int], epsilon: Fraction) -> Expr:
    """`layer_norm` or `rms_norm` of rows."""
    if row.tensor in context.irrational:
        raise Refused("it reads what no quantizer rounded of a function or a row; put a quantizer in front")
    if epsilon <= 0:
        raise Refused("its epsilon is not above zero, so that a row of equal numbers has no result")
    shape = context.graph.tensors[row.tensor].shape
    bits = fraction_bits(math.prod(shape[a] for a in axes))
    attributes = {"axes": list(axes), "fraction": bits, "epsilon": rational_text(epsilon / row.scale**2)}
    attributes |= {"zero_point": row.zero} if op == "rms_norm" else {}
    off = context.errors.get(row.tensor)
    attributes |= {"off": rational_text(off)} if off else {}
    made = context.emit(op, [row.tensor], rationals(Fraction(1, 1 << bits)), ZERO, attributes)
    node, function = context.producer(made.tensor), OPS[op]
    assert node is not None
    assert isinstance(function, RowFunction)
    if off and function.error(node, shape) > MOST_ERROR * (1 << bits):
        raise Refused("its input has no grid fine enough for its epsilon; quantize its input with one scale")
    return made


def epsilon_of(node: Operation) -> Fraction:
    """The attribute; a normalisation written out (`decomposed.py`) has a Fraction."""
    epsilon = node.attributes.get("epsilon", 1e-5)
    return epsilon if isinstance(epsilon, Fraction) else Fraction(float(np.float32(epsilon)))


@lowers("LayerNormalization", "RMSNormalization")
def layer_normalization(context: Context, node: Operation) -> Expr:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` on; or x / sqrt(mean of squares +
    epsilon) * scale.

    One written out names its `axes`.
    """
    x = expression(context, node, 0)
    if sum(map(bool, node.outputs)) > 1:
        raise Refused("its outputs Mean and InvStdDev are not supported")
    rank, centred = len(x.shape), node.op == "LayerNormalization"
    if "axes" in node.attributes:
        axes = sorted({axis_of(int(a), rank) for a in node.attributes["axes"]})
    else:
        axes = list(range(axis_of(int(node.attributes.get("axis", -1)), rank), rank))
    row = row_of(context, x, axes, centred)
    y = norm_of(context, "layer_norm" if centred else "rms_norm", row, axes, epsilon_of(node))
    gamma, beta = (_parameter(context, node, i, x.shape, axes, absent) for i, absent in ((1, ONE), (2, ZERO)))
    return y.affine(spread(gamma, rank), spread(beta, rank), y.shape)


@lowers("InstanceNormalization", "GroupNormalization")
def group_normalization(context: Context, node: Operation) -> Expr:
    """Layer normalisation of each channel, or of each of `num_groups` groups of them, with a scale and bias a channel.

    Before opset 21 GroupNormalization has these for each group, which one written by InstanceNormalization between two
    Reshapes (`decomposed.py`) has as well, under `by_group`.
    """
    x = expression(context, node, 0)
    shape = x.shape
    if len(shape) < 3:
        raise Refused(f"its input has {len(shape)} axes; it needs a batch, channels and positions")
    channels = shape[1]
    instance = node.op == "InstanceNormalization"
    groups = channels if instance else int(node.attributes.get("num_groups", 0))
    if groups < 1 or channels % groups:
        raise Refused(f"its {channels} channels don't divide into {groups} groups")
    each = channels // groups
    if each == 1:
        axes = list(range(2, len(shape)))
        y = norm_of(context, "layer_norm", row_of(context, x, axes, True), axes, epsilon_of(node))
    else:
        row = row_of(context, x, list(range(1, len(shape))), True)
        whole = Expr(shape, ((row.tensor, spread(rationals(row.scale), len(shape))),), spread(ZERO, len(shape)))
        apart = context.move(whole, "reshape", {"shape": [shape[0], groups, math.prod(shape[1:]) // groups]})
        made = norm_of(context, "layer_norm", replace(row, tensor=apart.tensor), [2], epsilon_of(node))
        y = context.move(made, "reshape", {"shape": list(shape)})
    if node.attributes.get("batch") == 1 and shape[0] != 1:
        raise Refused(f"it normalises its input's {shape[0]} samples together; keep the batch's axis (a 0 in Reshape)")
    by_group = not instance and (context.model.opset < 21 or bool(node.attributes.get("by_group")))
    for position, kind in ((1, "scale"), (2, "bias")):
        name = node.optional(position)
        if not name:
            raise Refused(f"it has no {kind}")
        value = context.value(name)
        size = groups if by_group else channels
        if not isinstance(value, Const | Fixed) or value.shape != (size,):
            raise Refused(f"its {kind} {name} is not a constant of {size} numbers")
        real = np.broadcast_to(value.real(), (size,))
        real = (np.repeat(real, each) if by_group else real).reshape(1, -1, *(1,) * (len(shape) - 2))
        a, b = (real, ZERO) if kind == "scale" else (ONE, real)
        y = y.affine(spread(a, len(shape)), spread(b, len(shape)), shape)
    behind = [n or shape[0] for n in node.attributes.get("shape", ())]
    return context.move(y, "reshape", {"shape": behind}) if behind and tuple(behind) != shape else y


def _parameter(
    context: Context, node: Operation, position: int, shape: tuple[int, ...], axes: list[int], absent: Rationals
) -> Rationals:
    """Scale or bias as exact numbers; `absent` if it has none."""
    name = node.optional(position)
    if not name:
        return absent
    value = context.value(name)
    if not isinstance(value, Const | Fixed):
        raise Refused(f"its input {name} is not a constant")
    if np.broadcast_shapes(value.shape, shape) != shape or len(value.shape) > len(axes):
        raise Refused(f"its input {name} of shape {value.shape} doesn't fit its input {shape}")
    return value.real()
