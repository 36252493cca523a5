"""Pools and interpolation on planes of arrays: what windows hold, one position after another in Python's integers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.arithmetic.integers import IntegerType
from intsim.engine.run import run_graph

from .test_agreement import EXACT
from .test_corners import RNG, Build

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once

KINDS = [IntegerType(8, True), IntegerType(16, False), IntegerType(30, True), IntegerType(40, True)]


def ran(net, name):
    """The result, as Python integers, and the kernel that made it."""
    net.check(name)
    profile = []
    made = run_graph(net.graph, net.inputs, EXACT, profile=profile).tensors[name]
    return made.astype(object), profile[-1].kernel


def pooled(x, at, weight):
    """Sum of products with the position's weight, or the maximum where there is none."""
    rank = x.ndim - 2
    ends = [
        x.shape[2 + i] + at["pads"][i] + at["pads"][rank + i] - at["dilations"][i] * (at["kernel"][i] - 1) - 1
        for i in range(rank)
    ]
    out = np.zeros((*x.shape[:2], *(e // s + 1 for e, s in zip(ends, at["strides"], strict=True))), object)
    for place in np.ndindex(*out.shape):
        seen = []
        for tap in itertools.product(*map(range, at["kernel"])):
            inside = [
                p * s + t * d - b
                for p, s, t, d, b in zip(place[2:], at["strides"], tap, at["dilations"], at["pads"][:rank], strict=True)
            ]
            if all(0 <= i < n for i, n in zip(inside, x.shape[2:], strict=True)):
                seen.append(int(x[(*place[:2], *inside)]))
        if weight is None:
            out[place] = max(seen)
        else:
            out[place] = sum(v - at["zero_point"] for v in seen) * int(weight[(0, 0, *place[2:])])
    return out


@settings(deadline=None)
@given(st.data())
def test_pools(data):
    draw = data.draw
    rank, kind, op = draw(st.integers(1, 3)), draw(st.sampled_from(KINDS)), draw(st.sampled_from(["sum", "max"]))
    many = lambda low, high: [draw(st.integers(low, high)) for _ in range(rank)]  # noqa: E731
    kernel, apart = many(1, 3), many(1, 2)
    size = [d * (k - 1) + 1 + draw(st.integers(0, 6)) for k, d in zip(kernel, apart, strict=True)]
    at = {"kernel": kernel, "strides": many(1, 3), "dilations": apart}
    at["pads"] = [draw(st.integers(0, k - 1)) if d == 1 else 0 for k, d in 2 * list(zip(kernel, apart, strict=True))]
    net = Build(draw(st.integers(1, 2)), draw(st.integers(1, 3)), *size, kind=kind)
    if op == "max":
        name, weight = net.add("max_pool", ["x"], at, kind), None
    else:
        at["zero_point"] = draw(st.sampled_from([0, kind.min, kind.max, 3]))
        shape = pooled(net.inputs["x"], at, None).shape
        weight = RNG.integers(1, draw(st.sampled_from([2, 37])), (1, 1, *shape[2:]))
        name = net.add("sum_pool", ["x"], at, weight=weight)
    made, kernel = ran(net, name)
    np.testing.assert_array_equal(made, pooled(net.inputs["x"], at, weight))
    assert (kernel == "definition") is (rank == 3)


@settings(deadline=None)
@given(st.data())
def test_interpolation(data):
    draw = data.draw
    shape, kind = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)), draw(st.sampled_from(KINDS))
    axis, count, taps = draw(st.integers(0, len(shape) - 1)), draw(st.integers(1, 40)), draw(st.integers(1, 4))
    index = RNG.integers(0, shape[axis], (count, taps))
    weight = RNG.integers(-9, draw(st.sampled_from([10, 1 << 20])), (count, taps))
    net = Build(*shape, kind=kind)
    made, kernel = ran(net, net.add("interpolate", ["x"], {"axis": axis}, index=index, weight=weight))
    x = np.moveaxis(net.inputs["x"].astype(object), axis, 0)
    right = [
        sum(int(w) * x[i] for i, w in zip(row, factors, strict=True))
        for row, factors in zip(index, weight, strict=True)
    ]
    np.testing.assert_array_equal(made, np.moveaxis(np.stack(right), 0, axis))
    assert kernel == "planes"
