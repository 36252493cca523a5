"""Random chains and diamonds of 3 to 8 operators, against the reference, element by element.

Scales are powers of two, their small multiples or not, so that ties are common and grids are shared or not.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import intsim
from intsim.errors import IntsimError

from .build import Net, check

SCALES = [0.125, 0.25, 0.25, 0.5, 0.5, 1.0, 0.375, 0.75, np.float32(0.3), np.float32(0.1)]
MODES = ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]


class Walk:
    """A graph grown one operator at a time; `shape` is that of the tensor in hand."""

    def __init__(self, draw):
        self.draw, self.net = draw, Net(draw(st.sampled_from([13, 17])))
        self.shape = (
            draw(st.integers(1, 2)),
            draw(st.sampled_from([1, 2, 4])),
            draw(st.integers(2, 5)),
            draw(st.integers(2, 5)),
        )
        self.rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
        self.input_shape = self.shape
        self.net.input(*self.shape)
        self.old = []  # (name, shape) of quantized tensors, to come back to
        self.x = self.quantized("x")

    def pick(self, values):
        return self.draw(st.sampled_from(values))

    def scale(self, channels_at=1):
        if self.draw(st.integers(0, 3)) or len(self.shape) <= channels_at:
            return np.float32(self.pick(SCALES))
        shape = [s if i == channels_at else 1 for i, s in enumerate(self.shape)]
        return np.float32(self.rng.choice(SCALES, shape))

    def quantized(self, x):
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

    def weights(self, shape, axis=0):
        values = np.float32(self.rng.integers(-9, 10, shape) / 8)
        scale = np.float32(self.pick(SCALES))
        if self.draw(st.booleans()):
            scale = np.float32(self.rng.choice(SCALES, [s if i == axis else 1 for i, s in enumerate(shape)]))
        return self.net.quant(
            values, scale, self.pick([0, 0, 1]), self.draw(st.integers(1, 5)), narrow=self.draw(st.integers(0, 1))
        )

    def step(self):
        """One operator that fits the shape in hand."""
        image = [
            self.conv,
            self.conv,
            self.depthwise,
            self.transposed,
            self.max_pool,
            self.average_pool,
            self.pad,
            self.resize,
            self.depth_to_space,
            self.batch_norm,
        ]
        always = [
            self.quantize,
            self.quantize,
            self.relu,
            self.leaky,
            self.constant,
            self.matmul,
            self.residual,
            self.twice,
            self.concat,
            self.transpose,
            self.slice,
            self.clip,
            self.reduce,
        ]
        made = self.pick(always + image if len(self.shape) == 4 else always)()
        if made is not None:
            self.x = made

    def quantize(self):
        return self.quantized(self.x)

    def conv(self):
        out, kernel = self.draw(st.integers(1, 3)), [self.draw(st.integers(1, min(3, s))) for s in self.shape[2:]]
        pads, strides = (
            [self.draw(st.integers(0, 1)) for _ in range(4)],
            [self.draw(st.integers(1, 2)) for _ in range(2)],
        )
        w = self.weights((out, self.shape[1], *kernel))
        bias = (
            [np.float32(self.rng.integers(-16, 17, out) / self.pick([16, 64, 7]))] if self.draw(st.booleans()) else []
        )
        made = self.net.node("Conv", self.x, w, *bias, pads=pads, strides=strides)
        size = [(s + pads[i] + pads[2 + i] - kernel[i]) // strides[i] + 1 for i, s in enumerate(self.shape[2:])]
        self.shape = (self.shape[0], out, *size)
        return made

    def depthwise(self):
        c, times = self.shape[1], self.draw(st.integers(1, 2))
        w = self.weights((c * times, 1, 2, 2))
        made = self.net.node("Conv", self.x, w, group=c, pads=[1, 0, 0, 1])
        self.shape = (self.shape[0], c * times, *self.shape[2:])
        return made

    def transposed(self):
        out, s = self.draw(st.integers(1, 2)), self.draw(st.integers(1, 2))
        made = self.net.node(
            "ConvTranspose", self.quantized(self.x), self.weights((self.shape[1], out, 2, 2), 1), strides=[s, s]
        )
        self.shape = (self.shape[0], out, *[(v - 1) * s + 2 for v in self.shape[2:]])
        return made

    def max_pool(self):
        made = self.net.node("MaxPool", self.x, kernel_shape=[2, 2], pads=[0, 1, 0, 0])
        self.shape = (*self.shape[:2], self.shape[2] - 1, self.shape[3])
        return made if self.shape[2] else None

    def average_pool(self):
        include = self.draw(st.integers(0, 1))
        return self.net.node("AveragePool", self.x, kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=include)

    def pad(self):
        value = np.float32(self.pick([0, 0.25, -0.3, 2]))
        self.shape, made = (
            (*self.shape[:2], self.shape[2] + 1, self.shape[3] + 2),
            self.net.node("Pad", self.x, np.int64([0, 0, 1, 0, 0, 0, 0, 2]), value),
        )
        return made

    def resize(self):
        mode, where = self.pick(["nearest", "linear"]), self.pick(["half_pixel", "align_corners", "asymmetric"])
        self.shape = (*self.shape[:2], self.shape[2] * 2, self.shape[3])
        return self.net.node(
            "Resize", self.x, None, np.float32([1, 1, 2, 1]), mode=mode, coordinate_transformation_mode=where
        )

    def depth_to_space(self):
        if self.shape[1] % 4:
            return None
        self.shape = (self.shape[0], self.shape[1] // 4, self.shape[2] * 2, self.shape[3] * 2)
        return self.net.node("DepthToSpace", self.x, blocksize=2, mode=self.pick(["DCR", "CRD"]))

    def batch_norm(self):
        c = self.shape[1]
        gamma = np.float32(self.rng.choice([-1, -0.5, 0, 0.5, 1, 2], c))
        beta, mean = (np.float32(self.rng.integers(-8, 9, c) / 8) for _ in range(2))
        return self.net.node("BatchNormalization", self.x, gamma, beta, mean, np.float32([0.25] * c), epsilon=0.0)

    def relu(self):
        return self.net.node("Relu", self.x)

    def leaky(self):
        return self.net.node("LeakyRelu", self.x, alpha=self.pick([0.125, 0.25, -0.5]))

    def clip(self):
        return self.net.node("Clip", self.x, np.float32(self.pick([-0.5, -1.25])), np.float32(self.pick([0.5, 1.3])))

    def constant(self):
        at = self.draw(st.integers(0, len(self.shape) - 1))
        shape = self.pick([(), (1,), tuple(s if i == at else 1 for i, s in enumerate(self.shape)), self.shape])
        values = np.float32(self.rng.choice([-1, 0.5, 0.25, 2, 0.75, 0], shape))
        return self.net.node(self.pick(["Add", "Sub", "Mul"]), *self.pick([(self.x, values), (values, self.x)]))

    def matmul(self):
        out = self.draw(st.integers(1, 3))
        made = self.net.node("MatMul", self.x, self.weights((self.shape[-1], out), 1))
        self.shape = (*self.shape[:-1], out)
        return made

    def residual(self):
        fits = [name for name, shape in self.old if shape == self.shape]
        return self.net.node(self.pick(["Add", "Sub", "Mul"]), self.x, self.pick(fits)) if fits else None

    def twice(self):
        return self.net.node("Add", self.x, self.x)

    def concat(self):
        fits = [name for name, shape in self.old if shape == self.shape]
        if not fits:
            return None
        axis = self.draw(st.integers(0, len(self.shape) - 1))
        parts = [self.x, self.pick(fits)]
        self.shape = tuple(s * 2 if i == axis else s for i, s in enumerate(self.shape))
        return self.net.node("Concat", *parts, axis=axis)

    def transpose(self):
        perm = self.draw(st.permutations(range(len(self.shape))))
        self.shape = tuple(self.shape[p] for p in perm)
        return self.net.node("Transpose", self.x, perm=perm)

    def slice(self):
        axis = self.draw(st.integers(0, len(self.shape) - 1))
        if self.shape[axis] < 2:
            return None
        self.shape = tuple(s - 1 if i == axis else s for i, s in enumerate(self.shape))
        return self.net.node("Slice", self.x, np.int64([-1]), np.int64([0]), np.int64([axis]), np.int64([-1]))

    def reduce(self):
        axis = self.draw(st.integers(0, len(self.shape) - 1))
        self.shape = tuple(1 if i == axis else s for i, s in enumerate(self.shape))
        return self.net.node("ReduceMean", self.x, axes=[axis])


def grown(data):
    """A model of 3 to 8 steps that ends in a quantizer, and an input full of ties."""
    walk = Walk(data.draw)
    for _ in range(data.draw(st.integers(3, 8))):
        walk.step()
        assume(all(s > 0 for s in walk.shape) and np.prod(walk.shape) <= 600)
    accumulator = walk.x
    end = walk.quantized(walk.x)
    ends = [end] if accumulator in [n for n, _ in walk.old] else [accumulator, end]
    values = np.float32(walk.rng.integers(-40, 41, walk.input_shape) / 16)
    return walk.net.model(*ends), values


def compared(data):
    model, values = grown(data)
    try:
        intsim.load(model)
    except IntsimError as error:
        # a product of many scales may need more than 64 bits; nothing else here may be refused
        if "bits" in str(error) or "zero point for each channel" in str(error):
            return
        raise
    check(model, {"x": values}, 2)


@given(st.data())
@settings(max_examples=4 * settings().max_examples)
def test_random_graphs(data):
    compared(data)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=3000)
def test_many_random_graphs(data):
    compared(data)
