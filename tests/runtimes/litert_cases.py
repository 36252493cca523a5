"""One-operator .tflite files drawn at random, each with the codes that the formulas say every kernel set returns."""

from dataclasses import dataclass

import numpy as np

from tests.runtimes import litert_formulas as formulas
from tests.runtimes.litert import KINDS, Net

PADDINGS = {"SAME": 0, "VALID": 1}
F = np.float32


@dataclass
class Case:
    """`expected`: codes by kind. `taken`: whether XNNPACK's delegate takes the operator; None: not said."""

    net: Net
    output: int
    expected: dict
    taken: bool | None = None
    note: str = ""


def pick(rng, *options):
    return options[rng.integers(len(options))]


def scale(rng, about=0.05):
    """A float32 scale near `about`: a power of two, a short decimal, or anything."""
    value = about * np.exp(rng.normal())
    how = rng.integers(4)
    if how == 0:
        value = 2.0 ** np.round(np.log2(value))
    elif how == 1:
        value = float(f"{value:.1g}")
    return F(value)


def zero_point(rng):
    return int(pick(rng, 0, 0, -128, 127, int(rng.integers(-128, 128)), int(rng.integers(-128, 128))))


def codes(rng, shape, dtype=np.int8):
    """Codes over the whole range; at times only the ends."""
    info = np.iinfo(dtype)
    if rng.integers(6) == 0:
        return rng.choice(np.array([info.min, info.max, info.max - 1, 0], dtype), shape)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def activation(rng):
    return pick(rng, "NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")


def both(expected):
    """The same codes from every kernel set."""
    return dict.fromkeys(KINDS, expected)


def by_kind(function):
    return {kind: function(kind) for kind in KINDS}


def output_scale(rng, sums, unit):
    """A scale that spreads sums over about the codes; with powers of two among units, ties are common."""
    spread = float(np.abs(sums).mean() + 1) * unit / pick(rng, 20.0, 40.0, 90.0)
    return scale(rng, spread) if rng.integers(3) else F(2.0 ** np.round(np.log2(spread)))


def weights(rng, shape, outputs, axis):
    """(weights over the whole int8 range, scales of one or all channels)."""
    w = codes(rng, shape)
    if rng.integers(3) == 0:
        return w, [scale(rng, 0.01)]
    if rng.integers(3) == 0:
        return w, [F(2.0 ** -int(rng.integers(5, 10))) for _ in range(outputs)]
    return w, [scale(rng, 0.01) for _ in range(outputs)]


def conv(rng):
    """CONV_2D, grouped at times."""
    kernel, strides = rng.integers(1, 5, 2), rng.integers(1, 4, 2)
    dilations = rng.integers(1, 4, 2) if rng.integers(3) == 0 else np.array([1, 1])
    padding = pick(rng, "SAME", "VALID")
    groups = int(pick(rng, 1, 1, 1, 2, 3))
    i, o = int(rng.integers(1, 20)), groups * int(rng.integers(1, 12))
    reach = (kernel - 1) * dilations + 1
    size = np.maximum(reach, rng.integers(1, 22, 2))
    q = scale(rng), zero_point(rng)
    x = codes(rng, (int(rng.integers(1, 4)), *size, i * groups))
    w, ws = weights(rng, (o, *kernel, i), o, 0)
    bias = rng.integers(-40000, 40000, o) if rng.integers(4) else rng.integers(-(2**20), 2**20, o)
    sums = formulas.conv_sums(x, q[1], w, bias, strides, dilations, padding)
    y = output_scale(rng, sums, float(q[0]) * float(np.mean(ws))), zero_point(rng)
    act = activation(rng)
    net = Net()
    given = net.given(x, *q)
    k = net.tensor(w.shape, "int8", ws, 0, 0, w)
    b = net.tensor([o], "int32", [F(q[0]) * s for s in ws], 0, 0, bias)
    out = net.tensor(sums.shape, "int8", *y)
    net.operator("CONV_2D", [given, k, b], out, 3, "Conv2D", padding=PADDINGS[padding],
                 fusedActivationFunction=formulas.ACTIVATION_CODES[act], strideH=int(strides[0]),
                 strideW=int(strides[1]), dilationHFactor=int(dilations[0]),
                 dilationWFactor=int(dilations[1]))  # fmt: skip
    grouped = groups > 1

    def expected(kind):
        kind = "reference" if grouped and kind == "builtin" else kind
        return formulas.layer(sums, q, ws, y, act, kind, "CONV_2D")

    return Case(net, out, by_kind(expected), None, f"groups={groups} {padding} {act}")


def depthwise(rng):
    """DEPTHWISE_CONV_2D with a multiplier."""
    kernel = rng.integers(1, 6, 2)
    strides = np.repeat(rng.integers(1, 4), 2)
    dilations = np.repeat(rng.integers(1, 4), 2) if rng.integers(3) == 0 and strides[0] == 1 else np.array([1, 1])
    padding = pick(rng, "SAME", "VALID")
    c, times = int(rng.integers(1, 40)), int(pick(rng, 1, 1, 2, 3))
    size = np.maximum((kernel - 1) * dilations + 1, rng.integers(1, 22, 2))
    q = scale(rng), zero_point(rng)
    x = codes(rng, (int(rng.integers(1, 4)), *size, c))
    w, ws = weights(rng, (1, *kernel, c * times), c * times, 3)
    bias = rng.integers(-4000, 4000, c * times)
    sums = formulas.depthwise_sums(x, q[1], w, bias, strides, dilations, padding)
    y = output_scale(rng, sums, float(q[0]) * float(np.mean(ws))), zero_point(rng)
    act = activation(rng)
    net = Net()
    given = net.given(x, *q)
    k = net.tensor(w.shape, "int8", ws, 0, 3, w)
    b = net.tensor([c * times], "int32", [F(q[0]) * s for s in ws], 0, 0, bias)
    out = net.tensor(sums.shape, "int8", *y)
    net.operator("DEPTHWISE_CONV_2D", [given, k, b], out, 3, "DepthwiseConv2D", padding=PADDINGS[padding],
                 fusedActivationFunction=formulas.ACTIVATION_CODES[act], strideH=int(strides[0]),
                 strideW=int(strides[1]), dilationHFactor=int(dilations[0]), dilationWFactor=int(dilations[1]),
                 depthMultiplier=times)  # fmt: skip
    return Case(net, out, by_kind(lambda k: formulas.layer(sums, q, ws, y, act, k, "DEPTHWISE_CONV_2D")), None,
                f"multiplier={times} channels={c} {padding} {act}")  # fmt: skip


def fully_connected(rng):
    """FULLY_CONNECTED, per tensor or per channel."""
    n, i, o = int(rng.integers(1, 50)), int(rng.integers(1, 300)), int(rng.integers(1, 60))
    q = scale(rng), zero_point(rng)
    x = codes(rng, (n, i))
    w, ws = weights(rng, (o, i), o, 0)
    bias = rng.integers(-40000, 40000, o)
    sums = (x.astype(np.int64) - q[1]) @ w.astype(np.int64).T + bias
    y = output_scale(rng, sums, float(q[0]) * float(np.mean(ws))), zero_point(rng)
    act = activation(rng)
    net = Net()
    given = net.given(x, *q)
    k = net.tensor(w.shape, "int8", ws, 0, 0, w)
    b = net.tensor([o], "int32", [F(q[0]) * s for s in ws], 0, 0, bias)
    out = net.tensor(sums.shape, "int8", *y)
    net.operator("FULLY_CONNECTED", [given, k, b], out, 5, "FullyConnected",
                 fusedActivationFunction=formulas.ACTIVATION_CODES[act])  # fmt: skip
    return Case(net, out, by_kind(lambda k: formulas.layer(sums, q, ws, y, act, k, "FULLY_CONNECTED")), None,
                f"{'tensor' if len(ws) == 1 else 'channel'} rows={n} {act}")  # fmt: skip


def binary(rng, code, options, formula, ratio):
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 20)), int(rng.integers(1, 20)), int(rng.integers(1, 40)))
    qa, qb = (scale(rng), zero_point(rng)), (scale(rng), zero_point(rng))
    a, b = codes(rng, shape), codes(rng, shape)
    y = ratio(rng, qa[0], qb[0]), zero_point(rng)
    act = activation(rng)
    net = Net()
    given = [net.given(a, *qa), net.given(b, *qb)]
    out = net.tensor(shape, "int8", *y)
    net.operator(code, given, out, 2, options, fusedActivationFunction=formulas.ACTIVATION_CODES[act])
    return Case(net, out, by_kind(lambda k: formula(a, b, qa, qb, y, act, k)), None, act)


def add(rng):
    """ADD of two tensors of one shape."""
    return binary(rng, "ADD", "Add", formulas.add, lambda r, a, b: F(max(a, b) * F(pick(r, 0.5, 1, 2, 1.7, 1.3))))


def sub(rng):
    """SUB of two tensors of one shape."""
    return binary(rng, "SUB", "Sub", lambda *a: formulas.add(*a, subtract=True),
                  lambda r, a, b: F(max(a, b) * F(pick(r, 0.5, 1, 2, 1.7, 1.3))))  # fmt: skip


def mul(rng):
    """MUL of two tensors of one shape."""
    return binary(rng, "MUL", "Mul", formulas.mul, lambda r, a, b: F(a * b * F(pick(r, 4, 16, 64, 100, 37.3, 1.1))))


def mean(rng):
    """MEAN over height and width, or over other axes."""
    shape = (int(rng.integers(1, 6)), *(int(s) for s in rng.integers(1, 18, 2)), int(rng.integers(1, 150)))
    q = scale(rng), zero_point(rng)
    x = codes(rng, shape)
    y = F(q[0] * F(pick(rng, 1, 0.5, 0.25, 0.1, 0.3, 1.7))), zero_point(rng)
    axes, keep = pick(rng, ([1, 2], True), ([1, 2], True), ([1, 2], False), ([2, 1], True), ([3], True), ([1], False))
    net = Net()
    given = net.given(x, *q)
    a = net.tensor([len(axes)], "int32", data=axes)
    n = x.sum(axis=tuple(axes), keepdims=keep).shape
    out = net.tensor(n, "int8", *y)
    net.operator("MEAN", [given, a], out, 2, "Reducer", keepDims=keep)
    return Case(net, out, by_kind(lambda k: formulas.mean(x, axes, keep, q, y, k)), True, f"{axes} keep={keep}")


def pool(rng, code, formula):
    kernel, strides = (int(k) for k in rng.integers(1, 6, 2)), tuple(int(s) for s in rng.integers(1, 4, 2))
    kernel = tuple(kernel)
    padding = pick(rng, "SAME", "VALID")
    size = np.maximum(kernel, rng.integers(1, 24, 2))
    x = codes(rng, (int(rng.integers(1, 4)), *size, int(rng.integers(1, 40))))
    y = scale(rng), zero_point(rng)
    act = activation(rng)
    net = Net()
    given = net.given(x, *y)
    expected = by_kind(lambda kind: formula(x, kernel, strides, padding, y, act, kind))
    out = net.tensor(expected["builtin"].shape, "int8", *y)
    net.operator(code, [given], out, 2, "Pool2D", padding=PADDINGS[padding], filterHeight=kernel[0],
                 filterWidth=kernel[1], strideH=strides[0], strideW=strides[1],
                 fusedActivationFunction=formulas.ACTIVATION_CODES[act])  # fmt: skip
    return Case(net, out, expected, None, f"{kernel} {strides} {padding} {act}")


def average_pool(rng):
    """AVERAGE_POOL_2D: XNNPACK's delegate leaves it to the built-in kernel."""
    def formula(*a):
        return formulas.average_pool(*a[:-1], "builtin")
    case = pool(rng, "AVERAGE_POOL_2D", formula)
    case.taken = False
    return case


def max_pool(rng):
    """MAX_POOL_2D."""
    return pool(rng, "MAX_POOL_2D", formulas.max_pool)


DRAWS = {
    "CONV_2D": conv, "DEPTHWISE_CONV_2D": depthwise, "FULLY_CONNECTED": fully_connected, "ADD": add, "SUB": sub,
    "MUL": mul, "MEAN": mean, "AVERAGE_POOL_2D": average_pool, "MAX_POOL_2D": max_pool,
}  # fmt: skip
