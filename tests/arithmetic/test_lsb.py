"""Registers with an LSB of their own: every place that computes them or bounds them, against the dumb twin."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate, accumulate_telemetry, check_stages, handed_on, with_lsb
from intsim.arithmetic.rounding import Rounding
from intsim.engine.node import add_to_register
from intsim.engine.registers.matmul import register_matmul
from intsim.engine.telemetry.demand import panel_demand, register_demand
from intsim.errors import IntsimError
from intsim.mac.partial_sums import partial_sums
from intsim.proofs.definition import accumulator
from tests import twins

pytestmark = pytest.mark.xdist_group("registers")  # kernels that its tests share are compiled once

OVERFLOW = st.sampled_from(["wrap", "saturate"])
WIDE = 50
"""Bits of registers in which nothing here overflows."""


@st.composite
def chains(draw, most_bits=12, most_drop=6):
    """A register of single products that drops bits, perhaps pairs or lanes behind it, then the rest."""
    drop, bits = draw(st.integers(1, most_drop)), st.integers(1, most_bits)
    first = Stage(1, draw(bits), draw(OVERFLOW), drop=drop, rounding=draw(st.sampled_from(Rounding)))
    middle = st.builds(Stage, st.integers(1, 3), bits, OVERFLOW, st.integers(1, 2))
    return (first, *draw(st.lists(middle, max_size=2)), Stage(None, draw(bits), draw(OVERFLOW)))


def near_ties(drop, reach=40):
    """Odd multiples of half an LSB and their neighbours, +-2^k and theirs, and any."""
    half = 1 << (drop - 1)
    ties = st.builds(lambda n, d: (2 * n + 1) * half + d, st.integers(-reach, reach), st.sampled_from([0, 0, -1, 1]))
    powers = st.builds(
        lambda k, s, d: s * (1 << k) + d, st.integers(0, 20), st.sampled_from([-1, 1]), st.integers(-1, 1)
    )
    return st.one_of(ties, ties, powers, st.integers(-(1 << 20), 1 << 20))


@given(st.data(), chains(), st.integers(0, 9), st.booleans(), st.booleans())
def test_the_definition_and_the_proofs_are_the_dumb_twin(data, stages, depth, preloaded, late):
    value = near_ties(stages[0].drop)
    products = data.draw(st.lists(value, min_size=depth, max_size=depth))
    start, bias = (data.draw(value) if there else None for there in (preloaded, late))
    wanted = twins.accumulate(products, stages, start, bias)
    found = accumulate_telemetry(np.array(products, np.int64), stages, 0 if start is None else start, bias)
    assert (found.result.item(), found.events.tolist()) == (wanted.result, wanted.events)
    assert (found.low.tolist(), found.high.tolist()) == (wanted.low, wanted.high)
    assert accumulator(products, stages, start, bias) == wanted.result
    columns = [np.array([p, -p], object) for p in products]
    mirrored = twins.accumulate([-p for p in products], stages, start, bias).result
    if columns:
        assert accumulator(columns, stages, start, bias).tolist() == [wanted.result, mirrored]
    least, most = handed_on(stages)
    assert least <= wanted.result <= most


@settings(deadline=None)
@given(st.data(), chains(), st.integers(1, 5), st.integers(1, 5), st.integers(1, 7), st.booleans(), st.booleans())
def test_matrix_products_are_the_dumb_twin(data, stages, rows, channels, depth, preloaded, late):
    value = near_ties(stages[0].drop)

    def draw(*shape):
        drawn = data.draw(st.lists(value, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        return np.array(drawn, np.int64).reshape(shape)

    a = draw(rows, depth)
    w = np.array(data.draw(st.lists(st.sampled_from([1, -1, 2, -3, 64, -128, 0]), min_size=channels * depth,
                                    max_size=channels * depth))).reshape(channels, depth)  # fmt: skip
    start, bias = (draw(channels) if there else None for there in (preloaded, late))
    wanted = [
        [
            twins.accumulate(
                [int(v) for v in a[m] * w[n]], stages, *(None if c is None else int(c[n]) for c in (start, bias))
            )
            for n in range(channels)
        ]
        for m in range(rows)
    ]
    # each mode is compiled anew for each kind of first register
    for mode in data.draw(st.sampled_from([("extremes",), ("extremes", "counted"), ("extremes", "touched")])):
        found = register_matmul(a, w, stages, start, bias, mode)
        assert found.out.tolist() == [[x.result for x in row] for row in wanted]
        events = np.array([[x.events for x in row] for row in wanted]).sum(axis=0)
        assert np.array_equal(found.events, events > 0 if mode == "touched" else events)
        if mode == "extremes":
            assert np.array_equal(found.low, np.array([[x.low for x in row] for row in wanted]).min(axis=0))
            assert np.array_equal(found.high, np.array([[x.high for x in row] for row in wanted]).max(axis=0))
    demand = panel_demand(a, w, stages, start, bias)
    defined = register_demand(a[:, None] * w, stages, start, bias)
    for fast, slow in zip(demand, defined, strict=True):
        assert np.array_equal(fast, slow)
    wide = [replace(s, bits=WIDE) for s in stages]
    seen = register_matmul(a, w, wide, start, bias)
    assert not seen.events.any()
    assert np.array_equal(demand.low, seen.low)
    assert np.array_equal(demand.high, seen.high)


@pytest.mark.parametrize("shape", [(3000, 2), (2, 3000)])
def test_blocks_are_the_definition(shape):
    """More products than are rounded at a time, in rows and in channels; of bytes, as layers have them."""
    rng = np.random.default_rng(0)
    a, w = rng.integers(0, 256, (shape[0], 500)), rng.integers(-128, 128, (shape[1], 500))
    for rounding in ("floor", "half_up", "half_even"):
        stages = Stage(1, 9, "saturate", drop=6, rounding=rounding), Stage(None, 12, "wrap")
        found = register_matmul(a.astype(np.uint8), w.astype(np.int8), stages)
        at = np.ix_(*(rng.choice(n, min(n, 40), replace=False) for n in shape))
        products = a[at[0].reshape(-1)][:, None] * w[at[1].reshape(-1)]
        assert np.array_equal(found.out[at], accumulate(products, stages)[0])
        assert found.events.sum() > 0


@given(chains(), near_ties(4), near_ties(4))
def test_a_late_sum_that_depends_on_data(stages, before, value):
    held = accumulate(np.array([before]), stages)[0].reshape(1, 1)
    got, _ = add_to_register(held, np.array([[value]]), stages)
    whole = twins.accumulate([before], stages, bias=value)
    assert got.item() == whole.result


@given(
    chains(most_bits=9, most_drop=3),
    st.lists(st.integers(-6, 6), min_size=1, max_size=4),
    st.integers(-4, 3),
    st.integers(0, 2),
    st.one_of(st.none(), st.integers(-20, 20)),
    st.one_of(st.none(), st.integers(-20, 20)),
)
def test_bounds_hold_for_every_input(stages, row, low, width, start, after):
    """All inputs are tried: bounds hold, are attained where nothing overflows, and what is called exact is."""
    choices = np.array(list(itertools.product(range(low, low + width + 1), repeat=len(row))))
    first = None if start is None else np.array([start])
    late = None if after is None else (np.array([after]), np.array([after]))
    found = partial_sums(np.array([row]), (low, low + width), stages, first, late)
    exact = True
    seen = [twins.accumulate([int(v) for v in x * row], stages, start, after) for x in choices]
    right = [int((x * row).sum()) + (start or 0) + (after or 0) for x in choices]
    for i in range(len(stages)):
        least, most = min(s.low[i] for s in seen), max(s.high[i] for s in seen)
        if found.safe[i][0]:
            assert not any(s.events[i] for s in seen)
            assert found.low[i][0] <= least
            assert most <= found.high[i][0]
        if exact:
            assert (min(found.low[i][0], 0), max(found.high[i][0], 0)) == (least, most) or not found.safe[i][0]
        exact = exact and bool(found.safe[i][0])
    if found.none_overflows[0]:
        assert not any(any(s.events) for s in seen)
    if found.all_safe[0] or found.all_exact[0]:
        assert [s.result for s in seen] == right


@given(
    st.integers(1, 5), st.integers(4, 14), st.integers(4, 14), st.lists(st.integers(-3000, 3000), max_size=8),
    st.integers(-3000, 3000),
)  # fmt: skip
def test_a_finer_register_is_one_of_fewer_bits(finer, bits, last, products, bias):
    """The twin has the bits below a product's; here they are left out, as they hold nothing."""
    own = [Stage(1, bits, "wrap", lsb=-7 - finer, rounding="floor"), Stage(None, last, "wrap")]
    if finer >= min(bits, last):
        with pytest.raises(IntsimError, match="above all"):
            with_lsb(own, -7)
        return
    stages = with_lsb(own, -7)
    assert [s.bits for s in stages] == [bits - finer, last - finer]
    below = [twin(s, -finer if i == 0 else 0) for i, s in enumerate(own)]
    wanted, found = twins.accumulate(products, below, bias), twins.accumulate(products, stages, bias)
    assert found.result == wanted.result
    assert found.events == wanted.events
    assert accumulate(np.array(products, np.int64), stages, bias)[0].item() == wanted.result


class twin:  # noqa: N801 - a stage as the twin reads it, of a kind that the package refuses
    def __init__(self, stage, drop):
        self.sum, self.bits, self.overflow, self.lanes = stage.sum, stage.bits, stage.overflow, stage.lanes
        self.drop, self.rounding, self.restart = drop, stage.rounding, None


ON_PAPER = {
    "floor": (-2, 0, 1),
    "half_up": (-1, 1, 2),
    "half_even": (-2, 0, 2),
    "toward_zero": (-1, 0, 1),
    "half_away": (-2, 1, 2),
    "half_toward_zero": (-1, 0, 1),
    "ceil": (-1, 1, 2),
    "away": (-2, 1, 2),
}


@pytest.mark.parametrize("rounding", ON_PAPER)
def test_ties_on_paper(rounding):
    """Products -6, 2 and 6 without two bits are -1.5, 0.5 and 1.5, each of which goes as the mode says."""
    stages = Stage(1, 8, "wrap", drop=2, rounding=rounding), Stage(None, 8, "wrap")
    for product, whole in zip((-6, 2, 6), ON_PAPER[rounding], strict=True):
        assert accumulate(np.array([product]), stages)[0].item() == 4 * whole
    assert accumulate(np.array([-6, 2, 6]), stages)[0].item() == 4 * sum(ON_PAPER[rounding])


def test_what_is_loaded_and_added_late_is_rounded_too():
    """Half an LSB loaded and half an LSB added are two halves that go up: 2 LSBs, of which the register holds 1."""
    stages = Stage(1, 8, "wrap", drop=3, rounding="half_up"), Stage(None, 2, "saturate")
    found = accumulate_telemetry(np.array([], np.int64), stages, 4, 4)
    assert (found.result.item(), found.high.tolist(), found.events.tolist()) == (8, [0, 2], [0, 1])


CHAIN = (Stage(1, 12, "wrap", lsb=-8, rounding="floor"), Stage(None, 12, "wrap"))
WRONG = [
    ((Stage(2, 12, "wrap", drop=2, rounding="floor"), CHAIN[1]), "stage 1: lsb and drop are for the first stage"),
    ((Stage(1, 12, "wrap", 2, drop=2, rounding="floor"), CHAIN[1]), "stage 1: lsb and drop are for the first stage"),
    ((Stage(1, 8, "wrap"), Stage(1, 8, "wrap", drop=1, rounding="floor"), CHAIN[1]), "stage 2: lsb and drop are for"),
    ((replace(CHAIN[0], drop=3), CHAIN[1]), "stage 1: lsb and drop say the same in two ways"),
    ((replace(CHAIN[0], rounding=None), CHAIN[1]), "stage 1: rounding is missing; allowed"),
    ((Stage(1, 8, "wrap", rounding="floor"), CHAIN[1]), "stage 1: rounding belongs to lsb or drop"),
    ((Stage(1, 8, "wrap", drop=20, rounding="floor"), Stage(None, 48, "wrap")), "stage 2: 48 bits above 20 dropped"),
    (CHAIN, "stage 1: lsb is the worth of a bit"),
]


@pytest.mark.parametrize(("stages", "message"), WRONG)
def test_wrong_chains_are_refused(stages, message):
    one = np.array([[1]])
    uses = (
        check_stages,
        lambda s: accumulate(one, s),
        lambda s: accumulator([1], s),
        lambda s: partial_sums(one, (0, 1), s),
        lambda s: register_matmul(one, one, s),
    )
    for use in uses:
        with pytest.raises(IntsimError) as error:
            use(stages)
        assert str(error.value).startswith(f"stages, {message}"), str(error.value)
        assert "\n" not in str(error.value)


def test_an_lsb_is_bits_of_a_layer():
    assert [(s.drop, s.lsb, s.rounding) for s in with_lsb(CHAIN, -11)] == [(3, None, "floor"), (0, None, None)]
    assert with_lsb(CHAIN, -8) == (Stage(1, 12, "wrap"), CHAIN[1])
    assert with_lsb(CHAIN, -6) == (Stage(1, 10, "wrap"), Stage(None, 10, "wrap"))
    with pytest.raises(IntsimError, match=r"coarser than the register\'s 2\^-8.*give lsb = -6 .and 2 bits less. or"):
        with_lsb((CHAIN[0], Stage(None, 12, "saturate")), -6)
    with pytest.raises(IntsimError, match=r"above all 12 bits of a register with LSB 2\^-8"):
        with_lsb(CHAIN, 4)
    with pytest.raises(IntsimError, match="give fewer bits or a finer lsb"):
        with_lsb(CHAIN, -60)
