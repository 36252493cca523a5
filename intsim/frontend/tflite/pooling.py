"""AVERAGE_POOL_2D, MAX_POOL_2D and MEAN."""

from __future__ import annotations

from typing import Any

import numpy as np

from intsim.frontend.tflite.activations import bounds
from intsim.frontend.tflite.conv import image
from intsim.frontend.tflite.network import Network, Unsupported, first
from intsim.frontend.tflite.registry import translates
from intsim.frontend.tflite.window import output_size, padding, strides


@translates("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(net: Network) -> None:
    """Windows count what lies inside the image alone. A maximum picks a code, a mean is a real number, rounded."""
    assert net.at is not None
    x, y = image(net), net.activation(net.output())
    kernel, step = [net.option("FilterHeight"), net.option("FilterWidth")], strides(net)
    if min(kernel) < 1:
        raise Unsupported(f"its window is {kernel}")
    n, *size, c = x.shape
    shape = (n, *output_size(net, size, kernel, step, [1, 1]), c)
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": step, "pads": padding(net, size, kernel, step, [1, 1])}
    limits = bounds(net.option("FusedActivationFunction"), y)
    if net.at.kind == "AVERAGE_POOL_2D":
        net.quantize(net.node("AveragePool", [net.real(x, True)], **window), shape, True, limits)
    elif not x.same_codes(y) or y.kind == "INT16":  # ONNX's MaxPool takes codes of 8 bits
        net.quantize(net.node("MaxPool", [net.real(x, True)], **window), shape, True, limits)
    elif limits is None:
        net.move("MaxPool", [net.codes(x, True)], shape, True, **window)
    else:
        net.check_shape(y, shape)
        net.clip(net.node("MaxPool", [net.codes(x, True)], **window), y, True, limits)


@translates("MEAN")
def mean(net: Network) -> None:
    """The mean over axes, a real number, rounded."""
    x = net.activation(net.tensor(0))
    rank = len(x.shape)
    given = net.numbers(1, "axes")
    if any(not -rank <= a < rank for a in given):
        raise Unsupported(f"its axes {given} are outside of {rank} axes")
    axes = sorted({a % rank for a in given})
    keep = bool(net.option("KeepDims"))
    shape = tuple(1 if a in axes else s for a, s in enumerate(x.shape) if keep or a not in axes)
    inner = rank == 4 and (keep or (net.has(x, True) and axes == [1, 2]))
    at = [first((0, 1, 2, 3)).index(a) for a in axes] if inner else axes
    if not axes:
        net.quantize(net.real(x), x.shape)
        return
    real = net.node(
        "ReduceMean", [net.real(x, inner), net.constant("axes", np.array(at, np.int64))], keepdims=int(keep)
    )
    net.quantize(real, shape, inner and keep)
