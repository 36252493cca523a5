"""What executors are known to compute instead of what ONNX says, each as a change of one operator.

* `int32_wrap`: a difference or sum of 32-bit integers that wrapped, as in DequantizeLinear of int32 with a zero point.
* `pool_divisor`: AveragePool divides by another count: the real cells, those with padding, or the whole kernel.
* `resize_pixel`: Resize takes another pixel: another coordinate transformation, another way to round, or a coordinate
  worked out in float32 that falls on the other side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from intsim.verification.reference.arithmetic import multiply
from intsim.verification.reference.call import Call, window
from intsim.verification.reference.pool import POOLING
from intsim.verification.reference.quantizers import dequantize_linear
from intsim.verification.reference.rational import each
from intsim.verification.reference.resize import RESIZING
from intsim.verification.reference.tensor import Tensor, constant, from_array, move

COORDINATES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric")
NEAREST = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


@dataclass(frozen=True)
class Fault:
    """A name, the operators that it changes, and the change: another call, another result, or None for none."""

    name: str
    operators: frozenset[str]
    change: Callable[[str, Call], Call | Tensor | None]


def wrapped(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integers as 32 bits with a sign hold them."""
    return np.asarray((np.asarray(values, np.int64) + 2**31) % 2**32 - 2**31)


def _wrapped_difference(key: str, call: Call) -> Tensor | None:
    if key != "DequantizeLinear" or call.tensor(0).type != "int32" or call.optional(2) is None:
        return None
    codes, zero = call.tensor(0).approx()[0].astype(np.int64), call.tensor(2).approx()[0].astype(np.int64)
    if zero.size > 1:
        axis = int(call.attr("axis", 1)) % codes.ndim
        zero = zero.reshape([-1 if k == axis else 1 for k in range(codes.ndim)])
    difference = wrapped(codes - zero).astype(np.int32)
    return dequantize_linear(replace(call, inputs=[from_array(difference, "the difference"), call.tensor(1)]))


def _divisor(which: str, key: str, call: Call) -> Tensor | None:
    if key != "AveragePool":
        return None
    average = POOLING["AveragePool"](replace(call, attrs=call.attrs | {"count_include_pad": 0}))
    kernel = list(call.attr("kernel_shape", []))
    extent = call.tensor(0).shape[2:]
    strides, dilations, pads = window(call, extent, kernel)
    counts: dict[str, NDArray[np.int64]] = {}
    for padded in (False, True):
        product = np.ones((), np.int64)
        for k, places in enumerate(average.shape[2:]):
            first, last = (-pads[k], extent[k] + pads[k + len(kernel)]) if padded else (0, extent[k])
            taps = np.arange(places)[:, None] * strides[k] - pads[k] + np.arange(kernel[k]) * dilations[k]
            product = np.multiply.outer(product, ((first <= taps) & (taps < last)).sum(axis=1))
        counts["padded" if padded else "real"] = product
    counts["kernel"] = np.full_like(counts["real"], int(np.prod(kernel)))
    factors = each(Fraction, counts["real"].astype(object)) / each(Fraction, counts[which].astype(object))
    return multiply(average, constant(np.asarray(factors, object)[None, None]))


def _modern(call: Call, coordinates: str, nearest: str) -> Call:
    """A Resize of any opset, or an Upsample, as Resize of opset 11 with these attributes."""
    attrs = call.attrs | {"coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    if call.op == "Resize" and call.opset >= 11:
        return replace(call, attrs=attrs)
    given = attrs.pop("scales", None)
    scales = call.tensor(1) if given is None else from_array(np.asarray(given, np.float32), "scales")
    return replace(call, op="Resize", opset=11, attrs=attrs, inputs=[call.tensor(0), None, scales])


def _pixel(coordinates: str, nearest: str, key: str, call: Call) -> Call | None:
    return _modern(call, coordinates, nearest) if key in ("Resize", "Upsample") else None


def _single_pixel(coordinates: str, nearest: str, key: str, call: Call) -> Tensor | None:
    """Nearest pixels with coordinates in float32, operation by operation as the formulas of ONNX write them."""
    if key not in ("Resize", "Upsample") or call.attr("mode", "nearest") != "nearest":
        return None
    x, modern = call.tensor(0), _modern(call, coordinates, nearest)
    shape = RESIZING["Resize"](modern).shape
    factors = modern.optional(2)
    scales = np.asarray(shape, np.float32) / np.asarray(x.shape, np.float32)
    if factors is not None and factors.size:
        axes = [int(a) % len(shape) for a in modern.attr("axes", range(len(shape)))]
        scales[axes] = factors.approx()[0].astype(np.float32)
    half = np.float32(0.5)
    for axis, (before, after) in enumerate(zip(x.shape, shape, strict=True)):
        scale = np.float32(scales[axis])
        if before == after and scale == 1:
            continue
        k = np.arange(after, dtype=np.float32)
        if coordinates == "asymmetric":
            at = k / scale
        elif coordinates == "align_corners":
            at = k * np.float32(before - 1) / np.float32(max(after - 1, 1))
        else:
            at = (k + half) / scale - half
            if coordinates == "pytorch_half_pixel" and after == 1:
                at = np.zeros_like(at)
        index = np.clip(_ROUND[nearest](at), 0, before - 1).astype(np.int64)
        x = move([x], lambda a, index=index, axis=axis: np.take(a, index, axis))
    return x


_ROUND: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
    "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
}


FAULTS = (
    Fault("int32_wrap", frozenset({"DequantizeLinear"}), _wrapped_difference),
    *(Fault("pool_divisor", frozenset({"AveragePool"}), partial(_divisor, w)) for w in ("real", "padded", "kernel")),
    *(
        Fault("resize_pixel", frozenset({"Resize", "Upsample"}), partial(change, c, n))
        for change, c, n in itertools.product((_pixel, _single_pixel), COORDINATES, NEAREST)
    ),
)
