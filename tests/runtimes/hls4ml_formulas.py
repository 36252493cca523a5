"""What hls4ml's C simulation computes (nnet_utils, Vitis backend), in NumPy integers; shares nothing with the package.

Source: hls4ml 1.3.0, templates/vivado/nnet_utils (nnet_dense_latency.h, nnet_dense_resource.h, nnet_conv2d_*.h,
nnet_mult.h, nnet_activation.h, nnet_pooling.h) and the ap_fixed of firmware/ap_types. A number is an integer and its
fraction bits; `Fixed` is an ap_fixed<W, I, Q, O>.
"""

import re
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fixed:
    """ap_fixed<width, integer, rounding, overflow>; unsigned for ap_ufixed."""

    width: int
    integer: int
    rounding: str = "TRN"
    overflow: str = "WRAP"
    signed: bool = True

    @classmethod
    def read(cls, text):
        """From hls4ml's own spelling: fixed<8,4,RND_CONV,SAT,0>, ufixed<...>, int<8>, uint<1>."""
        name, inside = re.fullmatch(r"(\w+)<(.*)>", text).groups()
        fields = [f.strip() for f in inside.split(",")]
        width = int(fields[0])
        if name in ("int", "uint"):
            return cls(width, width, signed=name == "int")
        return cls(width, int(fields[1]), *fields[2:4], signed=name == "fixed")

    @property
    def fraction(self):
        return self.width - self.integer

    def cast(self, codes, fraction):
        """Codes of this type from codes with `fraction` fraction bits: rounded, then wrapped or saturated."""
        codes, drop = np.asarray(codes, np.int64), fraction - self.fraction
        codes = codes << -drop if drop <= 0 else rounded(codes, drop, self.rounding)
        low = -(1 << (self.width - 1)) if self.signed else 0
        high = low + (1 << self.width) - 1
        if self.overflow == "SAT":
            return np.clip(codes, low, high)
        if self.overflow == "SAT_SYM":
            return np.clip(codes, -high if self.signed else 0, high)
        assert self.overflow == "WRAP", self.overflow
        return (codes - low) % (1 << self.width) + low


def rounded(codes, drop, rounding):
    """Codes without their lowest `drop` bits."""
    below, tie = codes >> drop, 1 << (drop - 1)
    rest = codes & ((1 << drop) - 1)
    if rounding == "TRN":
        return below
    if rounding == "TRN_ZERO":
        return below + ((codes < 0) & (rest != 0))
    if rounding == "RND":  # ties up
        return below + (rest >= tie)
    if rounding == "RND_MIN_INF":  # ties down
        return below + (rest > tie)
    if rounding == "RND_ZERO":
        return below + ((rest > tie) | ((rest == tie) & (codes < 0)))
    if rounding == "RND_INF":
        return below + ((rest > tie) | ((rest == tie) & (codes >= 0)))
    assert rounding == "RND_CONV", rounding
    return below + ((rest > tie) | ((rest == tie) & (below % 2 == 1)))


def order_of(inputs, reuse, strategy):
    """In which order a dense layer adds its products: as they come, or in strides of the reuse factor."""
    if strategy == "Latency" or reuse == 1:
        return list(range(inputs))
    return [i for start in range(reuse) for i in range(start, inputs, reuse)]


def dense(x, x_fraction, weight, w_fraction, bias, b_fraction, accum, result, order=None):
    """Codes of `result`: each product is cast to `accum`, the bias too, which comes first; then one by one.

    x (n, inputs), weight (inputs, outputs), bias (outputs).
    """
    x, weight = np.asarray(x, np.int64), np.asarray(weight, np.int64)
    register = np.broadcast_to(accum.cast(bias, b_fraction), (len(x), weight.shape[1]))
    for i in range(weight.shape[0]) if order is None else order:
        product = accum.cast(x[:, i, None] * weight[i], x_fraction + w_fraction)
        register = accum.cast(register + product, accum.fraction)
    return result.cast(register, accum.fraction)


def conv(x, x_fraction, weight, w_fraction, bias, b_fraction, accum, result, pads, strides, order=None):
    """As dense, over patches in the order row, column, channel; x (n, h, w, c), weight (outputs, c, kh, kw)."""
    outputs, channels, kh, kw = weight.shape
    x = np.pad(np.asarray(x, np.int64), ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))
    rows = range(0, x.shape[1] - kh + 1, strides[0])
    columns = range(0, x.shape[2] - kw + 1, strides[1])
    patches = np.stack([np.stack([x[:, r : r + kh, c : c + kw] for c in columns], 1) for r in rows], 1)
    flat = patches.reshape(-1, kh * kw * channels)
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, outputs)
    out = dense(flat, x_fraction, matrix, w_fraction, bias, b_fraction, accum, result, order)
    return out.reshape(*patches.shape[:3], outputs)


def relu(x, fraction, result):
    return result.cast(np.maximum(x, 0), fraction)


def add(a, a_fraction, b, b_fraction, result):
    """Sum of two tensors: exact, then cast."""
    fraction = max(a_fraction, b_fraction)
    left, right = np.asarray(a) << (fraction - a_fraction), np.asarray(b) << (fraction - b_fraction)
    return result.cast(left + right, fraction)


def max_pool(x, fraction, kernel, accum, result):
    """Maxima of windows that lie side by side."""
    n, h, w, c = x.shape
    kh, kw = kernel
    seen = x[:, : h // kh * kh, : w // kw * kw].reshape(n, h // kh, kh, w // kw, kw, c)
    return result.cast(accum.cast(seen.max(axis=(2, 4)), fraction), accum.fraction)
