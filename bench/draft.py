"""A quantized network as a list of layers, from which every ONNX form is written.

Weights are drawn from a seed, int8 and symmetric per output channel; activations are uint8 with one scale a tensor,
taken from the maximum that a float run of a small input shows; biases are int32 at input scale x weight scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One operator and the quantizer behind it.

    `op` is conv, dense, upsample, concat, add or mean. `codes` (O, I/group, kh, kw) or (O, I) int8, `weight_scale` (O,)
    and `bias` (O,) int32 belong to conv and dense. `scale` is the output's. upsample and concat have no quantizer.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    scale: np.float32
    codes: NDArray[np.int8] | None = None
    weight_scale: Floats | None = None
    bias: NDArray[np.int32] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    relu: bool = False
    signed: bool = False


def float_node(op: str, inputs: list[Floats], **attributes: Any) -> Floats:
    """One float32 operator, by ONNX Runtime on one thread."""
    names = [f"i{n}" for n in range(len(inputs))]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in zip(names, inputs, strict=True)]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(op, names, ["y"], **attributes)], "one", values, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


class Draft:
    """A network that grows layer by layer and calibrates each as it comes."""

    def __init__(self, name: str, image: Floats, seed: int) -> None:
        """Start with an input of uint8 codes at scale 1/255; `image` (batch first, 0..1) calibrates."""
        self.name, self.rng = name, np.random.default_rng(seed)
        self.layers: list[Layer] = []
        self.scales: dict[str, np.float32] = {"x": np.float32(1 / 255)}
        self.seen: dict[str, Floats] = {"x": image}
        self.input_shape = image.shape

    def _add(self, layer: Layer, value: Floats, scale: np.float32 | None, quantized: bool = True) -> str:
        if layer.relu:
            value = np.maximum(value, 0)
        if quantized and scale is None:
            scale = np.float32(np.abs(value).max() / (127 if layer.signed else 255))
        assert scale is not None
        if quantized:
            low, high = (-128, 127) if layer.signed else (0, 255)
            value = np.clip(np.rint(value / scale), low, high).astype(np.float32) * scale
        self.layers.append(replace(layer, scale=scale))
        self.scales[layer.name], self.seen[layer.name] = scale, value
        return layer.name

    def _weights(self, shape: tuple[int, ...], input_scale: np.float32) -> dict[str, Any]:
        fan = int(np.prod(shape[1:]))
        drawn = self.rng.normal(0, np.sqrt(2 / fan), shape).astype(np.float32)
        scale = np.abs(drawn).reshape(shape[0], -1).max(1) / np.float32(127)
        codes = np.rint(drawn / scale.reshape(-1, *[1] * (len(shape) - 1))).astype(np.int8)
        bias = np.rint(self.rng.normal(0, 0.05, shape[0]) / (scale * input_scale)).astype(np.int32)
        return {"codes": codes, "weight_scale": scale, "bias": bias}

    def conv(
        self, x: str, name: str, channels: int, kernel: int = 3, stride: int = 1, *, depthwise: bool = False,
        relu: bool = True, signed: bool = False, scale: np.float32 | None = None,
    ) -> str:  # fmt: skip
        """A square convolution padded by kernel // 2."""
        inputs, pad = self.seen[x].shape[1], kernel // 2
        group = inputs if depthwise else 1
        parts = self._weights((channels, inputs // group, kernel, kernel), self.scales[x])
        attributes = {
            "dilations": [1, 1],
            "group": group,
            "kernel_shape": [kernel] * 2,
            "pads": [pad] * 4,
            "strides": [stride] * 2,
        }
        layer = Layer(name, "conv", (x,), np.float32(1), **parts, attributes=attributes, relu=relu, signed=signed)
        given = [self.seen[x], *real_weights(layer, self.scales[x])]
        return self._add(layer, float_node("Conv", given, **attributes), scale)

    def dense(self, x: str, name: str, channels: int, *, relu: bool = True, signed: bool = False) -> str:
        """A fully connected layer of (batch, features)."""
        parts = self._weights((channels, self.seen[x].shape[1]), self.scales[x])
        layer = Layer(name, "dense", (x,), np.float32(1), **parts, attributes={"transB": 1}, relu=relu, signed=signed)
        given = [self.seen[x], *real_weights(layer, self.scales[x])]
        return self._add(layer, float_node("Gemm", given, transB=1), None)

    def upsample(self, x: str, name: str) -> str:
        """Twice the height and width, nearest neighbour."""
        value = self.seen[x].repeat(2, 2).repeat(2, 3)
        return self._add(Layer(name, "upsample", (x,), np.float32(1)), value, self.scales[x], quantized=False)

    def concat(self, a: str, b: str, name: str) -> str:
        """Channels of a, then of b; both must have one scale."""
        assert self.scales[a] == self.scales[b], f"{a} and {b} need one scale"
        value = np.concatenate([self.seen[a], self.seen[b]], 1)
        return self._add(Layer(name, "concat", (a, b), np.float32(1)), value, self.scales[a], quantized=False)

    def add(self, a: str, b: str, name: str) -> str:
        """The sum, quantized anew; both must have one scale."""
        assert self.scales[a] == self.scales[b], f"{a} and {b} need one scale"
        return self._add(Layer(name, "add", (a, b), np.float32(1)), self.seen[a] + self.seen[b], None)

    def mean(self, x: str, name: str) -> str:
        """Global average over height and width, (batch, channels, 1, 1), quantized."""
        return self._add(Layer(name, "mean", (x,), np.float32(1)), self.seen[x].mean((2, 3), keepdims=True), None)

    def flatten(self, x: str, name: str) -> str:
        """(batch, features)."""
        value = self.seen[x].reshape(len(self.seen[x]), -1)
        return self._add(Layer(name, "flatten", (x,), np.float32(1)), value, self.scales[x], quantized=False)


def real_weights(layer: Layer, input_scale: np.float32) -> tuple[Floats, Floats]:
    """Weights and bias as the float32 numbers that their codes stand for."""
    assert layer.codes is not None
    assert layer.weight_scale is not None
    assert layer.bias is not None
    scale = layer.weight_scale.reshape(-1, *[1] * (layer.codes.ndim - 1))
    return layer.codes.astype(np.float32) * scale, layer.bias.astype(np.float32) * bias_scale(layer, input_scale)


def bias_scale(layer: Layer, input_scale: np.float32) -> Floats:
    """Scales of the bias, (O,) float32, as Brevitas multiplies them."""
    assert layer.weight_scale is not None
    return layer.weight_scale * input_scale


def with_input(model: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    """A copy of a model for another input shape: its first input's, all others inferred anew."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    del out.graph.value_info[:]
    for dim, size in zip(out.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    return out
