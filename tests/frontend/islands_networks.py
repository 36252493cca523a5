"""Networks of ONNX Runtime's dynamic quantizer (`quantize_dynamic`), small ones of the kinds that it is used for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from intsim.testing.net import Net

WIDTH, TOKENS = 8, 4


class Float(Net):
    """A float network under construction, with weights of a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(opset=17)
        self.rng = np.random.default_rng(seed)

    def weight(self, *shape: int) -> np.ndarray:
        return (self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def conv(self, x: str, i: int, o: int, kernel: int = 3, group: int = 1, **at) -> str:
        pads = [kernel // 2] * 4
        bias = self.rng.normal(size=o).astype(np.float32)
        return self.node("Conv", x, self.weight(o, i // group, kernel, kernel), bias, pads=pads, group=group, **at)

    def linear(self, x: str, i: int, o: int) -> str:
        return self.node("Add", self.node("MatMul", x, self.weight(i, o)), self.rng.normal(size=o).astype(np.float32))

    def norm(self, x: str) -> str:
        return self.node("LayerNormalization", x, np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32), axis=-1)

    def attention(self, x: str, masked: bool) -> str:
        """One head; `masked`: each token sees those before it."""
        q, k, v = (self.linear(x, WIDTH, WIDTH) for _ in range(3))
        scores = self.node("Mul", self.node("MatMul", q, self.node("Transpose", k, perm=[0, 2, 1])), np.float32(0.35))
        if masked:
            seen = np.tril(np.ones((TOKENS, TOKENS), bool))
            scores = self.node("Where", seen, scores, np.float32(-1e4))
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), v)
        return self.node("Add", x, self.linear(mixed, WIDTH, WIDTH))

    def gelu(self, x: str) -> str:
        inner = self.node("Add", x, self.node("Mul", self.node("Mul", x, x), self.node("Mul", x, np.float32(0.044715))))
        half = self.node("Add", self.node("Tanh", self.node("Mul", inner, np.float32(0.7978846))), np.float32(1))
        return self.node("Mul", self.node("Mul", x, half), np.float32(0.5))


def resnet(net: Float) -> str:
    x = net.node("Relu", net.conv(net.input(1, 3, 6, 6), 3, 4))
    x = net.node("Relu", net.node("Add", x, net.conv(net.node("Relu", net.conv(x, 4, 4)), 4, 4)))
    return net.node("Gemm", net.node("Flatten", net.node("GlobalAveragePool", x)), net.weight(4, 5), net.weight(5))


def mobilenet(net: Float) -> str:
    x = net.node("Clip", net.conv(net.input(1, 3, 6, 6), 3, 4, strides=[2, 2]), np.float32(0), np.float32(6))
    x = net.node("Clip", net.conv(x, 4, 4, group=4), np.float32(0), np.float32(6))
    x = net.conv(x, 4, 6, kernel=1)
    return net.linear(net.node("Flatten", net.node("GlobalAveragePool", x)), 6, 5)


def unet(net: Float) -> str:
    first = net.node("Relu", net.conv(net.input(1, 2, 6, 6), 2, 3))
    low = net.node("Relu", net.conv(net.node("MaxPool", first, kernel_shape=[2, 2], strides=[2, 2]), 3, 4))
    up = net.node("ConvTranspose", low, net.weight(4, 3, 2, 2), strides=[2, 2], kernel_shape=[2, 2])
    grown = net.node("Resize", low, None, np.array([1, 1, 2, 2], np.float32), mode="nearest")
    return net.conv(net.node("Concat", first, up, grown, axis=1), 10, 2)


def mlp(net: Float) -> str:
    return net.linear(net.node("Relu", net.linear(net.input(2, 6), 6, 10)), 10, 3)


def bert(net: Float) -> str:
    x = net.norm(net.attention(net.input(1, TOKENS, WIDTH), masked=False))
    return net.norm(net.node("Add", x, net.linear(net.gelu(net.linear(x, WIDTH, 16)), 16, WIDTH)))


def gpt(net: Float) -> str:
    x = net.attention(net.norm(net.input(1, TOKENS, WIDTH)), masked=True)
    x = net.node("Add", x, net.linear(net.gelu(net.linear(net.norm(x), WIDTH, 16)), 16, WIDTH))
    return net.node("MatMul", x, net.weight(WIDTH, 11))


NETWORKS: dict[str, Callable[[Float], str]] = {f.__name__: f for f in (resnet, mobilenet, unet, mlp, bert, gpt)}


@cache
def dynamic(name: str, per_channel: bool = False, signed: bool = False, seed: int = 3) -> onnx.ModelProto:
    """A network as the quantizer writes it; `signed`: int8 weights, which ONNX Runtime's ConvInteger doesn't take."""
    net = Float(seed)
    model = net.model(NETWORKS[name](net))
    logging.getLogger().setLevel(logging.ERROR)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "dynamic.onnx"
        kind = QuantType.QInt8 if signed else QuantType.QUInt8
        quantize_dynamic(model, path, per_channel=per_channel, weight_type=kind)
        return onnx.load(path)
