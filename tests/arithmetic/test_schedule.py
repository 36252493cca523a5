"""The order of additions: one example written out, and a replay against the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.arithmetic.schedule import schedule
from intsim.errors import IntsimError
from tests import twins

from .test_accumulate import edges, stage_lists


def test_two_lanes_of_two_written_out():
    """Registers 0 and 1 take turns; when both have two products, or none are left, they empty into register 2."""
    found = schedule(7, (Stage(2, 8, "wrap", 2), Stage(None, 8, "wrap")))
    assert found.stage.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1]
    assert found.register.tolist() == [0, 1, 0, 1, 2, 2, 0, 1, 0, 2, 2]
    assert found.source.tolist() == [0, 1, 2, 3, ~0, ~1, 4, 5, 6, ~0, ~1]
    assert (found.first, found.registers) == ((0, 2), 3)


def test_lanes_that_nothing_arrived_at_hand_on_nothing():
    found = schedule(1, (Stage(2, 8, "wrap", 4), Stage(None, 8, "wrap", 2), Stage(None, 8, "wrap")))
    assert found.source.tolist() == [0, ~0, ~4]
    assert found.registers == 7
    assert schedule(0, (Stage(2, 8, "wrap"), Stage(None, 8, "wrap"))).source.size == 0


def test_stages_must_end_in_one_register():
    with pytest.raises(IntsimError, match="the last stage must be"):
        schedule(3, (Stage(2, 8, "wrap"),))


@given(stage_lists(), st.lists(edges(20), max_size=20))
def test_a_replay_is_the_definition(stages, products):
    """Each addition in turn into registers that empty as they hand on."""
    plan = schedule(len(products), tuple(stages))
    held = [0] * plan.registers
    events = [0] * len(stages)
    for s, register, source in zip(plan.stage.tolist(), plan.register.tolist(), plan.source.tolist(), strict=True):
        assert plan.first[s] <= register < plan.first[s] + stages[s].lanes
        total = held[register] + (products[source] if source >= 0 else held[~source])
        if source < 0:
            assert plan.first[s - 1] <= ~source < plan.first[s]
            held[~source] = 0
        held[register] = twins.kept(total, stages[s].bits, stages[s].overflow)
        events[s] += held[register] != total
    assert not any(held[:-1])
    defined = accumulate_telemetry(np.array(products, np.int64), stages)
    assert held[-1] == defined.result
    assert events == defined.events.tolist()
    assert not plan.source.flags.writeable
