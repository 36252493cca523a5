from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate, accumulate_telemetry, check_stages
from intsim.arithmetic.integers import bits_for
from intsim.errors import IntsimError
from tests import twins

PAIRS = (Stage(2, 16, "saturate"), Stage(2, 32, "wrap"), Stage(None, 32, "wrap"))
WIDTHS = st.one_of(st.integers(1, 64), st.sampled_from([1, 2, 8, 16, 31, 32, 33, 62, 63, 64]))
OVERFLOW = st.sampled_from(["wrap", "saturate"])


def edges(bits):
    """Values at +-2^k, +-2^k+-1 up to a width, and any."""
    limit = 1 << (bits - 1)
    near = st.builds(
        lambda k, s, d: min(max(s * (1 << k) + d, -limit), limit - 1),
        st.integers(0, bits - 1),
        st.sampled_from([-1, 1]),
        st.integers(-1, 1),
    )
    return st.one_of(near, st.integers(-limit, limit - 1))


@st.composite
def stage_lists(draw, size=4):
    groups = draw(st.lists(st.integers(1, 6), max_size=size - 1))
    rests = draw(st.integers(1, size - len(groups)))
    sums = [*groups, *[None] * rests]
    lanes = [*(draw(st.sampled_from([1, 1, 2, 3, 4, 7])) for _ in sums[1:]), 1]
    return [Stage(s, draw(WIDTHS), draw(OVERFLOW), n) for s, n in zip(sums, lanes, strict=True)]


def test_published_vpmaddubsw_example():
    result, events = accumulate([[255 * 127, 255 * 127]], PAIRS)  # oneDNN: 32767 instead of 64770
    assert (result.tolist(), events.tolist()) == ([32767], [[1, 0, 0]])


def test_what_is_left_of_a_group_is_handed_on():
    stages = [Stage(2, 8, "wrap"), Stage(None, 8, "wrap")]
    assert accumulate([1, 2, 3, 4, 50], stages)[0] == 60
    lanes = [Stage(2, 8, "saturate", 3), Stage(None, 16, "wrap")]
    products = [100, 1, 1, 100, 1, 1, 100]  # the first lane has a full group of 200, then a group of 100 alone
    assert accumulate(products, lanes)[0] == 127 + 2 + 2 + 100


def test_three_products_into_16_bits():
    for overflow, expected in (("wrap", -17149), ("saturate", 32767)):
        result, events = accumulate([127 * 127] * 3, [Stage(None, 16, overflow)])
        assert (result, events.tolist()) == (expected, [1])


def test_saturation_depends_on_order():
    stages = [Stage(None, 8, "saturate")]
    assert accumulate([100, 100, -100], stages)[0] == 27
    assert accumulate([100, -100, 100], stages)[0] == 100


def test_lanes_change_a_saturating_sum():
    """100 + 100 - 100 - 100: one register clips on the way; of two that take turns, neither does."""
    one, two = Stage(None, 8, "saturate"), Stage(None, 8, "saturate", lanes=2)
    assert accumulate([100, 100, -100, -100], [one])[0] == -73
    assert accumulate([100, 100, -100, -100], [two, one])[0] == 0
    assert accumulate([100, -100, 100, -100], [two, one])[0] == 127 - 128


def test_lanes_hand_on_in_their_order_when_all_are_full():
    """Two lanes of two: 1 + 3, 2 + 4, then 5 + 7, 6 + 8; of the rest 9 and 10 have come to one lane each."""
    lanes, one = Stage(2, 16, "wrap", lanes=2), Stage(1, 16, "wrap")
    seen = accumulate_telemetry(np.arange(1, 11), [lanes, one, Stage(None, 5, "saturate")])
    assert seen.high.tolist() == [14, 14, 15 + 14]  # 4 + 6 + 12 saturates at 15, as do then 14, 9 and 10
    assert seen.events.tolist() == [0, 0, 4]
    nothing = accumulate_telemetry(np.arange(1), [Stage(None, 8, "wrap", lanes=7), Stage(None, 8, "wrap")], bias=3)
    assert (nothing.result, nothing.high.tolist()) == (3, [0, 3])


def test_each_addition_not_each_group_saturates():
    # 100 + 100 saturates at 127 before -100 arrives, within one group.
    result, events = accumulate([100, 100, -100, 5], [Stage(3, 8, "saturate"), Stage(None, 16, "wrap")])
    assert (result, events.tolist()) == (27 + 5, [1, 0])


def test_store_narrower_than_the_accumulator():
    stages = [Stage(None, 40, "wrap"), Stage(None, 32, "saturate")]
    products = np.array([[1 << 30] * 3, [1 << 30] * 2 + [-(1 << 30)], [-(1 << 31)] * 3])
    result, events = accumulate(products, stages)
    assert result.tolist() == [(1 << 31) - 1, 1 << 30, -(1 << 31)]
    assert events.tolist() == [[0, 1], [0, 0], [0, 1]]


def test_bias_preloaded_and_after():
    stages = [Stage(None, 8, "saturate")]
    products = [100, 100]
    assert accumulate(products, stages, start=-100)[0] == 100
    assert accumulate(products, stages, bias=-100)[0] == 27
    assert accumulate(products, stages, start=200)[1].tolist() == [3]  # loading a bias that does not fit is an event


@given(stage_lists(), st.integers(0, 14), st.data())
def test_definition_is_the_dumb_twin(stages, depth, data):
    width = data.draw(st.sampled_from([2, 8, 16, 31, 32, 48, 63, 64]))
    rows = data.draw(st.lists(st.lists(edges(width), min_size=depth, max_size=depth), min_size=1, max_size=3))
    start = data.draw(st.lists(edges(64), min_size=len(rows), max_size=len(rows)))
    bias = data.draw(st.one_of(st.none(), st.lists(edges(64), min_size=len(rows), max_size=len(rows))))
    products = np.array(rows, dtype=np.int64).reshape(len(rows), depth)
    ours = accumulate_telemetry(products, stages, start, bias)
    for i, row in enumerate(rows):
        twin = twins.accumulate(row, stages, start[i], None if bias is None else bias[i])
        assert (ours.result[i], *(t[i].tolist() for t in ours[1:])) == twin
    result, events = accumulate(products, stages, start, bias)
    assert np.array_equal(result, ours.result)
    assert np.array_equal(events, ours.events)


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("bits", [61, 62, 63, 64])
def test_sums_that_leave_int64(bits, overflow):
    """Every triple of values at the ends of 61..64 bits, in a register of as many."""
    ends = [s * (1 << (n - 1)) + d for n in (62, 63, 64) for s in (-1, 1) for d in (-1, 0)]
    ends = [x for x in ends if -(1 << 63) <= x < 1 << 63] + [0, 1, -1]
    triples = [(a, b, c) for a in ends for b in ends for c in ends]
    stages = [Stage(None, bits, overflow)]
    ours = accumulate_telemetry(np.array(triples, np.int64), stages)
    for i, triple in enumerate(triples):
        twin = twins.accumulate(triple, stages)
        assert (ours.result[i], *(t[i].tolist() for t in ours[1:])) == twin
    assert ours.events.any()


@given(st.lists(edges(40), max_size=12), WIDTHS, st.randoms(use_true_random=False))
def test_wrapping_is_the_exact_sum_modulo_in_any_order(products, bits, random):
    shuffled = random.sample(products, len(products))
    for order in (products, shuffled):
        result, _ = accumulate(np.array(order, np.int64), [Stage(None, bits, "wrap")])
        assert result == twins.wrap(sum(products), bits)


@given(st.lists(edges(40), max_size=12), stage_lists(), st.one_of(st.none(), edges(40)))
def test_wrapping_registers_keep_the_sum_modulo_the_narrowest(products, stages, bias):
    """Whatever groups and lanes there are; and where the whole sum fits all of them, it is the sum."""
    wrapping = [replace(s, overflow="wrap") for s in stages]
    result, _ = accumulate(np.array(products, np.int64), wrapping, bias=bias)
    total, bits = sum(products) + (bias or 0), min(s.bits for s in stages)
    assert (int(result) - total) % (1 << bits) == 0
    if stages[-1].bits == bits:
        assert result == twins.wrap(total, bits)


@given(st.lists(edges(30), max_size=12), stage_lists())
def test_no_event_means_exact_and_extremes_tell_the_width(products, stages):
    ours = accumulate_telemetry(np.array(products, np.int64), stages)
    if not ours.events.any():
        assert ours.result == sum(products)
    wide = [replace(s, bits=64) for s in stages]
    free = accumulate_telemetry(np.array(products, np.int64), wide)
    needed = [bits_for(int(low), int(high)) for low, high in zip(free.low, free.high, strict=True)]
    enough = [replace(s, bits=n) for s, n in zip(stages, needed, strict=True)]
    assert not accumulate(np.array(products, np.int64), enough)[1].any()
    for i, n in enumerate(needed):
        if n > 1:
            scarce = [*enough]
            scarce[i] = replace(stages[i], bits=n - 1)
            assert accumulate(np.array(products, np.int64), scarce)[1][i] > 0


def test_vpmaddubsw_over_every_operand_pair():
    activation, weight = np.meshgrid(np.arange(256), np.arange(-128, 128), indexing="ij")
    first = (activation * weight).reshape(-1)
    partners = [255 * 127, 255 * -128, 0, 1, -1, 128, -128, 383, 382]
    seconds = [np.full_like(first, p) for p in partners] + [np.random.default_rng(0).permutation(first)]
    for second in seconds:
        result, events = accumulate(np.stack([first, second], axis=-1), PAIRS)
        true = first + second
        assert np.array_equal(result, np.minimum(np.maximum(true, -32768), 32767))
        assert np.array_equal(events[:, 0], (true > 32767) | (true < -32768))
        assert not events[:, 1:].any()


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(-128, 127)), max_size=40))
def test_vnni_is_exact_while_32_bits_hold(pairs):
    products = [a * w for a, w in pairs]
    result, events = accumulate(np.array(products, np.int64), [Stage(4, 32, "wrap"), Stage(None, 32, "wrap")])
    assert result == sum(products)
    assert not events.any()


def test_group_of_one_narrows_each_product():
    stages = [Stage(1, 4, "saturate"), Stage(None, 16, "wrap")]
    result, events = accumulate([100, -100, 3], stages)
    assert (result, events.tolist()) == (7 - 8 + 3, [2, 0])


def test_shapes():
    products = np.arange(24).reshape(2, 3, 4)
    result, events = accumulate(products, PAIRS, bias=np.array([1, 2, 3]))
    assert np.array_equal(result, products.sum(-1) + np.array([1, 2, 3]))
    assert events.shape == (2, 3, 3)
    unbounded, none = accumulate(products, [], start=7, bias=1)
    assert np.array_equal(unbounded, products.sum(-1) + 8)
    assert none.shape == (2, 3, 0)
    nothing = accumulate_telemetry(np.zeros((2, 0), np.int64), PAIRS, start=1 << 31)
    assert nothing.result.tolist() == [-(1 << 31)] * 2  # the preloaded bias wrapped, once
    assert nothing.events.tolist() == [[0, 0, 1]] * 2
    assert nothing.low.tolist() == [[0, 0, 0]] * 2
    assert accumulate(np.zeros((0, 3), np.int64), PAIRS)[0].shape == (0,)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([Stage(2, 16, "wrap")], r'stages, stage 1: sum is 2; the last stage must be "rest"'),
        (
            [Stage(2, 16, "wrap"), Stage(None, 16, "wrap", 2)],
            r"stages, stage 2: lanes is 2; the last stage has one register",
        ),
        ([Stage(None, 40, "wrap"), Stage(2, 16, "wrap")], r'stages, stage 2: sum is 2 after a "rest" stage'),
    ],
)
def test_stage_order(stages, message):
    with pytest.raises(IntsimError, match=message):
        check_stages(stages)
    with pytest.raises(IntsimError, match=message):
        accumulate([1, 2], stages)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 16, "wrap"), "stage sum is 0"),
        ((True, 16, "wrap"), "stage sum is True"),
        ((1 << 31, 16, "wrap"), "stage sum is 2147483648"),
        ((2, 65, "wrap"), "stage bits is 65"),
        ((2, 0, "wrap"), "stage bits is 0"),
        ((2, 16, "wrap", 0), "stage lanes is 0; allowed: 1..1024"),
        ((2, 16, "wrap", 1025), "stage lanes is 1025"),
        ((2, 16, "wrap", True), "stage lanes is True"),
        ((2, 16, "clamp"), 'stage overflow is \'clamp\'; allowed: "wrap", "saturate"'),
    ],
)
def test_impossible_stages(arguments, message):
    with pytest.raises(IntsimError, match=message):
        Stage(*arguments)


@pytest.mark.parametrize("products", [5, [0.5], [True]])
def test_impossible_products(products):
    with pytest.raises(IntsimError, match="products"):
        accumulate(products, PAIRS)
