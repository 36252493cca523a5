"""Tables against Python dictionaries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.ops import OPS

from .nodes import check, ints, node, tensor


@given(st.data())
def test_definition_shape_and_range(data):
    low = data.draw(st.integers(-300, 300))
    high = low + data.draw(st.integers(0, 40))
    cells = data.draw(st.sampled_from([(1,), (1, 3, 1), (3, 1), (2, 3, 2), (2,)]))
    x = data.draw(ints((2, 3, 2), st.just((low, high))))
    begin, end = low - data.draw(st.integers(0, 3)), high + data.draw(st.integers(0, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    tables = rng.integers(-999, 999, (*cells, end - begin + 1))
    wanted = np.empty((2, 3, 2), object)
    for index in np.ndindex(2, 3, 2):
        own = tables[tuple(i if s > 1 else 0 for i, s in zip(index[3 - len(cells) :], cells, strict=True))]
        wanted[index] = dict(zip(range(begin, end + 1), own.tolist(), strict=True))[int(x[0][index])]
    n = node("table", {"low": begin, "cells": list(cells)}, {"table": tables.reshape(-1, end - begin + 1)})
    reach = tables.reshape(-1, end - begin + 1)[:, low - begin : high - begin + 1]
    assert check(n, [x], wanted) == (reach.min(), reach.max())


def test_codes_outside_read_the_nearest_end():
    n = node("table", {"low": 5, "cells": [1]}, {"table": np.array([[7, -1, 4]])})
    assert OPS["table"].evaluate(n, np.array([-(2**62), 4, 5, 6, 7, 8, 2**62])).tolist() == [7, 7, 7, -1, 4, 4, 4]


@pytest.mark.parametrize(("low", "high"), [(4, 6), (5, 8)])
def test_reachable_codes_need_entries(low, high):
    n = node("table", {"low": 5, "cells": [1]}, {"table": np.array([[7, -1, 4]])})
    with pytest.raises(IntsimError, match=rf"node n: codes reach {low}\.\.{high}, the table 5\.\.7"):
        OPS["table"].value_range(n, tensor((1,), low, high))


@pytest.mark.parametrize("table", [np.zeros((2, 3), int), np.zeros(3, int), np.zeros((1, 0), int)])
def test_tables_that_fit_no_cell(table):
    with pytest.raises(IntsimError, match="doesn't fit its cells"):
        OPS["table"].value_range(node("table", {"low": 0, "cells": [1]}, {"table": table}), tensor((1,), 0, 2))
