"""The table of operators: what the reference evaluates exactly, and what only after the last quantizer."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial, reduce

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference import plain
from intsim.verification.reference.arithmetic import (
    absolute,
    add,
    divide,
    leaky,
    maximum,
    minimum,
    multiply,
    negative,
    subtract,
)
from intsim.verification.reference.call import Call, window
from intsim.verification.reference.contraction import convolve, convolve_transposed, einsum, matmul
from intsim.verification.reference.functions import FUNCTIONS, evaluated, power_of
from intsim.verification.reference.integers import LOGIC, truth
from intsim.verification.reference.movement import MOVEMENT, along_channel, channels_first, channels_last
from intsim.verification.reference.pool import POOLING, max_pool
from intsim.verification.reference.quantizers import QUANTIZERS, dequantize_linear
from intsim.verification.reference.rational import SMALL, floats
from intsim.verification.reference.reals import Number
from intsim.verification.reference.resize import RESIZING
from intsim.verification.reference.rowwise import group_normalization, layer_normalization, root, softmax
from intsim.verification.reference.tensor import Tensor, constant, exact_number, from_array, move, zero_like

Operator = Callable[[Call], Tensor | list[Tensor]]

_QONNX = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "brevitas")
_CHANNELS_LAST = ("qonnx.custom_op.channels_last", "finn.custom_op.channels_last")


def key(domain: str, op: str) -> str:
    """The name of an operator in the tables; QONNX's own are found without their domain too."""
    if domain in _QONNX or (domain == "" and f"qonnx:{op}" in QUANTIZERS):
        return f"qonnx:{op}"
    if domain in _CHANNELS_LAST:
        return f"channels_last:{op}"
    if domain in ("", "ai.onnx") or (domain == "com.microsoft" and op in ("QuantizeLinear", "DequantizeLinear")):
        return op
    return f"{domain}:{op}"


def conv(call: Call) -> Tensor:
    """Conv, one to three spatial dimensions or more."""
    x, w = call.tensor(0), call.tensor(1)
    return _biased(call, convolve(x, w, *window(call, x.shape[2:], w.shape[2:]), call.attr("group", 1)))


def _biased(call: Call, sums: Tensor) -> Tensor:
    bias = call.optional(2)
    return sums if bias is None else add(sums, along_channel(bias, len(sums.shape)))


def conv_transpose(call: Call) -> Tensor:
    """ConvTranspose with output_padding or output_shape."""
    x, w = call.tensor(0), call.tensor(1)
    rank = len(x.shape) - 2
    auto = call.attr("auto_pad", "NOTSET")
    unpadded = replace(call, attrs={**call.attrs, "auto_pad": "NOTSET"})
    strides, dilations, pads = window(unpadded, x.shape[2:], w.shape[2:])
    extra = list(call.attr("output_padding", [0] * rank))
    wanted = call.attr("output_shape")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if wanted is not None:
        for k in range(rank):
            total = strides[k] * (x.shape[2 + k] - 1) + extra[k] + (w.shape[2 + k] - 1) * dilations[k] + 1
            total -= list(wanted)[k - rank]
            # too small a sum of pads means zeros behind the result
            extra[k] += max(-total, 0)
            total = max(total, 0)
            small, large = total // 2, total - total // 2
            pads[k], pads[k + rank] = (small, large) if auto == "SAME_UPPER" else (large, small)
    return _biased(call, convolve_transposed(x, w, strides, dilations, pads, call.attr("group", 1), extra))


def gemm(call: Call) -> Tensor:
    """Gemm: alpha A' B' + beta C."""
    a, b = (
        move([call.tensor(i)], np.transpose) if call.attr(name, 0) else call.tensor(i)
        for i, name in ((0, "transA"), (1, "transB"))
    )
    out = matmul(a, b)
    alpha, beta = (exact_number(call.attr(name, 1.0)) for name in ("alpha", "beta"))
    out = out if alpha == 1 else multiply(out, constant(alpha))
    bias = call.optional(2)
    if bias is None:
        return out
    return add(out, bias if beta == 1 else multiply(bias, constant(beta)))


def xnor_popcount(call: Call) -> Tensor:
    """XnorPopcountMatMul: of bits, how many of the K pairs are equal, (K + sum of products of -1 and 1) / 2."""
    signs = [subtract(multiply(call.tensor(i), constant(Fraction(2))), constant(Fraction(1))) for i in (0, 1)]
    pairs = call.tensor(0).shape[-1]
    return multiply(add(matmul(*signs), constant(Fraction(pairs))), constant(Fraction(1, 2)))


def im2col(call: Call) -> Tensor:
    """Im2Col: at each place of a window what lies under it, rows first, channels innermost; images are (N, H, W, C)."""
    x = call.tensor(0)
    (high, wide), (down, right) = (call.attr(n, [1, 1]) for n in ("kernel_size", "stride"))
    step_down, step_right = call.attr("dilations", [1, 1])
    top, left, bottom, end = call.attr("pad_amount", [0, 0, 0, 0])
    filler = int(call.attr("pad_value", 0))
    outside = constant(Fraction(filler)) if filler else zero_like(x)

    def windows(a: np.ndarray, fill: np.ndarray) -> np.ndarray:
        rows, columns = a.shape[1] + top + bottom, a.shape[2] + left + end
        grown = np.full((a.shape[0], rows, columns, a.shape[3]), np.ravel(fill)[0], np.result_type(a, fill))
        grown[:, top : top + a.shape[1], left : left + a.shape[2]] = a
        ends = rows - step_down * (high - 1), columns - step_right * (wide - 1)
        seen = [
            grown[:, i * step_down : i * step_down + ends[0] : down, j * step_right : j * step_right + ends[1] : right]
            for i in range(high)
            for j in range(wide)
        ]
        return np.concatenate(seen, axis=-1)

    return move([x, outside], windows)


def batch_normalization(call: Call) -> Tensor:
    """BatchNormalization in inference: (x - mean) * r * gamma + beta with r = 1 / sqrt(var + eps) rounded once.

    The rounding is the square root's and the reciprocal's in float64; from there everything is exact.
    """
    x = call.tensor(0)
    if call.attr("training_mode", 0) or call.outputs > 1:
        raise IntsimError("BatchNormalization in training mode is not evaluated")
    given = [call.tensor(i) for i in range(1, 5)]
    known = call.kept.get("parameters")
    if known is None or any(a is not b for a, b in zip(known[0], given, strict=True)) or known[1] != len(x.shape):
        known = call.kept["parameters"] = given, len(x.shape), _normalization(call, *given)
    slope_t, offset_t = known[2]
    return add(multiply(x, slope_t), offset_t)


def _normalization(call: Call, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """What a channel is multiplied by, and what is added then."""
    spread = floats(var.fractions()) + np.float64(np.float32(call.attr("epsilon", 1e-5)))
    if not (spread > 0).all():
        raise IntsimError("the variance has to be positive")
    r = from_array(np.asarray(1.0 / np.sqrt(spread)), "the reciprocal square root")
    slope = multiply(gamma, r).fractions()
    offset = beta.fractions() - mean.fractions() * slope
    rank = max(len(call.tensor(0).shape), 2)
    return along_channel(constant(slope), rank), along_channel(constant(offset), rank)


def _limits(call: Call) -> list[Tensor | None]:
    """Clip's lower and upper limit; None where it is absent or infinite."""
    out: list[Tensor | None] = []
    for i, name, sign in ((1, "min", -1.0), (2, "max", 1.0)):
        given = call.optional(i)
        if name in call.attrs:
            value = float(call.attrs[name])
        elif given is None:
            value = math.inf * sign
        elif given.on_grid:
            out.append(given)
            continue
        else:
            value = float(given.approx()[0].item())
        if math.isnan(value) or value == -math.inf * sign:
            raise IntsimError(f"limit {value} makes no range")
        out.append(None if math.isinf(value) else constant(Fraction(value)))
    return out


def clip(call: Call) -> Tensor:
    """Clip on floats, limits as attributes or inputs."""
    x = call.tensor(0)
    for limit, f in zip(_limits(call), (maximum, minimum), strict=True):
        if limit is None:
            continue
        value = limit.fractions().reshape(()).item()
        if x.s is not None and Fraction(x.bound) * max(x.s.flat, default=0) <= (value if f is minimum else -value):
            continue  # no element gets there; the grid stays
        x = f(x, limit)
    return x


def _fold(f: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Tensor]:
    """A binary operator over any number of inputs."""
    return lambda call: reduce(f, map(call.tensor, range(len(call.inputs))))


def laid(call: Call) -> Tensor:
    """The second input, laid along `axis` where opset 6 and earlier ask for it."""
    b = call.tensor(1)
    if call.opset < 7 and call.attr("broadcast", 0) and "axis" in call.attrs:
        rank = len(call.tensor(0).shape)
        behind = rank - call.attrs["axis"] % rank - len(b.shape)
        return move([b], lambda x: x.reshape(*x.shape, *(1,) * behind))
    return b


def _binary(f: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda call: f(call.tensor(0), laid(call))


def hard_sigmoid(call: Call, alpha: Fraction | None = None) -> Tensor:
    """max(0, min(1, alpha x + beta)), exact."""
    slope = call.real("alpha", 0.2) if alpha is None else alpha
    line = add(multiply(call.tensor(0), constant(slope)), constant(call.real("beta", 0.5)))
    return maximum(minimum(line, constant(Fraction(1))), constant(Fraction(0)))


def hard_tanh(call: Call) -> Tensor:
    """HardTanh: a clamp to min_val, max_val."""
    low, high = constant(call.real("min_val", -1.0)), constant(call.real("max_val", 1.0))
    return minimum(maximum(call.tensor(0), low), high)


def _outside(f: Callable[[Call], np.ndarray]) -> Operator:
    return lambda call: _rounded(f(call), call)


def _function(
    f: Callable[[Call], np.ndarray], exact: Callable[[Call], Tensor] = lambda call: evaluated(call, FUNCTIONS[call.op])
) -> Operator:
    """Of constants rounded once to float64; exact where a quantizer depends on it; else in plain float64."""
    return lambda call: exact(call) if call.decides and not call.constant else _rounded(f(call), call)


def _rounded(v: np.ndarray, call: Call) -> Tensor:
    """An irrational function of constants rounded once to float64; of anything else, a value without exactness."""
    v = np.asarray(v, np.float64)
    if all(t is None or (t.exact and t.size <= SMALL) for t in call.inputs) and call.constant:
        if not np.isfinite(v).all():
            raise IntsimError("the result is not a finite number")
        return from_array(v, "the result")
    return Tensor(v.shape, "f", v=v, e=np.full(v.shape, math.inf), poison=f"{call.label} has no exact form")


def square_root(call: Call) -> Tensor:
    """Sqrt: of constants rounded once to float64."""
    if call.constant or not call.decides:
        return _rounded(np.sqrt(plain.values(call)), call)
    x = call.tensor(0)
    return evaluated(call, FUNCTIONS["Sqrt"]) if x.on_grid else root(x)


def power(call: Call) -> Tensor:
    """Pow: small whole exponents exactly; other exponents, and bases, of constants rounded once to float64."""
    base, exponent = call.tensor(0), call.tensor(1)
    if exponent.exact and exponent.size == 1:
        e = exponent.fractions().reshape(()).item()
        if e.denominator == 1 and 1 <= e <= 4:
            out = reduce(partial(multiply, factor=False), [base] * int(e))
            return move([out], lambda a: np.broadcast_to(a, np.broadcast_shapes(base.shape, exponent.shape)))
        if e == Fraction(1, 2) and not base.on_grid:
            return square_root(call)
        if e == Fraction(-1, 2):
            if not call.constant and not base.on_grid:
                return divide(constant(Fraction(1)), root(base))
            if call.constant:
                return _rounded(1.0 / np.sqrt(plain.values(call)), call)
    if call.constant or not call.decides:
        return _rounded(np.power(plain.values(call), plain.values(call, 1)), call)
    return _powers(call, base, exponent)


def _power(e: Fraction) -> Callable[[Call, Number], Number]:
    return lambda call, x: power_of(x, e)


def _powers(call: Call, base: Tensor, exponent: Tensor) -> Tensor:
    """A tensor to constant exponents, one for the tensor or one a position."""
    if not exponent.exact or exponent.size > SMALL:
        raise IntsimError("the exponent has to be a constant")
    shape = np.broadcast_shapes(base.shape, exponent.shape)
    wide = move([base], lambda a: np.broadcast_to(a, shape))
    exponents = np.broadcast_to(exponent.fractions(), shape)
    parts, index = [], np.arange(wide.size).reshape(shape)
    for e in sorted(set(exponents.flat)):
        here = np.asarray(exponents == e, bool)
        picked = move([wide], lambda a, here=here: a[here])
        made = evaluated(replace(call, inputs=[picked]), _power(e))
        parts.append((index[here], made))
    back = np.argsort(np.concatenate([i for i, _ in parts]))
    return move([made for _, made in parts], lambda *a: np.concatenate(a)[back].reshape(shape))


def _in_channels_last(f: Callable[[Call], Tensor], weights: bool) -> Operator:
    """An operator on (N, spatial..., C), with `weights` on (O, spatial..., C / group) too."""

    def operator(call: Call) -> Tensor:
        turned = [channels_first(t) if t is not None and i <= weights else t for i, t in enumerate(call.inputs)]
        return channels_last(f(replace(call, inputs=turned)))

    return operator


#: Operator key (see `key`) -> function; the quantizers are in QUANTIZERS.
OPERATORS: dict[str, Operator] = {
    **MOVEMENT,
    **POOLING,
    **RESIZING,
    **LOGIC,
    **{name: _outside(f) for name, f in plain.EPILOGUE.items()},
    **{name: _function(f) for name, f in plain.PLAIN.items()},
    "DequantizeLinear": dequantize_linear,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MatMul": lambda call: matmul(call.tensor(0), call.tensor(1)),
    "qonnx:XnorPopcountMatMul": xnor_popcount,
    "qonnx:Im2Col": im2col,
    "Gemm": gemm,
    "BatchNormalization": batch_normalization,
    "Add": _binary(add),
    "Sub": _binary(subtract),
    "Mul": _binary(multiply),
    "Div": _binary(divide),
    "Sum": _fold(add),
    "Mean": lambda call: divide(_fold(add)(call), constant(Fraction(len(call.inputs)))),
    "Max": _fold(maximum),
    "Min": _fold(minimum),
    "Neg": lambda call: negative(call.tensor(0)),
    "Abs": lambda call: absolute(call.tensor(0)),
    "Reciprocal": lambda call: divide(constant(Fraction(1)), call.tensor(0)),
    "Relu": lambda call: leaky(call.tensor(0), constant(Fraction(0))),
    "LeakyRelu": lambda call: leaky(call.tensor(0), constant(call.real("alpha", 0.01))),
    "PRelu": lambda call: leaky(call.tensor(0), call.tensor(1)),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": lambda call: multiply(call.tensor(0), hard_sigmoid(call, Fraction(1, 6)), factor=False),
    "HardTanh": hard_tanh,
    "Clip": clip,
    "Softmax": _function(plain.softmax, softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_normalization),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), group_normalization),
    "Einsum": einsum,
    "IsNaN": lambda call: truth(np.isnan(call.tensor(0).approx()[0])),
    "Sqrt": square_root,
    "Pow": power,
    "channels_last:Conv": _in_channels_last(conv, True),
    "channels_last:MaxPool": _in_channels_last(max_pool, False),
    "channels_last:BatchNormalization": _in_channels_last(batch_normalization, False),
}

#: Operators that only constants may meet before the last quantizer.
EPILOGUE = frozenset(plain.EPILOGUE)
