"""What the parts of a growing graph stand on; `graphs.py` gives it."""

from __future__ import annotations

from typing import Any


class Growing:
    """A graph to which nodes are added, the choices of Hypothesis, and what both make possible."""

    graph: Any
    rng: Any
    draw: Any
    one_of: Any
    number: Any
    chance: Any
    info: Any
    emit: Any
    of_rank: Any
    kind: Any
    codes: Any
    pick: Any
    beside: Any
    held: Any
    zero_point: Any
    values: Any
