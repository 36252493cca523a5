"""What LiteRT's kernels compute, in plain NumPy integers and single roundings; shares nothing with the package.

Sources: LiteRT f67457790c9c (tflite/kernels, tflite/delegates/xnnpack), XNNPACK 75db3c093b6d, ruy 2af88863614a.
`kind` is one of reference, builtin, xnnpack. A tensor is (scale, zero point), the scale a float32. Codes are int64
arrays until they are cast at the end. float32 arithmetic is spelled out: each operation on float32 values rounds once.
"""

import math

import numpy as np

F = np.float32


# ---- multipliers -----------------------------------------------------------------------------------------------------


def multiplier(real):
    """(31-bit multiplier, shift) of a double: QuantizeMultiplier in quantization_util.cc."""
    if real == 0.0:
        return 0, 0
    q, shift = math.frexp(float(real))
    m = math.floor(q * 2**31 + 0.5)  # std::round: q is positive
    if m == 2**31:
        m, shift = m // 2, shift + 1
    return (0, 0) if shift < -31 else (m, shift)


def wrap32(x):
    return (np.asarray(x, np.int64) + 2**31) % 2**32 - 2**31


def high_mul(x, m):
    """gemmlowp's SaturatingRoundingDoublingHighMul: (x * m + 2^30) >> 31, ties up (m > 0)."""
    product = np.asarray(x, np.int64) * int(m)
    nudge = np.where(product >= 0, 2**30, 1 - 2**30)
    total = product + nudge
    return np.where(total >= 0, total // 2**31, -((-total) // 2**31))


def divide_away(x, exponent):
    """gemmlowp's RoundingDivideByPOT: ties away from zero."""
    half = (1 << exponent) >> 1
    magnitude = (np.abs(x) + half) >> exponent
    return np.where(x < 0, -magnitude, magnitude)


def divide_up(x, exponent):
    """Arithmetic shift with half added: ties towards +infinity."""
    return (x + ((1 << exponent) >> 1)) >> exponent


def scaled(x, real, ties="away"):
    """MultiplyByQuantizedMultiplier: two roundings, of which the second is `ties`; x is int32 and wraps on shift."""
    m, shift = real if isinstance(real, tuple) else multiplier(real)
    x = wrap32(np.asarray(x, np.int64) << max(shift, 0))
    divide = divide_away if ties == "away" else divide_up
    return divide(high_mul(x, m), max(-shift, 0))


def scaled_once(x, real):
    """MultiplyByQuantizedMultiplier of an int64: a 16-bit multiplier, rounded once, ties up."""
    m, shift = multiplier(real)
    reduced = (m + (1 << 15)) >> 16 if m < 0x7FFF0000 else 0x7FFF
    total = 15 - shift
    return (np.asarray(x, np.int64) * reduced + (1 << (total - 1))) >> total


def rint(x):
    return np.rint(x).astype(np.int64)


def round_away(x):
    """std::round of float32 or float64 values."""
    x = np.asarray(x)
    whole = np.trunc(x)
    return (whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0)).astype(np.int64)


# ---- ranges of fused activations -------------------------------------------------------------------------------------

ACTIVATIONS = {"NONE": (None, None), "RELU": (0.0, None), "RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0)}
ACTIVATION_CODES = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}


def activation_range(name, y, kind, low=-128, high=127):
    """Codes that a fused activation clamps to. XNNPACK rounds to even after the zero point, the others away before."""
    scale, zero = F(y[0]), int(y[1])

    def code(value):
        if kind == "xnnpack":
            return int(rint(np.clip(F(F(F(value) / scale) + F(zero)), F(low), F(high))))
        return zero + int(round_away(F(F(value) / scale)))

    least, most = ACTIVATIONS[name]
    least = low if least is None else max(low, code(least))
    most = high if most is None else min(high, code(most))
    return least, most


def clamp(x, bounds):
    return np.minimum(np.maximum(x, bounds[0]), bounds[1])


# ---- sums ------------------------------------------------------------------------------------------------------------


def same_padding(size, kernel, stride, dilation):
    """Rows before the image: TensorFlow's SAME."""
    out = -(-size // stride)
    return max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0) // 2, out


def geometry(size, kernel, stride, dilation, padding):
    if padding == "SAME":
        return same_padding(size, kernel, stride, dilation)
    return 0, (size - (kernel - 1) * dilation - 1) // stride + 1


def windows(x, kernel, strides, dilations, padding, fill):
    """Array (kh, kw, n, oh, ow, c) of what each tap sees; outside the image it sees `fill`."""
    n, h, w, c = x.shape
    top, oh = geometry(h, kernel[0], strides[0], dilations[0], padding)
    left, ow = geometry(w, kernel[1], strides[1], dilations[1], padding)
    out = np.full((*kernel, n, oh, ow, c), fill, np.int64)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            for r in range(oh):
                row = r * strides[0] - top + i * dilations[0]
                if not 0 <= row < h:
                    continue
                columns = np.arange(ow) * strides[1] - left + j * dilations[1]
                inside = (columns >= 0) & (columns < w)
                out[i, j, :, r, inside] = x[:, row, columns[inside]].transpose(1, 0, 2)
    return out


def conv_sums(x, zero, weight, bias, strides, dilations, padding):
    """int64 sums of CONV_2D: weights (o, kh, kw, i), grouped where i divides the input's channels."""
    o, kh, kw, i = weight.shape
    seen = windows(x, (kh, kw), strides, dilations, padding, zero) - zero
    groups = x.shape[3] // i
    seen = seen.reshape(*seen.shape[:5], groups, i)
    grouped = weight.astype(np.int64).reshape(groups, o // groups, kh, kw, i)
    sums = np.einsum("abnhwgi,goabi->nhwgo", seen, grouped)
    return sums.reshape(*sums.shape[:3], o) + bias


def depthwise_sums(x, zero, weight, bias, strides, dilations, padding):
    """int64 sums of DEPTHWISE_CONV_2D: weights (1, kh, kw, c * multiplier)."""
    kh, kw, outputs = weight.shape[1:]
    seen = windows(x, (kh, kw), strides, dilations, padding, zero) - zero
    seen = np.repeat(seen, outputs // x.shape[3], axis=-1)
    return np.einsum("abnhwc,abc->nhwc", seen, weight[0].astype(np.int64)) + bias


def transposed_sums(x, zero, weight, bias, strides, padding, shape):
    """int64 sums of TRANSPOSE_CONV: weights (o, kh, kw, i); `shape` is the output's."""
    (o, kh, kw, _), (n, h, w, _) = weight.shape, x.shape
    sums = np.zeros((n, shape[1], shape[2], o), np.int64)
    tops = [same_padding(shape[1 + d], (kh, kw)[d], strides[d], 1)[0] if padding == "SAME" else 0 for d in (0, 1)]
    for r in range(h):
        for c in range(w):
            for a in range(kh):
                for b in range(kw):
                    y, z = r * strides[0] - tops[0] + a, c * strides[1] - tops[1] + b
                    if 0 <= y < shape[1] and 0 <= z < shape[2]:
                        sums[:, y, z] += (x[:, r, c].astype(np.int64) - zero) @ weight[:, a, b].astype(np.int64).T
    return sums + bias


# ---- what follows a sum ----------------------------------------------------------------------------------------------


def channel_scales(x, weight_scales, y):
    """Per channel the double sx * sw / sy of the integer kernels."""
    return [float(F(x[0])) * float(F(s)) / float(F(y[0])) for s in weight_scales]


def float_scales(x, weight_scales, y):
    """Per channel the float32 f32(f32(sx * sw) / sy) of XNNPACK."""
    return np.array([F(F(F(x[0]) * F(s)) / F(y[0])) for s in weight_scales], F)


def xnnpack_requantize(sums, scales, y, bounds):
    """float32 product clamped above before rint, below after; ties to even before the zero point."""
    product = sums.astype(F) * scales
    product = np.minimum(product, F(bounds[1] - y[1]))
    return np.maximum(rint(np.maximum(product, F(-(2**30)))) + y[1], bounds[0])


def layer(sums, x, weight_scales, y, activation, kind, op):
    """int8 codes of CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV from their sums."""
    bounds = activation_range(activation, y, kind)
    scales = list(weight_scales) * (sums.shape[-1] if len(weight_scales) == 1 else 1)
    if kind == "xnnpack":
        return xnnpack_requantize(sums, float_scales(x, scales, y), y, bounds).astype(np.int8)
    out = np.empty_like(sums)
    blocks = sums.shape[-1] // 8 * 8 if op in ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV") else sums.shape[-1]
    for c, real in enumerate(channel_scales(x, scales, y)):
        column = sums[..., c]
        if kind == "builtin" and op == "FULLY_CONNECTED" and len(weight_scales) == 1:
            real = float(F(F(x[0]) * F(weight_scales[0]))) / float(F(y[0]))  # the product is float32 here alone
        if kind == "reference" and op == "FULLY_CONNECTED":
            out[..., c] = round_away(column.astype(np.float64) * real)
        else:  # what depthwise leaves over from blocks of 8 channels goes through the reference's function
            out[..., c] = scaled(column, real, "up" if kind == "builtin" and c < blocks else "away")
    return clamp(out + y[1], bounds).astype(np.int8)


def wrap16(x):
    return (np.asarray(x, np.int64) + 2**15) % 2**16 - 2**15


def scaled_left(x, real, left=20):
    """x << (left + exponent), times the multiplier, rounded once: the vector form of built-in ADD."""
    m, shift = multiplier(real)
    moved = left + shift
    return high_mul(wrap32(x << moved) if moved >= 0 else x >> -moved, m)


def scaled_dropping(x, real, left=20):
    """x << left, times the multiplier, rounded; bits below the exponent are dropped: built-in ADD of a number."""
    m, shift = multiplier(real)
    return high_mul(wrap32(x << left), m) >> -shift


def is_flat(a, b):
    """Whether a loop runs over all codes of `a` at once: `b` has its shape, or is one number."""
    return b.size in (1, a.size)


def in_vectors(vectors, scalars, flat=True, lanes=16):
    """What a loop over `lanes` codes at a time returns, whose remainder another loop computes.

    The loop runs over all codes, or (not `flat`, as in broadcasts) over the channels of each row anew.
    """
    rows = (1, -1) if flat else (-1, scalars.shape[-1])
    out, vectors = scalars.reshape(rows).copy(), vectors.reshape(rows)
    whole = out.shape[1] // lanes * lanes
    out[:, :whole] = vectors[:, :whole]
    return out.reshape(scalars.shape)


def layer16(sums, x, weight_scales, y, activation, op):
    """int16 codes of layers with int64 biases; one kernel for both kernel sets, zero points are 0."""
    bounds = activation_range(activation, y, "builtin", -(2**15), 2**15 - 1)
    scales = list(weight_scales) * (sums.shape[-1] if len(weight_scales) == 1 else 1)
    out = np.empty_like(sums)
    for c, real in enumerate(channel_scales(x, scales, y)):
        column = sums[..., c]
        if op == "FULLY_CONNECTED":
            out[..., c] = round_away(column.astype(np.float64) * real)
        else:
            out[..., c] = scaled_once(column, real)
    return clamp(out, bounds).astype(np.int16)


# ---- elementwise -----------------------------------------------------------------------------------------------------


def add(a, b, qa, qb, y, activation, kind, subtract=False):
    """int8 or int16 ADD or SUB; `b` may be broadcast."""
    sign = -1 if subtract else 1
    info = np.iinfo(a.dtype)
    bounds = activation_range(activation, y, kind, info.min, info.max)
    if kind == "xnnpack":
        ra, rb = F(F(qa[0]) / F(y[0])), F(F(qb[0]) / F(y[0]))
        exponent = math.frexp(float(max(ra, rb)))[1] - 1
        shift = 20 - exponent
        ma = int(rint(np.ldexp(np.float64(ra), shift)))
        mb = sign * int(rint(np.ldexp(np.float64(rb), shift)))
        bias = (1 << (shift - 1)) - ma * int(qa[1]) - mb * int(qb[1])
        total = (wrap32(bias + a.astype(np.int64) * ma + b.astype(np.int64) * mb)) >> shift
        return clamp(clamp(total + y[1], (-128, 127)), bounds).astype(np.int8)
    left_shift = 20 if a.dtype == np.int8 else 15
    largest = 2.0 * float(max(F(qa[0]), F(qb[0])))
    left = (a.astype(np.int64) - qa[1]) << left_shift
    right = (b.astype(np.int64) - qb[1]) << left_shift
    left = scaled(left, float(F(qa[0])) / largest)
    right = scaled(right, float(F(qb[0])) / largest)
    last = largest / float(F(2**left_shift) * F(y[0]))
    total = clamp(scaled(left + sign * right, last) + y[1], bounds)
    if kind == "builtin" and not subtract:
        # vectors of 16 shift inputs by left_shift + exponent before the only rounding; where `b` is one number a row,
        # vectors of 8 shift by left_shift, round, and drop bits by the exponent
        one = b.shape[-1] == 1 and a.size > 1 and a.dtype == np.int8
        vector = scaled_dropping if one else scaled_left
        left = vector(a.astype(np.int64) - qa[1], float(F(qa[0])) / largest, left_shift)
        right = vector(b.astype(np.int64) - qb[1], float(F(qb[0])) / largest, left_shift)
        found = scaled(left + sign * right, last)
        if a.dtype == np.int8:  # and wrap at 16 bits at the end
            found = clamp(wrap16(wrap16(found) + y[1]), (-128, 127))
        total = in_vectors(clamp(found, bounds), total, is_flat(a, b), 8 if one else 16)
    return total.astype(a.dtype)


def mul(a, b, qa, qb, y, activation, kind):
    """int8 or int16 MUL; `b` may be broadcast."""
    info = np.iinfo(a.dtype)
    bounds = activation_range(activation, y, kind, info.min, info.max)
    product = (a.astype(np.int64) - qa[1]) * (b.astype(np.int64) - qb[1])
    if kind == "xnnpack":
        scale = F(F(F(qa[0]) * F(qb[0])) / F(y[0]))
        found = clamp(rint(product.astype(F) * scale), (-32768, 32767)) + y[1]
        return clamp(clamp(found, (-128, 127)), bounds).astype(np.int8)
    result = scaled(product, float(F(F(qa[0]) * F(qb[0])) / F(y[0])))
    total = clamp(result + y[1], bounds)
    if kind == "builtin" and a.dtype == np.int8:  # vectors of 16 saturate to 16 bits, then the zero point may wrap them
        found = wrap16(clamp(result, (-(2**15), 2**15 - 1)) + y[1])
        total = in_vectors(clamp(clamp(found, (-128, 127)), bounds), total, is_flat(a, b))
    return total.astype(a.dtype)


# ---- sums over areas -------------------------------------------------------------------------------------------------


def mean(x, axes, keep, q, y, kind):
    """int8 or int16 MEAN."""
    low, high = np.iinfo(x.dtype).min, np.iinfo(x.dtype).max
    n = int(np.prod([x.shape[a] for a in axes]))
    sums = x.astype(np.int64).sum(axis=tuple(axes), keepdims=keep)
    if kind == "xnnpack":
        scale = F(F(F(q[0]) / F(y[0])) * F(F(1) / F(n)))
        zero = F(F(y[1]) - F(F(n * q[1]) * scale))
        return clamp(rint(sums.astype(F) * scale + zero), (-128, 127)).astype(np.int8)
    if kind == "builtin" and keep and x.ndim == 4 and sorted(axes) == [1, 2] and x.dtype == np.int8:
        offset = F(F(F(q[1]) * F(q[0])) / F(y[0]))
        offset = F(offset + F(0.5)) if offset > 0 else F(offset - F(0.5))
        bias = y[1] - int(offset)
        real = float(F(F(q[0]) / F(F(n) * F(y[0]))))
        blocks = x.shape[3] // 16 * 16  # vectors of 16 channels round ties up, the rest away
        whole = [scaled(sums[..., :blocks], real, "up"), scaled(sums[..., blocks:], real)]
        return clamp(np.concatenate(whole, axis=-1) + bias, (-128, 127)).astype(np.int8)
    m, exponent = multiplier(float(F(q[0])) / float(F(y[0])))
    shift = min(n.bit_length() - 1, 32, 31 + exponent)
    m, exponent = (m << shift) // n, exponent - shift
    return clamp(scaled(sums - n * q[1], (m, exponent)) + y[1], (low, high)).astype(x.dtype)


def average_pool(x, kernel, strides, padding, y, activation, kind):
    """int8 or int16 AVERAGE_POOL_2D: sum of codes, half of the count away from zero, truncating division."""
    dtype = x.dtype
    info = np.iinfo(dtype)
    bounds = activation_range(activation, y, kind, info.min, info.max)
    nowhere = 1 << 40
    seen = windows(x, kernel, strides, (1, 1), padding, nowhere)
    inside = seen != nowhere
    count = inside.sum(axis=(0, 1))
    total = np.where(inside, seen, 0).sum(axis=(0, 1))
    magnitude = (np.abs(total) + count // 2) // count
    return clamp(np.where(total > 0, magnitude, -magnitude), bounds).astype(dtype)


def max_pool(x, kernel, strides, padding, y, activation, kind):
    """int8 or int16 MAX_POOL_2D."""
    dtype = x.dtype
    info = np.iinfo(dtype)
    bounds = activation_range(activation, y, kind, info.min, info.max)
    seen = windows(x, kernel, strides, (1, 1), padding, info.min)
    return clamp(seen.max(axis=(0, 1)), bounds).astype(dtype)


# ---- rescaling and tables --------------------------------------------------------------------------------------------


def requantize(x, q, y, kind, dtype=np.int8):
    """QUANTIZE of int8 or int16 to `dtype`."""
    value = x.astype(np.int64) - q[1]
    bytes_only = x.dtype == dtype == np.int8
    if kind == "xnnpack" and bytes_only:
        m = int(rint(F(F(256) * F(F(q[0]) / F(y[0])))))
        return clamp(((value * m + 128) >> 8) + y[1], (-128, 127)).astype(np.int8)
    real = float(F(q[0])) / float(F(y[0]))
    total = scaled(value, real)
    if kind == "builtin" and bytes_only:
        total = in_vectors(scaled(value, real, "up"), total)
    return clamp(total + y[1], (np.iinfo(dtype).min, np.iinfo(dtype).max)).astype(dtype)


def leaky_relu(x, q, y, alpha, kind):
    """int8 LEAKY_RELU."""
    value, alpha = x.astype(np.int64) - q[1], F(alpha)
    if kind == "xnnpack":
        ratio = F(F(q[0]) / F(y[0]))
        above, below = (int(rint(F(F(256) * s))) for s in (ratio, F(ratio * alpha)))
        product = value * np.where(value > 0, above, below)
        return clamp(((product + 128) >> 8) + y[1], (-128, 127)).astype(np.int8)
    slope = F(F(F(q[0]) * alpha) / F(y[0]))
    below = scaled(value, abs(float(slope))) * (-1 if slope < 0 else 1)
    above = scaled(value, float(F(F(q[0]) / F(y[0]))))
    return clamp(np.where(value >= 0, above, below) + y[1], (-128, 127)).astype(np.int8)


def prelu(x, slopes, q, qs, y):
    """int8 PRELU: slopes broadcast; both kernel sets."""
    value = x.astype(np.int64) - q[1]
    above = scaled(value, float(F(F(q[0]) / F(y[0]))))
    below = scaled(value * (slopes.astype(np.int64) - qs[1]), float(F(F(F(q[0]) * F(qs[0])) / F(y[0]))))
    return clamp(np.where(value >= 0, above, below) + y[1], (-128, 127)).astype(np.int8)


def sigmoid_or_tanh(op, q, y, kind):
    """Table of 256 int8 codes, from code -128 up: a float32 function between a product and a product with 1 / sy."""
    value = (np.arange(-128, 128) - q[1]).astype(F) * F(q[0])
    exact = np.float64(value)
    if op == "TANH":
        found = np.tanh(exact).astype(F)
    elif kind == "xnnpack":
        e = np.exp(np.clip(exact, -100, 100))
        found = np.where(value > 100, F(1), np.where(value < -100, F(0), (e / (1 + e)).astype(F)))
    else:
        with np.errstate(over="ignore"):
            found = F(1) / (F(1) + np.exp(-exact).astype(F))
    scale = F(F(1) / F(y[0]))
    if kind == "xnnpack":
        return np.clip(rint(found * scale + F(y[1])), -128, 127).astype(np.int8)
    return np.clip(round_away(found * scale) + y[1], -128, 127).astype(np.int8)


def high_mul16(a, b):
    """gemmlowp's SaturatingRoundingDoublingHighMul of int16, ties up."""
    product = np.asarray(a, np.int64) * int(b)
    return np.minimum((product + 2**14) >> 15, 2**15 - 1)


def hard_swish(x, q, y):
    """int8 HARD_SWISH in 16-bit fixed point; both kernel sets."""

    def parts(real):
        m, exponent = multiplier(float(real))
        return (2**15 - 1 if m >= 2**31 - 1 - 2**15 else (m + 2**15) >> 16), exponent

    fine = F(F(1 / 128) * F(q[0]))
    out, out_exponent = parts(F(fine / F(y[0])))
    relu, exponent = parts(F(fine / F(3 / 32768)))
    value = (x.astype(np.int64) - q[1]) << 7
    before = high_mul16(value, out)
    gate = value
    if exponent > 0:
        gate = clamp(gate << (exponent - 1), (-(2**15), 2**15 - 1))
    gate = high_mul16(gate, relu)
    if exponent > 0:
        gate = clamp(gate << 1, (-(2**15), 2**15 - 1))
    gate = divide_away(gate, max(-exponent, 0))
    gate = (gate + 2**15) >> 1
    product = gate * before
    product = np.where(product >= 0, product >> 15, -((-product) >> 15))
    total = wrap16(divide_away(product, -out_exponent) + y[1])
    return clamp(total, (-128, 127)).astype(np.int8)


# ---- softmax ---------------------------------------------------------------------------------------------------------

INT32 = -(2**31), 2**31 - 1
EXPONENTIALS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}


def fixed_mul(a, b):
    """Product of fixed-point int32 numbers, of which either may be an array."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return np.minimum((product + 2**30) >> 31, 2**31 - 1)  # equals high_mul: ties up


def exp_of_negative(a):
    """gemmlowp's exp_on_negative_values: Q5.26 to Q0.31."""
    quarter = 1 << 24
    inner = (a & (quarter - 1)) - quarter
    x = (inner << 5) + (1 << 28)
    x2 = fixed_mul(x, x)
    x3, x4 = fixed_mul(x2, x), fixed_mul(x2, x2)
    tail = divide_away(fixed_mul(divide_away(x4, 2) + x3, 715827883) + x2, 1)
    result = 1895147668 + fixed_mul(1895147668, x + tail)
    remainder = inner - a
    for exponent, factor in EXPONENTIALS.items():
        result = np.where(remainder & (1 << (26 + exponent)), fixed_mul(result, factor), result)
    return np.where(a == 0, 2**31 - 1, result)


def one_over_one_plus(a):
    """gemmlowp's one_over_one_plus_x_for_x_in_0_1 of Q0.31, three Newton steps in Q2.29."""
    half = (a + 2**31 - 1 + 1) >> 1
    x = 1515870810 + fixed_mul(half, -1010580540)
    for _ in range(3):
        rest = (1 << 29) - fixed_mul(half, x)
        x = x + clamp(fixed_mul(x, rest) << 2, INT32)
    return clamp(x << 1, INT32)


def softmax_reference(x, q, beta):
    """int8 SOFTMAX over the last axis in fixed point; output scale 1/256, zero point -128."""
    m, shift = multiplier(min(float(F(beta)) * float(F(q[0])) * 2**26, 2.0**31 - 1))
    least = -math.floor(31 * 2**26 / 2**shift)
    values = x.astype(np.int64)
    difference = values - values.max(axis=-1, keepdims=True)
    taking_part = difference >= least
    exponentials = exp_of_negative(high_mul(wrap32(np.where(taking_part, difference, 0) << shift), m))
    sums = np.where(taking_part, divide_away(exponentials, 12), 0).sum(axis=-1, keepdims=True)
    headroom = np.array([32 - int(s).bit_length() for s in sums.reshape(-1)]).reshape(sums.shape)
    reciprocal = one_over_one_plus((sums << headroom) - 2**31)
    exponent = 12 - headroom + 31 - 8
    product = fixed_mul(reciprocal, exponentials)
    half = (1 << exponent) >> 1
    out = (product + half) >> exponent  # positive: ties up is ties away
    return np.where(taking_part, clamp(out - 128, (-128, 127)), -128).astype(np.int8)


def softmax_builtin(x, q, beta, y):
    """int8 SOFTMAX over the last axis: float32 table, sum from left to right in float32, one reciprocal a row."""
    step = F(-F(q[0]) * F(beta))
    table = np.exp(np.float64(F(step) * np.arange(256).astype(F))).astype(F)
    rows = x.reshape(-1, x.shape[-1]).astype(np.int64)
    found = table[rows.max(axis=1, keepdims=True) - rows]
    total = np.zeros(len(rows), F)
    for column in found.T:
        total = total + column
    inverse = F(1) / (total * F(y[0]))
    out = round_away(found * inverse[:, None]) + y[1]
    return clamp(out, (-128, 127)).reshape(x.shape).astype(np.int8)


# ---- geometry --------------------------------------------------------------------------------------------------------


def resize_bilinear(x, size, align, half, kind):
    """int8 RESIZE_BILINEAR: weights in 1/1024 and one rounding away (integer kernels), or in 1/2048 and ties up."""
    axes = []
    for given, wanted in zip(x.shape[1:3], size, strict=True):
        cut = int(align and wanted > 1)
        if kind == "xnnpack":
            ratio = F(F(given - cut) / F(wanted - cut))
            at = np.arange(wanted).astype(F) * ratio
            if half:
                at = np.maximum(at + F(F(F(0.5) * ratio) - F(0.5)), F(0))
            at = np.minimum(at, F(given - 1))
            low = at.astype(np.int64)
            axes.append((low, np.minimum(low + 1, given - 1), rint((at - low.astype(F)) * F(2048)), 2048))
        else:
            ratio = (1024 * (given - cut) + (wanted - cut) // 2) // (wanted - cut)
            at = np.arange(wanted) * ratio + (ratio // 2 - 512 if half else 0)
            low = np.maximum(np.trunc(at / 1024).astype(np.int64), 0)
            high = np.minimum(np.trunc((at + 1023) / 1024).astype(np.int64), given - 1)
            low = np.minimum(low, given - 1)
            axes.append((low, high, at - 1024 * low, 1024))
    (top, bottom, v, one), (left, right, h, _) = axes
    v, h, x = v[:, None, None], h[None, :, None], x.astype(np.int64)
    upper = x[:, top][:, :, left] * (one - h) + x[:, top][:, :, right] * h
    lower = x[:, bottom][:, :, left] * (one - h) + x[:, bottom][:, :, right] * h
    total = upper * (one - v) + lower * v
    if kind == "xnnpack":
        return ((total + 2**21) >> 22).astype(np.int8)
    magnitude = (np.abs(total) + 2**19) >> 20
    return np.where(total > 0, magnitude, -magnitude).astype(np.int8)


def resize_nearest(x, size, align, half):
    """RESIZE_NEAREST_NEIGHBOR: places in float32."""
    at = []
    for given, wanted in zip(x.shape[1:3], size, strict=True):
        cut = int(align and wanted > 1)
        place = (np.arange(wanted).astype(F) + F(0.5 if half else 0)) * F(F(given - cut) / F(wanted - cut))
        place = round_away(place) if align else np.floor(place).astype(np.int64)
        at.append(np.clip(place, 0, given - 1))
    return x[:, at[0]][:, :, at[1]]
