"""Networks of well-known architectures, float ONNX files of random weights that `onnxruntime.quantization` quantizes.

resnet18, mobilenet_v2, efficientnet_b0, googlenet   image classifiers, as wide and deep as in papers
cnv           FINN's convolutional network for 32x32 pixels: six 3x3 convolutions, two max pools, three dense layers
yolo          a detector of the kind of YOLOv8n: SiLU, C2f blocks, SPPF, two upsamplings, three heads
vit, swin     small transformers on 64x64 pixels: 4 blocks of width 192; windows of 4, shifted, in two stages
perceptron    784>512>512>10

Batch normalisations are folded already. Quantized: QDQ, uint8 activations with zero points, int8 weights, one scale a
channel.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]


class Sketch:
    """A float network that grows node by node; shapes are known throughout. Tensors go by name."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        """An input `x`."""
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {"x": shape}

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """An initializer."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op: str, *inputs: str, shape: tuple[int, ...] | None = None, **attributes: Any) -> str:
        """A node; its output has the shape of its first input if none is given."""
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        self.shapes[name] = self.shapes[inputs[0]] if shape is None else shape
        return name

    def conv(self, x: str, out: int, kernel: int = 3, stride: int = 1, group: int = 1, pad: int | None = None) -> str:
        """A square convolution with a bias."""
        n, c, h, w = self.shapes[x]
        pad = kernel // 2 if pad is None else pad
        fan = c // group * kernel**2
        weight = self.constant(self.rng.normal(0, np.sqrt(2 / fan), (out, c // group, kernel, kernel)))
        bias = self.constant(self.rng.normal(0, 0.1, out))
        shape = (n, out, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1)
        at = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "group": group}
        return self.node("Conv", x, weight, bias, shape=shape, **at)

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.node("Relu", x)

    def relu6(self, x: str) -> str:
        """x within 0..6."""
        return self.node("Clip", x, self.constant(0), self.constant(6))

    def silu(self, x: str) -> str:
        """x * sigmoid(x)."""
        return self.node("Mul", x, self.node("Sigmoid", x))

    def gelu(self, x: str) -> str:
        """x / 2 * (1 + erf(x / sqrt 2)), as exporters write it."""
        e = self.node("Erf", self.node("Div", x, self.constant(np.sqrt(2))))
        return self.node("Mul", self.node("Mul", x, self.node("Add", e, self.constant(1))), self.constant(0.5))

    def pool(self, x: str, kernel: int, stride: int, pad: int = 0) -> str:
        """A maximum over squares."""
        n, c, h, w = self.shapes[x]
        shape = (n, c, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1)
        return self.node("MaxPool", x, shape=shape, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def mean(self, x: str) -> str:
        """Of height and width, each of size 1 behind it."""
        return self.node("GlobalAveragePool", x, shape=(*self.shapes[x][:2], 1, 1))

    def add(self, a: str, b: str) -> str:
        """The sum."""
        return self.node("Add", a, b)

    def concat(self, *parts: str) -> str:
        """Along channels."""
        n, _, *rest = self.shapes[parts[0]]
        return self.node("Concat", *parts, shape=(n, sum(self.shapes[p][1] for p in parts), *rest), axis=1)

    def upsample(self, x: str) -> str:
        """Twice the height and width, nearest neighbour."""
        n, c, h, w = self.shapes[x]
        how = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
        return self.node("Resize", x, "", self.constant([1, 1, 2, 2]), shape=(n, c, 2 * h, 2 * w), **how)

    def dense(self, x: str, out: int) -> str:
        """Of (batch, features)."""
        batch, depth = self.shapes[x]
        weight = self.constant(self.rng.normal(0, np.sqrt(2 / depth), (out, depth)))
        return self.node("Gemm", x, weight, self.constant(self.rng.normal(0, 0.1, out)), shape=(batch, out), transB=1)

    def linear(self, x: str, out: int, gain: float = 1.0) -> str:
        """Of the last axis: MatMul and Add."""
        *batch, depth = self.shapes[x]
        weight = self.constant(self.rng.normal(0, gain * np.sqrt(1 / depth), (depth, out)))
        made = self.node("MatMul", x, weight, shape=(*batch, out))
        return self.node("Add", made, self.constant(self.rng.normal(0, 0.02, out)))

    def norm(self, x: str) -> str:
        """LayerNormalization of the last axis."""
        size = self.shapes[x][-1]
        scale, bias = 1 + self.rng.normal(0, 0.1, size), self.rng.normal(0, 0.1, size)
        return self.node("LayerNormalization", x, self.constant(scale), self.constant(bias), axis=-1, epsilon=1e-6)

    def reshape(self, x: str, *shape: int) -> str:
        """The same elements in another shape."""
        return self.node("Reshape", x, self.constant(shape, np.int64), shape=shape)

    def transpose(self, x: str, *perm: int) -> str:
        """Axes in another order."""
        return self.node("Transpose", x, shape=tuple(self.shapes[x][p] for p in perm), perm=list(perm))

    def part(self, x: str, axis: int, begin: int, end: int) -> str:
        """Positions begin..end - 1 along an axis."""
        shape = list(self.shapes[x])
        shape[axis] = end - begin
        whole = [self.constant([v], np.int64) for v in (begin, end, axis)]
        return self.node("Slice", x, *whole, shape=tuple(shape))

    def flat(self, x: str) -> str:
        """(batch, features)."""
        return self.node("Flatten", x, shape=(self.shapes[x][0], int(np.prod(self.shapes[x][1:]))))

    def attention(self, x: str, heads: int) -> str:
        """Self-attention of (batch, tokens, width) with a projection behind it."""
        b, t, c = self.shapes[x]
        d = c // heads
        joint = self.transpose(self.reshape(self.linear(x, 3 * c, 1.5), b, t, 3, heads, d), 2, 0, 3, 1, 4)
        q, k, v = (self.reshape(self.part(joint, 0, i, i + 1), b, heads, t, d) for i in range(3))
        scores = self.node("MatMul", q, self.transpose(k, 0, 1, 3, 2), shape=(b, heads, t, t))
        weights = self.node("Softmax", self.node("Mul", scores, self.constant(d**-0.5)), axis=-1)
        mixed = self.transpose(self.node("MatMul", weights, v, shape=(b, heads, t, d)), 0, 2, 1, 3)
        return self.linear(self.reshape(mixed, b, t, c), c)

    def feed_forward(self, x: str, ratio: int = 4) -> str:
        """Two linear layers with a GELU between."""
        width = self.shapes[x][-1]
        return self.linear(self.gelu(self.linear(x, ratio * width)), width)

    def finished(self, *outputs: str) -> onnx.ModelProto:
        """The model; outputs are called y, y1, y2 ..."""
        ends = []
        for i, name in enumerate(outputs):
            ends.append(f"y{i or ''}")
            self.nodes.append(helper.make_node("Identity", [name], [ends[-1]], ends[-1]))
        infos = [
            helper.make_tensor_value_info(e, TensorProto.FLOAT, self.shapes[n])
            for e, n in zip(ends, outputs, strict=True)
        ]
        first = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shapes["x"])
        graph = helper.make_graph(self.nodes, "drawn", [first], infos, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resnet18(size: int = 224) -> onnx.ModelProto:
    """ResNet-18."""
    s = Sketch((1, 3, size, size), 10)
    x = s.pool(s.relu(s.conv("x", 64, 7, 2)), 3, 2, 1)
    for width, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            y = s.conv(s.relu(s.conv(x, width, 3, stride)), width)
            x = s.relu(s.add(y, x if stride == 1 and s.shapes[x][1] == width else s.conv(x, width, 1, stride)))
    return s.finished(s.dense(s.flat(s.mean(x)), 1000))


def mobilenet_v2(size: int = 224) -> onnx.ModelProto:
    """MobileNetV2."""
    s = Sketch((1, 3, size, size), 11)
    x = s.relu6(s.conv("x", 32, 3, 2))
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for ratio, width, depth, first in plan:
        for stride in (first, *[1] * (depth - 1)):
            inner = s.shapes[x][1] * ratio
            y = x if ratio == 1 else s.relu6(s.conv(x, inner, 1))
            y = s.conv(s.relu6(s.conv(y, inner, 3, stride, group=inner)), width, 1)
            x = s.add(x, y) if s.shapes[x] == s.shapes[y] else y
    return s.finished(s.dense(s.flat(s.mean(s.relu6(s.conv(x, 1280, 1)))), 1000))


def efficientnet_b0(size: int = 64) -> onnx.ModelProto:
    """EfficientNet-B0, its squeeze-and-excitation among it."""
    s = Sketch((1, 3, size, size), 12)
    x = s.silu(s.conv("x", 32, 3, 2))
    early = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3))
    late = ((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))
    for ratio, width, depth, first, kernel in (*early, *late):
        for stride in (first, *[1] * (depth - 1)):
            outer = s.shapes[x][1]
            y = x if ratio == 1 else s.silu(s.conv(x, outer * ratio, 1))
            y = s.silu(s.conv(y, outer * ratio, kernel, stride, group=outer * ratio))
            gate = s.conv(s.silu(s.conv(s.mean(y), max(1, outer // 4), 1)), outer * ratio, 1)
            y = s.conv(s.node("Mul", y, s.node("Sigmoid", gate)), width, 1)
            x = s.add(x, y) if s.shapes[x] == s.shapes[y] else y
    return s.finished(s.dense(s.flat(s.mean(s.silu(s.conv(x, 1280, 1)))), 1000))


def googlenet(size: int = 96) -> onnx.ModelProto:
    """GoogLeNet without its training heads."""
    s = Sketch((1, 3, size, size), 13)

    def conv(x: str, *args: int) -> str:
        return s.relu(s.conv(x, *args))

    def inception(x: str, a: int, b1: int, b3: int, c1: int, c3: int, d: int) -> str:
        parts = conv(x, a, 1), conv(conv(x, b1, 1), b3, 3), conv(conv(x, c1, 1), c3, 3), conv(s.pool(x, 3, 1, 1), d, 1)
        return s.concat(*parts)

    x = s.pool(conv("x", 64, 7, 2), 3, 2, 1)
    x = s.pool(conv(conv(x, 64, 1), 192, 3), 3, 2, 1)
    x = inception(inception(x, 64, 96, 128, 16, 32, 32), 128, 128, 192, 32, 96, 64)
    x = inception(s.pool(x, 3, 2, 1), 192, 96, 208, 16, 48, 64)
    x = inception(inception(x, 160, 112, 224, 24, 64, 64), 128, 128, 256, 24, 64, 64)
    x = inception(inception(x, 112, 144, 288, 32, 64, 64), 256, 160, 320, 32, 128, 128)
    x = inception(s.pool(x, 2, 2), 256, 160, 320, 32, 128, 128)
    x = inception(x, 384, 192, 384, 48, 128, 128)
    return s.finished(s.dense(s.flat(s.mean(x)), 1000))


def cnv(size: int = 32) -> onnx.ModelProto:
    """CNV."""
    s = Sketch((1, 3, size, size), 14)
    x = "x"
    for width, pooled in ((64, False), (64, True), (128, False), (128, True), (256, False), (256, False)):
        x = s.relu(s.conv(x, width, 3, pad=0))
        x = s.pool(x, 2, 2) if pooled else x
    x = s.relu(s.dense(s.relu(s.dense(s.flat(x), 512)), 512))
    return s.finished(s.dense(x, 10))


def yolo(size: int = 64) -> onnx.ModelProto:
    """A detector like YOLOv8n."""
    s = Sketch((1, 3, size, size), 15)

    def conv(x: str, out: int, kernel: int = 3, stride: int = 1) -> str:
        return s.silu(s.conv(x, out, kernel, stride))

    def c2f(x: str, out: int, depth: int, shortcut: bool) -> str:
        whole, half = conv(x, out, 1), out // 2
        parts = [s.part(whole, 1, 0, half), s.part(whole, 1, half, out)]
        for _ in range(depth):
            y = conv(conv(parts[-1], half), half)
            parts.append(s.add(parts[-1], y) if shortcut else y)
        return conv(s.concat(*parts), out, 1)

    x = c2f(conv(conv("x", 16, 3, 2), 32, 3, 2), 32, 1, True)
    p3 = c2f(conv(x, 64, 3, 2), 64, 2, True)
    p4 = c2f(conv(p3, 128, 3, 2), 128, 2, True)
    x = conv(c2f(conv(p4, 256, 3, 2), 256, 1, True), 128, 1)
    pools = [x]
    for _ in range(3):
        pools.append(s.pool(pools[-1], 5, 1, 2))
    p5 = conv(s.concat(*pools), 256, 1)
    n4 = c2f(s.concat(s.upsample(p5), p4), 128, 1, False)
    n3 = c2f(s.concat(s.upsample(n4), p3), 64, 1, False)
    m4 = c2f(s.concat(conv(n3, 64, 3, 2), n4), 128, 1, False)
    m5 = c2f(s.concat(conv(m4, 128, 3, 2), p5), 256, 1, False)
    heads = []
    for x in (n3, m4, m5):
        box, kinds = (s.conv(conv(conv(x, w), w), out, 1) for w, out in ((64, 64), (80, 80)))
        both = s.concat(box, s.node("Sigmoid", kinds))
        n, c, h, w = s.shapes[both]
        heads.append(s.reshape(both, n, c, h * w))
    n, c, _ = s.shapes[heads[0]]
    whole = s.node("Concat", *heads, shape=(n, c, sum(s.shapes[h][2] for h in heads)), axis=2)
    return s.finished(whole)


def vit(size: int = 64) -> onnx.ModelProto:
    """A vision transformer: patches of 8, no class token, mean of tokens."""
    s, width = Sketch((1, 3, size, size), 16), 192
    x = s.conv("x", width, 8, 8, pad=0)
    tokens = int(np.prod(s.shapes[x][2:]))
    x = s.transpose(s.reshape(x, 1, width, tokens), 0, 2, 1)
    x = s.node("Add", x, s.constant(s.rng.normal(0, 0.1, (1, tokens, width))))
    for _ in range(4):
        x = s.add(x, s.attention(s.norm(x), 3))
        x = s.add(x, s.feed_forward(s.norm(x)))
    x = s.node("ReduceMean", s.norm(x), shape=(1, width), axes=[1], keepdims=0)
    return s.finished(s.dense(x, 1000))


def swin(size: int = 64, window: int = 4) -> onnx.ModelProto:
    """A transformer of shifted windows: two stages of two blocks, patches merged between; no bias by position."""
    s, width = Sketch((1, 3, size, size), 17), 48
    x = s.transpose(s.conv("x", width, 4, 4, pad=0), 0, 2, 3, 1)

    def rolled(x: str, by: int) -> str:
        for axis in (1, 2):
            n = s.shapes[x][axis]
            cut = by % n
            parts = s.part(x, axis, cut, n), s.part(x, axis, 0, cut)
            x = s.node("Concat", *parts, shape=s.shapes[x], axis=axis)
        return x

    for stage in range(2):
        _, h, w, c = s.shapes[x]
        for shift in (0, window // 2):
            y = s.norm(x)
            y = rolled(y, shift) if shift else y
            y = s.transpose(s.reshape(y, h // window, window, w // window, window, c), 0, 2, 1, 3, 4)
            y = s.attention(s.reshape(y, h * w // window**2, window**2, c), c // 16)
            y = s.transpose(s.reshape(y, h // window, w // window, window, window, c), 0, 2, 1, 3, 4)
            y = s.reshape(y, 1, h, w, c)
            x = s.add(x, rolled(y, -shift) if shift else y)
            x = s.add(x, s.feed_forward(s.norm(x)))
        if not stage:
            y = s.transpose(s.reshape(x, h // 2, 2, w // 2, 2, c), 0, 2, 1, 3, 4)
            x = s.linear(s.norm(s.reshape(y, 1, h // 2, w // 2, 4 * c)), 2 * c)
    _, h, w, c = s.shapes[x]
    x = s.reshape(s.norm(x), 1, h * w, c)
    return s.finished(s.dense(s.node("ReduceMean", x, shape=(1, c), axes=[1], keepdims=0), 1000))


def perceptron(batch: int = 64) -> onnx.ModelProto:
    """Three dense layers."""
    s = Sketch((batch, 784), 18)
    return s.finished(s.dense(s.relu(s.dense(s.relu(s.dense("x", 512)), 512)), 10))


class Architecture(NamedTuple):
    """A float network, and the types that ONNX Runtime's quantizer gives activations and weights."""

    make: Callable[[], onnx.ModelProto]
    activations: str = "QUInt8"
    weights: str = "QInt8"


ARCHITECTURES = {
    "resnet18_224": Architecture(resnet18),
    "mobilenet_v2_224": Architecture(mobilenet_v2),
    "cnv_32": Architecture(cnv),
    "googlenet_96": Architecture(googlenet),
    "efficientnet_b0_64": Architecture(efficientnet_b0),
    "yolo_64": Architecture(yolo),
    "vit_64": Architecture(vit),
    "swin_64": Architecture(swin),
    "perceptron_64": Architecture(perceptron),
    "perceptron_1": Architecture(lambda: perceptron(1)),
    "mobilenet_v2_224_u8u8": Architecture(mobilenet_v2, weights="QUInt8"),
    "cnv_32_a16w8": Architecture(cnv, activations="QUInt16"),
}


def drawn_input(model: onnx.ModelProto, seed: int) -> Floats:
    """Codes of bytes over 255, smooth for images."""
    from bench.networks import image

    shape = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    values = image(shape, seed) if len(shape) == 4 else np.random.default_rng(seed).random(shape)
    return (np.rint(values * 255) / 255).astype(np.float32)


def quantized(name: str) -> onnx.ModelProto:
    """The QDQ form of a network, calibrated on two drawn inputs; signed weights have a scale a channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Drawn(CalibrationDataReader):
        """Two inputs."""

        def __init__(self) -> None:
            self.left: Iterator[dict[str, Floats]] = iter([{"x": drawn_input(model, seed)} for seed in range(2)])

        def get_next(self) -> Any:
            return next(self.left, None)

    asked = ARCHITECTURES[name]
    model = asked.make()
    with tempfile.TemporaryDirectory() as folder:
        source, target = (os.path.join(folder, name) for name in ("float.onnx", "qdq.onnx"))
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            Drawn(),
            quant_format=QuantFormat.QDQ,
            per_channel=asked.weights == "QInt8",
            activation_type=QuantType[asked.activations],
            weight_type=QuantType[asked.weights],
        )
        return onnx.load(target)


def architecture(name: str, folder: Path) -> tuple[onnx.ModelProto, dict[str, Floats]]:
    """A quantized network, made once and kept in `folder`, and an input."""
    path = folder / f"{name}.qdq.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_bytes(quantized(name).SerializeToString())
        draft.replace(path)
    model = onnx.load(path)
    return model, {"x": drawn_input(model, 9)}
