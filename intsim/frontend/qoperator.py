"""ONNX integer operators: ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul."""

from __future__ import annotations

import numpy as np

from intsim.frontend.context import Context, Quantizer, Refused
from intsim.frontend.conv import convolution
from intsim.frontend.expression import ONE, ZERO, Const, Expr, Fixed, Value, as_codes, spread
from intsim.frontend.matmul import numpy_matmul
from intsim.frontend.parameters import constant, element_type, positive_scale
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MACS, QUANTIZERS, lowers
from intsim.frontend.weights import weights
from intsim.graph import Rationals, rationals


def dequantized(
    context: Context, node: Operation, position: int, zero_position: int, scale: Rationals, axis: int
) -> Fixed | Expr:
    """An integer operand with its scale and zero point (one value, or one for each index of `axis`)."""
    value = context.integer(node.inputs[position])
    kind = value.type if isinstance(value, Fixed) else element_type(value.array) if isinstance(value, Const) else None
    if not isinstance(value, Expr) and kind is None:
        raise Refused(f"its input {node.inputs[position]} is not an integer tensor")
    zero = np.zeros(1, np.int64)
    if node.optional(zero_position):
        zero = constant(context, node, zero_position, "zero point").astype(np.int64)
    rank = len(value.shape)

    def placed(v: np.ndarray) -> np.ndarray:
        if v.size == 1:
            return v.reshape((1,) * rank)
        if v.ndim > 1:
            return spread(v, rank)
        return v.reshape([-1 if i == axis % rank else 1 for i in range(rank)])

    s = placed(scale)
    offset = np.asarray(-placed(rationals(zero)) * s, dtype=object)
    if isinstance(value, Expr):
        named = not node.op.endswith("Integer")  # those name no scale
        return context.dequantized(value, s, offset) if named else value.affine(s, offset, value.shape)
    codes = value.codes if isinstance(value, Fixed) else value.array.astype(np.int64)
    return Fixed(codes, s, offset, kind)


@lowers("ConvInteger", kind=MACS)
def conv_integer(context: Context, node: Operation) -> Value:
    """ONNX ConvInteger: int32 accumulators of (x - x_zero_point) * (w - w_zero_point)."""
    x, w = dequantized(context, node, 0, 2, ONE, 1), dequantized(context, node, 1, 3, ONE, 0)
    if not isinstance(x, Expr):
        raise Refused("its input is a constant")
    return convolution(context, node, x, weights(w, 0), None)


@lowers("MatMulInteger", kind=MACS)
def matmul_integer(context: Context, node: Operation) -> Value:
    """ONNX MatMulInteger: int32 accumulators; zero points of A by row, of B by column."""
    return numpy_matmul(context, dequantized(context, node, 0, 2, ONE, -2), dequantized(context, node, 1, 3, ONE, -1))


def _requantized(context: Context, node: Operation, out: Expr, scale_at: int, zero_at: int) -> Value:
    """The output stage of QLinearConv and QLinearMatMul: saturate(round_half_even(x / y_scale) + y_zero_point)."""
    scale = positive_scale(constant(context, node, scale_at, "output scale"))
    array = constant(context, node, zero_at, "output zero point")
    kind = element_type(array)
    if kind is None or array.size != 1 or scale.size != 1:
        raise Refused("its output needs one scale and one integer zero point")
    scale, zero = spread(scale, len(out.shape)), int(array.item())
    quantizer = Quantizer(scale, ZERO, zero, "half_even", (kind.min, kind.max), kind)
    return as_codes(context.quantize(out, quantizer, node.outputs[0]).tensor, out.shape)


@lowers("QLinearConv", kind=QUANTIZERS)
def qlinear_conv(context: Context, node: Operation) -> Value:
    """ONNX QLinearConv: integer convolution, int32 bias of scale x_scale * w_scale, requantized."""
    xs, ws = (positive_scale(constant(context, node, i, "scale")) for i in (1, 4))
    x, w = dequantized(context, node, 0, 2, xs, 1), dequantized(context, node, 3, 5, ws, 0)
    if not isinstance(x, Expr):
        raise Refused("its input is a constant")
    bias = None
    if node.optional(8):
        codes = constant(context, node, 8, "bias").astype(np.int64)
        if codes.shape != w.shape[:1]:
            raise Refused(f"its bias has shape {codes.shape}, its weights {w.shape}")
        bias = rationals(codes) * xs.reshape(-1) * ws.reshape(-1)
    return _requantized(context, node, convolution(context, node, x, weights(w, 0), bias), 6, 7)


@lowers("QLinearMatMul", kind=QUANTIZERS)
def qlinear_matmul(context: Context, node: Operation) -> Value:
    """ONNX QLinearMatMul."""
    sa, sb = (positive_scale(constant(context, node, i, "scale")) for i in (1, 4))
    a, b = dequantized(context, node, 0, 2, sa, -2), dequantized(context, node, 3, 5, sb, -1)
    return _requantized(context, node, numpy_matmul(context, a, b), 6, 7)
