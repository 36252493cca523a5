"""ONNX integer operators: ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul."""

from __future__ import annotations

import numpy as np

from intsim.frontend.context import Context, Quantizer, Refused
from intsim.frontend.conv import convolution, convolution_of_two
from intsim.frontend.elementwise import sum_of
from intsim.frontend.expression import ONE, ZERO, Const, Expr, Fixed, Shape, Value, as_codes, narrow, spread
from intsim.frontend.integers import settled
from intsim.frontend.matmul import numpy_matmul
from intsim.frontend.parameters import constant, element_type, positive_scale, scale_of
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MACS, QUANTIZERS, lowers
from intsim.frontend.weights import weights
from intsim.graph import IntArray, Rationals, rationals
from intsim.ops import OPS

CONSTANT = "its input is a constant; fold it where its weights are one too, else multiply the other way round (MatMul)"


def dequantized(
    context: Context, node: Operation, position: int, zero_position: int, scale: Rationals, axis: int
) -> Fixed | Expr:
    """An integer operand with its scale and zero point (one value, or one for each index of `axis`).

    A zero point that is known at run time only is left out (`runtime_zero`).
    """
    value = context.integer(node.inputs[position])
    kind = value.type if isinstance(value, Fixed) else element_type(value.array) if isinstance(value, Const) else None
    if not isinstance(value, Expr) and kind is None:
        raise Refused(f"its input {node.inputs[position]} is not an integer tensor")
    zero = np.zeros(1, np.int64)
    if node.optional(zero_position) and runtime_zero(context, node, zero_position) is None:
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


def runtime_zero(context: Context, node: Operation, position: int) -> Expr | None:
    """The zero point of ConvInteger or MatMulInteger where it is an integer tensor; None where it is a constant."""
    name = node.optional(position)
    if not name or not node.op.endswith("Integer") or isinstance(context.value(name), Const | Fixed):
        return None
    value = context.integer(name)
    assert isinstance(value, Expr)
    return settled(context, value)


def without_zero(context: Context, sums: Expr, zero: Expr, weights: IntArray, onnx: str | None) -> Expr:
    """Sums of products of codes, less `zero` (broadcasts against them) times the weights that these codes met."""
    sums = settled(context, sums)
    arrays = {"weights": narrow(weights)}
    return context.emit(
        "zero_point", [sums.tensor, zero.tensor], ONE, spread(ZERO, len(sums.shape)), {}, arrays, None, onnx
    )


@lowers("ConvInteger", kind=MACS)
def conv_integer(context: Context, node: Operation) -> Value:
    """ONNX ConvInteger: int32 accumulators of (x - x_zero_point) * (w - w_zero_point)."""
    x, w = dequantized(context, node, 0, 2, ONE, 1), dequantized(context, node, 1, 3, ONE, 0)
    if not isinstance(x, Expr):
        raise Refused(CONSTANT)
    zero, other = runtime_zero(context, node, 2), runtime_zero(context, node, 3)
    for given in (zero, other):
        if given is not None and int(np.prod(given.shape)) != 1:
            raise Refused(
                f"a zero point that is known at run time only has shape {given.shape}; one value is supported"
            )
    if isinstance(w, Expr):
        x, w = (v if z is None else _less(context, v, z) for v, z in ((x, zero), (w, other)))
        return convolution_of_two(context, node, x, w, None)
    if other is not None:
        raise Refused("the zero point of its weights is known at run time only; make it a constant")
    sums = convolution(context, node, x, weights(w, 0), None)
    if zero is None:
        return sums
    made = context.producer(sums.tensor)
    assert made is not None
    # padding makes no products, and has no zero point to take off: the weights that meet ones are those to count
    met = OPS[made.op].evaluate(made, np.ones((1, *x.shape[1:]), np.int64))
    return without_zero(context, sums, zero, met, node.outputs[0])


@lowers("MatMulInteger", kind=MACS)
def matmul_integer(context: Context, node: Operation) -> Value:
    """ONNX MatMulInteger: int32 accumulators; zero points of A by row, of B by column."""
    a, b = dequantized(context, node, 0, 2, ONE, -2), dequantized(context, node, 1, 3, ONE, -1)
    zero_a, zero_b = runtime_zero(context, node, 2), runtime_zero(context, node, 3)
    if zero_a is None and zero_b is None:
        return numpy_matmul(context, a, b)
    gone = [axis for axis, v in ((-2, a), (-1, b)) if len(v.shape) == 1]
    a = context.move(a, "reshape", {"shape": [1, *a.shape]}) if len(a.shape) == 1 else a
    b = context.move(b, "reshape", {"shape": [*b.shape, 1]}) if len(b.shape) == 1 else b
    zero_a, zero_b = _laid(context, zero_a, a, -2), _laid(context, zero_b, b, -1)
    fixed = a if isinstance(a, Fixed) else b if isinstance(b, Fixed) else None
    zero = zero_b if fixed is a else zero_a
    name = None if gone else node.outputs[0]
    if fixed is None:
        out = numpy_matmul(context, *(v if z is None else _less(context, v, z) for v, z in ((a, zero_a), (b, zero_b))))
    elif zero is None or (zero_a is not None and zero_b is not None):
        raise Refused("the zero point of its constant operand is known at run time only; make it a constant")
    else:
        real = fixed.real()
        met = np.array([int(v) for v in real.reshape(-1)], np.int64).reshape(real.shape)
        met = np.broadcast_to(met, fixed.shape).sum(axis=-1 if fixed is a else -2, keepdims=True)
        out = without_zero(context, numpy_matmul(context, a, b), zero, met, name)
    shape = [s for i, s in enumerate(out.shape) if i - len(out.shape) not in gone]
    return context.move(out, "reshape", {"shape": shape}) if gone else out


def _laid(context: Context, zero: Expr | None, value: Fixed | Expr, axis: int) -> Expr | None:
    """A zero point of one value as it is, several of one axis along `axis` of its operand."""
    if zero is None or len(zero.shape) != 1 or zero.shape == (1,):
        return zero
    if zero.shape[0] != value.shape[axis]:
        raise Refused(f"a zero point has shape {zero.shape}, its operand {value.shape}")
    return zero if axis == -1 else context.move(zero, "reshape", {"shape": [*zero.shape, 1]})


def _less(context: Context, value: Fixed | Expr, zero: Expr) -> Expr:
    """Codes less their zero point, in front of the products."""
    assert isinstance(value, Expr)
    return sum_of(context, value, zero, -1)


def _requantized(context: Context, node: Operation, out: Expr, scale_at: int, zero_at: int) -> Value:
    """The output stage of QLinearConv and QLinearMatMul: saturate(round_half_even(x / y_scale) + y_zero_point)."""
    scale = positive_scale(constant(context, node, scale_at, "output scale"))
    array = constant(context, node, zero_at, "output zero point")
    kind = element_type(array)
    if kind is None:
        raise Refused("its output's zero point is no integer")
    shape, zeros = out.shape, array.astype(np.int64)
    if node.op == "QLinearMatMul":
        scale, zeros = _by_row(scale, shape), _by_row(zeros, shape)
    elif max(scale.size, zeros.size) > 1:
        raise Refused("its output needs one scale and one integer zero point")
    scale, zero = spread(scale, len(shape)), int(zeros.flat[0])
    if (zeros == zero).all():
        quantizer = Quantizer(scale, ZERO, zero, "half_even", (kind.min, kind.max), kind)
        return as_codes(context.quantize(out, quantizer, node.outputs[0]).tensor, shape)
    # rounded first, then moved by the zero points, then saturated
    rounded = Quantizer(scale, ZERO, 0, "half_even")
    codes = context.quantize(out, rounded, None, (ONE, ZERO))
    moved = Quantizer(ONE, spread(rationals(zeros), len(shape)), 0, "half_even", (kind.min, kind.max), kind)
    meaning = scale, np.asarray(-moved.before * scale, dtype=object)
    return as_codes(context.quantize(codes, moved, node.outputs[0], meaning).tensor, shape)


def _by_row(values: np.ndarray, shape: Shape) -> np.ndarray:
    """A parameter of a product's output: one, one for each row, or an array with the output's axes and one column."""
    if values.size == 1:
        return values.reshape(1)
    rows = (*shape[:-1], 1)
    if len(shape) < 2 or values.shape not in (shape[-2:-1], rows):
        raise Refused(
            f"its output's scale or zero point has shape {values.shape}; its output {shape} takes one, or "
            "one for each row"
        )
    return values.reshape(-1, 1) if values.ndim == 1 else values


def _own_scale(context: Context, node: Operation, position: int) -> Rationals:
    """The scale of the input in front of it."""
    return scale_of(constant(context, node, position, "scale"), context.value(node.inputs[position - 1]))


@lowers("QLinearConv", kind=QUANTIZERS)
def qlinear_conv(context: Context, node: Operation) -> Value:
    """ONNX QLinearConv: integer convolution, int32 bias of scale x_scale * w_scale, requantized."""
    xs, ws = (_own_scale(context, node, i) for i in (1, 4))
    x, w = dequantized(context, node, 0, 2, xs, 1), dequantized(context, node, 3, 5, ws, 0)
    if not isinstance(x, Expr):
        raise Refused(CONSTANT)
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
    sa, sb = (_own_scale(context, node, i) for i in (1, 4))
    a, b = dequantized(context, node, 0, 2, sa, -2), dequantized(context, node, 3, 5, sb, -1)
    return _requantized(context, node, numpy_matmul(context, a, b), 6, 7)
