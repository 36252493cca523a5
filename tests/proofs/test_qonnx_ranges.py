"""What qonnx and FINN expect of accumulator ranges, restated; and where their arithmetic falls short, by example.

The expectations are those of qonnx' `tests/util/test_matvec_range.py` and `tests/analysis/test_range_analysis.py`. They
speak of the finished accumulator, and hold. The counterexamples are to the arithmetic behind them (docs/bounds.md).
"""

import math

import numpy as np
import pytest
from proofs.addends import graph, registers

from intsim.ops import OPS
from intsim.proofs.bounds import LayerBound, layer_bound
from intsim.proofs.witness import ORDERS, witnesses
from intsim.targets import Target

RNG = np.random.default_rng(0)
TYPES = {"UINT8": (0, 255), "INT8": (-128, 127), "UINT3": (0, 7), "INT3": (-4, 3)}
TYPES |= {"BIPOLAR": (-1, 1), "TERNARY": (-1, 1)}


def codes(name, shape):
    """Values of a type; a bipolar one has no 0."""
    low, high = TYPES[name]
    return RNG.choice([-1, 1], shape) if name == "BIPOLAR" else RNG.integers(low, high + 1, shape)


def matmul(weight, x, low, high, **arrays):
    return graph("matmul", x, low, high, {"weight": weight, **arrays}, zero_point=0)


def bound(made) -> LayerBound:
    (node,) = made.nodes
    return layer_bound(node, OPS[node.op], [made.tensors[i] for i in node.inputs], Target.load("exact"))


def attained(made) -> bool:
    return all(w.attained for w in witnesses(made, made.nodes[0], registers(), orders=ORDERS))


@pytest.mark.parametrize("size", [1, 10, 100])
@pytest.mark.parametrize("x", TYPES)
@pytest.mark.parametrize("w", TYPES)
def test_matrix_vector_range(w, x, size):
    """`test_calculate_matvec_accumulator_range`: right, and weak, as 1000 random vectors come nowhere near the ends.

    A range a tenth too narrow would pass it at 100 products. Here the ends must be attained as well.
    """
    made = matmul(codes(w, (size, 1)), (1, size), *TYPES[x])
    found = bound(made)
    seen = codes(x, (1000, size)) @ made.nodes[0].arrays["weight"]
    assert found.low <= seen.min() <= seen.max() <= found.high
    assert attained(made)
    # these types reach 0 or both signs and there is no bias: sums on the way reach no further than finished ones
    assert (found.any_order.low, found.any_order.high) == (min(found.low, 0), max(found.high, 0))


@pytest.mark.parametrize(("x", "w"), [((14, 14, 200), (200, 16)), ((12, 128, 32), (12, 32, 128))])
def test_matrix_matrix_range(x, w):
    """`test_calc_matmul_range`, UINT4 by INT4: right; its draws leave the greatest code out, so 14 would do for 15."""
    made = matmul(RNG.integers(-8, 8, w), x, 0, 15)
    found = bound(made)
    sums = np.matmul(RNG.integers(0, 16, x), made.nodes[0].arrays["weight"])
    assert (np.array(found.any_order.channel_low) <= sums.min(axis=tuple(range(sums.ndim - 1)))).all()
    assert (sums.max(axis=tuple(range(sums.ndim - 1))) <= np.array(found.any_order.channel_high)).all()
    weight = made.nodes[0].arrays["weight"]
    up, down = (15 * np.where(weight > 0, weight, 0).sum(axis=-2), 15 * np.where(weight < 0, weight, 0).sum(axis=-2))
    assert (found.low, found.high) == (down.min(), up.max())
    assert attained(made)


def test_first_layer_of_a_ternary_network():
    """`test_calc_matmul_node_range`: 784 inputs of -1..1 and ternary weights, 233, 288 and 190 of them not 0.

    Right for codes -1..1. Two-bit codes that aren't narrow are -2..1, and the ends then depend on the signs.
    """
    weight = np.zeros((784, 3), np.int64)
    for column, count in enumerate((233, 288, 190)):
        weight[RNG.permutation(784)[:count], column] = RNG.choice([-1, 1], count)
    found = bound(matmul(weight, (1, 784), -1, 1))
    assert found.any_order.channel_low == found.own_order.channel_low == [-233, -288, -190]
    assert found.any_order.channel_high == found.own_order.channel_high == [233, 288, 190]
    assert found.channel_bits == [9, 10, 9]
    ups = (weight > 0).sum(axis=0)
    wide = bound(matmul(weight, (1, 784), -2, 1))
    assert wide.any_order.channel_high == [int(u + 2 * (n - u)) for u, n in zip(ups, (233, 288, 190), strict=True)]


def test_two_intervals():
    """qonnx' `calc_matmul_range` takes midpoints and radii: 0..1 times 0..1 becomes -0.5..1. It is 0..1."""
    middle, radius = 0.5, 0.5
    spread = radius * (abs(middle) + radius) + abs(middle) * radius
    assert (middle * middle - spread, middle * middle + spread) == (-0.5, 1.0)
    made = graph("matmul", (1, 1), 0, 1, {}, ((1, 1), 0, 1), zero_point=0)
    found = bound(made)
    assert (found.low, found.high, found.required_bits) == (0, 1, 2)
    assert attained(made)


def test_float32_ranges_lose_an_attained_sum():
    """qonnx computes midpoints and radii in float32: 519 products UINT8 by INT8 reach 16 777 725, it says 16 777 724.

    A 3x3 convolution of 64 channels has 576 products.
    """
    weight = np.array([127] * 518 + [9])[:, None]
    middle = radius = np.full((1, 519), 127.5, np.float32)
    assert middle @ weight.astype(np.float32) + radius @ np.abs(weight).astype(np.float32) == 16_777_724
    made = matmul(weight, (1, 519), 0, 255)
    assert bound(made).high == 16_777_725
    assert attained(made)


@pytest.mark.parametrize(("extra", "bits"), [(-1, 32), (0, 33)])
def test_float32_width_at_two_to_the_31(extra, bits):
    """FINN issue 1517: for a maximum of 2^31, -2^31 - 1 in float32 is -2^31, which fits 32 bits. 2^31 needs 33."""
    assert np.float32(-(2**31)) - np.float32(1) == np.float32(-(2**31))
    made = matmul(np.ones((128, 1)), (1, 128), 0, 1, bias=[2**31 - 128 + extra])
    found = bound(made)
    assert (found.high, found.required_bits, found.any_order.required_bits) == (2**31 + extra, bits, bits)
    down = bound(matmul(-np.ones((128, 1)), (1, 128), 0, 1, bias=[-(2**31) + 128 - 1 - extra]))
    assert (down.low, down.required_bits) == (-(2**31) - 1 - extra, bits)
    assert attained(made)


@pytest.mark.parametrize("k", [1, 7, 15, 30, 31, 47])
def test_the_asymmetric_end_of_the_signed_range(k):
    """FINN pull request 323: a signed sum that reaches +2^k needs k + 2 bits, one that reaches -2^k only k + 1."""
    up = bound(matmul(np.array([[1], [-1]]), (1, 2), 0, 1, bias=[2**k - 1]))
    assert (up.low, up.high, up.required_bits) == (2**k - 2, 2**k, k + 2)
    down = bound(matmul(np.array([[1], [-1]]), (1, 2), 0, 1, bias=[-(2**k) + 1]))
    assert (down.low, down.high, down.required_bits) == (-(2**k), -(2**k) + 2, k + 1)


def test_logarithms_of_widths_round():
    """`ceil(log2(max(-min, 1 + max))) + 1`, FINN's width, is a bit short at 2^49 in double precision: 50 for 51."""
    top = 2**49
    assert math.ceil(math.log2(max(0, 1 + top))) + 1 == 50
    assert bound(matmul(np.ones((1, 1)), (1, 1), 0, 1, bias=[top - 1])).required_bits == 51


def test_padding_is_part_of_the_range():
    """qonnx 1.0 `calc_conv_range` sees no padding: 3..7 through nine ones is 27..63 there, but a corner gives 12."""
    made = graph("conv", (1, 1, 4, 4), 3, 7, {"weight": np.ones((1, 1, 3, 3))},
                 zero_point=0, groups=1, strides=[1, 1], dilations=[1, 1], pads=[1] * 4)  # fmt: skip
    found = bound(made)
    assert (found.low, found.high) == (12, 63)
    assert attained(made)


def test_finished_ranges_do_not_bound_sums_on_the_way():
    """Inputs 6..7 by +1 and -1: finished -1..1, 2 bits; but 7 stands in the register before -6 arrives."""
    found = bound(matmul(np.array([[1], [-1]]), (1, 2), 6, 7))
    assert (found.low, found.high, found.required_bits) == (-1, 1, 2)
    assert (found.own_order.low, found.own_order.high, found.own_order.required_bits) == (-1, 7, 4)
    assert (found.any_order.low, found.any_order.high, found.any_order.required_bits) == (-7, 7, 4)
