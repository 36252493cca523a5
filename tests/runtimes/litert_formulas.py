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
    m = int(math.floor(q * 2**31 + 0.5))  # std::round: q is positive
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
    (o, kh, kw, i), (n, h, w, _) = weight.shape, x.shape
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
    blocks = sums.shape[-1] // 8 * 8 if op == "DEPTHWISE_CONV_2D" else sums.shape[-1]
    for c, real in enumerate(channel_scales(x, scales, y)):
        column = sums[..., c]
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


def in_vectors(vectors, scalars, lanes=16):
    """What a loop over `lanes` codes at a time returns, whose remainder another loop computes."""
    out = scalars.reshape(-1).copy()
    whole = out.size // lanes * lanes
    out[:whole] = vectors.reshape(-1)[:whole]
    return out.reshape(scalars.shape)


# ---- elementwise -----------------------------------------------------------------------------------------------------


def add(a, b, qa, qb, y, activation, kind, subtract=False):
    """int8 ADD or SUB."""
    sign = -1 if subtract else 1
    bounds = activation_range(activation, y, kind)
    if kind == "xnnpack":
        ra, rb = F(F(qa[0]) / F(y[0])), F(F(qb[0]) / F(y[0]))
        exponent = math.frexp(float(max(ra, rb)))[1] - 1
        shift = 20 - exponent
        ma = int(rint(np.ldexp(np.float64(ra), shift)))
        mb = sign * int(rint(np.ldexp(np.float64(rb), shift)))
        bias = (1 << (shift - 1)) - ma * int(qa[1]) - mb * int(qb[1])
        total = (wrap32(bias + a.astype(np.int64) * ma + b.astype(np.int64) * mb)) >> shift
        return clamp(clamp(total + y[1], (-128, 127)), bounds).astype(np.int8)
    largest = 2.0 * float(max(F(qa[0]), F(qb[0])))
    left = (a.astype(np.int64) - qa[1]) << 20
    right = (b.astype(np.int64) - qb[1]) << 20
    left = scaled(left, float(F(qa[0])) / largest)
    right = scaled(right, float(F(qb[0])) / largest)
    last = largest / float(F(2**20) * F(y[0]))
    total = clamp(scaled(left + sign * right, last) + y[1], bounds)
    if kind == "builtin" and not subtract:
        # vectors of 16 shift inputs by 20 + exponent before the only rounding, and wrap at 16 bits at the end
        left = scaled_left(a.astype(np.int64) - qa[1], float(F(qa[0])) / largest)
        right = scaled_left(b.astype(np.int64) - qb[1], float(F(qb[0])) / largest)
        found = wrap16(wrap16(scaled(left + right, last)) + y[1])
        total = in_vectors(clamp(clamp(found, (-128, 127)), bounds), total)
    return total.astype(np.int8)


def mul(a, b, qa, qb, y, activation, kind):
    """int8 MUL."""
    bounds = activation_range(activation, y, kind)
    product = (a.astype(np.int64) - qa[1]) * (b.astype(np.int64) - qb[1])
    if kind == "xnnpack":
        scale = F(F(F(qa[0]) * F(qb[0])) / F(y[0]))
        found = clamp(rint(product.astype(F) * scale), (-32768, 32767)) + y[1]
        return clamp(clamp(found, (-128, 127)), bounds).astype(np.int8)
    result = scaled(product, float(F(F(qa[0]) * F(qb[0])) / F(y[0])))
    total = clamp(result + y[1], bounds)
    if kind == "builtin":  # vectors of 16 saturate to 16 bits, then the zero point may wrap them
        found = wrap16(clamp(result, (-(2**15), 2**15 - 1)) + y[1])
        total = in_vectors(clamp(clamp(found, (-128, 127)), bounds), total)
    return total.astype(np.int8)


# ---- sums over areas -------------------------------------------------------------------------------------------------


def mean(x, axes, keep, q, y, kind):
    """int8 MEAN."""
    n = int(np.prod([x.shape[a] for a in axes]))
    sums = x.astype(np.int64).sum(axis=tuple(axes), keepdims=keep)
    if kind == "xnnpack":
        scale = F(F(F(q[0]) / F(y[0])) * F(F(1) / F(n)))
        zero = F(F(y[1]) - F(F(n * q[1]) * scale))
        return clamp(rint(sums.astype(F) * scale + zero), (-128, 127)).astype(np.int8)
    if kind == "builtin" and keep and x.ndim == 4 and sorted(axes) == [1, 2]:
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
    return clamp(scaled(sums - n * q[1], (m, exponent)) + y[1], (-128, 127)).astype(np.int8)


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
