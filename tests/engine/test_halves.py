"""Layers of two-byte activations, each byte by itself: what both make is the definition's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.arithmetic.integers import IntegerType
from intsim.engine.program.halves import bytes_of
from intsim.engine.run import run_graph
from intsim.graph import Tensor, rationals
from intsim.targets import Target

from .test_agreement import EXACT
from .test_corners import RNG, Build

pytestmark = pytest.mark.xdist_group("engine")  # kernels that its tests share are compiled once

U16, S16, S9, U12 = IntegerType(16, False), IntegerType(16, True), IntegerType(9, True), IntegerType(12, False)


def kernels(net):
    """What ran."""
    ran = []
    run_graph(net.graph, net.inputs, EXACT, profile=ran)
    return [one.kernel for one in ran]


@pytest.mark.parametrize("kind", [U16, S16, S9, U12], ids=str)
def test_every_number_has_its_bytes(kind):
    shift = 0 if kind.min == 0 else 1 << 15
    codes = np.arange(kind.min, kind.max + 1)
    high, low = bytes_of(codes.astype(np.int32), shift)
    np.testing.assert_array_equal(256 * high.astype(int) + low, codes + shift)


@settings(deadline=None)
@given(st.data())
def test_convolutions(data):
    draw = data.draw
    op, rank = draw(st.sampled_from(["conv", "conv", "conv_transpose"])), draw(st.integers(1, 2))
    kind = draw(st.sampled_from([U16, S16, S9, U12]))
    groups, inside, out = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    many = lambda low, high: [draw(st.integers(low, high)) for _ in range(rank)]  # noqa: E731
    more = {"pads": [draw(st.integers(0, 2)) for _ in range(2 * rank)]}
    if op == "conv":
        more |= {"strides": many(1, 3), "dilations": many(1, 2)}
    else:
        more["insert"] = many(1, 3)
    net = Build(draw(st.integers(1, 2)), groups * inside, *many(6, 9), kind=kind)
    zero = draw(st.sampled_from([kind.min, kind.max, 0, 5, kind.max // 3]))
    weights = draw(st.sampled_from([(-8, 7), (-128, 127), (-255, 255)]))
    bias = draw(st.sampled_from([None, 5, 1 << 33]))
    y = net.conv("x", groups * out, many(1, 3), groups=groups, op=op, zero=zero, weights=weights, bias=bias, **more)
    cells = [f"1/{draw(st.integers(1000, 200000))}" for _ in range(groups * out)] if draw(st.booleans()) else None
    codes = net.codes(y, "1/70000", kind=draw(st.sampled_from([U16, S16, S9])), cells=cells, offset="0/1")
    net.check(*([codes, y] if draw(st.booleans()) else [codes]))
    assert any("bytes apart" in k for k in kernels(net))


@settings(deadline=None)
@given(st.data())
def test_products(data):
    draw = data.draw
    kind, depth, columns = draw(st.sampled_from([U16, S16, S9])), draw(st.integers(1, 30)), draw(st.integers(1, 40))
    net = Build(*draw(st.sampled_from([(1, depth), (5, depth), (2, 3, depth)])), kind=kind)
    most = draw(st.sampled_from([7, 127, 255]))
    arrays = {"weight": RNG.integers(-most, most, (depth, columns), endpoint=True)}
    if draw(st.booleans()):
        arrays["bias"] = RNG.integers(-(1 << 36), 1 << 36, columns)
    zero = draw(st.sampled_from([0, kind.min - 1000, kind.max + 70000, 77]))
    y = net.add("matmul", ["x"], {"zero_point": zero}, **arrays)
    codes = net.codes(y, "1/70000", kind=draw(st.sampled_from([U16, S16])), offset="0/1")
    net.check(*([codes, y] if draw(st.booleans()) else [codes]))
    assert any("bytes apart" in k for k in kernels(net))


def test_the_largest_sums():
    """All bytes and weights at their ends, next to where a half would leave 32 bits; beyond, another way is taken."""
    for channels, taken in ((257 * 128 - 100, True), (33026, False)):
        net = Build(1, channels, kind=U16)
        net.inputs = {"x": np.full((1, channels), 65535)}
        net.check(net.add("matmul", ["x"], {"zero_point": 0}, weight=np.full((channels, 2), [255, -255])))
        assert any("bytes apart" in k for k in kernels(net)) is taken


def test_registers_that_hold_and_registers_that_do_not():
    for name, apart in (("saturate-40", True), ("saturate-20", False)):
        net = Build(1, 3, 5, 5, kind=S16)
        target = Target.load(name)
        net.check(net.codes(net.conv("x", 4, zero=3, pads=[1] * 4), "1/7000"), target=target)
        ran = []
        run_graph(net.graph, net.inputs, target, profile=ran)
        assert any("bytes apart" in one.kernel for one in ran) is apart


def test_what_is_a_byte_moved_far_goes_in_halves():
    """300 to 420 take a byte's many numbers, but neither shift makes bytes of them."""
    net = Build(1, 3, 6, 6, kind=U16)
    net.graph.tensors["x"] = Tensor("x", (1, 3, 6, 6), 300, 420, rationals(1), rationals(0), U16)
    net.inputs = {"x": RNG.integers(300, 421, (1, 3, 6, 6))}
    net.check(net.codes(net.conv("x", 5, zero=300, pads=[1] * 4), "1/700"))
    assert any("bytes apart" in k for k in kernels(net))
