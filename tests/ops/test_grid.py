"""Numbers on a grid: the operator against Python integers, and what comes of being off by some steps."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.graph import IntegerGraph
from intsim.ops import OPS
from intsim.ops.deviation import deviation, deviations, steepest
from intsim.ops.grid import LIMB, MOST_SLOPE
from intsim.ops.pieces import pieces_json

from .nodes import node, tensor
from .test_elementwise import twin

POWERS = st.integers(0, 61).flatmap(lambda k: st.sampled_from([1 << k, (1 << k) - 1, (1 << k) + 1]))
SIGNED = st.builds(lambda a, sign: a * sign, POWERS, st.sampled_from([-1, 1]))


def grid(pieces, shift, cells=(1,), off="1/2", arrays=None):
    return node("grid", {"cells": list(cells), "pieces": pieces_json(pieces), "shift": shift, "off": off}, arrays or {})


@given(SIGNED, st.lists(SIGNED, min_size=1, max_size=8), st.integers(0, 62), st.data())
def test_products_of_more_than_64_bits(slope, numbers, shift, data):
    """Whole, in two limbs, and what no lowering writes."""
    slope = max(-MOST_SLOPE, min(MOST_SLOPE, slope)) if data.draw(st.booleans()) else slope
    summand = data.draw(st.integers(-(2**60), 2**60))
    x = np.array(numbers)
    n = grid([[(None, Fraction(slope), Fraction(summand))]], shift)
    wanted = [(slope * v + summand) >> shift for v in numbers]
    got = OPS["grid"].evaluate(n, x)
    assert got.dtype == np.int64
    assert [(w + 2**63) % 2**64 - 2**63 for w in wanted] == pytest.approx(got.tolist(), abs=0)
    if all(abs(w) < 2**63 for w in wanted):
        low, high = OPS["grid"].value_range(n, tensor(x.shape, int(x.min()), int(x.max())))
        assert (low, high) == (min(wanted), max(wanted))


@given(st.integers(5, 40), st.integers(20, 34), st.integers(0, 1 << 30))
def test_two_limbs(shift, slope_bits, seed):
    """What a lowering writes where a product has more than 64 bits, the last digits of the summand among it."""
    rng = np.random.default_rng(seed)
    most = 1 << min(52, 61 + min(shift, LIMB) - slope_bits)
    slope, summand = int(rng.integers(-(1 << slope_bits), 1 << slope_bits)), int(rng.integers(-(2**58), 2**58))
    x = rng.integers(-most, most, 50)
    got = OPS["grid"].evaluate(grid([[(None, Fraction(slope), Fraction(summand))]], shift), x)
    assert got.tolist() == [(slope * v + summand) >> shift for v in x.tolist()]


def test_a_slope_beyond_64_bits_of_zeros_alone():
    n = grid([[(None, Fraction(1 << 70), Fraction(5))]], 1)
    assert OPS["grid"].evaluate(n, np.zeros(3, np.int64)).tolist() == [2, 2, 2]


@pytest.mark.parametrize("cells", [(1,), (3, 1), (2, 3, 2)])
def test_pieces_and_cells(cells):
    rng = np.random.default_rng(len(cells))
    count = math.prod(cells)
    pieces = [
        [(s, Fraction(int(rng.integers(-99, 99))), Fraction(int(rng.integers(-999, 999)))) for s in (None, -3, 7)]
        for _ in range(count)
    ]
    drawn = [(rng.integers(-20, 20, (2, 3, 2)), -20, 19), (rng.integers(-20, 20, (3, 1)), -20, 19)]
    coefficients = rng.integers(-5, 5, (2, *cells))
    n = grid(pieces, 3, cells, arrays={"coefficients": coefficients})
    wanted = twin(drawn, coefficients, cells, pieces, lambda v: math.floor(v / 8))
    got = OPS["grid"].evaluate(n, *(d[0] for d in drawn))
    np.testing.assert_array_equal(got, wanted.astype(np.int64))
    low, high = OPS["grid"].value_range(n, *(tensor(*d) for d in ((a.shape, lo, hi) for a, lo, hi in drawn)))
    assert low <= got.min()
    assert got.max() <= high


def graph_of(*nodes, **ranges):
    """Nodes behind tensors of 1 x 2 x 4 integers of these ranges."""
    graph = IntegerGraph("g")
    for name, (low, high) in ranges.items():
        graph.tensors[name] = tensor((1, 2, 4), low, high, name)
    for n in nodes:
        tensors = [graph.tensors[i] for i in n.inputs]
        shape = OPS[n.op].shape(n, *(t.shape for t in tensors))
        graph.add(n, tensor(shape, *OPS[n.op].value_range(n, *tensors), n.output))
    return graph


PASSED = {
    "product": node("mul", {"zero_points": [3, -5]}, inputs=("x", "z")),
    "sum": node("reduce_sum", {"axes": [2]}),
    "largest": node("max_pool", {"kernel": [2], "strides": [1], "dilations": [1], "pads": [0, 0]}),
    "mean": node(
        "sum_pool",
        {"kernel": [2], "strides": [1], "dilations": [1], "pads": [1, 0], "zero_point": 0},
        {"weight": np.array([[[2, 1, 1, 1]]])},
    ),
    "between": node(
        "interpolate",
        {"axis": 2},
        {"index": np.array([[0, 1], [2, 3], [3, 3]]), "weight": np.array([[1, 3], [4, 0], [-2, 6]])},
    ),
    "line": node("affine", {"cells": [1], "pieces": pieces_json([[(None, Fraction(-3), Fraction(1))]])}),
    "bend": node(
        "affine",
        {"cells": [1], "pieces": pieces_json([[(None, Fraction(0), Fraction(0)), (1, Fraction(5), Fraction(0))]])},
    ),
    "two lines": node(
        "affine",
        {"cells": [1], "pieces": pieces_json([[(None, Fraction(1), Fraction(0))]])},
        {"coefficients": np.array([[7], [-2]])},
        inputs=("x", "z"),
    ),
    "coarser": grid([[(None, Fraction(5), Fraction(4))]], 3, off="1/2"),
}


@pytest.mark.parametrize("name", PASSED)
def test_what_becomes_of_numbers_that_are_off(name):
    """Numbers as far from the integers as they can be, in rationals, end as far from the node's own as is said."""
    n = PASSED[name]
    graph = graph_of(n, x=(-9, 9), z=(-7, 11))
    errors = {"x": Fraction(3, 4), "z": Fraction(1, 3)}
    bound = deviation(graph, n, errors)
    rng = np.random.default_rng(5)
    reached = Fraction(0)
    for _ in range(300):
        arrays = [
            rng.choice([graph.tensors[i].low, graph.tensors[i].high, 0, 1, 2], (1, 2, 4)).astype(np.int64)
            for i in n.inputs
        ]
        moved = [
            np.array([Fraction(int(v)) + errors[i] * int(s) for v, s in zip(a.flat, signs.flat, strict=True)], object)
            for a, i in zip(arrays, n.inputs, strict=True)
            for signs in [np.full(a.shape, rng.choice([-1, 1])) if rng.random() < 0.5 else rng.choice([-1, 1], a.shape)]
        ]
        real = real_of(name, n, [m.reshape(1, 2, 4) for m in moved])
        apart = np.abs(real - OPS[n.op].evaluate(n, *arrays))
        reached = max(reached, apart.max())
        assert apart.max() <= bound
    assert reached >= bound / 2


def real_of(name, n, arrays):
    """The real function that a node stands for, of rationals."""
    x = arrays[0]
    if name == "product":
        return (x - 3) * (arrays[1] + 5)
    if name == "sum":
        return x.sum(axis=2, keepdims=True)
    if name == "largest":
        return np.maximum(x[..., 1:], x[..., :-1])
    if name == "mean":
        before = np.concatenate([x[..., :1] * 0, x[..., :-1]], axis=2)
        return (x + before) * np.array([2, 1, 1, 1])
    if name == "between":
        index, weight = n.arrays["index"], n.arrays["weight"]
        taps = [sum(x[..., i] * int(w) for i, w in zip(*row, strict=True)) for row in zip(index, weight, strict=True)]
        return np.stack(taps, 2)
    if name == "line":
        return x * -3 + 1
    if name == "bend":
        return np.maximum(x, 0) * 5
    if name == "two lines":
        return x * 7 - arrays[1] * 2
    return x * Fraction(5, 8)


def test_a_line_too_short_for_an_integer():
    """max(0, min(1, 8 x - 12)): its slope lies between 1 and 2, where no integer is."""
    pieces = [[(None, Fraction(0), Fraction(0)), (2, Fraction(0), Fraction(1))]]
    n = node("affine", {"cells": [1], "pieces": pieces_json(pieces)})
    assert steepest(n, Fraction(1, 10)) == 1


@pytest.mark.parametrize("op", ["matmul", "softmax", "table"])
def test_who_needs_codes_refuses_such_numbers(op):
    first = grid([[(None, Fraction(1), Fraction(0))]], 0, off="1/4")
    arrays = {"table": np.arange(32).reshape(1, -1)} if op != "matmul" else {"weight": np.ones((4, 1), np.int64)}
    attributes = {
        "matmul": {"x_zero": 0, "w_zero": 0},
        "softmax": {"axes": [2], "bits": 30, "fraction": 24},
        "table": {"low": -16, "cells": [1]},
    }[op]
    graph = graph_of(first, x=(-9, 9))
    graph.nodes.append(node(op, attributes, arrays, ("y",)))
    with pytest.raises(IntsimError, match="which are no codes; put a quantizer between"):
        deviations(graph)
