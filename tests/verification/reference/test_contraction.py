from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.verification.reference import contraction
from intsim.verification.reference.contraction import convolve, convolve_transposed, matmul, reduce_sum
from intsim.verification.reference.tensor import grid

from .twins import (
    check,
    draw_values,
    dress,
    exactly,
    forms,
    repeatable,
    scales,
    seeds,
    twin_conv,
    twin_conv_transpose,
    twin_matmul,
)


def per_channel(rng, values, axis, even):
    """The values times a scale per index of `axis`, or one scale."""
    if even:
        return values
    shape = [1] * values.ndim
    shape[axis] = values.shape[axis]
    return values * draw_values(rng, shape, Fraction(1, 3), 1, 7)


@repeatable(120)
@given(
    st.sampled_from([((2, 3), (3, 2)), ((2, 2, 3), (3, 2)), ((1, 3), (2, 3, 1)), ((2, 1, 2, 2), (3, 2, 2))]),
    scales,
    scales,
    forms,
    forms,
    st.booleans(),
    seeds,
)
def test_matmul(dims, left, right, form_a, form_b, even, seed):
    rng = np.random.default_rng(seed)
    a, b = draw_values(rng, dims[0], left), draw_values(rng, dims[1], right)
    a, b = per_channel(rng, a, -1, even), per_channel(rng, b, -1, even)
    check(matmul(dress(a, form_a, rng), dress(b, form_b, rng)), twin_matmul(a, b))


def test_matmul_with_vectors():
    rng = np.random.default_rng(1)
    a, b = draw_values(rng, (3,), Fraction(1, 3)), draw_values(rng, (3, 2), Fraction(1, 2))
    want = twin_matmul(a[None], b)
    check(matmul(dress(a, "grid", rng), dress(b, "bound", rng)), want[0])
    check(matmul(dress(b.T, "grid", rng), dress(a, "grid", rng)), want[0])
    check(matmul(dress(a, "grid", rng), dress(a, "grid", rng)), np.asarray(sum(a * a), object))
    with pytest.raises(IntsimError, match="multiply"):
        matmul(dress(b, "grid", rng), dress(b, "grid", rng))


@repeatable(100)
@given(
    st.sampled_from([1, 2, 3]),
    st.sampled_from([(1, 1, 1), (2, 2, 2), (1, 2, 1), (3, 2, 1), (2, 4, 2)]),  # channels in, out, groups
    st.lists(st.tuples(*[st.integers(1, 2)] * 2, *[st.integers(0, 1)] * 2, st.integers(1, 3)), min_size=3, max_size=3),
    forms,
    forms,
    st.booleans(),
    seeds,
)
def test_convolution(rank, channels, axes, form_x, form_w, even, seed):
    rng = np.random.default_rng(seed)
    axes = [(s, d, a, b, min(k, 2) if rank == 3 else k) for s, d, a, b, k in axes[:rank]]
    strides, dilations, begins, ends, kernel = (list(v) for v in zip(*axes, strict=True))
    inputs, outputs, group = channels
    extent = [int(d * (k - 1) + 1 + rng.integers(0, 2)) for d, k in zip(dilations, kernel, strict=True)]
    x = per_channel(rng, draw_values(rng, (1, inputs, *extent), Fraction(1, 10)), 1, even)
    w = per_channel(rng, draw_values(rng, (outputs, inputs // group, *kernel), Fraction(3, 20)), 0, even)
    pads = begins + ends
    want = twin_conv(x, w, strides, dilations, pads, group)
    check(convolve(dress(x, form_x, rng), dress(w, form_w, rng), strides, dilations, pads, group), want)


@pytest.mark.parametrize("joined", [4, 8, 18, 512])
@pytest.mark.parametrize("group", [1, 2])
def test_kernel_positions_that_share_a_product(joined, group, monkeypatch):
    """Two inputs a group and nine positions: two, four and nine at a time, the last ones fewer."""
    monkeypatch.setattr(contraction, "JOINED", joined)
    rng = np.random.default_rng(joined)
    x, w = (draw_values(rng, shape, Fraction(1, 10)) for shape in ((2, 2 * group, 6, 5), (2 * group, 2, 3, 3)))
    args = ([2, 1], [1, 2], [1, 0, 0, 1], group)
    check(convolve(dress(x, "grid", rng), dress(w, "grid", rng), *args), twin_conv(x, w, *args))


@repeatable(80)
@given(
    st.sampled_from([1, 2]),
    st.sampled_from([(1, 1, 1), (2, 1, 1), (2, 2, 2), (4, 1, 2)]),  # channels in, channels out per group, groups
    st.lists(st.tuples(*[st.integers(1, 3)] * 3, *[st.integers(0, 2)] * 3), min_size=2, max_size=2),
    forms,
    forms,
    seeds,
)
def test_transposed_convolution(rank, channels, axes, form_x, form_w, seed):
    rng = np.random.default_rng(seed)
    strides, dilations, kernel, begins, ends, extra = (list(v) for v in zip(*axes[:rank], strict=True))
    extra = [min(e, s - 1) for e, s in zip(extra, strides, strict=True)]
    inputs, each_out, group = channels
    x = draw_values(rng, (2, inputs, *(3,) * rank), Fraction(1, 10))
    w = draw_values(rng, (inputs, each_out, *kernel), Fraction(3, 20))
    size = [
        2 * s + d * (k - 1) + 1 + e - a - b
        for s, d, k, e, a, b in zip(strides, dilations, kernel, extra, begins, ends, strict=True)
    ]
    if min(size) < 1:
        begins, ends = [0] * rank, [0] * rank
    want = twin_conv_transpose(x, w, strides, dilations, begins + ends, group, extra)
    args = (strides, dilations, begins + ends, group, extra)
    check(convolve_transposed(dress(x, form_x, rng), dress(w, form_w, rng), *args), want)


@repeatable(80)
@given(st.sampled_from([(0,), (1,), (-1,), (0, 2), (0, 1, 2)]), scales, forms, st.booleans(), seeds)
def test_sums_along_axes(axes, scale, form, even, seed):
    rng = np.random.default_rng(seed)
    x = per_channel(rng, draw_values(rng, (2, 3, 2), scale), 1, even)
    want = x.sum(axis=axes, keepdims=True)
    check(reduce_sum(dress(x, form, rng), axes), np.asarray(want, object))


def test_products_that_float64_can_not_hold_are_bounded_and_exact():
    # 2^30 integers times 2^30 integers: the sum needs 62 bits
    rng = np.random.default_rng(5)
    a, b = rng.integers(-(2**30), 2**30, (2, 8)), rng.integers(-(2**30), 2**30, (8, 2))
    out = matmul(grid(a.astype(float), Fraction(1)), grid(b.astype(float), Fraction(1)))
    assert not out.on_grid
    check(out, exactly(a.astype(object) @ b.astype(object)))


def test_sums_at_the_edge_of_what_float32_and_float64_hold_stay_exact():
    for edge in (24, 53):
        half = 2.0 ** (edge // 2)
        a = np.array([[half - 1, half, 1.0, 3.0]])
        b = np.array([[2.0 ** (edge - edge // 2) / 4], [2.0 ** (edge - edge // 2) / 2], [1.0], [-1.0]])
        out = matmul(grid(a, Fraction(1)), grid(b, Fraction(1)))
        check(out, twin_matmul(exactly(a), exactly(b)))


@pytest.mark.parametrize(
    ("x", "w", "group"),
    [((1, 3, 4, 4), (2, 2, 3, 3), 1), ((1, 2, 4, 4), (3, 1, 3, 3), 2), ((1, 2, 2, 2), (1, 2, 3, 3), 1)],
)
def test_shapes_that_do_not_fit_are_refused(x, w, group):
    with pytest.raises(IntsimError, match="fit"):
        convolve(grid(np.ones(x), Fraction(1)), grid(np.ones(w), Fraction(1)), [1, 1], [1, 1], [0] * 4, group)


def test_convolutions_that_float64_can_not_hold_are_bounded_and_exact():
    rng = np.random.default_rng(6)
    x, w = rng.integers(2**29, 2**30, (1, 2, 3, 3)), rng.integers(2**29, 2**30, (1, 2, 2, 2))
    out = convolve(grid(x.astype(float), Fraction(1)), grid(w.astype(float), Fraction(1)), [1, 1], [1, 1], [0] * 4, 1)
    assert not out.on_grid
    check(out, twin_conv(exactly(x), exactly(w), [1, 1], [1, 1], [0] * 4, 1))


def test_scales_per_channel_too_far_apart_for_one_grid():
    s = np.array([Fraction(1, 3), Fraction(1, 2**60)], object)
    a, b = np.array([[5.0, 7.0]]), np.array([[2.0], [3.0]])
    out = matmul(grid(a, s), grid(b, Fraction(1)))
    assert not out.on_grid
    check(out, np.array([[Fraction(10, 3) + Fraction(21, 2**60)]], object))
