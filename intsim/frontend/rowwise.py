"""Softmax, and normalisations to a mean, a variance or a root mean square: functions of whole rows of integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.frontend.context import Context, Refused
from intsim.frontend.elementwise import expression
from intsim.frontend.expression import ZERO, Expr, Masked, spread
from intsim.frontend.masks import of_rows, reach, seen_by_rows
from intsim.frontend.movement import axis_of
from intsim.frontend.reader import Operation
from intsim.frontend.registry import lowers, of_masked
from intsim.graph import Rationals, rationals
from intsim.ops.exponentials import falling_exponentials
from intsim.ops.rows import FRACTION_BITS
from intsim.ops.softmax import table_bits

MOST_TABLE = 1 << 20
"""Most entries of a table of exponentials (8 MiB)."""


def one_scale(context: Context, x: Expr, axes: Sequence[int]) -> tuple[str, Fraction]:
    """A tensor and its scale, above zero: `x` but for an offset that is the same all along a row."""
    if any(len(set(scale.flat) - {0}) > 1 for _, scale in x.terms):
        raise Refused("its input has a scale for each channel; quantize it with one scale for the tensor")
    if not x.steps and all(x.offset.shape[a] == 1 for a in axes):
        x = replace(x, offset=spread(ZERO, len(x.shape)))
    settled = context.settle(x, growing=True)
    return settled.tensor, settled.scale.item()


@lowers("Softmax")
@of_masked("Softmax")
def softmax(context: Context, node: Operation) -> Expr:
    """Softmax along an axis, before opset 13 of all that lies from the axis on."""
    axis = int(node.attributes.get("axis", 1 if context.model.opset < 13 else -1))
    value = context.value(node.inputs[0])
    x = value if isinstance(value, Masked) else expression(context, node, 0)
    return softmax_of(context, x, axis, context.model.opset)


def softmax_of(context: Context, x: Expr | Masked, axis: int, opset: int) -> Expr:
    """Softmax as that opset has it."""
    rank = len(x.shape)
    axis = axis_of(axis, rank)
    axes = list(range(axis, rank)) if opset < 13 else [axis]
    bits = table_bits(int(np.prod([x.shape[a] for a in axes])))
    mask = {}
    if isinstance(x, Masked):
        rows, kinds, seen = seen_by_rows(x, reach(x.value, context), axes, bits)
        mask = {} if seen.all() else {"mask": seen}
        x = of_rows(x, rows, kinds)
    tensor, scale = one_scale(context, x, axes)
    info = context.graph.tensors[tensor]
    try:
        table = falling_exponentials(scale, bits, info.high - info.low, MOST_TABLE)
    except IntsimError as error:
        raise Refused(f"{error}, as its input has a step of {float(scale):.3g}; quantize its input") from None
    attributes = {"axes": axes, "bits": bits, "fraction": FRACTION_BITS}
    return context.emit("softmax", [tensor], _step(FRACTION_BITS), ZERO, attributes, {"table": table, **mask})


def _step(bits: int) -> Rationals:
    return rationals(Fraction(1, 1 << bits))
