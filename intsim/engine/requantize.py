"""A requantize node on a target's requantizer scheme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from intsim.arithmetic.integers import saturate, wrap
from intsim.arithmetic.requantize import (
    float32_scale,
    multiply_high_double_rounding,
    multiply_single_rounding,
    power_of_two_shift,
    quantize_multiplier,
    shift_requantize,
)
from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops import OPS
from intsim.ops.pieces import apply, cell_views, combine, node_pieces, pieces_json
from intsim.ops.requantize import clip
from intsim.targets import Target

WIDE = 1 << 61
"""A bias beyond which its sum with an accumulator is not left to int64."""
ADD_LEFT_SHIFT = 20
"""TFLite reference Add: both operands are shifted left by 20 before their multipliers (kernels/add.cc, int8)."""


def run_requantize(node: Node, arrays: list[IntArray], tensors: list[Tensor], target: Target) -> IntArray:
    """Codes out of a requantize node on `target`. Raises IntsimError when the scheme can't take the node's scales."""
    scheme = target.requantize.scheme
    if scheme in ("exact", "thresholds"):
        return OPS["requantize"].evaluate(node, *arrays)
    acc, pieces_node = _accumulator(node, arrays, tensors, target)
    try:
        y = apply(pieces_node, acc, _transform(pieces_node, target))
    except IntsimError as error:
        raise IntsimError(f"node {node.source or node.name}: target {target.name}: {error}") from None
    return clip(node, y + node.attributes["zero"])


def _biased(acc: IntArray, scale: Fraction, offset: Fraction, target: Target) -> IntArray:
    """`acc` plus the offset in its LSBs, rounded to the nearest, what a kernel adds before it multiplies.

    The sum goes back into the last register, by its rule. Where next to nothing multiplies the accumulator (a dead
    channel of a BatchNormalization) the offset may need more than 64 bits: then Python integers carry it.
    """
    if not offset:
        return acc
    bias = round_fraction(offset / scale, Rounding.HALF_EVEN)
    total = acc + bias if abs(bias) < WIDE else acc.astype(object) + bias
    if not target.stages:
        return total
    last = target.stages[-1]
    return np.asarray((wrap if last.overflow == "wrap" else saturate)(total, last.bits)).astype(np.int64)


def _transform(node: Node, target: Target) -> Callable[[IntArray, Fraction, Fraction], IntArray]:
    """`(acc, S, B) -> integers` of the target's scheme; `S * acc + B` is what it approximates."""
    form = target.requantize
    rounding = form.rounding

    def constant(acc: IntArray, offset: Fraction) -> IntArray:
        return np.full(acc.shape, round_fraction(offset, rounding or Rounding(node.attributes["rounding"])), np.int64)

    def fixed_point(acc: IntArray, scale: Fraction, offset: Fraction) -> IntArray:
        assert form.multiplier_bits is not None
        if scale == 0:
            return constant(acc, offset)
        biased = _biased(acc, scale, offset, target)
        multiplier, shift = quantize_multiplier(scale, form.multiplier_bits)
        if form.double_rounding:
            return np.asarray(multiply_high_double_rounding(biased, multiplier, shift, form.multiplier_bits))
        assert rounding is not None
        return np.asarray(multiply_single_rounding(biased, multiplier, shift, rounding)).astype(np.int64)

    def shifted(acc: IntArray, scale: Fraction, offset: Fraction) -> IntArray:
        assert rounding is not None
        if scale == 0:
            return constant(acc, offset)
        shift = power_of_two_shift(abs(scale))
        biased = _biased(acc, abs(scale), offset, target)
        return np.asarray(shift_requantize(biased if scale > 0 else -biased, shift, rounding)).astype(np.int64)

    def float32(acc: IntArray, scale: Fraction, offset: Fraction) -> IntArray:
        if scale == 0:
            return constant(acc, offset)
        biased = _biased(acc, scale, offset, target)
        product = biased.astype(np.float32) * float32_scale(scale)
        return np.rint(np.clip(product, np.float32(-(2**24)), np.float32(2**24))).astype(np.int64)

    table: dict[str, Any] = {"fixed-point": fixed_point, "shift": shifted, "float32": float32}
    return table[form.scheme]


def _accumulator(node: Node, arrays: list[IntArray], tensors: list[Tensor], target: Target) -> tuple[IntArray, Node]:
    """The single accumulator a scheme works on. Several inputs are first brought to one scale, as TFLite's Add does.

    Each input, shifted left, is multiplied by `a_i / (2 max a)`; the sum's unit is `2 max a / 2**left`, and the pieces
    are rescaled to it. A shift scheme adds exactly: integers on a power-of-two grid need no multiplier.
    """
    if len(arrays) == 1 or target.requantize.scheme == "shift":
        return combine(node, *arrays), node
    coefficients = node.arrays["coefficients"]
    widest = max(max(abs(t.low), abs(t.high)) for t in tensors)
    left = min(ADD_LEFT_SHIFT, 30 - widest.bit_length() - (len(arrays) - 1).bit_length())
    if left < 0:
        raise IntsimError(
            f"node {node.source or node.name}: target {target.name}: adds tensors of {widest.bit_length() + 1} bits; "
            "its rescaling takes 32-bit values; quantize the inputs"
        )
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    total = np.zeros(np.broadcast_shapes(shape, coefficients.shape[1:]), np.int64)
    units = np.empty(coefficients.shape[1:], object)
    for view, index in zip(
        cell_views(coefficients.shape[1:], total.ndim), np.ndindex(*coefficients.shape[1:]), strict=True
    ):
        factors = [int(a[index]) for a in coefficients]
        twice = 2 * max(abs(f) for f in factors)
        units[index] = Fraction(twice, 1 << left)
        for x, f in zip(arrays, factors, strict=True):
            total[view] += _scaled(np.broadcast_to(x, total.shape)[view] << left, Fraction(f, twice), target)
    cells = tuple(node.attributes["cells"])
    unit = np.broadcast_to(units, cells).reshape(-1)
    pieces = [
        [(None if start is None else (start / u).__ceil__(), s * u, b) for start, s, b in cell]
        for cell, u in zip(node_pieces(node), unit, strict=True)
    ]
    return total, replace(node, attributes={**node.attributes, "pieces": pieces_json(pieces)})


def _scaled(values: IntArray, scale: Fraction, target: Target) -> IntArray:
    """One operand of a sum times its multiplier."""
    form = target.requantize
    if form.scheme == "float32":
        return np.rint(values.astype(np.float32) * float32_scale(scale)).astype(np.int64)
    assert form.multiplier_bits is not None
    multiplier, shift = quantize_multiplier(scale, form.multiplier_bits)
    if form.double_rounding:
        return np.asarray(multiply_high_double_rounding(values, multiplier, shift, form.multiplier_bits))
    assert form.rounding is not None
    return np.asarray(multiply_single_rounding(values, multiplier, shift, form.rounding)).astype(np.int64)
