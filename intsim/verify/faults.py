"""What executors are known to compute instead of what ONNX says, each as a change of one operator.

* `int32_wrap`: a difference or sum of 32-bit integers that wrapped, as in DequantizeLinear of int32 with a zero point.
* `pool_divisor`: AveragePool divides by another count: the real cells, those with padding, or the whole kernel.
* `resize_pixel`: Resize takes another pixel: another coordinate transformation or another way to round.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from intsim.verify.reference.arithmetic import multiply
from intsim.verify.reference.call import Call, window
from intsim.verify.reference.pool import POOLING
from intsim.verify.reference.quantizers import dequantize_linear
from intsim.verify.reference.rational import each
from intsim.verify.reference.tensor import Tensor, constant, from_array

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


def _pixel(coordinates: str, nearest: str, key: str, call: Call) -> Call | None:
    if key not in ("Resize", "Upsample"):
        return None
    attrs = call.attrs | {"coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    if key == "Resize" and call.opset >= 11:
        return replace(call, attrs=attrs)
    given = attrs.pop("scales", None)
    scales = call.tensor(1) if given is None else from_array(np.asarray(given, np.float32), "scales")
    return replace(call, op="Resize", opset=11, attrs=attrs, inputs=[call.tensor(0), None, scales])


FAULTS = (
    Fault("int32_wrap", frozenset({"DequantizeLinear"}), _wrapped_difference),
    *(Fault("pool_divisor", frozenset({"AveragePool"}), partial(_divisor, w)) for w in ("real", "padded", "kernel")),
    *(
        Fault("resize_pixel", frozenset({"Resize", "Upsample"}), partial(_pixel, c, n))
        for c, n in itertools.product(COORDINATES, NEAREST)
    ),
)
