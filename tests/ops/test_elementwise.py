"""Elementwise, reducing and moving operators against Python integers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.errors import IntsimError
from intsim.ops import OPS
from intsim.ops.pieces import cell_views, pieces_json

from .nodes import BOUNDS, check, ints, node, tensor

SHAPE = (2, 3, 2)
CELLS = st.sampled_from([(1, 1, 1), (1, 3, 1), (3, 1), (2, 3, 2), (2,)])
RATIONALS = st.fractions(-50, 50, max_denominator=16)


@st.composite
def functions(draw, values):
    """(cells, pieces): for each cell up to three pieces with rising starts."""
    cells = draw(CELLS)
    out = []
    for _ in range(math.prod(cells)):
        starts = sorted(draw(st.sets(st.integers(-500, 500), max_size=2)))
        out.append([(s, draw(values), draw(values)) for s in [None, *starts]])
    return cells, out


def at(parameter, index, rank):
    """An entry of an array that broadcasts."""
    shape = (1,) * (rank - parameter.ndim) + parameter.shape
    return parameter.reshape(shape)[tuple(i if s > 1 else 0 for i, s in zip(index, shape, strict=True))]


def twin(drawn, coefficients, cells, pieces, finish):
    """Piece by piece in exact rationals."""
    shape = np.broadcast_shapes(*(d[0].shape for d in drawn), cells)
    out = np.zeros(shape, object)
    numbers = np.arange(math.prod(cells)).reshape(cells)
    for index in np.ndindex(*shape):
        acc = sum(
            int(at(d[0], index, len(shape)))
            * (1 if coefficients is None else int(at(coefficients[i], index, len(shape))))
            for i, d in enumerate(drawn)
        )
        chosen = [p for p in pieces[at(numbers, index, len(shape))] if p[0] is None or acc >= p[0]][-1]
        out[index] = finish(chosen[1] * acc + chosen[2])
    return out


@st.composite
def cases(draw, values):
    drawn = [draw(ints(s)) for s in draw(st.sampled_from([[SHAPE], [SHAPE, SHAPE], [SHAPE, (3, 1), (1, 1, 2)]]))]
    coefficients = None
    if len(drawn) > 1:
        shape = draw(st.sampled_from([(1, 1, 1), (1, 3, 1)]))
        rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
        coefficients = rng.integers(-5, 6, (len(drawn), *shape))
    cells, pieces = draw(functions(values))
    arrays = {} if coefficients is None else {"coefficients": coefficients}
    return drawn, coefficients, cells, pieces, arrays


@given(cases(st.integers(-9, 9).map(Fraction)))
def test_affine(case):
    drawn, coefficients, cells, pieces, arrays = case
    n = node("affine", {"cells": list(cells), "pieces": pieces_json(pieces)}, arrays)
    check(n, drawn, twin(drawn, coefficients, cells, pieces, int))


@given(cases(RATIONALS), st.sampled_from(list(Rounding)), st.integers(-9, 9), BOUNDS, st.booleans())
def test_requantize(case, mode, zero, bounds, clipped):
    drawn, coefficients, cells, pieces, arrays = case
    low, high = bounds if clipped else (None, None)
    attributes = {
        "cells": list(cells),
        "pieces": pieces_json(pieces),
        "rounding": str(mode),
        "zero": zero,
        "low": low,
        "high": high,
    }

    def finish(value):
        y = round_fraction(value, mode) + zero
        return min(max(y, low), high) if clipped else y

    check(node("requantize", attributes, arrays), drawn, twin(drawn, coefficients, cells, pieces, finish))


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-40, 40), st.integers(0, 60))
def test_the_range_of_one_line_is_attained(slope, offset, low, width):
    n = node("affine", {"cells": [1], "pieces": [[[None, f"{slope}/1", f"{offset}/1"]]]})
    ends = [slope * v + offset for v in (low, low + width)]
    assert OPS["affine"].value_range(n, tensor((1,), low, low + width)) == (min(ends), max(ends))


def test_sums_that_leave_64_bits_are_refused():
    arrays = {"coefficients": np.array([[1 << 40], [1]])}
    n = node("affine", {"cells": [1], "pieces": [[[None, "1/1", "0/1"]]]}, arrays)
    with pytest.raises(IntsimError, match="more than 64"):
        OPS["affine"].value_range(n, tensor((1,), 0, 1 << 30), tensor((1,), 0, 1))


def test_cell_views():
    assert list(cell_views((2, 1), 3)) == [(slice(None), slice(i, i + 1), slice(None)) for i in range(2)]


@given(ints(SHAPE), ints((3, 1)), st.integers(-400, 400), st.integers(-400, 400))
def test_mul(x, y, zx, zy):
    wanted = (x[0].astype(object) - zx) * (y[0].astype(object) - zy)
    low, high = check(node("mul", {"zero_points": [zx, zy]}, inputs=("x", "y")), [x, y], wanted)
    corners = [(a - zx) * (b - zy) for a in x[1:] for b in y[1:]]
    assert (low, high) == (min(corners), max(corners))


@given(ints((2, 3, 4)), ints((2, 1, 1)), st.sampled_from([(1,), (4,), (3, 4), (1, 3, 1)]), st.integers(0, 99))
def test_zero_point(sums, zero, shape, seed):
    weights = np.random.default_rng(seed).integers(-500, 500, shape)
    wanted = [
        [[int(v) - int(zero[0][i, 0, 0]) * int(np.broadcast_to(weights, (2, 3, 4))[i, j, k]) for k, v in enumerate(row)]
         for j, row in enumerate(rows)]
        for i, rows in enumerate(sums[0])
    ]  # fmt: skip
    n = node("zero_point", arrays={"weights": weights}, inputs=("x", "z"))
    low, high = check(n, [sums, zero], np.array(wanted, object))
    corners = [z * int(w) for z in zero[1:] for w in weights.reshape(-1)]
    assert (low, high) == (sums[1] - max(corners), sums[2] - min(corners))


@given(ints((2, 3, 4)), st.sets(st.integers(0, 2), min_size=1))
def test_reduce_sum(x, axes):
    wanted = x[0].astype(object).sum(axis=tuple(axes), keepdims=True)
    count = math.prod((2, 3, 4)[a] for a in axes)
    assert check(node("reduce_sum", {"axes": sorted(axes)}), [x], np.array(wanted, object)) == (
        x[1] * count,
        x[2] * count,
    )


@st.composite
def windows(draw):
    rank = draw(st.integers(1, 3))
    at_ = {
        "kernel": [draw(st.integers(1, 3)) for _ in range(rank)],
        "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
        "dilations": [draw(st.integers(1, 2)) for _ in range(rank)],
        "pads": [0] * (2 * rank),
    }
    for i in range(2 * rank):
        at_["pads"][i] = draw(st.integers(0, at_["kernel"][i % rank] - 1)) if at_["dilations"][i % rank] == 1 else 0
    return draw(ints((2, 2, *[draw(st.integers(5, 6)) for _ in range(rank)]))), at_


def places(x, attributes):
    """Per output position, the values inside its window."""
    rank = x.ndim - 2
    shape = tuple(
        (
            x.shape[2 + i]
            + attributes["pads"][i]
            + attributes["pads"][rank + i]
            - attributes["dilations"][i] * (attributes["kernel"][i] - 1)
            - 1
        )
        // attributes["strides"][i]
        + 1
        for i in range(rank)
    )
    out = {}
    for n, c, *p in np.ndindex(*x.shape[:2], *shape):
        values = []
        for tap in np.ndindex(*attributes["kernel"]):
            at_x = [
                p[i] * attributes["strides"][i] + tap[i] * attributes["dilations"][i] - attributes["pads"][i]
                for i in range(rank)
            ]
            if all(0 <= a < s for a, s in zip(at_x, x.shape[2:], strict=True)):
                values.append(int(x[(n, c, *at_x)]))
        out[(n, c, *p)] = values
    return (*x.shape[:2], *shape), out


def placed(shape, found, function):
    wanted = np.zeros(shape, object)
    for index, values in found.items():
        wanted[index] = function(index, values)
    return wanted


@given(windows())
def test_max_pool(case):
    x, attributes = case
    shape, found = places(x[0], attributes)
    check(node("max_pool", attributes), [x], placed(shape, found, lambda _, v: max(v)))


@given(windows(), st.integers(-300, 300), st.integers(1, 5))
def test_sum_pool(case, zero, step):
    x, attributes = case
    shape, found = places(x[0], attributes)
    weight = np.arange(math.prod(shape[2:])).reshape(1, 1, *shape[2:]) % 5 * step + 1
    wanted = placed(shape, found, lambda i, v: sum(e - zero for e in v) * int(weight[(0, 0, *i[2:])]))
    check(node("sum_pool", {**attributes, "zero_point": zero}, {"weight": weight}), [x], wanted)


@pytest.mark.parametrize("op", ["max_pool", "sum_pool"])
def test_windows_larger_than_the_input(op):
    at_ = {"kernel": [3], "strides": [1], "dilations": [2], "pads": [0, 1], "zero_point": 0}
    with pytest.raises(IntsimError, match="larger than"):
        OPS[op].shape(node(op, at_), (1, 1, 3))


@given(ints((2, 4, 3)), st.integers(0, 2), st.data())
def test_interpolate(x, axis, data):
    size = x[0].shape[axis]
    rows = data.draw(
        st.lists(st.tuples(*[st.integers(0, size - 1)] * 2, *[st.integers(-3, 9)] * 2), min_size=1, max_size=5)
    )
    index, weight = np.array([r[:2] for r in rows]), np.array([r[2:] for r in rows])
    wanted = np.stack(
        [
            sum(np.take(x[0].astype(object), i, axis) * int(w) for i, w in zip(*r, strict=True))
            for r in zip(index, weight, strict=True)
        ],
        axis=axis,
    )
    check(node("interpolate", {"axis": axis}, {"index": index, "weight": weight}), [x], wanted)


@given(st.integers(0, 2), st.data())
def test_lookup(axis, data):
    table = data.draw(ints((4, 4, 4)))[0]
    x = data.draw(ints((2, 3), st.tuples(st.integers(-4, 3), st.integers(-4, 3)).map(lambda t: (min(t), max(t)))))
    wanted = np.zeros((*table.shape[:axis], 2, 3, *table.shape[axis + 1 :]), object)
    for index in np.ndindex(*wanted.shape):
        position = x[0][index[axis : axis + 2]]
        wanted[index] = int(table[(*index[:axis], position, *index[axis + 2 :])])
    low, high = check(node("lookup", {"axis": axis}, {"table": table}), [x], wanted)
    reachable = [int(v) for p in range(x[1], x[2] + 1) for v in np.take(table, p, axis).reshape(-1)]
    assert (low, high) == (min(reachable), max(reachable))


@pytest.mark.parametrize(("low", "high"), [(-5, 0), (0, 4)])
def test_positions_outside_the_table(low, high):
    with pytest.raises(IntsimError, match="can leave the table"):
        OPS["lookup"].value_range(node("lookup", {"axis": 0}, {"table": np.arange(4)}), tensor((1,), low, high))


@given(ints((2, 3, 4)), ints((2, 1, 4)))
def test_movement(x, y):
    a = x[0].astype(object)
    assert check(node("gather", {"axis": 1}, {"index": np.array([2, 0, 0])}), [x], a[:, [2, 0, 0]]) == x[1:]
    assert check(node("reshape", {"shape": [4, 6]}), [x], a.reshape(4, 6)) == x[1:]
    assert check(node("transpose", {"perm": [2, 0, 1]}), [x], a.transpose(2, 0, 1)) == x[1:]
    both = np.concatenate([a, y[0].astype(object)], axis=1)
    assert check(node("concat", {"axis": 1}, inputs=("x", "y")), [x, y], both) == (min(x[1], y[1]), max(x[2], y[2]))
    padded = np.full((2, 6, 5), 77, object)
    padded[:, 1:4, :4] = a
    n = node("pad", {"pads": [[0, 0], [1, 2], [0, 1]], "value": 77})
    assert check(n, [x], padded) == (min(x[1], 77), max(x[2], 77))


@pytest.mark.parametrize("factor", [2**63, -(2**63) - 1, 10**40])
def test_a_factor_beyond_int64_of_what_is_zero(factor):
    """The sum fits, as its accumulator is 0 or the factor is met by a summand."""
    for low, high, summand in ((0, 0, 7), (1, 1, -factor - 5), (0, 0, -(2**63) + 1)):
        made = node("affine", {"cells": [1], "pieces": pieces_json([[(None, Fraction(factor), Fraction(summand))]])})
        x = np.full((2,), low)
        found = OPS["affine"].evaluate(made, x)
        assert found.dtype == np.int64
        assert found.tolist() == [factor * low + summand] * 2
        assert OPS["affine"].value_range(made, tensor((2,), low, high)) == (factor * low + summand,) * 2
