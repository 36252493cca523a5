"""Staircases against Python's bisect."""

from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.ops import OPS

from .nodes import check, ints, node, tensor


@given(st.data())
def test_definition_shape_and_range(data):
    low = data.draw(st.integers(-(2**40), 2**40))
    high = low + data.draw(st.integers(0, 40))
    cells = data.draw(st.sampled_from([(1,), (1, 3, 1), (3, 1), (2, 3, 2), (2,)]))
    x = data.draw(ints((2, 3, 2), st.just((low, high))))
    rng, steps = np.random.default_rng(data.draw(st.integers(0, 99))), data.draw(st.integers(0, 6))
    starts = np.sort(rng.integers(low - 9, high + 9, (*cells, steps), endpoint=True))
    codes = rng.integers(-999, 999, (*cells, steps + 1))
    wanted, reached = np.empty((2, 3, 2), object), set()
    for index in np.ndindex(2, 3, 2):
        own = tuple(i if s > 1 else 0 for i, s in zip(index[3 - len(cells) :], cells, strict=True))
        wanted[index] = int(codes[own][bisect_right(starts[own].tolist(), int(x[0][index]))])
    for own in np.ndindex(*cells):
        reached |= {int(codes[own][bisect_right(starts[own].tolist(), v)]) for v in range(low, high + 1)}
    count = int(np.prod(cells))
    arrays = {"starts": starts.reshape(count, steps), "codes": codes.reshape(count, steps + 1)}
    n = node("staircase", {"cells": list(cells)}, arrays)
    assert check(n, [x], wanted) == (min(reached), max(reached))


def test_a_start_belongs_to_the_step_behind_it():
    n = node("staircase", {"cells": [1]}, {"starts": np.array([[-3, 5, 5]]), "codes": np.array([[7, -1, 9, 4]])})
    assert OPS["staircase"].evaluate(n, np.array([-(2**62), -4, -3, 4, 5, 2**62])).tolist() == [7, 7, -1, -1, 4, 4]


@pytest.mark.parametrize(
    ("starts", "codes"),
    [((1, 3), (1, 3)), ((2, 3), (2, 4)), ((3,), (4,)), ((1, 2), (2, 3))],
)
def test_arrays_that_are_no_staircase(starts, codes):
    arrays = {"starts": np.zeros(starts, np.int64), "codes": np.zeros(codes, np.int64)}
    with pytest.raises(IntsimError, match="make no staircase for each of 1 cells"):
        OPS["staircase"].value_range(node("staircase", {"cells": [1]}, arrays), tensor((1,), 0, 2))


def test_starts_that_fall():
    arrays = {"starts": np.array([[2, 1]]), "codes": np.zeros((1, 3), np.int64)}
    with pytest.raises(IntsimError, match="make no staircase"):
        OPS["staircase"].value_range(node("staircase", {"cells": [1]}, arrays), tensor((1,), 0, 2))
