"""The quantizer operators: QONNX Quant, BipolarQuant and Trunc, ONNX QuantizeLinear and the QLinear and Integer ones.

Formulas: the QONNX operator definitions (github.com/fastmachinelearning/qonnx, docs/qonnx-custom-ops, IntQuant,
BipolarQuant, Trunc) and the ONNX operator specification, both read as formulas on real numbers.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx

from intsim.errors import IntsimError
from intsim.verification.reference.arithmetic import add, multiply, subtract
from intsim.verification.reference.call import Call, integer_range, type_name, window
from intsim.verification.reference.contraction import convolve, matmul
from intsim.verification.reference.integers import cut, numbers
from intsim.verification.reference.quantize import Quantized, element_of, on_codes, positive, quantize, rounding
from intsim.verification.reference.rational import each, full_rank
from intsim.verification.reference.tensor import ROUNDOFF, Tensor, constant, grid, move

_ZERO = np.asarray(Fraction(0), object)
_ONE = np.asarray(Fraction(1), object)


def _unrounded(x: Tensor, scale: np.ndarray, shift: np.ndarray) -> Callable[[int], Fraction]:
    """x / scale + shift at a flat index."""
    return lambda i: x.fraction(i) / element_of(scale, i, x.shape) + element_of(shift, i, x.shape)


def _limit(value: float) -> np.ndarray:
    return np.asarray(value, np.float64)


def _bit_widths(call: Call, i: int, signed: bool, narrow: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest codes (integer-valued float64) and the bit widths themselves (object array of int)."""
    bits = call.constants(i, "the bit width")
    if any(b.denominator != 1 or not 1 <= b <= 62 for b in bits.flat):
        raise IntsimError("the bit width has to be an integer from 1 to 62")
    whole = each(int, bits)
    low = each(lambda b: -(2 ** (b - 1)) + narrow if signed else 0, whole)
    high = each(lambda b: 2 ** (b - 1) - 1 if signed else 2**b - 1 - narrow, whole)
    return low.astype(np.float64), high.astype(np.float64), whole


def quant(call: Call) -> Quantized:
    """QONNX Quant (IntQuant): codes = round(clamp(x / scale + zero_point)); 1 bit signed is bipolar."""
    x, scale, zero = call.tensor(0), call.constants(1, "the scale"), call.zero_point(2)
    signed = bool(call.attr("signed", 1))
    low, high, bits = _bit_widths(call, 3, signed, bool(call.attr("narrow", 0)))
    mode = rounding(call.attr("rounding_mode", "ROUND"))
    if signed and any(b == 1 for b in bits.flat):
        if not all(b == 1 for b in bits.flat):
            raise IntsimError("1-bit signed channels beside wider ones")
        mode, low, high = rounding("BIPOLAR"), _limit(-1), _limit(1)
    codes, undecided, single, x = quantize(x, scale, zero, low, high, mode)
    flows, unrounded = on_codes(codes, scale, zero), _unrounded(x, scale, zero)
    bipolar = mode is rounding("BIPOLAR")
    return Quantized(codes, scale, zero, flows, low, high, unrounded, undecided, single, bipolar=bipolar)


def bipolar_quant(call: Call) -> Quantized:
    """QONNX BipolarQuant: +scale where x >= 0, -scale elsewhere."""
    scale = call.constants(1, "the scale")
    low, high = _limit(-1), _limit(1)
    # the sign doesn't depend on the scale
    codes, undecided, single, x = quantize(call.tensor(0), _ONE, _ZERO, low, high, rounding("BIPOLAR"))
    positive(scale)
    shape = np.broadcast_shapes(codes.shape, scale.shape)
    codes = np.broadcast_to(codes, shape)
    x = move([x], lambda a: np.broadcast_to(a, shape))
    flows = on_codes(codes, scale, _ZERO)
    return Quantized(codes, scale, _ZERO, flows, low, high, x.fraction, undecided, single, bipolar=True)


def power_of_two(ratio: Fraction) -> Fraction:
    """2 ** round(log2(ratio)), decided on ratio^2 against odd powers of two, so without a logarithm."""
    if ratio <= 0:
        raise IntsimError("the scale has to be positive")
    square = ratio * ratio
    k = (math.floor(math.log2(square.numerator) - math.log2(square.denominator)) + 1) // 2
    while square > Fraction(2) ** (2 * k + 1):
        k += 1
    while square < Fraction(2) ** (2 * k - 1):
        k -= 1
    return Fraction(2) ** k


def trunc(call: Call) -> Quantized:
    """QONNX Trunc: drop low bits of codes. Five inputs: opset 1, no clamping; six inputs: opset 2, an output scale."""
    scale, zero = call.constants(1, "the scale"), call.zero_point(2)
    mode = rounding(call.attr("rounding_mode", "FLOOR"))
    wide = _limit(-(2.0**54)), _limit(2.0**54)
    whole, undecided, single, _ = quantize(call.tensor(0), scale, zero, *wide, rounding("ROUND"))
    if call.optional(5) is None:
        bits_in, bits_out = (_bit_widths(call, i, True, False)[2] for i in (3, 4))
        divisor = each(lambda a, b: Fraction(2) ** (a - b), bits_in, bits_out)
        low, high, scale_out, zero_out = *wide, scale, zero
    else:
        scale_out = call.constants(4, "the output scale")
        low, high, _ = _bit_widths(call, 5, bool(call.attr("signed", 1)), bool(call.attr("narrow", 0)))
        divisor = each(lambda a, b: power_of_two(a / b), scale_out, scale)
        zero_out = each(lambda z, d: z / d, zero, divisor)
    codes, _, _, kept = quantize(grid(whole, _ONE), divisor, _ZERO, low, high, mode)
    flows, unrounded = on_codes(codes, scale_out, zero_out), _unrounded(kept, divisor, _ZERO)
    return Quantized(codes, scale_out, zero_out, flows, low, high, unrounded, undecided, single)


def multi_threshold(call: Call) -> Quantized:
    """MultiThreshold: how many thresholds of its channel a number reaches, times out_scale, plus out_bias."""
    x, (limits, room) = call.tensor(0), call.tensor(1).approx()
    if limits.ndim != 2 or room is not None:
        raise IntsimError("the thresholds have to be a table of exact numbers, a row a channel")
    rank, (channels, count) = len(x.shape), limits.shape
    letters = call.attr("data_layout", "") or {2: "NC", 3: "NWC", 4: "NCHW"}.get(rank, "")
    axis = max(letters.find("C"), 0) if "C" in letters else 1
    if channels > 1 and (axis >= rank or x.shape[axis] != channels):
        raise IntsimError(f"thresholds for {channels} channels do not fit an input of shape {x.shape}")
    laid = [channels if channels > 1 and a == axis else 1 for a in range(rank)]
    v, error = x.approx()
    codes, open_ = np.zeros(x.shape, np.float64), np.zeros(x.shape, bool)
    for column in limits.T:
        limit = column.reshape(laid)
        codes += v >= limit
        if error is not None:
            open_ |= np.abs(v - limit) <= error * 1.001 + ROUNDOFF * np.abs(v)
    for i in np.flatnonzero(open_.reshape(-1)):
        row = np.unravel_index(i, x.shape)[axis] if channels > 1 else 0
        codes.reshape(-1)[i] = sum(x.fraction(int(i)) >= Fraction(float(t)) for t in limits[row])
    scale, bias = (np.asarray(call.real(n, d), object) for n, d in (("out_scale", 1.0), ("out_bias", 0.0)))
    positive(scale)
    zero = np.asarray(-bias.item() / scale.item(), object)
    flows = on_codes(codes, scale, zero)
    doubtful = int(open_.sum())
    return Quantized(
        codes, scale, zero, flows, _limit(0), _limit(count), lambda i: Fraction(int(codes.flat[i])), doubtful, doubtful
    )


def _along(call: Call, values: np.ndarray, shape: tuple[int, ...], default_axis: int = 1) -> np.ndarray:
    """Scale or zero point laid along `axis`, per tensor, per axis or per block."""
    if values.size == 1:
        return values.reshape(())
    axis = call.attr("axis", default_axis)
    if not -len(shape) <= axis < len(shape):
        raise IntsimError(f"axis {axis} is outside of rank {len(shape)}")
    axis %= len(shape)
    if values.ndim == 1 and not call.attr("block_size", 0):
        if len(values) != shape[axis]:
            raise IntsimError(f"{len(values)} scales or zero points for an axis of length {shape[axis]}")
        return values.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    block = int(call.attr("block_size", 0))
    if block < 1 or values.ndim != len(shape):
        raise IntsimError("scales or zero points fit neither the tensor, nor an axis, nor blocks")
    return np.take(np.repeat(values, block, axis), range(shape[axis]), axis)


def linear(x: Tensor, scale: np.ndarray, zero: np.ndarray, integer: str) -> Quantized:
    """ONNX's linear quantization: saturate(round_half_even(x / scale) + zero_point) in an integer type."""
    first, last = integer_range(integer)
    offset = each(float, zero).astype(np.float64)
    codes, undecided, single, x = quantize(x, scale, _ZERO, first - offset, last - offset, rounding("ROUND"))
    codes = np.asarray(codes.astype(np.float64) + offset)
    flows = replace(grid(codes, _ONE, kind="i"), type=integer)
    limits, unrounded = (_limit(first), _limit(last)), _unrounded(x, scale, zero)
    return Quantized(codes, scale, zero, flows, *limits, unrounded, undecided, single, integer=True)


def quantize_linear(call: Call) -> Quantized:
    """ONNX QuantizeLinear, all integer types, per tensor, axis or block."""
    x, zero = call.tensor(0), call.optional(2)
    chosen = call.attr("output_dtype", 0) or onnx.TensorProto.UINT8
    integer = zero.type if zero is not None else type_name(chosen)
    scale = _along(call, call.constants(1, "the scale"), x.shape)
    return linear(x, scale, _along(call, call.zero_point(2), x.shape), integer)


def dequantize_linear(call: Call) -> Tensor:
    """ONNX DequantizeLinear: (x - zero_point) * scale."""
    x = call.tensor(0)
    scale = _along(call, call.constants(1, "the scale"), x.shape)
    zero = _along(call, call.zero_point(2), x.shape)
    if any(z.denominator != 1 for z in zero.flat) or x.kind != "i":
        raise IntsimError("DequantizeLinear takes integers and an integer zero point")
    shifted = subtract(x, constant(zero)) if any(zero.flat) else x
    out = multiply(shifted, constant(full_rank(scale, len(x.shape))))
    return replace(out, kind="f", type="")


def clip_integers(call: Call) -> Quantized:
    """ONNX Clip on an integer tensor: a narrower range after QuantizeLinear."""
    x = call.tensor(0)
    first, last = integer_range(x.type or "int64")
    values = numbers(x)
    limits = []
    for i, end, pick in ((1, first, max), (2, last, min)):
        bound = call.optional(i)
        limit = np.asarray(end, object) if bound is None else numbers(bound)
        limits.append(limit.astype(np.float64))
        values = each(pick, values, limit)
    return _integers(cut(values, x.type or "int64"), *limits)


def _integers(t: Tensor, low: np.ndarray, high: np.ndarray) -> Quantized:
    """A tensor that already holds integers."""
    codes = t.integers()[0] * each(float, t.integers()[1]).astype(np.float64)
    return Quantized(codes, _ONE, _ZERO, t, low, high, t.fraction, integer=True)


def _in_int32(t: Tensor) -> Quantized:
    """Sums that ONNX adds up in int32; it does not say what becomes of those that don't fit."""
    first, last = integer_range("int32")
    out = _integers(replace(t, kind="i", type="int32"), _limit(first), _limit(last))
    if out.codes.size and not first <= out.codes.min() <= out.codes.max() <= last:
        raise IntsimError("a sum leaves int32, and ONNX does not say what becomes of it")
    return out


def _shifted(call: Call, value: int, zero: int, shape: tuple[int, ...]) -> Tensor:
    """Integers less their zero point; `shape` is what a zero point of rank 1 is reshaped to."""
    x = call.tensor(value)
    zeros = _reshaped(call.zero_point(zero), shape)
    return subtract(x, constant(zeros, "i")) if any(zeros.flat) else x


def _reshaped(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if values.size == 1:
        return values.reshape(())
    return values.reshape(shape) if values.ndim == 1 else values


def _per_output(rank: int) -> tuple[int, ...]:
    return (-1, *(1,) * (rank - 1))


def _integer_convolution(call: Call, w: int, x_zero: int, w_zero: int) -> Tensor:
    """Of both inputs less their zero points; the weights and these are the inputs of those numbers."""
    x, weights = _shifted(call, 0, x_zero, ()), _shifted(call, w, w_zero, _per_output(len(call.tensor(0).shape)))
    return convolve(x, weights, *window(call, x.shape[2:], weights.shape[2:]), call.attr("group", 1))


def conv_integer(call: Call) -> Quantized:
    """ONNX ConvInteger: sums of (x - x_zero_point) (w - w_zero_point); padding is the zero point."""
    return _in_int32(_integer_convolution(call, 1, 2, 3))


def matmul_integer(call: Call) -> Quantized:
    """ONNX MatMulInteger: products of integers less their zero points."""
    return _in_int32(matmul(_shifted(call, 0, 2, (-1, 1)), _shifted(call, 1, 3, (-1,))))


def _rescaled(call: Call, acc: Tensor, a_scale: np.ndarray, b_scale: np.ndarray) -> Quantized:
    """An accumulator times both scales, quantized by inputs 6 and 7."""
    real = multiply(multiply(acc, constant(a_scale)), constant(b_scale))
    zero = call.tensor(7)
    y_scale, y_zero = (_reshaped(t, (-1, 1)) for t in (call.constants(6, "y_scale"), zero.fractions()))
    return linear(replace(real, kind="f"), y_scale, y_zero, zero.type)


def qlinear_conv(call: Call) -> Quantized:
    """ONNX QLinearConv: the accumulator (int32 bias included) requantized exactly."""
    per_channel = _per_output(len(call.tensor(0).shape) - 1)
    acc = _integer_convolution(call, 3, 2, 5)
    bias = call.optional(8)
    if bias is not None:
        acc = add(acc, move([bias], lambda b: b.reshape(per_channel)))
    w_scale = _reshaped(call.constants(4, "w_scale"), per_channel)
    return _rescaled(call, acc, call.constants(1, "x_scale").reshape(()), w_scale)


def qlinear_matmul(call: Call) -> Quantized:
    """ONNX QLinearMatMul: per-row scales of a, per-column scales of b."""
    acc = matmul(_shifted(call, 0, 2, (-1, 1)), _shifted(call, 3, 5, (-1,)))
    a, b = _reshaped(call.constants(1, "a_scale"), (-1, 1)), _reshaped(call.constants(4, "b_scale"), (-1,))
    return _rescaled(call, acc, a, b)


#: Operator name -> function; QONNX's under any of its domains.
QUANTIZERS: dict[str, Callable[[Call], Quantized]] = {
    "qonnx:Quant": quant,
    "qonnx:IntQuant": quant,
    "qonnx:BipolarQuant": bipolar_quant,
    "qonnx:Trunc": trunc,
    "qonnx:MultiThreshold": multi_threshold,
    "QuantizeLinear": quantize_linear,
    "ConvInteger": conv_integer,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
}
