"""Runs of one program on inputs that overflow by turns: what it remembers of runs before changes nothing."""

import numpy as np
import pytest

from intsim.engine.run import run_graph
from intsim.graph import IntegerGraph, Node, Tensor, rationals
from intsim.targets import Target

from .definitions import defined

pytestmark = pytest.mark.xdist_group("registers")

CONV = {"pads": [1, 1, 1, 1], "strides": [1, 1], "dilations": [1, 1], "groups": 1}


def graph(kind, rng):
    """One layer of weights of which some channels overflow easily, some seldom."""
    size = np.repeat([127, 40, 9, 2], 4)
    if kind == "matmul":
        w = rng.integers(-1, 2, (50, 16)) * size
        node, shapes = Node("matmul", "n", ("x",), "y", {"zero_point": 0}, {"weight": w}), ((70, 50), (70, 16))
    else:
        w = rng.integers(-1, 2, (16, 6, 3, 3)) * size[:, None, None, None]
        at = {**CONV, "zero_point": 0, "strides": [2, 1] if kind == "strided" else [1, 1]}
        rows = 5 if kind == "strided" else 9
        node, shapes = Node("conv", "n", ("x",), "y", at, {"weight": w}), ((2, 6, 9, 11), (2, 16, rows, 11))
    made = IntegerGraph("g", inputs=["x"], outputs=["y"])
    made.tensors["x"] = Tensor("x", shapes[0], 0, 255, rationals(1), rationals(0))
    made.add(node, Tensor("y", shapes[1], -(1 << 24), 1 << 24, rationals(1), rationals(0)))
    return made


@pytest.mark.parametrize("kind", ["matmul", "conv", "strided"])
def test_runs_that_overflow_by_turns(kind):
    rng = np.random.default_rng(3)
    made = graph(kind, rng)
    target = Target.load("saturate-16")
    for number in range(20):
        top = int(rng.choice([0, 3, 40, 255]))
        x = rng.integers(0, top + 1, made.tensors["x"].shape)
        counts = bool(number % 3)
        wanted, events = defined(made, {"x": x}, target)
        ran = run_graph(made, {"x": x}, target, counts=counts)
        np.testing.assert_array_equal(ran.tensors["y"], wanted["y"])
        np.testing.assert_array_equal(ran.events["n"], events["n"] if counts else np.minimum(events["n"], 1))
