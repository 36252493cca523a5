"""Small quantized ONNX models: random chains and diamonds of operators, with inputs full of rounding ties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import NDArray

from intsim.testing.net import Net

# Powers of two, their small multiples, and neither: ties are common, grids are shared or not.
SCALES: list[float] = [0.125, 0.25, 0.25, 0.5, 0.5, 1.0, 0.375, 0.75, float(np.float32(0.3)), float(np.float32(0.1))]
MODES = ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]


class QonnxCase(NamedTuple):
    """A model with QONNX and QuantizeLinear quantizers, and one input for it by name."""

    model: onnx.ModelProto
    inputs: dict[str, NDArray[Any]]


@st.composite
def qonnx_models(draw: Any, min_steps: int = 3, max_steps: int = 8, max_elements: int = 600) -> QonnxCase:
    """Models of one float input `x` and `min_steps`..`max_steps` operators that end in a quantizer, with an input.

    Convolutions (grouped, transposed, strided, padded), products, pooling, resizing, residuals, concatenation, slices,
    activations, BatchNormalization; quantizers of 1 to 8 bits, each rounding mode, per channel or not. The accumulator
    before the last quantizer is an output as well, where it is one.

    Args:
        min_steps: at least 1.
        max_steps: at least min_steps.
        max_elements: largest tensor on the way.
    """
    walk = _Walk(draw)
    for _ in range(draw(st.integers(min_steps, max_steps))):
        walk.step()
        assume(all(s > 0 for s in walk.shape) and np.prod(walk.shape) <= max_elements)
    accumulator = walk.x
    end = walk.quantized(walk.x)
    ends = [end] if accumulator in [name for name, _ in walk.old] else [accumulator, end]
    values = (walk.rng.integers(-40, 41, walk.input_shape) / 16).astype(np.float32)
    return QonnxCase(walk.net.model(*ends), {"x": values})


class _Walk:
    """A graph grown one operator at a time; `shape` is that of the tensor in hand, `x` its name."""

    def __init__(self, draw: Any) -> None:
        self.draw, self.net = draw, Net(draw(st.sampled_from([13, 17])))
        self.shape: tuple[int, ...] = (
            draw(st.integers(1, 2)),
            draw(st.sampled_from([1, 2, 4])),
            draw(st.integers(2, 5)),
            draw(st.integers(2, 5)),
        )
        self.rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
        self.input_shape = self.shape
        self.net.input(*self.shape)
        self.old: list[tuple[str, tuple[int, ...]]] = []  # (name, shape) of quantized tensors, to come back to
        self.x = self.quantized("x")

    def node(self, op: str, *inputs: Any, **attributes: Any) -> str:
        """An operator on the tensor in hand."""
        return str(self.net.node(op, self.x, *inputs, **attributes))

    def pick(self, values: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(values))

    def scale(self, channels_at: int = 1) -> Any:
        if self.draw(st.integers(0, 3)) or len(self.shape) <= channels_at:
            return np.float32(self.pick(SCALES))
        shape = [s if i == channels_at else 1 for i, s in enumerate(self.shape)]
        return np.float32(self.rng.choice(SCALES, shape))

    def quantized(self, x: str) -> str:
        bits, signed = self.draw(st.integers(2, 8)), self.draw(st.integers(0, 1))
        if self.draw(st.integers(0, 4)) == 0:
            kind = self.pick([np.int8, np.uint8])
            name = self.net.qdq(x, self.pick(SCALES), kind(self.draw(st.integers(0, 20))))
        elif self.draw(st.integers(0, 9)) == 0:
            name = self.net.node("BipolarQuant", x, np.float32(self.pick(SCALES)), domain="qonnx.custom_op.general")
        else:
            zero = self.pick([0, 0, 0, 1, -2, 0.5])
            mode = self.pick(MODES)
            narrow = self.draw(st.integers(0, 1))
            name = self.net.quant(x, self.scale(), zero, bits, signed=signed, narrow=narrow, rounding_mode=mode)
        self.old.append((name, self.shape))
        return name

    def weights(self, shape: tuple[int, ...], axis: int = 0) -> str:
        values = np.float32(self.rng.integers(-9, 10, shape) / 8)
        scale = np.float32(self.pick(SCALES))
        if self.draw(st.booleans()):
            scale = np.float32(self.rng.choice(SCALES, [s if i == axis else 1 for i, s in enumerate(shape)]))
        return self.net.quant(
            values, scale, self.pick([0, 0, 1]), self.draw(st.integers(1, 5)), narrow=self.draw(st.integers(0, 1))
        )

    def step(self) -> None:
        """One operator that fits the shape in hand."""
        image = [self.conv, self.conv, self.depthwise, self.transposed, self.max_pool, self.average_pool]
        image += [self.pad, self.resize, self.depth_to_space, self.batch_norm]
        always = [self.quantize, self.quantize, self.relu, self.leaky, self.constant, self.matmul, self.residual]
        always += [self.twice, self.concat, self.transpose, self.slice, self.clip, self.reduce]
        self.x = self.pick(always + image if len(self.shape) == 4 else always)() or self.x

    def quantize(self) -> str | None:
        return self.quantized(self.x)

    def conv(self) -> str | None:
        out, kernel = self.draw(st.integers(1, 3)), [self.draw(st.integers(1, min(3, s))) for s in self.shape[2:]]
        pads = [self.draw(st.integers(0, 1)) for _ in range(4)]
        strides = [self.draw(st.integers(1, 2)) for _ in range(2)]
        w = self.weights((out, self.shape[1], *kernel))
        bias = (
            [np.float32(self.rng.integers(-16, 17, out) / self.pick([16, 64, 7]))] if self.draw(st.booleans()) else []
        )
        made = self.node("Conv", w, *bias, pads=pads, strides=strides)
        size = [(s + pads[i] + pads[2 + i] - kernel[i]) // strides[i] + 1 for i, s in enumerate(self.shape[2:])]
        self.shape = (self.shape[0], out, *size)
        return made

    def depthwise(self) -> str | None:
        c, times = self.shape[1], self.draw(st.integers(1, 2))
        w = self.weights((c * times, 1, 2, 2))
        made = self.node("Conv", w, group=c, pads=[1, 0, 0, 1])
        self.shape = (self.shape[0], c * times, *self.shape[2:])
        return made

    def transposed(self) -> str | None:
        out, s = self.draw(st.integers(1, 2)), self.draw(st.integers(1, 2))
        x, w = self.quantized(self.x), self.weights((self.shape[1], out, 2, 2), 1)
        made = self.net.node("ConvTranspose", x, w, strides=[s, s])
        self.shape = (self.shape[0], out, *[(v - 1) * s + 2 for v in self.shape[2:]])
        return made

    def max_pool(self) -> str | None:
        made = self.node("MaxPool", kernel_shape=[2, 2], pads=[0, 1, 0, 0])
        self.shape = (*self.shape[:2], self.shape[2] - 1, self.shape[3])
        return made if self.shape[2] else None

    def average_pool(self) -> str | None:
        include = self.draw(st.integers(0, 1))
        return self.node("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=include)

    def pad(self) -> str | None:
        value = np.float32(self.pick([0, 0.25, -0.3, 2]))
        self.shape = (*self.shape[:2], self.shape[2] + 1, self.shape[3] + 2)
        return self.node("Pad", np.array([0, 0, 1, 0, 0, 0, 0, 2]), value)

    def resize(self) -> str | None:
        mode, where = self.pick(["nearest", "linear"]), self.pick(["half_pixel", "align_corners", "asymmetric"])
        self.shape = (*self.shape[:2], self.shape[2] * 2, self.shape[3])
        sizes = np.array([1, 1, 2, 1], np.float32)
        return self.node("Resize", None, sizes, mode=mode, coordinate_transformation_mode=where)

    def depth_to_space(self) -> str | None:
        if self.shape[1] % 4:
            return None
        self.shape = (self.shape[0], self.shape[1] // 4, self.shape[2] * 2, self.shape[3] * 2)
        return self.node("DepthToSpace", blocksize=2, mode=self.pick(["DCR", "CRD"]))

    def batch_norm(self) -> str | None:
        c = self.shape[1]
        gamma = np.float32(self.rng.choice([-1, -0.5, 0, 0.5, 1, 2], c))
        beta, mean = (np.float32(self.rng.integers(-8, 9, c) / 8) for _ in range(2))
        return self.node("BatchNormalization", gamma, beta, mean, np.full(c, 0.25, np.float32), epsilon=0.0)

    def relu(self) -> str | None:
        return self.node("Relu")

    def leaky(self) -> str | None:
        return self.node("LeakyRelu", alpha=self.pick([0.125, 0.25, -0.5]))

    def clip(self) -> str | None:
        return self.node("Clip", np.float32(self.pick([-0.5, -1.25])), np.float32(self.pick([0.5, 1.3])))

    def constant(self) -> str | None:
        at = self.draw(st.integers(0, len(self.shape) - 1))
        shape = self.pick([(), (1,), tuple(s if i == at else 1 for i, s in enumerate(self.shape)), self.shape])
        values = np.float32(self.rng.choice([-1, 0.5, 0.25, 2, 0.75, 0], shape))
        return self.net.node(self.pick(["Add", "Sub", "Mul"]), *self.pick([(self.x, values), (values, self.x)]))

    def matmul(self) -> str | None:
        out = self.draw(st.integers(1, 3))
        made = self.node("MatMul", self.weights((self.shape[-1], out), 1))
        self.shape = (*self.shape[:-1], out)
        return made

    def residual(self) -> str | None:
        fits = [name for name, shape in self.old if shape == self.shape]
        return self.node(self.pick(["Add", "Sub", "Mul"]), self.pick(fits)) if fits else None

    def twice(self) -> str | None:
        return self.node("Add", self.x)

    def concat(self) -> str | None:
        fits = [name for name, shape in self.old if shape == self.shape]
        if not fits:
            return None
        axis = self.draw(st.integers(0, len(self.shape) - 1))
        self.shape = tuple(s * 2 if i == axis else s for i, s in enumerate(self.shape))
        return self.node("Concat", self.pick(fits), axis=axis)

    def transpose(self) -> str | None:
        perm = self.draw(st.permutations(range(len(self.shape))))
        self.shape = tuple(self.shape[p] for p in perm)
        return self.node("Transpose", perm=perm)

    def slice(self) -> str | None:
        axis = self.draw(st.integers(0, len(self.shape) - 1))
        if self.shape[axis] < 2:
            return None
        self.shape = tuple(s - 1 if i == axis else s for i, s in enumerate(self.shape))
        return self.node("Slice", *(np.array([n]) for n in (-1, 0, axis, -1)))

    def reduce(self) -> str | None:
        axis = self.draw(st.integers(0, len(self.shape) - 1))
        self.shape = tuple(1 if i == axis else s for i, s in enumerate(self.shape))
        return self.node("ReduceMean", axes=[axis])
