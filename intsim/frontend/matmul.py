"""MatMul and Gemm."""

from __future__ import annotations

from typing import Any

import numpy as np

from intsim.frontend.accumulate import OutputChannels, accumulate
from intsim.frontend.bias import split
from intsim.frontend.context import Context, M, Refused, as_real
from intsim.frontend.elementwise import expression, sum_of
from intsim.frontend.expression import Const, Expr, Fixed, Value, scalar, spread
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MACS, lowers
from intsim.frontend.weights import type_json, weights
from intsim.graph import Rationals, rationals


@lowers("MatMul", kind=MACS)
def matmul(context: Context, node: Operation) -> Value:
    """MatMul with a constant on either side, or of two integer tensors."""
    x, y = context.value(node.inputs[0]), context.integer(node.inputs[1])
    if isinstance(x, Const | Fixed):
        if not isinstance(y, Expr) or len(x.shape) < 2 or len(y.shape) < 2:
            raise Refused("its constant left operand meets an operand that is not an integer matrix")
        return swapped(context, product(context, swapped(context, y), _swap(context, x), None))
    left = expression(context, node, 0)
    squeeze = []
    if len(left.shape) == 1:
        left = context.move(left, "reshape", {"shape": [1, *left.shape]})
        squeeze.append(-2)
    if len(y.shape) == 1:
        y = _reshaped(context, y, [*y.shape, 1])
        squeeze.append(-1)
    out = product(context, left, y, None)
    if squeeze:
        shape = [s for i, s in enumerate(out.shape) if i - len(out.shape) not in squeeze]
        return context.move(out, "reshape", {"shape": shape})
    return out


def _reshaped(context: Context, value: Const | Fixed | Expr, shape: list[int]) -> Const | Fixed | Expr:
    if isinstance(value, Const):
        return Const(value.array.reshape(shape))
    return context.move(value, "reshape", {"shape": shape})


def _swap(context: Context, value: Const | Fixed | Expr) -> Const | Fixed | Expr:
    """Last two axes exchanged."""
    return Const(np.swapaxes(value.array, -1, -2)) if isinstance(value, Const) else swapped(context, value)


def swapped(context: Context, value: M) -> M:
    """The last two axes of integers exchanged."""
    rank = len(value.shape)
    return context.move(value, "transpose", {"perm": [*range(rank - 2), rank - 1, rank - 2]})


def product(context: Context, x: Expr, y: Value, bias: Rationals | None) -> Expr:
    """Matrix product of an expression (..., M, K) with constant weights or a second expression (..., K, N)."""
    if isinstance(y, Const | Fixed):
        if y.shape[-2] != x.shape[-1]:
            raise Refused(f"inner sizes {x.shape[-1]} and {y.shape[-2]} differ")
        w = weights(y, len(y.shape) - 1)
        rank = max(len(x.shape), w.codes.ndim)
        return accumulate(context, "matmul", x, w, bias, {}, OutputChannels(rank - 1, rank, w.codes.ndim - 1))
    if not isinstance(y, Expr):
        raise Refused("its second operand is a float that no quantizer made an integer")
    if y.shape[-2] != x.shape[-1]:
        raise Refused(f"inner sizes {x.shape[-1]} and {y.shape[-2]} differ")
    a, sa, za = context.operand(x)
    b, sb, zb = context.operand(y)
    rank = max(len(x.shape), len(y.shape))
    kind = context.graph.tensors[b].type
    attributes: dict[str, Any] = {"zero_point": za}
    if kind is not None:
        attributes["weight_type"] = type_json(kind)
    scale = spread(rationals([sa * sb]), rank)
    arrays = {"weight_zero": np.array(zb, np.int64)} if zb else {}
    offset = rationals(0)
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
        y = _swap(context, y)
    alpha, beta = (rationals(np.float32(at.get(k, 1.0))) for k in ("alpha", "beta"))
    third = context.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    bias = None
    if isinstance(third, Const | Fixed | Expr):
        rows, columns = x.shape[0], y.shape[-1]
        if np.broadcast_shapes(third.shape, (rows, columns)) != (rows, columns):
            raise Refused(f"its third input has shape {third.shape}, its product {(rows, columns)}")
    if isinstance(third, Const | Fixed) and scalar(alpha) != 0:
        real = as_real(third) * beta
        if real.size == 1 or real.ndim == 1 or all(s == 1 for s in real.shape[:-1]):
            # alpha scales the product alone; behind it the bias is in units of alpha
            bias, third = np.asarray(real / alpha, dtype=object).reshape(-1), None
    out = product(context, x, y, bias)
    if scalar(alpha) != 1:
        out = out.affine(spread(alpha, 2), spread(rationals(0), 2), out.shape)
    if isinstance(third, Const | Fixed):
        out = out.affine(spread(rationals(1), 2), spread(np.asarray(as_real(third) * beta, dtype=object), 2), out.shape)
    elif isinstance(third, Expr):
        out = sum_of(
            context,
            out,
            third.affine(spread(beta, len(third.shape)), spread(rationals(0), len(third.shape)), third.shape),
            1,
        )
    return out
