"""A quantized vision transformer of one block, as QONNX or QCDQ files hold it, layer norms whole or written out."""

import numpy as np
import onnx

from .build import Net

TOKENS, WIDTH, HEADS = 4, 16, 2


class Block:
    """Builds it; `form` is qonnx or qcdq. Each method adds nodes and returns the name of what they make."""

    def __init__(self, form="qonnx", opset=17, written_out=False, seed=3):
        self.net, self.form, self.written_out = Net(opset), form, written_out
        self.rng = np.random.default_rng(seed)

    def quant(self, x, scale, bits=8, signed=True):
        if self.form == "qonnx":
            return self.net.quant(x, scale, 0, bits, signed=int(signed))
        top = 2 ** (bits - signed) - 1
        kind = np.int8 if signed else np.uint8
        clip = None if bits == 8 else (kind(-top - 1 if signed else 0), kind(top))
        return self.net.qdq(x, scale, kind(0), clip)

    def weights(self, *shape, bits=4):
        w = self.rng.normal(0, 1, shape).astype(np.float32)
        return self.quant(self.net.const(w), np.float32(np.abs(w).max() / (2 ** (bits - 1) - 1)), bits)

    def norm(self, x):
        gamma = self.rng.normal(1, 0.2, WIDTH).astype(np.float32)
        beta = self.rng.normal(0, 0.2, WIDTH).astype(np.float32)
        net = self.net
        if not self.written_out:
            return net.node("LayerNormalization", x, gamma, beta, axis=-1, epsilon=1e-5)
        apart = net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
        variance = net.node("ReduceMean", net.node("Pow", apart, np.float32(2)), axes=[-1])
        root = net.node("Sqrt", net.node("Add", variance, np.float32(1e-5)))
        return net.node("Add", net.node("Mul", net.node("Div", apart, root), gamma), beta)

    def linear(self, x, inputs, outputs):
        bias = self.rng.normal(0, 0.3, outputs).astype(np.float32)
        return self.net.node("Add", self.net.node("MatMul", x, self.weights(inputs, outputs)), bias)

    def attention(self, x):
        net, depth = self.net, WIDTH // HEADS
        qkv = self.quant(self.linear(x, WIDTH, 3 * WIDTH), 0.08)
        qkv = net.node(
            "Transpose", net.node("Reshape", qkv, np.int64([1, TOKENS, 3, HEADS, depth])), perm=[2, 0, 3, 1, 4]
        )
        q, k, v = (net.node("Gather", qkv, np.int64(i), axis=0) for i in range(3))
        product = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self.quant(net.node("Div", product, np.float32(np.sqrt(depth))), 0.1)
        shares = self.quant(net.node("Softmax", scores, axis=-1), 1 / 255, signed=False)
        mixed = net.node("Transpose", net.node("MatMul", shares, v), perm=[0, 2, 1, 3])
        mixed = self.quant(net.node("Reshape", mixed, np.int64([1, TOKENS, WIDTH])), 0.06)
        return self.quant(self.linear(mixed, WIDTH, WIDTH), 0.12)

    def mlp(self, x):
        hidden = self.quant(self.net.node("Relu", self.linear(x, WIDTH, 2 * WIDTH)), 0.05, signed=False)
        return self.quant(self.linear(hidden, 2 * WIDTH, WIDTH), 0.2)

    def model(self) -> onnx.ModelProto:
        net = self.net
        x = self.quant(net.input(1, 3, 8, 8), 0.03)
        patches = net.node("Conv", x, self.weights(WIDTH, 3, 4, 4), strides=[4, 4])
        x = self.quant(net.node("Reshape", patches, np.int64([1, WIDTH, TOKENS])), 0.2)
        x = net.node("Transpose", x, perm=[0, 2, 1])
        x = self.quant(net.node("Add", x, self.quant(self.attention_input(x), 0.2)), 0.25)
        x = self.quant(net.node("Add", x, self.mlp(self.quant(self.norm(x), 0.03))), 0.3)
        pooled = self.quant(net.node("ReduceMean", self.norm(x), axes=[1], keepdims=0), 0.03)
        return net.model(self.linear(pooled, WIDTH, 10))

    def attention_input(self, x):
        return self.attention(self.quant(self.norm(x), 0.03))


def image(seed=0):
    return {"x": np.random.default_rng(seed).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)}
