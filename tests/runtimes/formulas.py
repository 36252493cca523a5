"""What each kernel computes, written down plainly from the libraries' sources: NumPy, Python integers, nothing of ours.

Float arithmetic is float32, one rounding an operation; `fma` rounds once. Sums of products are int32 that can't
overflow at these sizes. `PAIRS` is the instruction vpmaddubsw: two neighbouring products are added and saturate at
16 bits.

Sources: onnxruntime (MLAS, contrib_ops/cpu/quantization), pytorch/FBGEMM 71d6f8b2, oneDNN v3.12 (80afa710), ATen.
"""

from itertools import product

import numpy as np

F = np.float32
EXACT, PAIRS = "exact", "pairs"


# float32


def fma(a, b, c):
    """a * b + c in float32, rounded once. The product is exact in float64; the sum there is rounded to odd."""
    a, b, c = (np.asarray(v, dtype=np.float64) for v in np.broadcast_arrays(a, b, c))
    p = a * b
    s = p + c
    t = s - p
    error = (p - (s - t)) + (c - t)
    bits = s.view(np.int64)
    towards = np.where((error > 0) == (s > 0), 1, -1)
    odd = np.where((error != 0) & (bits % 2 == 0), bits + towards, bits)
    return np.ascontiguousarray(odd).view(np.float64).astype(F)


def rint(v):
    """Half to even, as an integer; outside of int32 what cvtps2dq gives, -2^31."""
    rounded = np.rint(np.asarray(v, dtype=F)).astype(np.float64)
    return np.where(np.abs(rounded) < 2.0**31, rounded, -(2.0**31)).astype(np.int64)


def limits(dtype):
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def saturate(v, dtype):
    return np.clip(v, *limits(dtype)).astype(dtype)


def integers(*arrays):
    return [np.asarray(a).astype(np.int64) for a in arrays]


def requantize(acc, multiplier, zero, dtype):
    """MLAS: f32(acc) * S, clipped in float, rounded, zero point added. multiplier: one, or one a last-axis channel."""
    low, high = limits(dtype)
    v = acc.astype(np.int32).astype(F) * np.asarray(multiplier, dtype=F)
    return (rint(np.clip(v, F(low - int(zero)), F(high - int(zero)))) + int(zero)).astype(dtype)


def quantize_linear(v, scale, zero, dtype):
    """MlasQuantizeLinear: f32(v / scale), clipped in float, rounded, zero point added."""
    low, high = limits(dtype)
    scaled = np.asarray(v, dtype=F) / F(scale)
    return (rint(np.clip(scaled, F(low - int(zero)), F(high - int(zero)))) + int(zero)).astype(dtype)


def dequantize(codes, scale, zero):
    return F(scale) * (np.asarray(codes).astype(np.int32) - np.int32(zero)).astype(F)


# sums of products


def sums(a, w, how, block=None):
    """a [rows, K], w [outputs, K]: the accumulators [rows, outputs]; `block`: pairs restart every so many terms."""
    if how == EXACT:
        return a @ w.T
    terms = a.shape[1]
    found = np.zeros((len(a), len(w)), dtype=np.int64)
    for start in range(0, terms, block or terms):
        x, y = a[:, start : start + (block or terms)], w[:, start : start + (block or terms)]
        if x.shape[1] % 2:
            x, y = (np.pad(v, ((0, 0), (0, 1))) for v in (x, y))
        for o, row in enumerate(y):
            products = x * row
            found[:, o] += np.clip(products[:, 0::2] + products[:, 1::2], -32768, 32767).sum(axis=1)
    return found


def taps(x, attributes, fill):
    """Values under each tap of a convolution: [batch, taps, channels, pixels], and the output's spatial shape."""
    kernel, strides, dilations = (attributes[n] for n in ("kernel_shape", "strides", "dilations"))
    rank = len(kernel)
    begin, end = attributes["pads"][:rank], attributes["pads"][rank:]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(begin, end, strict=True)], constant_values=fill)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    shape = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, strides, strict=True)]
    found = []
    for tap in product(*map(range, kernel)):
        where = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, shape, strides, strict=True)
        )
        found.append(padded[(slice(None), slice(None), *where)].reshape(*x.shape[:2], -1))
    return np.stack(found, axis=1), shape


def per_group(under, w, group):
    """(group, rows [batch * pixels, taps, channels], weights [outputs, taps, channels]) of each group."""
    batch, count, channels, pixels = under.shape
    each, outputs = channels // group, len(w) // group
    kernel = w.reshape(len(w), w.shape[1], count).transpose(0, 2, 1)
    for g in range(group):
        rows = under[:, :, g * each : (g + 1) * each].transpose(0, 3, 1, 2).reshape(batch * pixels, count, each)
        yield g, rows, kernel[g * outputs : (g + 1) * outputs]


def convolve(case, how, by_tap=False, pad_with_zero_point=True, block=None):
    """Accumulators sum((x - zx) * (w - zw)) of a convolution, [batch, pixels, outputs], and the spatial shape.

    `how` is used on the raw codes, in the order taps (row-major), channels of the group; zero points come in
    afterwards, exactly. by_tap: pairs end at each tap. pad_with_zero_point False: padding contributes nothing to the
    registers.
    """
    x, w, zx, zw = integers(*(case[n] for n in ("x", "w", "x_zero_point", "w_zero_point")))
    zw = int(np.ravel(zw)[0])
    group = case.attributes["group"]
    true, shape = taps(x, case.attributes, int(zx))
    seen = true if pad_with_zero_point else taps(x, case.attributes, 0)[0]
    inside, _ = taps(np.ones_like(x), case.attributes, 0)
    found = []
    for (_, rows, kernel), (_, held, _), (_, there, _) in zip(
        per_group(true, w, group), per_group(seen, w, group), per_group(inside, w, group), strict=True
    ):
        if by_tap and held.shape[2] % 2:
            flat, weights = (np.pad(v, ((0, 0), (0, 0), (0, 1))).reshape(len(v), -1) for v in (held, kernel))
        else:
            flat, weights = held.reshape(len(held), -1), kernel.reshape(len(kernel), -1)
        registers = sums(flat, weights, how, block)
        exact_kernel = kernel.reshape(len(kernel), -1)
        if pad_with_zero_point:
            offset = int(zx) * exact_kernel.sum(axis=1)
        else:
            offset = int(zx) * (there.reshape(len(there), -1) @ exact_kernel.T)
        terms = exact_kernel.shape[1]
        rest = -zw * rows.reshape(len(rows), -1).sum(axis=1, keepdims=True) + terms * int(zx) * zw
        found.append(registers - offset + rest)
    acc = np.concatenate(found, axis=1)
    return acc.reshape(len(x), -1, acc.shape[1]), shape


def channels_first(y, shape):
    return np.ascontiguousarray(y.transpose(0, 2, 1).reshape(y.shape[0], y.shape[2], *shape))


# ONNX Runtime


def ort_conv(case, machine):
    """QLinearConv. On AVX2 without VNNI unsigned inputs with signed weights saturate in pairs, but not if depthwise."""
    w, group = case["w"], case.attributes["group"]
    depthwise = w.shape[1] == 1 and len(w) == group
    saturates = machine == "Haswell" and case["x"].dtype == np.uint8 and w.dtype == np.int8 and not depthwise
    acc, shape = convolve(case, PAIRS if saturates else EXACT)
    if case.get("bias") is not None:
        acc = acc + case["bias"].astype(np.int64)
    multiplier = F(case["x_scale"]) * case["w_scale"].astype(F) / F(case["y_scale"])
    return channels_first(requantize(acc, multiplier, case["y_zero_point"], case["x"].dtype), shape)


def ort_matmul(case, machine):
    """QLinearMatMul and QGemm."""
    a, b, za, zb = integers(*(case[n] for n in ("a", "b", "a_zero_point", "b_zero_point")))
    if case.attributes.get("transA"):
        a = a.T
    if case.attributes.get("transB"):
        b = b.T
    lead, terms = a.shape[:-1], a.shape[-1]
    rows = a.reshape(-1, terms)
    saturates = machine == "Haswell" and case["a"].dtype == np.uint8 and case["b"].dtype == np.int8
    acc = sums(rows, b.T, PAIRS if saturates else EXACT)
    acc = acc - za * b.sum(axis=0) - zb * rows.sum(axis=1, keepdims=True) + terms * za * zb
    acc = acc.reshape(*lead, b.shape[1])
    if case.get("bias") is not None:
        acc = acc + case["bias"].astype(np.int64)
    step = F(case["a_scale"])
    if case.op == "gemm":
        step = F(case.attributes["alpha"]) * step
    multiplier = step * case["b_scale"].astype(F) / F(case["y_scale"])
    return requantize(acc, multiplier, case["y_zero_point"], case["a"].dtype)


def ort_add(case, machine):
    """QLinearAdd (AVX2 with FMA): the zero point is inside of the rounding.

    An operand that holds still is the second one and is folded into the constant. The compiler fuses what the source
    writes as zy - (ra * za + rb * zb) and as constant + b * rb.
    """
    del machine
    a, b = case["a"], case["b"]
    ra, rb = F(case["a_scale"]) / F(case["y_scale"]), F(case["b_scale"]) / F(case["y_scale"])
    za, zb, zy = (F(case[f"{t}_zero_point"]) for t in "aby")
    if scalar_side(a.shape, b.shape) == "a":
        a, ra, za, b, rb, zb = b, rb, zb, a, ra, za
    constant = zy - fma(ra, za, rb * zb)
    v = fma(a.astype(F), ra, fma(b.astype(F), rb, constant))
    return saturate(rint(v), a.dtype)


def scalar_side(left, right):
    """Which operand of a broadcast holds still along the innermost run of equal treatment: "a", "b" or None.

    Broadcaster looks at the axes that both have; where all of those are 1 a run is one element, and "a" a scalar.
    """
    common = max(1, min(len(left), len(right)))
    left, right = ([1] * common + list(s) for s in (left, right))
    for x, y in zip(left[: -common - 1 : -1], right[: -common - 1 : -1], strict=True):
        if x == y == 1:
            continue
        return None if x == y else "a" if x == 1 else "b"
    return "a"


def ort_mul(case, machine):
    """QLinearMul (SSE2): zero point added in float before rounding."""
    del machine
    a, b, za, zb = integers(*(case[n] for n in ("a", "b", "a_zero_point", "b_zero_point")))
    multiplier = F(case["a_scale"]) * F(case["b_scale"]) / F(case["y_scale"])
    v = ((a - za) * (b - zb)).astype(F) * multiplier + F(case["y_zero_point"])
    return saturate(rint(v), case["a"].dtype)


def ort_concat(case, machine):
    """QLinearConcat: copied where scale and zero point are the output's, else through a table."""
    del machine
    zero, step = case["y_zero_point"], F(case["y_scale"])
    parts = []
    for name in case.feeds:
        x, own_step, own_zero = case[name], F(case[f"{name}_scale"]), case[f"{name}_zero_point"]
        if own_step == step and own_zero == zero:
            parts.append(x)
        else:
            parts.append(quantize_linear(dequantize(x, own_step, own_zero), step, zero, x.dtype))
    return np.concatenate(parts, axis=case.attributes["axis"])


def ort_average_pool(case, machine):
    """QLinearAveragePool: float32 sums in row-major order; the global kernel where one window is the whole image."""
    x, at = case["x"], dict(case.attributes)
    at.setdefault("dilations", [1] * len(at["kernel_shape"]))
    if list(x.shape[2:]) == list(at["kernel_shape"]) and not any(at["pads"]):
        return ort_global_average_pool(case, machine)
    if at.get("ceil_mode"):
        at["pads"] = rounded_up(x.shape[2:], at)
    values, shape = taps(dequantize(x, case["x_scale"], case["x_zero_point"]), at, F(0))
    inside, _ = taps(np.ones(x.shape, dtype=np.int64), at, 0)
    total = np.zeros_like(values[:, 0])
    for t in range(values.shape[1]):  # adding the padding's 0 changes nothing
        total = total + values[:, t]
    count = F(values.shape[1]) if at["count_include_pad"] else inside.sum(axis=1).astype(F)
    v = total / count / F(case["y_scale"]) + F(case["y_zero_point"])
    return saturate(rint(v), x.dtype).reshape(*x.shape[:2], *shape)


def rounded_up(sizes, at):
    """Pads with which all windows fit that start inside of the image or of the padding before it."""
    rank = len(sizes)
    begin, end = at["pads"][:rank], list(at["pads"][rank:])
    for i, (n, k, s) in enumerate(zip(sizes, at["kernel_shape"], at["strides"], strict=True)):
        count = -((n + begin[i] + end[i] - k) // -s) + 1
        if (count - 1) * s >= n + begin[i]:
            count -= 1
        end[i] = max(end[i], (count - 1) * s + k - n - begin[i])
    return [*begin, *end]


def ort_global_average_pool(case, machine):
    """QLinearGlobalAveragePool: integer sum, one float32 multiplier."""
    del machine
    x = case["x"].astype(np.int64)
    axes = tuple(range(2, x.ndim))
    count = int(np.prod(x.shape[2:]))
    acc = x.sum(axis=axes, keepdims=True) - count * int(case["x_zero_point"])
    multiplier = F(case["x_scale"]) / (F(case["y_scale"]) * F(count))
    return requantize(acc, multiplier, case["y_zero_point"], case["x"].dtype)


def ort_leaky_relu(case, machine):
    """QLinearLeakyRelu: a table in float32."""
    del machine
    v = dequantize(case["x"], case["x_scale"], case["x_zero_point"])
    v = np.where(v >= 0, v, F(case.attributes["alpha"]) * v)
    return quantize_linear(v, case["y_scale"], case["y_zero_point"], case["x"].dtype)


LOGISTIC_P = [
    4.37031012579801e-11,
    1.15627324459942e-07,
    6.08574864600143e-05,
    8.51377133304701e-03,
    2.48287947061529e-01,
]
LOGISTIC_Q = [
    6.10247389755681e-13,
    5.76102136993427e-09,
    6.29106785017040e-06,
    1.70198817374094e-03,
    1.16817656904453e-01,
]
LOGISTIC_Q += [9.93151921023180e-01]


def logistic(v):
    """MlasComputeLogistic with FMA: a quotient of polynomials plus one half, not below 0."""
    v = np.clip(np.asarray(v, dtype=F), F(-18), F(18))
    square = v * v
    p, q = np.full_like(v, F(LOGISTIC_P[0])), np.full_like(v, F(LOGISTIC_Q[0]))
    for coefficient in LOGISTIC_P[1:]:
        p = fma(p, square, F(coefficient))
    for coefficient in LOGISTIC_Q[1:]:
        q = fma(q, square, F(coefficient))
    return np.maximum(v * p / q + F(0.5), F(0))


def ort_sigmoid(case, machine):
    """QLinearSigmoid: a table of the approximation above."""
    del machine
    v = logistic(dequantize(case["x"], case["x_scale"], case["x_zero_point"]))
    return quantize_linear(v, case["y_scale"], case["y_zero_point"], case["x"].dtype)


def ort_softmax(case, machine):
    """QLinearSoftmax: a table of exponentials, summed in float32 one after another; the output's scale is an integer.

    The table's last entry is near the largest float32: with few entries and a fine output scale the product overflows,
    and the conversion of an infinity gives 0 for uint8 and -2^31 for int8, whose sum with the zero point wraps.
    """
    del machine
    axis, dtype = case.attributes["axis"], case["x"].dtype
    x = np.moveaxis(case["x"].astype(np.int64), axis, -1)
    count, step = x.shape[-1], float(F(case["x_scale"]))
    shift = max(0.0, float(F(np.log(np.float64(F(np.finfo(F).max) / F(count))))) - 5) / step
    table = np.exp((np.arange(256) - 255 + shift) * step).astype(F)
    held = table[255 - (x.max(axis=-1, keepdims=True) - x)]
    total = np.zeros(x.shape[:-1], dtype=F)
    for i in range(count):
        total = total + held[..., i]
    one = np.floor(F(1) / F(case["y_scale"]))
    with np.errstate(over="ignore"):
        v = held * one / total[..., None]
    q = rint(np.where(np.isinf(v), 0, v)).astype(np.int32)
    if dtype == np.int8:
        q = np.where(np.isinf(v), np.int32(-(2**31)), q)
    with np.errstate(over="ignore"):
        q = q + np.int32(case["y_zero_point"])
    return np.moveaxis(saturate(q, dtype), -1, axis)


def ort_in_float(case, machine):
    """What no kernel of codes computes: the operator of IEEE float32 between the float quantizers."""
    del machine
    at = case.attributes
    x = dequantize(case["x"], case["x_scale"], case["x_zero_point"])
    c = case.get("c")
    if c is not None and "c_scale" in case.arrays:
        c = dequantize(c, case["c_scale"], case["c_zero_point"])
    if case.op == "sub":
        v = c - x if at.get("left") else x - c
    elif case.op == "div":
        v = x / c
    elif case.op == "square":
        v = x * x
    elif case.op == "clip":
        v = np.minimum(np.maximum(x, F(at["low"])), F(at["high"]))
    else:
        alpha, beta = (F(at["alpha"]), F(at["beta"])) if at else (F(1) / F(6), F(0.5))
        v = np.maximum(F(0), np.minimum(F(1), alpha * x + beta))
        v = v if at else x * v
    return quantize_linear(v, case["y_scale"], case["y_zero_point"], case["x"].dtype)


ORT = {
    **dict.fromkeys(("sub", "div", "square", "clip", "hard_sigmoid", "hard_swish"), ort_in_float),
    "conv": ort_conv,
    "matmul": ort_matmul,
    "gemm": ort_matmul,
    "add": ort_add,
    "mul": ort_mul,
    "concat": ort_concat,
    "average_pool": ort_average_pool,
    "global_average_pool": ort_global_average_pool,
    "leaky_relu": ort_leaky_relu,
    "sigmoid": ort_sigmoid,
    "softmax": ort_softmax,
}


def onnxruntime(case, machine):
    """Codes of a case in ONNX Runtime on "native" (AVX512-VNNI) or "Haswell"."""
    return ORT[case.op](case, machine)


def network(drawn, machine):
    """Codes of every tensor of a network in ONNX Runtime, layer by layer."""
    found = dict(drawn.feeds)
    for case, names, output in drawn.layers:
        arrays = case.arrays | {feed: found[name] for feed, name in names.items()}
        found[output] = onnxruntime(type(case)(case.op, arrays, case.feeds, case.attributes), machine)
    return found


# PyTorch


def symmetric(case, name):
    return not np.any(case[f"{name}_zero_point"])


def fbgemm_depthwise(case):
    """takeDepthWiseFastPath: which convolutions FBGEMM gives to the kernel that saturates in pairs on every machine."""
    at, w = case.attributes, case["w"]
    rank, group = len(at["kernel_shape"]), at["group"]
    kernel = at["kernel_shape"]
    return (
        rank >= 2
        and w.shape[1] == 1
        and len(w) in (group, 2 * group)
        and group % 8 == 0
        and all(s in (1, 2) for s in at["strides"])
        and kernel[-1] == kernel[-2]
        and all(k in (3, 5, 7) for k in kernel)
        and all(d == 1 for d in at["dilations"])
        and all(p == (k - 1) // 2 for p, k in zip(at["pads"], kernel * 2, strict=True))
    )


def fbgemm_requantize(acc, case, left, right):
    """The bias is float, divided by the accumulator's scale, and added to the float of the sum.

    Where one reciprocal of a scale serves all channels GCC contracts product and sum to an fma.
    """
    sx, sw, sy = F(case[f"{left}_scale"]), case[f"{right}_scale"].astype(F), F(case["y_scale"])
    v = acc.astype(np.int32).astype(F)
    if case.get("bias") is not None:
        step, bias = sx * sw, case["bias"].astype(F)
        v = v + bias / step if np.ndim(step) else fma(bias, F(1 / float(step)), v)
    return saturate(np.clip(rint(v * (sx * sw / sy)), -32768, 32767) + int(case["y_zero_point"]), np.uint8)


def fbgemm(case, machine):
    """Engine "fbgemm": convolutions and linear layers."""
    pairs = machine == "Haswell"
    if case.op == "matmul":
        return fbgemm_requantize(linear(case, PAIRS if pairs else EXACT), case, "a", "b")
    acc, shape = convolve(case, PAIRS if pairs or fbgemm_depthwise(case) else EXACT)
    return channels_first(fbgemm_requantize(acc, case, "x", "w"), shape)


def linear(case, how, block=None):
    a, b, za, zb = integers(*(case[n] for n in ("a", "b", "a_zero_point", "b_zero_point")))
    zb = int(np.ravel(zb)[0])
    rows = a.reshape(-1, a.shape[-1])
    acc = sums(rows, b.T, how, block)
    acc = acc - za * b.sum(axis=0) - zb * rows.sum(axis=1, keepdims=True) + a.shape[-1] * za * zb
    return acc.reshape(*a.shape[:-1], b.shape[1])


def twice_inverted(scale):
    """ATen hands oneDNN 1 / scale, which takes the reciprocal again, both in float32."""
    return F(1) / (F(1) / np.asarray(scale, dtype=F))


def onednn_requantize(acc, case, left, right, scales_first=False, divide=False):
    """f32(acc) times both scales, plus the float bias, over the output's scale, plus the zero point: all in float32.

    scales_first: the two scales are multiplied beforehand. divide: by the output's scale, not times its reciprocal.
    """
    sx, sw, sy = (
        twice_inverted(case[f"{left}_scale"]),
        case[f"{right}_scale"].astype(F),
        twice_inverted(case["y_scale"]),
    )
    if right == "b":
        sw = twice_inverted(sw)
    v = acc.astype(np.int32).astype(F)
    v = v * (sx * sw) if scales_first else v * sx * sw
    if case.get("bias") is not None:
        v = v + case["bias"].astype(F)
    v = (v / sy if divide else v * (F(1) / sy)) + F(case["y_zero_point"])
    return rint(np.clip(v, F(0), F(255))).astype(np.uint8)


def gemm_block(terms):
    """oneDNN's gemm on AVX2, one thread: how long a block of K is, behind which pairs start anew (get_k_padd)."""
    return terms if terms <= 256 else (terms + 1) // 2 if terms < 768 else 384


def onednn(case, machine):
    """Engine "onednn"."""
    saturates = machine == "Haswell"
    if case.op == "matmul":
        acc = linear(case, PAIRS if saturates else EXACT, gemm_block(case["a"].shape[-1]))
        return onednn_requantize(acc, case, "a", "b", scales_first=saturates)
    w, group = case["w"], case.attributes["group"]
    each, outputs = w.shape[1], len(w) // group
    rank = w.ndim - 2
    depthwise = group > 1 and each == outputs == 1 and rank < 3
    vectors = group == 1 or (each % 4 == 0 and outputs % 4 == 0)
    if saturates and vectors and not depthwise:
        acc, shape = convolve(case, PAIRS, by_tap=True, pad_with_zero_point=False)
    else:
        acc, shape = convolve(case, EXACT)
    plain = saturates and not (vectors or depthwise)  # oneDNN's "ref:any"
    y = onednn_requantize(acc, case, "x", "w", scales_first=saturates and not plain, divide=plain)
    return channels_first(y, shape)


def x86(case, machine):
    """Engine "x86": oneDNN for convolutions with few groups and symmetric weights on AVX512-VNNI, all else FBGEMM."""
    preferred = case.op == "conv" and machine == "native" and symmetric(case, "w") and case.attributes["group"] <= 100
    return onednn(case, machine) if preferred else fbgemm(case, machine)


def qnnpack(case, machine):
    """Engine "qnnpack": exact sums, the bias quantized to the accumulator's scale by its reciprocal.

    The 3x3x3 depthwise kernel is scalar code: it multiplies exactly and rounds half away from zero.
    """
    del machine
    left, right = ("a", "b") if case.op == "matmul" else ("x", "w")
    acc, shape = (linear(case, EXACT), None) if case.op == "matmul" else convolve(case, EXACT)
    sx, sw, sy = F(case[f"{left}_scale"]), case[f"{right}_scale"].astype(F), F(case["y_scale"])
    if case.get("bias") is not None:
        acc = acc + rint(case["bias"].astype(F) * (F(1) / (sx * sw)))
    multiplier = sw * sx * (F(1) / sy)
    if case.op == "conv" and qnnpack_depthwise_3d(case):
        v = acc * multiplier.astype(np.float64)
        rounded = (np.sign(v) * np.floor(np.abs(v) + 0.5)).astype(np.int64)
    else:
        rounded = np.clip(rint(acc.astype(np.int32).astype(F) * multiplier), -32768, 32767)
    y = saturate(rounded + int(case["y_zero_point"]), np.uint8)
    return y if shape is None else channels_first(y, shape)


def qnnpack_depthwise_3d(case):
    w, group = case["w"], case.attributes["group"]
    return list(w.shape[1:]) == [1, 3, 3, 3] and len(w) == group > 1


def aten(case, run):
    """ATen's elementwise kernels on contiguous operands: blocks of 64 codes in vectors, the rest one by one.

    Blocks follow the order in memory. run: the function, on dequantized operands in their order.
    """
    names = ["a", "b"] if "a" in case.arrays else ["x"]
    given = [in_memory(case, name) for name in names]
    body = given[0].size // 64 * 64
    at = np.arange(given[0].size).reshape(given[0].shape)
    y = np.where(at < body, in_vectors(case, names, given, run), one_by_one(case, names, given, run))
    if case.attributes.get("channels_last"):
        y = np.ascontiguousarray(np.moveaxis(y, -1, 1))
    return saturate(y, np.uint8)


def in_memory(case, name):
    """An operand's codes as float32, channels last where they lie so."""
    q = case[name].astype(F)
    return np.moveaxis(q, 1, -1) if case.attributes.get("channels_last") else q


def in_vectors(case, names, given, run):
    """Vectors dequantize with one fma, and add the output's zero point after rounding."""
    values = []
    for name, q in zip(names, given, strict=True):
        s, z = F(case[f"{name}_scale"]), F(case[f"{name}_zero_point"])
        values.append(fma(q, s, -(z * s)))
    return rint(run(*values) * (F(1) / F(case["y_scale"]))) + int(case["y_zero_point"])


def one_by_one(case, names, given, run):
    """Single codes subtract the zero point first, and add the output's before rounding."""
    values = []
    for name, q in zip(names, given, strict=True):
        values.append((q - F(case[f"{name}_zero_point"])) * F(case[f"{name}_scale"]))
    return rint(run(*values) * (F(1) / F(case["y_scale"])) + F(case["y_zero_point"]))


def torch_add(case, engine):
    """quantized::add of equal shapes; QNNPACK adds in fixed point, 22 bits of multiplier, half away from zero."""
    if engine != "qnnpack":
        return aten(case, np.add)
    a, b, za, zb, zy = integers(*(case[n] for n in ("a", "b", "a_zero_point", "b_zero_point", "y_zero_point")))
    ra, rb = F(case["a_scale"]) / F(case["y_scale"]), F(case["b_scale"]) / F(case["y_scale"])
    shift = 21 - (int(np.frexp(max(ra, rb))[1]) - 1)
    ma, mb = (int(np.rint(r * F(2.0) ** shift)) for r in (ra, rb))
    total = ma * (a - za) + mb * (b - zb)
    mask = (1 << shift) - 1
    rest = (total & mask) - (total < 0)
    return saturate((total >> shift) + (rest > mask >> 1) + zy, np.uint8)


def torch_mul(case):
    """quantized::mul: the integer product times one multiplier."""
    a, b, za, zb = integers(*(case[n] for n in ("a", "b", "a_zero_point", "b_zero_point")))
    multiplier = F(case["a_scale"]) * F(case["b_scale"]) * (F(1) / F(case["y_scale"]))
    return saturate(rint(((a - za) * (b - zb)).astype(F) * multiplier) + int(case["y_zero_point"]), np.uint8)


def torch_concat(case):
    """quantized::cat: copied where the parameters are the output's, else requantized with the zero point in an fma.

    Channels that lie last in memory have a kernel of their own: vectors of 8 channels of an operand, the rest one by
    one.
    """
    zero, step = F(case["y_zero_point"]), F(case["y_scale"])
    axis = case.attributes["axis"]
    shapes = [case[name].shape for name in case.feeds]
    last = case.attributes.get("channels_last") or all(s[1] == 1 or s[2] * s[3] == 1 for s in shapes if len(s) == 4)
    parts = []
    for name, shape in zip(case.feeds, shapes, strict=True):
        q, s, z = case[name], F(case[f"{name}_scale"]), F(case[f"{name}_zero_point"])
        if s == step and z == zero:
            parts.append(q)
        elif last and axis == 1 and len(shape) == 4:
            channel = np.arange(shape[1]).reshape(-1, 1, 1)
            forms = (form(case, [name], [q.astype(F)], lambda v: v) for form in (in_vectors, one_by_one))
            parts.append(saturate(np.where(channel < shape[1] // 8 * 8, *forms), np.uint8))
        else:
            parts.append(saturate(rint(fma((q.astype(F) - z) * s, F(1) / step, zero)), np.uint8))
    return np.concatenate(parts, axis=axis)


def torch_average_pool(case, engine):
    """avg_pool2d, whose output has its input's scale and zero point: integer sum times 1 / n.

    ATen counts as ONNX does and rounds after adding the zero point. QNNPACK always divides by the whole window and
    rounds before.
    """
    x, zero, at = case["x"].astype(np.int64), int(case["x_zero_point"]), dict(case.attributes, dilations=[1, 1])
    values, shape = taps(x - zero, at, 0)
    inside, _ = taps(np.ones_like(x), at, 0)
    total = values.sum(axis=1).astype(F)
    if engine == "qnnpack":
        step = F(case["x_scale"])
        y = rint(total * (step / (step * F(values.shape[1])))) + zero
    else:
        count = F(values.shape[1]) if at["count_include_pad"] else inside.sum(axis=1).astype(F)
        y = rint(total * (F(1) / count) + F(zero))
    return saturate(y, np.uint8).reshape(*x.shape[:2], *shape)


def torch_leaky_relu(case):
    alpha = F(case.attributes["alpha"])
    return aten(case, lambda v: np.where(v > 0, v, v * alpha))


TORCH = {"fbgemm": fbgemm, "x86": x86, "onednn": onednn, "qnnpack": qnnpack}
ATEN = {
    "add": torch_add,
    "mul": lambda case, engine: torch_mul(case),
    "concat": lambda case, engine: torch_concat(case),
    "average_pool": torch_average_pool,
    "leaky_relu": lambda case, engine: torch_leaky_relu(case),
}


def torch(case, engine, machine):
    """Codes of a case under an engine of PyTorch on "native" (AVX512-VNNI) or "Haswell"."""
    return ATEN[case.op](case, engine) if case.op in ATEN else TORCH[engine](case, machine)
