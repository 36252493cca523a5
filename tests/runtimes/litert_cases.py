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


def fallen_back(taken, function):
    """As by_kind, where XNNPACK's delegate leaves the operator to the built-in kernel unless `taken`."""
    return by_kind(lambda kind: function("builtin" if kind == "xnnpack" and not taken else kind))


def output_scale(rng, sums, unit, act="NONE", exact=None):
    """A scale that spreads sums over about the codes.

    At times a power of two, so that ties are common; at times one for which an activation's bound lies half way
    between codes; at times `exact` (the float32 product of a layer's scales) times a power of two: then float32 sees
    a multiplier of a power of two, and ties, where more bits would not.
    """
    spread = float(np.abs(sums).mean() + 1) * unit / pick(rng, 20.0, 40.0, 90.0)
    how = rng.integers(4)
    if how == 0:
        return F(2.0 ** np.round(np.log2(spread)))
    if how == 1 and exact is not None:
        return F(exact * F(2.0 ** np.round(np.log2(spread / float(exact)))))
    return between(act, scale(rng, spread)) if how == 2 else scale(rng, spread)


def between(act, about):
    """A scale near `about` for which the activation's upper bound lies half way between two codes."""
    most = formulas.ACTIVATIONS[act][1]
    return about if most is None else F(most / (max(np.floor(most / float(about)), 0) + 0.5))


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
    act = activation(rng)
    y = output_scale(rng, sums, float(q[0]) * float(np.mean(ws)), act, F(q[0] * ws[0])), zero_point(rng)
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
    act = activation(rng)
    y = output_scale(rng, sums, float(q[0]) * float(np.mean(ws)), act, F(q[0] * ws[0])), zero_point(rng)
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
    act = activation(rng)
    y = output_scale(rng, sums, float(q[0]) * float(np.mean(ws)), act, F(q[0] * ws[0])), zero_point(rng)
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
    act = activation(rng)
    y = ratio(rng, qa[0], qb[0]), zero_point(rng)
    if rng.integers(2):
        y = between(act, y[0]), y[1]
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
    return binary(
        rng, "MUL", "Mul", formulas.mul, lambda r, a, b: F(F(a * b) * F(pick(r, 4, 16, 64, 128, 100, 37.3, 1.1)))
    )


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
    act = activation(rng)
    y = between(act, scale(rng)) if rng.integers(2) else scale(rng), zero_point(rng)
    net = Net()
    given = net.given(x, *y)
    taken = code == "MAX_POOL_2D" and all(s <= k for s, k in zip(strides, kernel, strict=True))
    expected = fallen_back(taken, lambda kind: formula(x, kernel, strides, padding, y, act, kind))
    out = net.tensor(expected["builtin"].shape, "int8", *y)
    net.operator(code, [given], out, 2, "Pool2D", padding=PADDINGS[padding], filterHeight=kernel[0],
                 filterWidth=kernel[1], strideH=strides[0], strideW=strides[1],
                 fusedActivationFunction=formulas.ACTIVATION_CODES[act])  # fmt: skip
    return Case(net, out, expected, taken, f"{kernel} {strides} {padding} {act}")


def average_pool(rng):
    """AVERAGE_POOL_2D: XNNPACK's delegate leaves it to the built-in kernel."""
    return pool(rng, "AVERAGE_POOL_2D", formulas.average_pool)


def max_pool(rng):
    """MAX_POOL_2D."""
    return pool(rng, "MAX_POOL_2D", formulas.max_pool)


def shape4(rng, channels=40):
    return (int(rng.integers(1, 4)), int(rng.integers(1, 20)), int(rng.integers(1, 20)), int(rng.integers(1, channels)))


def unary(net, code, options, given, y, shape, version=1, **fields):
    out = net.tensor(shape, "int8", *y)
    net.operator(code, [given], out, version, options, **fields)
    return out


def quantize(rng):
    """QUANTIZE of int8 to int8."""
    q, x = (scale(rng), zero_point(rng)), codes(rng, shape4(rng))
    y = F(q[0] * F(pick(rng, 1, 2, 0.5, 0.25, 3.7, 0.81, 1.9, 10))), zero_point(rng)
    net = Net()
    out = unary(net, "QUANTIZE", "Quantize", net.given(x, *q), y, x.shape, 2)
    return Case(net, out, by_kind(lambda k: formulas.requantize(x, q, y, k)), True)


def leaky_relu(rng):
    """LEAKY_RELU; slopes may be negative."""
    q, x = (scale(rng), zero_point(rng)), codes(rng, shape4(rng))
    y = F(q[0] * F(pick(rng, 1, 2, 0.5, 3.7, 0.81))), zero_point(rng)
    alpha = F(pick(rng, 0.01, 0.1, 0.25, 0.5, 0.3, 1.5, -0.3, -0.5))
    net = Net()
    out = unary(net, "LEAKY_RELU", "LeakyRelu", net.given(x, *q), y, x.shape, 2, alpha=float(alpha))
    taken = bool(abs(F(F(q[0] / y[0]) * alpha)) >= 1 / 256)
    return Case(net, out, fallen_back(taken, lambda k: formulas.leaky_relu(x, q, y, alpha, k)), taken, f"{alpha}")


def prelu(rng):
    """PRELU with a slope a channel."""
    q, x = (scale(rng), zero_point(rng)), codes(rng, shape4(rng))
    qs = scale(rng, 0.01), zero_point(rng)
    slopes = codes(rng, (1, 1, x.shape[3]))
    y = F(q[0] * F(pick(rng, 1, 2, 0.5, 3.7, 0.81))), zero_point(rng)
    net = Net()
    given = [net.given(x, *q), net.tensor(slopes.shape, "int8", *qs, 0, slopes)]
    out = net.tensor(x.shape, "int8", *y)
    net.operator("PRELU", given, out, 1)
    return Case(net, out, both(formulas.prelu(x, slopes, q, qs, y)), False)


def table(rng, code, y):
    q = scale(rng), zero_point(rng)
    x = rng.permutation(np.arange(-128, 128, dtype=np.int8)).reshape(1, 256)
    net = Net()
    out = unary(net, code, None, net.given(x, *q), y, x.shape, 2)
    expected = by_kind(lambda k: formulas.sigmoid_or_tanh(code, q, y, k)[x.astype(np.int64) + 128])
    return Case(net, out, expected, True)


def logistic(rng):
    """LOGISTIC: all 256 codes; the output's scale must be 1/256."""
    return table(rng, "LOGISTIC", (F(1 / 256), pick(rng, -128, -128, 0, 5)))


def tanh(rng):
    """TANH: all 256 codes."""
    return table(rng, "TANH", (pick(rng, F(1 / 128), F(1 / 128), scale(rng, 0.01)), pick(rng, 0, 0, 7, -100)))


def hard_swish(rng):
    """HARD_SWISH."""
    q = scale(rng, 0.06), zero_point(rng)
    x = rng.permutation(np.arange(-128, 128, dtype=np.int8)).reshape(1, 256)
    y = F(q[0] * F(pick(rng, 1, 2, 0.5, 0.37, 0.81))), zero_point(rng)
    net = Net()
    out = unary(net, "HARD_SWISH", "HardSwish", net.given(x, *q), y, x.shape)
    return Case(net, out, both(formulas.hard_swish(x, q, y)), False)


def softmax(rng):
    """SOFTMAX over the last axis."""
    q = scale(rng, 0.1), zero_point(rng)
    x = codes(rng, (int(rng.integers(1, 60)), int(rng.integers(1, 120))))
    if rng.integers(2):
        x = (x // pick(rng, 3, 9, 40)).astype(np.int8)
    beta, y = F(pick(rng, 1, 1, 1, 0.5, 2)), (F(1 / 256), -128)
    net = Net()
    out = unary(net, "SOFTMAX", "Softmax", net.given(x, *q), y, x.shape, 2, beta=float(beta))
    fixed, real = formulas.softmax_reference(x, q, beta), formulas.softmax_builtin(x, q, beta, y)
    return Case(net, out, {"reference": fixed, "builtin": real, "xnnpack": real}, False, f"beta={beta}")


def concatenation(rng):
    """CONCATENATION of codes of one scale."""
    y, axis = (scale(rng), zero_point(rng)), int(rng.integers(0, 4))
    shape = shape4(rng, 12)
    parts = []
    for _ in range(rng.integers(2, 7)):
        part = list(shape)
        part[axis] = int(rng.integers(1, 9))
        parts.append(codes(rng, part))
    net = Net()
    given = [net.given(p, *y) for p in parts]
    found = np.concatenate(parts, axis=axis)
    out = net.tensor(found.shape, "int8", *y)
    net.operator("CONCATENATION", given, out, 2, "Concatenation", axis=axis)
    return Case(net, out, both(found), len(parts) <= 5, f"parts={len(parts)}")


def pad(rng):
    """PAD: padding holds the zero point."""
    y, x = (scale(rng), zero_point(rng)), codes(rng, shape4(rng, 12))
    amounts = rng.integers(0, 4, (4, 2))
    net = Net()
    given = [net.given(x, *y), net.tensor((4, 2), "int32", data=amounts)]
    found = np.pad(x, amounts, constant_values=y[1])
    out = net.tensor(found.shape, "int8", *y)
    net.operator("PAD", given, out, 2, "Pad")
    return Case(net, out, both(found), True)


def resize(rng, code, options):
    y, x = (scale(rng), zero_point(rng)), codes(rng, shape4(rng, 24))
    size = [int(s) for s in (rng.integers(1, 24, 2) if rng.integers(3) else np.array(x.shape[1:3]) * 2)]
    align, half = pick(rng, (False, False), (True, False), (False, True))
    net = Net()
    given = [net.given(x, *y), net.tensor([2], "int32", data=size)]
    out = net.tensor((x.shape[0], *size, x.shape[3]), "int8", *y)
    net.operator(code, given, out, 3, options, alignCorners=align, halfPixelCenters=half)
    return net, out, (x, size, align, half), f"{x.shape[1:3]} to {size} align={align} half={half}"


def resize_bilinear(rng):
    """RESIZE_BILINEAR."""
    net, out, a, note = resize(rng, "RESIZE_BILINEAR", "ResizeBilinear")
    return Case(net, out, by_kind(lambda k: formulas.resize_bilinear(*a, k)), True, note)


def resize_nearest(rng):
    """RESIZE_NEAREST_NEIGHBOR."""
    net, out, a, note = resize(rng, "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor")
    return Case(net, out, both(formulas.resize_nearest(*a)), False, note)


def transpose_conv(rng):
    """TRANSPOSE_CONV with a bias."""
    kernel, strides = rng.integers(1, 5, 2), rng.integers(1, 4, 2)
    padding = pick(rng, "SAME", "VALID")
    i, o = int(rng.integers(1, 12)), int(rng.integers(1, 24))
    n, h, w = int(rng.integers(1, 3)), int(rng.integers(1, 9)), int(rng.integers(1, 9))
    size = [int(d) * int(s) if padding == "SAME" else (int(d) - 1) * int(s) + int(k)
            for d, s, k in zip((h, w), strides, kernel, strict=True)]  # fmt: skip
    q = scale(rng), zero_point(rng)
    x = codes(rng, (n, h, w, i))
    weight, ws = weights(rng, (o, *kernel, i), o, 0)
    bias = rng.integers(-4000, 4000, o)
    shape = (n, *size, o)
    sums = formulas.transposed_sums(x, q[1], weight, bias, strides, padding, shape)
    act = pick(rng, "NONE", "NONE", "RELU", "RELU6")
    y = output_scale(rng, sums, float(q[0]) * float(np.mean(ws)), act, F(q[0] * ws[0])), zero_point(rng)
    net = Net()
    wanted = net.tensor([4], "int32", data=shape)
    k = net.tensor(weight.shape, "int8", ws, 0, 0, weight)
    given = net.given(x, *q)
    b = net.tensor([o], "int32", [F(q[0]) * s for s in ws], 0, 0, bias)
    out = net.tensor(shape, "int8", *y)
    net.operator("TRANSPOSE_CONV", [wanted, k, given, b], out, 4, "TransposeConv", padding=PADDINGS[padding],
                 strideH=int(strides[0]), strideW=int(strides[1]),
                 fusedActivationFunction=formulas.ACTIVATION_CODES[act])  # fmt: skip
    taken = padding == "VALID" or bool((kernel >= strides).all())
    return Case(net, out, fallen_back(taken, lambda k: formulas.layer(sums, q, ws, y, act, k, "TRANSPOSE_CONV")),
                taken, f"{kernel} {strides} {padding} {act}")  # fmt: skip


def wide(kind):
    """Which formula an int16 operator has: XNNPACK's delegate takes none."""
    return "builtin" if kind == "xnnpack" else kind


def layer16(rng, code, sums_of, weight_shape, outputs, options, version, axis, **fields):
    """A layer of int16 codes with int8 weights and an int64 bias."""
    q = scale(rng, 0.001), 0
    x, extra = sums_of(rng)
    w, ws = weights(rng, weight_shape, outputs, axis)
    bias = rng.integers(-(2**30), 2**30, outputs)
    sums = extra(x, w, bias)
    act = activation(rng)
    y = output_scale(rng, sums, float(q[0]) * float(np.mean(ws)) / 256, act, F(q[0] * ws[0])), 0
    net = Net()
    given = net.given(x, *q)
    k = net.tensor(w.shape, "int8", ws, 0, axis, w)
    b = net.tensor([outputs], "int64", [F(q[0]) * s for s in ws], 0, 0, bias)
    out = net.tensor(sums.shape, "int16", *y)
    net.operator(code, [given, k, b], out, version, options,
                 fusedActivationFunction=formulas.ACTIVATION_CODES[act], **fields)  # fmt: skip
    return Case(net, out, both(formulas.layer16(sums, q, ws, y, act, code)), False, act)


def conv16(rng):
    """CONV_2D of int16 codes."""
    kernel, strides, padding = rng.integers(1, 4, 2), rng.integers(1, 3, 2), pick(rng, "SAME", "VALID")
    i, o = int(rng.integers(1, 20)), int(rng.integers(1, 24))
    size = np.maximum(kernel, rng.integers(1, 22, 2))

    def given(rng):
        x = codes(rng, (int(rng.integers(1, 4)), *size, i), np.int16)
        return x, lambda x, w, b: formulas.conv_sums(x, 0, w, b, strides, (1, 1), padding)

    return layer16(rng, "CONV_2D", given, (o, *kernel, i), o, "Conv2D", 4, 0, padding=PADDINGS[padding],
                   strideH=int(strides[0]), strideW=int(strides[1]), dilationHFactor=1, dilationWFactor=1)  # fmt: skip


def depthwise16(rng):
    """DEPTHWISE_CONV_2D of int16 codes."""
    kernel, strides, padding = rng.integers(1, 4, 2), np.repeat(rng.integers(1, 3), 2), pick(rng, "SAME", "VALID")
    c, times = int(rng.integers(1, 30)), int(pick(rng, 1, 1, 2))
    size = np.maximum(kernel, rng.integers(1, 22, 2))

    def given(rng):
        x = codes(rng, (int(rng.integers(1, 4)), *size, c), np.int16)
        return x, lambda x, w, b: formulas.depthwise_sums(x, 0, w, b, strides, (1, 1), padding)

    return layer16(rng, "DEPTHWISE_CONV_2D", given, (1, *kernel, c * times), c * times, "DepthwiseConv2D", 5, 3,
                   padding=PADDINGS[padding], strideH=int(strides[0]), strideW=int(strides[1]), dilationHFactor=1,
                   dilationWFactor=1, depthMultiplier=times)  # fmt: skip


def fully_connected16(rng):
    """FULLY_CONNECTED of int16 codes."""
    n, i, o = int(rng.integers(1, 50)), int(rng.integers(1, 300)), int(rng.integers(1, 60))

    def given(rng):
        return codes(rng, (n, i), np.int16), lambda x, w, b: x.astype(np.int64) @ w.astype(np.int64).T + b

    return layer16(rng, "FULLY_CONNECTED", given, (o, i), o, "FullyConnected", 7, 0)


def binary16(rng, code, formula, ratio):
    shape, qa, qb = shape4(rng), (scale(rng, 0.001), 0), (scale(rng, 0.001), 0)
    a, b = codes(rng, shape, np.int16), codes(rng, shape, np.int16)
    y, act = (ratio(qa[0], qb[0]), 0), activation(rng)
    net = Net()
    given = [net.given(a, *qa), net.given(b, *qb)]
    out = net.tensor(shape, "int16", *y)
    net.operator(code, given, out, 4, code.title(), fusedActivationFunction=formulas.ACTIVATION_CODES[act],
                 **({} if code == "MUL" else {"potScaleInt16": False}))  # fmt: skip
    return Case(net, out, by_kind(lambda k: formula(a, b, qa, qb, y, act, wide(k))), False, act)


def add16(rng):
    """ADD of int16 codes with any scales."""
    return binary16(rng, "ADD", formulas.add, lambda a, b: F(max(a, b) * F(pick(rng, 0.5, 1, 2, 1.7))))


def sub16(rng):
    """SUB of int16 codes with any scales."""
    return binary16(rng, "SUB", lambda *a: formulas.add(*a, subtract=True),
                    lambda a, b: F(max(a, b) * F(pick(rng, 0.5, 1, 2, 1.7))))  # fmt: skip


def mul16(rng):
    """MUL of int16 codes."""
    return binary16(rng, "MUL", formulas.mul, lambda a, b: F(a * b * F(pick(rng, 4000, 16384, 65536, 37300))))


def mean16(rng):
    """MEAN of int16 codes."""
    shape = (int(rng.integers(1, 6)), *(int(s) for s in rng.integers(1, 18, 2)), int(rng.integers(1, 150)))
    q, x = (scale(rng), 0), codes(rng, shape, np.int16)
    y = F(q[0] * F(pick(rng, 1, 0.5, 0.25, 0.1, 1.7))), 0
    axes, keep = pick(rng, ([1, 2], True), ([1, 2], False), ([3], True), ([1], False))
    net = Net()
    given = [net.given(x, *q), net.tensor([len(axes)], "int32", data=axes)]
    out = net.tensor(x.sum(axis=tuple(axes), keepdims=keep).shape, "int16", *y)
    net.operator("MEAN", given, out, 3, "Reducer", keepDims=keep)
    return Case(net, out, both(formulas.mean(x, axes, keep, q, y, "reference")), False, f"{axes} keep={keep}")


def quantize16(rng):
    """QUANTIZE between int8 and int16, and of int16 to int16."""
    source, wanted = pick(rng, (np.int16, np.int8), (np.int8, np.int16), (np.int16, np.int16))
    q = scale(rng, 0.05 if source is np.int8 else 0.0005), zero_point(rng) if source is np.int8 else 0
    x = codes(rng, shape4(rng), source)
    grow = 256 if (source, wanted) == (np.int16, np.int8) else 1 / 256 if wanted != source else 1
    y = F(q[0] * F(grow * pick(rng, 1, 2, 0.5, 3.7, 0.81))), zero_point(rng) if wanted is np.int8 else 0
    net = Net()
    given = net.given(x, *q)
    out = net.tensor(x.shape, np.dtype(wanted).name, *y)
    net.operator("QUANTIZE", [given], out, 2, "Quantize")
    return Case(net, out, by_kind(lambda k: formulas.requantize(x, q, y, wide(k), wanted)), False,
                f"{np.dtype(source)} to {np.dtype(wanted)}")  # fmt: skip


def broadcast(rng, code, formula, ratio):
    """A tensor and what is broadcast to it: one row of channels, one a sample, one number, one number a pixel.

    Half of the latter are constants; either stands left.
    """
    n, h, w, c = shape = shape4(rng, 60)
    qa, qb = (scale(rng), zero_point(rng)), (scale(rng), zero_point(rng))
    if rng.integers(2):  # far apart: what vectors drop shows
        qb = F(qa[0] * F(pick(rng, 0.013, 0.17, 5.3))), qb[1]
    small = pick(rng, (1, 1, 1, c), (n, 1, 1, c), (1, 1, 1, 1), (n, h, w, 1))
    a, b = codes(rng, shape), codes(rng, small)
    y, act = (ratio(qa[0], qb[0]), zero_point(rng)), activation(rng)
    net = Net()
    other = net.tensor(b.shape, "int8", *qb, 0, b) if rng.integers(2) else net.given(b, *qb)
    given, sides = [net.given(a, *qa), other], ((a, qa), (b, qb))
    if rng.integers(2):
        given, sides = given[::-1], sides[::-1]
    (a, qa), (b, qb) = sides
    out = net.tensor(shape, "int8", *y)
    net.operator(code, given, out, 2, code.title(), fusedActivationFunction=formulas.ACTIVATION_CODES[act])
    return Case(net, out, by_kind(lambda k: formula(a, b, qa, qb, y, act, k)), None, f"{shape} and {small} {act}")


def add_broadcast(rng):
    """ADD of what is broadcast."""
    return broadcast(rng, "ADD", formulas.add, lambda a, b: F(max(a, b) * F(pick(rng, 0.5, 1, 2, 1.7, 1.3))))


def mul_broadcast(rng):
    """MUL by what is broadcast."""
    return broadcast(rng, "MUL", formulas.mul, lambda a, b: F(a * b * F(pick(rng, 4, 16, 64, 100, 37.3, 1.1))))


ROWS = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D"),
    *("QUANTIZE", "LEAKY_RELU", "LOGISTIC", "TANH", "SOFTMAX"),
}
"""Operators that do with each row of their first axis what they do with one."""


def enlarged(rng, case, size):
    """The net on more rows, until its output has about `size` codes; without what is expected of it."""
    net, (operator,) = case.net, case.net.operators
    out = net.tensors[case.output]["shape"]
    times = size // int(np.prod(out))
    shapes = {tuple(net.arrays[f"input.{i}"].shape) for i in net.inputs}
    alone = operator["code"] not in ("ADD", "SUB", "MUL") or (len(net.inputs) == 2 and len(shapes) == 1)
    if operator["code"] not in ROWS or times < 2 or not alone:
        return case
    for i in net.inputs:
        given = net.arrays[f"input.{i}"]
        more = codes(rng, (given.shape[0] * (times - 1), *given.shape[1:]), given.dtype)
        net.arrays[f"input.{i}"] = np.concatenate([given, more])
        net.tensors[i]["shape"][0] *= times
    out[0] *= times
    return Case(net, case.output, {}, case.taken, case.note)


def network(rng, depth=8):
    """Layers one behind the other, sums, products and concatenations of earlier tensors, to a softmax.

    No fused activation ends between two codes, channels are multiples of 16: what the targets' files say differs.
    """
    net, size, batch = Net(), int(rng.integers(9, 17)), int(rng.integers(1, 4))
    shape, q = (batch, size, size, 16 * int(rng.integers(1, 3))), (scale(rng, 0.02), int(rng.integers(-30, 30)))
    known = [(net.given(codes(rng, shape), *q), shape, q)]

    def made(code, inputs, about, shape, version=2, options=None, q=None, **fields):
        q = q or (scale(rng, about), int(rng.integers(-30, 30)))
        out = net.tensor(shape, "int8", *q)
        net.operator(code, inputs, out, version, options, **fields)
        known.append((out, shape, q))

    def layer(code, given, w, axis, shape, options, version=3, **fields):
        index, _, (sx, _) = given
        count = w.shape[axis]
        ws = [scale(rng, 0.01) for _ in range(count)] if rng.integers(2) else [scale(rng, 0.01)]
        spread = float(sx) * float(np.mean(ws)) * 50 * float(np.sqrt(np.mean(w.astype(float) ** 2) * w.size / count))
        bias = np.round(rng.normal(0, spread / float(sx) / float(np.mean(ws)), count))
        k = net.tensor(w.shape, "int8", ws, 0, axis, w)
        b = net.tensor([count], "int32", [F(sx) * s for s in ws], 0, 0, bias)
        made(code, [index, k, b], spread / 50, shape, version, options, **fields)

    for _ in range(depth):
        last = known[-1]
        index, shape, q = last
        others = [one for one in known[:-1] if one[1] == shape and one[0] != index]
        same = others[rng.integers(len(others))] if others else None
        kind = pick(rng, "conv", "conv", "depthwise", "add", "mul", "concat", "pool", "leaky", "requantize")
        if kind == "conv" or (kind in ("add", "mul") and same is None):
            kernel, o = int(pick(rng, 1, 3)), 16 * int(rng.integers(1, 4))
            w = codes(rng, (o, kernel, kernel, shape[3]))
            layer("CONV_2D", last, w, 0, (*shape[:3], o), "Conv2D", padding=0, strideH=1, strideW=1,
                  fusedActivationFunction=formulas.ACTIVATION_CODES[pick(rng, "NONE", "RELU")],
                  dilationHFactor=1, dilationWFactor=1)  # fmt: skip
        elif kind == "depthwise":
            kernel = int(pick(rng, 3, 5))
            layer("DEPTHWISE_CONV_2D", last, codes(rng, (1, kernel, kernel, shape[3])), 3, shape, "DepthwiseConv2D",
                  padding=0, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1,
                  depthMultiplier=1)  # fmt: skip
        elif kind == "add":
            made("ADD", [index, same[0]], float(max(q[0], same[2][0])) * 1.3, shape, 2, "Add")
        elif kind == "mul":
            made("MUL", [index, same[0]], float(q[0]) * float(same[2][0]) * 60, shape, 2, "Mul")
        elif kind == "concat":
            wide = (*shape[:3], 2 * shape[3])
            made("CONCATENATION", [index, index], 0, wide, 2, "Concatenation", q=q, axis=3)
        elif kind == "pool":
            made("MAX_POOL_2D", [index], 0, shape, 2, "Pool2D", q=q, padding=0, filterHeight=3, filterWidth=3,
                 strideH=1, strideW=1)  # fmt: skip
        elif kind == "leaky":
            made("LEAKY_RELU", [index], float(q[0]) * 0.8, shape, 2, "LeakyRelu", alpha=0.25)
        else:
            made("QUANTIZE", [index], float(q[0]) * 0.9, shape, 2, "Quantize")
    index, shape, q = known[-1]
    axes = net.tensor([2], "int32", data=[1, 2])
    made("MEAN", [index, axes], float(q[0]) * 0.3, (batch, shape[3]), 2, "Reducer", keepDims=False)
    layer("FULLY_CONNECTED", known[-1], codes(rng, (48, shape[3])), 0, (batch, 48), "FullyConnected", 5)
    return Case(net, known[-1][0], {})


DRAWS = {
    "CONV_2D": conv, "DEPTHWISE_CONV_2D": depthwise, "FULLY_CONNECTED": fully_connected, "ADD": add, "SUB": sub,
    "MUL": mul, "MEAN": mean, "AVERAGE_POOL_2D": average_pool, "MAX_POOL_2D": max_pool, "QUANTIZE": quantize,
    "LEAKY_RELU": leaky_relu, "PRELU": prelu, "LOGISTIC": logistic, "TANH": tanh, "HARD_SWISH": hard_swish,
    "SOFTMAX": softmax, "CONCATENATION": concatenation, "PAD": pad, "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest, "TRANSPOSE_CONV": transpose_conv,
    "ADD broadcast": add_broadcast, "MUL broadcast": mul_broadcast, "CONV_2D int16": conv16,
    "DEPTHWISE_CONV_2D int16": depthwise16, "FULLY_CONNECTED int16": fully_connected16, "ADD int16": add16,
    "SUB int16": sub16, "MUL int16": mul16, "MEAN int16": mean16, "QUANTIZE int16": quantize16,
}  # fmt: skip
