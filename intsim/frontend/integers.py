"""Arithmetic on ONNX integers in the integer graph: results that leave their type wrap, functions become tables.

An expression of a tensor whose element type is an integer is that integer. Where its exact value can leave the type,
ONNX keeps the low bits: a piecewise linear function again, one piece for each time round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from onnx import TensorProto, helper

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.pieces import Piece, piecewise_range, spans
from intsim.errors import IntsimError
from intsim.frontend.context import Context, Refused
from intsim.frontend.expression import (
    ONE,
    ZERO,
    Const,
    Curve,
    Expr,
    Fixed,
    Resolved,
    Value,
    as_codes,
    is_codes,
    merge,
    resolve,
)
from intsim.frontend.host import fold
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.frontend.reader import Operation
from intsim.frontend.registry import HANDLERS, QUANTIZERS
from intsim.frontend.tables import MOST_ENTRIES
from intsim.frontend.types import INTEGERS, limits, type_name
from intsim.graph import LIMIT
from intsim.ops.table import MOST_CODES

MOST_PIECES = 1 << 9
"""Most pieces of a function that wraps; beyond, a table holds it if there are few enough codes."""
SUMS = ("ConvInteger", "MatMulInteger", "ReduceSum")
"""Sums of which ONNX doesn't say what they are beyond their type, and executors disagree."""
FUNCTIONS = (
    *("And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater"),
    *("GreaterOrEqual", "Less", "LessOrEqual", "Mod", "Not", "Or", "Pow", "Sign", "Xor"),
)
"""Functions of one integer tensor and constants that no line holds: a table does."""


def on_integers(context: Context, op: Operation) -> bool:
    """Whether a node computes ONNX integers from ONNX integers, which stay exact integers to the end."""
    types = context.types
    data = [types.get(n) for n in op.inputs if isinstance(context.values.get(n), Expr | Curve)]
    made = types.get(op.outputs[0]) if op.outputs else None
    whole = made in INTEGERS or (made == TensorProto.BOOL and op.op in FUNCTIONS)
    given = bool(data) and all(t in ONNX_INTEGERS for t in data)
    return op.domain == "" and op.op not in QUANTIZERS and whole and given


def handler_of(op: Operation) -> Callable[[Context, Operation], Value | Sequence[Value]] | None:
    """What lowers a node on integers, where that isn't what lowers it on real numbers."""
    if op.op in FUNCTIONS:
        return function
    return mean if op.op == "ReduceMean" else None


def as_integers(context: Context, op: Operation, made: Sequence[Value]) -> list[Value]:
    """A node's outputs, those of an integer type brought into it.

    Raises Refused where a value isn't whole, where ONNX leaves open what happens, or where wrapping takes too many
    pieces.
    """
    out = []
    for name, value in zip(op.outputs, made, strict=False):
        element = context.types.get(name)
        inside = isinstance(value, Expr) and element in INTEGERS and op.op not in QUANTIZERS
        out.append(_inside(context, op, value, element) if inside else value)  # type: ignore[arg-type]
    return out


def _inside(context: Context, op: Operation, value: Expr, element: int) -> Expr:
    low, high = limits(element)
    if is_codes(value):
        info = context.graph.tensors[value.tensor]
        if low <= info.low and info.high <= high:
            return value
    resolved = resolve(value)
    reach = [reach_of(context, value, resolved, cell) for cell in range(len(resolved.pieces))]
    whole = all(
        v.denominator == 1
        for pieces, ends in zip(resolved.pieces, reach, strict=True)
        for _, _, piece in spans(pieces, *ends)
        for v in piece[1:]
    )
    if not whole:
        raise Refused(f"its result isn't whole, and ONNX doesn't say how it is rounded to {type_name(element)}")
    ends = [piecewise_range(p, *r) for p, r in zip(resolved.pieces, reach, strict=True)]
    least, most = int(min(e[0] for e in ends)), int(max(e[1] for e in ends))
    if low <= least and most <= high:
        if least < -LIMIT or most > LIMIT:
            raise Refused(f"its integers reach {least}..{most}, more than the 64 bits that intsim carries")
        return value
    if op.op in SUMS:
        raise Refused(
            f"its sums reach {least}..{most}, more than {type_name(element)} holds, and ONNX doesn't say what becomes "
            "of them; sum up fewer, or cast to float first"
        )
    return _wrapped(context, value, resolved, reach, element)


def reach_of(context: Context, value: Expr, resolved: Resolved, cell: int) -> tuple[int, int]:
    """What a cell's accumulator may be."""
    low = high = 0
    for (name, _), factors in zip(value.terms, resolved.coefficients, strict=True):
        a = int(np.broadcast_to(factors, resolved.cells).reshape(-1)[cell]) if len(value.terms) > 1 else 1
        info = context.graph.tensors[name]
        low, high = low + min(a * info.low, a * info.high), high + max(a * info.low, a * info.high)
    return low, high


def _wrapped(context: Context, value: Expr, resolved: Resolved, reach: list[tuple[int, int]], element: int) -> Expr:
    """The low bits of an expression's integers, as one tensor of an integer type."""
    cells: list[list[Piece]] = []
    known: dict[tuple[tuple[Piece, ...], tuple[int, int]], list[Piece] | None] = {}
    for pieces, ends in zip(resolved.pieces, reach, strict=True):
        key = tuple(pieces), ends
        if key not in known:
            known[key] = wrapping(pieces, ends, limits(element))
        cells.append(known[key] or [])
    if not all(cells):
        return _table_of_pieces(context, value, resolved, element)
    for pieces, (first, last) in zip(cells, reach, strict=True):
        if any(abs(s) * max(-first, last) > LIMIT or abs(b) > LIMIT for _, s, b in pieces):
            raise Refused(f"its exact result before it wraps to {type_name(element)} needs more than 64 bits")
    return context.emit_pieces("affine", value, replace(resolved, pieces=cells), (ONE, ZERO), kind=_carried(element))


def wrapping(pieces: list[Piece], ends: tuple[int, int], bounds: tuple[int, int]) -> list[Piece] | None:
    """Integer pieces followed by a wrap into `bounds`, right for accumulators within `ends`; None if too many."""
    low, period = bounds[0], bounds[1] - bounds[0] + 1
    out: list[Piece] = []
    for at, last, (_, s, b) in spans(pieces, *ends):
        while at <= last:
            turn = (s * at + b - low) // period
            out.append((at if out else None, s, b - turn * period))
            if len(out) > MOST_PIECES:
                return None
            if s == 0:
                break
            # the first accumulator of the next turn, up for a rising piece, down for a falling one
            if s > 0:
                at = math.ceil((low + (turn + 1) * period - b) / s)
            else:
                at = math.floor((low + turn * period - b) / s) + 1
    return merge(out)


def _carried(element: int) -> IntegerType | None:
    """The type of a tensor that holds an integer element type; None of 64 bits, of which it holds some."""
    bits, signed = ONNX_INTEGERS[element]
    return IntegerType(bits, signed) if bits < 64 else None


def _table_of_pieces(context: Context, value: Expr, resolved: Resolved, element: int) -> Expr:
    """The same of one tensor of at most 16 bits."""
    info = context.graph.tensors[value.tensor]
    if len(value.terms) > 1 or info.high - info.low >= MOST_CODES:
        raise Refused(
            f"its result wraps around {type_name(element)} more than {MOST_PIECES} times, which no integer node holds; "
            "quantize its input to at most 16 bits"
        )
    low, high = limits(element)

    def row(pieces: list[Piece]) -> list[int]:
        spanned = spans(pieces, info.low, info.high)
        exact = [int(s * x + b) for first, last, (_, s, b) in spanned for x in range(first, last + 1)]
        return [(y - low) % (high - low + 1) + low for y in exact]

    rows = [row(pieces) for pieces in resolved.pieces]
    return _table(context, value, resolved.cells, np.array(rows, np.int64), element, ())


def _table(
    context: Context, value: Expr, cells: tuple[int, ...], rows: np.ndarray, element: int, made_by: tuple[str, ...]
) -> Expr:
    """A table of the codes of `value`'s one tensor."""
    low = context.graph.tensors[value.tensor].low
    return context.emit_table(value.tensor, value.shape, cells, rows, low, made_by, (ONE, ZERO), _carried(element))


def settled(context: Context, value: Expr) -> Expr:
    """An expression of an integer type as one tensor of its integers."""
    if is_codes(value) and context.graph.tensors[value.tensor].shape == value.shape:
        return value
    return context.emit_pieces("affine", value, resolve(value), (ONE, ZERO))


def _small(context: Context, value: Expr) -> tuple[Expr, int, int]:
    """The integers of an expression as a tensor of few enough codes for a table, and their range."""
    value = settled(context, value)
    info = context.graph.tensors[value.tensor]
    if info.high - info.low >= MOST_CODES:
        raise Refused(
            f"it is no line, and its input has codes {info.low}..{info.high}, more than the {MOST_CODES} of a table; "
            "put a quantizer of at most 16 bits in front"
        )
    return value, info.low, info.high


def function(context: Context, node: Operation) -> Value:
    """A node of `FUNCTIONS` as a table: what the host makes of every code."""
    values = {n: context.value(n) for n in node.inputs}
    data = {n: v for n, v in values.items() if isinstance(v, Expr)}
    constants = [v.shape for v in values.values() if isinstance(v, Const | Fixed)]
    if len(data) != 1 or len(data) + len(constants) != len(node.inputs):
        raise Refused("it reads several integer tensors; only constants may meet one here")
    ((source, value),) = data.items()
    x, low, high = _small(context, value)
    context.values[source] = x
    shape = np.broadcast_shapes(x.shape, *constants)
    cells = np.broadcast_shapes((1,) * len(shape), *constants)
    if math.prod(cells) * (high - low + 1) > MOST_ENTRIES:
        raise Refused(f"its table would have more than {MOST_ENTRIES} entries; use a smaller constant")
    dtype = helper.tensor_dtype_to_np_dtype(context.types[source])
    codes = np.arange(low, high + 1).astype(dtype).reshape(-1, *(1,) * len(shape))
    try:
        (result,) = fold(context.model, node, {**values, source: Const(codes)}, context.types, context.take_constants)
    except IntsimError as error:
        reason = str(error).removeprefix(f"{context.model.path}: ")
        raise Refused(reason.removeprefix(f"{node.label}: ")) from None
    rows = np.broadcast_to(result.array, (len(codes), *cells))
    table = np.ascontiguousarray(rows.reshape(len(codes), -1).T.astype(np.int64))
    return _table(context, as_codes(x.tensor, shape), cells, table, context.types[node.outputs[0]], (node.op,))


def mean(context: Context, node: Operation) -> Value:
    """ReduceMean of integers: the exact sum over the count, without its fraction."""
    x = context.value(node.inputs[0])
    assert isinstance(x, Expr)
    total = HANDLERS["ReduceSum"](context, replace(node, op="ReduceSum"))
    assert isinstance(total, Expr)
    low, high = limits(context.types[node.outputs[0]])
    total, least, most = _small(context, total)
    if least < low or most > high:
        raise Refused("its sum may leave its type, and ONNX doesn't say what becomes of the mean; cast to float first")
    count = math.prod(x.shape) // math.prod(total.shape)
    row = [abs(s) // count * (1 if s >= 0 else -1) for s in range(least, most + 1)]
    cells = (1,) * len(total.shape)
    return _table(context, total, cells, np.array([row], np.int64), context.types[node.outputs[0]], (node.op,))


def as_bool(context: Context, value: Expr) -> Expr:
    """1 where an integer isn't 0."""
    x = settled(context, value)
    zero, one = Fraction(0), Fraction(1)
    pieces: list[Piece] = [(None, zero, one), (0, zero, zero), (1, zero, one)]
    resolved = Resolved((1,) * len(x.shape), [np.ones(1)], [pieces])
    return context.emit_pieces("affine", x, resolved, (ONE, ZERO), kind=IntegerType(1, False))
