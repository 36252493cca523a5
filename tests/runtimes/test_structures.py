"""QDQ files of all structures, fused by ONNX Runtime or not: what is predicted is what the file as it is gives there.

The files hold real inputs and what exporters and people put between quantizers. ONNX Runtime runs them unchanged; of
its codes nothing is shown that might keep it from fusing. The target predicts or refuses; what is certified on it, in
addition, equals exact arithmetic for inputs at the ends of the codes.
"""

from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto

import intsim
from intsim.errors import IntsimError
from tests.frontend.build import Net

from . import runtimes
from .test_formulas import needs
from .test_targets import TARGETS

pytestmark = pytest.mark.xdist_group("runtimes")
SHAPE = (1, 3, 5, 5)


def weights(net, rng, shape):
    """Dequantized weights: large or small, one scale or one a channel."""
    codes = rng.integers(-128, 128, shape) if rng.integers(2) else rng.integers(-3, 4, shape)
    count = shape[0] if rng.integers(2) else None
    step = np.float32(rng.choice([2.0**-6, 0.01, 0.0173], count))
    zero = np.zeros(np.shape(step), np.int8)
    return net.node("DequantizeLinear", codes.astype(np.int8), step, zero, **({"axis": 0} if count else {}))


def second(net, rng, quantizer):
    """Another input of the network, quantized like the first or not."""
    return quantizer(net.input(*SHAPE, name="z"), *([] if rng.integers(2) else [np.float32(0.037)]))


LAYERS = {
    "conv": lambda net, rng, x, q: net.node("Conv", x, weights(net, rng, (4, 3, 3, 3)), pads=[1, 1, 1, 1]),
    "uneven conv": lambda net, rng, x, q: net.node("Conv", x, weights(net, rng, (2, 3, 2, 3)), pads=[0, 1, 1, 0]),
    "depthwise": lambda net, rng, x, q: net.node("Conv", x, weights(net, rng, (3, 1, 3, 3)), group=3),
    "float bias": lambda net, rng, x, q: net.node(
        "Conv", x, weights(net, rng, (4, 3, 1, 1)), rng.normal(0, 1, 4).astype(np.float32)
    ),
    "transposed": lambda net, rng, x, q: net.node("ConvTranspose", x, weights(net, rng, (3, 2, 2, 2))),
    "matmul": lambda net, rng, x, q: net.node("MatMul", x, weights(net, rng, (5, 4))),
    "add": lambda net, rng, x, q: net.node("Add", x, second(net, rng, q)),
    "sub": lambda net, rng, x, q: net.node("Sub", x, second(net, rng, q)),
    "mul": lambda net, rng, x, q: net.node("Mul", x, second(net, rng, q)),
    "twice": lambda net, rng, x, q: net.node("Add", x, x),
    "square": lambda net, rng, x, q: net.node("Mul", x, x),
    "plus": lambda net, rng, x, q: net.node("Add", x, rng.normal(0, 1, (3, 1, 1)).astype(np.float32)),
    "over": lambda net, rng, x, q: net.node("Div", x, np.float32(rng.choice([3, 0.7]))),
    "concat": lambda net, rng, x, q: net.node("Concat", x, second(net, rng, q), axis=1),
    "average": lambda net, rng, x, q: net.node(
        "AveragePool", x, kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=int(rng.integers(2))
    ),
    "global": lambda net, rng, x, q: net.node("GlobalAveragePool", x),
    "mean": lambda net, rng, x, q: net.node("ReduceMean", x, axes=[2, 3]),
    "largest": lambda net, rng, x, q: net.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "requantize": lambda net, rng, x, q: x,
    "sigmoid": lambda net, rng, x, q: net.node("Sigmoid", x),
    "tanh": lambda net, rng, x, q: net.node("Tanh", x),
    "leaky": lambda net, rng, x, q: net.node("LeakyRelu", x, alpha=0.25),
    "softmax": lambda net, rng, x, q: net.node("Softmax", x, axis=1),
    "transpose": lambda net, rng, x, q: net.node("Transpose", x, perm=[0, 2, 3, 1]),
    "moved average": lambda net, rng, x, q: net.node(
        "Transpose", net.node("AveragePool", x, kernel_shape=[2, 2]), perm=[0, 3, 2, 1]
    ),
    "pad": lambda net, rng, x, q: net.node("Pad", x, np.int64([0, 0, 1, 0, 0, 0, 0, 1]), np.float32(0.5)),
    "resize": lambda net, rng, x, q: net.node("Resize", x, None, np.float32([1, 1, 2, 2]), mode="nearest"),
}  # fmt: skip
BEHIND = {
    "nothing": lambda net, y: y,
    "Relu": lambda net, y: net.node("Relu", y),
    "Clip": lambda net, y: net.node("Clip", y, np.float32(-0.3), np.float32(2.5)),
}


def drawn(rng, layer):
    """A file, and inputs: a real number for each code, the greatest, the least, both, any."""
    kind = np.uint8 if rng.integers(2) else np.int8
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    net, step = Net(17), np.float32(rng.choice([2.0**-4, 0.05, 0.02]))
    zero, end = (kind(rng.choice([low, (low + high + 1) // 2, rng.integers(low, high + 1)])) for _ in range(2))
    names = {"x": step}

    def quantizer(name, by=step):
        names[name] = by
        return net.qdq(name, by, np.asarray(zero))

    y = LAYERS[layer](net, rng, quantizer(net.input(*SHAPE)), quantizer)
    y = list(BEHIND.values())[rng.choice(3, p=[0.6, 0.25, 0.15])](net, y)
    y = net.node("QuantizeLinear", y, last := np.float32(rng.choice([2.0**-4, 0.11, 1 / 256])), np.asarray(end))
    real = bool(rng.integers(2))
    if real:
        y = net.node("DequantizeLinear", y, last, np.asarray(end))
    codes = {"greatest": lambda: np.full(SHAPE, high), "least": lambda: np.full(SHAPE, low)}
    codes |= {"ends": lambda: rng.choice([low, high], SHAPE), "any": lambda: rng.integers(low, high + 1, SHAPE)}
    feeds = [
        {n: ((make() - int(zero)) * np.float64(s)).astype(np.float32) for n, s in names.items()}
        for make in codes.values()
    ]
    feeds.append({n: rng.normal(0, 60 * s, SHAPE).astype(np.float32) for n, s in names.items()})
    kinds = {} if real else {y: TensorProto.UINT8 if kind is np.uint8 else TensorProto.INT8}
    return net.model(y, kinds=kinds), feeds


@pytest.mark.parametrize("machine", TARGETS)
@pytest.mark.parametrize("count", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_what_is_predicted_of_a_file_is_what_it_gives(machine, count):
    needs("onnxruntime", machine)
    target = f"onnxruntime-{TARGETS[machine]}"
    files = {
        (layer, seed): drawn(np.random.default_rng([seed, number]), layer)
        for number, layer in enumerate(LAYERS)
        for seed in range(count)
    }
    jobs = [
        {"library": "ort", "model": model.SerializeToString(), "feeds": feed}
        for model, feeds in files.values()
        for feed in feeds
    ]
    answers = iter(runtimes.answer(jobs, machine))
    told: Counter[str] = Counter()
    for key, (model, feeds) in files.items():
        theirs = [next(answers) for _ in feeds]
        try:
            loaded = runtimes.executed(model)
            mine = [loaded.run(feed, target).outputs for feed in feeds]
            certified = intsim.certify(loaded, target, samples=0).verdict == "certified"
        except IntsimError as error:
            nothing = "its integer graph has no multiply-accumulate" in str(error)
            told["nothing to certify" if nothing else "refused"] += 1
            if not nothing:
                continue
            certified = False
        for own, their in zip(mine, theirs, strict=True):
            for name, codes in own.items():
                assert np.array_equal(codes, their[name]), (key, name, int((codes != their[name]).sum()))
        for feed, own in zip(feeds[:4], mine, strict=False) if certified else ():
            for name, right in loaded.run(feed, "exact").outputs.items():
                assert np.array_equal(right, own[name]), (key, name)
        told["certified" if certified else "predicted"] += 1
    assert told["certified"] >= count
    assert told["certified"] + told["predicted"] >= 8 * count
    assert told["refused"] >= 5 * count
