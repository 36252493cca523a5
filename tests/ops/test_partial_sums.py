"""Bounds of partial sums: attained where nothing overflows, sound behind a register that does."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.arithmetic.packing import Packing, accumulate_packed
from intsim.mac.partial_sums import partial_sums

STAGE = st.builds(
    Stage, st.one_of(st.none(), st.integers(1, 4)), st.integers(3, 9), st.sampled_from(["wrap", "saturate"]),
    st.sampled_from([1, 1, 2, 3]),
)  # fmt: skip
REST = st.builds(Stage, st.none(), st.integers(3, 9), st.sampled_from(["wrap", "saturate"]))


def rest_before(stages):
    """Each stage, and whether one before it takes the rest; then it must as well."""
    return [(s, any(t.sum is None for t in stages[:i])) for i, s in enumerate(stages)]


@given(
    st.lists(st.integers(-4, 4), min_size=1, max_size=6),
    st.integers(-3, 3),
    st.integers(0, 3),
    st.lists(STAGE, max_size=2),
    st.lists(REST, min_size=1, max_size=2),
    st.one_of(st.none(), st.integers(-20, 20)),
    st.one_of(st.none(), st.integers(-20, 20)),
)
def test_every_input_of_a_small_row(row, low, width, head, tail, start, after):
    """All inputs are tried: no safe stage overflows, its bounds hold, and they are attained if all before are safe.

    Where every stage is exact, the result is the plain sum, overflows or not.
    """
    stages = [s if s.sum is None or not rests else replace(s, sum=None) for s, rests in rest_before(head)] + tail
    choices = (
        np.array(list(itertools.product(*[(low, low + width)] * len(row))))
        if width < 2
        else np.random.default_rng(0).choice([low, low + 1, low + width], (64, len(row)))
    )
    rows = np.array([row])
    first = None if start is None else np.array([start])
    late = None if after is None else (np.array([after]), np.array([after]))
    found = partial_sums(rows, (low, low + width), stages, first, late)
    seen = accumulate_telemetry(choices * rows, stages, 0 if start is None else start, after)
    exact_so_far = True
    for i, (least, most, safe) in enumerate(zip(found.low, found.high, found.safe, strict=True)):
        assert found.exact[i][0] or not safe[0]
        if safe[0]:
            assert not seen.events[:, i].any()
            # the telemetry counts the empty register's 0
            assert min(least[0], 0) <= seen.low[:, i].min()
            assert seen.high[:, i].max() <= max(most[0], 0)
        elif exact_so_far and stages[i].overflow == "wrap" and found.exact[i][0]:
            # what it was to hold, if it had not wrapped on the way
            wide = [*(replace(s, bits=40) for s in stages[: i + 1]), *stages[i + 1 :]]
            free = accumulate_telemetry(choices * rows, wide, 0 if start is None else start, after)
            assert min(least[0], 0) <= free.low[:, i].min()
            assert free.high[:, i].max() <= max(most[0], 0)
        exact_so_far &= bool(found.exact[i][0])
    if found.all_exact[0]:
        plain = (choices * rows).sum(axis=1) + (start or 0) + (after or 0)
        np.testing.assert_array_equal(seen.result, plain)
    if width < 2 and found.all_safe[0]:
        for i in range(len(stages)):
            assert min(int(found.low[i][0]), 0) == seen.low[:, i].min()
            assert max(int(found.high[i][0]), 0) == seen.high[:, i].max()


def test_a_saturated_register_hands_on_what_no_prefix_sum_is():
    """100 saturates to 31, then -100: the register ends at -32, which is no sum of the products."""
    stages = [Stage(2, 6, "saturate"), Stage(None, 7, "wrap")]
    found = partial_sums(np.array([[100, -100, 1, 0]]), (1, 1), stages)
    assert [s[0] for s in found.safe] == [False, True]
    assert found.low[1][0] <= -32
    assert found.high[0][0] == 100


def test_beyond_int64_in_python_integers():
    found = partial_sums(np.array([[1 << 40] * 4]), (-(1 << 30), 1 << 30), [Stage(None, 64, "wrap")])
    assert int(found.high[0][0]) == 1 << 72
    assert not found.safe[0][0]
    assert found.all_safe.dtype == bool


def test_edges_of_a_register():
    for bits, top in ((8, 127), (8, 128)):
        found = partial_sums(np.array([[top]]), (0, 1), [Stage(None, bits, "wrap")])
        assert found.safe[0][0] == (top == 127)
        found = partial_sums(np.array([[-top - 1]]), (0, 1), [Stage(None, bits, "wrap")])
        assert found.safe[0][0] == (top == 127)


def test_a_register_that_wraps_back_is_exact():
    """100 + 100 - 150 leaves 8 bits and comes back; a saturating register would not. The next one gets 50, no more."""
    row, rest = np.array([[100, 100, -150]]), Stage(None, 7, "saturate")
    wraps = partial_sums(row, (1, 1), [Stage(3, 8, "wrap"), rest])
    assert [s[0] for s in wraps.safe] == [False, True]
    assert [s[0] for s in wraps.exact] == [True, True]
    assert (wraps.high[0][0], wraps.high[1][0]) == (200, 50)
    assert not wraps.all_safe[0]
    assert wraps.all_exact[0]
    saturates = partial_sums(row, (1, 1), [Stage(3, 8, "saturate"), rest])
    assert [s[0] for s in saturates.exact] == [False, True]
    assert not saturates.all_exact[0]
    wrong = partial_sums(row, (1, 2), [Stage(3, 8, "wrap"), rest])  # 200 + 200 - 150 doesn't fit
    assert not wrong.exact[0][0]
    assert wrong.high[1][0] == 127


def test_groups_that_fit_are_exact_beside_one_that_does_not():
    found = partial_sums(np.array([[100, 100, 1, 2]]), (0, 1), [Stage(2, 8, "wrap"), Stage(None, 20, "wrap")])
    assert (found.low[1][0], found.high[1][0]) == (-128, 127 + 3)
    assert [e[0] for e in found.exact] == [False, True]


def test_the_bias_that_comes_last_wraps_back():
    late = (np.array([-100]), np.array([-90]))
    found = partial_sums(np.array([[100, 100]]), (1, 1), [Stage(None, 8, "wrap")], None, late)
    assert (found.safe[0][0], found.exact[0][0]) == (False, True)
    assert not partial_sums(np.array([[100, 100]]), (1, 1), [Stage(None, 8, "wrap")]).exact[0][0]
    late = (np.array([-100]), np.array([-70]))
    assert not partial_sums(np.array([[100, 100]]), (1, 1), [Stage(None, 8, "wrap")], None, late).exact[0][0]


def test_lanes_share_the_sum():
    """100 100 -100 -100 in one register reaches 200; in two lanes that take turns, each 100 and then 0."""
    row, rest = np.array([[100, 100, -100, -100]]), Stage(None, 16, "wrap")
    one = partial_sums(row, (1, 1), [Stage(None, 8, "saturate"), rest])
    two = partial_sums(row, (1, 1), [Stage(None, 8, "saturate", 2), rest])
    assert (one.high[0][0], one.safe[0][0]) == (200, False)
    assert (two.high[0][0], two.safe[0][0]) == (100, True)


def test_a_row_without_products():
    found = partial_sums(np.zeros((2, 0), np.int64), (-5, 5), [Stage(2, 8, "wrap"), Stage(None, 8, "wrap")])
    assert found.high[1].tolist() == [0, 0]
    assert found.all_exact.all()


def every_use(rows, ends, packing):
    """Products (inputs, channels, pixels, K) of one multiplier for all activations out of `ends`."""
    pixels, depth = len(packing.pixels), rows.shape[1]
    x = np.array(list(itertools.product(ends, repeat=pixels * depth))).reshape(-1, 1, pixels, depth)
    return x * rows[:, None]


PACKINGS = [
    Packing((0, 5), (0,), 10, "none"),
    Packing((0,), (0, 6), 12, "none"),
    Packing((0, 5), (0, 10), 20, "none"),
    Packing((0, 12), (0, 6), 20, "none"),
]


@given(
    st.sampled_from(PACKINGS),
    st.booleans(),
    st.integers(1, 2).flatmap(lambda depth: st.lists(st.integers(-5, 5), min_size=2 * depth, max_size=2 * depth)),
    st.tuples(st.integers(-2, 3), st.integers(0, 3)),
    st.integers(1, 2),
    st.integers(2, 6),
)
def test_every_use_of_a_small_packed_multiplier(packing, repaid, weights, x_range, size, bits):
    """Every combination of the ends of the activations: exact means no event, bounds hold for all that is handed on."""
    packing = replace(packing, correction="borrow" if repaid else "none")
    rows = np.array(weights).reshape(2, -1)[: len(packing.channels)]
    ends = (x_range[0], x_range[0] + x_range[1])
    stages = [Stage(size, min(bits, *packing.widths), "wrap"), Stage(None, 20, "wrap")]
    found = partial_sums(rows, ends, stages, None, None, packing, len(rows))
    products = every_use(rows, ends, packing)
    for alone in (False, True):  # the last set of pixels may hold one
        if alone:
            products = np.where(np.arange(products.shape[2])[:, None] > 0, 0, products)
        seen = accumulate_packed(products, stages, packing)
        for c in range(len(rows)):
            mine = [t[:, c, : 1 if alone else None] for t in seen]
            if found.safe[0][c]:
                assert not mine[1][..., 0].any()
            assert bool(found.safe[0][c]) == bool(found.exact[0][c])
            for i in range(2):
                assert min(found.low[i][c], 0) <= mine[2][..., i].min()
                assert mine[3][..., i].max() <= max(found.high[i][c], 0)


def test_what_a_packing_proves():
    """INT8: groups of 7 are exact only with the borrow repaid, or where the lower field is never negative."""
    none, borrow = (Packing((0, 18), (0,), 48, c) for c in ("none", "borrow"))
    rest = Stage(None, 32, "wrap")

    def safe(rows, x_range, size, packing):
        stages = [Stage(size, 18, "wrap"), rest]
        return partial_sums(np.array(rows), x_range, stages, None, None, packing, 2).safe[0].tolist()

    full = [[-128] * 14, [127] * 14]
    assert safe(full, (-128, 127), 7, borrow) == [True, True]
    assert safe(full, (-128, 127), 7, none) == [True, False]
    assert safe(full, (-128, 0), 7, none) == [True, True]
    assert safe(full, (0, 1), 7, none) == [True, False]
    assert safe(full, (-128, 127), 8, borrow) == [False, False]
    least = [[-1] * 8, [-128] * 8]
    assert safe(least, (0, 128), 8, borrow) == [True, False]  # -2^17 fits, but not with a borrow before it is repaid
    assert safe([[1] * 8, least[1]], (0, 128), 8, borrow) == [True, True]


def test_a_raw_field_is_at_most_one_too_low():
    """What an uncorrected field hands on is bounded by its sum and the borrow, not by the whole register."""
    packing, stages = Packing((0, 18), (0,), 48, "none"), [Stage(7, 18, "wrap"), Stage(None, 32, "wrap")]
    found = partial_sums(np.array([[-1] * 14, [1] * 14, [1] * 14]), (0, 10), stages, None, None, packing, 3)
    assert found.low[1].tolist() == [-140, -2, 0]  # the third one begins another set
    assert found.high[1].tolist() == [0, 140, 140]
    assert found.exact[0].tolist() == [True, False, True]


@pytest.mark.parametrize("panel", [2, 3, 4])
def test_partners_are_neighbours_in_a_panel(panel):
    """Groups of a convolution, and matrices of a batch, do not share multipliers."""
    packing, stages = Packing((0, 18), (0,), 48, "none"), [Stage(7, 18, "wrap"), Stage(None, 32, "wrap")]
    found = partial_sums(np.full((12, 7), -1), (0, 10), stages, None, None, packing, panel)
    assert found.safe[0].tolist() == [n % panel % 2 == 0 for n in range(12)]
