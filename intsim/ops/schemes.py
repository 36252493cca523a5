"""Requantizer schemes on whole nodes and on single cells: what hardware computes instead of the exact formula.

A scheme replaces `S * acc + B` and its rounding (`docs/requantizers.md`); pieces, zero point and clip stay those of
the node. Everything here depends on the requantizer's form and the accumulator's registers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.exact import LARGEST, exact_requantize
from intsim.arithmetic.form import RequantizerForm
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
from intsim.arithmetic.thresholds import Staircase, staircase
from intsim.arithmetic.tosa import apply_scale_16, apply_scale_32, tosa_multiplier
from intsim.errors import IntsimError
from intsim.graph import IntArray, Node, Tensor
from intsim.ops.pieces import (
    Piece,
    Transform,
    apply,
    apply_cells,
    apply_pieces,
    cell_views,
    combine,
    node_pieces,
    pieces_json,
)
from intsim.ops.requantize import clip

WIDE = 1 << 61
"""An accumulator or a bias beyond which their sum is not left to int64."""
ADD_LEFT_SHIFT = 20
"""TFLite reference Add: both operands are shifted left by 20 before their multipliers (kernels/add.cc, int8)."""

CellFunction = Callable[[IntArray], IntArray]
"""Accumulators of one cell, any shape, to its output codes, same shape, clipped."""


def requantize(
    node: Node, arrays: list[IntArray], tensors: list[Tensor], form: RequantizerForm, stages: Sequence[Stage]
) -> IntArray:
    """Codes out of a requantize node: `unclipped`, clipped to the node's bounds."""
    return clip(node, unclipped(node, arrays, tensors, form, stages))


def unclipped(
    node: Node, arrays: list[IntArray], tensors: list[Tensor], form: RequantizerForm, stages: Sequence[Stage]
) -> IntArray:
    """What the scheme computes before the clip, zero point included.

    Args:
        node: a requantize node.
        arrays: its inputs, int64.
        tensors: their descriptions, whose ranges choose the left shift of a sum of tensors.
        form: the requantizer.
        stages: the accumulator's registers, into the last of which the bias is added; empty for unbounded.

    Returns:
        int64, the broadcast shape of inputs and cells. A threshold requantizer has no thresholds beyond its least and
        greatest code, so there the values are clipped.

    Raises:
        IntsimError: a scale or an accumulator that the scheme doesn't take; names neither node nor target.
    """
    acc, adjusted = accumulator(node, arrays, tensors, form)
    if form.scheme == "thresholds":
        return apply_cells(node, acc, lambda block, pieces: _counted(node, pieces, block))
    return apply(adjusted, acc, transform(adjusted, form, stages)) + node.attributes["zero"]


def cell_function(node: Node, cell_pieces: list[Piece], form: RequantizerForm, stages: Sequence[Stage]) -> CellFunction:
    """The scheme's function of one cell of a node with a single input; `cell_pieces` is its item of `node_pieces`.

    The function raises IntsimError as `unclipped` does.
    """
    if form.scheme == "thresholds":
        return lambda acc: _counted(node, cell_pieces, acc)
    return _cell_function(node, cell_pieces, transform(node, form, stages))


def exact_cell_function(node: Node, cell_pieces: list[Piece]) -> CellFunction:
    """The exact counterpart of `cell_function`: the formula of docs/ir.md."""
    return _cell_function(node, cell_pieces, _exact(node))


def _cell_function(node: Node, cell_pieces: list[Piece], chosen: Transform) -> CellFunction:
    return lambda acc: clip(node, apply_pieces(cell_pieces, acc, chosen) + node.attributes["zero"])


def thresholds(node: Node, cell_pieces: list[Piece], low: int, high: int) -> Staircase:
    """The integer thresholds of one cell over the accumulators low..high."""
    at = node.attributes
    return staircase(cell_pieces, Rounding(at["rounding"]), at["zero"], (at["low"], at["high"]), (low, high))


def _counted(node: Node, cell_pieces: list[Piece], acc: IntArray) -> IntArray:
    """One cell's codes by counting thresholds."""
    if not acc.size:
        return np.zeros(acc.shape, np.int64)
    return thresholds(node, cell_pieces, int(acc.min()), int(acc.max())).count(acc)


def bias_in_accumulator(scale: Fraction, offset: Fraction) -> int:
    """The offset in LSBs of the accumulator, rounded to the nearest, as a kernel stores its bias; scale is not 0."""
    return round_fraction(offset / scale, Rounding.HALF_EVEN)


def _biased(acc: IntArray, scale: Fraction, offset: Fraction, stages: Sequence[Stage]) -> IntArray:
    """`acc` plus the bias, what a kernel multiplies.

    The sum goes back into the last register, by its rule. Where next to nothing multiplies the accumulator (a dead
    channel of a BatchNormalization) the offset may need more than 64 bits: then Python integers carry it.
    """
    if not offset:
        return acc
    bias = bias_in_accumulator(scale, offset)
    fits = abs(bias) < WIDE and (not acc.size or max(-int(acc.min()), int(acc.max())) < WIDE)
    total = acc + bias if fits else acc.astype(object) + bias
    if not stages:
        return total
    last = stages[-1]
    return np.asarray((wrap if last.overflow == "wrap" else saturate)(total, last.bits)).astype(np.int64)


def _exact(node: Node) -> Transform:
    mode = Rounding(node.attributes["rounding"])
    return lambda acc, scale, offset: np.asarray(exact_requantize(acc, scale, offset, mode))


def transform(node: Node, form: RequantizerForm, stages: Sequence[Stage]) -> Transform:
    """`(acc, S, B) -> integers` of the scheme; `S * acc + B` is what it approximates.

    A scale of 0 needs no multiplier: the offset, rounded as the form or else the node says.
    """
    if form.scheme == "exact":
        return _exact(node)
    chosen: dict[str, Callable[[IntArray, Fraction], IntArray]] = {
        "fixed-point": lambda acc, scale: _multiplied(acc, scale, form),
        "shift": lambda acc, scale: _shifted(acc, scale, form),
        "float32": lambda acc, scale: _float32(acc, scale),
        "tosa": lambda acc, scale: _tosa(acc, scale, form),
    }
    multiply = chosen[form.scheme]
    mode = form.rounding or Rounding(node.attributes["rounding"])

    def function(acc: IntArray, scale: Fraction, offset: Fraction) -> IntArray:
        if scale == 0:
            return np.full(acc.shape, round_fraction(offset, mode), np.int64)
        return multiply(_biased(acc, scale, offset, stages), scale)

    return function


def _multiplied(values: IntArray, scale: Fraction, form: RequantizerForm) -> IntArray:
    """Times a fixed-point multiplier."""
    assert form.multiplier_bits is not None
    multiplier, shift = quantize_multiplier(scale, form.multiplier_bits)
    if form.double_rounding:
        return np.asarray(multiply_high_double_rounding(values, multiplier, shift, form.multiplier_bits))
    assert form.rounding is not None
    return _int64(multiply_single_rounding(values, multiplier, shift, form.rounding))


def _shifted(values: IntArray, scale: Fraction, form: RequantizerForm) -> IntArray:
    """Shifted by a power of two; a negative scale negates before the shift."""
    assert form.rounding is not None
    shift = power_of_two_shift(abs(scale))
    return _int64(shift_requantize(values if scale > 0 else -values, shift, form.rounding))


def _int64(values: IntArray) -> IntArray:
    """Results beyond int64, as Python integers, saturated to +-2^62; any clip to 62 bits or fewer gives the same."""
    return values if values.dtype != object else np.clip(values, -LARGEST, LARGEST).astype(np.int64)


def _float32(values: IntArray, scale: Fraction) -> IntArray:
    """In binary32. The bounds before the rounding are exact in binary32 and beyond any code of 24 bits."""
    if values.dtype == object:
        values = np.clip(values, -(1 << 128), 1 << 128)  # infinities of binary32 already
    with np.errstate(over="ignore"):
        product = values.astype(np.float32) * float32_scale(scale)
    return np.rint(np.clip(product, np.float32(-(2**24)), np.float32(2**24))).astype(np.int64)


def _tosa(values: IntArray, scale: Fraction, form: RequantizerForm) -> IntArray:
    """TOSA's RESCALE; its preconditions are errors."""
    bits = form.multiplier_bits or 32
    multiplier, shift = tosa_multiplier(scale, bits)
    if bits == 16:
        return np.asarray(apply_scale_16(values, multiplier, shift))
    return np.asarray(apply_scale_32(values, multiplier, shift, form.double_rounding))


def accumulator(
    node: Node, arrays: list[IntArray], tensors: list[Tensor], form: RequantizerForm
) -> tuple[IntArray, Node]:
    """The single accumulator a scheme works on. Several inputs are first brought to one scale, as TFLite's Add does.

    Each input, shifted left, is multiplied by `a_i / (2 max a)`; the sum's unit is `2 max a / 2**left`, and the pieces
    are rescaled to it. Exact, threshold and shift schemes add exactly: integers on a power-of-two grid need no
    multiplier.
    """
    if len(arrays) == 1 or form.scheme in ("exact", "thresholds", "shift"):
        return combine(node, *arrays), node
    coefficients = node.arrays["coefficients"]
    widest = max(max(abs(t.low), abs(t.high)) for t in tensors)
    left = min(ADD_LEFT_SHIFT, 30 - widest.bit_length() - (len(arrays) - 1).bit_length())
    if left < 0:
        raise IntsimError(
            f"adds tensors of {widest.bit_length() + 1} bits; its rescaling takes 32-bit values; quantize the inputs"
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
            total[view] += _operand(np.broadcast_to(x, total.shape)[view] << left, Fraction(f, twice), form)
    cells = tuple(node.attributes["cells"])
    unit = np.broadcast_to(units, cells).reshape(-1)
    pieces = [
        [(None if start is None else (start / u).__ceil__(), s * u, b) for start, s, b in cell]
        for cell, u in zip(node_pieces(node), unit, strict=True)
    ]
    return total, replace(node, attributes={**node.attributes, "pieces": pieces_json(pieces)})


def _operand(values: IntArray, scale: Fraction, form: RequantizerForm) -> IntArray:
    """One operand of a sum times its multiplier. TOSA subtracts what has a negative scale: it has SUB beside ADD."""
    if form.scheme == "float32":
        return np.rint(values.astype(np.float32) * float32_scale(scale)).astype(np.int64)
    if form.scheme == "tosa":
        return -_tosa(values, -scale, form) if scale < 0 else _tosa(values, scale, form)
    return _multiplied(values, scale, form)
