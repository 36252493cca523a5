"""Fused activation functions as bounds of the output's codes."""

from __future__ import annotations

import numpy as np

from intsim.frontend.tflite.file import FileTensor
from intsim.frontend.tflite.network import Unsupported
from intsim.frontend.tflite.schema import names

RANGES: dict[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}


def code_of(value: float, tensor: FileTensor) -> int:
    """The code of a bound: zero point + round(value / scale), in float32, halves away from zero.

    As every kernel of TensorFlow Lite has it (tensorflow/lite/kernels/kernel_util.cc, Quantize).
    """
    with np.errstate(over="ignore"):
        ratio = np.float32(value) / tensor.scales[0]
    if not np.isfinite(ratio) or abs(ratio) >= 1 << 31:
        raise Unsupported(f"the bound {value:g} of its activation is no code of {tensor.name}: its scale is too small")
    away = np.floor(np.abs(ratio.astype(np.float64)) + 0.5)
    return int(tensor.zeros[0]) + int(np.copysign(away, ratio))


def bounds(activation: int, tensor: FileTensor) -> tuple[int, int] | None:
    """Smallest and largest code that a fused activation leaves; None where the type alone bounds them."""
    name = names("ActivationFunctionType").get(activation, str(activation))
    if name not in RANGES:
        raise Unsupported(f"its fused activation {name} is not supported")
    kind = np.iinfo(tensor.dtype)
    low, high = (None if v is None else code_of(v, tensor) for v in RANGES[name])
    least = kind.min if low is None else max(kind.min, low)
    most = kind.max if high is None else min(kind.max, high)
    if least > most:
        raise Unsupported(f"its fused activation {name} leaves no code of {tensor.name}")
    return None if (least, most) == (kind.min, kind.max) else (int(least), int(most))
