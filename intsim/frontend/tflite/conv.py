"""CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV and FULLY_CONNECTED.

Weights are int8 with a scale for each output channel, or for all; a bias is the integer that the accumulator begins
with, in units of input scale x weight scale, whatever scale the file states for it: kernels add it as it is
(tensorflow/lite/kernels/internal/reference/integer_ops/conv.h).
"""

from __future__ import annotations

import math

import numpy as np

from intsim.frontend.tflite.activations import bounds
from intsim.frontend.tflite.file import FileTensor
from intsim.frontend.tflite.network import FULL_INTEGER, Network, Unsupported
from intsim.frontend.tflite.registry import translates
from intsim.frontend.tflite.window import output_size, padding, strides

HALF = 31
"""Bits of the lower part of a bias that 32 bits don't hold."""


def weights(net: Network, position: int, channel_axis: int, x: FileTensor, symmetric: bool = True) -> FileTensor:
    """A constant weight tensor with one scale, or one for each index of `channel_axis`, that meets activations `x`."""
    w = net.tensor(position)
    if w.data is None:
        raise Unsupported(f"its weights {w.name} are computed at run time; only constant weights are supported")
    if w.kind not in ("INT8", "UINT8", "INT4") or not w.quantized:
        raise Unsupported(f"its weights {w.name} are {w.kind.lower()}, not quantized to 8 or 4 bits; {FULL_INTEGER}")
    if (w.kind == "UINT8") != (x.kind == "UINT8"):
        raise Unsupported(
            f"its weights {w.name} are {w.kind.lower()}, its input {x.kind.lower()}; uint8 goes with uint8, "
            "int8 and int16 with signed weights"
        )
    if w.scales.size > 1 and w.axis != channel_axis:
        raise Unsupported(f"its weights {w.name} have scales along axis {w.axis}; output channels are {channel_axis}")
    if symmetric and w.kind != "UINT8" and w.zeros.any():
        raise Unsupported(f"its weights {w.name} have a zero point, which signed weights may not have")
    return w


def dequantized(net: Network, w: FileTensor, array: np.ndarray, axis: int) -> str:
    """Weights, laid out as ONNX wants them with the output channels on `axis`, as real numbers."""
    codes = net.constant("weights", array, nibbles=w.kind == "INT4")
    if w.scales.size == 1:
        inputs = [codes, net.constant("weight_scale", w.scales.reshape(()))]
    else:
        inputs = [codes, net.constant("weight_scale", w.scales)]
    if w.zeros.any():
        zeros = w.zeros.astype(array.dtype)
        inputs.append(net.constant("weight_zero", zeros.reshape(()) if w.scales.size == 1 else zeros))
    return net.node("DequantizeLinear", inputs, axis=axis)


def bias_parts(net: Network, position: int, x: FileTensor, w: FileTensor, channels: int) -> list[str]:
    """The bias as real numbers: b x (input scale) x (weight scale), exactly; two summands where 32 bits are too few."""
    if not net.given(position):
        return []
    b = net.tensor(position)
    if b.data is None or b.kind not in ("INT32", "INT64"):
        raise Unsupported(f"its bias {b.name} is not a constant of 32 or 64 bits")
    if b.shape != (channels,):
        raise Unsupported(f"its bias {b.name} has shape {list(b.shape)}, it has {channels} output channels")
    if b.zeros.any():
        raise Unsupported(f"its bias {b.name} has a zero point; a bias is added to the accumulator as it is")
    codes = b.data.astype(np.int64)
    high = (codes + (1 << (HALF - 1))) >> HALF
    if np.abs(codes).max() < 1 << HALF:
        return [_bias(net, codes, x, w, 1.0)]
    if np.abs(codes).max() >= 1 << 61:
        raise Unsupported(f"its bias {b.name} needs more than 62 bits")
    return [_bias(net, codes - (high << HALF), x, w, 1.0), _bias(net, high, x, w, 2.0**HALF)]


def _bias(net: Network, codes: np.ndarray, x: FileTensor, w: FileTensor, unit: float) -> str:
    # the product of two float32 scales is no float32: two factors keep it exact
    scale = net.constant("bias_scale", x.scales.reshape(()))
    real = net.node("DequantizeLinear", [net.constant("bias", codes.astype(np.int32)), scale])
    with np.errstate(over="ignore"):  # an infinite one is refused when the constant is read
        factor = w.scales * np.float32(unit)
    factor = factor.reshape(()) if w.scales.size == 1 else factor
    return net.node("Mul", [real, net.constant("bias_factor", factor)])


def _rest(net: Network, y: str, parts: list[str], shape: list[int]) -> str:
    """`y` with what of the bias the operator itself didn't take."""
    for part in parts[1:]:
        sides = net.node("Reshape", [part, net.constant("shape", np.array(shape, np.int64))])
        y = net.node("Add", [y, sides])
    return y


def _limits(net: Network) -> tuple[int, int] | None:
    return bounds(net.option("FusedActivationFunction"), net.activation(net.output()))


def image(net: Network, position: int = 0) -> FileTensor:
    """An activation of shape N, H, W, C."""
    x = net.activation(net.tensor(position))
    if len(x.shape) != 4:
        raise Unsupported(f"its input {x.name} has shape {list(x.shape)}, not N, H, W, C")
    return x


@translates("CONV_2D", "DEPTHWISE_CONV_2D")
def conv(net: Network) -> None:
    """Weights O, kh, kw, I (in groups, where I divides the input's channels) or, depthwise, 1, kh, kw, C x multiplier.

    A depthwise output channel c reads input channel c // multiplier.
    """
    assert net.at is not None
    x = image(net)
    depthwise = net.at.kind == "DEPTHWISE_CONV_2D"
    w = weights(net, 1, 3 if depthwise else 0, x)
    if len(w.shape) != 4:
        raise Unsupported(f"its weights {w.name} have shape {list(w.shape)}, not 4 axes")
    assert w.data is not None
    n, height, width, c = x.shape
    if depthwise:
        one, kh, kw, channels = w.shape
        groups = c
        if one != 1 or channels % c:
            raise Unsupported(f"its weights have shape {list(w.shape)}, its input {c} channels")
        if net.option("DepthMultiplier") not in (0, channels // c):
            multiplier = net.option("DepthMultiplier")
            raise Unsupported(f"its depth multiplier is {multiplier}, its weights make {channels // c} of each channel")
        array = w.data[0].transpose(2, 0, 1)[:, None]
    else:
        channels, kh, kw, per_group = w.shape
        groups = c // per_group
        if c % per_group or channels % groups:
            raise Unsupported(f"its weights have shape {list(w.shape)}, its input {c} channels")
        array = w.data.transpose(0, 3, 1, 2)
    step = strides(net)
    dilation = [net.option("DilationHFactor"), net.option("DilationWFactor")]
    if min(dilation) < 1:
        raise Unsupported(f"its dilations are {dilation}")
    sizes = (height, width), (kh, kw), step, dilation
    pads = padding(net, *sizes)
    out = output_size(net, *sizes)
    parts = bias_parts(net, 2, x, w, channels)
    inputs = [net.real(x, True), dequantized(net, w, array, 0), *parts[:1]]
    y = net.node("Conv", inputs, group=groups, strides=step, dilations=dilation, pads=pads)
    y = _rest(net, y, parts, [1, channels, 1, 1])
    net.quantize(y, (n, *out, channels), True, _limits(net))


@translates("TRANSPOSE_CONV")
def transpose_conv(net: Network) -> None:
    """Inputs: the output's shape, weights O, kh, kw, I, activations, bias.

    Its padding is that of the convolution that goes the other way (tensorflow/lite/kernels/transpose_conv.cc).
    """
    shape = net.numbers(0, "output shape")
    x = image(net, 2)
    w = weights(net, 1, 0, x)
    if len(w.shape) != 4 or w.shape[3] != x.shape[3] or len(shape) != 4:
        raise Unsupported(f"its weights have shape {list(w.shape)}, its input {list(x.shape)}, its output {shape}")
    assert w.data is not None
    channels, *kernel, _ = w.shape
    step = strides(net)
    if shape[0] != x.shape[0] or shape[3] != channels or min(shape) < 1:
        raise Unsupported(f"its output shape {shape} doesn't fit {x.shape[0]} images and {channels} channels")
    pads = padding(net, shape[1:3], kernel, step, [1, 1])
    if output_size(net, shape[1:3], kernel, step, [1, 1]) != x.shape[1:3]:
        raise Unsupported(f"its output shape {shape} is not what a convolution makes {list(x.shape)} of")
    extra = []
    for i in range(2):
        full = (x.shape[1 + i] - 1) * step[i] + kernel[i]
        end = full - pads[i] - shape[1 + i]
        pads[2 + i] = max(end, 0)
        extra.append(max(-end, 0))
    parts = bias_parts(net, 3, x, w, channels)
    inputs = [net.real(x, True), dequantized(net, w, w.data.transpose(3, 0, 1, 2), 1), *parts[:1]]
    y = net.node("ConvTranspose", inputs, strides=step, pads=pads, output_padding=extra)
    y = _rest(net, y, parts, [1, channels, 1, 1])
    net.quantize(y, tuple(shape), True, _limits(net))


@translates("FULLY_CONNECTED")
def fully_connected(net: Network) -> None:
    """Rows of weights (N, K) times rows of K codes; leading axes are kept or run together."""
    x = net.activation(net.tensor(0))
    w = weights(net, 1, 0, x, symmetric=False)
    if net.option("WeightsFormat"):
        raise Unsupported("its weights are shuffled (SHUFFLED4x16INT8), which is not supported")
    if len(w.shape) != 2 or math.prod(x.shape) % w.shape[1]:
        raise Unsupported(f"its weights have shape {list(w.shape)}, its input {list(x.shape)}")
    assert w.data is not None
    channels, k = w.shape
    rows = math.prod(x.shape) // k
    keep = bool(net.option("KeepNumDims"))
    if keep and (not x.shape or x.shape[-1] != k):
        raise Unsupported(f"it keeps its input's axes {list(x.shape)}, of which the last is not {k}")
    codes = net.codes(x)
    if x.shape != (rows, k):
        codes = net.node("Reshape", [codes, net.constant("shape", np.array([rows, k], np.int64))])
    real = net.node("DequantizeLinear", [codes, *net.parameters(x)])
    parts = bias_parts(net, 2, x, w, channels)
    y = net.node("Gemm", [real, dequantized(net, w, w.data, 0), *parts[:1]], transB=1)
    y = _rest(net, y, parts, [1, channels])
    shape = (*x.shape[:-1], channels) if keep else (rows, channels)
    if shape != (rows, channels):
        y = net.node("Reshape", [y, net.constant("shape", np.array(shape, np.int64))])
    net.quantize(y, shape, False, _limits(net))
