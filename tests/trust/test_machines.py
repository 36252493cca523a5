"""Every built-in target, members of every family, and random machines: three implementations, one answer."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from intsim.targets import Target
from intsim.testing import registers

from . import record
from .batches import MOST_TERMS, batch, machines, same_three_ways

ENOUGH = 100_000
BUILT_IN = machines()


def length(seed):
    """Mostly short sums; some about as long as groups are, some long, and, now and then, the longest."""
    kind, rng = seed % 20, np.random.default_rng(seed)
    if kind < 12:
        return int(rng.integers(1, 41))
    if kind < 16:
        return int(rng.choice([n + step for n in (64, 128, 256, 512) for step in (-1, 0, 1)]))
    return int(rng.integers(1, 1025) if kind < 19 else rng.choice([MOST_TERMS - 1, MOST_TERMS]))


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_target_computes_the_same_three_ways(name):
    machine = BUILT_IN[name]
    for seed, terms in enumerate((5, 37, 300)):
        a, w, bias = batch(machine, seed, terms)
        count, _ = same_three_ways(machine, a[:4], w[:3], bias[:3])
        assert count > 0


@given(registers(), st.integers(0, (1 << 32) - 1), st.integers(0, 60))
@settings(max_examples=2 * settings().max_examples)
def test_random_machines_compute_the_same_three_ways(machine, seed, terms):
    a, w, bias = batch(machine, seed, terms)
    same_three_ways(machine, a[:5], w[:5], bias[:5])


def counted(machine: Target) -> dict[str, int]:
    """Hypothesis draws seeds of batches until enough dot products were compared."""
    total = {"dot_products": 0, "products": 0, "overflowed": 0, "longest": 0}

    def compare(seed):
        terms = length(seed)
        count, overflowed = same_three_ways(machine, *batch(machine, seed, terms))
        total["dot_products"] += count
        total["products"] += count * terms
        total["overflowed"] += overflowed
        total["longest"] = max(total["longest"], terms)

    every = settings(max_examples=40, deadline=None, database=None, suppress_health_check=HealthCheck)
    for turn in range(100):
        seeded(turn)(every(given(st.integers(0, (1 << 32) - 1))(compare)))()
        if total["dot_products"] >= ENOUGH and total["longest"] == MOST_TERMS:
            break
    return total


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_hundred_thousand_dot_products_of_each_target(name):
    """Writes the counts to record.json, which docs/measured/trust.md is made from."""
    began = time.monotonic()
    total = counted(BUILT_IN[name])
    assert total["dot_products"] >= ENOUGH
    assert total["longest"] == MOST_TERMS
    print(f"{name}: {total}, {time.monotonic() - began:.0f} s")
    record.write("targets", name, total)
