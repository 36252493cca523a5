"""Moves, pools and resizes on non-dyadic and per-channel scales and on bounded floats, exactly."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.verification.reference.call import Call
from intsim.verification.reference.operators import OPERATORS
from intsim.verification.reference.tensor import constant, from_array, grid, move, uniform

from .twins import check, draw_values, dress, exactly, forms, repeatable, scales, seeds


def apply(op, tensors, opset=17, outputs=1, **attrs):
    return OPERATORS[op](Call(op, op, opset, attrs, list(tensors), outputs, True))


def ints(*values):
    return from_array(np.array(values, np.int64), "x")


def image(rng, scale, even):
    x = draw_values(rng, (1, 4, 4, 6), scale)
    return x if even else x * draw_values(rng, (1, 4, 1, 1), Fraction(1), 1, 5)


@repeatable(60)
@given(scales, forms, st.booleans(), seeds)
def test_moves(scale, form, even, seed):
    rng = np.random.default_rng(seed)
    x = image(rng, scale, even)
    t = dress(x, form, rng)
    check(apply("Transpose", [t], perm=[0, 2, 3, 1]), x.transpose(0, 2, 3, 1))
    check(apply("Reshape", [t, ints(2, -1)]), x.reshape(2, -1))
    check(apply("Slice", [t, ints(3), ints(0), ints(1), ints(-2)]), x[:, 3:0:-2])
    check(apply("Gather", [t, ints(2, 0)], axis=1), x[:, [2, 0]])
    check(apply("Split", [t], axis=1, outputs=2)[1], x[:, 2:])
    blocks = x.reshape(1, 1, 2, 2, 4, 6).transpose(0, 1, 4, 2, 5, 3).reshape(1, 1, 8, 12)
    check(apply("DepthToSpace", [t], blocksize=2, mode="CRD"), blocks)
    check(apply("Expand", [t, ints(2, 4, 4, 6)]), np.broadcast_to(x, (2, 4, 4, 6)))


@repeatable(80)
@given(scales, scales, forms, forms, st.sampled_from([0, 1, 2]), seeds)
def test_concat_pad_and_where_mix_scales(left, right, form_a, form_b, axis, seed):
    rng = np.random.default_rng(seed)
    x, y = draw_values(rng, (2, 2, 2), left), draw_values(rng, (2, 2, 2), right)
    a, b = dress(x, form_a, rng), dress(y, form_b, rng)
    check(apply("Concat", [a, b], axis=axis), np.concatenate([x, y], axis))
    want = np.full((4, 2, 3), right, object)
    want[1:3, :, :2] = x
    check(apply("Pad", [a, ints(1, 0, 0, 1, 0, 1), constant(right)]), want)
    mask = rng.random((2, 2, 2)) < 0.5
    check(apply("Where", [from_array(mask, "m"), a, b]), np.where(mask, x, y))


def test_scales_per_channel_stay_small_through_moves():
    s = np.array([Fraction(1, 3), Fraction(1, 5)], object).reshape(1, 2, 1)
    t = grid(np.ones((3, 2, 4)), s)
    assert move([t], lambda x: np.transpose(x, (2, 0, 1))).s.shape == (1, 1, 2)
    assert move([t], lambda x: np.concatenate([x, x], 0)).s.shape == (1, 2, 1)
    assert move([t, t], lambda x, y: np.concatenate([x, y], 1)).s.shape == (1, 4, 1)
    even = uniform(t, (1,))
    assert even.s.item() == Fraction(1, 15)
    check(even, t.fractions())


def windows(x, kernel, strides, pads, ceil):
    """Every pooling window of the last two axes: place, cells inside of the input, cells with the pads."""
    size = []
    for n, k, s, a, b in zip(x.shape[2:], kernel, strides, pads[:2], pads[2:], strict=True):
        last = (n + a + b - k) / s
        count = (math.ceil(last) if ceil else math.floor(last)) + 1
        size.append(count - 1 if ceil and (count - 1) * s >= n + a else count)
    for at in np.ndindex(*size):
        cells, padded = [], 0
        for t in np.ndindex(*kernel):
            where = [p * s + d - a for p, s, d, a in zip(at, strides, t, pads[:2], strict=True)]
            if all(0 <= w < n for w, n in zip(where, x.shape[2:], strict=True)):
                cells.append(tuple(where))
            padded += all(-a <= w < n + b for w, n, a, b in zip(where, x.shape[2:], pads[:2], pads[2:], strict=True))
        yield at, cells, padded, size


@repeatable(80)
@given(scales, forms, st.booleans(), seeds, st.booleans(), st.booleans(), st.sampled_from([[0] * 4, [1, 0, 1, 1]]))
def test_pools(scale, form, even, seed, ceil, counted, pads):
    rng = np.random.default_rng(seed)
    x = image(rng, scale, even)
    kernel, strides = [3, 2], [int(v) for v in rng.integers(1, 4, 2)]
    seen = list(windows(x, kernel, strides, pads, ceil))
    top, mean = np.empty((1, 4, *seen[0][3]), object), np.empty((1, 4, *seen[0][3]), object)
    for at, cells, padded, _ in seen:
        for c in range(4):
            inside = [x[(0, c, *w)] for w in cells]
            top[(0, c, *at)] = max(inside)
            mean[(0, c, *at)] = sum(inside) / (padded if counted else len(inside))
    attrs = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": int(ceil)}
    check(apply("MaxPool", [dress(x, form, rng)], **attrs), top)
    check(apply("AveragePool", [dress(x, form, rng)], count_include_pad=int(counted), **attrs), mean)


def test_an_average_of_a_grid_stays_on_a_grid():
    x = grid(np.arange(36.0).reshape(1, 1, 6, 6), Fraction(float(np.float32(0.1))))
    for pads in ([0, 0, 0, 0], [1, 1, 1, 1]):
        assert apply("AveragePool", [x], kernel_shape=[3, 3], pads=pads).on_grid
    assert apply("GlobalAveragePool", [x]).on_grid


@repeatable(40)
@given(scales, forms, st.booleans(), seeds)
def test_reductions(scale, form, even, seed):
    rng = np.random.default_rng(seed)
    x = image(rng, scale, even)
    t = dress(x, form, rng)
    check(apply("ReduceMean", [t], axes=[1, 3]), x.sum(axis=(1, 3), keepdims=True) / 24)
    check(apply("ReduceMax", [t], axes=[1, 3], keepdims=0), x.max(axis=(1, 3)))
    check(apply("GlobalMaxPool", [t]), x.max(axis=(2, 3), keepdims=True))


def linear(x, positions):
    """Interpolation along the last axis at Fractions, clamped at the ends."""
    n = x.shape[-1]
    columns = []
    for p in positions:
        first, rest = math.floor(p), p - math.floor(p)
        near = [min(max(first + k, 0), n - 1) for k in (0, 1)]
        columns.append(x[..., near[0]] * (1 - rest) + x[..., near[1]] * rest)
    return np.stack(columns, -1)


@repeatable(60)
@given(scales, forms, seeds, st.sampled_from(["half_pixel", "align_corners", "asymmetric"]), st.integers(2, 9))
def test_linear_resize_has_exact_rational_weights(scale, form, seed, mode, length):
    rng = np.random.default_rng(seed)
    x = draw_values(rng, (1, 1, 5), scale)
    positions = {
        "half_pixel": [(k + Fraction(1, 2)) * Fraction(5, length) - Fraction(1, 2) for k in range(length)],
        "align_corners": [Fraction(k * 4, length - 1) for k in range(length)],
        "asymmetric": [Fraction(5 * k, length) for k in range(length)],
    }[mode]
    attrs = {"mode": "linear", "coordinate_transformation_mode": mode}
    check(apply("Resize", [dress(x, form, rng), None, None, ints(1, 1, length)], **attrs), linear(x, positions))


def test_nearest_ties_of_coordinates_are_decided_exactly():
    # 10 to 4: positions 0.75, 3.25, 5.75, 8.25; 6 to 4 by half pixel: 0.25, 1.75, 3.25, 4.75; 6 to 3: ties at k + 1/2
    x = from_array(np.arange(6.0).reshape(1, 1, 6), "x")
    for mode, want in (("round_prefer_floor", [0, 2, 4]), ("round_prefer_ceil", [1, 3, 5])):
        out = apply("Resize", [x, None, None, ints(1, 1, 3)], mode="nearest", nearest_mode=mode)
        check(out, exactly(np.array(want, float).reshape(1, 1, 3)))


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("Resize", [constant(np.full((1, 1, 4), Fraction(1))), None, ints(1, 1, 2)], {"mode": "cubic"}),
        ("Resize", [constant(np.full((1, 1, 4), Fraction(1)))], {}),
        ("Resize", [constant(np.full((1, 1, 4), Fraction(1))), None, ints(1, 1, 0)], {}),
        ("DepthToSpace", [constant(np.full((1, 3, 2, 2), Fraction(1)))], {"blocksize": 2}),
        ("SpaceToDepth", [constant(np.full((1, 3, 2, 3), Fraction(1)))], {"blocksize": 2}),
        ("Split", [ints(1, 2, 3)], {"split": [1, 1]}),
        ("Pad", [ints(1, 2, 3), ints(1, 1)], {"mode": "mirror"}),
        ("MaxPool", [constant(np.full((1, 1, 2, 2), Fraction(1)))], {"kernel_shape": [3, 3]}),
        ("Cast", [ints(1)], {"to": 8}),
        ("ConstantOfShape", [ints(2**40)], {}),
    ],
)
def test_what_is_not_evaluated_is_refused(op, inputs, attrs):
    with pytest.raises(IntsimError):
        apply(op, inputs, **attrs)


def test_maxima_over_scales_too_far_apart_for_one_grid():
    s = np.array([Fraction(1, 3), Fraction(1, 2**60)], object).reshape(1, 1, 2)
    for signs in ([1.0, 3.0], [-1.0, -3.0]):
        x = grid(np.array(signs).reshape(1, 1, 2), s)
        assert uniform(x, (2,)) is None
        want = np.full((1, 1, 1), max(x.fractions().flat), object)
        check(apply("GlobalMaxPool", [x]), want)
        check(apply("MaxPool", [x], kernel_shape=[2]), want)
