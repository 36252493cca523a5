"""Fused activation functions as bounds of the output's codes."""

from __future__ import annotations

import numpy as np

from intsim.frontend.tflite.file import FileTensor
from intsim.frontend.tflite.network import Network, Unsupported
from intsim.frontend.tflite.schema import ACTIVATION, names

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


def even_ends(net: Network) -> tuple[int, int] | None:
    """The bounds of the operator at work as XNNPACK has them, where they are others; None: they are the same.

    It adds the zero point in float32 and rounds half to even (runtime/operator utilities, xnn_qs8_quantize).
    """
    assert net.at is not None
    name = names("ActivationFunctionType").get(net.at.options.get(ACTIVATION, 0), "NONE")
    if name not in RANGES or name == "NONE" or not net.at.outputs:
        return None
    tensor = net.file.tensors[net.at.outputs[0]]
    if tensor.kind != "INT8" or not tensor.quantized or tensor.scales.size != 1:
        return None
    kind, found = np.iinfo(np.int8), []
    for value, end in zip(RANGES[name], (kind.min, kind.max), strict=True):
        with np.errstate(over="ignore"):
            code = np.float32(end if value is None else np.float32(value) / tensor.scales[0])
            code = code if value is None else np.float32(code + np.float32(tensor.zeros[0]))
        found.append(int(np.rint(np.clip(code, kind.min, kind.max))))
    even = found[0], found[1]
    try:
        usual = bounds(net.at.options[ACTIVATION], tensor) or (kind.min, kind.max)
    except Unsupported:  # as the operator's own function says
        return None
    return None if even == usual or even[0] > even[1] else even


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
