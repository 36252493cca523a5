"""Networks as the field publishes them, in QONNX, at full size: what loading and proving are measured on.

lfc             784>1024>1024>1024>10 of 1 bit, BatchNormalization between (BNN-PYNQ)
cnv             3x3 convolutions 64 64 128 128 256 256, 512>512>10, of 1 bit, on 3x32x32 (BNN-PYNQ)
mobilenet_v1    depthwise and 1x1 convolutions 32..1024, weights and activations of 4 bits, on 3x224x224
resnet18        weights and activations of 8 bits, quantized residual additions
efficientnet_b0 16 blocks with squeeze and excitation, SiLU and Sigmoid between quantizers of 8 bits

Weights are drawn from a seed. Nothing is calibrated: BatchNormalization holds the variance that independent operands
have, so that what it hands on has a deviation of about 1, and scales follow from that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bench.forms import QONNX, QonnxForm

REACH = 3.0
"""Deviations that a quantizer of activations covers."""


class Published(QonnxForm):
    """A network as it is written, node by node; `x` is its input."""

    def __init__(self, seed: int) -> None:
        """Without nodes."""
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.channels: dict[str, int] = {}
        self.square: dict[str, float] = {}

    def model(self, name: str, shape: tuple[int, ...], classes: int) -> onnx.ModelProto:
        """What was written, the last node's output being `y`."""
        self.nodes[-1].output[0] = "y"
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", (1, classes)))]
        graph = helper.make_graph(self.nodes, name, ends[:1], ends[1:], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid(QONNX, 2)])

    def known(self, output: str, channels: int, square: float) -> str:
        """Remember a tensor's channels and mean square."""
        self.channels[output], self.square[output] = channels, square
        return output

    def codes(self, x: str, name: str, bits: int = 8, signed: bool = False, reach: float = REACH) -> str:
        """A quantizer of activations; of one bit BipolarQuant."""
        if bits == 1:
            one = self.constant(f"{name}.one", 1.0)
            return self.known(self.node("BipolarQuant", [x, one], name, domain=QONNX), self.channels[x], 1.0)
        scale = reach / (2 ** (bits - signed) - 1)
        return self.known(self.quant(x, name, scale, bits, signed), self.channels[x], self.square[x])

    def drawn(self, shape: tuple[int, ...], name: str, bits: int) -> str:
        """Quantized weights, a scale each channel; of one bit all of scale 1."""
        values = self.rng.normal(size=shape).astype(np.float32)
        first = self.constant(f"{name}.w", values)
        if bits == 1:
            return self.node("BipolarQuant", [first, self.constant(f"{name}.w.one", 1.0)], f"{name}.wq", domain=QONNX)
        top = np.abs(values).reshape(len(values), -1).max(1).reshape(-1, *[1] * (len(shape) - 1))
        return self.quant(first, f"{name}.wq", top / (2 ** (bits - 1) - 1), bits, True, True)

    def layer(
        self, x: str, name: str, channels: int, kernel: int = 0, stride: int = 1, *, bits: int = 8, pad: bool = True,
        depthwise: bool = False, relu: bool = False,
    ) -> str:  # fmt: skip
        """A convolution, or with `kernel` 0 a matrix product, and its BatchNormalization."""
        inputs = self.channels[x]
        group = inputs if depthwise else 1
        shape = (channels, inputs // group, kernel, kernel) if kernel else (channels, inputs)
        weights = self.drawn(shape, name, bits)
        at = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "group": group, "pads": [kernel // 2 * pad] * 4}
        if kernel:
            out = self.node("Conv", [x, weights], f"{name}.sums", **at)
        else:
            out = self.node("Gemm", [x, weights], f"{name}.sums", transB=1)
        variance = self.square[x] * float(np.prod(shape[1:]))
        given: dict[str, NDArray[Any]] = {
            "gamma": self.rng.uniform(0.7, 1.3, channels),
            "beta": self.rng.normal(0, 0.3, channels),
            "mean": self.rng.normal(0, 0.1, channels) * np.sqrt(variance),
            "var": variance * self.rng.uniform(0.7, 1.3, channels),
        }
        parts = [self.constant(f"{name}.{k}", v) for k, v in given.items()]
        out = self.node("BatchNormalization", [out, *parts], f"{name}.bn", epsilon=1e-5)
        out = self.node("Relu", [out], f"{name}.relu") if relu else out
        return self.known(out, channels, 0.5 if relu else 1.0)

    def then(self, op: str, x: str, name: str, square: float, **attributes: Any) -> str:
        """An operator of one input that keeps channels."""
        return self.known(self.node(op, [x], name, **attributes), self.channels[x], square)

    def pair(self, op: str, a: str, b: str, name: str, square: float) -> str:
        """An operator of two tensors."""
        return self.known(self.node(op, [a, b], name), self.channels[a], square)

    def switched(self, x: str, name: str) -> str:
        """SiLU of a quantized tensor, quantized."""
        gate = self.then("Sigmoid", x, f"{name}.gate", 0.3)
        return self.codes(self.pair("Mul", x, gate, f"{name}.silu", 0.35), name, signed=True)


def lfc() -> onnx.ModelProto:
    """LFC 1W1A."""
    n = Published(11)
    x = n.codes(n.known("x", 784, 1.0), "in", 1)
    for i in range(3):
        x = n.codes(n.layer(x, f"fc{i}", 1024, bits=1), f"act{i}", 1)
    n.layer(x, "fc3", 10, bits=1)
    return n.model("lfc", (1, 784), 10)


def cnv() -> onnx.ModelProto:
    """CNV 1W1A."""
    n = Published(12)
    x = n.codes(n.known("x", 3, 0.3), "in", signed=True, reach=1.0)
    for i, width in enumerate((64, 64, 128, 128, 256, 256)):
        x = n.codes(n.layer(x, f"conv{i}", width, 3, bits=1, pad=False), f"act{i}", 1)
        if i in (1, 3):
            x = n.then("MaxPool", x, f"pool{i}", 1.0, kernel_shape=[2, 2], strides=[2, 2])
    x = n.then("Flatten", x, "flat", 1.0)
    for i, width in enumerate((512, 512)):
        x = n.codes(n.layer(x, f"fc{i}", width, bits=1), f"fact{i}", 1)
    n.layer(x, "fc2", 10, bits=1)
    return n.model("cnv", (1, 3, 32, 32), 10)


def mobilenet_v1() -> onnx.ModelProto:
    """MobileNetV1 of 4 bits, its first weights of 8."""
    n = Published(13)
    x = n.codes(n.known("x", 3, 0.3), "in", reach=1.0)
    x = n.codes(n.layer(x, "stem", 32, 3, 2, relu=True), "act", 4)
    widths = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for i, (width, stride) in enumerate(widths):
        wide = n.channels[x]
        x = n.codes(n.layer(x, f"b{i}.dw", wide, 3, stride, bits=4, depthwise=True, relu=True), f"b{i}.dw.act", 4)
        x = n.codes(n.layer(x, f"b{i}.pw", width, 1, bits=4, relu=True), f"b{i}.pw.act", 4)
    x = n.codes(n.then("GlobalAveragePool", x, "mean", 0.2), "mean.act", 4, reach=1.5)
    n.layer(n.then("Flatten", x, "flat", 0.2), "top", 1000, bits=4)
    return n.model("mobilenet_v1", (1, 3, 224, 224), 1000)


def resnet18(side: int = 224) -> onnx.ModelProto:
    """ResNet-18 of 8 bits on 3 x side x side."""
    n = Published(14)
    x = n.codes(n.known("x", 3, 0.3), "in", reach=1.0)
    x = n.codes(n.layer(x, "stem", 64, 7, 2, relu=True), "act")
    x = n.then("MaxPool", x, "pool", 0.8, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for i, width in enumerate((64, 64, 128, 128, 256, 256, 512, 512)):
        stride = 2 if width != n.channels[x] else 1
        y = n.codes(n.layer(x, f"b{i}.a", width, 3, stride, relu=True), f"b{i}.a.act")
        y = n.codes(n.layer(y, f"b{i}.b", width, 3), f"b{i}.b.act", signed=True)
        if stride == 2:
            x = n.codes(n.layer(x, f"b{i}.down", width, 1, 2), f"b{i}.down.act", signed=True)
        total = n.pair("Add", x, y, f"b{i}.add", 2.0)
        x = n.codes(n.then("Relu", total, f"b{i}.relu", 1.0), f"b{i}", reach=2 * REACH)
    x = n.codes(n.then("GlobalAveragePool", x, "mean", 0.5), "mean.act", reach=2.0)
    n.layer(n.then("Flatten", x, "flat", 0.5), "top", 1000)
    return n.model("resnet18", (1, 3, side, side), 1000)


def efficientnet_b0(side: int = 224) -> onnx.ModelProto:
    """EfficientNet-B0 of 8 bits on 3 x side x side."""
    n = Published(15)
    x = n.codes(n.known("x", 3, 0.3), "in", reach=1.0)
    x = n.switched(n.codes(n.layer(x, "stem", 32, 3, 2), "stem.act", signed=True), "stem.out")
    stages = (
        *((1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2)),
        *((6, 112, 3, 5, 1), (6, 192, 4, 5, 2), (6, 320, 1, 3, 1)),
    )
    blocks = [(e, w, k, s if i == 0 else 1) for e, w, count, k, s in stages for i in range(count)]
    for i, (grow, width, kernel, stride) in enumerate(blocks):
        b, inside, y = f"b{i}", grow * n.channels[x], x
        if grow > 1:
            y = n.switched(n.codes(n.layer(y, f"{b}.up", inside, 1), f"{b}.up.act", signed=True), f"{b}.up.out")
        y = n.layer(y, f"{b}.dw", inside, kernel, stride, depthwise=True)
        y = n.switched(n.codes(y, f"{b}.dw.act", signed=True), f"{b}.dw.out")
        z = n.codes(n.then("GlobalAveragePool", y, f"{b}.mean", 0.1), f"{b}.mean.act", signed=True, reach=1.5)
        z = n.layer(z, f"{b}.squeeze", max(n.channels[x] // 4, 1), 1)
        z = n.switched(n.codes(z, f"{b}.squeeze.act", signed=True), f"{b}.squeeze.out")
        z = n.codes(n.layer(z, f"{b}.excite", inside, 1), f"{b}.excite.act", signed=True)
        z = n.codes(n.then("Sigmoid", z, f"{b}.gate", 0.3), f"{b}.gate.act", reach=1.0)
        y = n.codes(n.pair("Mul", y, z, f"{b}.gated", 0.1), f"{b}.gated.act", signed=True, reach=2.0)
        y = n.codes(n.layer(y, f"{b}.down", width, 1), f"{b}.down.act", signed=True)
        if width == n.channels[x] and stride == 1:
            y = n.codes(n.pair("Add", x, y, f"{b}.add", 1.5), b, signed=True, reach=2 * REACH)
        x = y
    x = n.switched(n.codes(n.layer(x, "head", 1280, 1), "head.act", signed=True), "head.out")
    x = n.codes(n.then("GlobalAveragePool", x, "mean", 0.1), "mean.act", signed=True, reach=1.5)
    n.layer(n.then("Flatten", x, "flat", 0.1), "top", 1000)
    return n.model("efficientnet_b0", (1, 3, side, side), 1000)


PUBLISHED: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f for f in (lfc, cnv, mobilenet_v1, resnet18, efficientnet_b0)
}
