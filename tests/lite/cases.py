"""Networks of one operator (and one of many), with random codes, scales, shapes and options."""

from __future__ import annotations

import numpy as np

from tests.lite.build import ACT, SAME, VALID, Net

BYTE = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


def scale(rng, about=0.05):
    return float(np.float32(about * rng.uniform(0.7, 1.4)))


def zero(rng, dtype):
    return 0 if dtype == "int16" else int(rng.integers(BYTE[dtype][0] // 2, BYTE[dtype][1] // 2 + 1))


def given(net, rng, shape, dtype="int8", name="x", about=None):
    """An input of the network."""
    about = about or (0.0002 if dtype == "int16" else 0.05)
    x = net.tensor(name, shape, dtype, scale=scale(rng, about), zero=zero(rng, dtype))
    net.inputs.append(x)
    return x


def made(net, rng, shape, dtype="int8", about=None, name="y", like=None):
    """The output of the network; `like`: with the scale of that tensor."""
    about = about or (0.0002 if dtype == "int16" else 0.05)
    s, z = (net.tensors[like][4:6]) if like is not None else (scale(rng, about), zero(rng, dtype))
    y = net.tensor(name, shape, dtype, scale=s, zero=z)
    net.outputs.append(y)
    return y


def step(net, tensor):
    """A tensor's scale."""
    return net.tensors[tensor][4]


def weighted(net, rng, x, shape, axis, terms, dtype, per_channel=True, bias=True):
    """Weights, a bias, and a scale for the output in which sums spread over its codes."""
    channels = shape[axis]
    scales = np.float32(rng.uniform(0.002, 0.01, channels if per_channel and dtype != "uint8" else 1))
    if dtype == "uint8":
        w = net.tensor("w", shape, "uint8", rng.integers(0, 256, shape), scales, zero(rng, dtype), axis)
    else:
        w = net.tensor("w", shape, "int8", rng.integers(-127, 128, shape), scales, 0, axis)
    b = -1
    spread = 5500 * np.sqrt(terms) * (256 if dtype == "int16" else 1)
    if bias:
        wide = "int64" if dtype == "int16" else "int32"
        codes = rng.integers(-int(spread), int(spread), channels)
        b = net.tensor("b", [channels], wide, codes, scales * np.float32(step(net, x)), 0)
    about = step(net, x) * float(scales.mean()) * spread / (12000 if dtype == "int16" else 45)
    return w, b, about


def window(size, kernel, stride, dilation, padding):
    reach = dilation * (kernel - 1) + 1
    return -(-size // stride) if padding == SAME else (size - reach) // stride + 1


def conv(rng, dtype, depthwise=False, groups=1):
    net = Net()
    n, h, w, c = int(rng.integers(1, 3)), int(rng.integers(5, 10)), int(rng.integers(5, 10)), int(rng.integers(1, 4))
    c *= groups
    kh, kw, sh, sw = (int(v) for v in rng.integers(1, 4, 4))
    dh, dw = (1, 1) if max(sh, sw) > 1 else (int(v) for v in rng.integers(1, 3, 2))
    padding = int(rng.choice([SAME, VALID]))
    x = given(net, rng, [n, h, w, c], dtype)
    multiplier = int(rng.integers(1, 4))
    channels = c * multiplier if depthwise else groups * int(rng.integers(1, 4))
    shape = [1, kh, kw, channels] if depthwise else [channels, kh, kw, c // groups]
    per_channel = dtype == "int16" or depthwise or bool(rng.integers(2))
    k = kh * kw * (1 if depthwise else c // groups)
    wt, b, about = weighted(net, rng, x, shape, 3 if depthwise else 0, k, dtype, per_channel, bool(rng.integers(4)))
    out = [n, window(h, kh, sh, dh, padding), window(w, kw, sw, dw, padding), channels]
    y = made(net, rng, out, dtype, about)
    table = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
    more = {"DepthMultiplier": multiplier} if depthwise else {}
    inputs = [x, wt] + ([b] if b >= 0 else [])
    net.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", inputs, y, table, Padding=padding, StrideH=sh,
                 StrideW=sw, DilationHFactor=dh, DilationWFactor=dw,
                 FusedActivationFunction=int(rng.choice(list(ACT.values()))), **more)  # fmt: skip
    return net


def depthwise(rng, dtype):
    return conv(rng, dtype, depthwise=True)


def grouped(rng, dtype):
    return conv(rng, dtype, groups=2)


def transpose_conv(rng, dtype):
    net = Net()
    h, w, c, channels = (int(v) for v in rng.integers(2, 5, 4))
    kh, kw, sh, sw = (int(v) for v in rng.integers(1, 4, 4))
    padding = int(rng.choice([SAME, VALID]))
    if padding == SAME:
        oh, ow = h * sh - int(rng.integers(0, sh)), w * sw - int(rng.integers(0, sw))
    else:
        oh, ow = ((s - 1) * t + max(k, t) - int(rng.integers(0, t)) for s, t, k in ((h, sh, kh), (w, sw, kw)))
        oh, ow = max(oh, (h - 1) * sh + kh), max(ow, (w - 1) * sw + kw)
    x = given(net, rng, [1, h, w, c], dtype)
    wt, b, about = weighted(net, rng, x, [channels, kh, kw, c], 0, kh * kw * c, dtype, True, bool(rng.integers(2)))
    y = made(net, rng, [1, oh, ow, channels], dtype, about)
    size = net.constant("size", [1, oh, ow, channels])
    inputs = [size, wt, x] + ([b] if b >= 0 else [])
    net.operator("TRANSPOSE_CONV", inputs, y, "TransposeConvOptions", Padding=padding, StrideH=sh, StrideW=sw)
    return net


def fully_connected(rng, dtype):
    net = Net()
    k, channels, rows = (int(v) for v in rng.integers(2, 20, 3))
    keep = bool(rng.integers(2))
    shape = [2, rows, k] if keep else [rows, k]
    x = given(net, rng, shape, dtype)
    w, b, about = weighted(net, rng, x, [channels, k], 0, k, dtype, False, bool(rng.integers(3)))
    y = made(net, rng, [*shape[:-1], channels], dtype, about)
    net.operator("FULLY_CONNECTED", [x, w, b], y, "FullyConnectedOptions", KeepNumDims=keep,
                 FusedActivationFunction=int(rng.choice(list(ACT.values()))))  # fmt: skip
    return net


def flattened(rng, dtype):
    """An image straight into FULLY_CONNECTED."""
    net = Net()
    x = given(net, rng, [2, 3, 2, 4], dtype)
    w, b, about = weighted(net, rng, x, [5, 24], 0, 24, dtype, False)
    y = made(net, rng, [2, 5], dtype, about)
    net.operator("FULLY_CONNECTED", [x, w, b], y, "FullyConnectedOptions")
    return net


def binary(kind, table):
    def case(rng, dtype):
        net = Net()
        shape = [1, 3, 4, 5]
        x = given(net, rng, shape, dtype)
        form = int(rng.integers(3))
        if form == 0:
            z = given(net, rng, shape, dtype, "z")
        elif form == 1 or dtype == "int16":
            z = net.tensor("z", shape, dtype, rng.integers(*BYTE[dtype], shape), scale(rng), zero(rng, dtype))
            z = z if dtype != "int16" else given(net, rng, shape, dtype, "zz")
        else:
            z = net.tensor("z", [1, 1, 1, 5], dtype, rng.integers(*BYTE[dtype], 5), scale(rng), zero(rng, dtype))
        reach = (step(net, x) + step(net, z)) * (20000 if dtype == "int16" else 90)
        if kind == "MUL":
            reach = step(net, x) * step(net, z) * (20000**2 if dtype == "int16" else 90**2)
        y = made(net, rng, shape, dtype, reach / (32767 if dtype == "int16" else 128))
        activation = 0 if dtype == "int16" else int(rng.choice(list(ACT.values())))
        net.operator(kind, [x, z], y, table, FusedActivationFunction=activation)
        return net

    return case


def pool(kind):
    def case(rng, dtype):
        net = Net()
        h, w, c = (int(v) for v in rng.integers(5, 9, 3))
        kh, kw, sh, sw = (int(v) for v in rng.integers(1, 4, 4))
        padding = int(rng.choice([SAME, VALID]))
        x = given(net, rng, [1, h, w, c], dtype)
        y = made(net, rng, [1, window(h, kh, sh, 1, padding), window(w, kw, sw, 1, padding), c], dtype, like=x)
        net.operator(kind, [x], y, "Pool2DOptions", Padding=padding, StrideH=sh, StrideW=sw, FilterHeight=kh,
                     FilterWidth=kw, FusedActivationFunction=int(rng.choice([0, 1, 3])))  # fmt: skip
        return net

    return case


def mean(rng, dtype):
    net = Net()
    shape = [2, 3, 4, 5]
    x = given(net, rng, shape, dtype)
    axes = [[1, 2], [2, 1], [-1], [3], [0, 3], [1]][int(rng.integers(6))]
    gone = {a % 4 for a in axes}
    keep = bool(rng.integers(2))
    out = [1 if a in gone else s for a, s in enumerate(shape) if keep or a not in gone]
    y = made(net, rng, out, dtype, step(net, x) * 0.7)
    net.operator("MEAN", [x, net.constant("axes", axes)], y, "ReducerOptions", KeepDims=keep)
    return net


def unary(kind, table=None, about=None, out=None, **options):
    """`out`: scale and zero point that the runtime wants of an int8 output, and scale of an int16 one."""

    def case(rng, dtype):
        net = Net()
        shape = [2, 3, 4, 5] if rng.integers(2) else [3, 7]
        x = given(net, rng, shape, dtype, about=about)
        if out is not None:
            s, z = (out[2], 0) if dtype == "int16" else (out[0], out[1] + 128 * (dtype == "uint8"))
            y = net.tensor("y", shape, dtype, scale=s, zero=z)
            net.outputs.append(y)
        else:
            y = made(net, rng, shape, dtype, step(net, x) * 0.8)
        drawn = {k: float(np.float32(rng.uniform(0.05, 1.5))) for k, v in options.items() if v is None}
        net.operator(kind, [x], y, table, **{**options, **drawn})
        return net

    return case


def prelu(rng, dtype):
    net = Net()
    x = given(net, rng, [1, 3, 4, 5], dtype)
    kind = "int8" if dtype == "int16" else dtype  # LiteRT reads the bytes of 16-bit alphas as 8-bit ones
    alpha = net.tensor("alpha", [1, 1, 5], kind, rng.integers(*BYTE[kind], 5), 0.01, zero(rng, dtype))
    y = made(net, rng, [1, 3, 4, 5], dtype, step(net, x))
    net.operator("PRELU", [x, alpha], y)
    return net


def requantize(rng, dtype):
    net = Net()
    x = given(net, rng, [2, 3, 4, 5], dtype)
    other = "int8" if dtype == "int16" else str(rng.choice(["int8", "uint8"]))
    y = made(net, rng, [2, 3, 4, 5], other, step(net, x) * (150 if dtype == "int16" else 0.8))
    net.operator("QUANTIZE", [x], y)
    return net


def ends(rng, dtype):
    """Floats in, floats out."""
    net = Net()
    x = net.tensor("real", [1, 4, 5, 3], "float32")
    q = net.tensor("q", [1, 4, 5, 3], dtype, scale=scale(rng), zero=zero(rng, dtype))
    y = net.tensor("answer", [1, 4, 5, 3], "float32")
    net.operator("QUANTIZE", [x], q)
    net.operator("DEQUANTIZE", [q], y)
    net.inputs, net.outputs = [x], [y]
    return net


def pad(rng, dtype, version=1):
    net = Net()
    x = given(net, rng, [1, 3, 4, 2], dtype)
    pads = rng.integers(0, 3, (4, 2))
    pads[0] = 0
    y = made(net, rng, [1, 3 + pads[1].sum(), 4 + pads[2].sum(), 2 + pads[3].sum()], dtype, like=x)
    inputs = [x, net.constant("pads", pads)]
    if version == 2:
        s, z = net.tensors[x][4:6]
        inputs.append(net.tensor("value", [1], dtype, [int(rng.integers(*BYTE[dtype]))], s, z))
    net.operator("PADV2" if version == 2 else "PAD", inputs, y)
    return net


def padv2(rng, dtype):
    return pad(rng, dtype, 2)


def concatenation(rng, dtype):
    net = Net()
    axis = int(rng.integers(1, 4))
    same = dtype != "uint8"
    parts, total = [], 0
    for i in range(int(rng.integers(2, 4))):
        shape = [1, 3, 4, 2]
        shape[axis] = int(rng.integers(1, 4))
        total += shape[axis]
        parts.append(given(net, rng, shape, dtype, f"x{i}"))
        if same:
            held = net.tensors[parts[0]][4:6]
            net.tensors[parts[-1]] = (*net.tensors[parts[-1]][:4], *held, *net.tensors[parts[-1]][6:])
    shape = [1, 3, 4, 2]
    shape[axis] = total
    y = made(net, rng, shape, dtype, like=parts[0])
    net.operator("CONCATENATION", parts, y, "ConcatenationOptions", Axis=axis - 4 * int(rng.integers(2)))
    return net


def moved(kind, table=None, **options):
    """RESHAPE, TRANSPOSE, SQUEEZE, EXPAND_DIMS."""

    def case(rng, dtype):
        net = Net()
        x = given(net, rng, [1, 3, 4, 2] if kind != "SQUEEZE" else [1, 3, 1, 2], dtype)
        if kind == "RESHAPE":
            y = made(net, rng, [3, 8], dtype, like=x)
            inputs = [x, net.constant("shape", [3, -1])]
        elif kind == "TRANSPOSE":
            perm = rng.permutation(4)
            y = made(net, rng, [[1, 3, 4, 2][p] for p in perm], dtype, like=x)
            inputs = [x, net.constant("perm", perm)]
        elif kind == "SQUEEZE":
            dims = [[], [2], [0, -2]][int(rng.integers(3))]
            y = made(net, rng, {0: [3, 2], 1: [1, 3, 2], 2: [3, 2]}[len(dims)], dtype, like=x)
            net.operator(kind, [x], y, table, SqueezeDims=dims)
            return net
        else:
            axis = int(rng.integers(-5, 5)) if dtype == "int8" else 1
            shape = [1, 3, 4, 2]
            shape.insert(axis % 5, 1)
            y = made(net, rng, shape, dtype, like=x)
            inputs = [x, net.constant("axis", [axis])]
        net.operator(kind, inputs, y, table, **options)
        return net

    return case


def slice_(rng, dtype):
    net = Net()
    x = given(net, rng, [1, 5, 6, 4], dtype)
    begin = [0, *(int(v) for v in rng.integers(0, 3, 3))]
    size = [1, int(rng.integers(1, 3)), -1, int(rng.integers(1, 3))]
    out = [1, size[1], 6 - begin[2], size[3]]
    y = made(net, rng, out, dtype, like=x)
    net.operator("SLICE", [x, net.constant("begin", begin), net.constant("size", size)], y)
    return net


def strided_slice(rng, dtype):
    net = Net()
    x = given(net, rng, [2, 5, 6, 4], dtype)
    begin, end, strides, masks, shrink = [
        ([0, 1, 2, 0], [2, 5, 6, 4], [1, 2, 3, 1], 0, 0),
        ([0, -2, 0, 1], [2, -5, 6, 3], [1, -1, 2, 1], 0, 0),
        ([1, 4, 5, 0], [2, 0, 0, 4], [1, -1, -2, 1], 0b0110, 0),
        ([1, 0, 2, 0], [2, 5, 3, 4], [1, 1, 1, 1], 0, 0b0101),
        ([0, -1, 0, -2], [2, 5, 5, 4], [1, 1, 2, 1], 0, 0b1010),
    ][int(rng.integers(5))]
    index = tuple(
        b if shrink >> a & 1 else slice(None if masks >> a & 1 else b, None if masks >> a & 1 else e, s)
        for a, (b, e, s) in enumerate(zip(begin, end, strides, strict=True))
    )
    y = made(net, rng, list(np.zeros([2, 5, 6, 4])[index].shape), dtype, like=x)
    inputs = [x, *(net.constant(n, v) for n, v in (("begin", begin), ("end", end), ("strides", strides)))]
    net.operator("STRIDED_SLICE", inputs, y, "StridedSliceOptions", BeginMask=masks, EndMask=masks,
                 ShrinkAxisMask=shrink)  # fmt: skip
    return net


def split(rng, dtype):
    net = Net()
    axis = int(rng.integers(1, 4))
    x = given(net, rng, [1, 4, 6, 2], dtype)
    count, shape = 2, [1, 4, 6, 2]
    shape[axis] //= count
    outs = [made(net, rng, shape, dtype, name=f"y{i}", like=x) for i in range(count)]
    net.operator("SPLIT", [net.constant("axis", np.array(axis)), x], outs, "SplitOptions", NumSplits=count)
    return net


def split_v(rng, dtype):
    net = Net()
    x = given(net, rng, [1, 4, 6, 2], dtype)
    outs = [made(net, rng, [1, 4, s, 2], dtype, name=f"y{s}", like=x) for s in (1, 2, 3)]
    inputs = [x, net.constant("sizes", [1, 2, -1]), net.constant("axis", np.array(2))]
    net.operator("SPLIT_V", inputs, outs, "SplitVOptions", NumSplits=3)
    return net


def split_inside(rng, dtype):
    """Parts of what a convolution made, one of them cut and padded, side by side again: all of it channels first."""
    net = Net()
    x = given(net, rng, [1, 6, 5, 2], dtype)
    w, b, about = weighted(net, rng, x, [6, 3, 3, 2], 0, 18, dtype)
    y = made(net, rng, [1, 6, 5, 6], dtype, about)
    net.operator("CONV_2D", [x, w, b], y, "Conv2DOptions", Padding=SAME, StrideH=1, StrideW=1, DilationHFactor=1,
                 DilationWFactor=1)  # fmt: skip
    net.outputs.clear()
    parts = [made(net, rng, [1, 6, 5, s], dtype, name=f"part{s}", like=y) for s in (1, 2, 3)]
    sizes, axis = net.constant("sizes", [1, 2, 3]), net.constant("axis", np.array(-1))
    net.operator("SPLIT_V", [y, sizes, axis], parts, "SplitVOptions", NumSplits=3)
    cut = made(net, rng, [1, 5, 5, 3], dtype, name="cut", like=y)
    ends = [net.constant(n, v) for n, v in (("begin", [0, 1, 0, 0]), ("end", [1, 6, 5, 3]), ("steps", [1, 1, 1, 1]))]
    net.operator("STRIDED_SLICE", [parts[2], *ends], cut, "StridedSliceOptions")
    padded = made(net, rng, [1, 6, 5, 3], dtype, name="padded", like=y)
    net.operator("PAD", [cut, net.constant("pads", [[0, 0], [0, 1], [0, 0], [0, 0]])], padded)
    whole = made(net, rng, [1, 6, 5, 6], dtype, name="whole", like=y)
    net.operator("CONCATENATION", [parts[1], padded, parts[0]], whole, "ConcatenationOptions", Axis=3)
    return net


def resize(kind, table, corners=0, centres=0):
    def case(rng, dtype):
        net = Net()
        h, w, oh, ow = (int(v) for v in rng.integers(2, 9, 4))
        x = given(net, rng, [1, h, w, 3], dtype)
        y = made(net, rng, [1, oh, ow, 3], dtype, like=x)
        size = net.constant("size", [oh, ow])
        net.operator(kind, [x, size], y, table, AlignCorners=corners, HalfPixelCenters=centres)
        return net

    return case


def mixed(rng, dtype="int8", size=24):
    """An image network of most operators: an inverted residual, a pyramid, a gate, a head; floats at its ends."""
    net = Net()
    number = iter(range(1000))

    def tensor(shape, about, like=None):
        s, z = net.tensors[like][4:6] if like is not None else (scale(rng, about), zero(rng, dtype))
        return net.tensor(f"t{next(number)}", [int(v) for v in shape], dtype, scale=s, zero=z)

    def shape_of(t):
        return net.tensors[t][1]

    def weights_of(*args, **more):
        first = len(net.tensors)
        out = weighted(net, rng, *args, dtype, **more)
        for i in range(first, len(net.tensors)):
            net.tensors[i] = (f"{net.tensors[i][0]}{next(number)}", *net.tensors[i][1:])
        return out

    def conv(x, channels, kernel, stride=1, padding=SAME, activation="relu6", depthwise=False, dilation=1):
        n, h, w, c = shape_of(x)
        shape = [1, kernel, kernel, c * channels] if depthwise else [channels, kernel, kernel, c]
        axis, terms = (3, kernel**2) if depthwise else (0, kernel**2 * c)
        weight, bias, about = weights_of(x, shape, axis, terms)
        out = [window(v, kernel, stride, dilation, padding) for v in (h, w)]
        y = tensor([n, *out, shape[axis]], about)
        more = {"DepthMultiplier": channels} if depthwise else {}
        net.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, weight, bias], y,
                     "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions", Padding=padding, StrideH=stride,
                     StrideW=stride, DilationHFactor=dilation, DilationWFactor=dilation,
                     FusedActivationFunction=ACT[activation], **more)  # fmt: skip
        return y

    def op(kind, inputs, shape, table=None, about=None, like=None, **options):
        return net.operator(kind, inputs, tensor(shape, about, like), table, **options)

    def fixed(t, s, z):
        net.tensors[t] = (*net.tensors[t][:4], s, z, *net.tensors[t][6:])
        return t

    real = net.tensor("image", [1, size, size, 3], "float32")
    x = op("QUANTIZE", [real], [1, size, size, 3], about=0.05)
    x = conv(x, 8, 3, 2)
    narrow = conv(conv(conv(x, 16, 1), 1, 3, depthwise=True), 8, 1, activation="none")
    shape = shape_of(x)
    x = op("ADD", [x, narrow], shape, "AddOptions", about=step(net, x) + step(net, narrow))
    down = [1, shape[1] // 2, shape[2] // 2, 8]
    halves = {"Padding": VALID, "StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2}
    small = op("MAX_POOL_2D", [x], down, "Pool2DOptions", like=x, **halves)
    small = conv(small, 8, 3, dilation=2, activation="relu")
    to = net.constant("size", shape[1:3])
    up = op("RESIZE_NEAREST_NEIGHBOR", [small, to], shape, "ResizeNearestNeighborOptions", like=small)
    up = op("QUANTIZE", [up], shape, like=x)
    x = op("CONCATENATION", [x, up], [*shape[:3], 16], "ConcatenationOptions", like=x, Axis=3)
    gate = fixed(op("LOGISTIC", [x], shape_of(x), about=1), 1 / 256, -128)
    x = op("MUL", [x, gate], shape_of(x), "MulOptions", about=step(net, x))
    pads = net.constant("pads", [[0, 0], [1, 0], [0, 1], [0, 0]])
    x = op("PAD", [x, pads], [1, shape[1] + 1, shape[2] + 1, 16], like=x)
    x = conv(x, 12, 3, 2, VALID, "none")
    x = op("LEAKY_RELU", [x], shape_of(x), "LeakyReluOptions", about=step(net, x), Alpha=0.2)
    x = op("AVERAGE_POOL_2D", [x], [1, shape_of(x)[1] - 1, shape_of(x)[2] - 1, 12], "Pool2DOptions", like=x,
           **{**halves, "StrideH": 1, "StrideW": 1})  # fmt: skip
    x = op("MEAN", [x, net.constant("axes", [1, 2])], [1, 12], "ReducerOptions", about=step(net, x) * 0.5)
    w, b, about = weights_of(x, [10, 12], 0, 12, per_channel=False)
    x = op("FULLY_CONNECTED", [x, w, b], [1, 10], "FullyConnectedOptions", about=about)
    y = fixed(op("SOFTMAX", [x], [1, 10], "SoftmaxOptions", about=1, Beta=1.0), 1 / 256, -128)
    answer = net.tensor("answer", [1, 10], "float32")
    net.operator("DEQUANTIZE", [y], answer)
    net.inputs, net.outputs = [real], [answer]
    return net


CASES = {
    "conv": conv,
    "grouped": grouped,
    "depthwise": depthwise,
    "transpose_conv": transpose_conv,
    "fully_connected": fully_connected,
    "flattened": flattened,
    "add": binary("ADD", "AddOptions"),
    "sub": binary("SUB", "SubOptions"),
    "mul": binary("MUL", "MulOptions"),
    "average_pool": pool("AVERAGE_POOL_2D"),
    "max_pool": pool("MAX_POOL_2D"),
    "mean": mean,
    "relu": unary("RELU"),
    "relu6": unary("RELU6"),
    "relu_n1_to_1": unary("RELU_N1_TO_1"),
    "leaky_relu": unary("LEAKY_RELU", "LeakyReluOptions", Alpha=None),
    "prelu": prelu,
    "hard_swish": unary("HARD_SWISH"),
    "logistic": unary("LOGISTIC", out=(1 / 256, -128, 1 / 32768)),
    "tanh": unary("TANH", out=(1 / 128, 0, 1 / 32768)),
    "softmax": unary("SOFTMAX", "SoftmaxOptions", out=(1 / 256, -128, 1 / 32768), Beta=None),
    "requantize": requantize,
    "ends": ends,
    "pad": pad,
    "padv2": padv2,
    "concatenation": concatenation,
    "reshape": moved("RESHAPE"),
    "transpose": moved("TRANSPOSE"),
    "squeeze": moved("SQUEEZE", "SqueezeOptions"),
    "expand_dims": moved("EXPAND_DIMS"),
    "slice": slice_,
    "strided_slice": strided_slice,
    "split": split,
    "split_v": split_v,
    "split_inside": split_inside,
    **{
        f"resize_{name}{form}": resize(kind, table, **options)
        for name, kind, table in (
            ("nearest", "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
            ("bilinear", "RESIZE_BILINEAR", "ResizeBilinearOptions"),
        )
        for form, options in (("", {}), ("_corners", {"corners": 1}), ("_centres", {"centres": 1}))
    },
}


def inputs(net, rng):
    """Random codes (or floats) for the network's inputs, by name."""
    out = {}
    for i in net.inputs:
        name, shape, kind, *_ = net.tensors[i]
        if kind == 0:
            out[name] = rng.normal(0, 3, shape).astype(np.float32)
        else:
            dtype = {9: "int8", 3: "uint8", 7: "int16"}[kind]
            out[name] = rng.integers(*BYTE[dtype], shape, endpoint=True).astype(dtype)
    return out
