"""QONNX's formulas on rationals, and why a float executor came to another integer."""

from fractions import Fraction

import numpy as np

from intsim.arithmetic.requantizers.exact import exact_requantize
from intsim.arithmetic.rounding import round_fraction
from intsim.frontend.qonnx import ROUNDING

HALF = np.float32(0.5)


def fractions(x):
    """The rationals that floats are."""
    return [Fraction(float(v)) for v in np.asarray(x).reshape(-1)]


def limits(node):
    """Least and greatest code of a Quant node; None, None for a bipolar one."""
    bits, signed = int(node.inputs[3]), node.attributes["signed"]
    return (None, None) if bits == 1 and signed else width_limits(bits, signed, node.attributes["narrow"])


def width_limits(bits, signed, narrow):
    """Least and greatest code of a width."""
    return (-(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1 - narrow)


def decide(y, mode, low, high):
    """The code of an unrounded rational: clamp, then round; a bipolar one is its sign."""
    if low is None:
        return 1 if y >= 0 else -1
    return round_fraction(min(max(y, Fraction(low)), Fraction(high)), ROUNDING[mode])


def exact_codes(node):
    """Codes of a Quant node in rational arithmetic, and the unrounded numbers."""
    x, scale, zero = (fractions(v) for v in node.inputs[:3])
    y = [v / scale[0] + zero[0] for v in x]
    low, high = limits(node)
    return [decide(v, node.attributes["rounding_mode"], low, high) for v in y], y


def as_codes(node, answer):
    """The integers that an executor's answer (y - zero) * scale stands for."""
    scale, zero = float(node.inputs[1]), float(node.inputs[2])
    codes = answer.astype(np.float64) / scale + zero
    assert np.all(np.abs(codes - np.rint(codes)) < 0.01), "an answer off the grid"
    return np.rint(codes).astype(np.int64)


def float_rounding_explains(node, index, code):
    """Whether float32 rounding, and nothing else, made `code` of element `index`.

    The float32 number that QONNX's formula rounds is recomputed; rounding it exactly gives `code`, and some step before
    was inexact. The HALF modes add or subtract a half first, in float32 as well.
    """
    x, scale, zero = node.inputs[0].reshape(-1)[index], node.inputs[1], node.inputs[2]
    low, high = limits(node)
    mode = node.attributes["rounding_mode"]
    y = np.float32(np.float32(x / scale) + zero)
    exact = Fraction(float(x)) / Fraction(float(scale)) + Fraction(float(zero))
    if low is None or mode not in ("HALF_UP", "HALF_DOWN"):
        seen = Fraction(float(y))
        return decide(seen, mode, low, high) == code and seen != exact
    kept = np.float32(min(max(y, np.float32(low)), np.float32(high)))
    half = HALF if mode == "HALF_UP" else -HALF
    moved = np.float32(abs(kept) + half)
    whole = np.floor(moved) if mode == "HALF_UP" else np.ceil(moved)
    inexact = Fraction(float(y)) != exact or Fraction(float(moved)) != Fraction(float(abs(kept))) + Fraction(
        float(half)
    )
    return np.sign(kept) * whole == code and inexact


def trunc_codes(node):
    """Trunc: round(round(x / scale + zero) / 2^n), by our definition of requantizing; zero points of 0.

    Version 1 has n = bits - kept, version 2 the ratio of its scales, and clips.
    """
    x, scale, zero, bits, *rest = (fractions(v) for v in node.inputs)
    q = np.array([round(v / scale[0] + zero[0]) for v in x])
    mode = ROUNDING[node.attributes["rounding_mode"]]
    if len(rest) == 1:
        return exact_requantize(q, Fraction(1, 1 << int(bits[0] - rest[0][0])), 0, mode)
    codes = exact_requantize(q, scale[0] / rest[0][0], 0, mode)
    return np.clip(codes, *width_limits(int(rest[1][0]), node.attributes["signed"], node.attributes["narrow"]))


def threshold_counts(node):
    """How many thresholds each element of (1, C, ...) reaches, compared as rationals."""
    x, thresholds = node.inputs
    counts = np.zeros(x.shape, np.int64)
    for index in np.ndindex(x.shape):
        value = Fraction(float(x[index]))
        counts[index] = sum(value >= Fraction(float(t)) for t in thresholds[index[1]])
    return counts
