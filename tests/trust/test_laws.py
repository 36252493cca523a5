"""Laws that hold on every machine: what wrapping keeps, what saturation loses, what a bound promises."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.engine.registers.matmul import register_matmul
from intsim.mac.partial_sums import partial_sums
from intsim.testing import dot_products, integer_types, integers_of, stages, targets, weighted
from intsim.testing.values import within
from tests import twins

PRODUCTS = st.lists(within(-(1 << 31), (1 << 31) - 1), max_size=40)
WIDTHS = st.integers(4, 64)


def result(products, chain):
    return int(accumulate_telemetry(np.array(products, np.int64), chain).result)


@given(PRODUCTS, st.lists(WIDTHS, min_size=1, max_size=4), st.data())
def test_wrapping_is_the_exact_sum_modulo_the_narrowest_register(products, widths, data):
    chain = [Stage(None, bits, "wrap") for bits in widths]
    least = min(widths)
    assert twins.kept(result(products, chain), least, "wrap") == twins.kept(sum(products), least, "wrap")
    ascending = [Stage(None, bits, "wrap") for bits in sorted(widths, reverse=True)]
    assert result(products, ascending) == twins.kept(sum(products), least, "wrap")


@given(PRODUCTS, stages(min_bits=4), st.randoms(use_true_random=False))
def test_wrapping_in_one_width_does_not_depend_on_the_order(products, chain, random):
    wrapping = [Stage(s.sum, chain[-1].bits, "wrap", s.lanes) for s in chain]
    shuffled = random.sample(products, len(products))
    assert result(products, wrapping) == result(shuffled, wrapping) == twins.kept(sum(products), chain[-1].bits, "wrap")


def test_saturation_depends_on_the_order():
    chain = [Stage(None, 8, "saturate")]
    assert result([100, 100, -100], chain) == 27
    assert result([100, -100, 100], chain) == 100


def test_lanes_change_a_saturating_sum():
    products = [100, 100, -100, -100]
    assert result(products, [Stage(None, 8, "saturate")]) == -73
    assert result(products, [Stage(None, 8, "saturate", 2), Stage(None, 8, "saturate")]) == 0
    assert result(products, [Stage(2, 8, "saturate", 2), Stage(None, 8, "saturate")]) == 0
    assert result(products, [Stage(2, 8, "saturate"), Stage(None, 8, "saturate")]) == -1


@given(PRODUCTS, WIDTHS, WIDTHS)
def test_saturating_never_leaves_the_register_and_keeps_the_sign_of_what_overflows(products, bits, other):
    register = 0
    for value in products:
        true = register + value
        register = result([register, value], [Stage(None, max(bits, other), "saturate")])
        assert twins.fits(register, max(bits, other))
        assert register == true or abs(register) < abs(true)


@given(st.data(), integer_types(2, 8), integer_types(2, 8), stages(min_bits=4))
def test_a_bound_is_never_below_what_is_observed(data, activation, weight, chain):
    depth = data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    rows = weighted(rng, weight, (3, depth))
    bounds = partial_sums(rows, (activation.min, activation.max), chain)
    # random activations, and the two that push every product to its end
    a = weighted(rng, activation, (20, depth))
    a[:3] = np.where(rows > 0, activation.max, activation.min)
    a[3:6] = np.where(rows > 0, activation.min, activation.max)
    seen = register_matmul(a, rows, chain)
    most = 63 - chain[0].drop if chain[0].drop else 64
    for i in range(len(chain)):
        # what a register that may overflow was to hold: as if it, but nothing before it, had all bits
        free = register_matmul(a, rows, [*chain[:i], replace(chain[i], bits=most), *chain[i + 1 :]])
        assert (np.asarray(bounds.low[i]) <= free.low[:, i]).all()
        assert (np.asarray(bounds.high[i]) >= free.high[:, i]).all()
        safe = np.asarray(bounds.safe[i])
        assert not seen.events[safe, i].any()
        assert (seen.low[safe, i] >= chain[i].min).all()
        assert (seen.high[safe, i] <= chain[i].max).all()


@given(
    PRODUCTS, st.lists(st.integers(0, 5), max_size=3), WIDTHS, st.integers(1, 20), st.sampled_from(["wrap", "saturate"])
)
def test_a_narrower_register_never_overflows_in_fewer_outputs(products, cuts, bits, less, overflow):
    """An output overflows if any of its additions does; the first one to is the same sum in both."""
    bounds = sorted({0, len(products), *(min(c, len(products)) for c in cuts)})
    outputs = [products[a:b] for a, b in pairwise(bounds)]
    narrow, wide = max(4, bits - less), bits

    def overflowing(width):
        chain = [Stage(None, width, overflow)]
        return {
            i for i, each in enumerate(outputs) if accumulate_telemetry(np.array(each, np.int64), chain).events.any()
        }

    assert overflowing(wide) <= overflowing(narrow)


@given(st.data(), targets(packed=False))
def test_no_event_means_the_exact_sum(data, target):
    case = data.draw(dot_products(target, max_terms=60))
    products = [int(x) * int(y) for x, y in zip(case.activation, case.weight, strict=True)]
    start, late = (case.bias if target.registers.bias == place else None for place in ("preload", "after"))
    value, events, _, _ = twins.accumulate(products, target.stages, start, late)
    held = 0 if target.registers.bias == "requantizer" else case.bias
    assert any(events) or any(s.drop for s in target.stages) or value == sum(products) + held


@given(st.data(), integer_types(max_bits=63, narrow=None))
def test_weighted_arrays_hold_the_type_and_reach_its_ends(data, kind):
    values = weighted(np.random.default_rng(data.draw(st.integers(0, 99))), kind, (40, 8))
    assert kind.contains(int(values.min()), int(values.max()))
    assert (values == kind.min).any()
    assert (values == kind.max).any()
    assert kind.contains(*[data.draw(integers_of(kind))] * 2)
