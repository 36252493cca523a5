"""Batches of drawn layers by name, for the tests and for measurements: many layers of one kind from one seed."""

import zlib

import numpy as np

from . import draw

U8, S8 = draw.U8, draw.S8


def either(rng):
    return (U8, S8)[rng.integers(2)]


def kind(rng):
    return rng.choice(list(draw.OPERANDS))


def rank(rng):
    return int(rng.choice([1, 2, 2, 3]))


def matmul(rng):
    lead = None if rng.integers(3) else [int(rng.integers(1, 4))]
    return draw.matmul(rng, kind(rng), constant=bool(rng.integers(4)), batch=lead)


def weight_zero_points(rng):
    """Signed weights with a zero point, which the kernels leave in the codes."""
    zero = int(rng.choice([-128, -7, 3, 127]))
    return (
        draw.matmul(rng, "u8s8", w_zero=zero, k=int(rng.choice([64, 257, 384, 700])))
        if rng.integers(2)
        else draw.conv(rng, w_zero=zero)
    )


ORT = {
    "conv": lambda rng: draw.conv(rng, kind(rng), rank=rank(rng)),
    "matmul": matmul,
    "gemm": lambda rng: draw.gemm(rng, kind(rng)),
    "weight zero points": weight_zero_points,
    "add": lambda rng: draw.binary(rng, "add", either(rng)),
    "mul": lambda rng: draw.binary(rng, "mul", either(rng)),
    "concat": lambda rng: draw.concat(rng, either(rng)),
    "average_pool": lambda rng: draw.average_pool(rng, either(rng), rank=rank(rng), whole=rng.integers(8) == 0),
    "global_average_pool": lambda rng: draw.global_average_pool(rng, either(rng)),
    "leaky_relu": lambda rng: draw.table(rng, "leaky_relu", either(rng)),
    "sigmoid": lambda rng: draw.table(rng, "sigmoid", either(rng)),
    "softmax": lambda rng: draw.softmax(rng, either(rng)),
}
# a QDQ file's convolutions and products with signed activations stay float; alpha is only fused without a bias
QDQ = {
    "conv": lambda rng: draw.conv(rng, rng.choice(["u8s8", "u8u8"]), rank=rank(rng)),
    "matmul": lambda rng: draw.matmul(rng, rng.choice(["u8s8", "u8u8"])),
} | {name: one for name, one in ORT.items() if name not in ("conv", "matmul", "gemm", "weight zero points")}

FLOAT = {
    name: lambda rng, name=name: draw.in_float(rng, name, either(rng))
    for name in ("sub", "div", "square", "clip", "hard_sigmoid", "hard_swish")
}
"""Operators that a QDQ file leaves in float32."""
QDQ |= FLOAT

TORCH = {
    "conv": lambda rng, **fixed: draw.torch_conv(rng, rank=rank(rng), **fixed),
    "depthwise": lambda rng, **fixed: draw.torch_depthwise(rng, **fixed),
    "depthwise 3-D": lambda rng, **fixed: draw.torch_depthwise(rng, rank=3, size=7, **fixed),
    "linear": lambda rng, **fixed: draw.torch_linear(rng, **fixed),
    "add": lambda rng, **fixed: draw.torch_binary(rng, "add"),
    "mul": lambda rng, **fixed: draw.torch_binary(rng, "mul"),
    "concat": lambda rng, **fixed: draw.torch_concat(rng),
    "average_pool": lambda rng, **fixed: draw.torch_average_pool(rng),
    "leaky_relu": lambda rng, **fixed: draw.table(rng, "leaky_relu", U8, size=int(rng.integers(1, 300))),
}
ENGINES = "fbgemm", "x86", "onednn", "qnnpack"


def generator(name, seed=0):
    return np.random.default_rng(zlib.crc32(f"{name} {seed}".encode()))


def ort(name, count, seed=0, form="qoperator"):
    """Layers for ONNX Runtime of a kind named in ORT (QDQ)."""
    rng = generator(name, seed)
    return [(QDQ if form == "qdq" else ORT)[name](rng) for _ in range(count)]


def torch(name, count, engine, seed=0):
    """Layers for PyTorch of a kind named in TORCH; oneDNN takes symmetric weights only."""
    rng = generator(name, seed)
    return [TORCH[name](rng, **({"w_zero": 0} if engine == "onednn" else {})) for _ in range(count)]
