"""MatMul and Gemm."""

from __future__ import annotations

from typing import Any

import numpy as np

from intsim.frontend.accumulate import OutputChannels, accumulate
from intsim.frontend.bias import split
from intsim.frontend.context import Context, M, Refused
from intsim.frontend.elementwise import expression, sum_of
from intsim.frontend.expression import ONE, ZERO, Const, Expr, Fixed, Value, scalar, spread
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MACS, lowers
from intsim.frontend.weights import type_json, weights
from intsim.graph import Rationals, rationals


@lowers("MatMul", kind=MACS)
def matmul(context: Context, node: Operation) -> Value:
    """MatMul with a constant on either side, or of two integer tensors."""
    x, y = context.value(node.inputs[0]), context.integer(node.inputs[1])
    if not isinstance(x, Const | Fixed):
        x = expression(context, node, 0)
    elif not isinstance(y, Expr) or len(x.shape) < 2 or len(y.shape) < 2:
        raise Refused("its constant left operand meets an operand that is not an integer matrix")
    return numpy_matmul(context, x, y)


def numpy_matmul(context: Context, a: Const | Fixed | Expr, b: Const | Fixed | Expr) -> Expr:
    """`numpy.matmul`: a first operand of one axis is a row, a second one a column, and that axis goes away again."""
    gone = [axis for axis, v in ((-2, a), (-1, b)) if len(v.shape) == 1]
    a = context.move(a, "reshape", {"shape": [1, *a.shape]}) if len(a.shape) == 1 else a
    b = context.move(b, "reshape", {"shape": [*b.shape, 1]}) if len(b.shape) == 1 else b
    if isinstance(a, Expr):
        out = product(context, a, b, None)
    elif isinstance(b, Expr):
        out = swapped(context, product(context, swapped(context, b), swapped(context, a), None))
    else:
        raise Refused("both of its operands are constants")
    shape = [s for i, s in enumerate(out.shape) if i - len(out.shape) not in gone]
    return context.move(out, "reshape", {"shape": shape}) if gone else out


def swapped(context: Context, value: M) -> M:
    """The last two axes exchanged."""
    rank = len(value.shape)
    return context.move(value, "transpose", {"perm": [*range(rank - 2), rank - 1, rank - 2]})


def product(context: Context, x: Expr, y: Value, bias: Rationals | None) -> Expr:
    """Matrix product of an expression (..., M, K) with constant weights or a second expression (..., K, N)."""
    if not isinstance(y, Const | Fixed | Expr):
        raise Refused("its second operand is a float that no quantizer made an integer")
    if y.shape[-2] != x.shape[-1]:
        raise Refused(f"inner sizes {x.shape[-1]} and {y.shape[-2]} differ")
    if not isinstance(y, Expr):
        w = weights(y, len(y.shape) - 1)
        rank = max(len(x.shape), w.codes.ndim)
        return accumulate(context, "matmul", x, w, bias, {}, OutputChannels(rank - 1, rank, w.codes.ndim - 1))
    a, sa, za = context.operand(x)
    b, sb, zb = context.operand(y)
    rank = max(len(x.shape), len(y.shape))
    kind = context.graph.tensors[b].type
    attributes: dict[str, Any] = {"zero_point": za}
    if kind is not None:
        attributes["weight_type"] = type_json(kind)
    scale = spread(rationals([sa * sb]), rank)
    arrays = {"weight_zero": np.array(zb, np.int64)} if zb else {}
    offset = ZERO
    if bias is not None:
        columns = (y.shape[-1],)
        codes, offset = split(*(np.broadcast_to(v.reshape(-1), columns) for v in (bias, scale)))
        arrays |= {"bias": codes} if codes.any() else {}
    return context.emit("matmul", [a, b], scale, spread(offset, rank), attributes, arrays)


@lowers("Gemm", kind=MACS)
def gemm(context: Context, node: Operation) -> Value:
    """alpha * A' * B' + beta * C."""
    at = node.attributes
    x = expression(context, node, 0)
    y = context.integer(node.inputs[1])
    if at.get("transA"):
        x = swapped(context, x)
    if at.get("transB"):
        y = swapped(context, y)
    alpha, beta = (rationals(np.float32(at.get(k, 1.0))) for k in ("alpha", "beta"))
    third = context.value(node.inputs[2]) if node.optional(2) else None
    bias = None
    if isinstance(third, Const | Fixed | Expr):
        rows, columns = x.shape[0], y.shape[-1]
        if np.broadcast_shapes(third.shape, (rows, columns)) != (rows, columns):
            raise Refused(f"its third input has shape {third.shape}, its product {(rows, columns)}")
    if isinstance(third, Const | Fixed) and scalar(alpha) != 0:
        real = third.real() * beta
        if real.size == 1 or real.ndim == 1 or all(s == 1 for s in real.shape[:-1]):
            # alpha scales the product alone; behind it the bias is in units of alpha
            bias, third = np.asarray(real / alpha, dtype=object).reshape(-1), None
    out = product(context, x, y, bias)

    def times(value: Expr, factor: Rationals) -> Expr:
        rank = len(value.shape)
        return value.affine(spread(factor, rank), spread(ZERO, rank), value.shape)

    if scalar(alpha) != 1:
        out = times(out, alpha)
    if isinstance(third, Const | Fixed):
        out = out.affine(spread(ONE, 2), spread(third.real() * beta, 2), out.shape)
    elif isinstance(third, Expr):
        out = sum_of(context, out, times(third, beta), 1)
    return out
