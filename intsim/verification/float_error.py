"""How far the numbers of a float32 executor can lie from the exact ones, operator by operator.

Every tensor gets a `size` that no exact value and no sum of absolute terms exceeds, and a number of `steps`: roundings
on the longest way to it. A number made of sums and products by at most n roundings, in whatever order and with or
without fused multiply-add, is off by at most gamma_n * size, where gamma_n = n u / (1 - n u) and u = 2^-24 (Higham,
"Accuracy and Stability of Numerical Algorithms", 2nd ed., lemma 3.1 and section 3.1). docs/verify.md lists the rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from intsim.verification.reference.call import Call, row_axes
from intsim.verification.reference.contraction import einsum_terms
from intsim.verification.reference.operators import OPERATORS
from intsim.verification.reference.qlinear import Inside
from intsim.verification.reference.tensor import Tensor, from_array

Array = NDArray[np.float64]
UNIT = 2.0**-24
FUNCTION_STEPS = 16
"""Units in the last place that a float library's function is granted. An allowance: no executor states its own."""
UNDERFLOW = 120.0
"""float32's exponential is 0 below -104."""
STEEPEST = 1.5
"""No function of `SMOOTH` is steeper anywhere."""
SMOOTH = frozenset({"Sigmoid", "Tanh", "Erf", "Gelu", "Softplus", "HardSwish"})
KEEPS = frozenset({"Relu", "Neg", "Abs", "Clip", "Identity", "Dropout"})
MOVES = frozenset(
    {
        "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Gather", "Slice", "DepthToSpace",
        "SpaceToDepth", "Concat", "Pad", "Where", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Max", "Min",
        "Resize", "Upsample", "channels_last:MaxPool",
    }
)  # fmt: skip


def gamma(steps: int) -> float:
    """The most that `steps` roundings change a number, as its share."""
    share = steps * UNIT
    return share / (1 - share) if share < 0.5 else math.inf


@dataclass(frozen=True)
class Reach:
    """|exact| <= size and |computed - exact| <= gamma(steps) * size, element by element.

    `relative`: made by products alone, so that the error is a share of the number itself and one may divide by it.
    """

    size: Array
    steps: int = 0
    relative: bool = False

    @property
    def error(self) -> Array:
        """The bound of the absolute error, with room for its own roundings."""
        return self.size * (gamma(self.steps) * 1.001) if self.steps else np.zeros_like(self.size)


def known(t: Tensor, steps: int = 0) -> Reach:
    """The reach of numbers that an executor has within `steps` roundings each."""
    return Reach(np.abs(t.approx()[0]), steps, True)


def dequantized(codes: Array, zero: Array, scale: Array) -> Reach:
    """(code - zero_point) * scale; the difference is exact where float32 holds both."""
    size = np.abs(codes - zero)
    wide = (np.abs(codes) + np.abs(zero) > 2.0**24) | (zero != np.rint(zero))
    return Reach(np.where(wide, np.abs(codes) + np.abs(zero), size) * scale, 3)


def reach(key: str, call: Call, inputs: list[Reach | None], made: Tensor) -> Reach | None:
    """Of the result `made` of a node; None where no rule is known.

    Args:
        key: the operator's name in the reference's table.
        call: the node with its exact inputs.
        inputs: their reach, None for an input that is missing.
        made: the exact result.
    """
    data = [r for r in inputs if r is not None]
    if key in KEEPS and data:
        return replace(data[0], relative=data[0].relative and key in ("Neg", "Abs", "Identity", "Dropout"))
    if key == "Cast" and made.kind == "f":
        return replace(data[0], steps=data[0].steps + 1)
    if key in SMOOTH or (key in ("HardSigmoid", "Elu") and abs(call.attr("alpha", 0.2)) <= 1):
        return _smooth(data[0], made)
    if key in ("Resize", "Upsample") and call.attr("mode", "nearest") != "nearest":
        return _interpolated(call, data[0], made)
    if key in MOVES:
        moved = _applied("Max" if key == "Min" else key, call, inputs)
        return Reach(moved, max(r.steps for r in data), all(r.relative for r in data) and key != "Pad")
    if key in _OF_RESULTS:
        return _OF_RESULTS[key](call, data, made)
    return _LINEAR[key](key, call, inputs) if key in _LINEAR else None


def _dequantized(call: Call, data: list[Reach], made: Tensor) -> Reach:
    zero = call.optional(2)
    codes, scale = call.tensor(0).approx()[0], np.abs(made.approx()[0])
    wide = np.abs(codes).max(initial=0.0) + (0.0 if zero is None else np.abs(zero.approx()[0]).max(initial=0.0))
    # beyond float32's integers the difference may be rounded before it is scaled, or after
    grown = scale if wide <= 2.0**24 else scale + wide * np.abs(call.tensor(1).approx()[0]).max()
    return Reach(grown, 3, wide <= 2.0**24)


def _applied(key: str, call: Call, inputs: list[Reach | None], **attrs: object) -> Array:
    """The operator, of a single output, on sizes in place of numbers; shapes, indices and conditions stay."""
    tensors: list[Tensor | None] = []
    for i, (t, r) in enumerate(zip(call.inputs, inputs, strict=True)):
        data = t is not None and r is not None and (t.kind == "f" or (t.kind == "i" and (i == 0 or key == "Concat")))
        tensors.append(from_array(r.size, "size") if data and r is not None else t)
    changed = replace(call, op=key.rpartition(":")[2], inputs=tensors, attrs=call.attrs | attrs, constant=False)
    made = OPERATORS[key](changed)
    assert isinstance(made, Tensor)
    return np.abs(made.approx()[0])


def _sum(terms: Callable[[Call, int], int]) -> Callable[[str, Call, list[Reach | None]], Reach | None]:
    """Sums of products: the steps of the factors, a rounding for each product, and one for each term that is added."""

    def rule(key: str, call: Call, inputs: list[Reach | None]) -> Reach | None:
        attrs = {n: abs(call.attr(n)) for n in ("alpha", "beta") if n in call.attrs}
        size = _applied(key, call, inputs, **attrs)
        return Reach(size, sum(r.steps for r in inputs if r is not None) + terms(call, size.size))

    return rule


def _added(key: str, call: Call, inputs: list[Reach | None]) -> Reach | None:
    """A sum, and of a mean its quotient."""
    size = _applied("Add" if key == "Sub" else key, call, inputs)
    data = [r for r in inputs if r is not None]
    return Reach(size, max(r.steps for r in data) + len(data) + (key == "Mean"))


def _multiplied(key: str, call: Call, inputs: list[Reach | None]) -> Reach | None:
    a, b = inputs[:2]
    if a is None or b is None:
        return None
    if key == "Div" and not b.relative:
        return _of_error(*_quotient(call.tensor(0).approx()[0], a.error, call.tensor(1).approx()[0], b.error))
    return Reach(_applied(key, call, inputs), a.steps + b.steps + 2, a.relative and b.relative)


def _leaky(key: str, call: Call, inputs: list[Reach | None]) -> Reach | None:
    x = inputs[0]
    slope = call.tensor(1).approx()[0] if key == "PRelu" else np.asarray(call.attr("alpha", 0.01))
    return None if x is None else Reach(x.size * np.maximum(1.0, np.abs(slope).max()), x.steps + 3)


def _normalized(key: str, call: Call, inputs: list[Reach | None]) -> Reach | None:
    """BatchNormalization as x * s + b - m * s with s = scale / sqrt(variance + epsilon), or in any other order."""
    x, scale, bias, mean, variance = inputs[:5]
    if x is None or scale is None or bias is None or mean is None or variance is None or not variance.relative:
        return None
    steps = sum(r.steps for r in (x, scale, bias, mean, variance)) + 12
    return Reach(_applied(key, call, [x, scale, bias, replace(mean, size=-mean.size), variance]), steps)


def _quotient(a: Array, off_a: Array, b: Array, off_b: Array) -> tuple[Array, Array]:
    """|a / b| and its error; no bound where the divisor may come near zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.abs(a / b)
        error = np.where(
            off_b < np.abs(b) / 2, (off_a + value * off_b) / (np.abs(b) - off_b) + 4 * UNIT * value, math.inf
        )
    return value, error


def _curve(call: Call, data: list[Reach], made: Tensor) -> Reach | None:
    """Square, square root, exponential and reciprocal, by the most that their slope can be within the error."""
    x, v, value = data[0], np.abs(call.tensor(0).approx()[0]), np.abs(made.approx()[0])
    if call.op == "Reciprocal":
        return _of_error(*_quotient(np.ones_like(v), np.zeros_like(v), v, x.error))
    power = call.tensor(1).approx()[0] if call.op == "Pow" else np.asarray(0.5)
    if (power == 2).all():
        return Reach(x.size**2, 2 * x.steps + FUNCTION_STEPS, x.relative)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if call.op == "Exp":
            error = value * np.expm1(x.error)
        elif (power == 0.5).all():
            error = np.where(x.error < v / 2, x.error / np.sqrt(v), 2 * np.sqrt(x.error))
        else:
            return None
    return _of_error(value, np.nan_to_num(error) + FUNCTION_STEPS * UNIT * value)


def _smooth(x: Reach, made: Tensor) -> Reach:
    value = np.abs(made.approx()[0])
    return _of_error(value, STEEPEST * x.error + FUNCTION_STEPS * UNIT * np.maximum(value, 1.0))


def _of_error(value: Array, error: Array) -> Reach:
    """The reach of numbers of a known error, as a share of the largest: later steps shall not count for too much."""
    top = float(value.max(initial=0.0))
    worst = float(error.max(initial=0.0))
    steps = min(max(int(worst / (UNIT * top)), 1), 1 << 20) if top > 0 and worst < math.inf else 1
    return Reach(np.maximum(value, error / gamma(steps)), steps)


def _softmax(call: Call, data: list[Reach], made: Tensor) -> Reach:
    """A number that is off by d scales its exponential by exp(d), and the sum by no more."""
    x, v = data[0], call.tensor(0).approx()[0]
    axes = row_axes(call, len(made.shape))
    count = math.prod(made.shape[a] for a in axes)
    with np.errstate(over="ignore", invalid="ignore"):
        # what a mask hides has an exponential of 0 in float32 too
        top = v.max(axis=axes, keepdims=True)
        slack = x.error + np.where(v == top, x.error, 0.0).max(axis=axes, keepdims=True)
        hidden = np.isneginf(v) | (v - top + slack < -UNDERFLOW)
        size, error = (np.where(hidden, 0.0, a) for a in (x.size, x.error))
        spread = 2 * UNIT * size.max(axis=axes, keepdims=True)  # of the largest that is subtracted first
        share = np.expm1(2 * (error.max(axis=axes, keepdims=True) + spread)) + gamma(count + 2 * FUNCTION_STEPS)
    value = np.abs(made.approx()[0])
    return _of_error(value, value * share + 2.0**-126)


def _normalization(call: Call, data: list[Reach], made: Tensor) -> Reach | None:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, the variance as a mean of squares less a square too."""
    x, v, shape = data[0], call.tensor(0).approx()[0], made.shape
    rows, rank = shape, len(shape)
    laid: tuple[int, ...] = ()
    if call.op in ("InstanceNormalization", "GroupNormalization"):
        groups = shape[1] if call.op == "InstanceNormalization" else int(call.attr("num_groups"))
        rows, axes = (shape[0], groups, shape[1] // groups, *shape[2:]), tuple(range(2, rank + 1))
        old = call.op == "GroupNormalization" and call.opset < 21
        laid = (groups, 1 if old else shape[1] // groups, *(1,) * (rank - 2))
    else:
        axes = tuple(range(int(call.attr("axis", -1)) % rank, rank))
    v, size, given = v.reshape(rows), x.size.reshape(rows), x.error.reshape(rows)
    count = math.prod(rows[a] for a in axes)

    def mean(a: Array) -> Array:
        return np.asarray(a.mean(axis=axes, keepdims=True))

    middle = np.zeros(()) if call.op == "RMSNormalization" else mean(v)
    share = gamma(count + 4)
    centred = given + mean(given) + share * (size + mean(size))
    variance = mean((v - middle) ** 2) + float(call.attr("epsilon", 1e-5))
    off = share * 2 * mean(size**2) + 4 * mean(size * given) + 2 * mean(given**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = np.where(off < variance / 2, off / variance, math.inf) + gamma(8)
        root = np.sqrt(variance)
        plain = (centred * (1 + loss) + np.abs(v - middle) * loss) / root
    scale, bias = (data[i].size if len(data) > i else absent for i, absent in ((1, np.ones(())), (2, np.zeros(()))))
    scale, bias = (a.reshape(laid) if laid else a for a in (scale, bias))
    error = (plain * scale + gamma(8) * (np.abs(v - middle) / root * scale + bias)).reshape(shape)
    return _of_error(np.abs(made.approx()[0]), np.where(np.isnan(error), math.inf, error))


def _interpolated(call: Call, x: Reach, made: Tensor) -> Reach:
    """Weights come from coordinates that are rounded themselves: a share of the axis' length."""
    axes = [n for n, before in zip(made.shape, call.tensor(0).shape, strict=True) if n != before]
    longest = max((*call.tensor(0).shape, *made.shape), default=1)
    size = np.full(made.shape, 4 * x.size.max(initial=0.0))
    return Reach(size, x.steps + 12 * max(len(axes), 1) * (longest + 1) + 64)


_OF_RESULTS: dict[str, Callable[[Call, list[Reach], Tensor], Reach | None]] = {
    "DequantizeLinear": _dequantized,
    **dict.fromkeys(("Sqrt", "Exp", "Pow", "Reciprocal"), _curve),
    "Softmax": _softmax,
    **dict.fromkeys(
        ("GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"), _normalization
    ),
}


def _taps(call: Call, made: int) -> int:
    return math.prod(call.attr("kernel_shape", [1])) + 3


def _reduced(call: Call, made: int) -> int:
    return call.tensor(0).size // max(made, 1) + 3


def _rows(call: Call, made: int) -> int:
    return call.tensor(1).size // max(call.tensor(1).shape[0], 1) + 3


_LINEAR: dict[str, Callable[[str, Call, list[Reach | None]], Reach | None]] = {
    "Conv": _sum(_rows),
    "channels_last:Conv": _sum(_rows),
    "ConvTranspose": _sum(lambda call, made: call.tensor(1).size // max(call.tensor(1).shape[1], 1) + 3),
    "MatMul": _sum(lambda call, made: call.tensor(0).shape[-1] + 3),
    "Einsum": _sum(lambda call, made: einsum_terms(call) + 3),
    "Gemm": _sum(lambda call, made: call.tensor(0).shape[0 if call.attr("transA", 0) else 1] + 6),
    "AveragePool": _sum(_taps),
    "GlobalAveragePool": _sum(_reduced),
    "ReduceMean": _sum(_reduced),
    "ReduceSum": _sum(_reduced),
    **dict.fromkeys(("Add", "Sub", "Sum", "Mean"), _added),
    **dict.fromkeys(("Mul", "Div"), _multiplied),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky),
    **dict.fromkeys(("BatchNormalization", "channels_last:BatchNormalization"), _normalized),
}


def enclosed(node: Inside, change: Callable[[str, Call], Call | Tensor | None] | None) -> tuple[Tensor, Reach | None]:
    """What the operator inside one of com.microsoft's quantizers makes, and its reach; changed by a fault's `change`.

    A kernel may scale code and zero point apart, so that the size of both counts, with a rounding for each.
    """
    call, inputs = node.call, [_shifted(t, s) for t, s in zip(node.call.inputs, node.shifts, strict=True)]
    changed = change(node.key, call) if change is not None else None
    call = changed if isinstance(changed, Call) else call
    result = changed if isinstance(changed, Tensor) else OPERATORS[node.key](call)
    assert isinstance(result, Tensor)
    grown = reach(node.key, call, inputs, result)
    if grown is not None:
        size = np.maximum(grown.size, np.abs(result.approx()[0]))
        grown = Reach(np.moveaxis(size, 1, -1) if node.turned else size, grown.steps + 6)
    return node.made(result), grown


def _shifted(t: Tensor | None, shift: float | None) -> Reach | None:
    return None if t is None or shift is None else Reach(np.abs(t.approx()[0]) + 2 * shift, 4, shift == 0)
