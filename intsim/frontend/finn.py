"""FINN's dialect: MultiThreshold, which counts thresholds, XnorPopcountMatMul, a binary product of 0 and 1, and Im2Col.

Source: qonnx 1.0.0, qonnx/custom_op/general/multithreshold.py, xnorpopcount.py and im2col.py.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.pieces import Piece
from intsim.frontend.context import Context, Quantizer, Refused
from intsim.frontend.conv import window_positions
from intsim.frontend.elementwise import affine, expression
from intsim.frontend.expression import ONE, ZERO, Const, Expr, Fixed, Host, Resolved, Value, compress, spread
from intsim.frontend.matmul import numpy_matmul
from intsim.frontend.padding import pad_constant
from intsim.frontend.parameters import constant, shape_of
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MACS, QUANTIZERS, lowers
from intsim.graph import check_size, rationals

LAYOUTS = {2: "NC", 3: "NWC", 4: "NCHW"}
"""By the rank of the input where a node says nothing, as qonnx guesses."""
MOST_THRESHOLDS = 1 << 16
IM2COL = {"stride": [1, 1], "kernel_size": [1, 1], "pad_amount": [0, 0, 0, 0], "dilations": [1, 1]}


@lowers("MultiThreshold", kind=QUANTIZERS)
def multi_threshold(context: Context, node: Operation) -> Value:
    """out_scale * (how many thresholds x reaches) + out_bias, thresholds (C, T) or (1, T); of any x."""
    value = context.value(node.inputs[0])
    shape = shape_of(context, value)
    given = constant(context, node, 1, "thresholds")
    if given.ndim != 2 or not 0 < given.size <= MOST_THRESHOLDS * max(given.shape[0], 1):
        raise Refused(f"its thresholds have shape {given.shape}; channels times thresholds are wanted")
    cells = _cells(node, shape, given.shape[0])
    scale, bias = (rationals(np.float32(node.attributes.get(n, d))) for n, d in (("out_scale", 1.0), ("out_bias", 0.0)))
    if scale.item() <= 0:
        raise Refused("its out_scale is not above zero")
    count = given.shape[1]
    kind = IntegerType(max(count.bit_length(), 1), False)
    ordered = np.sort(given, axis=1)
    # codes count from 0; what they stand for begins at out_bias
    quantizer = Quantizer(scale, -bias / scale, 0, "half_even", (0, count), kind)
    meaning = scale, bias
    if isinstance(value, Host):
        held = ordered.astype(np.float64).reshape(*cells, count)
        made = Quantizer(scale, quantizer.before, 0, "half_even", (0, count), kind, thresholds=held)
        return context.host_input(value.name, made, node.outputs[0], meaning)
    if not isinstance(value, Expr):
        raise Refused("it reads a function of integers unrounded, or a constant; put a quantizer in front")
    x = context.settle(value, per_cell=True, growing=True)
    both = np.broadcast_shapes(cells, x.scale.shape, x.offset.shape)
    steps, offsets = (np.broadcast_to(p, both).reshape(-1) for p in (x.scale, x.offset))
    rows = np.broadcast_to(np.arange(given.shape[0]).reshape(cells), both).reshape(-1)
    known: dict[tuple[int, Fraction, Fraction], list[Piece]] = {}
    pieces: list[list[Piece]] = []
    for row, step, offset in zip(rows.tolist(), steps, offsets, strict=True):
        key = row, step, offset
        if key not in known:
            known[key] = _pieces([ceil((Fraction(float(t)) - offset) / step) for t in ordered[row]])
        pieces.append(known[key])
    attributes = {"rounding": "half_even", "zero": 0, "low": 0, "high": count}
    found = Resolved(both, [np.ones(both, object)], pieces)
    codes = context.emit_pieces("requantize", x, found, _meant(meaning, len(shape)), attributes, kind, node.outputs[0])
    context.stated.add(codes.tensor)
    return codes


def _cells(node: Operation, shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """One cell, or one a channel: the axis that the layout calls C, else the second."""
    if channels == 1:
        return (1,) * len(shape)
    layout = node.attributes.get("data_layout") or LAYOUTS.get(len(shape), "")
    axis = layout.index("C") if "C" in layout else 1
    if axis >= len(shape) or shape[axis] != channels:
        raise Refused(f"it has thresholds for {channels} channels, and an input {shape} whose channels are axis {axis}")
    return tuple(channels if a == axis else 1 for a in range(len(shape)))


def _pieces(starts: list[int]) -> list[Piece]:
    """Steps: from each start on one code more."""
    pieces: list[Piece] = [(None, Fraction(0), Fraction(0))]
    for code, start in enumerate(starts, 1):
        step = start, Fraction(0), Fraction(code)
        if pieces[-1][0] == start:
            pieces[-1] = step
        else:
            pieces.append(step)
    return pieces


def _meant(meaning: tuple[np.ndarray, np.ndarray], rank: int) -> tuple[np.ndarray, np.ndarray]:
    scale, offset = (compress(spread(m, rank)) for m in meaning)
    return scale, offset


@lowers("Im2Col")
def im2col(context: Context, node: Operation) -> Value:
    """Windows of an image (N, H, W, C) side by side: (N, H', W', kernel height * width * C), channels innermost."""
    x = expression(context, node, 0)
    at = {n: [int(v) for v in node.attributes.get(n, d)] for n, d in IM2COL.items()}
    shapes = {n: len(v) for n, v in at.items()}
    if len(x.shape) != 4 or shapes != {n: len(d) for n, d in IM2COL.items()}:
        raise Refused(f"its input has shape {x.shape}, its attributes {at}; an image of four axes is wanted")
    if min([*at["stride"], *at["dilations"], *at["kernel_size"]]) < 1 or min(at["pad_amount"]) < 0:
        raise Refused(f"its attributes {at} make no windows")
    top, left, bottom, right = at["pad_amount"]
    fill = rationals(int(node.attributes.get("pad_value", 0)))
    x = pad_constant(context, x, [[0, 0], [top, bottom], [left, right], [0, 0]], fill)
    n, *size, channels = x.shape
    kernel = tuple(at["kernel_size"])
    places, count = window_positions(tuple(size), kernel, at["stride"], at["dilations"])
    check_size([n, *places.shape, channels])
    rows = context.move(x, "reshape", {"shape": [n, size[0] * size[1], channels]})
    rows = context.move(rows, "gather", {"axis": 1}, {"index": places.T.reshape(-1)})
    return context.move(rows, "reshape", {"shape": [n, *count, len(places) * channels]})


@lowers("XnorPopcountMatMul", kind=MACS)
def xnor_popcount(context: Context, node: Operation) -> Value:
    """How many of K pairs of bits are equal: (K + sum (2 x - 1) (2 w - 1)) / 2 of x and w that are 0 or 1."""
    sides = []
    for i, name in enumerate(node.inputs[:2]):
        value = context.integer(name)
        if isinstance(value, Const):
            value = Fixed(np.asarray(value.array).astype(np.int64), ONE, ZERO, IntegerType(1, False))
            same = np.array_equal(value.codes, context.integer(name).array)  # type: ignore[union-attr]
        else:
            same = True
        if not same or not _bits(context, value):
            raise Refused(f"its input {node.inputs[i]} holds more than 0 and 1")
        sides.append(affine(node, value, rationals(2), rationals(-1)))
    a, b = sides
    assert isinstance(a, Fixed | Expr)
    assert isinstance(b, Fixed | Expr)
    out = numpy_matmul(context, a, b)
    half, rank = rationals(Fraction(1, 2)), len(out.shape)
    return out.affine(spread(half, rank), spread(half * a.shape[-1], rank), out.shape)


def _bits(context: Context, value: Fixed | Expr) -> bool:
    """Whether all its numbers are 0 or 1."""
    if isinstance(value, Fixed):
        return bool(np.isin(value.codes, (0, 1)).all()) and value.scale.size == 1 and value.scale.item() == 1
    if not value.linear or value.scale.size != 1 or value.offset.size != 1:
        return False
    info, scale, offset = context.graph.tensors[value.tensor], value.scale.item(), value.offset.item()
    return {info.low * scale + offset, info.high * scale + offset} <= {0, 1} and info.high - info.low <= 1
