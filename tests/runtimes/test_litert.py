"""LiteRT's kernel sets (reference, built-in with ruy, XNNPACK's delegate) against their formulas, code by code."""

import zlib
from collections import Counter

import numpy as np
import pytest

from tests.runtimes import litert, litert_cases, litert_formulas
from tests.runtimes.litert import KINDS, Net
from tests.runtimes.litert_cases import DRAWS, F

asks = pytest.mark.skipif(litert.WHY_NOT is not None, reason=str(litert.WHY_NOT))
EVERYDAY, LONG = 8_000, 1_000_000
AT_ONCE = 300  # files a process is asked for
# where the kernel sets, on the very same file, return other codes somewhere
DIFFERENT = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "MEAN", "MAX_POOL_2D", "QUANTIZE",
    "LEAKY_RELU", "LOGISTIC", "TANH", "RESIZE_BILINEAR", "TRANSPOSE_CONV", "ADD broadcast", "MUL broadcast",
    "ADD int16",
)  # fmt: skip


def drawn(name, codes, seed=1):
    """Cases of an operator with at least so many codes together."""
    rng, cases = np.random.default_rng([zlib.crc32(name.encode()), seed]), []
    while sum(c.expected["builtin"].size for c in cases) < codes:
        cases.append(DRAWS[name](rng))
    return cases


def judge(cases):
    """Asserts that every code of every kernel set is the formula's; returns how many codes differ between sets."""
    apart = 0
    for first in range(0, len(cases), AT_ONCE):
        part = cases[first : first + AT_ONCE]
        for case, answers in zip(part, litert.answers([c.net for c in part]), strict=True):
            for kind in KINDS:
                assert not isinstance(answers[kind], str), f"{kind}: {answers[kind]}"
                got, want = answers[kind][case.output], case.expected[kind]
                assert got.shape == want.shape, kind
                differing = int((got != want).sum())
                assert differing == 0, f"{kind}: {differing} of {got.size} codes; {case.note}"
                apart += int((got != answers["reference"][case.output]).sum())
            if case.taken is not None:
                assert bool(answers["xnnpack"]["taken"][0]) == case.taken, case.note
    return apart


@asks
def test_every_operator_a_little():
    """All operators in one process."""
    judge([case for name in DRAWS for case in drawn(name, EVERYDAY)])


@asks
@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWS)
def test_a_million_codes(name):
    apart = judge(drawn(name, LONG, seed=2))
    assert (apart > 0) == (name in DIFFERENT), apart


def network(rng, every):
    """PAD, CONV_2D, DEPTHWISE_CONV_2D, ADD, MEAN, FULLY_CONNECTED in one file; (net, the last tensor, layers).

    `every`: each result is an output of the file. Otherwise only the last is, and XNNPACK may fuse what it likes.
    """
    net, q, c = Net(), (F(0.03), -7), 20
    x = litert_cases.codes(rng, (2, 9, 11, 3))
    given = net.given(x, *q)
    amounts = net.tensor((4, 2), "int32", data=[[0, 0], [1, 1], [1, 1], [0, 0]])
    padded = net.operator("PAD", [given, amounts], net.tensor((2, 11, 13, 3), "int8", *q), 2, "Pad")

    def layer(code, source, shape, weight, ws, y, version, options, axis, **fields):
        k = net.tensor(weight.shape, "int8", ws, 0, axis, weight)
        bias = rng.integers(-4000, 4000, shape[-1])
        b = net.tensor([shape[-1]], "int32", [F(net.tensors[source]["scale"][0]) * s for s in ws], 0, 0, bias)
        return net.operator(code, [source, k, b], net.tensor(shape, "int8", *y), version, options, **fields)

    def weights(*shape):
        return litert_cases.codes(rng, shape)

    def scales(n):
        return [litert_cases.scale(rng, 0.01) for _ in range(n)]

    ya, yb, yc = (F(0.5), 12), (F(2.3), -100), (F(3.1), 40)
    a = layer("CONV_2D", padded, (2, 9, 11, c), weights(c, 3, 3, 3), scales(c), ya, 3, "Conv2D", 0, padding=1,
              strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=1)  # fmt: skip
    b = layer("DEPTHWISE_CONV_2D", a, (2, 9, 11, c), weights(1, 3, 3, c), scales(c), yb, 3, "DepthwiseConv2D", 3,
              padding=0, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, depthMultiplier=1)  # fmt: skip
    total = net.operator("ADD", [a, b], net.tensor((2, 9, 11, c), "int8", *yc), 2, "Add", fusedActivationFunction=3)
    axes = net.tensor([2], "int32", data=[1, 2])
    mean = net.operator("MEAN", [total, axes], net.tensor((2, 1, 1, c), "int8", F(1.7), 3), 2, "Reducer", keepDims=True)
    flat = net.tensor([2], "int32", data=[2, c])
    row = net.operator("RESHAPE", [mean, flat], net.tensor((2, c), "int8", F(1.7), 3), 1, "Reshape")
    last = layer("FULLY_CONNECTED", row, (2, 7), weights(7, c), scales(1), (F(4.0), 0), 5, "FullyConnected", 0)
    if not every:
        net.outputs = [last]
    return net, last


@asks
def test_fusing_changes_no_code():
    """XNNPACK fuses PAD, clamps and layers only where inner results are no outputs: the last codes are the same."""
    pairs = [network(np.random.default_rng(seed), every) for seed in range(8) for every in (True, False)]
    answers = litert.answers([net for net, _ in pairs])
    for n in range(0, len(pairs), 2):
        last = pairs[n][1]
        for kind in KINDS:
            assert (answers[n][kind][last] == answers[n + 1][kind][last]).all(), kind


@asks
def test_concatenation_refuses_other_scales():
    """All three refuse them when they allocate."""
    rng, net = np.random.default_rng(3), Net()
    parts = [net.given(litert_cases.codes(rng, (1, 2, 2, 3)), s, 0) for s in (0.1, 0.2)]
    out = net.tensor((1, 2, 2, 6), "int8", 0.2, 0)
    net.operator("CONCATENATION", parts, out, 2, "Concatenation", axis=3)
    (answer,) = litert.answers([net])
    assert all("failed to prepare" in answer[kind] for kind in KINDS)


# ---- the formulas by themselves --------------------------------------------------------------------------------------


def test_second_rounding_of_ties():
    """The second rounding's ties: away from zero, or up."""
    codes = np.array([-3, -2, -1, 1, 2, 3]) << 10
    half = (1 << 30, -10)  # times 1/2, then >> 10
    assert litert_formulas.scaled(codes, half).tolist() == [-2, -1, -1, 1, 1, 2]
    assert litert_formulas.scaled(codes, half, "up").tolist() == [-1, -1, 0, 1, 1, 2]


def test_multipliers_in_integers():
    """QuantizeMultiplier against whole numbers: 31 bits, the last rounded to the nearest."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        real = float(np.exp(rng.normal(-5, 3)))
        m, shift = litert_formulas.multiplier(real)
        numerator, denominator = real.as_integer_ratio()
        assert 2**30 <= m < 2**31
        assert abs(m * denominator * 2 - numerator * 2 ** (32 - shift)) <= denominator


def test_sums_one_by_one():
    """The sums of convolutions against loops in Python integers, windows that leave the image among them."""
    rng = np.random.default_rng(4)
    x, w = rng.integers(-128, 128, (1, 5, 6, 4)), rng.integers(-128, 128, (6, 3, 2, 2))
    found = litert_formulas.conv_sums(x, 5, w, np.arange(6), (2, 1), (1, 2), "SAME")
    top, left = 1, 1
    for r in range(found.shape[1]):
        for c in range(found.shape[2]):
            for o in range(6):
                total = o
                for i in range(3):
                    for j in range(2):
                        y, z = 2 * r - top + i, c - left + 2 * j
                        if 0 <= y < 5 and 0 <= z < 6:
                            for k in range(2):
                                total += (int(x[0, y, z, o // 3 * 2 + k]) - 5) * int(w[o, i, j, k])
                assert total == found[0, r, c, o]


def test_drawn_cases_reach_the_ends_and_the_middle():
    """Codes spread over the range: a formula judged on saturated codes alone would prove little."""
    for name in ("CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "MEAN", "CONV_2D int16"):
        counts = Counter()
        for case in drawn(name, EVERYDAY):
            codes = case.expected["reference"].astype(np.int64)
            counts["inner"] += int((codes > np.iinfo(case.expected["reference"].dtype).min).sum())
            counts["all"] += codes.size
        assert counts["inner"] > counts["all"] // 3, name
