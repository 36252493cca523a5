"""Several products in one multiplier: published errors, every field against a twin that cuts strings of bits."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.arithmetic.packing import Packing, accumulate_packed, check_packing
from intsim.errors import IntsimError
from tests import twins

from .test_accumulate import edges, stage_lists

REST = Stage(None, 32, "wrap")
INT4 = {c: Packing((0, 11), (0, 22), 48, c) for c in ("none", "borrow")}
INT8 = {c: Packing((0, 18), (0,), 48, c) for c in ("none", "borrow")}


def four_products():
    """(65536, 2, 2, 1): every two s4 weights by every two u4 activations."""
    values = itertools.product(range(-8, 8), range(-8, 8), range(16), range(16))
    w0, w1, a0, a1 = np.array(list(values)).T
    return np.stack([[w0 * a0, w0 * a1], [w1 * a0, w1 * a1]]).transpose(2, 0, 1)[..., None]


def test_int4_without_correction_has_the_published_error():
    """DSP-Packing (arXiv 2203.11028): mean absolute error 0.37, a bias to minus infinity, never more than 1."""
    products = four_products()
    seen = accumulate_packed(products, [Stage(1, 11, "wrap"), REST], INT4["none"])
    error = seen.result - products[..., 0]
    assert (error.min(), error.max()) == (-1, 0)
    assert round(float(error.mean()), 5) == -0.37354
    by_offset = [[round(float(-error[:, c, p].mean()), 5) for c in (0, 1)] for p in (0, 1)]
    assert by_offset == [[0, 0.46875], [0.49805, 0.52734]]
    np.testing.assert_array_equal(seen.events[..., 0], error != 0)
    assert not seen.events[..., 1].any()


def test_int4_with_correction_is_exact():
    products = four_products()
    seen = accumulate_packed(products, [Stage(1, 11, "wrap"), REST], INT4["borrow"])
    np.testing.assert_array_equal(seen.result, products[..., 0])
    assert not seen.events.any()


@pytest.mark.parametrize("correction", ["none", "borrow"])
def test_seven_int8_products_fit_eight_do_not(correction):
    """WP486: fields 18 bits apart. Every combination of the corners of two sums of groups; 8 x 16384 is 2^17."""
    corners = [-128 * 127, 127 * 127, -128 * -128, 0, -1]
    rows = [[[[a] * n + [b] * (7 - n)], [[c] * n + [d] * (7 - n)]] for n in range(8)
            for a, b, c, d in itertools.product(corners, repeat=4)]  # fmt: skip
    products = np.array(rows)
    seen = accumulate_packed(products, [Stage(7, 18, "wrap"), REST], INT8[correction])
    sums = products.sum(-1)
    borrowed = (sums[:, 0] < 0) & (correction == "none")
    np.testing.assert_array_equal(seen.result[:, 0], sums[:, 0])
    np.testing.assert_array_equal(seen.result[:, 1], sums[:, 1] - borrowed)
    eight = accumulate_packed(np.full((2, 1, 8), 128 * 128), [Stage(8, 18, "wrap"), REST], INT8[correction])
    assert eight.result.reshape(-1).tolist() == [-(1 << 17), -(1 << 17) + (correction == "borrow")]
    assert eight.events[..., 0].reshape(-1).tolist() == [1, 1]
    assert eight.high[..., 0].reshape(-1).tolist() == [1 << 17, 1 << 17]


def test_a_repaid_borrow_at_the_end_of_a_field():
    """The least sum that a field holds, above a negative one, wraps before the borrow is repaid."""
    packing = Packing((0, 4), (0,), 8, "borrow")
    for upper, read in ((-7, -7), (-8, 8), (7, 7), (8, 8)):
        seen = accumulate_packed([[[-1]], [[upper]]], [Stage(1, 4, "wrap"), REST], packing)
        assert seen.result.tolist() == [[-1], [read]]
        assert seen.events[1, 0].tolist() == [upper != read, 0]


@st.composite
def packings(draw):
    """Fields of 2 bits or more in a register of up to 64, offsets of pixels among or above those of channels."""
    gaps = st.integers(2, 13)
    channels = [0, *np.cumsum(draw(st.lists(gaps, max_size=2))).tolist()]
    beside = draw(st.lists(gaps, max_size=2))
    pixels = [0, *np.cumsum([channels[-1] + g for g in beside] if draw(st.booleans()) else beside).tolist()]
    offsets = sorted(c + p for c in channels for p in pixels)
    assume(min(np.diff(offsets), default=2) >= 2)
    assume(offsets[-1] <= 62)
    bits = draw(st.integers(offsets[-1] + 2, 64))
    return Packing(tuple(channels), tuple(pixels), bits, draw(st.sampled_from(["none", "borrow"])))


@given(packings(), stage_lists(3), st.integers(0, 9), st.data())
def test_definition_is_the_dumb_twin(packing, rest, depth, data):
    bits = data.draw(st.sampled_from([min(packing.widths), max(1, min(packing.widths) - 1), 2, 1]))
    stages = [Stage(data.draw(st.sampled_from([None, 1, 2, 3])), min(bits, *packing.widths), "wrap"), *rest]
    if rest[0].sum is not None and stages[0].sum is None:
        stages[0] = Stage(2, stages[0].bits, "wrap")
    shape = (len(packing.channels), len(packing.pixels))
    values = st.one_of(edges(data.draw(st.sampled_from([2, 4, 9, 20, 58]))), st.just(0))
    count = shape[0] * shape[1]
    products = np.array(data.draw(st.lists(values, min_size=count * depth, max_size=count * depth)), np.int64)
    products = products.reshape(*shape, depth)
    start, bias = (
        np.array(data.draw(st.lists(edges(16), min_size=count, max_size=count)), np.int64).reshape(shape)
        if data.draw(st.booleans())
        else None
        for _ in range(2)
    )
    seen = accumulate_packed(products, stages, packing, 0 if start is None else start, bias)
    drawn = {cell: products[cell].tolist() for cell in np.ndindex(shape)}
    first, late = (None if v is None else {cell: int(v[cell]) for cell in drawn} for v in (start, bias))
    for cell, expected in twins.accumulate_packed(drawn, stages, packing, first, late).items():
        assert (seen.result[cell], *(t[cell].tolist() for t in seen[1:])) == expected


@given(st.lists(edges(20), max_size=12), stage_lists(3), st.sampled_from([1, 2, 5]))
def test_one_field_is_a_wrapping_register(products, rest, size):
    """Nothing shares the multiplier: the packed form is the plain one; only what counts as an event differs."""
    stages = [Stage(size, 13, "wrap"), *rest]
    packed = accumulate_packed(
        np.array(products, np.int64).reshape(1, 1, -1), stages, Packing((0,), (0,), 48, "borrow")
    )
    alone = accumulate_telemetry(np.array(products, np.int64), stages)
    assert packed.result[0, 0] == alone.result
    np.testing.assert_array_equal(packed.events[0, 0, 1:], alone.events[1:])


def test_shapes():
    stages = [Stage(7, 18, "wrap"), Stage(2, 20, "wrap", 2), REST]
    seen = accumulate_packed(np.arange(240).reshape(3, 2, 2, 1, 20), stages, INT8["borrow"], bias=[[1], [2]])
    assert seen.result.shape == (3, 2, 2, 1)
    assert seen.low.shape == (3, 2, 2, 1, 3)
    nothing = accumulate_packed(np.zeros((2, 1, 0), np.int64), stages, INT8["borrow"], start=5)
    assert nothing.result.tolist() == [[5], [5]]
    assert nothing.high.tolist() == [[[0, 0, 5]], [[0, 0, 5]]]
    assert accumulate_packed(np.zeros((0, 2, 1, 3), np.int64), stages, INT8["none"]).result.shape == (0, 2, 1)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([REST], "packing needs a stage that takes what is read of the fields; there are 1 stages"),
        ([], "there are 0 stages"),
        (
            [Stage(7, 18, "wrap", 2), REST],
            r"stages, stage 1: lanes is 2; with packing the first stage has one wide register",
        ),
        (
            [Stage(7, 18, "wrap", restart=9), REST],
            r"stages, stage 1: restart is with one product a multiplier; leave it or the packing out",
        ),
        (
            [Stage(7, 18, "saturate"), REST],
            r'stages, stage 1: overflow is "saturate"; with packing the first stage is "wrap"',
        ),
        ([Stage(7, 19, "wrap"), REST], r"stages, stage 1: bits is 19; the narrowest field of the packing has 18 bits"),
        ([Stage(7, 18, "wrap")], 'the last stage must be "rest"'),
    ],
)
def test_stages_that_a_packing_can_not_have(stages, message):
    with pytest.raises(IntsimError, match=message) as error:
        check_packing(INT8["none"], stages)
    assert "\n" not in str(error.value)
    with pytest.raises(IntsimError, match=message):
        accumulate_packed(np.zeros((2, 1, 3), np.int64), stages, INT8["none"])


@pytest.mark.parametrize(
    ("products", "message"),
    [
        (np.zeros((1, 2, 3), np.int64), r"\(1, 2, 3\); the packing's is \(..., 2, 1, K\)"),
        (np.zeros(3, np.int64), r"\(3,\); the packing's"),
        (np.zeros((2, 1, 3)), "products: expected integers"),
        (np.full((2, 1, 3), 1 << 62), r"sums of 3 packed products up to 4611686018427387904 do not fit int64"),
    ],
)
def test_products_that_a_packing_can_not_have(products, message):
    with pytest.raises(IntsimError, match=message):
        accumulate_packed(products, [Stage(7, 18, "wrap"), REST], INT8["none"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 11), (0, 11), 48, "none"), "fields of widths"),
        (((1, 11), (0,), 48, "none"), "channels is"),
        (((0,), (0, 0), 48, "none"), "pixels is"),
        (((0,), (), 48, "none"), "pixels is"),
        (((0, 18), (0,), 65, "none"), "bits is 65"),
        (((0, 18), (0,), 19, "none"), r"widths \[18, 1\]"),
        (((0, 18), (0,), 48, "full"), 'correction is \'full\'; allowed: "none", "borrow"'),
    ],
)
def test_impossible_packings(arguments, message):
    with pytest.raises(IntsimError, match=message):
        Packing(*arguments)
