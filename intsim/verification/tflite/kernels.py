"""Operators of TensorFlow Lite on codes: exact sums of integers, then one rounding of the exact real number.

Each kernel gets a `Call` and returns the codes of its outputs, in the file's layout (N, H, W, C).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.verification.tflite.flatbuffer import Flat
from intsim.verification.tflite.numbers import (
    Codes,
    clipped,
    decimal,
    decimals,
    distinct,
    fraction,
    half_even,
    nearest,
    sigmoid,
    tanh,
)

Array = NDArray[Any]


@dataclass
class Call:
    """An operator: tensors and values of its inputs (None: left out), its outputs, its options' table."""

    kind: str
    tensors: list[Flat | None]
    values: list[Array | None]
    outputs: list[Flat]
    options: Any

    def flat(self, i: int) -> Flat:
        """An input's tensor."""
        tensor = self.tensors[i]
        if tensor is None:
            raise IntsimError(f"{self.kind} lacks input {i}")
        return tensor

    def value(self, i: int) -> Array:
        """An input's codes."""
        value = self.values[i]
        if value is None:
            raise IntsimError(f"{self.kind} lacks input {i}")
        return value

    def centred(self, i: int) -> Codes:
        """An activation's codes less its zero point."""
        return self.value(i).astype(np.int64) - self.flat(i).zero

    def has(self, i: int) -> bool:
        """Whether an optional input is there."""
        return i < len(self.values) and self.values[i] is not None

    def ints(self, i: int) -> list[int]:
        """A list of integers."""
        return [int(v) for v in self.value(i).reshape(-1)]

    @property
    def out(self) -> Flat:
        """The first output."""
        return self.outputs[0]

    def limits(self) -> tuple[int, int]:
        """Of the output's codes, with the fused activation."""
        low, high = self.out.limits
        kind = self.options.FusedActivationFunction() if hasattr(self.options, "FusedActivationFunction") else 0
        edges = {0: (None, None), 1: (0, None), 2: (-1, 1), 3: (0, 6)}[kind]

        def code(edge: int) -> int:
            ratio = fraction(np.float32(edge) / self.out.scale32)
            away = math.floor(abs(ratio) + Fraction(1, 2))
            return self.out.zero + (away if ratio >= 0 else -away)

        if edges[0] is not None:
            low = max(low, code(edges[0]))
        if edges[1] is not None:
            high = min(high, code(edges[1]))
        return low, high

    def rounded(self, sums: Codes, unit: Fraction) -> Codes:
        """Codes of `sums` x `unit`."""
        ratio, limits = unit / self.out.scale, self.limits()
        return distinct([sums], lambda n: clipped(half_even(n * ratio) + self.out.zero, limits))

    def per_channel(self, sums: Codes, w: Flat, unit: Fraction) -> Codes:
        """Codes of sums whose last axis are channels with their own weight scales."""
        parts = [self.rounded(sums[..., c], unit * w.scale_of(c)) for c in range(sums.shape[-1])]
        return np.stack(parts, axis=-1)

    def of_real(self, function: Callable[..., Fraction], *codes: Codes) -> Codes:
        """Codes of a rational function of integers."""
        scale, limits = self.out.scale, self.limits()
        return distinct(list(codes), lambda *n: clipped(half_even(function(*n) / scale) + self.out.zero, limits))


def _window(same: bool, size: int, reach: int, stride: int) -> tuple[int, int]:
    """Number of positions along an axis, and how far before the first element the first one begins."""
    count = -(-size // stride) if same else (size - reach) // stride + 1
    return count, max((count - 1) * stride + reach - size, 0) // 2 if same else 0


def _taps(o: Any, x: Codes, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> Any:
    """For each tap: its indices, the elements it meets (N, oh, ow, C), and which of them lie inside."""
    n, h, w, c = x.shape
    same = o.Padding() == 0
    (oh, top), (ow, left) = (
        _window(same, s, d * (k - 1) + 1, t)
        for s, k, t, d in zip((h, w), kernel, (o.StrideH(), o.StrideW()), dilation, strict=True)
    )
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            ys = np.arange(oh) * o.StrideH() - top + i * dilation[0]
            xs = np.arange(ow) * o.StrideW() - left + j * dilation[1]
            inside = np.multiply.outer((ys >= 0) & (ys < h), (xs >= 0) & (xs < w))
            part = x[:, np.clip(ys, 0, h - 1)][:, :, np.clip(xs, 0, w - 1)]
            yield i, j, part, np.broadcast_to(inside[None, :, :, None], (n, oh, ow, c))


def _weights(call: Call, i: int, axis: int) -> Codes:
    w, flat = call.value(i).astype(np.int64), call.flat(i)
    zeros = np.array([flat.zero_of(c) for c in range(w.shape[axis])], np.int64)
    return w - zeros.reshape([-1 if a == axis else 1 for a in range(w.ndim)])


def conv(call: Call) -> Codes:
    """CONV_2D."""
    x, w, o = call.centred(0), _weights(call, 1, 0), call.options
    groups = x.shape[3] // w.shape[3]
    each = w.shape[0] // groups
    total: Any = call.value(2).astype(np.int64) if call.has(2) else 0
    for i, j, part, inside in _taps(o, x, w.shape[1:3], (o.DilationHFactor(), o.DilationWFactor())):
        part = np.where(inside, part, 0)
        pieces = [
            part[..., g * w.shape[3] : (g + 1) * w.shape[3]] @ w[g * each : (g + 1) * each, i, j].T
            for g in range(groups)
        ]
        total = total + np.concatenate(pieces, axis=-1)
    return call.per_channel(total, call.flat(1), call.flat(0).scale)


def depthwise(call: Call) -> Codes:
    """DEPTHWISE_CONV_2D."""
    x, w, o = call.centred(0), _weights(call, 1, 3), call.options
    reads = np.arange(w.shape[3]) // (w.shape[3] // x.shape[3])
    total: Any = call.value(2).astype(np.int64) if call.has(2) else 0
    for i, j, part, inside in _taps(o, x, w.shape[1:3], (o.DilationHFactor(), o.DilationWFactor())):
        total = total + np.where(inside, part, 0)[..., reads] * w[0, i, j]
    return call.per_channel(total, call.flat(1), call.flat(0).scale)


def transpose_conv(call: Call) -> Codes:
    """TRANSPOSE_CONV: every element of the input adds a weighted kernel to the output."""
    x, w, o = call.centred(2), _weights(call, 1, 0), call.options
    n, oh, ow, channels = call.ints(0)
    same = o.Padding() == 0
    top = _window(same, oh, w.shape[1], o.StrideH())[1]
    left = _window(same, ow, w.shape[2], o.StrideW())[1]
    total = np.zeros((n, oh, ow, channels), np.int64)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            for i in range(w.shape[1]):
                for j in range(w.shape[2]):
                    y, z = row * o.StrideH() - top + i, column * o.StrideW() - left + j
                    if 0 <= y < oh and 0 <= z < ow:
                        total[:, y, z] += x[:, row, column] @ w[:, i, j].T
    if call.has(3):
        total = total + call.value(3).astype(np.int64)
    return call.per_channel(total, call.flat(1), call.flat(2).scale)


def fully_connected(call: Call) -> Codes:
    """FULLY_CONNECTED."""
    w = _weights(call, 1, 0)
    total = call.centred(0).reshape(-1, w.shape[1]) @ w.T
    if call.has(2):
        total = total + call.value(2).astype(np.int64)
    return call.per_channel(total, call.flat(1), call.flat(0).scale).reshape(call.out.shape)


def average_pool(call: Call) -> Codes:
    """AVERAGE_POOL_2D: the mean of what lies inside."""
    total: Any = 0
    count: Any = 0
    kernel = call.options.FilterHeight(), call.options.FilterWidth()
    for _, _, part, inside in _taps(call.options, call.centred(0), kernel):
        total, count = total + np.where(inside, part, 0), count + inside
    scale = call.flat(0).scale
    return call.of_real(lambda s, n: s * scale / n, total, count.astype(np.int64))


def max_pool(call: Call) -> Codes:
    """MAX_POOL_2D."""
    x, best = call.centred(0), None
    kernel = call.options.FilterHeight(), call.options.FilterWidth()
    for _, _, part, inside in _taps(call.options, x, kernel):
        part = np.where(inside, part, -(1 << 20))
        best = part if best is None else np.maximum(best, part)
    assert best is not None
    return call.rounded(best, call.flat(0).scale)


def mean(call: Call) -> Codes:
    """MEAN."""
    x = call.centred(0)
    axes = tuple(sorted({a % x.ndim for a in call.ints(1)}))
    total = x.sum(axis=axes, keepdims=True).reshape(call.out.shape)
    return call.rounded(total, call.flat(0).scale / (x.size // total.size))


def binary(call: Call) -> Codes:
    """ADD, SUB and MUL."""
    a, b = call.flat(0).scale, call.flat(1).scale
    functions: dict[str, Callable[[int, int], Fraction]] = {
        "ADD": lambda m, n: a * m + b * n,
        "SUB": lambda m, n: a * m - b * n,
        "MUL": lambda m, n: a * m * b * n,
    }
    return call.of_real(functions[call.kind], call.centred(0), call.centred(1))


def function(call: Call) -> Codes:
    """Rational functions of one element."""
    s = call.flat(0).scale
    alpha = fraction(np.float32(call.options.Alpha())) if call.kind == "LEAKY_RELU" else Fraction(0)
    functions: dict[str, Callable[[Fraction], Fraction]] = {
        "RELU": lambda x: max(x, Fraction(0)),
        "RELU6": lambda x: min(max(x, Fraction(0)), Fraction(6)),
        "RELU_N1_TO_1": lambda x: min(max(x, Fraction(-1)), Fraction(1)),
        "RELU_0_TO_1": lambda x: min(max(x, Fraction(0)), Fraction(1)),
        "LEAKY_RELU": lambda x: x if x >= 0 else alpha * x,
        "HARD_SWISH": lambda x: x * min(max(x + 3, Fraction(0)), Fraction(6)) / 6,
        "QUANTIZE": lambda x: x,
    }
    f = functions[call.kind]
    return call.of_real(lambda n: f(n * s), call.centred(0))


def prelu(call: Call) -> Codes:
    """PRELU."""
    s, a = call.flat(0).scale, call.flat(1).scale
    return call.of_real(lambda m, n: m * s if m >= 0 else m * s * n * a, call.centred(0), call.centred(1))


def smooth(call: Call) -> Codes:
    """LOGISTIC and TANH, in decimals."""
    f, limits = {"LOGISTIC": sigmoid, "TANH": tanh}[call.kind], call.limits()
    with decimals():
        scale, step = decimal(call.out.scale), call.flat(0).scale
        return distinct(
            [call.centred(0)], lambda n: clipped(nearest(f(decimal(n * step)) / scale) + call.out.zero, limits)
        )


def softmax(call: Call) -> Codes:
    """SOFTMAX along the last axis, in decimals."""
    x = call.value(0).astype(np.int64)
    rows, limits = x.reshape(-1, x.shape[-1]), call.limits()
    with decimals():
        step = call.flat(0).scale * fraction(np.float32(call.options.Beta()))
        scale = decimal(call.out.scale)
        out = np.empty(rows.shape, np.int64)
        powers = {int(d): decimal(-int(d) * step).exp() for d in np.unique(rows.max(axis=1, keepdims=True) - rows)}
        for r, row in enumerate(rows):
            terms = [powers[int(d)] for d in row.max() - row]
            total = sum(terms) * scale
            out[r] = [clipped(nearest(t / total) + call.out.zero, limits) for t in terms]
    return out.reshape(x.shape)


def resize_nearest(call: Call) -> Codes:
    """RESIZE_NEAREST_NEIGHBOR, positions in float32 as its kernels have them."""
    x, o = call.centred(0), call.options
    one, half = np.float32(1), np.float32(0.5)
    for axis, size in zip((1, 2), call.ints(1), strict=True):
        old = np.float32(x.shape[axis])
        step = (old - one) / np.float32(size - 1) if o.AlignCorners() and size > 1 else old / np.float32(size)
        picks = []
        for k in range(size):
            at = (np.float32(k) + half) * step if o.HalfPixelCenters() else np.float32(k) * step
            index = math.floor(fraction(at) + Fraction(1, 2)) if o.AlignCorners() else math.floor(fraction(at))
            picks.append(max(0, min(index, x.shape[axis] - 1)))
        x = x.take(picks, axis)
    return call.rounded(x, call.flat(0).scale)


def resize_bilinear(call: Call) -> Codes:
    """RESIZE_BILINEAR, weights as fractions of one denominator."""
    x, o, unit = call.centred(0), call.options, call.flat(0).scale
    for axis, size in zip((1, 2), call.ints(1), strict=True):
        old = x.shape[axis]
        step = Fraction(old - 1, size - 1) if o.AlignCorners() and size > 1 else Fraction(old, size)
        shift = Fraction(1, 2) if o.HalfPixelCenters() else Fraction(0)
        at = [min(max((k + shift) * step - shift, Fraction(0)), Fraction(old - 1)) for k in range(size)]
        below = [math.floor(p) for p in at]
        above = [min(b + 1, old - 1) for b in below]
        parts = math.lcm(*(p.denominator for p in at))
        share = np.array([int((p - b) * parts) for p, b in zip(at, below, strict=True)], np.int64)
        share = share.reshape([-1 if a == axis else 1 for a in range(4)])
        x, unit = x.take(below, axis) * (parts - share) + x.take(above, axis) * share, unit / parts
    return call.rounded(x, unit)


def _carried(call: Call, moved: Codes, source: Flat) -> Codes:
    """Codes less their zero point, moved, as codes of the output."""
    return call.rounded(moved.reshape(call.out.shape), source.scale)


def reshape(call: Call) -> Array:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the elements in their order."""
    return _carried(call, call.centred(0), call.flat(0))


def transpose(call: Call) -> Array:
    """TRANSPOSE."""
    return _carried(call, call.centred(0).transpose(call.ints(1)), call.flat(0))


def pad(call: Call) -> Array:
    """PAD and PADV2."""
    pads = call.value(1).reshape(-1, 2).tolist()
    fill = int(call.value(2).reshape(())) - call.flat(0).zero if call.has(2) else 0
    return _carried(call, np.pad(call.centred(0), pads, constant_values=fill), call.flat(0))


def concatenation(call: Call) -> Array:
    """CONCATENATION."""
    scales = [call.flat(i).scale for i in range(len(call.values))]
    limits, out = call.limits(), call.out
    parts = [
        distinct([call.centred(i)], lambda n, s=s: clipped(half_even(n * s / out.scale) + out.zero, limits))
        for i, s in enumerate(scales)
    ]
    return np.concatenate(parts, axis=call.options.Axis())


def slice_(call: Call) -> Array:
    """SLICE."""
    x, begin, size = call.centred(0), call.ints(1), call.ints(2)
    cut = tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin, size, strict=True))
    return _carried(call, x[cut], call.flat(0))


def strided_slice(call: Call) -> Array:
    """STRIDED_SLICE with masks of ends and of axes that are dropped."""
    o = call.options
    cut: list[int | slice] = []
    for a, (b, e, s) in enumerate(zip(call.ints(1), call.ints(2), call.ints(3), strict=True)):
        if o.ShrinkAxisMask() & (1 << a):
            cut.append(b)
        else:
            cut.append(slice(None if o.BeginMask() & (1 << a) else b, None if o.EndMask() & (1 << a) else e, s))
    x = call.value(0)[tuple(cut)]
    if not call.flat(0).scales:
        return np.asarray(x)
    return _carried(call, np.asarray(x).astype(np.int64) - call.flat(0).zero, call.flat(0))


def split(call: Call) -> list[Array]:
    """SPLIT and SPLIT_V."""
    vector = call.kind == "SPLIT_V"
    x, axis = call.value(0 if vector else 1), call.ints(2 if vector else 0)[0]
    ends = np.cumsum([t.shape[axis] for t in call.outputs])[:-1]
    return list(np.split(x, ends, axis=axis))


def shape(call: Call) -> Array:
    """SHAPE."""
    return np.array(call.flat(0).shape, np.int64)


def pack(call: Call) -> Array:
    """PACK."""
    return np.stack([call.value(i) for i in range(len(call.values))], axis=call.options.Axis())


KERNELS: dict[str, Callable[[Call], Any]] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "TRANSPOSE_CONV": transpose_conv,
    "FULLY_CONNECTED": fully_connected,
    "AVERAGE_POOL_2D": average_pool,
    "MAX_POOL_2D": max_pool,
    "MEAN": mean,
    **dict.fromkeys(("ADD", "SUB", "MUL"), binary),
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "HARD_SWISH", "QUANTIZE"), function),
    "PRELU": prelu,
    **dict.fromkeys(("LOGISTIC", "TANH"), smooth),
    "SOFTMAX": softmax,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
    "RESIZE_BILINEAR": resize_bilinear,
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), reshape),
    "TRANSPOSE": transpose,
    **dict.fromkeys(("PAD", "PADV2"), pad),
    "CONCATENATION": concatenation,
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    **dict.fromkeys(("SPLIT", "SPLIT_V"), split),
    "SHAPE": shape,
    "PACK": pack,
}
