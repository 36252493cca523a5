"""Bounds of partial sums: attained where nothing overflows, sound behind a register that does."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.ops.partial_sums import partial_sums

STAGE = st.builds(Stage, st.integers(1, 4), st.integers(3, 9), st.sampled_from(["wrap", "saturate"]))
REST = st.builds(Stage, st.none(), st.integers(3, 9), st.sampled_from(["wrap", "saturate"]))


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
    """All inputs are tried: no safe stage overflows, its bounds hold, and they are attained if all before are safe."""
    stages = head + tail
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
    for i, (least, most, safe) in enumerate(zip(found.low, found.high, found.safe, strict=True)):
        if safe[0]:
            assert not seen.events[:, i].any()
            # the telemetry counts the empty register's 0
            assert min(least[0], 0) <= seen.low[:, i].min()
            assert seen.high[:, i].max() <= max(most[0], 0)
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
