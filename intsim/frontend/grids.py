"""Numbers that have no common integers of 64 bits, each as the nearest of a grid that is fine enough for its readers.

Where nobody quantized the branches of a sum, a pool or a product (a network quantized layer by layer), the exact
result needs the bits of all their scales and biases together. Such numbers are brought to a grid of a power of two, and
how far they are off then is counted (`intsim.ops.deviation`) up to the quantizer that ends it.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from intsim.arithmetic.pieces import spans
from intsim.errors import IntsimError
from intsim.frontend.cells import Cells
from intsim.frontend.context import Context, Meaning, Quantizer, Refused
from intsim.frontend.expression import ZERO, Curve, Expr, Resolved, Waiting, resolve, scalar, spread
from intsim.frontend.integers import reach_of
from intsim.frontend.masks import reach
from intsim.frontend.staircases import of_real
from intsim.frontend.tables import tabulate
from intsim.graph import rational_text, rationals
from intsim.ops.function import terms_json
from intsim.ops.grid import LIMB, MOST_SLOPE
from intsim.ops.table import MOST_CODES
from intsim.reals import enclosure
from intsim.reals.formula import SOURCE

ROOM = 1 << 61
"""What stays below it in front of a shift leaves int64 room for all sums on the way."""
FUNCTION_BITS = 31
"""Bits of a function of accumulators: float64 decides nearly all of them."""
TRIAL = Fraction(1, 1 << 16)
"""Grid on which a function is looked at to see how large it gets."""

Part = Expr | Curve | Waiting


def on_grid(context: Context, value: Part, bits: int) -> Expr:
    """The numbers as integers of at most `bits` bits, of one scale above zero.

    It is a power of two; of a tensor of one scale one times that, so that the scale itself isn't rounded.

    Raises:
        Refused: a function of too many integers, or numbers that have no such grid.
    """
    size = extent(context, value)
    if not size:
        raise Refused("its input is zero everywhere")
    unit = scalar(value.scale) if isinstance(value, Expr) and value.linear else None
    return placed(context, value, _power(size / abs(unit), bits) * abs(unit) if unit else _power(size, bits))


def extent(context: Context, value: Part) -> Fraction:
    """The largest magnitude of a value's numbers."""
    if isinstance(value, Waiting):
        return max(extent(context, part) for part in value.parts)
    if isinstance(value, Curve):
        made = _of_function(context, value, TRIAL)
        info = context.graph.tensors[made.tensor]
        return (max(abs(info.low), abs(info.high)) + 1) * TRIAL
    return max(map(abs, reach(value, context)))


def placed(context: Context, value: Part, grid: Fraction) -> Expr:
    """Each number as the nearest of a grid."""
    if isinstance(value, Waiting):
        return value.rebuild([placed(context, part, grid) for part in value.parts])
    if isinstance(value, Curve):
        return _of_function(context, value, grid)
    if len(value.terms) > 1:
        try:
            return _rounded(context, value, grid)
        except IntsimError:  # not even the sum of its terms, without offset and steps, has integers of 64 bits
            value = _of_parts(context, value, grid)
    return _rounded(context, value, grid)


def _of_parts(context: Context, value: Expr, grid: Fraction) -> Expr:
    """The same expression of terms that lie on the grid already."""
    rank = len(value.shape)
    step = spread(rationals(grid), rank)
    terms: dict[str, int] = {}
    for name, scale in value.terms:
        part = Expr(value.shape, ((context.broadcast(name, value.shape), scale),), spread(ZERO, rank))
        made = _rounded(context, part, grid)
        terms[made.tensor] = terms.get(made.tensor, 0) + 1
    return replace(value, terms=tuple((name, step * times) for name, times in terms.items()))


def _rounded(context: Context, value: Expr, grid: Fraction) -> Expr:
    """An expression of integers whose sum 64 bits hold, by a node `grid`."""
    resolved = resolve(value)
    ends = [reach_of(context, value, resolved, cell) for cell in range(len(resolved.pieces))]
    lines = [
        (max(abs(first), abs(last)), abs(s), abs(b))
        for cell, (low, high) in zip(resolved.pieces, ends, strict=True)
        for first, last, (_, s, b) in spans(cell, low, high)
    ]
    # lines on which only an overflow leaves numbers have to be written as well
    every = [piece for cell in resolved.pieces for piece in cell]
    largest = max(*(s * most + b for most, s, b in lines), *(abs(b) for _, _, b in every))
    shift = _shift(largest / grid + 1, max(abs(s) for _, s, _ in every) / grid)
    unit, half = grid / 2**shift, (1 << shift) // 2
    off = max(abs(s / unit - round(s / unit)) * most + abs(b / unit - round(b / unit)) for most, s, b in lines)
    cells = [
        [(start, Fraction(round(s / unit)), Fraction(round(b / unit) + half)) for start, s, b in cell]
        for cell in resolved.pieces
    ]
    attributes = {"shift": shift, "off": rational_text(off / 2**shift + Fraction(1, 2) * (shift > 0))}
    whole = Resolved(resolved.cells, resolved.coefficients, cells)
    stem = f"{context.source.outputs[0]}~grid"
    return context.emit_pieces("grid", value, whole, (rationals(grid), ZERO), attributes, stem=stem)


def _shift(largest: Fraction, slope: Fraction) -> int:
    """The most bits by which lines can be finer than the grid, with sums and slopes of these sizes on it."""
    alone = min(_bits(ROOM, largest), _bits(ROOM, slope))
    apart = min(_bits(MOST_SLOPE, slope), _bits(ROOM << LIMB, largest))
    if apart > alone and largest * 2**apart <= ROOM << min(LIMB, apart):
        return min(apart, 62)
    if alone < 0:
        raise Refused("its numbers have no common grid of 61 bits")
    return min(alone, 62)


def _bits(room: int, size: Fraction) -> int:
    """By how many bits a size can grow that has so much room, below zero for none."""
    return (room / size).__floor__().bit_length() - 1 if size else 62


def _of_function(context: Context, value: Curve, grid: Fraction) -> Expr:
    """A function of integers: a table of codes, or of an accumulator each number by itself."""
    info = context.graph.tensors[value.tensor]
    if info.type is not None and info.high - info.low < MOST_CODES:
        return _tabled(context, value, grid)
    if grid == TRIAL:
        return _decided_alone(context, value, grid)
    step = max(grid, _power(extent(context, value), FUNCTION_BITS))
    made = _decided_alone(context, value, step)
    return made if step == grid else _rounded(context, made, grid)


def _decided_alone(context: Context, value: Curve, grid: Fraction) -> Expr:
    """A node `function`."""
    rank = len(value.shape)
    function, (slopes, summands) = of_real(value.function, rank)
    cells = np.broadcast_shapes(slopes.shape, summands.shape)
    own = Cells(function)
    if len(own.distinct) > 1 or not all(f.name in enclosure.FUNCTIONS or f.name == SOURCE for f in own.order):
        made_by = "-".join(dict.fromkeys(value.made_by))
        raise Refused(f"it reads {made_by} of {value.tensor} unrounded; put a quantizer in front")
    lines = [
        [str(s), str(b)]
        for s, b in zip(*(np.broadcast_to(p, cells).reshape(-1).tolist() for p in (slopes, summands)), strict=True)
    ]
    attributes = {
        "cells": list(cells),
        "lines": lines,
        "terms": terms_json(own.formula(0).terms),
        "step": rational_text(grid),
        "off": "1/2",
        "functions": list(dict.fromkeys(value.made_by)),
    }
    stem = f"{context.source.outputs[0]}~grid"
    names = context.full_size([value.tensor], cells, value.shape)
    return context.emit("function", names, rationals(grid), ZERO, attributes, stem=stem)


def _power(size: Fraction, bits: int) -> Fraction:
    """The grid on which numbers up to `size` have at most `bits` bits."""
    return Fraction(2) ** (size.numerator.bit_length() - size.denominator.bit_length() - bits + 2)


def _tabled(context: Context, value: Curve, grid: Fraction) -> Expr:
    """A function of codes as a table of the nearest numbers of a grid."""
    rank = len(value.shape)
    nearest = Quantizer(spread(rationals(grid), rank), spread(ZERO, rank), 0, "half_even")
    meaning: Meaning = (rationals(grid), ZERO)
    made = tabulate(context, value, nearest, None, meaning)
    node = context.producer(made.tensor)
    assert node is not None
    context.replace(node, replace(node, attributes={**node.attributes, "off": "1/2"}))
    return Expr(value.shape, ((made.tensor, spread(rationals(grid), rank)),), spread(ZERO, rank))
